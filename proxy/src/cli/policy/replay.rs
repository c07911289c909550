//! `policy replay`: a new policy over recorded sessions. Says which decisions would come out otherwise.
//!
//! Each recorded statement is judged again, in the order of its session, for the principal the recording names. What the session did
//! (search path, prepared statements, cursors) is followed as it was then; the catalog is the snapshot at hand, not that of the day.
#![expect(clippy::print_stdout, reason = "a command line's answer goes to standard output")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;
use countersign_audit::keys::TrustedKeys;
use countersign_audit::load::{Archive, Session};
use countersign_audit::opening::OpeningKeys;
use countersign_audit::store::{Store, StoreAddress};
use countersign_policy::{Catalog, JudgeRequest, Policy, Principal, SessionState, judge};
use countersign_recording::v1::event::Verdict as Recorded;
use countersign_recording::{Event, Limits};
use serde::Serialize;

use super::explain::verdict_name;

/// Arguments of `policy replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The new policy.
    #[arg(long)]
    policy: PathBuf,
    /// Where the recordings are: `directory:PATH` or `s3://bucket/prefix`.
    #[arg(long)]
    store: StoreAddress,
    /// Folder of public keys, as `countersign-audit` takes it. Without them only sealed sessions are judged, and nothing is proved of them.
    #[arg(long)]
    keys: Option<PathBuf>,
    /// A catalog snapshot (JSON) of the database the sessions were on.
    #[arg(long)]
    catalog: Option<PathBuf>,
    /// Only sessions that began on these days (`yyyy/mm/dd`).
    #[arg(long = "day")]
    days: Vec<String>,
    /// Print JSON, one object a line for each change, then one with the totals.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    opening: OpeningKeys,
}

/// A decision that would come out otherwise.
#[derive(Debug, Serialize)]
struct Changed {
    session: String,
    statement: u64,
    subject: String,
    was: &'static str,
    was_rule: String,
    would_be: &'static str,
    rule: String,
    sql: String,
}

#[derive(Debug, Default, Serialize)]
struct Totals {
    sessions: usize,
    statements: usize,
    changed: usize,
    /// Statements that could not be judged again: sealed, and not all opening keys were given.
    sealed: usize,
    /// Sessions whose beginning could not be read.
    unreadable: usize,
    /// Journal objects that could not be read or are not proved genuine: sessions that are not sealed may be missing.
    doubtful_journals: usize,
    /// `was -> would be`: how many.
    by_kind: BTreeMap<String, usize>,
}

/// Runs the command, on a thread with the stack that judging needs.
pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let policy = super::load_policy(&args.policy)?;
    let catalog = super::load_catalog(args.catalog.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(replay(args, &policy, &catalog))
}

async fn replay(args: &ReplayArgs, policy: &Policy, catalog: &Catalog) -> anyhow::Result<ExitCode> {
    if let StoreAddress::Directory(path) = &args.store {
        ensure!(path.is_dir(), "{} is not a directory: --store names the folder or bucket that `[recording]` writes to", path.display());
    }
    let now_us = i64::try_from(super::now()).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    let archive = Archive {
        opener: args.opening.read().await?,
        store: Store::open(&args.store).await,
        keys: match &args.keys {
            Some(folder) => TrustedKeys::read(folder)?,
            None => TrustedKeys::default(),
        },
        limits: Limits::default(),
        now_us,
        silence_us: i64::MAX,
        doubts: countersign_audit::load::Doubts::default(),
    };
    let days = (!args.days.is_empty()).then_some(args.days.as_slice());
    let mut sessions = archive.sessions(days).await.context("listing the recordings")?;
    let journals = archive.journals(|_| true).await.context("reading the journals")?;
    if days.is_none() {
        for session in journals.sessions() {
            sessions.entry(session).or_default();
        }
    }
    ensure!(!sessions.is_empty(), "no recorded session there: nothing was judged");
    let mut totals = Totals { doubtful_journals: journals.findings().len(), ..Totals::default() };
    for (id, keys) in sessions {
        let session = archive.assemble(id, keys, &journals).await.with_context(|| format!("reading session {id}"))?;
        let events = readable(session, &mut totals);
        for changed in again(&id.to_string(), &events, policy, catalog, &mut totals) {
            if args.json {
                println!("{}", serde_json::to_string(&changed)?);
            } else {
                println!(
                    "{} statement {} by {}: {} ({}) would be {} ({}): {}",
                    changed.session,
                    changed.statement,
                    changed.subject,
                    changed.was,
                    changed.was_rule,
                    changed.would_be,
                    changed.rule,
                    changed.sql
                );
            }
        }
    }
    if args.json {
        println!("{}", serde_json::to_string(&totals)?);
    } else {
        println!("{} sessions, {} statements, {} decisions would change", totals.sessions, totals.statements, totals.changed);
        for (kind, count) in &totals.by_kind {
            println!("  {kind}: {count}");
        }
        if totals.sealed > 0 {
            println!(
                "  not judged: {} sealed statements; give every opening key (--open-key, --open-kms-key, --open-share)",
                totals.sealed
            );
        }
        if totals.unreadable > 0 {
            println!("  not judged: {} sessions whose beginning cannot be read; `countersign-audit verify` says why", totals.unreadable);
        }
        if totals.doubtful_journals > 0 {
            println!(
                "  not judged: sessions that are still open or were never sealed, since {}",
                if args.keys.is_some() {
                    "journals are damaged; `countersign-audit verify --all` says which"
                } else {
                    "journals are read only with --keys"
                }
            );
        }
        if args.catalog.is_none() {
            println!("  no --catalog was given: every table, view and function of users is unknown, which decides most statements");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The events that can be judged again; counts what cannot.
fn readable(session: Session, totals: &mut Totals) -> Vec<Event> {
    totals.sessions += 1;
    let closed: Vec<bool> = session.events.iter().map(|(raw, _)| session.is_closed(raw.number)).collect();
    let mut events = Vec::new();
    for ((_, event), closed) in session.events.into_iter().zip(closed) {
        match event {
            Some(Event::Statement { .. }) if closed => totals.sealed += 1,
            Some(event) => events.push(event),
            None => {}
        }
    }
    if !matches!(events.first(), Some(Event::SessionStart(_))) {
        totals.unreadable += 1;
    }
    events
}

/// Judges the statements of one session again.
fn again(id: &str, events: &[Event], policy: &Policy, catalog: &Catalog, totals: &mut Totals) -> Vec<Changed> {
    let mut changes = Vec::new();
    let Some(Event::SessionStart(start)) = events.first() else { return changes };
    let principal = Principal {
        issuer: start.issuer.clone(),
        subject: start.subject.clone(),
        email: start.email.clone(),
        groups: start.groups.iter().cloned().collect(),
        claims: start.claims.iter().cloned().collect(),
    };
    let mut state = SessionState::new(&principal, &start.database, &[]);
    let mut texts = BTreeMap::new();
    for event in events {
        match event {
            Event::Statement { statement, text, parameters, .. } => {
                let types: Vec<u32> = parameters.iter().map(|parameter| parameter.type_oid).collect();
                texts.insert(*statement, (String::from_utf8_lossy(text).into_owned(), types));
            }
            Event::Decision { statement, verdict, rule, .. } => {
                let Some((sql, types)) = texts.get(statement) else { continue };
                let request = JudgeRequest {
                    policy,
                    principal: &principal,
                    database: &start.database,
                    catalog,
                    state: &state,
                    parameter_types: types,
                    now: super::now(),
                };
                let judgement = judge(sql, &request);
                totals.statements += 1;
                let (was, would_be) = (recorded_name(*verdict), verdict_name(&judgement.verdict));
                if was != would_be || *rule != judgement.rule {
                    let kind = if was == would_be { format!("{was} by another rule") } else { format!("{was} -> {would_be}") };
                    *totals.by_kind.entry(kind).or_default() += 1;
                }
                if was != would_be {
                    totals.changed += 1;
                    changes.push(Changed {
                        session: id.to_owned(),
                        statement: *statement,
                        subject: principal.subject.clone(),
                        was,
                        was_rule: rule.clone(),
                        would_be,
                        rule: judgement.rule.clone(),
                        sql: one_line(sql),
                    });
                }
                if was != "deny" {
                    state.forwarded(&judgement);
                }
            }
            _ => {}
        }
    }
    changes
}

const fn recorded_name(verdict: Recorded) -> &'static str {
    match verdict {
        Recorded::Allow => "allow",
        Recorded::Deny => "deny",
        Recorded::Hold => "hold",
    }
}

/// The beginning of a text, on one line and without control characters.
fn one_line(sql: &str) -> String {
    let text: Vec<&str> = sql.split_whitespace().collect();
    let mut line: String = text.join(" ").chars().filter(|c| !c.is_control()).take(120).collect();
    if line.len() < sql.trim().len() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use bytes::Bytes;
    use countersign_recording::v1::event::SessionStart;

    fn session(texts: &[(&str, Recorded, &str)]) -> Vec<Event> {
        let mut events = vec![Event::SessionStart(SessionStart {
            upstream_pid: 0,
            session: "s".into(),
            environment: "e".into(),
            build: "b".into(),
            issuer: "i".into(),
            subject: "job".into(),
            email: None,
            groups: vec!["ci".into()],
            claims: Vec::new(),
            client_addr: String::new(),
            client_tls: String::new(),
            upstream_addr: String::new(),
            upstream_tls: String::new(),
            upstream_user: String::new(),
            database: "bank".into(),
            application: String::new(),
            policy: [0; 32],
            durability: "strict".into(),
        })];
        for (statement, (sql, verdict, rule)) in (1..).zip(texts) {
            let text = Bytes::copy_from_slice(sql.as_bytes());
            events.push(Event::Statement { statement, extended: false, text, parameters: Vec::new(), digest: [0; 32] });
            let facts = String::new();
            events.push(Event::Decision { statement, verdict: *verdict, rule: (*rule).into(), policy: [0; 32], facts });
        }
        events
    }

    #[test]
    fn what_would_change_is_told() {
        let policy = "version = 1\n[[rules]]\nname = \"reads\"\nwho = { groups = [\"ci\"] }\nwhat = { kinds = [\"read\", \"session\"] }\naction = \"allow\"\n";
        let policy = Policy::parse(policy).unwrap();
        let catalog = super::super::load_catalog(None).unwrap();
        let events = session(&[
            ("select 1", Recorded::Allow, "reads"),
            ("select nextval('s')", Recorded::Allow, "old"),
            ("show timezone", Recorded::Deny, "old"),
            ("prepare p as select 2", Recorded::Allow, "reads"),
            ("execute p", Recorded::Allow, "reads"),
        ]);
        let mut totals = Totals::default();
        let changes = again("s", &events, &policy, &catalog, &mut totals);
        let told: Vec<(u64, &str, &str)> = changes.iter().map(|change| (change.statement, change.was, change.would_be)).collect();
        assert_eq!(told, [(2, "allow", "deny"), (3, "deny", "allow")]);
        assert_eq!((totals.statements, totals.changed), (5, 2));
    }
}
