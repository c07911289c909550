//! Judges statements line by line: JSON objects on standard input, one judgement a line on standard output.
//!
//! `cargo run -p countersign-policy --example judge -- policy.toml snapshot.json`, then lines like
//! `{"sql": "SELECT 1", "types": [], "forward": true, "new": false}`. `forward` lets the statement count as sent (its effects on the session
//! come true), `new` starts a new session first.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::BufRead;
use std::time::Instant;

use countersign_policy::catalog::Snapshot;
use countersign_policy::judge::STACK_BYTES;
use countersign_policy::{JudgeRequest, Policy, Principal, SessionState, Verdict, judge};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let judge = || run().map_err(|error| error.to_string());
    let worker = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(judge)?;
    Ok(worker.join().map_err(|_| "the judge stopped")??)
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (policy, snapshot) = arguments.next().zip(arguments.next()).ok_or("usage: judge POLICY SNAPSHOT")?;
    let policy = Policy::parse(&std::fs::read_to_string(policy)?)?;
    let catalog = Snapshot::from_json(&std::fs::read_to_string(snapshot)?)?.build()?;
    let groups = arguments.next().unwrap_or_default().split(',').map(str::to_owned).collect::<BTreeSet<_>>();
    let principal = Principal { issuer: "i".into(), subject: "s".into(), email: None, groups, claims: BTreeMap::new() };
    let mut state = SessionState::new(&principal, "bank", &[]);
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        if request.get("new").and_then(Value::as_bool) == Some(true) {
            state = SessionState::new(&principal, "bank", &[]);
        }
        let sql = request.get("sql").and_then(Value::as_str).unwrap_or_default();
        let types: Vec<u32> = request
            .get("types")
            .and_then(Value::as_array)
            .map(|types| types.iter().filter_map(|oid| oid.as_u64().and_then(|oid| u32::try_from(oid).ok())).collect())
            .unwrap_or_default();
        let started = Instant::now();
        let judgement = judge(
            sql,
            &JudgeRequest {
                policy: &policy,
                principal: &principal,
                database: "bank",
                catalog: &catalog,
                state: &state,
                parameter_types: &types,
                now: 0,
            },
        );
        let micros = started.elapsed().as_micros();
        if request.get("forward").and_then(Value::as_bool) == Some(true) {
            state.forwarded(&judgement);
        }
        let verdict = match &judgement.verdict {
            Verdict::Allow => "allow",
            Verdict::Deny(_) => "deny",
            Verdict::Hold(_) => "hold",
        };
        let kind = judgement.statements.iter().map(|facts| facts.kind).max();
        println!(
            "{}",
            json!({"kind": kind, "verdict": verdict, "rule": judgement.rule, "protected": judgement.touches_protected, "outputs": judgement.trace.outputs(),
                "statements": judgement.statements, "micros": u64::try_from(micros).unwrap_or(u64::MAX)})
        );
    }
    Ok(())
}
