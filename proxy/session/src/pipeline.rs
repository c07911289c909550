//! What was sent upstream and is not answered yet, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use countersign_policy::facts::SessionAction;
use countersign_policy::{Judgement, StatementFacts, StatementKind as Kind};
use countersign_wire::{ErrorFields, Target};

use crate::asking::Answer;
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
    /// The proxy's own question.
    Ask(Answer),
    /// Something that fails in place of a refused message of the extended protocol.
    Poison { statement: u64, error: ErrorFields },
    /// The same for a simple Query; ends with ReadyForQuery.
    PoisonQuery { statement: u64, error: ErrorFields, unnamed: Option<Ticket> },
}

/// What a step means to what comes behind it. Counted, since pipelines are deep and every text asks.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    /// It may change what the next text means.
    changes: bool,
    /// It ends a transaction.
    commits: bool,
    /// It may ask for COPY data.
    copies: bool,
    /// It touches protected relations.
    protected: bool,
}

impl Weight {
    fn of(step: &Step, judgement: &Judgement) -> Self {
        let runs = matches!(step, Step::Query { .. } | Step::Execute { .. });
        let any = |test: fn(&StatementFacts) -> bool| runs && judgement.statements.iter().any(test);
        Self {
            changes: any(|facts| match facts.kind {
                Kind::Read | Kind::Write | Kind::CopyIn | Kind::CopyOut | Kind::Empty => false,
                Kind::Transaction => facts.action == SessionAction::Rollback,
                _ => true,
            }),
            commits: any(|facts| facts.kind == Kind::Transaction && facts.action == SessionAction::Commit),
            // A COPY into a table whose triggers run functions counts as more than a COPY.
            copies: any(|facts| facts.kind >= Kind::CopyIn),
            protected: judgement.touches_protected,
        }
    }
}

/// How many steps on their way have a weight.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    changes: usize,
    commits: usize,
    copies: usize,
    protected: usize,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    steps: VecDeque<(Step, Weight)>,
    count: Count,
}

impl Pipeline {
    /// A step that runs nothing.
    pub(crate) fn push(&mut self, step: Step) {
        self.steps.push_back((step, Weight::default()));
    }

    /// A step and what it runs, or will run.
    pub(crate) fn push_judged(&mut self, step: Step, judgement: &Judgement) {
        let weight = Weight::of(&step, judgement);
        self.count.changes += usize::from(weight.changes);
        self.count.commits += usize::from(weight.commits);
        self.count.copies += usize::from(weight.copies);
        self.count.protected += usize::from(weight.protected);
        self.steps.push_back((step, weight));
    }

    pub(crate) fn front(&self) -> Option<&Step> {
        self.steps.front().map(|(step, _)| step)
    }

    pub(crate) fn front_mut(&mut self) -> Option<&mut Step> {
        self.steps.front_mut().map(|(step, _)| step)
    }

    pub(crate) fn pop(&mut self) -> Option<Step> {
        let (step, weight) = self.steps.pop_front()?;
        self.count.changes = self.count.changes.saturating_sub(usize::from(weight.changes));
        self.count.commits = self.count.commits.saturating_sub(usize::from(weight.commits));
        self.count.copies = self.count.copies.saturating_sub(usize::from(weight.copies));
        self.count.protected = self.count.protected.saturating_sub(usize::from(weight.protected));
        Some(step)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether something on its way may change what the next text means. Where the catalog was changed in the open transaction, its end decides
    /// what names mean.
    pub(crate) fn changes_meaning(&self, catalog_changed: bool) -> bool {
        self.count.changes > 0 || (catalog_changed && self.count.commits > 0)
    }

    /// Whether something on its way may ask for COPY data.
    pub(crate) fn may_copy(&self) -> bool {
        self.count.copies > 0
    }

    /// Whether something on its way touches protected relations.
    pub(crate) fn touches_protected(&self) -> bool {
        self.count.protected > 0
    }

    /// Removes the Syncs a server in copy-in mode reads over: those right behind the running Execute.
    pub(crate) fn drop_syncs_behind_front(&mut self) -> usize {
        let mut dropped = 0;
        while matches!(self.steps.get(1), Some((Step::Sync, _))) {
            self.steps.remove(1);
            dropped += 1;
        }
        dropped
    }
}
