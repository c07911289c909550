//! Legal hold: sessions and what proves them stay, whatever their retention says, until the hold is lifted.

use std::io::Write;

use countersign_approval::break_glass::REVIEWS;
use countersign_recording::{Event, ObjectName, SessionId, TaskId};

use crate::load::{Archive, LoadError};
use crate::verify::GRANTS;

/// Keys of everything that a session's evidence is made of: its own objects, the statement of its task, the part of the task's journal that
/// has its events, the task's digests, and marks and reviews of its requests.
///
/// # Errors
/// When there is no such session, or the store cannot be read.
pub async fn evidence_of(archive: &Archive, id: SessionId) -> Result<Vec<String>, LoadError> {
    let (session, journals) = archive.load(id, false).await?;
    let mut keys = session.keys.clone();
    let stated = session.stated.as_ref();
    let known = journals.session(id);
    let task: Option<TaskId> = stated.and_then(|manifest| manifest.task).or_else(|| known.map(|known| known.task));
    if let Some(task) = task {
        keys.push(ObjectName::Task { task }.to_string());
        let range = stated.and_then(|manifest| manifest.journal).or_else(|| known.and_then(|known| known.range));
        if let Some(range) = range {
            keys.extend((range.first..=range.last).map(|number| ObjectName::Journal { task, number }.to_string()));
        }
        keys.extend(archive.store.keys(&format!("digests/{task}/")).await?);
    }
    for request in session.events.iter().filter_map(|(_, event)| match event {
        Some(Event::Hold { request, .. }) => Some(request),
        _ => None,
    }) {
        keys.extend(archive.store.keys(&format!("{GRANTS}{request}/")).await?);
        keys.extend(archive.store.keys(&format!("{REVIEWS}{request}.json")).await?);
    }
    let mut there = Vec::new();
    for key in keys {
        // After a crash the journal may have holes.
        if !key.starts_with("journal/") || archive.store.find(&key).await?.is_some() {
            there.push(key);
        }
    }
    Ok(there)
}

/// Sets or lifts the hold.
///
/// # Errors
/// When there is no such session, or the store refuses.
pub async fn hold(archive: &Archive, ids: &[SessionId], on: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    for id in ids {
        let keys = evidence_of(archive, *id).await?;
        let mut versions = 0_u64;
        for key in &keys {
            versions = versions.saturating_add(archive.store.hold(key, on).await?);
        }
        let word = if on { "held" } else { "released" };
        writeln!(out, "{word} {id}: {} objects, {versions} versions", keys.len())?;
    }
    Ok(())
}
