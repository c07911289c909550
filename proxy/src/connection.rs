//! One connection, from accept to the end of its session: start-up, identity, upstream, then the driver.
//!
//! Everything a client is told before its session begins is told here, and everything an operator should know is logged here, once.

use std::{net::SocketAddr, sync::Arc};

use countersign_policy::{JudgeRequest, Policy, Principal, SessionState};
use countersign_session::Opening;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    approvals::Approvals,
    cancel::CancelRegistry,
    catalog::{CatalogSource, Catalogs},
    config::{Methods, Network},
    door::Place,
    driver,
    error::{ClientError, sqlstate},
    established::{ClientIo, Established, Services, SessionSettings, tls_version},
    identity::{UnverifiedToken, Verified, Verifier},
    metrics,
    policy_source::PolicySource,
    proxy_protocol,
    recorder::Recorder,
    shutdown::Drain,
    startup::{self, Bearer, Discovery, Greeted, Greeting, Transport},
    upstream::{Dialer, LoggedIn, LoginRequest},
};

/// The server as one service role enters it.
#[derive(Debug)]
pub struct Entry {
    /// The server.
    pub dialer: Dialer,
    /// Catalog facts of its databases, as that role sees them.
    pub catalogs: Catalogs,
}

/// What every connection uses. One per process.
#[derive(Debug)]
pub struct Gateway {
    /// Encryption towards clients.
    pub transport: Transport,
    /// Load balancers that say for whom they connect.
    pub proxies: Vec<Network>,
    /// Tokens.
    pub identity: Verifier,
    /// The server, entered as the service role of everyone without one of their own.
    pub entry: Entry,
    /// The same for principals of certain groups; the first that fits.
    pub roles: Vec<(Vec<String>, Entry)>,
    /// How clients show them.
    pub methods: Methods,
    /// What a client without one is told, by OAUTHBEARER.
    pub discovery: Discovery,
    /// Cancel keys.
    pub cancels: CancelRegistry,
    /// Recordings.
    pub recorder: Recorder,
    /// Approvals.
    pub approvals: Approvals,
    /// The policy in force.
    pub policy: PolicySource,
    /// Settings.
    pub settings: Arc<SessionSettings>,
    /// The orderly end.
    pub drain: Drain,
}

impl Gateway {
    /// How a principal's sessions enter the server.
    fn entry(&self, principal: &Principal) -> &Entry {
        let found = self.roles.iter().find(|(groups, _)| groups.iter().any(|group| principal.groups.contains(group)));
        found.map_or(&self.entry, |(_, entry)| entry)
    }
}

/// Serves one connection to its end.
pub async fn serve(stream: TcpStream, peer: SocketAddr, gateway: Arc<Gateway>, mut place: Place) {
    let session_id = Uuid::now_v7();
    let span = tracing::info_span!("connection", session.id = %session_id, client.addr = %peer);
    // The session itself runs outside of the span, which would be entered and left for every message.
    if let Some((established, services)) = serve_in_span(stream, peer, session_id, &gateway, &mut place).instrument(span).await {
        driver::run(established, services).await;
    }
    drop(place);
}

async fn serve_in_span(
    stream: TcpStream,
    peer: SocketAddr,
    session_id: Uuid,
    gateway: &Gateway,
    place: &mut Place,
) -> Option<(Established, Services)> {
    // Without this small answers wait for the client's acknowledgements.
    let _ = stream.set_nodelay(true);
    let (stream, peer) = whose(stream, peer, gateway, place).await?;
    let known = tokio::select! {
        known = login(stream, gateway) => known,
        () = place.evicted() => {
            metrics::refused("too many logins");
            tracing::info!(client.addr = %peer, "a connection that had not shown a token yet was closed to make room for others");
            return None;
        }
    };
    let (mut greeted, verified) = known?;
    let admitted = match place.admit() {
        Ok(()) => admit(&mut greeted, gateway, verified).await,
        Err(error) => Err(Refusal { error, reason: "too many sessions" }),
    };
    match admitted {
        Ok(admitted) => Some(begin(greeted, peer, session_id, gateway, admitted)),
        Err(refusal) => {
            turn_away(greeted, refusal, gateway).await;
            None
        }
    }
}

/// The address the client has in truth.
async fn whose(mut stream: TcpStream, peer: SocketAddr, gateway: &Gateway, place: &mut Place) -> Option<(TcpStream, SocketAddr)> {
    if !gateway.proxies.iter().any(|network| network.contains(peer.ip())) {
        return Some((stream, peer));
    }
    let header = tokio::select! {
        header = timeout(gateway.settings.limits.startup, proxy_protocol::read(&mut stream)) => header,
        () = place.evicted() => {
            metrics::refused("too many logins");
            return None;
        }
    };
    match header {
        Ok(Ok(Some(client))) => {
            tracing::Span::current().record("client.addr", tracing::field::display(client));
            place.comes_from(client.ip());
            Some((stream, client))
        }
        Ok(Ok(None)) => Some((stream, peer)),
        Ok(Err(error @ proxy_protocol::HeaderError::Invalid(_))) => {
            metrics::refused("proxy header");
            tracing::warn!(client.addr = %peer, "connection refused: {error}");
            None
        }
        Ok(Err(proxy_protocol::HeaderError::Gone)) | Err(_) => {
            metrics::refused("closed before start-up");
            None
        }
    }
}

/// From the first byte to a good token. Who gets none is told why here.
async fn login(stream: TcpStream, gateway: &Gateway) -> Option<(Greeted<TcpStream>, Verified)> {
    let limit = gateway.settings.limits.startup;
    let Ok(greeting) = timeout(limit, startup::greet(stream, &gateway.transport)).await else {
        metrics::refused("start-up timeout");
        return None;
    };
    match greeting {
        Greeting::Gone { reason } => {
            metrics::refused(reason);
            tracing::debug!("no session: {reason}");
        }
        Greeting::Cancel { process_id, secret } => {
            metrics::cancel_request();
            gateway.cancels.cancel(process_id, &secret);
        }
        Greeting::Refused { io, error } => {
            metrics::refused("start-up packet");
            tracing::info!(error.code = error.code, "connection refused: {}", error.message);
            refuse(io, &error, limit).await;
        }
        Greeting::Session(greeted) => return identify(*greeted, gateway).await,
    }
    None
}

async fn identify(mut greeted: Greeted<TcpStream>, gateway: &Gateway) -> Option<(Greeted<TcpStream>, Verified)> {
    let limit = gateway.settings.limits.startup;
    let refusal = if gateway.drain.is_draining() {
        let error = ClientError::new(sqlstate::ADMIN_SHUTDOWN, "the gateway is shutting down").hint("connect again");
        Refusal { error, reason: "shutting down" }
    } else {
        match timeout(limit, authenticate(&mut greeted, gateway)).await {
            Ok(Ok(Some(verified))) => return Some((greeted, verified)),
            Ok(Ok(None)) => {
                metrics::refused("closed before the token");
                return None;
            }
            Ok(Err(refusal)) => refusal,
            Err(_) => {
                let error = ClientError::new(sqlstate::INVALID_AUTHORIZATION, format!("no token within {} s", limit.as_secs()));
                Refusal { error, reason: "start-up timeout" }
            }
        }
    };
    turn_away(greeted, refusal, gateway).await;
    None
}

async fn turn_away(greeted: Greeted<TcpStream>, Refusal { error, reason }: Refusal, gateway: &Gateway) {
    metrics::refused(reason);
    tracing::info!(error.code = error.code, client.user = %label(&greeted.parameters.user), "connection refused: {}", error.message);
    refuse(greeted.io, &error, gateway.settings.limits.startup).await;
}

async fn refuse(io: ClientIo, error: &ClientError, limit: std::time::Duration) {
    let _ = timeout(limit, startup::refuse(io, error)).await;
}

fn begin(
    greeted: Greeted<TcpStream>,
    peer: SocketAddr,
    session_id: Uuid,
    gateway: &Gateway,
    admitted: Admitted,
) -> (Established, Services) {
    let (established, services) = assemble(greeted, peer, session_id, gateway, admitted);
    tracing::info!(
        principal.issuer = %established.principal.issuer,
        principal.subject = %established.principal.subject,
        database = %established.database,
        client.tls = %established.client_tls,
        upstream.pid = established.upstream_cancel.process_id(),
        "session begins"
    );
    (established, services)
}

/// A connection that gets no session.
struct Refusal {
    error: ClientError,
    /// Metric label.
    reason: &'static str,
}

async fn authenticate(greeted: &mut Greeted<TcpStream>, gateway: &Gateway) -> Result<Option<Verified>, Refusal> {
    let protocol = |error| Refusal { error, reason: "protocol" };
    if !gateway.methods.oauth_bearer_for(&greeted.parameters.user) {
        let token = greeted.ask_for_token().await.map_err(protocol)?;
        let Some(token) = token else { return Ok(None) };
        return verify(&token, gateway).await.map(Some);
    }
    let refusal = match greeted.ask_for_bearer().await.map_err(protocol)? {
        None => return Ok(None),
        Some(Bearer::Token(token)) => match verify(&token, gateway).await {
            Ok(verified) => return Ok(Some(verified)),
            Err(refusal) => refusal,
        },
        Some(Bearer::Discovery) => {
            let error = ClientError::new(sqlstate::INVALID_AUTHORIZATION, "OAuth bearer authentication needs a token");
            Refusal { error, reason: "discovery" }
        }
    };
    greeted.tell_discovery(&gateway.discovery).await.map_err(protocol)?;
    Err(refusal)
}

async fn verify(token: &UnverifiedToken, gateway: &Gateway) -> Result<Verified, Refusal> {
    gateway.identity.verify(token).await.map_err(|error| Refusal { error: error.client(), reason: error.kind() })
}

/// A principal with a connection upstream.
struct Admitted {
    verified: Verified,
    database: String,
    /// By which the settings were judged, and the session begins.
    policy: Arc<Policy>,
    opening: Vec<Opening>,
    upstream: LoggedIn,
    upstream_user: String,
    services: Services,
}

async fn admit(greeted: &mut Greeted<TcpStream>, gateway: &Gateway, verified: Verified) -> Result<Admitted, Refusal> {
    let database = database(greeted, gateway)?;
    // The catalog first: without it nothing can be judged, and a session that cannot be judged must not begin.
    let entry = gateway.entry(&verified.principal);
    let catalog = entry.catalogs.of(&database).await.map_err(|error| {
        tracing::error!(database, "no session: {error}");
        Refusal { error: error.client(&database), reason: "upstream" }
    })?;
    let policy = gateway.policy.current();
    let opening = opening(&greeted.parameters.judged, &policy, &verified.principal, &database, &catalog)?;
    let request = LoginRequest {
        database: database.clone(),
        application_name: format!("countersign:{}", verified.principal.subject),
        settings: login_settings(&greeted.parameters.settings, policy.only_reads(&verified.principal, &database)),
        options: opening.iter().map(|setting| (setting.name().to_owned(), setting.value().to_owned())).collect(),
        asks_search_path: true,
    };
    let upstream = tokio::select! {
        login = entry.dialer.login(&request) => login.map_err(|error| {
            tracing::error!(database, "no session: {error}");
            Refusal { error: error.client_of(&request), reason: "upstream" }
        })?,
        // Clients that go away while the server is slow must not leave logins behind them.
        () = gone(greeted) => {
            return Err(Refusal { error: ClientError::new(sqlstate::CONNECTION_FAILURE, "the client went away"), reason: "closed before the session" });
        }
    };
    let services = Services {
        recorder: gateway.recorder.clone(),
        approvals: gateway.approvals.clone(),
        policy: gateway.policy.clone(),
        catalog,
        settings: Arc::clone(&gateway.settings),
        drain: gateway.drain.clone(),
    };
    let upstream_user = entry.dialer.settings().user.clone();
    Ok(Admitted { verified, database, policy, opening, upstream, upstream_user, services })
}

/// The settings of the start-up packet that are judged: each passes where the SET it stands for would run at once.
fn opening(
    asked: &[(String, String)],
    policy: &Policy,
    principal: &Principal,
    database: &str,
    catalog: &CatalogSource,
) -> Result<Vec<Opening>, Refusal> {
    let catalog = Arc::clone(&catalog.snapshot().catalog);
    let request = JudgeRequest {
        policy,
        principal,
        database,
        catalog: &catalog,
        state: &SessionState::default(),
        parameter_types: &[],
        now: driver::now_us() / 1_000_000,
    };
    let judged = asked.iter().map(|(name, value)| Opening::judge(name, value, &request));
    judged.collect::<Result<_, _>>().map_err(|denial| Refusal { error: ClientError::denied(denial), reason: "start-up setting" })
}

/// What the session asks for at login. Where the policy grants nothing but reads, the server is told so: every transaction is read-only, and
/// RESET and DISCARD lead back to that.
fn login_settings(asked: &[(String, String)], only_reads: bool) -> Vec<(String, String)> {
    const READ_ONLY: &str = "default_transaction_read_only";
    let mut settings = asked.to_vec();
    if only_reads {
        settings.retain(|(name, _)| name != READ_ONLY);
        settings.push((READ_ONLY.to_owned(), "on".to_owned()));
    }
    settings
}

/// The database a client gets: the one it names, or the only one there is.
fn database(greeted: &Greeted<TcpStream>, gateway: &Gateway) -> Result<String, Refusal> {
    let only = gateway.entry.dialer.settings().database.as_ref();
    match (&greeted.parameters.database, only) {
        (Some(named), Some(only)) if named != only => {
            let error = ClientError::new(sqlstate::NO_DATABASE, format!("database \"{}\" is not served here", label(named)))
                .hint(format!("connect to database \"{only}\""));
            Err(Refusal { error, reason: "database" })
        }
        (Some(named), _) => Ok(named.clone()),
        (None, Some(only)) => Ok(only.clone()),
        // As the server does.
        (None, None) => Ok(greeted.parameters.user.clone()),
    }
}

/// Resolves when the client closes its end. What it sends meanwhile is kept, up to a bound. Cancel-safe.
async fn gone(greeted: &mut Greeted<TcpStream>) {
    const MOST: usize = 64 * 1024;
    while greeted.buffer.len() < MOST {
        match greeted.io.read_buf(&mut greeted.buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    std::future::pending().await
}

fn assemble(
    greeted: Greeted<TcpStream>,
    peer: SocketAddr,
    session_id: Uuid,
    gateway: &Gateway,
    admitted: Admitted,
) -> (Established, Services) {
    let Admitted { verified, database, policy, opening, upstream, upstream_user, services } = admitted;
    let client_tls = match &greeted.io {
        ClientIo::Plain(_) => String::new(),
        ClientIo::Tls(stream) => tls_version(stream.get_ref().1.protocol_version()),
    };
    let settings = gateway.entry.dialer.settings();
    let secret_bytes = if greeted.minor >= 2 { 32 } else { 4 };
    let established = Established {
        session_id,
        client: greeted.io,
        client_buffer: greeted.buffer,
        protocol_minor: greeted.minor,
        upstream: upstream.io,
        upstream_buffer: upstream.buffer,
        principal: Arc::new(verified.principal),
        token_expires_at: verified.expires_at,
        database,
        upstream_user,
        parameters: upstream.parameters,
        search_path: upstream.search_path,
        policy,
        opening,
        cancel: gateway.cancels.register(secret_bytes, upstream.cancel.process_id()),
        upstream_cancel: upstream.cancel,
        client_addr: peer.to_string(),
        client_tls,
        upstream_addr: settings.address(),
        upstream_tls: upstream.tls,
        application: greeted.parameters.application,
        holding: greeted.parameters.holding,
        client_user: greeted.parameters.user,
    };
    (established, services)
}

/// The client's own words, fit for a log line.
fn label(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}
