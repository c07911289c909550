//! The recording format: events, hash chain, segments, journals, manifests; write, read and verify. No I/O, no clock.
//!
//! `docs/recording-format.md` specifies every byte.

pub mod v1;

pub use v1::event::Event;
