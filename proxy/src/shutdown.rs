//! The orderly end: once draining begins no new session is taken, idle ones end with 57P01, running ones have until the deadline.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// Starts the drain. One per process.
#[derive(Debug)]
pub struct Shutdown {
    stage: watch::Sender<Option<Instant>>,
}

/// Learns of the drain. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Drain {
    stage: watch::Receiver<Option<Instant>>,
}

/// A new pair, not draining.
#[must_use]
pub fn channel() -> (Shutdown, Drain) {
    let (sender, receiver) = watch::channel(None);
    (Shutdown { stage: sender }, Drain { stage: receiver })
}

impl Shutdown {
    /// Begins to drain; sessions still there after `grace` are ended. A second call can only bring the deadline nearer.
    pub fn begin(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.stage.send_modify(|stage| *stage = Some(stage.map_or(deadline, |before| before.min(deadline))));
    }
}

impl Drain {
    /// Whether draining has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.stage.borrow().is_some()
    }

    /// Resolves once draining has begun, with the deadline for running statements. Cancel-safe. Pending for ever when it can begin no more.
    pub async fn begun(&mut self) -> Instant {
        let stage = self.stage.wait_for(Option::is_some).await.ok().and_then(|stage| *stage);
        match stage {
            Some(deadline) => deadline,
            None => std::future::pending().await,
        }
    }

    /// Resolves at the deadline. Cancel-safe.
    pub async fn expired(&mut self) {
        loop {
            let deadline = self.begun().await;
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                changed = self.stage.changed() => if changed.is_err() {
                    tokio::time::sleep_until(deadline).await;
                    return;
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_signal_brings_the_deadline_nearer() {
        let (shutdown, mut drain) = channel();
        assert!(!drain.is_draining());
        shutdown.begin(Duration::from_secs(3600));
        assert!(drain.is_draining());
        let far = drain.begun().await;
        shutdown.begin(Duration::ZERO);
        assert!(drain.begun().await < far);
        drain.expired().await;
        shutdown.begin(Duration::from_secs(3600));
        drain.expired().await;
    }
}
