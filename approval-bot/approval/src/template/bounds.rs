//! Bounds of one value, and values as PostgreSQL's protocol or a plain literal carries them. What is not understood is out of bounds.

use serde::{Deserialize, Serialize};

use super::days;
use crate::Parameter;

/// Units of a decimal: 10⁻⁹.
const SCALE: u32 = 9;
/// Days from 1970-01-01 to PostgreSQL's own first day, 2000-01-01.
const POSTGRES_EPOCH: i64 = 10_957;
/// Longest text that is compared.
const LONGEST_TEXT: u32 = 1_000;

/// What one value may be. NULL is never within bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Bounds {
    /// `smallint`, `integer`, `bigint`.
    Integer {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// `numeric`, with at most nine digits after the point.
    Decimal {
        /// Least, as `-12.50`.
        min: String,
        /// Greatest.
        max: String,
    },
    /// `date`.
    Date {
        /// First, `YYYY-MM-DD`.
        min: String,
        /// Last.
        max: String,
    },
    /// `text` or `varchar`: one of a list.
    Text {
        /// The list.
        one_of: Vec<String>,
    },
    /// `text` or `varchar`: any, of certain characters and lengths.
    Code {
        /// The characters.
        characters: Characters,
        /// Fewest.
        min_length: u32,
        /// Most.
        max_length: u32,
    },
    /// `uuid`.
    Uuid {},
    /// `boolean`.
    Boolean {},
}

/// Characters a code may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Characters {
    /// `0` to `9`.
    Digits,
    /// ASCII letters and digits.
    Alphanumeric,
    /// ASCII letters, digits, `-`, `_`, `.`.
    Identifier,
}

/// A literal as it stands in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Literal {
    /// A number, with its sign and as written.
    Number(String),
    /// A plain string, unquoted.
    Text(String),
    /// `true` or `false`.
    Boolean,
}

impl Bounds {
    /// Whether the bounds make sense.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let ordered = |ordered: Option<bool>| {
            if ordered == Some(true) { Ok(()) } else { Err("bounds must be values of their type, min at most max") }
        };
        match self {
            Self::Integer { min, max } => ordered(Some(min <= max)),
            Self::Decimal { min, max } => ordered(decimal(min).zip(decimal(max)).map(|(min, max)| min <= max)),
            Self::Date { min, max } => ordered(days::parse(min).zip(days::parse(max)).map(|(min, max)| min <= max)),
            Self::Text { one_of } if one_of.is_empty() || one_of.iter().any(|text| text.contains(['\\', '\0'])) => {
                Err("one_of must list texts, without backslashes")
            }
            Self::Code { min_length, max_length, .. } if min_length > max_length || *max_length > LONGEST_TEXT => {
                Err("lengths must be at most 1000, min_length at most max_length")
            }
            Self::Text { .. } | Self::Code { .. } | Self::Uuid {} | Self::Boolean {} => Ok(()),
        }
    }

    /// For reviewers.
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Integer { min, max } => format!("integer from {min} to {max}"),
            Self::Decimal { min, max } => format!("decimal from {min} to {max}"),
            Self::Date { min, max } => format!("date from {min} to {max}"),
            Self::Text { one_of } => {
                let quoted: Vec<String> = one_of.iter().map(|text| format!("'{}'", text.replace('\'', "''"))).collect();
                format!("text, one of {}", quoted.join(", "))
            }
            Self::Code { characters, min_length, max_length } => {
                let what = match characters {
                    Characters::Digits => "digits",
                    Characters::Alphanumeric => "ASCII letters and digits",
                    Characters::Identifier => "ASCII letters, digits, - _ .",
                };
                format!("any text of {min_length} to {max_length} {what}")
            }
            Self::Uuid {} => "any UUID".to_owned(),
            Self::Boolean {} => "true or false".to_owned(),
        }
    }

    /// Whether a bound value is of the type and within the bounds.
    pub(super) fn admits(&self, parameter: &Parameter<'_>) -> bool {
        let Some(value) = parameter.value else { return false };
        let text = || std::str::from_utf8(value).ok();
        match (self, parameter.type_oid, parameter.format) {
            (Self::Integer { .. }, 20 | 21 | 23, 0) => text().and_then(integer).is_some_and(|value| self.admits_integer(value)),
            (Self::Integer { .. }, 21, 1) => value.try_into().is_ok_and(|bytes| self.admits_integer(i16::from_be_bytes(bytes).into())),
            (Self::Integer { .. }, 23, 1) => value.try_into().is_ok_and(|bytes| self.admits_integer(i32::from_be_bytes(bytes).into())),
            (Self::Integer { .. }, 20, 1) => value.try_into().is_ok_and(|bytes| self.admits_integer(i64::from_be_bytes(bytes))),
            (Self::Decimal { .. }, 1700, 0) => text().is_some_and(|value| self.admits_decimal(value)),
            (Self::Date { .. }, 1082, 0) => text().and_then(days::parse).is_some_and(|days| self.admits_date(days)),
            (Self::Date { .. }, 1082, 1) => value.try_into().is_ok_and(|bytes| {
                // The first and the last stand for the infinities.
                let days = i32::from_be_bytes(bytes);
                !matches!(days, i32::MIN | i32::MAX) && self.admits_date(i64::from(days).saturating_add(POSTGRES_EPOCH))
            }),
            // The same bytes in both formats.
            (Self::Text { .. } | Self::Code { .. }, 25 | 1043, 0 | 1) => text().is_some_and(|value| self.admits_text(value)),
            (Self::Uuid {}, 2950, 0) => text().is_some_and(is_uuid),
            (Self::Uuid {}, 2950, 1) => value.len() == 16,
            (Self::Boolean {}, 16, 0) => matches!(value, b"t" | b"f" | b"true" | b"false"),
            (Self::Boolean {}, 16, 1) => matches!(value, [0] | [1]),
            _ => false,
        }
    }

    /// Whether a literal is of the kind and within the bounds.
    pub(super) fn admits_literal(&self, literal: &Literal) -> bool {
        match (self, literal) {
            (Self::Integer { .. }, Literal::Number(text)) => integer(text).is_some_and(|value| self.admits_integer(value)),
            (Self::Decimal { .. }, Literal::Number(text)) => self.admits_decimal(text),
            (Self::Date { .. }, Literal::Text(text)) => days::parse(text).is_some_and(|days| self.admits_date(days)),
            (Self::Text { .. } | Self::Code { .. }, Literal::Text(text)) => self.admits_text(text),
            (Self::Uuid {}, Literal::Text(text)) => is_uuid(text),
            (Self::Boolean {}, Literal::Boolean) => true,
            _ => false,
        }
    }

    fn admits_integer(&self, value: i64) -> bool {
        matches!(self, Self::Integer { min, max } if (*min..=*max).contains(&value))
    }

    fn admits_decimal(&self, value: &str) -> bool {
        let Self::Decimal { min, max } = self else { return false };
        matches!((decimal(min), decimal(max), decimal(value)), (Some(min), Some(max), Some(value)) if (min..=max).contains(&value))
    }

    fn admits_date(&self, value: i64) -> bool {
        let Self::Date { min, max } = self else { return false };
        matches!((days::parse(min), days::parse(max)), (Some(min), Some(max)) if (min..=max).contains(&value))
    }

    fn admits_text(&self, value: &str) -> bool {
        match self {
            Self::Text { one_of } => one_of.iter().any(|known| known == value),
            Self::Code { characters, min_length, max_length } => {
                let fits = |byte: u8| match characters {
                    Characters::Digits => byte.is_ascii_digit(),
                    Characters::Alphanumeric => byte.is_ascii_alphanumeric(),
                    Characters::Identifier => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'),
                };
                u32::try_from(value.len()).is_ok_and(|length| (*min_length..=*max_length).contains(&length)) && value.bytes().all(fits)
            }
            _ => false,
        }
    }
}

/// An integer in its one usual form.
fn integer(text: &str) -> Option<i64> {
    let value: i64 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

/// A decimal in units of 10⁻⁹: digits, perhaps a sign before and a point among them, no exponent.
fn decimal(text: &str) -> Option<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str, most: usize| !part.is_empty() && part.len() <= most && part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole, 18) || !plain(part, 9) || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    let shift = SCALE.checked_sub(u32::try_from(part.len()).ok()?)?;
    let units = whole.parse::<i128>().ok()?.checked_mul(10_i128.checked_pow(SCALE)?)?;
    let units = units.checked_add(part.parse::<i128>().ok()?.checked_mul(10_i128.checked_pow(shift)?)?)?;
    Some(if negative { units.checked_neg()? } else { units })
}

/// The usual form of a UUID, of either case.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| if matches!(at, 8 | 13 | 18 | 23) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}
