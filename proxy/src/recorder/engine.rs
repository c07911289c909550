//! The thread that encodes for all sessions, groups what they have to say into journal objects, and learns what is stored.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use countersign_recording::{
    Event, Hash, Head, IndexRow, JournalEntry, JournalWriter, ObjectName, OpenSession, SessionId, SigningKey, TaskId,
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::config::RecorderConfig;
use super::handle::{RecorderFailure, Shared};
use super::now_us;
use super::put::{Progress, Put, PutParts, Putter};
use super::session::Session;

/// How many messages are taken between two looks at what is stored.
const BATCH: usize = 256;

/// A session whose events in the journal alone reach back further than so many objects gets a segment.
const FAR: u32 = 10_000;

/// What sessions say.
#[derive(Debug)]
pub(super) enum Message {
    Open {
        key: u64,
        session: SessionId,
        shared: Arc<Shared>,
    },
    Events {
        key: u64,
        events: Vec<(i64, Event)>,
        bytes: u64,
    },
    Close {
        key: u64,
    },
    /// What has happened since the last digest.
    Snapshot {
        reply: oneshot::Sender<Snapshot>,
    },
    /// A digest is stored.
    Digested {
        number: u32,
        sha256: Hash,
    },
    /// Close all sessions; the answer comes when they are sealed and the journal says so.
    Shutdown {
        sealed: oneshot::Sender<()>,
    },
    /// End the journal.
    End {
        done: oneshot::Sender<()>,
    },
}

/// What a digest is about.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The journal, as far as it is acknowledged.
    pub(super) journal: Head,
    pub(super) sealed: Vec<IndexRow>,
    pub(super) open: Vec<OpenSession>,
    pub(super) lost: u64,
}

pub(super) struct Engine {
    config: RecorderConfig,
    task: TaskId,
    key: SigningKey,
    putter: Putter,
    progress: mpsc::UnboundedReceiver<Progress>,
    /// A session has much to say.
    hurry: Arc<Notify>,
    sessions: HashMap<u64, Session>,
    /// Sessions with something for the journal.
    dirty: BTreeSet<u64>,
    /// Whether somebody may wait for something in it. Nobody does for the completion of a command: what it did was durable before.
    hurried: bool,
    /// Since when there is something in it that nobody waits for.
    lingering: Option<Instant>,
    /// Entries that nobody waits for.
    idle_entries: Vec<JournalEntry>,
    idle_since: Option<Instant>,
    journal_number: u32,
    journal_head: Hash,
    /// The journal as far as it is acknowledged.
    stored: Head,
    /// Sessions sealed since the last digest.
    sealed: Vec<IndexRow>,
    /// Events lost since then.
    lost: u64,
    /// Journal objects under way, in order.
    in_flight: VecDeque<Batch>,
    flushed: Option<Instant>,
    /// Bytes that wait for durability.
    waiting: u64,
    stalled: HashSet<Put>,
    /// The journal met an object of its name that is not its own: nothing more can be acknowledged by it.
    poisoned: bool,
    stopping: bool,
    shutdown: Option<oneshot::Sender<()>>,
    end: Option<oneshot::Sender<()>>,
    ended: bool,
}

/// A journal object under way.
struct Batch {
    number: u32,
    sha256: Hash,
    stored: bool,
    /// Session, first event, the one after the last.
    events: Vec<(u64, u64, u64)>,
}

/// Runs the engine on a thread of its own until every [`super::Recorder`] and session is gone.
pub(super) fn spawn(mut engine: Engine, mut inbox: mpsc::UnboundedReceiver<Message>) -> io::Result<()> {
    // Its runtime has timers only; puts run on the process's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("recorder".to_owned()).spawn(move || runtime.block_on(engine.run(&mut inbox)))?;
    Ok(())
}

impl Engine {
    pub(super) fn new(config: RecorderConfig, task: TaskId, key: SigningKey, head: Hash, parts: PutParts, hurry: Arc<Notify>) -> Self {
        let (sender, progress) = mpsc::unbounded_channel();
        let putter = Putter::new(parts, sender, config.tuning.clone());
        Self {
            config,
            task,
            key,
            putter,
            progress,
            hurry,
            sessions: HashMap::new(),
            dirty: BTreeSet::new(),
            hurried: false,
            lingering: None,
            idle_entries: Vec::new(),
            idle_since: None,
            journal_number: 0,
            journal_head: head,
            stored: Head { objects: 0, sha256: head },
            sealed: Vec::new(),
            lost: 0,
            in_flight: VecDeque::new(),
            flushed: None,
            waiting: 0,
            stalled: HashSet::new(),
            poisoned: false,
            stopping: false,
            shutdown: None,
            end: None,
            ended: false,
        }
    }

    async fn run(&mut self, inbox: &mut mpsc::UnboundedReceiver<Message>) {
        let mut messages = Vec::with_capacity(BATCH);
        // Nobody waits for what `async` sessions say, so it is looked at now and then: waking this thread for every statement would cost
        // more than all the rest of recording it.
        let mut look_at: Option<Instant> = None;
        loop {
            // What is past must not be waited for again: an idle recorder sleeps until it is spoken to.
            look_at = look_at.filter(|at| *at > Instant::now());
            let due = self.due();
            let wake = [due, look_at].into_iter().flatten().min();
            tokio::select! {
                biased;
                Some(progress) = self.progress.recv() => {
                    self.progressed(progress);
                    while let Ok(progress) = self.progress.try_recv() {
                        self.progressed(progress);
                    }
                }
                taken = inbox.recv_many(&mut messages, BATCH), if look_at.is_none() => {
                    if taken == 0 {
                        return;
                    }
                    look_at = (!self.config.gated() && taken < BATCH).then(|| Instant::now() + self.config.tuning.look_interval);
                    for message in messages.drain(..) {
                        self.message(message);
                    }
                }
                () = self.hurry.notified(), if look_at.is_some() => look_at = None,
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            while self.due().is_some_and(|due| due <= Instant::now()) && self.flush() {}
            let kibibytes = u32::try_from(self.waiting >> 10).unwrap_or(u32::MAX);
            metrics::gauge!(crate::metrics::RECORDER_PENDING).set(f64::from(kibibytes) * 1024.0);
            self.finish_shutdown();
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Open { key, session, shared } => {
                if self.poisoned || self.stopping {
                    shared.fail(RecorderFailure::Stopped);
                } else if self.config.gated() && self.waiting > self.config.tuning.buffer_bytes {
                    shared.fail(RecorderFailure::Overload);
                } else {
                    self.sessions.insert(key, Session::new(session, self.task, self.config.gated(), shared));
                }
            }
            Message::Events { key, events, bytes } => self.events(key, events, bytes),
            Message::Close { key } => self.close(key, "abandoned"),
            Message::Snapshot { reply } => self.snapshot(reply),
            Message::Digested { number, sha256 } => self.announce(JournalEntry::Digest { number, sha256 }),
            Message::End { done } => self.end = Some(done),
            Message::Shutdown { sealed } => {
                self.shutdown = Some(sealed);
                self.stopping = true;
                let open: Vec<u64> = self.sessions.iter().filter(|(_, session)| !session.closing).map(|(key, _)| *key).collect();
                for key in open {
                    self.close(key, "shutdown");
                }
            }
        }
    }

    fn snapshot(&mut self, reply: oneshot::Sender<Snapshot>) {
        // Who seals what a dead task left must not read its journal from long ago.
        let old = self.journal_number.saturating_sub(FAR);
        let far: Vec<u64> = self.sessions.iter().filter(|(_, session)| session.needs_journal_before(old)).map(|(key, _)| *key).collect();
        for key in far {
            self.cut(key);
        }
        let open = self.sessions.values().filter_map(|session| session.open(self.journal_number)).collect();
        let (sealed, lost) = (std::mem::take(&mut self.sealed), std::mem::take(&mut self.lost));
        // INVARIANT: who asks keeps what it is given until its digest is stored.
        let _gone = reply.send(Snapshot { journal: self.stored, sealed, open, lost });
    }

    fn events(&mut self, key: u64, events: Vec<(i64, Event)>, bytes: u64) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if session.closing {
            return;
        }
        let tuning = &self.config.tuning;
        if session.is_new() && !matches!(events.first(), Some((_, Event::SessionStart(_)))) {
            tracing::error!(session.id = %session.id(), "the first event of a session was not its start; nothing of it is recorded");
            self.forget(key, RecorderFailure::Stopped);
            return;
        }
        if !self.config.gated() && self.waiting > tuning.buffer_bytes && !session.is_new() {
            self.lost = self.lost.saturating_add(u64::try_from(events.len()).unwrap_or(u64::MAX));
            let lost = session.lose(events, bytes);
            self.dirty.insert(key);
            self.hurried = true;
            self.encoded(key, lost);
            return;
        }
        self.waiting = self.waiting.saturating_add(bytes);
        let bulk = usize::try_from(bytes).unwrap_or(usize::MAX) > tuning.bulk_bytes;
        if self.config.gated() && events.iter().all(|(_, event)| matches!(event, Event::Completion { .. })) {
            self.lingering.get_or_insert_with(Instant::now);
        } else {
            self.hurried = true;
        }
        let taken = session.take(events, bytes, bulk, tuning.segment_bytes, &self.key);
        self.dirty.insert(key);
        if self.poisoned || self.stalled.iter().any(|put| matches!(put, Put::Journal(_)) || *put == Put::Segment(key)) {
            session.fail(RecorderFailure::Store);
        }
        if self.encoded(key, taken) {
            self.upload(key);
            self.cut_if_large(key, bulk);
        }
    }

    /// What cannot be encoded cannot be recorded. It does not happen short of a lack of memory.
    fn encoded(&mut self, key: u64, result: Result<(), String>) -> bool {
        if let Err(error) = result {
            tracing::error!(error, "a session's events could not be encoded; the session ends");
            self.forget(key, RecorderFailure::Stopped);
            return false;
        }
        true
    }

    fn forget(&mut self, key: u64, failure: RecorderFailure) {
        self.dirty.remove(&key);
        if let Some(mut session) = self.sessions.remove(&key) {
            self.waiting = self.waiting.saturating_sub(session.waiting_bytes());
            session.fail(failure);
        }
    }

    /// Cuts the segment when it is full, or when much of it waits and no other is under way.
    fn cut_if_large(&mut self, key: u64, bulk: bool) {
        let Some(session) = self.sessions.get(&key) else { return };
        let tuning = &self.config.tuning;
        let much = bulk || session.journal_size() > tuning.bulk_bytes;
        if session.segment_size() >= tuning.segment_bytes || (much && !session.uploading()) {
            self.cut(key);
        } else if self.sessions.len() * tuning.bulk_bytes > tuning.segment_memory {
            self.bound_memory();
        }
    }

    fn bound_memory(&mut self) {
        let held: usize = self.sessions.values().map(Session::segment_memory).sum();
        if held > self.config.tuning.segment_memory
            && let Some(largest) = self.sessions.iter().max_by_key(|(_, session)| session.segment_memory()).map(|(key, _)| *key)
        {
            self.cut(largest);
        }
    }

    fn cut(&mut self, key: u64) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let cut = session.cut(&self.key);
        self.dirty.remove(&key);
        if self.encoded(key, cut) {
            self.upload(key);
        }
    }

    /// Stores the next finished segment, unless one is on its way.
    fn upload(&mut self, key: u64) {
        if let Some((name, object)) = self.sessions.get_mut(&key).and_then(Session::next_ready) {
            self.putter.put(Put::Segment(key), name, object);
        }
    }

    fn close(&mut self, key: u64, reason: &str) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if session.closing {
            return;
        }
        let ended = session.end(reason, now_us());
        if session.is_new() {
            // Never began: there is nothing to keep.
            self.sessions.remove(&key);
            return;
        }
        if self.encoded(key, ended) {
            self.cut(key);
            self.seal(key);
        }
    }

    fn seal(&mut self, key: u64) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if let Some((name, manifest)) = session.manifest(now_us(), &self.config.build) {
            session.sealing = true;
            // The hash is known when it is stored.
            session.row = Some(Box::new(IndexRow::of(&manifest, Hash::ZERO)));
            self.putter.seal(Put::Manifest(key), name, manifest);
        }
    }

    fn progressed(&mut self, progress: Progress) {
        match progress {
            Progress::Stored(put, sha256) => {
                self.stalled.remove(&put);
                match put {
                    Put::Journal(number) => self.journal_stored(number),
                    Put::Segment(key) => self.segment_stored(key),
                    Put::Manifest(key) => {
                        if let Some(session) = self.sessions.remove(&key) {
                            self.announce(JournalEntry::Manifest { session: session.id(), sha256 });
                            self.sealed.extend(session.row.map(|row| IndexRow { manifest: sha256, ..*row }));
                        }
                    }
                }
            }
            // Whoever waits has waited long enough; those who come to wait will not wait in vain either. Nobody waits for a manifest.
            Progress::Stalled(Put::Manifest(_)) => {}
            Progress::Stalled(put) => {
                self.stalled.insert(put);
                for (key, session) in &mut self.sessions {
                    if session.waits() && (matches!(put, Put::Journal(_)) || put == Put::Segment(*key)) {
                        session.fail(RecorderFailure::Store);
                    }
                }
            }
            Progress::Conflict(Put::Journal(_)) => {
                self.poisoned = true;
                for session in self.sessions.values_mut() {
                    session.fail(RecorderFailure::Conflict);
                }
            }
            Progress::Conflict(Put::Segment(key) | Put::Manifest(key)) => {
                self.stalled.remove(&Put::Segment(key));
                self.forget(key, RecorderFailure::Conflict);
            }
        }
    }

    fn journal_stored(&mut self, number: u32) {
        if let Some(batch) = self.in_flight.iter_mut().find(|batch| batch.number == number) {
            batch.stored = true;
        }
        // INVARIANT: acknowledged in order, so that an object missing at the end of a crashed task's journal has nothing acknowledged after it.
        while let Some(batch) = self.in_flight.pop_front_if(|batch| batch.stored) {
            self.stored = Head { objects: batch.number.saturating_add(1), sha256: batch.sha256 };
            for (key, first, end) in batch.events {
                if let Some(session) = self.sessions.get_mut(&key) {
                    self.waiting = self.waiting.saturating_sub(session.stored_events(first, end));
                }
            }
        }
    }

    fn segment_stored(&mut self, key: u64) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Some((entry, freed)) = session.segment_stored() else { return };
        self.waiting = self.waiting.saturating_sub(freed);
        let announced = JournalEntry::Segment {
            session: session.id(),
            number: entry.number,
            sha256: entry.sha256,
            events: entry.first_event.saturating_add(entry.events),
        };
        self.announce(announced);
        self.upload(key);
        self.cut_if_large(key, false);
        self.seal(key);
    }

    fn announce(&mut self, entry: JournalEntry) {
        self.idle_entries.push(entry);
        self.idle_since.get_or_insert_with(Instant::now);
    }

    /// When the next journal object is due; none when there is nothing for it, or no room.
    fn due(&self) -> Option<Instant> {
        if self.poisoned || self.ended || self.in_flight.len() >= self.config.tuning.in_flight {
            return None;
        }
        let earliest = self.flushed.map_or_else(Instant::now, |flushed| flushed + self.config.tuning.flush_interval);
        if self.end.is_some() {
            // Last of all, so that a journal with an end has no holes.
            return self.in_flight.is_empty().then_some(earliest);
        }
        if let (false, Some(since)) = (self.hurried, self.lingering)
            && !self.stopping
            && self.dirty.iter().any(|key| self.wants_journal(*key))
        {
            // The session's next statement takes it along, most of the time: an object less, and nobody waits for the end of its interval.
            return Some(earliest.max(since + self.config.tuning.flush_interval));
        }
        if self.dirty.iter().any(|key| self.wants_journal(*key)) || (self.stopping && self.sessions.is_empty() && self.idle_since.is_some())
        {
            return Some(earliest);
        }
        self.idle_since.map(|since| earliest.max(since + self.config.tuning.idle))
    }

    /// While a segment of a session is under way its next events wait.
    ///
    /// INVARIANT: what is stored of a session is always a beginning of it, whenever the process dies.
    fn wants_journal(&self, key: u64) -> bool {
        self.sessions.get(&key).is_some_and(|session| session.journal_size() > 0 && !session.uploading())
    }

    /// Makes a journal object of what waits and sends it off. False when nothing was to be sent.
    fn flush(&mut self) -> bool {
        let number = self.journal_number;
        let mut writer = JournalWriter::new(self.task, number, &self.journal_head, now_us(), self.stored.objects);
        let mut batch = Batch { number, sha256: Hash::ZERO, stored: false, events: Vec::new() };
        let mut empty = true;
        let wanting: Vec<u64> = self.dirty.iter().copied().filter(|key| self.wants_journal(*key)).collect();
        for key in wanting {
            if writer.size() > self.config.tuning.journal_bytes {
                break;
            }
            self.dirty.remove(&key);
            let Some(session) = self.sessions.get_mut(&key) else { continue };
            let id = session.id();
            if let Some((first, end, events)) = session.take_journal(number) {
                writer.push(&JournalEntry::Events { session: id, first, events: Bytes::from(events) });
                batch.events.push((key, first, end));
                empty = false;
            }
        }
        for entry in self.idle_entries.drain(..) {
            writer.push(&entry);
            empty = false;
        }
        self.idle_since = None;
        self.lingering = None;
        // What is left over waits for its turn no longer than it must.
        self.hurried = !self.dirty.is_empty();
        if self.end.is_some() {
            writer.push(&JournalEntry::End);
            self.ended = true;
            empty = false;
        }
        self.flushed = Some(Instant::now());
        if empty {
            return false;
        }
        match writer.finish(&self.key) {
            Ok(object) => {
                self.journal_head = Hash::of(&object);
                batch.sha256 = self.journal_head;
                self.journal_number = number.saturating_add(1);
                self.in_flight.push_back(batch);
                self.putter.put(Put::Journal(number), ObjectName::Journal { task: self.task, number }.to_string(), Bytes::from(object));
                true
            }
            Err(error) => {
                tracing::error!(%error, "a journal object could not be made; sessions end");
                self.poisoned = true;
                for session in self.sessions.values_mut() {
                    session.fail(RecorderFailure::Stopped);
                }
                false
            }
        }
    }

    fn finish_shutdown(&mut self) {
        if !self.in_flight.is_empty() {
            return;
        }
        if self.sessions.is_empty()
            && self.idle_entries.is_empty()
            && let Some(sealed) = self.shutdown.take()
        {
            let _gone = sealed.send(());
        }
        if self.ended
            && let Some(done) = self.end.take()
        {
            let _gone = done.send(());
        }
    }
}
