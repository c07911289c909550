//! The one place that selects over a session's I/O: bytes, durability, approvals, catalog loads, cancel requests and time go into the
//! sans-io session, its output and effects go out.

mod holds;
mod signals;
mod wire;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_approval::{RequestId, StatementDigest};
use countersign_recording::Event;
use countersign_recording::v1::event::{SessionStart, Verdict};
use countersign_session::{Effect, Session, Setup};
use tokio::time::Instant;

use crate::approvals::{Approvals, HoldEvent, Watch};
use crate::catalog::Snapshot;
use crate::config::Durability;
use crate::established::{Established, Services};
use crate::metrics::{self, OpenSession};
use crate::recorder::SessionRecorder;
use crate::upstream;
use signals::{Signal, Signals};
use wire::{Moved, Wire};

/// How long the last bytes of a session may take to reach a client that does not read.
const FAREWELL: Duration = Duration::from_secs(10);

/// What the server says by itself (descriptions, notices) must fit, however small statements may be.
const LEAST_SERVER_MESSAGE: usize = 1024 * 1024;
/// How many times what a session may buffer may wait for its recording before both sides are no longer read.
const UNRECORDED: usize = 4;

/// How many times in a row bytes may be taken before everything else is asked.
const TURNS: u32 = 8;

/// How often the client of a held statement is looked after when no more of it is read.
const LOOK: Duration = Duration::from_secs(1);

/// How a session ended.
#[derive(Debug)]
pub struct DriverEnd {
    /// Why, as recorded.
    pub reason: String,
}

/// What an operation beside the wire came to.
enum Done {
    Placed(Box<holds::PlacedHold>),
    NotPlaced(String),
    Consumed(Result<bool, String>),
    Catalog(Result<Arc<Snapshot>, String>),
}

type Operation = Pin<Box<dyn Future<Output = Done> + Send>>;

/// Runs a session to its end. Not cancel-safe: dropping it loses what was not yet recorded as the end.
pub async fn run(established: Established, services: Services) -> DriverEnd {
    Driver::new(established, services).run().await
}

struct Driver {
    session: Session,
    wire: Wire,
    services: Services,
    recorder: SessionRecorder,
    strict: bool,
    who: holds::Who,
    signals: Signals,
    statements: metrics::Statements,
    upstream_cancel: upstream::UpstreamCancel,
    operation: Option<Operation>,
    watch: Option<Watch>,
    /// A request whose client does not wait: its id and expiry.
    left: Option<(RequestId, u64)>,
    /// Grants whose end is to be noted once its record is durable.
    finishing: VecDeque<(u64, RequestId, String)>,
    policy: countersign_policy::PolicyDigest,
    farewell: Option<Instant>,
    reason: Option<String>,
    _open: OpenSession,
}

impl Driver {
    fn new(established: Established, services: Services) -> Self {
        let Established {
            session_id,
            client,
            client_buffer,
            upstream,
            upstream_buffer,
            principal,
            database,
            upstream_user,
            parameters,
            search_path,
            policy,
            opening,
            cancel,
            upstream_cancel,
            client_addr,
            client_tls,
            upstream_addr,
            upstream_tls,
            application,
            holding,
            ..
        } = established;
        let settings = Arc::clone(&services.settings);
        let strict = matches!(settings.durability, Durability::Strict);
        let snapshot = services.catalog.snapshot();
        let mut recorder = services.recorder.open(session_id);
        recorder.follow(&policy);
        let start = SessionStart {
            session: session_id.to_string(),
            environment: settings.environment.clone(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            issuer: principal.issuer.clone(),
            subject: principal.subject.clone(),
            email: principal.email.clone(),
            groups: principal.groups.iter().cloned().collect(),
            claims: principal.claims.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            client_addr,
            client_tls,
            upstream_addr,
            upstream_tls,
            upstream_pid: u32::try_from(upstream_cancel.process_id()).unwrap_or(0),
            upstream_user,
            database: database.clone(),
            application,
            policy: policy.digest().0,
            durability: if strict { "strict" } else { "async" }.to_owned(),
        };
        let digest = policy.digest();
        let templates = services.approvals.templates(&policy, &settings.environment);
        let who = holds::Who {
            environment: settings.environment.clone(),
            session: session_id.to_string(),
            principal: Arc::clone(&principal),
            database: database.clone(),
        };
        let mut session = Session::new(Setup {
            start,
            principal,
            database,
            policy,
            catalog: snapshot_catalog(&snapshot),
            catalog_generation: snapshot.generation,
            mask_key: settings.mask_key.clone(),
            strict,
            limits: countersign_session::Limits {
                client_message: settings.limits.max_statement_bytes,
                server_message: settings.limits.max_statement_bytes.max(LEAST_SERVER_MESSAGE),
                backlog: settings.limits.max_buffer_bytes,
                ..countersign_session::Limits::default()
            },
            holding: countersign_session::Holding {
                resumes: services.approvals.resumes(),
                bot_url: services.approvals.bot_url().map(str::to_owned),
                ..holding
            },
            parameters,
            search_path,
            opening,
            cancel_key: (cancel.process_id(), cancel.secret().to_vec()),
            now_us: now_us(),
        });
        session.set_templates(templates);
        let wire = Wire::new(client, client_buffer, upstream, upstream_buffer, settings.limits.max_held_client_bytes);
        let signals = Signals::new(cancel, &services.drain);
        Self {
            session,
            wire,
            services,
            recorder,
            strict,
            who,
            signals,
            statements: metrics::Statements::new(),
            upstream_cancel,
            operation: None,
            watch: None,
            left: None,
            finishing: VecDeque::new(),
            policy: digest,
            farewell: None,
            reason: None,
            _open: OpenSession::begin(),
        }
    }

    async fn run(mut self) -> DriverEnd {
        let mut drained = false;
        let lifetime = self.services.settings.max_session.map(|max| Instant::now() + max);
        let idle = self.services.settings.limits.idle;
        let room = self.services.settings.limits.max_buffer_bytes.saturating_mul(UNRECORDED);
        let mut last_traffic = Instant::now();
        let mut recorder_broken = false;
        let mut turn = 0_u32;
        loop {
            turn = turn.wrapping_add(1);
            self.session.set_now(now_us());
            self.refresh_policy();
            let crowded = !recorder_broken && self.recorder.pending_bytes() > room;
            if !crowded && !self.wire.upstream_is_full() {
                self.session.client_bytes(&mut self.wire.client_in);
            }
            if drained && self.session.is_idle() {
                self.shut_down("drain", "57P01", "terminating connection due to administrator command");
            }
            self.carry_out();
            if self.over() {
                break;
            }
            // A statement that runs or is held is not idle, however long it takes.
            let idle_at = idle.filter(|_| self.session.is_waiting()).map(|idle| last_traffic + idle);
            let look = self.session.is_held().then(|| Instant::now() + LOOK);
            let alarm = [lifetime, idle_at, self.farewell, look].into_iter().flatten().min();
            let durable_wanted = !recorder_broken && (self.strict || !self.finishing.is_empty());
            // Bytes that are there are taken at once, without asking everything else; but never for long.
            let at_once = if turn.is_multiple_of(TURNS) { None } else { self.wire.moved_already(&self.session, !crowded).await };
            if let Some(moved) = at_once {
                self.moved(moved, &mut last_traffic);
                continue;
            }
            tokio::select! {
                moved = self.wire.moved(&self.session, !crowded) => self.moved(moved, &mut last_traffic),
                changed = self.recorder.progress(crowded.then_some(room)), if durable_wanted || crowded => match changed {
                    Ok(durable) => self.durable(durable),
                    Err(failure) => {
                        recorder_broken = true;
                        tracing::error!(session.id = %self.who.session, error = %failure, "the recording cannot be written, the session ends");
                        if self.strict {
                            self.session.recorder_failed("the recording of this session cannot be written, so it ends; nothing runs unrecorded");
                        }
                    }
                },
                done = wait_for(&mut self.operation) => {
                    self.operation = None;
                    self.done(done);
                }
                event = next_hold_event(&mut self.watch) => self.hold_event(event),
                signal = self.signals.next(alarm) => match signal {
                    Signal::Cancel if self.session.is_closed() => {}
                    Signal::Cancel => self.cancelled(),
                    Signal::Drain => drained = true,
                    Signal::DrainOver => self.shut_down("drain", "57P01", "terminating connection due to administrator command"),
                    // A client that still takes its result is not idle.
                    Signal::Alarm if std::mem::take(&mut self.wire.wrote) => last_traffic = Instant::now(),
                    Signal::Alarm => self.alarm(lifetime, idle_at),
                },
            }
        }
        self.finish(recorder_broken).await
    }

    fn count(&self, event: &Event) {
        match event {
            Event::Decision { verdict: Verdict::Allow, .. } => self.statements.allowed(),
            Event::Decision { verdict: Verdict::Deny, .. } => self.statements.denied(),
            Event::Decision { verdict: Verdict::Hold, .. } => self.statements.held(),
            Event::Approval { outcome, .. } => metrics::hold_ended(outcome),
            _ => {}
        }
    }

    fn moved(&mut self, moved: Moved, last_traffic: &mut Instant) {
        match moved {
            Moved::Bytes => {
                *last_traffic = Instant::now();
                self.session.set_now(now_us());
                if !self.wire.upstream_in.is_empty() {
                    self.session.server_bytes(&mut self.wire.upstream_in);
                }
            }
            Moved::ClientGone => {
                self.session.client_gone();
                self.wire.client_lost();
            }
            Moved::UpstreamGone => {
                self.session.server_bytes(&mut self.wire.upstream_in);
                if !self.session.is_closed() {
                    metrics::upstream_error("lost");
                }
                self.session.server_gone();
                self.wire.upstream_lost();
            }
        }
    }

    fn shut_down(&mut self, reason: &str, code: &str, message: &str) {
        self.session.set_now(now_us());
        self.session.shut_down(reason, code, message);
    }

    fn alarm(&mut self, lifetime: Option<Instant>, idle_at: Option<Instant>) {
        let now = Instant::now();
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.wire.client_hung_up(&self.session) {
            self.session.set_now(now_us());
            self.session.client_gone();
            self.wire.client_lost();
        } else if passed(self.farewell) {
            self.wire.client_lost();
            self.wire.upstream_lost();
        } else if passed(lifetime) {
            self.shut_down(
                "lifetime",
                "57P01",
                "terminating connection: the session reached its longest allowed age; connect again with a new token",
            );
        } else if passed(idle_at) {
            if self.session.in_transaction() {
                self.shut_down("idle", "25P03", "terminating connection due to idle-in-transaction timeout");
            } else {
                self.shut_down("idle", "57P05", "terminating connection due to idle-session timeout");
            }
        }
    }

    /// Whether everything that is to be said has been said.
    fn over(&self) -> bool {
        self.session.is_closed() && self.wire.is_settled(&self.session)
    }

    fn refresh_policy(&mut self) {
        let policy = self.services.policy.current();
        if policy.digest() != self.policy {
            self.policy = policy.digest();
            self.recorder.follow(&policy);
            let templates = self.services.approvals.templates(&policy, &self.who.environment);
            self.session.set_policy(policy);
            self.session.set_templates(templates);
        }
        // The catalog ages in the background; take what is there without asking.
        if self.services.catalog.is_stale() {
            self.session.catalog_changed_elsewhere();
        }
        if !self.session.is_held() {
            let snapshot = self.services.catalog.snapshot();
            self.session.newer_catalog(snapshot.generation, || snapshot_catalog(&snapshot));
        }
    }

    fn durable(&mut self, durable: u64) {
        self.session.durable(durable);
        while self.finishing.front().is_some_and(|(gate, _, _)| *gate <= durable) {
            let Some((_, request, outcome)) = self.finishing.pop_front() else { break };
            finish_hold(self.services.approvals.clone(), request, outcome);
        }
    }

    /// Carries out effects in order, then moves released bytes to the wire.
    fn carry_out(&mut self) {
        while let Some(effect) = self.session.effect() {
            match effect {
                Effect::Record(event) => {
                    self.count(&event);
                    self.recorder.append(i64::try_from(now_us()).unwrap_or(i64::MAX), event);
                }
                Effect::PlaceHold(hold) => {
                    let placing =
                        holds::place_or_cancel(self.who.clone(), *hold, self.services.approvals.clone(), self.services.catalog.clone());
                    self.operation = Some(Box::pin(async move {
                        match placing.await {
                            Ok(Ok(placed)) => Done::Placed(Box::new(placed)),
                            Ok(Err(why)) => Done::NotPlaced(why),
                            Err(_) => Done::NotPlaced("placing the request was broken off".to_owned()),
                        }
                    }));
                }
                Effect::Consume { request, digest, runs } => self.consume(&request, digest, runs),
                Effect::CancelHold { request, why } => {
                    self.watch = None;
                    if let Ok(id) = RequestId::parse(&request) {
                        cancel_hold(self.services.approvals.clone(), id, why);
                    }
                }
                Effect::LeaveHold { request } => match (self.watch.take(), self.left.take()) {
                    (Some(watch), _) => watch.leave(),
                    (None, Some((id, expires_at))) if id.as_str() == request => self.services.approvals.leave(&id, expires_at),
                    // The grant was being used up: what becomes of the request is settled there.
                    _ => {}
                },
                Effect::FinishHold { request, outcome } => {
                    if let Ok(id) = RequestId::parse(&request) {
                        self.finishing.push_back((self.session.events(), id, outcome));
                    }
                }
                Effect::RefreshCatalog { .. } => {
                    let catalog = self.services.catalog.clone();
                    // Only a load that begins now is sure to see what was committed until now.
                    let generation = catalog.next_generation();
                    self.operation =
                        Some(Box::pin(async move { Done::Catalog(catalog.refresh(generation).await.map_err(|error| error.to_string())) }));
                }
                Effect::CatalogChanged => self.services.catalog.changed(),
                Effect::Anomaly { statement, what } => {
                    metrics::anomaly();
                    tracing::warn!(session.id = %self.who.session, statement, anomaly = %what, "anomaly");
                }
                Effect::End(end) => {
                    self.watch = None;
                    self.operation = None;
                    self.farewell = Some(Instant::now() + FAREWELL);
                    self.reason = Some(end.reason);
                }
                other => tracing::error!(session.id = %self.who.session, effect = ?other, "an effect this build does not know"),
            }
        }
        self.recorder.flush();
        if self.strict {
            self.session.durable(self.recorder.durable());
        }
        self.wire.take_output(&mut self.session);
    }

    fn consume(&mut self, request: &str, digest: StatementDigest, runs: u32) {
        self.watch = None;
        let approvals = self.services.approvals.clone();
        let id = RequestId::parse(request);
        self.operation = Some(Box::pin(async move {
            match id {
                Ok(id) => {
                    let outcome = approvals.consume(&id, &digest, runs).await;
                    if let Ok(true) = outcome {
                        tracing::info!(approval.request = %id, "grant used up");
                    }
                    Done::Consumed(outcome.map_err(|error| error.to_string()))
                }
                Err(error) => Done::Consumed(Err(error.to_string())),
            }
        }));
    }

    fn done(&mut self, done: Done) {
        self.session.set_now(now_us());
        match done {
            Done::Placed(placed) => {
                let holds::PlacedHold { placed, expires } = *placed;
                let request = &placed.request;
                tracing::info!(session.id = %self.who.session, approval.request = %request.id, approval.rule = %request.rule, approval.again = placed.again, "statement held");
                self.session.hold_placed(request.id.as_str(), placed.body.clone(), &expires, placed.again);
                if !self.session.is_held() {
                    // Glass was broken: nobody waits.
                } else if !self.session.hold_returns() {
                    self.watch = Some(self.services.approvals.watch(request.expectation()));
                } else if let Some(event) = self.services.approvals.decided(&placed) {
                    self.hold_event(event);
                } else {
                    self.left = Some((request.id.clone(), request.expires_at));
                    self.session.hold_pending(&expires);
                }
            }
            Done::NotPlaced(why) => {
                tracing::error!(session.id = %self.who.session, error = %why, "an approval request could not be placed, the statement is refused");
                self.session.hold_failed("the approval store did not take it");
            }
            Done::Consumed(outcome) => {
                if let Err(why) = &outcome {
                    tracing::error!(session.id = %self.who.session, error = %why, "a grant could not be consumed, the statement is refused");
                }
                self.session.consumed(outcome.map_err(|_| "the approval store did not answer".to_owned()));
            }
            Done::Catalog(Ok(snapshot)) => self.session.catalog(snapshot_catalog(&snapshot), snapshot.generation),
            Done::Catalog(Err(error)) => {
                tracing::warn!(session.id = %self.who.session, error = %error, "catalog facts could not be loaded, unresolved names count as unknown");
                self.session.catalog_failed();
            }
        }
    }

    fn hold_event(&mut self, event: HoldEvent) {
        self.session.set_now(now_us());
        match event {
            HoldEvent::Progress { approvals, quorum } => self.session.hold_notice(&format!("{approvals} of {quorum} approvals")),
            HoldEvent::Warning(text) => self.session.hold_notice(&text),
            HoldEvent::Granted { quorum, tokens } => {
                tracing::info!(session.id = %self.who.session, approval.request = %quorum.request(), approval.people = quorum.decisions().len(), "quorum verified");
                self.session.hold_granted(quorum, tokens);
            }
            HoldEvent::Denied { by, reason, tokens } => {
                self.watch = None;
                self.session.hold_denied(&by, &reason, tokens);
            }
            HoldEvent::Expired => {
                self.watch = None;
                self.session.hold_expired();
            }
            HoldEvent::Failed(why) => {
                self.watch = None;
                tracing::warn!(session.id = %self.who.session, error = %why, "a hold failed");
                self.session.hold_failed(&why);
            }
        }
    }

    fn cancelled(&mut self) {
        self.session.set_now(now_us());
        if !self.session.cancel() {
            let target = self.upstream_cancel.clone();
            let session = self.who.session.clone();
            tokio::spawn(async move {
                if let Err(error) = upstream::cancel(&target).await {
                    tracing::warn!(session.id = %session, error = %error, "a cancel request did not reach the server");
                }
            });
        } else {
            self.watch = None;
            self.operation = None;
        }
    }

    async fn finish(mut self, recorder_broken: bool) -> DriverEnd {
        self.carry_out();
        self.wire.close().await;
        let reason = self.reason.take().unwrap_or_else(|| "ended".to_owned());
        metrics::session_ended(&reason);
        if !recorder_broken {
            let deadline = Instant::now() + Duration::from_secs(30);
            while let Some((gate, _, _)) = self.finishing.back() {
                let gate = *gate;
                match tokio::time::timeout_at(deadline, self.recorder.changed()).await {
                    Ok(Ok(durable)) => {
                        self.durable(durable);
                        if durable >= gate {
                            break;
                        }
                    }
                    _ => break,
                }
            }
        }
        self.recorder.close();
        tracing::info!(session.id = %self.who.session, session.end = %reason, "session ended");
        DriverEnd { reason }
    }
}

fn snapshot_catalog(snapshot: &Arc<Snapshot>) -> Arc<countersign_policy::Catalog> {
    Arc::clone(&snapshot.catalog)
}

fn finish_hold(approvals: Approvals, request: RequestId, outcome: String) {
    tokio::spawn(async move {
        // The request may be closed a moment later than its end is recorded, and a store may be down for a while.
        for pause in [0, 1, 10] {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            match approvals.finish(&request, &outcome).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(approval.request = %request, error = %error, "the end of a held statement could not be noted");
                }
            }
        }
    });
}

fn cancel_hold(approvals: Approvals, request: RequestId, why: &'static str) {
    tokio::spawn(async move {
        if let Err(error) = approvals.cancel(&request, why).await {
            tracing::warn!(approval.request = %request, error = %error, "a request could not be cancelled; it stays open until it expires");
        }
    });
}

async fn wait_for(operation: &mut Option<Operation>) -> Done {
    match operation {
        Some(operation) => operation.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn next_hold_event(watch: &mut Option<Watch>) -> HoldEvent {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
