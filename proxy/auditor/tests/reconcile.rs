//! What the server says against what is recorded: everything that went around the gateway is named, and a recording counts only by its signature.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use std::path::{Path, PathBuf};

use countersign_audit::reconcile::{Reconciled, Sources, reconcile, write as report};
use countersign_recording::v1::manifest::Payload as _;
use countersign_recording::{Event, SigningKey};
use support::{HELD, archive, events, id, objects, recording_key, write};
use tempfile::TempDir;

const PROCESS: u32 = 4242;
const READ: &str = "SELECT ssn FROM customers -- ";

/// A store with one session whose server process is known.
fn stored() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &objects(id(1), &recorded(), &recording_key()));
    folder
}

fn recorded() -> Vec<Event> {
    let mut events = events(id(1), "");
    match events.first_mut() {
        Some(Event::SessionStart(start)) => start.upstream_pid = PROCESS,
        _ => panic!("the first event is the session's start"),
    }
    events
}

/// A line of csvlog; the session's start is that of the recording, to the second.
fn line(process: u32, start: &str, message: &str, backend: &str) -> String {
    let message = message.replace('"', "\"\"");
    format!(
        "2026-03-01 12:00:01.5 UTC,\"gateway\",\"bank\",{process},\"10.0.0.1:5\",65a.1,1,\"SELECT\",2026-03-01 {start} UTC,3/1,0,LOG,00000,\"{message}\",,,,,,,,,\"psql\",\"{backend}\",,0\n"
    )
}

fn said(message: &str) -> String {
    line(PROCESS, "12:00:00", message, "client backend")
}

async fn compared(folder: &Path, log: &[String]) -> Reconciled {
    let file = folder.join("postgresql.csv");
    std::fs::write(&file, log.concat()).unwrap();
    over(folder, Sources { csvlog: vec![file], roles: vec!["gateway".into()], ..Sources::default() }).await
}

async fn over(folder: &Path, sources: Sources) -> Reconciled {
    reconcile(&archive(folder).await, &sources, None, None).await.unwrap()
}

/// All statements of the session as the server logged them.
fn honest() -> Vec<String> {
    vec![said(&format!("statement: {READ}")), said(&format!("execute <unnamed>: {HELD}"))]
}

#[tokio::test]
async fn what_is_recorded_is_no_bypass() {
    let folder = stored();
    let own = line(7, "12:00:00", &format!("execute <unnamed>: EXPLAIN (FORMAT JSON, VERBOSE) {HELD}"), "client backend");
    let more = said(&format!("execute fetch from cs1/cs1: {HELD}"));
    let outcome = compared(folder.path(), &[honest(), vec![own, more]].concat()).await;
    assert_eq!(outcome.bypasses, []);
    assert!(outcome.is_clean());
    assert_eq!((outcome.recorded, outcome.logged, outcome.matched, outcome.own, outcome.statements), (1, 2, 1, 1, 2));
}

#[tokio::test]
async fn what_went_around_the_gateway_is_named() {
    let elsewhere = |message: &str| line(7, "12:00:00", message, "client backend");
    let cases = [
        ("another statement in the session", said("statement: select 2"), "select 2"),
        ("the same statement once more", said(&format!("statement: {READ}")), READ),
        ("a session of its own", elsewhere("statement: select 2"), "select 2"),
        ("a recorded statement in a session of its own", elsewhere(&format!("statement: {HELD}")), HELD),
        ("the process of the recording at another time", line(PROCESS, "11:00:00", &format!("statement: {HELD}"), "client backend"), HELD),
        // The recording has exactly this statement: nothing else is the gateway's estimate of it.
        (
            "an estimate with another constant",
            elsewhere("execute <unnamed>: EXPLAIN (FORMAT JSON, VERBOSE) DELETE FROM accounts WHERE owner = 'eve'"),
            "'eve'",
        ),
        ("an estimate that runs it", elsewhere(&format!("statement: EXPLAIN (ANALYZE, FORMAT JSON) {HELD}")), "ANALYZE"),
        // Names of statements and portals are the client's own.
        ("a statement named like a fetch", elsewhere("execute fetch from x: delete from accounts"), "delete from accounts"),
        ("the same in the session of a recording", said("execute fetch from x: delete from accounts"), "delete from accounts"),
        ("a function called by number", elsewhere("fastpath function call: \"lo_unlink\" (OID 964)"), "lo_unlink"),
        ("a replication connection", line(7, "12:00:00", "replication connection authorized: user=gateway", "walsender"), "replication"),
        ("a replication command", elsewhere("received replication command: BASE_BACKUP"), "BASE_BACKUP"),
    ];
    for (what, line, named) in cases {
        let folder = stored();
        let outcome = compared(folder.path(), &[honest(), vec![line]].concat()).await;
        let names: Vec<&str> = outcome.bypasses.iter().map(|bypass| bypass.what.as_str()).collect();
        assert!(!outcome.is_clean() && names.len() == 1 && names.iter().all(|name| name.contains(named)), "{what}: {names:?}");
    }
}

#[tokio::test]
async fn a_recording_that_keys_do_not_vouch_for_counts_for_nothing() {
    let forged = SigningKey::from_random(&[99; 32]).unwrap();
    let changes: [(&str, &dyn Fn(&Path)); 2] = [
        ("signed by somebody else", &|folder| {
            let manifest = countersign_audit::load::stated(&objects(id(1), &recorded(), &recording_key())).unwrap();
            std::fs::write(session(folder).join("manifest.json"), manifest.unsigned(forged.id()).unwrap().sign(&forged).unwrap()).unwrap();
        }),
        ("a segment of another session", &|folder| {
            std::fs::copy(session(folder).join("00000001.rec"), session(folder).join("00000000.rec")).unwrap();
        }),
    ];
    for (what, change) in changes {
        let folder = stored();
        assert!(compared(folder.path(), &honest()).await.is_clean());
        change(folder.path());
        let outcome = compared(folder.path(), &honest()).await;
        assert!(!outcome.is_clean() && outcome.checked, "{what}");
        assert_eq!((outcome.unproved.len(), outcome.bypasses.len()), (1, 1), "{what}: {:?}", outcome.bypasses);
        let mut text = Vec::new();
        report(&outcome, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(&format!("UNPROVED   recording {}", id(1))) && text.contains("UNRECORDED session"), "{what}: {text}");
    }
}

#[tokio::test]
async fn a_log_that_says_nothing_proves_nothing() {
    let folder = stored();
    let outcome = compared(folder.path(), &[]).await;
    assert_eq!((outcome.exit_status(), outcome.unchecked.len()), (2, 1));
    // The roles are spelled otherwise: nothing of the log is looked at, nor are their recordings.
    let file = folder.path().join("postgresql.csv");
    std::fs::write(&file, honest().concat()).unwrap();
    let other = Sources { csvlog: vec![file], roles: vec!["gatewy".into()], ..Sources::default() };
    assert_eq!(over(folder.path(), other).await.exit_status(), 2);
    let nothing = Sources { roles: vec!["gateway".into()], ..Sources::default() };
    assert!(reconcile(&archive(folder.path()).await, &nothing, None, None).await.is_err());
}

fn session(folder: &Path) -> PathBuf {
    folder.join(format!("store/sessions/2026/03/01/{}", id(1)))
}

#[tokio::test]
async fn statistics_count_statements_without_their_constants() {
    let folder = stored();
    let counted = async |rows: &str| {
        let file = folder.path().join("statements.csv");
        std::fs::write(&file, format!("rolname,datname,query,calls\n{rows}")).unwrap();
        over(folder.path(), Sources { statements: Some(file), roles: vec!["gateway".into()], ..Sources::default() }).await
    };
    let once = "gateway,bank,DELETE FROM accounts WHERE owner = $1,1\n";
    let estimate = "gateway,bank,\"EXPLAIN (FORMAT JSON, VERBOSE) DELETE FROM accounts WHERE owner = $1\",3\n";
    let own = "gateway,bank,\"SELECT pg_catalog.set_config($1, $2, $3)\",40\n";
    let others = "somebody,bank,DROP TABLE accounts,1\n";
    assert_eq!(counted(&format!("{once}{estimate}{own}{others}")).await.bypasses, []);
    for (what, rows) in [
        ("once too often", "gateway,bank,DELETE FROM accounts WHERE owner = $1,2\n"),
        ("another statement", "gateway,bank,DELETE FROM accounts,1\n"),
        ("another database", "gateway,other,DELETE FROM accounts WHERE owner = $1,1\n"),
        ("an estimate of nothing recorded", "gateway,bank,\"EXPLAIN (FORMAT JSON, VERBOSE) DELETE FROM customers\",1\n"),
    ] {
        let outcome = counted(rows).await;
        assert_eq!(outcome.bypasses.iter().map(|bypass| bypass.kind).collect::<Vec<_>>(), ["count"], "{what}");
    }
}

#[tokio::test]
async fn a_connection_without_an_open_recording_is_named() {
    let folder = stored();
    let file = folder.path().join("activity.csv");
    let head = "pid,usename,datname,backend_start,client_addr,application_name";
    std::fs::write(
        &file,
        format!("{head}\n{PROCESS},gateway,bank,2026-03-01 12:00:00+00,10.0.0.9,psql\n8,other,bank,2026-03-01 12:00:00+00,,\n"),
    )
    .unwrap();
    // The recording of that process is sealed: its session is over.
    let outcome = over(folder.path(), Sources { activity: Some(file), roles: vec!["gateway".into()], ..Sources::default() }).await;
    assert_eq!(outcome.bypasses.iter().map(|bypass| (bypass.kind, bypass.process)).collect::<Vec<_>>(), [("activity", PROCESS)]);
}
