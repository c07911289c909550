//! The session's state, its construction and what it is asked from outside.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use countersign_approval::Templates;
use countersign_masking::MaskKey;
use countersign_policy::{Catalog, Judgement, Policy, Principal, SessionState};
use countersign_recording::Event;
use countersign_wire::ReadyStatus;

use crate::asking::Asking;
use crate::copy::Copy;
use crate::effect::Effect;
use crate::extended::{Portal, Prepared};
use crate::hold::Held;
use crate::judging::JudgementCache;
use crate::names::{Kept, Names};
use crate::outbox::Outbox;
use crate::passage::Passage;
use crate::pipeline::Pipeline;
use crate::rows::RowBatch;
use crate::setup::{Holding, Limits, Setup};
use crate::texts::Texts;

/// Why the client's next message is not taken.
#[derive(Debug)]
pub(crate) enum Intake {
    /// It is.
    Open,
    /// Everything on its way must be answered first.
    Drain,
    /// Catalog facts are being loaded.
    Catalog,
    /// A statement is held.
    Held(Box<Held>),
    /// The session is over.
    Closed,
}

/// Which text, if any, ReadyForQuery settles.
#[derive(Debug)]
pub(crate) enum Settling {
    /// None completed.
    Nothing,
    /// This one, alone and without an error.
    One(Arc<Judgement>),
    /// Several completed, or one failed.
    Mixed,
}

/// The session. See the crate's documentation.
#[derive(Debug)]
pub struct Session {
    pub(crate) principal: Arc<Principal>,
    pub(crate) database: String,
    pub(crate) policy: Arc<Policy>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) catalog_generation: u64,
    pub(crate) catalog_dirty: bool,
    /// Other sessions are to know of a change once the transaction ends.
    pub(crate) catalog_shared: bool,
    /// The open transaction changed the catalog.
    pub(crate) catalog_pending: bool,
    /// The server said goodbye with a FATAL error, which the client has seen.
    pub(crate) server_ended: bool,
    pub(crate) refreshed: bool,
    pub(crate) mask_key: MaskKey,
    pub(crate) strict: bool,
    pub(crate) limits: Limits,
    pub(crate) holding: Holding,
    /// Templates of the policy in force whose signatures hold.
    pub(crate) templates: Arc<Templates>,
    pub(crate) state: SessionState,
    pub(crate) cache: JudgementCache,

    pub(crate) intake: Intake,
    /// A long message of the client's on its way through.
    pub(crate) from_client: Option<Passage>,
    /// A long message of the server's on its way through.
    pub(crate) from_server: Option<Passage>,
    pub(crate) pipeline: Pipeline,
    pub(crate) status: ReadyStatus,
    /// When the open transaction block began, as far as it is seen from here.
    pub(crate) transaction_since: u64,
    /// An error was (or will be) reported in the extended protocol: everything up to Sync is to be skipped.
    pub(crate) skipping: bool,
    pub(crate) copy: Copy,
    /// COPYs to the client that the running text began.
    pub(crate) copies: usize,
    /// What is done to texts of the server's that are no column's value.
    pub(crate) texts: Texts,
    /// The open transaction touched protected relations: texts of errors are withheld until it ends.
    pub(crate) transaction_protected: bool,

    pub(crate) statement_names: Names,
    pub(crate) statements: HashMap<u64, Arc<Prepared>>,
    pub(crate) portal_names: Names,
    /// Client's names of statements and portals that stand upstream as they are.
    pub(crate) kept_statements: Kept,
    pub(crate) kept_portals: Kept,
    /// A text is on its way that drops prepared statements by SQL.
    pub(crate) dropping: bool,
    pub(crate) portals: HashMap<u64, Portal>,
    /// Something on its way ends the open transaction block, so what is forwarded behind it may take effect by itself.
    pub(crate) ending: bool,
    /// The batch being taken from the server shows or acknowledges something that must be durable first.
    pub(crate) discloses: bool,
    /// What completed since the last ReadyForQuery, when it was one statement.
    pub(crate) settling: Settling,
    /// What is not known since code ran.
    pub(crate) asking: Asking,
    /// Counts Syncs.
    pub(crate) segment: u64,
    pub(crate) next_id: u64,
    pub(crate) next_statement: u64,
    /// Bound by Bind for the Execute whose rows are arriving; 0 when none.
    pub(crate) current: u64,

    pub(crate) rows: RowBatch,
    pub(crate) events: u64,
    pub(crate) durable: u64,
    pub(crate) now_us: u64,
    pub(crate) to_client: Outbox,
    pub(crate) to_server: Outbox,
    pub(crate) effects: VecDeque<Effect>,
}

impl Session {
    /// Starts: the first event is recorded, the client's greeting is queued behind it.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let Setup {
            start,
            principal,
            database,
            policy,
            catalog,
            catalog_generation,
            mask_key,
            strict,
            limits,
            holding,
            parameters,
            search_path,
            opening,
            cancel_key,
            now_us,
        } = setup;
        let mut state = SessionState::new(&principal, &database, &parameters);
        for setting in &opening {
            state.forwarded(setting.judgement());
        }
        // The server's own word settles what came of all that.
        let state = match &search_path {
            Some(path) => state.with_search_path(path),
            None => state,
        };
        let texts = Texts::new(&policy, &principal);
        let mut session = Self {
            principal,
            database,
            policy,
            catalog,
            catalog_generation,
            catalog_dirty: false,
            catalog_shared: false,
            catalog_pending: false,
            server_ended: false,
            refreshed: false,
            mask_key,
            strict,
            limits,
            holding,
            templates: Arc::default(),
            state,
            cache: JudgementCache::default(),
            intake: Intake::Open,
            from_client: None,
            from_server: None,
            pipeline: Pipeline::default(),
            status: ReadyStatus::Idle,
            transaction_since: now_us,
            skipping: false,
            copy: Copy::None,
            copies: 0,
            texts,
            transaction_protected: false,
            statement_names: Names::default(),
            statements: HashMap::new(),
            portal_names: Names::default(),
            kept_statements: Kept::default(),
            kept_portals: Kept::default(),
            dropping: false,
            portals: HashMap::new(),
            ending: false,
            discloses: false,
            settling: Settling::Nothing,
            asking: Asking::default(),
            segment: 0,
            next_id: 0,
            next_statement: 0,
            current: 0,
            rows: RowBatch::default(),
            events: 0,
            durable: 0,
            now_us,
            to_client: Outbox::default(),
            to_server: Outbox::default(),
            effects: VecDeque::new(),
        };
        session.record(Event::SessionStart(start));
        session.record_opening(opening);
        let gate = session.gate();
        session.to_client.write(gate, |out| {
            countersign_wire::put_authentication_ok(out);
            for (name, value) in &parameters {
                countersign_wire::put_parameter_status(out, name.as_bytes(), value.as_bytes());
            }
            countersign_wire::put_backend_key_data(out, cancel_key.0, &cancel_key.1);
            countersign_wire::put_ready(out, ReadyStatus::Idle);
        });
        session
    }

    /// Sets the time, in microseconds since the epoch. Call it before each input.
    pub const fn set_now(&mut self, now_us: u64) {
        self.now_us = now_us;
    }

    /// A new policy is in force. It applies from the next message on.
    pub fn set_policy(&mut self, policy: Arc<Policy>) {
        self.texts = Texts::new(&policy, &self.principal);
        self.policy = policy;
    }

    /// The templates of the policy in force. Those of another are to be replaced together with it.
    pub fn set_templates(&mut self, templates: Arc<Templates>) {
        self.templates = templates;
    }

    /// Catalog facts arrived.
    pub fn catalog(&mut self, catalog: Arc<Catalog>, generation: u64) {
        self.catalog = catalog;
        self.catalog_generation = generation;
        self.catalog_dirty = false;
        if !self.catalog_pending && self.status == ReadyStatus::Idle {
            self.state.catalog_loaded();
        }
        if matches!(self.intake, Intake::Catalog) {
            self.intake = Intake::Open;
        }
    }

    /// Another session changed the catalog: the next text is judged by newer facts.
    pub const fn catalog_changed_elsewhere(&mut self) {
        self.catalog_dirty = true;
    }

    /// Catalog facts could not be loaded: those at hand must do, and what they do not know counts as unknown.
    pub fn catalog_failed(&mut self) {
        if matches!(self.intake, Intake::Catalog) {
            self.intake = Intake::Open;
        }
    }

    /// Newer facts are at hand without having been asked for.
    pub fn newer_catalog(&mut self, generation: u64, catalog: impl FnOnce() -> Arc<Catalog>) {
        if generation > self.catalog_generation && !matches!(self.intake, Intake::Catalog) {
            self.catalog = catalog();
            self.catalog_generation = generation;
        }
    }

    /// Whether bytes for the client wait for durability.
    #[must_use]
    pub fn has_client_output(&self) -> bool {
        !self.to_client.is_empty()
    }

    /// The first `events` events are durable.
    pub const fn durable(&mut self, events: u64) {
        if events > self.durable {
            self.durable = events;
        }
    }

    /// Takes what the client sent. Frames that cannot be taken yet stay in `input`; call again after any other input.
    pub fn client_bytes(&mut self, input: &mut BytesMut) {
        if let Err(fatal) = self.take_client(input) {
            self.end(fatal.0);
        }
    }

    /// Takes what the server sent.
    pub fn server_bytes(&mut self, input: &mut BytesMut) {
        if matches!(self.intake, Intake::Closed) {
            input.clear();
            return;
        }
        if let Err(fatal) = self.take_server(input) {
            self.end(fatal.0);
        }
    }

    /// The next effect.
    pub fn effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The next bytes for the client that may go out.
    pub fn client_output(&mut self) -> Option<Bytes> {
        self.to_client.release(if self.strict { self.durable } else { u64::MAX })
    }

    /// The next bytes for the server that may go out.
    pub fn server_output(&mut self) -> Option<Bytes> {
        self.to_server.release(if self.strict { self.durable } else { u64::MAX })
    }

    /// Whether more client bytes are welcome. While false, only the end of the connection is of interest.
    #[must_use]
    pub fn wants_client(&self) -> bool {
        matches!(self.intake, Intake::Open) && self.to_server.len() < self.limits.backlog && self.pipeline.len() < self.limits.pipeline
    }

    /// Whether more server bytes are welcome.
    #[must_use]
    pub fn wants_server(&self) -> bool {
        self.to_client.len() < self.limits.backlog
    }

    /// Whether a statement is held.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        matches!(self.intake, Intake::Held(_))
    }

    /// Whether nothing runs, waits or is open.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.is_waiting() && self.status == ReadyStatus::Idle
    }

    /// Whether it is the client's turn: nothing runs and nothing is held, though a transaction may be open.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.intake, Intake::Open) && self.pipeline.is_empty() && self.from_client.is_none()
    }

    /// Whether a transaction block is open, failed or not.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.status != ReadyStatus::Idle
    }

    /// Seconds since the open transaction block began; 0 without one.
    pub(crate) fn transaction_age(&self) -> u64 {
        if self.in_transaction() { self.now_us.saturating_sub(self.transaction_since) / 1_000_000 } else { 0 }
    }

    /// Whether the session is over.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.intake, Intake::Closed)
    }

    /// Number of events emitted so far.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn record(&mut self, event: Event) {
        self.events += 1;
        self.effects.push_back(Effect::Record(event));
    }

    pub(crate) const fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) const fn new_statement(&mut self) -> u64 {
        self.next_statement += 1;
        self.next_statement
    }
}
