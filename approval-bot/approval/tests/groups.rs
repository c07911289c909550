//! Version 2: reviewers whom the policy does not list. What a snapshot must say before a decision counts, and what passes for one but is none.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use countersign_approval::v1::{Requester, StepUp};
use countersign_approval::v2::{Membership, ReviewerSource, Snapshot, Source, members_digest};
use countersign_approval::verify::{MAX_MEMBERSHIP_AGE, RejectionReason, quorum};
use countersign_approval::{
    Decision, GrantError, KeyId, Request, RequestError, RequestId, StatementDigest, UnverifiedRequest, VerifyingKeys,
};
use p256::ecdsa::SigningKey;
use p256::pkcs8::EncodePublicKey as _;

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://login.bank.example";

fn slack() -> Source {
    Source::SlackUsergroup { team: "T0BANK".to_owned(), id: "S0DBA".to_owned() }
}

fn provider() -> Source {
    Source::IdentityProviderGroup { issuer: ISSUER.to_owned(), group: "dba".to_owned() }
}

fn source(group: &str, by: Source) -> ReviewerSource {
    ReviewerSource { group: group.to_owned(), by, machine_issuers: vec!["https://ci.example".to_owned()] }
}

fn request(needed: u32) -> Request {
    let statement = "delete from accounts";
    Request {
        version: 2,
        id: RequestId::from_bytes([3; 16]),
        environment: "production".to_owned(),
        created_at: NOW - 3_000,
        expires_at: NOW + 900,
        statement: statement.to_owned(),
        parameters: Vec::new(),
        digest: StatementDigest::compute(statement.as_bytes(), std::iter::empty()),
        requester: Requester {
            issuer: ISSUER.to_owned(),
            subject: "robin".to_owned(),
            email: Some("robin@bank.example".to_owned()),
            groups: Vec::new(),
            claims: Default::default(),
        },
        database: "bank".to_owned(),
        policy: "ab".repeat(32),
        rule: "writes".to_owned(),
        reason: "writes".to_owned(),
        reviewers: vec!["dba".to_owned()],
        quorum: needed,
        runs: 1,
        step_up: false,
        facts: Vec::new(),
        session: String::new(),
        sources: vec![source("dba", slack()), source("dba", provider())],
    }
}

fn membership(by: Source) -> Membership {
    let list = matches!(by, Source::SlackUsergroup { .. });
    Membership {
        group: "dba".to_owned(),
        by,
        resolved_at: NOW - 12,
        members: list.then_some(2),
        digest: list.then(|| members_digest(["U0LEE", "U0DANA"])),
    }
}

/// Lee, whom nobody lists, by the Slack user group.
fn lee(request: &Request) -> Decision {
    let mut decision = support::approval(request.expectation(), "lee@bank.example", NOW - 10);
    decision.version = 2;
    decision.reviewer.slack = "T0BANK/U0LEE".to_owned();
    decision.reviewer.email = Some("Lee@bank.example".to_owned());
    decision.reviewer.subjects.clear();
    decision.snapshot = Some(Snapshot { memberships: vec![membership(slack())], addresses: vec!["lee@bank.example".to_owned()] });
    decision
}

/// The same by the provider's group.
fn lee_signed_in(request: &Request) -> Decision {
    let mut decision = lee(request);
    decision.reviewer.slack = format!("oidc/{ISSUER}|lee");
    decision.step_up = Some(StepUp { issuer: ISSUER.to_owned(), subject: "lee".to_owned(), at: NOW - 20 });
    decision.snapshot.as_mut().unwrap().memberships = vec![membership(provider())];
    decision
}

fn judged(request: &Request, decisions: &[Decision]) -> Result<usize, GrantError> {
    let key = SigningKey::from_slice(&[7; 32]).unwrap();
    let mut keys = VerifyingKeys::default();
    let kid: KeyId = keys.add_der(key.verifying_key().to_public_key_der().unwrap().as_bytes()).unwrap();
    let tokens: Vec<String> = decisions.iter().map(|decision| support::sign(&key, &kid, decision)).collect();
    quorum(&request.expectation(), &tokens, &keys, NOW).map(|granted| granted.decisions().len())
}

fn why(request: &Request, decision: &Decision) -> RejectionReason {
    match judged(request, std::slice::from_ref(decision)) {
        Err(GrantError::Pending { found: 0, mut rejected, .. }) if rejected.len() == 1 => rejected.remove(0).why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_member_counts_by_a_source_the_policy_names_and_by_no_other() {
    let request = request(1);
    assert_eq!(judged(&request, &[lee(&request)]).unwrap(), 1);
    assert_eq!(judged(&request, &[lee_signed_in(&request)]).unwrap(), 1);
    type Change = fn(&mut Decision);
    let slack_cases: [(&str, Change); 11] = [
        ("another user group", |d| first(d).by = Source::SlackUsergroup { team: "T0BANK".to_owned(), id: "S0EVIL".to_owned() }),
        ("of another workspace", |d| first(d).by = Source::SlackUsergroup { team: "T0EVIL".to_owned(), id: "S0DBA".to_owned() }),
        ("a group of the provider's without a sign-in", |d| first(d).by = provider()),
        ("an account of another workspace", |d| d.reviewer.slack = "T0EVIL/U0LEE".to_owned()),
        ("no account at all", |d| d.reviewer.slack = String::new()),
        ("another roster group", |d| first(d).group = "risk".to_owned()),
        ("no address", |d| d.snapshot.as_mut().unwrap().addresses.clear()),
        ("nothing", |d| d.snapshot.as_mut().unwrap().memberships.clear()),
        ("asked long before", |d| first(d).resolved_at = d.decided_at - MAX_MEMBERSHIP_AGE - 1),
        ("asked afterwards", |d| first(d).resolved_at = d.decided_at + 1),
        ("listed in another group only", |d| *first(d) = Membership { group: "risk".to_owned(), by: Source::Listed, ..first(d).clone() }),
    ];
    for (name, change) in slack_cases {
        let mut decision = lee(&request);
        change(&mut decision);
        assert!(matches!(why(&request, &decision), RejectionReason::Membership(_)), "{name}");
    }
    let provider_cases: [(&str, Change); 4] = [
        ("a sign-in elsewhere", |d| d.step_up.as_mut().unwrap().issuer = "https://evil.example".to_owned()),
        ("no sign-in", |d| d.step_up = None),
        ("of another issuer", |d| {
            first(d).by = Source::IdentityProviderGroup { issuer: "https://evil.example".to_owned(), group: "dba".to_owned() };
            d.step_up.as_mut().unwrap().issuer = "https://evil.example".to_owned();
        }),
        ("another value", |d| first(d).by = Source::IdentityProviderGroup { issuer: ISSUER.to_owned(), group: "DBA".to_owned() }),
    ];
    for (name, change) in provider_cases {
        let mut decision = lee_signed_in(&request);
        change(&mut decision);
        assert!(matches!(why(&request, &decision), RejectionReason::Membership(_)), "{name}");
    }
    // A rule that names no source takes no such decision, whatever it claims: nor one that claims less than its version.
    let mut listed_only = request.clone();
    (listed_only.version, listed_only.sources) = (1, Vec::new());
    assert_eq!(why(&listed_only, &lee(&listed_only)), RejectionReason::Binding("version"));
    let mut old = lee(&request);
    (old.version, old.snapshot) = (1, None);
    assert_eq!(why(&request, &old), RejectionReason::Binding("version"));
    for (version, snapshot) in [(1, true), (2, false), (3, true)] {
        let mut odd = lee(&request);
        odd.version = version;
        odd.snapshot = odd.snapshot.filter(|_| snapshot);
        assert!(matches!(why(&request, &odd), RejectionReason::Token(_)), "version {version}, snapshot {snapshot}");
    }
}

fn first(decision: &mut Decision) -> &mut Membership {
    &mut decision.snapshot.as_mut().unwrap().memberships[0]
}

#[test]
fn one_human_with_two_ways_in_is_one() {
    let two = request(2);
    let one = |decisions: &[Decision]| matches!(judged(&two, decisions), Err(GrantError::Pending { found: 1, needed: 2, .. }));
    // By Slack and by the provider; by two accounts; by two names that share an address, or share a sign-in.
    assert!(one(&[lee(&two), lee_signed_in(&two)]));
    let mut second = lee(&two);
    second.reviewer.slack = "T0BANK/U0LEE2".to_owned();
    assert!(one(&[lee(&two), second]));
    let mut other_name = lee_signed_in(&two);
    other_name.reviewer.person = "dana".to_owned();
    other_name.reviewer.email = Some("dana@bank.example".to_owned());
    other_name.snapshot.as_mut().unwrap().addresses = vec!["dana@bank.example".to_owned(), "lee@bank.example".to_owned()];
    assert!(one(&[lee(&two), other_name.clone()]));
    assert!(one(&[lee_signed_in(&two), other_name]));
    // Two people are two.
    let mut erin = lee(&two);
    erin.reviewer.person = "erin@bank.example".to_owned();
    erin.reviewer.slack = "T0BANK/U0ERIN".to_owned();
    erin.reviewer.email = Some("erin@bank.example".to_owned());
    erin.snapshot.as_mut().unwrap().addresses = vec!["erin@bank.example".to_owned()];
    assert_eq!(judged(&two, &[lee(&two), erin]).unwrap(), 2);
}

#[test]
fn the_requester_is_no_member_by_any_name() {
    let request = request(1);
    let mut by_address = lee(&request);
    by_address.snapshot.as_mut().unwrap().addresses.push("robin@bank.example".to_owned());
    assert_eq!(why(&request, &by_address), RejectionReason::SelfApproval);
    let mut by_subject = lee_signed_in(&request);
    by_subject.step_up.as_mut().unwrap().subject = "robin".to_owned();
    assert_eq!(why(&request, &by_subject), RejectionReason::SelfApproval);
    // Who asks has no address: somebody known by one alone may be them. Unless the issuer's principals are machines, or both signed in there.
    let mut nameless = request.clone();
    nameless.requester.email = None;
    assert!(matches!(why(&nameless, &lee(&nameless)), RejectionReason::Membership(why) if why.contains("told apart")));
    assert_eq!(judged(&nameless, &[lee_signed_in(&nameless)]).unwrap(), 1);
    let mut elsewhere = nameless.clone();
    elsewhere.requester.issuer = "https://people.example".to_owned();
    assert!(matches!(why(&elsewhere, &lee_signed_in(&elsewhere)), RejectionReason::Membership(_)));
    let mut machine = nameless;
    machine.requester.issuer = "https://ci.example".to_owned();
    assert_eq!(judged(&machine, &[lee(&machine)]).unwrap(), 1);
}

#[test]
fn version_2_never_changes_and_version_1_has_none_of_it() {
    let request = request(1);
    let bytes = request.to_bytes().unwrap();
    assert!(UnverifiedRequest::new(&bytes).parse().is_ok());
    let text = String::from_utf8(bytes).unwrap();
    let said = r#","sources":[{"group":"dba","by":{"kind":"slack-usergroup","team":"T0BANK","id":"S0DBA"},"machine_issuers":["https://ci.example"]},{"group":"dba","by":{"kind":"identity-provider-group","issuer":"https://login.bank.example","group":"dba"},"machine_issuers":["https://ci.example"]}]}"#;
    assert!(text.starts_with(r#"{"version":2,"#) && text.ends_with(said), "{text}");
    // Nor is one taken for the other.
    for odd in [text.replacen(r#""version":2"#, r#""version":1"#, 1), text.replace(said, "}"), text.replace(said, r#","sources":[]}"#)] {
        assert!(
            matches!(UnverifiedRequest::new(odd.as_bytes()).parse(), Err(RequestError::Version(_) | RequestError::NotCanonical)),
            "{odd}"
        );
    }
    let mut plain = request.clone();
    (plain.version, plain.sources) = (1, Vec::new());
    assert!(!String::from_utf8(plain.to_bytes().unwrap()).unwrap().contains("sources"));
    let snapshot = serde_json::to_string(&lee(&request).snapshot).unwrap();
    assert_eq!(
        snapshot,
        format!(
            r#"{{"memberships":[{{"group":"dba","by":{{"kind":"slack-usergroup","team":"T0BANK","id":"S0DBA"}},"resolved_at":1799999988,"members":2,"digest":"{}"}}],"addresses":["lee@bank.example"]}}"#,
            members_digest(["U0DANA", "U0LEE", "U0DANA"])
        )
    );
    let plain = support::approval(plain.expectation(), "dana", NOW);
    assert!(!serde_json::to_string(&plain).unwrap().contains("snapshot"));
    // The digest is of the set, whatever the order.
    assert_eq!(members_digest(["U0LEE", "U0DANA"]), "7befd9d888d8d1d2dca4660366c238e83f0ba43170021e36241c9d478d02b4b2");
    assert_ne!(members_digest(["U0DANA", "U0LEE"]), members_digest(["U0DANAU0LEE"]));
}
