//! A recording for a terminal: event by event, and what the client's screen showed.

use std::io::Write;

use countersign_recording::v1::event::Verdict;
use countersign_recording::{Event, RawEvent};

use crate::evidence::said;
use crate::frames::{Piece, Reader};
use crate::load::Session;
use crate::text::{duration, lossless, timestamp, visible};
use crate::{frames, list, values};

/// Most rows of one result that `show` and `replay` print; exports have all.
const MAX_ROWS: usize = 1000;

/// Prints every event.
///
/// # Errors
/// When the output cannot be written.
pub fn show(session: &Session, out: &mut dyn Write) -> std::io::Result<()> {
    let began = session.events.first().map(|(raw, _)| timestamp(raw.time_us));
    let day = began.as_deref().and_then(|began| began.get(..10)).unwrap_or("no time");
    writeln!(out, "session {} ({}), {} events, begun {day} (times are UTC)", session.id, session.state(), session.events.len())?;
    let mut reader = Reader::default();
    for (raw, event) in &session.events {
        let time = timestamp(raw.time_us);
        let clock = time.get(11..).unwrap_or(&time);
        write!(out, "{:>6}  {clock:<16} {:<14} ", raw.number, visible(&raw.kind, false))?;
        match event {
            Some(event) => describe(event, &mut reader, out)?,
            None => writeln!(out, "(not readable)")?,
        }
        if let Some(sealed) = session.sealed.get(&raw.number) {
            let how = match &sealed.closed {
                None => "opened".to_owned(),
                Some(error) => error.to_string(),
            };
            writeln!(out, "{:>40} {}", "sealed:", visible(&how, false))?;
        }
    }
    problems(session, out)
}

/// Prints the sealed events only.
///
/// # Errors
/// When the output cannot be written.
pub fn opened(session: &Session, out: &mut dyn Write) -> std::io::Result<()> {
    let mut reader = Reader::default();
    for (raw, event) in &session.events {
        let (Some(sealed), Some(event)) = (session.sealed.get(&raw.number), event) else { continue };
        write!(out, "{:>6}  {:<27} {:<10} ", raw.number, timestamp(raw.time_us), visible(&raw.kind, false))?;
        match &sealed.closed {
            None => describe(event, &mut reader, out)?,
            Some(error) => writeln!(out, "stays sealed: {}", visible(&error.to_string(), false))?,
        }
    }
    let closed = session.sealed.values().filter(|sealed| sealed.closed.is_some()).count();
    writeln!(out, "{} sealed events, {} opened", session.sealed.len(), session.sealed.len().saturating_sub(closed))?;
    problems(session, out)
}

/// Says what is wrong with what was just shown.
pub(crate) fn problems(session: &Session, out: &mut dyn Write) -> std::io::Result<()> {
    // Without keys, every signature is by an unknown one: `verify` is for that.
    let told = |finding: &&countersign_recording::Finding| {
        session.checked || !matches!(finding.problem, countersign_recording::Problem::Manifest(_))
    };
    let damage = session.report.findings.iter().filter(told);
    for finding in damage {
        writeln!(out, "DAMAGED: {}", visible(&finding.to_string(), false))?;
    }
    Ok(())
}

fn describe(event: &Event, reader: &mut Reader, out: &mut dyn Write) -> std::io::Result<()> {
    let short = |text: &str| visible(text, false);
    match event {
        Event::SessionStart(start) => {
            let tls = |version: &str| if version.is_empty() { "no TLS".to_owned() } else { short(version) };
            writeln!(out, "{} of {}", short(start.email.as_deref().unwrap_or(&start.subject)), short(&start.issuer))?;
            let lines = [
                ("subject", short(&start.subject)),
                ("groups", short(&start.groups.join(", "))),
                ("database", short(&format!("{} as {}", start.database, start.upstream_user))),
                ("client", format!("{} ({})", short(&start.client_addr), tls(&start.client_tls))),
                ("server", format!("{} ({}), process {}", short(&start.upstream_addr), tls(&start.upstream_tls), start.upstream_pid)),
                ("application", short(&start.application)),
                ("gateway", short(&format!("{} of {}, {} durability", start.build, start.environment, start.durability))),
                ("policy", hex::encode(start.policy)),
            ];
            for (label, value) in lines.iter().chain(
                &start.claims.iter().map(|(name, value)| ("claim", format!("{} = {}", short(name), short(value)))).collect::<Vec<_>>(),
            ) {
                writeln!(out, "{:>40} {value}", format!("{label}:"))?;
            }
            Ok(())
        }
        Event::Statement { statement, extended, text, parameters, digest } => {
            writeln!(out, "#{statement}{} {}", if *extended { " (extended)" } else { "" }, indented(&lossless(text)))?;
            for (index, parameter) in (1..).zip(parameters) {
                let value = values::parameter(parameter.type_oid, parameter.format, parameter.value.as_deref());
                writeln!(out, "{:>40} {}", format!("${index}:"), short(&value.text("NULL")))?;
            }
            let shown = if *digest == [0; 32] { "sealed".to_owned() } else { hex::encode(digest) };
            writeln!(out, "{:>40} {shown}", "digest:")
        }
        Event::Decision { statement, verdict, rule, .. } => {
            writeln!(out, "#{statement} {} by rule {}", verdict_name(*verdict), short(rule))
        }
        Event::Hold { statement, request, body } => {
            writeln!(out, "#{statement} request {}", short(request))?;
            let Ok(request) = serde_json::from_str::<countersign_approval::Request>(body) else { return Ok(()) };
            let broken = countersign_approval::break_glass::said(&request);
            let until = timestamp(i64::try_from(request.expires_at).unwrap_or(i64::MAX).saturating_mul(1_000_000));
            let (word, until) = if broken.is_some() { ("review", format!("due {until}")) } else { ("asks", format!("until {until}")) };
            writeln!(out, "{:>40} {} of {}, {until}", format!("{word}:"), request.quorum, short(&request.reviewers.join(", ")))?;
            match broken {
                Some((reason, _)) => writeln!(out, "{:>40} {}", "reason given:", short(reason)),
                None => Ok(()),
            }
        }
        Event::Approval { statement, request, outcome, decisions } => {
            writeln!(out, "#{statement} {}, request {}", short(outcome), short(request))?;
            // Whether their signatures hold is for `verify` to say.
            for decision in decisions.iter().filter_map(|decision| said(decision)) {
                let (word, reviewer) = match decision.verdict {
                    countersign_approval::Verdict::Approve => ("approved", &decision.reviewer),
                    countersign_approval::Verdict::Deny => ("denied", &decision.reviewer),
                };
                let at = timestamp(i64::try_from(decision.decided_at).unwrap_or(i64::MAX).saturating_mul(1_000_000));
                let reason = decision.reason.as_deref().map(|reason| format!(": {}", short(reason))).unwrap_or_default();
                writeln!(out, "{:>40} {word} by {} at {at}{reason}", "decision:", short(&reviewer.person))?;
            }
            Ok(())
        }
        Event::Rows { statement, frames, count } => {
            writeln!(out, "#{statement} {count} rows")?;
            results(reader.read(*statement, frames.clone()), out, "                                         ")
        }
        Event::CopyIn { statement, frames } => {
            writeln!(out, "#{statement} {} bytes of COPY data from the client", frames.len())?;
            results(reader.read(*statement, frames.clone()), out, "                                         ")
        }
        Event::Masked { statement, columns } => {
            let columns: Vec<String> = columns
                .iter()
                .map(|column| format!("{} ({}, {}, {} values)", column.column, column.source, column.mask, column.values))
                .collect();
            writeln!(out, "#{statement} {}", short(&columns.join("; ")))
        }
        Event::Completion { statement, tag, duration_us } => writeln!(out, "#{statement} {} in {}", short(tag), duration(*duration_us)),
        Event::Error { statement, code, message, from_server } => {
            writeln!(out, "#{statement} {} {} ({})", short(code), indented(message), if *from_server { "server" } else { "gateway" })
        }
        Event::Notice { frame } => writeln!(out, "{}", indented(&frames::notice(frame))),
        Event::Parameter { name, value } => writeln!(out, "{} = {}", short(name), short(value)),
        Event::Token { subject, expires_us, .. } => writeln!(out, "{} until {}", short(subject), timestamp(*expires_us)),
        Event::Cancel { statement } => writeln!(out, "#{statement}"),
        Event::Gap { events, reason } => writeln!(out, "up to {events} events are missing: {}", short(reason)),
        Event::Anomaly { statement, what } => writeln!(out, "#{statement} {}", short(what)),
        Event::SessionEnd { reason } => writeln!(out, "{}", short(reason)),
        _ => writeln!(out),
    }
}

/// `allow`, `deny`, `hold`.
#[must_use]
pub fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::Hold => "hold",
    }
}

fn indented(text: &str) -> String {
    visible(text, true).replace('\n', "\n                                         ")
}

/// Prints results as tables.
fn results(pieces: Vec<Piece>, out: &mut dyn Write, margin: &str) -> std::io::Result<()> {
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut left_out = 0_usize;
    let flush = |lines: &mut Vec<Vec<String>>, left_out: &mut usize, out: &mut dyn Write| {
        let mut text = Vec::new();
        list::columns(lines, &mut text)?;
        for line in String::from_utf8_lossy(&text).lines() {
            writeln!(out, "{margin}{line}")?;
        }
        if *left_out > 0 {
            writeln!(out, "{margin}… and {left_out} more rows (export them to see all)")?;
        }
        lines.clear();
        *left_out = 0;
        Ok::<(), std::io::Error>(())
    };
    for piece in pieces {
        match piece {
            Piece::Columns(columns) => {
                flush(&mut lines, &mut left_out, out)?;
                lines.push(columns.iter().map(|column| visible(&column.name, false)).collect());
                lines.push(columns.iter().map(|column| "-".repeat(column.name.chars().count().max(1))).collect());
            }
            Piece::Row(_) if lines.len() > MAX_ROWS => left_out = left_out.saturating_add(1),
            Piece::Row(cells) => lines.push(cells.iter().map(|cell| visible(&cell.text("∅"), false)).collect()),
            other => {
                flush(&mut lines, &mut left_out, out)?;
                match other {
                    Piece::Copy(data) => writeln!(out, "{margin}{}", visible(lossless(&data).trim_end_matches('\n'), false))?,
                    Piece::Note(note) => writeln!(out, "{margin}({note})")?,
                    Piece::Malformed(why) => writeln!(out, "{margin}(unreadable: {why})")?,
                    Piece::Columns(_) | Piece::Row(_) => {}
                }
            }
        }
    }
    flush(&mut lines, &mut left_out, out)
}

/// What the client's terminal would have shown for one event; empty for what only the gateway knows.
#[must_use]
pub fn screen(raw: &RawEvent, event: &Event, reader: &mut Reader) -> String {
    let mut out: Vec<u8> = Vec::new();
    // Writing to a vector does not fail.
    let _ = match event {
        Event::SessionStart(start) => writeln!(
            out,
            "-- {} {} connected to {} as {}",
            timestamp(raw.time_us),
            visible(start.email.as_deref().unwrap_or(&start.subject), false),
            visible(&start.database, false),
            visible(&start.upstream_user, false)
        ),
        Event::Statement { statement, text, parameters, .. } => {
            let mut shown = format!("\n[{statement}]=> {}", visible(&lossless(text), true));
            for (index, parameter) in (1..).zip(parameters) {
                let value = values::parameter(parameter.type_oid, parameter.format, parameter.value.as_deref());
                shown.push_str(&format!("\n       ${index} = {}", visible(&value.text("NULL"), false)));
            }
            writeln!(out, "{shown}")
        }
        Event::Decision { verdict: Verdict::Hold, rule, .. } => writeln!(out, "-- held by rule {}", visible(rule, false)),
        Event::Approval { outcome, .. } => writeln!(out, "-- {}", visible(outcome, false)),
        Event::Rows { statement, frames, .. } => results(reader.read(*statement, frames.clone()), &mut out, ""),
        Event::Completion { tag, duration_us, .. } => writeln!(out, "{} ({})", visible(tag, false), duration(*duration_us)),
        Event::Error { code, message, .. } => writeln!(out, "ERROR {}: {}", visible(code, false), visible(message, true)),
        Event::Notice { frame } => writeln!(out, "{}", visible(&frames::notice(frame), true)),
        Event::Cancel { .. } => writeln!(out, "^C cancel requested"),
        Event::Gap { events, reason } => writeln!(out, "-- up to {events} events are missing here: {}", visible(reason, false)),
        Event::SessionEnd { reason } => writeln!(out, "\n-- {} session ended: {}", timestamp(raw.time_us), visible(reason, false)),
        _ => Ok(()),
    };
    String::from_utf8_lossy(&out).into_owned()
}
