//! The command line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use countersign_recording::{Limits, SessionId};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::export::{self, Format};
use crate::keys::TrustedKeys;
use crate::list::{self, Filter};
use crate::load::Archive;
use crate::show;
use crate::store::{Store, StoreAddress};
use crate::verify;

/// List, replay, verify and export Countersign's recordings. Reads only; trusts nothing but the public keys it is given.
#[derive(Debug, Parser)]
#[command(name = "countersign-audit", version, about)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Source {
    /// Where the recordings lie: directory:PATH or s3://bucket/prefix (AWS_ENDPOINT_URL is honoured)
    #[arg(long, global = true, env = "COUNTERSIGN_AUDIT_STORE")]
    store: Option<StoreAddress>,
    /// Folder of public keys (SPKI PEM): recording*.pem for recordings, decision*.pem for reviewers' decisions
    #[arg(long, global = true, env = "COUNTERSIGN_AUDIT_KEYS")]
    keys: Option<PathBuf>,
    /// A task that wrote nothing for so many minutes is taken to be gone
    #[arg(long, global = true, default_value_t = 60)]
    silence: u32,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List recordings
    List {
        /// Only sessions that began at or after this time (RFC 3339, or a day: 2026-05-17)
        #[arg(long, value_parser = time_us)]
        since: Option<i64>,
        /// Only sessions that began before this time
        #[arg(long, value_parser = time_us)]
        until: Option<i64>,
        /// Only sessions whose subject or e-mail address contains this
        #[arg(long)]
        principal: Option<String>,
        /// Only sessions on this database
        #[arg(long)]
        database: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print every event of a recording
    Show {
        /// Session id
        id: SessionId,
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Print a session as the client saw it, in its own time
    Replay {
        /// Session id
        id: SessionId,
        /// How many times faster
        #[arg(long, default_value_t = 1.0)]
        speed: f64,
        /// Longest pause, in seconds
        #[arg(long, default_value_t = 3.0)]
        longest: f64,
        /// Print without pauses
        #[arg(long)]
        no_wait: bool,
    },
    /// Verify recordings: exit status 0 when all hold, 1 when something does not, 2 when something could not be checked
    Verify {
        /// Session ids
        #[arg(required_unless_present = "all")]
        ids: Vec<SessionId>,
        /// Everything in the store, journals included
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a recording to a file
    Export {
        /// Session id
        id: SessionId,
        /// Form
        #[arg(long, value_enum)]
        format: Format,
        /// File to write; it must not exist
        #[arg(long)]
        out: PathBuf,
    },
}

/// Runs a command; the status for the shell. Messages for people go to standard error by way of the error.
///
/// # Errors
/// When something could not be done: exit status 2.
pub async fn run(arguments: Arguments, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let archive = archive(&arguments).await?;
    match arguments.command {
        Command::List { since, until, principal, database, json } => {
            let rows = list::rows(&archive, &Filter { since_us: since, until_us: until, principal, database }).await?;
            if json {
                serde_json::to_writer_pretty(&mut *out, &rows)?;
                writeln!(out)?;
            } else {
                list::table(&rows, out)?;
            }
        }
        Command::Show { id, json } => {
            let (session, _) = archive.load(id, false).await?;
            if json { export::jsonl(&session, out)? } else { show::show(&session, out)? }
        }
        Command::Replay { id, speed, longest, no_wait } => {
            if !(speed.is_finite() && speed > 0.0 && longest.is_finite() && longest >= 0.0) {
                bail!("--speed must be more than 0 and --longest at least 0");
            }
            let (session, _) = archive.load(id, false).await?;
            show::replay(&session, out, |us| {
                if !no_wait {
                    std::thread::sleep(Duration::from_micros(us).div_f64(speed).min(Duration::from_secs_f64(longest)));
                }
            })?;
        }
        Command::Verify { ids, all, json } => {
            let report = if all { verify::all(&archive).await? } else { verify::sessions(&archive, &ids).await? };
            if json {
                serde_json::to_writer_pretty(&mut *out, &report)?;
                writeln!(out)?;
            } else {
                report.write(out)?;
            }
            return Ok(ExitCode::from(report.exit_status()));
        }
        Command::Export { id, format, out: file } => {
            let (session, _) = archive.load(id, archive.has_keys()).await?;
            let verified = if archive.has_keys() { verify::sessions(&archive, &[id]).await?.sessions.pop() } else { None };
            let mut bytes = Vec::new();
            export::write(&session, verified.as_ref(), format, &mut bytes)?;
            let mut target = std::fs::File::create_new(&file).with_context(|| format!("cannot write {}", file.display()))?;
            target.write_all(&bytes).and_then(|()| target.sync_all()).with_context(|| format!("cannot write {}", file.display()))?;
            writeln!(out, "wrote {} ({} bytes)", file.display(), bytes.len())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn archive(arguments: &Arguments) -> anyhow::Result<Archive> {
    let address = arguments.source.store.as_ref().context("--store is missing: directory:PATH or s3://bucket/prefix")?;
    let keys = match &arguments.source.keys {
        Some(folder) => TrustedKeys::read(folder)?,
        None if matches!(arguments.command, Command::Verify { .. }) => {
            bail!("--keys is missing: nothing can be verified without the public keys")
        }
        None => TrustedKeys::default(),
    };
    if matches!(arguments.command, Command::Verify { .. }) && keys.recording.ids().next().is_none() {
        bail!("there is no public key of recordings among --keys: nothing can be verified without it");
    }
    let now_us = i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000)?;
    let silence_us = i64::from(arguments.source.silence).saturating_mul(60_000_000);
    Ok(Archive { store: Store::open(address).await, keys, limits: Limits::default(), now_us, silence_us })
}

fn time_us(text: &str) -> Result<i64, String> {
    let day = time::macros::format_description!("[year]-[month]-[day]");
    let parsed = OffsetDateTime::parse(text, &Rfc3339).or_else(|_| time::Date::parse(text, &day).map(|date| date.midnight().assume_utc()));
    let time = parsed.map_err(|_| "expected a time like 2026-05-17T08:00:00Z or a day like 2026-05-17".to_owned())?;
    i64::try_from(time.unix_timestamp_nanos() / 1000).map_err(|_| "a time out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times() {
        assert_eq!(time_us("1970-01-02"), Ok(86_400_000_000));
        assert_eq!(time_us("1970-01-01T01:00:01+01:00"), Ok(1_000_000));
        assert!(time_us("yesterday").is_err());
    }
}
