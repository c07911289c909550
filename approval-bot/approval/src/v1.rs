//! Version 1 of the persisted types. Never changes; what came later is in [`crate::v2`], in fields that version 1 does not have at all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::StatementDigest;
use crate::v2::{ReviewerSource, Snapshot};

/// Identifies one approval request: a UUID in its usual text form, lower case.
///
/// INVARIANT: 36 characters out of `0-9a-f-`. File and item names are made of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(String);

/// A request id that is not a UUID in lower-case text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("request id is not a UUID in lower-case text form")]
pub struct InvalidRequestId;

impl RequestId {
    /// The text form of a UUID's bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let hex = hex::encode(bytes);
        let mut text = String::with_capacity(36);
        for (at, digit) in hex.chars().enumerate() {
            if matches!(at, 8 | 12 | 16 | 20) {
                text.push('-');
            }
            text.push(digit);
        }
        Self(text)
    }

    /// Parses the text form.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidRequestId> {
        let well_formed = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            });
        if well_formed { Ok(Self(text.to_owned())) } else { Err(InvalidRequestId) }
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> Self {
        id.0
    }
}

impl TryFrom<String> for RequestId {
    type Error = InvalidRequestId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

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
    /// 1, or 2 where there are `sources`.
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
    /// How many runs of the very same statement and parameters reviewers may approve at once; 1 for one.
    pub runs: u32,
    /// Whether an approval takes a fresh sign-in at the identity provider, beside the press in Slack.
    pub step_up: bool,
    /// Facts for the card: kind, relations, notes; label to text.
    pub facts: Vec<(String, String)>,
    /// Recording session the statement belongs to.
    pub session: String,
    /// Version 2: where members of `reviewers` are found beside those the policy lists. Not there in version 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<ReviewerSource>,
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
    /// Stable id of the person: the roster's own name for them, or in version 2 the e-mail address of whom it does not list.
    pub person: String,
    /// Slack team and user id, `T…/U…`.
    pub slack: String,
    /// E-mail address from the roster; where that has none, from the Slack profile.
    pub email: Option<String>,
    /// Roster groups at decision time.
    pub groups: Vec<String>,
    /// Identity links from the roster, `issuer|subject`: who this person is where requesters sign in.
    pub subjects: Vec<String>,
}

/// A reviewer's fresh sign-in at the identity provider, for one decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepUp {
    /// `iss` of the ID token.
    pub issuer: String,
    /// `sub` of the ID token.
    pub subject: String,
    /// When the person signed in, seconds since the epoch.
    pub at: u64,
}

/// The claims of a signed decision. Carried as a compact JWS, ES256, `typ` `countersign-decision+jwt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The request's.
    pub version: u8,
    /// Request decided on.
    pub request: RequestId,
    /// Environment of the request.
    pub environment: String,
    /// Digest the bot computed over the statement and parameters it showed.
    pub digest: StatementDigest,
    /// SHA-256 over the whole request as it was shown, lower-case hex: facts, claims and reason are as much part of what a reviewer judges
    /// as the statement.
    pub shown: String,
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
    /// For how many runs, at most what the request allows.
    pub runs: u32,
    /// The sign-in, where the request demands one.
    pub step_up: Option<StepUp>,
    /// Reason, required for a denial.
    pub reason: Option<String>,
    /// Seconds since the epoch.
    pub decided_at: u64,
    /// Version 2: by what the reviewer is in a group that may decide. Not there in version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
}
