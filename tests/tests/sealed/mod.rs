//! What is personal in statements is sealed in recordings: in no object in the clear, and exact again for whoever has every opening key.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use base64::Engine as _;
use countersign_e2e::audit::Audit;
use countersign_e2e::client::Gateway;
use countersign_e2e::leaks::Canaries;
use countersign_e2e::scenario::{hold_on, on_shared};
use countersign_e2e::stack::Stack;
use serde_json::Value;

/// What clients say. The first stands alone: `--all` seals it too, detectors do not know it.
const SAID: &[&str] = &["Marimba4Walrus", "314-15-9265", "quill.reed@aviary-bank.example", "5500005555555559", "DE89370400440532013000"];
const UPDATE: &str = "update ledger set note = 'for 314-15-9265' where id = 720";

struct Opening {
    files: Vec<PathBuf>,
    public: Vec<PathBuf>,
}

/// Two opening keys, as two people would make them with `openssl`.
fn opening_keys(folder: &Path) -> Result<Opening> {
    std::fs::create_dir_all(folder)?;
    let mut keys = Opening { files: Vec::new(), public: Vec::new() };
    for name in ["one", "two"] {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa3072).map_err(|_| anyhow::anyhow!("no key"))?;
        let private: Pkcs8V1Der<'_> = key.as_der().map_err(|_| anyhow::anyhow!("no private half"))?;
        let public: PublicKeyX509Der<'_> = key.public_key().as_der().map_err(|_| anyhow::anyhow!("no public half"))?;
        let parts =
            [("PRIVATE KEY", private.as_ref(), format!("{name}.key.pem")), ("PUBLIC KEY", public.as_ref(), format!("{name}.pub.pem"))];
        for (label, der, file) in parts {
            let file = folder.join(file);
            std::fs::write(&file, pem(label, der))?;
            if label.starts_with("PRIVATE") { keys.files.push(file) } else { keys.public.push(file) }
        }
    }
    Ok(keys)
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).filter_map(|at| text.get(at..text.len().min(at + 64))).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Says all of it, in every way a client has.
async fn speak(stack: &Stack, gateway: &Gateway) -> Result<()> {
    let dba = stack.principal("dba")?;
    let session = gateway.connect(&dba.user, &dba.token).await?;
    for sql in [
        "select 1 where 'x' = '314-15-9265' and 'y' = 'Marimba4Walrus'",
        "/* about quill.reed@aviary-bank.example */ select 1 -- and 5500005555555559",
        "select 1 where 'x' in (E'314\\x2d15\\0559265', '314-' || '15-' || '9265', $q$DE89370400440532013000$q$)",
        "select count(*) from (select 5500005555555559 as x) q where x < 7",
        "set application_name = '314-15-9265'",
        "reset application_name",
        "update ledger set note = 'card 5500005555555559' where id = 721",
        "update ledger set note = 'entry 721' where id = 721",
    ] {
        session.simple_query(sql).await.with_context(|| sql.to_owned())?;
    }
    ensure!(session.simple_query("select '314-15-9265'::uuid").await.is_err(), "that is no UUID");
    session
        .execute("select 1 where $1::text = 'x' and $2::int8 = 1", &[&"quill.reed@aviary-bank.example", &5_500_005_555_555_559_i64])
        .await?;
    let sink = session.copy_in("copy ledger (id, note) from stdin").await?;
    let mut sink = std::pin::pin!(sink);
    futures_util::SinkExt::send(&mut sink, bytes::Bytes::from_static(b"9001\t314-15-")).await?;
    futures_util::SinkExt::send(&mut sink, bytes::Bytes::from_static(b"9265 Marimba4Walrus\n")).await?;
    ensure!(sink.finish().await? == 1, "one row");
    session.execute("delete from ledger where id = 9001", &[]).await?;
    let ci = stack.principal("ci")?;
    let session = gateway.connect(&ci.user, &ci.token).await?;
    let pending = hold_on(stack, session, UPDATE).await?;
    ensure!(pending.press(stack, "approve", "U0DANA", None).await.ok, "it is not approved");
    ensure!(pending.ended().await?.1? == 1, "one row");
    Ok(())
}

/// Waits until every session is sealed; gives their ids.
async fn sessions(audit: &Audit) -> Result<Vec<String>> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let all = audit.sessions().await?;
        if all.iter().all(|session| session.get("state").and_then(Value::as_str) == Some("sealed")) {
            return Ok(all.iter().filter_map(|session| session.get("session")?.as_str().map(str::to_owned)).collect());
        }
        ensure!(Instant::now() < end, "the sessions do not end: {all:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Every value in any object, in any form.
fn in_objects(folder: &Path, canaries: &Canaries) -> Result<Vec<String>> {
    let (mut found, mut read, mut folders) = (Vec::new(), 0_usize, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path)?;
            let plain = zstd::stream::decode_all(bytes.as_slice()).unwrap_or(bytes);
            read = read.saturating_add(plain.len());
            found.extend(canaries.in_bytes(&plain).into_iter().map(|what| format!("{what} in {}", path.display())));
        }
    }
    ensure!(read > 2_000, "only {read} bytes were recorded");
    Ok(found)
}

#[test]
fn what_is_personal_in_statements_is_sealed_and_opens_with_every_key() -> Result<()> {
    on_shared(|stack| async move {
        let folder = stack.dir().join("opening");
        let keys = opening_keys(&folder)?;
        let file = |at: usize| keys.files.get(at).map(|file| file.display().to_string()).unwrap_or_default();
        let (one, two) = (file(0), file(1));
        for (extent, values) in [("detected", SAID.get(1..).unwrap_or_default()), ("all", SAID)] {
            let recordings = folder.join(extent);
            let public: Vec<String> = keys.public.iter().map(|file| file.display().to_string()).collect();
            let mut config = stack.config.clone();
            config.set("recording", "path", recordings.display().to_string());
            config.set("recording", "seal_literals", extent).set("recording", "seal_keys", public);
            let (proxy, gateway) = stack.another_proxy(&format!("sealing-{extent}"), &config).await?;
            speak(stack, &gateway).await?;
            let audit = stack.audit().over(&recordings);
            let ids = sessions(&audit).await?;
            ensure!(ids.len() == 2, "{ids:?}");
            let canaries = Canaries::new(values);
            ensure!(in_objects(&recordings, &canaries)?.is_empty(), "{extent}: {:?}", in_objects(&recordings, &canaries)?);
            ensure!(canaries.in_bytes(proxy.log().as_bytes()).is_empty(), "{extent}: in the log");

            // Everybody may read the rest, and verify all of it.
            let mut shown = String::new();
            for id in &ids {
                shown.push_str(&audit.run("show", &[id]).await?.stdout);
            }
            let skeleton = if extent == "all" { "select 1 where '[sealed]' = '[sealed]'" } else { "select 1 where 'x' = '[sealed]'" };
            ensure!(extent == "all" || shown.contains(skeleton), "{skeleton} is not in\n{shown}");
            ensure!(shown.contains("granted") && canaries.in_bytes(shown.as_bytes()).is_empty(), "{shown}");
            let verified = audit.verify(None).await?;
            ensure!(verified.status == 0 && verified.stdout.contains("are sealed"), "{}\n{}", verified.stdout, verified.stderr);

            // One key opens nothing, both open the exact texts, and these have the digests that were signed.
            for id in &ids {
                let half = audit.run("open", &[id, "--open-key", &one]).await?;
                ensure!(half.status == 2 && canaries.in_bytes(half.stdout.as_bytes()).is_empty(), "one key: {}", half.stdout);
            }
            let both = ["--open-key", &one, "--open-key", &two];
            let mut opened = String::new();
            for id in &ids {
                let output = audit.run("open", &[&[id.as_str()], &both[..]].concat()).await?;
                ensure!(output.status == 0, "{}\n{}", output.stdout, output.stderr);
                opened.push_str(&output.stdout);
            }
            for value in values {
                ensure!(opened.contains(value), "{value} is not in\n{opened}");
            }
            ensure!(opened.contains(UPDATE), "{opened}");
            let verified = audit.run("verify", &[&["--all"], &both[..]].concat()).await?;
            ensure!(verified.status == 0 && !verified.stdout.contains("are sealed"), "{}\n{}", verified.stdout, verified.stderr);

            // Nobody has to hand over a key: the holder of one unwraps shares for the holder of the other.
            let shares = folder.join(format!("{extent}.shares"));
            let (shares, held) = (shares.display().to_string(), ids.last().context("no session")?);
            let gave = audit.run("open", &[held, "--open-key", &one, "--shares-out", &shares]).await?;
            ensure!(gave.status == 0 && canaries.in_bytes(gave.stdout.as_bytes()).is_empty(), "{}\n{}", gave.stdout, gave.stderr);
            let alone = audit.run("open", &[held, "--open-share", &shares]).await?;
            ensure!(alone.status == 2, "shares of one key alone: {}", alone.stdout);
            let together = audit.run("open", &[held, "--open-share", &shares, "--open-key", &two]).await?;
            ensure!(together.status == 0 && together.stdout.contains(UPDATE), "{}\n{}", together.stdout, together.stderr);

            // Searching what nobody opens finds nothing.
            let found = audit.run("search", &["314-15-9265"]).await?;
            ensure!(found.stdout.starts_with("0 hits"), "{}", found.stdout);
            let found = audit.run("search", &[&["314-15-9265"], &both[..]].concat()).await?;
            ensure!(!found.stdout.starts_with("0 hits"), "{}", found.stdout);
        }
        Ok(())
    })
}
