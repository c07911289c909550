//! False alarms: what tools say by themselves passes under the presets.
//!
//! `data/tools.jsonl` was captured from a server's log while psql's `\d` family, pg_dump, pgbench, SQLAlchemy and Django ran against it;
//! what JDBC and Hibernate, Prisma, dbt and tests in SQL say was written in their manner.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use countersign_policy::catalog::Snapshot;
use countersign_policy::judge::STACK_BYTES;
use countersign_policy::{JudgeRequest, Policy, Principal, SessionState, StatementKind as K, Verdict, judge};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    tool: String,
    sql: String,
}

/// What is refused or held all the same, and should be: said in `docs/policy.md`.
const EXPECTED: &[(&str, &str)] = &[
    ("psql", "pg_catalog.pg_user_mappings"),
    ("psql", "pg_catalog.pg_subscription"),
    ("pg_dump", "pg_catalog.pg_subscription"),
    ("pg_dump", "pg_subscription"),
];

fn principal(group: &str) -> Principal {
    Principal { issuer: "i".into(), subject: "s".into(), email: None, groups: BTreeSet::from([group.into()]), claims: BTreeMap::new() }
}

fn check() -> Vec<String> {
    let reader = Policy::parse(include_str!("../presets/read-only-analyst.toml")).unwrap();
    let baseline = Policy::parse(include_str!("../presets/ffiec-baseline.toml")).unwrap();
    let migrations = Policy::parse(include_str!("../presets/ci-migrations.toml")).unwrap();
    let catalog = Snapshot::from_json(include_str!("data/tools.snapshot.json")).unwrap().build().unwrap();
    let mut failures = Vec::new();
    let mut states: BTreeMap<String, SessionState> = BTreeMap::new();
    for line in include_str!("data/tools.jsonl").lines() {
        let Line { tool, sql } = serde_json::from_str(line).unwrap();
        let state = states.entry(tool.clone()).or_default();
        let runs: &[(&Policy, &str)] = match tool.as_str() {
            "pgbench" | "pgbench_init" => &[(&migrations, "ci")],
            _ => &[(&reader, "analyst"), (&baseline, "analyst"), (&migrations, "ci")],
        };
        let mut forwarded = None;
        for (policy, group) in runs {
            let principal = principal(group);
            let request =
                JudgeRequest { policy, principal: &principal, database: "bank", catalog: &catalog, state, parameter_types: &[], now: 0 };
            let judgement = judge(&sql, &request);
            let kind = judgement.statements.iter().map(|facts| facts.kind).max().unwrap();
            let right = match (&judgement.verdict, kind) {
                (Verdict::Allow, _) => true,
                // A tool that changes the schema, empties tables or loads rows is held by design.
                (Verdict::Hold(_), K::Ddl | K::Utility | K::CopyIn) => tool.starts_with("pgbench"),
                // Bulk reads are no part of the presets, and analysts' rules list `public` alone.
                (_, K::CopyOut) => tool == "pg_dump",
                _ => sql.contains("scratch") || EXPECTED.iter().any(|(who, what)| *who == tool && sql.contains(what)),
            };
            if !right {
                failures.push(format!("{tool} as {group}: {kind:?} {:?} {:?}: {sql:.200}", judgement.verdict, judgement.statements));
            }
            forwarded = Some(judgement);
        }
        state.forwarded(&forwarded.unwrap());
        // Each text was a transaction of its own, and facts were loaded anew after it.
        state.catalog_loaded();
    }
    failures
}

#[test]
fn what_tools_say_by_themselves_passes() {
    let worker = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(check).unwrap();
    let failures = worker.join().unwrap();
    assert!(failures.is_empty(), "{} false alarms:\n{}", failures.len(), failures.join("\n"));
}
