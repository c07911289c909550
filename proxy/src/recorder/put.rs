//! Puts that are tried until they succeed, each a task of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign_recording::v1::manifest::Payload as _;
use countersign_recording::{Hash, Manifest};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::config::Tuning;
use super::signer::ManifestSigner;
use super::store::{PutError, Store};

/// What is being put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Put {
    /// A journal object.
    Journal(u32),
    /// The session's segment under way.
    Segment(u64),
    /// The session's manifest.
    Manifest(u64),
}

/// How a put goes.
#[derive(Debug)]
pub(super) enum Progress {
    /// Stored, with the hash of the object.
    Stored(Put, Hash),
    /// Something else is there. Final.
    Conflict(Put),
    /// It has been tried for longer than sessions wait. It goes on being tried.
    Stalled(Put),
}

/// Whether the store answers.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Option<Instant>>);

impl Health {
    /// Since when it fails.
    pub(super) fn failing_for(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|since| since.elapsed())
    }

    fn failed(&self, store: &str, error: &str) {
        metrics::counter!(crate::metrics::RECORDER_ERRORS).increment(1);
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none() {
            *since = Some(Instant::now());
            tracing::error!(store, error, "the recording store fails; what must be durable waits");
        }
    }

    fn succeeded(&self, store: &str) {
        let since = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(since) = since {
            tracing::warn!(
                store,
                failed_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
                "the recording store answers again"
            );
        }
    }
}

/// What puts go through.
#[derive(Debug, Clone)]
pub(super) struct PutParts {
    pub(super) store: Arc<dyn Store>,
    pub(super) signer: Arc<dyn ManifestSigner>,
    pub(super) health: Arc<Health>,
    /// Where puts run.
    pub(super) runtime: Handle,
}

/// Starts puts.
#[derive(Debug, Clone)]
pub(super) struct Putter {
    parts: PutParts,
    progress: mpsc::UnboundedSender<Progress>,
    tuning: Tuning,
}

impl Putter {
    pub(super) fn new(parts: PutParts, progress: mpsc::UnboundedSender<Progress>, tuning: Tuning) -> Self {
        Self { parts, progress, tuning }
    }

    /// Stores an object.
    pub(super) fn put(&self, put: Put, key: String, object: Bytes) {
        let putter = self.clone();
        self.parts.runtime.spawn(async move { putter.until_stored(put, &key, object, Instant::now()).await });
    }

    /// Signs a manifest and stores it.
    pub(super) fn seal(&self, put: Put, key: String, manifest: Manifest) {
        let putter = self.clone();
        self.parts.runtime.spawn(async move {
            let began = Instant::now();
            let Ok(unsigned) = manifest.unsigned(putter.parts.signer.key_id()) else { return };
            let mut pause = Pause::new(putter.tuning.backoff);
            let signature = loop {
                match tokio::time::timeout(putter.tuning.attempt, putter.parts.signer.sign(&unsigned)).await {
                    Ok(Ok(signature)) => break signature,
                    Ok(Err(error)) => tracing::warn!(object.key = %key, %error, "a manifest could not be signed; trying again"),
                    Err(_elapsed) => tracing::warn!(object.key = %key, "a manifest could not be signed in time; trying again"),
                }
                metrics::counter!(crate::metrics::RECORDER_ERRORS).increment(1);
                pause.wait().await;
            };
            // From here on always the same bytes: a put that got through unnoticed must be recognised.
            putter.until_stored(put, &key, Bytes::from(unsigned.finish(&signature)), began).await;
        });
    }

    async fn until_stored(&self, put: Put, key: &str, object: Bytes, began: Instant) {
        let sha256 = Hash::of(&object);
        let mebibytes = u64::try_from(object.len() >> 20).unwrap_or(u64::MAX);
        let attempt = self.tuning.attempt.saturating_add(Duration::from_secs(mebibytes));
        let store = self.parts.store.describe();
        let mut pause = Pause::new(self.tuning.backoff);
        let mut patience = Patience { until: Some(tokio::time::Instant::from_std(began) + self.tuning.patience), putter: self, put };
        loop {
            let answer = tokio::time::timeout(attempt, self.parts.store.put(key, object.clone()));
            let failure = match patience.during(answer).await {
                Ok(Ok(())) => {
                    self.parts.health.succeeded(&store);
                    let _ended = self.progress.send(Progress::Stored(put, sha256));
                    return;
                }
                Ok(Err(PutError::Conflict)) => {
                    tracing::error!(store, object.key = key, "another object has this name; it is left as it is");
                    let _ended = self.progress.send(Progress::Conflict(put));
                    return;
                }
                Ok(Err(PutError::Unavailable(error))) => error,
                Err(_elapsed) => format!("no answer to {key} within {} s", attempt.as_secs()),
            };
            self.parts.health.failed(&store, &failure);
            if self.progress.is_closed() {
                return;
            }
            patience.during(pause.wait()).await;
        }
    }
}

/// Says once when a put has taken longer than sessions wait, also while an attempt hangs.
struct Patience<'a> {
    until: Option<tokio::time::Instant>,
    putter: &'a Putter,
    put: Put,
}

impl Patience<'_> {
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if let Some(until) = self.until {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep_until(until) => {}
            }
            self.until = None;
            self.putter.parts.health.failed(&self.putter.parts.store.describe(), "no answer within the time sessions wait");
            let _ended = self.putter.progress.send(Progress::Stalled(self.put));
        }
        work.await
    }
}

/// Growing pauses with jitter.
struct Pause {
    next: Duration,
    longest: Duration,
}

impl Pause {
    fn new(longest: Duration) -> Self {
        Self { next: Duration::from_millis(20).min(longest), longest }
    }

    async fn wait(&mut self) {
        tokio::time::sleep(self.next.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
        self.next = self.next.saturating_mul(2).min(self.longest);
    }
}
