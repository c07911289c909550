//! Approvals as the proxy sees them: place a request, watch for decisions, consume a grant exactly once.
//!
//! One store (DynamoDB or a directory), one poller for everything this process waits for. The store is not trusted: what opens a hold
//! is decided by [`countersign_approval::verify::quorum`] over signed tokens, against what the session holds. A hostile store can
//! lose requests, hide decisions and close requests early; it cannot open a hold.

mod clock;
mod directory;
mod dynamo;
mod keys;
mod poller;
mod store;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_approval::item::{Closed, Status};
use countersign_approval::{Expectation, Request, RequestId, StatementDigest, VerifyingKeys};
use serde::Deserialize;

pub use self::store::StoreError;
pub use self::watch::{HoldEvent, Watch};

use self::poller::Poller;
use self::store::Store;

/// `[approvals]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalsConfig {
    /// Where requests and decisions live.
    pub store: StoreKind,
    /// Folder of the directory store.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Table of the DynamoDB store.
    #[serde(default)]
    pub table: Option<String>,
    /// PEM files of the public keys decisions may be signed with (`-----BEGIN PUBLIC KEY-----`, P-256).
    #[serde(default)]
    pub keys: Vec<PathBuf>,
    /// KMS keys decisions may be signed with: id, ARN or `alias/…`. Their public halves are fetched at start.
    #[serde(default)]
    pub kms_keys: Vec<String>,
    /// How often the store is asked for decisions while something waits, in milliseconds.
    #[serde(default = "default_poll_interval")]
    pub poll_interval_ms: u64,
    /// How many days a finished request stays in the table.
    #[serde(default = "default_keep_days")]
    pub keep_finished_days: u64,
}

const fn default_poll_interval() -> u64 {
    200
}

const fn default_keep_days() -> u64 {
    7
}

/// Kinds of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// Files in a folder that proxy and bot share.
    Directory,
    /// A DynamoDB table.
    DynamoDb,
}

/// Why approvals cannot start. Everything here is for the operator to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is missing or does not fit.
    #[error("[approvals] {0}")]
    Setting(String),
    /// A key cannot be read or used.
    #[error("[approvals] key {key}: {why}")]
    Key {
        /// Which.
        key: String,
        /// Why.
        why: String,
    },
    /// The store does not answer or is not there.
    #[error("[approvals] {0}")]
    Store(#[from] StoreError),
}

/// Approvals of this process. Cheap to clone; the poller ends with the last clone.
#[derive(Debug, Clone)]
pub struct Approvals {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    keys: Arc<VerifyingKeys>,
    poller: Poller,
    keep_finished: Duration,
}

impl Approvals {
    /// Reads the keys, checks that the store is there and usable, and starts the poller.
    ///
    /// # Errors
    /// Says what the operator must mend.
    pub async fn start(config: &ApprovalsConfig, aws: Option<&aws_config::SdkConfig>) -> Result<Self, StartError> {
        let aws_needed = |what: &str| StartError::Setting(format!("{what} needs AWS: configure [aws] or the SDK's environment"));
        let store: Arc<dyn Store> = match config.store {
            StoreKind::Directory => {
                let path = config.path.as_ref().ok_or_else(|| StartError::Setting("store = \"directory\" needs path".to_owned()))?;
                Arc::new(directory::Directory::new(path.clone()))
            }
            StoreKind::DynamoDb => {
                let table = config.table.as_ref().ok_or_else(|| StartError::Setting("store = \"dynamodb\" needs table".to_owned()))?;
                let aws = aws.ok_or_else(|| aws_needed("store = \"dynamodb\""))?;
                Arc::new(dynamo::Dynamo::new(aws_sdk_dynamodb::Client::new(aws), table.clone()))
            }
        };
        let mut verifying = VerifyingKeys::default();
        keys::from_files(&mut verifying, &config.keys).await?;
        if !config.kms_keys.is_empty() {
            let aws = aws.ok_or_else(|| aws_needed("kms_keys"))?;
            keys::from_kms(&mut verifying, &aws_sdk_kms::Client::new(aws), &config.kms_keys).await?;
        }
        if verifying.is_empty() {
            return Err(StartError::Setting("no key to verify decisions with: name the bot's public key in keys or kms_keys".to_owned()));
        }
        store.check().await?;
        let ids: Vec<&str> = verifying.ids().map(countersign_approval::KeyId::as_str).collect();
        tracing::info!(approvals.keys = ?ids, approvals.store = ?config.store, "approvals are ready");
        let interval = Duration::from_millis(config.poll_interval_ms.clamp(10, 60_000));
        Ok(Self::with_store(store, verifying, interval, Duration::from_secs(config.keep_finished_days.saturating_mul(86_400))))
    }

    fn with_store(store: Arc<dyn Store>, keys: VerifyingKeys, interval: Duration, keep_finished: Duration) -> Self {
        let poller = Poller::start(store.clone(), interval);
        Self { inner: Arc::new(Inner { store, keys: Arc::new(keys), poller, keep_finished }) }
    }

    /// Whether the store is there and usable now.
    ///
    /// # Errors
    /// Why not, for operators.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.inner.store.check().await
    }

    /// Writes a request, once. Writing the same request again is no error.
    ///
    /// # Errors
    /// When the store does not take it; nothing waits then.
    pub async fn place(&self, request: &Request) -> Result<(), StoreError> {
        let bytes = request.to_bytes().map_err(|error| StoreError::Refused(error.to_string()))?;
        if bytes.len() > countersign_approval::request::MAX_REQUEST_BYTES {
            return Err(StoreError::TooLong { found: bytes.len() });
        }
        self.inner.store.place(request, &bytes).await
    }

    /// Watches a placed request until it is decided or over.
    #[must_use]
    pub fn watch(&self, expectation: Expectation) -> Watch {
        let observed = self.inner.poller.observe(&expectation.request);
        Watch::new(self.clone(), expectation, observed)
    }

    /// Uses up the grant by one conditional write: true for exactly one caller. The statement may go upstream only then.
    ///
    /// # Errors
    /// When the store does not answer. The grant may or may not be used up then; the statement must not run.
    pub async fn consume(&self, id: &RequestId, digest: &StatementDigest) -> Result<bool, StoreError> {
        let closed = Self::closed(Status::Consumed, "consumed");
        self.inner.store.close(id, Some(digest), &closed).await
    }

    /// Closes a request nobody waits for any more. True when it was open.
    ///
    /// # Errors
    /// When the store does not answer; the request then stays open until it expires.
    pub async fn cancel(&self, id: &RequestId, why: &str) -> Result<bool, StoreError> {
        self.inner.store.close(id, None, &Self::closed(Status::Cancelled, why)).await
    }

    /// Notes how it ended, once that is in the recording; from here on the store may forget the request. True when it was noted.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn finish(&self, id: &RequestId, outcome: &str) -> Result<bool, StoreError> {
        let now = clock::now();
        self.inner.store.finish(id, outcome, now, now.saturating_add(self.inner.keep_finished.as_secs())).await
    }

    /// Closes a request whose time is over, behind the caller's back: the card follows, nobody waits for it.
    fn expire(&self, id: &RequestId) {
        let store = self.inner.store.clone();
        let id = id.clone();
        tokio::spawn(async move {
            if let Err(error) = store.close(&id, None, &Self::closed(Status::Expired, "nobody decided in time")).await {
                tracing::warn!(request.id = %id, %error, "expired request could not be closed in the store");
            }
        });
    }

    fn closed(status: Status, why: &str) -> Closed {
        Closed { status, by: uuid::Uuid::new_v4().to_string(), at: clock::now(), why: why.to_owned() }
    }
}
