//! The proxy's side of approvals over the directory store, with the real bot and a stand-in Slack on the other side.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../../approval-bot/tests/stand_in/mod.rs"]
mod stand_in;

use std::sync::Arc;
use std::time::Duration;

use countersign_approval::{Expectation, Request};
use countersign_bot::card::action::{APPROVE, APPROVE_RUNS, REASON};
use countersign_bot::cards;
use countersign_proxy::approvals::{Approvals, ApprovalsConfig, HoldEvent, StartError, StoreError, StoreKind};
use countersign_proxy::recorder;
use stand_in::{World, button, request};

async fn start(world: &World) -> Approvals {
    Approvals::start(&config(world), None, marks(world)).await.unwrap()
}

/// Where recordings go.
fn marks(world: &World) -> Arc<dyn recorder::Store> {
    Arc::new(recorder::DirectoryStore::open(&world.folder.path().join("recordings")).unwrap())
}

fn config(world: &World) -> ApprovalsConfig {
    ApprovalsConfig {
        store: StoreKind::Directory,
        path: Some(world.store()),
        table: None,
        keys: vec![world.public_key.clone()],
        kms_keys: Vec::new(),
        poll_interval_ms: 20,
        resume: true,
        keep_finished_days: 7,
        bot_url: None,
    }
}

fn expectation(request: &Request) -> Expectation {
    request.expectation()
}

async fn press(world: &World, request: &Request, user: &str) -> String {
    cards::sync(&world.bot, &request.id).await.unwrap();
    let card = world.calls("chat.postMessage").into_iter().rfind(|card| card.to_string().contains(request.id.as_str())).unwrap();
    world.press(user, APPROVE, &button(&card, APPROVE).unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_a_grant_opens_the_hold_and_is_consumed_once() {
    let world = World::new().await;
    let approvals = start(&world).await;
    let request = request("delete from accounts where id = $1", 2);
    approvals.place(&request).await.unwrap();
    approvals.place(&request).await.unwrap();
    let mut watch = approvals.watch(expectation(&request));
    assert!(press(&world, &request, "U0DANA").await.contains("you approved"));
    assert!(matches!(watch.next().await, HoldEvent::Progress { approvals: 1, quorum: 2 }));
    assert!(press(&world, &request, "U0ERIN").await.contains("you approved"));
    let (quorum, tokens) = loop {
        match watch.next().await {
            HoldEvent::Granted { quorum, tokens } => break (quorum, tokens),
            HoldEvent::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((quorum.decisions().len(), tokens.len(), quorum.digest()), (2, 2, &request.digest));

    // Another digest consumes nothing; of eight racing replicas exactly one consumes.
    let other = request_with("drop table accounts");
    assert!(!approvals.consume(&request.id, &other.digest, 1).await.unwrap());
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (replica, id, digest) = (start(&world).await, request.id.clone(), request.digest);
        racers.spawn(async move { replica.consume(&id, &digest, 1).await.unwrap() });
    }
    let consumed = racers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(consumed, 1);
    assert!(!approvals.cancel(&request.id, "too late").await.unwrap());
    assert!(approvals.finish(&request.id, "1 row").await.unwrap());
    assert!(!approvals.finish(&request.id, "again").await.unwrap());
    cards::sync(&world.bot, &request.id).await.unwrap();
    assert!(world.calls("chat.update").pop().unwrap().to_string().contains("Outcome: 1 row"));

    // A replay: the same request and its decisions, watched anew, do not open again.
    let mut again = approvals.watch(expectation(&request));
    assert!(matches!(again.next().await, HoldEvent::Granted { .. } | HoldEvent::Failed(_)));
    assert!(!approvals.consume(&request.id, &request.digest, 1).await.unwrap());
}

fn request_with(statement: &str) -> Request {
    request(statement, 1)
}

#[tokio::test]
async fn i2_files_dropped_into_the_store_open_nothing() {
    let world = World::new().await;
    let approvals = start(&world).await;
    let (held, approved) = (request_with("delete from accounts"), request_with("delete from notes"));
    for request in [&held, &approved] {
        approvals.place(request).await.unwrap();
    }
    assert!(press(&world, &approved, "U0DANA").await.contains("you approved"));
    let decisions = |request: &Request| world.store().join(request.id.as_str()).join("decisions");
    let genuine = std::fs::read_to_string(decisions(&approved).join("0.jws")).unwrap();
    // A decision for another statement, the same under our claims, rubbish, and the key of somebody else.
    let parts: Vec<&str> = genuine.split('.').collect();
    let mallory = countersign_bot::signer::Signer::from_pem("mallory", &mallory_pem(&world)).unwrap();
    let mut decision = countersign_approval::UnverifiedDecision::new(&genuine).verify(world.bot.signer.public()).unwrap();
    decision.request = held.id.clone();
    decision.digest = held.digest;
    let forged = mallory.sign(&decision).await.unwrap();
    let under_our_kid = format!("{}.{}.{}", parts[0], forged.split('.').nth(1).unwrap(), parts[2]);
    for (n, token) in [genuine.as_str(), &forged, &under_our_kid, "", "\u{0}rubbish"].into_iter().enumerate() {
        std::fs::write(decisions(&held).join(format!("{n}.jws")), token).unwrap();
    }
    let mut watch = approvals.watch(expectation(&held));
    assert!(tokio::time::timeout(Duration::from_millis(500), watch.next()).await.is_err());
    // A status nobody signed for: the hold ends, closed.
    std::fs::write(world.store().join(held.id.as_str()).join("closed.json"), r#"{"status":"denied","by":"x","at":1,"why":"x"}"#).unwrap();
    assert!(matches!(watch.next().await, HoldEvent::Failed(_)));
    assert!(!approvals.consume(&held.id, &held.digest, 1).await.unwrap());
}

fn mallory_pem(world: &World) -> String {
    let (private, _) = countersign_bot::keygen::keygen(&world.folder.path().join("mallory")).unwrap();
    std::fs::read_to_string(private).unwrap()
}

/// A client that lost its connection asks again, at another replica: no second card, one run, and a grant nobody used is not lost.
#[tokio::test]
async fn the_same_statement_asked_again_finds_its_request() {
    let world = World::new().await;
    let (first, second) = (start(&world).await, start(&world).await);
    let asked = request_with("delete from accounts where id = $1");
    let placed = first.place_or_take_up(asked.clone()).await.unwrap();
    assert!(!placed.again);
    assert!(press(&world, &asked, "U0DANA").await.contains("you approved"));
    first.leave(&asked.id, asked.expires_at);

    let again = |change: fn(&mut Request)| {
        let mut again = request_with("delete from accounts where id = $1");
        again.session = "another".to_owned();
        change(&mut again);
        again.digest = again.compute_digest().unwrap();
        again
    };
    // Somebody else's, other values, another rule: not the same.
    let others: [fn(&mut Request); 3] = [|r| r.requester.subject.push('x'), |r| r.parameters.clear(), |r| r.rule.push('x')];
    for change in others {
        assert!(!second.place_or_take_up(again(change)).await.unwrap().again);
    }
    // All of them find it before the first uses it.
    let mut found = Vec::new();
    for replica in [&first, &second, &first, &second] {
        found.push((replica.clone(), replica.place_or_take_up(again(|_| {})).await.unwrap()));
    }
    assert!(found.iter().all(|(_, placed)| placed.again));
    let mut racers = tokio::task::JoinSet::new();
    for (replica, placed) in found {
        racers.spawn(async move {
            let Some(HoldEvent::Granted { quorum, .. }) = replica.decided(&placed) else { panic!("not granted") };
            (placed.request.id.clone(), replica.consume(&placed.request.id, quorum.digest(), quorum.runs()).await.unwrap())
        });
    }
    let ran = racers.join_all().await;
    assert!(ran.iter().all(|(id, _)| *id == asked.id));
    assert_eq!(ran.iter().filter(|(_, won)| *won).count(), 1);
    assert_eq!(world.calls("chat.postMessage").len(), 1);
    // Used up: from here on it is a request of its own.
    assert!(!second.place_or_take_up(again(|_| {})).await.unwrap().again);
}

#[tokio::test]
async fn many_who_ask_at_once_share_one_request() {
    let world = World::new().await;
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let replica = start(&world).await;
        racers.spawn(async move { replica.place_or_take_up(request_with("delete from accounts")).await.unwrap() });
    }
    let placed = racers.join_all().await;
    let ids: std::collections::BTreeSet<_> = placed.iter().map(|placed| placed.request.id.clone()).collect();
    assert_eq!((ids.len(), placed.iter().filter(|placed| !placed.again).count()), (1, 1));
}

#[tokio::test]
async fn a_grant_for_several_runs_is_good_for_as_many() {
    let world = World::new().await;
    let approvals = start(&world).await;
    let mut asked = request_with("delete from accounts");
    asked.runs = 3;
    approvals.place_or_take_up(asked.clone()).await.unwrap();
    cards::sync(&world.bot, &asked.id).await.unwrap();
    let card = world.calls("chat.postMessage").pop().unwrap();
    assert!(world.press("U0DANA", APPROVE_RUNS, &button(&card, APPROVE_RUNS).unwrap()).await.contains("you approved"));
    let mut used = 0;
    for _ in 0..6 {
        let mut again = request_with("delete from accounts");
        again.runs = 3;
        let placed = approvals.place_or_take_up(again).await.unwrap();
        let Some(HoldEvent::Granted { quorum, .. }) = approvals.decided(&placed) else { break };
        assert_eq!(quorum.runs(), 3);
        used += u32::from(approvals.consume(&placed.request.id, quorum.digest(), quorum.runs()).await.unwrap());
    }
    assert_eq!(used, 3);
    assert!(!approvals.consume(&asked.id, &asked.digest, 3).await.unwrap());
}

/// The table says that nothing was used, and everybody may vote again: the marks among the recordings know better.
#[tokio::test]
async fn i2_a_used_grant_set_back_to_open_stays_used() {
    let world = World::new().await;
    let approvals = start(&world).await;
    let asked = request_with("delete from accounts");
    approvals.place_or_take_up(asked.clone()).await.unwrap();
    assert!(press(&world, &asked, "U0DANA").await.contains("you approved"));
    assert!(approvals.consume(&asked.id, &asked.digest, 1).await.unwrap());
    assert!(approvals.finish(&asked.id, "1 row").await.unwrap());
    for file in ["closed.json", "finished.json"] {
        std::fs::remove_file(world.store().join(asked.id.as_str()).join(file)).unwrap();
    }
    let placed = start(&world).await.place_or_take_up(request_with("delete from accounts")).await.unwrap();
    assert!(placed.again, "it looks open, and its decisions are genuine");
    assert!(matches!(approvals.decided(&placed), Some(HoldEvent::Granted { .. })));
    assert!(!approvals.consume(&placed.request.id, &asked.digest, 1).await.unwrap());
}

/// Approved, then denied before anything ran; whoever can write to the table takes the denial out again and opens the request.
#[tokio::test]
async fn a_denial_taken_out_of_the_store_stays_a_denial() {
    let world = World::new().await;
    let approvals = start(&world).await;
    let asked = request_with("delete from accounts");
    approvals.place_or_take_up(asked.clone()).await.unwrap();
    assert!(press(&world, &asked, "U0DANA").await.contains("you approved"));
    let mut denial = world.payload("U0ERIN", "", "");
    denial["type"] = "view_submission".into();
    let reference = format!("v1.{}.{}", asked.id, asked.fingerprint());
    denial["view"] = serde_json::json!({
        "callback_id": REASON, "private_metadata": reference, "state": {"values": {REASON: {REASON: {"value": "not today"}}}},
    });
    world.send(&denial).await;
    let folder = world.store().join(asked.id.as_str());
    assert!(folder.join("decisions/1.jws").exists(), "the denial was taken");
    std::fs::remove_file(folder.join("decisions/1.jws")).unwrap();
    std::fs::remove_file(folder.join("closed.json")).unwrap();
    let placed = approvals.place_or_take_up(request_with("delete from accounts")).await.unwrap();
    assert!(matches!(approvals.decided(&placed), Some(HoldEvent::Granted { .. })), "the approval alone would do");
    assert!(!approvals.consume(&asked.id, &asked.digest, 1).await.unwrap(), "but the denial took its mark");
}

#[tokio::test]
async fn holds_end_by_cancel_and_by_expiry() {
    let world = World::new().await;
    let approvals = start(&world).await;
    let cancelled = request_with("delete from accounts");
    approvals.place(&cancelled).await.unwrap();
    assert!(approvals.cancel(&cancelled.id, "client went away").await.unwrap());
    assert!(!approvals.cancel(&cancelled.id, "again").await.unwrap());
    match approvals.watch(expectation(&cancelled)).next().await {
        HoldEvent::Failed(why) => assert!(why.contains("client went away"), "{why}"),
        other => panic!("{other:?}"),
    }

    let mut brief = request_with("delete from notes");
    brief.expires_at = countersign_bot::clock::now() + 2;
    approvals.place(&brief).await.unwrap();
    let mut watch = approvals.watch(expectation(&brief));
    assert!(matches!(watch.next().await, HoldEvent::Expired));
    assert!(!approvals.consume(&brief.id, &brief.digest, 1).await.unwrap());

    let mut taken = request_with("delete from branches");
    taken.id = brief.id.clone();
    assert!(matches!(approvals.place(&taken).await, Err(StoreError::IdTaken)));
    let huge = request_with(&"x".repeat(400_000));
    assert!(matches!(approvals.place(&huge).await, Err(StoreError::TooLong { .. })));
}

#[tokio::test]
async fn a_card_that_cannot_be_posted_is_told() {
    let world = World::new().await;
    let approvals = start(&world).await;
    let request = request_with("delete from accounts");
    approvals.place(&request).await.unwrap();
    world.told.lock().unwrap().refuse_with = Some("channel_not_found");
    cards::sync(&world.bot, &request.id).await.unwrap_err();
    match approvals.watch(expectation(&request)).next().await {
        HoldEvent::Warning(text) => assert!(text.contains("channel_not_found"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn faults_of_the_setup_are_named() {
    let world = World::new().await;
    let file = world.folder.path().join("a-file");
    std::fs::write(&file, "x").unwrap();
    type Change = fn(&mut ApprovalsConfig, &std::path::Path);
    let cases: [(&str, Change); 6] = [
        ("no key", |config, _| config.keys.clear()),
        ("key a-file", |config, file| config.keys = vec![file.to_owned()]),
        ("needs path", |config, _| config.path = None),
        ("must be writable", |config, file| config.path = Some(file.to_owned())),
        ("needs table", |config, _| config.store = StoreKind::DynamoDb),
        ("needs AWS", |config, _| config.kms_keys = vec!["alias/x".to_owned()]),
    ];
    for (says, change) in cases {
        let mut changed = config(&world);
        change(&mut changed, &file);
        let error: StartError = Approvals::start(&changed, None, marks(&world)).await.unwrap_err();
        let text = error.to_string().replace(&format!("{}/", world.folder.path().display()), "");
        assert!(text.contains(says), "{says}: {text}");
    }
    let table = toml::from_str::<ApprovalsConfig>("store = \"dynamodb\"\ntable = \"t\"\nkms_keys = [\"alias/decisions\"]").unwrap();
    assert_eq!((table.store, table.poll_interval_ms), (StoreKind::DynamoDb, 200));
    assert!(toml::from_str::<ApprovalsConfig>("store = \"directory\"\npaht = \"x\"").is_err());
}

#[tokio::test]
async fn i2_approval_of_another_text_than_the_held_one_opens_nothing() {
    let world = World::new().await;
    let approvals = start(&world).await;
    let held = request_with("drop table accounts");
    approvals.place(&held).await.unwrap();
    // Whoever can write to the store shows reviewers something harmless under the id of what is held.
    let mut shown = request_with("select 1");
    shown.id = held.id.clone();
    shown.expires_at = held.expires_at;
    world.lay(&shown);
    assert!(press(&world, &held, "U0DANA").await.contains("you approved"));
    let mut watch = approvals.watch(expectation(&held));
    assert!(tokio::time::timeout(Duration::from_millis(500), watch.next()).await.is_err());
    // The other way round, too: what was approved is not what the item says now.
    world.lay(&held);
    assert!(tokio::time::timeout(Duration::from_millis(500), watch.next()).await.is_err());
}
