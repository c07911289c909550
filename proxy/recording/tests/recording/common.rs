//! Recordings to play with, made the way the recorder makes them.
use bytes::Bytes;
use countersign_recording::v1::event::{MaskedColumn, Parameter, SessionStart, Verdict};
use countersign_recording::v1::manifest::Payload as _;
use countersign_recording::v1::names::day;
use countersign_recording::{
    Chain, DayDigest, Event, Hash, Head, IndexEntry, IndexRow, JournalEntry, JournalRange, JournalWriter, Keys, Manifest, Object,
    ObjectName, Outage, Seal, SeenDay, SeenTask, SegmentEntry, SegmentWriter, SessionId, SigningKey, Summary, TaskDigest, TaskId,
    TaskState, TaskStatement, write_index,
};
use uuid::Uuid;

pub(crate) const START_US: i64 = 1_772_366_400_000_000;

pub(crate) fn session(n: u8) -> SessionId {
    SessionId(Uuid::from_bytes([n; 16]))
}

pub(crate) fn task() -> TaskId {
    TaskId(Uuid::from_bytes([0x77; 16]))
}

/// The key that manifests are signed with.
pub(crate) fn recording_key() -> SigningKey {
    SigningKey::from_random(&[7; 32]).unwrap()
}

/// The key of the task.
pub(crate) fn task_key() -> SigningKey {
    SigningKey::from_random(&[9; 32]).unwrap()
}

pub(crate) fn keys() -> Keys {
    let mut keys = Keys::new();
    keys.add_pem(&recording_key().public_pem().unwrap()).unwrap();
    keys
}

/// One event of every kind.
pub(crate) fn events(session: SessionId) -> Vec<Event> {
    vec![
        Event::SessionStart(SessionStart {
            session: session.to_string(),
            environment: "test".into(),
            build: "countersign-proxy 0.1.0".into(),
            issuer: "http://issuer/".into(),
            subject: "repo:bank/app".into(),
            email: Some("ci@bank.example".into()),
            groups: vec!["ci".into(), "deploy".into()],
            claims: vec![("repository".into(), "bank/app".into())],
            client_addr: "127.0.0.1:50000".into(),
            client_tls: "TLSv1.3".into(),
            upstream_addr: "127.0.0.1:5432".into(),
            upstream_tls: "TLSv1.3".into(),
            upstream_pid: 4711,
            upstream_user: "gateway".into(),
            database: "bank".into(),
            application: "psql".into(),
            policy: [3; 32],
            durability: "strict".into(),
        }),
        Event::Parameter { name: "server_version".into(), value: "15.14".into() },
        Event::Statement {
            statement: 1,
            extended: true,
            text: Bytes::from_static(b"delete from accounts where id = $1"),
            parameters: vec![
                Parameter { type_oid: 23, format: 1, value: Some(Bytes::from_static(&[0, 0, 0, 7])) },
                Parameter { type_oid: 0, format: 0, value: None },
            ],
            digest: [4; 32],
        },
        Event::Decision {
            statement: 1,
            verdict: Verdict::Hold,
            rule: "ci-deletes-need-a-reviewer".into(),
            policy: [3; 32],
            facts: r#"[{"kind":"write","reads":[],"writes":[{"schema":"public","name":"accounts"}]}]"#.into(),
        },
        Event::Hold { statement: 1, request: "req-1".into(), body: "{}".into() },
        Event::Approval { statement: 1, request: "req-1".into(), outcome: "granted".into(), decisions: vec!["a.b.c".into()] },
        Event::Rows { statement: 1, frames: Bytes::from_static(b"T\0\0\0\x06\0\0D\0\0\0\x06\0\0"), count: 1 },
        Event::CopyIn { statement: 1, frames: Bytes::from_static(b"d\0\0\0\x05x") },
        Event::Masked {
            statement: 1,
            columns: vec![MaskedColumn { column: "ssn".into(), source: "public.customers.ssn".into(), mask: "last4".into(), values: 5 }],
        },
        Event::Completion { statement: 1, tag: "DELETE 1".into(), duration_us: 1234 },
        Event::Decision { statement: 2, verdict: Verdict::Deny, rule: "default".into(), policy: [3; 32], facts: "not json".into() },
        Event::Error { statement: 2, code: "42501".into(), message: "refused".into(), from_server: false },
        Event::Notice { frame: Bytes::from_static(b"N\0\0\0\x05\0") },
        Event::Token { issuer: "http://issuer/".into(), subject: "repo:bank/app".into(), expires_us: START_US + 3_600_000_000 },
        Event::Cancel { statement: 0 },
        Event::Gap { events: 2, reason: "full".into() },
        Event::Anomaly { statement: 2, what: "second opinion".into() },
        Event::Decision { statement: 3, verdict: Verdict::Allow, rule: "reads".into(), policy: [3; 32], facts: "[]".into() },
        Event::SessionEnd { reason: "client terminated".into() },
    ]
}

/// A store in the making.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) objects: Vec<Object>,
    journal: Option<Hash>,
    journals: u32,
    digest: Option<Hash>,
    digests: u32,
}

impl Store {
    pub(crate) fn put(&mut self, name: &ObjectName, bytes: Vec<u8>) -> Hash {
        let hash = Hash::of(&bytes);
        self.objects.push(Object { key: name.to_string(), bytes: Bytes::from(bytes) });
        hash
    }

    pub(crate) fn task(&mut self) {
        let statement = TaskStatement {
            kind: TaskStatement::KIND.into(),
            version: 1,
            task: task(),
            environment: "test".into(),
            build: "countersign-proxy 0.1.0".into(),
            started_us: START_US,
            in_flight: 2,
            key: TaskStatement::key_of(&task_key()),
        };
        let object = statement.unsigned(recording_key().id()).unwrap().sign(&recording_key()).unwrap();
        self.journal = Some(self.put(&ObjectName::Task { task: task() }, object));
        self.digest = self.journal;
    }

    /// An index object of the sealed sessions at hand.
    pub(crate) fn index_object(&mut self, name: &ObjectName) -> IndexEntry {
        let rows: Vec<IndexRow> = self
            .objects
            .iter()
            .filter(|object| object.key.ends_with("/manifest.json"))
            .map(|object| IndexRow::of(&Manifest::unverified(&object.bytes).unwrap(), Hash::of(&object.bytes)))
            .collect();
        let object = write_index(&rows).unwrap();
        let length = u64::try_from(object.len()).unwrap();
        let sha256 = self.put(name, object);
        let (first_us, last_us) = (START_US, START_US);
        IndexEntry { key: name.to_string(), sha256, length, sessions: u64::try_from(rows.len()).unwrap(), first_us, last_us }
    }

    /// The next digest of the task.
    pub(crate) fn digest(&mut self, sealed: bool, last: bool, tasks: Vec<SeenTask>, day: Option<SeenDay>) -> JournalEntry {
        let number = self.digests;
        let sealed = sealed.then(|| self.index_object(&ObjectName::DigestIndex { task: task(), number }));
        let digest = TaskDigest {
            kind: TaskDigest::KIND.into(),
            version: 1,
            task: task(),
            environment: "test".into(),
            number,
            previous: self.digest.unwrap(),
            from_us: START_US + i64::from(number),
            until_us: START_US + i64::from(number) + 1,
            last,
            journal: Head { objects: self.journals, sha256: self.journal.unwrap() },
            sealed,
            open: Vec::new(),
            lost: 2,
            outages: vec![Outage { from_us: START_US, until_us: None, error: "503 SlowDown".into() }],
            tasks,
            day,
        };
        let object = digest.unsigned(recording_key().id()).unwrap().sign(&recording_key()).unwrap();
        let sha256 = self.put(&ObjectName::Digest { task: task(), number }, object);
        self.digest = Some(sha256);
        self.digests += 1;
        JournalEntry::Digest { number, sha256 }
    }

    /// The digest of the day.
    pub(crate) fn day(&mut self) -> SeenDay {
        let day = day(START_US);
        let index = self.index_object(&ObjectName::DayIndex { day: day.clone(), task: task(), number: 0 });
        let digests = self.digest.map(|sha256| Head { objects: self.digests, sha256 });
        let digest = DayDigest {
            kind: DayDigest::KIND.into(),
            version: 1,
            environment: "test".into(),
            day: day.clone(),
            previous: None,
            made_by: task(),
            made_us: START_US + 1000,
            tasks: vec![SeenTask { task: task(), state: TaskState::Running, digests, journal: None }],
            index: vec![index],
        };
        let object = digest.unsigned(recording_key().id()).unwrap().sign(&recording_key()).unwrap();
        let sha256 = self.put(&ObjectName::Day { day: day.clone() }, object);
        SeenDay { day, sha256 }
    }

    /// The next journal object, stored or lost.
    pub(crate) fn journal(&mut self, entries: &[JournalEntry], stored: bool) {
        self.journal_stating(entries, stored, self.journals.saturating_sub(1));
    }

    /// The same, saying that `acknowledged` objects are.
    pub(crate) fn journal_stating(&mut self, entries: &[JournalEntry], stored: bool, acknowledged: u32) {
        let number = self.journals;
        self.journals += 1;
        let mut writer = JournalWriter::new(task(), number, &self.journal.unwrap(), START_US + i64::from(number), acknowledged);
        entries.iter().for_each(|entry| writer.push(entry));
        let object = writer.finish(&task_key()).unwrap();
        self.journal = Some(Hash::of(&object));
        if stored {
            self.put(&ObjectName::Journal { task: task(), number }, object);
        }
    }

    /// The segments of a session, `sizes` events each.
    pub(crate) fn segments(&mut self, encoded: &Encoded, sizes: &[usize]) -> Vec<SegmentEntry> {
        let mut entries: Vec<SegmentEntry> = Vec::new();
        let mut at = 0;
        for (number, size) in (0..).zip(sizes) {
            let first = u64::try_from(at).unwrap();
            let mut writer = SegmentWriter::new(encoded.session, Some(task()), number, first, &encoded.before[at]);
            for event in &encoded.events[at..at + size] {
                writer.push(event, 1).unwrap();
            }
            at += size;
            let object = writer.finish(Some(&task_key())).unwrap();
            let length = u64::try_from(object.len()).unwrap();
            let sha256 = self.put(&ObjectName::Segment { day: day(START_US), session: encoded.session, number }, object);
            entries.push(SegmentEntry { number, sha256, length, first_event: first, events: u64::try_from(*size).unwrap() });
        }
        entries
    }

    pub(crate) fn manifest(&mut self, encoded: &Encoded, segments: Vec<SegmentEntry>, journal: Option<JournalRange>) -> Hash {
        let manifest = Manifest {
            kind: Manifest::KIND.into(),
            version: 1,
            session: encoded.session,
            environment: "test".into(),
            task: Some(task()),
            started_us: START_US,
            ended_us: START_US + i64::try_from(encoded.events.len()).unwrap() - 1,
            reason: "client terminated".into(),
            durability: "strict".into(),
            seal: Seal::Closed,
            sealed_us: START_US + 100,
            sealed_by: "countersign-proxy 0.1.0".into(),
            segments,
            events: encoded.chain.next(),
            head: encoded.chain.head(),
            journal,
            summary: encoded.summary.clone(),
        };
        let object = manifest.unsigned(recording_key().id()).unwrap().sign(&recording_key()).unwrap();
        self.put(&ObjectName::Manifest { day: day(START_US), session: encoded.session }, object)
    }

    pub(crate) fn index(&self, key_end: &str) -> usize {
        self.objects.iter().position(|object| object.key.ends_with(key_end)).unwrap()
    }
}

pub(crate) struct Encoded {
    pub(crate) session: SessionId,
    pub(crate) events: Vec<Vec<u8>>,
    /// Hash before each event.
    pub(crate) before: Vec<Hash>,
    pub(crate) chain: Chain,
    pub(crate) summary: Summary,
}

impl Encoded {
    pub(crate) fn of(session: SessionId, events: &[Event]) -> Self {
        let mut encoded = Self { session, events: Vec::new(), before: Vec::new(), chain: Chain::new(session), summary: Summary::default() };
        for (offset, event) in (0..).zip(events) {
            let mut bytes = Vec::new();
            encoded.before.push(encoded.chain.head());
            encoded.chain.append(START_US + offset, event, &mut bytes);
            encoded.summary.observe(event);
            encoded.events.push(bytes);
        }
        encoded
    }

    pub(crate) fn entry(&self, range: std::ops::Range<usize>) -> JournalEntry {
        JournalEntry::Events {
            session: self.session,
            first: u64::try_from(range.start).unwrap(),
            events: Bytes::from(self.events[range].concat()),
        }
    }
}

/// A whole store: one sealed session in three segments, in the journal too, digests of the task and of the day, the journal ended.
pub(crate) fn sealed() -> Store {
    let encoded = Encoded::of(session(1), &events(session(1)));
    let mut store = Store::default();
    store.task();
    store.journal(&[encoded.entry(0..4)], true);
    store.journal(&[encoded.entry(4..10)], true);
    let segments = store.segments(&encoded, &[6, 6, 7]);
    let announced: Vec<JournalEntry> = segments
        .iter()
        .map(|entry| JournalEntry::Segment {
            session: session(1),
            number: entry.number,
            sha256: entry.sha256,
            events: entry.first_event + entry.events,
        })
        .collect();
    store.journal(&announced, true);
    let sha256 = store.manifest(&encoded, segments, Some(JournalRange { first: 0, last: 1 }));
    store.journal(&[JournalEntry::Manifest { session: session(1), sha256 }], true);
    let first = store.digest(true, false, Vec::new(), None);
    let day = store.day();
    let last = store.digest(false, true, Vec::new(), Some(day));
    store.journal(&[first, last, JournalEntry::End], true);
    store
}
