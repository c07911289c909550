//! The format as its users meet it: golden bytes, tampering, hostile input, and the reader in Python.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;
mod golden;
mod hostile;
mod python_reader;
mod tamper;
