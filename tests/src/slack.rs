//! A look-alike of Slack: the Web API methods a bot uses, a page that shows its cards with working buttons, and presses by HTTP.
//!
//! Owns: messages, users, modals, Slack's refusals, and signed interaction callbacks. Does not own: what the cards say.
//! It follows <https://docs.slack.dev/reference/methods> and <https://docs.slack.dev/reference/block-kit>.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{any, get, post};
use serde::Serialize;
use serde_json::Value;

mod api;
mod blocks;
mod interact;
mod page;

pub use interact::{Press, PressOutcome, Signing};

/// Workspace id.
pub const TEAM: &str = "T0BANK";
/// App id.
pub const APP: &str = "A0COUNTERSIGN";
/// The channel cards are posted to.
pub const CHANNEL: &str = "C0APPROVALS";
/// The bot's own user.
pub const BOT_USER: &str = "U0BOT";

/// A person of the workspace.
#[derive(Debug, Clone, Serialize)]
pub struct User {
    /// `U…`
    pub id: String,
    /// Handle.
    pub name: String,
    /// Full name.
    pub real_name: String,
    /// E-mail address.
    pub email: String,
    /// A guest, who must never decide.
    pub guest: bool,
    /// A bot.
    pub bot: bool,
}

/// A user group of the workspace.
#[derive(Debug, Clone, Serialize)]
pub struct Usergroup {
    /// `S…`
    pub id: String,
    /// Ids of its members, whoever they are.
    pub users: Vec<String>,
    /// Disabled by its managers.
    pub disabled: bool,
}

/// Slack misbehaving, for as many calls as said.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Method it happens on, or `*`.
    pub method: String,
    /// For how many calls.
    pub times: u32,
    /// What happens.
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum FaultKind {
    /// 429 with `Retry-After` in seconds.
    RateLimited(u64),
    /// `{"ok": false, "error": …}`.
    Error(String),
    /// A bare HTTP status.
    Status(u16),
    /// An answer that comes late.
    Slow(Duration),
}

/// A message in a channel.
#[derive(Debug, Clone, Serialize)]
pub struct Card {
    /// Channel id.
    pub channel: String,
    /// Message id.
    pub ts: String,
    /// Fallback text.
    pub text: String,
    /// Block Kit.
    pub blocks: Vec<Value>,
    /// Message metadata, if any.
    pub metadata: Option<Value>,
    /// Thread it belongs to.
    pub thread_ts: Option<String>,
    /// Only this user sees it.
    pub ephemeral_for: Option<String>,
    /// How often it was changed.
    pub updates: u32,
    /// The approval request it is about: the first UUID in its buttons, metadata or text.
    pub request: Option<String>,
    /// Its buttons.
    pub buttons: Vec<Button>,
    /// All its text, for searching.
    pub plain: String,
}

/// A button of a card.
#[derive(Debug, Clone, Serialize)]
pub struct Button {
    /// `action_id`
    pub action_id: String,
    /// `block_id`
    pub block_id: String,
    /// Label.
    pub text: String,
    /// `value`
    pub value: String,
    /// `primary` or `danger`.
    pub style: Option<String>,
    /// `approve` or `deny`, as far as its id or style tells.
    pub action: Option<String>,
}

struct Modal {
    id: String,
    user: String,
    view: Value,
}

struct Trigger {
    user: String,
    made: Instant,
    used: bool,
}

#[derive(Default)]
struct Inner {
    cards: Vec<Card>,
    modals: Vec<Modal>,
    triggers: BTreeMap<String, Trigger>,
    responses: BTreeMap<String, String>,
    faults: Vec<Fault>,
    usergroups: Vec<Usergroup>,
    /// Scopes of the bot's token.
    scopes: Vec<String>,
    calls: Vec<String>,
    refusals: Vec<String>,
    interactions: Option<(String, reqwest::Client)>,
    serial: u64,
    shift_seconds: i64,
}

/// The running look-alike; ends when the last handle is dropped.
#[derive(Clone)]
pub struct Slack {
    shared: Shared,
    _server: Arc<crate::http::Server>,
}

#[derive(Clone)]
struct Shared {
    url: String,
    token: String,
    secret: String,
    users: Arc<Vec<User>>,
    inner: Arc<Mutex<Inner>>,
    http: reqwest::Client,
}

impl Slack {
    /// Starts it on a free loopback port with a random bot token and signing secret.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let shared = Shared {
            url: format!("http://127.0.0.1:{}", listener.local_addr()?.port()),
            token: format!("xoxb-{}", crate::cluster::random_password()),
            secret: hex::encode(crate::cluster::random_password()),
            users: Arc::new(workspace()),
            inner: Arc::new(Mutex::new(Inner { serial: 1, usergroups: usergroups(), scopes: scopes(), ..Inner::default() })),
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?,
        };
        let router = Router::new()
            .route("/", get(page::page))
            .route("/fragment", get(page::fragment))
            .route("/cards", get(cards))
            .route("/press", post(interact::press))
            .route("/modal", post(interact::submit_modal))
            .route("/respond/{id}", post(interact::respond))
            .route("/api/{method}", any(api::call))
            .layer(DefaultBodyLimit::max(4 * 1024 * 1024))
            .with_state(shared.clone());
        let server = Arc::new(crate::http::Server::spawn(listener, router));
        Ok(Self { shared, _server: server })
    }

    /// The page with the cards.
    #[must_use]
    pub fn page_url(&self) -> String {
        format!("{}/", self.shared.url)
    }

    /// What goes into `SLACK_API_URL`.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("{}/api", self.shared.url)
    }

    /// Where presses are posted.
    #[must_use]
    pub fn press_url(&self) -> String {
        format!("{}/press", self.shared.url)
    }

    /// The bot's token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.shared.token
    }

    /// The signing secret.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.shared.secret
    }

    /// Says where the bot takes interactions.
    pub fn set_interactions_url(&self, url: &str) {
        self.set_interactions(url, self.shared.http.clone());
    }

    /// The same with a client of the caller's, for a host only that one finds.
    pub fn set_interactions(&self, url: &str, client: reqwest::Client) {
        self.shared.lock().interactions = Some((url.to_owned(), client));
    }

    /// All messages so far, oldest first.
    #[must_use]
    pub fn cards(&self) -> Vec<Card> {
        self.shared.lock().cards.clone()
    }

    /// Names of the Web API methods called so far.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.shared.lock().calls.clone()
    }

    /// What was refused, and why: a bot of ours should never get here unless the case is about it.
    #[must_use]
    pub fn refusals(&self) -> Vec<String> {
        self.shared.lock().refusals.clone()
    }

    /// Misbehaves as said.
    pub fn add_fault(&self, fault: Fault) {
        self.shared.lock().faults.push(fault);
    }

    /// Forgets all faults.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Puts a user group in the place of the one with its id.
    pub fn set_usergroup(&self, group: Usergroup) {
        let mut inner = self.shared.lock();
        inner.usergroups.retain(|known| known.id != group.id);
        inner.usergroups.push(group);
    }

    /// From now on the bot's token has these scopes alone.
    pub fn set_scopes(&self, scopes: &[&str]) {
        self.shared.lock().scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
    }

    /// Signs interactions with a clock this far off.
    pub fn shift_clock(&self, seconds: i64) {
        self.shared.lock().shift_seconds = seconds;
    }

    /// The newest card that can be decided on, once `accept` likes it.
    ///
    /// # Errors
    /// None came within `limit`.
    pub async fn wait_for_card(&self, limit: Duration, accept: impl Fn(&Card) -> bool) -> Result<Card> {
        let end = Instant::now() + limit;
        loop {
            let found = self.shared.lock().cards.iter().rev().find(|card| accept(card)).cloned();
            if let Some(card) = found {
                return Ok(card);
            }
            anyhow::ensure!(
                Instant::now() < end,
                "no such card within {} s; {} on the page, refused so far: {:?}",
                limit.as_secs(),
                self.cards().len(),
                self.refusals()
            );
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Presses a button as a user.
    pub async fn press(&self, press: &Press) -> PressOutcome {
        interact::press_button(&self.shared, press).await
    }

    /// Sends a payload of the caller's own making to the bot, signed as said; returns status and body.
    ///
    /// # Errors
    /// The bot is not reachable.
    pub async fn send(&self, payload: &Value, signing: &Signing) -> Result<(u16, String)> {
        interact::send(&self.shared, payload, signing).await
    }

    /// The payload a press of that button would send, for changing.
    ///
    /// # Errors
    /// There is no such card or button.
    pub fn payload(&self, press: &Press) -> Result<Value, String> {
        interact::payload_of(&self.shared, press).map(|(payload, _)| payload)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn user(&self, id: &str) -> Option<&User> {
        self.users.iter().find(|user| user.id == id)
    }
}

impl Inner {
    /// A message id as Slack makes them: seconds and a six-digit serial.
    fn next_ts(&mut self) -> String {
        self.serial += 1;
        format!("{}.{:06}", now_seconds(), self.serial)
    }
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}

/// The workspace: two reviewers, the owner of the CI job, someone in no roster, a guest and the bot.
fn workspace() -> Vec<User> {
    let user = |id: &str, name: &str, real_name: &str| User {
        id: id.to_owned(),
        name: name.to_owned(),
        real_name: real_name.to_owned(),
        email: format!("{name}@bank.example"),
        guest: false,
        bot: false,
    };
    vec![
        user("U0DANA", "dana", "Dana Whitfield"),
        user("U0LEE", "lee", "Lee Tanaka"),
        user("U0CI", "ci", "Casey Ito (owns the CI job)"),
        user("U0MALLORY", "mallory", "Mallory Voss"),
        User { guest: true, ..user("U0GUEST", "guest", "Gil Guest") },
        User { bot: true, ..user(BOT_USER, "countersign", "Countersign") },
    ]
}

/// User groups: people of no roster, one of another, and some who must never decide.
fn usergroups() -> Vec<Usergroup> {
    let members = ["U0MALLORY", "U0LEE", "U0CI", "U0GUEST", BOT_USER];
    vec![Usergroup { id: "S0CLERKS".to_owned(), users: members.map(str::to_owned).to_vec(), disabled: false }]
}

/// What the documentation asks for.
fn scopes() -> Vec<String> {
    ["chat:write", "users:read", "users:read.email", "usergroups:read"].map(str::to_owned).to_vec()
}

async fn cards(State(shared): State<Shared>) -> axum::Json<Vec<Card>> {
    axum::Json(shared.lock().cards.clone())
}

#[cfg(test)]
mod tests;
