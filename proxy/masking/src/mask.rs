//! The masks a policy can name.

use serde::{Deserialize, Serialize};

/// How a value is hidden. Nulls stay null under every mask but [`Mask::Derived`].
///
/// A mask that does not suit a column's type hides the whole value: it is then [`Mask::Full`], never the clear value. Where a
/// type has no value that is known to be valid (enums, composites and other types outside `pg_catalog`), the result is NULL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", try_from = "RawMask")]
#[non_exhaustive]
pub enum Mask {
    /// The whole value: `****` for text, the type's zero value for others.
    Full,
    /// The whole of a value made of masked ones: as [`Mask::Full`], and the same where it is NULL, since a statement can make a NULL say what
    /// it was made of (`nullif(ssn, …)`). Not for a policy to name.
    Derived,
    /// All but the last four characters of a text value, one `*` for each hidden one. Four or fewer show nothing.
    Last4,
    /// The first character and the domain of an e-mail address: `a***@example.com`.
    Email,
    /// SQL NULL in place of the value.
    Null,
    /// HMAC-SHA-256 under the deployment's mask key, so that equal values stay joinable: hex for text, 32 bytes for `bytea`, a
    /// value of the type for `uuid` and `int8`.
    Hash,
    /// A fixed text, which must be valid for the column's type.
    Constant {
        /// The text representation to show.
        value: String,
    },
    /// A date or timestamp cut down to a unit: `2024-05-17` becomes `2024-01-01`.
    Truncate {
        /// What stays.
        unit: TimeUnit,
    },
    /// A number cut down, towards zero, to a multiple.
    Round {
        /// The multiple, at least 1.
        to: u64,
    },
    /// Each ASCII digit and letter replaced by another of its kind under the deployment's mask key; ASCII punctuation and
    /// length stay. Equal values get equal tokens.
    Token,
}

impl Mask {
    /// The kind as a policy writes it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Full | Self::Derived => "full",
            Self::Last4 => "last4",
            Self::Email => "email",
            Self::Null => "null",
            Self::Hash => "hash",
            Self::Constant { .. } => "constant",
            Self::Truncate { .. } => "truncate",
            Self::Round { .. } => "round",
            Self::Token => "token",
        }
    }
}

/// What a truncated date or timestamp keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TimeUnit {
    /// The year.
    Year,
    /// Year and month.
    Month,
    /// Year, month and day (hides nothing of a `date`, which is then masked in full).
    Day,
    /// Up to the hour (hides nothing of a `date`, which is then masked in full).
    Hour,
}

/// Why a written mask is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMask {
    /// A setting the kind needs is absent.
    #[error("mask kind `{kind}` needs `{setting}`")]
    Missing {
        /// Kind.
        kind: &'static str,
        /// Setting.
        setting: &'static str,
    },
    /// A setting the kind does not have.
    #[error("mask kind `{kind}` takes no `{setting}`")]
    Unexpected {
        /// Kind.
        kind: &'static str,
        /// Setting.
        setting: &'static str,
    },
    /// Rounding to a multiple of zero.
    #[error("mask kind `round` needs `to` of at least 1")]
    RoundToZero,
}

/// The written form: serde's own tagged enums let unknown keys of unit variants pass.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMask {
    kind: RawKind,
    value: Option<String>,
    unit: Option<TimeUnit>,
    to: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawKind {
    Full,
    Last4,
    Email,
    Null,
    Hash,
    Constant,
    Truncate,
    Round,
    Token,
}

impl TryFrom<RawMask> for Mask {
    type Error = InvalidMask;

    fn try_from(raw: RawMask) -> Result<Self, InvalidMask> {
        let RawMask { kind, mut value, mut unit, mut to } = raw;
        let mask = match kind {
            RawKind::Full => Self::Full,
            RawKind::Last4 => Self::Last4,
            RawKind::Email => Self::Email,
            RawKind::Null => Self::Null,
            RawKind::Hash => Self::Hash,
            RawKind::Token => Self::Token,
            RawKind::Constant => {
                let value = value.take().ok_or(InvalidMask::Missing { kind: "constant", setting: "value" })?;
                Self::Constant { value }
            }
            RawKind::Truncate => {
                let unit = unit.take().ok_or(InvalidMask::Missing { kind: "truncate", setting: "unit" })?;
                Self::Truncate { unit }
            }
            RawKind::Round => match to.take() {
                None => {
                    return Err(InvalidMask::Missing { kind: "round", setting: "to" });
                }
                Some(0) => return Err(InvalidMask::RoundToZero),
                Some(to) => Self::Round { to },
            },
        };
        let left = [("value", value.is_some()), ("unit", unit.is_some()), ("to", to.is_some())];
        match left.into_iter().find(|(_, set)| *set) {
            Some((setting, _)) => Err(InvalidMask::Unexpected { kind: mask.name(), setting }),
            None => Ok(mask),
        }
    }
}

/// The deployment's secret for keyed masks.
#[derive(Clone)]
pub struct MaskKey([u8; 32]);

impl MaskKey {
    /// Wraps 32 secret bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MaskKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn written_masks_are_read_strictly() {
        let cases: &[(&str, Result<Mask, &str>)] = &[
            (r#"{"kind":"last4"}"#, Ok(Mask::Last4)),
            (r#"{"kind":"full"}"#, Ok(Mask::Full)),
            (r#"{"kind":"constant","value":"x"}"#, Ok(Mask::Constant { value: "x".into() })),
            (r#"{"kind":"truncate","unit":"year"}"#, Ok(Mask::Truncate { unit: TimeUnit::Year })),
            (r#"{"kind":"round","to":1000}"#, Ok(Mask::Round { to: 1000 })),
            (r#"{"kind":"token"}"#, Ok(Mask::Token)),
            (r#"{"kind":"last4","vlaue":"x"}"#, Err("unknown field `vlaue`")),
            (r#"{"kind":"last4","value":"x"}"#, Err("mask kind `last4` takes no `value`")),
            (r#"{"kind":"constant"}"#, Err("mask kind `constant` needs `value`")),
            (r#"{"kind":"round","to":0}"#, Err("at least 1")),
            (r#"{"kind":"blur"}"#, Err("unknown variant `blur`")),
            (r"{}", Err("missing field `kind`")),
        ];
        for (text, expected) in cases {
            match (serde_json::from_str::<Mask>(text), expected) {
                (Ok(found), Ok(expected)) => {
                    assert_eq!(&found, expected);
                    assert_eq!(serde_json::from_str::<Mask>(&serde_json::to_string(&found).unwrap()).unwrap(), found);
                }
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{text}: {error}")
                }
                (found, _) => assert!(expected.is_err() && found.is_err(), "{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_key_never_shows_itself() {
        assert_eq!(format!("{:?}", MaskKey::new([7; 32])), "MaskKey(secret)");
    }
}
