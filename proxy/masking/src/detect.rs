//! Finding personal data by its pattern, in text nobody declared to hold any.
//!
//! A net under the column masks, never the permission: what no detector finds may still be personal. One pass over the bytes, eight at a time
//! (`starts`); only a byte that can begin a pattern is looked at further, and never by more than [`LONGEST`] bytes, so that time is linear in
//! the length. A policy's own patterns are regular expressions of bounded length, for the same reason.

mod escapes;
mod names;
mod numbers;
mod own;
mod redact;
mod starts;
mod words;

use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;

pub use own::{InvalidPattern, Pattern};
pub(crate) use redact::Form;
use starts::Starts;

/// No pattern looks further than this from where it begins.
pub const LONGEST: usize = 320;

/// No built-in pattern but an address has fewer digits.
const FEWEST_DIGITS: usize = 6;

/// What a detector found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// US social security number: `ddd-dd-dddd` as the Social Security Administration gives them out, or nine digits after a word that
    /// says what they are.
    Ssn,
    /// Payment card number of a known network, with a valid check digit (ISO/IEC 7812, Luhn).
    Card,
    /// International bank account number with a valid check (ISO 13616, mod 97).
    Iban,
    /// US routing number: nine digits with a valid check in a range that is in use (ABA).
    Routing,
    /// Account number: 6 to 17 digits after a word that says what they are. There is no check to tell it from other numbers.
    Account,
    /// E-mail address.
    Email,
    /// Telephone number: North American with separators, or international with `+`.
    Phone,
    /// The policy's own pattern of this number.
    Own(u16),
}

impl Kind {
    /// The built-in ones.
    pub const BUILT_IN: [Self; 7] = [Self::Ssn, Self::Card, Self::Iban, Self::Routing, Self::Account, Self::Email, Self::Phone];

    /// Name for policies, logs and metrics; those of the policy's own have their names in the policy.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ssn => "ssn",
            Self::Card => "card",
            Self::Iban => "iban",
            Self::Routing => "routing",
            Self::Account => "account",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Own(_) => "own",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Ssn => 1,
            Self::Card => 2,
            Self::Iban => 4,
            Self::Routing => 8,
            Self::Account => 16,
            Self::Email => 32,
            Self::Phone => 64,
            Self::Own(_) => 128,
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

/// A set of detectors. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Detectors {
    kinds: u8,
    /// Kinds that the name of the column says its values are.
    said: u8,
    own: Option<Arc<own::Patterns>>,
}

impl Detectors {
    /// All that are built in.
    #[must_use]
    pub fn standard() -> Self {
        Self::of(&Kind::BUILT_IN)
    }

    /// Some of those that are built in.
    #[must_use]
    pub fn of(kinds: &[Kind]) -> Self {
        Self { kinds: kinds.iter().fold(0, |bits, kind| bits | kind.bit()) & !Kind::Own(0).bit(), said: 0, own: None }
    }

    /// The same with patterns of the policy's own.
    ///
    /// # Errors
    /// When they are too large together.
    pub fn with(mut self, patterns: Vec<Pattern>) -> Result<Self, InvalidPattern> {
        if !patterns.is_empty() {
            self.own = Some(Arc::new(own::Patterns::new(patterns)?));
        }
        Ok(self)
    }

    /// The same for the values of a column with one of these names: `ssn` says what nine digits are as the word before them would.
    #[must_use]
    pub fn for_column(&self, names: &[&str]) -> Self {
        let said = names.iter().fold(0, |bits, name| bits | names::kinds(name).iter().fold(0, |bits, kind| bits | kind.bit()));
        Self { said: said & self.kinds, ..self.clone() }
    }

    /// Whether the column's name says that its values are of that kind.
    const fn says(&self, kind: Kind) -> bool {
        self.said & kind.bit() != 0
    }

    /// Whether a column's name says anything.
    pub(crate) const fn says_any(&self) -> bool {
        self.said != 0
    }

    /// What a number in a column of numbers is; its digits in ASCII, without sign and leading zeros. A card's has a check digit, for the rest
    /// the column's name has to speak: numbers that count things are not to change.
    pub(crate) fn number(&self, digits: &[u8]) -> Option<Kind> {
        let nine = || numbers::padded(digits);
        let card = self.wants(Kind::Card) && numbers::is_card(digits);
        let found = |kind| match kind {
            Kind::Ssn => nine().is_some_and(|digits| numbers::is_ssn(&digits)),
            Kind::Routing => nine().is_some_and(|digits| numbers::is_routing(&digits)),
            Kind::Account => (6..=17).contains(&digits.len()),
            Kind::Phone => numbers::is_phone(digits),
            _ => false,
        };
        let said = [Kind::Ssn, Kind::Routing, Kind::Account, Kind::Phone];
        if card { Some(Kind::Card) } else { said.into_iter().find(|kind| self.says(*kind) && found(*kind)) }
    }

    /// Whether any number could be one of those.
    pub(crate) const fn wants_numbers(&self) -> bool {
        self.wants(Kind::Card) || self.says_any()
    }

    /// Appends the digits of such a number with all but the last few hidden, as many as they were: `1000000000001111`.
    pub(crate) fn hide_number(&self, kind: Kind, digits: &[u8], out: &mut BytesMut) {
        redact::hide_number(digits, self.shown(kind).unwrap_or_default(), out);
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.kinds == 0 && self.own.is_none()
    }

    /// Whether there is a detector of that kind.
    #[must_use]
    pub const fn wants(&self, kind: Kind) -> bool {
        self.kinds & kind.bit() != 0
    }

    /// What is in a value, in order and without overlaps. The value need not be UTF-8.
    #[must_use]
    pub fn scan(&self, value: &[u8]) -> Vec<Found> {
        let mut found = Vec::new();
        let escape = self.each(value, |hit| {
            found.push(hit);
            true
        });
        if let Some(own) = &self.own {
            own.join(value, &mut found);
        }
        if escape {
            if let Some(plain) = escapes::Plain::of(value) {
                let mut read = Vec::new();
                self.each(&plain.bytes, |hit| {
                    read.push(hit);
                    true
                });
                if let Some(own) = &self.own {
                    own.join(&plain.bytes, &mut read);
                }
                found.extend(read.into_iter().filter_map(|hit| Some(Found { kind: hit.kind, range: plain.place(&hit.range)? })));
            }
            found.extend(words::hexadecimal(value).filter_map(|(range, bytes)| {
                let kind = self.first_in_hexadecimal(&bytes)?;
                Some(Found { kind, range })
            }));
            own::join(&mut found);
        }
        found
    }

    /// What is first in bytes that a text has in hexadecimal; in what is no text only what does not stand there by chance.
    fn first_in_hexadecimal(&self, bytes: &[u8]) -> Option<Kind> {
        if bytes.iter().all(|byte| (*byte >= b' ' || byte.is_ascii_whitespace()) && *byte != b'\\') {
            return self.scan(bytes).first().map(|found| found.kind);
        }
        let mut first = None;
        self.each(bytes, |hit| {
            first = is_sure(&hit, bytes).then_some(hit.kind);
            first.is_none()
        });
        first
    }

    /// Whether anything is in a value.
    #[must_use]
    pub fn finds(&self, value: &[u8]) -> bool {
        let mut any = false;
        let escape = self.each(value, |_| {
            any = true;
            false
        });
        any || self.own.as_ref().is_some_and(|own| own.is_match(value))
            || (escape
                && (escapes::Plain::of(value).is_some_and(|plain| self.finds_plainly(&plain.bytes))
                    || words::hexadecimal(value).any(|(_, bytes)| self.first_in_hexadecimal(&bytes).is_some())))
    }

    /// The same in bytes as they stand.
    fn finds_plainly(&self, value: &[u8]) -> bool {
        let mut any = false;
        self.each(value, |_| {
            any = true;
            false
        });
        any || self.own.as_ref().is_some_and(|own| own.is_match(value))
    }

    /// Appends the value to `out` with what was found hidden, and says how much that was. Length and layout stay, as do the last four
    /// digits of numbers (none of a routing number or account), and the first character and domain of an address. Only ASCII is replaced,
    /// by ASCII, so that UTF-8 stays UTF-8 and XML stays XML.
    pub fn redact(&self, value: &[u8], out: &mut BytesMut) -> usize {
        self.redact_as(Form::Text, value, out)
    }

    pub(crate) fn redact_as(&self, form: Form, value: &[u8], out: &mut BytesMut) -> usize {
        let found = self.scan(value);
        redact::hide_all(form, value, &found, |kind| self.shown(kind), out);
        found.len()
    }

    /// The same for bytes that are no text: only what does not stand there by chance.
    pub(crate) fn redact_bytes(&self, value: &[u8], out: &mut BytesMut) -> usize {
        let mut found = Vec::new();
        self.each(value, |hit| {
            if is_sure(&hit, value) {
                found.push(hit);
            }
            true
        });
        redact::hide_all(Form::Text, value, &found, |kind| self.shown(kind), out);
        found.len()
    }

    /// Whether [`Self::redact_bytes`] changes anything.
    pub(crate) fn finds_in_bytes(&self, value: &[u8]) -> bool {
        let mut any = false;
        self.each(value, |hit| {
            any = is_sure(&hit, value);
            !any
        });
        any
    }

    /// How many characters at the end stay; `None` for an address.
    fn shown(&self, kind: Kind) -> Option<usize> {
        match kind {
            Kind::Email => None,
            Kind::Routing | Kind::Account => Some(0),
            Kind::Ssn | Kind::Card | Kind::Iban | Kind::Phone => Some(4),
            Kind::Own(index) => Some(self.own.as_ref().map_or(0, |own| own.keep(index))),
        }
    }

    /// Hands out what the built-in detectors find until `hit` says that it is enough. Gives whether escapes may begin in the value, as
    /// far as it was looked at.
    fn each(&self, value: &[u8], mut hit: impl FnMut(Found) -> bool) -> bool {
        // Where the next pattern may begin at the earliest.
        let mut free = 0;
        let mut starts = Starts::of(value);
        for at in starts.by_ref() {
            if at < free {
                continue;
            }
            let found = match value.get(at) {
                Some(b'0'..=b'9') => self.iban(value, at, free).or_else(|| self.first(numbers::kinds_at(value, at), value, at)),
                Some(b'+' | b'(') => self.first(&[Kind::Phone], value, at),
                Some(b'@') if self.wants(Kind::Email) => words::address(value, at, free).map(|range| (Kind::Email, range)),
                _ => None,
            };
            if let Some((kind, range)) = found {
                free = range.end;
                if !hit(Found { kind, range }) {
                    break;
                }
            }
        }
        starts.saw_escape()
    }

    /// An IBAN whose check digits are here.
    fn iban(&self, value: &[u8], at: usize, free: usize) -> Option<(Kind, Range<usize>)> {
        let start = at.checked_sub(2).filter(|start| *start >= free && self.wants(Kind::Iban))?;
        words::iban(value, start).map(|end| (Kind::Iban, start..end))
    }

    /// The first of some kinds that matches here.
    fn first(&self, kinds: &[Kind], value: &[u8], at: usize) -> Option<(Kind, Range<usize>)> {
        kinds.iter().filter(|kind| self.wants(**kind)).find_map(|kind| {
            let end = match kind {
                Kind::Ssn => numbers::ssn(value, at, self.says(Kind::Ssn)),
                Kind::Card => numbers::card(value, at),
                Kind::Phone => numbers::phone(value, at, self.says(Kind::Phone)),
                Kind::Routing => numbers::routing(value, at),
                Kind::Account => numbers::account(value, at, self.says(Kind::Account)),
                Kind::Iban | Kind::Email | Kind::Own(_) => None,
            }?;
            Some((*kind, at..end))
        })
    }
}

/// Whether something found in bytes that are no text is more than chance: a check digit, or hyphens in their places.
fn is_sure(hit: &Found, value: &[u8]) -> bool {
    match hit.kind {
        Kind::Card | Kind::Iban => true,
        Kind::Ssn => value.get(hit.range.clone()).is_some_and(|found| found.contains(&b'-')),
        _ => false,
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// A number does not begin inside a word, a longer number or a UUID.
fn begins_number(value: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|index| value.get(index));
    !before.is_some_and(|byte| is_word(*byte)) && begins_digits(value, at)
}

/// One with a check, with separators, or behind a word that says what it is, may begin inside a word (`card4111…`), but not inside a longer number or
/// a UUID.
fn begins_digits(value: &[u8], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|index| value.get(index)).copied();
    match before(1) {
        None => true,
        Some(b'0'..=b'9') => false,
        Some(b'-' | b'.') => {
            let digit = before(2).is_some_and(|byte| byte.is_ascii_digit());
            let group = (2..=5).all(|back| before(back).is_some_and(|byte| byte.is_ascii_hexdigit()));
            !digit && !group
        }
        Some(_) => true,
    }
}

/// Nor does one end there.
fn ends_number(value: &[u8], end: usize) -> bool {
    !value.get(end).is_some_and(|byte| is_word(*byte)) && ends_digits(value, end)
}

/// Nor does one of the others end within a longer number.
fn ends_digits(value: &[u8], end: usize) -> bool {
    match value.get(end) {
        None => true,
        Some(b'0'..=b'9') => false,
        Some(b'-' | b'.') => !value.get(end.saturating_add(1)).is_some_and(u8::is_ascii_digit),
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests;
