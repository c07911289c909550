//! Verification: everything that is wrong with a recording, by object and event, with public keys only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::chain::RawEvent;
use super::digests::Digests;
use super::event::Event;
use super::ids::{Hash, KeyId, SessionId};
use super::journals::Journals;
use super::keys::Keys;
use super::manifest::{Manifest, Payload as _, SignedError};
use super::names::{ObjectName, day};
use super::object::{FormatError, Limits};
use super::recording::{Object, Recording};
use super::sealed::SealError;
use super::summary::Summary;

/// Something that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Key of the object.
    pub object: Option<String>,
    /// Number of the event.
    pub event: Option<u64>,
    /// What.
    pub problem: Problem,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if let Some(event) = self.event {
            write!(f, "event {event}: ")?;
        }
        self.problem.fmt(f)
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Not there.
    #[error("missing")]
    Missing,
    /// Not readable.
    #[error("{0}")]
    Unreadable(FormatError),
    /// Not where it belongs.
    #[error("not in its place: {0}")]
    Misplaced(String),
    /// Other bytes than the manifest says.
    #[error("changed: the manifest has SHA-256 {expected} and {length} bytes, found {found}")]
    Changed {
        /// By the manifest.
        expected: Hash,
        /// Length by the manifest.
        length: u64,
        /// Found.
        found: Hash,
    },
    /// An object the manifest does not have.
    #[error("not in the manifest")]
    Unlisted,
    /// A manifest that is not to be trusted.
    #[error("{0}")]
    Manifest(SignedError),
    /// A manifest that does not say what the events say.
    #[error("the manifest's {0} does not agree with the events")]
    ManifestDisagrees(&'static str),
    /// A task's statement that is not to be trusted.
    #[error("statement of the task: {0}")]
    TaskStatement(String),
    /// Not signed by the task.
    #[error("not signed by its task")]
    TaskSignature,
    /// Something signed names an object that is not there.
    #[error("missing: {by} names it")]
    NamedAndMissing {
        /// Key of what names it.
        by: String,
    },
    /// Something signed names an object with another hash.
    #[error("changed: {by} has SHA-256 {sha256} for it")]
    NamedOtherwise {
        /// Key of what names it.
        by: String,
        /// The hash.
        sha256: Hash,
    },
    /// An index whose count or times are not those of its digest.
    #[error("it does not have the sessions that {by} says")]
    IndexDisagrees {
        /// Key of the digest.
        by: String,
    },
    /// A journal object after the end.
    #[error("the task had ended before it")]
    AfterEnd,
    /// Journal and segments have different events.
    #[error("the journal has another event in its place")]
    JournalDiffers,
    /// The journal has events the sealed recording lacks.
    #[error("the journal has it, the sealed recording ends before it")]
    SealedTooEarly,
    /// The journal has another segment or manifest.
    #[error("the journal has SHA-256 {0} for it")]
    JournalDisagrees(Hash),
    /// Events are missing.
    #[error("events from {first} on are missing before it")]
    EventsMissing {
        /// First missing.
        first: u64,
    },
    /// A sealed part that does not open with the keys at hand, or is not what was committed to.
    #[error("{0}")]
    Sealed(SealError),
    /// Lost at the end of a crashed task, before it was acknowledged.
    #[error("never stored: its task ended without it; nothing in it or after it was acknowledged")]
    NeverAcknowledged,
    /// The recording does not begin with its start.
    #[error("expected the session's start")]
    NoStart,
    /// The recording does not end with its end, or goes on after it.
    #[error("expected the session's end here and nowhere else")]
    End,
    /// No event at all.
    #[error("nothing is left of the session")]
    Empty,
}

/// Outcome of verifying one session.
#[derive(Debug)]
pub struct Report {
    /// Session.
    pub session: SessionId,
    /// The manifest with the key that signed it; none when the session is not sealed or the manifest is not to be trusted.
    pub manifest: Option<(Manifest, KeyId)>,
    /// Events as far as they link, from segments and journals.
    pub events: Vec<RawEvent>,
    /// How many of them are in segments; the rest only in journals.
    pub in_segments: u64,
    /// What is wrong. Empty means verified, if sealed.
    pub findings: Vec<Finding>,
    /// Whether there is a manifest object at all.
    pub sealed: bool,
}

impl Report {
    /// Nothing is wrong and a trusted signature says so. A session that is still open, or whose task died, is not verified before it is sealed.
    #[must_use]
    pub fn verified(&self) -> bool {
        self.findings.is_empty() && self.manifest.is_some()
    }

    /// Nothing is wrong, but nobody has sealed the session yet: it is running, or an orphan.
    #[must_use]
    pub fn open(&self) -> bool {
        self.findings.is_empty() && !self.sealed
    }
}

/// Verifies a session: `objects` are those under its `sessions/…/<id>/`, others are passed over. Journals are checked against as far as they are at
/// hand; give an empty [`Journals`] for a recording on its own.
#[must_use]
pub fn verify_session(session: SessionId, objects: &[Object], journals: &Journals, keys: &Keys, limits: &Limits) -> Report {
    let recording = Recording::assemble(session, objects, journals, limits);
    let mut check = Check { findings: recording.findings.clone(), recording: &recording };
    let (summary, last) = check.events();
    let manifests: Vec<&Object> = objects
        .iter()
        .filter(|object| matches!(ObjectName::parse(&object.key), Some(ObjectName::Manifest { session: of, .. }) if of == session))
        .collect();
    let mut manifest = None;
    for object in &manifests {
        match Manifest::verified(&object.bytes, keys) {
            Ok((read, key)) => {
                check.manifest(object, &read, &summary, last.as_ref());
                manifest = Some((read, key));
            }
            Err(error) => check.found(&object.key, None, Problem::Manifest(error)),
        }
    }
    check.journals(journals, manifests.as_slice());
    let findings = check.findings;
    Report { session, manifest, in_segments: recording.in_segments, events: recording.events, findings, sealed: !manifests.is_empty() }
}

/// Verifies everything among `objects`: journals and digests first, then each session that objects or journals mention. What is wrong with
/// digests is among the findings of the journals.
#[must_use]
pub fn verify_store(objects: &[Object], keys: &Keys, limits: &Limits) -> (Journals, Vec<Report>) {
    let mut journals = Journals::read(objects, keys, limits, |_| true);
    let digests = Digests::read(objects, &journals, keys, limits);
    let manifests: BTreeMap<&str, Hash> = objects
        .iter()
        .filter(|object| object.key.ends_with("/manifest.json"))
        .map(|object| (&*object.key, Hash::of(&object.bytes)))
        .collect();
    let unsealed = digests.sessions(|key| manifests.get(key).copied());
    journals.add(digests.findings().iter().cloned().chain(unsealed));
    let mut sessions: BTreeSet<SessionId> = journals.sessions();
    sessions.extend(objects.iter().filter_map(|object| ObjectName::parse(&object.key)?.session()));
    let reports = sessions
        .into_iter()
        .map(|session| {
            let own: Vec<Object> = objects
                .iter()
                .filter(|object| ObjectName::parse(&object.key).and_then(|name| name.session()) == Some(session))
                .cloned()
                .collect();
            verify_session(session, &own, &journals, keys, limits)
        })
        .collect();
    (journals, reports)
}

/// The last event, as the manifest repeats it.
struct Last {
    time_us: i64,
    reason: Option<String>,
}

struct Check<'a> {
    recording: &'a Recording,
    findings: Vec<Finding>,
}

impl Check<'_> {
    /// Reads every event's body.
    fn events(&mut self) -> (Summary, Option<Last>) {
        let mut summary = Summary::default();
        let mut last = None;
        for raw in &self.recording.events {
            if matches!(last, Some(Last { reason: Some(_), .. })) {
                self.event(raw.number, Problem::End);
            }
            last = Some(Last { time_us: raw.time_us, reason: None });
            match raw.event() {
                Ok(event) => {
                    match &event {
                        Event::SessionStart(start) if raw.number == 0 && start.session == self.recording.session.to_string() => {}
                        Event::SessionStart(_) => self.event(raw.number, Problem::NoStart),
                        _ if raw.number == 0 => self.event(0, Problem::NoStart),
                        Event::SessionEnd { reason } => last = Some(Last { time_us: raw.time_us, reason: Some(reason.clone()) }),
                        _ => {}
                    }
                    summary.observe(&event);
                }
                Err(error) => self.event(raw.number, Problem::Unreadable(error)),
            }
        }
        if self.recording.events.is_empty() {
            self.findings.push(Finding { object: None, event: None, problem: Problem::Empty });
        }
        (summary, last)
    }

    fn manifest(&mut self, object: &Object, manifest: &Manifest, summary: &Summary, last: Option<&Last>) {
        let recording = self.recording;
        if manifest.session != recording.session {
            self.found(&object.key, None, Problem::Misplaced(format!("it is of session {}", manifest.session)));
            return;
        }
        let listed_day = day(manifest.started_us);
        if (ObjectName::Manifest { day: listed_day.clone(), session: manifest.session }).to_string() != object.key {
            self.found(&object.key, None, Problem::Misplaced(format!("it is of {listed_day}")));
        }
        for (number, entry) in (0_u32..).zip(&manifest.segments) {
            let key = ObjectName::Segment { day: listed_day.clone(), session: manifest.session, number: entry.number }.to_string();
            if entry.number != number {
                self.found(&object.key, None, Problem::ManifestDisagrees("list of segments"));
            }
            match recording.segments.get(&entry.number) {
                // Unreadable ones are found already, and are not in this map.
                None => self.missing(&key),
                Some(stored) if stored.sha256 != entry.sha256 || stored.length != entry.length => {
                    self.found(&stored.key, None, Problem::Changed { expected: entry.sha256, length: entry.length, found: stored.sha256 });
                }
                Some(stored) if stored.first != entry.first_event || stored.events != entry.events => {
                    self.found(&object.key, None, Problem::ManifestDisagrees("count of events in a segment"));
                }
                Some(_) => {}
            }
        }
        let unlisted: Vec<String> = recording
            .segments
            .iter()
            .filter(|(number, _)| !manifest.segments.iter().any(|entry| entry.number == **number))
            .map(|(_, stored)| stored.key.clone())
            .collect();
        for key in unlisted {
            self.found(&key, None, Problem::Unlisted);
        }
        if manifest.events < recording.chain.next() {
            self.event(manifest.events, Problem::SealedTooEarly);
        } else if manifest.events != recording.chain.next() || manifest.head != recording.chain.head() {
            self.found(&object.key, None, Problem::ManifestDisagrees("count of events and hash of the last"));
        } else {
            if recording.in_segments != manifest.events {
                self.found(&object.key, None, Problem::ManifestDisagrees("list of segments"));
            }
            if *summary != manifest.summary {
                self.found(&object.key, None, Problem::ManifestDisagrees("summary"));
            }
            match last {
                Some(Last { time_us, reason: Some(reason) }) if *time_us == manifest.ended_us && *reason == manifest.reason => {}
                Some(Last { reason: None, .. }) | None => self.event(manifest.events.saturating_sub(1), Problem::End),
                Some(_) => self.found(&object.key, None, Problem::ManifestDisagrees("end of the session")),
            }
            if recording.events.first().map(|event| event.time_us) != Some(manifest.started_us) {
                self.found(&object.key, None, Problem::ManifestDisagrees("start of the session"));
            }
        }
    }

    fn journals(&mut self, journals: &Journals, manifests: &[&Object]) {
        let Some(known) = journals.session(self.recording.session) else {
            return;
        };
        for event in &self.recording.events {
            if known.events.get(&event.number).is_some_and(|journaled| journaled.acknowledged && journaled.hash != event.hash) {
                self.event(event.number, Problem::JournalDiffers);
            }
        }
        let day = self
            .recording
            .day
            .clone()
            .unwrap_or_else(|| self.recording.events.first().map_or_else(String::new, |event| super::names::day(event.time_us)));
        for (number, sha256) in &known.segments {
            match self.recording.segments.get(number) {
                Some(stored) if stored.sha256 == *sha256 => {}
                Some(stored) => self.found(&stored.key.clone(), None, Problem::JournalDisagrees(*sha256)),
                None => {
                    self.missing(&ObjectName::Segment { day: day.clone(), session: self.recording.session, number: *number }.to_string())
                }
            }
        }
        if let Some(sha256) = known.manifest {
            match manifests.first() {
                Some(object) if Hash::of(&object.bytes) == sha256 => {}
                Some(object) => self.found(&object.key, None, Problem::JournalDisagrees(sha256)),
                None => self.missing(&ObjectName::Manifest { day, session: self.recording.session }.to_string()),
            }
        }
    }

    fn missing(&mut self, key: &str) {
        // Once is enough, and an unreadable object is not missing.
        if !self.findings.iter().any(|finding| finding.object.as_deref() == Some(key)) {
            self.found(key, None, Problem::Missing);
        }
    }

    fn event(&mut self, number: u64, problem: Problem) {
        let object = self
            .recording
            .segments
            .values()
            .find(|segment| number >= segment.first && number - segment.first < segment.events)
            .map(|segment| segment.key.clone());
        self.findings.push(Finding { object, event: Some(number), problem });
    }

    fn found(&mut self, object: &str, event: Option<u64>, problem: Problem) {
        self.findings.push(Finding { object: Some(object.to_owned()), event, problem });
    }
}
