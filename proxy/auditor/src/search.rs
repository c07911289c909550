//! Searching what was said and shown: statements, values, rows, errors, notices, over every recording that a filter leaves.

use std::io::Write;

use anyhow::Context as _;
use clap::ValueEnum;
use countersign_recording::{Event, RawEvent, SessionId};
use serde::Serialize;

use crate::evidence::said;
use crate::frames::{self, Piece, Reader};
use crate::list::{self, Filter};
use crate::load::{Archive, Session};
use crate::text::{self, lossless, visible};
use crate::values::{self, Cell};

/// Where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// Everywhere
    All,
    /// Statements and their parameters
    Statements,
    /// What the client got: rows and COPY data
    Results,
    /// Errors, notices, anomalies, and the reasons people gave
    Messages,
}

/// What to look for.
#[derive(Debug)]
pub enum Pattern {
    /// A text, whatever its case.
    Text(String),
    /// A regular expression.
    Expression(regex_lite::Regex),
}

impl Pattern {
    /// A pattern as it was typed.
    ///
    /// # Errors
    /// When it is no regular expression.
    pub fn new(text: &str, expression: bool) -> anyhow::Result<Self> {
        if expression {
            return Ok(Self::Expression(regex_lite::Regex::new(text).with_context(|| format!("no regular expression: {text}"))?));
        }
        Ok(Self::Text(text.to_lowercase()))
    }

    /// Whether a text has it.
    #[must_use]
    pub fn found(&self, text: &str) -> bool {
        match self {
            Self::Text(wanted) => text.to_lowercase().contains(wanted),
            Self::Expression(expression) => expression.is_match(text),
        }
    }
}

/// Something found.
#[derive(Debug, Serialize)]
pub struct Hit {
    /// Session.
    pub session: String,
    /// Event.
    pub event: u64,
    /// RFC 3339.
    pub time: String,
    /// Kind of event.
    pub kind: String,
    /// Who.
    pub principal: String,
    /// The text that has it; of results the line.
    pub text: String,
}

/// Searches, and gives each hit to `hit` as it is found. Gives the number of sessions that were searched.
///
/// # Errors
/// When the store cannot be read, or `hit` fails.
pub async fn search(
    archive: &Archive,
    filter: &Filter,
    pattern: &Pattern,
    place: Place,
    mut hit: impl FnMut(Hit) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let mut count = 0_u64;
    for row in list::rows(archive, filter).await? {
        let id: SessionId = row.session.parse()?;
        let (session, _) = archive.load(id, false).await?;
        count = count.saturating_add(1);
        let mut reader = Reader::default();
        for (raw, event) in session.events.iter().filter_map(|(raw, event)| Some((raw, event.as_ref()?))) {
            for text in texts(event, &mut reader, place).into_iter().filter(|text| pattern.found(text)) {
                hit(found(&session, raw, &row.principal, text))?;
            }
        }
    }
    Ok(count)
}

fn found(session: &Session, raw: &RawEvent, principal: &str, text: String) -> Hit {
    Hit {
        session: session.id.to_string(),
        event: raw.number,
        time: text::timestamp(raw.time_us),
        kind: raw.kind.clone(),
        principal: principal.to_owned(),
        text,
    }
}

/// The texts of an event: one for a statement, one for each parameter, one for each row.
fn texts(event: &Event, reader: &mut Reader, place: Place) -> Vec<String> {
    let wanted = |at: Place| place == Place::All || place == at;
    match event {
        Event::Statement { text, parameters, .. } if wanted(Place::Statements) => {
            let values = parameters
                .iter()
                .map(|parameter| values::parameter(parameter.type_oid, parameter.format, parameter.value.as_deref()).text("NULL"));
            std::iter::once(lossless(text)).chain(values).collect()
        }
        // Read even when not wanted: later rows need the description.
        Event::Rows { statement, frames, .. } | Event::CopyIn { statement, frames } => {
            let pieces = reader.read(*statement, frames.clone());
            if !wanted(Place::Results) {
                return Vec::new();
            }
            let line = |piece: Piece| match piece {
                Piece::Row(cells) => Some(cells.iter().map(cell_text).collect::<Vec<_>>().join(" | ")),
                Piece::Copy(data) => Some(lossless(&data)),
                _ => None,
            };
            pieces.into_iter().filter_map(line).collect()
        }
        Event::Hold { body, .. } if wanted(Place::Messages) => {
            let request = serde_json::from_str::<countersign_approval::Request>(body).ok();
            request.as_ref().and_then(countersign_approval::break_glass::said).map(|(reason, _)| reason.to_owned()).into_iter().collect()
        }
        Event::Approval { decisions, .. } if wanted(Place::Messages) => {
            decisions.iter().filter_map(|decision| said(decision)?.reason).collect()
        }
        Event::Error { code, message, .. } if wanted(Place::Messages) => vec![format!("{code} {message}")],
        Event::Notice { frame } if wanted(Place::Messages) => vec![frames::notice(frame)],
        Event::Anomaly { what, .. } if wanted(Place::Messages) => vec![what.clone()],
        _ => Vec::new(),
    }
}

fn cell_text(cell: &Cell) -> String {
    cell.text("NULL")
}

/// Writes a hit for people.
///
/// # Errors
/// When the output cannot be written.
pub fn write(hit: &Hit, out: &mut dyn Write) -> std::io::Result<()> {
    let text: String = visible(&hit.text, false).chars().take(300).collect();
    let time = hit.time.get(..19).unwrap_or(&hit.time).replace('T', " ");
    writeln!(out, "{} {:>6} {time} {:<10} {}: {text}", hit.session, hit.event, hit.kind, visible(&hit.principal, false))
}
