//! A session's end of the recorder.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use countersign_policy::Policy;
use countersign_recording::Event;
use tokio::sync::{Notify, mpsc};

use super::engine::Message;
use super::sealing::SessionSealer;

/// Bytes of one session that are not left lying, however seldom the recorder looks.
const HURRY_AT: u64 = 256 * 1024;

/// What engine and session share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Events below this number are durable, by the session's count.
    durable: AtomicU64,
    /// Bytes that no longer wait.
    released: AtomicU64,
    failure: OnceLock<RecorderFailure>,
    notify: Notify,
}

impl Shared {
    pub(super) fn publish(&self, durable: u64) {
        self.durable.store(durable, Ordering::Release);
        self.notify.notify_one();
    }

    pub(super) fn release(&self, bytes: u64) {
        self.released.fetch_add(bytes, Ordering::Relaxed);
        self.notify.notify_one();
    }

    pub(super) fn fail(&self, failure: RecorderFailure) {
        if self.failure.set(failure).is_ok() {
            self.notify.notify_one();
        }
    }
}

/// Why a session cannot be recorded any longer. It must end, with SQLSTATE 58030.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecorderFailure {
    /// The store failed for longer than sessions wait.
    #[error("the recording store does not answer")]
    Store,
    /// An object of this session's is there already, and is another: somebody sealed it.
    #[error("the recording was sealed by somebody else")]
    Conflict,
    /// Too much is waiting already.
    #[error("too much waits for the recording store")]
    Overload,
    /// The recorder has ended.
    #[error("the recorder has ended")]
    Stopped,
    /// What has to be sealed cannot be.
    #[error("what has to be sealed in the recording cannot be")]
    Sealing,
}

/// Records one session. Dropping it seals the session as `abandoned`.
#[derive(Debug)]
pub struct SessionRecorder {
    key: u64,
    shared: Arc<Shared>,
    messages: mpsc::UnboundedSender<Message>,
    hurry: Arc<Notify>,
    buffered: Vec<(i64, Event)>,
    buffered_bytes: u64,
    /// Bytes handed over since the recorder was last asked to hurry.
    unhurried: u64,
    next: u64,
    appended: u64,
    seen: u64,
    sealer: Option<SessionSealer>,
}

impl SessionRecorder {
    pub(super) fn new(
        key: u64,
        shared: Arc<Shared>,
        messages: mpsc::UnboundedSender<Message>,
        hurry: Arc<Notify>,
        sealer: Option<SessionSealer>,
    ) -> Self {
        Self { key, shared, messages, hurry, buffered: Vec::new(), buffered_bytes: 0, unhurried: 0, next: 0, appended: 0, seen: 0, sealer }
    }

    /// What this policy's detectors find is sealed from now on, where anything is.
    pub fn follow(&mut self, policy: &Policy) {
        if let Some(sealer) = &mut self.sealer {
            sealer.follow(policy);
        }
    }

    /// Appends an event and gives its number. Nothing leaves before [`Self::flush`].
    pub fn append(&mut self, time_us: i64, event: Event) -> u64 {
        self.buffered_bytes = self.buffered_bytes.saturating_add(weight(&event));
        self.buffered.push((time_us, event));
        let number = self.next;
        self.next = self.next.saturating_add(1);
        number
    }

    /// Hands over what was appended.
    pub fn flush(&mut self) {
        if self.buffered.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.buffered_bytes);
        if let Some(sealer) = &mut self.sealer
            && let Err(error) = sealer.seal(&mut self.buffered)
        {
            tracing::error!(%error, "a session's events could not be sealed; the session ends");
            self.buffered.clear();
            return self.shared.fail(RecorderFailure::Sealing);
        }
        self.appended = self.appended.saturating_add(bytes);
        let message = Message::Events { key: self.key, events: std::mem::take(&mut self.buffered), bytes };
        if self.messages.send(message).is_err() {
            self.shared.fail(RecorderFailure::Stopped);
        }
        self.unhurried = self.unhurried.saturating_add(bytes);
        if self.unhurried > HURRY_AT {
            self.unhurried = 0;
            self.hurry.notify_one();
        }
    }

    /// How many events, counted from 0, are durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    /// Resolves when [`Self::durable`] grew since this last resolved. Cancel-safe.
    ///
    /// # Errors
    /// When no more of this session will become durable.
    pub async fn changed(&mut self) -> Result<u64, RecorderFailure> {
        self.progress(None).await
    }

    /// The same; also resolves when no more than `room` bytes wait any longer. Cancel-safe.
    ///
    /// # Errors
    /// As [`Self::changed`].
    pub async fn progress(&mut self, room: Option<usize>) -> Result<u64, RecorderFailure> {
        loop {
            let durable = self.durable();
            if durable > self.seen || room.is_some_and(|room| self.pending_bytes() <= room) {
                self.seen = durable;
                return Ok(durable);
            }
            if let Some(failure) = self.shared.failure.get() {
                return Err(*failure);
            }
            // A permit of `notify_one` is kept for the next that waits: there is only this one.
            tokio::select! {
                () = self.shared.notify.notified() => {}
                () = self.messages.closed() => return Err(RecorderFailure::Stopped),
            }
        }
    }

    /// Bytes appended that still wait: in `strict` for durability, in `async` for the recorder to look at them.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        let flushed = self.appended.saturating_sub(self.shared.released.load(Ordering::Relaxed));
        usize::try_from(flushed.saturating_add(self.buffered_bytes)).unwrap_or(usize::MAX)
    }

    /// Closes the session: it is sealed and its manifest signed, in the background. The end of the session should have been appended.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for SessionRecorder {
    fn drop(&mut self) {
        self.flush();
        let _gone = self.messages.send(Message::Close { key: self.key });
    }
}

/// About how many bytes an event takes.
fn weight(event: &Event) -> u64 {
    let payload = match event {
        Event::Statement { text, parameters, .. } => {
            text.len() + parameters.iter().map(|parameter| 40 + parameter.value.as_ref().map_or(0, bytes::Bytes::len)).sum::<usize>()
        }
        Event::Decision { facts, .. } => facts.len(),
        Event::Hold { body, .. } => body.len(),
        Event::Approval { decisions, .. } => decisions.iter().map(String::len).sum(),
        Event::Rows { frames, .. } | Event::CopyIn { frames, .. } => frames.len(),
        Event::Notice { frame } => frame.len(),
        Event::Error { message, .. } => message.len(),
        Event::Masked { columns, .. } => columns.len() * 100,
        Event::SessionStart(_) => 1000,
        _ => 0,
    };
    u64::try_from(payload.saturating_add(100)).unwrap_or(u64::MAX)
}
