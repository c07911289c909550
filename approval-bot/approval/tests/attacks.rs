//! I2 and I6 under attack: what lies in the store, and why it does not open a hold.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_approval::jws::{self, TokenError};
use countersign_approval::v1::StepUp;
use countersign_approval::verify::{MAX_TOKENS, RejectionReason, quorum};
use countersign_approval::{Decision, Expectation, GrantError, KeyId, Parameter, RequestId, StatementDigest, Verdict, VerifyingKeys};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::EncodePublicKey as _;
use proptest::prelude::*;
use support::sign;

type Change = fn(&mut Decision);

const NOW: u64 = 1_800_000_000;

struct Signers {
    decision: SigningKey,
    recording: SigningKey,
    keys: VerifyingKeys,
    kid: KeyId,
}

fn signers() -> Signers {
    let decision = SigningKey::from_slice(&[7; 32]).unwrap();
    let recording = SigningKey::from_slice(&[9; 32]).unwrap();
    let mut keys = VerifyingKeys::default();
    let kid = keys.add_der(decision.verifying_key().to_public_key_der().unwrap().as_bytes()).unwrap();
    Signers { decision, recording, keys, kid }
}

fn digest(statement: &str) -> StatementDigest {
    let value = Parameter { type_oid: 23, format: 0, value: Some(b"42") };
    StatementDigest::compute(statement.as_bytes(), [value].into_iter())
}

fn expected(quorum: u32) -> Expectation {
    Expectation {
        request: RequestId::from_bytes([3; 16]),
        environment: "production".to_owned(),
        digest: digest("delete from accounts where id = $1"),
        requester_issuer: "https://issuer.example".to_owned(),
        requester_subject: "repo:bank/ledger".to_owned(),
        requester_email: Some("Robin@bank.example".to_owned()),
        database: "bank".to_owned(),
        policy: "ab".repeat(32),
        rule: "ci-deletes".to_owned(),
        expires_at: NOW + 900,
        reviewers: vec!["dba".to_owned(), "oncall".to_owned()],
        sources: Vec::new(),
        quorum,
        shown: "5a".repeat(32),
        runs: 1,
        step_up: false,
    }
}

fn approval(person: &str) -> Decision {
    support::approval(expected(1), person, NOW - 10)
}

/// A token with any header over any claims, signed with this key.
fn forge(key: &SigningKey, header: &str, claims: &[u8]) -> String {
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature: Signature = key.sign(input.as_bytes());
    jws::attach(&input, &signature)
}

fn rejection(tokens: &[String]) -> RejectionReason {
    match quorum(&expected(1), tokens, &signers().keys, NOW) {
        Err(GrantError::Pending { found: 0, mut rejected, .. }) if rejected.len() == 1 => rejected.remove(0).why,
        other => panic!("expected one rejection, got {other:?}"),
    }
}

#[test]
fn i2_a_decision_for_anything_else_does_not_count() {
    let signers = signers();
    let cases: Vec<(&str, RejectionReason, Change)> = vec![
        ("request", RejectionReason::Binding("request"), |d| d.request = RequestId::from_bytes([4; 16])),
        ("environment", RejectionReason::Binding("environment"), |d| d.environment = "staging".to_owned()),
        ("statement", RejectionReason::Binding("statement"), |d| d.digest = digest("delete from accounts")),
        ("issuer", RejectionReason::Binding("requester"), |d| d.requester_issuer = "https://other.example".to_owned()),
        ("subject", RejectionReason::Binding("requester"), |d| d.requester_subject = "repo:bank/other".to_owned()),
        ("database", RejectionReason::Binding("database"), |d| d.database = "Bank".to_owned()),
        ("what was shown", RejectionReason::Binding("text, facts or claims"), |d| d.shown = "5b".repeat(32)),
        ("nothing shown", RejectionReason::Binding("text, facts or claims"), |d| d.shown.clear()),
        ("policy", RejectionReason::Binding("policy"), |d| d.policy = "cd".repeat(32)),
        ("rule", RejectionReason::Binding("rule"), |d| d.rule = "ci-reads".to_owned()),
        ("longer expiry", RejectionReason::Binding("expiry"), |d| d.expires_at += 3600),
        ("after expiry", RejectionReason::Time, |d| d.decided_at = NOW + 900),
        ("from the future", RejectionReason::Time, |d| d.decided_at = NOW + 301),
        ("no group", RejectionReason::NotAReviewer, |d| d.reviewer.groups.clear()),
        ("other group", RejectionReason::NotAReviewer, |d| d.reviewer.groups = vec!["DBA".to_owned()]),
        ("version", RejectionReason::Token(TokenError::Claims), |d| d.version = 2),
    ];
    for (name, why, change) in cases {
        let mut decision = approval("dana");
        change(&mut decision);
        assert_eq!(rejection(&[sign(&signers.decision, &signers.kid, &decision)]), why, "{name}");
        // A denial that is not for this request ends nothing either.
        decision.verdict = Verdict::Deny;
        assert_eq!(rejection(&[sign(&signers.decision, &signers.kid, &decision)]), why, "{name}, denied");
    }
}

#[test]
fn approvals_are_for_as_many_runs_as_the_request_allows() {
    let signers = signers();
    let sign = |person: &str, runs: u32| {
        let mut decision = approval(person);
        decision.runs = runs;
        sign(&signers.decision, &signers.kid, &decision)
    };
    for runs in [0, 2, u32::MAX] {
        assert_eq!(rejection(&[sign("dana", runs)]), RejectionReason::Runs(runs));
    }
    let mut five = expected(2);
    five.runs = 5;
    // The least anyone approved counts, in either order.
    for tokens in [[sign("dana", 5), sign("erin", 2)], [sign("erin", 2), sign("dana", 5)]] {
        assert_eq!(quorum(&five, &tokens, &signers.keys, NOW).unwrap().runs(), 2);
    }
    assert!(matches!(quorum(&five, &[sign("dana", 5), sign("erin", 6)], &signers.keys, NOW), Err(GrantError::Pending { found: 1, .. })));
    // A request that says 0 allows one.
    five.runs = 0;
    assert_eq!(quorum(&five, &[sign("dana", 1), sign("erin", 1)], &signers.keys, NOW).unwrap().runs(), 1);
}

#[test]
fn where_a_sign_in_is_demanded_a_press_alone_is_nothing() {
    let signers = signers();
    let sign = |decision: &Decision| sign(&signers.decision, &signers.kid, decision);
    let signed_in = |person: &str, subject: &str| {
        let mut decision = approval(person);
        let at = NOW - 20;
        decision.step_up = Some(StepUp { issuer: "https://issuer.example".to_owned(), subject: subject.to_owned(), at });
        decision
    };
    let mut top = expected(2);
    top.step_up = true;
    let missing = |tokens: &[String]| match quorum(&top, tokens, &signers.keys, NOW) {
        Err(GrantError::Pending { found, rejected, .. }) => (found, rejected.into_iter().map(|rejection| rejection.why).collect()),
        other => panic!("{other:?}"),
    };
    let erin = sign(&signed_in("erin", "erin-sso"));
    assert_eq!(missing(&[sign(&approval("dana")), erin.clone()]), (1, vec![RejectionReason::NoStepUp]));
    // Whoever asked signs in at the reviewer's screen.
    let own = sign(&signed_in("dana", "repo:bank/ledger"));
    assert_eq!(missing(&[own, erin.clone()]), (1, vec![RejectionReason::SelfApproval]));
    // One person signs in for two accounts.
    assert_eq!(missing(&[sign(&signed_in("dana", "erin-sso")), erin.clone()]), (1, vec![]));
    assert!(quorum(&top, &[sign(&signed_in("dana", "dana-sso")), erin], &signers.keys, NOW).is_ok());
    // A denial takes none: stopping is never made harder.
    let mut denial = approval("dana");
    (denial.verdict, denial.reason) = (Verdict::Deny, Some("no".to_owned()));
    assert!(matches!(quorum(&top, &[sign(&denial)], &signers.keys, NOW), Err(GrantError::Denied { .. })));
}

#[test]
fn i6_the_requester_is_never_a_reviewer() {
    let signers = signers();
    let cases: Vec<(&str, Change)> = vec![
        ("by e-mail", |d| d.reviewer.email = Some(" robin@BANK.example".to_owned())),
        ("by identity link", |d| d.reviewer.subjects.push("https://issuer.example|repo:bank/ledger".to_owned())),
        ("by name", |d| d.reviewer.person = "repo:bank/ledger".to_owned()),
        ("by name in other case", |d| d.reviewer.person = "Repo:Bank/Ledger".to_owned()),
        ("by address as subject", |d| d.reviewer.email = Some("repo:bank/ledger".to_owned())),
    ];
    for (name, change) in cases {
        let mut decision = approval("dana");
        change(&mut decision);
        assert_eq!(rejection(&[sign(&signers.decision, &signers.kid, &decision)]), RejectionReason::SelfApproval, "{name}");
    }
}

#[test]
fn i2_a_token_must_be_signed_as_decisions_are() {
    let signers = signers();
    let (key, kid) = (&signers.decision, signers.kid.as_str());
    let claims = serde_json::to_vec(&approval("dana")).unwrap();
    let good = sign(key, &signers.kid, &approval("dana"));
    let parts: Vec<&str> = good.split('.').collect();
    let recording_kid = KeyId::of(signers.recording.verifying_key()).unwrap();
    let header = |alg: &str, typ: &str, kid: &str| format!(r#"{{"alg":"{alg}","typ":"{typ}","kid":"{kid}"}}"#);
    let mut other_claims = approval("dana");
    other_claims.database = "vault".to_owned();
    let other_claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&other_claims).unwrap());
    let with_extra = serde_json::to_string(&approval("dana")).unwrap().replacen('{', r#"{"admin":true,"#, 1);
    let twice = serde_json::to_string(&approval("dana")).unwrap().replacen('{', r#"{"version":1,"#, 1);
    let cases: Vec<(&str, String, TokenError)> = vec![
        (
            "alg none, no signature",
            format!("{}.{}.", URL_SAFE_NO_PAD.encode(header("none", jws::TYPE, kid)), parts[1]),
            TokenError::Algorithm,
        ),
        ("alg none, signed", forge(key, &header("none", jws::TYPE, kid), &claims), TokenError::Algorithm),
        ("alg HS256", forge(key, &header("HS256", jws::TYPE, kid), &claims), TokenError::Algorithm),
        ("alg RS256", forge(key, &header("RS256", jws::TYPE, kid), &claims), TokenError::Algorithm),
        ("alg es256", forge(key, &header("es256", jws::TYPE, kid), &claims), TokenError::Algorithm),
        ("typ JWT", forge(key, &header("ES256", "JWT", kid), &claims), TokenError::Type),
        ("typ of a manifest", forge(key, &header("ES256", "countersign-manifest+jwt", kid), &claims), TokenError::Type),
        ("unknown kid", forge(key, &header("ES256", jws::TYPE, "0000000000000000"), &claims), TokenError::UnknownKey),
        ("kid as path", forge(key, &header("ES256", jws::TYPE, "../../dev/null"), &claims), TokenError::UnknownKey),
        ("key of the recording", sign(&signers.recording, &recording_kid, &approval("dana")), TokenError::UnknownKey),
        ("key of the recording under our kid", sign(&signers.recording, &signers.kid, &approval("dana")), TokenError::Signature),
        (
            "embedded jwk",
            forge(key, &format!(r#"{{"alg":"ES256","typ":"{}","kid":"{kid}","jwk":{{}}}}"#, jws::TYPE), &claims),
            TokenError::Malformed,
        ),
        (
            "kid twice",
            forge(key, &format!(r#"{{"alg":"ES256","typ":"{}","kid":"{kid}","kid":"{kid}"}}"#, jws::TYPE), &claims),
            TokenError::Malformed,
        ),
        ("claims replaced", format!("{}.{other_claims}.{}", parts[0], parts[2]), TokenError::Signature),
        (
            "signature truncated",
            {
                let bytes = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
                format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode(&bytes[..63]))
            },
            TokenError::Signature,
        ),
        ("signature of zeros", format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode([0; 64])), TokenError::Signature),
        ("signature missing", format!("{}.{}", parts[0], parts[1]), TokenError::Malformed),
        (
            "signature in DER",
            {
                let signature: Signature = key.sign(format!("{}.{}", parts[0], parts[1]).as_bytes());
                format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode(signature.to_der().as_bytes()))
            },
            TokenError::Signature,
        ),
        ("padded", format!("{good}=="), TokenError::Malformed),
        ("claim nobody knows", forge(key, &header("ES256", jws::TYPE, kid), with_extra.as_bytes()), TokenError::Claims),
        ("claim twice", forge(key, &header("ES256", jws::TYPE, kid), twice.as_bytes()), TokenError::Claims),
        ("empty", String::new(), TokenError::Malformed),
        ("dots", "..".to_owned(), TokenError::Malformed),
        ("too long", "a".repeat(20_000), TokenError::Malformed),
    ];
    for (name, token, why) in cases {
        assert_eq!(rejection(std::slice::from_ref(&token)), RejectionReason::Token(why), "{name}");
        // Beside a good one it changes nothing.
        assert!(quorum(&expected(1), &[token, good.clone()], &signers.keys, NOW).is_ok(), "{name}");
    }
    assert!(quorum(&expected(1), &[good], &VerifyingKeys::default(), NOW).is_err());
}

#[test]
fn both_forms_of_a_signature_are_one_approval() {
    let signers = signers();
    let input = jws::signing_input(&approval("dana"), &signers.kid).unwrap();
    let low: Signature = signers.decision.sign(input.as_bytes());
    let low = low.normalize_s().unwrap_or(low);
    let (r, s) = low.split_scalars();
    let high = Signature::from_scalars(r, -s).unwrap();
    assert_ne!(low, high);
    let tokens = vec![jws::attach(&input, &low), jws::attach(&input, &high)];
    for token in &tokens {
        assert!(quorum(&expected(1), std::slice::from_ref(token), &signers.keys, NOW).is_ok());
    }
    assert!(matches!(quorum(&expected(2), &tokens, &signers.keys, NOW), Err(GrantError::Pending { found: 1, needed: 2, .. })));
    // What KMS returns is DER.
    assert_eq!(jws::signature_from_der(high.to_der().as_bytes()).unwrap(), high);
    assert!(jws::signature_from_der(&[0x30, 0x06, 0x02]).is_err());
}

#[test]
fn i6_quorums_count_people() {
    let signers = signers();
    let sign = |decision: &Decision| sign(&signers.decision, &signers.kid, decision);
    let dana = approval("dana");
    let cases: Vec<(&str, Change, u32)> = vec![
        ("another person", |_| {}, 2),
        ("same person, other account", |d| d.reviewer.person = "dana".to_owned(), 1),
        ("same account", |d| d.reviewer.slack = "T1/dana".to_owned(), 1),
        ("same address, written otherwise", |d| d.reviewer.email = Some("DANA@bank.example ".to_owned()), 1),
        ("same identity link", |d| d.reviewer.subjects.push("https://issuer.example|dana-sso".to_owned()), 1),
        ("no address", |d| d.reviewer.email = None, 2),
    ];
    for (name, change, people) in cases {
        let mut other = approval("erin");
        change(&mut other);
        let (dana, other) = (sign(&dana), sign(&other));
        for tokens in [vec![dana.clone(), other.clone()], vec![other.clone(), dana.clone(), other, dana]] {
            match quorum(&expected(2), &tokens, &signers.keys, NOW) {
                Ok(granted) => assert_eq!((people, granted.decisions().len()), (2, 2), "{name}"),
                Err(GrantError::Pending { found, needed: 2, .. }) => assert_eq!(found, people, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
    // Two accounts that a third token ties together are one person.
    let mut tie = approval("dana");
    tie.reviewer.email = Some("erin@bank.example".to_owned());
    let tokens = [sign(&dana), sign(&approval("erin")), sign(&tie)];
    assert!(matches!(quorum(&expected(2), &tokens, &signers.keys, NOW), Err(GrantError::Pending { found: 1, .. })));
    // A quorum of nobody is a quorum of one.
    assert!(matches!(quorum(&expected(0), &[], &signers.keys, NOW), Err(GrantError::Pending { needed: 1, .. })));
    let mut nobody_may = expected(1);
    nobody_may.reviewers.clear();
    assert!(quorum(&nobody_may, &[sign(&dana)], &signers.keys, NOW).is_err());
}

#[test]
fn a_denial_ends_it_wherever_it_stands() {
    let signers = signers();
    let mut denial = approval("erin");
    denial.verdict = Verdict::Deny;
    denial.reason = Some("not on a Friday".to_owned());
    let (yes, no) = (sign(&signers.decision, &signers.kid, &approval("dana")), sign(&signers.decision, &signers.kid, &denial));
    for tokens in [vec![yes.clone(), no.clone()], vec![no.clone(), yes.clone()], vec![no.clone()]] {
        match quorum(&expected(1), &tokens, &signers.keys, NOW) {
            Err(GrantError::Denied { by, reason }) => assert_eq!((by.as_str(), reason.as_str()), ("erin", "not on a Friday")),
            other => panic!("{other:?}"),
        }
    }
    // Also when the time is over: the requester should hear the reason.
    assert!(matches!(quorum(&expected(1), &[no], &signers.keys, NOW + 900), Err(GrantError::Denied { .. })));
    assert!(matches!(quorum(&expected(1), &[yes], &signers.keys, NOW + 900), Err(GrantError::Expired)));
}

#[test]
fn floods_are_bounded() {
    let signers = signers();
    let mut tokens = vec!["x".to_owned(); 5_000];
    tokens.push(sign(&signers.decision, &signers.kid, &approval("dana")));
    match quorum(&expected(1), &tokens, &signers.keys, NOW) {
        Err(GrantError::Pending { rejected, .. }) => {
            assert_eq!(rejected.last().map(|last| last.why.clone()), Some(RejectionReason::TooMany))
        }
        other => panic!("{other:?}"),
    }
    // A denial pushed out of sight by rubbish: what cannot be read whole is not granted.
    let mut denial = approval("erin");
    (denial.verdict, denial.reason) = (Verdict::Deny, Some("no".to_owned()));
    let mut tokens = vec![sign(&signers.decision, &signers.kid, &approval("dana"))];
    tokens.resize(MAX_TOKENS, "x".to_owned());
    assert!(quorum(&expected(1), &tokens, &signers.keys, NOW).is_ok());
    tokens.push(sign(&signers.decision, &signers.kid, &denial));
    assert!(matches!(quorum(&expected(1), &tokens, &signers.keys, NOW), Err(GrantError::Pending { found: 0, .. })));
}

proptest! {
    #[test]
    fn order_and_repetition_never_matter(picks in prop::collection::vec((0u8..4, 0u8..4, any::<bool>()), 0..8), needed in 1u32..4, turn in 0usize..8) {
        let signers = signers();
        let tokens: Vec<String> = picks
            .iter()
            .map(|(person, account, deny)| {
                let mut decision = approval(&format!("p{person}"));
                decision.reviewer.slack = format!("T1/a{account}");
                decision.verdict = if *deny && *person == 0 { Verdict::Deny } else { Verdict::Approve };
                sign(&signers.decision, &signers.kid, &decision)
            })
            .collect();
        let outcome = |tokens: &[String]| match quorum(&expected(needed), tokens, &signers.keys, NOW) {
            Ok(granted) => format!("granted by {}", granted.decisions().len()),
            Err(error) => error.to_string(),
        };
        let first = outcome(&tokens);
        let mut turned = tokens.clone();
        let turn = turn.min(turned.len());
        turned.rotate_left(turn);
        prop_assert_eq!(&outcome(&turned), &first);
        turned.reverse();
        turned.extend(tokens.clone());
        prop_assert_eq!(&outcome(&turned), &first);
        let people: std::collections::BTreeSet<u8> = picks.iter().map(|(person, ..)| *person).collect();
        if first.starts_with("granted") {
            prop_assert!(people.len() >= usize::try_from(needed).unwrap());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(token in ".{0,300}", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let signers = signers();
        let encoded = format!("{0}.{0}.{0}", URL_SAFE_NO_PAD.encode(&bytes));
        for token in [token, encoded, String::from_utf8_lossy(&bytes).into_owned()] {
            prop_assert!(quorum(&expected(1), &[token], &signers.keys, NOW).is_err());
        }
    }
}
