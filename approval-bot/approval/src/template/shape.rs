//! The text of a template: fixed bytes with placeholders, matched byte by byte.
//!
//! A statement matches when it is the very text with its values bound, or the text with a plain literal in each placeholder's place. The
//! texts that are taken are simple enough for this small lexer to be sure of what is a placeholder: no comments, no dollar quotes, no
//! escape strings. A literal can then not end where it should not: it stands between delimiters, which are part of the reviewed text.

use std::collections::BTreeMap;

use super::bounds::{Bounds, Literal};
use crate::Parameter;

/// A parsed text.
#[derive(Debug)]
pub(super) struct Shape<'a> {
    text: &'a str,
    pieces: Vec<Piece<'a>>,
}

#[derive(Debug, Clone, Copy)]
enum Piece<'a> {
    Fixed(&'a [u8]),
    /// A parameter, from 0, and the byte before it.
    Value(usize, u8),
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

impl<'a> Shape<'a> {
    /// Parses a template's text with so many parameters, each of which must be there.
    pub(super) fn parse(text: &'a str, parameters: usize) -> Result<Self, &'static str> {
        let bytes = text.as_bytes();
        if bytes.iter().any(|byte| matches!(byte, b'\\' | 0)) {
            return Err("a template's text must not hold backslashes or NUL");
        }
        let (mut pieces, mut start, mut at) = (Vec::new(), 0, 0);
        let mut found = vec![false; parameters];
        let at_or = |at: usize, other: u8| bytes.get(at).copied().unwrap_or(other);
        while let Some(&byte) = bytes.get(at) {
            let before = if at == 0 { b' ' } else { at_or(at.saturating_sub(1), b' ') };
            match byte {
                b'-' if at_or(at + 1, b' ') == b'-' => return Err("a template's text must not hold comments"),
                b'/' if at_or(at + 1, b' ') == b'*' => return Err("a template's text must not hold comments"),
                b';' if !rest_is_empty(bytes.get(at..).unwrap_or_default()) => return Err("a template is one statement"),
                b'\'' | b'"' => {
                    if byte == b'\'' && (is_name(before) || before == b'&') {
                        return Err("a template's strings must be plain ones, without a letter before the quote");
                    }
                    if byte == b'"' && before == b'&' {
                        return Err("a template's names must not use Unicode escapes");
                    }
                    at += 1;
                    at += bytes.get(at..).and_then(|rest| rest.iter().position(|other| *other == byte)).ok_or("a quote is not closed")?;
                }
                b'$' => {
                    let digits = bytes.get(at + 1..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
                    let end = at + 1 + digits;
                    let number: usize = text
                        .get(at + 1..end)
                        .and_then(|digits| digits.parse().ok())
                        .ok_or("a template's text must not hold dollar quotes")?;
                    let place = number
                        .checked_sub(1)
                        .and_then(|index| found.get_mut(index))
                        .ok_or("a placeholder has no bounds in [[parameters]]")?;
                    *place = true;
                    if !(is_space(before) || matches!(before, b'(' | b',' | b'=' | b'<' | b'>')) {
                        return Err("a placeholder must stand behind white space, a parenthesis, a comma or a comparison");
                    }
                    let after = bytes.get(end..).unwrap_or_default();
                    let next = after.iter().copied().find(|byte| !is_space(*byte));
                    let delimited = after.first().is_none_or(|byte| is_space(*byte) || matches!(byte, b')' | b',' | b';'));
                    if !delimited || next == Some(b'\'') || quote_before(bytes.get(..at).unwrap_or_default()) {
                        return Err("a placeholder must stand before white space, a parenthesis or a comma, and not beside a string");
                    }
                    pieces.push(Piece::Fixed(bytes.get(start..at).unwrap_or_default()));
                    pieces.push(Piece::Value(number.saturating_sub(1), before));
                    (start, at) = (end, end);
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        if found.contains(&false) {
            return Err("[[parameters]] has bounds for a placeholder that is not in the statement");
        }
        let last = trimmed(bytes.get(start..).unwrap_or_default());
        if pieces.is_empty() && last.is_empty() {
            return Err("a template needs a statement");
        }
        pieces.push(Piece::Fixed(last));
        Ok(Self { text, pieces })
    }

    /// Whether a statement is of this shape with values within bounds.
    pub(super) fn admits(&self, text: &[u8], parameters: &[Parameter<'_>], bounds: &[Bounds]) -> Result<(), &'static str> {
        if parameters.is_empty() {
            return self.admits_literals(text, bounds);
        }
        if trimmed(text) != trimmed(self.text.as_bytes()) {
            return Err("the text is another");
        }
        if parameters.len() != bounds.len() {
            return Err("the number of values is another");
        }
        if bounds.iter().zip(parameters).all(|(bounds, parameter)| bounds.admits(parameter)) {
            Ok(())
        } else {
            Err("a value is out of bounds")
        }
    }

    fn admits_literals(&self, text: &[u8], bounds: &[Bounds]) -> Result<(), &'static str> {
        const OTHER: &str = "the text is another";
        let mut rest = text;
        let mut seen: BTreeMap<usize, Literal> = BTreeMap::new();
        for piece in &self.pieces {
            match piece {
                Piece::Fixed(bytes) => rest = rest.strip_prefix(*bytes).ok_or(OTHER)?,
                Piece::Value(index, before) => {
                    let (literal, length) = literal(rest, *before).ok_or("a value is no plain literal")?;
                    rest = rest.get(length..).ok_or(OTHER)?;
                    if !bounds.get(*index).is_some_and(|bounds| bounds.admits_literal(&literal)) {
                        return Err("a value is out of bounds");
                    }
                    if seen.get(index).is_some_and(|earlier| *earlier != literal) {
                        return Err("one placeholder has two values");
                    }
                    seen.insert(*index, literal);
                }
            }
        }
        if rest_is_empty(rest) { Ok(()) } else { Err(OTHER) }
    }
}

/// A plain literal at the beginning of a text, and its length.
fn literal(text: &[u8], before: u8) -> Option<(Literal, usize)> {
    let first = *text.first()?;
    if first == b'\'' {
        return string(text);
    }
    for word in [&b"true"[..], b"false"] {
        if text.starts_with(word) {
            return Some((Literal::Boolean, word.len())).filter(|(_, length)| ends(text.get(*length)));
        }
    }
    // Behind an operator a minus would be part of that operator, or begin a comment.
    let sign = usize::from(first == b'-');
    if sign == 1 && !(is_space(before) || matches!(before, b'(' | b',')) {
        return None;
    }
    let length = sign + text.get(sign..)?.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    let number = std::str::from_utf8(text.get(..length)?).ok()?;
    (length > sign && ends(text.get(length))).then(|| (Literal::Number(number.to_owned()), length))
}

/// Whether a literal may end before this byte.
fn ends(next: Option<&u8>) -> bool {
    next.is_none_or(|byte| is_space(*byte) || matches!(byte, b')' | b',' | b';'))
}

fn string(text: &[u8]) -> Option<(Literal, usize)> {
    let (mut value, mut at) = (Vec::new(), 1);
    loop {
        match text.get(at)? {
            b'\\' | 0 => return None,
            b'\'' if text.get(at + 1) == Some(&b'\'') => {
                value.push(b'\'');
                at += 2;
            }
            b'\'' => break,
            byte => {
                value.push(*byte);
                at += 1;
            }
        }
    }
    let length = at + 1;
    ends(text.get(length)).then_some(())?;
    // A string goes on when another follows on a new line.
    let goes_on = text.get(length..)?.iter().find(|byte| !is_space(**byte)) == Some(&b'\'');
    (!goes_on).then_some(())?;
    Some((Literal::Text(String::from_utf8(value).ok()?), length))
}

fn quote_before(text: &[u8]) -> bool {
    text.iter().rev().find(|byte| !is_space(**byte)) == Some(&b'\'')
}

/// Whether nothing but the end of a statement is left.
fn rest_is_empty(text: &[u8]) -> bool {
    text.iter().all(|byte| is_space(*byte) || *byte == b';')
}

/// Without the end of a statement.
fn trimmed(text: &[u8]) -> &[u8] {
    let length = text.iter().rposition(|byte| !is_space(*byte) && *byte != b';').map_or(0, |last| last + 1);
    text.get(..length).unwrap_or_default()
}
