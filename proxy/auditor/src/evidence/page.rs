//! The index of a package: one page without scripts or network, every recorded character escaped.

use std::collections::BTreeMap;
use std::io::Write;

use super::{CONTROLS, Evidence, SOURCES};
use crate::text::{html as escape, timestamp};

/// Styles only; the policy in the page forbids everything else.
const HEAD: &str = include_str!("../export/page.html");

/// Most lines of a table on the page; the files have all.
const MOST: usize = 50;

/// Writes the page.
pub(super) fn write(evidence: &Evidence, out: &mut dyn Write) -> std::io::Result<()> {
    let (since, until) = (timestamp(evidence.order.since_us), timestamp(evidence.order.until_us));
    write!(out, "{}", HEAD.replace("{title}", &escape(&format!("Evidence {since} to {until}"))))?;
    writeln!(out, "<h1>Evidence from {since} to {until}</h1>")?;
    verdict(evidence, out)?;
    numbers(evidence, out)?;
    writeln!(out, "<h2>Sessions by day</h2>")?;
    let days = by_day(evidence.sessions.iter().map(|row| row.started.as_str()));
    columns("sessions by day", &days, "allow", out)?;
    writeln!(out, "<h2>Decisions on statements</h2>")?;
    let [allowed, held, denied] = evidence.collection.decisions;
    bars("decisions", &[("allowed", allowed, "allow"), ("held", held, "hold"), ("denied", denied, "deny")], out)?;
    writeln!(out, "<h2>What became of held statements</h2>")?;
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for held in &evidence.collection.held {
        let count = outcomes.entry(&held.outcome).or_default();
        *count = count.saturating_add(1);
    }
    let class = |outcome: &str| match outcome {
        "granted" => "allow",
        "denied" => "deny",
        _ => "hold",
    };
    bars("outcomes", &outcomes.iter().map(|(outcome, count)| (*outcome, *count, class(outcome))).collect::<Vec<_>>(), out)?;
    exceptions(evidence, out)?;
    samples(evidence, out)?;
    outages(evidence, out)?;
    retention(evidence, out)?;
    controls(out)?;
    writeln!(
        out,
        "<footer>Written by countersign-audit {} at {}. The signed list of all files with their SHA-256 is <a href=\"package.json\">package.json</a>. \
         A mapping says which artifact supports which control; whether a control is met is for an auditor to say.</footer></body></html>",
        env!("CARGO_PKG_VERSION"),
        timestamp(evidence.made_us)
    )
}

fn verdict(evidence: &Evidence, out: &mut dyn Write) -> std::io::Result<()> {
    let report = &evidence.verification;
    let (class, text) = match report.exit_status() {
        0 => ("good", "Every recording in the store held when this package was made."),
        1 => ("bad", "Something does NOT hold: see verification.json."),
        _ => ("odd", "Nothing was found wrong, but something could not be checked: see verification.json."),
    };
    writeln!(
        out,
        "<div class=\"verdict {class}\"><p>{text}</p><p>{} verified, {} failed, {} not checked, {} open; {} findings in journals, digests and store.</p></div>",
        report.verified,
        report.failed,
        report.unchecked,
        report.open,
        report.store_findings.len()
    )
}

fn numbers(evidence: &Evidence, out: &mut dyn Write) -> std::io::Result<()> {
    let sum = |of: fn(&countersign_recording::Summary) -> u64| evidence.sessions.iter().map(|row| of(&row.summary)).sum::<u64>();
    let approvers: std::collections::BTreeSet<&String> = evidence.collection.held.iter().flat_map(|held| &held.approved_by).collect();
    let itself = evidence.collection.held.iter().filter(|held| held.is_self_approved()).count();
    let open = evidence.collection.broken_glass.iter().filter(|glass| glass.is_open()).count();
    let rows = [
        ("Sessions", evidence.sessions.len().to_string(), "sessions.csv"),
        ("Statements", sum(|summary| summary.statements).to_string(), "sessions.csv"),
        ("Rows shown", sum(|summary| summary.rows).to_string(), "sessions.csv"),
        ("Values masked", sum(|summary| summary.masked).to_string(), "sessions.csv"),
        ("Statements held", evidence.collection.held.len().to_string(), "held.csv"),
        ("Statements denied", evidence.collection.denied.len().to_string(), "denied.csv"),
        ("People who approved", approvers.len().to_string(), "roster.csv"),
        ("Statements run as break-glass", evidence.collection.broken_glass.len().to_string(), "break-glass.csv"),
        ("Reviews of them still open", open.to_string(), "break-glass.csv"),
        ("Requests approved by their requester", itself.to_string(), "separation-of-duties.csv"),
        ("Policies in force", evidence.collection.policies.len().to_string(), "policies.csv"),
        ("Exceptions", evidence.collection.exceptions.len().to_string(), "exceptions.csv"),
    ];
    writeln!(out, "<table class=\"facts\">")?;
    for (label, value, file) in rows {
        writeln!(out, "<tr><th>{label}</th><td>{value}</td><td><a href=\"{file}\">{file}</a></td></tr>")?;
    }
    writeln!(out, "</table>")
}

fn by_day<'a>(times: impl Iterator<Item = &'a str>) -> Vec<(String, u64)> {
    let mut days: BTreeMap<String, u64> = BTreeMap::new();
    for time in times {
        let count = days.entry(time.chars().take(10).collect()).or_default();
        *count = count.saturating_add(1);
    }
    days.into_iter().collect()
}

/// A column for each day.
fn columns(label: &str, days: &[(String, u64)], class: &str, out: &mut dyn Write) -> std::io::Result<()> {
    const WIDTH: u64 = 1000;
    let most = days.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let count = u64::try_from(days.len()).unwrap_or(1).max(1);
    let step = WIDTH.checked_div(count).unwrap_or(WIDTH).clamp(2, 60);
    writeln!(out, "<svg class=\"timeline\" viewBox=\"0 0 {WIDTH} 150\" role=\"img\" aria-label=\"{label}\">")?;
    for (index, (day, count)) in (0_u64..).zip(days) {
        let height = count.saturating_mul(110).checked_div(most).unwrap_or(0).max(2);
        let (x, y) = (index.saturating_mul(step).saturating_add(1), 120_u64.saturating_sub(height));
        let width = step.saturating_sub(2).max(1);
        writeln!(
            out,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"><title>{}: {count}</title></rect>",
            escape(day)
        )?;
    }
    let (first, last) = (days.first().map_or("", |(day, _)| day), days.last().map_or("", |(day, _)| day));
    writeln!(out, "<text class=\"axis\" x=\"2\" y=\"140\">{}</text>", escape(first))?;
    if first != last {
        writeln!(out, "<text class=\"axis\" x=\"998\" y=\"140\" text-anchor=\"end\">{}</text>", escape(last))?;
    }
    writeln!(out, "</svg><p class=\"dim\">At most {most} on a day.</p>")
}

/// A bar for each kind, with its number.
fn bars(label: &str, kinds: &[(&str, u64, &str)], out: &mut dyn Write) -> std::io::Result<()> {
    if kinds.is_empty() {
        return writeln!(out, "<p class=\"dim\">None.</p>");
    }
    let most = kinds.iter().map(|(_, count, _)| *count).max().unwrap_or(0).max(1);
    let height = kinds.len().saturating_mul(26).saturating_add(6);
    writeln!(out, "<svg class=\"timeline\" viewBox=\"0 0 1000 {height}\" role=\"img\" aria-label=\"{label}\">")?;
    for (index, (kind, count, class)) in kinds.iter().enumerate() {
        let y = index.saturating_mul(26).saturating_add(6);
        let width = count.saturating_mul(700).checked_div(most).unwrap_or(0).max(2);
        writeln!(
            out,
            "<text class=\"axis\" x=\"8\" y=\"{}\">{}</text><rect class=\"{class}\" x=\"140\" y=\"{y}\" width=\"{width}\" height=\"18\"/>\
             <text class=\"axis\" x=\"{}\" y=\"{}\">{count}</text>",
            y.saturating_add(14),
            escape(kind),
            width.saturating_add(150),
            y.saturating_add(14)
        )?;
    }
    writeln!(out, "</svg>")
}

fn exceptions(evidence: &Evidence, out: &mut dyn Write) -> std::io::Result<()> {
    let exceptions = &evidence.collection.exceptions;
    writeln!(out, "<h2>Exceptions</h2>")?;
    if exceptions.is_empty() {
        return writeln!(out, "<p>None.</p>");
    }
    writeln!(out, "<div class=\"scroll\"><table class=\"rows\"><tr><th>Kind</th><th>Session</th><th>Event</th><th>What</th></tr>")?;
    for exception in exceptions.iter().take(MOST) {
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            exception.kind,
            escape(&exception.session),
            exception.event.map(|event| event.to_string()).unwrap_or_default(),
            escape(&exception.what)
        )?;
    }
    writeln!(out, "</table></div>")?;
    more(exceptions.len(), "exceptions.csv", out)
}

fn samples(evidence: &Evidence, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(
        out,
        "<h2>Samples</h2><p>Drawn with seed <code>{}</code>: {} of {} held statements, {} of {} sessions. How to draw them again is in \
         <a href=\"samples.json\">samples.json</a>.</p>",
        evidence.order.seed,
        evidence.samples.held.len(),
        evidence.collection.held.len(),
        evidence.samples.sessions.len(),
        evidence.sessions.len()
    )?;
    for held in &evidence.samples.held {
        writeln!(out, "<section><h3>Request <code>{}</code></h3><pre class=\"sql\">{}</pre>", escape(&held.request), escape(&held.text))?;
        let deciders = held.approved_by.iter().chain(&held.denied_by).cloned().collect::<Vec<_>>().join(", ");
        let by = if deciders.is_empty() { String::new() } else { format!(" by {}", escape(&deciders)) };
        let proved = evidence
            .reports
            .iter()
            .any(|report| report.session == held.session && report.grants.iter().any(|grant| grant.statement == held.statement));
        let signatures = if matches!(held.outcome.as_str(), "granted" | "template") {
            if proved { ", signatures verified" } else { ", signatures NOT verified" }
        } else {
            ""
        };
        let events: Vec<String> = held.events.iter().map(u64::to_string).collect();
        writeln!(
            out,
            "<ol><li>Requested {} by {} on {} (rule <code>{}</code>, quorum {}).</li><li>{}{by} {}{signatures}.</li><li>Result: {}.</li>\
             <li>Rows shown: {}.</li></ol><p class=\"dim\">Events {} of session <a href=\"samples/{session}.html#s{}\">{session}</a>, digest <code>{}</code></p></section>",
            escape(&held.requested),
            escape(&held.requester),
            escape(&held.database),
            escape(&held.rule),
            held.quorum,
            escape(&held.outcome),
            escape(&held.decided),
            escape(if held.result.is_empty() { "did not run" } else { &held.result }),
            held.rows,
            events.join(", "),
            held.statement,
            escape(&held.digest),
            session = escape(&held.session),
        )?;
    }
    writeln!(out, "<details><summary>sampled sessions</summary><ul>")?;
    for session in &evidence.samples.sessions {
        writeln!(out, "<li><a href=\"samples/{0}.html\">{0}</a> (<a href=\"samples/{0}.jsonl\">lines</a>)</li>", escape(session))?;
    }
    writeln!(out, "</ul></details>")
}

fn outages(evidence: &Evidence, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "<h2>Recorder outages</h2>")?;
    if evidence.outages.is_empty() && evidence.lost.is_empty() {
        return writeln!(out, "<p>None: the digests of all tasks tell of no time in which recordings could not be stored.</p>");
    }
    writeln!(out, "<div class=\"scroll\"><table class=\"rows\"><tr><th>Task</th><th>From</th><th>Until</th><th>What</th></tr>")?;
    for (task, outage) in evidence.outages.iter().take(MOST) {
        let until = outage.until_us.map_or_else(|| "not over".to_owned(), timestamp);
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{until}</td><td>{}</td></tr>",
            escape(task),
            timestamp(outage.from_us),
            escape(&outage.error)
        )?;
    }
    for (task, until_us, events) in evidence.lost.iter().take(MOST) {
        writeln!(out, "<tr><td>{}</td><td></td><td>{}</td><td>{events} events lost (async)</td></tr>", escape(task), timestamp(*until_us))?;
    }
    writeln!(out, "</table></div>")?;
    more(evidence.outages.len().saturating_add(evidence.lost.len()), "outages.csv", out)
}

fn retention(evidence: &Evidence, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "<h2>Retention, by the store's own word</h2>")?;
    let kept: Vec<_> = evidence.reports.iter().filter_map(|report| report.retention.as_ref()).collect();
    match kept.iter().map(|kept| kept.earliest).min() {
        Some(earliest) => {
            let modes: std::collections::BTreeSet<&String> = kept.iter().flat_map(|kept| &kept.modes).collect();
            let modes: Vec<&str> = modes.into_iter().map(String::as_str).collect();
            writeln!(
                out,
                "<p>{} of {} sessions are locked ({}), the first until {}. <a href=\"retention.csv\">retention.csv</a></p>",
                kept.len(),
                evidence.reports.len(),
                escape(&modes.join(", ")),
                timestamp(earliest.saturating_mul(1_000_000))
            )?;
        }
        None => writeln!(out, "<p>The store has no retention of its own: nothing but the chain protects these recordings.</p>")?,
    }
    if evidence.attempts.is_empty() {
        return writeln!(out, "<p>No deletion was tried.</p>");
    }
    writeln!(out, "<table class=\"rows\"><tr><th>Tried</th><th>Refused</th><th>The store's answer</th></tr>")?;
    for attempt in &evidence.attempts {
        let refused = if attempt.refused { "yes" } else { "NO" };
        writeln!(out, "<tr><td>{}</td><td>{refused}</td><td>{}</td></tr>", escape(&attempt.what), escape(&attempt.answer))?;
    }
    writeln!(out, "</table>")
}

fn controls(out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(
        out,
        "<h2>Controls and what supports them</h2><table class=\"rows\"><tr><th>Framework</th><th>Reference</th><th>Title</th><th>Supported by</th><th>Artifacts</th></tr>"
    )?;
    for control in CONTROLS {
        let artifacts: Vec<String> = control.artifacts.iter().map(|file| format!("<a href=\"{file}\">{file}</a>")).collect();
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            control.framework,
            control.reference,
            control.title,
            control.supports,
            artifacts.join(" ")
        )?;
    }
    writeln!(out, "</table><p>References are those of:</p><ul>")?;
    for (framework, source) in SOURCES {
        writeln!(out, "<li>{}: {}</li>", escape(framework), escape(source))?;
    }
    writeln!(out, "</ul>")
}

fn more(count: usize, file: &str, out: &mut dyn Write) -> std::io::Result<()> {
    if count > MOST { writeln!(out, "<p>The first {MOST} of {count}; all are in <a href=\"{file}\">{file}</a>.</p>") } else { Ok(()) }
}
