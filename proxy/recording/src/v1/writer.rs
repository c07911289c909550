//! Making objects. Events come in as the exact bytes that [`super::chain::Chain`] made.

use sha2::{Digest, Sha256};

use super::cbor::Writer;
use super::ids::{Hash, SessionId, TaskId};
use super::keys::SigningKey;
use super::object::{FormatError, JOURNAL_TYPE, JournalEntry, SEGMENT_TYPE};

/// Plain bytes are gathered to this size and then compressed into a frame of their own, so that a session waiting for its segment costs little memory.
const FRAME: usize = 256 * 1024;

/// Compression level of segments: the recorder must keep up with the rows of all sessions.
const SEGMENT_LEVEL: i32 = 1;

/// Compression level of journals, on the way to every acknowledgement.
const JOURNAL_LEVEL: i32 = 1;

/// A segment in the making. Holds compressed frames and at most one frame's worth of plain bytes.
pub struct SegmentWriter {
    number: u32,
    plain: Vec<u8>,
    frames: Vec<u8>,
    hasher: Sha256,
    size: usize,
    first: u64,
    events: u64,
}

impl SegmentWriter {
    /// Begins a segment. `task` is none when somebody else than the session's task seals it.
    #[must_use]
    pub fn new(session: SessionId, task: Option<TaskId>, number: u32, first: u64, previous: &Hash) -> Self {
        let mut plain = Vec::new();
        let mut w = Writer(&mut plain);
        w.map(7);
        w.text("task");
        match task {
            Some(task) => w.bytes(task.as_bytes()),
            None => w.null(),
        }
        w.text("type");
        w.text(SEGMENT_TYPE);
        w.text("first");
        w.uint(first);
        w.text("number");
        w.uint(u64::from(number));
        w.text("session");
        w.bytes(session.as_bytes());
        w.text("version");
        w.uint(1);
        w.text("previous");
        w.bytes(previous.as_bytes());
        Self { number, plain, frames: Vec::new(), hasher: Sha256::new(), size: 0, first, events: 0 }
    }

    /// Appends `count` events.
    ///
    /// # Errors
    /// When compression fails.
    pub fn push(&mut self, events: &[u8], count: u64) -> Result<(), FormatError> {
        self.plain.extend_from_slice(events);
        self.size = self.size.saturating_add(events.len());
        self.events = self.events.saturating_add(count);
        if self.plain.len() >= FRAME { self.frame() } else { Ok(()) }
    }

    fn frame(&mut self) -> Result<(), FormatError> {
        self.hasher.update(&self.plain);
        compress(&self.plain, SEGMENT_LEVEL, &mut self.frames)?;
        // The capacity is given back: most sessions idle.
        self.plain = Vec::new();
        Ok(())
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Number of its first event.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Events in it so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Bytes of events so far, before compression.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Memory it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.plain.len().saturating_add(self.frames.len())
    }

    /// The object, with the task's signature.
    ///
    /// # Errors
    /// When compression or signing fails.
    pub fn finish(mut self, key: Option<&SigningKey>) -> Result<Vec<u8>, FormatError> {
        let mut hasher = std::mem::take(&mut self.hasher);
        hasher.update(&self.plain);
        trailer(&mut self.plain, hasher, key)?;
        compress(&self.plain, SEGMENT_LEVEL, &mut self.frames)?;
        Ok(self.frames)
    }
}

/// A journal object in the making.
pub struct JournalWriter {
    plain: Vec<u8>,
}

impl JournalWriter {
    /// Begins one. `previous` is the SHA-256 of the object before, of `task.json` for number 0; `stored` objects are acknowledged by now.
    #[must_use]
    pub fn new(task: TaskId, number: u32, previous: &Hash, time_us: i64, stored: u32) -> Self {
        let mut plain = Vec::new();
        let mut w = Writer(&mut plain);
        w.map(7);
        w.text("task");
        w.bytes(task.as_bytes());
        w.text("type");
        w.text(JOURNAL_TYPE);
        w.text("number");
        w.uint(u64::from(number));
        w.text("stored");
        w.uint(u64::from(stored));
        w.text("time_us");
        w.int(time_us);
        w.text("version");
        w.uint(1);
        w.text("previous");
        w.bytes(previous.as_bytes());
        Self { plain }
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: &JournalEntry) {
        let mut w = Writer(&mut self.plain);
        match entry {
            JournalEntry::Events { session, first, events } => {
                w.array(4);
                w.text("events");
                w.bytes(session.as_bytes());
                w.uint(*first);
                w.bytes(events);
            }
            JournalEntry::Segment { session, number, sha256, events } => {
                w.array(5);
                w.text("segment");
                w.bytes(session.as_bytes());
                w.uint(u64::from(*number));
                w.bytes(sha256.as_bytes());
                w.uint(*events);
            }
            JournalEntry::Manifest { session, sha256 } => {
                w.array(3);
                w.text("manifest");
                w.bytes(session.as_bytes());
                w.bytes(sha256.as_bytes());
            }
            JournalEntry::Digest { number, sha256 } => {
                w.array(3);
                w.text("digest");
                w.uint(u64::from(*number));
                w.bytes(sha256.as_bytes());
            }
            JournalEntry::End => {
                w.array(1);
                w.text("end");
            }
        }
    }

    /// Bytes so far, before compression.
    #[must_use]
    pub fn size(&self) -> usize {
        self.plain.len()
    }

    /// The object, with the task's signature.
    ///
    /// # Errors
    /// When compression or signing fails.
    pub fn finish(mut self, key: &SigningKey) -> Result<Vec<u8>, FormatError> {
        let mut hasher = Sha256::new();
        hasher.update(&self.plain);
        trailer(&mut self.plain, hasher, Some(key))?;
        let mut object = Vec::new();
        compress(&self.plain, JOURNAL_LEVEL, &mut object)?;
        Ok(object)
    }
}

fn trailer(plain: &mut Vec<u8>, hasher: Sha256, key: Option<&SigningKey>) -> Result<(), FormatError> {
    let signature = key.map(|key| key.sign_digest(hasher)).transpose()?;
    match signature {
        Some(signature) => Writer(plain).bytes(&signature),
        None => Writer(plain).null(),
    }
    Ok(())
}

/// One frame, with content size and checksum (RFC 8878 section 3.1.1).
pub(crate) fn compress(plain: &[u8], level: i32, out: &mut Vec<u8>) -> Result<(), FormatError> {
    let zstd = |error: std::io::Error| FormatError::Zstd(error.to_string());
    let mut compressor = zstd::bulk::Compressor::new(level).map_err(zstd)?;
    compressor.include_checksum(true).map_err(zstd)?;
    out.extend_from_slice(&compressor.compress(plain).map_err(zstd)?);
    Ok(())
}
