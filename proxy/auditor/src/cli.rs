//! The command line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use countersign_recording::{Keys, Limits, SessionId};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::evidence::{self, Order};
use crate::export::{self, Format};
use crate::keys::TrustedKeys;
use crate::list::{self, Filter};
use crate::load::{Archive, Doubts};
use crate::opening::OpeningKeys;
use crate::reconcile::{self, Sources};
use crate::replay::{self, NoKeys, Pace, Terminal};
use crate::seal::Signer;
use crate::search::{Pattern, Place};
use crate::store::{Store, StoreAddress};
use crate::verify;
use crate::{hold, seal, search, show};

/// List, search, replay, verify and export Countersign's recordings. Trusts nothing but the public keys it is given; only `seal` and `hold` write to
/// the store, and never over anything.
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
    #[command(flatten)]
    opening: OpeningKeys,
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
        /// Only sessions whose subject or e-mail address contains this, in whatever case
        #[arg(long)]
        principal: Option<String>,
        /// Only sessions on this database
        #[arg(long)]
        database: Option<String>,
        /// Only sessions with at least one of these
        #[arg(long, value_enum)]
        decision: Option<list::Decision>,
        /// Only sessions that read or wrote this table (schema.table, or the table alone)
        #[arg(long)]
        table: Option<String>,
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
    /// Print a session as the client saw it, in its own time; in a terminal, keys pause, search and change the speed
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
        /// Begin where this text is first said or shown
        #[arg(long)]
        from: Option<String>,
    },
    /// Verify recordings: exit status 0 when all hold, 1 when something does not, 2 when something could not be checked
    Verify {
        /// Session ids
        #[arg(required_unless_present = "all")]
        ids: Vec<SessionId>,
        /// Everything in the store, journals included
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        /// With --all: a file of this tool's own, kept where the operator cannot reach it, that says how far digests and journals went the last
        /// time. What it names must still be there; when nothing is wrong it is written anew
        #[arg(long, requires = "all")]
        anchor: Option<PathBuf>,
        /// With --all: the deployment (`environment` of its gateways) whose recordings belong here; any other's are named
        #[arg(long, requires = "all")]
        environment: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Find text in statements, parameters, results and messages
    Search {
        /// Text to find, whatever its case
        pattern: String,
        /// The text is a regular expression, which heeds case
        #[arg(long)]
        regex: bool,
        /// Where to look
        #[arg(long, value_enum, default_value = "all")]
        place: Place,
        /// Only sessions that began at or after this time
        #[arg(long, value_parser = time_us)]
        since: Option<i64>,
        /// Only sessions that began before this time
        #[arg(long, value_parser = time_us)]
        until: Option<i64>,
        /// Only sessions whose subject or e-mail address contains this, in whatever case
        #[arg(long)]
        principal: Option<String>,
        /// Only sessions on this database
        #[arg(long)]
        database: Option<String>,
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Compare recordings with what Postgres says happened: exit status 1 when something ran around the gateway, 2 when the sources do not say
    Reconcile {
        /// Log files of the server, csvlog, written with log_statement = all
        #[arg(long, num_args = 1..)]
        csvlog: Vec<PathBuf>,
        /// CSV with a head: pid, usename, datname, backend_start, client_addr, application_name of pg_stat_activity
        #[arg(long)]
        activity: Option<PathBuf>,
        /// CSV with a head: rolname, datname, query, calls of pg_stat_statements
        #[arg(long)]
        statements: Option<PathBuf>,
        /// A role that only the gateway uses
        #[arg(long = "role", required = true)]
        roles: Vec<String>,
        /// Only server sessions that began at or after this time
        #[arg(long, value_parser = time_us)]
        since: Option<i64>,
        /// Only server sessions that began before this time
        #[arg(long, value_parser = time_us)]
        until: Option<i64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Set or lift the legal hold of sessions and of all that proves them (S3)
    Hold {
        /// Session ids
        #[arg(required = true)]
        ids: Vec<SessionId>,
        /// Lift it
        #[arg(long)]
        off: bool,
    },
    /// Seal sessions whose gateway task died and that no other task has sealed
    Seal {
        /// Session ids; with none given, every orphan
        ids: Vec<SessionId>,
        #[command(flatten)]
        signer: Signer,
    },
    /// Make a signed package of evidence for a period: populations, samples, exceptions, retention, and which control they support
    Evidence {
        /// Begin of the period (RFC 3339, or a day: 2026-05-17)
        #[arg(long, value_parser = time_us)]
        since: i64,
        /// End of the period
        #[arg(long, value_parser = time_us)]
        until: i64,
        /// Folder to make; it must not exist
        #[arg(long)]
        out: PathBuf,
        /// Seed of the samples
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many of each population
        #[arg(long, default_value_t = 25)]
        samples: usize,
        /// Try to delete an object and to shorten its retention, which the store must refuse
        #[arg(long)]
        try_deletion: bool,
        #[command(flatten)]
        signer: Signer,
    },
    /// Check a package of evidence: its signature and every file in it; exit status 1 when something does not hold
    CheckEvidence {
        /// Folder
        folder: PathBuf,
        /// Public key (SPKI PEM) that signed it
        #[arg(long)]
        public_key: PathBuf,
    },
    /// Print what was sealed in a recording; needs every opening key, or shares of those that others hold. Exit status 2 when something stays sealed
    Open {
        /// Session id
        id: SessionId,
        /// Write what the keys given unwrap to this file, for the holder of another key, and print nothing
        #[arg(long)]
        shares_out: Option<PathBuf>,
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
    if let Command::CheckEvidence { folder, public_key } = &arguments.command {
        return check_evidence(folder, public_key, out);
    }
    let archive = archive(&arguments).await?;
    let shows = !matches!(arguments.command, Command::Evidence { .. } | Command::Hold { .. } | Command::Seal { .. });
    match arguments.command {
        Command::CheckEvidence { .. } => {}
        Command::Evidence { since, until, out: folder, seed, samples, try_deletion, signer } => {
            let order = Order { since_us: since, until_us: until, seed, samples, try_deletion };
            evidence::make(&archive, order, &signer, &folder, out).await?;
        }
        Command::List { since, until, principal, database, decision, table, json } => {
            let filter = Filter { since_us: since, until_us: until, principal, database, decision, table };
            let rows = list::rows(&archive, &filter).await?;
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
        Command::Replay { id, speed, longest, no_wait, from } => {
            if !(speed.is_finite() && speed > 0.0 && longest.is_finite() && longest >= 0.0) {
                bail!("--speed must be more than 0 and --longest at least 0");
            }
            let (session, _) = archive.load(id, false).await?;
            let pace = Pace { speed, longest: Duration::from_secs_f64(longest), no_wait, from };
            // Waiting and reading keys must not keep the runtime from its work; nothing else is left for it to do.
            match Terminal::open().filter(|_| !no_wait) {
                Some(mut keys) => replay::replay(&session, pace, &mut keys, true, out)?,
                None => replay::replay(&session, pace, &mut NoKeys, false, out)?,
            }
        }
        Command::Verify { ids, all, anchor, environment, json } => {
            let report = match (all, anchor) {
                (true, Some(file)) => anchored(&archive, &file, environment.as_deref()).await?,
                (true, None) => verify::all_since(&archive, None, environment.as_deref()).await?.0,
                (false, _) => verify::sessions(&archive, &ids).await?,
            };
            let told = if json { pretty(&report, out) } else { report.write(out) };
            return concluded(told, report.exit_status());
        }
        Command::Search { pattern, regex, place, since, until, principal, database, json } => {
            let pattern = Pattern::new(&pattern, regex)?;
            let filter = Filter { since_us: since, until_us: until, principal, database, ..Filter::default() };
            let mut hits = 0_u64;
            let sessions = search::search(&archive, &filter, &pattern, place, |hit| {
                hits = hits.saturating_add(1);
                if json {
                    serde_json::to_writer(&mut *out, &hit)?;
                    writeln!(out)?;
                } else {
                    search::write(&hit, out)?;
                }
                Ok(())
            })
            .await?;
            if !json {
                writeln!(out, "{hits} hits in {sessions} sessions")?;
            }
        }
        Command::Reconcile { csvlog, activity, statements, roles, since, until, json } => {
            let sources = Sources { csvlog, activity, statements, roles };
            let outcome = reconcile::reconcile(&archive, &sources, since, until).await?;
            let told = if json { pretty(&outcome, out) } else { reconcile::write(&outcome, out) };
            return concluded(told, outcome.exit_status());
        }
        Command::Hold { ids, off } => hold::hold(&archive, &ids, !off, out).await?,
        Command::Seal { ids, signer } => {
            let count = seal::seal(&archive, &ids, &signer, out).await?;
            writeln!(out, "{count} sessions sealed")?;
        }
        Command::Open { id, shares_out } => return open(&archive, id, shares_out.as_deref(), out).await,
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
    Ok(if shows { doubted(&archive) } else { ExitCode::SUCCESS })
}

fn pretty(value: &impl serde::Serialize, out: &mut dyn Write) -> std::io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// A verdict stands, however much of the report its reader wanted to see.
fn concluded(told: std::io::Result<()>, status: u8) -> anyhow::Result<ExitCode> {
    match told {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::from(status)),
    }
}

/// Says on standard error what was met and is not what the keys vouch for.
fn doubted(archive: &Archive) -> ExitCode {
    let doubts = archive.doubts.lines();
    let mut stderr = std::io::stderr().lock();
    for line in &doubts {
        // Nothing is left to be told where that cannot be written.
        let _ = writeln!(stderr, "NOT PROVED {}", crate::text::visible(line, false));
    }
    if doubts.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

/// Prints what was sealed.
async fn open(archive: &Archive, id: SessionId, shares_out: Option<&Path>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    if archive.opener.is_empty() {
        bail!("no opening key: give --open-key, --open-kms-key or --open-share");
    }
    let (session, _) = archive.load(id, false).await?;
    if let Some(file) = shares_out {
        let count = archive.opener.write_shares(&session, file).await?;
        writeln!(out, "wrote {count} shares to {}: give the file to the holder of the other key, and to nobody else", file.display())?;
        return Ok(ExitCode::SUCCESS);
    }
    show::opened(&session, out)?;
    Ok(if session.sealed.values().all(|sealed| sealed.closed.is_none()) { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn check_evidence(folder: &Path, public_key: &Path, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let pem = std::fs::read_to_string(public_key).with_context(|| format!("cannot read {}", public_key.display()))?;
    let mut keys = Keys::new();
    keys.add_pem(&pem).with_context(|| format!("public key {}", public_key.display()))?;
    let (package, wrong) = evidence::check(folder, &keys)?;
    for line in &wrong {
        writeln!(out, "wrong      {}", crate::text::visible(line, false))?;
    }
    match package {
        Some(package) => {
            let (files, wrong) = (package.files.len(), wrong.len());
            writeln!(out, "{files} files, {wrong} wrong; {} to {}, made {}", package.since, package.until, package.made)?;
        }
        None => writeln!(out, "the list of files is not what that key signed: no file was looked at")?,
    }
    Ok(ExitCode::from(u8::from(!wrong.is_empty())))
}

/// Verifies everything against what was noted the last time, and notes how it is now unless something is wrong.
async fn anchored(archive: &Archive, file: &Path, environment: Option<&str>) -> anyhow::Result<verify::VerifyReport> {
    let before = match std::fs::read(file) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).with_context(|| format!("{} is no anchor", file.display()))?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let (report, now) = verify::all_since(archive, before.as_ref(), environment).await?;
    if report.exit_status() != 1 {
        let fresh = file.with_extension("new");
        let write = std::fs::write(&fresh, serde_json::to_vec_pretty(&now)?).and_then(|()| std::fs::rename(&fresh, file));
        write.with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(report)
}

async fn archive(arguments: &Arguments) -> anyhow::Result<Archive> {
    let address = arguments.source.store.as_ref().context("--store is missing: directory:PATH or s3://bucket/prefix")?;
    let keys = match &arguments.source.keys {
        Some(folder) => TrustedKeys::read(folder)?,
        None if matches!(arguments.command, Command::Verify { .. } | Command::Seal { .. } | Command::Evidence { .. }) => {
            bail!("--keys is missing: nothing can be verified without the public keys")
        }
        None => TrustedKeys::default(),
    };
    if matches!(arguments.command, Command::Verify { .. }) && keys.recording.ids().next().is_none() {
        bail!("there is no public key of recordings among --keys: nothing can be verified without it");
    }
    let now_us = i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000)?;
    let silence_us = i64::from(arguments.source.silence).saturating_mul(60_000_000);
    let opener = arguments.source.opening.read().await?;
    Ok(Archive {
        store: Store::open(address).await,
        keys,
        opener,
        limits: Limits::default(),
        now_us,
        silence_us,
        doubts: Doubts::default(),
    })
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
