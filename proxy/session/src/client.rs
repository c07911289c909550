//! The client's messages.

use bytes::{Buf, Bytes, BytesMut};
use countersign_policy::Verdict;
use countersign_policy::facts::SessionAction;
use countersign_recording::Event;
use countersign_wire::{ErrorFields, Target, fe, peek_frame};

use crate::copy::Copy;
use crate::effect::{Effect, End};
use crate::ends::Fatal;
use crate::errors;
use crate::hold::Held;
use crate::judging::Judged;
use crate::passage::Passage;
use crate::permit::Permit;
use crate::pipeline::Step;
use crate::session::{Intake, Session};

/// What became of a frame.
pub(crate) enum Taken {
    /// Dealt with.
    Done,
    /// Not now: leave it in the buffer and wait.
    Wait(Intake),
    /// It goes on, or is read over, in pieces.
    Pass(Passage),
}

impl Session {
    pub(crate) fn take_client(&mut self, input: &mut BytesMut) -> Result<(), Fatal> {
        loop {
            match self.intake {
                Intake::Open => {}
                Intake::Drain if self.pipeline.is_empty() => self.intake = Intake::Open,
                Intake::Closed => {
                    input.clear();
                    return Ok(());
                }
                Intake::Drain | Intake::Catalog | Intake::Held(_) => return Ok(()),
            }
            if self.to_server.len() >= self.limits.backlog || self.pipeline.len() >= self.limits.pipeline {
                return Ok(());
            }
            if let Some(passage) = self.from_client.take() {
                self.from_client = self.pass_up(passage, input);
                if self.from_client.is_some() {
                    return Ok(());
                }
            }
            let Some(tag) = input.first() else { return Ok(()) };
            let limit = countersign_wire::client_body_limit(*tag).ok_or_else(|| unknown(*tag))?;
            let header = peek_frame(input, limit).map_err(|error| Fatal::client_protocol(&error.to_string()))?;
            let Some(header) = header else { return Ok(()) };
            let taken = if self.taken_whole(&header, input.len()) {
                let Some(frame) = input.get(..header.total) else {
                    input.reserve(header.total.saturating_sub(input.len()).min(1 << 20));
                    return Ok(());
                };
                let body = frame.get(countersign_wire::HEADER_LEN..).unwrap_or_default();
                self.take_client_frame(header.tag, frame, body)?
            } else {
                self.take_long(&header)?
            };
            match taken {
                Taken::Pass(passage) => {
                    self.from_client = Some(passage);
                    self.refreshed = false;
                }
                Taken::Done => {
                    self.sent(header.tag);
                    input.advance(header.total);
                    self.refreshed = false;
                }
                Taken::Wait(intake) => {
                    // A Bind or Query that is held has been taken over by the hold.
                    if matches!(intake, Intake::Held(_)) {
                        self.sent(header.tag);
                        input.advance(header.total);
                        self.refreshed = false;
                    }
                    if matches!(intake, Intake::Drain) {
                        // Without it the server may keep its answers until Sync.
                        self.to_server.write(0, |out| countersign_wire::put_empty(out, fe::FLUSH));
                    }
                    self.intake = intake;
                    self.hold_progressed();
                }
            }
        }
    }

    fn take_client_frame(&mut self, tag: u8, frame: &[u8], body: &[u8]) -> Result<Taken, Fatal> {
        if let Copy::In { .. } = self.copy {
            return self.take_copy_in(tag, frame, body);
        }
        if self.skipping && !matches!(tag, fe::SYNC | fe::TERMINATE) {
            return match tag {
                fe::QUERY | fe::PARSE | fe::BIND | fe::DESCRIBE | fe::EXECUTE | fe::CLOSE | fe::FLUSH | fe::FUNCTION_CALL => {
                    Ok(Taken::Done)
                }
                fe::COPY_DATA | fe::COPY_DONE | fe::COPY_FAIL => Ok(Taken::Done),
                other => Err(unknown(other)),
            };
        }
        match tag {
            fe::QUERY => self.take_query(body),
            fe::PARSE => self.take_parse(body),
            fe::BIND => self.take_bind(body),
            fe::DESCRIBE => self.take_describe(body),
            fe::EXECUTE => self.take_execute(body),
            fe::CLOSE => self.take_close(body),
            fe::FLUSH => {
                empty(body, "Flush")?;
                self.to_server.copy(0, frame);
                Ok(Taken::Done)
            }
            fe::SYNC => {
                empty(body, "Sync")?;
                self.skipping = false;
                self.segment += 1;
                self.to_server.copy(0, frame);
                self.pipeline.push(Step::Sync);
                Ok(Taken::Done)
            }
            fe::FUNCTION_CALL => {
                if self.unnamed_uncertain() {
                    return Ok(Taken::Wait(Intake::Drain));
                }
                self.refuse_function_call();
                Ok(Taken::Done)
            }
            fe::TERMINATE => {
                self.end(End { reason: "client terminated".to_owned(), error: None });
                Ok(Taken::Wait(Intake::Closed))
            }
            fe::COPY_DATA | fe::COPY_DONE | fe::COPY_FAIL if self.copy_may_begin() => Ok(Taken::Wait(Intake::Drain)),
            // The server reads over these outside of a copy: a client may still be sending after the copy failed.
            fe::COPY_DATA | fe::COPY_DONE | fe::COPY_FAIL => Ok(Taken::Done),
            other => Err(unknown(other)),
        }
    }

    /// Whether something on its way may ask for COPY data: a client may send them without waiting to be asked.
    pub(crate) fn copy_may_begin(&self) -> bool {
        self.pipeline.may_copy()
    }

    fn take_query(&mut self, body: &[u8]) -> Result<Taken, Fatal> {
        let text = countersign_wire::query_text(body).map_err(|error| Fatal::client_protocol(&error.to_string()))?;
        if self.unnamed_uncertain() {
            return Ok(Taken::Wait(Intake::Drain));
        }
        let judged = match self.judge_now(text, &[]) {
            Ok(judged) => judged,
            Err(wait) => return Ok(Taken::Wait(wait)),
        };
        let text = Bytes::copy_from_slice(text);
        if let Verdict::Hold(terms) = &judged.judgement.verdict {
            let held = Held::query(text, terms.clone(), judged);
            return Ok(Taken::Wait(Intake::Held(Box::new(held))));
        }
        let statement = self.record_statement(&text, false, &[], &judged);
        if let Verdict::Deny(denial) = &judged.judgement.verdict {
            self.refuse_query(statement, errors::denied(denial));
        } else if let Some(permit) = Permit::allowed(statement, &judged.judgement) {
            self.forward_query(permit, &text, &judged, None);
        }
        Ok(Taken::Done)
    }

    /// Judges a text now, or says what to wait for first.
    pub(crate) fn judge_now(&mut self, text: &[u8], types: &[u32]) -> Result<std::sync::Arc<Judged>, Intake> {
        if self.meaning_in_flight() {
            return Err(Intake::Drain);
        }
        let mut unasked = false;
        if self.must_ask() {
            if let Some(wait) = self.ask() {
                return Err(wait);
            }
            unasked = self.is_open();
        }
        if self.catalog_dirty && !self.refreshed {
            return Err(self.ask_for_catalog());
        }
        let judged = self.judge(text, types);
        if judged.judgement.stale_catalog && !self.refreshed {
            return Err(self.ask_for_catalog());
        }
        if !matches!(judged.judgement.verdict, Verdict::Deny(_))
            && self.must_look(&judged.judgement)
            && let Some(wait) = self.ask()
        {
            return Err(wait);
        }
        if unasked && !judged.judgement.only_transaction() {
            return Ok(unanswered(&judged));
        }
        Ok(judged)
    }

    fn ask_for_catalog(&mut self) -> Intake {
        self.refreshed = true;
        self.effects.push_back(Effect::RefreshCatalog { generation: self.catalog_generation });
        Intake::Catalog
    }

    /// Whether something on its way may change what the next text means.
    fn meaning_in_flight(&self) -> bool {
        self.pipeline.changes_meaning(self.state.has_changes())
    }

    /// Records a statement and the decision on it.
    pub(crate) fn record_statement(
        &mut self,
        text: &Bytes,
        extended: bool,
        parameters: &[countersign_recording::v1::event::Parameter],
        judged: &Judged,
    ) -> u64 {
        let statement = self.new_statement();
        let digest = crate::extended::digest(text, parameters);
        self.record(Event::Statement { statement, extended, text: text.clone(), parameters: parameters.to_vec(), digest: *digest.bytes() });
        self.record_decision(statement, judged);
        statement
    }

    /// Writes a simple Query upstream. The only place that does.
    pub(crate) fn forward_query(&mut self, permit: Permit, text: &Bytes, judged: &Judged, request: Option<String>) {
        let statement = permit.consume();
        self.ran(&judged.judgement);
        let gate = self.statement_gate(&judged.judgement);
        let unnamed = self.forget_unnamed();
        let own = self.own_deallocate(&judged.judgement);
        self.to_server.write(gate, |out| countersign_wire::put_query(out, own.as_ref().unwrap_or(text)));
        match &request {
            Some(_) => self.state.forwarded_approved(&judged.judgement),
            None => self.state.forwarded(&judged.judgement),
        }
        self.renamed(&judged.judgement);
        let judgement = std::sync::Arc::clone(&judged.judgement);
        let step = Step::Query { statement, judgement, request, since: self.now_us, unnamed };
        self.pipeline.push_judged(step, &judged.judgement);
    }

    /// `DEALLOCATE name` of a statement prepared by the protocol that has a name of the proxy's own upstream.
    pub(crate) fn own_deallocate(&self, judgement: &countersign_policy::Judgement) -> Option<Bytes> {
        let [only] = judgement.statements.as_slice() else { return None };
        let SessionAction::Deallocate(name) = &only.action else { return None };
        let id = self.statement_names.lookup(name.as_bytes())?;
        let own = &self.statements.get(&id)?.own;
        if own == name.as_bytes() {
            return None;
        }
        let mut sql = b"DEALLOCATE \"".to_vec();
        sql.extend_from_slice(own);
        sql.push(b'"');
        Some(Bytes::from(sql))
    }

    /// Refuses a simple Query: upstream gets something that fails in its place.
    pub(crate) fn refuse_query(&mut self, statement: u64, error: ErrorFields) {
        let unnamed = self.forget_unnamed();
        self.to_server.write(0, |out| countersign_wire::put_query(out, poison_text(statement).as_bytes()));
        self.pipeline.push(Step::PoisonQuery { statement, error, unnamed });
    }

    /// Refuses a FunctionCall: it names a function by OID and is judged by nothing.
    pub(crate) fn refuse_function_call(&mut self) {
        let error = errors::with(
            errors::error("42501", "the function call protocol is refused by the gateway"),
            None,
            Some("call the function with SELECT".to_owned()),
        );
        self.refuse_query(0, error);
    }

    /// Refuses a message of the extended protocol: upstream gets something that fails in its place, the rest up to Sync is skipped.
    pub(crate) fn refuse_extended(&mut self, statement: u64, error: ErrorFields) {
        self.to_server.write(0, |out| countersign_wire::put_describe(out, Target::Statement, poison_text(statement).as_bytes()));
        self.pipeline.push(Step::Poison { statement, error });
        self.skipping = true;
    }
}

/// In a transaction that failed the server answers no question, and only its end is let through until it has said that it is over.
fn unanswered(judged: &Judged) -> std::sync::Arc<Judged> {
    let denial = countersign_policy::Denial {
        code: "25P02".to_owned(),
        message: "what code has set before the transaction failed is not known".to_owned(),
        detail: None,
        hint: Some("send a Sync after ROLLBACK and before other statements".to_owned()),
    };
    let mut judgement = (*judged.judgement).clone();
    judgement.verdict = Verdict::Deny(denial);
    "countersign:unasked".clone_into(&mut judgement.rule);
    let (stamp, facts) = (judged.stamp, judged.facts.clone());
    std::sync::Arc::new(Judged { judgement: std::sync::Arc::new(judgement), stamp, facts })
}

/// Not SQL, and not the name of anything: whatever the transaction's state, the server answers with an error.
fn poison_text(statement: u64) -> String {
    format!("countersign: statement {statement} was refused by the gateway")
}

fn empty(body: &[u8], what: &str) -> Result<(), Fatal> {
    if body.is_empty() { Ok(()) } else { Err(Fatal::client_protocol(&format!("{what} with a body"))) }
}

fn unknown(tag: u8) -> Fatal {
    Fatal::client_protocol(&format!("invalid frontend message type {tag}"))
}
