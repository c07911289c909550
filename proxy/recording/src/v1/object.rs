//! Segments and journal objects as bytes: zstd frames around a CBOR sequence of a header, the content, and a signature by the task.

use std::io::Read;

use bytes::Bytes;
use minicbor::Decoder;

use super::cbor::{self, Fields, Value};
use super::chain::{RawEvent, next_item};
use super::ids::{Hash, SessionId, TaskId};

pub(crate) const SEGMENT_TYPE: &str = "countersign-segment";
pub(crate) const JOURNAL_TYPE: &str = "countersign-journal";

/// Largest zstd window a reader accepts, as a power of two: what RFC 8878 section 3.1.1.1.2 asks every decoder to support.
const MAX_WINDOW_LOG: u32 = 23;

/// Bounds for reading what others may have written.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest decompressed size of one object, bytes.
    pub decompressed: u64,
}

impl Default for Limits {
    /// 1 GiB. Writers cut at a few MiB; only one enormous event makes a larger object.
    fn default() -> Self {
        Self { decompressed: 1 << 30 }
    }
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Not zstd, or cut off.
    #[error("not readable as zstd: {0}")]
    Zstd(String),
    /// Larger than the reader's limit.
    #[error("larger than {0} bytes when decompressed")]
    TooLarge(u64),
    /// Not CBOR.
    #[error("not readable as CBOR: {0}")]
    Cbor(String),
    /// Not of the format.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A field is missing or of another type.
    #[error("field {name}: expected {expected}")]
    Field {
        /// Field.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A field version 1 does not have.
    #[error("unknown field {0:?}")]
    UnknownField(String),
    /// A kind of event or entry version 1 does not have.
    #[error("unknown kind {0:?}")]
    UnknownKind(String),
    /// An event has another number than its place.
    #[error("expected event {expected}, found event {found}")]
    OutOfOrder {
        /// Expected number.
        expected: u64,
        /// Number found.
        found: u64,
    },
    /// The hash in an event is not that of the one before.
    #[error("event {event} does not carry the hash of the event before it")]
    BrokenChain {
        /// Event.
        event: u64,
    },
}

impl From<minicbor::decode::Error> for FormatError {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Cbor(error.to_string())
    }
}

/// A segment that was read; nothing in it is verified yet.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Session it says it belongs to.
    pub session: SessionId,
    /// Task that wrote it; none when somebody else sealed an orphan.
    pub task: Option<TaskId>,
    /// Number, from 0.
    pub number: u32,
    /// Number of its first event.
    pub first: u64,
    /// Hash of the event before its first.
    pub previous: Hash,
    /// Events.
    pub events: Vec<RawEvent>,
    /// The task's signature over all decompressed bytes before it.
    pub signature: Option<[u8; 64]>,
    /// What it signs.
    pub signed: Bytes,
}

/// A journal object that was read; nothing in it is verified yet.
#[derive(Debug, Clone)]
pub struct Journal {
    /// Task.
    pub task: TaskId,
    /// Number, from 0.
    pub number: u32,
    /// SHA-256 of the object before: of `task.json` for number 0.
    pub previous: Hash,
    /// When it was made, microseconds since the epoch.
    pub time_us: i64,
    /// How many objects of this journal, from number 0, were stored and acknowledged when it was made.
    pub stored: u32,
    /// Entries.
    pub entries: Vec<JournalEntry>,
    /// The task's signature over all decompressed bytes before it.
    pub signature: Option<[u8; 64]>,
    /// What it signs.
    pub signed: Bytes,
}

/// What a journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalEntry {
    /// Events of a session, in order.
    Events {
        /// Session.
        session: SessionId,
        /// Number of the first.
        first: u64,
        /// CBOR sequence of their exact bytes.
        events: Bytes,
    },
    /// A segment was stored.
    Segment {
        /// Session.
        session: SessionId,
        /// Segment number.
        number: u32,
        /// SHA-256 of the object.
        sha256: Hash,
        /// How many events of the session are in this segment and those before it.
        events: u64,
    },
    /// A session was sealed.
    Manifest {
        /// Session.
        session: SessionId,
        /// SHA-256 of the object.
        sha256: Hash,
    },
    /// A digest was stored.
    Digest {
        /// Its number.
        number: u32,
        /// SHA-256 of the object.
        sha256: Hash,
    },
    /// The task ended; nothing comes after.
    End,
}

impl Segment {
    /// Reads an object.
    ///
    /// # Errors
    /// When it is not a segment.
    pub fn read(object: &[u8], limits: &Limits) -> Result<Self, FormatError> {
        let (bytes, mut header, mut at) = open(object, SEGMENT_TYPE, limits)?;
        let task = header.optional_bytes("task")?.map(|id| task_id(&id)).transpose()?;
        let segment_number = number(&mut header)?;
        let (session, first, previous) = (session_id(&header.bytes("session")?)?, header.uint("first")?, Hash(header.hash("previous")?));
        header.end()?;
        let mut events = Vec::new();
        let (signed, signature) = loop {
            let start = at;
            if is_trailer(&bytes, at) {
                break trailer(&bytes, start, &mut at)?;
            }
            events.push(RawEvent::read(&bytes, &mut at)?);
        };
        Ok(Self { session, task, number: segment_number, first, previous, events, signature, signed })
    }
}

impl Journal {
    /// Reads an object.
    ///
    /// # Errors
    /// When it is not a journal.
    pub fn read(object: &[u8], limits: &Limits) -> Result<Self, FormatError> {
        let (bytes, mut header, mut at) = open(object, JOURNAL_TYPE, limits)?;
        let journal_number = number(&mut header)?;
        let (task, previous, time_us) = (task_id(&header.bytes("task")?)?, Hash(header.hash("previous")?), header.int("time_us")?);
        let stored = u32::try_from(header.uint("stored")?).map_err(|_| FormatError::Field { name: "stored", expected: "32 bits" })?;
        header.end()?;
        let mut entries = Vec::new();
        let (signed, signature) = loop {
            let start = at;
            if is_trailer(&bytes, at) {
                break trailer(&bytes, start, &mut at)?;
            }
            let item = next_item(&bytes, &mut at)?;
            entries.push(entry(&item)?);
        };
        Ok(Self { task, number: journal_number, previous, time_us, stored, entries, signature, signed })
    }
}

fn entry(item: &Bytes) -> Result<JournalEntry, FormatError> {
    let mut decoder = Decoder::new(item);
    let Value::Array(values) = cbor::value(&mut decoder, item)? else {
        return Err(FormatError::Malformed("an entry is an array"));
    };
    let mut values = values.into_iter();
    let kind = match values.next() {
        Some(Value::Text(kind)) => kind,
        _ => return Err(FormatError::Malformed("an entry begins with its kind")),
    };
    let rest: Vec<Value> = values.collect();
    Ok(match (kind.as_str(), rest.as_slice()) {
        ("events", [Value::Bytes(session), Value::Uint(first), Value::Bytes(events)]) => {
            JournalEntry::Events { session: session_id(session)?, first: *first, events: events.clone() }
        }
        ("segment", [Value::Bytes(session), Value::Uint(number), Value::Bytes(sha256), Value::Uint(events)]) => JournalEntry::Segment {
            session: session_id(session)?,
            number: u32::try_from(*number).map_err(|_| FormatError::Malformed("segment number"))?,
            sha256: hash(sha256)?,
            events: *events,
        },
        ("manifest", [Value::Bytes(session), Value::Bytes(sha256)]) => {
            JournalEntry::Manifest { session: session_id(session)?, sha256: hash(sha256)? }
        }
        ("digest", [Value::Uint(number), Value::Bytes(sha256)]) => JournalEntry::Digest {
            number: u32::try_from(*number).map_err(|_| FormatError::Malformed("digest number"))?,
            sha256: hash(sha256)?,
        },
        ("end", []) => JournalEntry::End,
        _ => return Err(FormatError::UnknownKind(kind.chars().take(40).collect())),
    })
}

/// Decompresses, reads the header and checks its type and version.
pub(crate) fn open(object: &[u8], kind: &'static str, limits: &Limits) -> Result<(Bytes, Fields, usize), FormatError> {
    let bytes = Bytes::from(decompress(object, limits)?);
    let mut at = 0;
    let header = next_item(&bytes, &mut at)?;
    let mut fields = Fields::of(cbor::value(&mut Decoder::new(&header), &header)?)?;
    if fields.text("type")? != kind {
        return Err(FormatError::Field { name: "type", expected: kind });
    }
    if fields.uint("version")? != 1 {
        return Err(FormatError::Field { name: "version", expected: "1; use a newer reader" });
    }
    Ok((bytes, fields, at))
}

/// Decompresses every frame, never beyond the limit.
pub(crate) fn decompress(object: &[u8], limits: &Limits) -> Result<Vec<u8>, FormatError> {
    let zstd = |error: std::io::Error| FormatError::Zstd(error.to_string());
    plain_frames(object)?;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(object).map_err(zstd)?;
    decoder.window_log_max(MAX_WINDOW_LOG).map_err(zstd)?;
    let mut out = Vec::new();
    decoder.take(limits.decompressed.saturating_add(1)).read_to_end(&mut out).map_err(zstd)?;
    if u64::try_from(out.len()).unwrap_or(u64::MAX) > limits.decompressed {
        return Err(FormatError::TooLarge(limits.decompressed));
    }
    Ok(out)
}

/// Nothing may hide where decoders do not look: no skippable frames, and the bit of the frame header descriptor that decoders ignore
/// (RFC 8878 section 3.1.1.1.1.3) is zero.
fn plain_frames(object: &[u8]) -> Result<(), FormatError> {
    let mut rest = object;
    while !rest.is_empty() {
        let hidden = match rest {
            [0x28, 0xb5, 0x2f, 0xfd, descriptor, ..] => descriptor & 0x10 != 0,
            _ => return Err(FormatError::Zstd("no frame".to_owned())),
        };
        if hidden {
            return Err(FormatError::Zstd("a bit is set that is never set".to_owned()));
        }
        let length = zstd::zstd_safe::find_frame_compressed_size(rest)
            .map_err(|code| FormatError::Zstd(zstd::zstd_safe::get_error_name(code).to_owned()))?;
        rest = match rest.get(length..) {
            Some(after) if length > 0 => after,
            _ => return Err(FormatError::Zstd("a frame goes beyond the end".to_owned())),
        };
    }
    Ok(())
}

/// The trailer is the one item that is no array: a byte string of 64, or null.
fn is_trailer(bytes: &Bytes, at: usize) -> bool {
    bytes.get(at).is_none_or(|first| first >> 5 != 4)
}

fn trailer(bytes: &Bytes, start: usize, at: &mut usize) -> Result<(Bytes, Option<[u8; 64]>), FormatError> {
    let item = next_item(bytes, at)?;
    if *at != bytes.len() {
        return Err(FormatError::Malformed("something follows the signature"));
    }
    // Its own head is not among what it signs.
    if item.len() != 1 && !item.starts_with(&[0x58, 64]) {
        return Err(FormatError::Malformed("not the deterministic encoding"));
    }
    let signature = match cbor::value(&mut Decoder::new(&item), &item)? {
        Value::Null => None,
        Value::Bytes(signature) => {
            Some(<[u8; 64]>::try_from(signature.as_ref()).map_err(|_| FormatError::Malformed("a signature has 64 bytes"))?)
        }
        _ => return Err(FormatError::Malformed("expected an event or a signature")),
    };
    Ok((bytes.slice(..start.min(bytes.len())), signature))
}

fn number(header: &mut Fields) -> Result<u32, FormatError> {
    u32::try_from(header.uint("number")?).map_err(|_| FormatError::Field { name: "number", expected: "32 bits" })
}

pub(crate) fn session_id(bytes: &Bytes) -> Result<SessionId, FormatError> {
    <[u8; 16]>::try_from(bytes.as_ref()).map(SessionId::from_bytes).map_err(|_| FormatError::Malformed("a session id has 16 bytes"))
}

fn task_id(bytes: &Bytes) -> Result<TaskId, FormatError> {
    <[u8; 16]>::try_from(bytes.as_ref()).map(TaskId::from_bytes).map_err(|_| FormatError::Malformed("a task id has 16 bytes"))
}

fn hash(bytes: &Bytes) -> Result<Hash, FormatError> {
    <[u8; 32]>::try_from(bytes.as_ref()).map(Hash).map_err(|_| FormatError::Malformed("a hash has 32 bytes"))
}
