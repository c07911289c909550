//! Puts that are tried until they succeed, each a task of its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign_recording::v1::manifest::Payload as _;
use countersign_recording::{Hash, Manifest, Outage};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::config::Tuning;
use super::now_us;
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

/// Whether the store answers: not while any put fails.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Failing>);

/// Outages remembered between two digests; more than that are one.
const MAX_OUTAGES: usize = 500;

#[derive(Debug, Default)]
struct Failing {
    puts: usize,
    since: Option<Instant>,
    outages: Vec<Outage>,
    /// Nothing but silence has been heard of the outage under way.
    silent: bool,
}

/// What a put failed by.
enum Failure {
    /// The store said so.
    Answer(String),
    /// The store says nothing.
    Silence(String),
}

impl Health {
    /// Since when it fails.
    pub(super) fn failing_for(&self) -> Option<Duration> {
        self.lock().since.map(|since| since.elapsed())
    }

    /// Outages since this was last asked; the one that lasts is told again.
    pub(super) fn outages(&self) -> Vec<Outage> {
        let mut failing = self.lock();
        let outages = failing.outages.clone();
        failing.outages.retain(|outage| outage.until_us.is_none());
        outages
    }

    fn lock(&self) -> MutexGuard<'_, Failing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One put's share in the store's health: failing from its first failure until it ends.
struct Trouble<'a> {
    health: &'a Health,
    store: String,
    failing: bool,
    stored: bool,
}

impl Trouble<'_> {
    fn failed(&mut self, failure: &Failure) {
        metrics::counter!(crate::metrics::RECORDER_ERRORS).increment(1);
        let (Failure::Answer(error) | Failure::Silence(error)) = failure;
        // In a digest for ever: no more than a line of it.
        let line = || error.chars().take(300).collect();
        let again = std::mem::replace(&mut self.failing, true);
        let mut failing = self.health.lock();
        if !again {
            failing.puts = failing.puts.saturating_add(1);
        }
        if failing.since.is_none() {
            failing.since = Some(Instant::now());
            failing.silent = matches!(failure, Failure::Silence(_));
            if failing.outages.len() < MAX_OUTAGES {
                failing.outages.push(Outage { from_us: now_us(), until_us: None, error: line() });
            }
            tracing::error!(store = self.store, error, "the recording store fails; what must be durable waits");
        } else if failing.silent && matches!(failure, Failure::Answer(_)) {
            failing.silent = false;
            if let Some(outage) = failing.outages.last_mut().filter(|outage| outage.until_us.is_none()) {
                outage.error = line();
            }
        }
    }
}

impl Drop for Trouble<'_> {
    fn drop(&mut self) {
        if !self.failing {
            return;
        }
        let mut failing = self.health.lock();
        failing.puts = failing.puts.saturating_sub(1);
        if failing.puts == 0
            && let Some(since) = failing.since.take()
        {
            if let Some(outage) = failing.outages.last_mut() {
                outage.until_us = Some(now_us());
            }
            if !self.stored {
                return;
            }
            let failed_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(store = self.store, failed_ms, "the recording store answers again");
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
        // An attempt that hangs must leave time for another before sessions stop waiting.
        let attempt = self.tuning.attempt.min(self.tuning.patience / 3).saturating_add(Duration::from_secs(mebibytes));
        let store = self.parts.store.describe();
        let mut pause = Pause::new(self.tuning.backoff);
        let mut patience = Patience {
            until: Some(tokio::time::Instant::from_std(began) + self.tuning.patience),
            trouble: Trouble { health: &self.parts.health, store: store.clone(), failing: false, stored: false },
            progress: &self.progress,
            put,
        };
        loop {
            let answer = tokio::time::timeout(attempt, self.parts.store.put(key, object.clone()));
            let failure = match patience.during(answer).await {
                Ok(Ok(())) => {
                    patience.trouble.stored = true;
                    let _ended = self.progress.send(Progress::Stored(put, sha256));
                    return;
                }
                Ok(Err(PutError::Conflict)) => {
                    tracing::error!(store, object.key = key, "another object has this name; it is left as it is");
                    let _ended = self.progress.send(Progress::Conflict(put));
                    return;
                }
                Ok(Err(PutError::Unavailable(error))) => Failure::Answer(error),
                Ok(Err(PutError::Unreached(error))) => Failure::Silence(error),
                Err(_elapsed) => Failure::Silence(format!("no answer to {key} within {} ms", attempt.as_millis())),
            };
            patience.trouble.failed(&failure);
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
    trouble: Trouble<'a>,
    progress: &'a mpsc::UnboundedSender<Progress>,
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
            self.trouble.failed(&Failure::Silence("no answer within the time sessions wait".to_owned()));
            let _ended = self.progress.send(Progress::Stalled(self.put));
        }
        work.await
    }
}

/// Growing pauses with jitter.
pub(super) struct Pause {
    next: Duration,
    longest: Duration,
}

impl Pause {
    pub(super) fn new(longest: Duration) -> Self {
        Self { next: Duration::from_millis(20).min(longest), longest }
    }

    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.next.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
        self.next = self.next.saturating_mul(2).min(self.longest);
    }
}
