//! `./run bench-recording`: what `strict` costs against `async`, and how many PUTs both make, before a bucket whose every PUT takes 20 ms.
//!
//! The bucket is a stand-in that only counts and waits: what is measured is the gateway, not a store. These figures compare, they do not judge: no
//! test depends on them.

#![expect(clippy::print_stdout, reason = "a command line program")]

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use clap::Parser;
use countersign_e2e::cluster::find_program;
use countersign_e2e::stack::{Stack, StackOptions};

/// Compares `strict` with `async`.
#[derive(Debug, Parser)]
struct Arguments {
    /// Milliseconds of one PUT.
    #[arg(long, default_value_t = 20)]
    put_ms: u64,
    /// Seconds of one run.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Sessions, one run for each.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,128")]
    clients: Vec<u32>,
    /// Scale of pgbench's tables. TPC-B is left out for more sessions than that: they would wait for each other's row locks and not for the recording.
    #[arg(long, default_value_t = 40)]
    scale: u32,
    /// Only modes with this in their name.
    #[arg(long, default_value = "")]
    only: String,
}

/// Name, pgbench's own flags, script.
const MODES: [(&str, &[&str], Option<&str>); 5] = [
    ("TPC-B", &["-M", "simple"], None),
    ("select-only", &["-S", "-M", "simple"], None),
    (
        "one insert, autocommit",
        &["-M", "simple"],
        Some("insert into pgbench_history (tid, bid, aid, delta, mtime) values (1, 1, 1, 1, now());\n"),
    ),
    ("1000 rows", &["-M", "simple"], Some("select aid, bid, abalance, filler from pgbench_accounts limit 1000;\n")),
    ("20 writes in a transaction", &["-M", "simple"], Some("\\set aid random(1, 100000)\nbegin;\nWRITEScommit;\n")),
];

/// A bucket that takes its time.
#[derive(Debug)]
struct SlowBucket {
    put: Duration,
    puts: AtomicU64,
    bytes: AtomicU64,
}

async fn answer(State(bucket): State<Arc<SlowBucket>>, request: Request) -> (StatusCode, String) {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let (method, body) = (request.method().clone(), request.into_body());
    if method == Method::PUT {
        let body = axum::body::to_bytes(body, 1 << 30).await.unwrap_or_default();
        tokio::time::sleep(bucket.put).await;
        bucket.puts.fetch_add(1, Ordering::Relaxed);
        bucket.bytes.fetch_add(u64::try_from(body.len()).unwrap_or(0), Ordering::Relaxed);
        return (StatusCode::OK, String::new());
    }
    if query.contains("object-lock") {
        let locked = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
        return (StatusCode::OK, locked.to_owned());
    }
    if query.contains("list-type") {
        return (StatusCode::OK, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>".to_owned());
    }
    (StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>".to_owned())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let bucket = Arc::new(SlowBucket { put: Duration::from_millis(arguments.put_ms), puts: AtomicU64::new(0), bytes: AtomicU64::new(0) });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let router = Router::new().fallback(answer).with_state(Arc::clone(&bucket));
    tokio::spawn(async move { axum::serve(listener, router).await });

    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/bench.toml");
    let options =
        StackOptions { policy: Some(policy), plaintext: true, pgbench: Some(arguments.scale), show_build: true, ..StackOptions::default() };
    let mut stack = Stack::start(options, &|step| println!("{step}")).await?;
    // What the SDK asks for before it asks for anything.
    for (name, value) in [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_EC2_METADATA_DISABLED", "true")] {
        stack.environment.push((name.to_owned(), value.to_owned()));
    }
    println!("\ntransactions/s and PUTs/s, each PUT {} ms\n", arguments.put_ms);
    println!("{:<28}{:>9}{:>12}{:>12}{:>8}{:>14}{:>14}", "", "sessions", "async", "strict", "ratio", "async PUT/s", "strict PUT/s");
    let mut rows: Vec<(&str, u32, f64, f64)> = Vec::new();
    for (name, flags, script) in MODES.into_iter().filter(|(name, ..)| name.contains(&arguments.only)) {
        for &clients in arguments.clients.iter().filter(|clients| name != "TPC-B" || **clients <= arguments.scale) {
            let mut figures = Vec::new();
            for durability in ["async", "strict"] {
                let mut config = stack.config.clone();
                config.set("recording", "store", "s3").set("recording", "bucket", "slow").set("recording", "retention_days", 1);
                config.set("recording", "durability", durability).unset("recording", "path");
                config.set("aws", "endpoint", endpoint.as_str()).set("aws", "region", "us-east-1");
                let (_proxy, gateway) = stack.another_proxy(&format!("bench-{durability}"), &config).await?;
                let (before, began) = (bucket.puts.load(Ordering::Relaxed), Instant::now());
                let tps = pgbench(&stack, gateway.port, flags, script, clients, arguments.seconds).await?;
                let puts = bucket.puts.load(Ordering::Relaxed).saturating_sub(before);
                figures.push((tps, f64::from(u32::try_from(puts)?) / began.elapsed().as_secs_f64()));
            }
            if let [(relaxed, relaxed_puts), (strict, strict_puts)] = figures.as_slice() {
                let ratio = strict / relaxed;
                println!("{name:<28}{clients:>9}{relaxed:>12.0}{strict:>12.0}{ratio:>8.2}{relaxed_puts:>14.1}{strict_puts:>14.1}");
                rows.push((name, clients, ratio, *strict_puts));
            }
        }
    }
    summary(&rows);
    println!("\n{} PUTs, {} MiB", bucket.puts.load(Ordering::Relaxed), bucket.bytes.load(Ordering::Relaxed) >> 20);
    Ok(())
}

/// What is asked of the recorder: `strict` by `async` with 32 sessions, and PUTs that do not grow with sessions.
fn summary(rows: &[(&str, u32, f64, f64)]) {
    println!();
    for (name, _, ratio, _) in rows.iter().filter(|(_, clients, ..)| *clients == 32) {
        println!("{name:<28} strict is {:>3.0} % of async with 32 sessions", ratio * 100.0);
    }
    for (name, ..) in MODES {
        let puts: Vec<String> =
            rows.iter().filter(|(of, ..)| *of == name).map(|(_, clients, _, puts)| format!("{puts:.0} with {clients}")).collect();
        if !puts.is_empty() {
            println!("{name:<28} strict PUT/s: {}", puts.join(", "));
        }
    }
}

async fn pgbench(stack: &Stack, port: u16, flags: &[&str], script: Option<&str>, clients: u32, seconds: u32) -> Result<f64> {
    let dba = stack.principals.get("dba").context("no dba")?;
    let mut command = tokio::process::Command::new(find_program("pgbench")?);
    command.args(flags);
    if let Some(script) = script {
        let writes = "update pgbench_accounts set abalance = abalance + 1 where aid = :aid;\n".repeat(20);
        let file = stack.dir().join("script.sql");
        std::fs::write(&file, script.replace("WRITES", &writes))?;
        command.arg("--file").arg(file);
    }
    let output = command
        .args([
            "--no-vacuum",
            if clients > 1 { "--jobs=2" } else { "--jobs=1" },
            &format!("--client={clients}"),
            &format!("--time={seconds}"),
        ])
        .args(["--host=127.0.0.1", &format!("--port={port}"), &format!("--username={}", dba.user), &stack.upstream.database])
        .env("PGPASSWORD", &dba.token)
        .env("PGSSLMODE", "disable")
        .stdin(Stdio::null())
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "pgbench failed: {}{text}", String::from_utf8_lossy(&output.stderr));
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")).and_then(|rest| rest.split(' ').next());
    let said = || format!("pgbench printed no tps: {}{text}", String::from_utf8_lossy(&output.stderr));
    Ok(tps.with_context(said)?.parse()?)
}
