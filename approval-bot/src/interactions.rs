//! Presses: from Slack's raw request to a signed decision in the store, and an answer to whoever pressed.
//! <https://docs.slack.dev/reference/interaction-payloads>

mod forms;
mod payload;

use std::collections::HashMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::payload::{Action, Payload};
use crate::bot::Bot;
use crate::card::action;
use crate::questions;
use crate::signature::{self, SignatureError};
use crate::step_up::{Purpose, TICKET_LIFE, Ticket};
use crate::visible;
use crate::votes::{self, Presser, Voted, Wish};

/// How long a press is remembered, in seconds: longer than its signature is good.
const PRESS_MEMORY: u64 = 900;
/// How long a link to the whole text is good, in seconds.
const LINK_LIFE: u64 = 900;

/// The answer to Slack's request.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// 200 without a body.
    Taken,
    /// 200 with this JSON, for forms.
    Form(Value),
    /// 401: not from Slack.
    NotSlack(SignatureError),
    /// 400: from Slack, but not what Slack sends.
    NotUnderstood,
    /// 403: another app or workspace.
    NotOurs,
}

/// The raw request.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a> {
    /// `X-Slack-Request-Timestamp`
    pub timestamp: Option<&'a str>,
    /// `X-Slack-Signature`
    pub signature: Option<&'a str>,
    /// The body's bytes as they came.
    pub body: &'a [u8],
    /// Whether Slack says that it sends this again (`X-Slack-Retry-Num`).
    pub retry: bool,
    /// `Host`, for links, where the bot does not know its own URL.
    pub host: Option<&'a str>,
}

/// Takes one request to the interactivity URL.
pub async fn take(bot: &Bot, raw: Raw<'_>) -> Reply {
    let now = bot.clock.now();
    let secret = bot.settings.signing_secret.0.as_bytes();
    if let Err(error) = signature::verify(secret, raw.timestamp, raw.signature, raw.body, now) {
        tracing::warn!(%error, "request to the interactivity URL refused");
        return Reply::NotSlack(error);
    }
    let Some(payload) = Payload::parse(raw.body) else { return Reply::NotUnderstood };
    if payload.api_app_id != bot.settings.app_id || payload.team_id() != bot.settings.team_id {
        tracing::warn!(slack.app = %payload.api_app_id, slack.team = %payload.team_id(), "press from another app or workspace refused");
        return Reply::NotOurs;
    }
    // Each press has ids of its own, so the same body is the same press, whatever time it is sent with.
    match bot.store.take_once(&hex::encode(Sha256::digest(raw.body)), now.saturating_add(PRESS_MEMORY)).await {
        Ok(true) => {}
        Ok(false) if raw.retry => {
            tracing::info!(slack.user = %payload.user.id, "Slack delivered a press again");
            return Reply::Taken;
        }
        Ok(false) => {
            tracing::warn!(slack.user = %payload.user.id, "replayed press refused");
            return answer(bot, &payload, "this press was taken already").await;
        }
        Err(error) => {
            tracing::error!(%error, "press could not be noted");
            return answer(bot, &payload, "the approval store does not answer; nothing was decided, try again").await;
        }
    }
    match payload.action() {
        Action::Approve(reference) => {
            let text = decide(bot, &payload, reference, Wish::Approve { all: false, sign_in: None }, now).await;
            answer(bot, &payload, &text).await
        }
        Action::ApproveRuns(reference) => {
            let text = decide(bot, &payload, reference, Wish::Approve { all: true, sign_in: None }, now).await;
            answer(bot, &payload, &text).await
        }
        Action::AskReason(reference) => match forms::open(bot, &payload, reference, &forms::REASON, now).await {
            Ok(()) => Reply::Taken,
            Err(text) => answer(bot, &payload, &text).await,
        },
        Action::AskQuestion(reference) => match forms::open(bot, &payload, reference, &forms::QUESTION, now).await {
            Ok(()) => Reply::Taken,
            Err(text) => answer(bot, &payload, &text).await,
        },
        Action::Deny { reason, .. } if too_short(reason) => forms::error(action::REASON, "Say in a few words why."),
        Action::Question { question, .. } if too_short(question) => forms::error(action::QUESTION, "Ask in a few words."),
        Action::Question { reference, question } => {
            let text = ask(bot, &payload, reference, question, now).await;
            answer(bot, &payload, &text).await;
            Reply::Form(json!({"response_action": "clear"}))
        }
        Action::Deny { reference, reason } => {
            let text = decide(bot, &payload, reference, Wish::Deny(reason), now).await;
            answer(bot, &payload, &text).await;
            Reply::Form(json!({"response_action": "clear"}))
        }
        Action::Read(reference) => {
            let text = link(bot, reference, raw.host, now).await;
            answer(bot, &payload, &text).await
        }
        Action::Other => Reply::Taken,
    }
}

async fn answer(bot: &Bot, payload: &Payload, text: &str) -> Reply {
    let channel = payload.channel().unwrap_or(&bot.settings.channel);
    bot.slack.answer(payload.response_url.as_deref(), Some(channel), &payload.user.id, &visible::markup(text)).await;
    Reply::Taken
}

fn too_short(text: &str) -> bool {
    text.trim().chars().count() < 3
}

/// Decides, signs, writes; the text is for the presser.
async fn decide(bot: &Bot, payload: &Payload, reference: &str, wish: Wish<'_>, now: u64) -> String {
    let found = match votes::find(bot, reference).await {
        Ok(found) => found,
        Err(text) => return text,
    };
    let presser = Presser::Slack { id: &payload.user.id, team: payload.user.team_id.as_deref() };
    match votes::vote(bot, presser, &found, wish, now).await {
        Ok(Voted::Done(text)) => text,
        // Not by way of an error, which is logged: the link is for the presser alone.
        Ok(Voted::NeedsSignIn) => step_up_link(bot, reference, &payload.user.id, matches!(wish, Wish::Approve { all: true, .. }), now),
        Err(text) => {
            tracing::info!(request.id = %found.request.id, slack.user = %payload.user.id, outcome = %text, "press decided nothing");
            text
        }
    }
}

/// The link behind which a press is completed by signing in.
fn step_up_link(bot: &Bot, reference: &str, user: &str, all: bool, now: u64) -> String {
    match (&bot.step_up, &bot.public_url) {
        (Some(_), Some(base)) => {
            let purpose = Purpose::Press { reference: reference.to_owned(), user: user.to_owned(), all };
            let ticket = Ticket { purpose, until: now.saturating_add(TICKET_LIFE) };
            format!("nothing is decided yet: sign in within 5 minutes to approve: {base}/step-up?ticket={}", bot.seals.seal(&ticket))
        }
        _ => "approving this takes a sign-in, for which this bot is not set up (COUNTERSIGN_STEP_UP_ISSUER, COUNTERSIGN_PUBLIC_URL)"
            .to_owned(),
    }
}

/// Puts a question into the card's thread and before the client.
async fn ask(bot: &Bot, payload: &Payload, reference: &str, question: &str, now: u64) -> String {
    let found = match votes::find(bot, reference).await {
        Ok(found) => found,
        Err(text) => return text,
    };
    let presser = Presser::Slack { id: &payload.user.id, team: payload.user.team_id.as_deref() };
    match questions::ask(bot, presser, &found, question, now).await {
        Ok(text) | Err(text) => text,
    }
}

/// The text with the link to the whole request.
async fn link(bot: &Bot, reference: &str, host: Option<&str>, now: u64) -> String {
    let found = match votes::find(bot, reference).await {
        Ok(found) => found,
        Err(text) => return text,
    };
    let path = bot.links.path(&found.request.id, now.saturating_add(LINK_LIFE));
    let base = bot.public_url.clone().or_else(|| host.filter(|host| is_host(host)).map(|host| format!("https://{host}")));
    match base {
        Some(base) => format!("read the whole request here within 15 minutes: {base}{path}"),
        None => "this bot does not know its own address: set COUNTERSIGN_PUBLIC_URL".to_owned(),
    }
}

fn is_host(host: &str) -> bool {
    host.len() <= 253 && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':'))
}

/// Fields of a form-encoded body; `None` when it is none.
pub(crate) fn form_fields(body: &[u8]) -> Option<HashMap<String, String>> {
    let url = reqwest::Url::parse(&format!("form:?{}", std::str::from_utf8(body).ok()?)).ok()?;
    Some(url.query_pairs().into_owned().collect())
}
