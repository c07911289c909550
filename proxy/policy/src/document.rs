//! The policy document: one strict TOML file, validated whole before anything uses it.
//!
//! Owns the document's own types ([`source`]) and their validation into [`Policy`]. Does not own what a rule matches against a
//! statement (that is `decide`).

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::roster::Roster;
use crate::rule::{Action, Detect, Mask, Masking, Rule, Settings, SignedTemplate, TrustedFunction};
use crate::{Principal, StatementKind};

pub mod source;
mod validate;

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

impl fmt::Display for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// The JSON Schema of the document.
#[must_use]
pub fn json_schema() -> schemars::Schema {
    schemars::schema_for!(source::Document)
}

/// A validated policy.
#[derive(Debug, Clone)]
pub struct Policy {
    digest: PolicyDigest,
    settings: Settings,
    roster: Roster,
    rules: Vec<Rule>,
    masks: Vec<Mask>,
    masking: Masking,
    detect: Vec<Detect>,
    trusted_functions: Vec<TrustedFunction>,
    templates: Vec<SignedTemplate>,
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
        let document: source::Document = toml::from_str(text).map_err(|error| validate::syntax(text, &error))?;
        let digest = PolicyDigest(Sha256::digest(text.as_bytes()).into());
        validate::policy(text, digest, document)
    }

    /// Digest of the document's bytes.
    #[must_use]
    pub const fn digest(&self) -> PolicyDigest {
        self.digest
    }

    /// The reviewers.
    #[must_use]
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Limits of judgement.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Pre-approved templates, not verified.
    #[must_use]
    pub fn templates(&self) -> &[SignedTemplate] {
        &self.templates
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether the principal can get nothing but reads on a database, whatever the time and whoever approves: no rule allows or holds
    /// more, and no function is trusted to write. Such a session may run in read-only transactions.
    #[must_use]
    pub fn only_reads(&self, principal: &Principal, database: &str) -> bool {
        use StatementKind::{CopyOut, Empty, Read, Session, Transaction};
        let about = |rule: &&Rule| {
            rule.who.matches(principal) && (rule.databases.is_empty() || rule.databases.iter().any(|pattern| pattern.matches(database)))
        };
        let reads = |rule: &Rule| match &rule.action {
            Action::Deny(_) => true,
            Action::Allow | Action::Hold(_) => {
                let kinds = &rule.what.kinds;
                !kinds.is_empty() && kinds.iter().all(|kind| matches!(kind, Empty | Transaction | Read | Session | CopyOut))
            }
        };
        self.rules.iter().filter(about).all(reads) && self.trusted_functions.iter().all(|function| function.writes.is_empty())
    }

    /// The masks, in order; the first that names a column applies.
    #[must_use]
    pub fn masks(&self) -> &[Mask] {
        &self.masks
    }

    /// What happens to uses of protected columns that masks cannot cover.
    #[must_use]
    pub const fn masking(&self) -> &Masking {
        &self.masking
    }

    /// Detectors, in order; the first that is about a column and a principal applies.
    #[must_use]
    pub fn detect(&self) -> &[Detect] {
        &self.detect
    }

    /// User functions that are taken for what the policy says they are.
    #[must_use]
    pub fn trusted_functions(&self) -> &[TrustedFunction] {
        &self.trusted_functions
    }
}
