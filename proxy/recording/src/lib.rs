//! The recording format: events, hash chain, segments, journals, manifests; write, read and verify. No I/O, no clock.
//!
//! `docs/recording-format.md` specifies every byte. The writer's side is [`Chain`], [`SegmentWriter`], [`JournalWriter`] and
//! [`Manifest`]; the reader's is [`Journals`], [`Recording`] and [`verify_session`], all over bytes that somebody else fetched.

pub mod v1;

pub use v1::chain::{Chain, RawEvent};
pub use v1::digest::{DayDigest, Head, IndexEntry, OpenSession, Outage, SeenDay, SeenTask, TaskDigest, TaskState};
pub use v1::digests::{Anchor, Digests};
pub use v1::event::Event;
pub use v1::ids::{Hash, KeyId, SessionId, TaskId};
pub use v1::index::{IndexRow, read_index, write_index};
pub use v1::journals::Journals;
pub use v1::keys::{Keys, SigningKey};
pub use v1::manifest::{JournalRange, Manifest, Seal, SegmentEntry, TaskStatement, Unsigned};
pub use v1::names::ObjectName;
pub use v1::object::{FormatError, JournalEntry, Limits};
pub use v1::recording::{Object, Recording};
pub use v1::seal::{OrphanSeal, seal_orphan};
pub use v1::sealed::{DataKey, SealError, Sealed, Share, opening_key_id};
pub use v1::summary::Summary;
pub use v1::verify::{Finding, Problem, Report, verify_session, verify_store};
pub use v1::writer::{JournalWriter, SegmentWriter};
