//! What a period's recordings say, session by session.

use std::collections::{BTreeMap, BTreeSet};

use countersign_approval::v2::Source;
use countersign_approval::{Decision, UnverifiedRequest, Verdict as Said};
use countersign_recording::Event;
use countersign_recording::v1::event::Verdict;
use serde::Serialize;

use crate::load::Session;
use crate::reviews::BrokenGlass;
use crate::text::{lossless, timestamp};
use crate::verify::SessionReport;

/// A statement that was held, and what became of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Held {
    /// Session.
    pub session: String,
    /// Statement.
    pub statement: u64,
    /// Request.
    pub request: String,
    /// When it was placed, RFC 3339.
    pub requested: String,
    /// Microseconds since the epoch.
    pub requested_us: i64,
    /// Who asked.
    pub requester: String,
    /// E-mail address of who asked.
    pub requester_email: String,
    /// Database.
    pub database: String,
    /// Rule.
    pub rule: String,
    /// People needed.
    pub quorum: u32,
    /// `granted`, `template`, `break-glass`, `denied`, `expired`, `cancelled`, `failed`, or `open`.
    pub outcome: String,
    /// When that was.
    pub decided: String,
    /// Seconds from request to outcome.
    pub waited_s: i64,
    /// Who approved.
    pub approved_by: Vec<String>,
    /// Who denied.
    pub denied_by: Vec<String>,
    /// Of each of them, by what they are in a group that may decide.
    pub members_by: Vec<(String, String)>,
    /// Text of the statement.
    pub text: String,
    /// SHA-256 of text and values, as the reviewers' signatures have it.
    pub digest: String,
    /// Command tag, or SQLSTATE.
    pub result: String,
    /// Rows that were shown for it.
    pub rows: u64,
    /// Numbers of the events: statement, decision, hold, approval, completion.
    pub events: Vec<u64>,
}

/// A statement that was refused.
#[derive(Debug, Clone, Serialize)]
pub struct Denied {
    /// Session.
    pub session: String,
    /// Statement.
    pub statement: u64,
    /// RFC 3339.
    pub time: String,
    /// Who.
    pub principal: String,
    /// Database.
    pub database: String,
    /// Rule.
    pub rule: String,
    /// Text.
    pub text: String,
}

/// Something that an auditor should look at.
#[derive(Debug, Clone, Serialize)]
pub struct Exception {
    /// Session, when it is of one.
    pub session: String,
    /// Event, when it is one.
    pub event: Option<u64>,
    /// What kind: `verification`, `not-checked`, `orphan`, `gap`, `anomaly`, `approval-not-given`, `self-approval`, `break-glass`,
    /// `break-glass-not-justified`, `review-open`, `review-overdue`.
    pub kind: &'static str,
    /// What.
    pub what: String,
}

/// Use of a policy.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PolicyUse {
    /// First decision under it, microseconds since the epoch.
    pub first_us: i64,
    /// Last.
    pub last_us: i64,
    /// Decisions.
    pub decisions: u64,
    /// Sessions.
    pub sessions: BTreeSet<String>,
    /// Rules that decided, with how often.
    pub rules: BTreeMap<String, u64>,
}

/// Everything of a period.
#[derive(Debug, Default)]
pub struct Collection {
    /// Held statements.
    pub held: Vec<Held>,
    /// Denied statements.
    pub denied: Vec<Denied>,
    /// Exceptions.
    pub exceptions: Vec<Exception>,
    /// Policies by digest.
    pub policies: BTreeMap<String, PolicyUse>,
    /// Statements that ran at once.
    pub broken_glass: Vec<BrokenGlass>,
    /// Statements allowed, held, denied.
    pub decisions: [u64; 3],
}

impl Collection {
    /// Takes in what ran at once in a session, with the reviews of it.
    pub fn add_broken_glass(&mut self, broken: Vec<BrokenGlass>) {
        for glass in broken {
            let kind = match glass.review {
                "justified" => "break-glass",
                "not justified" => "break-glass-not-justified",
                "overdue" => "review-overdue",
                _ => "review-open",
            };
            self.exceptions.push(Exception { session: glass.session.clone(), event: None, kind, what: glass.line() });
            self.broken_glass.push(glass);
        }
    }

    /// Takes a session in.
    pub fn add(&mut self, session: &Session, report: &SessionReport) {
        let id = session.id.to_string();
        let mut exception = |event, kind, what: String| self.exceptions.push(Exception { session: id.clone(), event, kind, what });
        for failure in &report.failures {
            exception(failure.event, "verification", failure.to_string());
        }
        for unchecked in &report.unchecked {
            exception(None, "not-checked", unchecked.clone());
        }
        if session.stated.as_ref().is_some_and(|manifest| manifest.seal == countersign_recording::Seal::Orphan) {
            exception(None, "orphan", "its task died; another sealed what was durable".to_owned());
        }
        let mut start = countersign_recording::v1::event::SessionStart::default();
        let mut texts: BTreeMap<u64, (u64, String, String)> = BTreeMap::new();
        let mut decisions: BTreeMap<u64, (u64, String)> = BTreeMap::new();
        let mut held: BTreeMap<u64, Held> = BTreeMap::new();
        for (raw, event) in session.events.iter().filter_map(|(raw, event)| Some((raw, event.as_ref()?))) {
            match event {
                Event::SessionStart(found) => start = found.clone(),
                Event::Statement { statement, text, digest, .. } => {
                    texts.insert(*statement, (raw.number, lossless(text), hex::encode(digest)));
                }
                Event::Decision { statement, verdict, rule, policy, .. } => {
                    self.decided(&id, raw.time_us, *verdict, rule, policy);
                    decisions.insert(*statement, (raw.number, rule.clone()));
                    if *verdict == Verdict::Deny {
                        self.denied.push(Denied {
                            session: id.clone(),
                            statement: *statement,
                            time: timestamp(raw.time_us),
                            principal: start.email.clone().unwrap_or_else(|| start.subject.clone()),
                            database: start.database.clone(),
                            rule: rule.clone(),
                            text: texts.get(statement).map(|(_, text, _)| text.clone()).unwrap_or_default(),
                        });
                    }
                }
                Event::Hold { statement, request, body } => {
                    let (number, text, digest) = texts.get(statement).cloned().unwrap_or_default();
                    let (decision, rule) = decisions.get(statement).cloned().unwrap_or_default();
                    let quorum = UnverifiedRequest::new(body.as_bytes()).parse().map_or(0, |request| request.quorum);
                    let placed = Held {
                        session: id.clone(),
                        statement: *statement,
                        request: request.clone(),
                        requested: timestamp(raw.time_us),
                        requested_us: raw.time_us,
                        requester: start.subject.clone(),
                        requester_email: start.email.clone().unwrap_or_default(),
                        database: start.database.clone(),
                        rule,
                        quorum,
                        outcome: "open".to_owned(),
                        text,
                        digest,
                        events: vec![number, decision, raw.number],
                        ..Held::default()
                    };
                    held.insert(*statement, placed);
                }
                Event::Approval { statement, outcome, decisions, .. } => {
                    if let Some(held) = held.get_mut(statement) {
                        held.outcome.clone_from(outcome);
                        held.decided = timestamp(raw.time_us);
                        held.waited_s = raw.time_us.saturating_sub(held.requested_us) / 1_000_000;
                        held.events.push(raw.number);
                        for decision in decisions.iter().filter_map(|token| said(token)) {
                            let person = decision.reviewer.person.clone();
                            let listed = || format!("{}: {}", decision.reviewer.groups.join(" or "), Source::Listed);
                            match &decision.snapshot {
                                None => held.members_by.push((person.clone(), listed())),
                                Some(snapshot) => {
                                    held.members_by.extend(snapshot.memberships.iter().map(|by| (person.clone(), by.to_string())));
                                }
                            }
                            match decision.verdict {
                                Said::Approve => held.approved_by.push(person),
                                Said::Deny => held.denied_by.push(person),
                            }
                        }
                    }
                }
                Event::Rows { statement, count, .. } => {
                    if let Some(held) = held.get_mut(statement) {
                        held.rows = held.rows.saturating_add(*count);
                    }
                }
                Event::Completion { statement, tag, .. } => {
                    if let Some(held) = held.get_mut(statement) {
                        held.result.clone_from(tag);
                        held.events.push(raw.number);
                    }
                }
                Event::Error { statement, code, .. } => {
                    if let Some(held) = held.get_mut(statement) {
                        held.result.clone_from(code);
                    }
                }
                Event::Gap { events, reason } => self.exceptions.push(Exception {
                    session: id.clone(),
                    event: Some(raw.number),
                    kind: "gap",
                    what: format!("up to {events} events are missing: {reason}"),
                }),
                Event::Anomaly { what, .. } => {
                    self.exceptions.push(Exception { session: id.clone(), event: Some(raw.number), kind: "anomaly", what: what.clone() })
                }
                _ => {}
            }
        }
        for held in held.into_values() {
            self.judge(&held, report);
            self.held.push(held);
        }
    }

    fn decided(&mut self, session: &str, time_us: i64, verdict: Verdict, rule: &str, policy: &[u8; 32]) {
        let [allowed, held, denied] = &mut self.decisions;
        let count = match verdict {
            Verdict::Allow => allowed,
            Verdict::Hold => held,
            Verdict::Deny => denied,
        };
        *count = count.saturating_add(1);
        let used = self.policies.entry(hex::encode(policy)).or_insert_with(|| PolicyUse { first_us: time_us, ..PolicyUse::default() });
        used.first_us = used.first_us.min(time_us);
        used.last_us = used.last_us.max(time_us);
        used.decisions = used.decisions.saturating_add(1);
        used.sessions.insert(session.to_owned());
        let rule = used.rules.entry(rule.to_owned()).or_default();
        *rule = rule.saturating_add(1);
    }

    fn judge(&mut self, held: &Held, report: &SessionReport) {
        let mut exception = |kind, what| {
            self.exceptions.push(Exception { session: held.session.clone(), event: held.events.last().copied(), kind, what });
        };
        if matches!(held.outcome.as_str(), "expired" | "failed") {
            exception("approval-not-given", format!("request {} {}", held.request, held.outcome));
        }
        let proved = report.grants.iter().any(|grant| grant.statement == held.statement);
        if matches!(held.outcome.as_str(), "granted" | "template") && !proved {
            exception("verification", format!("request {} is recorded as granted and its signatures do not prove it", held.request));
        }
        if held.is_self_approved() {
            exception("self-approval", format!("request {}: the requester is among the reviewers", held.request));
        }
    }
}

impl Held {
    /// Whether somebody approved their own request, by subject or by e-mail address.
    #[must_use]
    pub fn is_self_approved(&self) -> bool {
        self.approved_by
            .iter()
            .any(|person| *person == self.requester || (!self.requester_email.is_empty() && *person == self.requester_email))
    }
}

/// What a signed decision says. Whether the signature holds is in the session's report.
pub(crate) fn said(token: &str) -> Option<Decision> {
    use base64::Engine as _;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&claims).ok()
}
