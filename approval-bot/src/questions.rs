//! Questions: from somebody who may decide to the card's thread and to the waiting client. They decide nothing.

use crate::bot::Bot;
use crate::card;
use crate::decide::{self, MAX_REASON};
use crate::slack::{Message, Posted};
use crate::visible;
use crate::votes::{self, Found, Presser};

/// Asks. Whoever may decide may ask.
///
/// # Errors
/// Why nothing was asked, for whoever wished it.
pub(crate) async fn ask(bot: &Bot, presser: Presser<'_>, found: &Found, question: &str, now: u64) -> Result<String, String> {
    let Found { request, stored } = found;
    let policy = votes::policy(bot, request).await?;
    let asker = votes::asker(bot, presser, request, policy.roster()).await?;
    let person = decide::who(asker.by(), request, policy.roster()).map_err(|refusal| asker.told(bot, &refusal, request))?;
    let question: String = question.trim().chars().take(MAX_REASON).collect();
    let told = bot.store.ask(&request.id, &format!("{person}: {question}")).await.map_err(|error| {
        tracing::error!(request.id = %request.id, %error, "question could not be written");
        "the question could not be written; try again".to_owned()
    })?;
    if !told || now >= request.expires_at {
        return Err("too late: the request is closed already, or has been asked about too often".to_owned());
    }
    let (Some(channel), Some(ts)) = (stored.card.channel.clone(), stored.card.ts.clone()) else {
        return Ok(format!("your question on request {} was put before the waiting client", request.id));
    };
    let text = format!("{} asks: {}", visible::line(&person), visible::text(&question).text);
    let message = Message { text: visible::markup(&text), blocks: vec![card::plain(&text)] };
    if let Err(error) = bot.slack.reply(&Posted { channel, ts }, &message).await {
        tracing::warn!(request.id = %request.id, %error, "question could not be put into the thread");
    }
    Ok(format!("your question on request {} was put into the thread and before the waiting client", request.id))
}
