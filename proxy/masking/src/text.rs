//! Masks over character data. `None` always means: not something this mask can hide in part, hide all of it.

use bytes::{BufMut as _, BytesMut};

use crate::secret::Secret;

/// One `*` for each character but the last four.
pub(crate) fn last4(value: &[u8], padded: bool, out: &mut BytesMut) -> Option<()> {
    let text = std::str::from_utf8(value).ok()?;
    let core = if padded { text.trim_end_matches(' ') } else { text };
    let shown = core.char_indices().rev().nth(3).map(|(index, _)| index)?;
    let hidden = core.get(..shown)?.chars().count();
    if hidden == 0 {
        return None;
    }
    out.put_bytes(b'*', hidden);
    out.extend_from_slice(text.get(shown..)?.as_bytes());
    Some(())
}

/// `a***@example.com`. Only what is an address and nothing more: what stands beside one would otherwise be shown.
pub(crate) fn email(value: &[u8], out: &mut BytesMut) -> Option<()> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches(' ');
    if text.len() > 320 {
        return None;
    }
    let (local, domain) = text.rsplit_once('@')?;
    if local.is_empty() || !local.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+/=?^_`{|}~.-".contains(c)) || !is_domain(domain) {
        return None;
    }
    let mut characters = local.chars();
    let first = characters.next()?;
    // The first character of a one-character name is the whole name.
    if characters.next().is_some() {
        out.extend_from_slice(first.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out.extend_from_slice(b"***@");
    out.extend_from_slice(domain.as_bytes());
    Some(())
}

fn is_domain(domain: &str) -> bool {
    let label = |label: &str| !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let last = domain.rsplit_once('.').map(|(_, last)| last);
    domain.split('.').all(label) && last.is_some_and(|last| last.len() >= 2 && last.bytes().any(|b| b.is_ascii_alphabetic()))
}

/// Digits for digits, letters for letters, `*` for everything outside ASCII; ASCII punctuation and spaces stay.
pub(crate) fn token(value: &[u8], secret: &Secret, out: &mut BytesMut) -> Option<()> {
    let text = std::str::from_utf8(value).ok()?;
    let start = out.len();
    let seed = secret.mac(&[b"countersign.token.v1\0", value]);
    let mut stream = (0_u64..).flat_map(|counter| secret.mac(&[&seed, &counter.to_be_bytes()]));
    let mut hidden = false;
    for character in text.chars() {
        let (first, size) = match character {
            '0'..='9' => (b'0', 10),
            'a'..='z' => (b'a', 26),
            'A'..='Z' => (b'A', 26),
            plain if plain.is_ascii() => {
                out.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => {
                out.put_u8(b'*');
                hidden = true;
                continue;
            }
        };
        let random = stream.next()?;
        out.put_u8(first + random % size);
        hidden = true;
    }
    // Nothing replaced, or by chance everything by itself: that would be the clear value.
    (hidden && out.get(start..) != Some(value)).then_some(())
}
