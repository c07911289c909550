//! The files of a package that are tables: CSV for spreadsheets, JSON for programs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{CONTROLS, Evidence, Files, attempts_json};
use crate::export::cell;
use crate::text::timestamp;

/// Writes all of them.
pub(super) fn write(evidence: &Evidence, files: &mut Files) -> anyhow::Result<()> {
    files.add("controls.csv", &controls())?;
    files.add("sessions.csv", &sessions(evidence))?;
    files.add("held.csv", &held(evidence))?;
    files.add("break-glass.csv", &broken_glass(evidence))?;
    files.add("denied.csv", &denied(evidence))?;
    files.add("exceptions.csv", &exceptions(evidence))?;
    files.add("roster.csv", &roster(evidence))?;
    files.add("separation-of-duties.csv", &duties(evidence))?;
    files.add("policies.csv", &policies(evidence))?;
    files.add("outages.csv", &outages(evidence))?;
    files.add("retention.csv", &retention(evidence))?;
    files.add("verification.json", &serde_json::to_vec_pretty(&evidence.verification)?)?;
    files.add("deletion-test.json", &serde_json::to_vec_pretty(&attempts_json(&evidence.attempts))?)?;
    let samples = json!({
        "seed": evidence.order.seed,
        "method": "lowest SHA-256 over `<seed>:<request>` of held.csv, and over `<seed>:<session>` of sessions.csv",
        "held": evidence.samples.held,
        "sessions": evidence.samples.sessions,
    });
    files.add("samples.json", &serde_json::to_vec_pretty(&samples)?)
}

/// RFC 4180, without a cell that a spreadsheet would take for a formula.
fn csv<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> Vec<u8> {
    let mut out = head.join(",");
    out.push_str("\r\n");
    for row in rows {
        out.push_str(&row.iter().map(|text| cell(text)).collect::<Vec<_>>().join(","));
        out.push_str("\r\n");
    }
    out.into_bytes()
}

fn controls() -> Vec<u8> {
    csv(
        ["framework", "reference", "title", "supported by", "artifacts", "edition"],
        CONTROLS.iter().map(|control| {
            [control.framework, control.reference, control.title, control.supports, &control.artifacts.join(" "), control.source()]
                .map(str::to_owned)
        }),
    )
}

fn sessions(evidence: &Evidence) -> Vec<u8> {
    csv(
        [
            "session",
            "started",
            "ended",
            "state",
            "reason",
            "issuer",
            "subject",
            "email",
            "groups",
            "database",
            "role",
            "client",
            "statements",
            "allowed",
            "denied",
            "held",
            "granted",
            "errors",
            "rows",
            "masked values",
            "events lost",
            "tables",
        ],
        evidence.sessions.iter().map(|row| {
            let summary = &row.summary;
            let counts = [
                summary.statements,
                summary.allowed,
                summary.denied,
                summary.held,
                summary.granted,
                summary.errors,
                summary.rows,
                summary.masked,
                summary.lost,
            ]
            .map(|count| count.to_string());
            let [statements, allowed, denied, held, granted, errors, rows, masked, lost] = counts;
            let tables: Vec<&str> = summary.tables.iter().map(String::as_str).collect();
            [
                row.session.clone(),
                row.started.clone(),
                row.ended.clone().unwrap_or_default(),
                if row.sealed_as_orphan { "sealed (orphan)".to_owned() } else { row.state.to_owned() },
                row.reason.clone().unwrap_or_default(),
                summary.issuer.clone(),
                summary.subject.clone(),
                summary.email.clone().unwrap_or_default(),
                summary.groups.join(" "),
                summary.database.clone(),
                summary.upstream_user.clone(),
                summary.client_addr.clone(),
                statements,
                allowed,
                denied,
                held,
                granted,
                errors,
                rows,
                masked,
                lost,
                tables.join(" "),
            ]
        }),
    )
}

fn held(evidence: &Evidence) -> Vec<u8> {
    csv(
        [
            "request",
            "session",
            "statement",
            "requested",
            "requester",
            "database",
            "rule",
            "quorum",
            "outcome",
            "decided",
            "waited (s)",
            "approved by",
            "denied by",
            "result",
            "rows shown",
            "digest",
            "text",
        ],
        evidence.collection.held.iter().map(|held| {
            [
                held.request.clone(),
                held.session.clone(),
                held.statement.to_string(),
                held.requested.clone(),
                held.requester.clone(),
                held.database.clone(),
                held.rule.clone(),
                held.quorum.to_string(),
                held.outcome.clone(),
                held.decided.clone(),
                held.waited_s.to_string(),
                held.approved_by.join(" "),
                held.denied_by.join(" "),
                held.result.clone(),
                held.rows.to_string(),
                held.digest.clone(),
                held.text.clone(),
            ]
        }),
    )
}

fn broken_glass(evidence: &Evidence) -> Vec<u8> {
    csv(
        ["request", "session", "statement", "time", "requester", "rule", "reason", "review", "reviewed by", "finding", "due"],
        evidence.collection.broken_glass.iter().map(|glass| {
            [
                glass.request.clone(),
                glass.session.clone(),
                glass.statement.to_string(),
                glass.time.clone(),
                glass.requester.clone(),
                glass.rule.clone(),
                glass.reason.clone(),
                glass.review.to_owned(),
                glass.reviewed_by.join(" "),
                glass.finding.clone(),
                glass.due.clone(),
            ]
        }),
    )
}

fn denied(evidence: &Evidence) -> Vec<u8> {
    csv(
        ["session", "statement", "time", "principal", "database", "rule", "text"],
        evidence.collection.denied.iter().map(|denied| {
            [
                denied.session.clone(),
                denied.statement.to_string(),
                denied.time.clone(),
                denied.principal.clone(),
                denied.database.clone(),
                denied.rule.clone(),
                denied.text.clone(),
            ]
        }),
    )
}

fn exceptions(evidence: &Evidence) -> Vec<u8> {
    csv(
        ["kind", "session", "event", "what"],
        evidence.collection.exceptions.iter().map(|exception| {
            let event = exception.event.map(|event| event.to_string()).unwrap_or_default();
            [exception.kind.to_owned(), exception.session.clone(), event, exception.what.clone()]
        }),
    )
}

/// Who decided, and how often.
fn roster(evidence: &Evidence) -> Vec<u8> {
    let mut people: BTreeMap<&str, (u64, u64, String, String)> = BTreeMap::new();
    for held in &evidence.collection.held {
        for (person, approved) in
            held.approved_by.iter().map(|person| (person, true)).chain(held.denied_by.iter().map(|person| (person, false)))
        {
            let entry = people.entry(person).or_insert_with(|| (0, 0, held.decided.clone(), held.decided.clone()));
            if approved {
                entry.0 = entry.0.saturating_add(1)
            } else {
                entry.1 = entry.1.saturating_add(1)
            }
            entry.2 = entry.2.clone().min(held.decided.clone());
            entry.3 = entry.3.clone().max(held.decided.clone());
        }
    }
    let by = |person: &str| {
        let all = evidence.collection.held.iter().flat_map(|held| &held.members_by);
        let by: BTreeSet<&str> = all.filter(|(known, _)| known == person).map(|(_, by)| by.as_str()).collect();
        by.into_iter().collect::<Vec<_>>().join("; ")
    };
    csv(
        ["reviewer", "approved", "denied", "first decision", "last decision", "may decide by"],
        people.into_iter().map(|(person, (approved, denied, first, last))| {
            [person.to_owned(), approved.to_string(), denied.to_string(), first, last, by(person)]
        }),
    )
}

/// Each pair of requester and reviewer, with whether they are the same person by subject or e-mail address.
fn duties(evidence: &Evidence) -> Vec<u8> {
    let mut pairs: BTreeMap<(&str, &str), (u64, bool)> = BTreeMap::new();
    for held in &evidence.collection.held {
        for reviewer in &held.approved_by {
            let pair = pairs.entry((&held.requester, reviewer)).or_default();
            pair.0 = pair.0.saturating_add(1);
            pair.1 |= held.is_self_approved();
        }
    }
    csv(
        ["requester", "reviewer", "approvals", "same person"],
        pairs.into_iter().map(|((requester, reviewer), (count, same))| {
            [requester.to_owned(), reviewer.to_owned(), count.to_string(), if same { "yes" } else { "no" }.to_owned()]
        }),
    )
}

fn policies(evidence: &Evidence) -> Vec<u8> {
    csv(
        ["policy", "rule", "decisions by rule", "first decision", "last decision", "decisions", "sessions"],
        evidence.collection.policies.iter().flat_map(|(policy, used)| {
            used.rules.iter().map(move |(rule, count)| {
                [
                    policy.clone(),
                    rule.clone(),
                    count.to_string(),
                    timestamp(used.first_us),
                    timestamp(used.last_us),
                    used.decisions.to_string(),
                    used.sessions.len().to_string(),
                ]
            })
        }),
    )
}

fn outages(evidence: &Evidence) -> Vec<u8> {
    let outages = evidence.outages.iter().map(|(task, outage)| {
        let until = outage.until_us.map_or_else(|| "not over".to_owned(), timestamp);
        [task.clone(), "store failed".to_owned(), timestamp(outage.from_us), until, outage.error.clone()]
    });
    let lost = evidence.lost.iter().map(|(task, until_us, events)| {
        [task.clone(), "events lost (async)".to_owned(), String::new(), timestamp(*until_us), events.to_string()]
    });
    csv(["task", "what", "from", "until", "detail"], outages.chain(lost))
}

fn retention(evidence: &Evidence) -> Vec<u8> {
    csv(
        ["session", "objects", "modes", "kept until at least", "by whose word"],
        evidence.reports.iter().map(|report| match &report.retention {
            Some(kept) => [
                report.session.clone(),
                kept.objects.to_string(),
                kept.modes.join(" "),
                timestamp(kept.earliest.saturating_mul(1_000_000)),
                "the store's".to_owned(),
            ],
            None => [
                report.session.clone(),
                String::new(),
                "none".to_owned(),
                String::new(),
                "the store has no retention of its own".to_owned(),
            ],
        }),
    )
}
