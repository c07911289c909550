//! Statements, decisions and approvals of one session, held against each other.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use countersign_approval::template::Statement as Wanted;
use countersign_approval::verify::RequesterIdentity;
use countersign_approval::{
    GrantError, Parameter, Request, StatementDigest, UnverifiedRequest, VerifiedTemplate, VerifyingKeys, break_glass, template, verify,
};
use countersign_recording::Event;
use countersign_recording::v1::event::{Parameter as Bound, SessionStart, Verdict};
use serde::Serialize;

use super::Failure;
use crate::load::Session;

/// A held statement that was let through, proved by signatures.
#[derive(Debug, Clone, Serialize)]
pub struct Grant {
    /// Event that records it.
    pub event: u64,
    /// Statement.
    pub statement: u64,
    /// Request.
    pub request: String,
    /// Rule that held it.
    pub rule: String,
    /// People needed.
    pub quorum: u32,
    /// People who approved.
    pub approved_by: Vec<String>,
    /// How many runs it is for; none given: as many as there are, for a template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<u32>,
    /// Digest of the statement it is for.
    #[serde(skip)]
    pub digest: [u8; 32],
    /// When, microseconds since the epoch.
    #[serde(skip)]
    pub time_us: i64,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Statements seen.
    pub statements: u64,
    /// What is wrong.
    pub failures: Vec<Failure>,
    /// What an auditor should know.
    pub notes: Vec<String>,
    /// Grants that hold.
    pub grants: Vec<Grant>,
}

#[derive(Default)]
struct Statement {
    digest: Option<[u8; 32]>,
    text: Bytes,
    parameters: Vec<Bound>,
    closed: bool,
    decision: Option<(Verdict, String, [u8; 32])>,
    facts: String,
    granted: bool,
    blamed: bool,
}

#[derive(Default)]
struct Checker {
    start: SessionStart,
    statements: BTreeMap<u64, Statement>,
    /// Statement, request, and whether what reviewers were shown is sealed.
    requests: BTreeMap<String, (u64, Request, bool)>,
    /// Templates as recorded with the statements they were used for, and whether that is sealed.
    templates: BTreeMap<u64, (String, String, bool)>,
    used: BTreeMap<String, u32>,
    closed: u64,
    outcome: Outcome,
}

/// Checks a session's events.
#[must_use]
pub(super) fn check(session: &Session, keys: &VerifyingKeys) -> Outcome {
    let mut checker = Checker::default();
    for (raw, event) in &session.events {
        if let Some(event) = event {
            checker.event(raw.number, raw.time_us, event, session.is_closed(raw.number), keys);
        }
    }
    if checker.closed > 0 {
        let closed = checker.closed;
        let note =
            format!("{closed} statements are sealed: their texts were not held against their digests; give all opening keys for that");
        checker.outcome.notes.push(note);
    }
    checker.outcome
}

/// What a decision says its reviewer was shown, believed only together with its signature.
pub(crate) fn claimed_shown(decision: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(decision.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<serde_json::Value>(&payload).ok()?.get("shown")?.as_str().map(str::to_owned)
}

impl Checker {
    /// `closed`: it is sealed and stays so; only what it shows is there to be checked.
    fn event(&mut self, number: u64, time_us: i64, event: &Event, closed: bool, keys: &VerifyingKeys) {
        match event {
            Event::SessionStart(start) => self.start = start.clone(),
            Event::Statement { statement, text, parameters, digest, .. } => {
                self.outcome.statements = self.outcome.statements.saturating_add(1);
                if closed {
                    self.closed = self.closed.saturating_add(1);
                } else if StatementDigest::compute(text, parameters.iter().map(value)).bytes() != digest {
                    self.fail(number, format!("the digest of statement {statement} is not that of its text and parameters"));
                }
                if self
                    .statements
                    .insert(
                        *statement,
                        Statement {
                            digest: Some(*digest),
                            text: text.clone(),
                            parameters: parameters.clone(),
                            closed,
                            ..Statement::default()
                        },
                    )
                    .is_some()
                {
                    self.fail(number, format!("statement {statement} is there twice"));
                }
            }
            Event::Decision { statement, verdict, rule, policy, facts } => {
                let known = self.statements.entry(*statement).or_default();
                known.decision = Some((*verdict, rule.clone(), *policy));
                known.facts.clone_from(facts);
            }
            Event::Hold { statement, request, body } => self.hold(number, *statement, request, body, closed),
            Event::Approval { statement, request, outcome, decisions } => {
                self.approval(number, time_us, *statement, request, outcome, decisions, keys)
            }
            Event::Rows { statement, .. } | Event::Completion { statement, .. } => self.ran(number, *statement),
            Event::Gap { events, reason } => {
                self.outcome.notes.push(format!("event {number}: up to {events} events are missing here: {reason}"))
            }
            Event::Anomaly { what, .. } => self.outcome.notes.push(format!("event {number}: anomaly: {what}")),
            _ => {}
        }
    }

    /// A request must say what the recording says.
    fn hold(&mut self, number: u64, statement: u64, id: &str, body: &str, closed: bool) {
        let parsed = if closed {
            // Its digest is that of what is sealed.
            serde_json::from_str::<Request>(body).map_err(|error| error.to_string())
        } else {
            UnverifiedRequest::new(body.as_bytes()).parse().map_err(|error| error.to_string())
        };
        let request = match parsed {
            Ok(request) => request,
            Err(error) => return self.fail(number, format!("request {id}: {error}")),
        };
        if request.rule == template::RULE {
            self.templates.insert(statement, (id.to_owned(), body.to_owned(), closed));
            return;
        }
        let known = self.statements.get(&statement);
        let decision = known.and_then(|known| known.decision.as_ref());
        let bindings = [
            ("id", request.id.to_string() == id),
            ("environment", request.environment == self.start.environment),
            ("requester", request.requester.issuer == self.start.issuer && request.requester.subject == self.start.subject),
            ("e-mail address of the requester", request.requester.email == self.start.email),
            ("database", request.database == self.start.database),
            ("statement", known.and_then(|known| known.digest) == Some(*request.digest.bytes())),
            ("rule", decision.is_some_and(|(verdict, rule, _)| *verdict == Verdict::Hold && *rule == held_by(&request))),
            ("policy", decision.is_some_and(|(_, _, policy)| hex::encode(policy) == request.policy)),
        ];
        for (what, _) in bindings.into_iter().filter(|(_, holds)| !holds) {
            self.fail(number, format!("request {id}: its {what} is not that of the recording"));
        }
        if request.session != self.start.session {
            self.outcome
                .notes
                .push(format!("event {number}: request {id} was placed by session {} and taken up again here", request.session));
        }
        self.requests.insert(id.to_owned(), (statement, request, closed));
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one event, and what they are checked with")]
    fn approval(&mut self, number: u64, time_us: i64, statement: u64, id: &str, outcome: &str, decisions: &[String], keys: &VerifyingKeys) {
        match outcome {
            "granted" | "denied" => {}
            "template" => return self.templated(number, time_us, statement, id, decisions, keys),
            "break-glass" => return self.broken(number, statement, id),
            _ => return,
        }
        let Some((held, request, closed)) = self.requests.get(id) else {
            return self.fail(number, format!("request {id} is {outcome} but was never placed"));
        };
        if *held != statement {
            let held = *held;
            return self.fail(number, format!("request {id} is {outcome} for statement {statement} but holds statement {held}"));
        }
        let now = u64::try_from(time_us.div_euclid(1_000_000)).unwrap_or(0);
        let mut expectation = request.expectation();
        if *closed && let Some(shown) = decisions.first().and_then(|decision| claimed_shown(decision)) {
            // What they were shown besides is sealed; that all were shown the same, and this statement, is not.
            expectation.shown = shown;
        }
        let judged = verify::quorum(&expectation, decisions, keys, now);
        match (outcome, judged) {
            ("granted", Ok(quorum)) => {
                let approved_by = quorum.decisions().iter().map(|decision| decision.reviewer.person.clone()).collect();
                let grant = Grant {
                    event: number,
                    statement,
                    request: id.to_owned(),
                    rule: request.rule.clone(),
                    quorum: request.quorum,
                    approved_by,
                    runs: Some(quorum.runs()),
                    digest: *request.digest.bytes(),
                    time_us,
                };
                let used = self.used.entry(id.to_owned()).or_default();
                *used = used.saturating_add(1);
                if *used > quorum.runs() {
                    let (used, runs) = (*used, quorum.runs());
                    let times = if used == 2 { "twice".to_owned() } else { format!("{used} times") };
                    self.fail(number, format!("grant of request {id} is used {times}, but is for {runs}"));
                }
                self.statements.entry(statement).or_default().granted = true;
                self.outcome.grants.push(grant);
            }
            ("granted", Err(error)) => self.fail(number, format!("request {id} is recorded as granted, but: {error}")),
            ("denied", Err(GrantError::Denied { .. })) => {}
            _ => {
                self.outcome.notes.push(format!("event {number}: request {id} is recorded as denied without a reviewer's signature on it"))
            }
        }
    }

    /// A statement that a template let through: the template is signed, and covers exactly this.
    fn templated(&mut self, number: u64, time_us: i64, statement: u64, id: &str, decisions: &[String], keys: &VerifyingKeys) {
        let Some((_, body, closed)) = self.templates.get(&statement).filter(|(known, ..)| known == id) else {
            return self.fail(number, format!("statement {statement} ran by template {id}, which is not recorded with it"));
        };
        let known = self.statements.entry(statement).or_default();
        if *closed || known.closed {
            known.granted = true;
            let note = format!(
                "event {number}: statement {statement} ran by template {id}; it is sealed, so neither signatures nor bounds were checked: give all opening keys for that"
            );
            return self.outcome.notes.push(note);
        }
        let template = match VerifiedTemplate::verify(body, decisions, &self.start.environment, keys) {
            Ok(template) => template,
            Err(error) => return self.fail(number, format!("statement {statement} ran by template {id}, but: {error}")),
        };
        let known = self.statements.entry(statement).or_default();
        let rule = match &known.decision {
            Some((Verdict::Hold, rule, _)) => rule.clone(),
            _ => return self.fail(number, format!("statement {statement} ran by template {id} but was not held")),
        };
        let Some((touches, calls)) = names(&known.facts) else {
            return self.fail(number, format!("statement {statement} ran by template {id}, but what it touches is not recorded"));
        };
        let parameters: Vec<Parameter<'_>> = known.parameters.iter().map(value).collect();
        let wanted = Wanted {
            text: &known.text,
            parameters: &parameters,
            touches: &touches,
            calls: &calls,
            database: &self.start.database,
            rule: &rule,
            requester: RequesterIdentity { issuer: &self.start.issuer, subject: &self.start.subject, email: self.start.email.as_deref() },
            groups: &self.start.groups,
            now: u64::try_from(time_us.div_euclid(1_000_000)).unwrap_or(0),
        };
        if let Err(mismatch) = template.covers(&wanted, None) {
            return self.fail(number, format!("statement {statement} ran by template {id}, but: {mismatch}"));
        }
        known.granted = true;
        self.outcome.notes.push(format!("event {number}: statement {statement} ran by template {}", template.template().name));
        self.outcome.grants.push(Grant {
            event: number,
            statement,
            request: id.to_owned(),
            rule,
            quorum: template.request().quorum,
            approved_by: template.decisions().iter().map(|decision| decision.reviewer.person.clone()).collect(),
            runs: None,
            digest: *template.request().digest.bytes(),
            time_us,
        });
    }

    /// A statement that ran at once. Whether that was right its review says; that it was announced as such is checked here.
    fn broken(&mut self, number: u64, statement: u64, id: &str) {
        let reason = match self.requests.get(id) {
            Some((held, request, _)) if *held == statement => break_glass::said(request).map(|(reason, _)| reason.to_owned()),
            _ => None,
        };
        let Some(reason) = reason else {
            return self.fail(number, format!("statement {statement} ran as break-glass {id}, for which there is no request"));
        };
        self.statements.entry(statement).or_default().granted = true;
        self.outcome.notes.push(format!("event {number}: break-glass: statement {statement} ran without approval, reason: {reason}"));
    }

    /// Rows and completions come only from statements that were let through.
    fn ran(&mut self, number: u64, statement: u64) {
        let known = self.statements.entry(statement).or_default();
        if known.blamed {
            return;
        }
        let why = match &known.decision {
            Some((Verdict::Allow, ..)) => return,
            Some((Verdict::Hold, ..)) if known.granted => return,
            Some((Verdict::Hold, ..)) => "it was held and no valid grant came before",
            Some((Verdict::Deny, ..)) => "it was denied",
            None => "nothing was decided on it",
        };
        known.blamed = true;
        self.fail(number, format!("statement {statement} ran, but {why}"));
    }

    fn fail(&mut self, event: u64, problem: String) {
        self.outcome.failures.push(Failure { object: None, event: Some(event), problem });
    }
}

fn value(parameter: &Bound) -> Parameter<'_> {
    Parameter { type_oid: parameter.type_oid, format: parameter.format, value: parameter.value.as_deref() }
}

/// Relations and functions of a text of one statement, from the facts recorded with its decision.
fn names(facts: &str) -> Option<(Vec<String>, Vec<String>)> {
    #[derive(serde::Deserialize)]
    struct Facts {
        reads: Vec<Relation>,
        writes: Vec<Relation>,
        functions: Vec<String>,
    }
    #[derive(serde::Deserialize)]
    struct Relation {
        schema: String,
        name: String,
    }
    let mut all: Vec<Facts> = serde_json::from_str(facts).ok()?;
    let Facts { reads, writes, functions } = all.pop().filter(|_| all.is_empty())?;
    let touches = reads.into_iter().chain(writes).map(|relation| format!("{}.{}", relation.schema, relation.name)).collect();
    Some((touches, functions))
}

/// The policy's rule that a request is about.
fn held_by(request: &Request) -> &str {
    break_glass::said(request).map_or(request.rule.as_str(), |(_, rule)| rule)
}
