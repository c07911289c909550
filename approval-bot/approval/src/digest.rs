//! The digest that binds a decision to exact statement bytes and bound parameters.

use serde::{Deserialize, Serialize};

/// One bound parameter, as it stands in Bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// `pg_type.oid` as the server resolved it; 0 when unknown.
    pub type_oid: u32,
    /// Format code: 0 text, 1 binary.
    pub format: i16,
    /// The bytes; `None` for NULL.
    pub value: Option<&'a [u8]>,
}

/// SHA-256 over a domain tag, the statement's length and bytes, and each parameter's type, format, length and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StatementDigest([u8; 32]);

impl std::fmt::Debug for StatementDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl From<StatementDigest> for String {
    fn from(digest: StatementDigest) -> Self {
        digest.to_hex()
    }
}

impl TryFrom<String> for StatementDigest {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl StatementDigest {
    /// Computes the digest of a statement and its bound parameters.
    #[must_use]
    pub fn compute<'a>(statement: &[u8], parameters: impl ExactSizeIterator<Item = Parameter<'a>>) -> Self {
        use sha2::{Digest, Sha256};
        let length = |n: usize| u64::try_from(n).unwrap_or(u64::MAX).to_be_bytes();
        let mut hash = Sha256::new();
        hash.update(b"countersign.statement.v1\0");
        hash.update(length(statement.len()));
        hash.update(statement);
        hash.update(length(parameters.len()));
        for parameter in parameters {
            hash.update(parameter.type_oid.to_be_bytes());
            hash.update(parameter.format.to_be_bytes());
            match parameter.value {
                None => hash.update([0]),
                Some(value) => {
                    hash.update([1]);
                    hash.update(length(value.len()));
                    hash.update(value);
                }
            }
        }
        Self(hash.finalize().into())
    }

    /// The digest's bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Lower-case hex.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}
