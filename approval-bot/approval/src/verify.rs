//! From untrusted decision tokens to a verified quorum.

use crate::{Decision, RequestId, StatementDigest};

/// What the proxy holds and therefore expects every decision to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// Request id.
    pub request: RequestId,
    /// Environment.
    pub environment: String,
    /// Digest of the held statement.
    pub digest: StatementDigest,
    /// Requester issuer.
    pub requester_issuer: String,
    /// Requester subject.
    pub requester_subject: String,
    /// Requester e-mail, which no reviewer may have.
    pub requester_email: Option<String>,
    /// Database.
    pub database: String,
    /// Hex digest of the policy in force.
    pub policy: String,
    /// Rule.
    pub rule: String,
    /// Expiry of the request.
    pub expires_at: u64,
    /// Roster groups, one of which each reviewer must be in.
    pub reviewers: Vec<String>,
    /// Distinct people needed.
    pub quorum: u32,
}

/// Public keys decisions may be signed with, by key id.
#[derive(Debug, Clone, Default)]
pub struct VerifyingKeys {}

/// Enough distinct, verified approvals for one held statement. Only [`verify::quorum`](crate::verify) makes one.
#[derive(Debug)]
pub struct VerifiedQuorum {
    request: RequestId,
    digest: StatementDigest,
    decisions: Vec<Decision>,
}

impl VerifiedQuorum {
    /// Request the quorum is for.
    #[must_use]
    pub const fn request(&self) -> &RequestId {
        &self.request
    }
    /// Digest the reviewers signed.
    #[must_use]
    pub const fn digest(&self) -> &StatementDigest {
        &self.digest
    }
    /// The decisions.
    #[must_use]
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }
}

/// Why a set of decisions does not open a hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// Not enough approvals yet.
    #[error("{found} of {needed} approvals")]
    Pending {
        /// Distinct valid approvals.
        found: u32,
        /// Needed.
        needed: u32,
    },
    /// A reviewer denied.
    #[error("denied by {by}: {reason}")]
    Denied {
        /// Reviewer.
        by: String,
        /// Reason.
        reason: String,
    },
    /// Past the expiry.
    #[error("request expired")]
    Expired,
}
