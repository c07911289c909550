//! Sealing a session whose task died: what is to be written, by whom ever finds it.

use super::event::Event;
use super::ids::SessionId;
use super::journals::Journals;
use super::keys::Keys;
use super::manifest::{Manifest, Payload as _, Seal, SegmentEntry};
use super::names::{ObjectName, day};
use super::object::{FormatError, Limits};
use super::recording::Object;
use super::summary::Summary;
use super::verify::{Finding, verify_session};
use super::writer::SegmentWriter;

/// What seals an orphan: first the segment, then the manifest, both only if absent.
#[derive(Debug)]
pub struct OrphanSeal {
    /// The last segment: what only journals had, and the end of the session. None when the segments were complete.
    pub segment: Option<(ObjectName, Vec<u8>)>,
    /// Name of the manifest.
    pub manifest_name: ObjectName,
    /// The manifest, to be signed.
    pub manifest: Manifest,
}

/// Why an orphan cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It is sealed.
    #[error("session {0} is sealed already")]
    Sealed(SessionId),
    /// What is there is damaged.
    #[error("session {session} is damaged and is left as it is: {}", .findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Damaged {
        /// Session.
        session: SessionId,
        /// What is wrong.
        findings: Vec<Finding>,
    },
    /// An object could not be made.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// Works out the seal of a session, as of now. The caller has made sure that its task is dead: nothing new in its journal for long.
///
/// # Errors
/// When the session is sealed, damaged, or not there.
pub fn seal_orphan(
    session: SessionId,
    objects: &[Object],
    journals: &Journals,
    keys: &Keys,
    limits: &Limits,
    now_us: i64,
    sealed_by: &str,
) -> Result<OrphanSeal, SealError> {
    let report = verify_session(session, objects, journals, keys, limits);
    if report.sealed {
        return Err(SealError::Sealed(session));
    }
    if !report.findings.is_empty() {
        return Err(SealError::Damaged { session, findings: report.findings });
    }
    let recording = super::recording::Recording::assemble(session, objects, journals, limits);
    let mut summary = Summary::default();
    let mut reason = None;
    let (mut environment, mut durability) = (String::new(), String::new());
    let (mut started_us, mut ended_us) = (now_us, now_us);
    for raw in &report.events {
        let event = raw.event()?;
        summary.observe(&event);
        match &event {
            Event::SessionStart(start) => {
                environment.clone_from(&start.environment);
                durability.clone_from(&start.durability);
                started_us = raw.time_us;
            }
            Event::SessionEnd { reason: stated } => {
                reason = Some(stated.clone());
                ended_us = raw.time_us;
            }
            _ => {}
        }
    }
    let started_day = day(started_us);
    let mut segments: Vec<SegmentEntry> = recording
        .segments
        .iter()
        .map(|(number, stored)| SegmentEntry {
            number: *number,
            sha256: stored.sha256,
            length: stored.length,
            first_event: stored.first,
            events: stored.events,
        })
        .collect();
    let mut chain = recording.chain.clone();
    let tail = report.events.get(usize::try_from(recording.in_segments).unwrap_or(usize::MAX)..).unwrap_or_default();
    let mut segment = None;
    if reason.is_none() || !tail.is_empty() {
        let number = u32::try_from(segments.len()).map_err(|_| FormatError::Malformed("too many segments"))?;
        let previous = tail.first().map_or_else(|| chain.head(), |event| event.previous);
        let mut writer = SegmentWriter::new(session, None, number, recording.in_segments, &previous);
        for raw in tail {
            writer.push(&raw.bytes, 1)?;
        }
        if reason.is_none() {
            let mut end = Vec::new();
            let event = Event::SessionEnd { reason: "orphan".to_owned() };
            chain.append(now_us, &event, &mut end);
            writer.push(&end, 1)?;
        }
        let events = writer.events();
        let object = writer.finish(None)?;
        segments.push(SegmentEntry {
            number,
            sha256: super::ids::Hash::of(&object),
            length: u64::try_from(object.len()).unwrap_or(u64::MAX),
            first_event: recording.in_segments,
            events,
        });
        segment = Some((ObjectName::Segment { day: started_day.clone(), session, number }, object));
    }
    let known = journals.session(session);
    Ok(OrphanSeal {
        segment,
        manifest_name: ObjectName::Manifest { day: started_day, session },
        manifest: Manifest {
            kind: Manifest::KIND.to_owned(),
            version: 1,
            session,
            environment,
            task: known.map(|known| known.task),
            started_us,
            ended_us,
            reason: reason.unwrap_or_else(|| "orphan".to_owned()),
            durability,
            seal: Seal::Orphan,
            sealed_us: now_us,
            sealed_by: sealed_by.to_owned(),
            segments,
            events: chain.next(),
            head: chain.head(),
            journal: known.and_then(|known| known.range),
            summary,
        },
    })
}
