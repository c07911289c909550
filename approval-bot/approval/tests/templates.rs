//! Templates under attack: what a signed template covers, and what it does not however it is bent.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use countersign_approval::break_glass;
use countersign_approval::template::{Bounds, Characters, Mismatch, RULE, Statement, Terms};
use countersign_approval::v1::{Requester, StepUp};
use countersign_approval::verify::RequesterIdentity;
use countersign_approval::{
    Decision, KeyId, Parameter, Request, RequestId, StatementDigest, Template, Templates, Verdict, VerifiedTemplate, VerifyingKeys,
};
use p256::ecdsa::SigningKey;
use p256::pkcs8::EncodePublicKey as _;
use support::sign;

const NOW: u64 = 1_800_000_000;
const SQL: &str = "update ledger set note = $2 where id = $1";

struct Signers {
    decision: SigningKey,
    proxy: SigningKey,
    keys: VerifyingKeys,
    kid: KeyId,
}

fn signers() -> Signers {
    let decision = SigningKey::from_slice(&[7; 32]).unwrap();
    let proxy = SigningKey::from_slice(&[9; 32]).unwrap();
    let mut keys = VerifyingKeys::default();
    let kid = keys.add_der(decision.verifying_key().to_public_key_der().unwrap().as_bytes()).unwrap();
    Signers { decision, proxy, keys, kid }
}

fn template() -> Template {
    Template {
        name: "correct-note".to_owned(),
        rule: "writes".to_owned(),
        groups: vec!["ci".to_owned()],
        subjects: Vec::new(),
        valid_from: NOW - 100,
        valid_until: NOW + 86_400,
        touches: vec!["public.ledger".to_owned()],
        calls: Vec::new(),
        parameters: vec![
            Bounds::Integer { min: 1, max: 100 },
            Bounds::Text { one_of: vec!["checked".to_owned(), "it's wrong".to_owned()] },
        ],
    }
}

fn request(template: &Template, statement: &str) -> Request {
    Request {
        version: 1,
        id: RequestId::from_bytes([3; 16]),
        environment: "production".to_owned(),
        created_at: NOW - 200,
        expires_at: NOW + 700,
        statement: statement.to_owned(),
        parameters: Vec::new(),
        digest: StatementDigest::compute(statement.as_bytes(), std::iter::empty()),
        requester: Requester {
            issuer: "https://issuer.example".to_owned(),
            subject: "robin".to_owned(),
            email: Some("robin@bank.example".to_owned()),
            groups: Vec::new(),
            claims: BTreeMap::new(),
        },
        database: "bank".to_owned(),
        policy: "ab".repeat(32),
        rule: RULE.to_owned(),
        reason: "a template".to_owned(),
        reviewers: vec!["dba".to_owned()],
        quorum: 1,
        runs: 1,
        step_up: false,
        facts: template.facts(),
        session: String::new(),
        sources: Vec::new(),
    }
}

fn approval(request: &Request, person: &str) -> Decision {
    support::approval(request.expectation(), person, NOW - 150)
}

fn body(request: &Request) -> String {
    String::from_utf8(request.to_bytes().unwrap()).unwrap()
}

fn verified(request: &Request) -> VerifiedTemplate {
    let signers = signers();
    let token = sign(&signers.decision, &signers.kid, &approval(request, "dana"));
    VerifiedTemplate::verify(&body(request), &[token], "production", &signers.keys).unwrap()
}

fn groups() -> Vec<String> {
    vec!["ci".to_owned()]
}

fn wanted<'a>(text: &'a str, parameters: &'a [Parameter<'a>], groups: &'a [String]) -> Statement<'a> {
    let requester = RequesterIdentity { issuer: "https://issuer.example", subject: "repo:bank/ledger", email: None };
    Statement { text: text.as_bytes(), parameters, touches: &[], calls: &[], database: "bank", rule: "writes", requester, groups, now: NOW }
}

const fn value(type_oid: u32, format: i16, value: &[u8]) -> Parameter<'_> {
    Parameter { type_oid, format, value: Some(value) }
}

#[test]
fn what_was_reviewed_is_covered() {
    let template = verified(&request(&template(), SQL));
    let groups = groups();
    for id in [
        value(23, 0, b"1"),
        value(20, 0, b"100"),
        value(23, 1, &[0, 0, 0, 100]),
        value(20, 1, &[0, 0, 0, 0, 0, 0, 0, 1]),
        value(21, 1, &[0, 7]),
    ] {
        template.covers(&wanted(SQL, &[id, value(25, 0, b"checked")], &groups), None).unwrap();
    }
    let semicolon = format!("{SQL};\n");
    template.covers(&wanted(&semicolon, &[value(23, 0, b"1"), value(1043, 1, b"it's wrong")], &groups), None).unwrap();
    for text in ["update ledger set note = 'checked' where id = 7", "update ledger set note = 'it''s wrong' where id = 100;"] {
        template.covers(&wanted(text, &[], &groups), None).unwrap();
    }
}

#[test]
fn values_just_out_of_bounds_and_of_other_types_are_not() {
    let template = verified(&request(&template(), SQL));
    let groups = groups();
    let note = value(25, 0, b"checked");
    let ids = [
        value(23, 0, b"0"),
        value(23, 0, b"101"),
        value(23, 0, b"-1"),
        value(23, 0, b"+1"),
        value(23, 0, b" 1"),
        value(23, 0, b"01"),
        value(23, 0, b"1e0"),
        value(23, 0, b"0x10"),
        value(23, 0, b"1_0"),
        value(23, 0, b""),
        value(23, 1, b"1"),
        value(23, 1, &[0, 0, 0, 101]),
        value(23, 1, &[0, 0, 0, 0, 0, 0, 0, 1]),
        value(20, 1, &[0, 0, 0, 1]),
        value(20, 0, b"18446744073709551617"),
        value(25, 0, b"1"),
        value(1700, 0, b"1"),
        value(705, 0, b"1"),
        value(0, 0, b"1"),
        value(23, 2, b"1"),
        Parameter { type_oid: 23, format: 0, value: None },
    ];
    for id in ids {
        assert_eq!(template.covers(&wanted(SQL, &[id, note], &groups), None), Err(Mismatch("a value is out of bounds")), "{id:?}");
    }
    let id = value(23, 0, b"1");
    for note in
        [value(25, 0, b"Checked"), value(25, 0, b"checked "), value(25, 0, b"checked\0"), value(17, 1, b"checked"), value(25, 0, b"\xff")]
    {
        assert!(template.covers(&wanted(SQL, &[id, note], &groups), None).is_err(), "{note:?}");
    }
    for parameters in [&[id][..], &[id, note, note]] {
        assert!(template.covers(&wanted(SQL, parameters, &groups), None).is_err());
    }
}

#[test]
fn nothing_is_smuggled_in_by_literals() {
    let template = verified(&request(&template(), SQL));
    let groups = groups();
    let texts = [
        SQL,
        "update ledger set note = 'checked' where id = 0",
        "update ledger set note = 'checked' where id = 101",
        "update ledger set note = 'checked' where id = -1",
        "update ledger set note = 'checked' where id = 1 or true",
        "update ledger set note = 'checked' where id = 1/**/or true",
        "update ledger set note = 'checked' where id = 1--",
        "update ledger set note = 'checked' where id = 1;drop table ledger",
        "update ledger set note = 'checked' where id = 1; -- ",
        "update ledger set note = 'checked' /* */ where id = 1",
        "update ledger set note = 'checked'  where id = 1",
        "UPDATE ledger set note = 'checked' where id = 1",
        "update ledger set note = checked where id = 1",
        "update ledger set note = \"checked\" where id = 1",
        "update ledger set note = E'checked' where id = 1",
        "update ledger set note = 'chec\\ked' where id = 1",
        "update ledger set note = 'checked'\n'x' where id = 1",
        "update ledger set note = 'checked' || 'x' where id = 1",
        "update ledger set note = $$checked$$ where id = 1",
        "update ledger set note = (select 'checked') where id = 1",
        "update ledger set note = 'checked', id = 5 where id = 1",
        "update ledger set note = 'checked'',id=5--' where id = 1",
        "update ledger set note = 'checked' where id = 1.0",
        "update ledger set note = 'checked' where id = '1'",
        "update ledger set note = 'checked' where id = 1::int",
        "update ledger set note = 'checked' where id = 1\u{a0}",
        "update ledger set note = 'checked' where id = true",
        "update ledger set note = 'checked' where id = 0001",
        "update ledger set note = 'checked' where id = ",
        "update ledger set note = 'checked",
        "",
    ];
    for text in texts {
        assert!(template.covers(&wanted(text, &[], &groups), None).is_err(), "{text}");
    }
}

#[test]
fn a_minus_cannot_begin_a_comment() {
    let mut document = template();
    document.parameters = vec![Bounds::Integer { min: -100, max: 100 }];
    let covers = |sql: &str, text: &str| {
        let request = request(&document, sql);
        let groups = groups();
        Template::of(&request).is_ok() && verified(&request).covers(&wanted(text, &[], &groups), None).is_ok()
    };
    assert!(covers("update l set a = a - $1 where id = 1", "update l set a = a - -5 where id = 1"));
    assert!(!covers("update l set a = a -$1 where id = 1", "update l set a = a --5 where id = 1"));
    assert!(!covers("update l set a =$1 where id = 1", "update l set a =-5 where id = 1"));
    assert!(covers("update l set a =$1 where id = 1", "update l set a =5 where id = 1"));
}

#[test]
fn texts_that_cannot_be_followed_are_no_templates() {
    let check = |sql: &str, count: usize| {
        let parameters = vec![Bounds::Integer { min: 1, max: 2 }; count];
        Template { parameters, ..template() }.check(sql).is_ok()
    };
    for (sql, count) in [
        ("select 1 where a = $1", 1),
        ("select '$9', \"$8\" from t where a = $1 and b = $1", 1),
        ("vacuum", 0),
        ("insert into t values ($1,$2);", 2),
    ] {
        assert!(check(sql, count), "{sql}");
    }
    let refused = [
        ("select $1 -- x", 1),
        ("select /* */ $1", 1),
        ("select $1; drop table t", 1),
        ("select t$1", 1),
        ("select 't'$1", 1),
        ("select $1 'x'", 1),
        ("select 'x' $1", 1),
        ("select $1::text", 1),
        ("select $1x", 1),
        ("select $$x$$, $1", 1),
        ("select $a$x$a$", 0),
        ("select E'x'", 0),
        ("select U&'x'", 0),
        ("select U&\"x\"", 0),
        ("select 'a\\b'", 0),
        ("select 'open", 0),
        ("select $2", 1),
        ("select $1", 2),
        ("select $0", 1),
        ("select $99999999999999999999", 1),
        ("  ;; ", 0),
        ("select -$1", 1),
    ];
    for (sql, count) in refused {
        assert!(!check(sql, count), "{sql}");
    }
}

#[test]
fn other_principals_databases_rules_times_and_terms_are_not_covered() {
    let template = verified(&request(&template(), SQL));
    let (groups, values) = (groups(), [value(23, 0, b"1"), value(25, 0, b"checked")]);
    let fits = wanted(SQL, &values, &groups);
    let others = ["ci-admins".to_owned(), "CI".to_owned(), String::new()];
    let elsewhere = ["pg_temp_3.ledger".to_owned()];
    let own = ["public.ledger".to_owned()];
    template.covers(&Statement { touches: &own, ..fits }, None).unwrap();
    let changed = [
        Statement { database: "bank2", ..fits },
        Statement { rule: "deletes", ..fits },
        Statement { groups: &others, ..fits },
        Statement { groups: &[], ..fits },
        Statement { touches: &elsewhere, ..fits },
        Statement { calls: &elsewhere, ..fits },
        Statement { now: NOW - 101, ..fits },
        Statement { now: NOW + 86_400, ..fits },
        // Four eyes: by link, by address, by name.
        Statement { requester: RequesterIdentity { subject: "dana-sso", ..fits.requester }, ..fits },
        Statement { requester: RequesterIdentity { email: Some("DANA@bank.example"), ..fits.requester }, ..fits },
        Statement { requester: RequesterIdentity { subject: "dana", ..fits.requester }, ..fits },
    ];
    template.covers(&fits, None).unwrap();
    for statement in changed {
        assert!(template.covers(&statement, None).is_err(), "{statement:?}");
    }
    let terms = Terms { reviewers: &["dba".to_owned()], sources: &[], quorum: 1, step_up: false };
    template.covers(&fits, Some(&terms)).unwrap();
    let stricter = [
        Terms { quorum: 2, ..terms },
        Terms { step_up: true, ..terms },
        Terms { reviewers: &["risk".to_owned()], ..terms },
        Terms { reviewers: &["dba".to_owned(), "risk".to_owned()], ..terms },
    ];
    for terms in stricter {
        assert!(template.covers(&fits, Some(&terms)).is_err(), "{terms:?}");
    }
    let templates = Templates::new(vec![template]);
    let found = templates.find(&fits, &terms).unwrap();
    assert_eq!(found.digest(), &StatementDigest::compute(SQL.as_bytes(), values.iter().copied()));
}

#[test]
fn only_reviewers_signatures_make_a_template() {
    let signers = signers();
    let honest = request(&template(), SQL);
    let good = approval(&honest, "dana");
    let token = sign(&signers.decision, &signers.kid, &good);
    let verify =
        |request: &Request, tokens: &[String]| VerifiedTemplate::verify(&body(request), tokens, "production", &signers.keys).is_ok();
    assert!(verify(&honest, std::slice::from_ref(&token)));
    assert!(!verify(&honest, &[]));
    // Signed by a key of the gateway's, under its own id and under the decision key's.
    let own = KeyId::of(signers.proxy.verifying_key()).unwrap();
    assert!(!verify(&honest, &[sign(&signers.proxy, &own, &good)]));
    assert!(!verify(&honest, &[sign(&signers.proxy, &signers.kid, &good)]));
    // The proposer's own signature, a stranger's, one for a hold of the same text.
    assert!(!verify(&honest, &[sign(&signers.decision, &signers.kid, &approval(&honest, "robin"))]));
    let mut stranger = approval(&honest, "lee");
    stranger.reviewer.groups = vec!["interns".to_owned()];
    assert!(!verify(&honest, &[sign(&signers.decision, &signers.kid, &stranger)]));
    let hold = Request { rule: "writes".to_owned(), ..honest.clone() };
    let held = sign(&signers.decision, &signers.kid, &approval(&hold, "dana"));
    assert!(!verify(&hold, std::slice::from_ref(&held)));
    assert!(!verify(&honest, &[held]));
    // A denial among approvals.
    let denial = Decision { verdict: Verdict::Deny, reason: Some("no".to_owned()), ..approval(&honest, "lee") };
    assert!(!verify(&honest, &[token.clone(), sign(&signers.decision, &signers.kid, &denial)]));
    // Another deployment's.
    assert!(VerifiedTemplate::verify(&body(&honest), std::slice::from_ref(&token), "staging", &signers.keys).is_err());
    // Anything changed after it was signed.
    let changes: [fn(&mut Request); 7] = [
        |request| request.statement.push_str(" or true"),
        |request| request.database = "other".to_owned(),
        |request| request.facts = Template { groups: vec!["everyone".to_owned()], ..template() }.facts(),
        |request| request.facts = Template { valid_until: NOW + 2 * 86_400, ..template() }.facts(),
        |request| request.reviewers = vec!["interns".to_owned()],
        |request| request.quorum = 0,
        |request| request.expires_at += 1,
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut bent = honest.clone();
        change(&mut bent);
        bent.digest = bent.compute_digest().unwrap();
        assert!(!verify(&bent, std::slice::from_ref(&token)), "change {at}");
    }
}

#[test]
fn what_people_read_is_what_counts() {
    let signers = signers();
    let honest = request(&template(), SQL);
    let wide = Template { parameters: vec![Bounds::Integer { min: i64::MIN, max: i64::MAX }, Bounds::Boolean {}], ..template() };
    // Narrow in words, wide in the document, and signed as it stands.
    let mut bent = honest.clone();
    let document = wide.facts().pop().unwrap();
    *bent.facts.last_mut().unwrap() = document.clone();
    let mut twice = honest;
    twice.facts.insert(0, document);
    for request in [bent, twice] {
        let token = sign(&signers.decision, &signers.kid, &approval(&request, "dana"));
        assert!(VerifiedTemplate::verify(&body(&request), &[token], "production", &signers.keys).is_err());
    }
}

#[test]
fn a_quorum_and_a_sign_in_are_kept() {
    let signers = signers();
    let two = Request { quorum: 2, step_up: true, ..request(&template(), SQL) };
    let signed = |person: &str, subject: &str| {
        let step_up = Some(StepUp { issuer: "https://issuer.example".to_owned(), subject: subject.to_owned(), at: NOW - 160 });
        sign(&signers.decision, &signers.kid, &Decision { step_up, ..approval(&two, person) })
    };
    let verify = |tokens: &[String]| VerifiedTemplate::verify(&body(&two), tokens, "production", &signers.keys);
    assert!(verify(&[signed("dana", "dana-sso")]).is_err());
    assert!(verify(&[signed("dana", "dana-sso"), signed("dana", "dana-sso")]).is_err());
    assert!(verify(&[signed("dana", "dana-sso"), sign(&signers.decision, &signers.kid, &approval(&two, "lee"))]).is_err());
    let template = verify(&[signed("dana", "dana-sso"), signed("lee", "lee-work")]).unwrap();
    // Whoever signed in is held against the requester, too.
    let (groups, values) = (groups(), [value(23, 0, b"1"), value(25, 0, b"checked")]);
    let fits = wanted(SQL, &values, &groups);
    template.covers(&fits, None).unwrap();
    let own = Statement { requester: RequesterIdentity { subject: "lee-work", ..fits.requester }, ..fits };
    assert_eq!(template.covers(&own, None), Err(Mismatch("the requester approved it")));
}

#[test]
fn every_kind_of_bound_keeps_its_edges() {
    let cases: [(Bounds, &[(&str, bool)]); 6] = [
        (
            Bounds::Decimal { min: "-0.5".to_owned(), max: "100".to_owned() },
            &[
                ("99.999999999", true),
                ("100.0", true),
                ("100.000000001", false),
                ("1e1", false),
                ("0.0000000001", false),
                ("00.5", false),
                (".5", false),
            ],
        ),
        (
            Bounds::Date { min: "2026-01-01".to_owned(), max: "2026-02-28".to_owned() },
            &[
                ("'2026-01-01'", true),
                ("'2026-02-28'", true),
                ("'2026-03-01'", false),
                ("'2026-02-30'", false),
                ("'today'", false),
                ("'infinity'", false),
            ],
        ),
        (
            Bounds::Code { characters: Characters::Digits, min_length: 2, max_length: 3 },
            &[("'12'", true), ("'123'", true), ("'1'", false), ("'1234'", false), ("'1a'", false), ("'١٢'", false), ("12", false)],
        ),
        (
            Bounds::Code { characters: Characters::Identifier, min_length: 0, max_length: 9 },
            &[("''", true), ("'a-B_1.c'", true), ("'a b'", false), ("'a''b'", false)],
        ),
        (Bounds::Uuid {}, &[("'0b5e7c1a-0000-4000-8000-000000000001'", true), ("'0b5e7c1a00004000800000000000001'", false), ("''", false)]),
        (Bounds::Boolean {}, &[("true", true), ("false", true), ("TRUE", false), ("truex", false), ("'t'", false), ("1", false)]),
    ];
    let groups = groups();
    for (bounds, values) in cases {
        let template = verified(&request(&Template { parameters: vec![bounds.clone()], ..template() }, "select a from t where b = $1"));
        for (literal, fits) in values {
            let text = format!("select a from t where b = {literal}");
            assert_eq!(template.covers(&wanted(&text, &[], &groups), None).is_ok(), *fits, "{bounds:?}: {literal}");
        }
    }
    for bounds in [
        Bounds::Integer { min: 2, max: 1 },
        Bounds::Decimal { min: "a".to_owned(), max: "1".to_owned() },
        Bounds::Date { min: "2026-02-30".to_owned(), max: "2026-03-01".to_owned() },
        Bounds::Text { one_of: Vec::new() },
        Bounds::Code { characters: Characters::Digits, min_length: 3, max_length: 2 },
    ] {
        let template = Template { parameters: vec![bounds.clone()], ..template() };
        assert!(template.check("select $1").is_err(), "{bounds:?}");
    }
}

#[test]
fn a_review_says_what_its_signatures_say() {
    let signers = signers();
    let mut facts = break_glass::facts("database is on fire", "writes");
    facts.push(("kind".to_owned(), "write".to_owned()));
    let request = Request { rule: break_glass::RULE.to_owned(), facts, ..request(&template(), SQL) };
    assert_eq!(break_glass::said(&request), Some(("database is on fire", "writes")));
    let review = |decisions: Vec<String>| break_glass::Review { version: 1, request: request.id.clone(), decisions };
    let signed = |decision: &Decision| sign(&signers.decision, &signers.kid, decision);
    let outcome = |review: &break_glass::Review| review.outcome(&request.expectation(), &signers.keys);
    let justified = review(vec![signed(&approval(&request, "dana"))]);
    assert!(matches!(outcome(&justified), break_glass::Outcome::Justified { by, .. } if by == ["dana"]));
    let denial = Decision { verdict: Verdict::Deny, reason: Some("no ticket".to_owned()), ..approval(&request, "lee") };
    let not = review(vec![signed(&approval(&request, "dana")), signed(&denial)]);
    assert_eq!(outcome(&not), break_glass::Outcome::NotJustified { by: "lee".to_owned(), reason: "no ticket".to_owned() });
    // The requester's own, the gateway's key, a late one, one of another request: no review.
    let late = Decision { decided_at: request.expires_at, ..approval(&request, "dana") };
    let other = Request { id: RequestId::from_bytes([4; 16]), ..request.clone() };
    for token in [
        signed(&approval(&request, "robin")),
        sign(&signers.proxy, &signers.kid, &approval(&request, "dana")),
        signed(&late),
        signed(&approval(&other, "dana")),
    ] {
        assert_eq!(outcome(&review(vec![token])), break_glass::Outcome::Open);
    }
    assert_eq!(
        break_glass::Review { request: other.id, ..justified }.outcome(&request.expectation(), &signers.keys),
        break_glass::Outcome::Open
    );
    for (reason, fits) in [("database is on fire", true), ("short", false), ("          ", false), ("two\nlines of words", false)] {
        assert_eq!(break_glass::is_reason(reason), fits, "{reason:?}");
    }
}
