//! What a type is to a mask, and the value of it that says nothing.
//!
//! OIDs are those of `pg_type.dat`; they never change between versions. A domain needs no entry: `RowDescription` reports its
//! base type. Types outside `pg_catalog` (enums, composites, extensions) have other OIDs in every database, so nothing is known
//! to be valid for them but NULL.

/// Families that some mask treats in a way of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Any characters, any length.
    Text,
    /// `bpchar`: text with insignificant trailing spaces.
    Padded,
    /// `name`: text of at most 63 bytes.
    Name,
    /// JSON text; `jsonb` in binary has a version byte before it.
    Json {
        /// Whether a version byte leads.
        versioned: bool,
    },
    Xml,
    Bytea,
    Uuid,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Bool,
    Date,
    Timestamp,
    Timestamptz,
    /// Only ever masked in full.
    Other,
}

/// The family of a type in a format.
pub(crate) const fn family(oid: u32, binary: bool) -> Family {
    match oid {
        25 | 1043 | 705 | 1790 | 2275 => Family::Text,
        1042 => Family::Padded,
        19 => Family::Name,
        114 => Family::Json { versioned: false },
        3802 => Family::Json { versioned: binary },
        142 => Family::Xml,
        17 => Family::Bytea,
        2950 => Family::Uuid,
        21 => Family::Int2,
        23 => Family::Int4,
        20 => Family::Int8,
        700 => Family::Float4,
        701 => Family::Float8,
        1700 => Family::Numeric,
        16 => Family::Bool,
        1082 => Family::Date,
        1114 => Family::Timestamp,
        1184 => Family::Timestamptz,
        _ => Family::Other,
    }
}

/// `pg_type.oid` of money.
pub(crate) const MONEY: u32 = 790;
/// Nothing, in dollars. Drivers that know money at all (JDBC) take no text without a currency.
pub(crate) const NO_DOLLARS: &str = "$0.00";

/// Nothing as the text of money: in dollars where the value is in dollars. The server reads `0` under every `lc_monetary`, others only in its own.
pub(crate) fn no_money(value: &[u8]) -> &'static str {
    if value.contains(&b'$') { NO_DOLLARS } else { "0" }
}

/// The value that stands for "masked in full", `None` where only NULL is known to be valid.
pub(crate) fn zero(oid: u32, binary: bool) -> Option<Vec<u8>> {
    let (text, bytes): (&str, &[u8]) = match oid {
        // text, varchar, bpchar, name, unknown, refcursor, cstring
        25 | 1043 | 1042 | 19 | 705 | 1790 | 2275 => ("****", b"****"),
        18 => ("*", b"*"),
        114 => ("\"****\"", b"\"****\""),
        3802 => ("\"****\"", b"\x01\"****\""),
        142 => ("<masked/>", b"<masked/>"),
        4072 => ("$", b"\x01$"),
        17 => ("\\x", b""),
        2950 => ("00000000-0000-0000-0000-000000000000", &[0; 16]),
        16 => ("f", &[0]),
        21 => ("0", &[0; 2]),
        // int4, oid, xid, cid, float4
        23 | 26 | 28 | 29 | 700 => ("0", &[0; 4]),
        // int8, float8, money, xid8
        20 | 701 | 790 | 5069 => ("0", &[0; 8]),
        // regproc, regprocedure, regoper, regoperator, regclass, regtype, regconfig, regdictionary, regrole, regnamespace, regcollation
        24 | 2202 | 2203 | 2204 | 2205 | 2206 | 3734 | 3769 | 4096 | 4089 | 4191 => {
            (if oid == 2203 || oid == 2204 { "0" } else { "-" }, &[0; 4])
        }
        27 => ("(0,0)", &[0; 6]),
        3220 => ("0/0", &[0; 8]),
        1700 => ("0", &[0; 8]),
        1082 => ("2000-01-01", &[0; 4]),
        1114 => ("2000-01-01 00:00:00", &[0; 8]),
        1184 => ("2000-01-01 00:00:00+00", &[0; 8]),
        1083 => ("00:00:00", &[0; 8]),
        1266 => ("00:00:00+00", &[0; 12]),
        1186 => ("00:00:00", &[0; 16]),
        // family 2, 32 bits, not cidr / cidr, 4 bytes
        869 => ("0.0.0.0", &[2, 32, 0, 4, 0, 0, 0, 0]),
        650 => ("0.0.0.0/32", &[2, 32, 1, 4, 0, 0, 0, 0]),
        829 => ("00:00:00:00:00:00", &[0; 6]),
        774 => ("00:00:00:00:00:00:00:00", &[0; 8]),
        1560 => ("0", &[0, 0, 0, 1, 0]),
        1562 => ("", &[0; 4]),
        600 => ("(0,0)", &[0; 16]),
        601 => ("[(0,0),(0,0)]", &[0; 32]),
        603 => ("(0,0),(0,0)", &[0; 32]),
        // closed, one point
        602 => ("((0,0))", &[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        604 => ("((0,0))", &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        // x = 0: A and B must not both be zero; 1.0 is 3ff0…
        628 => ("{1,0,0}", &[0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        718 => ("<(0,0),0>", &[0; 24]),
        3614 | 3615 => ("", &[0; 4]),
        // ranges: the flag byte 1 is "empty"; multiranges: no ranges
        3904 | 3906 | 3908 | 3910 | 3912 | 3926 => ("empty", &[1]),
        4451 | 4532 | 4533 | 4534 | 4535 | 4536 => ("{}", &[0; 4]),
        2278 => ("", b""),
        _ => return array_element(oid).map(|element| empty_array(element, binary)),
    };
    Some(if binary { bytes.to_vec() } else { text.as_bytes().to_vec() })
}

fn empty_array(element: u32, binary: bool) -> Vec<u8> {
    if !binary {
        return b"{}".to_vec();
    }
    // no dimensions, no nulls, element type: array_recv in src/backend/utils/adt/arrayfuncs.c
    [[0; 4], [0; 4], element.to_be_bytes()].concat()
}

pub(crate) const fn array_element(oid: u32) -> Option<u32> {
    Some(match oid {
        1000 => 16,
        1001 => 17,
        1002 => 18,
        1003 => 19,
        1016 => 20,
        1005 => 21,
        1007 => 23,
        1008 => 24,
        1009 => 25,
        1028 => 26,
        1010 => 27,
        1011 => 28,
        1012 => 29,
        199 => 114,
        143 => 142,
        271 => 5069,
        1017 => 600,
        1018 => 601,
        1019 => 602,
        1020 => 603,
        1027 => 604,
        629 => 628,
        1021 => 700,
        1022 => 701,
        719 => 718,
        791 => 790,
        1040 => 829,
        1041 => 869,
        651 => 650,
        775 => 774,
        1014 => 1042,
        1015 => 1043,
        1182 => 1082,
        1183 => 1083,
        1115 => 1114,
        1185 => 1184,
        1187 => 1186,
        1231 => 1700,
        1270 => 1266,
        1561 => 1560,
        1563 => 1562,
        2201 => 1790,
        2951 => 2950,
        3221 => 3220,
        3643 => 3614,
        3645 => 3615,
        3807 => 3802,
        4073 => 4072,
        3905 => 3904,
        3907 => 3906,
        3909 => 3908,
        3911 => 3910,
        3913 => 3912,
        3927 => 3926,
        6150 => 4451,
        6151 => 4532,
        6152 => 4533,
        6153 => 4534,
        6155 => 4535,
        6157 => 4536,
        2210 => 2205,
        2211 => 2206,
        _ => return None,
    })
}
