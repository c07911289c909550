//! Presses: from a person's click, or an HTTP call, to a callback signed as Slack signs it, and back.
//!
//! <https://docs.slack.dev/authentication/verifying-requests-from-slack>, <https://docs.slack.dev/reference/interaction-payloads>

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::blocks::{self, list, text_of};
use super::{APP, Card, Modal, Shared, TEAM, Trigger, api, now_seconds};

/// One press of a button.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Press {
    /// Id of the approval request, or `latest`.
    pub request: String,
    /// `approve`, `deny`, or the action id of another button.
    pub action: String,
    /// Who presses: `U…`.
    pub user: String,
    /// What goes into the modal that the button opens.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What came of a press.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PressOutcome {
    /// The bot took the press; whether it counted is the card's and the client's to say.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// HTTP status of the bot's last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The request decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// How long the bot took to acknowledge, in milliseconds; Slack shows people a warning after 3,000.
    pub took_ms: u64,
}

/// How a callback is signed.
#[derive(Debug, Clone, Default)]
pub struct Signing {
    /// Another secret than the right one.
    pub secret: Option<String>,
    /// Seconds the timestamp is off.
    pub age_seconds: i64,
    /// The signature header as it stands, right or not; empty: no header at all.
    pub header: Option<String>,
}

/// `v0=` and the HMAC-SHA256 of `v0:timestamp:body`.
pub(super) fn sign(secret: &str, timestamp: i64, body: &str) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).context("bad secret")?;
    mac.update(format!("v0:{timestamp}:{body}").as_bytes());
    Ok(format!("v0={}", hex::encode(mac.finalize().into_bytes())))
}

/// Posts a payload to the bot.
pub(super) async fn send(shared: &Shared, payload: &Value, signing: &Signing) -> Result<(u16, String)> {
    let ((url, http), shift) = {
        let inner = shared.lock();
        (inner.interactions.clone().context("the bot's interactivity URL is not set")?, inner.shift_seconds)
    };
    let form = reqwest::Url::parse_with_params("http://form/", [("payload", payload.to_string())])?;
    // As Slack does, and unlike browsers: LocalStack takes forms apart and writes them anew, which must give the same bytes.
    let body = form.query().unwrap_or_default().replace('*', "%2A");
    let timestamp = i64::try_from(now_seconds())? + shift - signing.age_seconds;
    let secret = signing.secret.as_deref().unwrap_or(&shared.secret);
    let mut request = http
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("user-agent", "Slackbot 1.0 (+https://api.slack.com/robots)")
        .header("x-slack-request-timestamp", timestamp.to_string());
    let signature = match &signing.header {
        Some(header) => header.clone(),
        None => sign(secret, timestamp, &body)?,
    };
    if !signature.is_empty() {
        request = request.header("x-slack-signature", signature);
    }
    let answer = request.body(body).send().await.context("the bot is not reachable")?;
    Ok((answer.status().as_u16(), answer.text().await.unwrap_or_default()))
}

pub(super) async fn press(State(shared): State<Shared>, Json(press): Json<Press>) -> (StatusCode, Json<PressOutcome>) {
    let outcome = press_button(&shared, &press).await;
    let status = if outcome.ok { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    (status, Json(outcome))
}

/// The whole of a press: the button and, where the bot opens a modal for it and a reason was given, the modal.
pub(super) async fn press_button(shared: &Shared, press: &Press) -> PressOutcome {
    let started = Instant::now();
    let mut outcome = PressOutcome { ok: false, error: None, status: None, request: None, took_ms: 0 };
    let (payload, card) = match payload_of(shared, press) {
        Ok(found) => found,
        Err(error) => {
            outcome.error = Some(error);
            return outcome;
        }
    };
    outcome.request = card.request;
    let trigger = text_of(&payload, "trigger_id").unwrap_or_default().to_owned();
    match send(shared, &payload, &Signing::default()).await {
        Ok((status, _)) => outcome.status = Some(status),
        Err(error) => outcome.error = Some(format!("{error:#}")),
    }
    outcome.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match outcome.status {
        Some(status) if (200..300).contains(&status) => outcome.ok = true,
        Some(status) => outcome.error = Some(format!("the bot answered {status}")),
        None => {}
    }
    if outcome.ok
        && let Some(reason) = &press.reason
    {
        match wait_for_modal(shared, &press.user, &trigger).await {
            Some(view) => match submit(shared, &view, &press.user, reason).await {
                Ok(status) => outcome.status = Some(status),
                Err(error) => {
                    outcome.ok = false;
                    outcome.error = Some(error);
                }
            },
            None => {
                outcome.ok = false;
                outcome.error = Some("the bot opened no modal to ask for the reason".to_owned());
            }
        }
    }
    outcome
}

/// The `block_actions` payload of a press, with a fresh trigger.
pub(super) fn payload_of(shared: &Shared, press: &Press) -> Result<(Value, Card), String> {
    let user = shared.user(&press.user).ok_or_else(|| format!("no user {} in this workspace", press.user))?;
    let mut inner = shared.lock();
    let matches = |card: &&Card| {
        card.buttons.iter().any(|button| button.action.as_deref() == Some(press.action.as_str()))
            && (press.request == "latest" || card.request.as_deref() == Some(press.request.as_str()))
    };
    let card = inner
        .cards
        .iter()
        .rev()
        .find(matches)
        .cloned()
        .ok_or_else(|| format!("no card of request {} has a button to {}", press.request, press.action))?;
    let button = card.buttons.iter().find(|button| button.action.as_deref() == Some(press.action.as_str())).ok_or("the button is gone")?;
    inner.serial += 1;
    let trigger = format!("{}.{}.look", now_seconds(), inner.serial);
    inner.triggers.insert(trigger.clone(), Trigger { user: user.id.clone(), made: Instant::now(), used: false });
    let response = uuid::Uuid::new_v4().to_string();
    inner.responses.insert(response.clone(), card.ts.clone());
    let action_ts = inner.next_ts();
    drop(inner);
    let mut action = json!({
        "action_id": button.action_id, "block_id": button.block_id, "type": "button", "value": button.value,
        "text": {"type": "plain_text", "text": button.text, "emoji": true}, "action_ts": action_ts,
    });
    if let (Some(style), Some(fields)) = (&button.style, action.as_object_mut()) {
        fields.insert("style".to_owned(), json!(style));
    }
    let payload = json!({
        "type": "block_actions",
        "user": {"id": user.id, "username": user.name, "name": user.name, "team_id": TEAM},
        "api_app_id": APP,
        "token": "deprecated",
        "container": {"type": "message", "message_ts": card.ts, "channel_id": card.channel, "is_ephemeral": false},
        "trigger_id": trigger,
        "team": {"id": TEAM, "domain": "bank"},
        "enterprise": null,
        "is_enterprise_install": false,
        "channel": {"id": card.channel, "name": "approvals"},
        "message": api::message_object(&card),
        "state": {"values": {}},
        "response_url": format!("{}/respond/{response}", shared.url),
        "actions": [action],
    });
    Ok((payload, card))
}

async fn wait_for_modal(shared: &Shared, user: &str, trigger: &str) -> Option<Value> {
    let end = Instant::now() + Duration::from_secs(15);
    while Instant::now() < end {
        {
            let inner = shared.lock();
            let used = inner.triggers.get(trigger).is_some_and(|trigger| trigger.used);
            if let Some(modal) = inner.modals.iter().find(|modal| used && modal.user == user) {
                return Some(modal.view.clone());
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    None
}

/// Submits a modal with `reason` in its text input.
async fn submit(shared: &Shared, view: &Value, user: &str, reason: &str) -> Result<u16, String> {
    let person = shared.user(user).ok_or("no such user")?;
    let mut values = Map::new();
    for block in list(view, "blocks") {
        let Some(element) = block.get("element").filter(|element| text_of(element, "type") == Some("plain_text_input")) else {
            continue;
        };
        let (Some(block_id), Some(action_id)) = (text_of(&block, "block_id"), text_of(element, "action_id")) else { continue };
        values.insert(block_id.to_owned(), json!({action_id: {"type": "plain_text_input", "value": reason}}));
    }
    let mut view = view.clone();
    if let Some(fields) = view.as_object_mut() {
        fields.insert("state".to_owned(), json!({"values": values}));
    }
    let payload = json!({
        "type": "view_submission",
        "team": {"id": TEAM, "domain": "bank"},
        "user": {"id": person.id, "username": person.name, "name": person.name, "team_id": TEAM},
        "api_app_id": APP,
        "token": "deprecated",
        "trigger_id": format!("{}.submit.look", now_seconds()),
        "view": view,
        "response_urls": [],
        "is_enterprise_install": false,
        "enterprise": null,
    });
    let (status, body) = send(shared, &payload, &Signing::default()).await.map_err(|error| format!("{error:#}"))?;
    if !(200..300).contains(&status) {
        return Err(format!("the bot answered {status} to the modal"));
    }
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    if text_of(&answer, "response_action") == Some("errors") {
        return Err(format!("the bot refused the modal: {}", answer.get("errors").unwrap_or(&Value::Null)));
    }
    let id = text_of(&view, "id").unwrap_or_default().to_owned();
    shared.lock().modals.retain(|modal: &Modal| modal.id != id);
    Ok(status)
}

/// The page's own form of an open modal.
#[derive(Debug, Deserialize)]
pub(super) struct ModalForm {
    view: String,
    user: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    close: bool,
}

pub(super) async fn submit_modal(State(shared): State<Shared>, Json(form): Json<ModalForm>) -> (StatusCode, Json<Value>) {
    let view = shared.lock().modals.iter().find(|modal| modal.id == form.view && modal.user == form.user).map(|modal| modal.view.clone());
    let Some(view) = view else {
        return (StatusCode::NOT_FOUND, Json(json!({"ok": false, "error": "no such modal"})));
    };
    if form.close {
        shared.lock().modals.retain(|modal| modal.id != form.view);
        return (StatusCode::OK, Json(json!({"ok": true})));
    }
    match submit(&shared, &view, &form.user, &form.reason).await {
        Ok(_) => (StatusCode::OK, Json(json!({"ok": true}))),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"ok": false, "error": error}))),
    }
}

/// A `response_url`: replaces the message, or answers the presser alone.
pub(super) async fn respond(State(shared): State<Shared>, Path(id): Path<String>, Json(body): Json<Value>) -> StatusCode {
    let mut inner = shared.lock();
    let Some(ts) = inner.responses.get(&id).cloned() else { return StatusCode::NOT_FOUND };
    let text = text_of(&body, "text").unwrap_or_default().to_owned();
    let mut found = list(&body, "blocks");
    let serial = inner.serial;
    blocks::fill_ids(&mut found, serial);
    let replaces = body.get("replace_original").and_then(Value::as_bool).unwrap_or(false);
    let fresh = inner.next_ts();
    let Some(card) = inner.cards.iter_mut().find(|card| card.ts == ts) else { return StatusCode::NOT_FOUND };
    if replaces {
        api::replace(card, text, found);
    } else {
        let note = Card {
            channel: card.channel.clone(),
            ts: fresh,
            plain: format!("{text}\n{}", blocks::plain(&Value::Array(found.clone()))),
            text,
            blocks: found,
            metadata: None,
            thread_ts: Some(ts),
            ephemeral_for: Some("presser".to_owned()),
            updates: 0,
            request: None,
            buttons: Vec::new(),
        };
        inner.cards.push(note);
    }
    StatusCode::OK
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Slack's own page on verifying requests.
    #[test]
    fn signs_as_slack_documents_it() -> Result<()> {
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        assert_eq!(
            sign("8f742231b10e8888abcd99yyyzzz85a5", 1_531_420_618, body)?,
            "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
        );
        Ok(())
    }
}
