//! Hiding what was found, so that what stands around it stays what it is.

use bytes::{BufMut as _, BytesMut};

use super::{Found, Kind};

/// What a value is, as far as hiding a part of it is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Stars may stand anywhere.
    Text,
    /// JSON: stars stand in strings, digits become other digits elsewhere.
    Json,
    /// Something in which no star may stand: digits and letters become others of their kind.
    Strict,
    /// Something that may be text or a number, whose type is not known: what is nothing but digits stays digits.
    Loose,
}

/// Appends `value` with every finding hidden. `shown` says how many characters at the end stay; `None` for an address.
pub(super) fn hide_all(form: Form, value: &[u8], found: &[Found], shown: impl Fn(Kind) -> Option<usize>, out: &mut BytesMut) {
    let mut copied = 0;
    let mut strings = Strings::default();
    for Found { kind, range } in found {
        let clear = value.get(copied..range.start).unwrap_or_default();
        out.extend_from_slice(clear);
        let hidden = super::escapes::plain(value.get(range.clone()).unwrap_or_default());
        let hidden = hidden.as_ref();
        copied = range.end;
        if clear.ends_with(b"\\x") && hidden.len().is_multiple_of(2) && hidden.iter().all(u8::is_ascii_hexdigit) {
            // `bytea` within a longer text: as many bytes, each of them a star.
            hidden.chunks(2).for_each(|_| out.extend_from_slice(b"2a"));
            strings.pass(clear);
            strings.pass(hidden);
            continue;
        }
        match form {
            Form::Json => {
                strings.pass(clear);
                let first = !clear.last().is_some_and(u8::is_ascii_digit);
                match shown(*kind) {
                    // It has no character that means something in JSON.
                    None => {
                        super::words::hide_address(hidden, out);
                        strings.pass(hidden);
                    }
                    Some(keep) => hide_json(hidden, keep, first, &mut strings, out),
                }
            }
            Form::Strict => hide(hidden, shown(*kind).unwrap_or_default(), out, |byte| if byte.is_ascii_digit() { b'1' } else { b'x' }),
            Form::Loose if hidden.iter().all(u8::is_ascii_digit) => hide_number(hidden, shown(*kind).unwrap_or_default(), out),
            Form::Text | Form::Loose => match shown(*kind) {
                None => super::words::hide_address(hidden, out),
                Some(keep) => hide(hidden, keep, out, |_| b'*'),
            },
        }
    }
    out.extend_from_slice(value.get(copied..).unwrap_or_default());
}

/// All letters and digits but the last few become what `other` says.
fn hide(hidden: &[u8], keep: usize, out: &mut BytesMut, other: impl Fn(u8) -> u8) {
    let mut left = hidden.iter().filter(|byte| byte.is_ascii_alphanumeric()).count();
    for byte in hidden {
        let significant = byte.is_ascii_alphanumeric();
        out.put_u8(if significant && left > keep { other(*byte) } else { *byte });
        left = left.saturating_sub(usize::from(significant));
    }
}

/// All digits but the last few become a one and zeros, so that a number stays one, of the same length.
pub(super) fn hide_number(digits: &[u8], keep: usize, out: &mut BytesMut) {
    let hidden = digits.len().saturating_sub(keep);
    for (index, digit) in digits.iter().enumerate() {
        out.put_u8(match index {
            0 if hidden > 0 => b'1',
            _ if index < hidden => b'0',
            _ => *digit,
        });
    }
}

/// Whether a place in JSON is within a string.
#[derive(Debug, Default)]
struct Strings {
    inside: bool,
    escaped: bool,
}

impl Strings {
    fn pass(&mut self, part: &[u8]) {
        for byte in part {
            self.step(*byte);
        }
    }

    /// Takes one byte; says whether it is an ordinary character of a string.
    const fn step(&mut self, byte: u8) -> bool {
        if !self.inside {
            self.inside = byte == b'"';
            return false;
        }
        if self.escaped {
            self.escaped = false;
            return false;
        }
        match byte {
            b'"' => {
                self.inside = false;
                false
            }
            b'\\' => {
                self.escaped = true;
                false
            }
            _ => true,
        }
    }
}

/// In strings stars, elsewhere digits that keep a number a number. Escapes of characters beyond ASCII are replaced whole.
fn hide_json(hidden: &[u8], keep: usize, first: bool, strings: &mut Strings, out: &mut BytesMut) {
    let mut left = hidden.iter().filter(|byte| byte.is_ascii_alphanumeric()).count();
    let mut leading = first;
    let mut rest = hidden;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if strings.inside
            && !strings.escaped
            && *byte == b'\\'
            && let Some((b'u', digits)) = after.split_first()
            && let Some((_, after)) = digits.split_at_checked(4)
        {
            out.put_u8(b'*');
            left = left.saturating_sub(5);
            rest = after;
            continue;
        }
        let significant = byte.is_ascii_alphanumeric();
        let in_string = strings.step(*byte);
        let hide = significant && left > keep;
        left = left.saturating_sub(usize::from(significant));
        out.put_u8(match (hide, in_string) {
            (true, true) => b'*',
            (true, false) if byte.is_ascii_digit() && !strings.inside => {
                if leading {
                    b'1'
                } else {
                    b'0'
                }
            }
            _ => *byte,
        });
        leading = false;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::detect::{Detectors, Pattern};

    fn json(detectors: &Detectors, text: &str) -> String {
        let mut out = BytesMut::new();
        detectors.redact_as(Form::Json, text.as_bytes(), &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn xml_stays_xml() {
        for (clear, hidden) in [
            ("<v>&#51;14-15-9265</v>", "<v>***-**-9265</v>"),
            ("<v>314&#45;15&#x2d;9265 &amp; &#228;</v>", "<v>***-**-9265 &amp; &#228;</v>"),
            ("<e>bob&#64;example.com</e>", "<e>b**@example.com</e>"),
        ] {
            let (detectors, mut out) = (Detectors::standard(), BytesMut::new());
            assert!(detectors.finds(clear.as_bytes()));
            assert_eq!(detectors.redact(clear.as_bytes(), &mut out), 1);
            assert_eq!(String::from_utf8(out.to_vec()).unwrap(), hidden);
        }
    }

    #[test]
    fn json_stays_json() {
        let detectors = Detectors::standard().with(vec![Pattern::new("staff", r"EMP\\?.{0,6}\d{4}", 0).unwrap()]).unwrap();
        for (clear, hidden) in [
            (r#"{"card": 4111111111111111}"#, r#"{"card": 1000000000001111}"#),
            (r#"{"card": "4111111111111111", "n": -1.5e3}"#, r#"{"card": "************1111", "n": -1.5e3}"#),
            (r#"{"mail": "alice@example.com"}"#, r#"{"mail": "a****@example.com"}"#),
            (r#"["a\"", "123-45-6789", true]"#, r#"["a\"", "***-**-6789", true]"#),
            (r#"{"id": "EMP\n1234"}"#, r#"{"id": "***\n****"}"#),
            (r#"{"id": "EMP\u00e41234"}"#, r#"{"id": "********"}"#),
            (r"[21000021, 121000358]", r"[21000021, 100000000]"),
            (r#"{"v": "\u0033\u0031\u0034-15-9265"}"#, r#"{"v": "***-**-9265"}"#),
            (r#"{"v": "314\u002d15\u002d9265", "w": "\u00e4"}"#, r#"{"v": "***-**-9265", "w": "\u00e4"}"#),
            (r#"{"mail": "bob\u0040example.com"}"#, r#"{"mail": "b**@example.com"}"#),
            (r#"{"phone": "\u002B1 (212) 555-0187"}"#, r#"{"phone": "+* (***) ***-0187"}"#),
        ] {
            let found = json(&detectors, clear);
            assert!(serde_json::from_str::<serde_json::Value>(&found).is_ok(), "{found}");
            assert_eq!(found, hidden);
        }
    }
}
