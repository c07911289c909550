//! Kills a gateway with SIGKILL at random moments under load, round after round, and holds what is recorded against what happened: every row
//! in the database and every row a client received must be in a recording that verifies.
//!
//! `COUNTERSIGN_KILL_SECONDS` says how long (25 by default), `COUNTERSIGN_KILL_SEED` repeats a run.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tokio_postgres::SimpleQueryMessage;

use crate::audit::Audit;
use crate::client::{Gateway, Session};
use crate::gateway::Config;
use crate::process::Signal;
use crate::stack::{Principal, Stack};

/// Clients at once.
const CLIENTS: u64 = 6;

/// What clients have in their hands.
#[derive(Debug, Default)]
struct Received(Mutex<BTreeSet<String>>);

impl Received {
    fn add(&self, row: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(row);
    }

    fn all(&self) -> BTreeSet<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How a series of kills went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Rounds.
    pub rounds: u64,
    /// Rows that clients' statements left in the database.
    pub effects: usize,
    /// Rows that clients received.
    pub rows: usize,
    /// Sessions.
    pub sessions: usize,
}

/// How long the rounds go on.
#[must_use]
pub fn duration() -> Duration {
    let seconds = std::env::var("COUNTERSIGN_KILL_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(25))
}

/// Kills gateways of this configuration until the time is over. `by_hand` seals with the auditors' tool what it is given; the rest is left to
/// the gateway of the next round. `name` keeps series apart.
///
/// # Errors
/// Something that happened is not recorded, or a recording does not verify.
pub async fn series(stack: &Stack, name: &str, config: &Config, audit: &Audit, by_hand: &[&str]) -> Result<Outcome> {
    let seed = std::env::var("COUNTERSIGN_KILL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random::<u32>);
    let mut random = StdRng::seed_from_u64(u64::from(seed));
    let mut config = config.clone();
    config.set("recording", "digest_interval_seconds", 1).set("recording", "orphan_after_seconds", 3);
    let dba = stack.principal("dba")?;
    let received = Arc::new(Received::default());
    let mut outcome = Outcome::default();
    let mut known = BTreeSet::new();
    let mut recorded = String::new();
    let end = Instant::now() + duration();
    while Instant::now() < end || outcome.rounds < 3 {
        let round = outcome.rounds;
        let context = || format!("COUNTERSIGN_KILL_SEED={seed}, series {name}, round {round}");
        let (mut proxy, gateway) = stack.another_proxy(&format!("{name}-{round}"), &config).await.with_context(context)?;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let marker = format!("{name}-{round}-{client}");
                tokio::spawn(load(gateway.clone(), dba.clone(), marker, random.random(), Arc::clone(&received)))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1500))).await;
        proxy.process().signal(Signal::Kill);
        for client in clients {
            client.await.with_context(context)?;
        }
        proxy.process().wait(Duration::from_secs(10))?;

        let verified = audit.verify(None).await?;
        ensure!(verified.status != 1, "{}:\n{}\n{}", context(), verified.stdout, verified.stderr);
        recorded.push_str(&new_recordings(audit, &mut known).await.with_context(context)?);
        complete(stack, name, &received, &recorded, &mut outcome).await.with_context(context)?;
        if round % 2 == 1 && !by_hand.is_empty() {
            let sealed = audit.run("seal", &[&["--silence", "0"][..], by_hand].concat()).await?;
            ensure!(sealed.status == 0, "{}: seal says {}\n{}", context(), sealed.stdout, sealed.stderr);
        }
        outcome.rounds += 1;
    }
    outcome.sessions = known.len();
    ensure!(outcome.effects > 0 && outcome.rows > 0, "seed {seed}: nothing happened in {} rounds", outcome.rounds);

    // One gateway that lives seals whatever is left of all that died.
    let (proxy, _) = stack.another_proxy(&format!("{name}-last"), &config).await?;
    let limit = Instant::now() + Duration::from_secs(60);
    while !audit.sessions().await?.iter().all(|session| text(session, "state") == "sealed") {
        ensure!(Instant::now() < limit, "seed {seed}: orphans were not sealed; the gateway says\n{}", proxy.log());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    drop(proxy);
    let verified = audit.verify(None).await?;
    ensure!(verified.status == 0, "seed {seed}, all sealed:\n{}\n{}", verified.stdout, verified.stderr);
    Ok(outcome)
}

/// Works until the connection breaks.
async fn load(gateway: Gateway, who: Principal, marker: String, seed: u64, received: Arc<Received>) {
    let mut random = StdRng::seed_from_u64(seed);
    let Ok(session) = gateway.connect(&who.user, &who.token).await else { return };
    for step in 0_u64.. {
        let marker = format!("{marker}-{step}");
        if work(&session, &marker, &mut random, &received).await.is_err() {
            return;
        }
    }
}

async fn work(session: &Session, marker: &str, random: &mut StdRng, received: &Received) -> Result<(), tokio_postgres::Error> {
    match random.random_range(0..5) {
        0 => session.batch_execute(&format!("insert into kills values ('{marker}', 'simple')")).await,
        1 => session.execute("insert into kills values ($1, 'extended')", &[&marker]).await.map(|_| ()),
        2 => {
            let two = format!(
                "begin; insert into kills values ('{marker}-a', 'block'); insert into kills values ('{marker}-b', 'block'); commit"
            );
            for statement in two.split("; ") {
                session.batch_execute(statement).await?;
            }
            Ok(())
        }
        3 => {
            let inserted = session.query("insert into kills values ($1, 'returning') returning marker || '!'", &[&marker]).await?;
            inserted.iter().filter_map(|row| row.try_get(0).ok()).for_each(|row| received.add(row));
            Ok(())
        }
        _ => {
            // Read as they come: those before the end count, too.
            let count = random.random_range(1..200);
            let query = format!("select '{marker}:' || id from transactions order by id limit {count}");
            let mut rows = Box::pin(session.simple_query_raw(&query).await?);
            while let Some(row) = rows.next().await {
                if let SimpleQueryMessage::Row(row) = row? {
                    received.add(row.get(0).unwrap_or_default().to_owned());
                }
            }
            Ok(())
        }
    }
}

/// Every event of the sessions that were not known, as JSON lines.
async fn new_recordings(audit: &Audit, known: &mut BTreeSet<String>) -> Result<String> {
    let mut all = String::new();
    for session in audit.sessions().await? {
        let id = text(&session, "session");
        if known.insert(id.clone()) {
            let shown = audit.run("show", &[&id, "--json"]).await?;
            ensure!(shown.status == 0, "show {id}: {}", shown.stderr);
            all.push_str(&shown.stdout);
            all.push('\n');
        }
    }
    Ok(all)
}

/// What is in the database or in a client's hands is in a recording.
async fn complete(stack: &Stack, name: &str, received: &Received, recorded: &str, outcome: &mut Outcome) -> Result<()> {
    let oracle = stack.upstream.oracle().await?;
    let rows = oracle.query("select marker from kills where marker like $1 || '-%'", &[&name]).await?;
    let effects: BTreeSet<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let (texts, strings) = recorded_strings(recorded);
    for marker in &effects {
        // In the text of a statement, or as the value of a parameter.
        ensure!(texts.contains(&format!("'{marker}'")) || strings.contains(marker.as_str()), "the effect {marker} is in no recording");
    }
    let received = received.all();
    for row in &received {
        ensure!(strings.contains(row.as_str()), "a client received the row {row}, which is in no recording");
    }
    (outcome.effects, outcome.rows) = (effects.len(), received.len());
    Ok(())
}

/// All statement texts, and all values of parameters and rows.
fn recorded_strings(recorded: &str) -> (String, BTreeSet<String>) {
    let (mut texts, mut strings) = (String::new(), BTreeSet::new());
    for line in recorded.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        collect(&line, &mut texts, &mut strings);
    }
    (texts, strings)
}

fn collect(value: &Value, texts: &mut String, strings: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.contains("kills values") => texts.push_str(text),
        Value::String(text) => {
            strings.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts, strings)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, texts, strings)),
        _ => {}
    }
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
