//! A request's canonical bytes: golden, and refused when they are anything else.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use countersign_approval::request::{estimate_fact, transaction_fact};
use countersign_approval::v1::{RequestParameter, Requester};
use countersign_approval::{Request, RequestError, RequestId, StatementDigest, UnverifiedRequest};

const GOLDEN: &str = include_str!("golden/request.v1.json");

fn request() -> Request {
    let mut request = Request {
        version: 1,
        id: RequestId::parse("0190f3c2-7b1e-7000-8000-0123456789ab").unwrap(),
        environment: "demo".to_owned(),
        created_at: 1_800_000_000,
        expires_at: 1_800_000_900,
        statement: "delete from accounts where id = $1 and note = $2".to_owned(),
        parameters: vec![RequestParameter::new(23, 1, Some(&[0, 0, 0, 42])), RequestParameter::new(25, 0, None)],
        digest: StatementDigest::compute(b"", [].into_iter()),
        requester: Requester {
            issuer: "https://issuer.example".to_owned(),
            subject: "repo:bank/ledger".to_owned(),
            email: None,
            groups: vec!["ci".to_owned()],
            claims: BTreeMap::from([("run".to_owned(), "17".to_owned()), ("actor".to_owned(), "robin".to_owned())]),
        },
        database: "bank".to_owned(),
        policy: "ab".repeat(32),
        rule: "ci-deletes".to_owned(),
        reason: "writes from CI".to_owned(),
        reviewers: vec!["dba".to_owned()],
        quorum: 1,
        runs: 1,
        step_up: false,
        facts: vec![("kind".to_owned(), "write".to_owned())],
        session: "0190f3c2-7b1e-7000-8000-000000000001".to_owned(),
        sources: Vec::new(),
    };
    request.digest = request.compute_digest().unwrap();
    request
}

#[test]
fn version_1_never_changes() {
    let bytes = request().to_bytes().unwrap();
    assert_eq!(String::from_utf8(bytes.clone()).unwrap(), GOLDEN.trim_end());
    assert_eq!(UnverifiedRequest::new(&bytes).parse().unwrap(), request());
}

#[test]
fn altered_requests_are_refused() {
    let golden = GOLDEN.trim_end();
    type Fits = fn(&RequestError) -> bool;
    let cases: [(&str, String, Fits); 10] = [
        ("benign text over a dangerous digest", golden.replace("delete from accounts", "select * from notes "), |e| {
            matches!(e, RequestError::Digest)
        }),
        ("other parameter", golden.replace("AAAAKg==", "AAAAKw=="), |e| matches!(e, RequestError::Digest)),
        ("other parameter type", golden.replace(r#""type_oid":23"#, r#""type_oid":20"#), |e| matches!(e, RequestError::Digest)),
        ("NULL made empty", golden.replace(r#""value":null"#, r#""value":"""#), |e| matches!(e, RequestError::Digest)),
        ("parameter dropped", golden.replace(r#",{"type_oid":25,"format":0,"value":null}"#, ""), |e| matches!(e, RequestError::Digest)),
        ("white space", golden.replacen(r#""version":1"#, r#""version": 1"#, 1), |e| matches!(e, RequestError::NotCanonical)),
        ("escaped otherwise", golden.replacen("demo", r"\u0064emo", 1), |e| matches!(e, RequestError::NotCanonical)),
        ("unknown field", golden.replacen('{', r#"{"approved":true,"#, 1), |e| matches!(e, RequestError::Json(_))),
        ("id as path", golden.replace("0190f3c2-7b1e-7000-8000-0123456789ab", "../../../../etc/passwd/aaaaaaaaaaaaa"), |e| {
            matches!(e, RequestError::Json(_))
        }),
        ("too long", format!("{golden}{}", " ".repeat(400_000)), |e| matches!(e, RequestError::TooLong { .. })),
    ];
    for (name, bytes, fits) in cases {
        assert_ne!(bytes, golden, "{name} changes nothing");
        let error = UnverifiedRequest::new(bytes.as_bytes()).parse().unwrap_err();
        assert!(fits(&error), "{name}: {error}");
    }
}

/// Asked again: what one attempt owns may differ, nothing that reviewers judge may.
#[test]
fn only_the_very_same_request_is_taken_up_again() {
    let own = request();
    let now = own.created_at + 60;
    let mut again = own.clone();
    again.id = RequestId::from_bytes([9; 16]);
    (again.created_at, again.expires_at) = (own.created_at + 50, own.expires_at + 50);
    again.session = "another".to_owned();
    again.facts.extend([estimate_fact(1_000), transaction_fact(50)]);
    assert!(again.may_take_up(&own, now));
    let mut bare = again.clone();
    bare.facts.retain(|fact| *fact != estimate_fact(1_000));
    assert!(own.may_take_up(&bare, now));
    type Change = fn(&mut Request);
    let cases: [(&str, Change); 19] = [
        ("version", |r| r.version = 2),
        ("environment", |r| r.environment.push('x')),
        ("statement", |r| r.statement.push(' ')),
        ("parameters", |r| r.parameters.clear()),
        ("digest", |r| r.digest = StatementDigest::compute(b"", [].into_iter())),
        ("issuer", |r| r.requester.issuer.push('x')),
        ("subject", |r| r.requester.subject.push('x')),
        ("e-mail", |r| r.requester.email = Some("x".to_owned())),
        ("groups", |r| r.requester.groups.clear()),
        ("claims", |r| r.requester.claims.clear()),
        ("database", |r| r.database.push('x')),
        ("policy", |r| r.policy = "cd".repeat(32)),
        ("rule", |r| r.rule.push('x')),
        ("reason", |r| r.reason.push('x')),
        ("reviewers", |r| r.reviewers.push("interns".to_owned())),
        ("quorum", |r| r.quorum = 0),
        ("runs", |r| r.runs = 9),
        ("step-up", |r| r.step_up = true),
        ("facts", |r| r.facts.push(("note".to_owned(), "harmless".to_owned()))),
    ];
    for (name, change) in cases {
        let mut found = own.clone();
        change(&mut found);
        assert!(!again.may_take_up(&found, now), "{name}");
        assert_ne!(found.fingerprint(), own.fingerprint(), "{name}");
    }
    // What may differ has the form a gateway gives it, stands there once, and does not make less of the rows.
    for (facts, fits) in [
        (vec![], true),
        (vec![estimate_fact(500)], true),
        (vec![estimate_fact(u64::MAX)], true),
        (vec![estimate_fact(499)], false),
        (vec![estimate_fact(0)], false),
        (vec![transaction_fact(0)], true),
        (vec![("transaction".to_owned(), "none; reviewed by the DBA already".to_owned())], false),
        (vec![("transaction".to_owned(), transaction_fact(0).1.replace('0', "0 s: harmless, 0"))], false),
        (vec![transaction_fact(0), transaction_fact(1)], false),
        (vec![estimate_fact(1_000), estimate_fact(1)], false),
        (vec![("estimated rows".to_owned(), "about one".to_owned())], false),
        (vec![("estimated rows".to_owned(), estimate_fact(7_000).1.replace("7000", "+7000"))], false),
    ] {
        let mut found = own.clone();
        found.facts.extend(facts.clone());
        assert_eq!(again.may_take_up(&found, now), fits, "{facts:?}");
    }
    // Where nothing is expected now, nobody can tell whether reviewers were told the truth.
    let mut told = own.clone();
    told.facts.push(estimate_fact(1));
    assert!(!own.may_take_up(&told, now));
    // A life longer than the rule gives, made in the future, over, or turned round.
    for (created_at, expires_at) in [
        (own.created_at, own.expires_at + 1),
        (own.created_at + 86_400, own.expires_at + 86_400),
        (own.created_at - 900, own.expires_at - 900),
        (own.expires_at, own.created_at),
    ] {
        let mut found = own.clone();
        (found.created_at, found.expires_at) = (created_at, expires_at);
        assert!(!again.may_take_up(&found, now), "{created_at} to {expires_at}");
    }
}

#[test]
fn ids_are_uuids() {
    for bad in [
        "",
        "..",
        "0190F3C2-7B1E-7000-8000-0123456789AB",
        "0190f3c27b1e700080000123456789ab",
        "0190f3c2-7b1e-7000-8000-0123456789a/",
        "{0190f3c2-7b1e-7000-8000-0123456789ab}",
    ] {
        assert!(RequestId::parse(bad).is_err(), "{bad}");
    }
    let id = RequestId::from_bytes([0xab; 16]);
    assert_eq!(RequestId::parse(id.as_str()).unwrap(), id);
}
