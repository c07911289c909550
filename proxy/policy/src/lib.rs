//! Statement judgement: SQL, a verified principal and catalog facts in, a decision out.
//!
//! No I/O, no clock, no randomness. The judge is PostgreSQL's own grammar (`pg_query`), `sqlparser` is the second opinion; what
//! is not understood counts as the riskiest class.
//!
//! Without the `judge` feature only the policy document, its digest and the roster of reviewers remain, which is what the approval
//! bot needs; the document parses identically in both.

mod cache;
pub mod document;
pub mod facts;
mod fingerprint;
pub mod pattern;
pub mod principal;
pub mod roster;
pub mod rule;

#[cfg(feature = "judge")]
mod analysis;
#[cfg(feature = "judge")]
mod builtin;
#[cfg(feature = "judge")]
pub mod catalog;
#[cfg(feature = "judge")]
mod decide;
#[cfg(feature = "judge")]
pub mod decision;
#[cfg(feature = "judge")]
mod grammar;
#[cfg(feature = "judge")]
pub mod judge;
#[cfg(feature = "judge")]
mod masks;
#[cfg(feature = "judge")]
mod reviewed;
#[cfg(feature = "judge")]
mod second;
#[cfg(feature = "judge")]
pub mod state;

pub use cache::TextCache;
pub use document::{Policy, PolicyDigest, PolicyError};
pub use facts::{StatementFacts, StatementKind};
pub use fingerprint::fingerprint;
pub use principal::Principal;
pub use roster::{GroupBy, GroupSource, Person, Roster};

#[cfg(feature = "judge")]
pub use catalog::Catalog;
#[cfg(feature = "judge")]
pub use decision::{CopyOutcome, Denial, ForeseenColumn, HoldTerms, Judgement, MaskOutcome, MaskedColumn, Place, ResultColumn, Verdict};
#[cfg(feature = "judge")]
pub use judge::{JudgeRequest, foresee_masks, judge, masks_apply, plan_copy, plan_masks, text_detectors};
#[cfg(feature = "judge")]
pub use state::{SessionState, search_path_names};
