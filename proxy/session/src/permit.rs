//! Permission to write a statement upstream, as a value.
//!
//! A [`Permit`] has no public constructor: it is made from a judgement that allows, from a hold and its verified quorum, from a signed
//! template that covers the statement, or from terms under which this principal may break glass, and is used up by the one function that
//! forwards.

use countersign_approval::{StatementDigest, TemplateUse, VerifiedQuorum};
use countersign_policy::{HoldTerms, Judgement, Principal, Verdict};

/// One statement may go upstream, once.
#[derive(Debug)]
pub(crate) struct Permit {
    statement: u64,
}

/// The quorum is not for what is held.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PermitError {
    /// Another request.
    #[error("the decisions are for request {0}")]
    Request(String),
    /// Another statement or other parameters.
    #[error("the decisions are for a statement with another digest")]
    Digest,
}

impl Permit {
    /// From a judgement that allows.
    pub(crate) const fn allowed(statement: u64, judgement: &Judgement) -> Option<Self> {
        match judgement.verdict {
            Verdict::Allow => Some(Self { statement }),
            Verdict::Deny(_) | Verdict::Hold(_) => None,
        }
    }

    /// From a hold and the quorum for it.
    pub(crate) fn granted(statement: u64, request: &str, digest: &StatementDigest, quorum: &VerifiedQuorum) -> Result<Self, PermitError> {
        if quorum.request().as_str() != request {
            return Err(PermitError::Request(quorum.request().as_str().to_owned()));
        }
        if quorum.digest() != digest {
            return Err(PermitError::Digest);
        }
        Ok(Self { statement })
    }

    /// From a template that covers exactly what is held.
    pub(crate) fn templated(statement: u64, digest: &StatementDigest, found: &TemplateUse) -> Result<Self, PermitError> {
        if found.digest() == digest { Ok(Self { statement }) } else { Err(PermitError::Digest) }
    }

    /// From terms under which a principal may run a statement at once.
    pub(crate) fn broken_glass(statement: u64, terms: &HoldTerms, principal: &Principal) -> Option<Self> {
        let groups = &terms.break_glass.as_ref()?.groups;
        groups.iter().any(|group| principal.groups.contains(group)).then_some(Self { statement })
    }

    /// Uses the permit up. Returns the statement number it was for.
    pub(crate) const fn consume(self) -> u64 {
        self.statement
    }
}
