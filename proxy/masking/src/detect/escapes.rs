//! Characters that are read as others: escapes (`\u0033` in JSON, `&#51;` and `&#x33;` in XML), digits and letters of full width and digits of
//! other scripts, dashes and spaces of every kind, and what is not seen at all (zero width, soft hyphens, marks of direction).
//!
//! Only what stands for printable ASCII that needs no escape is of interest: built-in patterns are made of nothing else, and it may stand by itself
//! wherever the other stood.

use std::borrow::Cow;
use std::ops::Range;

/// More digits than this, leading zeros among them, are not looked at.
const DIGITS: usize = 8;

/// A value without such characters, and where each of its bytes was written.
pub(super) struct Plain {
    pub(super) bytes: Vec<u8>,
    /// One more than there are bytes: the last is the end of the value.
    places: Vec<usize>,
}

impl Plain {
    /// `None` when there is none of interest.
    pub(super) fn of(value: &[u8]) -> Option<Self> {
        let mut plain: Option<Self> = None;
        let mut at = 0;
        while let Some(rest) = value.get(at..).filter(|rest| !rest.is_empty()) {
            let clear = rest.iter().position(|byte| begins(*byte)).unwrap_or(rest.len());
            let place = at.saturating_add(clear);
            let (reading, length) = rest.get(clear..).map_or((Reading::Itself, 0), read);
            match (reading, &mut plain) {
                (Reading::Itself, None) => {}
                (Reading::Itself, Some(plain)) => plain.copy(value, at..place.saturating_add(length)),
                (reading, Some(plain)) => plain.add(value, at..place, reading),
                (reading, none) => {
                    let mut first = Self { bytes: Vec::with_capacity(value.len()), places: Vec::with_capacity(value.len()) };
                    first.add(value, 0..place, reading);
                    *none = Some(first);
                }
            }
            at = place.saturating_add(length);
        }
        let mut plain = plain?;
        plain.places.push(value.len());
        Some(plain)
    }

    fn add(&mut self, value: &[u8], clear: Range<usize>, reading: Reading) {
        let place = clear.end;
        self.copy(value, clear);
        if let Reading::As(byte) = reading {
            self.places.push(place);
            self.bytes.push(byte);
        }
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

/// A value without such characters.
pub(super) fn plain(value: &[u8]) -> Cow<'_, [u8]> {
    Plain::of(value).map_or(Cow::Borrowed(value), |plain| Cow::Owned(plain.bytes))
}

/// What something is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// A character of ASCII.
    As(u8),
    /// Nothing.
    Unseen,
    /// What it is.
    Itself,
}

/// Whether such characters begin with the byte: a backslash, `&`, or the first byte of a block that has some.
const fn begins(byte: u8) -> bool {
    matches!(byte, b'\\' | b'&' | 0xc2 | 0xcd | 0xd8 | 0xd9 | 0xdb | 0xe0 | 0xe1 | 0xe2 | 0xe3 | 0xef | 0xf0)
}

/// What a character is read as.
fn reading(c: char) -> Reading {
    let digit = |zero: u32| u8::try_from(u32::from(c).wrapping_sub(zero) % 10).map_or(Reading::Itself, |digit| Reading::As(b'0' + digit));
    match c {
        '"' | '\\' | '<' | '>' | '&' | '\'' => Reading::Itself,
        ' '..='~' => Reading::As(u8::try_from(c).unwrap_or(b' ')),
        '\u{660}'..='\u{669}' => digit(0x660),
        '\u{6f0}'..='\u{6f9}' => digit(0x6f0),
        '\u{966}'..='\u{96f}' => digit(0x966),
        '\u{1d7ce}'..='\u{1d7ff}' => digit(0x1_d7ce),
        // Full width.
        '\u{ff01}'..='\u{ff5e}' => match char::from_u32(u32::from(c).wrapping_sub(0xfee0)) {
            Some(narrow) => reading(narrow),
            None => Reading::Itself,
        },
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' => Reading::As(b'-'),
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => Reading::As(b' '),
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}' => Reading::Unseen,
        _ => Reading::Itself,
    }
}

/// What a value begins with, and how long that is; where it is read as itself, how much is to be passed over.
fn read(value: &[u8]) -> (Reading, usize) {
    match value.first() {
        Some(b'\\') => {
            // Each time JSON becomes part of a text of another kind its backslashes are doubled.
            let slashes = value.iter().take_while(|byte| **byte == b'\\').count();
            let digits = value.get(slashes..).and_then(|rest| rest.strip_prefix(b"u")).and_then(|rest| rest.get(..4));
            match digits.map_or(Reading::Itself, |digits| numbered(digits, 16)) {
                Reading::Itself => (Reading::Itself, slashes),
                reading => (reading, slashes.saturating_add(5)),
            }
        }
        Some(b'&') => reference(value).unwrap_or((Reading::Itself, 1)),
        Some(first) => {
            let length = match first {
                0xc2..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf4 => 4,
                _ => 1,
            };
            let text = value.get(..length).and_then(|character| std::str::from_utf8(character).ok());
            match text.and_then(|text| text.chars().next()).map_or(Reading::Itself, reading) {
                Reading::Itself => (Reading::Itself, 1),
                reading => (reading, length),
            }
        }
        None => (Reading::Itself, 0),
    }
}

/// `&#51;` and `&#x33;`
fn reference(value: &[u8]) -> Option<(Reading, usize)> {
    let rest = value.strip_prefix(b"&#")?;
    let (digits, radix, before) = match rest.strip_prefix(b"x") {
        Some(digits) => (digits, 16, 3_usize),
        None => (rest, 10, 2),
    };
    let count = digits.iter().take(DIGITS).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let reading = numbered(digits.get(..count)?, radix);
    (digits.get(count) == Some(&b';') && reading != Reading::Itself).then(|| (reading, before.saturating_add(count).saturating_add(1)))
}

/// What the character of a number is read as.
fn numbered(digits: &[u8], radix: u32) -> Reading {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let number = text.and_then(|text| u32::from_str_radix(text, radix).ok());
    number.and_then(char::from_u32).map_or(Reading::Itself, reading)
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
            (r"4111\u20131111\u00A0\uff11", "4111-1111 1"),
            ("4111&#8211;1111&#xA0;x", "4111-1111 x"),
            ("４１１１\u{2011}1１\u{200b}11\u{3000}é", "4111-1111 é"),
            ("٣١٤\u{a0}१५ 𝟗\u{ad}265", "314 15 9265"),
        ] {
            let plain = Plain::of(value.as_bytes()).unwrap();
            assert_eq!(String::from_utf8_lossy(&plain.bytes), expected);
            assert_eq!(plain.place(&(0..plain.bytes.len())).unwrap(), 0..value.len());
        }
        for value in [
            "",
            "plain",
            r"\u00e4",
            r"\ud83d\ude00",
            "é“€”…",
            "＜＆",
            r"\u0022",
            r"\u003",
            "&#51",
            "&amp;",
            "&#60;",
            "&#x110031;",
            r"\\",
            "&",
            "&#;",
            "&#x;",
        ] {
            assert!(Plain::of(value.as_bytes()).is_none(), "{value}");
        }
        let plain = Plain::of(b"ab&#51;c").unwrap();
        assert_eq!(plain.place(&(2..3)).unwrap(), 2..7);
        assert_eq!(plain.place(&(3..4)).unwrap(), 7..8);
    }
}
