//! The policy document: one strict TOML file.

use serde::{Deserialize, Serialize};

/// SHA-256 of the policy document's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PolicyDigest(pub [u8; 32]);

impl PolicyDigest {
    /// Lower-case hex.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

/// A validated policy.
#[derive(Debug)]
pub struct Policy {
    digest: PolicyDigest,
}

/// What is wrong with a policy document, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy line {line}, column {column}: {message}{}", hint.as_deref().map(|h| format!(" (hint: {h})")).unwrap_or_default())]
pub struct PolicyError {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl Policy {
    /// Parses and validates a document.
    ///
    /// # Errors
    /// Names the first fault with its place and a hint.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let _ = text;
        Err(PolicyError { line: 1, column: 1, message: "not implemented yet".to_owned(), hint: None })
    }

    /// Digest of the document's bytes.
    #[must_use]
    pub const fn digest(&self) -> PolicyDigest {
        self.digest
    }
}
