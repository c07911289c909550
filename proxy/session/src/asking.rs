//! Asking the server what code may have set.
//!
//! A function, a DO block or a trigger can set what texts are read and names looked up by: `search_path`, the role, `standard_conforming_strings`,
//! `client_encoding`; it can make temporary relations and types, which hide all others of their names, and
//! replace prepared statements and cursors by others of their names. The server reports some of that, and only with ReadyForQuery, which is too late for what a client sends in one go. So the
//! next text waits until the server has said how things stand. Owns: when that is needed, the question, and what comes of the answer.

use std::collections::HashMap;

use bytes::{Buf as _, BytesMut};
use countersign_policy::Judgement;
use countersign_wire::{ReadyStatus, Target, be, fe, peek_frame};

use crate::ends::Fatal;
use crate::errors;
use crate::pipeline::Step;
use crate::session::{Intake, Session};

/// What is asked; `countersign-audit reconcile` knows it by every word.
const QUESTION: &[u8] = b"SELECT pg_catalog.current_setting('search_path'), pg_catalog.current_setting('role'), \
pg_catalog.current_setting('standard_conforming_strings'), pg_catalog.current_setting('client_encoding'), \
COALESCE((SELECT pg_catalog.json_agg(c.relname) FROM pg_catalog.pg_class c \
WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() AND c.relkind OPERATOR(pg_catalog.<>) 'i')::pg_catalog.text, '[]'), \
COALESCE((SELECT pg_catalog.json_agg(t.typname) FROM pg_catalog.pg_type t \
WHERE t.typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())::pg_catalog.text, '[]'), \
COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_array(s.name, pg_catalog.int8(pg_catalog.float8mul(pg_catalog.date_part('epoch', s.prepare_time), 1000000)))) \
FROM pg_catalog.pg_prepared_statements s WHERE s.from_sql)::pg_catalog.text, '[]'), \
COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_array(c.name, pg_catalog.int8(pg_catalog.float8mul(pg_catalog.date_part('epoch', c.creation_time), 1000000)))) \
FROM pg_catalog.pg_cursors c)::pg_catalog.text, '[]')";

/// Names that no client's statement or portal has upstream.
const STATEMENT: &[u8] = b"_cs_ask";
const PORTAL: &[u8] = b"_cp_ask";

/// A Bind without values: no formats, no parameters, results in text.
const NOTHING_BOUND: &[u8] = &[0; 6];

/// A client may cancel what is asked without knowing of it; more often than this it is no accident.
const MOST_FAILURES: u8 = 8;

/// What is not known of the session since code ran.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    /// Code ran.
    ran: bool,
    /// The answer was given within a transaction, whose end may take back what it was about.
    unsettled: bool,
    /// Extended messages went upstream since the last Sync: the question goes among them.
    open: bool,
    failures: u8,
    /// How often something was forwarded that runs code.
    runs: u64,
    /// When what SQL prepared and what cursors and portals there are were made, by the server's clock: as seen before code ran.
    made: HashMap<Made, i64>,
}

/// In place of a time: there is nothing of the name.
const GONE: i64 = i64::MIN;

/// Something with a name at the server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Made {
    Statement(String),
    Cursor(String),
}

/// What the answer has brought so far.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The question has a Sync of its own.
    syncs: bool,
    values: Vec<String>,
    closed: u8,
}

impl Session {
    /// A frame of the client's went upstream, or something in its place did.
    pub(crate) const fn sent(&mut self, tag: u8) {
        match tag {
            fe::PARSE | fe::BIND | fe::DESCRIBE | fe::EXECUTE | fe::CLOSE => self.asking.open = true,
            fe::SYNC | fe::QUERY => self.asking.open = false,
            _ => {}
        }
    }

    /// A text was forwarded.
    pub(crate) fn ran(&mut self, judgement: &Judgement) {
        for (cursor, name) in judgement.makes() {
            self.made_anew(cursor, name);
        }
        if judgement.runs_code() {
            self.asking.ran = true;
            self.asking.runs = self.asking.runs.saturating_add(1);
        }
    }

    /// Something of this name is on its way: what was seen under it is not that.
    pub(crate) fn made_anew(&mut self, cursor: bool, name: &str) {
        let made = if cursor { Made::Cursor(name.to_owned()) } else { Made::Statement(name.to_owned()) };
        self.asking.made.remove(&made);
    }

    /// How much code has run so far.
    pub(crate) const fn runs(&self) -> u64 {
        self.asking.runs
    }

    /// Whether messages went upstream since the last Sync.
    pub(crate) const fn is_open(&self) -> bool {
        self.asking.open
    }

    /// Whether code ran since, and the server was not asked yet.
    pub(crate) const fn ran_since(&self, runs: u64) -> bool {
        self.asking.ran && self.asking.runs != runs
    }

    /// Whether it has to be seen first what has names, since what is about to run may replace it.
    pub(crate) fn must_look(&self, judgement: &Judgement) -> bool {
        judgement.runs_code() && self.status != ReadyStatus::Failed && self.named().any(|made| !self.asking.made.contains_key(&made))
    }

    /// What the client made that code may replace.
    fn named(&self) -> impl Iterator<Item = Made> {
        let statements = self.state.prepared_names().map(|name| Made::Statement(name.to_owned()));
        let cursors = self.state.cursor_names().map(|name| Made::Cursor(name.to_owned()));
        let portals = self.portals.values().filter(|portal| !portal.own.is_empty() && !portal.of_cursor);
        let portals = portals.map(|portal| Made::Cursor(String::from_utf8_lossy(&portal.own).into_owned()));
        statements.chain(cursors).chain(portals)
    }

    /// Whether no text can be judged before the server was asked: the one that ran the code neither, which may look up names itself.
    pub(crate) const fn must_ask(&self) -> bool {
        let settles = self.asking.unsettled && matches!(self.status, ReadyStatus::Idle) && !self.asking.open;
        settles || self.asking.ran
    }

    /// Asks, or waits for what has to be answered before. Nothing can be asked in a failed transaction, whose failure took everything back.
    pub(crate) fn ask(&mut self) -> Option<Intake> {
        if !self.pipeline.is_empty() {
            return Some(Intake::Drain);
        }
        if self.status == ReadyStatus::Failed {
            return None;
        }
        let syncs = !self.asking.open;
        self.to_server.write(0, |out| {
            countersign_wire::put_parse(out, STATEMENT, QUESTION, &[]);
            countersign_wire::put_bind(out, PORTAL, STATEMENT, NOTHING_BOUND);
            countersign_wire::put_execute(out, PORTAL, 0);
            countersign_wire::put_close(out, Target::Portal, PORTAL);
            countersign_wire::put_close(out, Target::Statement, STATEMENT);
            if syncs {
                countersign_wire::put_empty(out, fe::SYNC);
            }
        });
        self.pipeline.push(Step::Ask(Answer { syncs, ..Answer::default() }));
        Some(Intake::Drain)
    }

    /// Takes what belongs to the answer; says whether that was it.
    pub(crate) fn take_answer(&mut self, tag: u8, body: &[u8]) -> Result<bool, Fatal> {
        let Some(Step::Ask(answer)) = self.pipeline.front_mut() else { return Ok(false) };
        let syncs = answer.syncs;
        match tag {
            be::PARSE_COMPLETE | be::BIND_COMPLETE | be::COMMAND_COMPLETE => {}
            be::CLOSE_COMPLETE => {
                answer.closed = answer.closed.saturating_add(1);
                if answer.closed == 2 && !syncs {
                    self.answered()?;
                }
            }
            be::ERROR if syncs => {
                answer.values.clear();
                let said = countersign_wire::notice_fields(body)?;
                if said.is_fatal() {
                    return Ok(false);
                }
            }
            be::READY if syncs => {
                self.status = countersign_wire::ready_status(body)?;
                self.answered()?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes the row of the answer, once it is whole.
    pub(crate) fn take_answer_row(&mut self, input: &mut BytesMut) -> Result<(), Fatal> {
        let header = peek_frame(input, countersign_wire::LARGE_BODY)?;
        let Some(header) = header.filter(|header| input.len() >= header.total) else { return Ok(()) };
        let frame = input.split_to(header.total);
        let mut row = frame.get(countersign_wire::HEADER_LEN..).unwrap_or_default();
        let short = || Fatal::server_protocol("a row that is too short");
        let count = row.try_get_u16().map_err(|_| short())?;
        let mut values = Vec::new();
        for _ in 0..count {
            let length = usize::try_from(row.try_get_i32().map_err(|_| short())?).map_err(|_| short())?;
            let (value, rest) = row.split_at_checked(length).ok_or_else(short)?;
            values.push(String::from_utf8_lossy(value).into_owned());
            row = rest;
        }
        if let Some(Step::Ask(answer)) = self.pipeline.front_mut() {
            answer.values = values;
        }
        Ok(())
    }

    fn answered(&mut self) -> Result<(), Fatal> {
        let Some(Step::Ask(answer)) = self.pipeline.pop() else { return Ok(()) };
        let [path, role, strings, encoding, relations, types, prepared, cursors] = answer.values.as_slice() else {
            self.asking.failures = self.asking.failures.saturating_add(1);
            if self.asking.failures >= MOST_FAILURES {
                let message = "the server does not say what code that ran has set; the session ends";
                return Err(Fatal::new("what code set is not known", errors::fatal("58000", message)));
            }
            return Ok(());
        };
        self.pinned("standard_conforming_strings", strings)?;
        self.pinned("client_encoding", encoding)?;
        let settled = answer.syncs && self.status == ReadyStatus::Idle;
        // What code made there hides other relations of its name, and no facts show it before its transaction ends.
        let names = |list: &str| serde_json::from_str::<Vec<String>>(list).map_err(|_| Fatal::server_protocol("a list that is none"));
        self.state.found_temporary(&names(relations)?, &names(types)?, settled);
        let made = |list: &str| {
            serde_json::from_str::<Vec<(String, i64)>>(list).map_err(|_| Fatal::server_protocol("a list of names that is none"))
        };
        let statements = made(prepared)?.into_iter().map(|(name, at)| (Made::Statement(name), at));
        let cursors = made(cursors)?.into_iter().map(|(name, at)| (Made::Cursor(name), at));
        let found: HashMap<Made, i64> = statements.chain(cursors).collect();
        if self.asking.ran {
            self.forget_replaced(&found)?;
        }
        self.state.asked(path, (role != "none").then_some(role), settled);
        // What is not there was looked for, too.
        let found = self.named().map(|made| (made, GONE)).chain(found).collect();
        self.asking = Asking { unsettled: !settled, open: self.asking.open, runs: self.asking.runs, made: found, ..Asking::default() };
        Ok(())
    }

    /// Code ran: what has another age than before, or was not seen before, may be something else by now.
    fn forget_replaced(&mut self, found: &HashMap<Made, i64>) -> Result<(), Fatal> {
        // What the protocol prepared only SQL can have replaced.
        let replaced = self.statements.values().find(|prepared| {
            !prepared.own.is_empty() && found.contains_key(&Made::Statement(String::from_utf8_lossy(&prepared.own).into_owned()))
        });
        if replaced.is_some_and(|prepared| prepared.id != 0) {
            let message = "code that ran replaced a prepared statement of this session by another of its name; the session ends";
            return Err(Fatal::new("code replaced a prepared statement", errors::fatal("58000", message)));
        }
        let before = std::mem::take(&mut self.asking.made);
        let same = |made: &Made| found.get(made).is_some_and(|at| before.get(made) == Some(at));
        self.state.keep_names(|cursor, name| {
            let name = name.to_owned();
            same(&if cursor { Made::Cursor(name) } else { Made::Statement(name) })
        });
        let other = |portal: &crate::extended::Portal| {
            let made = Made::Cursor(String::from_utf8_lossy(&portal.own).into_owned());
            !portal.own.is_empty() && !portal.of_cursor && found.contains_key(&made) && !same(&made)
        };
        let gone: Vec<u64> = self.portals.iter().filter(|(_, portal)| other(portal)).map(|(id, _)| *id).collect();
        for id in gone {
            self.portal_names.forget_id(id);
            self.drop_portal(id);
        }
        Ok(())
    }

    /// INVARIANT: judgement reads texts as UTF-8 with standard strings; a server that reads them otherwise must not get any.
    pub(crate) fn pinned(&self, name: &str, value: &str) -> Result<(), Fatal> {
        let kept = match name {
            // The server reports UNICODE, another name of it, as the client wrote it.
            "client_encoding" => value.eq_ignore_ascii_case("UTF8") || value.eq_ignore_ascii_case("UNICODE"),
            "standard_conforming_strings" => value == "on",
            _ => true,
        };
        if kept {
            return Ok(());
        }
        Err(Fatal::new(
            format!("{name} became {value}"),
            errors::fatal("58000", &format!("{name} was changed to {value}, under which statements cannot be judged; the session ends")),
        ))
    }
}
