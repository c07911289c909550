#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::{BufMut as _, BytesMut};
use proptest::prelude::*;

use super::ValueScanner;
use crate::detect::Detectors;

fn redacted(oid: u32, binary: bool, value: &[u8]) -> Option<Vec<u8>> {
    let scanner = ValueScanner::new(&Detectors::standard(), oid, binary)?;
    let mut out = BytesMut::new();
    let hits = scanner.redact(value, &mut out);
    assert_eq!(scanner.finds(value), hits > 0, "{value:?}");
    assert!(hits > 0 || out[..] == *value);
    Some(out.to_vec())
}

fn array(element: u32, values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for number in [1, 1, i32::try_from(element).unwrap(), i32::try_from(values.len()).unwrap(), 1] {
        out.put_i32(number);
    }
    fields(values, &mut out);
    out.to_vec()
}

fn record(values: &[(u32, Option<&[u8]>)]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_i32(i32::try_from(values.len()).unwrap());
    for (oid, value) in values {
        out.put_u32(*oid);
        fields(&[*value], &mut out);
    }
    out.to_vec()
}

fn fields(values: &[Option<&[u8]>], out: &mut BytesMut) {
    for value in values {
        out.put_i32(value.map_or(-1, |value| i32::try_from(value.len()).unwrap()));
        out.extend_from_slice(value.unwrap_or_default());
    }
}

#[test]
fn each_layout_stays_one_of_its_type() {
    let long = [b"123-45-6789 ".as_slice(), &[b'x'; 37]].concat();
    let hidden = [b"***-**-6789 ".as_slice(), &[b'x'; 37]].concat();
    // The length of the element is 49, an ASCII digit: looked at as plain bytes, the number would not begin there.
    assert_eq!(redacted(1009, true, &array(25, &[None, Some(&long)])).unwrap(), array(25, &[None, Some(&hidden)]));
    assert_eq!(redacted(1009, false, b"{NULL,\"a b\",123-45-6789}").unwrap(), b"{NULL,\"a b\",***-**-6789}");
    assert_eq!(redacted(3802, true, b"\x01{\"card\": 4111111111111111}").unwrap(), b"\x01{\"card\": 1000000000001111}");
    assert_eq!(
        redacted(3807, true, &array(3802, &[Some(b"\x01[\"123-45-6789\"]")])).unwrap(),
        array(3802, &[Some(b"\x01[\"***-**-6789\"]")])
    );
    assert_eq!(redacted(3807, false, br#"{"{\"card\": 4111111111111111}"}"#).unwrap(), br#"{"{\"card\": 1111111111111111}"}"#);
    assert_eq!(redacted(17, false, b"\\x3132332d34352d36373839").unwrap(), b"\\x2a2a2a2d2a2a2d36373839");
    assert_eq!(redacted(17, true, b"123-45-6789").unwrap(), b"***-**-6789");
    assert_eq!(redacted(17, true, b"\0\x01a@example.com 123 45 6789").unwrap(), b"\0\x01a@example.com 123 45 6789", "an image stays one");
    assert_eq!(redacted(17, true, b"\0\x01123-45-6789 4111111111111111\xff").unwrap(), b"\0\x01***-**-6789 ************1111\xff");
    assert_eq!(redacted(17, false, b"\\001 123-45-6789").unwrap(), b"\\001 ***-**-6789", "bytea_output = escape");
    assert_eq!(redacted(142, false, b"<a b=\"123-45-6789\"/>").unwrap(), b"<a b=\"***-**-6789\"/>");
    let clear = record(&[(23, Some(&7_i32.to_be_bytes())), (25, Some(b"123-45-6789")), (25, None)]);
    let masked = record(&[(23, Some(&7_i32.to_be_bytes())), (25, Some(b"***-**-6789")), (25, None)]);
    for oid in [2249, 99_999] {
        assert_eq!(redacted(oid, true, &clear).unwrap(), masked);
    }
    assert_eq!(redacted(99_999, true, &array(25, &[Some(b"123-45-6789")])).unwrap(), array(25, &[Some(b"***-**-6789")]));
    assert_eq!(redacted(99_999, true, b"citext 123-45-6789").unwrap(), b"citext ***-**-6789");
    assert_eq!(redacted(99_999, false, b"(1,123-45-6789)").unwrap(), b"(1,***-**-6789)");
    // Addresses change nothing of lengths either.
    assert_eq!(redacted(1015, true, &array(1043, &[Some(b"a@example.com")])).unwrap(), array(1043, &[Some(b"*@example.com")]));
}

const CARD: i64 = 4_111_111_111_111_111;
const HIDDEN: i64 = 1_000_000_000_001_111;

/// `numeric_send` of a positive whole number of so many places after the point.
fn numeric(mut value: i64, scale: u8) -> Vec<u8> {
    let mut groups: Vec<[u8; 2]> = Vec::new();
    while value > 0 {
        groups.push(u16::try_from(value % 10_000).unwrap().to_be_bytes());
        value /= 10_000;
    }
    let count = u8::try_from(groups.len()).unwrap();
    groups.reverse();
    [vec![0, count, 0, count - 1, 0, 0, 0, scale], groups.concat()].concat()
}

#[test]
fn a_card_in_a_column_of_numbers_becomes_another_number() {
    for (oid, clear, hidden) in [
        (20, "4111111111111111", "1000000000001111"),
        (20, "-4111111111111111", "-1000000000001111"),
        (20, "4111111111111112", "4111111111111112"),
        (20, "1700000000000", "1700000000000"),
        (1700, "4111111111111111.00", "1000000000001111.00"),
        (1700, "0.4111111111111111", "0.4111111111111111"),
        (701, "4.111111111111111e+15", "1000000000001111"),
        (701, "4.25e-07", "4.25e-07"),
        (790, "$4,111,111,111,111,111.00", "$0.00"),
        (790, "4.111.111.111.111.111,00 €", "0"),
        (790, "￥4,111,111,111,111,111", "0"),
        (791, "{\"$4,111,111,111,111,111.00\",NULL}", "{}"),
        (791, "{{$4111111111111111.00},{$12.00}}", "{}"),
        (791, "{$4111111.00,$111111111.00}", "{$4111111.00,$111111111.00}"),
        (790, "$4,111.00", "$4,111.00"),
        (1016, "{1,4111111111111111,NULL}", "{1,1000000000001111,NULL}"),
        (1231, "{{4111111111111111.5},{2}}", "{{1000000000001111.5},{2}}"),
        (3926, "[1,4111111111111111)", "empty"),
        (3926, "[1,4111111111111112)", "[1,4111111111111112)"),
        (3927, "{\"[1,4111111111111111)\"}", "{}"),
        (4532, "{[1,4111111111111111)}", "{}"),
        (600, "(4.111111111111111e+15,0)", "(0,0)"),
        (2249, "(1,4111111111111111,123-45-6789)", "(1,1000000000001111,***-**-6789)"),
        (99_999, "(1,4111111111111111,a)", "(1,1000000000001111,a)"),
        (2249, "(4111111111111111.00,1)", "(1000000000001111.00,1)"),
        (114, "{\"due\":4111111111111111.50}", "{\"due\":1000000000001111.50}"),
        (25, "4111111111111111.50.1", "4111111111111111.50.1"),
        (2249, "(\"\\\\x0034313131313131313131313131313131\")", "(\"\\\\x2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a\")"),
    ] {
        assert_eq!(String::from_utf8(redacted(oid, false, clear.as_bytes()).unwrap()).unwrap(), hidden, "{oid}");
    }
    let float = |value: i64| value.to_string().parse::<f64>().unwrap().to_be_bytes();
    let range = |value: i64| [vec![2, 0, 0, 0, 8], 1_i64.to_be_bytes().to_vec(), vec![0, 0, 0, 8], value.to_be_bytes().to_vec()].concat();
    let range = range(CARD);
    for (oid, clear, hidden) in [
        (20, CARD.to_be_bytes().to_vec(), HIDDEN.to_be_bytes().to_vec()),
        (20, (-CARD).to_be_bytes().to_vec(), (-HIDDEN).to_be_bytes().to_vec()),
        (5069, CARD.to_be_bytes().to_vec(), HIDDEN.to_be_bytes().to_vec()),
        (701, float(CARD).to_vec(), float(HIDDEN).to_vec()),
        (701, float(-CARD).to_vec(), float(-HIDDEN).to_vec()),
        (790, (CARD * 100 + 99).to_be_bytes().to_vec(), (HIDDEN * 100).to_be_bytes().to_vec()),
        (1700, numeric(CARD, 2), numeric(HIDDEN, 2)),
        (1016, array(20, &[None, Some(&CARD.to_be_bytes())]), array(20, &[None, Some(&HIDDEN.to_be_bytes())])),
        (2249, record(&[(20, Some(&CARD.to_be_bytes()))]), record(&[(20, Some(&HIDDEN.to_be_bytes()))])),
        (3926, range.clone(), vec![1]),
        (4536, [vec![0, 0, 0, 1, 0, 0, 0, u8::try_from(range.len()).unwrap()], range].concat(), vec![0; 4]),
        (600, [float(7), float(CARD)].concat(), vec![0; 16]),
        // What COPY says nothing of.
        (99_999, CARD.to_be_bytes().to_vec(), HIDDEN.to_be_bytes().to_vec()),
        (99_999, float(CARD).to_vec(), float(HIDDEN).to_vec()),
        (99_999, numeric(CARD, 0), numeric(HIDDEN, 0)),
        (99_999, 0.25_f64.to_be_bytes().to_vec(), 0.25_f64.to_be_bytes().to_vec()),
    ] {
        assert_eq!(redacted(oid, true, &clear).unwrap(), hidden, "{oid}");
    }
}

#[test]
fn hstore_stays_hstore() {
    let store = |value: &[u8]| {
        let mut out = BytesMut::new();
        out.put_i32(1);
        fields(&[Some(b"card"), Some(value)], &mut out);
        out.to_vec()
    };
    // The length of the value is 52, an ASCII digit.
    let (clear, hidden) = ([b"4111111111111111".as_slice(), &[b' '; 36]].concat(), [b"************1111".as_slice(), &[b' '; 36]].concat());
    assert_eq!(redacted(99_999, true, &store(&clear)).unwrap(), store(&hidden));
    assert_eq!(redacted(99_999, false, b"\"card\"=>\"4111111111111111\"").unwrap(), b"\"card\"=>\"1000000000001111\"");
}

#[test]
fn what_a_column_is_called_says_what_its_numbers_are() {
    let shown = |name: &str, oid: u32, value: &str| {
        let mut out = BytesMut::new();
        let scanner = ValueScanner::new(&Detectors::standard().for_column(&["x", name]), oid, false)?;
        let hits = scanner.redact(value.as_bytes(), &mut out);
        assert_eq!(scanner.finds(value.as_bytes()), hits > 0);
        Some(String::from_utf8(out.to_vec()).unwrap())
    };
    for (name, oid, clear, hidden) in [
        ("ssn", 23, "314159265", Some("100009265")),
        ("ssn", 23, "14159265", Some("10009265")),
        ("ssn", 20, "314159265", Some("100009265")),
        ("ssn", 1700, "314159265", Some("100009265")),
        ("ssn", 25, "314159265", Some("*****9265")),
        ("ssn", 23, "5", Some("5")),
        ("id", 23, "314159265", None),
        ("id", 20, "314159265", Some("314159265")),
        ("id", 25, "314159267", Some("314159267")),
        ("aba", 23, "21000021", Some("10000000")),
        ("account_no", 20, "12345678", Some("10000000")),
        ("account_id", 20, "12345678", Some("12345678")),
        ("phone", 20, "2125551234", Some("1000001234")),
        ("phone", 25, "2125551234", Some("******1234")),
    ] {
        assert_eq!(shown(name, oid, clear).as_deref(), hidden, "{name} {oid} {clear}");
    }
    let scanner = ValueScanner::new(&Detectors::standard().for_column(&["ssn"]), 23, true).unwrap();
    let mut out = BytesMut::new();
    assert_eq!(scanner.redact(&314_159_265_i32.to_be_bytes(), &mut out), 1);
    assert_eq!(out[..], 100_009_265_i32.to_be_bytes());
}

#[test]
fn dates_and_identifiers_are_not_looked_at() {
    for oid in [16, 21, 23, 26, 700, 1082, 1114, 1184, 2950, 869, 1007, 2951] {
        for binary in [false, true] {
            assert_eq!(redacted(oid, binary, b"4111111111111111"), None, "{oid}");
        }
    }
    let only = Detectors::of(&[crate::detect::Kind::Email]);
    assert!(ValueScanner::new(&only, 20, true).is_none(), "no number is an address");
}

proptest! {
    /// Arbitrary bytes in any layout never panic, and lengths within agree.
    #[test]
    fn arbitrary_values(
        oid in prop::sample::select(vec![17_u32, 20, 25, 114, 142, 600, 604, 701, 790, 791, 1009, 1016, 1231, 1263, 1700, 2249, 2287, 3802, 3807, 3926, 3927, 4072, 4532, 99_999]),
        binary in any::<bool>(),
        value in prop::collection::vec(prop_oneof![any::<u8>(), Just(0_u8), prop::sample::select(b"0123456789-@.".to_vec())], 0..120)
    ) {
        let _ = redacted(oid, binary, &value);
    }
}
