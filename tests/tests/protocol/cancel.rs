//! CancelRequest: by whom, of what, and what a wrong key gets.

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::scenario::{on_shared, wait_for_count};
use countersign_e2e::stack::Stack;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::raw::{Raw, cancel_request, dial_from, message, query};

/// Sends a CancelRequest and gives what was answered until the connection closed.
async fn cancel(stack: &Stack, key: (i32, &[u8])) -> Result<Vec<u8>> {
    let mut io = dial_from(&stack.gateway, 1).await?;
    io.write_all(&cancel_request(key)).await?;
    let mut said = Vec::new();
    io.read_to_end(&mut said).await?;
    Ok(said)
}

async fn sleeping(stack: &Stack, seconds: u32) -> Result<()> {
    let running = format!("select count(*) from pg_stat_activity where query = 'select pg_sleep({seconds})' and state = 'active'");
    wait_for_count(stack, &running, 1).await
}

#[test]
fn only_the_whole_key_cancels() -> Result<()> {
    on_shared(|stack| async move {
        let token = &stack.principal("dba")?.token;
        for (version, length) in [(0x0003_0000, 4), (0x0003_0002, 32)] {
            let mut raw = Raw::login_with(&stack.gateway, version, &[("user", "raw"), ("database", "bank")], token).await?;
            let (id, secret) = raw.key.clone();
            ensure!(secret.len() == length, "protocol {version:#x}: {} bytes", secret.len());
            raw.send(&query("select pg_sleep(601)")).await?;
            sleeping(stack, 601).await?;
            let mut flipped = secret.clone();
            if let Some(last) = flipped.last_mut() {
                *last ^= 1;
            }
            let short = secret.get(..length - 1).context("a key")?;
            let longer = [secret.as_slice(), &[0]].concat();
            let backend = stack
                .upstream
                .oracle()
                .await?
                .query_one("select pid from pg_stat_activity where query = 'select pg_sleep(601)'", &[])
                .await?;
            let backend: i32 = backend.try_get(0)?;
            ensure!(backend == id, "clients compare it with pg_backend_pid()");
            for wrong in [(id, flipped.as_slice()), (id, short), (id, &longer), (id.wrapping_add(1), &secret)] {
                ensure!(cancel(stack, wrong).await?.is_empty(), "a wrong key was answered");
            }
            // What a wrong key began would have come by now: the right one comes after it and is the only one.
            sleeping(stack, 601).await?;
            ensure!(cancel(stack, (id, &secret)).await?.is_empty(), "the right key was answered");
            let (tags, error) = raw.answer().await?;
            ensure!(error.as_ref().and_then(|error| error.get(&'C')).map(String::as_str) == Some("57014"), "{tags} {error:?}");
            ensure!(raw.run("select 7").await? == ["7"], "the session must live on");
        }
        Ok(())
    })
}

#[test]
fn a_copy_is_cancelled_in_both_directions() -> Result<()> {
    on_shared(|stack| async move {
        let token = &stack.principal("dba")?.token;
        let mut raw = Raw::login(&stack.gateway, token).await?;
        let (id, secret) = raw.key.clone();

        raw.run("create table if not exists copied (line text)").await?;
        raw.send(&query("copy copied from stdin")).await?;
        ensure!(raw.next().await?.0 == b'G', "no copy");
        raw.send(&message(b'd', b"never committed\n")).await?;
        wait_for_count(
            stack,
            "select count(*) from pg_stat_activity where query = 'copy copied from stdin' and wait_event = 'ClientRead'",
            1,
        )
        .await?;
        cancel(stack, (id, &secret)).await?;
        // The server notices when the next message comes, and the cancel takes its own time to get there.
        while tokio::time::timeout(std::time::Duration::from_millis(100), raw.io.peek(&mut [0])).await.is_err() {
            raw.send(&message(b'd', b"nor this\n")).await?;
        }
        let (tags, error) = raw.answer().await?;
        ensure!(error.as_ref().and_then(|error| error.get(&'C')).map(String::as_str) == Some("57014"), "{tags} {error:?}");
        // What a client had under way is read over, as the server does.
        raw.send(&message(b'd', b"late\n")).await?;
        raw.send(&message(b'c', b"")).await?;
        ensure!(raw.run("select count(*) from copied").await? == ["0"]);

        raw.send(&query("copy (select repeat('x', 1000) from generate_series(1, 10000000)) to stdout")).await?;
        ensure!(raw.next().await?.0 == b'H', "no copy");
        cancel(stack, (id, &secret)).await?;
        let (tags, error) = raw.answer().await?;
        ensure!(error.as_ref().and_then(|error| error.get(&'C')).map(String::as_str) == Some("57014"), "{} {error:?}", tags.len());
        ensure!(raw.run("drop table copied").await?.is_empty());
        Ok(())
    })
}
