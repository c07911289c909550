//! One page to look at: no script, no network, every recorded character escaped.

use std::collections::BTreeMap;
use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_approval::{Decision, Verdict as Said};
use countersign_recording::v1::event::{SessionStart, Verdict};
use countersign_recording::{Event, RawEvent};

use crate::frames::{self, Piece, Reader};
use crate::load::Session;
use crate::show::verdict_name;
use crate::text::{duration, html as escape, lossless, timestamp};
use crate::values::{self, Cell};
use crate::verify::{Result as Verified, SessionReport};

/// Styles only; the policy in the page forbids everything else.
const HEAD: &str = include_str!("page.html");

/// One statement's story.
#[derive(Default)]
struct Story<'a> {
    events: Vec<(&'a RawEvent, &'a Event)>,
    verdict: Option<Verdict>,
    failed: bool,
    first_us: i64,
    last_us: i64,
}

/// Writes the page.
///
/// # Errors
/// When the output cannot be written.
pub fn html(session: &Session, verified: Option<&SessionReport>, out: &mut dyn Write) -> std::io::Result<()> {
    let mut start = None;
    let mut stories: BTreeMap<u64, Story<'_>> = BTreeMap::new();
    let mut others = Vec::new();
    for (raw, event) in &session.events {
        let Some(event) = event else { continue };
        if let Event::SessionStart(found) = event {
            start = Some(found);
        }
        match statement_of(event) {
            Some(statement) => {
                let story = stories.entry(statement).or_insert_with(|| Story { first_us: raw.time_us, ..Story::default() });
                story.last_us = raw.time_us;
                match event {
                    Event::Decision { verdict, .. } => story.verdict = Some(*verdict),
                    Event::Error { .. } => story.failed = true,
                    _ => {}
                }
                story.events.push((raw, event));
            }
            None => others.push((raw, event)),
        }
    }
    write!(out, "{}", HEAD.replace("{title}", &escape(&format!("Session {}", session.id))))?;
    writeln!(out, "<h1>Session <code>{}</code></h1>", session.id)?;
    verdict(session, verified, out)?;
    if let Some(start) = start {
        facts(start, session, out)?;
    }
    timeline(session, &stories, out)?;
    writeln!(out, "<h2>Statements</h2>")?;
    let mut reader = Reader::default();
    for (number, story) in &stories {
        statement(*number, story, &mut reader, out)?;
    }
    writeln!(out, "<h2>Session events</h2><table class=\"events\"><tr><th>Event</th><th>Time</th><th>Kind</th><th>What</th></tr>")?;
    for (raw, event) in others {
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            raw.number,
            timestamp(raw.time_us),
            escape(&raw.kind),
            escape(&plain(event))
        )?;
    }
    writeln!(
        out,
        "</table><footer>Written by countersign-audit {}. This page is a view; the evidence is the recording itself.</footer></body></html>",
        env!("CARGO_PKG_VERSION")
    )
}

fn statement_of(event: &Event) -> Option<u64> {
    match event {
        Event::Statement { statement, .. }
        | Event::Decision { statement, .. }
        | Event::Hold { statement, .. }
        | Event::Approval { statement, .. }
        | Event::Rows { statement, .. }
        | Event::CopyIn { statement, .. }
        | Event::Masked { statement, .. }
        | Event::Completion { statement, .. } => Some(*statement),
        Event::Error { statement, .. } | Event::Cancel { statement } | Event::Anomaly { statement, .. } => {
            (*statement != 0).then_some(*statement)
        }
        _ => None,
    }
}

fn verdict(session: &Session, verified: Option<&SessionReport>, out: &mut dyn Write) -> std::io::Result<()> {
    let (class, text) = match verified.map(|report| report.result) {
        Some(Verified::Verified) => ("good", "Verified when this page was written: chain, signature, approvals and digests hold."),
        Some(Verified::Failed) => ("bad", "Verification FAILED when this page was written:"),
        Some(Verified::Unchecked) => ("odd", "Could not be verified in full when this page was written:"),
        Some(Verified::Open) => ("odd", "The session is not sealed; nothing is wrong so far."),
        None => ("odd", "Not verified: this page was written without public keys."),
    };
    writeln!(out, "<div class=\"verdict {class}\"><p>{text}</p>")?;
    if let Some(report) = verified {
        if let Some(key) = &report.signed_by {
            writeln!(out, "<p>Manifest signed by key <code>{}</code>.</p>", escape(key))?;
        }
        writeln!(out, "<ul>")?;
        for line in
            report.failures.iter().map(ToString::to_string).chain(report.unchecked.iter().cloned()).chain(report.notes.iter().cloned())
        {
            writeln!(out, "<li>{}</li>", escape(&line))?;
        }
        writeln!(out, "</ul>")?;
    } else {
        for finding in &session.report.findings {
            writeln!(out, "<p>{}</p>", escape(&finding.to_string()))?;
        }
    }
    writeln!(out, "</div>")
}

fn facts(start: &SessionStart, session: &Session, out: &mut dyn Write) -> std::io::Result<()> {
    let tls = |version: &str| if version.is_empty() { "no TLS".to_owned() } else { version.to_owned() };
    let end = session.events.last().map(|(raw, _)| timestamp(raw.time_us)).unwrap_or_default();
    let begin = session.events.first().map(|(raw, _)| timestamp(raw.time_us)).unwrap_or_default();
    let mut rows = vec![
        ("Principal", start.email.clone().unwrap_or_else(|| start.subject.clone())),
        ("Subject", format!("{} of {}", start.subject, start.issuer)),
        ("Groups", start.groups.join(", ")),
        ("Database", format!("{} as {}", start.database, start.upstream_user)),
        ("From", format!("{} ({}), application {:?}", start.client_addr, tls(&start.client_tls), start.application)),
        ("To", format!("{} ({}), server process {}", start.upstream_addr, tls(&start.upstream_tls), start.upstream_pid)),
        ("Time", format!("{begin} to {end}")),
        ("Gateway", format!("{} in {}, {} durability", start.build, start.environment, start.durability)),
        ("Policy", hex::encode(start.policy)),
    ];
    rows.extend(start.claims.iter().map(|(name, value)| ("Claim", format!("{name} = {value}"))));
    writeln!(out, "<table class=\"facts\">")?;
    for (label, value) in rows {
        writeln!(out, "<tr><th>{label}</th><td>{}</td></tr>", escape(&value))?;
    }
    writeln!(out, "</table>")
}

/// A bar for each statement over the time of the session.
fn timeline(session: &Session, stories: &BTreeMap<u64, Story<'_>>, out: &mut dyn Write) -> std::io::Result<()> {
    const MOST: usize = 400;
    let (Some((first, _)), Some((last, _))) = (session.events.first(), session.events.last()) else { return Ok(()) };
    let span = last.time_us.saturating_sub(first.time_us).max(1);
    // Thousandths of the span, of which there are 1000 units of width.
    let place = |time_us: i64| time_us.saturating_sub(first.time_us).clamp(0, span).saturating_mul(1000).checked_div(span).unwrap_or(0);
    let shown = stories.len().min(MOST);
    let height = shown.saturating_mul(14).saturating_add(4);
    writeln!(
        out,
        "<h2>Time line</h2><svg class=\"timeline\" viewBox=\"0 0 1000 {height}\" role=\"img\" aria-label=\"statements over time\">"
    )?;
    for (row, (number, story)) in stories.iter().take(MOST).enumerate() {
        let (x, end) = (place(story.first_us), place(story.last_us));
        let width = end.saturating_sub(x).max(3);
        let y = row.saturating_mul(14).saturating_add(2);
        let waited = u64::try_from(story.last_us.saturating_sub(story.first_us)).unwrap_or(0);
        writeln!(
            out,
            "<a href=\"#s{number}\"><rect class=\"{}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"11\"><title>statement {number}: {}</title></rect></a>",
            class(story),
            duration(waited)
        )?;
    }
    writeln!(out, "</svg>")?;
    if stories.len() > MOST {
        writeln!(out, "<p>The first {MOST} of {} statements.</p>", stories.len())?;
    }
    writeln!(
        out,
        "<p class=\"legend\"><span class=\"allow\">allowed</span> <span class=\"hold\">held</span> <span class=\"deny\">denied</span> <span class=\"failed\">ended in an error</span></p>"
    )
}

fn class(story: &Story<'_>) -> &'static str {
    match (story.verdict, story.failed) {
        (Some(Verdict::Deny), _) => "deny",
        (Some(Verdict::Hold), _) => "hold",
        (_, true) => "failed",
        (Some(Verdict::Allow), false) => "allow",
        (None, false) => "none",
    }
}

fn statement(number: u64, story: &Story<'_>, reader: &mut Reader, out: &mut dyn Write) -> std::io::Result<()> {
    let verdict = story.verdict.map_or("no decision", verdict_name);
    writeln!(out, "<section id=\"s{number}\"><h3>Statement {number} <span class=\"tag {}\">{verdict}</span></h3>", class(story))?;
    for (raw, event) in &story.events {
        let time = timestamp(raw.time_us);
        match event {
            Event::Statement { text, parameters, digest, .. } => {
                writeln!(out, "<pre class=\"sql\">{}</pre>", escape(&lossless(text)))?;
                if !parameters.is_empty() {
                    writeln!(out, "<table class=\"rows\"><tr><th>Parameter</th><th>Type</th><th>Value</th></tr>")?;
                    for (index, parameter) in (1..).zip(parameters) {
                        let value = values::parameter(parameter.type_oid, parameter.format, parameter.value.as_deref());
                        writeln!(out, "<tr><td>${index}</td><td>{}</td>{}</tr>", parameter.type_oid, cell(&value))?;
                    }
                    writeln!(out, "</table>")?;
                }
                writeln!(out, "<p class=\"dim\">event {}, {time}, digest <code>{}</code></p>", raw.number, hex::encode(digest))?;
            }
            Event::Decision { verdict, rule, facts, .. } => {
                writeln!(out, "<p><b>{}</b> by rule <code>{}</code></p>", verdict_name(*verdict), escape(rule))?;
                writeln!(out, "<details><summary>facts</summary><pre>{}</pre></details>", escape(facts))?;
            }
            Event::Hold { request, body, .. } => {
                writeln!(
                    out,
                    "<p>{time}: held, request <code>{}</code></p><details><summary>request as shown to reviewers</summary><pre>{}</pre></details>",
                    escape(request),
                    escape(body)
                )?;
            }
            Event::Approval { request, outcome, decisions, .. } => {
                writeln!(out, "<p>{time}: <b>{}</b> (request <code>{}</code>)</p>", escape(outcome), escape(request))?;
                for token in decisions {
                    let says = said(token).unwrap_or_else(|| "not readable".to_owned());
                    writeln!(
                        out,
                        "<details><summary>signed decision: {}</summary><pre class=\"sql\">{}</pre></details>",
                        escape(&says),
                        escape(token)
                    )?;
                }
            }
            Event::Rows { statement, frames, .. } | Event::CopyIn { statement, frames } => {
                results(reader.read(*statement, frames.clone()), out)?
            }
            other => writeln!(
                out,
                "<p class=\"{}\">{time}: {}</p>",
                if matches!(other, Event::Error { .. }) { "error" } else { "dim" },
                escape(&plain(other))
            )?,
        }
    }
    writeln!(out, "</section>")
}

/// What a decision says, without a look at its signature: the verdict at the top of the page is about that.
fn said(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let decision: Decision = serde_json::from_slice(&claims).ok()?;
    let time = i64::try_from(decision.decided_at).ok()?.saturating_mul(1_000_000);
    let what = match decision.verdict {
        Said::Approve => "approved",
        Said::Deny => "denied",
    };
    let reason = decision.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    Some(format!("{} ({}) {what} at {}{reason}", decision.reviewer.person, decision.reviewer.slack, timestamp(time)))
}

fn results(pieces: Vec<Piece>, out: &mut dyn Write) -> std::io::Result<()> {
    let mut open = false;
    for piece in pieces {
        let row = matches!(piece, Piece::Columns(_) | Piece::Row(_));
        if open && (!row || matches!(piece, Piece::Columns(_))) {
            writeln!(out, "</table></div>")?;
            open = false;
        }
        if row && !open {
            writeln!(out, "<div class=\"scroll\"><table class=\"rows\">")?;
            open = true;
        }
        match piece {
            Piece::Columns(columns) => {
                let names: String = columns.iter().map(|column| format!("<th>{}</th>", escape(&column.name))).collect();
                writeln!(out, "<tr>{names}</tr>")?;
            }
            Piece::Row(cells) => writeln!(out, "<tr>{}</tr>", cells.iter().map(cell).collect::<String>())?,
            Piece::Copy(data) => writeln!(out, "<pre>{}</pre>", escape(&lossless(&data)))?,
            Piece::Note(note) => writeln!(out, "<p class=\"dim\">{}</p>", escape(&note))?,
            Piece::Malformed(why) => writeln!(out, "<p class=\"error\">unreadable: {}</p>", escape(why))?,
        }
    }
    if open {
        writeln!(out, "</table></div>")?;
    }
    Ok(())
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Null => "<td class=\"null\">NULL</td>".to_owned(),
        Cell::Text(text) => format!("<td>{}</td>", escape(text)),
        Cell::Bytes(hex) => format!("<td><code>\\x{hex}</code></td>"),
    }
}

/// A line about an event that has no form of its own here.
fn plain(event: &Event) -> String {
    match event {
        Event::SessionStart(start) => format!("{} connected", start.subject),
        Event::Masked { columns, .. } => {
            let columns: Vec<String> = columns
                .iter()
                .map(|column| format!("{} ({}): {}, {} values", column.column, column.source, column.mask, column.values))
                .collect();
            format!("masked {}", columns.join("; "))
        }
        Event::Completion { tag, duration_us, .. } => format!("{tag} in {}", duration(*duration_us)),
        Event::Error { code, message, from_server, .. } => {
            format!("{code} {message} ({})", if *from_server { "server" } else { "gateway" })
        }
        Event::Notice { frame } => frames::notice(frame),
        Event::Parameter { name, value } => format!("{name} = {value}"),
        Event::Token { subject, expires_us, .. } => format!("newer token of {subject}, until {}", timestamp(*expires_us)),
        Event::Cancel { .. } => "cancel requested".to_owned(),
        Event::Gap { events, reason } => format!("up to {events} events are missing: {reason}"),
        Event::Anomaly { what, .. } => format!("anomaly: {what}"),
        Event::SessionEnd { reason } => format!("ended: {reason}"),
        _ => String::new(),
    }
}
