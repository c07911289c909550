#![expect(clippy::unwrap_used, reason = "tests")]

use std::{path::PathBuf, time::Duration};

use super::*;

const FIRST: &str = "version = 1\n[[rules]]\nname = \"reads\"\nwhat = { kinds = [\"read\"] }\naction = \"allow\"\n";

fn settings(path: PathBuf) -> PolicySettings {
    PolicySettings { location: PolicyLocation::File(path), reload: Duration::from_secs(5) }
}

#[tokio::test]
async fn a_bad_new_version_changes_nothing_and_a_good_one_is_taken_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.toml");
    std::fs::write(&path, FIRST).unwrap();
    let (source, mut reloader) = load(&settings(path.clone()), &Aws::default()).await.unwrap();
    let first = source.current().digest();

    for bad in ["version = 1\n[[rules]]\nnmae = \"x\"\n", "", "\u{0}"] {
        std::fs::write(&path, bad).unwrap();
        assert!(reloader.try_look().await.is_err(), "{bad:?}");
        assert_eq!(source.current().digest(), first);
    }
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(reloader.try_look().await.is_err());
    std::fs::remove_file(&path).unwrap();
    assert!(reloader.try_look().await.is_err());
    assert_eq!(source.current().digest(), first);

    std::fs::write(&path, format!("{FIRST}# two\n")).unwrap();
    assert!(reloader.try_look().await.unwrap());
    let second = source.current().digest();
    assert_ne!(second, first);
    assert!(!reloader.try_look().await.unwrap());
    std::fs::write(&path, FIRST).unwrap();
    assert!(reloader.try_look().await.unwrap());
    assert_eq!(source.current().digest(), first);
}

#[tokio::test]
async fn a_fault_stays_told_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.toml");
    std::fs::write(&path, FIRST).unwrap();
    let (_, mut reloader) = load(&settings(path.clone()), &Aws::default()).await.unwrap();
    std::fs::write(&path, "version = 7\n").unwrap();
    reloader.look().await;
    let fault = reloader.seen.fault.clone();
    assert!(fault.is_some());
    reloader.look().await;
    assert_eq!(reloader.seen.fault, fault);
    std::fs::write(&path, FIRST).unwrap();
    reloader.look().await;
    assert_eq!(reloader.seen.fault, None);
}

#[tokio::test]
async fn the_first_version_must_be_good() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.toml");
    let missing = load(&settings(path.clone()), &Aws::default()).await.map(|_| ()).unwrap_err().to_string();
    assert!(missing.contains("policy.toml") && missing.contains("cannot read"), "{missing}");
    std::fs::write(&path, "version = 1\n[[rules]]\nnmae = \"x\"\n").unwrap();
    let broken = load(&settings(path), &Aws::default()).await.map(|_| ()).unwrap_err().to_string();
    assert!(broken.contains("line 3") && !broken.contains('\n'), "{broken}");
}
