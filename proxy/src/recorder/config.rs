//! What the recorder is told.

use std::time::Duration;

use crate::config::{Durability, Recording, RecordingStore, Sealing, SigningKey};

/// All of it.
#[derive(Debug, Clone)]
pub struct RecorderConfig {
    /// Name of the deployment.
    pub environment: String,
    /// Program and version.
    pub build: String,
    /// Store.
    pub store: RecordingStore,
    /// Durability.
    pub durability: Durability,
    /// What signs manifests.
    pub signing_key: SigningKey,
    /// What is sealed, and for whom.
    pub sealing: Option<Sealing>,
    /// Sizes and times.
    pub tuning: Tuning,
}

/// Sizes and times that seldom need to change.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Least time between the beginnings of two journal objects.
    pub flush_interval: Duration,
    /// `async` only: how long events may lie before they are looked at. A part of what a crash may lose.
    pub look_interval: Duration,
    /// Most journal objects under way at a time; they are acknowledged in order. After a crash so many at the end of the journal may have holes
    /// between them, which readers take for never acknowledged.
    pub in_flight: usize,
    /// Events beyond this make a segment, bytes before compression.
    pub segment_bytes: usize,
    /// What a session has waiting beyond this goes into a segment of its own, not through the journal.
    pub bulk_bytes: usize,
    /// A journal object takes no more sessions beyond this size.
    pub journal_bytes: usize,
    /// How long a store may fail before sessions are ended (`strict`).
    pub patience: Duration,
    /// Most bytes waiting for durability: beyond this `async` sessions lose events and `strict` ones are not begun.
    pub buffer_bytes: u64,
    /// Most memory for segments in the making; beyond this the largest is cut early.
    pub segment_memory: usize,
    /// How long one attempt may take, plus a second for each MiB.
    pub attempt: Duration,
    /// Longest pause between attempts.
    pub backoff: Duration,
    /// How long a journal entry that nobody waits for may wait for company.
    pub idle: Duration,
    /// Time between two digests.
    pub digest_interval: Duration,
    /// A task that has written no digest for so long, while this one could have seen it, is taken to be dead.
    pub orphan_after: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            flush_interval: Duration::from_millis(5),
            look_interval: Duration::from_millis(10),
            in_flight: 16,
            segment_bytes: 4 << 20,
            bulk_bytes: 256 << 10,
            journal_bytes: 8 << 20,
            patience: Duration::from_secs(30),
            buffer_bytes: 256 << 20,
            segment_memory: 256 << 20,
            attempt: Duration::from_secs(10),
            backoff: Duration::from_secs(2),
            idle: Duration::from_secs(1),
            digest_interval: Duration::from_secs(300),
            orphan_after: Duration::from_secs(900),
        }
    }
}

impl RecorderConfig {
    /// From the configuration's `environment` and `[recording]`.
    #[must_use]
    pub fn new(environment: &str, recording: &Recording) -> Self {
        Self {
            environment: environment.to_owned(),
            build: concat!("countersign-proxy ", env!("CARGO_PKG_VERSION")).to_owned(),
            store: recording.store.clone(),
            durability: recording.durability,
            signing_key: recording.signing_key.clone(),
            sealing: recording.sealing.clone(),
            tuning: Tuning {
                flush_interval: recording.flush_interval,
                patience: recording.retry_window,
                digest_interval: recording.digest_interval,
                orphan_after: recording.orphan_after,
                ..Tuning::default()
            },
        }
    }

    pub(super) fn gated(&self) -> bool {
        self.durability == Durability::Strict
    }
}
