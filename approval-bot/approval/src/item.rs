//! The store item: one per request. What proxy and bot call things in the table and in the directory, and which change of status may
//! follow which.
//!
//! Access patterns of the table (partition key `request_id`, no sort key, no index): the proxy puts (if absent), reads its pending
//! items in batches, closes and finishes, and keeps a pointer from what is asked to the request that asks it; the bot reads one item,
//! appends decisions, and keeps the card's state. Every change is one conditional write on one item. The time to live of a request is
//! set only on finishing, that of pointers and presses when they are written.
//!
//! The directory store holds the same in files, each created exclusively and complete: `<id>/request.json`, `<id>/voters/<hash>.jws`,
//! `<id>/decisions/<n>.jws`, `<id>/closed.json`, `<id>/finished.json`, `<id>/card.json`, `<id>/left`, `<id>/questions/<n>.txt`,
//! `.again/<hash>/<n>`.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Attribute names.
pub mod attribute {
    /// Partition key: the request id, or [`super::PRESS_PREFIX`] and a hash.
    pub const ID: &str = "request_id";
    /// String: the request's canonical JSON.
    pub const REQUEST: &str = "request";
    /// String: [`super::Status`].
    pub const STATUS: &str = "status";
    /// String: hex digest of the statement, for the consuming condition.
    pub const DIGEST: &str = "digest";
    /// Number: expiry of the request, seconds since the epoch.
    pub const EXPIRES_AT: &str = "expires_at";
    /// List of strings: decision tokens, in order of arrival.
    pub const DECISIONS: &str = "decisions";
    /// String set: identities that have voted.
    pub const VOTERS: &str = "voters";
    /// String: who closed it, unique to that attempt.
    pub const CLOSED_BY: &str = "closed_by";
    /// Number: when it was closed, seconds since the epoch.
    pub const CLOSED_AT: &str = "closed_at";
    /// String: why it was closed, for people.
    pub const WHY: &str = "why";
    /// String: how the statement ended.
    pub const OUTCOME: &str = "outcome";
    /// String: channel of the card.
    pub const CARD_CHANNEL: &str = "card_channel";
    /// String: Slack timestamp of the card.
    pub const CARD_TS: &str = "card_ts";
    /// String: hash of the card as last shown.
    pub const CARD_SHOWN: &str = "card_shown";
    /// Number: until when somebody is posting the card, seconds since the epoch.
    pub const CARD_CLAIM: &str = "card_claim";
    /// String: why the card could not be posted.
    pub const CARD_ERROR: &str = "card_error";
    /// Number: since when no client waits for it, seconds since the epoch; absent while one does.
    pub const LEFT_AT: &str = "left_at";
    /// Number: runs of a grant for several that were used.
    pub const USED: &str = "used";
    /// List of strings: questions of reviewers, for the client.
    pub const QUESTIONS: &str = "questions";
    /// String, in a pointer: id of the request that asks for this already.
    pub const POINTS_TO: &str = "points_to";
    /// Number: time to live, seconds since the epoch.
    pub const TTL: &str = "ttl";
}

/// Prefix of the keys under which presses are remembered so that none is taken twice.
pub const PRESS_PREFIX: &str = "press#";

/// Prefix of the keys under which a request is found that asks for the same.
pub const AGAIN_PREFIX: &str = "again#";
/// How many questions are kept for one request.
pub const MAX_QUESTIONS: usize = 20;

/// Name of the object that says that a grant's `run`th run was used. It lies where recordings lie, under their retention, and is written
/// only if there is none of that name: whoever can write to the table cannot undo it.
#[must_use]
pub fn mark_name(id: &crate::RequestId, run: u32) -> String {
    format!("grants/{id}/{run}.json")
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Waiting for decisions, or granted and not yet consumed.
    Open,
    /// A reviewer denied it.
    Denied,
    /// The client went away or cancelled.
    Cancelled,
    /// Nobody decided in time.
    Expired,
    /// The grant was used. Exactly one caller sees this change succeed.
    Consumed,
    /// The statement ran and ended.
    Finished,
}

impl Status {
    /// The text stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Denied => "denied",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Consumed => "consumed",
            Self::Finished => "finished",
        }
    }

    /// From the text stored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Denied, Self::Cancelled, Self::Expired, Self::Consumed, Self::Finished]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// Whether a request may go from here to `next`. All ways out of `Open` exclude each other; nothing leads back.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Open => matches!(next, Self::Denied | Self::Cancelled | Self::Expired | Self::Consumed),
            Self::Consumed => matches!(next, Self::Finished),
            Self::Denied | Self::Cancelled | Self::Expired | Self::Finished => false,
        }
    }
}

/// How a request was closed; the content of `closed.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// The status it went to.
    pub status: Status,
    /// Unique to the attempt that closed it.
    pub by: String,
    /// Seconds since the epoch.
    pub at: u64,
    /// For people.
    pub why: String,
}

/// How a consumed request ended; the content of `finished.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// How the statement ended.
    pub outcome: String,
    /// Seconds since the epoch.
    pub at: u64,
}

/// What is known of a request's card; the content of `card.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CardState {
    /// Channel it was posted to.
    pub channel: Option<String>,
    /// Slack timestamp, which with the channel identifies the message.
    pub ts: Option<String>,
    /// Hash of the card as last shown.
    pub shown: Option<String>,
    /// Why it could not be posted.
    pub error: Option<String>,
}

/// File and folder names of the directory store.
pub mod file {
    /// The request's canonical JSON.
    pub const REQUEST: &str = "request.json";
    /// Folder of decision tokens, `<n>.jws` from 0.
    pub const DECISIONS: &str = "decisions";
    /// Folder of one token for each identity that voted.
    pub const VOTERS: &str = "voters";
    /// [`super::Closed`].
    pub const CLOSED: &str = "closed.json";
    /// [`super::Finished`].
    pub const FINISHED: &str = "finished.json";
    /// [`super::CardState`]; replaced whole, by the bot only.
    pub const CARD: &str = "card.json";
    /// When the client left, seconds since the epoch; not there while one waits.
    pub const LEFT: &str = "left";
    /// How many runs were used.
    pub const USED: &str = "used";
    /// Folder of questions, `<n>.txt` from 0.
    pub const QUESTIONS: &str = "questions";
    /// Folder beside the requests: pointers, a folder for each key with `<n>` from 0, of which the last counts.
    pub const AGAIN: &str = ".again";
    /// Folder beside the requests: presses that were taken.
    pub const PRESSES: &str = ".presses";
    /// Folder beside the requests: files that are being written.
    pub const PARTS: &str = ".parts";

    /// Name of the `n`th decision.
    #[must_use]
    pub fn decision(n: usize) -> String {
        format!("{n}.jws")
    }
}

/// Names of the identities a vote uses up: the person and the Slack account.
#[must_use]
pub fn voter_names(reviewer: &crate::v1::Reviewer) -> [String; 2] {
    [format!("person:{}", reviewer.person), format!("slack:{}", reviewer.slack)]
}

/// File name for a voter: a hash, since names may hold anything.
#[must_use]
pub fn voter_file(name: &str) -> String {
    format!("{}.jws", hex::encode(Sha256::digest(name)))
}

#[cfg(test)]
mod tests {
    use super::Status::{self, Cancelled, Consumed, Denied, Expired, Finished, Open};

    #[test]
    fn closed_requests_never_open_again() {
        let all = [Open, Denied, Cancelled, Expired, Consumed, Finished];
        let allowed = [(Open, Denied), (Open, Cancelled), (Open, Expired), (Open, Consumed), (Consumed, Finished)];
        for from in all {
            assert_eq!(Status::parse(from.as_str()), Some(from));
            for to in all {
                assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from:?} to {to:?}");
            }
        }
    }
}
