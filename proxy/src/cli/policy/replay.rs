//! `policy replay`: a new policy over recorded sessions. Says which decisions would come out otherwise.
//!
//! Each recorded statement is judged again, in the order of its session, for the principal the recording names. What the session did
//! (search path, prepared statements, cursors) is followed as it was then; the catalog is the snapshot at hand, not that of the day.
#![expect(clippy::print_stdout, reason = "a command line's answer goes to standard output")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use countersign_audit::keys::TrustedKeys;
use countersign_audit::load::Archive;
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
    /// A catalog snapshot (JSON) of the database the sessions were on.
    #[arg(long)]
    catalog: Option<PathBuf>,
    /// Only sessions that began on these days (`yyyy/mm/dd`).
    #[arg(long = "day")]
    days: Vec<String>,
    /// Print JSON, one object a line for each change, then one with the totals.
    #[arg(long)]
    json: bool,
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
    let now_us = i64::try_from(super::now()).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    let archive = Archive {
        opener: countersign_audit::opening::Opener::default(),
        store: Store::open(&args.store).await,
        keys: TrustedKeys::default(),
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
    let mut totals = Totals::default();
    for (id, keys) in sessions {
        let session = archive.assemble(id, keys, &journals).await.with_context(|| format!("reading session {id}"))?;
        let events: Vec<Event> = session.events.into_iter().map_while(|(_, event)| event).collect();
        totals.sessions += 1;
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
    }
    Ok(ExitCode::SUCCESS)
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
