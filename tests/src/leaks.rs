//! What the leak suite is made of: values that must not be seen anywhere, the search for them in every form they could have, and a client
//! that keeps every byte it receives.
//!
//! Owns: forms and search, the raw client. Does not own: what is asked, nor what is protected.

mod canary;
mod wire;

pub use canary::Canaries;
pub use wire::{Format, Received, Wire};
