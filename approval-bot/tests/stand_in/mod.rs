//! A Slack for tests: refuses what Slack refuses, remembers what it was told, and a bot that talks to it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, Request as HttpRequest, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use countersign_approval::v1::{RequestParameter, Requester};
use countersign_approval::{Request, RequestId, StatementDigest};
use countersign_bot::config::Settings;
use countersign_bot::{Bot, clock, keygen};
use hmac::{Hmac, Mac as _};
use lambda_http::Service as _;
use serde_json::{Value, json};
use sha2::Sha256;

pub(crate) const SECRET: &str = "signing-secret";
pub(crate) const TEAM: &str = "T0BANK";
pub(crate) const APP: &str = "A0SIGN";

pub(crate) const POLICY: &str = r#"
version = 1

[[reviewers]]
person = "dana"
email = "dana@bank.example"
slack = "T0BANK/U0DANA"
subjects = ["https://issuer.example|dana-sso"]
groups = ["dba"]

[[reviewers]]
person = "erin"
email = "erin@bank.example"
slack = "T0BANK/U0ERIN"
groups = ["dba"]

[[reviewers]]
person = "olaf"
email = "olaf@bank.example"
slack = "T0BANK/U0OLAF"
groups = ["oncall"]

[[reviewers]]
person = "nia"
email = "nia@bank.example"
groups = ["dba"]

[[reviewers]]
person = "gus"
email = "gus@bank.example"
slack = "T0BANK/U0GUEST"
groups = ["dba"]

[[rules]]
name = "writes"
what = { kinds = ["write"] }
action = "hold"
hold = { reviewers = ["dba"], quorum = 1, expiry = "15m", reason = "writes from CI" }

[[rules]]
name = "routed"
what = { kinds = ["ddl"] }
action = "hold"
[rules.hold]
reviewers = ["dba"]
quorum = 2
expiry = "15m"
channel = "C0LEDGER"
mention = "S0DBA"
remind = "5m"
escalate = { after = "3m", mention = "S0CHIEFS" }
"#;

/// What the stand-in was told: method and body.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) calls: Vec<(String, Value)>,
    pub(crate) refuse_with: Option<&'static str>,
    pub(crate) rate_limit_once: bool,
    /// What `users.info` says of a user beside what it says of everybody.
    pub(crate) users: std::collections::HashMap<&'static str, Value>,
    /// Members of user groups, or why Slack does not say.
    pub(crate) usergroups: std::collections::HashMap<&'static str, Result<Vec<&'static str>, &'static str>>,
    /// Slack says who somebody is only once this is closed.
    pub(crate) gate: Option<Arc<tokio::sync::Semaphore>>,
}

impl Told {
    pub(crate) fn of(&self, method: &str) -> Vec<Value> {
        self.calls.iter().filter(|(known, _)| known == method).map(|(_, body)| body.clone()).collect()
    }
}

pub(crate) struct World {
    pub(crate) bot: Bot,
    pub(crate) told: Arc<Mutex<Told>>,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) url: String,
    pub(crate) public_key: PathBuf,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let told = Arc::new(Mutex::new(Told::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let slack = Router::new().route("/api/{method}", post(call).get(call)).route("/response", post(respond)).with_state(told.clone());
        tokio::spawn(async move { axum::serve(listener, slack).await.unwrap() });
        let (private, public_key) = keygen::keygen(&folder.path().join("keys")).unwrap();
        let policy = folder.path().join("policy.toml");
        std::fs::write(&policy, POLICY).unwrap();
        let store = folder.path().join("approvals");
        let settings = Settings::from(|name| {
            Some(match name {
                "COUNTERSIGN_ENVIRONMENT" => "test".to_owned(),
                "COUNTERSIGN_STORE" => format!("directory:{}", store.display()),
                "COUNTERSIGN_SIGNER" => format!("file:{}", private.display()),
                "COUNTERSIGN_POLICY" => format!("file:{}", policy.display()),
                "SLACK_API_URL" => format!("{url}/api"),
                "SLACK_BOT_TOKEN" => "xoxb-test".to_owned(),
                "SLACK_SIGNING_SECRET" => SECRET.to_owned(),
                "SLACK_TEAM_ID" => TEAM.to_owned(),
                "SLACK_APP_ID" => APP.to_owned(),
                "SLACK_CHANNEL" => "C0APPROVE".to_owned(),
                "COUNTERSIGN_RECORDINGS" => format!("directory:{}", folder.path().join("recordings").display()),
                "COUNTERSIGN_PUBLIC_URL" => "http://bot.example".to_owned(),
                _ => return None,
            })
        })
        .unwrap();
        let bot = settings.open().await.unwrap();
        Self { bot, told, folder, url, public_key }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("approvals")
    }

    /// Lays a request into the store as the proxy does.
    pub(crate) fn lay(&self, request: &Request) {
        let folder = self.store().join(request.id.as_str());
        std::fs::create_dir_all(folder.join("decisions")).unwrap();
        std::fs::create_dir_all(folder.join("voters")).unwrap();
        std::fs::write(folder.join("request.json"), request.to_bytes().unwrap()).unwrap();
    }

    pub(crate) fn calls(&self, method: &str) -> Vec<Value> {
        self.told.lock().unwrap().of(method)
    }

    /// What the last presser was told.
    pub(crate) fn last_answer(&self) -> String {
        self.told
            .lock()
            .unwrap()
            .calls
            .iter()
            .rev()
            .find(|(method, _)| method == "response")
            .map(|(_, body)| body["text"].as_str().unwrap().to_owned())
            .unwrap_or_default()
    }

    pub(crate) fn payload(&self, user: &str, action: &str, value: &str) -> Value {
        json!({
            "type": "block_actions",
            "api_app_id": APP,
            "team": {"id": TEAM, "domain": "bank"},
            "user": {"id": user, "username": "someone", "name": "someone", "team_id": TEAM},
            "trigger_id": "1.2.trigger",
            "response_url": format!("{}/response", self.url),
            "channel": {"id": "C0APPROVE", "name": "approvals"},
            "actions": [{"type": "button", "action_id": action, "block_id": "b", "value": value, "action_ts": format!("{}", uuid())}],
        })
    }

    /// Presses a button as Slack reports it.
    pub(crate) async fn press(&self, user: &str, action: &str, value: &str) -> String {
        let (status, _) = self.send(&self.payload(user, action, value)).await;
        assert_eq!(status, StatusCode::OK);
        self.last_answer()
    }

    /// Sends a payload, signed now.
    pub(crate) async fn send(&self, payload: &Value) -> (StatusCode, String) {
        let body = form(payload);
        let time = clock::now().to_string();
        self.raw(&body, &time, &sign(SECRET, &time, &body)).await
    }

    /// Sends raw bytes with these headers.
    pub(crate) async fn raw(&self, body: &str, time: &str, signature: &str) -> (StatusCode, String) {
        let request = HttpRequest::post("/slack/interactions")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-slack-request-timestamp", time)
            .header("x-slack-signature", signature)
            .body(Body::from(body.to_owned()))
            .unwrap();
        self.call(request).await
    }

    pub(crate) async fn call(&self, request: HttpRequest<Body>) -> (StatusCode, String) {
        let response = countersign_bot::router::router(self.bot.clone()).call(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

fn uuid() -> String {
    RequestId::from_bytes(rand_bytes()).to_string()
}

fn rand_bytes() -> [u8; 16] {
    use std::hash::{BuildHasher as _, Hasher as _};
    let half = || std::collections::hash_map::RandomState::new().build_hasher().finish().to_be_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&half());
    bytes[8..].copy_from_slice(&half());
    bytes
}

pub(crate) fn form(payload: &Value) -> String {
    let encoded: String = payload.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("payload={encoded}")
}

pub(crate) fn sign(secret: &str, time: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("v0:{time}:{body}").as_bytes());
    format!("v0={}", hex::encode(mac.finalize().into_bytes()))
}

/// A request by CI for the policy above.
pub(crate) fn request(statement: &str, quorum: u32) -> Request {
    let now = clock::now();
    let mut request = Request {
        version: 1,
        id: RequestId::from_bytes(rand_bytes()),
        environment: "test".to_owned(),
        created_at: now,
        expires_at: now + 900,
        statement: statement.to_owned(),
        parameters: vec![RequestParameter::new(23, 1, Some(&[0, 0, 0, 42]))],
        digest: StatementDigest::compute(b"", [].into_iter()),
        requester: Requester {
            issuer: "https://issuer.example".to_owned(),
            subject: "repo:bank/ledger".to_owned(),
            email: Some("robin@bank.example".to_owned()),
            groups: vec!["ci".to_owned()],
            claims: std::collections::BTreeMap::from([("repository".to_owned(), "bank/ledger".to_owned())]),
        },
        database: "bank".to_owned(),
        policy: countersign_policy::Policy::parse(POLICY).unwrap().digest().to_hex(),
        rule: "writes".to_owned(),
        reason: "writes from CI".to_owned(),
        reviewers: vec!["dba".to_owned()],
        quorum,
        runs: 1,
        step_up: false,
        facts: vec![("kind".to_owned(), "write".to_owned())],
        session: "0190f3c2-7b1e-7000-8000-000000000001".to_owned(),
        sources: Vec::new(),
    };
    request.digest = request.compute_digest().unwrap();
    request
}

/// The value of a card's button, by action id.
pub(crate) fn button(message: &Value, action: &str) -> Option<String> {
    let blocks = message["blocks"].as_array().unwrap();
    let elements = blocks.iter().filter(|block| block["type"] == "actions").flat_map(|block| block["elements"].as_array().unwrap());
    elements.filter(|element| element["action_id"] == action).map(|element| element["value"].as_str().unwrap().to_owned()).next()
}

async fn respond(State(told): State<Arc<Mutex<Told>>>, axum::Json(body): axum::Json<Value>) -> &'static str {
    told.lock().unwrap().calls.push(("response".to_owned(), body));
    "ok"
}

async fn call(
    State(told): State<Arc<Mutex<Told>>>,
    UrlPath(method): UrlPath<String>,
    Query(query): Query<std::collections::HashMap<String, String>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let refuse = |code: &str| axum::Json(json!({"ok": false, "error": code})).into_response();
    if headers.get("authorization").is_none_or(|given| given != "Bearer xoxb-test") {
        return refuse("invalid_auth");
    }
    let gate = if method == "users.info" { told.lock().unwrap().gate.clone() } else { None };
    if let Some(gate) = gate {
        let _closed = gate.acquire().await;
    }
    let mut told = told.lock().unwrap();
    if std::mem::take(&mut told.rate_limit_once) {
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")], axum::Json(json!({"ok": false, "error": "ratelimited"})))
            .into_response();
    }
    if let Some(code) = told.refuse_with {
        return refuse(code);
    }
    if method == "users.info" {
        let user = query["user"].clone();
        let guest = user == "U0GUEST";
        let team = if user == "U0FOREIGN" { "T0EVIL" } else { TEAM };
        let profile = if matches!(user.as_str(), "U0NIA" | "U0FOREIGN") { json!({"email": "Nia@bank.example"}) } else { json!({}) };
        let mut info = json!({"id": user, "team_id": team, "is_restricted": guest, "is_bot": false, "profile": profile});
        if let Some(Value::Object(more)) = told.users.get(user.as_str()) {
            info.as_object_mut().unwrap().extend(more.clone());
        }
        return axum::Json(json!({"ok": true, "user": info})).into_response();
    }
    if method == "usergroups.users.list" {
        let group = query["usergroup"].clone();
        told.calls.push((method, json!({"usergroup": group})));
        return match told.usergroups.get(group.as_str()) {
            Some(Ok(members)) => axum::Json(json!({"ok": true, "users": members})).into_response(),
            Some(Err(code)) => refuse(code),
            None => refuse("no_such_subteam"),
        };
    }
    let body: Value = serde_json::from_str(&body).unwrap();
    let blocks = body.get("blocks").or_else(|| body.pointer("/view/blocks")).and_then(Value::as_array).cloned().unwrap_or_default();
    if let Err(code) = check_blocks(&blocks) {
        return refuse(code);
    }
    told.calls.push((method.clone(), body));
    let number = told.calls.len();
    axum::Json(match method.as_str() {
        "chat.postMessage" => {
            json!({"ok": true, "channel": told.calls[number - 1].1["channel"], "ts": format!("17.{number:06}"), "message": {}})
        }
        _ => json!({"ok": true}),
    })
    .into_response()
}

/// Slack's documented limits on blocks.
fn check_blocks(blocks: &[Value]) -> Result<(), &'static str> {
    let length = |text: &Value| text["text"].as_str().map_or(0, |text| text.encode_utf16().count());
    if blocks.len() > 50 {
        return Err("invalid_blocks");
    }
    if Value::from(blocks.to_vec()).to_string().chars().count() > 40_000 {
        return Err("msg_blocks_too_long");
    }
    for block in blocks {
        let fits = match block["type"].as_str().unwrap() {
            "header" => (1..=150).contains(&length(&block["text"])),
            "section" => (1..=3_000).contains(&length(&block["text"])),
            "context" => block["elements"].as_array().unwrap().iter().all(|text| (1..=2_000).contains(&length(text))),
            "divider" => true,
            "actions" => block["elements"].as_array().unwrap().iter().all(|button| {
                length(&button["text"]) <= 75
                    && button["value"].as_str().unwrap().len() <= 2_000
                    && button["action_id"].as_str().unwrap().len() <= 255
            }),
            "rich_text" => block["elements"].as_array().unwrap().iter().all(|part| {
                part["elements"].as_array().unwrap().iter().all(|text| text["type"] == "text" && (1..=3_000).contains(&length(text)))
            }),
            "input" => true,
            _ => false,
        };
        if !fits {
            return Err("invalid_blocks");
        }
    }
    Ok(())
}
