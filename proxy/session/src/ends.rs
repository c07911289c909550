//! How a session ends: by either side, from outside, or since it must.

use countersign_recording::Event;
use countersign_wire::ErrorFields;

use crate::effect::{Effect, End};
use crate::errors;
use crate::session::{Intake, Session};

/// Ends the session with an error.
#[derive(Debug)]
pub(crate) struct Fatal(pub(crate) End);

impl Fatal {
    pub(crate) fn new(reason: impl Into<String>, error: ErrorFields) -> Self {
        Self(End { reason: reason.into(), error: Some(error) })
    }

    pub(crate) fn client_protocol(message: &str) -> Self {
        Self::new(format!("protocol violation by the client: {message}"), errors::fatal("08P01", message))
    }

    pub(crate) fn server_protocol(message: &str) -> Self {
        Self::new(
            format!("protocol violation by the server: {message}"),
            errors::fatal("08P01", "the server behind the gateway sent something that is not allowed here"),
        )
    }
}

impl Session {
    /// The client closed its side or broke off.
    pub fn client_gone(&mut self) {
        self.end(End { reason: "client gone".to_owned(), error: None });
    }

    /// The server closed the connection or broke off.
    pub fn server_gone(&mut self) {
        self.end(End {
            reason: "upstream gone".to_owned(),
            error: (!self.server_ended).then(|| errors::fatal("08006", "the connection between the gateway and the server was lost")),
        });
    }

    /// Ends the session from outside (drain, lifetime, recorder failure).
    pub fn shut_down(&mut self, reason: &str, code: &str, message: &str) {
        self.end(End { reason: reason.to_owned(), error: Some(errors::fatal(code, message)) });
    }

    /// The recording failed for good. What waits for it is never shown and never runs; only the error goes out.
    pub fn recorder_failed(&mut self, message: &str) {
        self.shut_down("recorder failed", "58030", message);
        self.to_client.clear();
        self.to_server.clear();
        let error = errors::fatal("58030", message);
        if !self.to_client.is_within_frame() {
            self.to_client.write(0, |out| countersign_wire::put_error(out, &error));
        }
        self.terminate(0);
    }

    pub(crate) fn end(&mut self, end: End) {
        if matches!(self.intake, Intake::Closed) {
            return;
        }
        self.flush_rows();
        if let Intake::Held(held) = std::mem::replace(&mut self.intake, Intake::Closed)
            && let Some(request) = held.request_id()
        {
            let statement = held.statement();
            let outcome = if self.holding.resumes { "left" } else { "cancelled" };
            self.record(Event::Approval { statement, request: request.clone(), outcome: outcome.to_owned(), decisions: Vec::new() });
            if self.holding.resumes {
                self.effects.push_back(Effect::LeaveHold { request: request.clone() });
            } else {
                self.effects.push_back(Effect::CancelHold { request: request.clone(), why: "the session ended" });
            }
            // While the grant is being used up, who used it is not known here.
            if !self.holding.resumes && !held.is_consuming() {
                self.effects.push_back(Effect::FinishHold { request, outcome: "not run: the session ended".to_owned() });
            }
        }
        self.to_server.clear();
        if let Some(error) = &end.error {
            self.record(Event::Error {
                statement: self.current,
                code: error.code().to_owned(),
                message: error.get(b'M').to_owned(),
                from_server: false,
            });
        }
        self.record(Event::SessionEnd { reason: end.reason.clone() });
        let gate = self.gate();
        if let Some(error) = &end.error
            && self.from_server.is_none()
        {
            self.to_client.write(gate, |out| countersign_wire::put_error(out, error));
        }
        self.terminate(gate);
        self.effects.push_back(Effect::End(end));
    }

    /// Says goodbye to the server, unless a message to it was broken off: then the end of the connection must do.
    fn terminate(&mut self, gate: u64) {
        if !self.to_server.is_within_frame() {
            self.to_server.write(gate, |out| countersign_wire::put_empty(out, countersign_wire::fe::TERMINATE));
        }
    }
}
