//! A held statement: from the judgement that holds it to the permit that opens it.
//!
//! A simple Query is held as it is. In the extended protocol the Bind is held, since planning it may already run functions the
//! planner folds; it has all bound values. Of a cursor that SQL declared the Execute is held, as its FETCH would be.

use std::sync::Arc;

use bytes::Bytes;
use countersign_approval::{StatementDigest, VerifiedQuorum};
use countersign_policy::HoldTerms;
use countersign_policy::rule::OnHold;
use countersign_recording::Event;
use countersign_recording::v1::event::Parameter;
use countersign_wire::{ErrorFields, ReadyStatus, Target, fe};

use crate::cursors::Fetch;
use crate::effect::{Effect, HoldRequest};
use crate::errors;
use crate::extended::{BoundStatement, digest, typed};
use crate::judging::Judged;
use crate::permit::Permit;
use crate::pipeline::Step;
use crate::session::{Intake, Session};

/// What is held and how far it got.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) what: What,
    pub(crate) terms: HoldTerms,
    pub(crate) judged: Arc<Judged>,
    phase: Phase,
}

#[derive(Debug)]
pub(crate) enum What {
    Query { text: Bytes },
    Bind(Box<BoundStatement>),
    Fetch(Fetch),
}

#[derive(Debug)]
enum Phase {
    /// Everything sent before must be answered, so that nobody reviews what the server refuses anyway.
    Draining { asked: bool },
    /// The driver places the request.
    Placing(Placed),
    /// The driver places the request for a review; what is held then runs.
    Breaking(Placed),
    /// Reviewers decide.
    Waiting(Placed, String),
    /// The driver consumes the grant.
    Consuming(Placed, String, Box<VerifiedQuorum>),
}

#[derive(Debug, Clone)]
struct Placed {
    statement: u64,
    digest: StatementDigest,
}

impl Held {
    pub(crate) const fn query(text: Bytes, terms: HoldTerms, judged: Arc<Judged>) -> Self {
        Self { what: What::Query { text }, terms, judged, phase: Phase::Draining { asked: false } }
    }

    pub(crate) fn bind(bind: BoundStatement, terms: HoldTerms, judged: Arc<Judged>) -> Self {
        Self { what: What::Bind(Box::new(bind)), terms, judged, phase: Phase::Draining { asked: false } }
    }

    pub(crate) const fn fetch(fetch: Fetch, terms: HoldTerms, judged: Arc<Judged>) -> Self {
        Self { what: What::Fetch(fetch), terms, judged, phase: Phase::Draining { asked: false } }
    }

    /// The request, once placed.
    pub(crate) fn request_id(&self) -> Option<String> {
        match &self.phase {
            Phase::Waiting(_, request) | Phase::Consuming(_, request, _) => Some(request.clone()),
            Phase::Draining { .. } | Phase::Placing(_) | Phase::Breaking(_) => None,
        }
    }

    /// Whether the grant is being used up now.
    pub(crate) const fn is_consuming(&self) -> bool {
        matches!(self.phase, Phase::Consuming(..))
    }

    /// Statement number, 0 before it has one.
    pub(crate) const fn statement(&self) -> u64 {
        match &self.phase {
            Phase::Draining { .. } => 0,
            Phase::Placing(placed) | Phase::Breaking(placed) | Phase::Waiting(placed, _) | Phase::Consuming(placed, _, _) => {
                placed.statement
            }
        }
    }
}

impl Session {
    /// Goes on with a hold that waits for the pipeline to drain.
    pub(crate) fn hold_progressed(&mut self) {
        let Intake::Held(held) = &mut self.intake else { return };
        let Phase::Draining { asked } = &mut held.phase else { return };
        if !*asked {
            *asked = true;
            if let What::Bind(bind) = &held.what {
                // Reviewers see each value with its type, so ask for types the client left open. Flush brings the answers now.
                let known = self.statements.get(&bind.prepared.id);
                let open = known.is_none_or(|prepared| prepared.types.len() < bind.values.len() || prepared.types.contains(&0));
                if open && !bind.values.is_empty() {
                    let own = bind.prepared.own.clone();
                    let id = Some(bind.prepared.id);
                    self.to_server.write(0, |out| countersign_wire::put_describe(out, Target::Statement, &own));
                    self.pipeline.push(Step::Describe { target: Target::Statement, id, visible: false });
                }
                self.to_server.write(0, |out| countersign_wire::put_empty(out, fe::FLUSH));
            }
        }
        if self.pipeline.is_empty() {
            self.place();
        }
    }

    fn place(&mut self) {
        let Intake::Held(mut held) = std::mem::replace(&mut self.intake, Intake::Open) else { return };
        let (text, parameters, extended) = match &mut held.what {
            What::Query { text } => (text.clone(), Vec::new(), false),
            What::Fetch(fetch) => (fetch.text.clone(), Vec::new(), true),
            What::Bind(bind) => {
                if let Some(prepared) = self.statements.get(&bind.prepared.id) {
                    bind.prepared = Arc::clone(prepared);
                }
                (bind.prepared.text.clone(), typed(&bind.values, &bind.prepared.types), true)
            }
        };
        let statement = self.record_statement(&text, extended, &parameters, &held.judged);
        let digest = digest(&text, &parameters);
        if let Some(found) = self.template_for(&text, &parameters, &held) {
            return self.run_templated(*held, statement, digest, &found);
        }
        let mut request = request(self, statement, text, parameters, digest, &held);
        request.break_glass = self.breaks_glass(&held.terms);
        let placed = Placed { statement, digest };
        held.phase = if request.break_glass.is_some() { Phase::Breaking(placed) } else { Phase::Placing(placed) };
        self.effects.push_back(Effect::PlaceHold(Box::new(request)));
        self.intake = Intake::Held(held);
    }

    /// The request lies in the store under this id, with this body; the client hears of it. `again`: it was found there, still open or
    /// granted, since the same statement had been asked before.
    pub fn hold_placed(&mut self, request: &str, body: String, expires: &str, again: bool) {
        let Intake::Held(held) = &mut self.intake else { return };
        if let Phase::Breaking(placed) = &held.phase {
            let statement = placed.statement;
            return self.run_broken(statement, request, body);
        }
        let Phase::Placing(placed) = &held.phase else { return };
        let placed = placed.clone();
        let statement = placed.statement;
        let reviewers = held.terms.reviewers.join(", ");
        let quorum = held.terms.quorum;
        let page = self.holding.page_of(request);
        held.phase = Phase::Waiting(placed, request.to_owned());
        self.record(Event::Hold { statement, request: request.to_owned(), body });
        if !self.holding.notices {
            return;
        }
        let how = if again { "asked again, taken up under request" } else { "held for approval, request" };
        self.notice(&errors::notice(
            &format!("countersign: statement {how} {request}"),
            Some(format!("{quorum} approval(s) needed from {reviewers}; the request expires at {expires}{page}")),
        ));
    }

    /// Whether the client wants its answer now, held or not.
    #[must_use]
    pub fn hold_returns(&self) -> bool {
        matches!(&self.intake, Intake::Held(held) if self.holding.returns || held.terms.on_hold == OnHold::Return)
    }

    /// The client is sent away with the request's id; the request stays open.
    pub fn hold_pending(&mut self, expires: &str) {
        let Some(request) = self.held_request() else { return };
        let Intake::Held(held) = &self.intake else { return };
        let needed = format!("{} approval(s) needed from {}", held.terms.quorum, held.terms.reviewers.join(", "));
        let page = self.holding.page_of(&request);
        let error = errors::with(
            errors::error("55000", &format!("the statement needs approval: request {request} is open")),
            Some(format!("{needed}; the request expires at {expires}{page}")),
            Some("nothing was run; once approved, send the same statement with the same parameters again".to_owned()),
        );
        self.effects.push_back(Effect::LeaveHold { request });
        self.hold_stops("left", Vec::new(), error);
    }

    /// The request could not be placed, or was closed by somebody else than a reviewer.
    pub fn hold_failed(&mut self, why: &str) {
        let (error, hint) = match self.held_request() {
            Some(request) => (
                errors::error("42501", &format!("request {request} can no longer be approved")),
                "nothing was run; submit the statement again",
            ),
            None => (
                errors::error("58030", "the statement needs approval, but the request could not be placed"),
                "nothing was run; try again later",
            ),
        };
        self.hold_ends("failed", Vec::new(), errors::with(error, Some(why.to_owned()), Some(hint.to_owned())));
    }

    /// Something reviewers or the store said while the statement is held.
    pub fn hold_notice(&mut self, message: &str) {
        if self.is_held() && self.holding.notices {
            self.notice(&errors::notice(&format!("countersign: {message}"), None));
        }
    }

    /// The proxy verified a quorum. `tokens` are the decisions as signed, for the recording.
    pub fn hold_granted(&mut self, quorum: VerifiedQuorum, tokens: Vec<String>) {
        let policy = self.policy.digest();
        let Intake::Held(held) = &mut self.intake else { return };
        let Phase::Waiting(placed, request) = &held.phase else { return };
        let (placed, request) = (placed.clone(), request.clone());
        if held.judged.judgement.policy != policy {
            let error = errors::with(
                errors::error("42501", &format!("the policy changed while request {request} was open, so its approval is void")),
                None,
                Some("submit the statement again".to_owned()),
            );
            self.effects.push_back(Effect::CancelHold { request, why: "the policy changed" });
            self.hold_ends("failed", tokens, error);
            return;
        }
        let statement = placed.statement;
        let runs = quorum.runs();
        held.phase = Phase::Consuming(placed.clone(), request.clone(), Box::new(quorum));
        self.record(Event::Approval { statement, request: request.clone(), outcome: "granted".to_owned(), decisions: tokens });
        self.effects.push_back(Effect::Consume { request, digest: placed.digest, runs });
    }

    /// The grant was consumed (`Ok(true)`), had been consumed before (`Ok(false)`), or the store did not say.
    pub fn consumed(&mut self, outcome: Result<bool, String>) {
        let Intake::Held(held) = &self.intake else { return };
        let Phase::Consuming(_, request, _) = &held.phase else { return };
        let request = request.clone();
        match outcome {
            Ok(true) => self.release(),
            Ok(false) => {
                let error = errors::with(
                    errors::error("42501", &format!("the approval of request {request} was used already")),
                    Some("the same statement ran once under it, or the request was closed in the same moment".to_owned()),
                    Some("nothing was run; submit the statement again to ask for another approval".to_owned()),
                );
                // Somebody else may have used it: how that ended is not this session's to note.
                self.hold_stops("failed", Vec::new(), error);
            }
            Err(why) => {
                let error = errors::with(
                    errors::error("58030", &format!("the approval of request {request} could not be consumed, so nothing was run")),
                    Some(why),
                    Some("try again later".to_owned()),
                );
                self.hold_stops("failed", Vec::new(), error);
            }
        }
    }

    fn release(&mut self) {
        let Intake::Held(held) = std::mem::replace(&mut self.intake, Intake::Open) else { return };
        let Phase::Consuming(placed, request, quorum) = held.phase else { return };
        match Permit::granted(placed.statement, &request, &placed.digest, &quorum) {
            Ok(permit) => match held.what {
                What::Query { text } => self.forward_query(permit, &text, &held.judged, Some(request)),
                What::Bind(bind) => self.forward_bind(permit, *bind, held.judged, Some(request)),
                What::Fetch(fetch) => self.forward_fetch(permit, &fetch, &held.judged, Some(request)),
            },
            Err(mismatch) => {
                self.anomaly(placed.statement, mismatch.to_string());
                let error = errors::error("42501", &format!("the decisions on request {request} are not for this statement"));
                self.refuse_held(&held.what, placed.statement, error);
            }
        }
    }

    /// A reviewer denied.
    pub fn hold_denied(&mut self, by: &str, reason: &str, tokens: Vec<String>) {
        let Some(request) = self.held_request() else { return };
        let error = errors::with(
            errors::error("42501", &format!("request {request} was denied by {by}")),
            Some(reason.to_owned()),
            Some("nothing was run".to_owned()),
        );
        self.hold_ends("denied", tokens, error);
    }

    /// Nobody decided in time.
    pub fn hold_expired(&mut self) {
        let Some(request) = self.held_request() else { return };
        let error = errors::with(
            errors::error("42501", &format!("request {request} expired before enough reviewers approved")),
            None,
            Some("nothing was run; submit the statement again".to_owned()),
        );
        self.hold_ends("expired", Vec::new(), error);
    }

    /// The client asked to cancel. Returns whether that ended a hold (or nothing is left to cancel); otherwise the server is to be asked.
    pub fn cancel(&mut self) -> bool {
        if self.is_closed() {
            return true;
        }
        if !self.is_held() {
            let statement = self.pipeline.front().map_or(0, |step| match step {
                Step::Query { statement, .. } => *statement,
                Step::Execute { portal } => self.portals.get(portal).map_or(0, |portal| portal.statement),
                _ => 0,
            });
            self.record(Event::Cancel { statement });
            return false;
        }
        let (request, statement) = match &self.intake {
            Intake::Held(held) => (held.request_id(), held.statement()),
            _ => (None, 0),
        };
        self.record(Event::Cancel { statement });
        if let Some(request) = request {
            let error = errors::with(
                errors::error("57014", "canceling statement due to user request"),
                Some(format!("request {request} is cancelled; nothing was run")),
                None,
            );
            self.effects.push_back(Effect::CancelHold { request, why: "the client cancelled" });
            self.hold_ends("cancelled", Vec::new(), error);
        } else {
            self.hold_ends("cancelled", Vec::new(), errors::error("57014", "canceling statement due to user request"));
        }
        true
    }

    fn held_request(&self) -> Option<String> {
        match &self.intake {
            Intake::Held(held) => held.request_id(),
            _ => None,
        }
    }

    /// The hold ends without a release, and so does its request.
    fn hold_ends(&mut self, outcome: &str, tokens: Vec<String>, error: ErrorFields) {
        let request = self.held_request();
        self.hold_stops(outcome, tokens, error);
        // Behind the record of it: from then on the store may forget the request.
        self.effects.extend(request.map(|request| Effect::FinishHold { request, outcome: format!("not run: {outcome}") }));
    }

    /// The hold ends without a release.
    fn hold_stops(&mut self, outcome: &str, tokens: Vec<String>, error: ErrorFields) {
        let Intake::Held(held) = std::mem::replace(&mut self.intake, Intake::Open) else { return };
        let statement = held.statement();
        if let Some(request) = held.request_id() {
            self.record(Event::Approval { statement, request, outcome: outcome.to_owned(), decisions: tokens });
        }
        self.refuse_held(&held.what, statement, error);
    }

    pub(crate) fn refuse_held(&mut self, what: &What, statement: u64, error: ErrorFields) {
        match what {
            What::Query { .. } => self.refuse_query(statement, error),
            What::Bind(_) | What::Fetch(_) => self.refuse_extended(statement, error),
        }
    }

    /// The server refused what came before a Bind that waits for its answers: the Bind is read over, too.
    pub(crate) fn abandon_hold(&mut self) {
        if let Intake::Held(held) = &self.intake
            && matches!(held.phase, Phase::Draining { .. })
            && !matches!(held.what, What::Query { .. })
            && self.skipping
        {
            self.intake = Intake::Open;
        }
    }
}

fn request(
    session: &Session,
    statement: u64,
    text: Bytes,
    parameters: Vec<Parameter>,
    digest: StatementDigest,
    held: &Held,
) -> HoldRequest {
    HoldRequest {
        statement,
        text,
        parameters,
        digest,
        rule: held.judged.judgement.rule.clone(),
        policy: held.judged.judgement.policy.0,
        terms: held.terms.clone(),
        facts: held.judged.judgement.statements.clone(),
        told: session.state.told(),
        as_at_login: session.state.is_as_at_login(&session.catalog),
        in_transaction: session.status != ReadyStatus::Idle,
        transaction_age: session.transaction_age(),
        break_glass: None,
    }
}
