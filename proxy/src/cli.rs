//! The command line's parts that have modules of their own.

pub mod pending;
pub mod policy;
pub mod template;
