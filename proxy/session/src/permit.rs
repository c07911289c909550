//! Permission to write a statement upstream, as a value.
//!
//! A [`Permit`] has no public constructor: it is made from a judgement that allows, or from a hold and its verified quorum, and is
//! used up by the one function that forwards.

use countersign_approval::{StatementDigest, VerifiedQuorum};
use countersign_policy::{Judgement, Verdict};

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

    /// Uses the permit up. Returns the statement number it was for.
    pub(crate) const fn consume(self) -> u64 {
        self.statement
    }
}
