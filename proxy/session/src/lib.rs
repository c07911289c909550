//! One session as a state machine without I/O.
//!
//! Bytes from the client, bytes from the server, approvals, durability acknowledgements and time go in; bytes for both sides and
//! [`Effect`]s come out. Owns: the order of things (decision before byte, record before effect and disclosure, hold and release),
//! the names of statements and portals, masking of rows, and what a refusal leaves behind. Does not own: judging (`countersign-policy`),
//! verifying decisions (`countersign-approval`), sockets, stores and clocks (the proxy's driver).
//!
//! Invariants, named as in the design:
//! - **I1** every Query, Parse and Bind that goes upstream, and every Execute of a cursor that SQL declared, passes through [`permit`](self) values made from a judgement;
//! - **I2** a held statement's permit is made only from a `VerifiedQuorum` with the same request and digest, from a signed template that covers
//!   exactly it, or where the policy lets this principal break glass, which is recorded and to be reviewed;
//! - **I3** in strict durability both outboxes release bytes only when the events before them are durable;
//! - **I5** a refusal puts something that fails in the refused message's place, so that the transaction ends as after a native error.

mod asking;
mod at_once;
mod client;
mod copy;
mod cursors;
mod effect;
mod ends;
mod errors;
mod extended;
mod gates;
mod hold;
mod judging;
mod names;
mod opening;
mod outbox;
mod passage;
mod permit;
mod pipeline;
mod rows;
mod server;
mod session;
mod setup;
mod sources;
mod texts;

pub use effect::{BreakGlass, Effect, End, HoldRequest};
pub use opening::Opening;
pub use outbox::Outbox;
pub use session::Session;
pub use setup::{Holding, Limits, Setup};
pub use sources::reviewer_sources;
