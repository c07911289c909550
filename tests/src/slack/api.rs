//! The Web API: `POST /api/<method>` with JSON or a form, `GET` with a query.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::blocks::{self, Surface, text_of};
use super::{APP, BOT_USER, CHANNEL, Card, FaultKind, Modal, Shared, TEAM, User};

type Arguments = Map<String, Value>;

pub(super) async fn call(
    State(shared): State<Shared>,
    Path(method): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    shared.lock().calls.push(method.clone());
    match take_fault(&shared, &method) {
        Some(FaultKind::RateLimited(seconds)) => {
            let answer = Json(json!({"ok": false, "error": "ratelimited"}));
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds.to_string())], answer).into_response();
        }
        Some(FaultKind::Error(error)) => return Json(json!({"ok": false, "error": error})).into_response(),
        Some(FaultKind::Status(status)) => {
            return StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY).into_response();
        }
        Some(FaultKind::Slow(delay)) => tokio::time::sleep(delay).await,
        None => {}
    }
    let arguments = match arguments(query.as_deref(), &headers, &body) {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&shared, &method, error, Vec::new()),
    };
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|text| text.strip_prefix("Bearer "));
    match bearer.or_else(|| arguments.get("token").and_then(Value::as_str)) {
        None => return refuse(&shared, &method, "not_authed", Vec::new()),
        Some(token) if token != shared.token => return refuse(&shared, &method, "invalid_auth", Vec::new()),
        Some(_) => {}
    }
    if let Some(needed) = missing_scope(&shared, &method) {
        let provided = shared.lock().scopes.join(",");
        shared.lock().refusals.push(format!("{method}: missing_scope, needed {needed}"));
        return Json(json!({"ok": false, "error": "missing_scope", "needed": needed, "provided": provided})).into_response();
    }
    match dispatch(&shared, &method, &Value::Object(arguments)) {
        Ok(mut answer) => {
            if let Some(answer) = answer.as_object_mut() {
                answer.insert("ok".to_owned(), Value::Bool(true));
            }
            Json(answer).into_response()
        }
        Err(Refusal { error, messages }) => refuse(&shared, &method, error, messages),
    }
}

/// The scope a method needs that the token does not have.
fn missing_scope(shared: &Shared, method: &str) -> Option<&'static str> {
    let needed = match method {
        "chat.postMessage" | "chat.postEphemeral" | "chat.update" | "chat.delete" => "chat:write",
        "users.info" => "users:read",
        "users.lookupByEmail" => "users:read.email",
        "usergroups.list" | "usergroups.users.list" => "usergroups:read",
        _ => return None,
    };
    (!shared.lock().scopes.iter().any(|scope| scope == needed)).then_some(needed)
}

struct Refusal {
    error: &'static str,
    messages: Vec<String>,
}

impl From<&'static str> for Refusal {
    fn from(error: &'static str) -> Self {
        Self { error, messages: Vec::new() }
    }
}

fn refuse(shared: &Shared, method: &str, error: &str, messages: Vec<String>) -> Response {
    shared.lock().refusals.push(format!("{method}: {error} {messages:?}"));
    Json(json!({"ok": false, "error": error, "errors": messages, "response_metadata": {"messages": messages}})).into_response()
}

fn take_fault(shared: &Shared, method: &str) -> Option<FaultKind> {
    let mut inner = shared.lock();
    let fault = inner.faults.iter_mut().find(|fault| fault.times > 0 && (fault.method == "*" || fault.method == method))?;
    fault.times -= 1;
    Some(fault.kind.clone())
}

fn arguments(query: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Result<Arguments, &'static str> {
    let mut arguments = Arguments::new();
    form_into(query.unwrap_or_default(), &mut arguments);
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        if !body.is_empty() {
            match serde_json::from_slice(body) {
                Ok(Value::Object(fields)) => arguments.extend(fields),
                Ok(_) => return Err("json_not_object"),
                Err(_) => return Err("invalid_json"),
            }
        }
    } else if let Ok(text) = std::str::from_utf8(body) {
        form_into(text, &mut arguments);
    } else {
        return Err("invalid_form_data");
    }
    Ok(arguments)
}

/// Reads a form; values of the fields that carry JSON are parsed.
fn form_into(text: &str, arguments: &mut Arguments) {
    for (name, value) in parse_form(text) {
        let structured = matches!(name.as_str(), "blocks" | "view" | "metadata" | "attachments");
        let value = match structured.then(|| serde_json::from_str(&value)) {
            Some(Ok(parsed)) => parsed,
            _ => Value::String(value),
        };
        arguments.insert(name, value);
    }
}

/// `application/x-www-form-urlencoded`, by the URL crate's own parser.
fn parse_form(text: &str) -> Vec<(String, String)> {
    reqwest::Url::parse(&format!("http://form/?{text}"))
        .map(|url| url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
        .unwrap_or_default()
}

fn dispatch(shared: &Shared, method: &str, arguments: &Value) -> Result<Value, Refusal> {
    let argument = |name: &str| text_of(arguments, name).filter(|text| !text.is_empty());
    match method {
        "auth.test" => Ok(json!({
            "url": "https://bank.slack.example/", "team": "The Bank", "user": "countersign",
            "team_id": TEAM, "user_id": BOT_USER, "bot_id": "B0COUNTERSIGN", "app_id": APP, "is_enterprise_install": false,
        })),
        "api.test" => Ok(json!({})),
        "chat.postMessage" => post_message(shared, arguments, None),
        "chat.postEphemeral" => {
            let user = argument("user").ok_or("user_not_in_channel")?;
            shared.user(user).ok_or("user_not_in_channel")?;
            post_message(shared, arguments, Some(user)).map(|answer| json!({"message_ts": answer.get("ts")}))
        }
        "chat.update" => update_message(shared, arguments),
        "chat.delete" => {
            let ts = argument("ts").ok_or("message_not_found")?;
            let mut inner = shared.lock();
            let before = inner.cards.len();
            inner.cards.retain(|card| card.ts != ts);
            if inner.cards.len() == before { Err("message_not_found".into()) } else { Ok(json!({"ts": ts})) }
        }
        "chat.getPermalink" => {
            let ts = argument("message_ts").ok_or("message_not_found")?;
            Ok(json!({"channel": CHANNEL, "permalink": format!("{}/#{ts}", shared.url)}))
        }
        "views.open" => open_view(shared, arguments),
        "users.info" => {
            let user = shared.user(argument("user").ok_or("user_not_found")?).ok_or("user_not_found")?;
            Ok(json!({"user": user_object(shared, user)}))
        }
        "usergroups.users.list" => {
            let id = argument("usergroup").ok_or("invalid_arguments")?;
            let with_disabled = matches!(argument("include_disabled"), Some("true" | "1"));
            let inner = shared.lock();
            let group =
                inner.usergroups.iter().find(|group| group.id == id && (with_disabled || !group.disabled)).ok_or("no_such_subteam")?;
            Ok(json!({"users": group.users}))
        }
        "users.lookupByEmail" => {
            let email = argument("email").ok_or("users_not_found")?;
            let user = shared.users.iter().find(|user| user.email.eq_ignore_ascii_case(email)).ok_or("users_not_found")?;
            Ok(json!({"user": user_object(shared, user)}))
        }
        "conversations.open" => {
            let users = argument("users").ok_or("no_users")?;
            Ok(json!({"channel": {"id": format!("D{}", users.replace(',', ""))}}))
        }
        "conversations.info" => Ok(json!({"channel": {"id": CHANNEL, "name": "approvals", "is_channel": true, "is_archived": false}})),
        _ => Err("unknown_method".into()),
    }
}

fn user_object(shared: &Shared, user: &User) -> Value {
    let mut object = json!({
        "id": user.id, "team_id": TEAM, "name": user.name, "real_name": user.real_name, "deleted": false,
        "is_admin": false, "is_owner": false, "is_primary_owner": false, "is_bot": user.bot, "is_app_user": false,
        "is_restricted": user.guest, "is_ultra_restricted": false, "tz": "Etc/UTC", "tz_label": "UTC", "tz_offset": 0, "updated": 1_760_000_000,
        "is_email_confirmed": true, "profile": {"real_name": user.real_name, "display_name": user.name, "team": TEAM},
    });
    // Profiles have the address only for those with the scope; bots have none.
    if shared.lock().scopes.iter().any(|scope| scope == "users:read.email")
        && !user.bot
        && let Some(profile) = object.get_mut("profile").and_then(Value::as_object_mut)
    {
        profile.insert("email".to_owned(), json!(user.email));
    }
    object
}

/// Checks what both posting and updating take: text, blocks.
fn content(shared: &Shared, arguments: &Value) -> Result<(String, Vec<Value>), Refusal> {
    let text = text_of(arguments, "text").unwrap_or_default().to_owned();
    let mut found = match arguments.get("blocks") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(blocks)) => blocks.clone(),
        Some(_) => return Err("invalid_blocks_format".into()),
    };
    if text.is_empty() && found.is_empty() {
        return Err("no_text".into());
    }
    if text.chars().count() > 40_000 {
        return Err("msg_too_long".into());
    }
    let problems = blocks::problems(&found, Surface::Message);
    if !problems.is_empty() {
        return Err(Refusal { error: "invalid_blocks", messages: problems });
    }
    let serial = shared.lock().serial;
    blocks::fill_ids(&mut found, serial);
    Ok((text, found))
}

fn post_message(shared: &Shared, arguments: &Value, ephemeral_for: Option<&str>) -> Result<Value, Refusal> {
    let channel = text_of(arguments, "channel").filter(|text| !text.is_empty()).ok_or("channel_not_found")?;
    if channel != CHANNEL && !channel.starts_with('D') && shared.user(channel).is_none() {
        return Err("channel_not_found".into());
    }
    let (text, blocks) = content(shared, arguments)?;
    let mut inner = shared.lock();
    let ts = inner.next_ts();
    let mut card = Card {
        channel: channel.to_owned(),
        ts: ts.clone(),
        text,
        blocks,
        metadata: arguments.get("metadata").cloned(),
        thread_ts: text_of(arguments, "thread_ts").map(ToOwned::to_owned),
        ephemeral_for: ephemeral_for.map(ToOwned::to_owned),
        updates: 0,
        request: None,
        buttons: Vec::new(),
        plain: String::new(),
    };
    read_off(&mut card);
    let message = message_object(&card);
    inner.cards.push(card);
    Ok(json!({"channel": channel, "ts": ts, "message": message}))
}

fn update_message(shared: &Shared, arguments: &Value) -> Result<Value, Refusal> {
    let ts = text_of(arguments, "ts").ok_or("message_not_found")?.to_owned();
    let (text, blocks) = content(shared, arguments)?;
    let mut inner = shared.lock();
    let card = inner.cards.iter_mut().find(|card| card.ts == ts).ok_or("message_not_found")?;
    if text_of(arguments, "channel") != Some(card.channel.as_str()) {
        return Err("channel_not_found".into());
    }
    if card.ephemeral_for.is_some() {
        return Err("cant_update_message".into());
    }
    replace(card, text, blocks);
    Ok(json!({"channel": card.channel, "ts": ts, "text": card.text, "message": message_object(card)}))
}

/// Changes what a message says; used by `chat.update` and by `response_url`.
pub(super) fn replace(card: &mut Card, text: String, blocks: Vec<Value>) {
    card.text = text;
    card.blocks = blocks;
    card.updates += 1;
    read_off(card);
}

fn read_off(card: &mut Card) {
    card.buttons = blocks::buttons(&card.blocks);
    card.plain = format!("{}\n{}", card.text, blocks::plain(&Value::Array(card.blocks.clone())));
    let named = card.buttons.iter().find_map(|button| blocks::first_uuid(&button.value));
    let noted = || card.metadata.as_ref().and_then(|metadata| blocks::first_uuid(&metadata.to_string()));
    // An updated card has no buttons any more; it stays the card of its request.
    card.request = named.or_else(noted).or_else(|| card.request.clone()).or_else(|| blocks::first_uuid(&card.plain));
}

/// A message as Slack shows it to apps.
pub(super) fn message_object(card: &Card) -> Value {
    let mut message = json!({
        "type": "message", "user": BOT_USER, "bot_id": "B0COUNTERSIGN", "app_id": APP, "team": TEAM,
        "text": card.text, "ts": card.ts, "blocks": card.blocks,
    });
    if let (Some(metadata), Some(fields)) = (&card.metadata, message.as_object_mut()) {
        fields.insert("metadata".to_owned(), metadata.clone());
    }
    message
}

fn open_view(shared: &Shared, arguments: &Value) -> Result<Value, Refusal> {
    let mut inner = shared.lock();
    let trigger = text_of(arguments, "trigger_id").and_then(|id| inner.triggers.get_mut(id)).ok_or("invalid_trigger_id")?;
    if trigger.used {
        return Err("exchanged_trigger_id".into());
    }
    // Slack gives three seconds; a busy test machine gets more.
    if trigger.made.elapsed().as_secs() > 20 {
        return Err("expired_trigger_id".into());
    }
    let user = trigger.user.clone();
    let mut view = match arguments.get("view") {
        Some(Value::String(text)) => serde_json::from_str(text).map_err(|_| "invalid_arguments")?,
        Some(view) => view.clone(),
        None => return Err("invalid_arguments".into()),
    };
    let problems = blocks::view_problems(&view);
    if !problems.is_empty() {
        return Err(Refusal { error: "invalid_arguments", messages: problems });
    }
    trigger.used = true;
    inner.serial += 1;
    let serial = inner.serial;
    let id = format!("V{serial:08}");
    if let Some(fields) = view.as_object_mut() {
        if let Some(Value::Array(found)) = fields.get_mut("blocks") {
            blocks::fill_ids(found, serial);
        }
        fields.insert("id".to_owned(), json!(id));
        fields.insert("team_id".to_owned(), json!(TEAM));
        fields.insert("app_id".to_owned(), json!(APP));
        fields.insert("app_installed_team_id".to_owned(), json!(TEAM));
        fields.insert("bot_id".to_owned(), json!("B0COUNTERSIGN"));
        fields.insert("root_view_id".to_owned(), json!(id));
        fields.insert("previous_view_id".to_owned(), Value::Null);
        fields.insert("hash".to_owned(), json!(format!("{serial}.look")));
        fields.insert("state".to_owned(), json!({"values": {}}));
        for (name, default) in [
            ("private_metadata", json!("")),
            ("callback_id", json!("")),
            ("external_id", json!("")),
            ("clear_on_close", json!(false)),
            ("notify_on_close", json!(false)),
        ] {
            fields.entry(name).or_insert(default);
        }
    }
    inner.modals.retain(|modal| modal.user != user);
    inner.modals.push(Modal { id, user, view: view.clone() });
    Ok(json!({"view": view}))
}
