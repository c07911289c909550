//! What the proxy asks of a store of approvals.

use std::collections::HashMap;

use async_trait::async_trait;
use countersign_approval::item::{Closed, Status};
use countersign_approval::{Request, RequestId, StatementDigest};

/// Why the store did not do what was asked. The text is for the operator and names no statement.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It does not answer, or answers that it cannot now.
    #[error("approval store is unavailable: {0}")]
    Unavailable(String),
    /// It is not set up as needed.
    #[error("approval store is not usable: {0}")]
    Unusable(String),
    /// The id is taken by another request.
    #[error("approval store already holds another request under this id")]
    IdTaken,
    /// The request is too long to be stored whole.
    #[error("statement and parameters are too long for an approval request: {found} bytes")]
    TooLong {
        /// Bytes of the request.
        found: usize,
    },
    /// The request cannot be written at all.
    #[error("approval request cannot be written: {0}")]
    Refused(String),
}

/// What the store says of one request. Nothing in it is believed before the tokens are verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Decision tokens.
    pub(super) tokens: Vec<String>,
    /// Status; `None` when the request is not there.
    pub(super) status: Option<Status>,
    /// Why it was closed.
    pub(super) why: Option<String>,
    /// Why reviewers cannot see it.
    pub(super) card_error: Option<String>,
    /// What reviewers ask.
    pub(super) questions: Vec<String>,
}

/// A request as `countersign-proxy pending` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The request's bytes; not believed before they are parsed.
    pub request: Vec<u8>,
    /// Whether a client waits for it.
    pub attended: bool,
    /// Decision tokens.
    pub tokens: Vec<String>,
}

/// A store. Each change is one conditional write; a write whose answer was lost may be repeated by the store itself.
#[async_trait]
pub(super) trait Store: Send + Sync + std::fmt::Debug {
    /// Checks that the store exists and can be used.
    async fn check(&self) -> Result<(), StoreError>;
    /// Writes a request if the id is free or holds the same bytes.
    async fn place(&self, request: &Request, bytes: &[u8]) -> Result<(), StoreError>;
    /// Reads many requests at once. Those that are not there are left out.
    async fn read(&self, ids: &[RequestId]) -> Result<HashMap<RequestId, Snapshot>, StoreError>;
    /// Reads one request, its bytes included.
    async fn fetch(&self, id: &RequestId) -> Result<Option<(Vec<u8>, Snapshot)>, StoreError>;
    /// Requests that are open at this time.
    async fn open(&self, now: u64) -> Result<Vec<Listed>, StoreError>;
    /// Which request asks for this already.
    async fn pointer(&self, key: &str) -> Result<Option<RequestId>, StoreError>;
    /// Makes the pointer lead to `to`, if it still leads to `from`. True when it does.
    async fn point(&self, key: &str, from: Option<&RequestId>, to: &RequestId, forget_at: u64) -> Result<bool, StoreError>;
    /// Notes that no client waits (since when), or that one does again.
    async fn attend(&self, id: &RequestId, left_at: Option<u64>) -> Result<(), StoreError>;
    /// Notes that a run of a grant for several is used, if the request is still open, has that digest and has not expired. True when it is.
    async fn note_run(&self, id: &RequestId, digest: &StatementDigest, run: u32, now: u64) -> Result<bool, StoreError>;
    /// Closes an open request; with a digest only if the request has that digest and has not expired. True for exactly one caller.
    async fn close(&self, id: &RequestId, digest: Option<&StatementDigest>, closed: &Closed) -> Result<bool, StoreError>;
    /// Notes the outcome of a closed request and lets the store forget it from `forget_at` on.
    async fn finish(&self, id: &RequestId, outcome: &str, at: u64, forget_at: u64) -> Result<bool, StoreError>;
}
