//! A session's events put together from its segments and what the journals have beyond them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::chain::{Chain, RawEvent};
use super::ids::{Hash, SessionId};
use super::journals::Journals;
use super::names::ObjectName;
use super::object::{Limits, Segment};
use super::verify::{Finding, Problem};

/// An object as it was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Key below the store's prefix.
    pub key: String,
    /// Bytes.
    pub bytes: Bytes,
}

/// A session put together. Reads on past damage as far as there is sense in it.
#[derive(Debug)]
pub struct Recording {
    /// Session.
    pub session: SessionId,
    /// Events, contiguous from 0, each linked to the one before.
    pub events: Vec<RawEvent>,
    /// How many of them are in segments.
    pub in_segments: u64,
    /// Where the chain stands.
    pub chain: Chain,
    /// Number, SHA-256, length, first event and event count of each segment found.
    pub segments: BTreeMap<u32, StoredSegment>,
    /// Day in its keys.
    pub day: Option<String>,
    /// What did not fit.
    pub findings: Vec<Finding>,
}

/// A segment as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSegment {
    /// Key.
    pub key: String,
    /// SHA-256 of the object.
    pub sha256: Hash,
    /// Length of the object.
    pub length: u64,
    /// First event.
    pub first: u64,
    /// Events.
    pub events: u64,
}

impl Recording {
    /// Puts together what there is. Journals must have been read keeping the events of this session for its tail to be found.
    #[must_use]
    pub fn assemble(session: SessionId, objects: &[Object], journals: &Journals, limits: &Limits) -> Self {
        let mut recording = Self {
            session,
            events: Vec::new(),
            in_segments: 0,
            chain: Chain::new(session),
            segments: BTreeMap::new(),
            day: None,
            findings: Vec::new(),
        };
        let mut found: BTreeMap<u32, &Object> = BTreeMap::new();
        for object in objects {
            if let Some(ObjectName::Segment { day, session: of, number }) = ObjectName::parse(&object.key)
                && of == session
            {
                if recording.day.as_ref().is_some_and(|known| *known != day) || found.insert(number, object).is_some() {
                    recording.found(&object.key, None, Problem::Misplaced("the session has objects under two days".to_owned()));
                }
                recording.day = Some(day);
            }
        }
        let mut whole = true;
        let mut expected = 0;
        for (number, object) in found {
            if number != expected {
                recording.found(&recording.key_of(expected), None, Problem::Missing);
                whole = false;
            }
            expected = number.saturating_add(1);
            whole &= recording.segment(number, object, journals, limits, whole);
        }
        recording.in_segments = recording.chain.next();
        if whole {
            recording.tail(journals);
        }
        recording
    }

    fn key_of(&self, number: u32) -> String {
        ObjectName::Segment { day: self.day.clone().unwrap_or_default(), session: self.session, number }.to_string()
    }

    /// Takes a segment in; false when its events could not all be linked.
    fn segment(&mut self, number: u32, object: &Object, journals: &Journals, limits: &Limits, linked: bool) -> bool {
        let key = object.key.clone();
        let segment = match Segment::read(&object.bytes, limits) {
            Ok(segment) => segment,
            Err(error) => {
                self.found(&key, None, Problem::Unreadable(error));
                return false;
            }
        };
        self.segments.insert(
            number,
            StoredSegment {
                key: key.clone(),
                sha256: Hash::of(&object.bytes),
                length: u64::try_from(object.bytes.len()).unwrap_or(u64::MAX),
                first: segment.first,
                events: u64::try_from(segment.events.len()).unwrap_or(u64::MAX),
            },
        );
        if segment.session != self.session || segment.number != number {
            self.found(&key, None, Problem::Misplaced(format!("it says it is segment {} of session {}", segment.number, segment.session)));
            return false;
        }
        if let (Some(task), Some(signature)) = (segment.task, &segment.signature)
            && journals.signed_by(task, &segment.signed, signature) == Some(false)
        {
            self.found(&key, None, Problem::TaskSignature);
        }
        if !linked {
            return false;
        }
        if segment.first != self.chain.next() || segment.previous != self.chain.head() {
            self.found(&key, Some(segment.first), Problem::Misplaced(format!("it does not continue after event {}", self.chain.next())));
            return false;
        }
        for event in segment.events {
            if let Err(error) = self.chain.accept(&event) {
                self.found(&key, Some(event.number), Problem::Unreadable(error));
                return false;
            }
            self.events.push(event);
        }
        true
    }

    /// Adds what only journals have.
    fn tail(&mut self, journals: &Journals) {
        let Some(known) = journals.session(self.session) else {
            return;
        };
        for (number, journaled) in known.events.range(self.chain.next()..) {
            let Some(event) = &journaled.event else {
                return;
            };
            let key = ObjectName::Journal { task: known.task, number: journaled.object }.to_string();
            if *number != self.chain.next() {
                if journaled.acknowledged {
                    self.found(&key, Some(*number), Problem::EventsMissing { first: self.chain.next() });
                }
                return;
            }
            match self.chain.accept(event) {
                Ok(()) => self.events.push(event.clone()),
                Err(error) if journaled.acknowledged => return self.found(&key, Some(*number), Problem::Unreadable(error)),
                // Somebody sealed the session without what nobody was ever told about.
                Err(_) => return,
            }
        }
    }

    fn found(&mut self, object: &str, event: Option<u64>, problem: Problem) {
        self.findings.push(Finding { object: Some(object.to_owned()), event, problem });
    }
}
