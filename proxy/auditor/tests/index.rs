//! The index: `list` answers from it, finds what it must, and says how long that took.
//!
//! `COUNTERSIGN_INDEX_SESSIONS=1000000` measures what docs/auditors.md states.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "shared with other test binaries")]
mod support;

use std::time::Instant;

use countersign_audit::list::{self, Decision, Filter};
use countersign_recording::v1::manifest::Payload as _;
use countersign_recording::v1::names::day;
use countersign_recording::{
    DayDigest, Hash, IndexEntry, IndexRow, Object, ObjectName, Seal, SeenDay, SessionId, Summary, TaskId, write_index,
};
use support::{START_US, archive, recording_key, write};

const DAY_US: i64 = 86_400_000_000;
const SHARD: u64 = 50_000;
const DAYS: u64 = 100;

fn row(n: u64, started_us: i64) -> IndexRow {
    let bytes = Hash::of(&n.to_be_bytes()).0;
    IndexRow {
        session: SessionId::from_bytes(bytes[..16].try_into().unwrap()),
        manifest: Hash(bytes),
        started_us,
        ended_us: started_us + 5_000_000,
        seal: Seal::Closed,
        reason: "client terminated".into(),
        durability: "strict".into(),
        summary: Summary {
            issuer: "https://token.actions.githubusercontent.com".into(),
            subject: format!("repo:bank/app-{}", n % 500),
            email: n.is_multiple_of(3).then(|| format!("person{}@bank.example", n % 1000)),
            groups: vec!["ci".into()],
            database: if n.is_multiple_of(2) { "bank" } else { "ledger" }.into(),
            upstream_user: "countersign_svc".into(),
            application: "psql".into(),
            client_addr: format!("10.0.{}.{}:{}", n % 200, n % 250, 30_000 + n % 20_000),
            statements: n % 40,
            denied: u64::from(n.is_multiple_of(97)),
            tables: ["public.accounts".to_owned(), format!("public.t{}", n % 50)].into(),
            ..Summary::default()
        },
    }
}

/// A hundred days of `count` sessions.
fn days(count: u64) -> Vec<Object> {
    let task = TaskId::from_bytes([0x77; 16]);
    let mut objects = Vec::new();
    let mut previous: Option<SeenDay> = None;
    let each = count / DAYS;
    for number in 0..DAYS {
        let begin = START_US + i64::try_from(number).unwrap() * DAY_US;
        let at = day(begin);
        let mut index = Vec::new();
        for first in (0..each).step_by(usize::try_from(SHARD).unwrap()) {
            let rows: Vec<IndexRow> = (first..each.min(first + SHARD))
                .map(|n| row(number * each + n, begin + i64::try_from(n * 40_000_000 / each.max(1)).unwrap() * 1000))
                .collect();
            let name = ObjectName::DayIndex { day: at.clone(), task, number: u32::try_from(index.len()).unwrap() };
            let bytes = write_index(&rows).unwrap();
            index.push(IndexEntry {
                key: name.to_string(),
                sha256: Hash::of(&bytes),
                length: u64::try_from(bytes.len()).unwrap(),
                sessions: u64::try_from(rows.len()).unwrap(),
                first_us: rows.first().unwrap().started_us,
                last_us: rows.last().unwrap().started_us,
            });
            objects.push(Object { key: name.to_string(), bytes: bytes.into() });
        }
        let digest = DayDigest {
            kind: DayDigest::KIND.into(),
            version: 1,
            environment: "test".into(),
            day: at.clone(),
            previous: previous.clone(),
            made_by: task,
            made_us: begin + DAY_US,
            tasks: Vec::new(),
            index,
        };
        let bytes = digest.unsigned(recording_key().id()).unwrap().sign(&recording_key()).unwrap();
        previous = Some(SeenDay { day: at.clone(), sha256: Hash::of(&bytes) });
        objects.push(Object { key: ObjectName::Day { day: at }.to_string(), bytes: bytes.into() });
    }
    objects
}

#[tokio::test]
async fn a_range_over_many_sessions_comes_from_the_index() {
    let count: u64 = std::env::var("COUNTERSIGN_INDEX_SESSIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let folder = tempfile::tempdir().unwrap();
    let objects = days(count);
    let size: usize = objects.iter().map(|object| object.bytes.len()).sum();
    write(folder.path(), &objects);
    let mut archive = archive(folder.path()).await;
    archive.now_us = START_US + 200 * DAY_US;
    let all = usize::try_from(count / DAYS * DAYS).unwrap();
    let ten = Filter { since_us: Some(START_US + 20 * DAY_US), until_us: Some(START_US + 30 * DAY_US), ..Filter::default() };
    let expected = |wanted: &dyn Fn(u64) -> bool| (0..count / DAYS * DAYS).filter(|n| wanted(*n)).count();
    for (what, filter, wanted) in [
        ("all", Filter::default(), all),
        ("ten days", ten.clone(), all / 10),
        ("a principal", Filter { principal: Some("bank/app-499".into()), ..Filter::default() }, expected(&|n| n % 500 == 499)),
        ("denied", Filter { decision: Some(Decision::Deny), ..Filter::default() }, expected(&|n| n % 97 == 0)),
        (
            "a table of a database",
            Filter { table: Some("t7".into()), database: Some("ledger".into()), ..Filter::default() },
            expected(&|n| n % 50 == 7 && n % 2 == 1),
        ),
    ] {
        let began = Instant::now();
        let rows = list::rows(&archive, &filter).await.unwrap();
        eprintln!("{what}: {} of {count} sessions in {:?} from {} KiB of index", rows.len(), began.elapsed(), size >> 10);
        assert_eq!(rows.len(), wanted, "{what}");
        assert!(rows.is_sorted_by_key(|row| row.started_us), "{what}");
    }
}
