//! The gateway's shell: everything that touches sockets, clocks, files and AWS. Decisions are made in the leaf crates and in the sans-io
//! session; this crate carries bytes to them and effects away from them.
//!
//! The way of a connection: [`listener`] accepts, [`startup`] reads the start-up packet and the token, [`identity`] makes a principal of it,
//! [`upstream`] logs in to the server, and [`driver`] runs the session with what [`established`] describes.

pub mod approvals;
pub mod cancel;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod connection;
pub mod door;
pub mod driver;
pub mod error;
pub mod established;
mod estimate;
pub mod health;
pub mod identity;
pub mod listener;
pub mod logging;
pub mod metrics;
pub mod policy_source;
mod proxy_protocol;
pub mod recorder;
pub mod serve;
pub mod shutdown;
pub mod startup;
pub mod upstream;
