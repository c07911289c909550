//! The bot: shows requests to reviewers in Slack, takes their presses, signs their decisions.
//!
//! The same library runs as a Lambda behind a Function URL and a DynamoDB stream, and in-process for the demo. What it shows is what it
//! signs: a press carries the fingerprint of the request the card was made of, and the digest in a decision is computed from that.

pub mod bot;
pub mod card;
pub mod cards;
pub mod clock;
pub mod config;
pub mod decide;
pub mod digest;
mod html;
pub mod interactions;
pub mod keygen;
pub mod lambda;
pub mod links;
pub mod marks;
pub mod members;
pub mod policies;
mod questions;
pub mod router;
pub mod signature;
pub mod signer;
pub mod slack;
pub mod step_up;
pub mod store;
pub mod values;
pub mod visible;
mod votes;
pub mod watch;
pub mod web;
pub mod webhook;

pub use bot::Bot;
