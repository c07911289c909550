//! Every way a session ends: the client goes, the server goes, a time is over, the gateway is told to stop. What the client is told, what is
//! left at the server, and that the recording has an end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::client::{Gateway, sqlstate};
use countersign_e2e::cluster::Cluster;
use countersign_e2e::gateway::{Config, Proxy};
use countersign_e2e::process::Signal;
use countersign_e2e::scenario::{on_shared, recordings_sealed, wait_for_count};
use countersign_e2e::stack::Stack;
use tokio::net::TcpStream;

use crate::raw::{Raw, message, query, shown};

async fn backend(raw: &mut Raw) -> Result<String> {
    raw.run("select pg_backend_pid()").await?.pop().context("no backend")
}

/// How the newest session of the recordings ended.
async fn newest_end(stack: &Stack) -> Result<String> {
    recordings_sealed(stack).await?;
    let sessions = stack.audit().sessions().await?;
    let newest = sessions.iter().max_by_key(|session| session.get("session").and_then(|id| id.as_str()).map(str::to_owned));
    Ok(newest.map(ToString::to_string).unwrap_or_default())
}

async fn proxy_with(stack: &Stack, name: &str, change: impl FnOnce(&mut Config)) -> Result<(Proxy, Gateway)> {
    let mut config = stack.config.clone();
    change(&mut config);
    stack.another_proxy(name, &config).await
}

#[test]
fn a_client_that_goes_leaves_nothing_at_the_server() -> Result<()> {
    on_shared(|stack| async move {
        let token = &stack.principal("dba")?.token;
        // In the midst of a transaction that holds a lock, without a goodbye.
        let mut raw = Raw::login(&stack.gateway, token).await?;
        let pid = backend(&mut raw).await?;
        raw.run("begin").await?;
        raw.run("update ledger set note = note where id = 7").await?;
        drop(raw);
        wait_for_count(stack, &format!("select count(*) from pg_stat_activity where pid = {pid}"), 0).await?;
        ensure!(newest_end(stack).await?.contains("client gone"), "{}", newest_end(stack).await?);
        // In the midst of a message.
        let mut raw = Raw::login(&stack.gateway, token).await?;
        let pid = backend(&mut raw).await?;
        raw.send(query("select 1").get(..7).unwrap_or_default()).await?;
        drop(raw);
        wait_for_count(stack, &format!("select count(*) from pg_stat_activity where pid = {pid}"), 0).await?;
        // With a goodbye.
        let mut raw = Raw::login(&stack.gateway, token).await?;
        let pid = backend(&mut raw).await?;
        raw.send(&message(b'X', b"")).await?;
        ensure!(raw.last_words().await?.is_none());
        wait_for_count(stack, &format!("select count(*) from pg_stat_activity where pid = {pid}"), 0).await?;
        ensure!(newest_end(stack).await?.contains("client terminated"), "{}", newest_end(stack).await?);
        Ok(())
    })
}

#[test]
fn a_terminated_backend_ends_its_session_in_the_servers_words() -> Result<()> {
    on_shared(|stack| async move {
        let token = &stack.principal("dba")?.token;
        let oracle = stack.upstream.oracle().await?;
        for statement in [None, Some("select pg_sleep(602)")] {
            let mut raw = Raw::login(&stack.gateway, token).await?;
            let mut other = Raw::login(&stack.gateway, token).await?;
            let pid = backend(&mut raw).await?;
            if let Some(sql) = statement {
                raw.send(&query(sql)).await?;
                wait_for_count(stack, &format!("select count(*) from pg_stat_activity where query = '{sql}' and state = 'active'"), 1)
                    .await?;
            }
            oracle.execute(&format!("select pg_terminate_backend({pid})"), &[]).await?;
            raw.ends_with("57P01").await?;
            ensure!(other.run("select 1").await? == ["1"], "another session must live on");
        }
        Ok(())
    })
}

#[test]
fn a_server_that_restarts_is_found_again() -> Result<()> {
    on_shared(|stack| async move {
        let mut cluster = Cluster::start(stack.authority()).await?;
        let server = cluster.server().clone();
        let secret = stack.dir().join("restart-password");
        countersign_e2e::pki::write_secret(&secret, &server.password)?;
        let (proxy, gateway) = proxy_with(stack, "restart", |config| {
            let file = toml::Value::Table([("file".to_owned(), secret.display().to_string().into())].into_iter().collect());
            config.set("upstream", "port", i64::from(server.port)).set("upstream", "password", file);
        })
        .await?;
        let token = &stack.principal("dba")?.token;
        let (mut idle, mut busy) = (Raw::login(&gateway, token).await?, Raw::login(&gateway, token).await?);
        busy.send(&query("select pg_sleep(603)")).await?;
        let oracle = server.oracle().await?;
        let end = Instant::now() + Duration::from_secs(30);
        while oracle
            .query_one("select count(*) from pg_stat_activity where query = 'select pg_sleep(603)'", &[])
            .await?
            .try_get::<_, i64>(0)?
            == 0
        {
            ensure!(Instant::now() < end, "it never ran");
        }
        drop(oracle);
        cluster.stop();
        for raw in [&mut idle, &mut busy] {
            let code = raw.last_words().await?.and_then(|last| last.get(&'C').cloned()).unwrap_or_default();
            ensure!(["57P01", "57P02", "08006"].contains(&code.as_str()), "{code}");
        }
        let error = gateway.connect("ci", token).await.err().context("it got in without a server")?;
        ensure!(["08006", "57P03"].contains(&sqlstate(&error).as_str()), "{error:?}");
        cluster.start_again().await?;
        let mut raw = Raw::login(&gateway, token).await.context("the server is back")?;
        ensure!(raw.run("select 1").await? == ["1"]);
        drop((raw, proxy));
        Ok(())
    })
}

#[test]
fn idle_sessions_end_and_busy_ones_do_not() -> Result<()> {
    on_shared(|stack| async move {
        let (proxy, gateway) = proxy_with(stack, "idle", |config| {
            config.set("limits", "idle_seconds", 1);
        })
        .await?;
        let token = &stack.principal("dba")?.token;
        let mut busy = Raw::login(&gateway, token).await?;
        busy.send(&query("select pg_sleep(3)")).await?;
        let mut idle = Raw::login(&gateway, token).await?;
        let mut open = Raw::login(&gateway, token).await?;
        open.run("begin").await?;
        idle.ends_with("57P05").await?;
        open.ends_with("25P03").await?;
        let (tags, error) = busy.answer().await?;
        ensure!(tags == "TDCZ" && error.is_none(), "a statement that runs is not idle: {tags} {error:?}");
        busy.ends_with("57P05").await?;
        drop(proxy);
        Ok(())
    })
}

#[test]
fn a_held_statement_is_not_idle() -> Result<()> {
    on_shared(|stack| async move {
        let (proxy, gateway) = proxy_with(stack, "idle-hold", |config| {
            config.set("limits", "idle_seconds", 1);
        })
        .await?;
        let mut raw = Raw::login(&gateway, &stack.principal("ci")?.token).await?;
        raw.send(&query("delete from short_lived where id = 8")).await?;
        let (tag, body) = raw.next().await?;
        ensure!(tag == b'N', "{}", shown(tag, &body));
        let (_, error) = raw.answer().await?;
        let message = error.and_then(|error| error.get(&'M').cloned()).unwrap_or_default();
        ensure!(message.contains("expired"), "the hold of three seconds ends by itself: {message}");
        drop(proxy);
        Ok(())
    })
}

#[test]
fn no_session_outlives_its_age() -> Result<()> {
    on_shared(|stack| async move {
        let (proxy, gateway) = proxy_with(stack, "age", |config| {
            config.set("identity", "max_session_seconds", 2);
        })
        .await?;
        let token = &stack.principal("dba")?.token;
        let (mut idle, mut busy) = (Raw::login(&gateway, token).await?, Raw::login(&gateway, token).await?);
        busy.send(&query("select pg_sleep(604)")).await?;
        idle.ends_with("57P01").await?;
        busy.ends_with("57P01").await?;
        drop(proxy);
        Ok(())
    })
}

#[test]
fn a_drain_ends_the_idle_and_waits_for_the_running() -> Result<()> {
    on_shared(|stack| async move {
        let (mut proxy, gateway) = proxy_with(stack, "drain", |config| {
            config.set("limits", "drain_seconds", 60);
        })
        .await?;
        let token = &stack.principal("dba")?.token;
        let (mut idle, mut running) = (Raw::login(&gateway, token).await?, Raw::login(&gateway, token).await?);
        let mut block = Raw::login(&gateway, token).await?;
        block.run("begin").await?;
        block.run("insert into ledger values (7001, 'kept')").await?;
        running.send(&query("select pg_sleep(3), 'done'")).await?;
        let sleeping = "select count(*) from pg_stat_activity where query like 'select pg_sleep(3), %' and state = 'active'";
        wait_for_count(stack, sleeping, 1).await?;
        proxy.process().signal(Signal::Term);
        idle.ends_with("57P01").await?;
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", gateway.port)).await.is_ok() {
            ensure!(Instant::now() < end, "the port stays open");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // What runs may end, and an open transaction may be finished.
        let (tags, error) = running.answer().await?;
        ensure!(tags == "TDCZ" && error.is_none(), "{tags} {error:?}");
        running.ends_with("57P01").await?;
        block.run("commit").await?;
        block.ends_with("57P01").await?;
        let status = proxy.process().wait(Duration::from_secs(40)).context("it does not end")?;
        ensure!(status.success(), "{status}");
        let log = proxy.log();
        ensure!(log.contains("all sessions ended") && log.contains("all recordings sealed"), "{log}");
        wait_for_count(stack, "select count(*) from ledger where id = 7001", 1).await?;
        stack.upstream.oracle().await?.execute("delete from ledger where id = 7001", &[]).await?;
        Ok(())
    })
}

#[test]
fn the_grace_of_a_drain_has_an_end() -> Result<()> {
    on_shared(|stack| async move {
        let (mut proxy, gateway) = proxy_with(stack, "grace", |config| {
            config.set("limits", "drain_seconds", 1);
        })
        .await?;
        let mut running = Raw::login(&gateway, &stack.principal("dba")?.token).await?;
        running.send(&query("select pg_sleep(605)")).await?;
        let mut held = Raw::login(&gateway, &stack.principal("ci")?.token).await?;
        held.send(&query("delete from ledger where id = 606")).await?;
        let (tag, body) = held.next().await?;
        ensure!(tag == b'N', "{}", shown(tag, &body));
        proxy.process().signal(Signal::Term);
        running.ends_with("57P01").await?;
        held.ends_with("57P01").await?;
        let status = proxy.process().wait(Duration::from_secs(60)).context("it does not end")?;
        ensure!(status.success() && proxy.log().contains("all recordings sealed"), "{status}: {}", proxy.log());
        wait_for_count(stack, "select count(*) from ledger where id = 606", 1).await
    })
}
