//! COPY: data in either direction.

use bytes::{Bytes, BytesMut};
use countersign_masking::CopyMasker;
use countersign_policy::{CopyOutcome, MaskedColumn};
use countersign_recording::Event;
use countersign_wire::{be, fe};

use crate::client::Taken;
use crate::ends::Fatal;
use crate::rows::{bodies, refused, run_of, unmaskable};
use crate::session::Session;

/// Copy mode.
#[derive(Debug)]
pub(crate) enum Copy {
    /// None.
    None,
    /// The server takes data from the client.
    In {
        /// Statement.
        statement: u64,
        /// Frames not yet recorded.
        pending: BytesMut,
    },
    /// The server sends data; masked when there is a plan.
    Out(Option<Box<CopyPlan>>),
}

/// How the data of a COPY is masked.
#[derive(Debug)]
pub(crate) struct CopyPlan {
    masker: CopyMasker,
    columns: Vec<MaskedColumn>,
    /// Reviewers granted clear text: masks are for the recording only.
    granted: bool,
}

/// Copy data is recorded in events of about this size.
const RECORD_AT: usize = 64 * 1024;

/// The server, too, ends a session that sends something else in the middle of a copy: where the message ends is not known any more.
pub(crate) fn unexpected(tag: u8) -> Fatal {
    Fatal::client_protocol(&format!("unexpected message type 0x{tag:02X} during COPY from stdin"))
}

impl Session {
    /// CopyOutResponse: the data that follows is planned.
    /// <https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-COPYOUTRESPONSE>
    pub(crate) fn copy_out(&mut self, statement: u64, body: &[u8]) -> Result<(), Fatal> {
        let mut reader = countersign_wire::Reader::new(body);
        let binary = reader.u8("copy format")? == 1;
        let columns = reader.count("copy column count")?;
        let Some((_, judgement)) = self.running() else { return Err(Fatal::server_protocol("copy data without a statement")) };
        let outcome = self.plan_copy(judgement, self.copies, binary, columns);
        self.copies += 1;
        self.flush_rows();
        self.current = statement;
        self.copy = Copy::Out(match outcome {
            CopyOutcome::Pass => None,
            CopyOutcome::Mask { masker, columns, granted } => Some(Box::new(CopyPlan { masker, columns, granted })),
            CopyOutcome::Refuse(denial) => return Err(refused(&denial)),
        });
        Ok(())
    }

    /// Takes the run of CopyData frames at the start of `input`.
    pub(crate) fn take_copy_out(&mut self, input: &mut BytesMut) -> Result<(), Fatal> {
        let Copy::Out(plan) = &mut self.copy else { return Ok(()) };
        let (length, count) = run_of(input, be::COPY_DATA);
        if count == 0 {
            return Ok(());
        }
        let Some(plan) = plan else {
            self.result_run(self.current, input, length, count);
            return Ok(());
        };
        let run = input.split_to(length.min(input.len())).freeze();
        let mut masked = BytesMut::with_capacity(run.len());
        let before = plan.masker.rows();
        for body in bodies(&run) {
            plan.masker.feed(body, &mut masked).map_err(|error| unmaskable(&error))?;
        }
        if plan.masker.pending() > self.limits.server_message {
            return Err(Fatal::server_protocol("a row of copy data longer than a message may be"));
        }
        let rows = plan.masker.rows().wrapping_sub(before);
        let granted = plan.granted;
        let masked = masked.freeze();
        self.shown(self.current, if granted { run } else { masked.clone() }, masked, rows);
        Ok(())
    }

    /// CopyDone.
    pub(crate) fn copy_out_done(&mut self) -> Result<(), Fatal> {
        if let Copy::Out(Some(plan)) = std::mem::replace(&mut self.copy, Copy::None) {
            plan.masker.finish().map_err(|error| unmaskable(&error))?;
            self.flush_rows();
            self.record_treated(self.current, &plan.columns, plan.masker.counts(), plan.granted);
        }
        Ok(())
    }

    pub(crate) fn take_copy_in(&mut self, tag: u8, frame: &[u8], body: &[u8]) -> Result<Taken, Fatal> {
        match tag {
            fe::COPY_DATA => {
                self.to_server.copy(0, frame);
                if let Copy::In { pending, .. } = &mut self.copy {
                    pending.extend_from_slice(frame);
                    if pending.len() >= RECORD_AT {
                        self.record_copy_in();
                    }
                }
            }
            fe::COPY_DONE => {
                if !body.is_empty() {
                    return Err(Fatal::client_protocol("CopyDone with a body"));
                }
                self.record_copy_in();
                self.copy = Copy::None;
                // The data takes effect with this message.
                let gate = self.gate();
                self.to_server.copy(gate, frame);
            }
            fe::COPY_FAIL => {
                self.record_copy_in();
                self.copy = Copy::None;
                self.to_server.copy(0, frame);
            }
            // <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY>: the server reads over these.
            fe::FLUSH | fe::SYNC => {}
            fe::TERMINATE => {
                self.record_copy_in();
                self.end(crate::effect::End { reason: "client terminated".to_owned(), error: None });
                return Ok(Taken::Wait(crate::session::Intake::Closed));
            }
            other => {
                self.record_copy_in();
                return Err(unexpected(other));
            }
        }
        Ok(Taken::Done)
    }

    pub(crate) fn record_copy_in(&mut self) {
        if let Copy::In { statement, pending } = &mut self.copy
            && !pending.is_empty()
        {
            let event = Event::CopyIn { statement: *statement, frames: Bytes::from(pending.split()) };
            self.record(event);
        }
    }
}
