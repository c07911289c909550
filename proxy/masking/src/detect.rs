//! Finding personal data by its pattern, in text nobody declared to hold any.
//!
//! A net under the column masks, never the permission: what no detector finds may still be personal. One pass over the bytes, each
//! looked up in a table of classes; only a byte that can begin a pattern is looked at further, and never by more than
//! [`LONGEST`] bytes, so that time is linear in the length.

mod numbers;
mod words;

use std::ops::Range;

use bytes::BytesMut;

/// No pattern looks further than this from where it begins.
pub const LONGEST: usize = 320;

/// What a detector found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// US social security number, `ddd-dd-dddd`, as the Social Security Administration gives them out.
    Ssn,
    /// Payment card number of a known network, with a valid check digit (ISO/IEC 7812, Luhn).
    Card,
    /// International bank account number with a valid check (ISO 13616, mod 97).
    Iban,
    /// US routing number: nine digits with a valid check in a range that is in use (ABA).
    Routing,
    /// E-mail address.
    Email,
    /// Telephone number: North American with separators, or international with `+`.
    Phone,
}

impl Kind {
    /// Name for policies, logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ssn => "ssn",
            Self::Card => "card",
            Self::Iban => "iban",
            Self::Routing => "routing",
            Self::Email => "email",
            Self::Phone => "phone",
        }
    }
}

/// Something found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What.
    pub kind: Kind,
    /// Where in the value, bytes.
    pub range: Range<usize>,
}

/// A set of detectors.
#[derive(Debug, Clone)]
pub struct Detectors {
    kinds: Vec<Kind>,
}

impl Detectors {
    /// All of them.
    #[must_use]
    pub fn standard() -> Self {
        Self::of(&[Kind::Ssn, Kind::Card, Kind::Iban, Kind::Routing, Kind::Email, Kind::Phone])
    }

    /// Some of them.
    #[must_use]
    pub fn of(kinds: &[Kind]) -> Self {
        Self { kinds: kinds.to_vec() }
    }

    /// What is in a value, in order and without overlaps. The value need not be UTF-8.
    #[must_use]
    pub fn scan(&self, value: &[u8]) -> Vec<Found> {
        let mut found = Vec::new();
        self.each(value, |hit| found.push(hit));
        found
    }

    /// Appends the value to `out` with what was found hidden, and says how much that was. Length and layout stay, as do the last four
    /// digits of numbers (none of a routing number), and the first character and domain of an address. Only ASCII is replaced, by
    /// ASCII, so that UTF-8 stays UTF-8 and JSON stays JSON.
    pub fn redact(&self, value: &[u8], out: &mut BytesMut) -> usize {
        let mut hits = 0_usize;
        let mut copied = 0;
        self.each(value, |Found { kind, range }| {
            out.extend_from_slice(value.get(copied..range.start).unwrap_or_default());
            let hidden = value.get(range.clone()).unwrap_or_default();
            match kind {
                Kind::Email => words::hide_address(hidden, out),
                Kind::Routing => hide(hidden, 0, out),
                Kind::Ssn | Kind::Card | Kind::Iban | Kind::Phone => hide(hidden, 4, out),
            }
            copied = range.end;
            hits = hits.saturating_add(1);
        });
        out.extend_from_slice(value.get(copied..).unwrap_or_default());
        hits
    }

    fn each(&self, value: &[u8], mut hit: impl FnMut(Found)) {
        // Where the next pattern may begin at the earliest.
        let mut free = 0;
        let mut at = 0;
        while let Some(byte) = value.get(at) {
            let range = match class(*byte) {
                Class::Plain => {
                    at += 1;
                    continue;
                }
                Class::Digit => {
                    if !begins_number(value, at) {
                        at = numbers::end_of_digits(value, at);
                        continue;
                    }
                    self.first(&[Kind::Ssn, Kind::Card, Kind::Phone, Kind::Routing], value, at)
                }
                Class::Sign => self.first(&[Kind::Phone], value, at),
                Class::Upper => self.first(&[Kind::Iban], value, at),
                Class::At => self.wants(Kind::Email).then(|| words::address(value, at, free)).flatten().map(|range| (Kind::Email, range)),
            };
            match range {
                Some((kind, range)) => {
                    at = range.end;
                    free = range.end;
                    hit(Found { kind, range });
                }
                None if class(*byte) == Class::Digit => at = numbers::end_of_digits(value, at),
                None => at += 1,
            }
        }
    }

    fn wants(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// The first of some kinds that matches here.
    fn first(&self, kinds: &[Kind], value: &[u8], at: usize) -> Option<(Kind, Range<usize>)> {
        kinds.iter().filter(|kind| self.wants(**kind)).find_map(|kind| {
            let end = match kind {
                Kind::Ssn => numbers::ssn(value, at),
                Kind::Card => numbers::card(value, at),
                Kind::Phone => numbers::phone(value, at),
                Kind::Routing => numbers::routing(value, at),
                Kind::Iban => words::iban(value, at),
                Kind::Email => None,
            }?;
            Some((*kind, at..end))
        })
    }
}

/// Stars for all letters and digits but the last few.
fn hide(hidden: &[u8], shown: usize, out: &mut BytesMut) {
    let mut left = hidden.iter().filter(|byte| byte.is_ascii_alphanumeric()).count();
    for byte in hidden {
        let significant = byte.is_ascii_alphanumeric();
        out.extend_from_slice(&[if significant && left > shown { b'*' } else { *byte }]);
        left = left.saturating_sub(usize::from(significant));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Digit,
    Upper,
    Sign,
    At,
}

const fn class(byte: u8) -> Class {
    match byte {
        b'0'..=b'9' => Class::Digit,
        b'A'..=b'Z' => Class::Upper,
        b'+' | b'(' => Class::Sign,
        b'@' => Class::At,
        _ => Class::Plain,
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// A number does not begin inside a word, a longer number or a UUID.
fn begins_number(value: &[u8], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|index| value.get(index)).copied();
    match before(1) {
        None => true,
        Some(byte) if is_word(byte) => false,
        Some(b'-' | b'.') => !before(2).is_some_and(|byte| byte.is_ascii_hexdigit()),
        Some(_) => true,
    }
}

/// Nor does one end there.
fn ends_number(value: &[u8], end: usize) -> bool {
    match value.get(end) {
        None => true,
        Some(byte) if is_word(*byte) => false,
        Some(b'-' | b'.') => !value.get(end.saturating_add(1)).is_some_and(u8::is_ascii_digit),
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests;
