//! The whole of an approval as a state machine under chance: two proxies and two bots whose clocks differ, over one table whose lines lose
//! questions and answers and die between any two steps, with redelivered stream records and presses, decisions on the bot's own pages beside
//! those in Slack, clients that leave and come back, and an attacker who rewrites the table. The code that runs is the real one on both sides; only the table, the bucket and Slack are in memory.
//!
//! Invariants: **I2** what runs was pressed for, as shown, by as many people as it takes; **I6** never by the one who asked; each grant runs
//! at most as often as it says; a denial that was taken keeps its request from running; and what is healthy again works.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod page;
#[expect(dead_code, reason = "shared with tests that use the rest")]
#[path = "../../../approval-bot/tests/stand_in/mod.rs"]
mod stand_in;
mod table;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_approval::item::Status;
use countersign_approval::{Request, RequestId, UnverifiedRequest, VerifyingKeys};
use countersign_bot::card::action::{APPROVE, APPROVE_RUNS, REASON};
use countersign_bot::step_up::Provider;
use countersign_bot::{Bot, cards, clock::Clock as BotClock};
use proptest::prelude::*;
use serde_json::json;
use tokio::task::JoinHandle;

use super::marks::Marks;
use super::{Approvals, Clock, HoldEvent, Settings};
use page::{AT_THE_PAGE, PROVIDER, policy};
use stand_in::World;
use table::{Content, Line, request_of};

/// Where all clocks start from.
const START: u64 = 1_800_000_000;

/// Who may be whom: Slack account, and the person behind it.
const PEOPLE: [(&str, &str); 5] = [("U0DANA", "dana"), ("U0ERIN", "erin"), ("U0OLAF", "olaf"), ("U0GUEST", "gus"), ("U0NOBODY", "nobody")];

#[derive(Debug, Clone)]
enum Step {
    /// A client asks, at one of the proxies.
    Ask { proxy: usize, statement: u8, requester: u8, quorum: u32, runs: u32 },
    /// A client goes away, its proxy living on.
    Leave { which: usize },
    /// A client cancels.
    Cancel { which: usize },
    /// A stream record arrives, perhaps again.
    Deliver { bot: usize, which: usize },
    /// Somebody presses what a card shows now.
    Press { bot: usize, which: usize, who: usize, what: u8 },
    /// Somebody decides on the bot's own page, as it shows the request now; perhaps the form comes twice.
    Page { bot: usize, which: usize, who: usize, approve: bool, again: bool },
    /// Slack's request comes again, byte for byte.
    Replay { bot: usize },
    /// Time passes.
    Wait { seconds: u64 },
    /// Everything that can go on does.
    Run,
    /// Somebody writes to the table.
    Attack { which: usize, other: usize, how: u8 },
    /// A replica that died is replaced.
    Restart { replica: usize },
}

fn step(attacks: bool) -> impl Strategy<Value = Step> {
    let attack = if attacks { 3 } else { 0 };
    prop_oneof![
        4 => (0..2usize, 0..2u8, 0..2u8, 1..3u32, 1..3u32)
            .prop_map(|(proxy, statement, requester, quorum, runs)| Step::Ask { proxy, statement, requester, quorum, runs }),
        1 => (0..6usize).prop_map(|which| Step::Leave { which }),
        1 => (0..6usize).prop_map(|which| Step::Cancel { which }),
        3 => (0..2usize, 0..6usize).prop_map(|(bot, which)| Step::Deliver { bot, which }),
        11 => prop_oneof![
            8 => (0..2usize, 0..6usize, 0..PEOPLE.len(), 0..7u8).prop_map(|(bot, which, who, what)| Step::Press { bot, which, who, what }),
            3 => (0..2usize, 0..6usize, 0..AT_THE_PAGE.len(), prop::bool::weighted(0.85), any::<bool>())
                .prop_map(|(bot, which, who, approve, again)| Step::Page { bot, which, who, approve, again }),
        ],
        1 => (0..2usize).prop_map(|bot| Step::Replay { bot }),
        1 => prop_oneof![Just(5u64), Just(200), Just(500)].prop_map(|seconds| Step::Wait { seconds }),
        4 => Just(Step::Run),
        attack => (0..6usize, 0..6usize, 0..12u8).prop_map(|(which, other, how)| Step::Attack { which, other, how }),
        1 => (0..4usize).prop_map(|replica| Step::Restart { replica }),
    ]
}

/// One thing that ran.
#[derive(Debug, Clone)]
struct Execution {
    request: Request,
    held: Request,
    runs: u32,
}

/// What happened, as nobody inside could forge it.
#[derive(Debug, Default)]
struct Truth {
    executions: Vec<Execution>,
    /// Person, and fingerprint of what they had before them when they pressed Approve.
    approvals: BTreeSet<(String, String)>,
    /// Requests whose denial was taken, with the number of executions then.
    denied: Vec<(RequestId, usize)>,
    attacked: bool,
}

struct Client {
    task: JoinHandle<()>,
    request: Arc<Mutex<Option<RequestId>>>,
    proxy: usize,
}

struct Simulation {
    world: World,
    content: Arc<Mutex<Content>>,
    time: Arc<AtomicU64>,
    keys: VerifyingKeys,
    lines: Vec<Line>,
    proxies: Vec<Approvals>,
    bots: Vec<Bot>,
    clients: Vec<Client>,
    truth: Arc<Mutex<Truth>>,
    last: Option<(String, u64)>,
    next: u8,
}

impl Simulation {
    async fn new(seed: u64) -> Self {
        let mut world = World::new().await;
        // Dana signs in for the pages where the roster links her as well.
        std::fs::write(world.folder.path().join("policy.toml"), policy()).unwrap();
        world.bot.step_up = Some(Provider::new(PROVIDER, "bot", None, "http://bot.example/step-up/callback".to_owned()).unwrap());
        let (content, time) = (Arc::new(Mutex::new(Content::default())), Arc::new(AtomicU64::new(START)));
        let mut keys = VerifyingKeys::default();
        keys.add_pem(&std::fs::read_to_string(&world.public_key).unwrap()).unwrap();
        let lines: Vec<Line> = (0..4).map(|n| Line::new(content.clone(), seed.wrapping_mul(2 * n + 3))).collect();
        // The clocks of four machines.
        let ahead = |seconds: u64| {
            let time = time.clone();
            move || time.load(Ordering::SeqCst) + seconds
        };
        let bots = [20, 90]
            .into_iter()
            .zip(&lines[2..])
            .map(|(skew, line)| Bot { store: Arc::new(line.clone()), clock: BotClock::new(ahead(skew)), ..world.bot.clone() })
            .collect();
        let mut own = Self {
            world,
            content,
            time,
            keys,
            lines,
            proxies: Vec::new(),
            bots,
            clients: Vec::new(),
            truth: Arc::default(),
            last: None,
            next: 1,
        };
        own.proxies = vec![own.proxy(0), own.proxy(1)];
        own
    }

    /// A proxy's process.
    fn proxy(&self, n: usize) -> Approvals {
        let (line, time, skew) = (&self.lines[n], self.time.clone(), [0, 40][n]);
        let settings = Settings {
            interval: Duration::from_millis(1),
            resume: true,
            keep_finished: Duration::from_secs(60),
            clock: Clock::new(move || time.load(Ordering::SeqCst) + skew),
            bot_url: None,
        };
        Approvals::with_store(Arc::new(line.clone()), self.keys.clone(), Marks::new(Arc::new(line.clone())), settings)
    }

    /// The process dies, if it has not, and another takes its place.
    fn restart(&mut self, replica: usize) {
        for client in self.clients.iter().filter(|client| client.proxy == replica) {
            client.task.abort();
        }
        self.lines[replica].revive();
        if replica < 2 {
            self.proxies[replica] = self.proxy(replica);
        }
    }

    /// A request as a proxy makes it, by one of the two who ask: CI, or dana, who is a reviewer as well.
    fn request(&mut self, proxy: usize, statement: u8, requester: u8, quorum: u32, runs: u32) -> Request {
        let mut request =
            stand_in::request(["delete from accounts where id = $1", "update accounts set note = $1"][usize::from(statement)], quorum);
        request.policy = countersign_policy::Policy::parse(&policy()).unwrap().digest().to_hex();
        request.id = RequestId::from_bytes([self.next; 16]);
        self.next += 1;
        request.created_at = self.time.load(Ordering::SeqCst) + [0, 40][proxy];
        request.expires_at = request.created_at + 900;
        request.runs = runs;
        if requester == 1 {
            request.requester.subject = "dana-sso".to_owned();
            request.requester.email = None;
        }
        request
    }

    fn ask(&mut self, proxy: usize, request: Request) {
        let (approvals, truth) = (self.proxies[proxy].clone(), self.truth.clone());
        let placed_as = Arc::new(Mutex::new(None));
        let noted = placed_as.clone();
        let task = tokio::spawn(async move {
            let held = request.clone();
            let Ok(placed) = approvals.place_or_take_up(request).await else { return };
            *noted.lock().unwrap() = Some(placed.request.id.clone());
            let mut watch = approvals.watch(placed.request.expectation());
            loop {
                match watch.next().await {
                    HoldEvent::Progress { .. } | HoldEvent::Warning(_) => {}
                    HoldEvent::Granted { quorum, .. } => {
                        // As the session does: the permit is for what is held.
                        assert_eq!((quorum.request(), quorum.digest()), (&placed.request.id, &held.digest));
                        if let Ok(true) = approvals.consume(&placed.request.id, &held.digest, quorum.runs()).await {
                            let execution = Execution { request: placed.request.clone(), held, runs: quorum.runs() };
                            truth.lock().unwrap().executions.push(execution);
                            let _noted = approvals.finish(&placed.request.id, "DELETE 1").await;
                        }
                        return;
                    }
                    HoldEvent::Denied { .. } | HoldEvent::Expired | HoldEvent::Failed(_) => return,
                }
            }
        });
        self.clients.push(Client { task, request: placed_as, proxy });
    }

    fn id(&self, which: usize) -> Option<RequestId> {
        let content = self.content.lock().unwrap();
        let count = content.items.len().max(1);
        content.items.keys().nth(which % count).cloned()
    }

    async fn press(&mut self, bot: usize, id: &RequestId, who: usize, what: u8) {
        let Some(bytes) = self.content.lock().unwrap().items.get(id).map(|item| item.request.clone()) else { return };
        let (user, person) = PEOPLE[who];
        let fingerprint = UnverifiedRequest::new(&bytes).fingerprint();
        let reference = format!("v1.{id}.{fingerprint}");
        let mut payload = match what {
            0 => {
                let mut payload = self.world.payload(user, "", "");
                payload["type"] = json!("view_submission");
                payload["view"] = json!({
                    "callback_id": REASON,
                    "private_metadata": reference,
                    "state": {"values": {REASON: {REASON: {"value": "not today"}}}},
                });
                payload
            }
            1 => self.world.payload(user, APPROVE_RUNS, &reference),
            _ => self.world.payload(user, APPROVE, &reference),
        };
        payload["response_url"] = json!(format!("{}/response", self.world.url));
        if what > 0 {
            self.truth.lock().unwrap().approvals.insert((person.to_owned(), fingerprint));
        }
        let body = stand_in::form(&payload);
        let time = self.bots[bot].clock.now();
        self.last = Some((body.clone(), time));
        self.send(bot, &body, time).await;
        if what == 0 && self.world.last_answer().contains(&format!("you denied request {id}")) {
            let mut truth = self.truth.lock().unwrap();
            let before = truth.executions.iter().filter(|ran| ran.request.id == *id).count();
            truth.denied.push((id.clone(), before));
        }
    }

    async fn send(&self, bot: usize, body: &str, time: u64) {
        self.world.told.lock().unwrap().calls.retain(|(method, _)| method != "response");
        let signature = stand_in::sign(stand_in::SECRET, &time.to_string(), body);
        let (timestamp, signature) = (time.to_string(), signature);
        let raw = countersign_bot::interactions::Raw {
            timestamp: Some(&timestamp),
            signature: Some(&signature),
            body: body.as_bytes(),
            retry: false,
            host: None,
        };
        // A bot that dies answers nobody.
        let taken = tokio::time::timeout(Duration::from_millis(300), countersign_bot::interactions::take(&self.bots[bot], raw));
        let _answered = taken.await;
    }

    fn attack(&self, which: usize, other: usize, how: u8) {
        let (Some(id), Some(other)) = (self.id(which), self.id(other)) else { return };
        self.truth.lock().unwrap().attacked = true;
        let mut content = self.content.lock().unwrap();
        let theirs = content.items[&other].clone();
        let pointers: Vec<String> = content.pointers.keys().cloned().collect();
        let item = content.items.get_mut(&id).unwrap();
        match how {
            // Whatever was used, denied or over is open again, and everybody may vote again.
            0 | 1 => {
                (item.status, item.why, item.outcome) = (Some(Status::Open), None, None);
                item.voters.clear();
            }
            2 => item.tokens.reverse(),
            3 => item.tokens.extend(theirs.tokens),
            4 => {
                let _gone = item.tokens.pop();
            }
            5 => item.tokens = vec![item.tokens.concat(), "e30.e30.".to_owned()],
            // Another request's text under this id, with everything that goes with it; or with its own digest kept.
            6 => (item.request, item.digest) = (theirs.request, theirs.digest),
            7 => {
                let Some(mut shown) = request_of(item) else { return };
                shown.statement = "select 1".to_owned();
                shown.digest = shown.compute_digest().unwrap();
                shown.facts = vec![("kind".to_owned(), "read".to_owned())];
                item.request = shown.to_bytes().unwrap();
            }
            8 => {
                // The statement as it is, everything else made harmless.
                let Some(mut shown) = request_of(item) else { return };
                (shown.quorum, shown.requester.subject) = (1, "someone-else".to_owned());
                shown.facts.clear();
                item.request = shown.to_bytes().unwrap();
            }
            9 => {
                for key in pointers {
                    content.pointers.insert(key, other.clone());
                }
            }
            10 => content.pointers.clear(),
            _ => {
                item.expires_at = u64::MAX;
                let Some(mut shown) = request_of(item) else { return };
                shown.expires_at += 100_000;
                item.request = shown.to_bytes().unwrap();
            }
        }
    }

    async fn run(&self) {
        // Longer than a poll and its pauses; what is dead stays so.
        tokio::time::sleep(Duration::from_millis(12)).await;
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Ask { proxy, statement, requester, quorum, runs } => {
                let request = self.request(proxy, statement, requester, quorum, runs);
                self.ask(proxy, request);
            }
            Step::Leave { which } | Step::Cancel { which } if which >= self.clients.len() => {}
            Step::Leave { which } => {
                let client = &self.clients[which];
                client.task.abort();
                if let Some(id) = client.request.lock().unwrap().clone() {
                    self.proxies[client.proxy].leave(&id, self.time.load(Ordering::SeqCst) + 900);
                }
            }
            Step::Cancel { which } => {
                let client = &self.clients[which];
                client.task.abort();
                let id = client.request.lock().unwrap().clone();
                if let Some(id) = id {
                    let cancel = self.proxies[client.proxy].cancel(&id, "the client cancelled");
                    let _answer = tokio::time::timeout(Duration::from_millis(50), cancel).await;
                }
            }
            Step::Deliver { bot, which } => {
                if let Some(id) = self.id(which) {
                    let _synced = tokio::time::timeout(Duration::from_millis(300), cards::sync(&self.bots[bot], &id)).await;
                }
            }
            Step::Press { bot, which, who, what } => {
                if let Some(id) = self.id(which) {
                    self.press(bot, &id, who, what).await;
                }
            }
            Step::Page { bot, which, who, approve, again } => {
                if let Some(id) = self.id(which) {
                    self.page(bot, &id, who, approve, again).await;
                }
            }
            Step::Replay { bot } => {
                if let Some((body, time)) = self.last.clone() {
                    self.send(bot, &body, time).await;
                }
            }
            Step::Wait { seconds } => {
                self.time.fetch_add(seconds, Ordering::SeqCst);
            }
            Step::Run => self.run().await,
            Step::Attack { which, other, how } => self.attack(which, other, how),
            Step::Restart { replica } => self.restart(replica),
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let truth = self.truth.lock().unwrap();
        for ran in &truth.executions {
            let request = &ran.request;
            // What ran is what its own client sent, and what was asked for under this id.
            prop_assert_eq!(ran.held.sameness(), request.sameness(), "something else ran than was held");
            let fingerprint = request.fingerprint();
            let own = if request.requester.subject == "dana-sso" { "dana" } else { "" };
            let people: BTreeSet<&str> = truth
                .approvals
                .iter()
                .filter(|(person, shown)| *shown == fingerprint && person != own && matches!(person.as_str(), "dana" | "erin"))
                .map(|(person, _)| person.as_str())
                .collect();
            let needed = usize::try_from(request.quorum).unwrap();
            prop_assert!(people.len() >= needed, "I2, I6: {} of {} people pressed for request {}", people.len(), needed, request.id);
            let times = truth.executions.iter().filter(|other| other.request.id == request.id).count();
            prop_assert!(
                times <= usize::try_from(ran.runs).unwrap(),
                "request {} ran {} times, approved for {}",
                request.id,
                times,
                ran.runs
            );
            prop_assert!(ran.runs <= request.runs.max(1), "more runs than the request allows");
        }
        if !truth.attacked {
            for (id, before) in &truth.denied {
                let after = truth.executions.iter().filter(|ran| ran.request.id == *id).count();
                prop_assert_eq!(after, *before, "request {} ran after its denial", id);
            }
        }
        Ok(())
    }

    /// Whatever came before: two clients ask for the same on two healthy replicas, people approve, and it runs exactly once.
    async fn recover(&mut self) -> Result<(), TestCaseError> {
        for replica in 0..self.lines.len() {
            self.lines[replica].heal();
            self.restart(replica);
        }
        for client in self.clients.drain(..) {
            client.task.abort();
        }
        // Later than everything that was asked for.
        self.time.fetch_add(5_000, Ordering::SeqCst);
        let first = self.request(0, 0, 0, 2, 1);
        let mut second = first.clone();
        second.id = RequestId::from_bytes([255; 16]);
        self.ask(0, first);
        self.ask(1, second);
        let both = || self.clients.iter().all(|client| client.request.lock().unwrap().is_some());
        for _ in 0..400 {
            if both() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        prop_assert!(both(), "a request could not be placed on a healthy system");
        let ids: BTreeSet<RequestId> = self.clients.iter().filter_map(|client| client.request.lock().unwrap().clone()).collect();
        prop_assert_eq!(ids.len(), 1, "the same, asked twice, must be one request");
        let id = ids.into_iter().next().unwrap();
        cards::sync(&self.bots[0], &id).await.unwrap();
        cards::sync(&self.bots[1], &id).await.unwrap();
        let posted = self.world.calls("chat.postMessage").iter().filter(|card| card.to_string().contains(id.as_str())).count();
        prop_assert_eq!(posted, 1, "one request, one card");
        for (bot, who) in [(0, 0), (1, 1)] {
            self.press(bot, &id, who, 2).await;
        }
        for client in &mut self.clients {
            let ended = tokio::time::timeout(Duration::from_secs(5), &mut client.task).await;
            prop_assert!(ended.is_ok(), "a client of a healthy system waits for ever");
        }
        let ran = self.truth.lock().unwrap().executions.iter().filter(|ran| ran.request.id == id).count();
        prop_assert_eq!(ran, 1, "approved and asked for: it runs exactly once");
        Ok(())
    }
}

async fn play(seed: u64, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut simulation = Simulation::new(seed).await;
    for step in steps {
        simulation.step(step).await;
        simulation.check()?;
    }
    simulation.run().await;
    simulation.check()?;
    simulation.recover().await?;
    simulation.check()
}

fn in_runtime(seed: u64, steps: Vec<Step>) -> Result<(), TestCaseError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(play(seed, steps))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn i2_i6_hold_under_races_crashes_and_redelivery(seed: u64, steps in prop::collection::vec(step(false), 1..40)) {
        in_runtime(seed, steps)?;
    }

    #[test]
    fn i2_i6_hold_whatever_is_written_to_the_table(seed: u64, steps in prop::collection::vec(step(true), 1..40)) {
        in_runtime(seed, steps)?;
    }
}

/// The pages of the model decide as those of the bot do, together with Slack: erin here and dana there are two people, and erin twice is one.
#[tokio::test]
async fn the_models_pages_decide() {
    let mut simulation = Simulation::new(1).await;
    for line in &simulation.lines {
        line.heal();
    }
    let request = simulation.request(0, 0, 0, 2, 1);
    let id = request.id.clone();
    simulation.ask(0, request);
    // A browser of the model gives up soon; on a slow machine it comes again.
    let tokens = |simulation: &Simulation| simulation.content.lock().unwrap().items.get(&id).map_or(0, |item| item.tokens.len());
    let voted = async |simulation: &mut Simulation, wanted: usize, who: usize| {
        for _ in 0..200 {
            simulation.page(0, &id, who, true, true).await;
            if tokens(simulation) >= wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the page takes no decision");
    };
    voted(&mut simulation, 1, 1).await;
    simulation.page(1, &id, 1, true, true).await;
    simulation.press(1, &id, 1, 2).await;
    for nobody in [2, 3] {
        simulation.page(0, &id, nobody, true, true).await;
    }
    assert_eq!(tokens(&simulation), 1, "one person, one decision, and none of who may not");
    voted(&mut simulation, 2, 0).await;
    let client = simulation.clients.remove(0);
    tokio::time::timeout(Duration::from_secs(30), client.task).await.unwrap().unwrap();
    simulation.check().unwrap();
    assert_eq!(simulation.truth.lock().unwrap().executions.len(), 1);
}

/// The model can see what it is there to see: with the second write of a grant's use taken away, an attacker runs it twice.
#[tokio::test]
async fn the_model_sees_a_grant_used_twice() {
    let mut simulation = Simulation::new(1).await;
    for line in &simulation.lines {
        line.heal();
    }
    let request = simulation.request(0, 0, 0, 1, 1);
    let id = request.id.clone();
    for bare in [false, true] {
        simulation.ask(0, request.clone());
        tokio::time::sleep(Duration::from_millis(30)).await;
        if !bare {
            simulation.press(0, &id, 0, 2).await;
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
        simulation.attack(0, 0, 0);
    }
    simulation.check().unwrap();
    assert_eq!(simulation.truth.lock().unwrap().executions.len(), 1, "the mark in the bucket stops the second run");
    // The same again, with the bucket emptied as nobody can.
    simulation.content.lock().unwrap().marks.clear();
    simulation.ask(0, request);
    tokio::time::sleep(Duration::from_millis(60)).await;
    match simulation.check() {
        Err(TestCaseError::Fail(why)) => assert!(why.to_string().contains("ran 2 times"), "{why}"),
        other => panic!("the model saw nothing: {other:?}"),
    }
}
