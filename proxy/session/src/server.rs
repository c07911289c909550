//! The server's messages.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use countersign_policy::facts::SessionAction;
use countersign_policy::state::TransactionStatus;
use countersign_policy::{Judgement, Place};
use countersign_recording::Event;
use countersign_wire::{ErrorFields, ReadyStatus, RowDescription, Target, WireError, be, peek_frame};

use crate::copy::Copy;
use crate::effect::Effect;
use crate::ends::Fatal;
use crate::extended::Prepared;
use crate::names;
use crate::pipeline::Step;
use crate::rows::{self, Plan, ROW};
use crate::session::{Intake, Session, Settling};
use crate::texts::Reported;

impl From<WireError> for Fatal {
    fn from(error: WireError) -> Self {
        Self::server_protocol(&error.to_string())
    }
}

impl Session {
    pub(crate) fn take_server(&mut self, input: &mut BytesMut) -> Result<(), Fatal> {
        let mark = self.to_client.mark();
        let outcome = self.take_server_frames(input);
        self.flush_rows();
        // What this batch shows or acknowledges goes out once everything recorded up to here is durable.
        if std::mem::take(&mut self.discloses) {
            let gate = self.gate();
            self.to_client.raise(mark, gate);
        }
        outcome?;
        self.hold_progressed();
        Ok(())
    }

    fn take_server_frames(&mut self, input: &mut BytesMut) -> Result<(), Fatal> {
        loop {
            if let Some(passage) = self.from_server.take() {
                self.from_server = self.pass_down(passage, input);
                if self.from_server.is_some() {
                    return Ok(());
                }
            }
            if input.first() == Some(&ROW) && matches!(self.pipeline.front(), Some(Step::Ask(_))) {
                self.take_answer_row(input)?;
            } else if input.first() == Some(&ROW) {
                self.take_rows(input)?;
            } else if input.first() == Some(&be::COPY_DATA) {
                self.take_copy_out(input)?;
            }
            let Some(header) = peek_frame(input, countersign_wire::LARGE_BODY)? else { return Ok(()) };
            if input.len() < header.total {
                if self.long_from_server(&header)? {
                    continue;
                }
                input.reserve((header.total - input.len()).min(1 << 20));
                return Ok(());
            }
            if header.tag == ROW {
                continue;
            }
            let frame = input.split_to(header.total);
            self.take_server_frame(header.tag, &frame, frame.get(countersign_wire::HEADER_LEN..).unwrap_or_default())?;
        }
    }

    /// Takes the run of DataRow frames at the start of `input`.
    fn take_rows(&mut self, input: &mut BytesMut) -> Result<(), Fatal> {
        let (length, count) = rows::run_of(input, ROW);
        if count == 0 {
            return Ok(());
        }
        let (statement, mut plan) = match self.pipeline.front() {
            Some(Step::Query { statement, .. }) => (*statement, self.rows.simple.take()),
            Some(Step::Execute { portal }) => {
                let id = *portal;
                self.plan_portal(id)?;
                self.portals.get_mut(&id).map_or((0, None), |portal| (portal.statement, portal.plan.take()))
            }
            _ => return Err(Fatal::server_protocol("rows without a statement")),
        };
        match &mut plan {
            // INVARIANT: rows whose columns are not known are not shown.
            None => return Err(Fatal::server_protocol("rows without a description")),
            Some(Plan::Pass) => self.result_run(statement, input, length, count),
            Some(Plan::Mask(mask)) => self.masked_run(statement, input, length, count, mask)?,
        }
        match self.pipeline.front() {
            Some(Step::Execute { portal }) => {
                if let Some(portal) = self.portals.get_mut(portal) {
                    portal.plan = plan;
                }
            }
            _ => self.rows.simple = plan,
        }
        Ok(())
    }

    fn take_server_frame(&mut self, tag: u8, frame: &[u8], body: &[u8]) -> Result<(), Fatal> {
        if self.take_answer(tag, body)? {
            return Ok(());
        }
        match tag {
            be::PARSE_COMPLETE => match self.pipeline.pop() {
                Some(Step::Parse { name, id, ticket }) => {
                    self.rows.unsettled |= self.statements.get(&id).is_some_and(|prepared| prepared.judged.judgement.runs_code());
                    if let Some(replaced) = self.statement_names.confirm(&name, Some(id), ticket) {
                        self.drop_statement(replaced);
                    }
                    self.to_client.copy(0, frame);
                    Ok(())
                }
                _ => Err(unexpected(tag)),
            },
            be::BIND_COMPLETE => match self.pipeline.pop() {
                Some(Step::Bind { name, id, ticket }) => {
                    // Planning runs functions that are said to be immutable.
                    self.rows.unsettled |= self.portals.get(&id).is_some_and(|portal| portal.judged.judgement.runs_code());
                    if let Some(replaced) = self.portal_names.confirm(&name, Some(id), ticket) {
                        self.drop_portal(replaced);
                    }
                    self.to_client.copy(0, frame);
                    Ok(())
                }
                _ => Err(unexpected(tag)),
            },
            be::CLOSE_COMPLETE => match self.pipeline.pop() {
                Some(Step::Close { target, name, ticket, visible }) => {
                    self.closed(target, &name, ticket);
                    if visible {
                        self.to_client.copy(0, frame);
                    }
                    Ok(())
                }
                _ => Err(unexpected(tag)),
            },
            be::PARAMETER_DESCRIPTION => self.parameter_description(frame, body),
            be::ROW_DESCRIPTION => self.row_description(frame, body),
            be::NO_DATA => match self.pipeline.pop() {
                Some(Step::Describe { target, id, visible }) => {
                    self.described(target, id, Vec::new())?;
                    if visible {
                        self.to_client.copy(0, frame);
                    }
                    Ok(())
                }
                _ => Err(unexpected(tag)),
            },
            be::COMMAND_COMPLETE => {
                let text = String::from_utf8_lossy(countersign_wire::command_tag(body)?).into_owned();
                self.complete(frame, text)
            }
            be::EMPTY_QUERY => self.complete(frame, String::new()),
            be::PORTAL_SUSPENDED => self.complete(frame, "PortalSuspended".to_owned()),
            be::COPY_IN => {
                let statement = self.running().ok_or_else(|| unexpected(tag))?.0;
                self.pipeline.drop_syncs_behind_front();
                if matches!(self.intake, Intake::Drain) {
                    // What the client sent ahead may be the data: it is looked at anew.
                    self.intake = Intake::Open;
                }
                self.copy = Copy::In { statement, pending: BytesMut::new() };
                self.result_frames(statement, frame, 0);
                Ok(())
            }
            be::COPY_OUT => {
                let statement = self.running().ok_or_else(|| unexpected(tag))?.0;
                self.current = statement;
                self.copy_out(statement, body)?;
                self.result_frames(statement, frame, 0);
                Ok(())
            }
            be::COPY_DONE if matches!(self.copy, Copy::Out(_)) => {
                self.copy_out_done()?;
                self.result_frames(self.current, frame, 0);
                Ok(())
            }
            be::ERROR => self.server_error(body),
            be::NOTICE => {
                let fields = countersign_wire::notice_fields(body)?;
                match self.cleaned(&fields) {
                    Some(cleaned) => self.notice(&cleaned),
                    None => {
                        self.to_client.copy(0, frame);
                        self.record(Event::Notice { frame: Bytes::copy_from_slice(frame) });
                    }
                }
                Ok(())
            }
            be::NOTIFICATION => {
                let frame = self.notification(body)?.unwrap_or_else(|| Bytes::copy_from_slice(frame));
                self.to_client.copy(0, &frame);
                self.record(Event::Notice { frame });
                Ok(())
            }
            be::PARAMETER_STATUS => self.parameter_status(frame, body),
            be::READY => self.ready(frame, body),
            _ => Err(unexpected(tag)),
        }
    }

    /// The statement whose answer is arriving, and its judgement.
    pub(crate) fn running(&self) -> Option<(u64, &Arc<Judgement>)> {
        match self.pipeline.front()? {
            Step::Query { statement, judgement, .. } => Some((*statement, judgement)),
            Step::Execute { portal } => self.portals.get(portal).map(|portal| (portal.statement, &portal.judged.judgement)),
            _ => None,
        }
    }

    /// Whether what the server says now may quote protected values.
    pub(crate) fn protected_in_play(&self) -> bool {
        self.transaction_protected || self.pipeline.touches_protected()
    }

    fn closed(&mut self, target: Target, name: &Bytes, ticket: Option<crate::names::Ticket>) {
        let Some(ticket) = ticket else { return };
        match target {
            Target::Statement => {
                if let Some(id) = self.statement_names.confirm(name, None, ticket) {
                    self.drop_statement(id);
                }
            }
            Target::Portal => {
                if let Some(id) = self.portal_names.confirm(name, None, ticket) {
                    self.drop_portal(id);
                }
            }
        }
    }

    fn parameter_description(&mut self, frame: &[u8], body: &[u8]) -> Result<(), Fatal> {
        let Some(Step::Describe { target: Target::Statement, id, visible }) = self.pipeline.front() else {
            return Err(unexpected(be::PARAMETER_DESCRIPTION));
        };
        let (id, visible) = (*id, *visible);
        let mut reader = countersign_wire::Reader::new(body);
        let count = reader.count("parameter count")?;
        let types = (0..count).map(|_| reader.u32("parameter type")).collect::<Result<Vec<_>, _>>()?;
        if let Some(prepared) = id.and_then(|id| self.statements.get_mut(&id)) {
            *prepared = Arc::new(Prepared {
                id: prepared.id,
                own: prepared.own.clone(),
                text: prepared.text.clone(),
                types,
                judged: Arc::clone(&prepared.judged),
            });
        }
        if visible {
            self.to_client.copy(0, frame);
        }
        Ok(())
    }

    fn row_description(&mut self, frame: &[u8], body: &[u8]) -> Result<(), Fatal> {
        let description = RowDescription::read(body)?;
        match self.pipeline.front() {
            Some(Step::Describe { .. }) => {
                let Some(Step::Describe { target, id, visible }) = self.pipeline.pop() else { return Ok(()) };
                let formats =
                    id.filter(|_| target == Target::Portal).and_then(|id| self.portals.get(&id)).map(|portal| portal.formats.clone());
                self.described(target, id, rows::columns(&description, formats.as_deref()))?;
                if target == Target::Portal
                    && let Some(statement) = id.and_then(|id| self.portals.get(&id)).map(|portal| portal.statement)
                {
                    // Recorded with the rows it describes, whoever asked for it.
                    self.record_description(statement, frame);
                }
                if visible {
                    self.to_client.copy(0, frame);
                }
                Ok(())
            }
            Some(Step::Query { statement, judgement, .. }) => {
                let (statement, judgement) = (*statement, Arc::clone(judgement));
                // INVARIANT: a plan is one statement's own only where the result can be no other's.
                let own = !std::mem::replace(&mut self.rows.described, true);
                let place = Place { statement: own.then_some(self.rows.completed), style: self.style(&judgement) };
                self.rows.simple = Some(self.plan(&judgement, &rows::columns(&description, None), place)?);
                self.result_frames(statement, frame, 0);
                Ok(())
            }
            _ => Err(unexpected(be::ROW_DESCRIPTION)),
        }
    }

    fn record_description(&mut self, statement: u64, frame: &[u8]) {
        self.flush_rows();
        self.record(Event::Rows { statement, frames: Bytes::copy_from_slice(frame), count: 0 });
    }

    /// A portal was described: its masks can be planned.
    fn described(&mut self, target: Target, id: Option<u64>, columns: Vec<countersign_policy::ResultColumn>) -> Result<(), Fatal> {
        let (Target::Portal, Some(id)) = (target, id) else { return Ok(()) };
        self.drop_plan(id);
        let Some(portal) = self.portals.get_mut(&id) else { return Ok(()) };
        portal.columns = Some(columns.into());
        self.plan_portal(id)
    }

    /// CommandComplete, EmptyQueryResponse or PortalSuspended.
    fn complete(&mut self, frame: &[u8], tag: String) -> Result<(), Fatal> {
        self.flush_rows();
        self.copy = Copy::None;
        let mut executed = None;
        let (statement, judgement, plan, request, since) = match self.pipeline.front() {
            // Its request is finished when the whole Query is.
            Some(Step::Query { statement, judgement, since, .. }) => {
                (self.rows.completed, self.rows.described) = (self.rows.completed.saturating_add(1), false);
                (*statement, Arc::clone(judgement), self.rows.simple.take(), None, *since)
            }
            Some(Step::Execute { portal }) => {
                let id = *portal;
                executed = Some(id);
                self.copies = 0;
                self.pipeline.pop();
                match self.portals.get_mut(&id) {
                    Some(portal) => {
                        // A cursor's further rows are another FETCH.
                        let suspended = tag == "PortalSuspended" && !portal.of_cursor;
                        let plan = if suspended { None } else { portal.plan.take() };
                        let request = if suspended { None } else { portal.finished() };
                        (portal.statement, Arc::clone(&portal.judged.judgement), plan, request, portal.since)
                    }
                    None => return Err(Fatal::server_protocol("completion of an unknown portal")),
                }
            }
            _ => return Err(unexpected(be::COMMAND_COMPLETE)),
        };
        if let Some(id) = executed {
            self.drop_cursor(id);
        }
        if let Some(Plan::Mask(mask)) = &plan {
            self.record_masked(statement, mask);
        }
        self.transaction_protected |= judgement.touches_protected;
        self.rows.unsettled |= !judgement.keeps_settings();
        self.command_completed(&tag, &judgement);
        self.settling = match self.settling {
            Settling::Nothing => Settling::One(Arc::clone(&judgement)),
            Settling::One(_) | Settling::Mixed => Settling::Mixed,
        };
        // The tag need not wait: what takes effect outside of a block went to the server after its record was durable, inside of one nothing is done
        // yet, a plain read did nothing, and rows wait by themselves.
        self.record(Event::Completion { statement, tag: tag.clone(), duration_us: self.now_us.saturating_sub(since) });
        if let Some(request) = request {
            self.effects.push_back(Effect::FinishHold { request, outcome: tag });
        }
        self.to_client.copy(0, frame);
        Ok(())
    }

    /// What a completed command does to names and facts.
    fn command_completed(&mut self, tag: &str, judgement: &Judgement) {
        match tag {
            "DEALLOCATE ALL" | "DISCARD ALL" => {
                for id in self.statement_names.forget_named().collect::<Vec<_>>() {
                    self.drop_statement(id);
                }
            }
            "DEALLOCATE" => {
                if let [only] = judgement.statements.as_slice()
                    && let SessionAction::Deallocate(name) = &only.action
                {
                    self.deallocated(name.as_bytes());
                }
            }
            _ => {}
        }
        if judgement.statements.iter().any(|facts| matches!(facts.action, SessionAction::Commit | SessionAction::Rollback)) {
            self.forget_portals();
        }
        if judgement.statements.iter().any(|facts| facts.action == SessionAction::CatalogChange) {
            self.catalog_dirty = true;
            self.catalog_pending = true;
            self.catalog_shared |= judgement.changes_catalog();
        }
    }

    fn server_error(&mut self, body: &[u8]) -> Result<(), Fatal> {
        let said = countersign_wire::notice_fields(body)?;
        self.server_ended |= said.is_fatal();
        let shown = self.cleaned(&said).unwrap_or_else(|| said.clone());
        self.flush_rows();
        self.record_copy_in();
        self.copy = Copy::None;
        self.rows.simple = None;
        self.settling = Settling::Mixed;
        let statement = match self.pipeline.front() {
            // Our own poison failed, as it should: the client sees why.
            Some(Step::Poison { statement, error } | Step::PoisonQuery { statement, error, .. }) if !said.is_fatal() => {
                let (statement, error) = (*statement, error.clone());
                self.tell_error(statement, &error, false);
                self.after_error();
                return Ok(());
            }
            Some(Step::Query { .. }) => {
                let (statement, request) = match self.pipeline.front_mut() {
                    Some(Step::Query { statement, request, .. }) => (*statement, request.take()),
                    _ => (0, None),
                };
                self.finish_hold(request, &said);
                statement
            }
            Some(Step::Execute { portal } | Step::Bind { id: portal, .. }) => {
                let found = self.portals.get_mut(portal).map(|portal| (portal.statement, portal.finished()));
                let (statement, request) = found.unwrap_or((0, None));
                self.finish_hold(request, &said);
                statement
            }
            _ => 0,
        };
        if said.code() == "25006" && self.running().is_some_and(|(_, judgement)| !judgement.needs_durable_record) {
            self.anomaly(statement, "the server refused as a write what was judged a read".to_owned());
        }
        self.tell_error(statement, &shown, true);
        self.after_error();
        Ok(())
    }

    fn finish_hold(&mut self, request: Option<String>, said: &ErrorFields) {
        if let Some(request) = request {
            self.effects.push_back(Effect::FinishHold { request, outcome: said.code().to_owned() });
        }
    }

    pub(crate) fn anomaly(&mut self, statement: u64, what: String) {
        self.record(Event::Anomaly { statement, what: what.clone() });
        self.effects.push_back(Effect::Anomaly { statement, what });
    }

    pub(crate) fn tell_error(&mut self, statement: u64, error: &ErrorFields, from_server: bool) {
        self.record(Event::Error { statement, code: error.code().to_owned(), message: error.get(b'M').to_owned(), from_server });
        let gate = self.gate();
        self.to_client.write(gate, |out| countersign_wire::put_error(out, error));
    }

    pub(crate) fn notice(&mut self, fields: &ErrorFields) {
        let frame = countersign_wire::framed(|out| countersign_wire::put_notice(out, fields));
        self.record(Event::Notice { frame: frame.clone() });
        let gate = self.gate();
        self.to_client.copy(gate, &frame);
    }

    /// The server reported an error: in the extended protocol it reads over everything up to Sync.
    fn after_error(&mut self) {
        match self.pipeline.front() {
            None => {}
            // ReadyForQuery follows by itself.
            Some(Step::Query { .. } | Step::PoisonQuery { .. }) => {}
            Some(failed) => {
                if let Step::Parse { name, ticket, .. } = failed
                    && name.is_empty()
                {
                    // The server dropped the unnamed statement before it read the new text.
                    let (name, ticket) = (name.clone(), *ticket);
                    if let Some(id) = self.statement_names.confirm(&name, None, ticket) {
                        self.drop_statement(id);
                    }
                }
                while let Some(step) = self.pipeline.front() {
                    if matches!(step, Step::Sync) {
                        self.abandon_hold();
                        return;
                    }
                    if let Some(step) = self.pipeline.pop() {
                        self.discard(step);
                    }
                }
                self.skipping = true;
                self.abandon_hold();
            }
        }
    }

    /// A step the server read over.
    fn discard(&mut self, step: Step) {
        match step {
            Step::Parse { name, id, ticket } => {
                self.statement_names.discard(&name, ticket);
                self.drop_statement(id);
            }
            Step::Bind { name, id, ticket } => {
                self.portal_names.discard(&name, ticket);
                self.drop_portal(id);
            }
            Step::Execute { portal } => self.drop_cursor(portal),
            Step::Query { unnamed: Some(ticket), .. } | Step::PoisonQuery { unnamed: Some(ticket), .. } => {
                self.statement_names.discard(&Bytes::new(), ticket);
            }
            Step::Close { target, name, ticket: Some(ticket), .. } => match target {
                Target::Statement => self.statement_names.discard(&name, ticket),
                Target::Portal => self.portal_names.discard(&name, ticket),
            },
            _ => {}
        }
    }

    fn parameter_status(&mut self, frame: &[u8], body: &[u8]) -> Result<(), Fatal> {
        let (name, value) = countersign_wire::parameter_status(body)?;
        let (name, value) = (String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned());
        let shown = match self.reported(&name, &value) {
            Reported::Clear => {
                self.to_client.copy(0, frame);
                value.clone()
            }
            Reported::As(shown) => {
                self.to_client.write(0, |out| countersign_wire::put_parameter_status(out, name.as_bytes(), shown.as_bytes()));
                shown
            }
            Reported::Withheld => "(withheld)".to_owned(),
        };
        self.state.parameter(&name, &value);
        self.record(Event::Parameter { name: name.clone(), value: shown });
        self.pinned(&name, &value)
    }

    fn ready(&mut self, frame: &[u8], body: &[u8]) -> Result<(), Fatal> {
        let status = countersign_wire::ready_status(body)?;
        match self.pipeline.pop() {
            Some(Step::Query { request, unnamed, .. }) => {
                if let Some(request) = request {
                    self.effects.push_back(Effect::FinishHold { request, outcome: "completed".to_owned() });
                }
                self.closed(Target::Statement, &Bytes::new(), unnamed);
            }
            Some(Step::PoisonQuery { unnamed, .. }) => self.closed(Target::Statement, &Bytes::new(), unnamed),
            Some(Step::Sync) => {}
            _ => return Err(unexpected(be::READY)),
        }
        if self.status == ReadyStatus::Idle {
            self.transaction_since = self.now_us;
        }
        self.status = status;
        // A later ReadyForQuery may still belong to something sent before what ends the block.
        self.ending = self.ending && !self.pipeline.is_empty();
        self.copy = Copy::None;
        self.copies = 0;
        (self.rows.completed, self.rows.described, self.rows.unsettled) = (0, false, false);
        self.rows.simple = None;
        self.state.ready(match status {
            ReadyStatus::Idle => TransactionStatus::Idle,
            ReadyStatus::InTransaction => TransactionStatus::InTransaction,
            ReadyStatus::Failed => TransactionStatus::Failed,
        });
        if let Settling::One(judgement) = std::mem::replace(&mut self.settling, Settling::Nothing)
            && status == ReadyStatus::Idle
        {
            self.state.completed(&judgement);
        }
        if status == ReadyStatus::Idle {
            self.transaction_protected = false;
            // The side connection sees what the transaction changed only now.
            self.catalog_dirty |= std::mem::take(&mut self.catalog_pending) || self.state.has_changes();
            if std::mem::take(&mut self.catalog_shared) {
                self.effects.push_back(Effect::CatalogChanged);
            }
            self.forget_portals();
        }
        self.to_client.copy(0, frame);
        Ok(())
    }

    /// Portals do not outlive their transaction. Those under the client's names stay in the books until nothing can be left of them.
    fn forget_portals(&mut self) {
        let idle = self.status == ReadyStatus::Idle;
        for id in self.portal_names.forget_all().collect::<Vec<_>>() {
            if idle || self.portals.get(&id).is_some_and(|portal| !names::is_plain(&portal.own)) {
                self.drop_portal(id);
            }
        }
        if idle && self.pipeline.is_empty() {
            // What SQL dropped by its name is in no map any more.
            for id in self.portals.keys().copied().collect::<Vec<_>>() {
                self.drop_portal(id);
            }
        }
    }
}

fn unexpected(tag: u8) -> Fatal {
    Fatal::server_protocol(&format!("message {:?} where none was expected", char::from(tag)))
}
