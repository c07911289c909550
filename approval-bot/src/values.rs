//! Bound parameters for people: type, and value as text where its form is known, as hex where it is not.

use countersign_approval::v1::RequestParameter;

use crate::visible;

/// One parameter on one line, such as `$1 int8 = 42`.
#[must_use]
pub fn show(number: usize, parameter: &RequestParameter) -> String {
    let name = type_name(parameter.type_oid);
    let value = match parameter.bytes() {
        None => "not readable".to_owned(),
        Some(None) => "NULL".to_owned(),
        Some(Some(bytes)) if parameter.format == 0 => match String::from_utf8(bytes) {
            Ok(text) => quoted(&text),
            Err(error) => hex(error.as_bytes()),
        },
        Some(Some(bytes)) => binary(parameter.type_oid, &bytes).unwrap_or_else(|| format!("{} (binary)", hex(&bytes))),
    };
    format!("${number} {name} = {value}")
}

fn quoted(text: &str) -> String {
    format!("'{}'", visible::line(text))
}

fn hex(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// Names of the built-in types that drivers bind (`pg_type.dat`).
fn type_name(oid: u32) -> String {
    let name = match oid {
        0 => "(type not given)",
        16 => "bool",
        17 => "bytea",
        18 => "char",
        19 => "name",
        20 => "int8",
        21 => "int2",
        23 => "int4",
        25 => "text",
        26 => "oid",
        114 => "json",
        142 => "xml",
        600 => "point",
        650 => "cidr",
        700 => "float4",
        701 => "float8",
        705 => "unknown",
        790 => "money",
        829 => "macaddr",
        869 => "inet",
        1000 => "bool[]",
        1005 => "int2[]",
        1007 => "int4[]",
        1009 => "text[]",
        1015 => "varchar[]",
        1016 => "int8[]",
        1042 => "bpchar",
        1043 => "varchar",
        1082 => "date",
        1083 => "time",
        1114 => "timestamp",
        1184 => "timestamptz",
        1186 => "interval",
        1231 => "numeric[]",
        1266 => "timetz",
        1560 => "bit",
        1562 => "varbit",
        1700 => "numeric",
        2249 => "record",
        2950 => "uuid",
        2951 => "uuid[]",
        3802 => "jsonb",
        _ => return format!("type {oid}"),
    };
    name.to_owned()
}

/// Binary forms by the types' `send` functions. `None` where the form is not known here or does not fit.
fn binary(oid: u32, bytes: &[u8]) -> Option<String> {
    match oid {
        16 => match bytes {
            [0] => Some("false".to_owned()),
            [1] => Some("true".to_owned()),
            _ => None,
        },
        21 => Some(i16::from_be_bytes(bytes.try_into().ok()?).to_string()),
        23 => Some(i32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        20 => Some(i64::from_be_bytes(bytes.try_into().ok()?).to_string()),
        26 => Some(u32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        700 => Some(f32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        701 => Some(f64::from_be_bytes(bytes.try_into().ok()?).to_string()),
        18 | 19 | 25 | 114 | 142 | 705 | 1042 | 1043 => std::str::from_utf8(bytes).ok().map(quoted),
        3802 => {
            let (version, json) = bytes.split_first()?;
            (*version == 1).then(|| std::str::from_utf8(json).ok().map(quoted)).flatten()
        }
        2950 => Some(uuid::Uuid::from_slice(bytes).ok()?.to_string()),
        1082 => {
            let days = i64::from(i32::from_be_bytes(bytes.try_into().ok()?));
            let date = time::macros::date!(2000 - 01 - 01).checked_add(time::Duration::days(days))?;
            Some(format!("'{date}'"))
        }
        1114 | 1184 => {
            let microseconds = i64::from_be_bytes(bytes.try_into().ok()?);
            let time = time::macros::datetime!(2000-01-01 00:00 UTC).checked_add(time::Duration::microseconds(microseconds))?;
            Some(format!("'{} {}'{}", time.date(), time.time(), if oid == 1184 { " UTC" } else { "" }))
        }
        1700 => numeric(bytes),
        _ => None,
    }
}

/// `numeric_send`: digits, weight, sign, scale, then base-10000 digits.
fn numeric(bytes: &[u8]) -> Option<String> {
    let word = |at: usize| Some(i16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?));
    let (count, weight, scale) = (usize::try_from(word(0)?).ok()?, i32::from(word(2)?), usize::try_from(word(6)?).ok()?);
    if bytes.len() != count.checked_mul(2)?.checked_add(8)? || scale > 1000 || !(-500..=500).contains(&weight) {
        return None;
    }
    let sign = match word(4)? {
        0 => "",
        0x4000 => "-",
        _ => return None,
    };
    let group = |index: i32| -> Option<i16> {
        match usize::try_from(index) {
            Ok(index) if index < count => word(index.checked_mul(2)?.checked_add(8)?).filter(|digit| (0..10_000).contains(digit)),
            _ => Some(0),
        }
    };
    let mut whole = String::new();
    for index in 0..=weight.max(0) {
        let digits = if weight < 0 { 0 } else { group(index)? };
        whole.push_str(&format!("{digits:04}"));
    }
    let whole = whole.trim_start_matches('0');
    let mut fraction = String::new();
    let mut index = weight.checked_add(1)?;
    while fraction.len() < scale {
        fraction.push_str(&format!("{:04}", group(index)?));
        index = index.checked_add(1)?;
    }
    // Groups beyond the scale would be digits that are not shown.
    if usize::try_from(index).is_ok_and(|shown| shown < count) {
        return None;
    }
    fraction.truncate(scale);
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use countersign_approval::v1::RequestParameter;

    use super::show;

    #[test]
    fn parameters_read_as_postgres_would_print_them() {
        let numeric = hex::decode("000200004000000204d215e0").unwrap();
        let small = hex::decode("0001ffff0000000201f4").unwrap();
        let cases: [(u32, i16, Option<&[u8]>, &str); 18] = [
            (23, 1, Some(&[0, 0, 0, 42]), "$1 int4 = 42"),
            (20, 1, Some(&[255; 8]), "$1 int8 = -1"),
            (23, 1, Some(&[0, 42]), "$1 int4 = 0x002a (binary)"),
            (25, 0, Some(b"it's"), "$1 text = 'it's'"),
            (25, 0, Some("a\u{202e}".as_bytes()), "$1 text = 'a⟨U+202E⟩'"),
            (25, 0, Some(&[0xff]), "$1 text = 0xff"),
            (25, 1, Some(b"x\ny"), "$1 text = 'x⟨U+000A⟩y'"),
            (16, 1, Some(&[1]), "$1 bool = true"),
            (0, 0, Some(b"7"), "$1 (type not given) = '7'"),
            (99_999, 1, Some(&[1]), "$1 type 99999 = 0x01 (binary)"),
            (25, 0, None, "$1 text = NULL"),
            (2950, 1, Some(&[0x11; 16]), "$1 uuid = 11111111-1111-1111-1111-111111111111"),
            (1082, 1, Some(&[0, 0, 0, 1]), "$1 date = '2000-01-02'"),
            (1184, 1, Some(&[0; 8]), "$1 timestamptz = '2000-01-01 0:00:00.0' UTC"),
            (701, 1, Some(&1.5f64.to_be_bytes()), "$1 float8 = 1.5"),
            (3802, 1, Some(b"\x01{}"), "$1 jsonb = '{}'"),
            (1700, 1, Some(&numeric), "$1 numeric = -1234.56"),
            (1700, 1, Some(&small), "$1 numeric = 0.05"),
        ];
        for (oid, format, value, expected) in cases {
            let shown = show(1, &RequestParameter::new(oid, format, value));
            assert_eq!(shown, expected);
        }
    }
}
