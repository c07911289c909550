//! Why a token is not taken.

use std::path::PathBuf;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::error::{ClientError, sqlstate};

/// Why a token is not taken. Every text is safe for the token's holder and carries nothing of the token but what was verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Not a JWT at all.
    #[error("the password is not an identity token: {0}")]
    Malformed(&'static str),
    /// An algorithm outside of the configured ones.
    #[error("tokens signed with {0} are not accepted")]
    Algorithm(String),
    /// A key the issuer does not publish.
    #[error("the token is signed with a key its issuer does not publish")]
    UnknownKey,
    /// The key is for something else.
    #[error("the issuer's key does not fit the token's algorithm")]
    KeyMismatch,
    /// The signature is wrong.
    #[error("the token's signature is not valid")]
    Signature,
    /// A claim is missing or has another type.
    #[error("the token's claim \"{claim}\" {problem}")]
    Claim {
        /// Claim.
        claim: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Another issuer.
    #[error("the token is from another issuer than this gateway trusts")]
    Issuer,
    /// Another audience.
    #[error("the token is for another audience (this gateway takes {expected})")]
    Audience {
        /// Accepted audiences.
        expected: String,
    },
    /// Over.
    #[error("token expired at {}", instant(*at))]
    Expired {
        /// Seconds since the epoch.
        at: u64,
    },
    /// Not yet.
    #[error("token is not valid before {}", instant(*at))]
    NotYet {
        /// Seconds since the epoch.
        at: u64,
    },
    /// The issuer's keys are not known and cannot be had.
    #[error("tokens cannot be verified at the moment")]
    KeysUnavailable,
}

impl IdentityError {
    /// What the client is told.
    #[must_use]
    pub fn client(&self) -> ClientError {
        match self {
            Self::KeysUnavailable => ClientError::new(sqlstate::INVALID_AUTHORIZATION, self.to_string())
                .hint("try again; the gateway's operators see why in its log"),
            Self::Malformed(_) => ClientError::new(sqlstate::INVALID_PASSWORD, self.to_string())
                .hint("put the token where the password goes, as in PGPASSWORD=$OIDC_TOKEN"),
            Self::Expired { .. } | Self::NotYet { .. } => {
                ClientError::new(sqlstate::INVALID_PASSWORD, self.to_string()).hint("get a fresh token")
            }
            _ => ClientError::new(sqlstate::INVALID_PASSWORD, self.to_string()),
        }
    }

    /// The metric label.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "token malformed",
            Self::Algorithm(_) | Self::KeyMismatch => "token algorithm",
            Self::UnknownKey => "token key unknown",
            Self::Signature => "token signature",
            Self::Claim { .. } => "token claims",
            Self::Issuer => "token issuer",
            Self::Audience { .. } => "token audience",
            Self::Expired { .. } => "token expired",
            Self::NotYet { .. } => "token not yet valid",
            Self::KeysUnavailable => "issuer keys unavailable",
        }
    }
}

fn instant(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| format!("second {seconds}"))
}

/// Why tokens cannot be checked at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentitySetupError {
    /// The authority file.
    #[error("identity.ca {path}: {error}")]
    Authorities {
        /// File.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// The HTTP client.
    #[error("identity: cannot set up the HTTP client: {0}")]
    Client(String),
}
