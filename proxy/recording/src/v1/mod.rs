//! Version 1. Never changes; a change is `v2`.

pub mod event;
