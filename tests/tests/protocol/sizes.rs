//! Sizes: what is long passes in bounded memory, what must be read whole has a cap, what is absurd ends that session alone.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::gateway::Proxy;
use countersign_e2e::scenario::{count, on_shared, wait_for_count};
use countersign_e2e::stack::Stack;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::raw::{Raw, message, query, shown};

const MIB: usize = 1024 * 1024;
/// What one session may add to the resident memory of the gateway, buffers of the recorder included.
const BOUND_KIB: u64 = 64 * 1024;

/// How long what is long is. With `COUNTERSIGN_COMPAT=1` it is as long as the server takes it, which costs the server some GiB.
fn long() -> usize {
    if std::env::var_os("COUNTERSIGN_COMPAT").is_some() { 1023 * MIB } else { 200 * MIB }
}

/// `VmRSS`, `VmHWM` and such of a process, in KiB.
fn memory(proxy: u32, what: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{proxy}/status"))?;
    let line = status.lines().find(|line| line.starts_with(what)).context("no such line")?;
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).context("no number")
}

/// A proxy of its own, warm: what it takes once for all sessions it has taken.
async fn warm(stack: &Stack, name: &str, durability: &str) -> Result<(Proxy, u32, Raw)> {
    let mut config = stack.config.clone();
    config.set("recording", "durability", durability);
    let (mut proxy, gateway) = stack.another_proxy(name, &config).await?;
    let mut raw = Raw::login(&gateway, &stack.principal("dba")?.token).await?;
    raw.run("select repeat('x', 100000) from generate_series(1, 100)").await?;
    let id = proxy.process().id();
    Ok((proxy, id, raw))
}

#[test]
fn ten_thousand_long_rows_for_a_client_that_sleeps() -> Result<()> {
    on_shared(|stack| async move {
        for durability in ["strict", "async"] {
            let (proxy, id, mut raw) = warm(stack, &format!("sleeper-{durability}"), durability).await?;
            let before = memory(id, "VmRSS")?;
            raw.send(&query("select repeat('x', 100000) from generate_series(1, 10000)")).await?;
            // The client sleeps until the server cannot write any more, and wakes now and then for a few rows.
            let blocked = "select count(*) from pg_stat_activity where query like 'select repeat(''x'', 100000) from generate_series(1, 10000)' \
                           and wait_event = 'ClientWrite'";
            let mut rows = 0;
            for _ in 0..5 {
                countersign_e2e::scenario::wait_for_count(stack, blocked, 1).await?;
                for _ in 0..200 {
                    let (tag, body) = raw.next().await?;
                    ensure!(tag == b'T' || (tag == b'D' && body.len() == 100_006), "{} of {} bytes", char::from(tag), body.len());
                    rows += usize::from(tag == b'D');
                }
            }
            let grown = memory(id, "VmHWM")?.saturating_sub(before);
            ensure!(rows > 900, "{rows} rows");
            ensure!(grown < BOUND_KIB, "{durability}: resident memory grew by {grown} KiB while the client slept");
            drop((raw, proxy));
        }
        Ok(())
    })
}

#[test]
fn one_row_of_many_megabytes_passes_in_bounded_memory() -> Result<()> {
    on_shared(|stack| async move {
        let (proxy, id, mut raw) = warm(stack, "long-row", "strict").await?;
        let before = memory(id, "VmRSS")?;
        let length = long();
        for (sql, tags) in
            [(format!("select repeat('x', {length})"), "TDCZ"), (format!("copy (select repeat('x', {length})) to stdout"), "HdcCZ")]
        {
            raw.send(&query(&sql)).await?;
            let (mut seen, mut longest) = (String::new(), 0);
            loop {
                let (tag, mut left) = raw.head().await?;
                seen.push(char::from(tag));
                longest = longest.max(left);
                let mut piece = vec![0; MIB];
                while left > 0 {
                    let most = left.min(piece.len());
                    let read = raw.io.read(piece.get_mut(..most).unwrap_or_default()).await?;
                    ensure!(read > 0, "it broke off");
                    left -= read;
                }
                if tag == b'Z' {
                    break;
                }
            }
            ensure!(seen == tags && longest >= length, "{seen}, {longest}");
        }
        let grown = memory(id, "VmHWM")?.saturating_sub(before);
        ensure!(grown < BOUND_KIB, "resident memory grew by {grown} KiB for rows of {length} bytes");
        drop((raw, proxy));
        Ok(())
    })
}

#[test]
fn one_copy_message_of_many_megabytes_passes_in_bounded_memory() -> Result<()> {
    on_shared(|stack| async move {
        let (proxy, id, mut raw) = warm(stack, "long-copy", "strict").await?;
        raw.run("create table if not exists long_lines (line text)").await?;
        let before = memory(id, "VmRSS")?;
        let length = long();
        raw.send(&query("copy long_lines from stdin")).await?;
        ensure!(raw.next().await?.0 == b'G', "no copy");
        let mut head = vec![b'd'];
        head.extend(u32::try_from(length + 5)?.to_be_bytes());
        raw.send(&head).await?;
        let piece = vec![b'y'; MIB];
        for _ in 0..length / MIB {
            raw.send(&piece).await?;
        }
        raw.send(b"\n").await?;
        raw.send(&message(b'c', b"")).await?;
        let (tags, error) = raw.answer().await?;
        ensure!(tags == "CZ" && error.is_none(), "{tags} {error:?}");
        ensure!(raw.run("select length(line) from long_lines").await? == [length.to_string()]);
        let grown = memory(id, "VmHWM")?.saturating_sub(before);
        ensure!(grown < BOUND_KIB, "resident memory grew by {grown} KiB for a message of {length} bytes");
        raw.run("drop table long_lines").await?;
        drop((raw, proxy));
        Ok(())
    })
}

#[test]
fn a_statement_beyond_the_cap_is_an_error_that_names_it() -> Result<()> {
    on_shared(|stack| async move {
        let mut raw = Raw::login(&stack.gateway, &stack.principal("dba")?.token).await?;
        raw.send(&query(&format!("select length('{}')", "x".repeat(17 * MIB)))).await?;
        let (tags, error) = raw.answer().await?;
        let error = error.with_context(|| tags.clone())?;
        ensure!(tags == "EZ" && error.get(&'C').map(String::as_str) == Some("54000"), "{tags} {error:?}");
        ensure!(error.get(&'D').is_some_and(|detail| detail.contains("16777216")), "{error:?}");
        ensure!(error.get(&'H').is_some_and(|hint| hint.contains("limits.max_statement_bytes")), "{error:?}");
        ensure!(raw.run("select 1").await? == ["1"], "the session must live on");
        Ok(())
    })
}

#[test]
fn what_is_absurd_ends_that_session_alone() -> Result<()> {
    on_shared(|stack| async move {
        let token = &stack.principal("dba")?.token;
        let mut witness = Raw::login(&stack.gateway, token).await?;
        for (name, bytes) in [
            ("a negative length", b"Q\xff\xff\xff\xff".to_vec()),
            ("a length below four", b"Q\0\0\0\x03".to_vec()),
            ("a length beyond 1 GiB", b"Q\x40\0\0\0".to_vec()),
            ("a long Sync", b"S\0\x01\0\0".to_vec()),
            ("an unknown tag", b"!".to_vec()),
            ("a password in a session", message(b'p', b"again\0")),
            ("a server's tag", message(b'Z', b"I")),
            ("a text without an end", message(b'Q', b"select 1")),
            ("two texts", message(b'Q', b"select 1\0select 2\0")),
            ("a Bind whose value is longer than the message", message(b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0")),
            ("a Describe of neither", message(b'D', b"X\0")),
            ("a statement within a copy", [query("copy ledger from stdin"), query("select 1")].concat()),
        ] {
            let mut raw = Raw::login(&stack.gateway, token).await?;
            raw.send(&bytes).await?;
            raw.ends_with("08P01").await.with_context(|| name.to_owned())?;
            ensure!(witness.run("select 1").await? == ["1"], "{name}");
        }
        // A message that is cut off is not answered: its client is gone.
        let mut raw = Raw::login(&stack.gateway, token).await?;
        raw.send(query("delete from ledger").get(..12).unwrap_or_default()).await?;
        raw.io.shutdown().await?;
        ensure!(raw.last_words().await?.is_none());
        ensure!(witness.run("select count(*) from ledger").await? == ["1000"]);
        Ok(())
    })
}

#[test]
fn a_held_statement_stops_reading_its_client() -> Result<()> {
    on_shared(|stack| async move {
        let mut raw = Raw::login(&stack.gateway, &stack.principal("ci")?.token).await?;
        raw.send(&query("delete from ledger where id = 607")).await?;
        let (tag, body) = raw.next().await?;
        ensure!(tag == b'N', "{}", shown(tag, &body));
        let ahead = query(&format!("select length('{}')", "x".repeat(MIB)));
        let mut sent = 0;
        // Beyond the gateway's bound and what both ends' systems keep, nothing goes any more.
        while let Ok(written) = tokio::time::timeout(Duration::from_secs(3), raw.io.write(&ahead)).await {
            sent += written?;
            ensure!(sent < 64 * MIB, "the gateway goes on reading: {} MiB so far", sent / MIB);
        }
        // That the client goes is noticed nevertheless: the session ends.
        let sessions = format!("select count(*) from pg_stat_activity where pid = {}", raw.key.0);
        raw.io.set_zero_linger()?;
        drop(raw);
        wait_for_count(stack, &sessions, 0).await?;
        ensure!(count(stack, "select count(*) from ledger where id = 607").await? == 1, "it ran");
        Ok(())
    })
}
