//! A policy's constant as a value of the column's type, checked once and not for each row.

use bytes::{BufMut as _, BytesMut};

use crate::{
    TextStyle, number, secret, time,
    types::{self, Family},
};

/// The constant on the wire; `None` when it is not a value of the type, or the type is not known.
pub(crate) fn encode(text: &str, oid: u32, binary: bool, style: TextStyle) -> Option<Vec<u8>> {
    let bytes = to_binary(text, oid)?;
    if binary {
        return Some(bytes);
    }
    // The written form is valid text for the type, since it could be read; booleans have one form only, dates one in each style.
    Some(match types::family(oid, false) {
        Family::Bool => {
            if bytes == [1] {
                b"t".to_vec()
            } else {
                b"f".to_vec()
            }
        }
        Family::Date => {
            let (year, rest) = text.split_once('-')?;
            let (month, day) = rest.split_once('-')?;
            style.date(year, month, day)?.into_bytes()
        }
        _ => text.as_bytes().to_vec(),
    })
}

fn to_binary(text: &str, oid: u32) -> Option<Vec<u8>> {
    // No type of PostgreSQL has a value with this byte in its text.
    if text.contains('\0') {
        return None;
    }
    let mut out = BytesMut::new();
    match types::family(oid, true) {
        Family::Text | Family::Padded => out.extend_from_slice(text.as_bytes()),
        Family::Name => out.extend_from_slice((text.len() < 64).then_some(text.as_bytes())?),
        Family::Json { versioned } => {
            let _: serde_json::Value = serde_json::from_str(text).ok()?;
            if versioned {
                out.put_u8(1);
            }
            out.extend_from_slice(text.as_bytes());
        }
        Family::Bool => out.put_u8(match text.to_ascii_lowercase().as_str() {
            "t" | "true" => 1,
            "f" | "false" => 0,
            _ => return None,
        }),
        Family::Int2 => out.put_i16(text.parse().ok()?),
        Family::Int4 => out.put_i32(text.parse().ok()?),
        Family::Int8 => out.put_i64(text.parse().ok()?),
        Family::Float4 => out.put_f32(text.parse().ok().filter(|number: &f32| number.is_finite())?),
        Family::Float8 => out.put_f64(text.parse().ok().filter(|number: &f64| number.is_finite())?),
        Family::Numeric => number::numeric_encode(text.parse().ok()?, &mut out)?,
        Family::Uuid => out.extend_from_slice(&secret::uuid_text(text.as_bytes())?),
        Family::Bytea => {
            for pair in text.strip_prefix("\\x")?.as_bytes().chunks(2) {
                let [high, low] = pair else { return None };
                out.put_u8(secret::nibble(*high)? << 4 | secret::nibble(*low)?);
            }
        }
        Family::Date => out.put_i32(time::parse_date(text)?),
        // Well-formedness of XML, zones and all the rest is not worth a parser here: masked in full instead.
        Family::Xml | Family::Timestamp | Family::Timestamptz | Family::Other => return None,
    }
    Some(out.to_vec())
}
