//! A table of recordings: from the index as far as that reaches, beyond it from what tasks have written since their last digest.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use clap::ValueEnum;
use countersign_recording::v1::manifest::Seal;
use countersign_recording::v1::names::day;
use countersign_recording::{IndexRow, Journals, Manifest, ObjectName, SessionId, Summary};
use serde::Serialize;

use crate::catalogue::{Catalogue, Unindexed};
use crate::load::Archive;
use crate::reviews::{self, BrokenGlass};
use crate::text;

/// Something that was decided, or came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Decision {
    /// A statement was allowed
    Allow,
    /// A statement was denied by the policy (what a reviewer denied was held)
    Deny,
    /// A statement was held
    Hold,
    /// A held statement was approved, by reviewers or a template
    Granted,
    /// A held statement ran at once, to be reviewed afterwards
    BreakGlass,
    /// An error went to the client
    Error,
    /// Values were masked
    Masked,
    /// Events were lost
    Lost,
    /// The gateway saw something odd
    Anomaly,
}

/// Which recordings.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Began at or after, microseconds since the epoch.
    pub since_us: Option<i64>,
    /// Began before.
    pub until_us: Option<i64>,
    /// Part of the subject or e-mail address, in whatever case.
    pub principal: Option<String>,
    /// Database.
    pub database: Option<String>,
    /// At least one of these.
    pub decision: Option<Decision>,
    /// A table that was read or written: `schema.table`, or the table alone.
    pub table: Option<String>,
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
    /// Statements that ran at once and their reviews, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub broken_glass: Vec<BrokenGlass>,
    /// Index of the events.
    #[serde(flatten)]
    pub summary: Summary,
}

impl From<IndexRow> for Row {
    fn from(row: IndexRow) -> Self {
        Self {
            session: row.session.to_string(),
            state: "sealed",
            sealed_as_orphan: row.seal == Seal::Orphan,
            started: text::timestamp(row.started_us),
            started_us: row.started_us,
            ended: Some(text::timestamp(row.ended_us)),
            reason: Some(row.reason),
            principal: principal(&row.summary),
            broken_glass: Vec::new(),
            summary: row.summary,
        }
    }
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
            broken_glass: Vec::new(),
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
    let catalogue = Catalogue::read(archive, filter.since_us).await?;
    let mut rows: BTreeMap<SessionId, Row> = BTreeMap::new();
    let in_time = |started_us| filter.in_time(started_us);
    let mut known = BTreeSet::new();
    catalogue
        .rows(archive, filter.since_us, filter.until_us, in_time, |row| {
            known.insert(row.session);
            if filter.passes(&row.summary) {
                rows.insert(row.session, row.into());
            }
        })
        .await?;
    let unindexed = if archive.has_keys() {
        catalogue.unindexed(archive, filter.until_us).await?
    } else {
        sealed_lately(archive, &catalogue, filter).await?
    };
    for Unindexed { session: id, journals, alive } in unindexed {
        if !known.insert(id) {
            continue;
        }
        let session = archive.assemble(id, archive.find(id).await?, &journals).await?;
        let row = match stated_manifest(archive, id, &session.keys).await? {
            Some(manifest) => Row::sealed(manifest),
            None => {
                let mut summary = Summary::default();
                session.events.iter().filter_map(|(_, event)| event.as_ref()).for_each(|event| summary.observe(event));
                let started_us = session.events.first().map_or(0, |(raw, _)| raw.time_us);
                Row {
                    session: id.to_string(),
                    state: if alive { "open" } else { "orphan" },
                    sealed_as_orphan: false,
                    started: text::timestamp(started_us),
                    started_us,
                    ended: None,
                    reason: None,
                    principal: principal(&summary),
                    broken_glass: Vec::new(),
                    summary,
                }
            }
        };
        if filter.in_time(row.started_us) && filter.passes(&row.summary) {
            rows.insert(id, row);
        }
    }
    if filter.decision == Some(Decision::BreakGlass) {
        for (id, row) in &mut rows {
            let (session, _) = archive.load(*id, false).await?;
            row.broken_glass = reviews::of(archive, &session).await?;
        }
        rows.retain(|_, row| !row.broken_glass.is_empty());
    }
    let mut rows: Vec<Row> = rows.into_values().collect();
    rows.sort_by(|a, b| (a.started_us, &a.session).cmp(&(b.started_us, &b.session)));
    Ok(rows)
}

/// Without keys journals cannot be read: sessions that have objects of their own, of the days that the index does not reach.
async fn sealed_lately(archive: &Archive, catalogue: &Catalogue, filter: &Filter) -> anyhow::Result<Vec<Unindexed>> {
    const DAY_US: i64 = 86_400_000_000;
    let reached = catalogue.reaches_us().map(|us| us.saturating_sub(DAY_US).max(filter.since_us.unwrap_or(i64::MIN)));
    let days: Option<Vec<String>> = reached.map(|from| {
        let until = filter.until_us.unwrap_or(i64::MAX).min(archive.now_us.saturating_add(DAY_US));
        (from.div_euclid(DAY_US)..=until.div_euclid(DAY_US)).map(|number| day(number.saturating_mul(DAY_US))).collect()
    });
    let none = Arc::new(Journals::default());
    Ok(archive
        .sessions(days.as_deref())
        .await?
        .into_keys()
        .map(|session| Unindexed { session, journals: Arc::clone(&none), alive: false })
        .collect())
}

/// The manifest of a session; with keys only one that they signed, for this session.
async fn stated_manifest(archive: &Archive, session: SessionId, keys: &[String]) -> anyhow::Result<Option<Manifest>> {
    let manifest: Vec<String> = keys.iter().filter(|key| key.ends_with("/manifest.json")).cloned().collect();
    let objects = archive.store.get_all(manifest).await?;
    let place = |said: &Manifest| ObjectName::Manifest { day: day(said.started_us), session: said.session };
    Ok(objects.iter().filter_map(|object| archive.believed(object, place)).find(|said: &Manifest| said.session == session))
}

impl Filter {
    /// Whether a session that began then is wanted.
    #[must_use]
    pub fn in_time(&self, started_us: i64) -> bool {
        self.since_us.is_none_or(|since| started_us >= since) && self.until_us.is_none_or(|until| started_us < until)
    }

    /// Whether a session is wanted, its time aside.
    #[must_use]
    pub fn passes(&self, summary: &Summary) -> bool {
        let principal = |wanted: &String| {
            let wanted = wanted.to_lowercase();
            let said = |text: &String| text.to_lowercase().contains(&wanted);
            said(&summary.subject) || summary.email.as_ref().is_some_and(said)
        };
        let table = |wanted: &String| {
            summary.more_tables || summary.tables.iter().any(|table| table == wanted || table.rsplit('.').next() == Some(wanted.as_str()))
        };
        let count = |decision| match decision {
            Decision::Allow => summary.allowed,
            Decision::Deny => summary.denied,
            Decision::Hold => summary.held,
            Decision::Granted => summary.granted,
            // Which of the held ones is for their events to say.
            Decision::BreakGlass => summary.held,
            Decision::Error => summary.errors,
            Decision::Masked => summary.masked,
            Decision::Lost => summary.lost,
            Decision::Anomaly => summary.anomalies,
        };
        self.principal.as_ref().is_none_or(principal)
            && self.database.as_ref().is_none_or(|database| summary.database == *database)
            && self.decision.is_none_or(|decision| count(decision) > 0)
            && self.table.as_ref().is_none_or(table)
    }
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
    columns(&lines, out)?;
    for broken in rows.iter().flat_map(|row| &row.broken_glass) {
        writeln!(out, "{}", text::visible(&broken.line(), false))?;
    }
    Ok(())
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
