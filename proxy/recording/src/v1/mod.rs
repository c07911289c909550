//! Version 1. Never changes; a change is `v2`.

pub(crate) mod cbor;
pub mod chain;
pub(crate) mod decode;
pub mod digest;
pub mod digests;
pub(crate) mod encode;
pub mod event;
pub mod ids;
pub mod index;
pub mod journals;
pub mod keys;
pub mod manifest;
pub mod names;
pub mod object;
pub mod recording;
pub mod seal;
pub mod sealed;
pub mod summary;
pub mod verify;
pub mod writer;
