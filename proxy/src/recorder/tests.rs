//! The recorder over stores that are slow, fail, lie and die. What it acknowledged is always found by a reader.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use countersign_recording::v1::event::SessionStart;
use countersign_recording::{Event, Keys, Limits, Object, ObjectName, Report, SigningKey, verify_store};
use uuid::Uuid;

use super::*;
use crate::config::Durability;

const NOW_US: i64 = 1_772_366_400_000_000;

fn key() -> SigningKey {
    SigningKey::from_random(&[7; 32]).unwrap()
}

fn keys() -> Keys {
    let mut keys = Keys::new();
    keys.add_der(key().spki()).unwrap();
    keys
}

/// Objects in memory, behind faults.
#[derive(Debug, Default)]
struct FaultyStore {
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// The next puts that fail.
    failing: AtomicUsize,
    /// Everything fails.
    down: AtomicBool,
    /// Nothing answers, as after SIGKILL; half of what is under way still gets through.
    dead: AtomicBool,
    /// Stores, then says it failed.
    forgetful: AtomicBool,
    delay_us: AtomicU64,
    puts: AtomicUsize,
}

#[async_trait]
impl Store for FaultyStore {
    async fn check(&self) -> Result<(), PutError> {
        if self.down.load(Ordering::SeqCst) { Err(PutError::Unavailable("down".to_owned())) } else { Ok(()) }
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, PutError> {
        self.check().await?;
        Ok(self.objects.lock().unwrap().get(key).cloned())
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, PutError> {
        self.check().await?;
        let wanted = |key: &&String| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after);
        Ok(self.objects.lock().unwrap().keys().filter(wanted).cloned().collect())
    }

    async fn folders(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, PutError> {
        let keys = self.list(prefix, None).await?;
        let folders = keys.iter().filter_map(|key| key.strip_prefix(prefix)?.split_once('/')).map(|(name, _)| name.to_owned());
        let mut folders: Vec<String> = folders.filter(|name| after.is_none_or(|after| name.as_str() > after)).collect();
        folders.dedup();
        Ok(folders)
    }

    async fn put(&self, key: &str, object: Bytes) -> Result<(), PutError> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        let delay = self.delay_us.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_micros(delay / 2 + rand::random_range(0..=delay))).await;
        }
        let dead = self.dead.load(Ordering::SeqCst);
        if dead && rand::random() {
            std::future::pending::<()>().await;
        }
        if self.down.load(Ordering::SeqCst)
            || self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        {
            return Err(PutError::Unavailable("injected".into()));
        }
        {
            let mut objects = self.objects.lock().unwrap();
            match objects.get(key) {
                Some(there) if *there != object => return Err(PutError::Conflict),
                _ => objects.insert(key.to_owned(), object),
            };
        }
        if dead {
            std::future::pending::<()>().await;
        }
        if self.forgetful.load(Ordering::SeqCst) && rand::random() {
            return Err(PutError::Unavailable("stored, but the answer was lost".into()));
        }
        Ok(())
    }

    fn describe(&self) -> String {
        "memory".into()
    }
}

impl FaultyStore {
    fn objects(&self) -> Vec<Object> {
        self.objects.lock().unwrap().iter().map(|(key, bytes)| Object { key: key.clone(), bytes: bytes.clone() }).collect()
    }

    /// Verifies everything and gives the sessions' reports.
    fn verified(&self) -> BTreeMap<String, Report> {
        let (journals, reports) = verify_store(&self.objects(), &keys(), &Limits::default());
        assert_eq!(journals.findings(), []);
        for report in &reports {
            assert_eq!(report.findings, [], "session {}", report.session);
        }
        reports.into_iter().map(|report| (report.session.to_string(), report)).collect()
    }
}

fn config(durability: Durability) -> RecorderConfig {
    RecorderConfig {
        environment: "test".into(),
        build: "test".into(),
        store: RecordingStore::Directory { path: PathBuf::new() },
        durability,
        signing_key: crate::config::SigningKey::File(PathBuf::new()),
        sealing: None,
        tuning: Tuning {
            flush_interval: Duration::from_millis(1),
            segment_bytes: 64 << 10,
            bulk_bytes: 16 << 10,
            idle: Duration::from_millis(20),
            backoff: Duration::from_millis(20),
            ..Tuning::default()
        },
    }
}

async fn recorder(store: &Arc<FaultyStore>, config: RecorderConfig) -> Recorder {
    let store: Arc<dyn Store> = store.clone();
    Recorder::with(config, store, Arc::new(PemSigner::from(key()))).await.unwrap()
}

fn start(session: Uuid) -> Event {
    Event::SessionStart(SessionStart {
        session: session.to_string(),
        subject: "ci".into(),
        database: "bank".into(),
        durability: "strict".into(),
        ..SessionStart::default()
    })
}

fn rows(size: usize) -> Event {
    let frames: Vec<u8> = (0..size).map(|_| rand::random()).collect();
    Event::Rows { statement: 1, frames: Bytes::from(frames), count: 1 }
}

fn end() -> Event {
    Event::SessionEnd { reason: "client terminated".into() }
}

/// Appends, flushes and waits until all of it is durable.
async fn say(session: &mut SessionRecorder, events: Vec<Event>) -> Result<u64, RecorderFailure> {
    let mut last = 0;
    for event in events {
        last = session.append(NOW_US, event);
    }
    session.flush();
    while session.durable() <= last {
        session.changed().await?;
    }
    Ok(session.durable())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_every_size_are_sealed_and_verify() {
    let store = Arc::new(FaultyStore::default());
    let recorder = recorder(&store, config(Durability::Strict)).await;
    let mut tasks = Vec::new();
    for n in 0_usize..24 {
        let recorder = recorder.clone();
        tasks.push(tokio::spawn(async move {
            let id = Uuid::now_v7();
            let mut session = recorder.open(id);
            assert_eq!(say(&mut session, vec![start(id)]).await, Ok(1));
            for round in 0..n {
                say(&mut session, vec![rows(n * 40), rows(n * round * 100)]).await.unwrap();
            }
            assert_eq!(session.pending_bytes(), 0);
            say(&mut session, vec![end()]).await.unwrap();
            session.close();
            (id, 2 + 2 * n)
        }));
    }
    let mut expected = Vec::new();
    for task in tasks {
        expected.push(task.await.unwrap());
    }
    assert!(recorder.shutdown(Duration::from_secs(30)).await);
    let reports = store.verified();
    assert_eq!(reports.len(), 24);
    for (id, events) in expected {
        let report = &reports[&id.to_string()];
        assert!(report.verified());
        assert_eq!(report.events.len(), events);
        assert_eq!(report.manifest.as_ref().unwrap().0.reason, "client terminated");
    }
}

/// Nobody waits for it, so it makes no object of its own where something else comes; but it is stored when nothing does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_completion_of_a_command_is_stored_without_anything_after_it() {
    let store = Arc::new(FaultyStore::default());
    let recorder = recorder(&store, config(Durability::Strict)).await;
    let mut session = recorder.open(Uuid::now_v7());
    let completion = || Event::Completion { statement: 1, tag: "UPDATE 1".into(), duration_us: 1 };
    assert_eq!(say(&mut session, vec![start(Uuid::now_v7())]).await, Ok(1));
    assert_eq!(say(&mut session, vec![completion()]).await, Ok(2));
    assert_eq!(say(&mut session, vec![completion(), completion()]).await, Ok(4));
    assert_eq!(say(&mut session, vec![completion(), rows(10)]).await, Ok(6));
}

/// One put for all: what waits while the store is busy goes together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_do_not_grow_with_sessions() {
    let mut counts = Vec::new();
    for sessions in [1, 64] {
        let store = Arc::new(FaultyStore::default());
        let mut config = config(Durability::Strict);
        config.tuning.in_flight = 1;
        let recorder = recorder(&store, config).await;
        let mut open: Vec<SessionRecorder> = (0..sessions)
            .map(|_| {
                let id = Uuid::now_v7();
                let mut session = recorder.open(id);
                session.append(NOW_US, start(id));
                session.flush();
                session
            })
            .collect();
        store.delay_us.store(20_000, Ordering::SeqCst);
        let before = store.puts.load(Ordering::SeqCst);
        for _ in 0..5 {
            for session in &mut open {
                session.append(NOW_US, rows(50));
                session.flush();
            }
            for session in &mut open {
                say(session, vec![]).await.unwrap_or_default();
                while session.durable() < 1 {
                    session.changed().await.unwrap();
                }
            }
        }
        for session in &mut open {
            while session.durable() < 6 {
                session.changed().await.unwrap();
            }
        }
        counts.push(store.puts.load(Ordering::SeqCst) - before);
    }
    // Without grouping the second would be at least 64 times 5.
    assert!(counts[1] < 64, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_for_a_while_only_delays() {
    let store = Arc::new(FaultyStore::default());
    let recorder = recorder(&store, config(Durability::Strict)).await;
    store.forgetful.store(true, Ordering::SeqCst);
    let id = Uuid::now_v7();
    let mut session = recorder.open(id);
    say(&mut session, vec![start(id)]).await.unwrap();
    for round in 0..12 {
        store.failing.store(3, Ordering::SeqCst);
        say(&mut session, vec![rows(100), rows(round * 4000)]).await.unwrap();
    }
    say(&mut session, vec![end()]).await.unwrap();
    store.failing.store(5, Ordering::SeqCst);
    session.close();
    assert!(recorder.shutdown(Duration::from_secs(30)).await);
    assert!(store.verified()[&id.to_string()].verified());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_for_good_ends_strict_sessions_and_loses_nothing_acknowledged() {
    let store = Arc::new(FaultyStore::default());
    let mut config = config(Durability::Strict);
    config.tuning.patience = Duration::from_millis(100);
    let recorder = recorder(&store, config).await;
    let id = Uuid::now_v7();
    let mut session = recorder.open(id);
    let acknowledged = say(&mut session, vec![start(id), rows(10)]).await.unwrap();
    store.down.store(true, Ordering::SeqCst);
    assert_eq!(say(&mut session, vec![rows(10)]).await, Err(RecorderFailure::Store));
    assert!(recorder.failing_for().is_some());
    // A session that comes while it lasts is told sooner or later, and not kept for ever.
    let late = Uuid::now_v7();
    let mut another = recorder.open(late);
    assert_eq!(say(&mut another, vec![start(late)]).await, Err(RecorderFailure::Store));
    session.append(NOW_US, Event::SessionEnd { reason: "recorder failed".into() });
    session.close();
    assert!(!recorder.shutdown(Duration::from_millis(50)).await);
    let (_, reports) = verify_store(&store.objects(), &keys(), &Limits::default());
    assert_eq!(u64::try_from(reports[0].events.len()).unwrap(), acknowledged);
    // When it comes back, what was left is stored after all.
    drop(another);
    store.down.store(false, Ordering::SeqCst);
    for _ in 0..500 {
        if store.objects().iter().filter(|object| object.key.ends_with("manifest.json")).count() == 2 && recorder.failing_for().is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let reports = store.verified();
    assert!(reports[&id.to_string()].verified());
    assert_eq!(reports[&id.to_string()].manifest.as_ref().unwrap().0.reason, "recorder failed");
}

/// The process dies at any moment: nothing acknowledged is missing, and anybody can read it without repair.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_everything_acknowledged_is_found() {
    for round in 0..12 {
        let store = Arc::new(FaultyStore::default());
        store.delay_us.store(500, Ordering::SeqCst);
        let recorder = recorder(&store, config(Durability::Strict)).await;
        let mut tasks = Vec::new();
        for n in 0_usize..8 {
            let recorder = recorder.clone();
            let store = Arc::clone(&store);
            tasks.push(tokio::spawn(async move {
                let id = Uuid::now_v7();
                let mut session = recorder.open(id);
                let mut acknowledged = 0;
                session.append(NOW_US, start(id));
                loop {
                    session.append(NOW_US, rows(n * rand::random_range(0..4000)));
                    session.flush();
                    tokio::select! {
                        durable = session.changed() => acknowledged = durable.unwrap(),
                        () = tokio::time::sleep(Duration::from_millis(1)) => {}
                    }
                    if store.dead.load(Ordering::SeqCst) {
                        // What was durable before the death was noticed here.
                        std::mem::forget(session);
                        return (id, acknowledged);
                    }
                }
            }));
        }
        tokio::time::sleep(Duration::from_millis(7 * round + 3)).await;
        store.dead.store(true, Ordering::SeqCst);
        let mut acknowledged = Vec::new();
        for task in tasks {
            acknowledged.push(task.await.unwrap());
        }
        let (journals, reports) = verify_store(&store.objects(), &keys(), &Limits::default());
        assert_eq!(journals.findings(), []);
        for (id, durable) in acknowledged {
            let found = reports.iter().find(|report| report.session.0 == id);
            let events = found.map_or(0, |report| report.events.len());
            assert!(u64::try_from(events).unwrap() >= durable, "round {round}: {durable} events were acknowledged, {events} are found");
            if let Some(report) = found {
                assert_eq!(report.findings, []);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn async_sessions_go_on_and_the_recording_says_what_was_lost() {
    let store = Arc::new(FaultyStore::default());
    let mut config = config(Durability::Async);
    config.tuning.buffer_bytes = 20_000;
    config.tuning.patience = Duration::from_millis(10);
    let recorder = recorder(&store, config).await;
    let id = Uuid::now_v7();
    let mut session = recorder.open(id);
    say(&mut session, vec![start(id)]).await.unwrap();
    store.down.store(true, Ordering::SeqCst);
    for _ in 0..100 {
        session.append(NOW_US, rows(1000));
        session.flush();
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(session.pending_bytes(), 0, "nothing waits for a store that does not answer");
    // The start may be told of once more.
    let told = tokio::time::timeout(Duration::from_millis(20), session.changed()).await;
    assert!(matches!(told, Err(_) | Ok(Ok(1))), "no failure, and no false word of durability: {told:?}");
    store.down.store(false, Ordering::SeqCst);
    while session.durable() < 101 {
        session.append(NOW_US, rows(1));
        session.flush();
        let _wait = tokio::time::timeout(Duration::from_millis(20), session.changed()).await;
    }
    session.append(NOW_US, end());
    session.close();
    assert!(recorder.shutdown(Duration::from_secs(30)).await);
    let report = store.verified().remove(&id.to_string()).unwrap();
    assert!(report.verified());
    let lost = report.manifest.unwrap().0.summary.lost;
    assert!((60..100).contains(&lost), "{lost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_was_sealed_by_another_ends() {
    let store = Arc::new(FaultyStore::default());
    let recorder = recorder(&store, config(Durability::Strict)).await;
    let id = Uuid::now_v7();
    let mut session = recorder.open(id);
    say(&mut session, vec![start(id)]).await.unwrap();
    let name = ObjectName::Segment { day: "2026/03/01".into(), session: id.into(), number: 0 };
    store.put(&name.to_string(), Bytes::from_static(b"somebody else's")).await.unwrap();
    let failure = loop {
        if let Err(failure) = say(&mut session, vec![rows(40_000)]).await {
            break failure;
        }
    };
    assert_eq!(failure, RecorderFailure::Conflict);
    assert_eq!(store.objects.lock().unwrap()[&name.to_string()], Bytes::from_static(b"somebody else's"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_at_the_end_is_sealed_and_nothing_begins_after_it() {
    let store = Arc::new(FaultyStore::default());
    let recorder = recorder(&store, config(Durability::Strict)).await;
    let (id, dropped, never) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let mut session = recorder.open(id);
    say(&mut session, vec![start(id)]).await.unwrap();
    let mut another = recorder.open(dropped);
    say(&mut another, vec![start(dropped)]).await.unwrap();
    drop(another);
    drop(recorder.open(never));
    assert!(recorder.shutdown(Duration::from_secs(30)).await);
    let mut late = recorder.open(Uuid::now_v7());
    assert_eq!(say(&mut late, vec![start(id)]).await, Err(RecorderFailure::Stopped));
    let reports = store.verified();
    let reason = |id: Uuid| reports[&id.to_string()].manifest.as_ref().unwrap().0.reason.clone();
    assert_eq!((reason(id).as_str(), reason(dropped).as_str()), ("shutdown", "abandoned"));
    assert_eq!(reports.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_holds_what_a_reader_verifies() {
    let root = tempfile::tempdir().unwrap();
    let pem = root.path().join("recording.key.pem");
    std::fs::write(&pem, "not a key").unwrap();
    let mut config = config(Durability::Strict);
    config.store = RecordingStore::Directory { path: root.path().join("recordings") };
    config.signing_key = crate::config::SigningKey::File(pem);
    let refused = Recorder::start(config.clone(), None).await.unwrap_err().to_string();
    assert!(refused.contains("recording.key.pem") && refused.contains("openssl"), "{refused}");

    let store = Arc::new(DirectoryStore::open(&root.path().join("recordings")).unwrap());
    let recorder = Recorder::with(config, store, Arc::new(PemSigner::from(key()))).await.unwrap();
    let id = Uuid::now_v7();
    let mut session = recorder.open(id);
    say(&mut session, vec![start(id), rows(100_000), end()]).await.unwrap();
    session.close();
    assert!(recorder.shutdown(Duration::from_secs(30)).await);
    let mut objects = Vec::new();
    collect(&root.path().join("recordings"), "", &mut objects);
    let (journals, reports) = verify_store(&objects, &keys(), &Limits::default());
    assert_eq!(journals.findings(), []);
    assert!(reports[0].verified());
}

fn collect(at: &std::path::Path, prefix: &str, objects: &mut Vec<Object>) {
    for entry in std::fs::read_dir(at).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{name}/"), objects);
        } else {
            objects.push(Object { key: name, bytes: Bytes::from(std::fs::read(entry.path()).unwrap()) });
        }
    }
}

/// One task is killed; another, which comes later, seals what it left open, says so in its digest, and signs for the day.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_tasks_sessions_are_sealed_by_another_and_the_day_is_signed() {
    let store = Arc::new(FaultyStore::default());
    let mut config = config(Durability::Strict);
    config.tuning.digest_interval = Duration::from_millis(100);
    config.tuning.orphan_after = Duration::from_millis(600);
    let first = recorder(&store, config.clone()).await;
    let (sealed, left) = (Uuid::now_v7(), Uuid::now_v7());
    let mut session = first.open(sealed);
    say(&mut session, vec![start(sealed), rows(10)]).await.unwrap();
    let mut orphan = first.open(left);
    let acknowledged = say(&mut orphan, vec![start(left), rows(10), rows(40_000), rows(10)]).await.unwrap();
    session.append(now_us(), end());
    session.close();
    tokio::time::sleep(Duration::from_millis(400)).await;
    // Dead from here on: whatever it does no longer reaches the store.
    let dead = Arc::new(FaultyStore { objects: Mutex::new(store.objects.lock().unwrap().clone()), ..FaultyStore::default() });
    store.down.store(true, Ordering::SeqCst);

    let second = recorder(&dead, config.clone()).await;
    let manifest = |store: &FaultyStore| {
        store.objects().iter().any(|object| object.key.contains(&left.to_string()) && object.key.ends_with("manifest.json"))
    };
    for _ in 0..200 {
        if manifest(&dead) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(manifest(&dead), "nobody sealed the orphan");
    assert!(second.shutdown(Duration::from_secs(20)).await);
    let reports = dead.verified();
    let (manifest, _) = reports[&left.to_string()].manifest.as_ref().unwrap();
    assert_eq!((manifest.seal, manifest.reason.as_str()), (countersign_recording::Seal::Orphan, "orphan"));
    assert!(manifest.events > acknowledged, "all that was acknowledged, and the end");

    let objects = dead.objects();
    let journals = countersign_recording::Journals::read(&objects, &keys(), &Limits::default(), |_| false);
    let digests = countersign_recording::Digests::read(&objects, &journals, &keys(), &Limits::default());
    assert_eq!(digests.findings(), []);
    let found: std::collections::BTreeSet<Uuid> = digests.sealed().into_iter().map(|session| session.0).collect();
    assert_eq!(found, [sealed, left].into());
    let seen =
        digests.of_task(second.task()).flat_map(|digest| &digest.tasks).find(|seen| seen.state == countersign_recording::TaskState::Dead);
    assert!(seen.is_some_and(|seen| seen.task == first.task() && seen.journal.is_some()), "{seen:?}");
    assert!(digests.of_task(second.task()).last().unwrap().last, "the last digest says that it is");

    // A day later a third task signs for the day, and what was sealed then is in its index.
    let third = recorder(&dead, config).await;
    let care = caretaker::Care {
        messages: third.messages.downgrade(),
        task: TaskId(Uuid::now_v7()),
        environment: "test".into(),
        build: "test".into(),
        tuning: Tuning::default(),
        statement: Hash::ZERO,
        started_us: now_us(),
    };
    let shared: Arc<dyn Store> = dead.clone();
    let parts = PutParts {
        store: shared,
        signer: Arc::new(PemSigner::from(key())),
        health: Arc::new(Health::default()),
        runtime: tokio::runtime::Handle::current(),
    };
    let mut tomorrow = Caretaker::new(care, parts);
    tomorrow.days_for_tests(now_us() + 2 * 86_400_000_000).await.unwrap();
    assert!(third.shutdown(Duration::from_secs(20)).await);
    dead.verified();
    let objects = dead.objects();
    let digests = countersign_recording::Digests::read(&objects, &journals_of(&objects), &keys(), &Limits::default());
    assert_eq!(digests.findings(), []);
    let days: Vec<_> = digests.of_days().collect();
    assert_eq!(days.iter().flat_map(|day| &day.index).map(|entry| entry.sessions).sum::<u64>(), 2);
    // Whatever is removed whole, of either task, something signed names it.
    for task in [first.task(), second.task()] {
        let gone = |object: &Object| object.key.contains(&task.to_string()) || object.key.starts_with("sessions/");
        let left: Vec<Object> = objects.iter().filter(|object| !gone(object)).cloned().collect();
        let (journals, _) = verify_store(&left, &keys(), &Limits::default());
        let found: Vec<String> = journals.findings().iter().map(ToString::to_string).collect();
        for key in [format!("journal/{task}/task.json: missing"), format!("digests/{task}/")] {
            assert!(found.iter().any(|finding| finding.starts_with(&key)), "{key}: {found:?}");
        }
    }
}

fn journals_of(objects: &[Object]) -> countersign_recording::Journals {
    countersign_recording::Journals::read(objects, &keys(), &Limits::default(), |_| false)
}
