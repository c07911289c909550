//! I7, Tampering shows: every change to a stored recording makes `verify` fail and say where.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use countersign_audit::verify::{self, Result as Verified, VerifyReport};
use countersign_recording::v1::event::Verdict;
use countersign_recording::v1::manifest::Payload as _;
use countersign_recording::v1::object::Journal;
use countersign_recording::{Event, Limits, Object, SigningKey};
use support::{HELD, approval, archive, decision_key, events, id, mark, objects, recording_key, request, request_id, sign, write};
use tempfile::TempDir;

fn stored(events: &[Event]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &objects(id(1), events, &recording_key()));
    folder
}

async fn all(folder: &Path) -> VerifyReport {
    verify::all(&archive(folder).await).await.unwrap()
}

/// Every failure as text.
fn failures(report: &VerifyReport) -> String {
    let sessions = report.sessions.iter().flat_map(|session| &session.failures);
    sessions.chain(&report.store_findings).map(|failure| format!("{failure}\n")).collect()
}

fn segment(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("store/sessions/2026/03/01/{}/{number:08}.rec", id(1)))
}

fn manifest(folder: &Path) -> PathBuf {
    folder.join(format!("store/sessions/2026/03/01/{}/manifest.json", id(1)))
}

#[tokio::test]
async fn an_untouched_recording_verifies() {
    let folder = stored(&events(id(1), ""));
    for report in [all(folder.path()).await, verify::sessions(&archive(folder.path()).await, &[id(1)]).await.unwrap()] {
        assert_eq!(failures(&report), "");
        assert_eq!((report.exit_status(), report.verified), (0, 1));
        let session = report.sessions.first().unwrap();
        assert_eq!((session.events, session.statements, session.result), (15, 3, Verified::Verified));
        assert_eq!(session.grants.first().unwrap().approved_by, ["dana"]);
        assert_eq!(session.retention, None);
    }
}

#[tokio::test]
async fn every_changed_byte_is_found_and_its_object_named() {
    let few: Vec<Event> =
        events(id(1), "").into_iter().filter(|event| !matches!(event, Event::Rows { .. } | Event::Masked { .. })).collect();
    let folder = stored(&few);
    for object in &objects(id(1), &few, &recording_key()) {
        let path = folder.path().join("store").join(&object.key);
        // The format's own tests go through every byte of journals too; here it is the way through the store that counts.
        let step = if object.key.starts_with("sessions/") { 1 } else { 5 };
        for at in (0..object.bytes.len()).step_by(step) {
            let mut bytes = object.bytes.to_vec();
            *bytes.get_mut(at).unwrap() ^= 1 << (at % 8);
            std::fs::write(&path, &bytes).unwrap();
            let report = all(folder.path()).await;
            let named = report.exit_status() == 1 && failures(&report).contains(&object.key);
            // Nothing holds the compressed form of a journal's last object but what is in it: a change may only pass where that is the same.
            assert!(named || says_the_same(object, &bytes), "byte {at} of {}: {}", object.key, failures(&report));
        }
        std::fs::write(&path, &object.bytes).unwrap();
    }
    assert_eq!(all(folder.path()).await.exit_status(), 0);
}

fn says_the_same(journal: &Object, changed: &[u8]) -> bool {
    let read = |bytes: &[u8]| Journal::read(bytes, &Limits::default()).map(|journal| (journal.signed, journal.signature)).ok();
    journal.key.starts_with("journal/") && read(changed).is_some_and(|changed| Some(changed) == read(&journal.bytes))
}

/// Something done to a stored recording, and what must be said about it.
type Tampering = (&'static str, fn(&Path), &'static str);

#[tokio::test]
async fn every_tampering_is_named() {
    let cases: [Tampering; 10] = [
        ("last segment removed", |f| std::fs::remove_file(segment(f, 2)).unwrap(), "00000002.rec: missing"),
        ("middle segment removed", |f| std::fs::remove_file(segment(f, 1)).unwrap(), "00000001.rec: missing"),
        ("first segment removed", |f| std::fs::remove_file(segment(f, 0)).unwrap(), "00000000.rec: missing"),
        (
            "two segments swapped",
            |f| {
                let first = std::fs::read(segment(f, 0)).unwrap();
                std::fs::copy(segment(f, 1), segment(f, 0)).unwrap();
                std::fs::write(segment(f, 1), first).unwrap();
            },
            "00000000.rec: not in its place",
        ),
        (
            "a segment duplicated",
            |f| {
                std::fs::copy(segment(f, 2), segment(f, 3)).unwrap();
            },
            "00000003.rec: not in its place",
        ),
        (
            "a segment truncated",
            |f| {
                let bytes = std::fs::read(segment(f, 1)).unwrap();
                std::fs::write(segment(f, 1), bytes.get(..bytes.len() / 2).unwrap()).unwrap();
            },
            "00000001.rec: ",
        ),
        ("a segment emptied", |f| std::fs::write(segment(f, 1), b"").unwrap(), "00000001.rec: "),
        ("manifest removed", |f| std::fs::remove_file(manifest(f)).unwrap(), "manifest.json: missing"),
        (
            "manifest and last segment removed",
            |f| {
                std::fs::remove_file(manifest(f)).unwrap();
                std::fs::remove_file(segment(f, 2)).unwrap();
            },
            "00000002.rec: missing",
        ),
        ("the whole session removed", |f| std::fs::remove_dir_all(segment(f, 0).parent().unwrap()).unwrap(), "manifest.json: missing"),
    ];
    for (what, tamper, expected) in cases {
        let folder = stored(&events(id(1), ""));
        tamper(folder.path());
        let report = all(folder.path()).await;
        assert_eq!(report.exit_status(), 1, "{what}");
        assert!(failures(&report).contains(expected), "{what}: {}", failures(&report));
    }
}

#[tokio::test]
async fn signing_all_of_it_anew_with_another_key_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let other = SigningKey::from_random(&[99; 32]).unwrap();
    write(folder.path(), &objects(id(1), &events(id(1), ""), &other));
    let report = all(folder.path()).await;
    assert_eq!(report.exit_status(), 1);
    assert!(failures(&report).contains("manifest.json: signed by key"), "{}", failures(&report));
}

#[tokio::test]
async fn the_key_of_decisions_is_no_key_of_recordings_and_the_other_way_round() {
    let folder = stored(&events(id(1), ""));
    let keys = folder.path().join("keys");
    std::fs::rename(keys.join("recording.pub.pem"), keys.join("x.pem")).unwrap();
    std::fs::rename(keys.join("decision.pub.pem"), keys.join("recording.pub.pem")).unwrap();
    std::fs::rename(keys.join("x.pem"), keys.join("decision.pub.pem")).unwrap();
    let report = all(folder.path()).await;
    assert_eq!(report.exit_status(), 1);
    for expected in ["manifest.json: signed by key", "recorded as granted, but: 0 of 1 approvals"] {
        assert!(failures(&report).contains(expected), "{}", failures(&report));
    }
}

/// Recordings that are sound as recordings, signed and sealed, but tell of something that must not be.
#[tokio::test]
async fn approvals_that_do_not_hold_are_found_in_a_sealed_recording() {
    type Change = fn(&mut Vec<Event>);
    fn grant(events: &mut [Event], tokens: Vec<String>) {
        for event in events {
            if let Event::Approval { decisions, .. } = event {
                decisions.clone_from(&tokens);
            }
        }
    }
    fn decided(events: &mut [Event], change: impl FnOnce(&mut countersign_approval::Decision)) {
        let mut decision = approval(&request());
        change(&mut decision);
        grant(events, vec![sign(&decision, &decision_key())]);
    }
    let cases: [(&str, Change, &str); 15] = [
        ("no decision", |e| grant(e, Vec::new()), "0 of 1 approvals"),
        ("nonsense", |e| grant(e, vec!["a.b.c".into()]), "not a compact JWS"),
        (
            "another key",
            |e| grant(e, vec![sign(&approval(&request()), &p256::ecdsa::SigningKey::from_slice(&[12; 32]).unwrap())]),
            "key that is not trusted",
        ),
        ("another statement", |e| decided(e, |d| d.digest = support::digest("SELECT 1")), "signed for another statement"),
        ("another requester", |e| decided(e, |d| d.requester_subject = "eve".into()), "signed for another requester"),
        ("another database", |e| decided(e, |d| d.database = "test".into()), "signed for another database"),
        ("another policy", |e| decided(e, |d| d.policy = "00".into()), "signed for another policy"),
        ("after the expiry", |e| decided(e, |d| d.decided_at = d.expires_at), "outside the time"),
        ("the requester", |e| decided(e, |d| d.reviewer.person = d.requester_subject.clone()), "requester"),
        ("a denial", |e| decided(e, |d| d.verdict = countersign_approval::Verdict::Deny), "denied by dana"),
        (
            "a statement exchanged after approval",
            |e| {
                for event in e {
                    if let Event::Statement { statement: 3, text, digest, .. } = event {
                        *text = Bytes::from_static(b"DELETE FROM accounts");
                        *digest = *support::digest("DELETE FROM accounts").bytes();
                    }
                }
            },
            "its statement is not that of the recording",
        ),
        (
            "a digest that is not the text's",
            |e| {
                for event in e {
                    if let Event::Statement { statement: 1, digest, .. } = event {
                        *digest = [0; 32];
                    }
                }
            },
            "the digest of statement 1 is not that of its text",
        ),
        ("no grant at all", |e| e.retain(|event| !matches!(event, Event::Approval { .. })), "statement 3 ran, but it was held"),
        (
            "a denied statement ran",
            |e| {
                let at = e.iter().position(|event| matches!(event, Event::Error { .. })).unwrap();
                e.insert(at, Event::Completion { statement: 2, tag: "DROP TABLE".into(), duration_us: 1 });
            },
            "statement 2 ran, but it was denied",
        ),
        (
            "nothing decided",
            |e| e.retain(|event| !matches!(event, Event::Decision { verdict: Verdict::Allow, .. })),
            "statement 1 ran, but nothing was decided",
        ),
    ];
    for (what, change, expected) in cases {
        let mut events = events(id(1), "");
        change(&mut events);
        let folder = stored(&events);
        let report = all(folder.path()).await;
        assert_eq!(report.exit_status(), 1, "{what}");
        assert!(failures(&report).contains(expected), "{what}: {}", failures(&report));
        assert!(failures(&report).contains("event "), "{what}: {}", failures(&report));
    }
}

#[tokio::test]
async fn a_grant_used_in_two_sessions_is_found() {
    let folder = stored(&events(id(1), ""));
    let second: Vec<Object> =
        objects(id(2), &events(id(2), ""), &recording_key()).into_iter().filter(|object| object.key.starts_with("sessions/")).collect();
    write(folder.path(), &second);
    let report = all(folder.path()).await;
    assert!(failures(&report).contains(&format!("grant of request {} was used before", request_id())), "{}", failures(&report));
    assert!(failures(&report).contains(&format!("grants/{}/2.json: missing", request_id())), "{}", failures(&report));
    assert_eq!(report.failed, 1);
}

/// Marks of used grants lie beside the recordings, in clear and unsigned; what recordings say holds them.
#[tokio::test]
async fn every_tampering_with_marks_and_reviews_is_named() {
    fn grants(folder: &Path) -> PathBuf {
        folder.join("store/grants").join(request_id().as_str())
    }
    fn change(folder: &Path, from: &str, to: &str) {
        let path = grants(folder).join("1.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }
    let digest = support::digest(HELD).to_hex();
    let used_at = format!("\"used_at\":{}", request().created_at + 2);
    let cases: [(&str, &dyn Fn(&Path), &str); 13] = [
        ("another time", &|f| change(f, &used_at, "\"used_at\":1"), "/1.json: used 1970-01-01T00:00:01Z, when no recording says"),
        ("a line feed more", &|f| change(f, "}", "}\n"), "/1.json: not the mark that its name says"),
        ("a member twice", &|f| change(f, "{", "{\"version\":1,"), "/1.json: not the mark that its name says"),
        ("a member more", &|f| change(f, "}", ",\"x\":1}"), "/1.json: not the mark that its name says"),
        ("removed", &|f| std::fs::remove_file(grants(f).join("1.json")).unwrap(), "/1.json: missing: request"),
        ("all removed", &|f| std::fs::remove_dir_all(f.join("store/grants")).unwrap(), "/1.json: missing: request"),
        (
            "moved to another run",
            &|f| std::fs::rename(grants(f).join("1.json"), grants(f).join("2.json")).unwrap(),
            "/2.json: not the mark that its name says",
        ),
        (
            "duplicated",
            &|f| {
                std::fs::copy(grants(f).join("1.json"), grants(f).join("2.json")).unwrap();
            },
            "/2.json: not the mark that its name says",
        ),
        (
            "moved to another request",
            &|f| {
                std::fs::create_dir_all(f.join("store/grants/another")).unwrap();
                std::fs::rename(grants(f).join("1.json"), f.join("store/grants/another/1.json")).unwrap();
            },
            "grants/another/1.json: not the mark that its name says",
        ),
        ("emptied", &|f| std::fs::write(grants(f).join("1.json"), b"").unwrap(), "/1.json: not the mark that its name says"),
        ("another digest", &|f| change(f, &digest, &"0".repeat(64)), "/1.json: its digest is not that of the statement"),
        ("a denial in its place", &|f| change(f, "used_by", "denied_by"), "/1.json: missing: request"),
        (
            "a review of nothing",
            &|f| {
                std::fs::create_dir_all(f.join("store/reviews")).unwrap();
                std::fs::write(f.join("store/reviews/x.json"), b"{}").unwrap();
            },
            "reviews/x.json: a review of nothing",
        ),
    ];
    for (what, tamper, expected) in cases {
        let folder = stored(&events(id(1), ""));
        assert_eq!(all(folder.path()).await.exit_status(), 0);
        tamper(folder.path());
        let report = all(folder.path()).await;
        assert_eq!(report.exit_status(), 1, "{what}");
        assert!(failures(&report).contains(expected), "{what}: {}", failures(&report));
    }
}

/// What is genuine and lies in the wrong store, what is no recording at all, and nothing.
#[tokio::test]
async fn what_does_not_belong_here_is_named() {
    let stored = || stored(&events(id(1), ""));
    // A session of another deployment that signs with the same key; its task is not here.
    let folder = stored();
    let mut foreign = events(id(2), "");
    if let Some(Event::SessionStart(start)) = foreign.first_mut() {
        start.environment = "production".into();
    }
    foreign.retain(|event| !matches!(event, Event::Hold { .. } | Event::Approval { .. } | Event::Completion { statement: 3, .. }));
    write(folder.path(), &objects(id(2), &foreign, &recording_key()));
    let report = all(folder.path()).await;
    assert!(report.store_unchecked.iter().any(|line| line.contains("production (session") && line.contains("--environment")), "{report:?}");
    let archive = archive(folder.path()).await;
    let (report, _) = verify::all_since(&archive, None, Some("test")).await.unwrap();
    assert_eq!(report.exit_status(), 1);
    assert!(failures(&report).contains(&format!("session {} is of environment production, not of test", id(2))), "{}", failures(&report));

    // A genuine session whose task nobody knows here.
    let folder = stored();
    for task in std::fs::read_dir(folder.path().join("store/journal")).unwrap() {
        std::fs::remove_dir_all(task.unwrap().path()).unwrap();
    }
    let report = all(folder.path()).await;
    assert_eq!(report.exit_status(), 1);
    assert!(failures(&report).contains("task.json: missing: sessions/2026/03/01/"), "{}", failures(&report));

    // Objects under names that the format does not have.
    for stray in ["sessions/2026/03/01/copy.rec", "journal/copy/00000000.rec", "digests/x", "index/2026/03/01/day.json.old"] {
        let folder = stored();
        let path = folder.path().join("store").join(stray);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(manifest(folder.path()), path).unwrap();
        let report = all(folder.path()).await;
        assert_eq!(report.exit_status(), 1, "{stray}");
        assert!(failures(&report).contains(&format!("{stray}: the format has no object of this name")), "{}", failures(&report));
    }

    // All of it gone, or another folder.
    let folder = stored();
    std::fs::remove_dir_all(folder.path().join("store")).unwrap();
    std::fs::create_dir(folder.path().join("store")).unwrap();
    let report = all(folder.path()).await;
    assert_eq!((report.exit_status(), report.store_unchecked.len()), (2, 1));
}

/// Whoever can write to the store can put anything in the place of anything: with keys nothing of it is believed.
#[tokio::test]
async fn what_is_forged_hides_nothing_from_lists_and_is_told() {
    let folder = stored(&events(id(1), ""));
    let store = folder.path().join("store");
    let listed = async || {
        let archive = archive(folder.path()).await;
        let rows = countersign_audit::list::rows(&archive, &countersign_audit::list::Filter::default()).await.unwrap();
        (rows.iter().map(|row| (row.session.clone(), row.principal.clone())).collect::<Vec<_>>(), archive.doubts.lines().join("\n"))
    };
    let (before, doubts) = listed().await;
    assert_eq!((before.len(), doubts.as_str()), (1, ""));
    let principal = before.first().unwrap().1.clone();
    // A day far ahead that every task would be older than.
    let forged = SigningKey::from_random(&[99; 32]).unwrap();
    let day = countersign_recording::DayDigest {
        kind: "countersign-day".into(),
        version: 1,
        environment: "test".into(),
        day: "9999/12/31".into(),
        previous: None,
        made_by: countersign_recording::TaskId(uuid::Uuid::from_bytes([1; 16])),
        made_us: i64::MAX,
        tasks: Vec::new(),
        index: Vec::new(),
    };
    let path = store.join("index/9999/12/31/day.json");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, day.unsigned(forged.id()).unwrap().sign(&forged).unwrap()).unwrap();
    let (rows, doubts) = listed().await;
    assert_eq!(rows, before);
    assert!(doubts.contains("index/9999/12/31/day.json: "), "{doubts}");
    // A manifest that says somebody else was there.
    let mut other = countersign_audit::load::stated(&objects(id(1), &events(id(1), ""), &recording_key())).unwrap();
    other.summary.subject = "somebody else".into();
    other.summary.email = None;
    std::fs::write(manifest(folder.path()), other.unsigned(forged.id()).unwrap().sign(&forged).unwrap()).unwrap();
    let (rows, doubts) = listed().await;
    assert_eq!(rows.first().unwrap().1, principal);
    assert!(doubts.contains("manifest.json: "), "{doubts}");
    let (session, _) = archive(folder.path()).await.load(id(1), false).await.unwrap();
    let mut shown = Vec::new();
    countersign_audit::show::show(&session, &mut shown).unwrap();
    assert!(String::from_utf8(shown).unwrap().contains("DAMAGED"));
}

#[tokio::test]
async fn what_cannot_be_checked_is_no_success() {
    let folder = stored(&events(id(1), ""));
    let report = verify::sessions(&archive(folder.path()).await, &[id(9)]).await.unwrap();
    assert_eq!((report.exit_status(), report.unchecked), (2, 1), "an unknown session");

    // A session still running: segments and manifest are not there yet, and the journal does not know of them.
    let folder = tempfile::tempdir().unwrap();
    let open: Vec<Object> = running();
    write(folder.path(), &open);
    let archive = archive(folder.path()).await;
    let report = verify::sessions(&archive, &[id(1)]).await.unwrap();
    assert_eq!((report.exit_status(), failures(&report)), (2, String::new()));
    let report = verify::all(&archive).await.unwrap();
    assert_eq!((report.exit_status(), report.open, failures(&report)), (0, 1, String::new()));
    let late = countersign_audit::load::Archive { now_us: archive.now_us + 7_200_000_000, ..archive };
    let report = verify::all(&late).await.unwrap();
    assert_eq!((report.exit_status(), report.unchecked), (2, 1), "its task fell silent");
}

/// The task and a journal with the first events of a session.
fn running() -> Vec<Object> {
    support::running(id(1), &events(id(1), ""), 5)
}

#[tokio::test]
async fn the_approved_statement_is_the_one_shown() {
    let folder = stored(&events(id(1), ""));
    let mut text = Vec::new();
    all(folder.path()).await.write(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for expected in ["VERIFIED", "statement 3 by dana (rule ci-deletes, quorum 1", "retention  not applicable", "1 verified, 0 failed"] {
        assert!(text.contains(expected), "{text}");
    }
    let (session, _) = archive(folder.path()).await.load(id(1), false).await.unwrap();
    let mut shown = Vec::new();
    countersign_audit::show::show(&session, &mut shown).unwrap();
    assert!(String::from_utf8(shown).unwrap().contains(HELD));
}

/// `countersign-audit verify --all | head` has the status that `countersign-audit verify --all` has.
#[test]
fn a_verdict_stands_however_much_of_the_report_is_read() {
    let folder = stored(&events(id(1), ""));
    let path = folder.path().display().to_string();
    let status = |arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_countersign-audit"));
        program.args(arguments).args(["--store", &format!("directory:{path}/store"), "--keys", &format!("{path}/keys")]);
        program.stdout(writer).stderr(std::process::Stdio::null()).status().unwrap().code()
    };
    let session = id(1).to_string();
    for arguments in [&["verify", "--all"][..], &["verify", "--all", "--json"], &["list"], &["show", &session]] {
        assert_eq!(status(arguments), Some(0), "{arguments:?}");
    }
    std::fs::remove_file(segment(folder.path(), 1)).unwrap();
    for arguments in [&["verify", "--all"][..], &["verify", "--all", "--json"], &["verify", &session]] {
        assert_eq!(status(arguments), Some(1), "{arguments:?}");
    }
    std::fs::remove_dir_all(folder.path().join("keys")).unwrap();
    assert_eq!(status(&["verify", "--all"]), Some(2), "without keys nothing can be verified");
}

/// A legal hold is about everything that a session is proved by, and about no other session.
#[tokio::test]
async fn a_hold_is_about_all_that_proves_a_session() {
    let folder = tempfile::tempdir().unwrap();
    let own = objects(id(1), &events(id(1), ""), &recording_key());
    write(folder.path(), &own);
    let found = countersign_audit::hold::evidence_of(&archive(folder.path()).await, id(1)).await.unwrap();
    let stored: Vec<String> = own.iter().map(|object| object.key.clone()).chain([mark().0]).collect();
    let missing: Vec<&String> = stored.iter().filter(|key| !found.contains(key)).collect();
    assert_eq!((missing, found.len()), (Vec::new(), stored.len()), "{found:?}");
    assert!(countersign_audit::hold::evidence_of(&archive(folder.path()).await, id(2)).await.is_err(), "there is no such session");
}
