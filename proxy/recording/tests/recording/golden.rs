//! The exact bytes of version 1. These files never change: a recording of today must verify in ten years.
//!
//! `COUNTERSIGN_BLESS=1` writes them anew, which is right only before the first release.
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Encoded, events, keys, recording_key, sealed, session};
use bytes::Bytes;
use countersign_recording::{Chain, DataKey, Event, Limits, Object, RawEvent, Share, verify_store};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn compare(name: &str, bytes: &[u8]) {
    let path = golden().join(name);
    if std::env::var_os("COUNTERSIGN_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    assert!(fs::read(&path).unwrap() == bytes, "{name} differs from the committed bytes");
}

#[test]
fn events_have_the_committed_bytes_and_read_back() {
    let originals = events(session(1));
    let encoded = Encoded::of(session(1), &originals);
    compare("v1/events.cborseq", &encoded.events.concat());
    let read = RawEvent::sequence(&Bytes::from(encoded.events.concat())).unwrap();
    assert_eq!(read.len(), originals.len());
    for (raw, original) in read.iter().zip(&originals) {
        assert_eq!(raw.event().unwrap(), *original, "event {}", raw.number);
    }
    assert_eq!(read.last().unwrap().hash, encoded.chain.head());
}

#[test]
fn signed_json_has_the_committed_bytes() {
    let store = sealed();
    compare("v1/task.json", &store.objects[store.index("task.json")].bytes);
    compare("v1/recording.pub.pem", recording_key().public_pem().unwrap().as_bytes());
}

/// Compressed bytes depend on the version of zstd, so the store is kept as it was first written and must verify for ever.
#[test]
fn the_committed_store_verifies() {
    let root = golden().join("v1/store");
    if std::env::var_os("COUNTERSIGN_BLESS").is_some() {
        for object in sealed().objects {
            let path = root.join(&object.key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &object.bytes).unwrap();
        }
    }
    let mut objects = Vec::new();
    walk(&root, &root, &mut objects);
    assert_eq!(objects.len(), 15);
    let (journals, reports) = verify_store(&objects, &keys(), &Limits::default());
    assert_eq!(journals.findings(), []);
    assert_eq!(reports.len(), 1);
    assert!(reports[0].verified(), "{:?}", reports[0].findings);
    assert_eq!(reports[0].events.len(), events(session(1)).len());
}

fn walk(root: &Path, at: &Path, objects: &mut Vec<Object>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(root, &path, objects);
        } else {
            let key = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            objects.push(Object { key, bytes: Bytes::from(fs::read(&path).unwrap()) });
        }
    }
}

/// Compressed bytes again, so this is kept as it was first written, and must open for ever.
#[test]
fn the_committed_sealed_event_opens() {
    let path = golden().join("v1/sealed.cborseq");
    let exact = events(session(1)).into_iter().find(|event| matches!(event, Event::Statement { .. })).unwrap();
    let key = DataKey::of_shares([&[3; 32], &[5; 32]]);
    if std::env::var_os("COUNTERSIGN_BLESS").is_some() {
        let shares =
            ["0011223344556677", "8899aabbccddeeff"].map(|name| Share { key: name.into(), wrapped: Bytes::from_static(b"wrapped") });
        let mut shown = exact.clone();
        if let Event::Statement { text, parameters, digest, .. } = &mut shown {
            *text = Bytes::from_static(b"delete from accounts where id = '[sealed]'");
            parameters.clear();
            *digest = [0; 32];
        }
        let sealed = key.seal(session(1), [1; 12], &exact, shown, &shares).unwrap();
        let mut bytes = Vec::new();
        Chain::new(session(1)).append(1, &Event::Sealed(sealed), &mut bytes);
        fs::write(&path, bytes).unwrap();
    }
    let raw = RawEvent::sequence(&Bytes::from(fs::read(&path).unwrap())).unwrap().remove(0);
    assert_eq!(raw.kind, "sealed");
    let Event::Sealed(sealed) = raw.event().unwrap() else { unreachable!("by its kind it is sealed") };
    assert_eq!((sealed.shown.kind(), sealed.shares.len()), ("statement", 2));
    assert_eq!(key.open(session(1), &sealed, &Limits::default()).unwrap(), exact);
}
