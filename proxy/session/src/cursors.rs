//! Execute of a cursor that SQL declared.
//!
//! To the server cursors and portals are one: Execute may name what DECLARE made. It is judged, held, masked and recorded as the FETCH it stands for,
//! each time anew. Does not own: portals made by Bind ([`crate::extended`]).

use std::sync::Arc;

use bytes::Bytes;
use countersign_policy::Verdict;
use countersign_wire::Target;

use crate::client::Taken;
use crate::effect::Effect;
use crate::errors;
use crate::extended::Portal;
use crate::hold::Held;
use crate::judging::Judged;
use crate::names;
use crate::permit::Permit;
use crate::pipeline::Step;
use crate::session::{Intake, Session};

/// An Execute of a cursor, as taken from the client.
#[derive(Debug)]
pub(crate) struct Fetch {
    name: Bytes,
    max_rows: i32,
    /// The FETCH that it stands for.
    pub(crate) text: Bytes,
}

impl Fetch {
    /// `None` where no cursor can have the name, or it may be a portal that the gateway named itself.
    fn new(name: &[u8], max_rows: i32) -> Option<Self> {
        let plain = std::str::from_utf8(name).ok().filter(|_| names::is_plain(name))?;
        let quoted = plain.replace('"', "\"\"");
        let rows = if max_rows > 0 { format!("FORWARD {max_rows}") } else { "ALL".to_owned() };
        let text = Bytes::from(format!("FETCH {rows} FROM \"{quoted}\""));
        Some(Self { name: Bytes::copy_from_slice(name), max_rows, text })
    }
}

impl Session {
    /// Takes an Execute of a name that Bind gave to nothing. Nothing is on its way.
    pub(crate) fn take_fetch(&mut self, name: &[u8], max_rows: i32) -> Taken {
        let missing = errors::error("34000", &format!("portal \"{}\" does not exist", String::from_utf8_lossy(name)));
        let Some(fetch) = Fetch::new(name, max_rows) else {
            self.refuse_extended(0, missing);
            return Taken::Done;
        };
        let judged = match self.judge_now(&fetch.text, &[]) {
            Ok(judged) => judged,
            Err(wait) => return Taken::Wait(wait),
        };
        let known = std::str::from_utf8(name).is_ok_and(|name| self.state.has_cursor(name));
        if !known && !matches!(judged.judgement.verdict, Verdict::Allow) {
            // Most likely there is none. Where code opened one, what it runs is not known.
            let hint = "a cursor that was opened by code cannot be judged here".to_owned();
            self.refuse_extended(0, errors::with(missing, None, Some(hint)));
            return Taken::Done;
        }
        if let Verdict::Hold(terms) = &judged.judgement.verdict {
            return Taken::Wait(Intake::Held(Box::new(Held::fetch(fetch, terms.clone(), Arc::clone(&judged)))));
        }
        let statement = self.record_statement(&fetch.text, true, &[], &judged);
        if let Verdict::Deny(denial) = &judged.judgement.verdict {
            self.refuse_extended(statement, errors::denied(denial));
        } else if let Some(permit) = Permit::allowed(statement, &judged.judgement) {
            self.forward_fetch(permit, &fetch, &judged, None);
        }
        Taken::Done
    }

    /// Writes an Execute of a cursor upstream. The only place that does.
    pub(crate) fn forward_fetch(&mut self, permit: Permit, fetch: &Fetch, judged: &Arc<Judged>, request: Option<String>) {
        let statement = permit.consume();
        self.ran(&judged.judgement);
        let gate = self.statement_gate(&judged.judgement);
        let id = self.new_id();
        // Execute alone yields bare rows; ask what they are.
        self.to_server.write(0, |out| countersign_wire::put_describe(out, Target::Portal, &fetch.name));
        self.pipeline.push(Step::Describe { target: Target::Portal, id: Some(id), visible: false });
        self.to_server.write(gate, |out| countersign_wire::put_execute(out, &fetch.name, fetch.max_rows));
        match &request {
            Some(_) => self.state.forwarded_approved(&judged.judgement),
            None => self.state.forwarded(&judged.judgement),
        }
        self.renamed(&judged.judgement);
        self.pipeline.push_judged(Step::Execute { portal: id }, &judged.judgement);
        let portal = Portal {
            own: fetch.name.clone(),
            of_cursor: true,
            statement,
            text: fetch.text.clone(),
            types: Vec::new(),
            judged: Arc::clone(judged),
            told: Vec::new(),
            request,
            // The server sends text, even of a binary cursor: only Bind asks for formats.
            formats: Vec::new(),
            described: true,
            columns: None,
            plan: None,
            style: countersign_masking::TextStyle::default(),
            since: self.now_us,
            runs: self.runs(),
        };
        self.portals.insert(id, portal);
    }

    /// An Execute of a cursor is over, or was read over by the server.
    pub(crate) fn drop_cursor(&mut self, id: u64) {
        if self.portals.get(&id).is_some_and(|portal| portal.of_cursor)
            && let Some(portal) = self.portals.remove(&id)
            && let Some(request) = portal.request
        {
            self.effects.push_back(Effect::FinishHold { request, outcome: "not run: the cursor was gone".to_owned() });
        }
    }
}
