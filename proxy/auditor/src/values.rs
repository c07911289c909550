//! Values as the client saw them, as text for people.

use std::fmt::Write as _;

use crate::frames::Column;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// SQL NULL.
    Null,
    /// Text, or the text form of a binary value.
    Text(String),
    /// Hex of bytes without a text form known here.
    Bytes(String),
}

impl Cell {
    /// Text for plain outputs; NULL is the given text.
    #[must_use]
    pub fn text(&self, null: &str) -> String {
        match self {
            Self::Null => null.to_owned(),
            Self::Text(text) => text.clone(),
            Self::Bytes(hex) => format!("\\x{hex}"),
        }
    }
}

/// A value in its column's type and format; without a column, by its looks.
#[must_use]
pub fn cell(column: Option<&Column>, value: &[u8]) -> Cell {
    if let Some(column) = column.filter(|column| column.format == 1) {
        return binary(column.type_oid, value).map_or_else(|| Cell::Bytes(hex::encode(value)), Cell::Text);
    }
    // A description made before Bind says "text" whatever the client asked for later; binary values show by their NULs.
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains('\0') => Cell::Text(text.to_owned()),
        _ => Cell::Bytes(hex::encode(value)),
    }
}

/// A bound parameter as text.
#[must_use]
pub fn parameter(type_oid: u32, format: i16, value: Option<&[u8]>) -> Cell {
    let column = Column { name: String::new(), type_oid, format };
    value.map_or(Cell::Null, |value| cell(Some(&column), value))
}

fn binary(oid: u32, value: &[u8]) -> Option<String> {
    Some(match oid {
        16 => match value {
            [0] => "f".to_owned(),
            [1] => "t".to_owned(),
            _ => return None,
        },
        21 => i16::from_be_bytes(value.try_into().ok()?).to_string(),
        23 => i32::from_be_bytes(value.try_into().ok()?).to_string(),
        20 => i64::from_be_bytes(value.try_into().ok()?).to_string(),
        26 => u32::from_be_bytes(value.try_into().ok()?).to_string(),
        700 => f32::from_be_bytes(value.try_into().ok()?).to_string(),
        701 => f64::from_be_bytes(value.try_into().ok()?).to_string(),
        1700 => numeric(value)?,
        18 | 19 | 25 | 114 | 142 | 705 | 1042 | 1043 => std::str::from_utf8(value).ok().filter(|text| !text.contains('\0'))?.to_owned(),
        3802 => std::str::from_utf8(value.strip_prefix(&[1])?).ok()?.to_owned(),
        2950 => {
            let hex = hex::encode(<[u8; 16]>::try_from(value).ok()?);
            let part = |from, to| hex.get(from..to).unwrap_or_default();
            [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
        }
        1082 => date(i64::from(i32::from_be_bytes(value.try_into().ok()?)))?,
        1083 => clock(i64::from_be_bytes(value.try_into().ok()?))?,
        1114 | 1184 => {
            let microseconds = i64::from_be_bytes(value.try_into().ok()?);
            let zone = if oid == 1184 { "+00" } else { "" };
            format!("{} {}{zone}", date(microseconds.div_euclid(DAY_US))?, clock(microseconds.rem_euclid(DAY_US))?)
        }
        _ => return None,
    })
}

const DAY_US: i64 = 86_400_000_000;

/// Days since 2000-01-01; the infinities have no text here.
fn date(days: i64) -> Option<String> {
    let date = time::macros::date!(2000 - 01 - 01).checked_add(time::Duration::days(days))?;
    (date.year() > 0).then(|| format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day()))
}

fn clock(microseconds: i64) -> Option<String> {
    if !(0..=DAY_US).contains(&microseconds) {
        return None;
    }
    let (seconds, fraction) = (microseconds / 1_000_000, microseconds % 1_000_000);
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        let digits = format!("{fraction:06}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    Some(text)
}

/// Count, weight, sign, scale, base-10000 digits (`numeric_send` in src/backend/utils/adt/numeric.c).
fn numeric(value: &[u8]) -> Option<String> {
    let mut words = value.chunks_exact(2).map(|pair| pair.try_into().map_or(0, u16::from_be_bytes));
    let (count, weight, sign, scale) = (words.next()?, words.next()?, words.next()?, words.next()?);
    match sign {
        0 | 0x4000 => {}
        0xc000 => return Some("NaN".to_owned()),
        0xd000 => return Some("Infinity".to_owned()),
        0xf000 => return Some("-Infinity".to_owned()),
        _ => return None,
    }
    if value.len() != usize::from(count).checked_mul(2)?.checked_add(8)? || scale > 16_383 {
        return None;
    }
    let weight = i16::from_be_bytes(weight.to_be_bytes());
    let digits: Vec<u16> = words.collect();
    // The digit of weight w stands at place `weight - w`.
    let at = |place: i32| usize::try_from(i32::from(weight).checked_sub(place)?).ok().and_then(|index| digits.get(index).copied());
    let mut text = String::from(if sign == 0x4000 { "-" } else { "" });
    if weight < 0 {
        text.push('0');
    }
    for place in (0..=i32::from(weight)).rev() {
        let digit = at(place).unwrap_or(0);
        let written = if place == i32::from(weight) { write!(text, "{digit}") } else { write!(text, "{digit:04}") };
        written.ok()?;
    }
    if scale > 0 {
        let mut fraction = String::new();
        for place in 1..=i32::from(scale).checked_add(3)? / 4 {
            write!(fraction, "{:04}", at(-place).unwrap_or(0)).ok()?;
        }
        text.push('.');
        text.push_str(fraction.get(..usize::from(scale))?);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_values_read_like_text() {
        for (oid, value, expected) in [
            (16, &b"\x01"[..], "t"),
            (23, b"\xff\xff\xff\xfe", "-2"),
            (20, b"\0\0\0\0\0\0\x01\0", "256"),
            (701, b"\x3f\xf8\0\0\0\0\0\0", "1.5"),
            (1700, b"\0\x03\0\x01\x40\0\0\x02\0\x01\x09\x29\x1a\x2c", "-12345.67"),
            (1700, b"\0\x01\xff\xff\0\0\0\x03\x04\xd2", "0.123"),
            (1700, b"\0\0\0\0\0\0\0\x02", "0.00"),
            (1700, b"\0\x01\0\x02\0\0\0\0\0\x05", "500000000"),
            (1700, b"\0\0\0\0\xc0\0\0\0", "NaN"),
            (3802, b"\x01{\"a\": 1}", "{\"a\": 1}"),
            (1082, b"\0\0\x22\xc7", "2024-05-17"),
            (1114, b"\xff\xff\xff\xff\xff\xff\xff\xff", "1999-12-31 23:59:59.999999"),
            (1184, b"\0\0\0\0\0\0\0\0", "2000-01-01 00:00:00+00"),
            (2950, b"\x01\x90\xc6\xb8\x11\x11\x72\x22\x83\x33\x44\x44\x55\x55\x66\x66", "0190c6b8-1111-7222-8333-444455556666"),
        ] {
            assert_eq!(parameter(oid, 1, Some(value)), Cell::Text(expected.into()), "{oid}");
        }
    }

    #[test]
    fn what_is_not_understood_is_hex() {
        for (oid, format, value) in [
            (23, 1, &b"\0"[..]),
            (1700, 1, b"\0\x09\0\0"),
            (1114, 1, b"\x7f\xff\xff\xff\xff\xff\xff\xff"),
            (16_999, 1, b"ab"),
            (25, 0, b"\xff"),
            (23, 0, b"\0\0\0\x01"),
        ] {
            assert_eq!(parameter(oid, format, Some(value)), Cell::Bytes(hex::encode(value)), "{oid}");
        }
        assert_eq!(parameter(23, 1, None), Cell::Null);
    }
}
