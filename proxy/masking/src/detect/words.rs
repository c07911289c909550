//! Patterns with letters in them.

use std::ops::Range;

use bytes::BytesMut;

use super::is_word;

/// Lengths by country (the IBAN registry of SWIFT).
const IBAN_LENGTHS: [(&[u8; 2], usize); 50] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BR", 29),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GR", 27),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"MC", 27),
    (b"MT", 31),
    (b"NL", 18),
    (b"NO", 15),
    (b"PL", 28),
    (b"PT", 25),
    (b"RO", 24),
    (b"SA", 24),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"TR", 26),
];

/// What stands between groups of four.
const SEPARATORS: [u8; 5] = *b" -./:";

/// In one piece, or in groups of four with the same separator between; with hyphens in groups of any length.
pub(super) fn iban(value: &[u8], at: usize) -> Option<usize> {
    let head = value.get(at..at.checked_add(4)?)?;
    let (country, check) = head.split_first_chunk::<2>()?;
    if !check.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let country = country.map(|letter| letter.to_ascii_uppercase());
    let (_, length) = IBAN_LENGTHS.iter().find(|(known, _)| **known == country)?;
    let mut characters = Vec::with_capacity(*length);
    let mut end = at;
    let between = value.get(at.checked_add(4)?).copied().filter(|byte| SEPARATORS.contains(byte));
    // A group of a UUID is none.
    let before = value.get(at.saturating_sub(5)..at).unwrap_or_default();
    if between == Some(b'-') && before.len() == 5 && before.ends_with(b"-") && before.iter().take(4).all(u8::is_ascii_hexdigit) {
        return None;
    }
    while characters.len() < *length {
        let byte = *value.get(end)?;
        let separated = end > at && between.is_some() && value.get(end.wrapping_sub(1)).copied() == between;
        let full = characters.len().is_multiple_of(4) && !characters.is_empty();
        let (may, must) = match between {
            None => (false, false),
            Some(b'-') => (characters.len() >= 4 && !separated, characters.len() == 4 && !separated),
            Some(_) => (full && !separated, full && !separated),
        };
        match byte {
            byte if may && Some(byte) == between => {}
            byte if byte.is_ascii_alphanumeric() && !must => characters.push(byte.to_ascii_uppercase()),
            _ => return None,
        }
        end = end.checked_add(1)?;
    }
    let inside = at.checked_sub(1).and_then(|before| value.get(before)).is_some_and(|byte| is_word(*byte));
    if inside || value.get(end).is_some_and(|byte| is_word(*byte)) {
        // Within a word (`IBANDE89…`, `_DE89…_`) letters and digits stand by chance, unless they are of one kind, and others go on.
        let written = value.get(at..end)?;
        let next = value.get(end).copied().unwrap_or_default();
        let numbers = written.iter().skip(2).all(|byte| !byte.is_ascii_alphabetic()) && !next.is_ascii_digit();
        let capitals = !written.iter().any(u8::is_ascii_lowercase) && !next.is_ascii_digit() && !next.is_ascii_uppercase();
        if between == Some(b'-') || (!numbers && !capitals) {
            return None;
        }
    }
    // ISO 7064, mod 97-10: the first four go to the end, letters count from 10.
    let remainder = characters.iter().cycle().skip(4).take(characters.len()).fold(0_u32, |sum, byte| match byte {
        b'0'..=b'9' => (sum * 10 + u32::from(byte - b'0')) % 97,
        _ => (sum * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    (remainder == 1).then_some(end)
}

/// Text within `bytea` that stands in a longer text (an array, a composite, JSON) as `\\x` and hexadecimal digits: where the digits are, and
/// what they say. The text within has no backslash, so that nothing is looked at more than twice.
pub(super) fn hexadecimal(value: &[u8]) -> impl Iterator<Item = (Range<usize>, Vec<u8>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = value.get(at..)?;
            let backslash = rest.iter().position(|byte| *byte == b'\\')?;
            at = at.checked_add(backslash)?.checked_add(1)?;
            let Some(digits) = value.get(at..).and_then(|rest| rest.strip_prefix(b"x")) else { continue };
            let start = at.checked_add(1)?;
            let count = digits.iter().take_while(|byte| byte.is_ascii_hexdigit()).count() & !1;
            at = start.checked_add(count)?;
            let bytes: Option<Vec<u8>> = digits
                .get(..count)?
                .chunks(2)
                .map(|pair| match pair {
                    [high, low] => Some(crate::secret::nibble(*high)? << 4 | crate::secret::nibble(*low)?),
                    _ => None,
                })
                .collect();
            if let Some(bytes) = bytes
                && bytes.len() >= super::FEWEST_DIGITS
            {
                return Some((start..at, bytes));
            }
        }
    })
}

/// The address around an `@`; nothing before `free` belongs to it.
pub(super) fn address(value: &[u8], at: usize, free: usize) -> Option<Range<usize>> {
    let local = value.get(free..at)?.iter().rev().take(64).take_while(|byte| is_local(**byte)).count();
    let domain = value.get(at.checked_add(1)?..)?;
    let reach = domain.iter().take(253).take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')).count();
    // A full stop after an address ends the sentence.
    let domain = domain.get(..reach)?;
    let dots = domain.iter().rev().take_while(|byte| matches!(byte, b'.' | b'-')).count();
    let domain = domain.get(..domain.len().checked_sub(dots)?)?;
    let mut labels = domain.split(|byte| *byte == b'.');
    let last = labels.next_back()?;
    let well_formed = labels.clone().count() >= 1 && labels.all(|label| !label.is_empty() && label.len() <= 63);
    let start = at.checked_sub(local)?;
    // Leading dots are no part of an address.
    let dots = value.get(start..at)?.iter().take_while(|byte| **byte == b'.').count();
    let start = start.checked_add(dots)?;
    // Nor does one begin within a character.
    let rest = value.get(start..at)?.iter().take_while(|byte| (0x80..0xc0).contains(*byte)).count();
    let start = start.checked_add(rest)?;
    let top = last.len() >= 2 && last.iter().all(|byte| byte.is_ascii_alphabetic());
    (start < at && well_formed && top).then_some(start..at.checked_add(1)?.checked_add(domain.len())?)
}

fn is_local(byte: u8) -> bool {
    // Letters beyond ASCII (RFC 6531) are bytes from 0x80.
    byte.is_ascii_alphanumeric() || b"!#$%&*+/=?^_`{|}~.-".contains(&byte) || byte >= 0x80
}

/// The first character, when it is ASCII and not alone, and the domain stay.
pub(super) fn hide_address(hidden: &[u8], out: &mut BytesMut) {
    let at = hidden.iter().position(|byte| *byte == b'@').unwrap_or(hidden.len());
    for (index, byte) in hidden.iter().enumerate() {
        let keep = index >= at || (index == 0 && at > 1 && byte.is_ascii());
        out.extend_from_slice(&[if keep { *byte } else { b'*' }]);
    }
}
