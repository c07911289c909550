//! Literals, comments and quoted names in the text of a statement, with what they say.

use std::ops::Range;

use crate::secret::nibble;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `'…'` with any prefix.
    Text,
    /// `$tag$…$tag$`: often a program with literals of its own.
    Body,
    Number,
    Comment,
    /// `"…"`.
    Name,
}

#[derive(Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// With prefix and quotes.
    pub(super) whole: Range<usize>,
    /// Between the quotes.
    pub(super) content: Range<usize>,
    /// What it says, without escapes.
    pub(super) value: Vec<u8>,
    /// What it says is not told here (`U&` with an escape character of the client's choice).
    pub(super) opaque: bool,
}

/// Cuts a text up. Linear in its length: each byte belongs to one token at most.
pub(super) fn tokens(text: &[u8]) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at).copied() {
        let rest = text.get(at..).unwrap_or_default();
        at = match byte {
            b'\'' => push(&mut tokens, Kind::Text, text, at..at, Escapes::None),
            b'"' => push(&mut tokens, Kind::Name, text, at..at, Escapes::None),
            b'-' if rest.starts_with(b"--") => {
                let length = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len());
                comment(&mut tokens, text, at, at.saturating_add(length), 0)
            }
            b'/' if rest.starts_with(b"/*") => {
                let (length, closed) = block(rest);
                comment(&mut tokens, text, at, at.saturating_add(length), if closed { 2 } else { 0 })
            }
            b'$' => dollar(&mut tokens, text, at),
            b'0'..=b'9' => number(&mut tokens, text, at),
            b'.' if rest.get(1).is_some_and(u8::is_ascii_digit) => number(&mut tokens, text, at),
            byte if is_name(byte) => word(&mut tokens, text, at),
            _ => at.saturating_add(1),
        };
    }
    tokens
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escapes {
    None,
    Backslash,
    Unicode,
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn word(tokens: &mut Vec<Token>, text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    let length = rest.iter().take_while(|byte| is_name(**byte) || byte.is_ascii_digit() || **byte == b'$').count();
    let end = at.saturating_add(length);
    let (word, after) = (rest.get(..length).unwrap_or_default(), rest.get(length..).unwrap_or_default());
    let one = match word {
        [letter] => letter.to_ascii_lowercase(),
        _ => return end,
    };
    match (one, after) {
        (b'e', [b'\'', ..]) => push(tokens, Kind::Text, text, at..end, Escapes::Backslash),
        (b'b' | b'x' | b'n', [b'\'', ..]) => push(tokens, Kind::Text, text, at..end, Escapes::None),
        (b'u', [b'&', b'\'', ..]) => push(tokens, Kind::Text, text, at..end.saturating_add(1), Escapes::Unicode),
        (b'u', [b'&', b'"', ..]) => push(tokens, Kind::Name, text, at..end.saturating_add(1), Escapes::Unicode),
        _ => end,
    }
}

/// A quoted thing: `prefix` ends where the quote stands.
fn push(tokens: &mut Vec<Token>, kind: Kind, text: &[u8], prefix: Range<usize>, escapes: Escapes) -> usize {
    let Some(quote) = text.get(prefix.end).copied() else { return text.len() };
    let start = prefix.end.saturating_add(1);
    let mut value = Vec::new();
    let mut at = start;
    let mut end = None;
    while let Some(byte) = text.get(at).copied() {
        let rest = text.get(at.saturating_add(1)..).unwrap_or_default();
        if byte == quote {
            if rest.first() != Some(&quote) {
                end = Some(at);
                break;
            }
            value.push(quote);
            at = at.saturating_add(2);
        } else if byte == b'\\' && escapes == Escapes::Backslash {
            at = at.saturating_add(1).saturating_add(escape(rest, &mut value));
        } else {
            value.push(byte);
            at = at.saturating_add(1);
        }
    }
    let content = start..end.unwrap_or(text.len());
    let whole = prefix.start..end.map_or(text.len(), |end| end.saturating_add(1));
    let next = whole.end;
    tokens.push(Token { kind, whole, content, value, opaque: escapes == Escapes::Unicode });
    next
}

/// What follows a backslash in `E'…'`; gives how many bytes that is.
fn escape(rest: &[u8], value: &mut Vec<u8>) -> usize {
    let digits = |from: usize, most: usize, radix: u32| {
        let found: Vec<u32> =
            rest.iter().skip(from).take(most).map_while(|byte| nibble(*byte).map(u32::from).filter(|digit| *digit < radix)).collect();
        let number = found.iter().fold(0_u32, |sum, digit| sum.wrapping_mul(radix).wrapping_add(*digit));
        (number, from.saturating_add(found.len()))
    };
    let Some(first) = rest.first().copied() else { return 0 };
    let (number, taken) = match first {
        b'x' => digits(1, 2, 16),
        b'u' => digits(1, 4, 16),
        b'U' => digits(1, 8, 16),
        b'0'..=b'7' => digits(0, 3, 8),
        b'b' => (8, 1),
        b'f' => (12, 1),
        b'n' => (10, 1),
        b'r' => (13, 1),
        b't' => (9, 1),
        other => {
            value.push(other);
            return 1;
        }
    };
    match (first, u8::try_from(number), char::from_u32(number)) {
        (b'u' | b'U', _, Some(character)) => value.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        (_, Ok(byte), _) => value.push(byte),
        _ => {}
    }
    taken
}

fn comment(tokens: &mut Vec<Token>, text: &[u8], at: usize, end: usize, tail: usize) -> usize {
    let content = at.saturating_add(2)..end.saturating_sub(tail).max(at.saturating_add(2));
    let value = text.get(content.clone()).unwrap_or_default().to_vec();
    tokens.push(Token { kind: Kind::Comment, whole: at..end, content, value, opaque: false });
    end
}

/// Length of a comment at the start of `rest`, and whether it ends.
fn block(rest: &[u8]) -> (usize, bool) {
    let (mut depth, mut at) = (0_usize, 0_usize);
    while let Some(here) = rest.get(at..).filter(|here| !here.is_empty()) {
        if here.starts_with(b"/*") {
            depth = depth.saturating_add(1);
            at = at.saturating_add(2);
        } else if here.starts_with(b"*/") {
            depth = depth.saturating_sub(1);
            at = at.saturating_add(2);
            if depth == 0 {
                return (at, true);
            }
        } else {
            at = at.saturating_add(1);
        }
    }
    (rest.len(), false)
}

/// A parameter, a dollar-quoted string, or a dollar.
fn dollar(tokens: &mut Vec<Token>, text: &[u8], at: usize) -> usize {
    let rest = text.get(at.saturating_add(1)..).unwrap_or_default();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > 0 {
        return at.saturating_add(1).saturating_add(digits);
    }
    let tag = rest.iter().take_while(|byte| is_name(**byte) || byte.is_ascii_digit()).count();
    if rest.get(tag) != Some(&b'$') {
        return at.saturating_add(1);
    }
    let start = at.saturating_add(tag).saturating_add(2);
    let delimiter = text.get(at..start).unwrap_or_default();
    let body = text.get(start..).unwrap_or_default();
    let length = find(body, delimiter).unwrap_or(body.len());
    let content = start..start.saturating_add(length);
    let end = content.end.saturating_add(delimiter.len()).min(text.len());
    let value = text.get(content.clone()).unwrap_or_default().to_vec();
    tokens.push(Token { kind: Kind::Body, whole: at..end, content, value, opaque: false });
    end
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let next = text.get(from..)?.iter().position(|byte| *byte == b'$')?;
        from = from.checked_add(next)?;
        if text.get(from..)?.starts_with(what) {
            return Some(from);
        }
        from = from.checked_add(1)?;
    }
}

fn number(tokens: &mut Vec<Token>, text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    let mut length = 0;
    while let Some(byte) = rest.get(length).copied() {
        let exponent = matches!(byte, b'+' | b'-') && length > 0 && matches!(rest.get(length.saturating_sub(1)), Some(b'e' | b'E'));
        if !(byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_' || exponent) {
            break;
        }
        length = length.saturating_add(1);
    }
    let end = at.saturating_add(length);
    tokens.push(Token {
        kind: Kind::Number,
        whole: at..end,
        content: at..end,
        value: rest.get(..length).unwrap_or_default().to_vec(),
        opaque: false,
    });
    end
}
