//! A digest of what is open: one message each period, while there is anything to decide. Statements are not in it.

use std::time::Duration;

use countersign_approval::item::Status;
use countersign_approval::{GrantError, Request, RequestId, UnverifiedRequest, break_glass, verify};

use crate::bot::Bot;
use crate::slack::Message;
use crate::{card, visible};

/// How far into a period its digest may still be posted, in seconds.
const WINDOW: u64 = 300;
/// Most requests that are listed.
const MOST: usize = 20;

/// Posts the digest of this period, if there is to be one and it was not posted yet.
pub async fn post_if_due(bot: &Bot, now: u64) {
    let Some(every) = bot.digest_every.map(|every| every.as_secs()).filter(|every| *every > WINDOW) else { return };
    if now % every >= WINDOW {
        return;
    }
    match text(bot, now).await {
        Ok(Some(text)) => {
            let period = now / every;
            match bot.store.take_once(&format!("digest:{period}"), now.saturating_add(every).saturating_add(86_400)).await {
                Ok(true) => {
                    let message = Message { text: visible::markup(&text), blocks: vec![card::plain(&text)] };
                    match bot.slack.post(&bot.settings.channel, &message).await {
                        Ok(_) => tracing::info!("digest of open requests posted"),
                        Err(error) => tracing::error!(%error, "digest of open requests could not be posted"),
                    }
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "digest of open requests could not be noted"),
            }
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "digest of open requests could not be made"),
    }
}

/// The digest; `None` when nothing is open.
async fn text(bot: &Bot, now: u64) -> Result<Option<String>, crate::store::StoreError> {
    let mut open: Vec<(Request, Vec<String>)> = Vec::new();
    for id in bot.store.unsettled().await? {
        open.extend(look(bot, &id, now).await?);
    }
    if open.is_empty() {
        return Ok(None);
    }
    open.sort_by_key(|(request, _)| request.expires_at);
    let mut lines =
        vec![format!("{} open:", if open.len() == 1 { "1 request is".to_owned() } else { format!("{} requests are", open.len()) })];
    lines.extend(open.iter().take(MOST).map(|(request, tokens)| line(bot, request, tokens, now)));
    if open.len() > MOST {
        lines.push(format!("and {} more", open.len().saturating_sub(MOST)));
    }
    Ok(Some(lines.join("\n")))
}

async fn look(bot: &Bot, id: &RequestId, now: u64) -> Result<Option<(Request, Vec<String>)>, crate::store::StoreError> {
    let Some(stored) = bot.store.get(id).await?.filter(|stored| stored.status == Status::Open) else { return Ok(None) };
    let request = UnverifiedRequest::new(&stored.request).parse().ok();
    let wanted = request.filter(|request| request.id == *id && request.environment == bot.environment && now < request.expires_at);
    Ok(wanted.map(|request| (request, stored.tokens)))
}

fn line(bot: &Bot, request: &Request, tokens: &[String], now: u64) -> String {
    let standing = match verify::quorum(&request.expectation(), tokens, bot.signer.public(), now) {
        Ok(_) => "approved, not used yet".to_owned(),
        Err(GrantError::Pending { found, needed, .. }) if request.rule != break_glass::RULE => format!("{found} of {needed} approvals"),
        Err(_) => "to be reviewed".to_owned(),
    };
    let short = |text: &str| visible::line(text).chars().take(60).collect::<String>();
    let left = Duration::from_secs(request.expires_at.saturating_sub(now)).as_secs().div_ceil(60);
    format!(
        "• {} · {} · {} · {} · {standing} · {left} min left",
        request.id,
        short(&request.database),
        short(&request.rule),
        short(&request.requester.subject)
    )
}
