//! Recordings as files for other programs and for people without this one.

mod html;
mod lines;

use std::io::Write;

use clap::ValueEnum;
use countersign_recording::Event;
use serde_json::json;

use crate::frames::Reader;
use crate::load::Session;
use crate::show;
use crate::text;
use crate::verify::SessionReport;

pub use html::html;
pub(crate) use lines::quoted as cell;
pub use lines::{csv, jsonl};

/// Forms of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object for each event
    Jsonl,
    /// One line for each event, for spreadsheets
    Csv,
    /// One page to look at, complete in itself
    Html,
    /// A terminal recording (asciicast version 2)
    Asciicast,
}

/// Writes an export. `verified` is what verification found, when keys were given.
///
/// # Errors
/// When the output cannot be written.
pub fn write(session: &Session, verified: Option<&SessionReport>, format: Format, out: &mut dyn Write) -> anyhow::Result<()> {
    match format {
        Format::Jsonl => jsonl(session, out)?,
        Format::Csv => csv(session, out)?,
        Format::Html => html(session, verified, out)?,
        Format::Asciicast => asciicast(session, out)?,
    }
    Ok(())
}

/// <https://docs.asciinema.org/manual/asciicast/v2/>
///
/// # Errors
/// When the output cannot be written.
pub fn asciicast(session: &Session, out: &mut dyn Write) -> std::io::Result<()> {
    let start_us = session.events.first().map_or(0, |(raw, _)| raw.time_us);
    let header = json!({
        "version": 2, "width": 120, "height": 40, "timestamp": start_us.div_euclid(1_000_000), "title": format!("session {}", session.id),
    });
    writeln!(out, "{header}")?;
    let mut reader = Reader::default();
    for (raw, event) in &session.events {
        let shown = event
            .as_ref()
            .map_or_else(|| format!("-- event {} is not readable\n", raw.number), |event: &Event| show::screen(raw, event, &mut reader));
        if !shown.is_empty() {
            let offset = raw.time_us.saturating_sub(start_us).max(0);
            let seconds: f64 = format!("{}.{:06}", offset / 1_000_000, offset % 1_000_000).parse().unwrap_or(0.0);
            writeln!(out, "{}", json!([seconds, "o", shown.replace('\n', "\r\n")]))?;
        }
    }
    Ok(())
}

/// Time of an event's envelope.
pub(crate) fn time(time_us: i64) -> String {
    text::timestamp(time_us)
}
