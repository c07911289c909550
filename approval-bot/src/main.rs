//! `countersign-bot`: a Lambda where the runtime says so, else a command line with `serve` and `keygen`.
#![expect(clippy::print_stdout, reason = "a command line prints its results")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use countersign_bot::config::Settings;
use countersign_bot::{Bot, keygen, lambda, router, watch};
use lambda_runtime::{LambdaEvent, service_fn};
use tracing_subscriber::EnvFilter;

/// Shows approval requests to reviewers in Slack and signs their decisions.
///
/// Runs as a Lambda when AWS_LAMBDA_RUNTIME_API is set. Settings come from the environment: COUNTERSIGN_ENVIRONMENT, COUNTERSIGN_STORE
/// (dynamodb:TABLE or directory:PATH), COUNTERSIGN_SIGNER (kms:KEY or file:PATH), COUNTERSIGN_POLICY (file:PATH or s3://bucket/key),
/// SLACK_BOT_TOKEN and SLACK_SIGNING_SECRET (or SLACK_SECRET_ARN), SLACK_TEAM_ID, SLACK_APP_ID, SLACK_CHANNEL, SLACK_API_URL,
/// COUNTERSIGN_PUBLIC_URL.
#[derive(Parser)]
#[command(name = "countersign-bot", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve Slack's presses over plain HTTP and watch the store for requests, in place of Function URL and stream.
    Serve {
        /// Address to listen on. Put TLS in front when it is not loopback.
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// How often the store is looked at, in milliseconds.
        #[arg(long, default_value_t = 100)]
        watch_interval_ms: u64,
    },
    /// Write a new decision key: decision.key.pem for COUNTERSIGN_SIGNER, decision.pub.pem for the proxy's [approvals] keys.
    Keygen {
        /// Folder to write to.
        #[arg(long)]
        out: PathBuf,
    },
}

/// Slack waits for three seconds.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_millis(2_500);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line for the operator, with the causes and without a backtrace.
            tracing::error!(error = format!("{error:#}"), "countersign-bot cannot go on");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,aws_config=warn,aws_smithy_runtime=warn"));
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_writer(std::io::stderr).init();
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        let handler = lambda::Handler::new(open(None).await?);
        let serve = service_fn(move |event: LambdaEvent<serde_json::Value>| {
            let handler = handler.clone();
            async move { handler.handle(event.payload).await.map_err(lambda_runtime::Error::from) }
        });
        return lambda_runtime::run(serve).await.map_err(|error| anyhow::anyhow!("lambda runtime: {error}"));
    }
    match Cli::parse().command {
        Command::Serve { listen, watch_interval_ms } => serve(listen, Duration::from_millis(watch_interval_ms.max(10))).await,
        Command::Keygen { out } => {
            let (private, public) = keygen::keygen(&out)?;
            println!("{}\n{}", private.display(), public.display());
            Ok(())
        }
    }
}

async fn open(listen: Option<SocketAddr>) -> anyhow::Result<Bot> {
    let mut settings = Settings::from(|name| std::env::var(name).ok())?;
    if let Some(listen) = listen {
        settings = settings.reachable_at(format!("http://{listen}"));
    }
    let bot = settings.open().await?;
    tracing::info!(environment = %bot.environment, key.id = %bot.signer.kid(), slack.channel = %bot.settings.channel, "bot is ready");
    Ok(bot)
}

async fn serve(listen: SocketAddr, interval: Duration) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let listen = listener.local_addr()?;
    let bot = Bot { acknowledge_after: Some(ACKNOWLEDGE_AFTER), ..open(Some(listen)).await? };
    println!("listening on http://{listen}");
    let watcher = tokio::spawn(watch::watch(bot.clone(), interval));
    axum::serve(listener, router::router(bot)).with_graceful_shutdown(stopped()).await?;
    watcher.abort();
    Ok(())
}

async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
