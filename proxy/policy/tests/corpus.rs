//! The corpus of attacks and controls, judged offline under a policy that allows plain reads only.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use countersign_policy::catalog::Snapshot;
use countersign_policy::judge::STACK_BYTES;
use countersign_policy::{Catalog, JudgeRequest, Judgement, Policy, Principal, SessionState, StatementKind, Verdict, judge};
use serde_json::Value;

const POLICY: &str = r#"
version = 1
[[rules]]
name = "plain-reads"
what = { kinds = ["read", "transaction", "session", "empty"] }
action = "allow"
[[masks]]
columns = ["public.customers.ssn", "public.customers.card", "public.payroll.ssn"]
mask = { kind = "last4" }
[[masks]]
columns = ["public.customers.email"]
mask = { kind = "email" }
"#;

fn principal() -> Principal {
    Principal {
        issuer: "https://issuer.example".into(),
        subject: "ci".into(),
        email: None,
        groups: BTreeSet::from(["ci".into()]),
        claims: BTreeMap::new(),
    }
}

fn catalog(name: &str) -> Catalog {
    let path = format!("{}/tests/data/{name}.snapshot.json", env!("CARGO_MANIFEST_DIR"));
    Snapshot::from_json(&std::fs::read_to_string(path).unwrap()).unwrap().build().unwrap()
}

fn on_a_big_stack(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, test).unwrap().join().unwrap());
}

/// Texts that would run, in order: a step that is refused does not run.
fn texts(case: &Value) -> Vec<String> {
    let Some(steps) = case["steps"].as_array() else {
        return vec![case["sql"].as_str().unwrap_or_default().to_owned()];
    };
    let mut texts = Vec::new();
    for step in steps {
        let (op, argument) = (step[1].as_str().unwrap_or_default(), &step[2]);
        match op {
            "Q" | "Qnw" => texts.extend(argument.as_str().map(str::to_owned)),
            "P" => texts.extend(step[3].as_str().map(str::to_owned)),
            _ => {}
        }
    }
    texts
}

fn rank(class: &str) -> StatementKind {
    match class {
        "read" => StatementKind::Read,
        "write" => StatementKind::Write,
        "ddl" => StatementKind::Ddl,
        _ => StatementKind::Session,
    }
}

struct Outcome {
    judgements: Vec<Judgement>,
}

fn run(case: &Value, policy: &Policy, plain: &Catalog, setup: &Catalog) -> Outcome {
    let principal = principal();
    let catalog = if case["setup_sql"].is_string() { setup } else { plain };
    let mut parameters: Vec<(String, String)> = case["startup"].as_object().map_or_else(Vec::new, |startup| {
        startup.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
    });
    let options: Vec<(String, String)> = parameters
        .iter()
        .filter(|(name, _)| name == "options")
        .flat_map(|(_, value)| value.split("-c").filter_map(|option| option.trim().split_once('=')))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect();
    parameters.extend(options);
    if case["setup_sql"].as_str().is_some_and(|sql| sql.contains("standard_conforming_strings=off")) {
        parameters.push(("standard_conforming_strings".into(), "off".into()));
    }
    let mut state = SessionState::new(&principal, "bank", &parameters);
    let mut judgements = Vec::new();
    for text in texts(case) {
        let judgement = judge(
            &text,
            &JudgeRequest { policy, principal: &principal, database: "bank", catalog, state: &state, parameter_types: &[], now: 0 },
        );
        if judgement.verdict == Verdict::Allow {
            state.forwarded(&judgement);
        }
        judgements.push(judgement);
    }
    Outcome { judgements }
}

fn cases(area: &str) -> Vec<Value> {
    include_str!("data/corpus.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|case| case["area"] == area)
        .collect()
}

fn describe(case: &Value, judgement: Option<&Judgement>) -> String {
    format!("{} {:.160} -> {:?}", case["id"], case["sql"].as_str().unwrap_or_default(), judgement.map(|j| (&j.verdict, &j.statements)))
}

/// Decided outside a judgement of text: bytes that are not UTF-8, startup parameters, what the server itself refuses.
const NOT_TEXT: [&str; 5] = ["CL-249", "CL-250", "CL-203", "WX-018", "WX-021"];

#[test]
fn no_attack_is_judged_milder_than_it_is_and_no_control_is_refused() {
    on_a_big_stack(|| {
        let (policy, plain, setup) = (Policy::parse(POLICY).unwrap(), catalog("fixture"), catalog("setup"));
        let mut failures = Vec::new();
        for area in ["classify", "wire"] {
            for case in cases(area) {
                let id = case["id"].as_str().unwrap();
                let outcome = run(&case, &policy, &plain, &setup);
                if NOT_TEXT.contains(&id) || outcome.judgements.is_empty() {
                    continue;
                }
                let last = outcome.judgements.last();
                let allowed = outcome.judgements.iter().all(|judgement| judgement.verdict == Verdict::Allow);
                let class = case["expected_class"].as_str().unwrap();
                let proxy = case["expected_proxy"].as_str().unwrap();
                if case["control"] == true {
                    if class == "read" && !allowed {
                        failures.push(format!("control refused: {}", describe(&case, last)));
                    }
                    continue;
                }
                let worst = outcome.judgements.iter().flat_map(|judgement| &judgement.statements).map(|facts| facts.kind).max().unwrap();
                if area == "classify" && worst < rank(class) {
                    failures.push(format!("milder than {class}: {}", describe(&case, last)));
                }
                let blocks = class != "read" && proxy != "track";
                if area == "classify" && blocks && allowed && proxy != "block-or-track" {
                    failures.push(format!("not blocked ({class}, {proxy}): {}", describe(&case, last)));
                }
                let customers =
                    case["touches"].as_array().is_some_and(|touches| touches.iter().any(|name| name == "customers" || name == "payroll"));
                if customers && allowed && !outcome.judgements.iter().any(|judgement| judgement.touches_protected) {
                    failures.push(format!("protected relation not seen: {}", describe(&case, last)));
                }
            }
        }
        assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    });
}

#[test]
fn no_masking_attack_is_allowed_with_a_clear_column() {
    on_a_big_stack(|| {
        let (policy, plain, setup) = (Policy::parse(POLICY).unwrap(), catalog("fixture"), catalog("setup"));
        let mut failures = Vec::new();
        for case in cases("masking") {
            let outcome = run(&case, &policy, &plain, &setup);
            let Some(last) = outcome.judgements.last() else { continue };
            let allowed = outcome.judgements.iter().all(|judgement| judgement.verdict == Verdict::Allow);
            if case["control"] == true {
                if !allowed {
                    failures.push(format!("control refused: {}", describe(&case, Some(last))));
                }
                if !last.trace.outputs().iter().flatten().flatten().all(|(_, tainted)| !tainted) {
                    failures.push(format!("control masked: {}", describe(&case, Some(last))));
                }
                continue;
            }
            let proxy = case["expected_proxy"].as_str().unwrap();
            if allowed && (proxy.contains("block") || proxy.contains("mask") || proxy.contains("fail-closed")) && proxy != "pattern mask" {
                // Allowed is right only if masks cover every column that carries something.
                let outputs = last.trace.outputs();
                let covered = outputs.iter().flatten().any(|columns| columns.iter().any(|(_, tainted)| *tainted))
                    || outputs.iter().all(Option::is_none);
                if !last.touches_protected || !covered {
                    failures.push(format!("allowed in clear ({proxy}): {}", describe(&case, Some(last))));
                }
            }
        }
        assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    });
}
