//! The look-alike against a small bot of its own.

use anyhow::{Context as _, Result, ensure};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::{Value, json};

use super::*;

mod cards;

#[derive(Clone)]
struct Bot {
    api: String,
    token: String,
    seen: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
}

impl Bot {
    async fn call(&self, method: &str, body: &Value) -> Result<Value> {
        let request = reqwest::Client::new().post(format!("{}/{method}", self.api)).bearer_auth(&self.token).json(body);
        Ok(request.send().await?.json().await?)
    }
}

/// Opens a modal at Deny, takes everything else.
async fn interactions(State(bot): State<Bot>, headers: HeaderMap, body: Bytes) -> Json<Value> {
    let text = String::from_utf8_lossy(&body).into_owned();
    let payload = reqwest::Url::parse(&format!("http://form/?{text}"))
        .ok()
        .and_then(|url| {
            url.query_pairs().find(|(name, _)| name == "payload").and_then(|(_, value)| serde_json::from_str::<Value>(&value).ok())
        })
        .unwrap_or_default();
    bot.seen.lock().unwrap_or_else(PoisonError::into_inner).push((headers, payload.clone()));
    let denies = payload.pointer("/actions/0/action_id").and_then(Value::as_str) == Some("countersign_deny");
    if denies {
        let view = json!({"type": "modal", "callback_id": "deny", "title": {"type": "plain_text", "text": "Deny"}, "submit": {"type": "plain_text", "text": "Deny"},
            "blocks": [{"type": "input", "block_id": "why", "label": {"type": "plain_text", "text": "Why?"}, "element": {"type": "plain_text_input", "action_id": "text"}}]});
        let _ = bot.call("views.open", &json!({"trigger_id": payload.get("trigger_id"), "view": view})).await;
    }
    Json(json!({}))
}

async fn with_bot() -> Result<(Slack, Bot, crate::http::Server)> {
    let slack = Slack::start().await?;
    let bot = Bot { api: slack.api_url(), token: slack.token().to_owned(), seen: Arc::default() };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    slack.set_interactions_url(&format!("http://{}/slack/interactions", listener.local_addr()?));
    let router = Router::new().route("/slack/interactions", post(interactions)).with_state(bot.clone());
    Ok((slack, bot, crate::http::Server::spawn(listener, router)))
}

const REQUEST: &str = "0199f3a0-7c1e-7aaa-8bbb-0123456789ab";

fn card() -> Value {
    json!({"channel": CHANNEL, "text": "held", "blocks": [
        {"type": "section", "text": {"type": "mrkdwn", "text": "*ci* wants to run ```delete from accounts```"}},
        {"type": "actions", "elements": [
            {"type": "button", "action_id": "countersign_approve", "style": "primary", "text": {"type": "plain_text", "text": "Approve"}, "value": REQUEST},
            {"type": "button", "action_id": "countersign_deny", "style": "danger", "text": {"type": "plain_text", "text": "Deny"}, "value": REQUEST}]}]})
}

fn press(action: &str, reason: Option<&str>) -> Press {
    Press { request: "latest".to_owned(), action: action.to_owned(), user: "U0DANA".to_owned(), reason: reason.map(ToOwned::to_owned) }
}

#[tokio::test]
async fn tokens_and_limits_are_refused_as_slack_does() -> Result<()> {
    let (slack, bot, _server) = with_bot().await?;
    let error = |answer: Value| answer.get("error").and_then(Value::as_str).unwrap_or("none").to_owned();
    let nobody = reqwest::Client::new().post(format!("{}/auth.test", slack.api_url())).send().await?.json().await?;
    assert_eq!(error(nobody), "not_authed");
    let stranger = Bot { token: "xoxb-wrong".to_owned(), ..bot.clone() };
    assert_eq!(error(stranger.call("auth.test", &json!({})).await?), "invalid_auth");
    assert_eq!(bot.call("auth.test", &json!({})).await?.get("team_id"), Some(&json!(TEAM)));
    let section = json!({"type": "section", "text": {"type": "mrkdwn", "text": "x".repeat(3001)}});
    assert_eq!(
        error(bot.call("chat.postMessage", &json!({"channel": CHANNEL, "text": "x", "blocks": [section]})).await?),
        "invalid_blocks"
    );
    assert_eq!(error(bot.call("chat.postMessage", &json!({"channel": "C0OTHER", "text": "x"})).await?), "channel_not_found");
    assert_eq!(error(bot.call("chat.update", &json!({"channel": CHANNEL, "ts": "1.2", "text": "x"})).await?), "message_not_found");
    assert_eq!(error(bot.call("files.upload", &json!({})).await?), "unknown_method");
    slack.add_fault(Fault { method: "chat.postMessage".to_owned(), times: 1, kind: FaultKind::RateLimited(7) });
    let limited = reqwest::Client::new()
        .post(format!("{}/chat.postMessage", slack.api_url()))
        .bearer_auth(slack.token())
        .json(&card())
        .send()
        .await?;
    assert_eq!((limited.status().as_u16(), limited.headers().get("retry-after").and_then(|value| value.to_str().ok())), (429, Some("7")));
    assert!(slack.cards().is_empty());
    assert_eq!(slack.refusals().len(), 6);
    Ok(())
}

#[tokio::test]
async fn an_approval_is_signed_and_carries_the_button() -> Result<()> {
    let (slack, bot, _server) = with_bot().await?;
    bot.call("chat.postMessage", &card()).await?;
    let outcome: PressOutcome = reqwest::Client::new().post(slack.press_url()).json(&press("approve", None)).send().await?.json().await?;
    assert!(outcome.ok, "{outcome:?}");
    assert_eq!(outcome.request.as_deref(), Some(REQUEST));
    let seen = bot.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (headers, payload) = seen.first().context("the bot saw nothing")?;
    assert!(headers.get("x-slack-signature").and_then(|value| value.to_str().ok()).is_some_and(|text| text.starts_with("v0=")));
    assert_eq!(payload.pointer("/actions/0/value"), Some(&json!(REQUEST)));
    assert_eq!(payload.pointer("/user/id"), Some(&json!("U0DANA")));
    Ok(())
}

#[tokio::test]
async fn a_denial_goes_through_the_modal() -> Result<()> {
    let (slack, bot, _server) = with_bot().await?;
    bot.call("chat.postMessage", &card()).await?;
    let outcome = slack.press(&press("deny", Some("not on a Friday"))).await;
    assert!(outcome.ok, "{outcome:?}");
    let seen = bot.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (_, submitted) = seen.get(1).context("no submission")?;
    assert_eq!(submitted.get("type"), Some(&json!("view_submission")));
    assert_eq!(submitted.pointer("/view/state/values/why/text/value"), Some(&json!("not on a Friday")));
    Ok(())
}

#[tokio::test]
async fn the_page_shows_cards_and_follows_updates() -> Result<()> {
    let (slack, bot, _server) = with_bot().await?;
    let posted = bot.call("chat.postMessage", &card()).await?;
    let page = reqwest::get(slack.page_url()).await?.text().await?;
    assert!(page.contains("Dana Whitfield") && !page.contains("{{users}}"));
    let fragment = |user: &str| {
        let url = format!("{}fragment?user={user}", slack.page_url());
        async move { anyhow::Ok(reqwest::get(url).await?.text().await?) }
    };
    let html = fragment("U0DANA").await?;
    assert!(html.contains("<pre>delete from accounts</pre>") && html.contains("data-action=\"approve\""), "{html}");
    bot.call("chat.update", &json!({"channel": CHANNEL, "ts": posted.get("ts"), "text": "approved by Dana"})).await?;
    let html = fragment("U0DANA").await?;
    assert!(html.contains("approved by Dana") && !html.contains("<button"), "{html}");
    let outcome = slack.press(&press("approve", None)).await;
    assert!(!outcome.ok && outcome.error.is_some_and(|error| error.contains("no card")));
    bot.call("chat.postEphemeral", &json!({"channel": CHANNEL, "user": "U0LEE", "text": "you may not"})).await?;
    ensure!(fragment("U0LEE").await?.contains("you may not") && !fragment("U0DANA").await?.contains("you may not"));
    Ok(())
}

#[tokio::test]
async fn user_groups_are_told_as_slack_tells_them() -> Result<()> {
    let slack = Slack::start().await?;
    let get = async |method: &str, query: &str| -> Result<Value> {
        let request = reqwest::Client::new().get(format!("{}/{method}?{query}", slack.api_url())).bearer_auth(slack.token());
        Ok(request.send().await?.json().await?)
    };
    let members = get("usergroups.users.list", "usergroup=S0CLERKS").await?;
    ensure!(members.pointer("/users/0").and_then(Value::as_str) == Some("U0MALLORY"), "{members}");
    slack.set_usergroup(Usergroup { id: "S0OLD".to_owned(), users: vec!["U0LEE".to_owned()], disabled: true });
    for (query, error) in [
        ("usergroup=S0OLD", Some("no_such_subteam")),
        ("usergroup=S0OLD&include_disabled=false", Some("no_such_subteam")),
        ("usergroup=S0OLD&include_disabled=true", None),
        ("usergroup=S0NONE", Some("no_such_subteam")),
        ("", Some("invalid_arguments")),
    ] {
        let answer = get("usergroups.users.list", query).await?;
        ensure!(answer.get("error").and_then(Value::as_str) == error, "{query}: {answer}");
    }
    slack.set_scopes(&["chat:write", "users:read"]);
    let answer = get("usergroups.users.list", "usergroup=S0CLERKS").await?;
    ensure!(answer.get("error").is_some_and(|error| error == "missing_scope") && answer.get("needed").is_some(), "{answer}");
    let user = get("users.info", "user=U0LEE").await?;
    ensure!(user.pointer("/user/profile/email").is_none(), "an address without the scope: {user}");
    Ok(())
}
