//! Messages too long to be kept: they go through in pieces as they arrive, or are read over.
//!
//! Owns: which messages may, and the way of their pieces. Only data that nothing has to read whole goes through: rows and COPY data
//! without masks, and COPY data from the client. Everything else is read whole, up to a configured bound.
//!
//! INVARIANT: while a message is under way in one direction, nothing else is written in that direction; where the session ends meanwhile,
//! that side gets no last words, since they would be read as the message's own bytes.

use bytes::{Bytes, BytesMut};
use countersign_recording::Event;
use countersign_wire::{ErrorFields, FrameHeader, be, fe};

use crate::client::Taken;
use crate::copy::Copy;
use crate::ends::Fatal;
use crate::errors;
use crate::pipeline::Step;
use crate::rows::{Plan, ROW};
use crate::session::{Intake, Session};

/// A message of which a part is still to come.
#[derive(Debug)]
pub(crate) struct Passage {
    /// Bytes to come.
    left: usize,
    /// Rows (or COPY data) that begin with the next piece.
    begins: u64,
    /// The statement it belongs to; `None` when it is read over.
    statement: Option<u64>,
    /// The answer to a message that is read over. Only behind its last byte: no server answers what it has not read, and a client that sends
    /// without waiting may look for nothing before.
    refusal: Option<Refusal>,
}

/// What a message too long to be judged is answered with.
#[derive(Debug)]
enum Refusal {
    Query(ErrorFields),
    Extended(ErrorFields),
    FunctionCall,
}

impl Session {
    /// Whether a message of the client's is to be taken only once all of it is there.
    pub(crate) fn taken_whole(&self, header: &FrameHeader, have: usize) -> bool {
        let complete = have >= header.total;
        header.body() <= self.limits.client_message && (complete || header.total <= self.limits.backlog || !self.may_pass_up(header.tag))
    }

    /// Messages of which the gateway needs no more than the tag.
    fn may_pass_up(&self, tag: u8) -> bool {
        tag == fe::COPY_DATA || tag == fe::FUNCTION_CALL || (self.skipping && !matches!(tag, fe::SYNC | fe::TERMINATE))
    }

    /// Takes a message of the client's that will not be there whole.
    pub(crate) fn take_long(&mut self, header: &FrameHeader) -> Result<Taken, Fatal> {
        let over = Passage { left: header.total, begins: 0, statement: None, refusal: None };
        match (&self.copy, header.tag) {
            (Copy::In { statement, .. }, fe::COPY_DATA) => return Ok(Taken::Pass(Passage { statement: Some(*statement), ..over })),
            (Copy::In { .. }, tag) => return Err(crate::copy::unexpected(tag)),
            _ if self.skipping => return Ok(Taken::Pass(over)),
            (_, fe::COPY_DATA) if self.copy_may_begin() => return Ok(Taken::Wait(Intake::Drain)),
            (_, fe::COPY_DATA) => return Ok(Taken::Pass(over)),
            _ => {}
        }
        let refusal = match header.tag {
            fe::QUERY | fe::FUNCTION_CALL if self.unnamed_uncertain() => return Ok(Taken::Wait(Intake::Drain)),
            fe::FUNCTION_CALL => Refusal::FunctionCall,
            fe::QUERY => Refusal::Query(self.too_long("the statement", header)),
            fe::PARSE => Refusal::Extended(self.too_long("the statement", header)),
            fe::BIND => Refusal::Extended(self.too_long("the message with the parameters", header)),
            _ => return Err(Fatal::client_protocol("invalid message length")),
        };
        Ok(Taken::Pass(Passage { refusal: Some(refusal), ..over }))
    }

    fn refuse_long(&mut self, refusal: Refusal) {
        match refusal {
            // What was sent before it failed meanwhile, so that it is skipped as anything else up to Sync.
            _ if self.skipping => {}
            Refusal::Query(error) => self.refuse_query(0, error),
            Refusal::Extended(error) => self.refuse_extended(0, error),
            Refusal::FunctionCall => self.refuse_function_call(),
        }
    }

    fn too_long(&self, what: &str, header: &FrameHeader) -> ErrorFields {
        errors::with(
            errors::error("54000", &format!("{what} is too long for the gateway to judge")),
            Some(format!("it has {} bytes, and the gateway reads {} at most", header.body(), self.limits.client_message)),
            Some("send it in parts, use COPY for bulk data, or raise limits.max_statement_bytes in the gateway's configuration".to_owned()),
        )
    }

    /// Moves the next piece of the client's message on. `None` once all of it is through.
    pub(crate) fn pass_up(&mut self, mut passage: Passage, input: &mut BytesMut) -> Option<Passage> {
        let piece = input.split_to(passage.left.min(input.len())).freeze();
        passage.left = passage.left.saturating_sub(piece.len());
        if let Some(statement) = passage.statement
            && !piece.is_empty()
        {
            self.record_copy_in();
            // Recorded to its end even when the copy has failed meanwhile: the server reads it to its end, too.
            self.record(Event::CopyIn { statement, frames: piece.clone() });
            self.to_server.pass(0, piece, passage.left == 0);
        }
        if passage.left == 0
            && let Some(refusal) = passage.refusal.take()
        {
            self.refuse_long(refusal);
        }
        (passage.left > 0).then_some(passage)
    }

    /// Begins to pass on a message of the server's that is not there whole, where nothing has to read it whole.
    pub(crate) fn long_from_server(&mut self, header: &FrameHeader) -> Result<bool, Fatal> {
        if header.total > self.limits.backlog
            && let Some(statement) = self.passes_down(header.tag)
        {
            self.flush_rows();
            self.from_server = Some(Passage { left: header.total, begins: 1, statement: Some(statement), refusal: None });
            return Ok(true);
        }
        if header.body() > self.limits.server_message {
            let what = if header.tag == ROW { "a row that has to be masked" } else { "a message from the server" };
            let error = errors::with(
                errors::fatal("54000", &format!("{what} is too long for the gateway, so the session ends")),
                Some(format!("it has {} bytes, and the gateway reads {} at most", header.body(), self.limits.server_message)),
                Some("raise limits.max_statement_bytes in the gateway's configuration, or ask for less at a time".to_owned()),
            );
            return Err(Fatal::new("a message from the server was too long", error));
        }
        Ok(false)
    }

    /// The statement whose data a message is, when it goes to the client as it is.
    fn passes_down(&self, tag: u8) -> Option<u64> {
        match (tag, self.pipeline.front()) {
            (ROW, Some(Step::Query { statement, .. })) => matches!(self.rows.simple, Some(Plan::Pass)).then_some(*statement),
            (ROW, Some(Step::Execute { portal })) => {
                let portal = self.portals.get(portal)?;
                matches!(portal.plan, Some(Plan::Pass)).then_some(portal.statement)
            }
            (be::COPY_DATA, _) if matches!(self.copy, Copy::Out(None)) => Some(self.current),
            _ => None,
        }
    }

    /// Moves the next piece of the server's message on. `None` once all of it is through.
    pub(crate) fn pass_down(&mut self, mut passage: Passage, input: &mut BytesMut) -> Option<Passage> {
        let piece: Bytes = input.split_to(passage.left.min(input.len())).freeze();
        passage.left = passage.left.saturating_sub(piece.len());
        if let Some(statement) = passage.statement
            && !piece.is_empty()
        {
            self.discloses = true;
            self.to_client.pass(0, piece.clone(), passage.left == 0);
            self.record(Event::Rows { statement, frames: piece, count: std::mem::take(&mut passage.begins) });
        }
        (passage.left > 0).then_some(passage)
    }
}
