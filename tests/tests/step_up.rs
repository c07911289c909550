//! Signing in: what it takes to approve in the top tier and on the bot's own pages, and what does not do. The real bot, a provider that
//! behaves as public ones do, and a browser's part played by an HTTP client with its cookies.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "step_up/groups.rs"]
mod groups;
#[expect(dead_code, reason = "shared with tests that use the rest")]
#[path = "../../approval-bot/tests/stand_in/mod.rs"]
mod stand_in;
#[path = "step_up/web.rs"]
mod web;

use std::collections::BTreeMap;

use countersign_approval::verify::quorum;
use countersign_approval::{GrantError, Request};
use countersign_bot::card::action::APPROVE;
use countersign_bot::step_up::Provider;
use countersign_bot::{cards, clock, router};
use countersign_e2e::oidc::{Client, Issuer};
use serde_json::json;
use stand_in::{World, button, request};

struct Bank {
    world: World,
    issuer: Issuer,
    url: String,
}

/// A browser: keeps its cookie, follows nothing by itself.
struct Browser {
    http: reqwest::Client,
    cookies: BTreeMap<String, String>,
}

struct Page {
    status: u16,
    location: String,
    text: String,
}

impl Browser {
    fn new() -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        Self { http, cookies: BTreeMap::new() }
    }

    async fn go(&mut self, request: reqwest::RequestBuilder) -> Page {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = if cookies.is_empty() { request } else { request.header("cookie", cookies.join("; ")) };
        let answer = request.send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        if let Some(set) = header("set-cookie") {
            assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let (status, location) = (answer.status().as_u16(), header("location").unwrap_or_default());
        Page { status, location, text: answer.text().await.unwrap() }
    }

    async fn get(&mut self, url: &str) -> Page {
        self.go(self.http.get(url)).await
    }

    async fn post(&mut self, url: &str, form: &[(String, String)]) -> Page {
        self.go(self.http.post(url).form(form)).await
    }
}

fn pairs(url: &str) -> Vec<(String, String)> {
    reqwest::Url::parse(url).unwrap().query_pairs().into_owned().collect()
}

impl Bank {
    async fn open() -> Self {
        let mut world = World::new().await;
        let issuer = Issuer::start().await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let callback = format!("{url}/step-up/callback");
        issuer.register(Client { id: "countersign-bot".to_owned(), secret: None, redirect_uri: callback.clone() });
        issuer.register(Client { id: "someone-else".to_owned(), secret: None, redirect_uri: callback.clone() });
        world.bot.public_url = Some(url.clone());
        world.bot.step_up = Some(Provider::new(issuer.url(), "countersign-bot", None, callback).unwrap());
        // The roster links dana and erin by subject at this issuer.
        let policy = std::fs::read_to_string(world.folder.path().join("policy.toml")).unwrap();
        let policy = policy.replace("https://issuer.example|dana-sso", &format!("{}|dana", issuer.url()));
        std::fs::write(world.folder.path().join("policy.toml"), policy).unwrap();
        let app = router::router(world.bot.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { world, issuer, url }
    }

    fn request(&self) -> Request {
        let mut top = request("drop table accounts", 1);
        top.step_up = true;
        let policy = std::fs::read_to_string(self.world.folder.path().join("policy.toml")).unwrap();
        top.policy = countersign_policy::Policy::parse(&policy).unwrap().digest().to_hex();
        top
    }

    /// Asks, shows, presses; returns the link the presser was given.
    async fn pressed(&self, request: &Request, user: &str) -> String {
        self.world.lay(request);
        cards::sync(&self.world.bot, &request.id).await.unwrap();
        let card = self.world.calls("chat.postMessage").pop().unwrap();
        let answer = self.world.press(user, APPROVE, &button(&card, APPROVE).unwrap()).await.replace("&amp;", "&");
        assert!(answer.contains("nothing is decided yet"), "{answer}");
        self.nobody_approved(request).await;
        answer.rsplit_once(' ').unwrap().1.to_owned()
    }

    /// From the link to the provider's form.
    async fn at_the_provider(&self, browser: &mut Browser, link: &str) -> Vec<(String, String)> {
        let page = browser.get(link).await;
        assert_eq!(page.status, 200);
        assert!(page.text.contains("drop table accounts"), "what is approved is shown: {}", page.text);
        let ticket = pairs(link).into_iter().find(|(name, _)| name == "ticket").unwrap();
        let page = browser.post(&format!("{}/step-up", self.url), &[ticket]).await;
        assert_eq!(page.status, 303);
        assert_eq!(browser.get(&page.location).await.status, 200);
        pairs(&page.location)
    }

    /// Fills the provider's form.
    async fn sign_in(&self, browser: &mut Browser, mut form: Vec<(String, String)>, login: &str) -> Page {
        form.push(("login".to_owned(), login.to_owned()));
        let page = browser.post(&format!("{}/authorize", self.issuer.url()), &form).await;
        assert_eq!(page.status, 303, "{}", page.text);
        page
    }

    async fn approvals(&self, request: &Request) -> Result<usize, GrantError> {
        let stored = self.world.bot.store.get(&request.id).await.unwrap().unwrap();
        let granted = quorum(&request.expectation(), &stored.tokens, self.world.bot.signer.public(), clock::now());
        granted.map(|granted| granted.decisions().len())
    }

    async fn nobody_approved(&self, request: &Request) {
        assert!(matches!(self.approvals(request).await, Err(GrantError::Pending { found: 0, .. })), "it was approved");
    }
}

#[tokio::test]
async fn a_press_and_a_sign_in_approve_once() {
    let bank = Bank::open().await;
    let request = bank.request();
    let link = bank.pressed(&request, "U0DANA").await;
    let mut browser = Browser::new();
    let form = bank.at_the_provider(&mut browser, &link).await;
    let asked: BTreeMap<&str, &str> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!((asked["code_challenge_method"], asked["prompt"], asked["max_age"]), ("S256", "login", "0"));
    let back = bank.sign_in(&mut browser, form, "dana").await;
    bank.nobody_approved(&request).await;
    let page = browser.get(&back.location).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.text.contains("you approved"));
    assert_eq!(bank.approvals(&request).await.unwrap(), 1);
    let stored = bank.world.bot.store.get(&request.id).await.unwrap().unwrap();
    let decision = countersign_approval::UnverifiedDecision::new(&stored.tokens[0]).verify(bank.world.bot.signer.public()).unwrap();
    assert_eq!(decision.step_up.map(|step_up| (step_up.issuer, step_up.subject)), Some((bank.issuer.url().to_owned(), "dana".to_owned())));
    // The same way again leads nowhere.
    let again = browser.get(&back.location).await;
    assert_eq!(again.status, 403);
    assert!(again.text.contains("used already"), "{}", again.text);
}

#[tokio::test]
async fn somebody_elses_sign_in_is_nothing() {
    let bank = Bank::open().await;
    for login in ["erin", "robin", "Dana", "dana@bank.example"] {
        let request = bank.request();
        let link = bank.pressed(&request, "U0DANA").await;
        let mut browser = Browser::new();
        let form = bank.at_the_provider(&mut browser, &link).await;
        let back = bank.sign_in(&mut browser, form, login).await;
        let page = browser.get(&back.location).await;
        assert_eq!(page.status, 403, "{login}: {}", page.text);
        bank.nobody_approved(&request).await;
    }
    // Nor is one that was given up.
    let request = bank.request();
    let link = bank.pressed(&request, "U0DANA").await;
    let mut browser = Browser::new();
    let form = bank.at_the_provider(&mut browser, &link).await;
    let back = bank.sign_in(&mut browser, form, "").await;
    assert!(back.location.contains("access_denied"));
    assert_eq!(browser.get(&back.location).await.status, 403);
    bank.nobody_approved(&request).await;
}

#[tokio::test]
async fn an_answer_for_another_browser_ticket_or_sign_in_is_nothing() {
    let bank = Bank::open().await;
    let request = bank.request();
    let link = bank.pressed(&request, "U0DANA").await;
    // Mallory's own way up to the answer, which dana's browser is then made to open: with no cookie, and with dana's.
    let mut mallory = Browser::new();
    let form = bank.at_the_provider(&mut mallory, &link).await;
    let back = bank.sign_in(&mut mallory, form, "dana").await;
    assert_eq!(Browser::new().get(&back.location).await.status, 403);
    let mut dana = Browser::new();
    let _own = bank.at_the_provider(&mut dana, &link).await;
    assert_eq!(dana.get(&back.location).await.status, 403);
    bank.nobody_approved(&request).await;

    // A code from the one sign-in with the state of the other: the verifier and the nonce do not fit.
    let code = pairs(&back.location).into_iter().find(|(name, _)| name == "code").unwrap().1;
    let form = bank.at_the_provider(&mut dana, &link).await;
    let state = form.iter().find(|(name, _)| name == "state").unwrap().1.clone();
    let injected = format!("{}/step-up/callback?code={code}&state={state}", bank.url);
    let page = dana.get(&injected).await;
    assert_eq!(page.status, 403);
    assert!(page.text.contains("invalid_grant"), "{}", page.text);
    // A ticket that is forged, cut, or another's.
    let ticket = pairs(&link).remove(0).1;
    for forged in [ticket[1..].to_owned(), format!("{ticket}0"), "x.y".to_owned(), String::new()] {
        let page = dana.get(&format!("{}/step-up?ticket={forged}", bank.url)).await;
        assert_eq!(page.status, 404, "{forged}");
        assert_eq!(dana.post(&format!("{}/step-up", bank.url), &[("ticket".to_owned(), forged)]).await.status, 404);
    }
    // An answer that names another issuer is of a mix-up.
    let form = bank.at_the_provider(&mut dana, &link).await;
    let back = bank.sign_in(&mut dana, form, "dana").await;
    let mixed = back.location.replace(&bank.issuer.url().replace(':', "%3A").replace('/', "%2F"), "https%3A%2F%2Fevil.example");
    assert_ne!(mixed, back.location);
    assert_eq!(dana.get(&mixed).await.status, 403);
    bank.nobody_approved(&request).await;
}

#[tokio::test]
async fn an_id_token_that_does_not_hold_is_nothing() {
    let bank = Bank::open().await;
    let now = clock::now();
    let cases = [
        ("for another client", "aud", json!("someone-else")),
        ("for several, authorized for another", "azp", json!("someone-else")),
        ("of another issuer", "iss", json!("https://evil.example")),
        ("over", "exp", json!(now - 600)),
        ("of another sign-in", "nonce", json!("0123")),
        ("without a nonce", "nonce", json!(null)),
        ("signed in long ago", "auth_time", json!(now - 3_600)),
        ("signed in tomorrow", "auth_time", json!(now + 86_400)),
        ("without a time", "auth_time", json!(null)),
    ];
    for (name, claim, value) in cases {
        bank.issuer.set_id_token_changes(BTreeMap::from([(claim.to_owned(), value)]));
        let request = bank.request();
        let link = bank.pressed(&request, "U0DANA").await;
        let mut browser = Browser::new();
        let form = bank.at_the_provider(&mut browser, &link).await;
        let back = bank.sign_in(&mut browser, form, "dana").await;
        let page = browser.get(&back.location).await;
        assert_eq!(page.status, 403, "{name}: {}", page.text);
        bank.nobody_approved(&request).await;
    }
}

#[tokio::test]
async fn a_sign_in_never_approves_ones_own_request_nor_another_text() {
    let bank = Bank::open().await;
    let mut own = bank.request();
    own.requester.issuer = bank.issuer.url().to_owned();
    own.requester.subject = "dana".to_owned();
    bank.world.lay(&own);
    cards::sync(&bank.world.bot, &own.id).await.unwrap();
    let card = bank.world.calls("chat.postMessage").pop().unwrap();
    assert!(bank.world.press("U0DANA", APPROVE, &button(&card, APPROVE).unwrap()).await.contains("somebody else must decide"));
    // The text is replaced between the press and the sign-in.
    let request = bank.request();
    let link = bank.pressed(&request, "U0DANA").await;
    let mut browser = Browser::new();
    let form = bank.at_the_provider(&mut browser, &link).await;
    let mut swapped = request.clone();
    swapped.statement = "drop schema public cascade".to_owned();
    swapped.digest = swapped.compute_digest().unwrap();
    bank.world.lay(&swapped);
    let back = bank.sign_in(&mut browser, form, "dana").await;
    let page = browser.get(&back.location).await;
    assert!(page.status == 403 && page.text.contains("altered"), "{}", page.text);
    bank.nobody_approved(&swapped).await;
}
