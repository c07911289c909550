//! Approvals as the proxy sees them: place a request, watch for decisions, consume a grant exactly once.
//!
//! One store (DynamoDB or a directory), one poller for everything this process waits for. The store is not trusted: what opens a hold
//! is decided by [`countersign_approval::verify::quorum`] over signed tokens, against what the session holds. A hostile store can
//! lose requests, hide decisions and close requests early; it cannot open a hold, and it cannot make a grant be used twice (`marks`).

mod clock;
mod desk;
mod directory;
mod dynamo;
mod keys;
mod marks;
#[cfg(test)]
mod model;
mod poller;
mod store;
mod templates;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_approval::item::{Closed, Status};
use countersign_approval::{
    Expectation, Request, RequestId, StatementDigest, Templates, UnverifiedRequest, VerifyingKeys, break_glass, verify,
};
use serde::Deserialize;

pub use self::clock::Clock;
pub use self::desk::Desk;
pub use self::store::{Listed, StoreError};
pub(crate) use self::watch::plain;
pub use self::watch::{HoldEvent, Watch};

use self::marks::Marks;
use self::poller::Poller;
use self::store::{Snapshot, Store};
use crate::recorder;

/// How often a request that another replica seems to be placing is looked for, and how long the pause is.
const PLACING_LOOKS: u32 = 10;
const PLACING_PAUSE: Duration = Duration::from_millis(100);
/// How long a statement that runs at once waits for its request to be placed, and the pauses between tries after that.
const REVIEW_WAIT: Duration = Duration::from_secs(3);
const REVIEW_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_REVIEW_PAUSE: Duration = Duration::from_secs(30);
/// How long this process looks after a request nobody waits for, at most, in seconds.
const LONGEST_WATCH: u64 = 7 * 86_400;
/// How long after its expiry such a request is closed: clocks differ.
const EXPIRY_GRACE: Duration = Duration::from_secs(2);
/// How often a race for the pointer is run before a request of one's own is placed without one.
const RACES: u32 = 3;

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
    /// Whether a request stays open when its client goes away, and is found when the same statement is asked again.
    #[serde(default = "default_resume")]
    pub resume: bool,
    /// How many days a finished request stays in the table.
    #[serde(default = "default_keep_days")]
    pub keep_finished_days: u64,
    /// Where reviewers find the bot's own pages, without a slash at the end.
    #[serde(default)]
    pub bot_url: Option<String>,
}

const fn default_poll_interval() -> u64 {
    200
}

const fn default_resume() -> bool {
    true
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
    marks: Marks,
    clock: Clock,
    resume: bool,
    keep_finished: Duration,
    bot_url: Option<String>,
    templates: templates::Cache,
}

/// A request that lies in the store.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The request, this one or the one that asked for the same before.
    pub request: Request,
    /// Its bytes.
    pub body: String,
    /// Whether it was there already.
    pub again: bool,
    /// Decisions it has already.
    tokens: Vec<String>,
}

impl Approvals {
    /// Reads the keys, checks that the store is there and usable, and starts the poller.
    ///
    /// # Errors
    /// Says what the operator must mend.
    ///
    /// `marks` is where recordings go: there, each use of a grant leaves a mark that cannot be taken away.
    pub async fn start(
        config: &ApprovalsConfig,
        aws: Option<&aws_config::SdkConfig>,
        marks: Arc<dyn recorder::Store>,
    ) -> Result<Self, StartError> {
        let store = open_store(config, aws)?;
        let verifying = keys::all(config, aws).await?;
        store.check().await?;
        let ids: Vec<&str> = verifying.ids().map(countersign_approval::KeyId::as_str).collect();
        tracing::info!(approvals.keys = ?ids, approvals.store = ?config.store, "approvals are ready");
        let interval = Duration::from_millis(config.poll_interval_ms.clamp(10, 60_000));
        let keep_finished = Duration::from_secs(config.keep_finished_days.saturating_mul(86_400));
        let settings =
            Settings { interval, resume: config.resume, keep_finished, clock: Clock::default(), bot_url: config.bot_url.clone() };
        Ok(Self::with_store(store, verifying, Marks::new(marks), settings))
    }

    fn with_store(store: Arc<dyn Store>, keys: VerifyingKeys, marks: Marks, settings: Settings) -> Self {
        let Settings { interval, resume, keep_finished, clock, bot_url } = settings;
        let poller = Poller::start(store.clone(), interval);
        Self {
            inner: Arc::new(Inner {
                store,
                keys: Arc::new(keys),
                poller,
                marks,
                clock,
                resume,
                keep_finished,
                bot_url,
                templates: templates::Cache::default(),
            }),
        }
    }

    /// Whether requests outlive their clients.
    #[must_use]
    pub fn resumes(&self) -> bool {
        self.inner.resume
    }

    /// Where reviewers find the bot's own pages.
    #[must_use]
    pub fn bot_url(&self) -> Option<&str> {
        self.inner.bot_url.as_deref()
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

    /// The templates of a policy whose signatures hold. Verified once for each policy.
    #[must_use]
    pub fn templates(&self, policy: &countersign_policy::Policy, environment: &str) -> Arc<Templates> {
        self.inner.templates.of(policy, environment, &self.inner.keys)
    }

    /// Places the request for the review of a statement that runs at once. A store that does not take it in time does not hold the
    /// statement up: it is in the recording, an alarm is raised, and the request is placed as soon as that is possible.
    ///
    /// # Errors
    /// When it can never be placed; nothing may run then.
    pub async fn place_for_review(&self, request: Request) -> Result<Placed, StoreError> {
        let body = request.to_bytes().map_err(|error| StoreError::Refused(error.to_string()))?;
        if body.len() > countersign_approval::request::MAX_REQUEST_BYTES {
            return Err(StoreError::TooLong { found: body.len() });
        }
        let body = String::from_utf8(body).map_err(|error| StoreError::Refused(error.to_string()))?;
        tracing::error!(
            approval.request = %request.id,
            approval.rule = break_glass::said(&request).map_or("", |(_, rule)| rule),
            session.id = %request.session,
            "break-glass: a statement runs without approval"
        );
        crate::metrics::break_glass();
        let (own, placing) = (self.clone(), request.clone());
        let done = tokio::spawn(async move {
            let mut pause = REVIEW_PAUSE;
            while let Err(error) = own.place(&placing).await {
                tracing::error!(approval.request = %placing.id, %error, "break-glass: reviewers could not be told, trying again");
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(LONGEST_REVIEW_PAUSE);
            }
        });
        // Whether it took long or not.
        let _in_time = tokio::time::timeout(REVIEW_WAIT, done).await;
        Ok(Placed { request, body, again: false, tokens: Vec::new() })
    }

    /// Watches a placed request until it is decided or over.
    #[must_use]
    pub fn watch(&self, expectation: Expectation) -> Watch {
        let observed = self.inner.poller.observe(&expectation.request);
        Watch::new(self.clone(), expectation, observed)
    }

    /// Places this request, unless the same was asked before and is still open or granted: then that one is taken up. Of many who ask at
    /// the same moment, on any replica, one places a request and the others take it up.
    ///
    /// # Errors
    /// When the store does not take it; nothing waits then.
    pub async fn place_or_take_up(&self, request: Request) -> Result<Placed, StoreError> {
        if self.inner.resume {
            let key = request.sameness();
            for _ in 0..RACES {
                let known = self.inner.store.pointer(&key).await?;
                if let Some(found) = self.find_again(known.as_ref(), &request).await? {
                    return Ok(found);
                }
                // The pointer first: whoever asks from now on waits for this request instead of placing another.
                if self.inner.store.point(&key, known.as_ref(), &request.id, request.expires_at).await? {
                    break;
                }
            }
        }
        self.place(&request).await?;
        let body = request.to_bytes().map_err(|error| StoreError::Refused(error.to_string()))?;
        let body = String::from_utf8(body).map_err(|error| StoreError::Refused(error.to_string()))?;
        Ok(Placed { request, body, again: false, tokens: Vec::new() })
    }

    /// What the pointer leads to, if it is the same request and still open. Nothing the store says is believed: whether it is the same is
    /// judged over its whole content, and what opens it are signatures over exactly that.
    async fn find_again(&self, id: Option<&RequestId>, own: &Request) -> Result<Option<Placed>, StoreError> {
        let Some(id) = id else { return Ok(None) };
        for _ in 0..PLACING_LOOKS {
            if let Some((bytes, snapshot)) = self.inner.store.fetch(id).await? {
                let Snapshot { status, tokens, .. } = snapshot;
                let Ok(request) = UnverifiedRequest::new(&bytes).parse() else { return Ok(None) };
                let same = request.id == *id && own.may_take_up(&request, self.inner.clock.now());
                let Ok(body) = String::from_utf8(bytes) else { return Ok(None) };
                if !same || status != Some(Status::Open) {
                    return Ok(None);
                }
                self.note_attendance(id, None).await;
                return Ok(Some(Placed { request, body, again: true, tokens }));
            }
            // Its pointer is written before the request itself.
            tokio::time::sleep(PLACING_PAUSE).await;
        }
        Ok(None)
    }

    /// What the store held of decisions when the request was taken up, judged once: for clients that do not wait.
    #[must_use]
    pub fn decided(&self, placed: &Placed) -> Option<HoldEvent> {
        let expectation = placed.request.expectation();
        match verify::quorum(&expectation, &placed.tokens, &self.inner.keys, self.inner.clock.now()) {
            Ok(quorum) => Some(HoldEvent::Granted { quorum, tokens: watch::signed(&placed.tokens, &self.inner.keys) }),
            Err(_) => None,
        }
    }

    /// The client of this request went away: it stays open until it expires, and is closed then if this process still lives.
    pub fn leave(&self, id: &RequestId, expires_at: u64) {
        let (own, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            let now = own.inner.clock.now();
            own.note_attendance(&id, Some(now)).await;
            tokio::time::sleep(Duration::from_secs(expires_at.saturating_sub(now).min(LONGEST_WATCH)).saturating_add(EXPIRY_GRACE)).await;
            own.end_expired(&id).await;
        });
    }

    async fn note_attendance(&self, id: &RequestId, left_at: Option<u64>) {
        if let Err(error) = self.inner.store.attend(id, left_at).await {
            tracing::warn!(request.id = %id, %error, "the card of a request may not say whether anybody waits for it");
        }
    }

    /// Uses up one run of the grant, by two conditional writes: one in the store, one where recordings are kept. True for at most as many
    /// callers as the grant has runs. The statement may go upstream only then.
    ///
    /// # Errors
    /// When one of the stores does not answer. The run may or may not be used up then; the statement must not run.
    pub async fn consume(&self, id: &RequestId, digest: &StatementDigest, runs: u32) -> Result<bool, StoreError> {
        let now = self.inner.clock.now();
        let closed = self.closed(Status::Consumed, "consumed");
        if runs <= 1 {
            // One after the other: of two who race for both at once, each could win one, and nobody would run it.
            return Ok(
                self.inner.store.close(id, Some(digest), &closed).await? && self.inner.marks.take(id, 1, digest, &closed.by, now).await?
            );
        }
        for run in 1..=runs {
            if !self.inner.marks.take(id, run, digest, &closed.by, now).await? {
                continue;
            }
            return if run == runs {
                self.inner.store.close(id, Some(digest), &closed).await
            } else {
                self.inner.store.note_run(id, digest, run, now).await
            };
        }
        Ok(false)
    }

    /// Closes a request nobody waits for any more. True when it was open.
    ///
    /// # Errors
    /// When the store does not answer; the request then stays open until it expires.
    pub async fn cancel(&self, id: &RequestId, why: &str) -> Result<bool, StoreError> {
        self.inner.store.close(id, None, &self.closed(Status::Cancelled, why)).await
    }

    /// Notes how it ended, once that is in the recording; from here on the store may forget the request. True when it was noted.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn finish(&self, id: &RequestId, outcome: &str) -> Result<bool, StoreError> {
        let now = self.inner.clock.now();
        self.inner.store.finish(id, outcome, now, now.saturating_add(self.inner.keep_finished.as_secs())).await
    }

    /// Closes a request whose time is over, behind the caller's back: the card follows, nobody waits for it.
    fn expire(&self, id: &RequestId) {
        let (own, id) = (self.clone(), id.clone());
        tokio::spawn(async move { own.end_expired(&id).await });
    }

    async fn end_expired(&self, id: &RequestId) {
        let closed = self.closed(Status::Expired, "nobody decided in time, or nobody asked again");
        match self.inner.store.close(id, None, &closed).await {
            // Nothing ran under it, and that it was left or expired is in the recording.
            Ok(true) => {
                let _noted = self.finish(id, "not run: expired").await;
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(request.id = %id, %error, "expired request could not be closed in the store"),
        }
    }

    fn closed(&self, status: Status, why: &str) -> Closed {
        Closed { status, by: uuid::Uuid::new_v4().to_string(), at: self.inner.clock.now(), why: why.to_owned() }
    }
}

/// What [`Approvals`] goes by.
struct Settings {
    interval: Duration,
    resume: bool,
    keep_finished: Duration,
    clock: Clock,
    bot_url: Option<String>,
}

fn open_store(config: &ApprovalsConfig, aws: Option<&aws_config::SdkConfig>) -> Result<Arc<dyn Store>, StartError> {
    let aws_needed = |what: &str| StartError::Setting(format!("{what} needs AWS: configure [aws] or the SDK's environment"));
    Ok(match config.store {
        StoreKind::Directory => {
            let path = config.path.as_ref().ok_or_else(|| StartError::Setting("store = \"directory\" needs path".to_owned()))?;
            Arc::new(directory::Directory::new(path.clone()))
        }
        StoreKind::DynamoDb => {
            let table = config.table.as_ref().ok_or_else(|| StartError::Setting("store = \"dynamodb\" needs table".to_owned()))?;
            let aws = aws.ok_or_else(|| aws_needed("store = \"dynamodb\""))?;
            Arc::new(dynamo::Dynamo::new(aws_sdk_dynamodb::Client::new(aws), table.clone()))
        }
    })
}

/// The open requests of a store, for operators.
///
/// # Errors
/// When the store cannot be opened or read.
pub async fn pending(config: &ApprovalsConfig, aws: Option<&aws_config::SdkConfig>) -> Result<Vec<Listed>, StartError> {
    Ok(open_store(config, aws)?.open(Clock::default().now()).await?)
}
