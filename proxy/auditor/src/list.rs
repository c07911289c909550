//! A table of recordings.

use std::io::Write;

use countersign_recording::v1::manifest::Seal;
use countersign_recording::{Manifest, ObjectName, SessionId, Summary};
use serde::Serialize;

use crate::load::{Archive, stated};
use crate::text;

/// Which recordings.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Began at or after, microseconds since the epoch.
    pub since_us: Option<i64>,
    /// Began before.
    pub until_us: Option<i64>,
    /// Part of the subject or e-mail address.
    pub principal: Option<String>,
    /// Database.
    pub database: Option<String>,
}

/// One recording in a list. Taken from its manifest, whose signature `list` does not look at.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Session id.
    pub session: String,
    /// `sealed`, `open` or `orphan`.
    pub state: &'static str,
    /// Whether somebody else than its own task sealed it.
    pub sealed_as_orphan: bool,
    /// RFC 3339.
    pub started: String,
    /// Microseconds since the epoch.
    pub started_us: i64,
    /// RFC 3339, when it ended.
    pub ended: Option<String>,
    /// Why it ended.
    pub reason: Option<String>,
    /// E-mail address, or the subject.
    pub principal: String,
    /// Index of the events.
    #[serde(flatten)]
    pub summary: Summary,
}

impl Row {
    fn sealed(manifest: Manifest) -> Self {
        let principal = principal(&manifest.summary);
        Self {
            session: manifest.session.to_string(),
            state: "sealed",
            sealed_as_orphan: manifest.seal == Seal::Orphan,
            started: text::timestamp(manifest.started_us),
            started_us: manifest.started_us,
            ended: Some(text::timestamp(manifest.ended_us)),
            reason: Some(manifest.reason),
            principal,
            summary: manifest.summary,
        }
    }
}

fn principal(summary: &Summary) -> String {
    summary.email.clone().unwrap_or_else(|| summary.subject.clone())
}

/// Recordings that pass the filter, by start.
///
/// # Errors
/// When the store cannot be read.
pub async fn rows(archive: &Archive, filter: &Filter) -> anyhow::Result<Vec<Row>> {
    let days = days(filter);
    let sessions = archive.sessions(days.as_deref()).await?;
    let manifests: Vec<String> =
        sessions.values().flatten().filter(|key| matches!(ObjectName::parse(key), Some(ObjectName::Manifest { .. }))).cloned().collect();
    let mut rows = Vec::new();
    let mut sealed = std::collections::BTreeSet::new();
    for object in archive.store.get_all(manifests).await? {
        if let Some(manifest) = stated(std::slice::from_ref(&object)) {
            sealed.insert(manifest.session);
            rows.push(Row::sealed(manifest));
        }
    }
    // What is not sealed lies in journals, at least its end.
    let journals = archive.journals(|session| !sealed.contains(&session)).await?;
    let mut unsealed: Vec<SessionId> =
        sessions.keys().copied().chain(journals.sessions()).filter(|session| !sealed.contains(session)).collect();
    unsealed.sort();
    unsealed.dedup();
    for id in unsealed {
        // Sealed, but began on a day outside the range.
        if journals.session(id).is_some_and(|known| known.manifest.is_some()) && !sessions.contains_key(&id) {
            continue;
        }
        let session = archive.assemble(id, sessions.get(&id).cloned().unwrap_or_default(), &journals).await?;
        let mut summary = Summary::default();
        session.events.iter().filter_map(|(_, event)| event.as_ref()).for_each(|event| summary.observe(event));
        let started_us = session.events.first().map_or(0, |(raw, _)| raw.time_us);
        rows.push(Row {
            session: id.to_string(),
            state: session.state(),
            sealed_as_orphan: false,
            started: text::timestamp(started_us),
            started_us,
            ended: None,
            reason: None,
            principal: principal(&summary),
            summary,
        });
    }
    rows.retain(|row| filter.passes(row));
    rows.sort_by(|a, b| (a.started_us, &a.session).cmp(&(b.started_us, &b.session)));
    Ok(rows)
}

impl Filter {
    fn passes(&self, row: &Row) -> bool {
        let principal = |wanted: &String| {
            row.summary.subject.contains(wanted) || row.summary.email.as_ref().is_some_and(|email| email.contains(wanted))
        };
        self.since_us.is_none_or(|since| row.started_us >= since)
            && self.until_us.is_none_or(|until| row.started_us < until)
            && self.principal.as_ref().is_none_or(principal)
            && self.database.as_ref().is_none_or(|database| row.summary.database == *database)
    }
}

/// The days of a closed range of up to a year, so that nothing else needs listing.
fn days(filter: &Filter) -> Option<Vec<String>> {
    const DAY_US: i64 = 86_400_000_000;
    let (since, until) = (filter.since_us?, filter.until_us?);
    let (first, last) = (since.div_euclid(DAY_US), until.div_euclid(DAY_US));
    let count = last.checked_sub(first)?;
    (0..366).contains(&count).then(|| (first..=last).map(|day| countersign_recording::v1::names::day(day.saturating_mul(DAY_US))).collect())
}

/// Writes the table.
///
/// # Errors
/// When the output cannot be written.
pub fn table(rows: &[Row], out: &mut dyn Write) -> std::io::Result<()> {
    let head = ["SESSION", "START", "PRINCIPAL", "DATABASE", "STATEMENTS", "HELD", "DENIED", "STATE"].map(str::to_owned).to_vec();
    let body = rows.iter().map(|row| {
        let state = if row.sealed_as_orphan { "sealed (orphan)" } else { row.state };
        let start = row.started.get(..19).map_or_else(|| row.started.clone(), |start| start.replace('T', " "));
        let counts = [row.summary.statements, row.summary.held, row.summary.denied].map(|count| count.to_string());
        let [statements, held, denied] = counts;
        vec![
            row.session.clone(),
            start,
            text::visible(&row.principal, false),
            text::visible(&row.summary.database, false),
            statements,
            held,
            denied,
            state.to_owned(),
        ]
    });
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(body).collect();
    columns(&lines, out)
}

/// Writes lines with their cells under each other.
///
/// # Errors
/// When the output cannot be written.
pub fn columns(lines: &[Vec<String>], out: &mut dyn Write) -> std::io::Result<()> {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines {
        widths.resize(widths.len().max(line.len()), 0);
        widths.iter_mut().zip(line).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
    }
    for line in lines {
        let padded: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", padded.join("  ").trim_end())?;
    }
    Ok(())
}
