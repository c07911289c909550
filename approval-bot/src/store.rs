//! What the bot asks of the store of approvals: read a request, append a decision, keep the card's state, remember presses.
//!
//! Names and transitions are [`countersign_approval::item`]'s; the proxy has its own side of the same store.

mod directory;
mod dynamo;

use std::sync::Arc;

use async_trait::async_trait;
use countersign_approval::RequestId;
use countersign_approval::item::{CardState, Closed, Status};

pub use self::directory::Directory;
pub use self::dynamo::Dynamo;

/// Why the store did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("approval store {place}: {why}")]
pub struct StoreError {
    /// Which.
    pub place: String,
    /// Why.
    pub why: String,
}

/// One request as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The request's bytes.
    pub request: Vec<u8>,
    /// Status.
    pub status: Status,
    /// Why it was closed.
    pub why: Option<String>,
    /// How the statement ended.
    pub outcome: Option<String>,
    /// Decision tokens in order of arrival.
    pub tokens: Vec<String>,
    /// The card.
    pub card: CardState,
    /// Since when no client waits, if none does.
    pub left_at: Option<u64>,
    /// Runs used of a grant for several.
    pub used: Option<u32>,
    /// What reviewers asked.
    pub questions: Vec<String>,
}

/// A decision to append.
#[derive(Debug, Clone)]
pub struct Vote<'a> {
    /// The token.
    pub token: &'a str,
    /// Identities this vote uses up.
    pub voters: &'a [String; 2],
    /// For a denial: what closes the request in the same write.
    pub close: Option<Closed>,
    /// Seconds since the epoch.
    pub now: u64,
}

/// What became of a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is in the store.
    Done,
    /// This person or account has voted before.
    AlreadyVoted,
    /// The request is not open any more, or never was.
    NotOpen,
}

/// A store of approvals, from the bot's side.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Checks that the store exists and can be used.
    async fn check(&self) -> Result<(), StoreError>;
    /// Reads one request.
    async fn get(&self, id: &RequestId) -> Result<Option<Stored>, StoreError>;
    /// All requests there are, for a bot without a stream.
    async fn list(&self) -> Result<Vec<RequestId>, StoreError>;
    /// Requests in the store as open, for a bot that has a stream and looks after what no record is about.
    async fn unsettled(&self) -> Result<Vec<RequestId>, StoreError>;
    /// Appends a decision, once for each identity, while the request is open.
    async fn append(&self, id: &RequestId, vote: &Vote<'_>) -> Result<Appended, StoreError>;
    /// Closes an open request. True when it was open.
    async fn close(&self, id: &RequestId, closed: &Closed) -> Result<bool, StoreError>;
    /// Remembers something that is to happen once, at least until a time. False when it was taken before.
    async fn take_once(&self, key: &str, forget_at: u64) -> Result<bool, StoreError>;
    /// Keeps a question for the client, while the request is open. False when it is not, or there are too many.
    async fn ask(&self, id: &RequestId, question: &str) -> Result<bool, StoreError>;
    /// Claims the posting of a card until a time. False when it is posted or somebody else is at it.
    async fn claim_card(&self, id: &RequestId, now: u64, until: u64) -> Result<bool, StoreError>;
    /// Writes what is known of the card, and ends the claim.
    async fn save_card(&self, id: &RequestId, card: &CardState) -> Result<(), StoreError>;
}

/// A shared store.
pub type SharedStore = Arc<dyn Store>;
