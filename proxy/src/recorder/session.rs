//! What the engine holds of one session: its chain, the segment in the making, what waits for the journal, and how far it is durable.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use countersign_recording::v1::manifest::Payload as _;
use countersign_recording::v1::names::day;
use countersign_recording::{
    Chain, Event, Hash, IndexRow, JournalRange, Manifest, ObjectName, OpenSession, Seal, SegmentEntry, SegmentWriter, SessionId,
    SigningKey, Summary, TaskId,
};

use super::coverage::Coverage;
use super::handle::{RecorderFailure, Shared};

/// One session.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    id: SessionId,
    task: TaskId,
    gated: bool,
    chain: Chain,
    summary: Summary,
    known: KnownFacts,
    day: String,
    environment: String,
    durability: String,
    started_us: i64,
    ended_us: i64,
    reason: Option<String>,
    /// The segment in the making: all events since the last one.
    writer: Option<SegmentWriter>,
    next_segment: u32,
    stored: Vec<SegmentEntry>,
    /// Finished segments.
    ready: VecDeque<(SegmentEntry, Bytes)>,
    /// The first of them is on its way.
    under_way: bool,
    /// Exact bytes of the events from `journal_first` on, which are neither in a journal object nor in a finished segment.
    journal: Vec<u8>,
    journal_first: u64,
    range: Option<JournalRange>,
    /// First journal object with events that are in no stored segment.
    journal_from: Option<u32>,
    coverage: Coverage,
    marks: VecDeque<Mark>,
    /// Events taken from the session, by its own count.
    taken: u64,
    lost: u64,
    /// Its end has come: what is under way is all there will be.
    pub(super) closing: bool,
    /// Its manifest is under way.
    pub(super) sealing: bool,
    /// What the index says of it, once its manifest is under way.
    pub(super) row: Option<Box<IndexRow>>,
    failed: bool,
}

/// A hand-over: durable once the chain is durable up to `chain`.
struct Mark {
    chain: u64,
    taken: u64,
    bytes: u64,
    since: Instant,
}

/// How many facts are remembered; more than that are read again.
const MAX_KNOWN: usize = 256;

/// Facts that are in the summary: a session asks the same few things over and over, and reading JSON for each would be a tenth of recording it.
#[derive(Default)]
struct KnownFacts {
    hasher: RandomState,
    seen: HashSet<u64>,
}

impl KnownFacts {
    /// Whether they are seen for the first time, as far as remembered.
    fn is_new(&mut self, facts: &str) -> bool {
        if self.seen.len() >= MAX_KNOWN {
            self.seen.clear();
        }
        // The hash is keyed and never told: no statement can be made to pass for another.
        self.seen.insert(self.hasher.hash_one(facts))
    }
}

impl Session {
    pub(super) fn new(id: SessionId, task: TaskId, gated: bool, shared: Arc<Shared>) -> Self {
        Self {
            shared,
            id,
            task,
            gated,
            chain: Chain::new(id),
            summary: Summary::default(),
            known: KnownFacts::default(),
            day: String::new(),
            environment: String::new(),
            durability: String::new(),
            started_us: 0,
            ended_us: 0,
            reason: None,
            writer: None,
            next_segment: 0,
            stored: Vec::new(),
            ready: VecDeque::new(),
            under_way: false,
            journal: Vec::new(),
            journal_first: 0,
            range: None,
            journal_from: None,
            coverage: Coverage::default(),
            marks: VecDeque::new(),
            taken: 0,
            lost: 0,
            closing: false,
            sealing: false,
            row: None,
            failed: false,
        }
    }

    /// Takes events over. `bulk` events go into segments only, each cut at `segment_bytes`.
    pub(super) fn take(
        &mut self,
        events: Vec<(i64, Event)>,
        bytes: u64,
        bulk: bool,
        segment_bytes: usize,
        key: &SigningKey,
    ) -> Result<(), String> {
        self.resume_after_loss()?;
        for (time_us, event) in events {
            self.taken = self.taken.saturating_add(1);
            self.append(time_us, &event)?;
            if bulk && self.segment_size() >= segment_bytes {
                self.cut(key)?;
            }
        }
        self.marks.push_back(Mark { chain: self.chain.next(), taken: self.taken, bytes, since: Instant::now() });
        if !self.gated {
            self.shared.release(bytes);
        }
        Ok(())
    }

    /// Loses events, but for the end of the session.
    pub(super) fn lose(&mut self, events: Vec<(i64, Event)>, bytes: u64) -> Result<(), String> {
        self.shared.release(bytes);
        for (time_us, event) in events {
            self.taken = self.taken.saturating_add(1);
            self.ended_us = time_us;
            if matches!(event, Event::SessionEnd { .. }) {
                self.resume_after_loss()?;
                self.append(time_us, &event)?;
            } else {
                self.lost = self.lost.saturating_add(1);
            }
        }
        Ok(())
    }

    fn resume_after_loss(&mut self) -> Result<(), String> {
        let events = std::mem::take(&mut self.lost);
        if events == 0 {
            return Ok(());
        }
        self.append(self.ended_us, &Event::Gap { events, reason: "more waited for the recording store than may".to_owned() })?;
        self.marks.push_back(Mark { chain: self.chain.next(), taken: self.taken, bytes: 0, since: Instant::now() });
        Ok(())
    }

    /// Makes sure that there is an end.
    pub(super) fn end(&mut self, reason: &str, now_us: i64) -> Result<(), String> {
        self.closing = true;
        if self.chain.next() == 0 || self.reason.is_some() {
            return Ok(());
        }
        self.resume_after_loss()?;
        self.append(now_us, &Event::SessionEnd { reason: reason.to_owned() })
    }

    fn append(&mut self, time_us: i64, event: &Event) -> Result<(), String> {
        if self.reason.is_some() {
            // After its end a session has nothing to say; a recording with more would not verify.
            tracing::error!(session.id = %self.id, "an event after the session's end was left out");
            return Ok(());
        }
        match event {
            Event::SessionStart(start) => {
                self.started_us = time_us;
                self.day = day(time_us);
                self.environment.clone_from(&start.environment);
                self.durability.clone_from(&start.durability);
            }
            Event::SessionEnd { reason } => self.reason = Some(reason.clone()),
            _ => {}
        }
        self.ended_us = time_us;
        match event {
            Event::Decision { facts, .. } if !self.known.is_new(facts) => self.summary.observe_again(event),
            _ => self.summary.observe(event),
        }
        if self.journal.is_empty() {
            self.journal_first = self.chain.next();
        }
        let start = self.journal.len();
        let (session, task, number) = (self.id, self.task, self.next_segment);
        let writer =
            self.writer.get_or_insert_with(|| SegmentWriter::new(session, Some(task), number, self.chain.next(), &self.chain.head()));
        self.chain.append(time_us, event, &mut self.journal);
        writer.push(self.journal.get(start..).unwrap_or_default(), 1).map_err(|error| error.to_string())
    }

    /// Finishes the segment in the making; its events need no journal any more.
    pub(super) fn cut(&mut self, key: &SigningKey) -> Result<(), String> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let (number, first_event, events) = (writer.number(), writer.first(), writer.events());
        let object = Bytes::from(writer.finish(Some(key)).map_err(|error| error.to_string())?);
        let entry = SegmentEntry {
            number,
            sha256: Hash::of(&object),
            length: u64::try_from(object.len()).unwrap_or(u64::MAX),
            first_event,
            events,
        };
        self.ready.push_back((entry, object));
        self.next_segment = self.next_segment.saturating_add(1);
        self.journal = Vec::new();
        Ok(())
    }

    /// The segment to be stored next, when none is on its way: one at a time, so that there is never a hole between them.
    pub(super) fn next_ready(&mut self) -> Option<(String, Bytes)> {
        if self.under_way {
            return None;
        }
        let (entry, object) = self.ready.front()?;
        self.under_way = true;
        Some((ObjectName::Segment { day: self.day.clone(), session: self.id, number: entry.number }.to_string(), object.clone()))
    }

    /// The first of the finished segments is stored: gives its entry and how many bytes are durable by it.
    pub(super) fn segment_stored(&mut self) -> Option<(SegmentEntry, u64)> {
        let (entry, _) = self.ready.pop_front()?;
        self.under_way = false;
        if self.ready.is_empty() {
            self.journal_from = None;
        }
        self.stored.push(entry.clone());
        let freed = self.stored_events(entry.first_event, entry.first_event.saturating_add(entry.events));
        Some((entry, freed))
    }

    /// What waits for the journal: number of the first event, of the one after the last, and the bytes.
    pub(super) fn take_journal(&mut self, object: u32) -> Option<(u64, u64, Vec<u8>)> {
        if self.journal.is_empty() {
            return None;
        }
        self.range.get_or_insert(JournalRange { first: object, last: object }).last = object;
        self.journal_from.get_or_insert(object);
        Some((self.journal_first, self.chain.next(), std::mem::take(&mut self.journal)))
    }

    /// Events are stored; gives how many bytes became durable.
    pub(super) fn stored_events(&mut self, first: u64, end: u64) -> u64 {
        self.coverage.add(first, end);
        let durable = self.coverage.durable();
        let mut freed = 0_u64;
        let mut reached = None;
        while let Some(mark) = self.marks.pop_front_if(|mark| mark.chain <= durable) {
            freed = freed.saturating_add(mark.bytes);
            reached = Some((mark.taken, mark.since));
        }
        if let Some((taken, since)) = reached {
            metrics::histogram!(crate::metrics::RECORDER_LAG).record(since.elapsed().as_secs_f64());
            if self.gated {
                self.shared.release(freed);
            }
            self.shared.publish(taken);
        }
        freed
    }

    /// Whether something of it is not durable.
    pub(super) fn waits(&self) -> bool {
        !self.marks.is_empty()
    }

    /// Bytes of it that wait for durability.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.marks.iter().map(|mark| mark.bytes).sum()
    }

    /// Bytes that wait for the journal.
    pub(super) fn journal_size(&self) -> usize {
        self.journal.len()
    }

    /// Whether segments are finished and not stored.
    pub(super) fn uploading(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether nothing of it is in any object yet.
    pub(super) fn is_new(&self) -> bool {
        self.chain.next() == 0
    }

    /// Bytes in the segment in the making.
    pub(super) fn segment_size(&self) -> usize {
        self.writer.as_ref().map_or(0, SegmentWriter::size)
    }

    /// Memory of the segment in the making.
    pub(super) fn segment_memory(&self) -> usize {
        self.writer.as_ref().map_or(0, SegmentWriter::held)
    }

    /// Ends it for its client; what was taken goes on being stored. A store that does not answer is nothing to a session that does not wait for it.
    pub(super) fn fail(&mut self, failure: RecorderFailure) {
        if (self.gated || failure != RecorderFailure::Store) && !self.failed {
            self.failed = true;
            self.shared.fail(failure);
        }
    }

    /// What a digest says of it while it is under way; `next` is the number of the next journal object.
    pub(super) fn open(&self, next: u32) -> Option<OpenSession> {
        let open = OpenSession { session: self.id, started_us: self.started_us, journal: self.journal_from.unwrap_or(next) };
        (!self.is_new()).then_some(open)
    }

    /// Whether an object before number `first` has events of it that are in no segment, finished or stored.
    pub(super) fn needs_journal_before(&self, first: u32) -> bool {
        self.writer.is_some() && self.journal_from.is_some_and(|from| from < first)
    }

    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    /// The manifest and its name, once every segment is stored.
    pub(super) fn manifest(&self, now_us: i64, build: &str) -> Option<(String, Manifest)> {
        if !self.closing || self.sealing || self.writer.is_some() || !self.ready.is_empty() || self.chain.next() == 0 {
            return None;
        }
        let name = ObjectName::Manifest { day: self.day.clone(), session: self.id }.to_string();
        let manifest = Manifest {
            kind: Manifest::KIND.to_owned(),
            version: 1,
            session: self.id,
            environment: self.environment.clone(),
            task: Some(self.task),
            started_us: self.started_us,
            ended_us: self.ended_us,
            reason: self.reason.clone().unwrap_or_default(),
            durability: self.durability.clone(),
            seal: Seal::Closed,
            sealed_us: now_us,
            sealed_by: build.to_owned(),
            segments: self.stored.clone(),
            events: self.chain.next(),
            head: self.chain.head(),
            journal: self.range,
            summary: self.summary.clone(),
        };
        Some((name, manifest))
    }
}
