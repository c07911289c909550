//! Attempts to pass for something milder, and harmless neighbours of each, over the catalog of `data/attacks.sql`.
//!
//! Every line of `data/attacks.jsonl` is a session: its texts are sent one after another, the last one is judged. `countersign:loaded` is no text:
//! the facts were loaded anew. `at-least` is the
//! mildest class that is not too mild, `exactly` that of a control.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use countersign_policy::catalog::Snapshot;
use countersign_policy::judge::STACK_BYTES;
use countersign_policy::{JudgeRequest, Policy, Principal, SessionState, StatementKind, judge};
use serde::Deserialize;

const POLICY: &str = "version = 1\n[[rules]]\nname = \"all\"\naction = \"allow\"\n[[masks]]\ncolumns = [\"public.customers.ssn\"]\nmask = { kind = \"full\" }\n";

/// A catalog beyond that of `data/attacks.sql`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Over {
    Classes,
    Extensions,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Case {
    steps: Vec<String>,
    #[serde(default)]
    types: Vec<u32>,
    /// `classes` or `extensions` where the attack is over the catalog of that file.
    catalog: Option<Over>,
    at_least: Option<StatementKind>,
    exactly: Option<StatementKind>,
}

fn check() -> Vec<String> {
    let policy = Policy::parse(POLICY).unwrap();
    let plain = Snapshot::from_json(include_str!("data/attacks.snapshot.json")).unwrap().build().unwrap();
    let classes = Snapshot::from_json(include_str!("data/classes.snapshot.json")).unwrap().build().unwrap();
    let extensions = Snapshot::from_json(include_str!("data/extensions.snapshot.json")).unwrap().build().unwrap();
    let principal = Principal { issuer: "i".into(), subject: "s".into(), email: None, groups: BTreeSet::new(), claims: BTreeMap::new() };
    let mut failures = Vec::new();
    for line in include_str!("data/attacks.jsonl").lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        let catalog = match case.catalog {
            None => &plain,
            Some(Over::Classes) => &classes,
            Some(Over::Extensions) => &extensions,
        };
        let mut state = SessionState::new(&principal, "bank", &[]);
        let mut last = None;
        for sql in &case.steps {
            if sql == "countersign:loaded" {
                state.catalog_loaded();
                continue;
            }
            let (policy, principal) = (&policy, &principal);
            let request =
                JudgeRequest { policy, principal, database: "bank", catalog, state: &state, parameter_types: &case.types, now: 0 };
            let judgement = judge(sql, &request);
            state.forwarded(&judgement);
            last = Some(judgement);
        }
        let last = last.unwrap();
        let found = last.statements.iter().map(|facts| facts.kind).max().unwrap();
        let right = case.at_least.is_none_or(|least| found >= least) && case.exactly.is_none_or(|exactly| found == exactly);
        if !right {
            failures.push(format!("{line}: {found:?}, {:?}", last.statements));
        }
    }
    failures
}

#[test]
fn nothing_passes_for_milder_than_it_is_and_controls_stay_what_they_are() {
    let worker = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(check).unwrap();
    let failures = worker.join().unwrap();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// What a function behind an operator or a cast returns may be anything, a protected value among it.
fn hidden() {
    let policy = Policy::parse(POLICY).unwrap();
    let catalog = Snapshot::from_json(include_str!("data/attacks.snapshot.json")).unwrap().build().unwrap();
    let principal = Principal { issuer: "i".into(), subject: "s".into(), email: None, groups: BTreeSet::new(), claims: BTreeMap::new() };
    let state = SessionState::new(&principal, "bank", &[]);
    for (sql, masked) in [
        ("select 1 ==> 'happy'", true),
        ("select id ==> 'happy', id from accounts", true),
        ("select row('x')::scratch.texty::text", true),
        ("select x from (select 1 ==> 'happy' as x) y", true),
        ("select 1 + 2", false),
        ("select id + 1 from accounts", false),
    ] {
        let request = JudgeRequest {
            policy: &policy,
            principal: &principal,
            database: "bank",
            catalog: &catalog,
            state: &state,
            parameter_types: &[],
            now: 0,
        };
        let outputs = judge(sql, &request).trace.outputs();
        assert_eq!(outputs.first().unwrap().as_ref().unwrap().first().unwrap().1, masked, "{sql}");
    }
}

/// An operator of an extension may fail by its operand, and so would tell a protected one.
fn failing() {
    let policy = Policy::parse(POLICY).unwrap();
    let catalog = Snapshot::from_json(include_str!("data/extensions.snapshot.json")).unwrap().build().unwrap();
    let principal = Principal { issuer: "i".into(), subject: "s".into(), email: None, groups: BTreeSet::new(), claims: BTreeMap::new() };
    let state = SessionState::new(&principal, "bank", &[]);
    let (policy, principal, catalog, state) = (&policy, &principal, &catalog, &state);
    for (sql, allowed) in [
        ("select m.path || translate(c.ssn, '1', '!') from members m, customers c", false),
        ("select 'a'::ltree || translate(ssn, '1', '!') from customers", false),
        ("explain select 'a'::ltree || translate(ssn, '1', '!') from customers", false),
        ("select similarity(ssn, '123') from customers", false),
        ("select hstore(ssn, 'x') from customers", false),
        ("select ssn || ' ' || name from customers", true),
        ("select name || 'x', ssn from customers", true),
    ] {
        let judgement = judge(sql, &JudgeRequest { policy, principal, database: "bank", catalog, state, parameter_types: &[], now: 0 });
        assert_eq!(judgement.verdict == countersign_policy::Verdict::Allow, allowed, "{sql}: {:?}", judgement.verdict);
    }
}

#[test]
fn operators_of_extensions_take_no_protected_column() {
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(failing).unwrap().join().unwrap();
}

#[test]
fn results_of_hidden_functions_are_masked() {
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(hidden).unwrap().join().unwrap();
}
