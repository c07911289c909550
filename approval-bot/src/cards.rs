//! Brings a request's card in line with the request: posts it, updates it, or leaves it. Idempotent, so that redelivered stream records,
//! restarts and two bots do no harm.

use countersign_approval::item::{CardState, Closed, Status};
use countersign_approval::{RequestId, UnverifiedRequest};

use crate::bot::Bot;
use crate::card::{self, Card, View};
use crate::clock;
use crate::slack::{Posted, SlackError};
use crate::store::{StoreError, Stored};

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
    /// Slack does not take the card.
    #[error(transparent)]
    Slack(#[from] SlackError),
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
    let now = clock::now();
    if stored.status == Status::Open && now >= request.expires_at.saturating_add(GRACE) {
        let closed =
            Closed { status: Status::Expired, by: uuid::Uuid::new_v4().to_string(), at: now, why: "nobody decided in time".to_owned() };
        if bot.store.close(id, &closed).await? {
            stored.status = Status::Expired;
            stored.why = Some(closed.why);
        }
    }
    let card = card::card(&View {
        request: &request,
        fingerprint: &unverified.fingerprint(),
        status: stored.status,
        why: stored.why.as_deref(),
        outcome: stored.outcome.as_deref(),
        tokens: &stored.tokens,
        keys: bot.signer.public(),
    });
    match (&stored.card.channel, &stored.card.ts) {
        (Some(channel), Some(ts)) => {
            let at = Posted { channel: channel.clone(), ts: ts.clone() };
            update(bot, id, &stored, &at, &card).await?;
        }
        _ if stored.status == Status::Open => post(bot, id, now, &card).await?,
        // Over before anyone could see it.
        _ => return Ok(Synced::Settled),
    }
    Ok(match stored.status {
        Status::Open | Status::Consumed => Synced::Following,
        Status::Denied | Status::Cancelled | Status::Expired | Status::Finished => Synced::Settled,
    })
}

async fn post(bot: &Bot, id: &RequestId, now: u64, card: &Card) -> Result<(), CardError> {
    if !bot.store.claim_card(id, now, now.saturating_add(CLAIM)).await? {
        // Posted meanwhile, or being posted: this is how a redelivered record ends.
        let posted = bot.store.get(id).await?.is_none_or(|stored| stored.card.ts.is_some());
        return if posted { Ok(()) } else { Err(CardError::Busy) };
    }
    match bot.slack.post(&bot.settings.channel, &card.message).await {
        Ok(posted) => {
            tracing::info!(request.id = %id, card.approvable = card.approvable, "card posted");
            let state = CardState { channel: Some(posted.channel), ts: Some(posted.ts), shown: Some(card.hash.clone()), error: None };
            Ok(bot.store.save_card(id, &state).await?)
        }
        Err(error) => {
            tracing::error!(request.id = %id, %error, "card could not be posted; reviewers cannot see this request");
            bot.store.save_card(id, &CardState { error: Some(error.to_string()), ..CardState::default() }).await?;
            Err(error.into())
        }
    }
}

async fn update(bot: &Bot, id: &RequestId, stored: &Stored, at: &Posted, card: &Card) -> Result<(), CardError> {
    if stored.card.shown.as_ref() == Some(&card.hash) {
        return Ok(());
    }
    let mut state = stored.card.clone();
    match bot.slack.update(at, &card.message).await {
        Ok(()) => state.shown = Some(card.hash.clone()),
        Err(error) => match error.code() {
            // Somebody deleted the card of a request that still waits: show it again.
            Some("message_not_found") if stored.status == Status::Open => {
                tracing::warn!(request.id = %id, "card is gone, posting it again");
                state = CardState::default();
            }
            Some(code) if is_final(code) => {
                tracing::error!(request.id = %id, %error, "card cannot be updated any more");
                state.shown = Some(card.hash.clone());
            }
            _ => return Err(error.into()),
        },
    }
    Ok(bot.store.save_card(id, &state).await?)
}

/// Answers after which trying again makes no sense.
fn is_final(code: &str) -> bool {
    matches!(code, "message_not_found" | "cant_update_message" | "edit_window_closed" | "channel_not_found" | "is_archived" | "is_inactive")
}
