//! The whole process: check everything, start everything, open the ports, and end in order.
//!
//! No port opens before the configuration, the policy, the certificate, the recording store, the approval store and all keys have been
//! found good. What may be down for a while (the server, the issuer) is waited for; `/readyz` says so meanwhile.

use std::{
    io,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use countersign_masking::MaskKey;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::{net::TcpListener, runtime::Handle};

use crate::{
    approvals::Approvals,
    cancel::CancelRegistry,
    catalog::Catalogs,
    config::{Config, SecretError},
    connection::{Entry, Gateway},
    established::SessionSettings,
    health::{self, Admin, Readiness},
    identity::{IdentitySetupError, Verifier},
    listener::{self, STACK_BYTES, Workers},
    metrics,
    policy_source::{self, PolicyLoadError},
    recorder::{self, Recorder, RecorderConfig},
    shutdown::{self, Drain, Shutdown},
    startup::{Discovery, Transport, TransportError},
    upstream::{Dialer, LoginRequest, UpstreamSetupError},
};

/// How often the server is looked after when nobody connects.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// What sealing recordings may take after the last session.
const SEAL_TIME: Duration = Duration::from_secs(30);
/// What sessions may take to end once their time is over.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why the gateway does not start. Each is one line that says how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Threads or runtime.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
    /// A port.
    #[error("{key} {address}: cannot listen: {error} (is another process using the port?)")]
    Listen {
        /// Key of the configuration.
        key: &'static str,
        /// Address.
        address: std::net::SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The gateway's certificate.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The policy.
    #[error(transparent)]
    Policy(#[from] PolicyLoadError),
    /// TLS towards the server.
    #[error(transparent)]
    Upstream(#[from] UpstreamSetupError),
    /// Tokens.
    #[error(transparent)]
    Identity(#[from] IdentitySetupError),
    /// Recordings.
    #[error("recording: {0}")]
    Recording(String),
    /// Approvals.
    #[error("approvals: {0}")]
    Approvals(String),
    /// The mask key.
    #[error("mask.key: {0}")]
    MaskKey(String),
    /// Metrics.
    #[error("metrics: {0}")]
    Metrics(String),
}

impl From<SecretError> for ServeError {
    fn from(error: SecretError) -> Self {
        Self::MaskKey(error.to_string())
    }
}

/// Checks all that can be checked without opening a port or writing to a store: certificate, policy, authorities, mask key.
///
/// # Errors
/// The first fault.
pub async fn check(config: &Config) -> Result<(), ServeError> {
    Transport::new(&config.listen)?;
    policy_source::load(&config.policy, &config.aws).await?;
    entry(&config.upstream, config, &Arc::default())?;
    roles(config, &Arc::default())?;
    Verifier::new(&config.identity, Handle::current())?;
    mask_key(config).await?;
    Ok(())
}

/// Runs the gateway until it is told to end. Blocks.
///
/// # Errors
/// When it cannot start.
pub fn run(config: &Config) -> Result<(), ServeError> {
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build();
    let control = control.map_err(ServeError::Threads)?;
    let (shutdown, drain) = shutdown::channel();
    control.block_on(serve(config, shutdown, drain))?;
    control.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

async fn serve(config: &Config, shutdown: Shutdown, drain: Drain) -> Result<(), ServeError> {
    let metrics_handle = install_metrics()?;
    let readiness = Readiness::default();
    let gateway = Arc::new(assemble(config, &drain).await?);
    let bind = |key: &'static str, address| async move {
        TcpListener::bind(address).await.map_err(|error| ServeError::Listen { key, address, error })
    };
    let admin_port = bind("admin.address", config.admin.address).await?;
    let port = bind("listen.address", config.listen.address).await?;

    tokio::spawn(gateway.identity.clone().keep_fresh());
    tokio::spawn(gateway.transport.clone().keep_fresh(config.listen.tls_reload));
    readiness.bad("upstream", "not reached yet");
    tokio::spawn(look_after_upstream(Arc::clone(&gateway), readiness.clone()));
    tokio::spawn(look_after_recordings(gateway.recorder.clone(), readiness.clone()));
    tokio::spawn(look_after_approvals(gateway.approvals.clone(), readiness.clone()));
    let admin = Admin { metrics: metrics_handle.clone(), readiness, identity: gateway.identity.clone(), drain: drain.clone() };
    tokio::spawn(async move {
        if let Err(error) = health::serve(admin_port, admin).await {
            tracing::error!("admin server ended: {error}");
        }
    });
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            metrics_handle.run_upkeep();
        }
    });
    tokio::spawn(wait_for_signals(shutdown, config.limits.drain));

    let workers = Workers::start(config.runtime.threads, &gateway).map_err(ServeError::Threads)?;
    tracing::info!(
        listen.address = port.local_addr().ok().map(|address| address.to_string()),
        listen.tls = config.listen.tls.is_some(),
        upstream.address = %config.upstream.address(),
        environment = %config.environment,
        recording.durability = config.recording.durability.as_str(),
        runtime.threads = config.runtime.threads,
        version = env!("CARGO_PKG_VERSION"),
        "countersign is listening"
    );
    listener::accept(port, &workers, &config.limits, drain.clone()).await;
    end(workers, &gateway, drain).await;
    Ok(())
}

/// Waits for the sessions, then for their recordings.
async fn end(workers: Workers, gateway: &Gateway, mut drain: Drain) {
    tracing::info!("draining: no new sessions");
    let joined = tokio::task::spawn_blocking(move || workers.join());
    let deadline = async {
        drain.expired().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        _ = joined => tracing::info!("all sessions ended"),
        () = deadline => tracing::warn!("sessions were still open when their time was over"),
    }
    if gateway.recorder.shutdown(SEAL_TIME).await {
        tracing::info!("all recordings sealed");
    } else {
        tracing::error!("not all recordings could be sealed; any other task or an auditor can seal them from the journal");
    }
}

async fn assemble(config: &Config, drain: &Drain) -> Result<Gateway, ServeError> {
    let transport = Transport::new(&config.listen)?;
    let changes = Arc::default();
    let (entry, roles) = (entry(&config.upstream, config, &changes)?, roles(config, &changes)?);
    let identity = Verifier::new(&config.identity, Handle::current())?;
    let mask_key = mask_key(config).await?;
    let (policy, reloader) = policy_source::load(&config.policy, &config.aws).await?;
    // Asking the SDK for its configuration already asks the network; machines without AWS are not asked to.
    let aws = if config.uses_aws() { Some(config.aws.sdk_config().await) } else { None };
    let recording = |error: recorder::StartError| ServeError::Recording(error.to_string());
    let store = recorder::open_store(&config.recording.store, aws.as_ref()).await.map_err(recording)?;
    let approvals = Approvals::start(&config.approvals, aws.as_ref(), Arc::clone(&store)).await;
    let approvals = approvals.map_err(|error| ServeError::Approvals(error.to_string()))?;
    // Last, because it writes: a start that fails must not leave locked objects behind each time.
    let recorder = Recorder::over(RecorderConfig::new(&config.environment, &config.recording), store, aws.as_ref()).await;
    let recorder = recorder.map_err(recording)?;
    tokio::spawn(reloader.run());
    let settings = SessionSettings {
        environment: config.environment.clone(),
        durability: config.recording.durability,
        mask_key,
        limits: config.limits.clone(),
        max_session: config.identity.max_session,
    };
    Ok(Gateway {
        transport,
        proxies: config.listen.proxies.clone(),
        identity,
        entry,
        roles,
        methods: config.identity.methods.clone(),
        discovery: Discovery::new(config.identity.discovery_url(), config.identity.oauth_scope.clone()),
        cancels: CancelRegistry::default(),
        recorder,
        approvals,
        policy,
        settings: Arc::new(settings),
        drain: drain.clone(),
    })
}

/// The server as one service role enters it.
fn entry(settings: &crate::config::Upstream, config: &Config, changes: &Arc<AtomicU64>) -> Result<Entry, ServeError> {
    let dialer = Dialer::new(settings, &config.aws)?;
    Ok(Entry { catalogs: Catalogs::new(dialer.clone(), Handle::current(), Arc::clone(changes)), dialer })
}

fn roles(config: &Config, changes: &Arc<AtomicU64>) -> Result<Vec<(Vec<String>, Entry)>, ServeError> {
    let roles = config.upstream.roles.iter();
    roles.map(|role| Ok((role.groups.clone(), entry(&config.upstream.entered_as(role), config, changes)?))).collect()
}

/// 32 bytes in hex. Without one configured, hashes are made under a key of this process alone.
async fn mask_key(config: &Config) -> Result<MaskKey, ServeError> {
    let mut bytes = [0_u8; 32];
    match &config.mask_key {
        Some(secret) => {
            let value = secret.read(&config.aws).await?;
            hex::decode_to_slice(value.expose().trim(), &mut bytes)
                .map_err(|_| ServeError::MaskKey("must be 32 bytes in hex, 64 digits (make one with `openssl rand -hex 32`)".to_owned()))?;
        }
        None => rand::Rng::fill(&mut rand::rng(), &mut bytes),
    }
    Ok(MaskKey::new(bytes))
}

fn install_metrics() -> Result<metrics_exporter_prometheus::PrometheusHandle, ServeError> {
    let fault = |error: metrics_exporter_prometheus::BuildError| ServeError::Metrics(error.to_string());
    let seconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &seconds).map_err(fault)?;
    let handle = builder.install_recorder().map_err(fault)?;
    metrics::describe();
    Ok(handle)
}

/// Notes whether the server can be reached and its catalog read, so that faults show before a client finds them.
async fn look_after_upstream(gateway: Arc<Gateway>, readiness: Readiness) {
    loop {
        let result = match &gateway.entry.dialer.settings().database {
            Some(database) => gateway.entry.catalogs.of(database).await.map(|_| ()).map_err(|error| error.to_string()),
            None => {
                let request = LoginRequest {
                    database: "postgres".to_owned(),
                    application_name: "countersign:probe".to_owned(),
                    ..LoginRequest::default()
                };
                gateway.entry.dialer.login(&request).await.map(|_| ()).map_err(|error| error.to_string())
            }
        };
        match result {
            Ok(()) => {
                let _news = readiness.good("upstream");
            }
            Err(error) => {
                if readiness.bad("upstream", &error) {
                    tracing::error!("upstream is not ready: {error}");
                }
            }
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

/// Notes whether recordings can be kept: at once when puts fail, and beyond that by looking at the store as often as at the server.
async fn look_after_recordings(recorder: Recorder, readiness: Readiness) {
    const WHAT: &str = "recording";
    let mut looked: Option<Instant> = None;
    loop {
        let failing = recorder.failing_for().is_some();
        if failing || !readiness.is_good(WHAT) || looked.is_none_or(|at| at.elapsed() >= PROBE_INTERVAL) {
            looked = Some(Instant::now());
            let result = recorder.check().await.map_err(|error| error.to_string());
            // Puts that fail have said so themselves.
            note(&readiness, WHAT, result, !failing);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Notes whether approvals can be asked for.
async fn look_after_approvals(approvals: Approvals, readiness: Readiness) {
    loop {
        let result = approvals.check().await.map_err(|error| error.to_string());
        let pause = if result.is_ok() { PROBE_INTERVAL } else { Duration::from_secs(1) };
        note(&readiness, "approvals", result, true);
        tokio::time::sleep(pause).await;
    }
}

fn note(readiness: &Readiness, what: &'static str, result: Result<(), String>, say: bool) {
    match result {
        Ok(()) => {
            if readiness.good(what) {
                tracing::info!("{what} store is ready again");
            }
        }
        Err(error) => {
            if say && readiness.is_good(what) {
                tracing::error!("{what} store is not ready: {error}");
            }
            readiness.bad(what, error);
        }
    }
}

/// The first SIGTERM or SIGINT drains; a second one ends the grace.
async fn wait_for_signals(shutdown: Shutdown, grace: Duration) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("cannot listen for signals; the gateway can only be killed");
        return std::future::pending().await;
    };
    for grace in [grace, Duration::ZERO] {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!(drain.seconds = grace.as_secs(), "asked to end");
        shutdown.begin(grace);
    }
    // The sender must live as long as anybody may wait for it.
    std::future::pending().await
}
