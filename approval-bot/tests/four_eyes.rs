//! I6 at the bot: ways in which a requester might come to press as somebody else.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;

use countersign_approval::item::Status;
use countersign_approval::v1::{Requester, StepUp, Verdict};
use countersign_approval::verify::quorum;
use countersign_approval::{Decision, Request, RequestId, StatementDigest, VerifyingKeys};
use countersign_bot::decide::{By, Press, Refusal, SignIn, Standing, decide};
use countersign_policy::Policy;

/// `nomail` is known by the Slack id alone, `noslack` by the address alone.
const POLICY: &str = r#"
version = 1

[[reviewers]]
person = "dana"
email = "Dana@Bank.example"
slack = "T0BANK/U0DANA"
subjects = ["https://issuer.example|dana-sso"]
groups = ["dba"]

[[reviewers]]
person = "nomail"
slack = "T0BANK/U0NOMAIL"
groups = ["dba"]

[[reviewers]]
person = "noslack"
email = "noslack@bank.example"
groups = ["dba"]

[[rules]]
name = "writes"
what = { kinds = ["write"] }
action = "hold"
hold = { reviewers = ["dba"], quorum = 1, expiry = "15m", reason = "writes" }
"#;

const NOW: u64 = 1_800_000_000;

fn request(subject: &str, email: Option<&str>) -> Request {
    let mut request = Request {
        version: 1,
        id: RequestId::from_bytes([5; 16]),
        environment: "test".to_owned(),
        created_at: NOW,
        expires_at: NOW + 900,
        statement: "delete from accounts".to_owned(),
        parameters: Vec::new(),
        digest: StatementDigest::compute(b"", [].into_iter()),
        requester: Requester {
            issuer: "https://issuer.example".to_owned(),
            subject: subject.to_owned(),
            email: email.map(str::to_owned),
            groups: Vec::new(),
            claims: std::collections::BTreeMap::new(),
        },
        database: "bank".to_owned(),
        policy: Policy::parse(POLICY).unwrap().digest().to_hex(),
        rule: "writes".to_owned(),
        reason: "writes".to_owned(),
        reviewers: vec!["dba".to_owned()],
        quorum: 1,
        runs: 1,
        step_up: false,
        facts: Vec::new(),
        session: "0190f3c2-7b1e-7000-8000-000000000001".to_owned(),
        sources: Vec::new(),
    };
    request.digest = request.compute_digest().unwrap();
    request
}

fn pressed(request: &Request, user: &str, profile: Option<&str>) -> Result<Decision, Refusal> {
    let policy = Policy::parse(POLICY).unwrap();
    let press = Press {
        verdict: Verdict::Approve,
        reason: None,
        runs: 1,
        step_up: None,
        by: By::Slack { team: "T0BANK", user, email: profile, usergroups: &[] },
    };
    let standing = Standing { request, status: Status::Open, tokens: &[], now: NOW };
    decide(&press, &standing, policy.roster(), &VerifyingKeys::default())
}

#[test]
fn the_requester_is_known_by_every_name() {
    type Case<'a> = (&'a str, Option<&'a str>, &'a str, Option<&'a str>);
    let cases: [Case<'_>; 9] = [
        // By the roster's address, whatever the case, as e-mail or as subject.
        ("x", Some("DANA@bank.example"), "U0DANA", None),
        ("dana@BANK.example", None, "U0DANA", None),
        // By the identity link, by the person's own name.
        ("dana-sso", None, "U0DANA", None),
        ("Dana", None, "U0DANA", None),
        // By the profile's address, where the roster has none.
        ("x", Some("robin@bank.example"), "U0NOMAIL", Some("Robin@Bank.example")),
        ("robin@bank.example", None, "U0NOMAIL", Some("robin@bank.example")),
        ("robin@bank.example", None, "U0NOMAIL", Some(" ROBIN@bank.example ")),
        // By the profile's address beside the roster's.
        ("robin@bank.example", None, "U0DANA", Some("robin@bank.example")),
        ("noslack@bank.example", None, "U0WHOEVER", Some("NoSlack@bank.example")),
    ];
    for (subject, email, user, profile) in cases {
        assert_eq!(
            pressed(&request(subject, email), user, profile).err(),
            Some(Refusal::Requester),
            "{subject} {email:?} pressing as {user} {profile:?}"
        );
    }
}

#[test]
fn a_second_slack_account_is_nobody() {
    // Dana has a Slack id in the roster: another account with the same address is not Dana.
    for profile in ["dana@bank.example", "DANA@BANK.EXAMPLE", "dana@bank.example\u{200b}", "d\u{430}na@bank.example"] {
        assert_eq!(pressed(&request("ci", None), "U0SECOND", Some(profile)).err(), Some(Refusal::NotInRoster), "{profile:?}");
    }
    // And an address that only looks like a roster's is no one's.
    for profile in ["noslack@bank.example\u{200b}", "nosl\u{430}ck@bank.example", "noslack@bank.example.evil.example"] {
        assert_eq!(pressed(&request("ci", None), "U0SECOND", Some(profile)).err(), Some(Refusal::NotInRoster), "{profile:?}");
    }
}

/// The proxy does not see Slack profiles: what the bot knew of the reviewer's address is in the decision, for the proxy's own check.
#[test]
fn the_decision_carries_the_profiles_address_where_the_roster_has_none() {
    let decision = pressed(&request("ci", None), "U0NOMAIL", Some("robin@bank.example")).unwrap();
    assert_eq!(decision.reviewer.email.as_deref(), Some("robin@bank.example"));
    let decision = pressed(&request("ci", None), "U0DANA", Some("other@bank.example")).unwrap();
    assert_eq!(decision.reviewer.email.as_deref(), Some("Dana@Bank.example"));
    // Without a key nothing counts, of course.
    if quorum(&request("ci", None).expectation(), &[], &VerifyingKeys::default(), NOW).is_ok() {
        panic!("nobody signed");
    }
}

/// A stolen Slack session is not enough, nor is a sign-in of somebody else's.
#[test]
fn a_sign_in_must_be_the_pressers_own() {
    let mut top = request("ci", None);
    top.step_up = true;
    let signed_in = |subject: &str, email: Option<&str>| SignIn {
        step_up: StepUp { issuer: "https://issuer.example".to_owned(), subject: subject.to_owned(), at: NOW },
        email: email.map(str::to_owned),
        groups: BTreeSet::new(),
    };
    let press = |user: &str, step_up: Option<&SignIn>, request: &Request| {
        let policy = Policy::parse(POLICY).unwrap();
        let press = Press {
            verdict: Verdict::Approve,
            reason: None,
            runs: 1,
            step_up,
            by: By::Slack { team: "T0BANK", user, email: None, usergroups: &[] },
        };
        let standing = Standing { request, status: Status::Open, tokens: &[], now: NOW };
        decide(&press, &standing, policy.roster(), &VerifyingKeys::default())
    };
    assert_eq!(press("U0DANA", None, &top).err(), Some(Refusal::NeedsStepUp));
    let other = Some(Refusal::OtherPerson("dana".to_owned()));
    // Linked people are who the link says: the same address at the provider does not do, nor another provider's subject.
    assert_eq!(press("U0DANA", Some(&signed_in("erin-sso", Some("dana@bank.example"))), &top).err(), other);
    let mut elsewhere = signed_in("dana-sso", None);
    elsewhere.step_up.issuer = "https://evil.example".to_owned();
    assert_eq!(press("U0DANA", Some(&elsewhere), &top).err(), other);
    let decision = press("U0DANA", Some(&signed_in("dana-sso", None)), &top).unwrap();
    assert_eq!(decision.step_up.map(|step_up| step_up.subject).as_deref(), Some("dana-sso"));
    // Without links, the address that the provider vouches for.
    let nomail = Some(Refusal::OtherPerson("nomail".to_owned()));
    assert_eq!(press("U0NOMAIL", Some(&signed_in("x", Some("nomail@bank.example"))), &top).err(), nomail);
    // Whoever asked cannot sign in for a reviewer, not even for one with the same address as an address of theirs.
    top.requester.subject = "dana-sso".to_owned();
    assert_eq!(press("U0DANA", Some(&signed_in("dana-sso", None)), &top).err(), Some(Refusal::Requester));
}

#[test]
fn runs_are_bounded_by_the_request() {
    let policy = Policy::parse(POLICY).unwrap();
    let mut several = request("ci", None);
    several.runs = 5;
    for (runs, fits) in [(0, false), (1, true), (5, true), (6, false)] {
        let by = By::Slack { team: "T0BANK", user: "U0DANA", email: None, usergroups: &[] };
        let press = Press { verdict: Verdict::Approve, reason: None, runs, step_up: None, by };
        let standing = Standing { request: &several, status: Status::Open, tokens: &[], now: NOW };
        let decided = decide(&press, &standing, policy.roster(), &VerifyingKeys::default());
        assert_eq!(decided.map(|decision| decision.runs).ok(), fits.then_some(runs));
    }
}

fn signed_in(subject: &str, email: Option<&str>) -> SignIn {
    let step_up = StepUp { issuer: "https://issuer.example".to_owned(), subject: subject.to_owned(), at: NOW };
    SignIn { step_up, email: email.map(str::to_owned), groups: BTreeSet::new() }
}

/// On the bot's own page: who somebody is, the provider and the roster say together, and never one of them alone.
#[test]
fn a_sign_in_on_the_page_is_one_person_of_the_roster() {
    let decided = |request: &Request, sign_in: &SignIn, tokens: &[String]| {
        let policy = Policy::parse(POLICY).unwrap();
        let press = Press { verdict: Verdict::Approve, reason: None, runs: 1, step_up: None, by: By::SignIn(sign_in) };
        let standing = Standing { request, status: Status::Open, tokens, now: NOW };
        decide(&press, &standing, policy.roster(), &VerifyingKeys::default())
    };
    let ci = request("ci", None);
    let dana = decided(&ci, &signed_in("dana-sso", None), &[]).unwrap();
    // The same account as in Slack, so that nobody counts twice; and the sign-in is in what is signed.
    assert_eq!((dana.reviewer.person.as_str(), dana.reviewer.slack.as_str()), ("dana", "T0BANK/U0DANA"));
    assert_eq!(dana.step_up, Some(signed_in("dana-sso", None).step_up));
    // Where the roster links identities, an address makes nobody that person; nor does another's link, nor none.
    for (subject, email) in [
        ("x", Some("dana@bank.example")),
        ("dana-SSO", None),
        ("dana", None),
        ("dana-sso|", None),
        ("U0DANA", None),
        ("x", None),
        ("", Some("")),
        ("x", Some("noslack@bank.example.evil.example")),
        ("x", Some("nosl\u{430}ck@bank.example")),
    ] {
        assert_eq!(decided(&ci, &signed_in(subject, email), &[]).err(), Some(Refusal::NotInRoster), "{subject} {email:?}");
    }
    let elsewhere = SignIn {
        step_up: StepUp { issuer: "https://evil.example".to_owned(), ..signed_in("dana-sso", None).step_up },
        email: Some("dana@bank.example".to_owned()),
        groups: BTreeSet::new(),
    };
    assert_eq!(decided(&ci, &elsewhere, &[]).err(), Some(Refusal::NotInRoster));
    // Without links and without Slack: by the address the provider vouches for.
    let noslack = decided(&ci, &signed_in("n-1", Some("NoSlack@bank.example")), &[]).unwrap();
    assert_eq!(noslack.reviewer.slack, "oidc/https://issuer.example|n-1");
    // The requester, by every name: the sign-in's subject, its address, the roster's.
    for (asks, email, subject, address) in [
        ("dana-sso", None, "dana-sso", None),
        ("x", Some("DANA@bank.example"), "dana-sso", None),
        ("x", Some("other@bank.example"), "dana-sso", Some("Other@bank.example")),
        ("n-1", None, "n-1", Some("noslack@bank.example")),
        ("noslack@bank.example", None, "n-1", Some("noslack@bank.example")),
    ] {
        let refused = decided(&request(asks, email), &signed_in(subject, address), &[]).err();
        assert_eq!(refused, Some(Refusal::Requester), "{asks} {email:?} as {subject} {address:?}");
    }
    // The top tier takes a sign-in for the decision itself, by the very same person.
    let mut top = request("ci", None);
    top.step_up = true;
    assert_eq!(decided(&top, &signed_in("dana-sso", None), &[]).err(), Some(Refusal::NeedsStepUp));
    let policy = Policy::parse(POLICY).unwrap();
    let (own, other) = (signed_in("dana-sso", None), signed_in("n-1", Some("noslack@bank.example")));
    for (fresh, fits) in [(&own, true), (&other, false)] {
        let press = Press { verdict: Verdict::Approve, reason: None, runs: 1, step_up: Some(fresh), by: By::SignIn(&own) };
        let standing = Standing { request: &top, status: Status::Open, tokens: &[], now: NOW };
        assert_eq!(decide(&press, &standing, policy.roster(), &VerifyingKeys::default()).is_ok(), fits, "{fresh:?}");
    }
}
