//! Approval requests and signed decisions: types, canonical bytes, sign and verify. No I/O, no clock, no randomness.
//!
//! The database that carries these is not trusted: the bot signs the digest of what it *showed*, the proxy compares with what it
//! *holds*.

pub mod break_glass;
pub mod digest;
pub mod item;
pub mod jws;
pub mod keys;
pub mod request;
pub mod template;
pub mod v1;
pub mod v2;
pub mod verify;

pub use digest::{Parameter, StatementDigest};
pub use jws::{TokenError, UnverifiedDecision};
pub use keys::{KeyError, KeyId, VerifyingKeys};
pub use request::{RequestError, UnverifiedRequest};
pub use template::{Template, TemplateError, TemplateUse, Templates, VerifiedTemplate};
pub use v1::{Decision, InvalidRequestId, Request, RequestId, Verdict};
pub use verify::{Expectation, GrantError, Rejection, VerifiedQuorum};
