//! I7: tampering shows. Every byte, every removal, every exchange; and what is no tampering does not.
use crate::common::{Encoded, START_US, Store, events, keys, recording_key, sealed, session, task};
use bytes::Bytes;
use countersign_recording::v1::manifest::Payload as _;
use countersign_recording::{
    Digests, Event, Hash, Head, JournalEntry, Journals, Keys, Limits, Object, ObjectName, Problem, Seal, SigningKey, TaskDigest,
    TaskStatement, seal_orphan, verify_session, verify_store,
};

/// Everything wrong with a store.
fn problems(objects: &[Object]) -> Vec<String> {
    let (journals, reports) = verify_store(objects, &keys(), &Limits::default());
    let mut found: Vec<String> = journals.findings().iter().map(ToString::to_string).collect();
    for report in &reports {
        found.extend(report.findings.iter().map(ToString::to_string));
        if !report.verified() && report.findings.is_empty() {
            found.push(format!("{}: not sealed", report.session));
        }
    }
    if reports.is_empty() {
        found.push("no session".into());
    }
    found
}

/// What is wrong with objects of the kind of `key`, where the journals of all others are known to be right: many times faster.
fn problems_of_its_kind(objects: &[Object], key: &str, journals: &Journals) -> Vec<String> {
    let findings = match key.split('/').next().unwrap() {
        "sessions" => verify_session(session(1), objects, journals, &keys(), &Limits::default()).findings,
        "journal" => Journals::read(objects, &keys(), &Limits::default(), |_| true).findings().to_vec(),
        _ => Digests::read(objects, journals, &keys(), &Limits::default()).findings().to_vec(),
    };
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn what_was_written_verifies() {
    let store = sealed();
    assert_eq!(problems(&store.objects), Vec::<String>::new());
}

#[test]
fn every_single_byte_flip_is_found_and_names_the_object() {
    let store = sealed();
    let journals = Journals::read(&store.objects, &keys(), &Limits::default(), |_| true);
    for at in 0..store.objects.len() {
        let original = store.objects[at].bytes.clone();
        for byte in 0..original.len() {
            let mut objects = store.objects.clone();
            let mut changed = original.to_vec();
            changed[byte] ^= 1 << (byte % 8);
            objects[at].bytes = Bytes::from(changed);
            let found = problems_of_its_kind(&objects, &objects[at].key, &journals);
            assert!(found.iter().any(|problem| problem.contains(&objects[at].key)), "byte {byte} of {}: {found:?}", objects[at].key);
        }
    }
}

/// The same without journals: a recording stands on its own.
#[test]
fn a_recording_alone_shows_every_flip_too() {
    let store = sealed();
    let none = Journals::default();
    for at in 0..store.objects.len() {
        let Some(ObjectName::Segment { .. } | ObjectName::Manifest { .. }) = ObjectName::parse(&store.objects[at].key) else { continue };
        for byte in 0..store.objects[at].bytes.len() {
            let mut objects = store.objects.clone();
            let mut changed = objects[at].bytes.to_vec();
            changed[byte] = changed[byte].wrapping_add(1);
            objects[at].bytes = Bytes::from(changed);
            let report = verify_session(session(1), &objects, &none, &keys(), &Limits::default());
            assert!(
                report.findings.iter().any(|finding| finding.object.as_ref() == Some(&objects[at].key)),
                "byte {byte} of {}",
                objects[at].key
            );
        }
    }
}

#[test]
fn every_removal_and_truncation_is_found() {
    let store = sealed();
    for at in 0..store.objects.len() {
        let key = store.objects[at].key.clone();
        let mut objects = store.objects.clone();
        objects.remove(at);
        let found = problems(&objects);
        assert!(found.iter().any(|problem| problem.contains(&key)), "without {key}: {found:?}");
        let mut objects = store.objects.clone();
        objects[at].bytes = objects[at].bytes.slice(..objects[at].bytes.len() - 1);
        assert!(problems(&objects).iter().any(|problem| problem.contains(&key)), "cut {key}");
    }
}

/// Whatever is removed together, something signed still names it.
#[test]
fn every_removal_of_a_kind_or_of_two_is_found() {
    let store = sealed();
    let count = store.objects.len();
    for kind in ["sessions/", "journal/", "digests/", "index/"] {
        for other in ["sessions/", "journal/", "digests/", "index/"] {
            let left: Vec<Object> =
                store.objects.iter().filter(|object| !object.key.starts_with(kind) && !object.key.starts_with(other)).cloned().collect();
            let found = problems(&left);
            for object in store.objects.iter().filter(|object| object.key.starts_with(kind) && object.key.ends_with("manifest.json")) {
                assert!(found.iter().any(|problem| problem.starts_with(&object.key)), "without {kind} and {other}: {found:?}");
            }
            assert!(
                found.iter().any(|problem| (problem.starts_with(kind) || problem.starts_with(other)) && problem.contains("missing")),
                "without {kind} and {other}: {found:?}"
            );
        }
    }
    for a in 0..count {
        for b in a + 1..count {
            let gone = [&store.objects[a].key, &store.objects[b].key];
            let left: Vec<Object> = store.objects.iter().filter(|object| !gone.contains(&&object.key)).cloned().collect();
            let found = problems(&left);
            // The very end of a task, the one digest that says so and all of it: for that there is the next task, and the anchor.
            if gone.iter().all(|key| key.ends_with("/00000001.json") || key.ends_with("/00000004.rec")) {
                continue;
            }
            assert!(gone.iter().any(|key| found.iter().any(|problem| problem.contains(*key))), "without {gone:?}: {found:?}");
        }
    }
}

/// A task that is removed with all its sessions is named by the task that came after it, and by an anchor kept elsewhere.
#[test]
fn a_whole_task_that_is_gone_is_named_by_the_next() {
    let first = sealed();
    let (journals, _) = verify_store(&first.objects, &keys(), &Limits::default());
    let digests = Digests::read(&first.objects, &journals, &keys(), &Limits::default());
    let anchor = digests.anchor(&journals, START_US);
    let seen = anchor.tasks.clone();

    let other = countersign_recording::TaskId::from_bytes([0x78; 16]);
    let statement =
        TaskStatement { task: other, ..TaskStatement::verified(&first.objects[first.index("task.json")].bytes, &keys()).unwrap().0 };
    let statement = statement.unsigned(recording_key().id()).unwrap().sign(&recording_key()).unwrap();
    let sha256 = Hash::of(&statement);
    let digest = TaskDigest {
        task: other,
        number: 0,
        previous: sha256,
        last: false,
        sealed: None,
        journal: Head { objects: 0, sha256 },
        tasks: seen,
        day: anchor.day.clone(),
        ..digests.of_tasks().next().unwrap().clone()
    };
    let digest = digest.unsigned(recording_key().id()).unwrap().sign(&recording_key()).unwrap();
    let second = [
        Object { key: ObjectName::Task { task: other }.to_string(), bytes: Bytes::from(statement) },
        Object { key: ObjectName::Digest { task: other, number: 0 }.to_string(), bytes: Bytes::from(digest) },
    ];
    let both: Vec<Object> = first.objects.iter().chain(&second).cloned().collect();
    assert_eq!(problems(&both), Vec::<String>::new());
    let found = problems(&second);
    let named = [
        format!("journal/{}/task.json", task()),
        format!("journal/{}/00000004.rec", task()),
        format!("digests/{}/00000001.json", task()),
        "index/2026/03/01/day.json".to_owned(),
    ];
    for key in &named {
        assert!(found.iter().any(|problem| problem.starts_with(&format!("{key}: missing"))), "{key}: {found:?}");
    }

    // Nothing in the store is left of either: only what was noted elsewhere says that something was there.
    let (journals, _) = verify_store(&[], &keys(), &Limits::default());
    let mut digests = Digests::read(&[], &journals, &keys(), &Limits::default());
    assert_eq!(digests.findings(), []);
    digests.hold_against(&anchor, "the anchor", &journals);
    for key in &named {
        assert!(digests.findings().iter().any(|finding| finding.object.as_ref() == Some(key)), "{key}: {:?}", digests.findings());
    }
}

/// Objects under way side by side: what an object says is acknowledged before it cannot be missing by a crash.
#[test]
fn a_hole_that_was_acknowledged_is_no_crash() {
    let encoded = Encoded::of(session(1), &events(session(1)));
    for (stored, fault) in [(1, false), (2, true)] {
        let mut store = Store::default();
        store.task();
        store.journal(&[encoded.entry(0..1)], true);
        store.journal(&[encoded.entry(1..2)], false);
        store.journal_stating(&[encoded.entry(2..3)], true, stored);
        let (journals, _) = verify_store(&store.objects, &keys(), &Limits::default());
        let key = format!("journal/{}/00000001.rec: missing", task());
        assert_eq!(journals.findings().iter().any(|finding| finding.to_string() == key), fault, "{:?}", journals.findings());
    }
}

#[test]
fn dropping_a_whole_session_is_found_by_the_journal() {
    let objects: Vec<Object> = sealed().objects.into_iter().filter(|object| object.key.starts_with("journal/")).collect();
    let found = problems(&objects);
    for missing in ["00000000.rec: missing", "00000001.rec: missing", "00000002.rec: missing", "manifest.json: missing"] {
        assert!(
            found.iter().any(|problem| problem.starts_with("sessions/2026/03/01/") && problem.ends_with(missing)),
            "{missing}: {found:?}"
        );
    }
}

#[test]
fn every_exchange_and_duplication_is_found() {
    let store = sealed();
    for a in 0..store.objects.len() {
        for b in 0..store.objects.len() {
            if a == b || store.objects[a].bytes == store.objects[b].bytes {
                continue;
            }
            let mut swapped = store.objects.clone();
            swapped[a].bytes = store.objects[b].bytes.clone();
            assert!(
                problems(&swapped).iter().any(|problem| problem.contains(&store.objects[a].key)),
                "{} in the place of {}",
                store.objects[b].key,
                store.objects[a].key
            );
            swapped[b].bytes = store.objects[a].bytes.clone();
            let found = problems(&swapped);
            for at in [a, b] {
                assert!(
                    found.iter().any(|problem| problem.contains(&store.objects[at].key)),
                    "exchange of {} and {}",
                    store.objects[a].key,
                    store.objects[b].key
                );
            }
        }
    }
    let mut more = store.objects.clone();
    more.push(Object {
        key: store.objects[store.index("00000002.rec")].key.replace("00000002", "00000003"),
        bytes: store.objects[store.index("00000002.rec")].bytes.clone(),
    });
    assert!(!problems(&more).is_empty());
}

#[test]
fn a_segment_added_after_the_end_is_not_in_the_manifest() {
    let mut originals = events(session(1));
    originals.push(Event::Notice { frame: Bytes::new() });
    let encoded = Encoded::of(session(1), &originals);
    let mut store = Store::default();
    let mut segments = store.segments(&encoded, &[19, 1]);
    segments.pop();
    let short = Encoded::of(session(1), &events(session(1)));
    store.manifest(&short, segments, None);
    let report = verify_session(session(1), &store.objects, &Journals::default(), &keys(), &Limits::default());
    let found: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert!(found.iter().any(|problem| problem.ends_with("00000001.rec: not in the manifest")), "{found:?}");
}

#[test]
fn another_key_is_not_trusted_even_when_all_is_signed_anew() {
    let store = sealed();
    let at = store.index("manifest.json");
    let thief = SigningKey::from_random(&[8; 32]).unwrap();
    let manifest = countersign_recording::Manifest::unverified(&store.objects[at].bytes).unwrap();
    for id in [thief.id(), recording_key().id()] {
        let mut objects = store.objects.clone();
        objects[at].bytes = Bytes::from(manifest.unsigned(id).unwrap().sign(&thief).unwrap());
        assert!(problems(&objects).iter().any(|problem| problem.contains("manifest.json")));
    }
    let (_, reports) = verify_store(&store.objects, &Keys::new(), &Limits::default());
    assert!(matches!(reports[0].findings[0].problem, Problem::Manifest(_)), "no keys, no trust");
}

/// A signer who lies about the content: the manifest is genuine, but does not agree with the events.
#[test]
fn a_genuine_manifest_must_agree_with_the_events() {
    let encoded = Encoded::of(session(1), &events(session(1)));
    let lies: Vec<fn(&mut Encoded)> = vec![|e| e.summary.denied = 0, |e| e.summary.subject = "somebody".into(), |e| {
        e.chain = countersign_recording::Chain::new(e.session)
    }];
    for lie in lies {
        let mut store = Store::default();
        let segments = store.segments(&encoded, &[9, 9]);
        let mut lied = Encoded::of(session(1), &events(session(1)));
        lie(&mut lied);
        store.manifest(&lied, segments, None);
        let report = verify_session(session(1), &store.objects, &Journals::default(), &keys(), &Limits::default());
        assert!(!report.findings.is_empty());
    }
}

#[test]
fn a_crash_needs_no_repair_and_can_be_sealed_by_anybody() {
    let originals = events(session(1));
    let encoded = Encoded::of(session(1), &originals[..12]);
    let mut store = Store::default();
    store.task();
    store.journal(&[encoded.entry(0..5)], true);
    let segments = store.segments(&encoded, &[4, 3]);
    assert_eq!(segments.len(), 2);
    store.journal(&[encoded.entry(7..9)], true);
    // The task died with two objects under way, of which the second got through: it was never acknowledged.
    store.journal(&[encoded.entry(9..10)], false);
    store.journal(&[encoded.entry(10..12)], true);

    let (journals, reports) = verify_store(&store.objects, &keys(), &Limits::default());
    assert_eq!(journals.findings(), []);
    assert_eq!(journals.notes().len(), 1);
    assert!(reports[0].open() && !reports[0].verified(), "{:?}", reports[0].findings);
    assert_eq!((reports[0].events.len(), reports[0].in_segments), (9, 7));

    let now = START_US + 1_000_000;
    let seal = seal_orphan(session(1), &store.objects, &journals, &keys(), &Limits::default(), now, "test").unwrap();
    assert_eq!((seal.manifest.seal, seal.manifest.events, seal.manifest.reason.as_str()), (Seal::Orphan, 10, "orphan"));
    let (name, object) = seal.segment.unwrap();
    store.put(&name, object);
    let signed = seal.manifest.unsigned(recording_key().id()).unwrap().sign(&recording_key()).unwrap();
    store.put(&seal.manifest_name, signed);
    let (_, reports) = verify_store(&store.objects, &keys(), &Limits::default());
    assert!(reports[0].verified(), "{:?}", reports[0].findings);
    assert_eq!(reports[0].events.last().unwrap().event().unwrap(), Event::SessionEnd { reason: "orphan".into() });
    assert!(seal_orphan(session(1), &store.objects, &journals, &keys(), &Limits::default(), now, "test").is_err(), "once is enough");
}

#[test]
fn sealing_before_the_last_acknowledged_event_shows() {
    let encoded = Encoded::of(session(1), &events(session(1))[..8]);
    let mut store = Store::default();
    store.task();
    store.journal(&[encoded.entry(0..5)], true);
    let early = Journals::read(&store.objects, &keys(), &Limits::default(), |_| true);
    let seal = seal_orphan(session(1), &store.objects, &early, &keys(), &Limits::default(), START_US, "test").unwrap();
    store.journal(&[encoded.entry(5..8)], true);
    let (name, object) = seal.segment.unwrap();
    store.put(&name, object);
    let signed = seal.manifest.unsigned(recording_key().id()).unwrap().sign(&recording_key()).unwrap();
    store.put(&seal.manifest_name, signed);
    assert!(
        problems(&store.objects).iter().any(|problem| problem.contains("event 5") && problem.contains("the journal has")),
        "{:?}",
        problems(&store.objects)
    );
}

#[test]
fn a_hole_in_the_middle_of_a_journal_is_no_crash() {
    let encoded = Encoded::of(session(1), &events(session(1)));
    let mut store = Store::default();
    store.task();
    for at in 0..6 {
        store.journal(&[encoded.entry(at..at + 1)], at != 2);
    }
    assert!(problems(&store.objects).contains(&format!("journal/{}/00000002.rec: missing", task())));
}

#[test]
fn two_sessions_in_one_journal_keep_apart() {
    let mut store = Store::default();
    store.task();
    let (a, b) = (Encoded::of(session(1), &events(session(1))), Encoded::of(session(2), &events(session(2))));
    store.journal(&[a.entry(0..9), b.entry(0..3)], true);
    store.journal(&[b.entry(3..19), a.entry(9..19)], true);
    store.journal(&[JournalEntry::End], true);
    let (journals, reports) = verify_store(&store.objects, &keys(), &Limits::default());
    assert_eq!(journals.findings(), []);
    assert!(reports.iter().all(|report| report.open() && report.events.len() == 19));
}

/// What is signed in it is the same, the object is another: what comes after it names it. Nothing comes after the very last.
#[test]
fn an_object_compressed_anew_is_the_one_that_is_named() {
    let store = sealed();
    for object in store.objects.iter().filter(|object| object.key.ends_with(".rec")) {
        let mut objects = store.objects.clone();
        let changed = objects.iter_mut().find(|changed| changed.key == object.key).unwrap();
        let plain = zstd::decode_all(&*object.bytes).unwrap();
        // Two frames where there was one.
        let (first, second) = plain.split_at(plain.len() / 2);
        changed.bytes = [zstd::encode_all(first, 1).unwrap(), zstd::encode_all(second, 1).unwrap()].concat().into();
        let found = problems(&objects);
        let last = object.key.ends_with("/00000004.rec");
        assert_eq!(found.iter().any(|problem| problem.starts_with(&object.key)), !last, "{}: {found:?}", object.key);
        let others = found.iter().filter(|problem| problem.starts_with("journal/") && !problem.starts_with(&object.key));
        assert_eq!(others.count(), 0, "{}: {found:?}", object.key);
    }
}

#[test]
fn a_signature_has_one_spelling() {
    let store = sealed();
    for end in ["00000002.rec", "00000004.rec"] {
        let mut objects = store.objects.clone();
        let at = objects.iter().rposition(|object| object.key.ends_with(end)).unwrap();
        let plain = zstd::decode_all(&*objects[at].bytes).unwrap();
        let (signed, signature) = plain.split_at(plain.len() - 66);
        let twisted = [signed, &[0x59, 0, 64], &signature[2..]].concat();
        objects[at].bytes = zstd::encode_all(&*twisted, 1).unwrap().into();
        let found = problems(&objects);
        let named = format!("{}: malformed: not the deterministic encoding", objects[at].key);
        assert!(found.contains(&named), "{found:?}");
    }
}
