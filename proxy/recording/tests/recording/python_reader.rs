//! The reader in `docs/` agrees with this crate, where Python and its packages are there.
use std::path::Path;
use std::process::{Command, Output};
use std::{env, fs};

use crate::common::{events, recording_key, sealed, session};

fn run(python: &str, key: &Path, directory: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/read_recording.py");
    Command::new(python).arg(script).arg(key).arg(directory).output().unwrap()
}

#[test]
fn the_python_reader_verifies_and_refuses() {
    let script = include_str!("../../../../docs/read_recording.py");
    let lines = script.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 60, "the reader is to be read: {lines} lines");
    let python = env::var("COUNTERSIGN_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let there =
        Command::new(&python).args(["-c", "import cbor2, zstandard, cryptography"]).output().is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("skipped: {python} lacks cbor2, zstandard or cryptography; name one that has them by COUNTERSIGN_PYTHON");
        return;
    }
    let root = env::temp_dir().join(format!("countersign-python-reader-{}", std::process::id()));
    let _left = fs::remove_dir_all(&root);
    let key = root.join("key.pem");
    let store = sealed();
    for object in &store.objects {
        let path = root.join(&object.key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &object.bytes).unwrap();
    }
    fs::write(&key, recording_key().public_pem().unwrap()).unwrap();
    let directory = root.join("sessions/2026/03/01").join(session(1).to_string());
    let output = run(&python, &key, &directory);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), events(session(1)).len());
    for name in ["manifest.json", "00000001.rec"] {
        let original = fs::read(directory.join(name)).unwrap();
        let mut changed = original.clone();
        *changed.last_mut().unwrap() ^= 1;
        *changed.get_mut(60).unwrap() ^= 1;
        fs::write(directory.join(name), changed).unwrap();
        assert!(!run(&python, &key, &directory).status.success(), "{name}");
        fs::write(directory.join(name), original).unwrap();
    }
    fs::remove_file(directory.join("00000002.rec")).unwrap();
    assert!(!run(&python, &key, &directory).status.success());
    fs::remove_dir_all(&root).unwrap();
}
