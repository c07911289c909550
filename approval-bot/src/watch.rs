//! In place of a stream: looks at the store itself and brings cards in line. For `serve`.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use countersign_approval::RequestId;

use crate::bot::Bot;
use crate::cards::{self, Synced};
use crate::digest;

/// The longest pause between two tries of one card, and between two looks at a store that does not answer.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// How often it is looked whether a digest is due.
const DIGEST_LOOK: Duration = Duration::from_secs(60);

/// Follows all requests of the store, for ever.
pub async fn watch(bot: Bot, interval: Duration) {
    let mut settled: HashSet<RequestId> = HashSet::new();
    let mut later: HashMap<RequestId, (Instant, Duration)> = HashMap::new();
    let mut pause = interval;
    let mut digest_at = Instant::now();
    loop {
        tokio::time::sleep(pause).await;
        if bot.digest_every.is_some() && Instant::now() >= digest_at {
            digest::post_if_due(&bot, bot.clock.now()).await;
            digest_at = Instant::now() + DIGEST_LOOK;
        }
        let ids = match bot.store.list().await {
            Ok(ids) => ids,
            Err(error) => {
                pause = pause.saturating_mul(2).min(MAX_PAUSE);
                tracing::error!(%error, "approval store does not answer, trying again");
                continue;
            }
        };
        pause = interval;
        settled.retain(|id| ids.contains(id));
        for id in ids.into_iter().filter(|id| !settled.contains(id)).collect::<Vec<_>>() {
            if later.get(&id).is_some_and(|(at, _)| Instant::now() < *at) {
                continue;
            }
            match cards::sync(&bot, &id).await {
                Ok(Synced::Following) => {
                    later.remove(&id);
                }
                Ok(Synced::Settled | Synced::Nothing) => {
                    later.remove(&id);
                    settled.insert(id);
                }
                Err(error) => {
                    let wait = later.get(&id).map_or(Duration::from_secs(1), |(_, wait)| wait.saturating_mul(2).min(MAX_PAUSE));
                    tracing::warn!(request.id = %id, %error, retry_ms = wait.as_millis(), "card is not in line, trying again");
                    later.insert(id, (Instant::now() + wait, wait));
                }
            }
        }
    }
}
