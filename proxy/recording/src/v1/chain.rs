//! The chain of a session's events: each carries the SHA-256 of the exact bytes of the one before.

use bytes::Bytes;
use minicbor::Decoder;

use super::cbor;
use super::event::Event;
use super::ids::{Hash, SessionId};
use super::object::FormatError;
use super::{decode, encode};

/// Where a session's chain stands: numbers and links its events.
#[derive(Debug, Clone)]
pub struct Chain {
    session: SessionId,
    next: u64,
    head: Hash,
}

impl Chain {
    /// At the start: the next event is number 0.
    #[must_use]
    pub fn new(session: SessionId) -> Self {
        Self { session, next: 0, head: Hash::genesis(session) }
    }

    /// Continuing after `next` events of which the last has the hash `head`.
    #[must_use]
    pub fn resume(session: SessionId, next: u64, head: Hash) -> Self {
        Self { session, next, head }
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// How many events there are: the number of the next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Hash of the last event, or what stands before event 0.
    #[must_use]
    pub fn head(&self) -> Hash {
        self.head
    }

    /// Appends the exact bytes of one event to `out`.
    pub fn append(&mut self, time_us: i64, event: &Event, out: &mut Vec<u8>) {
        let start = out.len();
        encode::encode(self.next, time_us, &self.head, event, out);
        self.head = Hash::of(out.get(start..).unwrap_or_default());
        self.next = self.next.saturating_add(1);
    }

    /// Takes over an event that was read, when it is the next.
    ///
    /// # Errors
    /// Says what does not fit: number or hash.
    pub fn accept(&mut self, event: &RawEvent) -> Result<(), FormatError> {
        if event.number != self.next {
            return Err(FormatError::OutOfOrder { expected: self.next, found: event.number });
        }
        if event.previous != self.head {
            return Err(FormatError::BrokenChain { event: event.number });
        }
        self.head = event.hash;
        self.next = self.next.saturating_add(1);
        Ok(())
    }
}

/// An event as it was read: envelope understood, body not yet looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEvent {
    /// Number in the session, from 0.
    pub number: u64,
    /// Time, microseconds since the epoch.
    pub time_us: i64,
    /// Hash of the event before.
    pub previous: Hash,
    /// Kind.
    pub kind: String,
    /// Hash of this event.
    pub hash: Hash,
    /// Exact bytes.
    pub bytes: Bytes,
}

impl RawEvent {
    /// Reads the next item of a CBOR sequence. `at` moves behind it.
    ///
    /// # Errors
    /// When it is not an event.
    pub(crate) fn read(sequence: &Bytes, at: &mut usize) -> Result<Self, FormatError> {
        let bytes = next_item(sequence, at)?;
        let mut decoder = Decoder::new(&bytes);
        if decoder.array()? != Some(5) {
            return Err(FormatError::Malformed("an event is an array of five"));
        }
        let number = decoder.u64()?;
        let time_us = decoder.i64()?;
        let previous =
            Hash(<[u8; 32]>::try_from(decoder.bytes()?).map_err(|_| FormatError::Malformed("the hash of the event before has 32 bytes"))?);
        let kind = decoder.str()?.to_owned();
        Ok(Self { number, time_us, previous, kind, hash: Hash::of(&bytes), bytes })
    }

    /// All events of a CBOR sequence.
    ///
    /// # Errors
    /// When anything in it is not an event.
    pub fn sequence(sequence: &Bytes) -> Result<Vec<Self>, FormatError> {
        let mut at = 0;
        let mut events = Vec::new();
        while at < sequence.len() {
            events.push(Self::read(sequence, &mut at)?);
        }
        Ok(events)
    }

    /// The event itself.
    ///
    /// # Errors
    /// When the body is not that of its kind, or the bytes are not the deterministic encoding.
    pub fn event(&self) -> Result<Event, FormatError> {
        let mut decoder = Decoder::new(&self.bytes);
        decoder.array()?;
        for _ in 0..4 {
            decoder.skip()?;
        }
        let event = decode::event(&self.kind, cbor::value(&mut decoder, &self.bytes)?)?;
        let mut again = Vec::with_capacity(self.bytes.len());
        encode::encode(self.number, self.time_us, &self.previous, &event, &mut again);
        if again == self.bytes { Ok(event) } else { Err(FormatError::Malformed("not the deterministic encoding")) }
    }
}

/// Cuts the next item off a CBOR sequence.
pub(crate) fn next_item(sequence: &Bytes, at: &mut usize) -> Result<Bytes, FormatError> {
    let rest = sequence.get(*at..).ok_or(FormatError::Malformed("beyond the end"))?;
    if rest.is_empty() {
        return Err(FormatError::Malformed("it ends too early"));
    }
    let mut decoder = Decoder::new(rest);
    decoder.skip()?;
    let item = rest.get(..decoder.position()).ok_or(FormatError::Malformed("an item goes beyond the end"))?;
    *at = at.saturating_add(item.len());
    Ok(sequence.slice_ref(item))
}
