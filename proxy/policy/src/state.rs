//! What a session has done that changes the meaning of what it says next.

use crate::{Judgement, Principal};

/// Tracks `search_path`, SQL-level prepared statements, cursors, temporary objects and transaction mode for one session.
#[derive(Debug, Clone, Default)]
pub struct SessionState {}

/// Transaction status of `ReadyForQuery`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// `I`
    Idle,
    /// `T`
    InTransaction,
    /// `E`
    Failed,
}

impl SessionState {
    /// State right after login. `parameters` are the server's ParameterStatus values.
    #[must_use]
    pub fn new(principal: &Principal, database: &str, parameters: &[(String, String)]) -> Self {
        let _ = (principal, database, parameters);
        Self {}
    }

    /// One judged text was forwarded (its effects on state may come true from here on).
    pub fn forwarded(&mut self, judgement: &Judgement) {
        let _ = judgement;
    }

    /// Changes whenever an earlier judgement of some text might come out otherwise now. Judgements are cached per epoch.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        0
    }

    /// The server reported a parameter.
    pub fn parameter(&mut self, name: &str, value: &str) {
        let _ = (name, value);
    }

    /// The server reported its transaction status.
    pub fn ready(&mut self, status: TransactionStatus) {
        let _ = status;
    }
}
