//! What a decision costs: known, first seen, and beside both the bare parse of the two grammars in the same run.
//!
//! `cargo bench -p countersign-policy`
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::collections::{BTreeMap, BTreeSet};

use countersign_policy::catalog::Snapshot;
use countersign_policy::judge::STACK_BYTES;
use countersign_policy::{Catalog, JudgeRequest, Policy, Principal, SessionState, TextCache, judge};

const POLICY: &str = "version = 1\n[[rules]]\nname = \"all\"\naction = \"allow\"\n[[masks]]\ncolumns = [\"public.customers.ssn\"]\nmask = { kind = \"full\" }\n";

const TEXTS: [(&str, &str); 4] = [
    ("point read", "SELECT balance FROM accounts WHERE id = 4711;"),
    ("update", "UPDATE accounts SET balance = balance + -250 WHERE id = 4711;"),
    (
        "join",
        "SELECT c.id, c.name, sum(a.balance) AS total FROM customers c JOIN accounts a ON a.customer_id = c.id WHERE a.balance > 100 AND c.name LIKE 'A%' GROUP BY c.id, c.name ORDER BY total DESC LIMIT 20",
    ),
    ("masked column", "SELECT id, name, ssn FROM customers WHERE id IN (1, 2, 3)"),
];

struct Circumstances {
    policy: Policy,
    catalog: Catalog,
    principal: Principal,
    state: SessionState,
}

impl Circumstances {
    fn new() -> Self {
        let principal =
            Principal { issuer: "i".into(), subject: "s".into(), email: None, groups: BTreeSet::new(), claims: BTreeMap::new() };
        Self {
            policy: Policy::parse(POLICY).unwrap(),
            catalog: Snapshot::from_json(include_str!("../tests/data/setup.snapshot.json")).unwrap().build().unwrap(),
            state: SessionState::new(&principal, "bank", &[]),
            principal,
        }
    }

    fn request(&self) -> JudgeRequest<'_> {
        JudgeRequest {
            policy: &self.policy,
            principal: &self.principal,
            database: "bank",
            catalog: &self.catalog,
            state: &self.state,
            parameter_types: &[],
            now: 0,
        }
    }
}

#[divan::bench(args = TEXTS.map(|(name, _)| name))]
fn known(bencher: divan::Bencher<'_, '_>, name: &str) {
    let sql = text(name);
    let mut cache = TextCache::default();
    let _ = cache.find(sql.as_bytes());
    cache.keep(sql.as_bytes(), true, &std::sync::Arc::new(()));
    bencher.bench_local(|| cache.find(sql.as_bytes()).map(std::sync::Arc::clone));
}

#[divan::bench(args = TEXTS.map(|(name, _)| name))]
fn first_seen(bencher: divan::Bencher<'_, '_>, name: &str) {
    let (sql, circumstances) = (text(name), Circumstances::new());
    bencher.bench_local(|| judge(sql, &circumstances.request()));
}

#[divan::bench(args = TEXTS.map(|(name, _)| name))]
fn pg_query_parse(bencher: divan::Bencher<'_, '_>, name: &str) {
    let sql = text(name);
    bencher.bench_local(|| pg_query::parse(sql, pg_query::ParserOptions::default()).unwrap());
}

#[divan::bench(args = TEXTS.map(|(name, _)| name))]
fn sqlparser_parse(bencher: divan::Bencher<'_, '_>, name: &str) {
    let sql = text(name);
    bencher.bench_local(|| sqlparser::parser::Parser::parse_sql(&sqlparser::dialect::PostgreSqlDialect {}, sql).unwrap());
}

fn text(name: &str) -> &'static str {
    TEXTS.iter().find(|(known, _)| *known == name).unwrap().1
}

fn main() {
    // Judging needs a deep stack.
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(divan::main).unwrap().join().unwrap();
}
