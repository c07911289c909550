//! Decisions and their signatures, as the bot makes them.

use countersign_approval::v1::Reviewer;
use countersign_approval::{Decision, Expectation, KeyId, Verdict, jws};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};

/// A database administrator's approval of exactly what is expected.
pub(crate) fn approval(expected: Expectation, person: &str, decided_at: u64) -> Decision {
    Decision {
        version: 1,
        request: expected.request,
        environment: expected.environment,
        digest: expected.digest,
        shown: expected.shown,
        requester_issuer: expected.requester_issuer,
        requester_subject: expected.requester_subject,
        database: expected.database,
        policy: expected.policy,
        rule: expected.rule,
        expires_at: expected.expires_at,
        reviewer: Reviewer {
            person: person.to_owned(),
            slack: format!("T1/{person}"),
            email: Some(format!("{person}@bank.example")),
            groups: vec!["dba".to_owned()],
            subjects: vec![format!("https://issuer.example|{person}-sso")],
        },
        verdict: Verdict::Approve,
        runs: 1,
        step_up: None,
        reason: None,
        decided_at,
        snapshot: None,
    }
}

/// The decision as a compact JWS.
pub(crate) fn sign(key: &SigningKey, kid: &KeyId, decision: &Decision) -> String {
    let input = jws::signing_input(decision, kid).unwrap();
    let signature: Signature = key.sign(input.as_bytes());
    jws::attach(&input, &signature)
}
