//! Keyed masks: equal clear values give equal masked ones, and nobody without the key can try candidates.

use bytes::{BufMut as _, BytesMut};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{MaskKey, types::Family};

/// HMAC-SHA-256 with the key already taken in.
#[derive(Clone)]
pub(crate) struct Secret(Hmac<Sha256>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    pub(crate) fn new(key: &MaskKey) -> Self {
        // A key shorter than the block is padded with zeros (RFC 2104), so this is the MAC under the 32 bytes.
        let mut block = [0; 64];
        block.iter_mut().zip(key.bytes()).for_each(|(to, from)| *to = *from);
        Self(<Hmac<Sha256> as Mac>::new(&block.into()))
    }

    pub(crate) fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

/// Whether a hash can be a value of the family (the textual ones always can).
pub(crate) const fn suits(family: Family) -> bool {
    matches!(family, Family::Json { .. } | Family::Xml | Family::Bytea | Family::Uuid | Family::Int8)
}

/// Appends the keyed hash of a value. The same value hashes alike in text and binary format. `None`: the value is not of its
/// type; hide all of it.
pub(crate) fn hash(family: Family, binary: bool, value: &[u8], secret: &Secret, out: &mut BytesMut) -> Option<()> {
    match family {
        Family::Text => hex(&secret.mac(&[value]), out),
        // Trailing spaces are no part of a bpchar's value.
        Family::Padded => hex(&secret.mac(&[value.trim_ascii_end()]), out),
        // A name has at most 63 bytes.
        Family::Name => hex(secret.mac(&[value]).get(..16)?, out),
        Family::Json { versioned } => {
            let json = if versioned { value.strip_prefix(&[1])? } else { value };
            out.extend_from_slice(if versioned { b"\x01\"" } else { b"\"" });
            hex(&secret.mac(&[json]), out);
            out.put_u8(b'"');
        }
        Family::Xml => {
            out.extend_from_slice(b"<masked>");
            hex(&secret.mac(&[value]), out);
            out.extend_from_slice(b"</masked>");
        }
        Family::Bytea if binary => out.extend_from_slice(&secret.mac(&[value])),
        Family::Bytea => {
            out.extend_from_slice(b"\\x");
            hex(&bytea_text(value, secret)?, out);
        }
        Family::Uuid => {
            let clear: [u8; 16] = if binary { value.try_into().ok()? } else { uuid_text(value)? };
            let mac = secret.mac(&[&clear]);
            let masked = mac.get(..16)?;
            if binary {
                out.extend_from_slice(masked);
            } else {
                for (index, byte) in masked.chunks(2).enumerate() {
                    if (2..=5).contains(&index) {
                        out.put_u8(b'-');
                    }
                    hex(byte, out);
                }
            }
        }
        Family::Int8 => {
            let clear: i64 =
                if binary { i64::from_be_bytes(value.try_into().ok()?) } else { std::str::from_utf8(value).ok()?.parse().ok()? };
            let mac = secret.mac(&[&clear.to_be_bytes()]);
            // Non-negative, so that checks like "id > 0" hold on the other side.
            let masked = i64::from_be_bytes(mac.get(..8)?.try_into().ok()?) & i64::MAX;
            if binary {
                out.put_i64(masked);
            } else {
                number(masked, out)?;
            }
        }
        _ => return None,
    }
    Some(())
}

/// Appends lower-case hex.
pub(crate) fn hex(bytes: &[u8], out: &mut BytesMut) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            out.put_u8(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        }
    }
}

fn number(value: i64, out: &mut BytesMut) -> Option<()> {
    use std::fmt::Write as _;
    write!(out, "{value}").ok()
}

/// <https://www.postgresql.org/docs/current/datatype-uuid.html>: output is always the form with four hyphens.
pub(crate) fn uuid_text(text: &[u8]) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    let mut digits = text.iter().filter(|byte| **byte != b'-');
    for byte in &mut bytes {
        *byte = nibble(*digits.next()?)? << 4 | nibble(*digits.next()?)?;
    }
    (digits.next().is_none() && text.len() == 36).then_some(bytes)
}

pub(crate) const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The MAC of a `bytea` given as text, in hex or escape format
/// (<https://www.postgresql.org/docs/current/datatype-binary.html>).
fn bytea_text(text: &[u8], secret: &Secret) -> Option<[u8; 32]> {
    let mut mac = secret.0.clone();
    if let Some(digits) = text.strip_prefix(b"\\x") {
        for pair in digits.chunks(2) {
            let [high, low] = pair else { return None };
            mac.update(&[nibble(*high)? << 4 | nibble(*low)?]);
        }
        return Some(mac.finalize().into_bytes().into());
    }
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                mac.update(b"\\");
                after
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                mac.update(&[(a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')]);
                after
            }
            (b'\\', _) => return None,
            (plain, after) => {
                mac.update(&[*plain]);
                after
            }
        };
    }
    Some(mac.finalize().into_bytes().into())
}
