//! The masks a policy can name.

use serde::{Deserialize, Serialize};

/// How a value is hidden. Nulls stay null under every mask.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
#[non_exhaustive]
pub enum Mask {
    /// The whole value: `****` for text, the type's zero value for others.
    Full,
    /// All but the last four characters of a text value.
    Last4,
    /// The first character and the domain of an e-mail address: `a***@example.com`.
    Email,
    /// SQL NULL in place of the value.
    Null,
    /// Hex of HMAC-SHA-256 under the deployment's mask key, so that equal values stay joinable.
    Hash,
    /// A fixed text, which must be valid for the column's type.
    Constant {
        /// The text representation to show.
        value: String,
    },
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
