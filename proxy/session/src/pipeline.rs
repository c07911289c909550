//! What was sent upstream and is not answered yet, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use countersign_policy::Judgement;
use countersign_wire::{ErrorFields, Target};

use crate::names::Ticket;

/// One message upstream and what its answer means.
#[derive(Debug)]
pub(crate) enum Step {
    /// A simple Query; ends with ReadyForQuery. `unnamed` is the announcement that it drops the unnamed statement.
    Query { statement: u64, judgement: Arc<Judgement>, request: Option<String>, since: u64, unnamed: Option<Ticket> },
    /// Parse.
    Parse { name: Bytes, id: u64, ticket: Ticket },
    /// Bind.
    Bind { name: Bytes, id: u64, ticket: Ticket },
    /// Describe; `visible` when the client asked for it.
    Describe { target: Target, id: Option<u64>, visible: bool },
    /// Execute of a portal.
    Execute { portal: u64 },
    /// Close; not visible when it is the proxy's own tidying.
    Close { target: Target, name: Bytes, ticket: Option<Ticket>, visible: bool },
    /// Sync; ends with ReadyForQuery.
    Sync,
    /// Something that fails in place of a refused message of the extended protocol.
    Poison { statement: u64, error: ErrorFields },
    /// The same for a simple Query; ends with ReadyForQuery.
    PoisonQuery { statement: u64, error: ErrorFields, unnamed: Option<Ticket> },
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    steps: VecDeque<Step>,
}

impl Pipeline {
    pub(crate) fn push(&mut self, step: Step) {
        self.steps.push_back(step);
    }

    pub(crate) fn front(&self) -> Option<&Step> {
        self.steps.front()
    }

    pub(crate) fn front_mut(&mut self) -> Option<&mut Step> {
        self.steps.front_mut()
    }

    pub(crate) fn pop(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter()
    }

    /// Removes the Syncs a server in copy-in mode reads over: those right behind the running Execute.
    pub(crate) fn drop_syncs_behind_front(&mut self) -> usize {
        let mut dropped = 0;
        while matches!(self.steps.get(1), Some(Step::Sync)) {
            self.steps.remove(1);
            dropped += 1;
        }
        dropped
    }
}
