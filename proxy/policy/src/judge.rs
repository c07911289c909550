//! The one entry point: judge a text, then plan masks for its results.

use countersign_masking::detect::Detectors;
use countersign_masking::{MaskKey, TextStyle};

use crate::decision::CopyOutcome;
use crate::decision::ForeseenColumn;
use crate::decision::Place;
use crate::{Catalog, Judgement, MaskOutcome, Policy, Principal, ResultColumn, SessionState, decide, masks};

/// Everything a judgement depends on.
#[derive(Debug, Clone, Copy)]
pub struct JudgeRequest<'a> {
    /// The policy in force.
    pub policy: &'a Policy,
    /// Who asks.
    pub principal: &'a Principal,
    /// Database as named to the policy.
    pub database: &'a str,
    /// Catalog facts.
    pub catalog: &'a Catalog,
    /// What the session did before.
    pub state: &'a SessionState,
    /// Types that the client declared for parameters (`Parse`), 0 where it left them open.
    pub parameter_types: &'a [u32],
    /// Seconds since the epoch, for rules with times.
    pub now: u64,
}

/// Stack that a thread which judges must have: the grammar's tree is walked, and dropped, by recursion.
pub const STACK_BYTES: usize = 64 << 20;

/// Judges one statement text (one simple Query or one Parse). Never fails: what cannot be understood is `Unknown`.
///
/// The calling thread must have a stack of [`STACK_BYTES`].
#[must_use]
pub fn judge(sql: &str, request: &JudgeRequest<'_>) -> Judgement {
    decide::text(sql, request)
}

/// Plans the masks of one result set of a judged text.
#[must_use]
pub fn plan_masks(judgement: &Judgement, columns: &[ResultColumn], place: Place, request: &JudgeRequest<'_>, key: &MaskKey) -> MaskOutcome {
    masks::plan(judgement, columns, place, request, key)
}

/// Plans the masks of the `nth` COPY to the client of a judged text, which the server announced in binary or text format with so many
/// columns, and whose texts are in that style.
#[must_use]
pub fn plan_copy(
    judgement: &Judgement,
    nth: usize,
    binary: bool,
    columns: usize,
    style: TextStyle,
    request: &JudgeRequest<'_>,
    key: &MaskKey,
) -> CopyOutcome {
    masks::plan_copy(judgement, nth, binary, columns, style, request, key)
}

/// Whether some mask of the policy is about the principal.
#[must_use]
pub fn masks_apply(policy: &Policy, principal: &Principal) -> bool {
    masks::masks_apply(policy, principal)
}

/// The detectors over texts that are no column's value: messages of the server, payloads of notifications.
#[must_use]
pub fn text_detectors(policy: &Policy, principal: &Principal) -> Option<Detectors> {
    masks::text_detectors(policy, principal)
}

/// How the columns of each statement's result will be shown; `None` where only the server knows its columns. For explanations.
#[must_use]
pub fn foresee_masks(judgement: &Judgement, request: &JudgeRequest<'_>) -> Vec<Option<Vec<ForeseenColumn>>> {
    masks::foresee(judgement, request)
}
