//! Gates: how many events must be durable before bytes go out, to either side.

use countersign_policy::facts::SessionAction;
use countersign_policy::{Judgement, StatementFacts, StatementKind};
use countersign_wire::ReadyStatus;

use crate::session::Session;

impl Session {
    /// The gate of something that must wait until all events so far are durable.
    pub(crate) const fn gate(&self) -> u64 {
        self.events
    }

    /// The gate of a statement towards the server. What runs inside an open transaction block takes effect with its COMMIT, which waits
    /// for everything before it; only what may act outside the transaction waits by itself.
    pub(crate) fn statement_gate(&mut self, judgement: &Judgement) -> u64 {
        let ends = judgement.statements.iter().any(|facts| matches!(facts.action, SessionAction::Commit | SessionAction::Rollback));
        let taken_back = |facts: &StatementFacts| facts.kind <= StatementKind::CopyIn && facts.functions.is_empty();
        let revocable = self.in_block() && !ends && judgement.statements.iter().all(taken_back);
        self.ending |= ends;
        if !judgement.needs_durable_record || revocable { 0 } else { self.gate() }
    }

    /// Whether a transaction block is certainly open for what is sent or answered now.
    pub(crate) fn in_block(&self) -> bool {
        self.status == ReadyStatus::InTransaction && !self.ending
    }
}
