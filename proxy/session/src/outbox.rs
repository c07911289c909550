//! A queue of bytes for one side, released in order as the recording becomes durable.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Chunks shorter than this are copied together; longer ones are passed on as they are.
const COPY_BELOW: usize = 8 * 1024;

/// Bytes that wait for durability. A chunk with gate `n` goes out once `n` events are durable; order is never changed.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Chunk>,
    tail: BytesMut,
    tail_gate: u64,
    queued: usize,
    /// What was released last ends within a frame.
    within_frame: bool,
}

#[derive(Debug)]
struct Chunk {
    gate: u64,
    bytes: Bytes,
    /// Its end is the end of a frame.
    whole: bool,
}

impl Outbox {
    /// Appends bytes by copying. Chunks are joined, so a gate holds back what was appended before it and is not yet closed off, too.
    pub(crate) fn copy(&mut self, gate: u64, bytes: &[u8]) {
        self.write(gate, |tail| tail.extend_from_slice(bytes));
    }

    /// Appends what `write` writes.
    pub(crate) fn write(&mut self, gate: u64, write: impl FnOnce(&mut BytesMut)) {
        if gate > self.tail_gate && !self.tail.is_empty() {
            self.close();
        }
        self.tail_gate = self.tail_gate.max(gate);
        write(&mut self.tail);
    }

    /// Appends a chunk, without copying it when it is long.
    pub(crate) fn push(&mut self, gate: u64, bytes: Bytes) {
        if bytes.len() < COPY_BELOW {
            self.copy(gate, &bytes);
            return;
        }
        self.pass(gate, bytes, true);
    }

    /// Appends a piece of a frame, or a chunk that ends with one (`whole`), without copying it.
    pub(crate) fn pass(&mut self, gate: u64, bytes: Bytes, whole: bool) {
        self.close();
        self.tail_gate = self.tail_gate.max(gate);
        self.queued += bytes.len();
        self.queue.push_back(Chunk { gate: self.tail_gate, bytes, whole });
    }

    /// Raises the gate of what was appended since the last close.
    pub(crate) fn raise(&mut self, from: usize, gate: u64) {
        for chunk in self.queue.iter_mut().skip(from) {
            chunk.gate = chunk.gate.max(gate);
        }
        self.tail_gate = self.tail_gate.max(gate);
    }

    /// Number of closed chunks, a mark for [`Outbox::raise`].
    pub(crate) fn mark(&mut self) -> usize {
        self.close();
        self.queue.len()
    }

    fn close(&mut self) {
        if !self.tail.is_empty() {
            let bytes = self.tail.split().freeze();
            self.queued += bytes.len();
            self.queue.push_back(Chunk { gate: self.tail_gate, bytes, whole: true });
        }
    }

    /// The next chunk that may go out when `durable` events are durable.
    pub fn release(&mut self, durable: u64) -> Option<Bytes> {
        if self.queue.is_empty() {
            self.close();
        }
        match self.queue.front() {
            Some(chunk) if chunk.gate <= durable => {
                let Chunk { bytes, whole, .. } = self.queue.pop_front()?;
                self.queued = self.queued.saturating_sub(bytes.len());
                self.within_frame = !whole;
                Some(bytes)
            }
            _ => None,
        }
    }

    /// Bytes waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queued + self.tail.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.tail.is_empty()
    }

    /// Whether what was released ends within a frame: only the frame's next bytes may follow it.
    #[must_use]
    pub const fn is_within_frame(&self) -> bool {
        self.within_frame
    }

    /// Drops everything that was not released.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.tail.clear();
        self.tail_gate = 0;
        self.queued = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(outbox: &mut Outbox, durable: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(chunk) = outbox.release(durable) {
            out.extend_from_slice(&chunk);
        }
        out
    }

    #[test]
    fn a_gate_holds_back_everything_behind_it() {
        let mut outbox = Outbox::default();
        outbox.copy(0, b"a");
        outbox.copy(2, b"b");
        outbox.copy(0, b"c");
        assert_eq!(all(&mut outbox, 0), b"a");
        assert_eq!(all(&mut outbox, 1), b"");
        assert_eq!(all(&mut outbox, 2), b"bc");
        assert!(outbox.is_empty());
    }

    #[test]
    fn raising_covers_chunks_since_the_mark() {
        let mut outbox = Outbox::default();
        outbox.copy(0, b"early");
        let mark = outbox.mark();
        outbox.push(0, Bytes::from(vec![b'x'; COPY_BELOW]));
        outbox.copy(0, b"late");
        outbox.raise(mark, 5);
        assert_eq!(all(&mut outbox, 4), b"early");
        assert_eq!(all(&mut outbox, 5).len(), COPY_BELOW + 4);
        assert_eq!(outbox.len(), 0);
    }
}
