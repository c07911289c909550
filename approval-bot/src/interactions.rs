//! Presses: from Slack's raw request to a signed decision in the store, and an answer to whoever pressed.
//! <https://docs.slack.dev/reference/interaction-payloads>

mod payload;

use std::collections::HashMap;
use std::time::Duration;

use countersign_approval::item::{Closed, Status, voter_names};
use countersign_approval::{Request, RequestId, UnverifiedRequest, Verdict};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use slack_morphism::blocks::{
    SlackBlockPlainText, SlackBlockPlainTextInputElement, SlackInputBlock, SlackModalView, SlackSectionBlock, SlackView,
};

use self::payload::{Action, Payload};
use crate::bot::Bot;
use crate::card::action;
use crate::decide::{self, MAX_REASON, Press, Refusal, Standing};
use crate::signature::{self, SignatureError};
use crate::slack::UserInfo;
use crate::store::{Appended, Stored, Vote};
use crate::{clock, visible};

/// How long Slack may take to say who pressed: the press must be acknowledged within three seconds.
const USER_TIMEOUT: Duration = Duration::from_millis(1_500);
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
    /// `Host`, for links, where the bot does not know its own URL.
    pub host: Option<&'a str>,
}

/// Takes one request to the interactivity URL.
pub async fn take(bot: &Bot, raw: Raw<'_>) -> Reply {
    let now = clock::now();
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
    let mut hash = Sha256::new();
    hash.update(raw.timestamp.unwrap_or_default());
    hash.update(b":");
    hash.update(raw.body);
    match bot.store.take_press(&hex::encode(hash.finalize()), now).await {
        Ok(true) => {}
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
            let text = decide(bot, &payload, reference, Verdict::Approve, None, now).await;
            answer(bot, &payload, &text).await
        }
        Action::AskReason(reference) => match form(bot, &payload, reference, now).await {
            Ok(()) => Reply::Taken,
            Err(text) => answer(bot, &payload, &text).await,
        },
        Action::Deny { reference, reason } if reason.trim().chars().count() < 3 => {
            let _ = reference;
            Reply::Form(json!({"response_action": "errors", "errors": {(action::REASON): "Say in a few words why."}}))
        }
        Action::Deny { reference, reason } => {
            let text = decide(bot, &payload, reference, Verdict::Deny, Some(reason), now).await;
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

/// What a button refers to, found again in the store.
struct Found {
    request: Request,
    stored: Stored,
}

async fn find(bot: &Bot, reference: &str) -> Result<Found, String> {
    let mut parts = reference.split('.');
    let (Some("v1"), Some(id), Some(fingerprint), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err("this button is not one of mine".to_owned());
    };
    let id = RequestId::parse(id).map_err(|_| "this button is not one of mine".to_owned())?;
    let stored = bot.store.get(&id).await.map_err(|error| {
        tracing::error!(request.id = %id, %error, "approval store does not answer");
        "the approval store does not answer; nothing was decided, try again".to_owned()
    })?;
    let stored = stored.ok_or_else(|| "this request is not there any more".to_owned())?;
    let unverified = UnverifiedRequest::new(&stored.request);
    if unverified.fingerprint() != fingerprint {
        tracing::error!(request.id = %id, "request was altered after its card was shown");
        return Err("this request was altered after the card was shown; nothing was decided".to_owned());
    }
    let request = unverified.parse().map_err(|error| {
        tracing::error!(request.id = %id, %error, "what lies in the store is not a request");
        "this request cannot be read; nothing was decided".to_owned()
    })?;
    if request.id != id || request.environment != bot.environment {
        return Err("this request belongs to another environment; nothing was decided".to_owned());
    }
    Ok(Found { request, stored })
}

/// Decides, signs, writes; the text is for the presser.
async fn decide(bot: &Bot, payload: &Payload, reference: &str, verdict: Verdict, reason: Option<&str>, now: u64) -> String {
    let found = match find(bot, reference).await {
        Ok(found) => found,
        Err(text) => return text,
    };
    match vote(bot, payload, &found, verdict, reason, now).await {
        Ok(text) => text,
        Err(text) => {
            tracing::info!(request.id = %found.request.id, slack.user = %payload.user.id, outcome = %text, "press decided nothing");
            text
        }
    }
}

async fn vote(bot: &Bot, payload: &Payload, found: &Found, verdict: Verdict, reason: Option<&str>, now: u64) -> Result<String, String> {
    let Found { request, stored } = found;
    let user = user(bot, payload).await?;
    let policy = bot.policies.get(&request.policy).await.map_err(|error| {
        tracing::warn!(request.id = %request.id, %error, "no roster for this request");
        "the policy this request was made under is not in force any more; nothing was decided, it must be asked for again".to_owned()
    })?;
    let press = Press { verdict, reason, team: &bot.settings.team_id, user: &payload.user.id, email: user.profile.email.as_deref() };
    let standing = Standing { request, status: stored.status, tokens: &stored.tokens, now };
    let decision = decide::decide(&press, &standing, policy.roster(), bot.signer.public()).map_err(|refusal| refusal.to_string())?;
    let token = bot.signer.sign(&decision).await.map_err(|error| {
        tracing::error!(request.id = %request.id, %error, "decision could not be signed");
        "the decision could not be signed; nothing was decided, try again".to_owned()
    })?;
    let close = (verdict == Verdict::Deny).then(|| Closed {
        status: Status::Denied,
        by: uuid::Uuid::new_v4().to_string(),
        at: now,
        why: format!("denied by {}", decision.reviewer.person),
    });
    let voters = voter_names(&decision.reviewer);
    let vote = Vote { token: &token, voters: &voters, close, now };
    let appended = bot.store.append(&request.id, &vote).await.map_err(|error| {
        tracing::error!(request.id = %request.id, %error, "decision could not be written");
        "the decision could not be written; try again".to_owned()
    })?;
    match appended {
        Appended::AlreadyVoted => return Err(Refusal::AlreadyVoted.to_string()),
        Appended::NotOpen => return Err("too late: the request is closed already".to_owned()),
        Appended::Done => {}
    }
    tracing::info!(request.id = %request.id, reviewer = %decision.reviewer.person, verdict = ?verdict, "decision signed and stored");
    Ok(match verdict {
        Verdict::Approve => format!("you approved request {}", request.id),
        Verdict::Deny => format!("you denied request {}", request.id),
    })
}

/// Who pressed, as Slack knows them now. Bots, guests and strangers never decide.
async fn user(bot: &Bot, payload: &Payload) -> Result<UserInfo, String> {
    if payload.user.team_id.as_ref().is_some_and(|team| *team != bot.settings.team_id) {
        return Err("you are from another workspace and cannot decide here".to_owned());
    }
    let mut info = match tokio::time::timeout(USER_TIMEOUT, bot.slack.user(&payload.user.id)).await {
        Ok(Ok(info)) => info,
        Ok(Err(error)) => {
            tracing::error!(slack.user = %payload.user.id, %error, "Slack does not say who pressed");
            return Err("Slack did not say who you are; nothing was decided, try again".to_owned());
        }
        Err(_) => return Err("Slack did not say in time who you are; nothing was decided, try again".to_owned()),
    };
    if info.deleted || info.is_bot || info.is_restricted || info.is_ultra_restricted || info.is_stranger {
        return Err("bots, guests and deactivated accounts cannot decide".to_owned());
    }
    // Another workspace's administrators write what they like into its profiles: nobody is found by an address from there.
    if info.team_id.as_ref().is_some_and(|team| *team != bot.settings.team_id) {
        info.profile.email = None;
    }
    Ok(info)
}

/// Opens the form that asks for a denial's reason.
async fn form(bot: &Bot, payload: &Payload, reference: &str, now: u64) -> Result<(), String> {
    let found = find(bot, reference).await?;
    if found.stored.status != Status::Open || now >= found.request.expires_at {
        return Err("too late: the request is closed already".to_owned());
    }
    let trigger = payload.trigger_id.as_deref().ok_or_else(|| "Slack sent no trigger for the form; try again".to_owned())?;
    let text = |text: &str| SlackBlockPlainText::new(text.to_owned()).with_emoji(false);
    let field = SlackBlockPlainTextInputElement::new()
        .with_action_id(action::REASON.into())
        .with_multiline(true)
        .with_min_length(3)
        .with_max_length(MAX_REASON.try_into().unwrap_or(1_000));
    let about = format!("Request {} on database {}", found.request.id, visible::line(&found.request.database));
    let view = SlackModalView::new(
        text("Deny request").into(),
        vec![
            SlackSectionBlock::new().with_text(text(&about).into()).into(),
            SlackInputBlock::new(text("Reason, shown to the requester").into(), field.into()).with_block_id(action::REASON.into()).into(),
        ],
    )
    .with_callback_id(action::REASON.into())
    .with_private_metadata(reference.to_owned())
    .with_submit(text("Deny").into())
    .with_close(text("Back").into());
    bot.slack.open(trigger, SlackView::Modal(view)).await.map_err(|error| {
        tracing::error!(%error, "form for the reason could not be opened");
        "the form for the reason could not be opened; try again".to_owned()
    })
}

/// The text with the link to the whole request.
async fn link(bot: &Bot, reference: &str, host: Option<&str>, now: u64) -> String {
    let found = match find(bot, reference).await {
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
