//! Recordings: what was done is in them, and every kind of tampering shows and says where.

mod sealed;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use countersign_e2e::scenario::{on_shared, recordings_sealed, recordings_verify};
use countersign_e2e::stack::Stack;
use serde_json::Value;

/// Plays a session whose recording is long enough to be cut, and returns its id.
async fn record(stack: &Stack) -> Result<String> {
    let marker = format!("tamper-{}", uuid::Uuid::new_v4());
    {
        let session = stack.connect("dba").await?;
        for round in 0..3 {
            session.simple_query(&format!("select '{marker}', {round}, id, md5(id::text) from transactions limit 50")).await?;
        }
        session.batch_execute("update ledger set note = note where id = 900").await?;
    }
    recordings_sealed(stack).await?;
    let audit = stack.audit();
    for session in audit.sessions().await?.iter().rev() {
        let id = session.get("session").and_then(Value::as_str).context("a listed session has no id")?;
        if audit.run("show", &[id]).await?.stdout.contains(&marker) {
            return Ok(id.to_owned());
        }
    }
    bail!("the session is not recorded")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() { copy(&entry.path(), &target)? } else { std::fs::copy(entry.path(), target).map(|_| ())? }
    }
    Ok(())
}

/// The files of a session, segments first and in order.
fn files(recordings: &Path, session: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![recordings.join("sessions")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.parent().and_then(Path::file_name).is_some_and(|name| name == session) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn segments(recordings: &Path, session: &str) -> Result<Vec<PathBuf>> {
    Ok(files(recordings, session)?.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "rec")).collect())
}

/// Verification of a changed copy fails and says where: in words of `texts`, one of which must be there.
async fn must_show(stack: &Stack, session: &str, name: &str, change: impl FnOnce(&Path) -> Result<()>, texts: &[&str]) -> Result<()> {
    let copied = stack.dir().join("tampered").join(uuid::Uuid::new_v4().to_string());
    copy(stack.recordings()?, &copied)?;
    let audit = stack.audit().over(&copied);
    let before = audit.verify(Some(session)).await?;
    ensure!(before.status == 0, "{name}: the copy itself does not verify:\n{}\n{}", before.stdout, before.stderr);
    change(&copied).with_context(|| name.to_owned())?;
    let after = audit.verify(None).await?;
    let said = format!("{}\n{}", after.stdout, after.stderr);
    ensure!(after.status == 1, "{name}: exit status {}\n{said}", after.status);
    ensure!(said.contains(session), "{name}: the session is not named:\n{said}");
    ensure!(texts.iter().any(|text| said.to_lowercase().contains(text)), "{name}: none of {texts:?} in\n{said}");
    std::fs::remove_dir_all(copied)?;
    Ok(())
}

#[test]
fn what_happened_is_recorded() -> Result<()> {
    on_shared(|stack| async move {
        let id = record(stack).await?;
        recordings_verify(stack).await?;
        let shown = stack.audit().run("show", &[&id]).await?;
        for piece in ["update ledger set note = note where id = 900", "dba@bank.example"] {
            ensure!(shown.stdout.contains(piece), "`{piece}` is missing from\n{}", shown.stdout);
        }
        Ok(())
    })
}

#[test]
fn tampering_shows_and_says_where() -> Result<()> {
    on_shared(|stack| async move {
        let session = record(stack).await?;
        let id = session.as_str();
        let last = |root: &Path| segments(root, id)?.pop().context("no segments");
        let flip = |file: &Path, place: usize| -> Result<()> {
            let mut bytes = std::fs::read(file)?;
            *bytes.get_mut(place).context("shorter than that")? ^= 0x20;
            Ok(std::fs::write(file, bytes)?)
        };

        let length = usize::try_from(std::fs::metadata(last(stack.recordings()?)?)?.len())?;
        for place in [0, length / 3, length / 2, length - 1] {
            must_show(stack, id, &format!("byte {place} of a segment"), |root| flip(&last(root)?, place), &["00000", ".rec", "segment"])
                .await?;
        }
        must_show(stack, id, "the last segment removed", |root| Ok(std::fs::remove_file(last(root)?)?), &["missing", "segment"]).await?;
        must_show(
            stack,
            id,
            "a segment cut short",
            |root| {
                let file = last(root)?;
                let bytes = std::fs::read(&file)?;
                Ok(std::fs::write(file, bytes.get(..bytes.len() / 2).unwrap_or_default())?)
            },
            &["segment", ".rec", "00000"],
        )
        .await?;
        must_show(
            stack,
            id,
            "the manifest changed",
            |root| {
                let manifest = files(root, id)?.into_iter().find(|file| file.ends_with("manifest.json")).context("no manifest")?;
                flip(&manifest, 40)
            },
            &["manifest"],
        )
        .await?;
        Ok(())
    })
}

#[test]
fn swapped_recordings_show() -> Result<()> {
    on_shared(|stack| async move {
        let (one, other) = (record(stack).await?, record(stack).await?);
        let swap = |root: &Path| -> Result<()> {
            let (a, b) = (segments(root, &one)?, segments(root, &other)?);
            let (a, b) = (a.first().context("no segments")?, b.first().context("no segments")?);
            let (first, second) = (std::fs::read(a)?, std::fs::read(b)?);
            std::fs::write(a, second)?;
            Ok(std::fs::write(b, first)?)
        };
        must_show(stack, &one, "two swapped", swap, &["segment", ".rec", "00000"]).await?;
        must_show(stack, &other, "two swapped", swap, &["segment", ".rec", "00000"]).await
    })
}

/// What Postgres logged for the service role is in recordings, but for what went around the gateway.
#[test]
fn a_statement_around_the_gateway_shows() -> Result<()> {
    on_shared(|stack| async move {
        let log = stack.cluster.as_ref().context("no server of one's own")?.csvlog().display().to_string();
        let role = stack.upstream.user.clone();
        stack.upstream.oracle().await?.batch_execute(&format!("alter role {role} set log_statement = 'all'")).await?;
        let since = time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339)?;
        {
            let session = stack.connect("dba").await?;
            session.simple_query("select count(*) from accounts; select 'it''s ' || 1").await?;
            session.query("select id from accounts where id = $1", &[&7_i32]).await?;
            session.batch_execute("begin; update ledger set note = note where id = 905; rollback").await?;
            let _refused = stack.connect("ci").await?.batch_execute("drop table accounts").await;
        }
        recordings_sealed(stack).await?;
        let reconcile = async || stack.audit().run("reconcile", &["--csvlog", &log, "--role", &role, "--since", &since]).await;
        let clean = reconcile().await?;
        ensure!(clean.status == 0 && clean.stdout.contains("0 things are in no recording"), "{}\n{}", clean.stdout, clean.stderr);

        let server = &stack.upstream;
        let mut config = tokio_postgres::Config::new();
        config.host(&server.host).port(server.port).user(&server.user).password(&server.password).dbname(&server.database);
        // Its name is the gateway's; what it says is not.
        config.application_name("countersign:catalog").ssl_mode(tokio_postgres::config::SslMode::Disable);
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        client.simple_query("select count(*) from accounts where id < 77").await?;
        drop(client);
        let _ended = connection.await?;
        let found = reconcile().await?;
        ensure!(found.status == 1, "status {}:\n{}", found.status, found.stdout);
        let lines: Vec<&str> = found.stdout.lines().filter(|line| line.starts_with("UNRECORDED")).collect();
        ensure!(lines.len() == 1 && lines.iter().all(|line| line.contains("accounts where id < 77")), "{lines:?}");
        Ok(())
    })
}

/// Whole sessions, journals and digests of a real gateway: what is removed is named, and an anchor names even the very last of it.
#[test]
fn what_is_removed_whole_is_named() -> Result<()> {
    on_shared(|stack| async move {
        let recordings = stack.dir().join("whole");
        std::fs::create_dir_all(&recordings)?;
        let mut config = stack.config.clone();
        config.set("recording", "path", recordings.display().to_string()).set("recording", "digest_interval_seconds", 1);
        let audit = stack.audit().over(&recordings);
        let dba = stack.principal("dba")?;
        for round in 0..2 {
            // Two gateways one after the other, each ended in order.
            let (mut proxy, gateway) = stack.another_proxy(&format!("whole-{round}"), &config).await?;
            for _ in 0..2 {
                gateway.connect(&dba.user, &dba.token).await?.simple_query("select id from accounts limit 3").await?;
            }
            proxy.process().stop();
        }
        let anchor = stack.dir().join("anchor.json").display().to_string();
        let anchored = ["--all", "--anchor", anchor.as_str()];
        let whole = audit.run("verify", &anchored).await?;
        ensure!(whole.status == 0, "{}\n{}", whole.stdout, whole.stderr);
        let sessions = audit.sessions().await?;
        ensure!(sessions.len() == 4, "{} sessions", sessions.len());
        let mut tasks: Vec<String> = std::fs::read_dir(recordings.join("journal"))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        tasks.sort();
        let [first, second] = tasks.as_slice() else { bail!("{} tasks", tasks.len()) };
        let session = sessions.first().and_then(|session| session.get("session")).and_then(Value::as_str).context("no session")?;
        let folder = files(&recordings, session)?.first().and_then(|file| file.parent()).context("no folder")?.to_owned();
        let folder = folder.strip_prefix(&recordings)?.display().to_string();

        // What goes, what must be named, and whether it takes the anchor.
        let (journal, digests) = (|task: &str| format!("journal/{task}"), |task: &str| format!("digests/{task}"));
        let cases: [(&str, Vec<String>, String, bool); 7] = [
            ("a session", vec![folder.clone()], format!("{session}/manifest.json"), false),
            ("a session with its task's journal", vec![folder.clone(), journal(first)], format!("{session}/manifest.json"), false),
            ("all sessions", vec!["sessions".to_owned()], format!("{session}/manifest.json"), false),
            ("a journal", vec![journal(second)], format!("journal/{second}/task.json"), false),
            ("the digests of a task", vec![digests(second)], format!("digests/{second}/"), false),
            ("all of an earlier task", vec![journal(first), digests(first), folder], format!("digests/{first}/"), false),
            ("all of the last task", vec![journal(second), digests(second)], format!("digests/{second}/"), true),
        ];
        for (what, gone, named, takes_anchor) in cases {
            let copied = stack.dir().join("tampered").join(uuid::Uuid::new_v4().to_string());
            copy(&recordings, &copied)?;
            for path in &gone {
                std::fs::remove_dir_all(copied.join(path))?;
            }
            let arguments: &[&str] = if takes_anchor { &anchored } else { &["--all"] };
            let after = audit.over(&copied).run("verify", arguments).await?;
            ensure!(after.status == 1 && after.stdout.contains(&named), "{what}: status {}\n{}", after.status, after.stdout);
            std::fs::remove_dir_all(copied)?;
        }
        Ok(())
    })
}
