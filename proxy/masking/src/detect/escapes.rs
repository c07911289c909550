//! Characters written as escapes: `\u0033` in JSON, `&#51;` and `&#x33;` in XML. Whoever reads the value reads the character.
//!
//! Only printable ASCII that needs no escape is of interest: built-in patterns are made of nothing else, and it may stand by itself wherever
//! the escape stood.

use std::borrow::Cow;
use std::ops::Range;

/// More digits than this, leading zeros among them, are not looked at.
const DIGITS: usize = 8;

/// A value without such escapes, and where each of its bytes was written.
pub(super) struct Plain {
    pub(super) bytes: Vec<u8>,
    /// One more than there are bytes: the last is the end of the value.
    places: Vec<usize>,
}

impl Plain {
    /// `None` when there is no escape of interest.
    pub(super) fn of(value: &[u8]) -> Option<Self> {
        let mut plain: Option<Self> = None;
        let mut at = 0;
        while let Some(rest) = value.get(at..).filter(|rest| !rest.is_empty()) {
            let clear = rest.iter().position(|byte| matches!(byte, b'\\' | b'&')).unwrap_or(rest.len());
            let place = at.saturating_add(clear);
            let (escape, length) = rest.get(clear..).map_or((None, 0), read);
            match (escape, &mut plain) {
                (None, None) => {}
                (None, Some(plain)) => plain.copy(value, at..place.saturating_add(length)),
                (Some(byte), Some(plain)) => plain.add(value, at..place, byte),
                (Some(byte), none) => {
                    let mut first = Self { bytes: Vec::with_capacity(value.len()), places: Vec::with_capacity(value.len()) };
                    first.add(value, 0..place, byte);
                    *none = Some(first);
                }
            }
            at = place.saturating_add(length);
        }
        let mut plain = plain?;
        plain.places.push(value.len());
        Some(plain)
    }

    fn add(&mut self, value: &[u8], clear: Range<usize>, escaped: u8) {
        self.places.extend(clear.start..=clear.end);
        self.bytes.extend_from_slice(value.get(clear).unwrap_or_default());
        self.bytes.push(escaped);
    }

    fn copy(&mut self, value: &[u8], clear: Range<usize>) {
        self.bytes.extend_from_slice(value.get(clear.clone()).unwrap_or_default());
        self.places.extend(clear);
    }

    /// Where in the value a part of it stands.
    pub(super) fn place(&self, part: &Range<usize>) -> Option<Range<usize>> {
        Some(*self.places.get(part.start)?..*self.places.get(part.end)?)
    }
}

/// A value without such escapes.
pub(super) fn plain(value: &[u8]) -> Cow<'_, [u8]> {
    Plain::of(value).map_or(Cow::Borrowed(value), |plain| Cow::Owned(plain.bytes))
}

/// The escape that a value begins with, and how long it is; without a character, how much is to be passed over.
fn read(value: &[u8]) -> (Option<u8>, usize) {
    match value.first() {
        Some(b'\\') => {
            // Each time JSON becomes part of a text of another kind its backslashes are doubled.
            let slashes = value.iter().take_while(|byte| **byte == b'\\').count();
            let digits = value.get(slashes..).and_then(|rest| rest.strip_prefix(b"u00")).and_then(|rest| rest.get(..2));
            match digits.and_then(|digits| printable(digits, 16)).filter(|byte| !matches!(byte, b'"' | b'\\')) {
                Some(byte) => (Some(byte), slashes.saturating_add(5)),
                None => (None, slashes),
            }
        }
        Some(b'&') => reference(value).map_or((None, 1), |(byte, length)| (Some(byte), length)),
        Some(_) => (None, 1),
        None => (None, 0),
    }
}

/// `&#51;` and `&#x33;`
fn reference(value: &[u8]) -> Option<(u8, usize)> {
    let rest = value.strip_prefix(b"&#")?;
    let (digits, radix, before) = match rest.strip_prefix(b"x") {
        Some(digits) => (digits, 16, 3_usize),
        None => (rest, 10, 2),
    };
    let count = digits.iter().take(DIGITS).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let byte = printable(digits.get(..count)?, radix).filter(|byte| !matches!(byte, b'<' | b'>' | b'&' | b'"' | b'\''))?;
    (digits.get(count) == Some(&b';')).then(|| (byte, before.saturating_add(count).saturating_add(1)))
}

/// A printable character of ASCII by its number.
fn printable(digits: &[u8], radix: u32) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u32::from_str_radix(text, radix).ok().and_then(|number| u8::try_from(number).ok()).filter(|byte| (b' '..=b'~').contains(byte))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn escapes_are_read_and_places_kept() {
        for (value, expected) in [
            (r#"{"v":"\u0033\u00314-15"}"#, r#"{"v":"314-15"}"#),
            (r#"{"v":"\\u003314"}"#, r#"{"v":"314"}"#),
            ("<v>&#51;1&#x34;&#0045;15</v>", "<v>314-15</v>"),
            (r"\u0033", "3"),
            (r"a\nb\u0033c\u0022", r"a\nb3c\u0022"),
        ] {
            let plain = Plain::of(value.as_bytes()).unwrap();
            assert_eq!(String::from_utf8_lossy(&plain.bytes), expected);
            assert_eq!(plain.place(&(0..plain.bytes.len())).unwrap(), 0..value.len());
        }
        for value in ["", "plain", r"\u00e4", r"\u0022", r"\u003", "&#51", "&amp;", "&#60;", "&#x110031;", r"\\", "&", "&#;", "&#x;"] {
            assert!(Plain::of(value.as_bytes()).is_none(), "{value}");
        }
        let plain = Plain::of(b"ab&#51;c").unwrap();
        assert_eq!(plain.place(&(2..3)).unwrap(), 2..7);
        assert_eq!(plain.place(&(3..4)).unwrap(), 7..8);
    }
}
