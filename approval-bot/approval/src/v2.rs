//! What version 2 of a request and of a decision has beside version 1: how membership of a group of reviewers is known where not everybody
//! in it is listed in the policy. A request that names no such source, and every decision on it, is version 1 to the byte. Never changes.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// By what somebody is in a group of reviewers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// The policy lists them.
    Listed,
    /// A user group of a Slack workspace.
    SlackUsergroup {
        /// Workspace, `T…`.
        team: String,
        /// User group, `S…`.
        id: String,
    },
    /// A group of an identity provider, as its tokens have it.
    IdentityProviderGroup {
        /// `iss`
        issuer: String,
        /// The value in the claim.
        group: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listed => f.write_str("listed in the policy"),
            Self::SlackUsergroup { team, id } => write!(f, "Slack user group {team}/{id}"),
            Self::IdentityProviderGroup { issuer, group } => write!(f, "group {group} of {issuer}"),
        }
    }
}

/// Where the policy says members of a group are found, beside those it lists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewerSource {
    /// Roster group.
    pub group: String,
    /// Where its members are found.
    pub by: Source,
    /// Issuers whose principals are never people: with those, nobody needs to be compared.
    pub machine_issuers: Vec<String>,
}

/// That a reviewer is in a group the rule names, as it was found at decision time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// Roster group.
    pub group: String,
    /// By what.
    pub by: Source,
    /// When that was asked, seconds since the epoch: of Slack, or when the sign-in was whose token has the group.
    pub resolved_at: u64,
    /// How many members there were, where there is a list.
    pub members: Option<u32>,
    /// [`members_digest`] of the list, where there is one.
    pub digest: Option<String>,
}

/// Who a reviewer was at decision time, beside what version 1 says of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The groups the rule names that they are in. At least one.
    pub memberships: Vec<Membership>,
    /// Every e-mail address they are known by, lower case, sorted: the roster's, Slack's, the sign-in's.
    pub addresses: Vec<String>,
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.group, self.by)?;
        match (self.members, &self.digest) {
            (Some(members), Some(digest)) => write!(f, " ({members} members, sha256 {digest})"),
            _ => Ok(()),
        }
    }
}

/// Lower-case hex SHA-256 over `countersign.members.v1\0` and the members' ids, sorted, each once and followed by a line end.
#[must_use]
pub fn members_digest<'a>(members: impl IntoIterator<Item = &'a str>) -> String {
    let sorted: std::collections::BTreeSet<&str> = members.into_iter().collect();
    let mut hash = Sha256::new();
    hash.update(b"countersign.members.v1\0");
    for member in sorted {
        hash.update(member.as_bytes());
        hash.update(b"\n");
    }
    hex::encode(hash.finalize())
}
