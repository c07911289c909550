//! A judgement found by fingerprint is the one the text itself would get: other literals are put into every text of the corpus and of
//! a generator; where the key stays, the judgement must.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use countersign_policy::catalog::Snapshot;
use countersign_policy::judge::STACK_BYTES;
use countersign_policy::{Catalog, JudgeRequest, Policy, Principal, SessionState, fingerprint, judge};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const POLICY: &str = r#"
version = 1
[[rules]]
name = "large"
what = { rows_above = 100, relations = ["public.accounts"], kinds = ["read"] }
action = "hold"
hold = { reviewers = ["dba"], quorum = 1, expiry = "15m", reason = "large" }
[[rules]]
name = "the rest"
action = "allow"
[[masks]]
columns = ["public.customers.ssn", "public.customers.card"]
mask = { kind = "last4" }
[[reviewers]]
person = "dana"
email = "dana@bank.example"
slack = "T0BANK/U0DANA"
groups = ["dba"]
"#;

struct Bench {
    policy: Policy,
    catalog: Catalog,
    principal: Principal,
}

impl Bench {
    fn new() -> Self {
        let principal =
            Principal { issuer: "i".into(), subject: "s".into(), email: None, groups: BTreeSet::new(), claims: BTreeMap::new() };
        Self {
            policy: Policy::parse(POLICY).unwrap(),
            catalog: Snapshot::from_json(include_str!("data/setup.snapshot.json")).unwrap().build().unwrap(),
            principal,
        }
    }

    /// Everything a judgement says; `None` when it would not be kept under a fingerprint.
    fn judged(&self, sql: &str) -> Option<String> {
        let state = SessionState::new(&self.principal, "bank", &[]);
        let request = JudgeRequest {
            policy: &self.policy,
            principal: &self.principal,
            database: "bank",
            catalog: &self.catalog,
            state: &state,
            parameter_types: &[],
            now: 0,
        };
        let judgement = judge(sql, &request);
        judgement.is_shared().then(|| format!("{judgement:?}"))
    }
}

fn key(sql: &str) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    fingerprint(sql.as_bytes(), &mut key).then_some(key)
}

/// Puts other digits for runs of digits, and other letters for letters inside quotes.
fn other_literals(sql: &str, seed: u64) -> String {
    let mut state = seed | 1;
    let mut next = move |below: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(state >> 33).unwrap_or(0) % below
    };
    let mut quoted = false;
    sql.chars()
        .map(|letter| match letter {
            '\'' => {
                quoted = !quoted;
                letter
            }
            '0'..='9' => char::from_digit(next(10), 10).unwrap(),
            letter if quoted && letter.is_ascii_alphabetic() => {
                ['a', 'é', '%', '\\', '"', ';', '-', '$'].get(usize::try_from(next(8)).unwrap()).copied().unwrap()
            }
            letter => letter,
        })
        .collect()
}

fn on_a_big_stack(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, test).unwrap().join().unwrap());
}

/// Gives how many pairs had one key and were judged.
fn compare(bench: &Bench, sql: &str, seed: u64) -> u32 {
    let other = other_literals(sql, seed);
    let (Some(a), Some(b)) = (key(sql), key(&other)) else { return 0 };
    if a != b || other == sql {
        return 0;
    }
    // What is not allowed is not kept; what the grammar refuses is refused by the server, too.
    let (Some(one), Some(two)) = (bench.judged(sql), bench.judged(&other)) else { return 0 };
    assert_eq!(one, two, "{sql}\n{other}");
    1
}

#[test]
fn the_corpus_with_other_literals() {
    let texts: Vec<String> = include_str!("data/corpus.jsonl")
        .lines()
        .chain(include_str!("data/attacks.jsonl").lines())
        .flat_map(|line| {
            let case: serde_json::Value = serde_json::from_str(line).unwrap();
            let mut texts = Vec::new();
            strings(&case, &mut texts);
            texts
        })
        .collect();
    on_a_big_stack(|| {
        let bench = Bench::new();
        let compared: u32 = (0..16).map(|seed| texts.iter().map(|sql| compare(&bench, sql, seed)).sum::<u32>()).sum();
        assert!(compared > 20, "only {compared} texts have a fingerprint: the test tells nothing");
    });
}

fn strings(value: &serde_json::Value, texts: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => texts.push(text.clone()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| strings(item, texts)),
        serde_json::Value::Object(fields) => fields.values().for_each(|field| strings(field, texts)),
        _ => {}
    }
}

/// `set_config` by the name a row has is judged by the name it is asked for, which the fingerprint leaves out.
#[test]
fn what_is_judged_by_a_literal_is_shared_with_no_other() {
    on_a_big_stack(|| {
        let bench = Bench::new();
        let ask = |name: &str| format!("select set_config(name, 'off', false) from pg_settings where name = '{name}'");
        assert_eq!(
            key(&ask("enable_seqscan")),
            key(&ask("transaction_read_only")),
            "the fingerprint tells the names apart: the test tells nothing"
        );
        assert_eq!(bench.judged(&ask("enable_seqscan")), None);
        let nested = format!("select id from notes where id = 5 and exists ({})", ask("enable_seqscan"));
        assert_eq!(bench.judged(&nested), None);
        assert!(bench.judged("select id from notes where id = 5").is_some());
    });
}

#[test]
fn generated_texts_with_other_literals() {
    on_a_big_stack(|| {
        let bench = Bench::new();
        let word = prop::sample::select(vec![
            "id",
            "balance",
            "ssn",
            "\"id\"",
            "accounts",
            "customers",
            "from",
            "where",
            "and",
            "or",
            "=",
            "<",
            ">=",
            "+",
            "-",
            "*",
            "(",
            ")",
            ",",
            "in",
            "not",
            "values",
            "limit",
            "offset",
            "order by",
            "group by",
            "select",
            "5",
            "'x'",
            "123",
            "12345678901",
            "1",
            "2",
            "'ssn'",
            "set",
            "returning",
            "between",
            "case when",
            "then",
            "else",
            "end",
            "::regclass",
            "::text",
            "[1]",
            "using",
            "on",
            "join",
            "union",
            "fetch first",
            "rows only",
            "is null",
            "like",
            "set_config(",
            "count(",
            "interval",
            "date",
            ".",
            "as",
            "exists (",
            "any (",
            "all (",
            "with ties",
        ]);
        let head = prop::sample::select(vec![
            "select * from accounts where id =",
            "select ssn, id from customers where id = 1 order by",
            "select id, balance from accounts limit",
            "update accounts set balance = balance + -5 where id in (",
            "insert into accounts values (1, 2,",
            "delete from accounts where id =",
            "with a as (select 1) select * from a where",
            "select",
        ]);
        let text = (head, prop::collection::vec(word, 0..9)).prop_map(|(head, words)| format!("{head} {}", words.join(" ")));
        let compared = std::cell::Cell::new(0_u32);
        let mut runner = TestRunner::new(Config { cases: 20_000, failure_persistence: None, ..Config::default() });
        runner
            .run(&(text, any::<u64>()), |(sql, seed)| {
                compared.set(compared.get() + compare(&bench, &sql, seed));
                Ok(())
            })
            .unwrap();
        assert!(compared.get() > 1000, "only {} pairs had one fingerprint: the test tells nothing", compared.get());
    });
}
