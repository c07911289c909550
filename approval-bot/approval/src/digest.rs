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
