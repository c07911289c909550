//! Numbers in columns of numbers: a card's in an `int8`, a social security number in a `numeric` named `ssn`, in ranges, points and arrays.
//!
//! What is found stays a number of the type, of as many digits: `1000000000001111`. Ranges become empty and geometric values that of nothing,
//! since another number in them might not be valid.

use std::fmt::Write as _;

use bytes::{BufMut as _, BytesMut};

use crate::detect::{Detectors, Kind};
use crate::{number, types};

/// A type of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Int4,
    Oid,
    /// `int8`, `xid8`.
    Int8,
    Numeric,
    Float8,
    /// Cents.
    Money,
}

/// Whole numbers that a `float8` has all of; cards are below.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// Fewer digits are no card's.
const FEWEST: usize = 13;

impl Number {
    /// The type of that OID.
    pub(super) const fn of(oid: u32) -> Option<Self> {
        Some(match oid {
            23 => Self::Int4,
            26 => Self::Oid,
            20 | 5069 => Self::Int8,
            1700 => Self::Numeric,
            701 => Self::Float8,
            790 => Self::Money,
            _ => return None,
        })
    }

    /// What ranges and multiranges of that OID are made of, and whether it is a multirange.
    pub(super) const fn of_range(oid: u32) -> Option<(Self, bool)> {
        Some(match oid {
            3904 => (Self::Int4, false),
            3906 => (Self::Numeric, false),
            3926 => (Self::Int8, false),
            4451 => (Self::Int4, true),
            4532 => (Self::Numeric, true),
            4536 => (Self::Int8, true),
            _ => return None,
        })
    }

    /// Whether values of the type can have enough digits for what the detectors look for.
    pub(super) const fn can_hold(self, detectors: &Detectors) -> bool {
        match self {
            Self::Int4 | Self::Oid => detectors.says_any(),
            Self::Int8 | Self::Numeric | Self::Float8 | Self::Money => detectors.wants_numbers(),
        }
    }

    /// What a value in binary format is, with its digits. The number of cents is no card's.
    fn find(self, detectors: &Detectors, value: &[u8]) -> Option<(Kind, Digits)> {
        let magnitude = match self {
            Self::Int4 => u128::from(i32::from_be_bytes(value.try_into().ok()?).unsigned_abs()),
            Self::Oid => u128::from(u32::from_be_bytes(value.try_into().ok()?)),
            Self::Int8 => u128::from(i64::from_be_bytes(value.try_into().ok()?).unsigned_abs()),
            Self::Money => u128::from(i64::from_be_bytes(value.try_into().ok()?).unsigned_abs() / 100),
            Self::Numeric => number::numeric_integer(value)?.unsigned_abs(),
            Self::Float8 => {
                let value = f64::from_be_bytes(value.try_into().ok()?);
                if value.abs() < 1e12 && !detectors.says_any() {
                    return None;
                }
                let digits = Digits::of_float(value)?;
                return Some((detectors.number(digits.as_bytes())?, digits));
            }
        };
        // Most numbers are small, and need no digits to be told from a card's.
        if magnitude < 1_000_000_000_000 && !detectors.says_any() {
            return None;
        }
        let digits = Digits::of(magnitude)?;
        Some((detectors.number(digits.as_bytes())?, digits))
    }

    /// Whether a value in binary format is something that detectors look for.
    pub(super) fn is_found(self, detectors: &Detectors, value: &[u8]) -> bool {
        self.find(detectors, value).is_some()
    }

    /// Appends what is shown of a value in binary format; `None`: nothing is hidden, and nothing was appended.
    pub(super) fn hide(self, detectors: &Detectors, value: &[u8], out: &mut BytesMut) -> Option<()> {
        let (kind, digits) = self.find(detectors, value)?;
        let hidden: i128 = digits.hidden(detectors, kind)?;
        let negative = match self {
            Self::Oid => false,
            Self::Numeric => value.get(4..6) == Some(&[0x40, 0]),
            _ => value.first().is_some_and(|byte| byte & 0x80 != 0),
        };
        let hidden = if negative { hidden.checked_neg()? } else { hidden };
        match self {
            Self::Int4 => out.put_i32(i32::try_from(hidden).ok()?),
            Self::Oid => out.put_u32(u32::try_from(hidden).ok()?),
            Self::Int8 => out.put_i64(i64::try_from(hidden).ok()?),
            Self::Money => out.put_i64(i64::try_from(hidden.checked_mul(100)?).ok()?),
            Self::Float8 => out.put_f64(hidden.to_string().parse().ok()?),
            Self::Numeric => {
                let start = out.len();
                number::numeric_encode(hidden, out)?;
                // As many places after the point as there were, all of them zero.
                let scale = start.checked_add(6)?..start.checked_add(8)?;
                out.get_mut(scale)?.copy_from_slice(value.get(6..8)?);
            }
        }
        Some(())
    }
}

/// Decimal digits of a whole number.
pub(super) struct Digits(String);

impl Digits {
    fn of(magnitude: u128) -> Option<Self> {
        let mut text = String::new();
        write!(text, "{magnitude}").ok()?;
        Some(Self(text))
    }

    /// The whole part, where the type has it exactly.
    fn of_float(value: f64) -> Option<Self> {
        let whole = value.abs().trunc();
        (whole < EXACT).then(|| Self(format!("{whole:.0}")))
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn hidden(&self, detectors: &Detectors, kind: Kind) -> Option<i128> {
        let mut out = BytesMut::new();
        detectors.hide_number(kind, self.as_bytes(), &mut out);
        std::str::from_utf8(&out).ok()?.parse().ok()
    }
}

/// Appends numbers in text with what is found in them hidden, whatever stands between them, and says how much that was. Of a number with a
/// fraction its whole part counts.
pub(super) fn redact_text(detectors: &Detectors, value: &[u8], out: &mut BytesMut) -> usize {
    let mut hits = 0_usize;
    let mut rest = value;
    while let Some(first) = rest.first() {
        let token = token(rest);
        if token == 0 {
            out.put_u8(*first);
            rest = rest.get(1..).unwrap_or_default();
            continue;
        }
        let (number, after) = rest.split_at_checked(token).unwrap_or((rest, &[]));
        rest = after;
        let whole = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, fraction) = number.split_at_checked(whole).unwrap_or((number, &[]));
        let float = if number.contains(&b'e') || number.contains(&b'E') { float(number) } else { None };
        let (digits, fraction) = float.as_ref().map_or((digits, fraction), |digits| (digits.as_bytes(), &[]));
        let significant = digits.iter().position(|digit| *digit != b'0').and_then(|at| digits.get(at..)).unwrap_or_default();
        match detectors.number(significant) {
            Some(kind) => {
                detectors.hide_number(kind, significant, out);
                out.extend_from_slice(fraction);
                hits = hits.saturating_add(1);
            }
            None => out.extend_from_slice(number),
        }
    }
    hits
}

/// Whether [`redact_text`] hides anything.
pub(super) fn is_found_in_text(detectors: &Detectors, value: &[u8]) -> bool {
    (may_be_long(value) || detectors.says_any()) && redact_text(detectors, value, &mut BytesMut::new()) > 0
}

/// The cheap look: whether a whole part has enough digits, or an exponent that may say so.
fn may_be_long(value: &[u8]) -> bool {
    let (mut run, mut fraction) = (0_usize, false);
    value.iter().any(|byte| {
        match byte {
            b'0'..=b'9' if fraction => {}
            b'0'..=b'9' => run = run.saturating_add(1),
            b'e' | b'E' => return true,
            _ => (run, fraction) = (0, *byte == b'.'),
        }
        run >= FEWEST
    })
}

/// The length of the number at the start of a text: digits, a fraction, an exponent. Without a sign.
fn token(text: &[u8]) -> usize {
    let digits = |from: usize| text.get(from..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = digits(0);
    if end == 0 {
        return 0;
    }
    if text.get(end) == Some(&b'.') {
        end = end.saturating_add(1).saturating_add(digits(end.saturating_add(1)));
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(end.saturating_add(1)), Some(b'+' | b'-')));
        let from = end.saturating_add(1).saturating_add(sign);
        let exponent = digits(from);
        if exponent > 0 {
            end = from.saturating_add(exponent);
        }
    }
    end
}

fn float(number: &[u8]) -> Option<Digits> {
    Digits::of_float(std::str::from_utf8(number).ok()?.parse().ok()?)
}

/// `cash_out` in src/backend/utils/adt/cash.c: digits in groups, in the form of the server's locale, the last two of them cents; in some locales
/// none, or three.
pub(super) fn is_found_in_money(detectors: &Detectors, value: &[u8]) -> bool {
    let digits: Vec<u8> = value.iter().filter(|byte| byte.is_ascii_digit()).copied().collect();
    [2, 0, 3].into_iter().any(|fraction: usize| {
        let whole = digits.len().checked_sub(fraction).and_then(|end| digits.get(..end)).unwrap_or_default();
        let significant = whole.iter().position(|digit| *digit != b'0').and_then(|at| whole.get(at..)).unwrap_or_default();
        detectors.number(significant).is_some()
    })
}

/// The elements of an array in text, of whatever dimensions: `array_out` puts those into quotes that have a comma in them.
pub(super) fn array_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    value.split(move |byte| {
        quoted ^= *byte == b'"';
        !quoted && matches!(byte, b',' | b'{' | b'}')
    })
}

/// `range_send` in src/backend/utils/adt/rangetypes.c: flags, then the bounds there are, each with its length.
pub(super) fn is_found_in_range(detectors: &Detectors, element: Number, value: &[u8]) -> bool {
    let mut rest = value.get(1..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let Some((bound, after)) = usize::try_from(i32::from_be_bytes(*length)).ok().and_then(|length| after.split_at_checked(length))
        else {
            return false;
        };
        if element.is_found(detectors, bound) {
            return true;
        }
        rest = after;
    }
    false
}

/// `multirange_send` in src/backend/utils/adt/multirangetypes.c: a count, then each range with its length.
pub(super) fn is_found_in_multirange(detectors: &Detectors, element: Number, value: &[u8]) -> bool {
    let mut rest = value.get(4..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let Some((range, after)) = usize::try_from(i32::from_be_bytes(*length)).ok().and_then(|length| after.split_at_checked(length))
        else {
            return false;
        };
        if is_found_in_range(detectors, element, range) {
            return true;
        }
        rest = after;
    }
    false
}

/// Bytes before the coordinates of a geometric type in binary format; `None`: it is none.
pub(super) const fn geometry(oid: u32) -> Option<usize> {
    Some(match oid {
        // point, lseg, box, line, circle
        600 | 601 | 603 | 628 | 718 => 0,
        // path: closed, count
        602 => 5,
        // polygon: count
        604 => 4,
        _ => return None,
    })
}

/// Whether one of the coordinates is found.
pub(super) fn is_found_in_geometry(detectors: &Detectors, skip: usize, value: &[u8]) -> bool {
    value.get(skip..).unwrap_or_default().chunks_exact(8).any(|chunk| Number::Float8.is_found(detectors, chunk))
}

/// What eight bytes, or a `numeric`, of an unknown type are: only numbers that nothing else of that length looks like. As whole numbers those
/// of sixteen digits count (times of this century have fifteen), as fractions whole ones.
pub(super) fn guess(detectors: &Detectors, value: &[u8]) -> Option<Number> {
    if let Ok(eight) = <[u8; 8]>::try_from(value) {
        let whole = i64::from_be_bytes(eight);
        if (1_000_000_000_000_000..10_000_000_000_000_000).contains(&whole) && Number::Int8.is_found(detectors, value) {
            return Some(Number::Int8);
        }
        let float = f64::from_be_bytes(eight);
        if float.trunc() == float && Number::Float8.is_found(detectors, value) {
            return Some(Number::Float8);
        }
    }
    let (count, rest) = value.split_first_chunk::<2>()?;
    let digits = rest.get(6..)?;
    let fits = digits.len() == usize::from(u16::from_be_bytes(*count)).checked_mul(2)? && !digits.is_empty();
    let sign = matches!(rest.get(2..4)?, [0 | 0x40, 0]);
    (fits && sign && Number::Numeric.is_found(detectors, value)).then_some(Number::Numeric)
}

/// The value of a type that says nothing, in place of that value.
pub(super) fn nothing(oid: u32, binary: bool, value: &[u8], out: &mut BytesMut) {
    if oid == types::MONEY && !binary {
        return out.extend_from_slice(types::no_money(value).as_bytes());
    }
    out.extend_from_slice(&types::zero(oid, binary).unwrap_or_default());
}
