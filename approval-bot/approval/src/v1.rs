//! Version 1 of the persisted types. Never changes; a change is `v2`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::StatementDigest;

/// Identifies one approval request: a UUID in its usual text form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub String);

/// Who asks, as shown to reviewers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requester {
    /// `iss`
    pub issuer: String,
    /// `sub`
    pub subject: String,
    /// Verified e-mail address, if any.
    pub email: Option<String>,
    /// Groups at connect.
    pub groups: Vec<String>,
    /// Verified claims worth showing.
    pub claims: BTreeMap<String, String>,
}

/// One bound parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestParameter {
    /// `pg_type.oid`, 0 when unknown.
    pub type_oid: u32,
    /// Format code.
    pub format: i16,
    /// Standard base64 of the bytes; `None` for NULL.
    pub value: Option<String>,
}

/// A request for approval, as the proxy writes it and the bot shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Always 1.
    pub version: u8,
    /// Id.
    pub id: RequestId,
    /// Name of the deployment; decisions of one environment are void in another.
    pub environment: String,
    /// Seconds since the epoch.
    pub created_at: u64,
    /// Seconds since the epoch.
    pub expires_at: u64,
    /// The statement, whole.
    pub statement: String,
    /// Its bound parameters.
    pub parameters: Vec<RequestParameter>,
    /// Digest of the two above.
    pub digest: StatementDigest,
    /// Who asks.
    pub requester: Requester,
    /// Database as the policy names it.
    pub database: String,
    /// Lower-case hex SHA-256 of the policy document.
    pub policy: String,
    /// Rule that holds it.
    pub rule: String,
    /// Why, for people.
    pub reason: String,
    /// Roster groups that may decide.
    pub reviewers: Vec<String>,
    /// Distinct approvals needed.
    pub quorum: u32,
    /// Facts for the card: kind, relations, notes; label to text.
    pub facts: Vec<(String, String)>,
    /// Recording session the statement belongs to.
    pub session: String,
}

/// What a reviewer decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// May run, once.
    Approve,
    /// Must not run.
    Deny,
}

/// A person, as the bot verified them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reviewer {
    /// Stable id of the person: the roster's own name for them.
    pub person: String,
    /// Slack team and user id, `T…/U…`.
    pub slack: String,
    /// E-mail address from the roster.
    pub email: Option<String>,
    /// Roster groups at decision time.
    pub groups: Vec<String>,
}

/// The claims of a signed decision. Carried as a compact JWS, ES256, `typ` `countersign-decision+jwt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Always 1.
    pub version: u8,
    /// Request decided on.
    pub request: RequestId,
    /// Environment of the request.
    pub environment: String,
    /// Digest the bot computed over the statement and parameters it showed.
    pub digest: StatementDigest,
    /// Issuer and subject of the requester.
    pub requester_issuer: String,
    /// Subject of the requester.
    pub requester_subject: String,
    /// Database.
    pub database: String,
    /// Hex digest of the policy.
    pub policy: String,
    /// Rule.
    pub rule: String,
    /// When the request expires, seconds since the epoch.
    pub expires_at: u64,
    /// The reviewer.
    pub reviewer: Reviewer,
    /// The verdict.
    pub verdict: Verdict,
    /// Reason, required for a denial.
    pub reason: Option<String>,
    /// Seconds since the epoch.
    pub decided_at: u64,
}
