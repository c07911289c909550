//! The extended protocol: Parse, Bind, Describe, Execute, Close.
//!
//! Names upstream are the client's wherever nothing that is known or on its way has the name ([`crate::names::Kept`]), else the proxy's own, each
//! used once: whatever a client does with its names, what the server finds under one is what was judged.

use std::sync::Arc;

use bytes::Bytes;
use countersign_approval::StatementDigest;
use countersign_masking::TextStyle;
use countersign_policy::facts::SessionAction;
use countersign_policy::{ResultColumn, StatementKind, Verdict};
use countersign_recording::v1::event::Parameter;
use countersign_wire::Target;

use crate::client::Taken;
use crate::ends::Fatal;
use crate::errors;
use crate::hold::Held;
use crate::judging::Judged;
use crate::names;
use crate::permit::Permit;
use crate::pipeline::Step;
use crate::rows::Plan;
use crate::session::{Intake, Session};

/// A prepared statement.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Number in the session; 0 for what SQL prepared.
    pub(crate) id: u64,
    /// Name upstream.
    pub(crate) own: Bytes,
    /// Text as the client sent it.
    pub(crate) text: Bytes,
    /// Parameter types: as declared, or as the server resolved them once it was asked.
    pub(crate) types: Vec<u32>,
    /// Judgement at Parse.
    pub(crate) judged: Arc<Judged>,
}

/// A portal: one statement with its bound values, permitted to run once.
#[derive(Debug)]
pub(crate) struct Portal {
    /// Name upstream.
    pub(crate) own: Bytes,
    /// It is a cursor that SQL declared, and lives here for one Execute only.
    pub(crate) of_cursor: bool,
    /// Statement number.
    pub(crate) statement: u64,
    /// Text.
    pub(crate) text: Bytes,
    /// Types the client declared for parameters.
    pub(crate) types: Vec<u32>,
    /// Judgement the permit was made from.
    pub(crate) judged: Arc<Judged>,
    /// The approval request, when it was held.
    pub(crate) request: Option<String>,
    /// What reviewers were told of the session, when it was held.
    pub(crate) told: Vec<(String, String)>,
    /// Result columns' formats, as bound.
    pub(crate) formats: Vec<i16>,
    /// Whether Describe of the portal was sent.
    pub(crate) described: bool,
    /// Result columns, once the server described them; empty when it returns none.
    pub(crate) columns: Option<Arc<[ResultColumn]>>,
    /// How its rows are masked, once known.
    pub(crate) plan: Option<Plan>,
    /// The style that is planned for.
    pub(crate) style: TextStyle,
    /// When its first Execute was forwarded.
    pub(crate) since: u64,
    /// How much code had run when it was bound or last ran itself.
    pub(crate) runs: u64,
}

impl Portal {
    /// The approval request whose statement ended. A cursor's is over with it.
    pub(crate) fn finished(&mut self) -> Option<String> {
        if self.of_cursor { self.request.take() } else { self.request.clone() }
    }
}

pub(crate) fn digest(text: &[u8], parameters: &[Parameter]) -> StatementDigest {
    StatementDigest::compute(
        text,
        parameters.iter().map(|parameter| countersign_approval::Parameter {
            type_oid: parameter.type_oid,
            format: parameter.format,
            value: parameter.value.as_deref(),
        }),
    )
}

/// Pairs bound values with the types known of them.
pub(crate) fn typed(values: &[(i16, Option<Bytes>)], types: &[u32]) -> Vec<Parameter> {
    values
        .iter()
        .enumerate()
        .map(|(index, (format, value))| Parameter {
            type_oid: types.get(index).copied().unwrap_or(0),
            format: *format,
            value: value.clone(),
        })
        .collect()
}

fn quoted(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

impl Session {
    pub(crate) fn take_parse(&mut self, body: &[u8]) -> Result<Taken, Fatal> {
        let view = countersign_wire::parse(body).map_err(|error| Fatal::client_protocol(&error.to_string()))?;
        let judged = match self.judge_now(view.sql, &view.types) {
            Ok(judged) => judged,
            Err(wait) => return Ok(Taken::Wait(wait)),
        };
        let text = Bytes::copy_from_slice(view.sql);
        if let Verdict::Deny(denial) = &judged.judgement.verdict {
            if view.name.is_empty() {
                // The server would drop it before it reads the new text, whatever comes of that.
                self.close_unnamed();
            }
            let error = errors::denied(denial);
            let statement = self.record_statement(&text, true, &[], &judged);
            self.refuse_extended(statement, error);
            return Ok(Taken::Done);
        }
        let taken = self.statement_names.lookup(view.name);
        if !view.name.is_empty() && (taken.is_some() || self.statement_names.uncertain(view.name, self.segment)) {
            if !self.pipeline.is_empty() {
                // Whether the name is free depends on what is still on its way.
                return Ok(Taken::Wait(Intake::Drain));
            }
            // Under the client's own name the server itself says so.
            if taken.and_then(|id| self.statements.get(&id)).is_none_or(|prepared| prepared.own != view.name) {
                let error = errors::error("42P05", &format!("prepared statement \"{}\" already exists", quoted(view.name)));
                self.refuse_name(&judged, error);
                return Ok(Taken::Done);
            }
        }
        if self.statements.len() >= self.limits.objects {
            if !self.pipeline.is_empty() {
                // Among them are those that what is on its way replaces: a pipeline may parse the unnamed one any number of times.
                return Ok(Taken::Wait(Intake::Drain));
            }
            self.refuse_extended(0, errors::error("54000", "too many prepared statements in this session"));
            return Ok(Taken::Done);
        }
        let id = self.new_id();
        let name = Bytes::copy_from_slice(view.name);
        let own = if name.is_empty() {
            Bytes::new()
        } else if self.kept_statements.may_keep(&name, self.pipeline.is_empty()) {
            if self.kept_statements.add(&name) {
                self.state.protocol_name(false, &String::from_utf8_lossy(&name), true);
            }
            name.clone()
        } else {
            Bytes::from(format!("_cs{id}"))
        };
        let sql = self.own_deallocate(&judged.judgement).unwrap_or_else(|| text.clone());
        self.to_server.write(0, |out| countersign_wire::put_parse(out, &own, &sql, &view.types));
        let ticket = self.statement_names.announce(name.clone(), Some(id), self.segment);
        self.pipeline.push_judged(Step::Parse { name, id, ticket }, &judged.judgement);
        self.statements.insert(id, Arc::new(Prepared { id, own, text, types: view.types, judged }));
        Ok(Taken::Done)
    }

    /// The unnamed statement is dropped, though what would do that does not go upstream.
    fn close_unnamed(&mut self) {
        if !self.statement_names.mentions(b"") {
            return;
        }
        self.to_server.write(0, |out| countersign_wire::put_close(out, Target::Statement, b""));
        let ticket = self.statement_names.announce(Bytes::new(), None, self.segment);
        self.pipeline.push(Step::Close { target: Target::Statement, name: Bytes::new(), ticket: Some(ticket), visible: false });
    }

    pub(crate) fn take_bind(&mut self, body: &[u8]) -> Result<Taken, Fatal> {
        let view = countersign_wire::bind(body).map_err(|error| Fatal::client_protocol(&error.to_string()))?;
        if self.statement_uncertain(view.statement) {
            return Ok(Taken::Wait(Intake::Drain));
        }
        let known = self.statement_names.lookup(view.statement).and_then(|id| self.statements.get(&id)).map(Arc::clone);
        let known = match known {
            None => match self.prepared_by_sql(view.statement) {
                Ok(prepared) => prepared,
                Err(wait) => return Ok(Taken::Wait(wait)),
            },
            known => known,
        };
        let Some(prepared) = known else {
            let text = if view.statement.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                format!("prepared statement \"{}\" does not exist", quoted(view.statement))
            };
            self.refuse_extended(0, errors::error("26000", &text));
            return Ok(Taken::Done);
        };
        let current = self.still_valid(&prepared.judged) && !self.catalog_dirty && !self.must_ask();
        let judged = if current && !self.must_look(&prepared.judged.judgement) {
            Arc::clone(&prepared.judged)
        } else {
            match self.judge_now(&prepared.text, &prepared.types) {
                Ok(judged) => judged,
                Err(wait) => return Ok(Taken::Wait(wait)),
            }
        };
        let taken = self.portal_names.lookup(view.portal);
        if !view.portal.is_empty() && (taken.is_some() || self.portal_names.uncertain(view.portal, self.segment)) {
            if !self.pipeline.is_empty() {
                return Ok(Taken::Wait(Intake::Drain));
            }
            // Under the client's own name the server itself says so, unless people would be asked first.
            let kept = taken.and_then(|id| self.portals.get(&id)).is_some_and(|portal| portal.own == view.portal);
            if !kept || matches!(judged.judgement.verdict, Verdict::Hold(_)) {
                let error = errors::error("42P03", &format!("cursor \"{}\" already exists", quoted(view.portal)));
                self.refuse_name(&judged, error);
                return Ok(Taken::Done);
            }
        }
        if self.portals.len() >= self.limits.objects {
            if !self.pipeline.is_empty() {
                return Ok(Taken::Wait(Intake::Drain));
            }
            self.refuse_extended(0, errors::error("54000", "too many portals in this session"));
            return Ok(Taken::Done);
        }
        let values: Vec<(i16, Option<Bytes>)> =
            view.parameters.iter().map(|(format, value)| (*format, value.map(Bytes::copy_from_slice))).collect();
        let bind = BoundStatement {
            portal: Bytes::copy_from_slice(view.portal),
            tail: Bytes::copy_from_slice(view.tail),
            values,
            formats: view.result_formats,
            prepared,
        };
        if let Verdict::Hold(terms) = &judged.judgement.verdict {
            let held = Held::bind(bind, terms.clone(), judged);
            return Ok(Taken::Wait(Intake::Held(Box::new(held))));
        }
        let parameters = typed(&bind.values, &bind.prepared.types);
        let statement = self.record_statement(&bind.prepared.text, true, &parameters, &judged);
        if let Verdict::Deny(denial) = &judged.judgement.verdict {
            self.refuse_extended(statement, errors::denied(denial));
        } else if let Some(permit) = Permit::allowed(statement, &judged.judgement) {
            self.forward_bind(permit, bind, judged, None);
        }
        Ok(Taken::Done)
    }

    /// Writes a Bind upstream. The only place that does; an Execute can only name a portal made here, or a cursor ([`crate::cursors`]).
    pub(crate) fn forward_bind(&mut self, permit: Permit, bind: BoundStatement, judged: Arc<Judged>, request: Option<String>) {
        let statement = permit.consume();
        let id = self.new_id();
        let own = if bind.portal.is_empty() {
            Bytes::new()
        } else if self.kept_portals.may_keep(&bind.portal, self.pipeline.is_empty()) {
            if self.kept_portals.add(&bind.portal) {
                self.state.protocol_name(true, &String::from_utf8_lossy(&bind.portal), true);
            }
            bind.portal.clone()
        } else {
            Bytes::from(format!("_cp{id}"))
        };
        self.made_anew(true, &String::from_utf8_lossy(&own));
        self.to_server.write(0, |out| countersign_wire::put_bind(out, &own, &bind.prepared.own, &bind.tail));
        let ticket = self.portal_names.announce(bind.portal.clone(), Some(id), self.segment);
        let (text, types) = (bind.prepared.text.clone(), bind.prepared.types.clone());
        let portal = Portal {
            own,
            of_cursor: false,
            statement,
            text,
            types,
            judged,
            told: if request.is_some() { self.state.told() } else { Vec::new() },
            request,
            formats: bind.formats,
            described: false,
            columns: None,
            plan: None,
            style: TextStyle::default(),
            since: 0,
            runs: self.runs(),
        };
        self.pipeline.push_judged(Step::Bind { name: bind.portal, id, ticket }, &portal.judged.judgement);
        self.portals.insert(id, portal);
    }

    pub(crate) fn take_describe(&mut self, body: &[u8]) -> Result<Taken, Fatal> {
        let view = countersign_wire::describe(body).map_err(|error| Fatal::client_protocol(&error.to_string()))?;
        match view.target {
            Target::Statement => {
                if self.statement_uncertain(view.name) {
                    return Ok(Taken::Wait(Intake::Drain));
                }
                let own = match self.statement_names.lookup(view.name) {
                    Some(id) => self.statements.get(&id).map(|prepared| (Some(id), prepared.own.clone())),
                    None if self.is_prepared_by_sql(view.name) => Some((None, Bytes::copy_from_slice(view.name))),
                    None => None,
                };
                let Some((id, own)) = own else {
                    let text = if view.name.is_empty() {
                        "unnamed prepared statement does not exist".to_owned()
                    } else {
                        format!("prepared statement \"{}\" does not exist", quoted(view.name))
                    };
                    self.refuse_extended(0, errors::error("26000", &text));
                    return Ok(Taken::Done);
                };
                self.to_server.write(0, |out| countersign_wire::put_describe(out, Target::Statement, &own));
                self.pipeline.push(Step::Describe { target: Target::Statement, id, visible: true });
            }
            Target::Portal => {
                if self.portal_uncertain(view.name) {
                    return Ok(Taken::Wait(Intake::Drain));
                }
                let id = self.portal_names.lookup(view.name);
                if let Some(portal) = id.and_then(|id| self.portals.get_mut(&id)) {
                    portal.described = true;
                    let own = portal.own.clone();
                    self.to_server.write(0, |out| countersign_wire::put_describe(out, Target::Portal, &own));
                } else {
                    // A cursor made by DECLARE is a portal, too; describing it shows column names only.
                    self.to_server.write(0, |out| countersign_wire::put_describe(out, Target::Portal, view.name));
                }
                self.pipeline.push(Step::Describe { target: Target::Portal, id, visible: true });
            }
        }
        Ok(Taken::Done)
    }

    pub(crate) fn take_execute(&mut self, body: &[u8]) -> Result<Taken, Fatal> {
        let view = countersign_wire::execute(body).map_err(|error| Fatal::client_protocol(&error.to_string()))?;
        if self.portal_uncertain(view.portal) {
            return Ok(Taken::Wait(Intake::Drain));
        }
        let Some(id) = self.portal_names.lookup(view.portal) else {
            return Ok(self.take_fetch(view.portal, view.max_rows));
        };
        // Other code than its own may have put another cursor in its place.
        if self.portals.get(&id).is_some_and(|portal| !portal.own.is_empty() && self.ran_since(portal.runs))
            && let Some(wait) = self.ask()
        {
            return Ok(Taken::Wait(wait));
        }
        let Some((mut judged, text, types)) =
            self.portals.get(&id).map(|portal| (Arc::clone(&portal.judged), portal.text.clone(), portal.types.clone()))
        else {
            return Err(Fatal::client_protocol("portal without a statement"));
        };
        let approved = self.portals.get(&id).filter(|portal| portal.request.is_some());
        // INVARIANT: what reviewers signed is what runs. Functions look at settings when they run, not when they are bound.
        let altered = approved.is_some_and(|portal| portal.told != self.state.told());
        if altered || !self.still_valid(&judged) {
            // The policy or the session's settings changed since Bind: what was let pass then must still pass now.
            let now = match self.judge_now(&text, &types) {
                Ok(now) => now,
                Err(wait) => return Ok(Taken::Wait(wait)),
            };
            let held_and_granted = self.portals.get(&id).is_some_and(|portal| portal.request.is_some());
            let is_same = now.judgement.policy == judged.judgement.policy && now.judgement.statements == judged.judgement.statements;
            // What the server bound is what names meant then: judged by another policy it can be only while they mean the same.
            let other_policy = !now.stamp.is_of_policy(&judged.stamp);
            let passes = match &now.judgement.verdict {
                Verdict::Allow => !other_policy || now.stamp.means_as(&judged.stamp),
                Verdict::Hold(_) => held_and_granted && is_same && !altered,
                Verdict::Deny(_) => false,
            };
            if !passes {
                let statement = self.portals.get(&id).map_or(0, |portal| portal.statement);
                self.record_decision(statement, &now);
                let error = errors::with(
                    errors::error("42501", "what this portal runs is judged otherwise now than when it was bound"),
                    Some("the policy or the session's settings changed in between".to_owned()),
                    Some("bind the statement again".to_owned()),
                );
                self.refuse_extended(statement, error);
                return Ok(Taken::Done);
            }
            if other_policy {
                // From here on its rows are masked as the new one says.
                self.drop_plan(id);
                if let Some(portal) = self.portals.get_mut(&id) {
                    portal.judged = Arc::clone(&now);
                }
                judged = now;
            }
        }
        self.ran(&judged.judgement);
        let gate = self.statement_gate(&judged.judgement);
        let (now_us, runs) = (self.now_us, self.runs());
        let Some(portal) = self.portals.get_mut(&id) else { return Ok(Taken::Done) };
        portal.runs = runs;
        if portal.since == 0 {
            portal.since = now_us;
        }
        let (own, approved) = (portal.own.clone(), portal.request.is_some());
        if !portal.described {
            // Execute alone yields bare rows; ask what they are on the client's behalf.
            portal.described = true;
            self.to_server.write(0, |out| countersign_wire::put_describe(out, Target::Portal, &own));
            self.pipeline.push(Step::Describe { target: Target::Portal, id: Some(id), visible: false });
        }
        self.to_server.write(gate, |out| countersign_wire::put_execute(out, &own, view.max_rows));
        if approved {
            self.state.forwarded_approved(&judged.judgement);
            // What it does itself is no change to it.
            let told = self.state.told();
            if let Some(portal) = self.portals.get_mut(&id) {
                portal.told = told;
            }
        } else {
            self.state.forwarded(&judged.judgement);
        }
        self.renamed(&judged.judgement);
        self.pipeline.push_judged(Step::Execute { portal: id }, &judged.judgement);
        Ok(Taken::Done)
    }

    pub(crate) fn take_close(&mut self, body: &[u8]) -> Result<Taken, Fatal> {
        let view = countersign_wire::close(body).map_err(|error| Fatal::client_protocol(&error.to_string()))?;
        let uncertain = match view.target {
            Target::Statement => self.statement_uncertain(view.name),
            Target::Portal => self.portal_uncertain(view.name),
        };
        if uncertain {
            return Ok(Taken::Wait(Intake::Drain));
        }
        let name = Bytes::copy_from_slice(view.name);
        let (own, ticket) = match view.target {
            Target::Statement => {
                let own =
                    self.statement_names.lookup(view.name).and_then(|id| self.statements.get(&id)).map(|prepared| prepared.own.clone());
                // Closing what is not there is not an error, and what SQL prepared can be closed, too. `_cs0` is never given out.
                let unknown = || if names::is_plain(&name) { name.clone() } else { Bytes::from_static(b"_cs0") };
                (own.unwrap_or_else(unknown), Some(self.statement_names.announce(name.clone(), None, self.segment)))
            }
            Target::Portal => match self.portal_names.lookup(view.name).and_then(|id| self.portals.get(&id)) {
                Some(portal) => (portal.own.clone(), Some(self.portal_names.announce(name.clone(), None, self.segment))),
                None => (name.clone(), None),
            },
        };
        self.to_server.write(0, |out| countersign_wire::put_close(out, view.target, &own));
        self.pipeline.push(Step::Close { target: view.target, name, ticket, visible: true });
        Ok(Taken::Done)
    }

    /// Refuses a name that is taken. In a failed transaction the server would complain of that first.
    fn refuse_name(&mut self, judged: &Judged, error: countersign_wire::ErrorFields) {
        let ends = |facts: &countersign_policy::StatementFacts| {
            facts.kind == StatementKind::Empty || matches!(facts.action, SessionAction::Commit | SessionAction::Rollback)
        };
        if self.status == countersign_wire::ReadyStatus::Failed && !judged.judgement.statements.iter().all(ends) {
            let text = "current transaction is aborted, commands ignored until end of transaction block";
            self.refuse_extended(0, errors::error("25P02", text));
        } else {
            self.refuse_extended(0, error);
        }
    }

    /// What a forwarded text does to names by SQL. Names upstream are no secret (`pg_prepared_statements`, `pg_cursors`): a client that drops one
    /// and gives it to another statement must not have that run for the one that was judged.
    pub(crate) fn renamed(&mut self, judgement: &countersign_policy::Judgement) {
        for facts in &judgement.statements {
            match &facts.action {
                SessionAction::Deallocate(name) => {
                    self.dropping = true;
                    let taken: Vec<u64> = self.statements_upstream(name.as_bytes());
                    // Alone, its completion says what became of it.
                    if judgement.statements.len() > 1 || name.starts_with("_cs") {
                        taken.into_iter().for_each(|id| self.statement_names.forget_id(id));
                    }
                }
                SessionAction::DeallocateAll => self.dropping = true,
                SessionAction::Cursor(name) => {
                    let taken = self.portals.iter().filter(|(_, portal)| portal.own == name.as_bytes()).map(|(id, _)| *id);
                    for id in taken.collect::<Vec<_>>() {
                        self.portal_names.forget_id(id);
                    }
                }
                _ => {}
            }
        }
    }

    fn statements_upstream(&self, own: &[u8]) -> Vec<u64> {
        self.statements.iter().filter(|(_, prepared)| prepared.own == own).map(|(id, _)| *id).collect()
    }

    /// `DEALLOCATE name` completed. Nothing else was on its way meanwhile.
    pub(crate) fn deallocated(&mut self, name: &[u8]) {
        if let Some(id) = self.statement_names.forget(name) {
            let kept = self.statements.get(&id).is_some_and(|prepared| prepared.own == name);
            self.drop_statement(id);
            if !kept {
                // The text went upstream with the gateway's own name: what else may have the client's is still there.
                return;
            }
        }
        for id in self.statements_upstream(name) {
            self.statement_names.forget_id(id);
            self.drop_statement(id);
        }
    }

    /// A statement is gone, or never came to be.
    pub(crate) fn drop_statement(&mut self, id: u64) {
        if let Some(prepared) = self.statements.remove(&id)
            && self.kept_statements.remove(&prepared.own)
        {
            self.state.protocol_name(false, &String::from_utf8_lossy(&prepared.own), false);
        }
    }

    /// A portal is gone, or never came to be.
    pub(crate) fn drop_portal(&mut self, id: u64) {
        if let Some(portal) = self.portals.remove(&id)
            && !portal.of_cursor
            && self.kept_portals.remove(&portal.own)
        {
            self.state.protocol_name(true, &String::from_utf8_lossy(&portal.own), false);
        }
    }

    fn is_prepared_by_sql(&self, name: &[u8]) -> bool {
        names::is_plain(name) && std::str::from_utf8(name).is_ok_and(|name| self.state.has_prepared(name))
    }

    /// A statement that SQL prepared can be bound by the protocol, too: it is judged as its EXECUTE.
    fn prepared_by_sql(&mut self, name: &[u8]) -> Result<Option<Arc<Prepared>>, Intake> {
        if !self.is_prepared_by_sql(name) {
            return Ok(None);
        }
        let text = Bytes::from(format!("EXECUTE \"{}\"", quoted(name).replace('"', "\"\"")));
        let judged = self.judge_now(&text, &[])?;
        Ok(Some(Arc::new(Prepared { id: 0, own: Bytes::copy_from_slice(name), text, types: Vec::new(), judged })))
    }

    /// Whether what the name means depends on answers to come: it rests on an earlier segment, on a text that drops names, or it means
    /// nothing so far.
    fn statement_uncertain(&mut self, name: &[u8]) -> bool {
        self.dropping &= !self.pipeline.is_empty();
        let missing = self.statement_names.lookup(name).is_none();
        !self.pipeline.is_empty() && (missing || self.dropping || self.statement_names.uncertain(name, self.segment))
    }

    /// Whether it is open what the unnamed portal is, which this message drops.
    pub(crate) fn unnamed_uncertain(&self) -> bool {
        !self.pipeline.is_empty() && self.portal_names.uncertain(b"", self.segment)
    }

    fn portal_uncertain(&self, name: &[u8]) -> bool {
        let missing = self.portal_names.lookup(name).is_none();
        !self.pipeline.is_empty() && (missing || self.portal_names.uncertain(name, self.segment))
    }

    /// What a simple Query does to the unnamed statement and portal: both are dropped, the statement by the server itself.
    pub(crate) fn forget_unnamed(&mut self) -> Option<names::Ticket> {
        if self.portal_names.lookup(b"").is_some() {
            self.to_server.write(0, |out| countersign_wire::put_close(out, Target::Portal, b""));
            let ticket = self.portal_names.announce(Bytes::new(), None, self.segment);
            self.pipeline.push(Step::Close { target: Target::Portal, name: Bytes::new(), ticket: Some(ticket), visible: false });
        }
        let known = self.statement_names.mentions(b"");
        known.then(|| self.statement_names.announce(Bytes::new(), None, self.segment))
    }
}

/// A Bind as taken from the client.
#[derive(Debug)]
pub(crate) struct BoundStatement {
    pub(crate) portal: Bytes,
    pub(crate) tail: Bytes,
    pub(crate) values: Vec<(i16, Option<Bytes>)>,
    pub(crate) formats: Vec<i16>,
    pub(crate) prepared: Arc<Prepared>,
}
