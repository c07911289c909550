//! Patterns of digits. Each gives the end of a match that begins at `at`.

use super::{Kind, begins_digits, begins_number, ends_digits, ends_number};

/// The first byte after a run of digits.
pub(super) fn end_of_digits(value: &[u8], at: usize) -> usize {
    let digits = value.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
    at.saturating_add(digits)
}

/// The kinds of number that can begin at `at`, most certain first: how many digits follow and what comes after them leaves few.
pub(super) fn kinds_at(value: &[u8], at: usize) -> &'static [Kind] {
    let end = end_of_digits(value, at);
    let grouped = match value.get(end) {
        Some(next) => matches!(next, b'-' | b' ' | b'.') || !next.is_ascii(),
        None => false,
    };
    match (end.saturating_sub(at), grouped) {
        (1, true) => &[Kind::Phone],
        (3, true) => &[Kind::Ssn, Kind::Phone],
        (4, true) => &[Kind::Card],
        (9, _) => &[Kind::Ssn, Kind::Routing, Kind::Account],
        (6..=8, _) => &[Kind::Account],
        (10..=12, _) => &[Kind::Phone, Kind::Account],
        (13..=15, _) => &[Kind::Card, Kind::Phone, Kind::Account],
        (16..=17, _) => &[Kind::Card, Kind::Account],
        (18..=19, _) => &[Kind::Card],
        _ => &[],
    }
}

/// Separators beyond ASCII that stand where a hyphen or a space would: hyphens, dashes, the minus sign, spaces that do not break.
const WIDE_SEPARATORS: [&[u8]; 9] = [
    "\u{2010}".as_bytes(),
    "\u{2011}".as_bytes(),
    "\u{2012}".as_bytes(),
    "\u{2013}".as_bytes(),
    "\u{2014}".as_bytes(),
    "\u{2212}".as_bytes(),
    "\u{00a0}".as_bytes(),
    "\u{2009}".as_bytes(),
    "\u{202f}".as_bytes(),
];

/// The separator at the start of `rest`.
fn separator<'a>(rest: &'a [u8], ascii: &[u8]) -> Option<&'a [u8]> {
    let first = rest.first()?;
    if ascii.contains(first) {
        return rest.get(..1);
    }
    if first.is_ascii() || ascii.is_empty() {
        return None;
    }
    WIDE_SEPARATORS.iter().find(|wide| rest.starts_with(wide)).and_then(|wide| rest.get(..wide.len()))
}

/// The values of at most 19 digits; without memory of its own, since most candidates are none.
#[derive(Default)]
struct Digits {
    values: [u8; 19],
    length: usize,
}

impl Digits {
    fn push(&mut self, group: &[u8]) {
        for (slot, byte) in self.values.iter_mut().skip(self.length).zip(group) {
            *slot = byte.wrapping_sub(b'0');
        }
        self.length = self.length.saturating_add(group.len()).min(self.values.len());
    }
}

impl std::ops::Deref for Digits {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.values.get(..self.length).unwrap_or_default()
    }
}

/// Reads groups of exactly these lengths with one of the separators between them, always the same; gives the digits and the end.
fn groups<const N: usize>(value: &[u8], at: usize, lengths: [usize; N], separators: &[u8]) -> Option<(Digits, usize)> {
    let mut digits = Digits::default();
    let mut position = at;
    let mut known = None;
    for (index, length) in lengths.into_iter().enumerate() {
        if index > 0 {
            let found = separator(value.get(position..)?, separators)?;
            if known.is_some_and(|known| known != found) {
                return None;
            }
            known = Some(found);
            position = position.checked_add(found.len())?;
        }
        let end = position.checked_add(length)?;
        let group = value.get(position..end)?;
        if !group.iter().all(u8::is_ascii_digit) {
            return None;
        }
        digits.push(group);
        position = end;
    }
    Some((digits, position))
}

/// <https://www.ssa.gov/employer/randomization.html>: no area 000, 666 or 9xx, no group 00, no serial 0000.
pub(super) fn ssn(value: &[u8], at: usize, said: bool) -> Option<usize> {
    let (digits, end) = groups(value, at, [3, 2, 4], b"- .").filter(|_| !is_fraction(value, at)).or_else(|| {
        let bare = groups(value, at, [9], b"")?;
        (begins_digits(value, at) && (said || announced(value, at, &SSN_WORDS))).then_some(bare)
    })?;
    (is_ssn(&digits) && ends_digits(value, end)).then_some(end)
}

/// Whether nine digits (their values) were ever given out.
pub(super) fn is_ssn(digits: &[u8]) -> bool {
    let number = |range: std::ops::Range<usize>| {
        digits.get(range).map_or(0, |digits| digits.iter().fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit)))
    };
    let (area, group, serial) = (number(0..3), number(3..5), number(5..9));
    digits.len() == 9 && area != 0 && area != 666 && area < 900 && group != 0 && serial != 0
}

/// The values of at most nine digits in ASCII, with the zeros before them that a number does not have.
pub(super) fn padded(digits: &[u8]) -> Option<[u8; 9]> {
    let mut values = [0; 9];
    let from = values.len().checked_sub(digits.len())?;
    for (slot, byte) in values.iter_mut().skip(from).zip(digits) {
        *slot = byte.checked_sub(b'0')?;
    }
    Some(values)
}

/// What stands before a social security number without hyphens.
const SSN_WORDS: [&[u8]; 5] = [b"ssn", b"social", b"soc sec", b"soc_sec", b"socsec"];
/// What stands before an account number.
const ACCOUNT_WORDS: [&[u8]; 7] = [b"account", b"acct", b"a/c", b"acc no", b"acc_no", b"accno", b"konto"];
/// How far before a number the word for it may begin.
const ANNOUNCED_WITHIN: usize = 28;

/// Whether one of some words stands a little before `at`, with no other number and no end of a line between.
fn announced(value: &[u8], at: usize, words: &[&[u8]]) -> bool {
    let from = at.saturating_sub(ANNOUNCED_WITHIN);
    let before = value.get(from..at).unwrap_or_default();
    let start = before
        .iter()
        .rposition(|byte| byte.is_ascii_digit() || matches!(byte, b'\n' | b'\r' | b';' | 0))
        .map_or(0, |cut| cut.saturating_add(1));
    let before = before.get(start..).unwrap_or_default();
    // All the words begin with one of few letters.
    before.iter().enumerate().filter(|(_, byte)| matches!(**byte | 0x20, b'a' | b'k' | b's')).any(|(index, _)| {
        let rest = before.get(index..).unwrap_or_default();
        words.iter().any(|word| rest.get(..word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word)))
    })
}

/// Six to seventeen digits that something before them says are an account's.
pub(super) fn account(value: &[u8], at: usize, said: bool) -> Option<usize> {
    let end = end_of_digits(value, at);
    let fits = (6..=17).contains(&end.checked_sub(at)?) && ends_number(value, end) && begins_digits(value, at);
    (fits && ((said && begins_number(value, at)) || announced(value, at, &ACCOUNT_WORDS))).then_some(end)
}

/// Thirteen to nineteen digits, in one run or as cards have them printed.
pub(super) fn card(value: &[u8], at: usize) -> Option<usize> {
    let run = end_of_digits(value, at).saturating_sub(at);
    let found = match run {
        13..=19 if is_fraction(value, at) || is_in_hexadecimal(value, at, at.saturating_add(run)) => None,
        13..=19 => groups(value, at, [run], b"").filter(|(_, end)| !goes_on(value, *end)).or_else(|| whole_part(value, at, run)),
        4 if !begins_digits(value, at) => None,
        4 => groups(value, at, [4, 4, 4, 4], b"- .")
            .or_else(|| groups(value, at, [4, 6, 5], b"- ."))
            .or_else(|| groups(value, at, [4, 6, 4], b"- ."))
            .filter(|(_, end)| ends_digits(value, *end) && !is_in_hexadecimal(value, at, *end)),
        _ => None,
    };
    let (digits, end) = found?;
    (is_issued(&digits) && luhn(&digits)).then_some(end)
}

/// Whether digits stand behind the point of a number.
fn is_fraction(value: &[u8], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|index| value.get(index));
    before(1) == Some(&b'.') && before(2).is_some_and(u8::is_ascii_digit)
}

/// Whether what stands around digits is a hash or a UUID rather than words.
fn is_in_hexadecimal(value: &[u8], at: usize, end: usize) -> bool {
    let is_part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
    let before = value.get(..at).unwrap_or_default().iter().rev().take(HASH).take_while(is_part);
    let around = before.chain(value.get(end..).unwrap_or_default().iter().take(HASH).take_while(is_part));
    around.clone().count() >= HASH && around.clone().any(u8::is_ascii_lowercase)
}

/// So many hexadecimal digits more are no word.
const HASH: usize = 8;

/// Whether a point and more digits follow.
fn goes_on(value: &[u8], end: usize) -> bool {
    value.get(end) == Some(&b'.') && value.get(end.saturating_add(1)).is_some_and(u8::is_ascii_digit)
}

/// The digits of a run, where a fraction follows and nothing else: `numeric` in the text of a row, a number in JSON.
fn whole_part(value: &[u8], at: usize, run: usize) -> Option<(Digits, usize)> {
    let end = at.checked_add(run)?;
    let fraction = end.checked_add(1)?;
    let over = end_of_digits(value, fraction);
    if value.get(end) != Some(&b'.') || over == fraction || !ends_number(value, over) {
        return None;
    }
    let mut digits = Digits::default();
    digits.push(value.get(at..end)?);
    Some((digits, end))
}

/// Whether these digits (ASCII) are a card's.
pub(super) fn is_card(digits: &[u8]) -> bool {
    if !(13..=19).contains(&digits.len()) {
        return false;
    }
    let mut values = Digits::default();
    values.push(digits);
    is_issued(&values) && luhn(&values)
}

/// Prefixes and lengths of the networks (ISO/IEC 7812-1 issuer identification numbers).
fn is_issued(digits: &[u8]) -> bool {
    let prefix = digits.iter().take(4).fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit));
    let length = digits.len();
    match prefix {
        4000..=4999 => matches!(length, 13 | 16 | 19),
        5100..=5599 | 2221..=2720 => length == 16,
        3400..=3499 | 3700..=3799 => length == 15,
        6011 | 6440..=6599 | 3528..=3589 => matches!(length, 16 | 19),
        3000..=3059 | 3600..=3699 | 3800..=3999 => length == 14,
        6200..=6299 => (16..=19).contains(&length),
        _ => false,
    }
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| {
            let digit = u32::from(*digit);
            match (index % 2, digit * 2) {
                (0, _) => digit,
                (_, doubled @ 0..=9) => doubled,
                (_, doubled) => doubled - 9,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// <https://www.aba.com/about-us/routing-number>: weights 3, 7, 1; first two digits 00-12, 21-32, 61-72 or 80.
pub(super) fn routing(value: &[u8], at: usize) -> Option<usize> {
    let (digits, end) = groups(value, at, [9], b"")?;
    (is_routing(&digits) && begins_number(value, at) && ends_number(value, end)).then_some(end)
}

/// Whether nine digits (their values) have a valid check and begin as those in use do.
pub(super) fn is_routing(digits: &[u8]) -> bool {
    let sum: u32 = digits.iter().zip([3, 7, 1].into_iter().cycle()).map(|(digit, weight)| u32::from(*digit) * weight).sum();
    let prefix = digits.iter().take(2).fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit));
    // 000000000 passes every check and is nobody's.
    digits.len() == 9 && sum != 0 && sum.is_multiple_of(10) && matches!(prefix, 0..=12 | 21..=32 | 61..=72 | 80)
}

/// Whether the digits (ASCII) of a number can be dialled: North American, or with a country's code before them.
pub(super) fn is_phone(digits: &[u8]) -> bool {
    let local = match digits {
        [b'1', local @ ..] if local.len() == 10 => local,
        _ => digits,
    };
    let starts = |at: usize| local.get(at).is_some_and(|digit| *digit >= b'2');
    (local.len() == 10 && starts(0) && starts(3)) || (11..=15).contains(&digits.len())
}

/// What stands before a telephone number, and what may stand between.
const PHONE_WORDS: [&[u8]; 12] =
    [b"phone", b"phones", b"ph", b"tel", b"telno", b"mobile", b"mob", b"cell", b"fax", b"whatsapp", b"sms", b"msisdn"];
const BETWEEN: [&[u8]; 14] =
    [b"no", b"nr", b"num", b"number", b"is", b"home", b"work", b"office", b"day", b"main", b"us", b"e", b"value", b"to"];

/// Whether a word says that what follows is a telephone number: right before it, or with words between that say nothing else.
fn announced_phone(value: &[u8], at: usize) -> bool {
    let from = at.saturating_sub(ANNOUNCED_WITHIN);
    let mut before = value.get(from..at).unwrap_or_default();
    loop {
        let gap = before.iter().rev().take_while(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'\n' | b'\r' | b';' | 0)).count();
        before = before.get(..before.len().saturating_sub(gap)).unwrap_or_default();
        let letters = before.iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let Some((rest, word)) = before.split_at_checked(before.len().saturating_sub(letters)) else { return false };
        let is_one_of = |word: &[u8], words: &[&[u8]]| words.iter().any(|known| word.eq_ignore_ascii_case(known));
        let ends_with = |end: &[u8]| {
            word.len().checked_sub(end.len()).and_then(|at| word.split_at_checked(at)).filter(|(_, last)| last.eq_ignore_ascii_case(end))
        };
        // `telephone`, `homePhone`, `phoneNumber`.
        let numbered = BETWEEN.iter().filter_map(|end| ends_with(end)).any(|(first, _)| is_one_of(first, &PHONE_WORDS));
        if is_one_of(word, &PHONE_WORDS) || ends_with(b"phone").is_some() || numbered {
            return true;
        }
        if word.is_empty() || !is_one_of(word, &BETWEEN) {
            return false;
        }
        before = rest;
    }
}

/// North American numbers need separators, others a `+` (ITU-T E.164: at most fifteen digits), unless the column or a word before says what they
/// are.
pub(super) fn phone(value: &[u8], at: usize, said: bool) -> Option<usize> {
    let end = end_of_digits(value, at);
    if begins_digits(value, at)
        && ends_number(value, end)
        && value.get(at..end).is_some_and(is_phone)
        && ((said && begins_number(value, at)) || announced_phone(value, at))
    {
        return Some(end);
    }
    let end = match value.get(at)? {
        b'+' => international(value, at),
        b'(' => {
            let area = value.get(at.checked_add(1)?..at.checked_add(4)?)?;
            let after = at.checked_add(4)?;
            if value.get(after) != Some(&b')') {
                return None;
            }
            let local = after.checked_add(if value.get(after.checked_add(1)?) == Some(&b' ') { 2 } else { 1 })?;
            let (digits, end) = groups(value, local, [3, 4], b"-. ")?;
            (is_exchange(area) && digits.first()? >= &2).then_some(end)
        }
        _ if !begins_digits(value, at) => None,
        b'1' => {
            let (digits, end) = groups(value, at, [1, 3, 3, 4], b"-. ")?;
            (digits.get(1)? >= &2 && digits.get(4)? >= &2).then_some(end)
        }
        _ => {
            let (digits, end) = groups(value, at, [3, 3, 4], b"-. ")?;
            (digits.first()? >= &2 && digits.get(3)? >= &2).then_some(end)
        }
    };
    end.filter(|end| ends_digits(value, *end))
}

fn is_exchange(digits: &[u8]) -> bool {
    digits.iter().all(u8::is_ascii_digit) && digits.first().is_some_and(|first| *first >= b'2')
}

fn international(value: &[u8], at: usize) -> Option<usize> {
    if at.checked_sub(1).and_then(|before| value.get(before)).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let mut digits = 0_usize;
    let mut end = None;
    let mut separated = true;
    for (offset, byte) in value.get(at..)?.iter().enumerate().skip(1).take(32) {
        let position = at.checked_add(offset)?;
        match byte {
            b'0' if digits == 0 => return None,
            b'0'..=b'9' => {
                digits = digits.checked_add(1)?;
                separated = false;
                if !value.get(position.checked_add(1)?).is_some_and(u8::is_ascii_digit) {
                    end = Some(position.checked_add(1)?);
                }
            }
            b' ' | b'-' | b'.' | b'(' | b')' if !separated || *byte == b'(' => separated = *byte != b')',
            _ => break,
        }
        if digits > 15 {
            return None;
        }
    }
    end.filter(|_| (8..=15).contains(&digits))
}
