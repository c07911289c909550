//! Journals of tasks: read, checked as chains, and turned into what they know of each session.

use std::collections::{BTreeMap, BTreeSet};

use super::chain::RawEvent;
use super::ids::{Hash, KeyId, SessionId, TaskId};
use super::keys::Keys;
use super::manifest::{JournalRange, Payload as _, TaskStatement};
use super::names::ObjectName;
use super::object::{Journal, JournalEntry, Limits};
use super::recording::Object;
use super::verify::{Finding, Problem};

/// All journals at hand.
#[derive(Debug, Default)]
pub struct Journals {
    tasks: BTreeMap<TaskId, TaskJournal>,
    sessions: BTreeMap<SessionId, SessionJournal>,
    findings: Vec<Finding>,
    notes: Vec<Finding>,
}

/// One task's journal.
#[derive(Debug, Clone, Default)]
pub struct TaskJournal {
    /// What the task said of itself.
    pub statement: Option<TaskStatement>,
    /// SHA-256 of that.
    pub statement_sha256: Option<Hash>,
    /// Number of its last object, when there is any.
    pub last: Option<u32>,
    /// When its last object was made.
    pub last_us: Option<i64>,
    /// Whether it ended in order.
    pub ended: bool,
    /// SHA-256 of its objects at hand, by number.
    pub objects: BTreeMap<u32, Hash>,
    /// Digests it says are stored: SHA-256 by number.
    pub digests: BTreeMap<u32, Hash>,
    keys: Option<(Keys, KeyId)>,
}

/// What journals know of a session.
#[derive(Debug, Clone)]
pub struct SessionJournal {
    /// Task.
    pub task: TaskId,
    /// Which objects mention its events.
    pub range: Option<JournalRange>,
    /// Events by number.
    pub events: BTreeMap<u64, Journaled>,
    /// Segments said to be stored: SHA-256 by number.
    pub segments: BTreeMap<u32, Hash>,
    /// Manifest said to be stored.
    pub manifest: Option<Hash>,
}

/// An event in a journal.
#[derive(Debug, Clone)]
pub struct Journaled {
    /// Its hash.
    pub hash: Hash,
    /// Itself, when it was asked for.
    pub event: Option<RawEvent>,
    /// Number of the journal object.
    pub object: u32,
    /// False when an object before this one was never stored: then this event was never acknowledged.
    pub acknowledged: bool,
}

impl Journals {
    /// Reads journal objects and task statements; other objects are passed over. The events themselves are kept only of sessions for which
    /// `keep` is true, of all others their hashes.
    pub fn read<'a>(objects: impl IntoIterator<Item = &'a Object>, keys: &Keys, limits: &Limits, keep: impl Fn(SessionId) -> bool) -> Self {
        Self::read_from(objects, keys, limits, 0, keep)
    }

    /// The same for journals whose objects before number `first` were not fetched: for sealing what a dead task left open.
    pub fn read_from<'a>(
        objects: impl IntoIterator<Item = &'a Object>,
        keys: &Keys,
        limits: &Limits,
        first: u32,
        keep: impl Fn(SessionId) -> bool,
    ) -> Self {
        let mut journals = Self::default();
        let mut by_task: BTreeMap<TaskId, (Option<&Object>, BTreeMap<u32, &Object>)> = BTreeMap::new();
        for object in objects {
            match ObjectName::parse(&object.key) {
                Some(ObjectName::Task { task }) => by_task.entry(task).or_default().0 = Some(object),
                Some(ObjectName::Journal { task, number }) => {
                    by_task.entry(task).or_default().1.insert(number, object);
                }
                _ => {}
            }
        }
        for (task, (statement, objects)) in by_task {
            journals.task(task, statement, &objects, keys, limits, first, &keep);
        }
        journals
    }

    /// What is wrong with them.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Adds what others found.
    pub fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
    }

    /// What is worth knowing and no fault: the open end a crash leaves.
    #[must_use]
    pub fn notes(&self) -> &[Finding] {
        &self.notes
    }

    /// Tasks.
    #[must_use]
    pub fn tasks(&self) -> &BTreeMap<TaskId, TaskJournal> {
        &self.tasks
    }

    /// Sessions mentioned. Not those of which nothing was ever acknowledged, not even their start.
    #[must_use]
    pub fn sessions(&self) -> BTreeSet<SessionId> {
        let acknowledged = |known: &SessionJournal| {
            known.manifest.is_some() || !known.segments.is_empty() || known.events.values().any(|event| event.acknowledged)
        };
        self.sessions.iter().filter(|(_, known)| acknowledged(known)).map(|(session, _)| *session).collect()
    }

    /// What they know of a session.
    #[must_use]
    pub fn session(&self, session: SessionId) -> Option<&SessionJournal> {
        self.sessions.get(&session)
    }

    /// Whether a task's key signed a message; none when the task's statement is not at hand.
    #[must_use]
    pub(crate) fn signed_by(&self, task: TaskId, message: &[u8], signature: &[u8; 64]) -> Option<bool> {
        let (keys, id) = self.tasks.get(&task)?.keys.as_ref()?;
        Some(keys.verifies(id, message, signature))
    }

    #[expect(clippy::too_many_arguments, reason = "what is read, and by which rules")]
    fn task(
        &mut self,
        task: TaskId,
        statement: Option<&Object>,
        objects: &BTreeMap<u32, &Object>,
        keys: &Keys,
        limits: &Limits,
        first: u32,
        keep: &impl Fn(SessionId) -> bool,
    ) {
        let mut known = TaskJournal::default();
        let mut previous = None;
        match statement.map(|object| (object, TaskStatement::verified(&object.bytes, keys))) {
            Some((object, Ok((statement, _)))) if statement.task == task => {
                known.keys = statement.keys();
                if known.keys.is_none() {
                    self.found(&object.key, Problem::TaskStatement("its key is not readable".to_owned()));
                }
                known.statement = Some(statement);
                known.statement_sha256 = Some(Hash::of(&object.bytes));
                previous = (first == 0).then(|| Hash::of(&object.bytes));
            }
            Some((object, Ok(_))) => self.found(&object.key, Problem::TaskStatement("it is of another task".to_owned())),
            Some((object, Err(error))) => self.found(&object.key, Problem::TaskStatement(error.to_string())),
            None => self.found(&ObjectName::Task { task }.to_string(), Problem::Missing),
        }
        self.tasks.insert(task, known.clone());

        let last = objects.keys().next_back().copied();
        let newest = objects.values().next_back().and_then(|object| Journal::read(&object.bytes, limits).ok());
        let ended = newest.as_ref().is_some_and(|journal| journal.entries.contains(&JournalEntry::End));
        let stored = newest.map_or(0, |journal| journal.stored);
        let in_flight = known.statement.as_ref().map_or(1, |statement| statement.in_flight);
        let mut expected = first;
        let mut open_tail = false;
        for (&number, object) in objects {
            while expected < number {
                let missing = Finding {
                    object: Some(ObjectName::Journal { task, number: expected }.to_string()),
                    event: None,
                    problem: Problem::Missing,
                };
                // Objects are under way side by side; a crash may lose one and keep the next. Such an object was never acknowledged, and no
                // object after it says that it was.
                if !ended && expected >= stored && last.is_some_and(|last| last.saturating_sub(expected) < in_flight) {
                    self.notes.push(Finding { problem: Problem::NeverAcknowledged, ..missing });
                    open_tail = true;
                } else {
                    self.findings.push(missing);
                }
                expected = expected.saturating_add(1);
                previous = None;
            }
            expected = number.saturating_add(1);
            let sha256 = Hash::of(&object.bytes);
            known.objects.insert(number, sha256);
            if let Some(journal) = self.object(task, number, object, previous, &mut known, limits) {
                self.entries(journal, object, open_tail, &mut known, keep);
            }
            previous = Some(sha256);
        }
        known.last = last;
        self.tasks.insert(task, known);
    }

    /// Reads one object and checks all that is outside its entries.
    fn object(
        &mut self,
        task: TaskId,
        number: u32,
        object: &Object,
        previous: Option<Hash>,
        known: &mut TaskJournal,
        limits: &Limits,
    ) -> Option<Journal> {
        let journal = match Journal::read(&object.bytes, limits) {
            Ok(journal) => journal,
            Err(error) => {
                self.found(&object.key, Problem::Unreadable(error));
                return None;
            }
        };
        if journal.task != task || journal.number != number {
            self.found(
                &object.key,
                Problem::Misplaced(format!("it says it is {}", ObjectName::Journal { task: journal.task, number: journal.number })),
            );
            return None;
        }
        let signed = journal.signature.as_ref().and_then(|signature| self.signed_by(task, &journal.signed, signature));
        if signed != Some(true) {
            self.found(&object.key, Problem::TaskSignature);
            return None;
        }
        if previous.is_some_and(|previous| previous != journal.previous) {
            // The task signed this one: it is the object before that is not what it was.
            let before = number.checked_sub(1).map_or(ObjectName::Task { task }, |number| ObjectName::Journal { task, number });
            self.found(&before.to_string(), Problem::NamedOtherwise { by: object.key.clone(), sha256: journal.previous });
        }
        if known.ended {
            self.found(&object.key, Problem::AfterEnd);
        }
        known.last_us = Some(journal.time_us);
        Some(journal)
    }

    fn entries(&mut self, journal: Journal, object: &Object, open_tail: bool, known: &mut TaskJournal, keep: &impl Fn(SessionId) -> bool) {
        for entry in journal.entries {
            match entry {
                JournalEntry::Events { session, first, events } => {
                    let events = match RawEvent::sequence(&events) {
                        Ok(events) => events,
                        Err(error) => {
                            self.found(&object.key, Problem::Unreadable(error));
                            continue;
                        }
                    };
                    let kept = keep(session);
                    let known = self.session_mut(session, journal.task);
                    let range = known.range.get_or_insert(JournalRange { first: journal.number, last: journal.number });
                    range.last = journal.number;
                    let mut twisted = None;
                    for (offset, event) in (0_u64..).zip(events) {
                        if first.checked_add(offset) != Some(event.number) {
                            twisted = Some(event.number);
                        }
                        let journaled = Journaled {
                            hash: event.hash,
                            object: journal.number,
                            acknowledged: !open_tail,
                            event: kept.then_some(event.clone()),
                        };
                        if known.events.insert(event.number, journaled).is_some_and(|before| before.hash != event.hash) {
                            twisted = Some(event.number);
                        }
                    }
                    if let Some(number) = twisted {
                        self.findings.push(Finding {
                            object: Some(object.key.clone()),
                            event: Some(number),
                            problem: Problem::JournalDiffers,
                        });
                    }
                }
                JournalEntry::Segment { session, number, sha256, .. } => {
                    self.session_mut(session, journal.task).segments.insert(number, sha256);
                }
                JournalEntry::Manifest { session, sha256 } => self.session_mut(session, journal.task).manifest = Some(sha256),
                JournalEntry::Digest { number, sha256 } => {
                    known.digests.insert(number, sha256);
                }
                JournalEntry::End => known.ended = true,
            }
        }
    }

    fn session_mut(&mut self, session: SessionId, task: TaskId) -> &mut SessionJournal {
        self.sessions.entry(session).or_insert_with(|| SessionJournal {
            task,
            range: None,
            events: BTreeMap::new(),
            segments: BTreeMap::new(),
            manifest: None,
        })
    }

    fn found(&mut self, object: &str, problem: Problem) {
        self.findings.push(Finding { object: Some(object.to_owned()), event: None, problem });
    }
}
