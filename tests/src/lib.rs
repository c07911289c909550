//! The end-to-end harness: everything around the gateway, made up on the spot and thrown away afterwards.
//!
//! Owns: a throw-away Postgres, certificates, an OIDC issuer, a Slack look-alike, the runners of the real programs, and [`stack`], which
//! puts them together for the demo and for the scenarios in `tests/tests/`. Does not own: any behaviour of the gateway's.

pub mod audit;
pub mod bot;
pub mod browser;
pub mod client;
pub mod cluster;
pub mod compat;
pub mod corpus;
pub mod demo;
pub mod front;
pub mod gateway;
pub mod http;
pub mod kills;
pub mod leaks;
pub mod localstack;
pub mod oidc;
pub mod pki;
pub mod process;
pub mod programs;
pub mod reviewer;
pub mod scenario;
pub mod slack;
pub mod stack;
