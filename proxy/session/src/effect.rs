//! What the session asks of its driver.

use bytes::Bytes;
use countersign_approval::StatementDigest;
use countersign_policy::rule::BreakGlassTerms;
use countersign_policy::{HoldTerms, StatementFacts};
use countersign_recording::Event;
use countersign_recording::v1::event::Parameter;
use countersign_wire::ErrorFields;

#[expect(clippy::large_enum_variant, reason = "the large variant is by far the most frequent one")]
/// A request to the driver. Effects come out in order and are to be carried out in order.
#[derive(Debug)]
#[non_exhaustive]
pub enum Effect {
    /// Append to the recording. The n-th of these is event n.
    Record(Event),
    /// Place a request for approval, then call [`Session::hold_placed`](crate::Session::hold_placed) or
    /// [`Session::hold_failed`](crate::Session::hold_failed).
    PlaceHold(Box<HoldRequest>),
    /// Consume the grant by a conditional write, then call [`Session::consumed`](crate::Session::consumed).
    Consume {
        /// Request id.
        request: String,
        /// Digest of what is held.
        digest: StatementDigest,
        /// For how many runs the grant is.
        runs: u32,
    },
    /// The request is void: nobody waits for it any more.
    CancelHold {
        /// Request id.
        request: String,
        /// Why.
        why: &'static str,
    },
    /// Nobody waits for the request any more, but it stays open: the same statement, asked again, finds it.
    LeaveHold {
        /// Request id.
        request: String,
    },
    /// The held statement ended, one way or another.
    FinishHold {
        /// Request id.
        request: String,
        /// Command tag, SQLSTATE, or why it did not run.
        outcome: String,
    },
    /// Load catalog facts newer than `generation`, then call [`Session::catalog`](crate::Session::catalog).
    RefreshCatalog {
        /// Generation at hand.
        generation: u64,
    },
    /// The session changed the catalog and its transaction ended: facts read before count for no session any more.
    CatalogChanged,
    /// One line for operators.
    Anomaly {
        /// Statement number.
        statement: u64,
        /// What.
        what: String,
    },
    /// Flush what is released, then close both sides.
    End(End),
}

/// How a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Why, as recorded.
    pub reason: String,
    /// What to tell the client, if it still listens.
    pub error: Option<ErrorFields>,
}

/// What is held, for the request to the reviewers.
#[derive(Debug, Clone)]
pub struct HoldRequest {
    /// Statement number.
    pub statement: u64,
    /// Exact text.
    pub text: Bytes,
    /// Bound parameters.
    pub parameters: Vec<Parameter>,
    /// Digest of the two.
    pub digest: StatementDigest,
    /// Rule that holds it.
    pub rule: String,
    /// Policy digest it was judged under.
    pub policy: [u8; 32],
    /// Terms.
    pub terms: HoldTerms,
    /// Facts.
    pub facts: Vec<StatementFacts>,
    /// What the session did to the meaning of what it says that no text shows: label and words.
    pub told: Vec<(String, String)>,
    /// Whether names mean to the session what they would mean to a new one.
    pub as_at_login: bool,
    /// Whether a transaction is open, so that locks may be held while it waits.
    pub in_transaction: bool,
    /// Seconds since that transaction began.
    pub transaction_age: u64,
    /// It is not to wait: why. The request is for a review afterwards.
    pub break_glass: Option<BreakGlass>,
}

/// That a statement runs at once.
#[derive(Debug, Clone)]
pub struct BreakGlass {
    /// The reason the client gave.
    pub reason: String,
    /// What the policy says about it.
    pub terms: BreakGlassTerms,
}
