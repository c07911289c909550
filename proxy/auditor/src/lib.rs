//! `countersign-audit`: list, search, show, replay, verify and export recordings, with public keys only; seal orphans and set legal holds.
//!
//! Owns: fetching recordings from a directory or bucket, checking what the format crate cannot know (signed approvals, statement
//! digests, retention), and showing all of it to people and programs. Does not own: the format (`countersign-recording`) and the
//! rules of approvals (`countersign-approval`). Never depends on the proxy: an auditor trusts neither it nor its operator.

pub mod catalogue;
pub mod cli;
pub mod evidence;
pub mod export;
pub mod frames;
pub mod hold;
pub mod keys;
pub mod list;
pub mod load;
pub mod opening;
pub mod reconcile;
pub mod replay;
pub mod reviews;
pub mod seal;
pub mod search;
pub mod show;
pub mod store;
pub mod text;
pub mod values;
pub mod verify;
