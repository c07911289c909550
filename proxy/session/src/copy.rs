//! COPY: data in either direction.

use bytes::{Bytes, BytesMut};
use countersign_recording::Event;
use countersign_wire::fe;

use crate::client::Taken;
use crate::session::{Fatal, Session};

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
    /// The server sends data.
    Out,
}

/// Copy data is recorded in events of about this size.
const RECORD_AT: usize = 64 * 1024;

/// The server, too, ends a session that sends something else in the middle of a copy: where the message ends is not known any more.
pub(crate) fn unexpected(tag: u8) -> Fatal {
    Fatal::client_protocol(&format!("unexpected message type 0x{tag:02X} during COPY from stdin"))
}

impl Session {
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
