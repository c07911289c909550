//! Presses: from Slack's raw request to a signed decision in the store, and an answer to whoever pressed.
//! <https://docs.slack.dev/reference/interaction-payloads>

mod forms;
mod payload;

use std::collections::HashMap;
use std::time::Duration;

use countersign_approval::item::{Closed, Status, voter_names};
use countersign_approval::{Request, RequestId, Template, UnverifiedRequest, Verdict, break_glass, template};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::payload::{Action, Payload};
use crate::bot::Bot;
use crate::card::{self, action};
use crate::decide::{self, MAX_REASON, Press, Refusal, SignIn, Standing};
use crate::signature::{self, SignatureError};
use crate::slack::{Message, Posted, UserInfo};
use crate::step_up::{TICKET_LIFE, Ticket};
use crate::store::{Appended, Stored, Vote};
use crate::visible;

/// How long Slack may take to say who pressed: the press must be acknowledged within three seconds.
const USER_TIMEOUT: Duration = Duration::from_millis(1_500);
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
async fn decide(bot: &Bot, payload: &Payload, reference: &str, wish: Wish<'_>, now: u64) -> String {
    let found = match find(bot, reference).await {
        Ok(found) => found,
        Err(text) => return text,
    };
    let presser = Presser { id: &payload.user.id, team: payload.user.team_id.as_deref() };
    match vote(bot, &presser, reference, &found, wish, now).await {
        Ok(text) => text,
        Err(text) => {
            tracing::info!(request.id = %found.request.id, slack.user = %payload.user.id, outcome = %text, "press decided nothing");
            text
        }
    }
}

/// What a press asks for.
#[derive(Clone, Copy)]
enum Wish<'a> {
    Approve { all: bool, sign_in: Option<&'a SignIn> },
    Deny(&'a str),
}

/// Who pressed, as the payload or the ticket has it.
struct Presser<'a> {
    id: &'a str,
    team: Option<&'a str>,
}

/// Approves for somebody who pressed in Slack before and has now signed in.
///
/// # Errors
/// Why nothing was decided, for the reviewer.
pub async fn approve_signed_in(bot: &Bot, reference: &str, user: &str, all: bool, sign_in: &SignIn, now: u64) -> Result<String, String> {
    let found = find(bot, reference).await?;
    let presser = Presser { id: user, team: None };
    vote(bot, &presser, reference, &found, Wish::Approve { all, sign_in: Some(sign_in) }, now).await
}

/// The whole of what a reference refers to, as text, while it is open.
///
/// # Errors
/// Why there is nothing to show, for the reviewer.
pub async fn whole(bot: &Bot, reference: &str) -> Result<String, String> {
    let Found { request, stored } = find(bot, reference).await?;
    if stored.status != Status::Open || bot.clock.now() >= request.expires_at {
        return Err("too late: the request is closed already".to_owned());
    }
    let fingerprint = request.fingerprint();
    Ok(card::whole(&card::View::of(&request, &fingerprint, &stored, bot.signer.public())))
}

/// The link behind which a press is completed by signing in.
fn step_up_link(bot: &Bot, reference: &str, user: &str, all: bool, now: u64) -> String {
    match (&bot.step_up, &bot.public_url) {
        (Some(_), Some(base)) => {
            let ticket = Ticket { reference: reference.to_owned(), user: user.to_owned(), all, until: now.saturating_add(TICKET_LIFE) };
            format!("nothing is decided yet: sign in within 5 minutes to approve: {base}/step-up?ticket={}", bot.seals.seal(&ticket))
        }
        _ => "approving this takes a sign-in, for which this bot is not set up (COUNTERSIGN_STEP_UP_ISSUER, COUNTERSIGN_PUBLIC_URL)"
            .to_owned(),
    }
}

async fn vote(bot: &Bot, presser: &Presser<'_>, reference: &str, found: &Found, wish: Wish<'_>, now: u64) -> Result<String, String> {
    let Found { request, stored } = found;
    if request.rule == template::RULE
        && let (Wish::Approve { .. }, Err(error)) = (&wish, Template::of(request))
    {
        tracing::error!(request.id = %request.id, %error, "something that is no template was to be approved as one");
        return Err("this is no template that can be approved; nothing was decided".to_owned());
    }
    let user = user(bot, presser).await?;
    let (verdict, reason, all, step_up) = match wish {
        Wish::Approve { all, sign_in } => (Verdict::Approve, None, all, sign_in),
        Wish::Deny(reason) => (Verdict::Deny, Some(reason), false, None),
    };
    let runs = if all { request.runs.max(1) } else { 1 };
    let policy = bot.policies.get(&request.policy).await.map_err(|error| {
        tracing::warn!(request.id = %request.id, %error, "no roster for this request");
        "the policy this request was made under is not in force any more; nothing was decided, it must be asked for again".to_owned()
    })?;
    let press =
        Press { verdict, reason, runs, step_up, team: &bot.settings.team_id, user: presser.id, email: user.profile.email.as_deref() };
    let standing = Standing { request, status: stored.status, tokens: &stored.tokens, now };
    let decision = match decide::decide(&press, &standing, policy.roster(), bot.signer.public()) {
        Ok(decision) => decision,
        // Not by way of an error, which is logged: the link is for the presser alone.
        Err(Refusal::NeedsStepUp) => return Ok(step_up_link(bot, reference, presser.id, all, now)),
        Err(refusal) => return Err(refusal.to_string()),
    };
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
    if verdict == Verdict::Deny
        && let Err(error) = bot.marks.deny(request, &decision.reviewer.person, now).await
    {
        tracing::error!(request.id = %request.id, %error, "a denial lies in the table alone: whoever can write there could take it back");
    }
    tracing::info!(request.id = %request.id, reviewer = %decision.reviewer.person, verdict = ?verdict, "decision signed and stored");
    Ok(match verdict {
        _ if request.rule == break_glass::RULE => format!("your review of {} is signed", request.id),
        Verdict::Approve => format!("you approved request {}", request.id),
        Verdict::Deny => format!("you denied request {}", request.id),
    })
}

/// Who pressed, as Slack knows them now. Bots, guests and strangers never decide.
async fn user(bot: &Bot, presser: &Presser<'_>) -> Result<UserInfo, String> {
    if presser.team.is_some_and(|team| team != bot.settings.team_id) {
        return Err("you are from another workspace and cannot decide here".to_owned());
    }
    let mut info = match tokio::time::timeout(USER_TIMEOUT, bot.slack.user(presser.id)).await {
        Ok(Ok(info)) => info,
        Ok(Err(error)) => {
            tracing::error!(slack.user = %presser.id, %error, "Slack does not say who pressed");
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

/// Puts a question into the card's thread and before the client. Whoever may decide may ask.
async fn ask(bot: &Bot, payload: &Payload, reference: &str, question: &str, now: u64) -> String {
    match asked(bot, payload, reference, question, now).await {
        Ok(text) | Err(text) => text,
    }
}

async fn asked(bot: &Bot, payload: &Payload, reference: &str, question: &str, now: u64) -> Result<String, String> {
    let Found { request, stored } = find(bot, reference).await?;
    let presser = Presser { id: &payload.user.id, team: payload.user.team_id.as_deref() };
    let user = user(bot, &presser).await?;
    let policy = bot.policies.get(&request.policy).await.map_err(|_| "the policy changed meanwhile; nothing was asked".to_owned())?;
    let press = Press {
        verdict: Verdict::Deny,
        reason: None,
        runs: 1,
        step_up: None,
        team: &bot.settings.team_id,
        user: &payload.user.id,
        email: user.profile.email.as_deref(),
    };
    let person = decide::who(&press, &request, policy.roster()).map_err(|refusal| refusal.to_string())?;
    let question: String = question.trim().chars().take(MAX_REASON).collect();
    let told = bot.store.ask(&request.id, &format!("{person}: {question}")).await.map_err(|error| {
        tracing::error!(request.id = %request.id, %error, "question could not be written");
        "the question could not be written; try again".to_owned()
    })?;
    if !told || now >= request.expires_at {
        return Err("too late: the request is closed already, or has been asked about too often".to_owned());
    }
    if let (Some(channel), Some(ts)) = (stored.card.channel, stored.card.ts) {
        let text = format!("{} asks: {}", visible::line(&person), visible::text(&question).text);
        let message = Message { text: visible::markup(&text), blocks: vec![card::plain(&text)] };
        if let Err(error) = bot.slack.reply(&Posted { channel, ts }, &message).await {
            tracing::warn!(request.id = %request.id, %error, "question could not be put into the thread");
        }
    }
    Ok(format!("your question on request {} was put into the thread and before the waiting client", request.id))
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
