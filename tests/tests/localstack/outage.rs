//! Services that fail while the gateway runs: the bucket, and Slack.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::client::{Gateway, Session, sqlstate};
use countersign_e2e::gateway::{Proxy, metric};
use countersign_e2e::scenario::{count, hold_on, recordings_verify};
use countersign_e2e::slack::{Fault, FaultKind};
use countersign_e2e::stack::Stack;
use futures_util::StreamExt as _;

use super::fault_proxy::{FaultProxy, Mode};
use super::{deployed, on_localstack};

async fn dba(stack: &Stack, gateway: &Gateway) -> Result<Session, tokio_postgres::Error> {
    let (user, token) = stack.principals.get("dba").map_or(("", ""), |dba| (dba.user.as_str(), dba.token.as_str()));
    gateway.connect(user, token).await
}

/// A query waits while the bucket is out, and goes on when it is back.
async fn waits_and_goes_on(stack: &Stack, gateway: &Gateway, faults: &FaultProxy, mode: Mode) -> Result<()> {
    let session = dba(stack, gateway).await?;
    faults.set(mode);
    let query = tokio::spawn(async move { session.query_one("select count(*) from accounts", &[]).await?.try_get::<_, i64>(0) });
    tokio::time::sleep(Duration::from_millis(700)).await;
    let finished = query.is_finished();
    faults.set(Mode::Pass);
    ensure!(!finished, "the query ended before its record was durable");
    ensure!(tokio::time::timeout(Duration::from_secs(30), query).await.context("it never went on")??? == 360, "another count");
    Ok(())
}

async fn readyz(proxy: &Proxy, wanted: u16, text: &str) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let (status, body) = proxy.probe("readyz").await?;
        if status == wanted && body.contains(text) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "/readyz: {status} {body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn nothing_shows_or_runs_while_the_bucket_is_out() -> Result<()> {
    on_localstack(|stack| async move {
        let (instance, _) = deployed(stack)?;
        let faults = FaultProxy::start(instance.address()?.to_string(), Mode::Pass).await?;
        let mut config = stack.config.clone();
        config.set("aws", "endpoint", faults.url()).set("recording", "retry_window_seconds", 5);
        let (proxy, gateway) = stack.another_proxy("outage", &config).await?;
        let modes = [Mode::Refuse, Mode::Stall, Mode::Reset, Mode::UNAVAILABLE, Mode::SLOW_DOWN, Mode::DENIED, Mode::SKEWED];
        for mode in &modes {
            waits_and_goes_on(stack, &gateway, &faults, mode.clone()).await.with_context(|| format!("{mode:?}"))?;
        }

        let (reader, writer) = (dba(stack, &gateway).await.context("reader")?, dba(stack, &gateway).await.context("writer")?);
        // Where nothing at all is answered, the window counts and not how long an attempt takes.
        faults.set(Mode::Stall);
        let read = async {
            let mut shown = 0_u32;
            let mut answers = Box::pin(reader.simple_query_raw("select id from accounts").await?);
            while let Some(answer) = answers.next().await {
                if matches!(answer?, tokio_postgres::SimpleQueryMessage::Row(_)) {
                    shown += 1;
                }
            }
            Ok::<_, tokio_postgres::Error>(shown)
        };
        let write = writer.simple_query("update ledger set note = 'unrecorded' where id = 220");
        let began = Instant::now();
        let (read, write) = tokio::join!(read, write);
        let waited = began.elapsed();
        let read = read.err().context("rows came out that were not durable")?;
        let write = write.err().context("a write ran that was not durable")?;
        ensure!(sqlstate(&read) == "58030" && sqlstate(&write) == "58030", "{read:?}, {write:?}");
        let text = read.as_db_error().map(tokio_postgres::error::DbError::message).unwrap_or_default();
        ensure!(text.contains("the recording of this session cannot be written"), "what the client is told: {text}");
        ensure!(waited >= Duration::from_secs(4), "it gave up after {waited:?}, before the window was over");
        ensure!(count(stack, "select count(*) from ledger where note = 'unrecorded'").await? == 0, "a write ran without a record");
        readyz(&proxy, 503, "recording").await?;
        let refused = dba(stack, &gateway).await.err().context("a session began that cannot be recorded")?;
        ensure!(sqlstate(&refused) == "58030", "{refused:?}");
        let complaints = proxy.log().lines().filter(|line| line.contains("the recording store fails")).count();
        // One that is over before a second attempt may pass unseen; the last does not.
        let outages = modes.len() + 1;
        ensure!((1..=outages).contains(&complaints), "one line for each of {outages} outages at most, not {complaints}");

        faults.set(Mode::Pass);
        readyz(&proxy, 200, "").await?;
        let session = dba(stack, &gateway).await.context("after the outage")?;
        ensure!(session.query_one("select count(*) from accounts", &[]).await?.try_get::<_, i64>(0)? == 360, "another count");
        drop((session, reader, writer));
        // While this gateway lives: it has the outage's sessions to seal.
        recordings_verify(stack).await
    })
}

/// `async` sessions go on while the bucket is out, the gateway says how much a crash would lose, and when the bucket is back all of it is recorded.
#[test]
fn async_sessions_go_on_and_say_how_much_may_be_lost() -> Result<()> {
    on_localstack(|stack| async move {
        let (instance, deployed) = deployed(stack)?;
        let faults = FaultProxy::start(instance.address()?.to_string(), Mode::Pass).await?;
        let mut config = stack.config.clone();
        config.set("aws", "endpoint", faults.url()).set("recording", "retry_window_seconds", 1).set("recording", "durability", "async");
        config.set("recording", "prefix", "async").set("recording", "digest_interval_seconds", 1);
        let (mut proxy, gateway) = stack.another_proxy("async-outage", &config).await?;
        let session = dba(stack, &gateway).await?;
        let pending = async || metric(&proxy.metrics_url(), "countersign_recorder_pending_bytes").await;
        faults.set(Mode::SLOW_DOWN);
        for _ in 0..20 {
            session.simple_query("select id, md5(id::text) from accounts limit 100").await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let lost = pending().await?.context("no metric")?;
        ensure!(lost > 1000.0, "what a crash would lose: {lost}");
        faults.set(Mode::Pass);
        let end = Instant::now() + Duration::from_secs(20);
        while pending().await?.context("no metric")? > 0.0 {
            ensure!(Instant::now() < end, "what waited is never stored");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        drop(session);
        proxy.process().stop();
        let audit = stack.audit().at(&format!("s3://{}/async", deployed.bucket));
        let verified = audit.verify(None).await?;
        ensure!(verified.status == 0, "{}\n{}", verified.stdout, verified.stderr);
        let found = audit.run("search", &["md5(id::text)", "--place", "statements"]).await?;
        ensure!(found.stdout.contains("20 hits in 1 sessions"), "{}", found.stdout);
        // The digests tell of the outage.
        let package = stack.dir().join("evidence-outage");
        let folder = package.display().to_string();
        let order = ["--since", "2020-01-01", "--until", "2100-01-01", "--out", &folder, "--kms-key", &deployed.recording_key];
        let made = audit.run("evidence", &order).await?;
        ensure!(made.status == 0, "{}", made.stderr);
        let outages = std::fs::read_to_string(package.join("outages.csv"))?;
        ensure!(outages.contains("store failed") && outages.contains("SlowDown"), "{outages}");
        Ok(())
    })
}

#[test]
fn slack_is_tried_again_until_it_answers() -> Result<()> {
    on_localstack(|stack| async move {
        stack.slack.add_fault(Fault { method: "chat.postMessage".to_owned(), times: 10_000, kind: FaultKind::Status(503) });
        let outcome = held_without_slack(stack).await;
        stack.slack.clear_faults();
        outcome
    })
}

async fn held_without_slack(stack: &'static Stack) -> Result<()> {
    let mut session = stack.connect("ci").await?;
    let (_, nobody) = tokio::sync::mpsc::unbounded_channel();
    let mut notices = std::mem::replace(&mut session.notices, nobody);
    let holding = tokio::spawn(hold_on(stack, session, "delete from ledger where id = 221"));
    tokio::time::timeout(Duration::from_secs(30), async {
        while let Some(notice) = notices.recv().await {
            if notice.message().contains("reviewers could not be notified") {
                return Ok(());
            }
        }
        anyhow::bail!("the connection ended")
    })
    .await
    .context("the client was not told")??;
    stack.proxy.wait_for_log("reviewers cannot see a request that waits", Duration::from_secs(5)).await?;
    stack.slack.clear_faults();
    let pending = holding.await??;
    let outcome = pending.press(stack, "approve", "U0DANA", None).await;
    ensure!(outcome.ok, "{outcome:?}");
    ensure!(pending.ended().await?.1? == 1, "one row");
    Ok(())
}
