//! `countersign-proxy`: the gateway's command line.

#![expect(clippy::print_stdout, reason = "the command line speaks on stdout")]

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use countersign_proxy::{config::Config, logging, serve};

/// A message costs a dozen small allocations; this allocator takes them with less work than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A PostgreSQL gateway that decides statement by statement, holds the risky ones for reviewers, masks and records.
#[derive(Debug, Parser)]
#[command(name = "countersign-proxy", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve {
        /// Configuration file (docs/configuration.md)
        #[arg(long, value_name = "FILE", env = "COUNTERSIGN_CONFIG")]
        config: PathBuf,
    },
    /// Check a configuration and the policy, certificates and secrets it names, without opening a port
    CheckConfig {
        /// Configuration file
        #[arg(long, value_name = "FILE", env = "COUNTERSIGN_CONFIG")]
        config: PathBuf,
    },
    /// List the requests that wait for reviewers
    Pending {
        /// Configuration file
        #[arg(long, value_name = "FILE", env = "COUNTERSIGN_CONFIG")]
        config: PathBuf,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Pre-approved templates
    Template(countersign_proxy::cli::template::TemplateArgs),
    /// Check, explain and test policies
    Policy(countersign_proxy::cli::policy::PolicyArgs),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve { config } => run(&config),
        Command::CheckConfig { config } => check(&config),
        Command::Pending { config, json } => countersign_proxy::cli::pending::run(&config, json),
        Command::Template(args) => countersign_proxy::cli::template::run(args),
        Command::Policy(args) => countersign_proxy::cli::policy::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            fail(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(path: &std::path::Path) -> anyhow::Result<ExitCode> {
    logging::start();
    let config = Config::load(path)?;
    serve::run(&config)?;
    Ok(ExitCode::SUCCESS)
}

fn check(path: &std::path::Path) -> anyhow::Result<ExitCode> {
    let config = Config::load(path)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve::check(&config))?;
    println!("{}: ok", path.display());
    Ok(ExitCode::SUCCESS)
}

/// One line: JSON where a log collector reads it, plain where a person does.
fn fail(error: &anyhow::Error) {
    if std::io::stderr().is_terminal() || !tracing::enabled!(tracing::Level::ERROR) {
        eprintln!("countersign-proxy: {error:#}");
    } else {
        tracing::error!("cannot start: {error:#}");
    }
}
