//! The bot against a stand-in Slack: cards, presses, and what must not come of them.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod stand_in;

use axum::body::Body;
use axum::http::{Request as HttpRequest, StatusCode};
use countersign_approval::item::Status;
use countersign_approval::verify::quorum;
use countersign_approval::{GrantError, Request, VerifyingKeys};
use countersign_bot::card::action::{APPROVE, APPROVE_RUNS, ASK, DENY, QUESTION, READ, REASON};
use countersign_bot::cards::{self, Synced};
use countersign_bot::{clock, lambda};
use serde_json::{Value, json};
use stand_in::{SECRET, World, button, form, request, sign};

/// A world with one request and its card; returns the card's message.
async fn shown(request: &Request) -> (World, Value) {
    let world = World::new().await;
    world.lay(request);
    assert_eq!(cards::sync(&world.bot, &request.id).await.unwrap(), Synced::Following);
    let card = world.calls("chat.postMessage").pop().unwrap();
    (world, card)
}

fn text_of(message: &Value) -> String {
    let mut text = String::new();
    let mut rest = vec![message["blocks"].clone()];
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(items) => rest.extend(items.into_iter().rev()),
            Value::Object(fields) => {
                if let Some(own) = fields.get("text").and_then(Value::as_str) {
                    text.push_str(own);
                    text.push('\n');
                }
                rest.extend(
                    fields
                        .into_iter()
                        .filter(|(name, value)| name != "value" && (value.is_object() || value.is_array()))
                        .map(|(_, value)| value)
                        .rev(),
                );
            }
            _ => {}
        }
    }
    text
}

async fn outcome(world: &World, request: &Request) -> Result<usize, GrantError> {
    let stored = world.bot.store.get(&request.id).await.unwrap().unwrap();
    let expected = request.expectation();
    quorum(&expected, &stored.tokens, world.bot.signer.public(), clock::now()).map(|granted| granted.decisions().len())
}

#[tokio::test]
async fn a_press_becomes_one_signed_decision() {
    let request = request("delete from accounts where id = $1", 1);
    let (world, card) = shown(&request).await;
    let text = text_of(&card);
    for part in [
        "delete from accounts where id = $1",
        "$1 int4 = 42",
        "repo:bank/ledger",
        "https://issuer.example",
        "bank/ledger",
        "writes from CI",
        "0 of 1",
    ] {
        assert!(text.contains(part), "{part} is not on the card:\n{text}");
    }
    let approve = button(&card, APPROVE).unwrap();
    // Redelivery posts no second card, and changes nothing.
    for _ in 0..3 {
        cards::sync(&world.bot, &request.id).await.unwrap();
    }
    assert_eq!((world.calls("chat.postMessage").len(), world.calls("chat.update").len()), (1, 0));

    assert!(world.press("U0DANA", APPROVE, &approve).await.contains("you approved"));
    assert_eq!(outcome(&world, &request).await.unwrap(), 1);
    assert!(world.press("U0DANA", APPROVE, &approve).await.contains("decided on this request already"));
    assert!(world.press("U0ERIN", APPROVE, &approve).await.contains("all the approvals it needs"));
    let stored = world.bot.store.get(&request.id).await.unwrap().unwrap();
    assert_eq!(stored.tokens.len(), 1);
    let mut keys = VerifyingKeys::default();
    let kid = keys.add_pem(&std::fs::read_to_string(&world.public_key).unwrap()).unwrap();
    assert_eq!(&kid, world.bot.signer.kid());
    cards::sync(&world.bot, &request.id).await.unwrap();
    let update = world.calls("chat.update").pop().unwrap();
    assert!(text_of(&update).contains("dana approved"));
    assert_eq!((update["channel"].as_str(), update["ts"].as_str()), (Some("C0APPROVE"), stored.card.ts.as_deref()));
}

#[tokio::test]
async fn only_reviewers_decide_and_never_the_requester() {
    let mut request = request("delete from accounts", 1);
    request.requester.email = Some("Erin@bank.example".to_owned());
    let (world, card) = shown(&request).await;
    let approve = button(&card, APPROVE).unwrap();
    for (user, says) in [
        ("U0NOBODY", "not in the roster"),
        ("U0FOREIGN", "not in the roster"),
        ("U0OLAF", "not in dba"),
        ("U0ERIN", "somebody else must decide"),
        ("U0GUEST", "guests"),
    ] {
        let answer = world.press(user, APPROVE, &approve).await;
        assert!(answer.contains(says), "{user}: {answer}");
    }
    let mut stranger = world.payload("U0DANA", APPROVE, &approve);
    stranger["user"]["team_id"] = json!("T0OTHER");
    world.send(&stranger).await;
    assert!(world.last_answer().contains("another workspace"));
    assert!(matches!(outcome(&world, &request).await, Err(GrantError::Pending { found: 0, .. })));

    let mut linked = stand_in::request("delete from accounts", 1);
    linked.requester.subject = "dana-sso".to_owned();
    world.lay(&linked);
    cards::sync(&world.bot, &linked.id).await.unwrap();
    let approve = button(&world.calls("chat.postMessage").pop().unwrap(), APPROVE).unwrap();
    assert!(world.press("U0DANA", APPROVE, &approve).await.contains("somebody else must decide"));
    assert!(world.press("U0NIA", APPROVE, &approve).await.contains("you approved"));
}

#[tokio::test]
async fn forged_replayed_and_foreign_presses_change_nothing() {
    let request = request("delete from accounts", 1);
    let (world, card) = shown(&request).await;
    let approve = button(&card, APPROVE).unwrap();
    let payload = world.payload("U0DANA", APPROVE, &approve);
    let body = form(&payload);
    let now = clock::now();
    for (name, time, signature) in [
        ("other secret", now, sign("guess", &now.to_string(), &body)),
        ("signed for another time", now, sign(SECRET, &(now - 1).to_string(), &body)),
        ("too old", now - 301, sign(SECRET, &(now - 301).to_string(), &body)),
        ("from the future", now + 310, sign(SECRET, &(now + 310).to_string(), &body)),
        ("empty", now, String::new()),
    ] {
        let (status, answer) = world.raw(&body, &time.to_string(), &signature).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{name}");
        assert!(!answer.contains("v0="), "{name}: the answer must not tell the right signature");
    }
    for (field, value) in [("api_app_id", json!("A0OTHER")), ("team", json!({"id": "T0OTHER"}))] {
        let mut foreign = payload.clone();
        foreign[field] = value;
        assert_eq!(world.send(&foreign).await.0, StatusCode::FORBIDDEN, "{field}");
    }
    assert_eq!(world.raw("payload=%7B", &now.to_string(), &sign(SECRET, &now.to_string(), "payload=%7B")).await.0, StatusCode::BAD_REQUEST);
    assert!(matches!(outcome(&world, &request).await, Err(GrantError::Pending { found: 0, .. })));

    // Other buttons' values, then the true press twice, byte for byte.
    for value in [
        "",
        "v1",
        "v1.x.y",
        &approve.replace("v1.", "v2."),
        &format!("{}0", &approve[..approve.len() - 1]),
        &approve.replacen(request.id.as_str(), "00000000-0000-0000-0000-000000000000", 1),
    ] {
        if value != approve {
            let answer = world.press("U0DANA", APPROVE, value).await;
            assert!(!answer.contains("you approved"), "{value}: {answer}");
        }
    }
    let signature = sign(SECRET, &now.to_string(), &body);
    world.raw(&body, &now.to_string(), &signature).await;
    assert!(world.last_answer().contains("you approved"));
    world.raw(&body, &now.to_string(), &signature).await;
    assert!(world.last_answer().contains("taken already"));
    assert_eq!(world.bot.store.get(&request.id).await.unwrap().unwrap().tokens.len(), 1);
}

#[tokio::test]
async fn what_is_signed_is_what_was_shown() {
    let benign = request("select 1", 1);
    let (world, card) = shown(&benign).await;
    let approve = button(&card, APPROVE).unwrap();
    // The store's content is replaced after the card was shown.
    let mut swapped = request("drop table accounts", 1);
    swapped.id = benign.id.clone();
    world.lay(&swapped);
    assert!(world.press("U0DANA", APPROVE, &approve).await.contains("altered"));
    // Text of one statement beside the digest of another is never shown at all.
    let mut lying = request("select 1", 1);
    lying.digest = swapped.digest;
    world.lay(&lying);
    assert_eq!(cards::sync(&world.bot, &lying.id).await.unwrap(), Synced::Nothing);
    // Nor is a request of another environment.
    let mut elsewhere = request("select 1", 1);
    elsewhere.environment = "production".to_owned();
    world.lay(&elsewhere);
    assert_eq!(cards::sync(&world.bot, &elsewhere.id).await.unwrap(), Synced::Nothing);
    // A request made under another policy has no roster here.
    let mut older = request("select 1", 1);
    older.policy = "00".repeat(32);
    world.lay(&older);
    cards::sync(&world.bot, &older.id).await.unwrap();
    let approve = button(&world.calls("chat.postMessage").pop().unwrap(), APPROVE).unwrap();
    assert!(world.press("U0DANA", APPROVE, &approve).await.contains("not in force"));
}

#[tokio::test]
async fn a_denial_asks_for_a_reason_and_ends_it() {
    let request = request("delete from accounts", 2);
    let (world, card) = shown(&request).await;
    let reference = button(&card, DENY).unwrap();
    world.press("U0DANA", APPROVE, &button(&card, APPROVE).unwrap()).await;
    world.press("U0ERIN", DENY, &reference).await;
    let view = world.calls("views.open").pop().unwrap();
    assert_eq!(view["view"]["private_metadata"], json!(reference));
    let submit = |reason: &str| {
        json!({
            "type": "view_submission", "api_app_id": stand_in::APP, "team": {"id": stand_in::TEAM},
            "user": {"id": "U0ERIN", "team_id": stand_in::TEAM},
            "view": {"callback_id": REASON, "private_metadata": reference,
                     "state": {"values": {REASON: {REASON: {"type": "plain_text_input", "value": reason}}}}},
        })
    };
    let (_, answer) = world.send(&submit("  ")).await;
    assert!(answer.contains("\"response_action\":\"errors\""), "{answer}");
    let (_, answer) = world.send(&submit("not on a <!channel> Friday")).await;
    assert!(answer.contains("clear"), "{answer}");
    assert!(matches!(outcome(&world, &request).await, Err(GrantError::Denied { by, reason }) if by == "erin" && reason.contains("Friday")));
    assert_eq!(world.bot.store.get(&request.id).await.unwrap().unwrap().status, Status::Denied);
    assert_eq!(cards::sync(&world.bot, &request.id).await.unwrap(), Synced::Settled);
    let update = world.calls("chat.update").pop().unwrap();
    assert!(text_of(&update).contains("erin denied") && button(&update, APPROVE).is_none());
    assert!(world.press("U0DANA", APPROVE, &button(&card, APPROVE).unwrap()).await.contains("too late"));
    let whisper = world.calls("chat.postEphemeral").pop().unwrap();
    assert!(whisper["text"].as_str().unwrap().contains("you denied"));
}

#[tokio::test]
async fn hostile_text_is_shown_as_text_and_what_does_not_fit_has_no_approve_button() {
    let mut hostile = request("select '<!channel> <https://evil|ok>' -- \u{202e}\u{200b} :smile: *b*", 1);
    hostile.requester.claims.insert("run\u{202e}".to_owned(), "<@U0DANA>\nApproved".to_owned());
    hostile.reason = "\u{feff}why".to_owned();
    let (world, card) = shown(&hostile).await;
    let text = text_of(&card);
    assert!(text.contains("⟨U+202E⟩⟨U+200B⟩") && text.contains("<@U0DANA>⟨U+000A⟩Approved") && text.contains("⟨U+FEFF⟩why"), "{text}");
    assert!(!card.to_string().contains("mrkdwn") && !card["text"].as_str().unwrap().contains('<'));
    assert!(button(&card, APPROVE).is_some());

    for (statement, fits) in [
        ("x".repeat(8_000), true),
        ("😀".repeat(4_000), true),
        ("x".repeat(9_100), false),
        ("\u{200b}".repeat(2_000), false),
        ("yz ".repeat(100_000), false),
    ] {
        let long = request(&statement, 1);
        world.lay(&long);
        cards::sync(&world.bot, &long.id).await.unwrap();
        let card = world.calls("chat.postMessage").pop().unwrap();
        assert!(button(&card, DENY).unwrap().contains(long.id.as_str()));
        assert_eq!(button(&card, APPROVE).is_some(), fits, "{} bytes", statement.len());
        if !fits {
            assert!(text_of(&card).contains("cannot be approved here"));
            let answer = world.press("U0DANA", READ, &button(&card, READ).unwrap()).await.replace("&amp;", "&");
            let path = answer.split_once("http://bot.example").unwrap().1;
            let (status, page) = world.call(HttpRequest::get(path).body(Body::empty()).unwrap()).await;
            assert_eq!(status, StatusCode::OK);
            assert!(page.contains(long.id.as_str()) && page.len() >= 9_000);
            let (status, _) = world.call(HttpRequest::get(path.replace("until=", "until=9")).body(Body::empty()).unwrap()).await;
            assert_eq!(status, StatusCode::NOT_FOUND);
        }
    }
}

#[tokio::test]
async fn slack_out_of_reach_is_noted_and_tried_again() {
    let world = World::new().await;
    let request = request("delete from accounts", 1);
    world.lay(&request);
    world.told.lock().unwrap().refuse_with = Some("channel_not_found");
    assert!(cards::sync(&world.bot, &request.id).await.is_err());
    let stored = world.bot.store.get(&request.id).await.unwrap().unwrap();
    assert!(stored.card.error.unwrap().contains("channel_not_found"));
    {
        let mut told = world.told.lock().unwrap();
        told.refuse_with = None;
        told.rate_limit_once = true;
    }
    cards::sync(&world.bot, &request.id).await.unwrap();
    let stored = world.bot.store.get(&request.id).await.unwrap().unwrap();
    assert_eq!((stored.card.error, world.calls("chat.postMessage").len()), (None, 1));
    // The card was deleted by somebody: it comes back.
    let approve = button(&world.calls("chat.postMessage")[0], APPROVE).unwrap();
    world.press("U0DANA", APPROVE, &approve).await;
    world.told.lock().unwrap().refuse_with = Some("message_not_found");
    cards::sync(&world.bot, &request.id).await.unwrap();
    world.told.lock().unwrap().refuse_with = None;
    cards::sync(&world.bot, &request.id).await.unwrap();
    assert_eq!(world.calls("chat.postMessage").len(), 2);
}

/// A stream record that comes again after somebody archived the channel: the card moves to where the policy or the bot says now.
#[tokio::test]
async fn a_card_in_an_archived_channel_is_posted_anew() {
    let request = request("delete from accounts", 2);
    let (world, card) = shown(&request).await;
    assert!(world.press("U0DANA", APPROVE, &button(&card, APPROVE).unwrap()).await.contains("you approved"));
    world.told.lock().unwrap().refuse_with = Some("is_archived");
    cards::sync(&world.bot, &request.id).await.unwrap();
    assert!(cards::sync(&world.bot, &request.id).await.is_err(), "still archived: noted for the client, and tried again");
    assert!(world.bot.store.get(&request.id).await.unwrap().unwrap().card.error.unwrap().contains("is_archived"));
    world.told.lock().unwrap().refuse_with = None;
    cards::sync(&world.bot, &request.id).await.unwrap();
    let cards = world.calls("chat.postMessage");
    assert_eq!(cards.len(), 2);
    assert!(text_of(&cards[1]).contains("dana approved") && button(&cards[1], APPROVE).is_some());
}

#[tokio::test]
async fn a_question_goes_into_the_thread_and_to_the_client() {
    let request = request("delete from accounts", 1);
    let (world, card) = shown(&request).await;
    let reference = button(&card, ASK).unwrap();
    world.press("U0DANA", ASK, &reference).await;
    assert_eq!(world.calls("views.open").pop().unwrap()["view"]["callback_id"], QUESTION);
    let submit = |user: &str, question: &str| {
        json!({
            "type": "view_submission", "api_app_id": stand_in::APP, "team": {"id": stand_in::TEAM}, "user": {"id": user, "team_id": stand_in::TEAM},
            "view": {"callback_id": QUESTION, "private_metadata": reference, "state": {"values": {QUESTION: {QUESTION: {"value": question}}}}},
        })
    };
    let told = |world: &World| world.calls("chat.postEphemeral").pop().unwrap()["text"].as_str().unwrap().to_owned();
    world.send(&submit("U0DANA", "which <!channel> ticket?")).await;
    assert!(told(&world).contains("was put into the thread"));
    let reply = world.calls("chat.postMessage").pop().unwrap();
    let stored = world.bot.store.get(&request.id).await.unwrap().unwrap();
    assert_eq!(reply["thread_ts"].as_str(), stored.card.ts.as_deref());
    assert!(text_of(&reply).contains("dana asks: which <!channel> ticket?") && !reply["text"].as_str().unwrap().contains('<'));
    assert!(!reply.to_string().contains("mrkdwn"));
    assert_eq!(stored.questions, ["dana: which <!channel> ticket?"]);
    // Whoever may not decide may not speak to the client either; nor may the requester, nor anybody without end.
    for user in ["U0OLAF", "U0NOBODY", "U0GUEST"] {
        world.send(&submit(user, "let me in")).await;
    }
    for n in 0..30 {
        world.send(&submit("U0ERIN", &format!("question {n}"))).await;
    }
    assert!(told(&world).contains("too often"));
    assert_eq!(world.bot.store.get(&request.id).await.unwrap().unwrap().questions.len(), countersign_approval::item::MAX_QUESTIONS);
    assert!(matches!(outcome(&world, &request).await, Err(GrantError::Pending { found: 0, .. })));
}

#[tokio::test]
async fn several_runs_are_approved_where_the_request_allows_it() {
    let mut several = request("delete from accounts", 1);
    several.runs = 5;
    let (world, card) = shown(&several).await;
    assert!(text_of(&card).contains("up to 5 identical runs"));
    assert!(world.press("U0DANA", APPROVE_RUNS, &button(&card, APPROVE_RUNS).unwrap()).await.contains("you approved"));
    let stored = world.bot.store.get(&several.id).await.unwrap().unwrap();
    let granted = quorum(&several.expectation(), &stored.tokens, world.bot.signer.public(), clock::now()).unwrap();
    assert_eq!(granted.runs(), 5);
    cards::sync(&world.bot, &several.id).await.unwrap();
    assert!(text_of(&world.calls("chat.update").pop().unwrap()).contains("dana approved 5 runs"));
    // A request for one run has no such button; pressed all the same, it is one run.
    let one = request("delete from accounts", 1);
    world.lay(&one);
    cards::sync(&world.bot, &one.id).await.unwrap();
    let card = world.calls("chat.postMessage").pop().unwrap();
    assert!(button(&card, APPROVE_RUNS).is_none());
    world.press("U0DANA", APPROVE_RUNS, &button(&card, APPROVE).unwrap()).await;
    let stored = world.bot.store.get(&one.id).await.unwrap().unwrap();
    assert_eq!(quorum(&one.expectation(), &stored.tokens, world.bot.signer.public(), clock::now()).unwrap().runs(), 1);
}

#[tokio::test]
async fn the_rule_says_where_the_card_goes_and_who_is_called() {
    let mut routed = request("drop table accounts", 2);
    routed.rule = "routed".to_owned();
    let (mut world, card) = shown(&routed).await;
    assert_eq!(card["channel"], "C0LEDGER");
    assert!(card.to_string().contains("<!subteam^S0DBA>"));
    world.press("U0DANA", APPROVE, &button(&card, APPROVE).unwrap()).await;
    // Time passes: escalation after three minutes, a reminder five minutes before the end, each once, however often records come.
    for (minutes, replies, says) in [(1, 0, ""), (4, 1, "S0CHIEFS"), (5, 1, "S0CHIEFS"), (11, 2, "S0DBA"), (12, 2, "S0DBA")] {
        let at = routed.created_at + minutes * 60;
        world.bot.clock = clock::Clock::new(move || at);
        cards::sync(&world.bot, &routed.id).await.unwrap();
        cards::sync(&world.bot, &routed.id).await.unwrap();
        let replied: Vec<_> = world.calls("chat.postMessage").into_iter().filter(|call| call["thread_ts"].is_string()).collect();
        assert_eq!(replied.len(), replies, "after {minutes} min");
        if let Some(last) = replied.last() {
            assert!(last.to_string().contains(says) && text_of(last).contains("1 of 2 approvals"), "{last}");
        }
    }
    // Nobody is called for what is decided.
    let mut decided = request("drop table accounts", 1);
    decided.rule = "routed".to_owned();
    world.bot.clock = clock::Clock::default();
    world.lay(&decided);
    cards::sync(&world.bot, &decided.id).await.unwrap();
    let card = world.calls("chat.postMessage").pop().unwrap();
    world.press("U0DANA", APPROVE, &button(&card, APPROVE).unwrap()).await;
    let at = decided.created_at + 800;
    world.bot.clock = clock::Clock::new(move || at);
    cards::sync(&world.bot, &decided.id).await.unwrap();
    assert_eq!(world.calls("chat.postMessage").iter().filter(|call| call["thread_ts"].is_string()).count(), 2);
}

#[tokio::test]
async fn the_card_says_when_nobody_waits_and_where_the_run_is() {
    let mut ci = request("delete from accounts", 1);
    ci.requester.issuer = "https://token.actions.githubusercontent.com".to_owned();
    ci.requester.claims.insert("run_id".to_owned(), "4711".to_owned());
    let (world, card) = shown(&ci).await;
    assert!(text_of(&card).contains("https://github.com/bank/ledger/actions/runs/4711"));
    std::fs::write(world.store().join(ci.id.as_str()).join("left"), ci.created_at.to_string()).unwrap();
    cards::sync(&world.bot, &ci.id).await.unwrap();
    let update = world.calls("chat.update").pop().unwrap();
    assert!(text_of(&update).contains("Nobody waits since"));
    assert!(world.press("U0DANA", APPROVE, &button(&update, APPROVE).unwrap()).await.contains("you approved"));
    cards::sync(&world.bot, &ci.id).await.unwrap();
    assert!(text_of(&world.calls("chat.update").pop().unwrap()).contains("waits to be asked again"));
    // No link out of claims that are not what that issuer writes, nor from another issuer.
    for (issuer, repository, run) in [
        ("https://token.actions.githubusercontent.com", "bank/ledger/../../evil", "1"),
        ("https://token.actions.githubusercontent.com", "bank/..", "1"),
        ("https://token.actions.githubusercontent.com", "bank/ledger", "1?x=https://evil.example"),
        ("https://evil.example", "bank/ledger", "1"),
    ] {
        let mut other = request("delete from accounts", 1);
        other.requester.issuer = issuer.to_owned();
        other.requester.claims.insert("repository".to_owned(), repository.to_owned());
        other.requester.claims.insert("run_id".to_owned(), run.to_owned());
        world.lay(&other);
        cards::sync(&world.bot, &other.id).await.unwrap();
        assert!(!text_of(&world.calls("chat.postMessage").pop().unwrap()).contains("https://github.com"), "{issuer} {repository} {run}");
    }
}

/// Slack sends a press again when it heard no answer: that is no replay to complain about, and no second press.
#[tokio::test]
async fn a_press_delivered_again_is_taken_once_and_quietly() {
    let request = request("delete from accounts", 1);
    let (world, card) = shown(&request).await;
    let body = form(&world.payload("U0DANA", APPROVE, &button(&card, APPROVE).unwrap()));
    for (again, time) in [(false, clock::now() - 30), (true, clock::now())] {
        let mut delivery = HttpRequest::post("/slack/interactions")
            .header("x-slack-request-timestamp", time)
            .header("x-slack-signature", sign(SECRET, &time.to_string(), &body));
        if again {
            delivery = delivery.header("x-slack-retry-num", "1").header("x-slack-retry-reason", "http_timeout");
        }
        assert_eq!(world.call(delivery.body(Body::from(body.clone())).unwrap()).await.0, StatusCode::OK);
    }
    assert!(world.last_answer().contains("you approved"));
    assert_eq!(world.calls("response").len(), 1);
    assert_eq!(world.bot.store.get(&request.id).await.unwrap().unwrap().tokens.len(), 1);
}

#[tokio::test]
async fn expired_requests_take_no_decision() {
    let (mut request, now) = (request("delete from accounts", 1), clock::now());
    let world = World::new().await;
    request.expires_at = now - 10;
    world.lay(&request);
    assert_eq!(cards::sync(&world.bot, &request.id).await.unwrap(), Synced::Settled);
    assert_eq!(world.bot.store.get(&request.id).await.unwrap().unwrap().status, Status::Expired);
    assert!(world.calls("chat.postMessage").is_empty());
    let fingerprint = countersign_approval::UnverifiedRequest::new(&request.to_bytes().unwrap()).fingerprint();
    assert!(world.press("U0DANA", APPROVE, &format!("v1.{}.{fingerprint}", request.id)).await.contains("expired"));
}

#[tokio::test]
async fn one_lambda_takes_stream_records_and_presses() {
    let world = World::new().await;
    let request = request("delete from accounts", 1);
    world.lay(&request);
    let handler = lambda::Handler::new(world.bot.clone());
    let record = |name: &str, id: &str| json!({"eventID": "1", "eventName": name, "eventSource": "aws:dynamodb", "dynamodb": {"Keys": {"request_id": {"S": id}}, "SequenceNumber": "1"}});
    let batch = json!({"Records": [record("INSERT", request.id.as_str()), record("MODIFY", request.id.as_str()), record("INSERT", "press#00"), record("REMOVE", "0190f3c2-7b1e-7000-8000-0123456789ab")]});
    handler.handle(batch.clone()).await.unwrap();
    handler.handle(batch.clone()).await.unwrap();
    assert_eq!(world.calls("chat.postMessage").len(), 1);

    let body = form(&world.payload("U0DANA", APPROVE, &button(&world.calls("chat.postMessage")[0], APPROVE).unwrap()));
    let time = clock::now().to_string();
    let event = |body: &str, base64: bool| {
        json!({
            "version": "2.0", "routeKey": "$default", "rawPath": "/slack/interactions", "rawQueryString": "",
            "headers": {"content-type": "application/x-www-form-urlencoded", "x-slack-request-timestamp": time, "x-slack-signature": sign(SECRET, &time, &form(&world.payload("U0DANA", APPROVE, "x"))), "host": "bot.example"},
            "requestContext": {"accountId": "anonymous", "apiId": "a", "domainName": "d", "http": {"method": "POST", "path": "/slack/interactions", "protocol": "HTTP/1.1", "sourceIp": "1.2.3.4", "userAgent": "Slackbot"}, "requestId": "r", "stage": "$default", "time": "x", "timeEpoch": 1},
            "body": body, "isBase64Encoded": base64,
        })
    };
    let refused = handler.handle(event(&body, false)).await.unwrap();
    assert_eq!(refused["statusCode"], json!(401), "{refused}");
    let mut taken = event(&base64(&body), true);
    taken["headers"]["x-slack-signature"] = json!(sign(SECRET, &time, &body));
    let taken = handler.handle(taken).await.unwrap();
    assert_eq!(taken["statusCode"], json!(200), "{taken}");
    assert_eq!(outcome(&world, &request).await.unwrap(), 1);

    world.told.lock().unwrap().refuse_with = Some("fatal_error");
    assert!(handler.handle(batch).await.is_err(), "a failed update makes Lambda deliver the batch again");
    assert!(handler.handle(json!({"hello": "world"})).await.is_err());
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Slack waits for three seconds: what takes longer is acknowledged first, goes on, and is told when it is done.
#[tokio::test]
async fn long_work_is_acknowledged_first() {
    let request = request("delete from accounts", 1);
    let (mut world, card) = shown(&request).await;
    world.bot.acknowledge_after = Some(std::time::Duration::from_millis(50));
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    world.told.lock().unwrap().gate = Some(gate.clone());
    let (status, body) = world.send(&world.payload("U0DANA", APPROVE, &button(&card, APPROVE).unwrap())).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, ""));
    assert!(matches!(outcome(&world, &request).await, Err(GrantError::Pending { found: 0, .. })), "Slack has not said who that is");
    gate.close();
    for _ in 0..3_000 {
        if !world.last_answer().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(world.last_answer().contains("you approved"), "{}", world.last_answer());
    assert_eq!(outcome(&world, &request).await.unwrap(), 1);
}
