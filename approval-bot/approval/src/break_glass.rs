//! Break-glass: a held statement that ran at once, and its review afterwards.
//!
//! The gateway places a request of its own kind ([`RULE`]) whose facts say who may be asked why; reviewers sign "justified" (an approval)
//! or "not justified" (a denial) on it. Such a decision opens nothing: its rule is no policy's. The review lies beside the recordings, in
//! an object that is written once.

use serde::{Deserialize, Serialize};

use crate::verify::{self, GrantError};
use crate::{Expectation, Request, RequestId, VerifyingKeys};

/// Rule of the requests for a review. No rule of a policy may have this name.
pub const RULE: &str = "countersign:break-glass";
/// Prefix of the objects that carry reviews.
pub const REVIEWS: &str = "reviews/";
/// Fewest and most characters of a reason.
pub const REASON: std::ops::RangeInclusive<usize> = 10..=500;
/// Labels of the facts.
const WHY: &str = "break-glass reason";
const HELD_BY: &str = "held by rule";

/// Facts of a request for a review, before those of the statement.
#[must_use]
pub fn facts(reason: &str, held_by: &str) -> Vec<(String, String)> {
    vec![(WHY.to_owned(), reason.to_owned()), (HELD_BY.to_owned(), held_by.to_owned())]
}

/// Whether a reason is one: some words on one line.
#[must_use]
pub fn is_reason(reason: &str) -> bool {
    let shown = reason.chars().filter(|char| !char.is_whitespace()).count();
    REASON.contains(&reason.chars().count()) && shown >= *REASON.start() && !reason.chars().any(char::is_control)
}

/// What was said when glass was broken: the reason and the rule that would have held the statement.
#[must_use]
pub fn said(request: &Request) -> Option<(&str, &str)> {
    let fact = |label: &str| request.facts.iter().find(|(known, _)| known == label).map(|(_, text)| text.as_str());
    if request.rule == RULE { Some((fact(WHY)?, fact(HELD_BY)?)) } else { None }
}

/// Name of the object with a request's review, beside the recordings.
#[must_use]
pub fn review_name(id: &RequestId) -> String {
    format!("{REVIEWS}{id}.json")
}

/// A review, as it lies beside the recordings. What was reviewed is in the recording; the decisions bind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// 1.
    pub version: u8,
    /// The request.
    pub request: RequestId,
    /// The signed decisions on it.
    pub decisions: Vec<String>,
}

/// What came of a review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody signed in time, so far.
    Open,
    /// It was right.
    Justified {
        /// Who says so.
        by: Vec<String>,
        /// When the last of them did, seconds since the epoch.
        at: u64,
    },
    /// It was not.
    NotJustified {
        /// Who says so.
        by: String,
        /// Why.
        reason: String,
    },
}

impl Review {
    /// What this review says of a request as it was recorded. Whatever does not hold is no review.
    #[must_use]
    pub fn outcome(&self, expected: &Expectation, keys: &VerifyingKeys) -> Outcome {
        if self.version == 1 && self.request == expected.request { outcome(expected, &self.decisions, keys) } else { Outcome::Open }
    }
}

/// What the decisions on a request for a review say.
#[must_use]
pub fn outcome(expected: &Expectation, tokens: &[String], keys: &VerifyingKeys) -> Outcome {
    if expected.rule != RULE {
        return Outcome::Open;
    }
    // Signed in time; when it is looked at does not matter.
    match verify::quorum(expected, tokens, keys, expected.expires_at.saturating_sub(1)) {
        Ok(quorum) => Outcome::Justified {
            by: quorum.decisions().iter().map(|decision| decision.reviewer.person.clone()).collect(),
            at: quorum.decisions().iter().map(|decision| decision.decided_at).max().unwrap_or_default(),
        },
        Err(GrantError::Denied { by, reason }) => Outcome::NotJustified { by, reason },
        Err(_) => Outcome::Open,
    }
}
