//! What is no ordinary hold: templates, reviews of break-glass, the digest, the webhook. And attacks on each.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod stand_in;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use countersign_approval::item::Status;
use countersign_approval::template::{self, Bounds};
use countersign_approval::{Request, StatementDigest, Template, VerifiedTemplate, VerifyingKeys, break_glass};
use countersign_bot::card::action::{APPROVE, DENY, REASON};
use countersign_bot::cards::{self, Synced};
use countersign_bot::clock::Clock;
use countersign_bot::config::Secret;
use countersign_bot::webhook::Webhook;
use countersign_bot::{clock, digest};
use hmac::{Hmac, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use stand_in::{APP, TEAM, World, button, request};

fn document() -> Template {
    let now = clock::now();
    Template {
        name: "correct-note".to_owned(),
        rule: "writes".to_owned(),
        groups: vec!["ci".to_owned()],
        subjects: Vec::new(),
        valid_from: now,
        valid_until: now + 86_400,
        touches: vec!["public.ledger".to_owned()],
        calls: Vec::new(),
        parameters: vec![Bounds::Integer { min: 1, max: 100 }],
    }
}

fn proposal(document: &Template) -> Request {
    let mut request = request("delete from ledger where id = $1", 1);
    request.parameters.clear();
    request.rule = template::RULE.to_owned();
    request.facts = document.facts();
    request.session.clear();
    request.digest = StatementDigest::compute(request.statement.as_bytes(), std::iter::empty());
    request
}

fn broken(statement: &str) -> Request {
    let mut request = request(statement, 1);
    request.facts = break_glass::facts("restore service, incident 4711", "writes");
    request.rule = break_glass::RULE.to_owned();
    request
}

async fn shown(world: &World, request: &Request) -> Value {
    world.lay(request);
    assert_eq!(cards::sync(&world.bot, &request.id).await.unwrap(), Synced::Following);
    world.calls("chat.postMessage").pop().unwrap()
}

#[tokio::test]
async fn a_template_is_shown_whole_and_signed() {
    let world = World::new().await;
    let request = proposal(&document());
    let card = shown(&world, &request).await;
    let text = card["blocks"].to_string();
    for part in ["Approval needed for a template", "integer from 1 to 100", "correct-note", "runs without asking again", "Approve template"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(world.press("U0DANA", APPROVE, &button(&card, APPROVE).unwrap()).await.contains("you approved"));
    let stored = world.bot.store.get(&request.id).await.unwrap().unwrap();
    let body = String::from_utf8(stored.request).unwrap();
    // With the key the gateway would be given.
    let mut keys = VerifyingKeys::default();
    keys.add_pem(&std::fs::read_to_string(&world.public_key).unwrap()).unwrap();
    VerifiedTemplate::verify(&body, &stored.tokens, "test", &keys).unwrap();
}

#[tokio::test]
async fn what_is_no_template_is_never_signed_as_one() {
    let world = World::new().await;
    let mut narrow_in_words = proposal(&document());
    let wide = Template { parameters: vec![Bounds::Boolean {}], ..document() };
    *narrow_in_words.facts.last_mut().unwrap() = wide.facts().pop().unwrap();
    let mut without = proposal(&document());
    without.facts.clear();
    let mut smuggles = proposal(&document());
    smuggles.statement = "delete from ledger where id = $1 -- or true".to_owned();
    smuggles.digest = smuggles.compute_digest().unwrap();
    for bent in [narrow_in_words, without, smuggles] {
        let card = shown(&world, &bent).await;
        assert!(button(&card, APPROVE).is_none(), "it has an Approve button");
        // Not by a press of one's own making either.
        let reference = format!("v1.{}.{}", bent.id, bent.fingerprint());
        assert!(world.press("U0DANA", APPROVE, &reference).await.contains("no template"));
        assert!(world.bot.store.get(&bent.id).await.unwrap().unwrap().tokens.is_empty());
    }
}

async fn deny(world: &World, user: &str, card: &Value, reason: &str) {
    let payload = serde_json::json!({
        "type": "view_submission", "api_app_id": APP, "team": {"id": TEAM}, "user": {"id": user, "team_id": TEAM},
        "view": {"callback_id": REASON, "private_metadata": button(card, DENY).unwrap(),
            "state": {"values": {REASON: {REASON: {"value": reason}}}}},
    });
    world.send(&payload).await;
}

fn review(world: &World, request: &Request) -> Option<break_glass::Outcome> {
    let text = std::fs::read(world.folder.path().join("recordings").join(break_glass::review_name(&request.id))).ok()?;
    let review: break_glass::Review = serde_json::from_slice(&text).unwrap();
    Some(review.outcome(&request.expectation(), world.bot.signer.public()))
}

#[tokio::test]
async fn glass_pages_everybody_and_its_review_is_kept_beside_the_recordings() {
    let world = World::new().await;
    let (one, other) = (broken("update ledger set note = 'a'"), broken("update ledger set note = 'b'"));
    let card = shown(&world, &one).await;
    let text = card["blocks"].to_string();
    for part in ["it ran without approval", "restore service, incident 4711", "<!channel>", "\"Justified\"", "Not justified"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(review(&world, &one), None);
    assert!(world.press("U0DANA", APPROVE, &button(&card, APPROVE).unwrap()).await.contains("review"));
    for _ in 0..3 {
        assert_eq!(cards::sync(&world.bot, &one.id).await.unwrap(), Synced::Settled);
    }
    assert!(matches!(review(&world, &one), Some(break_glass::Outcome::Justified { by, .. }) if by == ["dana"]));
    assert_eq!(world.bot.store.get(&one.id).await.unwrap().unwrap().status, Status::Consumed);
    assert!(world.calls("chat.update").pop().unwrap()["blocks"].to_string().contains("reviewed, justified"));

    let card = shown(&world, &other).await;
    deny(&world, "U0ERIN", &card, "the incident was over").await;
    assert_eq!(cards::sync(&world.bot, &other.id).await.unwrap(), Synced::Settled);
    let found = break_glass::Outcome::NotJustified { by: "erin".to_owned(), reason: "the incident was over".to_owned() };
    assert_eq!(review(&world, &other), Some(found));
}

#[tokio::test]
async fn whoever_broke_glass_does_not_review_it() {
    let world = World::new().await;
    let mut own = broken("update ledger set note = 'c'");
    own.requester.subject = "dana-sso".to_owned();
    let card = shown(&world, &own).await;
    let approve = button(&card, APPROVE).unwrap();
    for (user, says) in [("U0DANA", "somebody else must decide"), ("U0OLAF", "you are not in"), ("U0GUEST", "guests")] {
        assert!(world.press(user, APPROVE, &approve).await.contains(says), "{user}");
    }
    assert_eq!(cards::sync(&world.bot, &own.id).await.unwrap(), Synced::Following);
    assert_eq!(review(&world, &own), None);
}

#[tokio::test]
async fn a_review_that_cannot_be_kept_is_tried_again() {
    let world = World::new().await;
    let request = broken("update ledger set note = 'd'");
    let card = shown(&world, &request).await;
    // Something lies in the way of the folder.
    let recordings = world.folder.path().join("recordings");
    std::fs::create_dir_all(&recordings).unwrap();
    std::fs::write(recordings.join("reviews"), "").unwrap();
    world.press("U0DANA", APPROVE, &button(&card, APPROVE).unwrap()).await;
    assert!(cards::sync(&world.bot, &request.id).await.is_err());
    assert_eq!(world.bot.store.get(&request.id).await.unwrap().unwrap().status, Status::Open, "closed without its review");
    std::fs::remove_file(recordings.join("reviews")).unwrap();
    assert_eq!(cards::sync(&world.bot, &request.id).await.unwrap(), Synced::Settled);
    assert!(matches!(review(&world, &request), Some(break_glass::Outcome::Justified { .. })));
}

#[tokio::test]
async fn the_digest_comes_once_a_period_while_something_is_open() {
    let mut world = World::new().await;
    let hour = 3_600;
    let period = clock::now() / hour * hour + hour;
    world.bot.digest_every = Some(Duration::from_secs(hour));
    digest::post_if_due(&world.bot, period).await;
    assert!(world.calls("chat.postMessage").is_empty(), "nothing is open");
    let mut open = request("delete from secrets", 2);
    open.expires_at = period + 1_200;
    world.lay(&open);
    world.lay(&Request { expires_at: period + 1_300, ..broken("delete from more_secrets") });
    for at in [period, period + 60, period + 299] {
        digest::post_if_due(&world.bot, at).await;
    }
    let posted = world.calls("chat.postMessage");
    assert_eq!(posted.len(), 1);
    let text = posted[0].to_string();
    for part in ["2 requests are open", open.id.as_str(), "0 of 2 approvals", "to be reviewed", "20 min left"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("secrets"), "statements are not in a digest");
    digest::post_if_due(&world.bot, period + 301).await;
    digest::post_if_due(&world.bot, period + hour).await;
    assert_eq!(world.calls("chat.postMessage").len(), 1, "late in the period, and when nothing is open any more");
}

/// What a receiver got: headers and body, and how often it refuses first.
type Received = Arc<Mutex<(Vec<(HeaderMap, String)>, u32)>>;

async fn receiver(refuse: u32) -> (Webhook, Received) {
    let received: Received = Arc::new(Mutex::new((Vec::new(), refuse)));
    let shared = received.clone();
    let take = move |headers: HeaderMap, body: String| async move {
        let mut received = shared.lock().unwrap();
        if received.1 > 0 {
            received.1 -= 1;
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        received.0.push((headers, body));
        StatusCode::NO_CONTENT
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/hook", post(take))).await.unwrap() });
    (Webhook::new(&url, Secret("a secret of the receiver's".to_owned())).unwrap(), received)
}

#[tokio::test]
async fn the_webhook_is_signed_and_told_until_it_listens() {
    let mut world = World::new().await;
    let (webhook, received) = receiver(2).await;
    world.bot.webhook = Some(webhook);
    let now = clock::now();
    world.bot.clock = Clock::new(move || now);
    let request = request("delete from secrets", 1);
    world.lay(&request);
    assert!(cards::sync(&world.bot, &request.id).await.is_err(), "it was refused");
    assert!(cards::sync(&world.bot, &request.id).await.is_err(), "it was refused again");
    assert_eq!(cards::sync(&world.bot, &request.id).await.unwrap(), Synced::Following);
    cards::sync(&world.bot, &request.id).await.unwrap();
    assert_eq!(world.calls("chat.postMessage").len(), 1, "one card, however often the webhook refuses");
    let card = world.calls("chat.postMessage").pop().unwrap();
    world.press("U0DANA", APPROVE, &button(&card, APPROVE).unwrap()).await;
    cards::sync(&world.bot, &request.id).await.unwrap();
    let told = received.lock().unwrap().0.clone();
    assert_eq!(told.len(), 2, "one for each change: {told:?}");
    for ((headers, body), approvals) in told.iter().zip([0, 1]) {
        let value: Value = serde_json::from_str(body).unwrap();
        assert_eq!((&value["request"], &value["approvals"]), (&Value::from(request.id.as_str()), &Value::from(approvals)));
        assert!(!body.contains("secrets"), "no statement leaves this way");
        let mut mac = Hmac::<Sha256>::new_from_slice(b"a secret of the receiver's").unwrap();
        mac.update(format!("v1:{now}:{body}").as_bytes());
        let expected = format!("v1={}", hex::encode(mac.finalize().into_bytes()));
        assert_eq!(headers["x-countersign-signature"], expected.as_str());
    }
    for (url, secret) in
        [("http://example.com/hook", "long enough, surely"), ("https://example.com/hook", "short"), ("no url", "long enough, surely")]
    {
        assert!(Webhook::new(url, Secret(secret.to_owned())).is_err(), "{url}");
    }
}
