//! A model of Postgres's own message rules, and a session between a scripted client and it.
//! <https://www.postgresql.org/docs/current/protocol-flow.html>

pub(crate) mod script;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use countersign_policy::{Catalog, Policy, Principal};
use countersign_recording::Event;
use countersign_recording::v1::event::SessionStart;
use countersign_session::{Effect, End, HoldRequest, Limits, Session, Setup};
use countersign_wire as wire;
use countersign_wire::{ErrorFields, ReadyStatus, Target, be, fe};

pub(crate) const POLICY: &str = r#"
version = 1

[[reviewers]]
person = "dana"
email = "dana@bank.example"
slack = "T0BANK/U0DANA"
groups = ["dba-oncall"]

[[rules]]
name = "writers"
who = { groups = ["writer"] }
what = { kinds = ["write"] }
action = "allow"

[[rules]]
name = "copiers"
who = { groups = ["copier"] }
action = "allow"

[[rules]]
name = "held"
what = { kinds = ["write"] }
action = "hold"
hold = { reviewers = ["dba-oncall"], quorum = 1, expiry = "15m", reason = "test" }

[[rules]]
name = "harmless"
what = { kinds = ["empty", "read", "transaction", "session"] }
action = "allow"
"#;

/// What the model server does with a text. Everything else is a syntax error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Row,
    Fails,
    Begin,
    Commit,
    Rollback,
    Empty,
    Deallocate,
    Prepare,
    Declare,
    Asks,
}

pub(crate) const ROW: &str = "SELECT 1";
pub(crate) const FAILS: &str = "SELECT 1/0";
pub(crate) const BROKEN: &str = "SELECT FROM WHERE";
pub(crate) const DENIED: &str = "DELETE FROM accounts";
pub(crate) const HELD: &str = "SELECT 1 FOR UPDATE";
pub(crate) const COPY: &str = "COPY accounts FROM STDIN";
pub(crate) const DEALLOCATE: &str = "DEALLOCATE a";
pub(crate) const PREPARE: &str = "PREPARE b AS SELECT 1";
pub(crate) const DECLARE: &str = "DECLARE c CURSOR FOR SELECT 1";

/// How the gateway's own question begins.
const ASKS: &[u8] = b"SELECT pg_catalog.current_setting('search_path')";

/// The answer: settings, and that nothing temporary or with a name is there.
const ANSWERS: [&str; 8] = ["public", "none", "on", "UTF8", "[]", "[]", "[]", "[]"];

fn behaviour(sql: &[u8]) -> Option<Behaviour> {
    if sql.starts_with(ASKS) {
        return Some(Behaviour::Asks);
    }
    Some(match std::str::from_utf8(sql).ok()? {
        ROW | HELD => Behaviour::Row,
        FAILS => Behaviour::Fails,
        "BEGIN" => Behaviour::Begin,
        "COMMIT" => Behaviour::Commit,
        "ROLLBACK" => Behaviour::Rollback,
        "" => Behaviour::Empty,
        DEALLOCATE => Behaviour::Deallocate,
        PREPARE => Behaviour::Prepare,
        DECLARE => Behaviour::Declare,
        _ => return None,
    })
}

/// The model server.
#[derive(Debug)]
pub(crate) struct Server {
    statements: HashMap<Vec<u8>, Behaviour>,
    portals: HashMap<Vec<u8>, (Behaviour, bool)>,
    /// Names of statements and portals as they were given, in order.
    pub(crate) names: Vec<String>,
    pub(crate) status: ReadyStatus,
    skipping: bool,
    pub(crate) terminated: bool,
    /// Texts that reached it, in order.
    pub(crate) texts: Vec<Vec<u8>>,
    /// Behaviours executed with an effect, in order of execution.
    pub(crate) executed: usize,
    pub(crate) syncs: usize,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            statements: HashMap::new(),
            portals: HashMap::new(),
            names: Vec::new(),
            status: ReadyStatus::Idle,
            skipping: false,
            terminated: false,
            texts: Vec::new(),
            executed: 0,
            syncs: 0,
        }
    }
}

pub(crate) fn error(code: &str, message: &str) -> ErrorFields {
    ErrorFields(vec![(b'S', "ERROR".into()), (b'V', "ERROR".into()), (b'C', code.into()), (b'M', message.into())])
}

impl Server {
    pub(crate) fn take(&mut self, input: &mut BytesMut, out: &mut BytesMut) {
        while let Ok(Some(header)) = wire::peek_frame(input, usize::MAX) {
            if input.len() < header.total {
                break;
            }
            let frame = input.split_to(header.total);
            self.frame(header.tag, &frame[wire::HEADER_LEN..], out);
        }
    }

    fn fail(&mut self, code: &str, message: &str, out: &mut BytesMut) {
        wire::put_error(out, &error(code, message));
        match self.status {
            // Failed portals stay in the way of their names until the block ends.
            ReadyStatus::InTransaction | ReadyStatus::Failed => self.status = ReadyStatus::Failed,
            ReadyStatus::Idle => self.portals.clear(),
        }
    }

    fn frame(&mut self, tag: u8, body: &[u8], out: &mut BytesMut) {
        if tag == fe::TERMINATE {
            self.terminated = true;
            return;
        }
        if self.skipping && tag != fe::SYNC {
            return;
        }
        match tag {
            fe::QUERY => {
                let sql = wire::query_text(body).expect("query").to_vec();
                self.statements.remove(&b""[..]);
                self.portals.remove(&b""[..]);
                self.texts.push(sql.clone());
                match behaviour(&sql) {
                    None => self.fail("42601", "syntax error", out),
                    Some(what) => {
                        if self.blocked(what, out).is_none() {
                            if what == Behaviour::Row {
                                describe_row(out);
                            }
                            self.run(what, out);
                        }
                    }
                }
                self.ready(out);
            }
            fe::PARSE => {
                let view = wire::parse(body).expect("parse");
                if !view.sql.starts_with(ASKS) {
                    self.texts.push(view.sql.to_vec());
                }
                if view.name.is_empty() {
                    self.statements.remove(&b""[..]);
                }
                let Some(what) = behaviour(view.sql) else { return self.refuse("42601", "syntax error", out) };
                if self.status == ReadyStatus::Failed && !matches!(what, Behaviour::Commit | Behaviour::Rollback | Behaviour::Empty) {
                    return self.refuse("25P02", "current transaction is aborted", out);
                }
                if !view.name.is_empty() && self.statements.contains_key(view.name) {
                    let text = format!("prepared statement \"{}\" already exists", String::from_utf8_lossy(view.name));
                    return self.refuse("42P05", &text, out);
                }
                self.statements.insert(view.name.to_vec(), what);
                self.names.push(String::from_utf8_lossy(view.name).into_owned());
                wire::put_empty(out, be::PARSE_COMPLETE);
            }
            fe::BIND => {
                let view = wire::bind(body).expect("bind");
                let Some(what) = self.statements.get(view.statement).copied() else {
                    let text = if view.statement.is_empty() {
                        "unnamed prepared statement does not exist".to_owned()
                    } else {
                        format!("prepared statement \"{}\" does not exist", String::from_utf8_lossy(view.statement))
                    };
                    return self.refuse("26000", &text, out);
                };
                if self.status == ReadyStatus::Failed && !matches!(what, Behaviour::Commit | Behaviour::Rollback | Behaviour::Empty) {
                    return self.refuse("25P02", "current transaction is aborted", out);
                }
                if !view.portal.is_empty() && self.portals.contains_key(view.portal) {
                    let text = format!("cursor \"{}\" already exists", String::from_utf8_lossy(view.portal));
                    return self.refuse("42P03", &text, out);
                }
                self.portals.insert(view.portal.to_vec(), (what, false));
                self.names.push(String::from_utf8_lossy(view.portal).into_owned());
                wire::put_empty(out, be::BIND_COMPLETE);
            }
            fe::DESCRIBE => {
                let view = wire::describe(body).expect("describe");
                let what = match view.target {
                    Target::Statement => {
                        let Some(what) = self.statements.get(view.name).copied() else {
                            let text = if view.name.is_empty() {
                                "unnamed prepared statement does not exist".to_owned()
                            } else {
                                format!("prepared statement \"{}\" does not exist", String::from_utf8_lossy(view.name))
                            };
                            return self.refuse("26000", &text, out);
                        };
                        wire::frame(out, be::PARAMETER_DESCRIPTION, |out| out.extend_from_slice(&[0, 0]));
                        what
                    }
                    Target::Portal => {
                        let Some((what, _)) = self.portals.get(view.name).copied() else {
                            return self.refuse("34000", &format!("portal \"{}\" does not exist", String::from_utf8_lossy(view.name)), out);
                        };
                        what
                    }
                };
                if matches!(what, Behaviour::Row | Behaviour::Fails) {
                    describe_row(out);
                } else {
                    wire::put_empty(out, be::NO_DATA);
                }
            }
            fe::EXECUTE => {
                let view = wire::execute(body).expect("execute");
                let Some((what, done)) = self.portals.get(view.portal).copied() else {
                    return self.refuse("34000", &format!("portal \"{}\" does not exist", String::from_utf8_lossy(view.portal)), out);
                };
                if let Some((code, text)) = self.blocked_by_failure(what) {
                    return self.refuse(code, text, out);
                }
                if done {
                    return complete(out, "SELECT 0");
                }
                self.portals.insert(view.portal.to_vec(), (what, true));
                if let Some((code, text)) = self.failure(what) {
                    return self.refuse(code, text, out);
                }
                self.run(what, out);
            }
            fe::CLOSE => {
                let view = wire::close(body).expect("close");
                match view.target {
                    Target::Statement => drop(self.statements.remove(view.name)),
                    Target::Portal => drop(self.portals.remove(view.name)),
                }
                wire::put_empty(out, be::CLOSE_COMPLETE);
            }
            fe::FLUSH => {}
            fe::SYNC => {
                self.skipping = false;
                self.syncs += 1;
                self.ready(out);
            }
            other => panic!("the session sent {:?}", char::from(other)),
        }
    }

    fn refuse(&mut self, code: &str, text: &str, out: &mut BytesMut) {
        self.fail(code, text, out);
        self.skipping = true;
    }

    fn blocked_by_failure(&self, what: Behaviour) -> Option<(&'static str, &'static str)> {
        let ends = matches!(what, Behaviour::Commit | Behaviour::Rollback | Behaviour::Empty);
        (self.status == ReadyStatus::Failed && !ends).then_some(("25P02", "current transaction is aborted"))
    }

    fn blocked(&mut self, what: Behaviour, out: &mut BytesMut) -> Option<()> {
        if let Some((code, text)) = self.blocked_by_failure(what) {
            self.fail(code, text, out);
            return Some(());
        }
        if let Some((code, text)) = self.failure(what) {
            self.fail(code, text, out);
            return Some(());
        }
        None
    }

    fn failure(&self, what: Behaviour) -> Option<(&'static str, &'static str)> {
        match what {
            Behaviour::Fails => Some(("22012", "division by zero")),
            Behaviour::Deallocate if !self.statements.contains_key(&b"a"[..]) => Some(("26000", "prepared statement does not exist")),
            Behaviour::Declare if self.status == ReadyStatus::Idle => {
                Some(("25P01", "DECLARE CURSOR can only be used in transaction blocks"))
            }
            Behaviour::Prepare if self.statements.contains_key(&b"b"[..]) => Some(("42P05", "prepared statement already exists")),
            _ => None,
        }
    }

    fn run(&mut self, what: Behaviour, out: &mut BytesMut) {
        match what {
            Behaviour::Row => {
                self.executed += 1;
                wire::frame(out, be::DATA_ROW, |out| out.extend_from_slice(&[0, 1, 0, 0, 0, 1, b'1']));
                complete(out, "SELECT 1");
            }
            Behaviour::Begin => {
                self.status = ReadyStatus::InTransaction;
                complete(out, "BEGIN");
            }
            Behaviour::Commit => {
                complete(out, if self.status == ReadyStatus::Failed { "ROLLBACK" } else { "COMMIT" });
                self.status = ReadyStatus::Idle;
                self.portals.clear();
            }
            Behaviour::Rollback => {
                complete(out, "ROLLBACK");
                self.status = ReadyStatus::Idle;
                self.portals.clear();
            }
            Behaviour::Asks => {
                wire::frame(out, be::DATA_ROW, |out| {
                    out.extend_from_slice(&[0, 8]);
                    for value in ANSWERS {
                        out.extend_from_slice(&u32::try_from(value.len()).expect("short").to_be_bytes());
                        out.extend_from_slice(value.as_bytes());
                    }
                });
                complete(out, "SELECT 1");
            }
            Behaviour::Empty => wire::put_empty(out, be::EMPTY_QUERY),
            Behaviour::Deallocate => {
                self.statements.remove(&b"a"[..]);
                complete(out, "DEALLOCATE");
            }
            Behaviour::Prepare => {
                self.statements.insert(b"b".to_vec(), Behaviour::Row);
                complete(out, "PREPARE");
            }
            Behaviour::Declare => {
                self.portals.insert(b"c".to_vec(), (Behaviour::Row, false));
                complete(out, "DECLARE CURSOR");
            }
            Behaviour::Fails => {}
        }
    }

    fn ready(&mut self, out: &mut BytesMut) {
        if self.status == ReadyStatus::Idle {
            self.portals.clear();
        }
        wire::put_ready(out, self.status);
    }
}

fn complete(out: &mut BytesMut, tag: &str) {
    wire::frame(out, be::COMMAND_COMPLETE, |out| {
        out.extend_from_slice(tag.as_bytes());
        out.extend_from_slice(&[0]);
    });
}

fn describe_row(out: &mut BytesMut) {
    wire::frame(out, be::ROW_DESCRIPTION, |out| {
        out.extend_from_slice(&[0, 1]);
        out.extend_from_slice(b"x\0");
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&[0, 0, 0, 23, 0, 4, 255, 255, 255, 255, 0, 0]);
    });
}

/// A session with everything around it in memory.
pub(crate) struct Bench {
    pub(crate) session: Session,
    pub(crate) server: Server,
    pub(crate) client_in: BytesMut,
    server_out: BytesMut,
    /// All the client received.
    pub(crate) received: BytesMut,
    pub(crate) events: Vec<Event>,
    pub(crate) holds: Vec<HoldRequest>,
    pub(crate) consumed: Vec<String>,
    pub(crate) cancelled: Vec<String>,
    pub(crate) left: Vec<String>,
    pub(crate) ended: Option<End>,
    /// How many events the recorder has made durable; `None` makes all durable at once.
    pub(crate) durable: Option<u64>,
}

impl Bench {
    pub(crate) fn new(strict: bool) -> Self {
        Self::of("ci", strict)
    }

    /// A session of somebody in `group`.
    pub(crate) fn of(group: &str, strict: bool) -> Self {
        let policy = Arc::new(Policy::parse(POLICY).expect("the test policy is valid"));
        let principal = Principal {
            issuer: "https://issuer.example".into(),
            subject: "ci".into(),
            email: None,
            groups: [group.to_owned()].into(),
            claims: std::collections::BTreeMap::new(),
        };
        let session = Session::new(Setup {
            search_path: None,
            opening: Vec::new(),
            start: SessionStart::default(),
            principal: Arc::new(principal),
            database: "bank".into(),
            policy,
            catalog: Arc::new(catalog()),
            catalog_generation: 1,
            mask_key: countersign_masking::MaskKey::new([7; 32]),
            strict,
            limits: Limits::default(),
            holding: countersign_session::Holding::default(),
            parameters: vec![("client_encoding".into(), "UTF8".into()), ("standard_conforming_strings".into(), "on".into())],
            cancel_key: (1, vec![1, 2, 3, 4]),
            now_us: 1_000_000,
        });
        Self {
            session,
            server: Server::default(),
            client_in: BytesMut::new(),
            server_out: BytesMut::new(),
            received: BytesMut::new(),
            events: Vec::new(),
            holds: Vec::new(),
            consumed: Vec::new(),
            cancelled: Vec::new(),
            left: Vec::new(),
            ended: None,
            durable: None,
        }
    }

    /// Runs until nothing moves any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let before = (self.received.len(), self.events.len(), self.client_in.len(), self.server.texts.len(), self.server.syncs);
            self.session.client_bytes(&mut self.client_in);
            let mut moved = false;
            while let Some(effect) = self.session.effect() {
                moved = true;
                match effect {
                    Effect::Record(event) => self.events.push(event),
                    Effect::PlaceHold(hold) => self.holds.push(*hold),
                    Effect::Consume { request, .. } => self.consumed.push(request),
                    Effect::CancelHold { request, .. } => self.cancelled.push(request),
                    Effect::LeaveHold { request } => self.left.push(request),
                    Effect::RefreshCatalog { .. } => self.session.catalog_failed(),
                    Effect::End(end) => self.ended = Some(end),
                    _ => {}
                }
            }
            let events = u64::try_from(self.events.len()).expect("few events");
            self.session.durable(self.durable.map_or(events, |durable| durable.min(events)));
            let mut sent = BytesMut::new();
            while let Some(chunk) = self.session.server_output() {
                sent.extend_from_slice(&chunk);
            }
            moved |= !sent.is_empty();
            self.server.take(&mut sent, &mut self.server_out);
            if !self.server_out.is_empty() {
                self.session.server_bytes(&mut self.server_out);
            }
            while let Some(chunk) = self.session.client_output() {
                self.received.extend_from_slice(&chunk);
            }
            let after = (self.received.len(), self.events.len(), self.client_in.len(), self.server.texts.len(), self.server.syncs);
            if before == after && !moved {
                return;
            }
        }
        panic!("the session never settles");
    }

    /// Sends frames and settles.
    pub(crate) fn send(&mut self, write: impl FnOnce(&mut BytesMut)) {
        write(&mut self.client_in);
        self.settle();
    }

    /// What arrived since the last call, as tags.
    pub(crate) fn tags(&mut self) -> String {
        frames(&self.received.split()).into_iter().map(|(tag, _)| char::from(tag)).collect()
    }
}

fn catalog() -> Catalog {
    Catalog::default()
}

/// Splits bytes into frames.
pub(crate) fn frames(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut bytes = bytes;
    let mut out = Vec::new();
    while let Ok(Some(header)) = wire::peek_frame(bytes, usize::MAX) {
        out.push((header.tag, bytes[wire::HEADER_LEN..header.total].to_vec()));
        bytes.advance(header.total);
    }
    assert!(bytes.is_empty(), "whole frames only");
    out
}

pub(crate) fn bind(out: &mut BytesMut, portal: &[u8], statement: &[u8]) {
    wire::put_bind(out, portal, statement, &[0, 0, 0, 0, 0, 0]);
}
