//! Statement judgement: SQL, a verified principal and catalog facts in, a decision out.
//!
//! No I/O, no clock, no randomness. The judge is PostgreSQL's own grammar (`pg_query`), `sqlparser` is the second opinion; what
//! is not understood counts as the riskiest class.

pub mod catalog;
pub mod decision;
pub mod document;
pub mod facts;
pub mod judge;
pub mod principal;
pub mod state;

pub use catalog::Catalog;
pub use decision::{Denial, HoldTerms, Judgement, MaskOutcome, ResultColumn, Verdict};
pub use document::{Policy, PolicyDigest, PolicyError};
pub use facts::{StatementFacts, StatementKind};
pub use judge::{JudgeRequest, judge};
pub use principal::Principal;
pub use state::SessionState;
