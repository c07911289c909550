//! A store in a directory with one session, made the way the gateway makes it: held, approved, run, masked, sealed.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use bytes::Bytes;
use countersign_approval::v1::{Decision, Requester, Reviewer};
use countersign_approval::{KeyId, Parameter, Request, RequestId, StatementDigest, jws};
use countersign_audit::keys::TrustedKeys;
use countersign_audit::load::Archive;
use countersign_audit::store::{Store, StoreAddress};
use countersign_recording::v1::event::{MaskedColumn, SessionStart, Verdict};
use countersign_recording::v1::manifest::Payload as _;
use countersign_recording::v1::names::day;
use countersign_recording::{
    Chain, Event, Hash, JournalEntry, JournalRange, JournalWriter, Limits, Manifest, Object, ObjectName, Seal, SegmentEntry, SegmentWriter,
    SessionId, SigningKey, Summary, TaskId, TaskStatement,
};
use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use uuid::Uuid;

pub(crate) const START_US: i64 = 1_772_366_400_000_000;
pub(crate) const POLICY: [u8; 32] = [3; 32];
pub(crate) const HELD: &str = "DELETE FROM accounts WHERE owner = 'mallory'";

pub(crate) fn id(n: u8) -> SessionId {
    SessionId(Uuid::from_bytes([n; 16]))
}

pub(crate) fn request_id() -> RequestId {
    RequestId::from_bytes([0xab; 16])
}

pub(crate) fn recording_key() -> SigningKey {
    SigningKey::from_random(&[7; 32]).unwrap()
}

pub(crate) fn decision_key() -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[11; 32]).unwrap()
}

pub(crate) fn digest(statement: &str) -> StatementDigest {
    StatementDigest::compute(statement.as_bytes(), std::iter::empty::<Parameter<'_>>())
}

pub(crate) fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// One text column and its values.
pub(crate) fn rows(name: &str, values: &[&str]) -> Bytes {
    let column = [name.as_bytes(), &[0; 7], &25_u32.to_be_bytes(), &[0; 8]].concat();
    let mut frames = frame(b'T', &[&1_i16.to_be_bytes()[..], &column].concat());
    for value in values {
        let length = u32::try_from(value.len()).unwrap();
        frames.extend(frame(b'D', &[&1_i16.to_be_bytes()[..], &length.to_be_bytes(), value.as_bytes()].concat()));
    }
    Bytes::from(frames)
}

pub(crate) fn request() -> Request {
    let start = START_US.unsigned_abs() / 1_000_000;
    Request {
        version: 1,
        id: request_id(),
        environment: "test".into(),
        created_at: start,
        expires_at: start + 900,
        statement: HELD.into(),
        parameters: Vec::new(),
        digest: digest(HELD),
        requester: Requester {
            issuer: "http://issuer/".into(),
            subject: "repo:bank/app".into(),
            email: None,
            groups: vec!["ci".into()],
            claims: Default::default(),
        },
        database: "bank".into(),
        policy: hex::encode(POLICY),
        rule: "ci-deletes".into(),
        reason: "writes from CI".into(),
        reviewers: vec!["dba".into()],
        quorum: 1,
        runs: 1,
        step_up: false,
        facts: Vec::new(),
        session: id(1).to_string(),
        sources: Vec::new(),
    }
}

pub(crate) fn approval(request: &Request) -> Decision {
    Decision {
        version: 1,
        request: request.id.clone(),
        environment: request.environment.clone(),
        digest: request.digest,
        shown: request.fingerprint(),
        requester_issuer: request.requester.issuer.clone(),
        requester_subject: request.requester.subject.clone(),
        database: request.database.clone(),
        policy: request.policy.clone(),
        rule: request.rule.clone(),
        expires_at: request.expires_at,
        reviewer: Reviewer {
            person: "dana".into(),
            slack: "T0BANK/U0DANA".into(),
            email: Some("dana@bank.example".into()),
            groups: vec!["dba".into()],
            subjects: Vec::new(),
        },
        verdict: countersign_approval::Verdict::Approve,
        runs: 1,
        step_up: None,
        reason: None,
        decided_at: request.created_at + 1,
        snapshot: None,
    }
}

pub(crate) fn sign(decision: &Decision, key: &p256::ecdsa::SigningKey) -> String {
    let input = jws::signing_input(decision, &KeyId::of(key.verifying_key()).unwrap()).unwrap();
    jws::attach(&input, &key.sign(input.as_bytes()))
}

fn statement(number: u64, text: &str) -> Event {
    Event::Statement {
        statement: number,
        extended: false,
        text: Bytes::copy_from_slice(text.as_bytes()),
        parameters: Vec::new(),
        digest: *digest(text).bytes(),
    }
}

fn decision(statement: u64, verdict: Verdict, rule: &str) -> Event {
    Event::Decision { statement, verdict, rule: rule.into(), policy: POLICY, facts: "[]".into() }
}

/// What happens in the session, with text somebody hostile chose.
pub(crate) fn events(session: SessionId, hostile: &str) -> Vec<Event> {
    let request = request();
    let body = String::from_utf8(request.to_bytes().unwrap()).unwrap();
    vec![
        Event::SessionStart(SessionStart {
            session: session.to_string(),
            environment: "test".into(),
            build: "countersign-proxy 0.1.0".into(),
            issuer: "http://issuer/".into(),
            subject: "repo:bank/app".into(),
            database: "bank".into(),
            upstream_user: "gateway".into(),
            application: hostile.into(),
            policy: POLICY,
            durability: "strict".into(),
            ..SessionStart::default()
        }),
        statement(1, &format!("SELECT ssn FROM customers -- {hostile}")),
        decision(1, Verdict::Allow, "reads"),
        Event::Rows { statement: 1, frames: rows(&format!("ssn{hostile}"), &["*******6789", hostile]), count: 2 },
        Event::Masked {
            statement: 1,
            columns: vec![MaskedColumn { column: "ssn".into(), source: "public.customers.ssn".into(), mask: "last4".into(), values: 2 }],
        },
        Event::Completion { statement: 1, tag: "SELECT 2".into(), duration_us: 1500 },
        statement(2, "DROP TABLE customers"),
        decision(2, Verdict::Deny, "default"),
        Event::Error { statement: 2, code: "42501".into(), message: format!("refused {hostile}"), from_server: false },
        statement(3, HELD),
        decision(3, Verdict::Hold, "ci-deletes"),
        Event::Hold { statement: 3, request: request.id.to_string(), body },
        Event::Approval {
            statement: 3,
            request: request.id.to_string(),
            outcome: "granted".into(),
            decisions: vec![sign(&approval(&request), &decision_key())],
        },
        Event::Completion { statement: 3, tag: "DELETE 1".into(), duration_us: 900 },
        Event::SessionEnd { reason: "client terminated".into() },
    ]
}

/// The objects of a sealed session in three segments, its journal and its task.
pub(crate) fn objects(session: SessionId, events: &[Event], key: &SigningKey) -> Vec<Object> {
    let task = TaskId(Uuid::from_bytes([0x77; 16]));
    let task_key = SigningKey::from_random(&[9; 32]).unwrap();
    let mut objects = Vec::new();
    let mut put = |name: ObjectName, bytes: Vec<u8>| {
        let hash = Hash::of(&bytes);
        objects.push(Object { key: name.to_string(), bytes: Bytes::from(bytes) });
        hash
    };
    let statement = TaskStatement {
        kind: TaskStatement::KIND.into(),
        version: 1,
        task,
        environment: "test".into(),
        build: "countersign-proxy 0.1.0".into(),
        started_us: START_US,
        in_flight: 2,
        key: TaskStatement::key_of(&task_key),
    };
    let before = put(ObjectName::Task { task }, statement.unsigned(key.id()).unwrap().sign(key).unwrap());

    let day = day(START_US);
    let mut chain = Chain::new(session);
    let mut summary = Summary::default();
    let mut segments = Vec::new();
    let mut entries = Vec::new();
    let mut time_us = START_US;
    for (number, part) in (0_u32..).zip(events.chunks(events.len().div_ceil(3))) {
        let (first, previous) = (chain.next(), chain.head());
        let mut bytes = Vec::new();
        for event in part {
            chain.append(time_us, event, &mut bytes);
            summary.observe(event);
            time_us += 250_000;
        }
        let count = chain.next() - first;
        let mut writer = SegmentWriter::new(session, Some(task), number, first, &previous);
        writer.push(&bytes, count).unwrap();
        let object = writer.finish(Some(&task_key)).unwrap();
        let length = u64::try_from(object.len()).unwrap();
        let sha256 = put(ObjectName::Segment { day: day.clone(), session, number }, object);
        segments.push(SegmentEntry { number, sha256, length, first_event: first, events: count });
        entries.push(JournalEntry::Events { session, first, events: Bytes::from(bytes) });
        entries.push(JournalEntry::Segment { session, number, sha256, events: chain.next() });
    }
    let reason = match events.last() {
        Some(Event::SessionEnd { reason }) => reason.clone(),
        _ => String::new(),
    };
    let manifest = Manifest {
        kind: Manifest::KIND.into(),
        version: 1,
        session,
        environment: "test".into(),
        task: Some(task),
        started_us: START_US,
        ended_us: time_us - 250_000,
        reason,
        durability: "strict".into(),
        seal: Seal::Closed,
        sealed_us: time_us,
        sealed_by: "countersign-proxy 0.1.0".into(),
        segments,
        events: chain.next(),
        head: chain.head(),
        journal: Some(JournalRange { first: 0, last: 0 }),
        summary,
    };
    let sha256 = put(ObjectName::Manifest { day, session }, manifest.unsigned(key.id()).unwrap().sign(key).unwrap());
    entries.push(JournalEntry::Manifest { session, sha256 });
    entries.push(JournalEntry::End);
    let mut journal = JournalWriter::new(task, 0, &before, START_US, 0);
    entries.iter().for_each(|entry| journal.push(entry));
    put(ObjectName::Journal { task, number: 0 }, journal.finish(&task_key).unwrap());
    objects
}

/// The mark that the gateway left when the approved statement ran, and its name.
pub(crate) fn mark() -> (String, String) {
    let request = request();
    let mark = serde_json::json!({
        "version": 1, "request": request.id.as_str(), "run": 1, "digest": request.digest.to_hex(), "used_by": "0190-1", "used_at": request.created_at + 2,
    });
    (format!("grants/{}/1.json", request.id), mark.to_string())
}

/// Writes objects and the public keys under a folder: `store/` and `keys/`.
pub(crate) fn write(folder: &Path, objects: &[Object]) {
    for object in objects {
        let path = folder.join("store").join(&object.key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &object.bytes).unwrap();
    }
    let (name, mark) = mark();
    let path = folder.join("store").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, mark).unwrap();
    let keys = folder.join("keys");
    std::fs::create_dir_all(&keys).unwrap();
    std::fs::write(keys.join("recording.pub.pem"), recording_key().public_pem().unwrap()).unwrap();
    std::fs::write(keys.join("decision.pub.pem"), decision_key().verifying_key().to_public_key_pem(LineEnding::LF).unwrap()).unwrap();
}

pub(crate) async fn archive(folder: &Path) -> Archive {
    Archive {
        opener: countersign_audit::opening::Opener::default(),
        store: Store::open(&StoreAddress::Directory(folder.join("store"))).await,
        keys: TrustedKeys::read(&folder.join("keys")).unwrap(),
        limits: Limits::default(),
        now_us: START_US + 60_000_000,
        silence_us: 3_600_000_000,
        doubts: countersign_audit::load::Doubts::default(),
    }
}

/// A task and its journal with the first events of a session that goes on.
pub(crate) fn running(session: SessionId, events: &[Event], count: usize) -> Vec<Object> {
    let task = TaskId(Uuid::from_bytes([0x77; 16]));
    let task_key = SigningKey::from_random(&[9; 32]).unwrap();
    let mut objects = objects(session, events, &recording_key());
    objects.truncate(1);
    let statement = objects.first().unwrap();
    let mut chain = Chain::new(session);
    let mut bytes = Vec::new();
    for event in events.iter().take(count) {
        chain.append(START_US, event, &mut bytes);
    }
    let mut journal = JournalWriter::new(task, 0, &Hash::of(&statement.bytes), START_US, 0);
    journal.push(&JournalEntry::Events { session, first: 0, events: Bytes::from(bytes) });
    let key = ObjectName::Journal { task, number: 0 }.to_string();
    objects.push(Object { key, bytes: Bytes::from(journal.finish(&task_key).unwrap()) });
    objects
}
