//! How long it takes from a reviewer's press until the statement goes to the server, on LocalStack with the Lambda and the stream, and
//! where the time goes. The first byte goes out between the grant's use and the client's result, which are both measured. Prints medians;
//! no test depends on them.

#![expect(clippy::print_stdout, reason = "a command line program")]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use countersign_e2e::localstack::LocalStack;
use countersign_e2e::scenario::{self, Pending};
use countersign_e2e::stack::{Stack, StackOptions};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Measures presses.
#[derive(Debug, Parser)]
struct Arguments {
    /// Presses that are measured, after two that warm up.
    #[arg(long, default_value_t = 25)]
    presses: usize,
    /// The directory store and the bot as a program, in place of LocalStack.
    #[arg(long)]
    local: bool,
}

/// Milliseconds from the press.
#[derive(Debug, Default)]
struct Parts {
    answered: Vec<f64>,
    seen: Vec<f64>,
    used: Vec<f64>,
    client: Vec<f64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Blocks, outside of the runtime.
    let localstack = if arguments.local { None } else { Some(Arc::new(LocalStack::start()?)) };
    tokio::runtime::Runtime::new()?.block_on(run(&arguments, localstack))
}

async fn run(arguments: &Arguments, localstack: Option<Arc<LocalStack>>) -> Result<()> {
    let stack = Stack::start(StackOptions { localstack, show_build: true, ..scenario::options() }, &|step| println!("{step}")).await?;
    let mut parts = Parts::default();
    for n in 0..arguments.presses + 2 {
        let measured = measure(&stack, 300 + n).await?;
        println!("press {n}: {}", measured.iter().map(|part| format!("{part:.0}")).collect::<Vec<_>>().join(" "));
        if n >= 2 {
            let [answered, seen, used, client] = measured;
            parts.answered.push(answered);
            parts.seen.push(seen);
            parts.used.push(used);
            parts.client.push(client);
        }
    }
    println!("\nms from the press (median, 90th percentile) over {} presses", arguments.presses);
    for (name, figures) in [
        ("bot has answered Slack", &mut parts.answered),
        ("proxy has verified the quorum", &mut parts.seen),
        ("grant used up in table and bucket", &mut parts.used),
        ("client has its result", &mut parts.client),
    ] {
        figures.sort_by(f64::total_cmp);
        let at = |share: usize| figures.get(figures.len() * share / 100).copied().unwrap_or_default();
        println!("{name:36} {:7.0} {:7.0}", at(50), at(90));
    }
    Ok(())
}

async fn measure(stack: &Stack, id: usize) -> Result<[f64; 4]> {
    let pending: Pending = scenario::hold(stack, "ci", &format!("delete from ledger where id = {id}")).await?;
    let request = pending.request.clone();
    // Somewhere within the proxy's rounds.
    tokio::time::sleep(Duration::from_millis(300 + u64::try_from(id * 37 % 200)?)).await;
    let pressed = now()?;
    let pressing = pending.press(stack, "approve", "U0DANA", None);
    let outcome = pressing.await;
    ensure!(outcome.ok, "{outcome:?}");
    let (_session, result) = pending.ended().await?;
    let client = now()?;
    ensure!(result? == 1, "one row");
    let log = stack.proxy.log();
    let logged = |message: &str| -> Result<f64> {
        let mut lines = log.lines().filter(|line| line.contains(&request) && line.contains(message));
        let line: Value = serde_json::from_str(lines.next_back().with_context(|| format!("the proxy's log does not say `{message}`"))?)?;
        let time = line.get("timestamp").and_then(Value::as_str).context("no timestamp")?;
        let time = OffsetDateTime::parse(time, &Rfc3339)?;
        let micros = u64::try_from(time.unix_timestamp_nanos() / 1_000)?;
        Ok(Duration::from_micros(micros).as_secs_f64())
    };
    let since = |at: f64| (at - pressed) * 1_000.0;
    let answered = Duration::from_millis(outcome.took_ms).as_secs_f64() * 1_000.0;
    Ok([answered, since(logged("quorum verified")?), since(logged("grant used up")?), since(client)])
}

fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}
