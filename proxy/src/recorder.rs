//! The recorder: takes the events of all sessions, makes them durable in the store, and says so. It owns the way from an event to its object;
//! what the bytes are is [`countersign_recording`]'s, when a session waits is the session's own.
//!
//! One thread (`engine`) encodes, hashes and compresses for every session of the process. Small events of all sessions go together into one
//! journal object per flush; a session with much to say gets segments of its own; a closed one gets its last segment and a signed manifest.
//! Objects are written once and never again, by writers that retry until the store answers.

mod caretaker;
mod config;
mod coverage;
mod directory;
mod engine;
mod handle;
mod put;
mod s3;
mod sealing;
mod session;
mod signer;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_config::SdkConfig;
use bytes::Bytes;
use countersign_recording::v1::manifest::Payload as _;
use countersign_recording::{Hash, ObjectName, SessionId, SigningKey, TaskId, TaskStatement};
use tokio::sync::{Notify, mpsc, oneshot};
use uuid::Uuid;

use crate::config::RecordingStore;

pub use config::{RecorderConfig, Tuning};
pub use directory::DirectoryStore;
pub use handle::{RecorderFailure, SessionRecorder};
pub use s3::S3Store;
pub use signer::{KmsSigner, ManifestSigner, PemSigner, SignerError};
pub use store::{PutError, Store};

use caretaker::{Care, Caretaker};
use engine::{Engine, Message};
use handle::Shared;
use put::{Health, PutParts};
use sealing::{Sealer, SessionSealer};

/// The process's recorder. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    messages: mpsc::UnboundedSender<Message>,
    hurry: Arc<Notify>,
    next_key: Arc<AtomicU64>,
    task: TaskId,
    gated: bool,
    health: Arc<Health>,
    store: Arc<dyn Store>,
    last: mpsc::Sender<caretaker::Last>,
    sealer: Option<Arc<Sealer>>,
}

/// Why the recorder does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store cannot be used.
    #[error("recording store: {0}")]
    Store(String),
    /// The bucket keeps nothing from being deleted.
    #[error(
        "recording store: bucket {bucket} has no Object Lock; it can only be enabled when a bucket is created: use one made by infra/data.yaml, or store = \"directory\" for a demo"
    )]
    NoObjectLock {
        /// Bucket.
        bucket: String,
    },
    /// No AWS where there must be.
    #[error("recording needs AWS, but no AWS configuration was given")]
    NoAws,
    /// The signing key cannot be used.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// An opening key cannot be used.
    #[error("opening key {key}: {error}")]
    OpeningKey {
        /// Key.
        key: String,
        /// Why.
        error: String,
    },
    /// The thread did not start.
    #[error("recorder thread: {0}")]
    Thread(std::io::Error),
    /// The system gives no random bytes.
    #[error("no random bytes for the key of this task")]
    Random,
}

impl Recorder {
    /// Starts it: looks at the store, signs and stores the statement of this task (so that a store or key that refuses is known now).
    ///
    /// # Errors
    /// When recordings could not be kept as configured; nothing may run then.
    pub async fn start(config: RecorderConfig, aws: Option<&SdkConfig>) -> Result<Self, StartError> {
        let store = open_store(&config.store, aws).await?;
        Self::over(config, store, aws).await
    }

    /// Starts it over a store that is open.
    ///
    /// # Errors
    /// As [`Recorder::start`].
    pub async fn over(config: RecorderConfig, store: Arc<dyn Store>, aws: Option<&SdkConfig>) -> Result<Self, StartError> {
        let signer = signer::open(&config.signing_key, aws).await?;
        let sealer = match &config.sealing {
            Some(sealing) => Some(Sealer::open(sealing, aws).await?),
            None => None,
        };
        Ok(Self { sealer, ..Self::with(config, store, signer).await? })
    }

    /// Starts it over a store and a signer of the caller's.
    ///
    /// # Errors
    /// As [`Recorder::start`].
    pub async fn with(config: RecorderConfig, store: Arc<dyn Store>, signer: Arc<dyn ManifestSigner>) -> Result<Self, StartError> {
        let task = TaskId(Uuid::now_v7());
        let key = task_key()?;
        let statement = TaskStatement {
            kind: TaskStatement::KIND.to_owned(),
            version: 1,
            task,
            environment: config.environment.clone(),
            build: config.build.clone(),
            started_us: now_us(),
            in_flight: u32::try_from(config.tuning.in_flight).unwrap_or(u32::MAX),
            key: TaskStatement::key_of(&key),
        };
        let unsigned = statement.unsigned(signer.key_id()).map_err(|error| StartError::Store(error.to_string()))?;
        let object = Bytes::from(unsigned.clone().finish(&signer.sign(&unsigned).await?));
        let head = Hash::of(&object);
        store
            .put(&ObjectName::Task { task }.to_string(), object)
            .await
            .map_err(|error| StartError::Store(format!("{}: {error}", store.describe())))?;
        tracing::info!(task.id = %task, store = %store.describe(), key.id = %signer.key_id(), durability = config.durability.as_str(), "recording");

        let gated = config.gated();
        let (messages, inbox) = mpsc::unbounded_channel();
        let health = Arc::new(Health::default());
        let checked = Arc::clone(&store);
        let parts = PutParts { store, signer, health: Arc::clone(&health), runtime: tokio::runtime::Handle::current() };
        let care = Care {
            messages: messages.downgrade(),
            task,
            environment: config.environment.clone(),
            build: config.build.clone(),
            tuning: config.tuning.clone(),
            statement: head,
            started_us: statement.started_us,
        };
        let caretaker = Caretaker::new(care, parts.clone());
        let hurry = Arc::new(Notify::new());
        engine::spawn(Engine::new(config, task, key, head, parts, Arc::clone(&hurry)), inbox).map_err(StartError::Thread)?;
        let (last, asked) = mpsc::channel(1);
        tokio::spawn(caretaker.run(asked));
        Ok(Self { messages, next_key: Arc::new(AtomicU64::new(0)), task, gated, health, store: checked, hurry, last, sealer: None })
    }

    /// Opens the recording of a session. Its first event must be its start.
    #[must_use]
    pub fn open(&self, session: Uuid) -> SessionRecorder {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Shared::default());
        // A failed send shows at the session's first `changed`.
        let _gone = self.messages.send(Message::Open { key, session: SessionId(session), shared: Arc::clone(&shared) });
        let sealer = self.sealer.as_ref().map(|sealer| SessionSealer::new(Arc::clone(sealer), SessionId(session), None));
        SessionRecorder::new(key, shared, self.messages.clone(), Arc::clone(&self.hurry), sealer)
    }

    /// This run of the process, as its journal has it.
    #[must_use]
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// Whether sessions wait for durability (`strict`).
    #[must_use]
    pub fn gated(&self) -> bool {
        self.gated
    }

    /// For how long the store has been failing; none while it answers.
    #[must_use]
    pub fn failing_for(&self) -> Option<Duration> {
        self.health.failing_for()
    }

    /// Whether recordings can be kept now: no put fails, and the store is there and as it must be.
    ///
    /// # Errors
    /// Why not, for operators.
    pub async fn check(&self) -> Result<(), PutError> {
        if let Some(since) = self.failing_for() {
            return Err(PutError::Unavailable(format!("{} has been failing for {} s", self.store.describe(), since.as_secs())));
        }
        self.store.check().await
    }

    /// Seals what is still open, ends the journal and waits until all of it is stored, at most for `deadline`. True when all was. Sessions should have
    /// ended before; those that have not are sealed as they stand.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        let complete = tokio::time::timeout(deadline, self.seal_and_end(deadline)).await.unwrap_or(false);
        if !complete {
            tracing::error!(task.id = %self.task, "recorder stopped before everything was stored; the journal has what was acknowledged, seal its sessions by `countersign-audit seal`");
        }
        complete
    }
}

impl Recorder {
    async fn seal_and_end(&self, deadline: Duration) -> bool {
        let (sealed, all_sealed) = oneshot::channel();
        if self.messages.send(Message::Shutdown { sealed }).is_err() {
            return true;
        }
        if all_sealed.await.is_err() {
            return false;
        }
        // The last digest must not keep the journal from its end, by which others know that nothing is left to do here.
        let (done, digested) = oneshot::channel();
        if self.last.send(done).await.is_err() || tokio::time::timeout(deadline / 2, digested).await.is_err() {
            tracing::warn!(task.id = %self.task, "the last digest is not stored");
        }
        let (done, ended) = oneshot::channel();
        self.messages.send(Message::End { done }).is_ok() && ended.await.is_ok()
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("task", &self.task).finish_non_exhaustive()
    }
}

/// Opens the store of recordings. Writes nothing.
///
/// # Errors
/// When it cannot be used as configured.
pub async fn open_store(store: &RecordingStore, aws: Option<&SdkConfig>) -> Result<Arc<dyn Store>, StartError> {
    Ok(match store {
        RecordingStore::Directory { path } => Arc::new(DirectoryStore::open(path)?),
        RecordingStore::S3 { .. } => Arc::new(S3Store::open(aws.ok_or(StartError::NoAws)?, store).await?),
    })
}

/// A key for this run alone; its public half is in the signed statement of the task, its private half never leaves memory.
fn task_key() -> Result<SigningKey, StartError> {
    use rand::TryRngCore as _;
    let mut seed = [0; 32];
    for _ in 0..8 {
        rand::rngs::OsRng.try_fill_bytes(&mut seed).map_err(|_| StartError::Random)?;
        if let Ok(key) = SigningKey::from_random(&seed) {
            return Ok(key);
        }
    }
    Err(StartError::Random)
}

/// Microseconds since the epoch.
fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
