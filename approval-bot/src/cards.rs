//! Brings a request's card in line with the request: posts it, updates it, or leaves it. Idempotent, so that redelivered stream records,
//! restarts and two bots do no harm.

use countersign_approval::item::{CardState, Closed, Status};
use countersign_approval::{GrantError, Request, RequestId, UnverifiedRequest, break_glass, verify};
use countersign_policy::rule::Route;

use crate::bot::Bot;
use crate::card::{self, Card, View};
use crate::slack::{Message, Posted, SlackError};
use crate::store::{StoreError, Stored};
use crate::web;
use crate::webhook::WebhookError;

/// How long posting a card may take before another may try, in seconds.
const CLAIM: u64 = 30;
/// How long after its expiry the bot closes a request itself, should no proxy do so, in seconds.
const GRACE: u64 = 2;

/// Where a request and its card stand after [`sync`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synced {
    /// The card shows the state, which may still change.
    Following,
    /// The card shows the state, which is the last.
    Settled,
    /// There is nothing to show.
    Nothing,
}

/// Why a card is not in line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The webhook does not take the change.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// Slack does not take the card.
    #[error(transparent)]
    Slack(#[from] SlackError),
    /// A review cannot be put beside the recordings.
    #[error("review could not be kept: {0}")]
    Review(String),
    /// Another instance is posting the card.
    #[error("card is being posted by another instance")]
    Busy,
}

/// Brings the card of one request in line.
///
/// # Errors
/// When that must be tried again.
pub async fn sync(bot: &Bot, id: &RequestId) -> Result<Synced, CardError> {
    // Not written yet, or forgotten.
    let Some(mut stored) = bot.store.get(id).await? else { return Ok(Synced::Following) };
    let bytes = stored.request.clone();
    let unverified = UnverifiedRequest::new(&bytes);
    let request = match unverified.parse() {
        Ok(request) if request.id == *id && request.environment == bot.environment => request,
        Ok(_) => {
            tracing::warn!(request.id = %id, "request is of another environment or id, not shown");
            return Ok(Synced::Nothing);
        }
        Err(error) => {
            tracing::warn!(request.id = %id, %error, "what lies in the store is not a request, not shown");
            return Ok(Synced::Nothing);
        }
    };
    let now = bot.clock.now();
    let route = bot.policies.route(&request).await;
    if stored.status == Status::Open && now >= request.expires_at.saturating_add(GRACE) {
        let closed =
            Closed { status: Status::Expired, by: uuid::Uuid::new_v4().to_string(), at: now, why: "nobody decided in time".to_owned() };
        if bot.store.close(id, &closed).await? {
            stored.status = Status::Expired;
            stored.why = Some(closed.why);
        }
    }
    if request.rule == break_glass::RULE {
        settle_review(bot, &request, &mut stored, now).await?;
    }
    let fingerprint = unverified.fingerprint();
    let page = web::address(bot, id);
    let view =
        View { mention: route.mention.as_deref(), page: page.as_deref(), ..View::of(&request, &fingerprint, &stored, bot.signer.public()) };
    let card = card::card(&view);
    match (&stored.card.channel, &stored.card.ts) {
        (Some(channel), Some(ts)) => {
            let at = Posted { channel: channel.clone(), ts: ts.clone() };
            update(bot, &view, &stored, &at, &card, now).await?;
            if stored.status == Status::Open {
                remind(bot, &request, &stored.tokens, &route, &at, now).await?;
            }
        }
        _ if stored.status == Status::Open => {
            let channel = route.channel.as_ref().unwrap_or(&bot.settings.channel);
            post(bot, &view, now, channel, &card).await?;
        }
        // Over before anyone could see it.
        _ => return Ok(Synced::Settled),
    }
    Ok(match stored.status {
        Status::Consumed if request.rule == break_glass::RULE => Synced::Settled,
        Status::Open | Status::Consumed => Synced::Following,
        Status::Denied | Status::Cancelled | Status::Expired | Status::Finished => Synced::Settled,
    })
}

/// Puts a review beside the recordings as soon as it is signed, then closes its request. Whatever fails is tried again with the card.
async fn settle_review(bot: &Bot, request: &Request, stored: &mut Stored, now: u64) -> Result<(), CardError> {
    let outcome = break_glass::outcome(&request.expectation(), &stored.tokens, bot.signer.public());
    if outcome == break_glass::Outcome::Open {
        return Ok(());
    }
    if matches!(stored.status, Status::Open | Status::Denied) {
        let review = break_glass::Review { version: 1, request: request.id.clone(), decisions: stored.tokens.clone() };
        bot.marks.review(&request.id, &review).await.map_err(CardError::Review)?;
    }
    if stored.status == Status::Open {
        let closed = Closed { status: Status::Consumed, by: uuid::Uuid::new_v4().to_string(), at: now, why: "reviewed".to_owned() };
        if bot.store.close(&request.id, &closed).await? {
            (stored.status, stored.why) = (Status::Consumed, Some(closed.why));
        }
    }
    Ok(())
}

async fn post(bot: &Bot, view: &View<'_>, now: u64, channel: &str, card: &Card) -> Result<(), CardError> {
    let id = &view.request.id;
    if !bot.store.claim_card(id, now, now.saturating_add(CLAIM)).await? {
        // Posted meanwhile, or being posted: this is how a redelivered record ends.
        let posted = bot.store.get(id).await?.is_none_or(|stored| stored.card.ts.is_some());
        return if posted { Ok(()) } else { Err(CardError::Busy) };
    }
    match bot.slack.post(channel, &card.message).await {
        Ok(posted) => {
            tracing::info!(request.id = %id, card.approvable = card.approvable, "card posted");
            // Not told elsewhere: the next look at it does that, by an update.
            let told = tell(bot, view, card, now).await;
            let shown = told.is_ok().then(|| card.hash.clone());
            let state = CardState { channel: Some(posted.channel), ts: Some(posted.ts), shown, error: None };
            bot.store.save_card(id, &state).await?;
            told
        }
        Err(error) => {
            let page = view.page.unwrap_or("none");
            tracing::error!(request.id = %id, %error, page, "card could not be posted; reviewers cannot see this request in Slack");
            // Whoever listens elsewhere should know all the more.
            let _tried = tell(bot, view, card, now).await;
            bot.store.save_card(id, &CardState { error: Some(error.to_string()), ..CardState::default() }).await?;
            Err(error.into())
        }
    }
}

/// Reminds before the expiry and calls the next group, each once. Who is asked changes nothing about who may decide.
async fn remind(bot: &Bot, request: &Request, tokens: &[String], route: &Route, at: &Posted, now: u64) -> Result<(), CardError> {
    let remind_at = route.remind.map(|before| request.expires_at.saturating_sub(before.as_secs()));
    let escalate_at = route.escalate.as_ref().map(|(after, _)| request.created_at.saturating_add(after.as_secs()));
    let due = |at: Option<u64>| at.is_some_and(|at| now >= at) && now < request.expires_at;
    if !due(remind_at) && !due(escalate_at) {
        return Ok(());
    }
    // Only while something is still to be decided.
    let Err(GrantError::Pending { found, needed, .. }) = verify::quorum(&request.expectation(), tokens, bot.signer.public(), now) else {
        return Ok(());
    };
    let left = request.expires_at.saturating_sub(now).div_ceil(60);
    let calls = [
        ("remind", due(remind_at), route.mention.as_deref()),
        ("escalate", due(escalate_at), route.escalate.as_ref().map(|(_, group)| group.as_str())),
    ];
    for (what, _, group) in calls.into_iter().filter(|(_, due, _)| *due) {
        if bot.store.take_once(&format!("{what}:{}", request.id), request.expires_at.saturating_add(86_400)).await? {
            let text = if request.rule == break_glass::RULE {
                format!("The review of break-glass {} is still open, {left} min left", request.id)
            } else {
                format!("Request {} still waits: {found} of {needed} approvals, {left} min left", request.id)
            };
            let mut blocks = vec![card::plain(&text)];
            blocks.extend(group.and_then(card::mention));
            tracing::info!(request.id = %request.id, what, "reviewers are called");
            // Said once: whether Slack takes it or not, the card itself is there.
            if let Err(error) = bot.slack.reply(at, &Message { text, blocks }).await {
                tracing::warn!(request.id = %request.id, %error, "reviewers could not be reminded");
            }
        }
    }
    Ok(())
}

/// Tells of the state a card shows where that is wanted beside Slack.
async fn tell(bot: &Bot, view: &View<'_>, card: &Card, now: u64) -> Result<(), CardError> {
    match &bot.webhook {
        Some(webhook) => Ok(webhook.tell(view, card, now).await?),
        None => Ok(()),
    }
}

async fn update(bot: &Bot, view: &View<'_>, stored: &Stored, at: &Posted, card: &Card, now: u64) -> Result<(), CardError> {
    let id = &view.request.id;
    if stored.card.shown.as_ref() == Some(&card.hash) {
        return Ok(());
    }
    let mut state = stored.card.clone();
    match bot.slack.update(at, &card.message).await {
        Ok(()) => state.shown = Some(card.hash.clone()),
        Err(error) => match error.code() {
            // Somebody deleted the card of a request that still waits: show it again.
            // In an archived or vanished channel nobody sees it either: the bot's own channel or the rule's new one may do.
            Some(code @ ("message_not_found" | "channel_not_found" | "is_archived" | "not_in_channel"))
                if stored.status == Status::Open =>
            {
                tracing::error!(request.id = %id, slack.code = code, "card is gone, posting it again");
                state = CardState::default();
            }
            Some(code) if is_final(code) => {
                tracing::error!(request.id = %id, %error, "card cannot be updated any more");
                state.shown = Some(card.hash.clone());
            }
            _ => return Err(error.into()),
        },
    }
    tell(bot, view, card, now).await?;
    Ok(bot.store.save_card(id, &state).await?)
}

/// Answers after which trying again makes no sense.
fn is_final(code: &str) -> bool {
    matches!(code, "message_not_found" | "cant_update_message" | "edit_window_closed" | "channel_not_found" | "is_archived" | "is_inactive")
}
