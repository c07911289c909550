//! Reviewers by Slack user group: who is a member when they press, who only seems one, and what becomes of it when Slack does not say.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[expect(dead_code, reason = "shared with tests that use the rest")]
mod stand_in;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_approval::v2::{ReviewerSource, Source, members_digest};
use countersign_approval::verify::quorum;
use countersign_approval::{Decision, GrantError, Request, UnverifiedDecision};
use countersign_bot::card::action::{APPROVE, ASK, QUESTION, REASON};
use countersign_bot::clock::Clock;
use countersign_bot::members::MEMBERS_LIFE;
use countersign_bot::{cards, clock};
use serde_json::json;
use stand_in::{World, button, request};

/// `dba` is dana, who is listed, and whoever is in S0DBA; `other` is a group of another workspace.
const POLICY: &str = r#"
version = 1

[[reviewers]]
person = "dana"
email = "dana@bank.example"
slack = "T0BANK/U0DANA"
groups = ["dba"]

[[reviewers]]
person = "olaf"
email = "olaf@bank.example"
slack = "T0BANK/U0OLAF"
subjects = ["https://issuer.example|olaf"]
groups = ["oncall"]

[[reviewer_groups]]
name = "dba"
slack_usergroup = "T0BANK/S0DBA"
machine_issuers = ["https://issuer.example"]

[[reviewer_groups]]
name = "other"
slack_usergroup = "T0EVIL/S0DBA"

[[rules]]
name = "writes"
what = { kinds = ["write"] }
action = "hold"
hold = { reviewers = ["dba"], quorum = 1, expiry = "15m" }
"#;

fn source(group: &str, team: &str) -> ReviewerSource {
    let by = Source::SlackUsergroup { team: team.to_owned(), id: "S0DBA".to_owned() };
    let machine_issuers = if group == "dba" { vec!["https://issuer.example".to_owned()] } else { Vec::new() };
    ReviewerSource { group: group.to_owned(), by, machine_issuers }
}

async fn world() -> World {
    let world = World::new().await;
    std::fs::write(world.folder.path().join("policy.toml"), POLICY).unwrap();
    {
        let mut told = world.told.lock().unwrap();
        for (user, name) in [("U0LEE", "lee"), ("U0MIA", "mia"), ("U0ROBIN", "robin"), ("U0BOTTY", "botty"), ("U0GUEST", "guest")] {
            told.users.insert(user, json!({"profile": {"email": format!("{name}@bank.example")}}));
        }
        told.users.insert("U0BOTTY", json!({"is_bot": true, "profile": {"email": "botty@bank.example"}}));
        told.users.insert("U0ULTRA", json!({"is_ultra_restricted": true, "profile": {"email": "ultra@bank.example"}}));
        told.users.insert("U0GONE", json!({"deleted": true, "profile": {"email": "gone@bank.example"}}));
        told.users.insert("U0STRANGE", json!({"is_stranger": true, "profile": {"email": "strange@bank.example"}}));
        told.users.insert("U0ELSEWHERE", json!({"team_id": "T0EVIL", "profile": {"email": "elsewhere@bank.example"}}));
        told.users.insert("U0UNSURE", json!({"is_email_confirmed": false, "profile": {"email": "unsure@bank.example"}}));
        told.users.insert("U0DANA2", json!({"profile": {"email": "Dana@bank.example"}}));
        told.users.insert("U0OLAF", json!({"profile": {"email": "olaf@bank.example"}}));
        let all = [
            "U0LEE",
            "U0MIA",
            "U0ROBIN",
            "U0BOTTY",
            "U0GUEST",
            "U0ULTRA",
            "U0GONE",
            "U0STRANGE",
            "U0ELSEWHERE",
            "U0UNSURE",
            "U0NOMAIL",
            "U0DANA2",
            "U0OLAF",
        ];
        told.usergroups.insert("S0DBA", Ok(all.to_vec()));
    }
    world
}

fn held(needed: u32) -> Request {
    let mut held = request("delete from accounts where id = $1", needed);
    held.policy = countersign_policy::Policy::parse(POLICY).unwrap().digest().to_hex();
    (held.version, held.sources) = (2, vec![source("dba", "T0BANK")]);
    held
}

/// Lays it into the store and gives the value of its buttons.
async fn shown(world: &World, request: &Request) -> String {
    world.lay(request);
    cards::sync(&world.bot, &request.id).await.unwrap();
    button(&world.calls("chat.postMessage").pop().unwrap(), APPROVE).unwrap()
}

async fn decisions(world: &World, request: &Request) -> Vec<Decision> {
    let stored = world.bot.store.get(&request.id).await.unwrap().unwrap();
    stored.tokens.iter().map(|token| UnverifiedDecision::new(token).verify(world.bot.signer.public()).unwrap()).collect()
}

async fn granted(world: &World, request: &Request) -> Result<usize, GrantError> {
    let stored = world.bot.store.get(&request.id).await.unwrap().unwrap();
    quorum(&request.expectation(), &stored.tokens, world.bot.signer.public(), clock::now()).map(|granted| granted.decisions().len())
}

#[tokio::test]
async fn a_member_decides_and_the_decision_says_by_what() {
    let world = world().await;
    let request = held(1);
    let reference = shown(&world, &request).await;
    let card = world.calls("chat.postMessage").pop().unwrap().to_string();
    assert!(card.contains("dba (Slack user group T0BANK/S0DBA)"), "{card}");
    // Whoever may decide may ask.
    let mut asks = world.payload("U0LEE", ASK, &reference);
    asks["type"] = json!("view_submission");
    asks["view"] =
        json!({"callback_id": QUESTION, "private_metadata": reference, "state": {"values": {QUESTION: {QUESTION: {"value": "why now?"}}}}});
    world.send(&asks).await;
    assert!(world.last_answer().contains("put into the thread"), "{}", world.last_answer());
    assert!(world.press("U0LEE", APPROVE, &reference).await.contains("you approved"));
    assert_eq!(granted(&world, &request).await.unwrap(), 1);
    let decision = decisions(&world, &request).await.remove(0);
    assert_eq!(
        (decision.version, decision.reviewer.person.as_str(), decision.reviewer.slack.as_str()),
        (2, "lee@bank.example", "T0BANK/U0LEE")
    );
    let snapshot = decision.snapshot.unwrap();
    let membership = &snapshot.memberships[0];
    assert_eq!((membership.group.as_str(), &membership.by, membership.members), ("dba", &source("dba", "T0BANK").by, Some(13)));
    let told = world.told.lock().unwrap().usergroups["S0DBA"].clone().unwrap();
    assert_eq!(membership.digest.clone().unwrap(), members_digest(told));
    assert!(decision.decided_at - membership.resolved_at < MEMBERS_LIFE);
    assert_eq!(snapshot.addresses, ["lee@bank.example"]);
    cards::sync(&world.bot, &request.id).await.unwrap();
    let card = world.calls("chat.update").pop().unwrap().to_string();
    assert!(card.contains("lee@bank.example (Slack user group T0BANK/S0DBA) approved"), "{card}");
    // Who is listed needs no user group: Slack is not even asked.
    let before = world.calls("usergroups.users.list").len();
    let request = held(1);
    let reference = shown(&world, &request).await;
    assert!(world.press("U0DANA", APPROVE, &reference).await.contains("you approved"));
    assert_eq!(world.calls("usergroups.users.list").len(), before);
    let snapshot = decisions(&world, &request).await.remove(0).snapshot.unwrap();
    assert_eq!((&snapshot.memberships[0].by, snapshot.memberships[0].members), (&Source::Listed, Some(1)));
    assert_eq!(granted(&world, &request).await.unwrap(), 1);
    // A denial ends it, with the same snapshot.
    let request = held(1);
    let reference = shown(&world, &request).await;
    let mut denial = world.payload("U0LEE", REASON, &reference);
    denial["type"] = json!("view_submission");
    denial["view"] =
        json!({"callback_id": REASON, "private_metadata": reference, "state": {"values": {REASON: {REASON: {"value": "not today"}}}}});
    world.send(&denial).await;
    assert!(matches!(granted(&world, &request).await, Err(GrantError::Denied { by, .. }) if by == "lee@bank.example"));
}

#[tokio::test]
async fn whoever_only_seems_a_member_decides_nothing() {
    let world = world().await;
    let request = held(1);
    let reference = shown(&world, &request).await;
    for (user, told) in [
        ("U0GUEST", "guests"),
        ("U0ULTRA", "guests"),
        ("U0BOTTY", "bots"),
        ("U0GONE", "deactivated"),
        ("U0STRANGE", "guests"),
        // A member by id whose profile another workspace keeps, or whose address nobody confirmed, or who has none.
        ("U0ELSEWHERE", "no e-mail address that is vouched for"),
        ("U0UNSURE", "no e-mail address that is vouched for"),
        ("U0NOMAIL", "no e-mail address that is vouched for"),
        // Not a member.
        ("U0STRAY", "not in the roster"),
        ("S0DBA", "not in the roster"),
        ("u0lee", "not in the roster"),
        // The requester under an account nobody linked, by the address alone.
        ("U0ROBIN", "you asked for this yourself"),
    ] {
        let answer = world.press(user, APPROVE, &reference).await;
        assert!(answer.contains(told), "{user}: {answer}");
    }
    assert!(decisions(&world, &request).await.is_empty());
    // Somebody from another workspace who presses, as the payload says.
    let mut payload = world.payload("U0LEE", APPROVE, &reference);
    payload["user"]["team_id"] = json!("T0EVIL");
    world.send(&payload).await;
    assert!(world.last_answer().contains("another workspace"));
    // A group of the same id in another workspace is asked nobody for.
    let before = world.calls("usergroups.users.list").len();
    let mut other = held(1);
    (other.reviewers, other.sources) = (vec!["other".to_owned()], vec![source("other", "T0EVIL")]);
    let reference = shown(&world, &other).await;
    assert!(world.press("U0LEE", APPROVE, &reference).await.contains("not in the roster"));
    assert_eq!(world.calls("usergroups.users.list").len(), before);
    // In the roster for another group, and a member for none of this one's.
    world.told.lock().unwrap().usergroups.insert("S0DBA", Ok(vec![]));
    let fresh = self::world().await;
    fresh.told.lock().unwrap().usergroups.insert("S0DBA", Ok(vec![]));
    let reference = shown(&fresh, &request).await;
    assert!(fresh.press("U0OLAF", APPROVE, &reference).await.contains("you are not in dba"));
    assert!(decisions(&fresh, &request).await.is_empty());
}

/// Whom nobody could tell from the requester does not count.
#[tokio::test]
async fn a_requester_without_an_address_is_compared_or_nobody_is() {
    let world = world().await;
    for (issuer, counts) in [("https://issuer.example", true), ("https://people.example", false)] {
        let mut nameless = held(1);
        (nameless.requester.email, nameless.requester.issuer) = (None, issuer.to_owned());
        let reference = shown(&world, &nameless).await;
        let answer = world.press("U0LEE", APPROVE, &reference).await;
        assert_eq!(answer.contains("you approved"), counts, "{issuer}: {answer}");
        assert_eq!(granted(&world, &nameless).await.is_ok(), counts);
        // Who is listed counts as ever.
        assert_eq!(world.press("U0DANA", APPROVE, &reference).await.contains("you approved"), !counts);
    }
}

#[tokio::test]
async fn two_accounts_of_one_person_are_one() {
    let world = world().await;
    let two = held(2);
    let reference = shown(&world, &two).await;
    // Dana, listed, and the account with dana's address that is in the user group.
    assert!(world.press("U0DANA", APPROVE, &reference).await.contains("you approved"));
    assert!(world.press("U0DANA2", APPROVE, &reference).await.contains("decided on this request already"));
    assert!(world.press("U0LEE", APPROVE, &reference).await.contains("you approved"));
    world.told.lock().unwrap().users.insert("U0MIA", json!({"profile": {"email": "LEE@bank.example"}}));
    assert_eq!(granted(&world, &two).await.unwrap(), 2);
    let three = held(2);
    let reference = shown(&world, &three).await;
    assert!(world.press("U0LEE", APPROVE, &reference).await.contains("you approved"));
    assert!(world.press("U0MIA", APPROVE, &reference).await.contains("decided on this request already"));
    // Olaf is listed for another group, and comes by the user group: as olaf.
    assert!(world.press("U0OLAF", APPROVE, &reference).await.contains("you approved"));
    let olaf = decisions(&world, &three).await.pop().unwrap();
    assert_eq!((olaf.reviewer.person.as_str(), olaf.reviewer.groups.as_slice()), ("olaf", ["dba".to_owned()].as_slice()));
    // And where olaf asked, by the identity the roster links, that account is the requester's.
    let mut own = held(1);
    (own.requester.email, own.requester.subject) = (None, "olaf".to_owned());
    let reference = shown(&world, &own).await;
    assert!(world.press("U0OLAF", APPROVE, &reference).await.contains("you asked for this yourself"));
    // An account that would be two people of the roster is nobody.
    world.told.lock().unwrap().users.insert("U0OLAF", json!({"profile": {"email": "dana@bank.example"}}));
    let request = held(1);
    let reference = shown(&world, &request).await;
    assert!(world.press("U0OLAF", APPROVE, &reference).await.contains("several people who would be you"));
}

/// Taken out of the group between the card and the press: at once where nobody asked lately, else within seconds.
#[tokio::test]
async fn who_was_taken_out_of_the_group_decides_no_more() {
    let mut world = world().await;
    let offset = Arc::new(AtomicU64::new(0));
    let shift = offset.clone();
    world.bot.clock = Clock::new(move || clock::now() + shift.load(Ordering::SeqCst));
    let taken_out = |world: &World| world.told.lock().unwrap().usergroups.insert("S0DBA", Ok(vec!["U0MIA"]));
    let put_back = |world: &World| world.told.lock().unwrap().usergroups.insert("S0DBA", Ok(vec!["U0MIA", "U0LEE"]));
    let request = held(1);
    let reference = shown(&world, &request).await;
    taken_out(&world);
    assert!(world.press("U0LEE", APPROVE, &reference).await.contains("not in the roster"));
    // Put back; what Slack said lately counts for some seconds, in both directions, and not for longer.
    put_back(&world);
    offset.fetch_add(MEMBERS_LIFE, Ordering::SeqCst);
    let before = world.calls("usergroups.users.list").len();
    assert!(world.press("U0LEE", APPROVE, &reference).await.contains("you approved"));
    taken_out(&world);
    offset.fetch_add(MEMBERS_LIFE, Ordering::SeqCst);
    let request = held(1);
    let reference = shown(&world, &request).await;
    assert!(world.press("U0LEE", APPROVE, &reference).await.contains("not in the roster"));
    assert_eq!(world.calls("usergroups.users.list").len(), before + 2);
    // A clock that is put back makes nothing last longer.
    put_back(&world);
    offset.store(0, Ordering::SeqCst);
    assert!(world.press("U0LEE", APPROVE, &reference).await.contains("you approved"));
}

#[tokio::test]
async fn nobody_is_a_member_where_slack_does_not_say() {
    let world = world().await;
    let request = held(2);
    let reference = shown(&world, &request).await;
    for code in ["no_such_subteam", "missing_scope", "internal_error", "ratelimited", "team_access_not_granted"] {
        world.told.lock().unwrap().usergroups.insert("S0DBA", Err(code));
        let answer = world.press("U0LEE", APPROVE, &reference).await;
        assert!(answer.contains("Slack did not say who is in user group S0DBA") && answer.contains(code), "{code}: {answer}");
    }
    // Unknown altogether.
    world.told.lock().unwrap().usergroups.clear();
    assert!(world.press("U0LEE", APPROVE, &reference).await.contains("no_such_subteam"));
    assert!(decisions(&world, &request).await.is_empty());
    // Who is listed does not depend on it; and a failure is not remembered.
    assert!(world.press("U0DANA", APPROVE, &reference).await.contains("you approved"));
    world.told.lock().unwrap().usergroups.insert("S0DBA", Ok(vec!["U0LEE"]));
    assert!(world.press("U0LEE", APPROVE, &reference).await.contains("you approved"));
    assert_eq!(granted(&world, &request).await.unwrap(), 2);
}

/// Whoever can write to the store says in the item who may decide: nothing comes of it.
#[tokio::test]
async fn an_item_that_names_other_groups_is_refused() {
    let world = world().await;
    world.told.lock().unwrap().usergroups.insert("S0EVIL", Ok(vec!["U0LEE"]));
    let evil = Source::SlackUsergroup { team: "T0BANK".to_owned(), id: "S0EVIL".to_owned() };
    let changes: [fn(&mut Request, &Source); 5] = [
        |request, evil| request.sources[0].by = evil.clone(),
        |request, evil| request.sources.push(ReviewerSource { by: evil.clone(), ..request.sources[0].clone() }),
        |request, _| (request.version, request.sources) = (1, Vec::new()),
        |request, _| request.sources[0].machine_issuers.push("https://people.example".to_owned()),
        |request, _| request.sources[0].group = "oncall".to_owned(),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut request = held(1);
        change(&mut request, &evil);
        let reference = shown(&world, &request).await;
        for user in ["U0LEE", "U0DANA"] {
            let answer = world.press(user, APPROVE, &reference).await;
            assert!(answer.contains("was altered"), "{at} {user}: {answer}");
        }
        assert!(decisions(&world, &request).await.is_empty());
    }
    assert!(!world.told.lock().unwrap().calls.iter().any(|(_, body)| body["usergroup"] == "S0EVIL"));
}
