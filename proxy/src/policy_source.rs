//! The policy in force: loaded before any port opens, looked at every few seconds, exchanged whole.
//!
//! A new version that does not parse or cannot be read changes nothing: the one in force stays, an alarm goes to the log and to the
//! metrics, and the next look may mend it.

use std::{path::Path, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use countersign_policy::Policy;
use thiserror::Error;

use crate::{
    config::{Aws, PolicyLocation, PolicySettings},
    metrics,
};

/// Largest policy document taken.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The policy in force. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PolicySource {
    current: Arc<ArcSwap<Policy>>,
}

/// Why a policy could not be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PolicyLoadError {
    /// Not readable.
    #[error("policy {place}: cannot read: {error} (check the path and that the proxy's user may read it)")]
    Unreadable {
        /// File or object.
        place: String,
        /// Why.
        error: String,
    },
    /// Too big.
    #[error("policy {place}: larger than {MAX_BYTES} bytes")]
    TooBig {
        /// File or object.
        place: String,
    },
    /// Not valid.
    #[error("{place}: {error}")]
    Invalid {
        /// File or object.
        place: String,
        /// Where and what, with a hint.
        error: countersign_policy::PolicyError,
    },
}

/// Looks for new versions. Run [`PolicyReloader::run`] as a task.
#[derive(Debug)]
pub struct PolicyReloader {
    source: PolicySource,
    settings: PolicySettings,
    reader: Reader,
    seen: Seen,
}

/// Reads the document, remembering what it saw last.
#[derive(Debug)]
enum Reader {
    File,
    S3(Box<aws_sdk_s3::Client>),
}

/// What the last look found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Seen {
    modified: Option<SystemTime>,
    etag: Option<String>,
    bytes: Vec<u8>,
    /// The last fault told, so that it is told once.
    fault: Option<String>,
}

impl PolicySource {
    /// A source that never changes: for tests and tools.
    #[must_use]
    pub fn fixed(policy: Policy) -> Self {
        Self { current: Arc::new(ArcSwap::from_pointee(policy)) }
    }

    /// The policy in force now.
    #[must_use]
    pub fn current(&self) -> Arc<Policy> {
        self.current.load_full()
    }
}

/// Loads the first version.
///
/// # Errors
/// When there is none or it is not valid.
pub async fn load(settings: &PolicySettings, aws: &Aws) -> Result<(PolicySource, PolicyReloader), PolicyLoadError> {
    let reader = match settings.location {
        PolicyLocation::File(_) => Reader::File,
        PolicyLocation::S3 { .. } => {
            let shared = aws.sdk_config().await;
            // Path style serves LocalStack and bucket names with dots.
            let config = aws_sdk_s3::config::Builder::from(&shared).force_path_style(aws.endpoint.is_some()).build();
            Reader::S3(Box::new(aws_sdk_s3::Client::from_conf(config)))
        }
    };
    let mut seen = Seen::default();
    let bytes = reader.read(&settings.location, &mut seen).await?.unwrap_or_default();
    let policy = parse(&settings.location, &bytes)?;
    seen.bytes = bytes;
    tracing::info!(policy.digest = %policy.digest().to_hex(), policy.place = %settings.location, "policy loaded");
    let source = PolicySource::fixed(policy);
    Ok((source.clone(), PolicyReloader { source, settings: settings.clone(), reader, seen }))
}

impl PolicyReloader {
    /// Looks for new versions for ever.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(self.settings.reload);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.look().await;
        }
    }

    /// One look.
    async fn look(&mut self) {
        match self.try_look().await {
            Ok(changed) => {
                metrics::policy_stale(false);
                if changed || self.seen.fault.is_some() {
                    tracing::info!(policy.digest = %self.source.current().digest().to_hex(), "policy in force");
                }
                self.seen.fault = None;
            }
            Err(error) => {
                metrics::policy_stale(true);
                let message = error.to_string();
                if self.seen.fault.as_ref() != Some(&message) {
                    tracing::error!(policy.digest = %self.source.current().digest().to_hex(), "new policy refused, the one in force stays: {message}");
                }
                self.seen.fault = Some(message);
            }
        }
    }

    async fn try_look(&mut self) -> Result<bool, PolicyLoadError> {
        let Some(bytes) = self.reader.read(&self.settings.location, &mut self.seen).await? else {
            // Unchanged since the last look; a version that was bad then is bad still.
            return if self.seen.fault.is_some() { parse(&self.settings.location, &self.seen.bytes).map(|_| false) } else { Ok(false) };
        };
        let same = bytes == self.seen.bytes;
        self.seen.bytes = bytes;
        if same && self.seen.fault.is_none() {
            return Ok(false);
        }
        let policy = parse(&self.settings.location, &self.seen.bytes)?;
        if policy.digest() == self.source.current().digest() {
            return Ok(false);
        }
        self.source.current.store(Arc::new(policy));
        metrics::policy_reloaded();
        Ok(true)
    }
}

impl Reader {
    /// The document, or `None` when it is certain that it has not changed since the last look.
    async fn read(&self, location: &PolicyLocation, seen: &mut Seen) -> Result<Option<Vec<u8>>, PolicyLoadError> {
        match (self, location) {
            (Self::File, PolicyLocation::File(path)) => read_file(path, location, seen).await,
            (Self::S3(client), PolicyLocation::S3 { bucket, key }) => read_object(client, bucket, key, location, seen).await,
            (Self::File, PolicyLocation::S3 { .. }) | (Self::S3(_), PolicyLocation::File(_)) => {
                Err(unreadable(location, "no reader for this place"))
            }
        }
    }
}

async fn read_file(path: &Path, location: &PolicyLocation, seen: &mut Seen) -> Result<Option<Vec<u8>>, PolicyLoadError> {
    let meta = tokio::fs::metadata(path).await.map_err(|error| unreadable(location, error))?;
    if usize::try_from(meta.len()).unwrap_or(usize::MAX) > MAX_BYTES {
        return Err(PolicyLoadError::TooBig { place: location.to_string() });
    }
    // A young modification time proves nothing: its clock may tick slower than writers write. Then the bytes are compared.
    let modified = meta.modified().ok();
    let settled = modified.is_some_and(|time| time.elapsed().is_ok_and(|age| age.as_secs() > 10));
    if settled && modified == seen.modified {
        return Ok(None);
    }
    let bytes = tokio::fs::read(path).await.map_err(|error| unreadable(location, error))?;
    seen.modified = modified;
    Ok(Some(bytes))
}

async fn read_object(
    client: &aws_sdk_s3::Client,
    bucket: &str,
    key: &str,
    location: &PolicyLocation,
    seen: &mut Seen,
) -> Result<Option<Vec<u8>>, PolicyLoadError> {
    let answer = client.get_object().bucket(bucket).key(key).set_if_none_match(seen.etag.clone()).send().await;
    let object = match answer {
        Ok(object) => object,
        Err(error) if error.raw_response().is_some_and(|raw| raw.status().as_u16() == 304) => return Ok(None),
        Err(error) => return Err(unreadable(location, countersign_aws_error::line(&error))),
    };
    if object.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX) > MAX_BYTES {
        return Err(PolicyLoadError::TooBig { place: location.to_string() });
    }
    let etag = object.e_tag().map(str::to_owned);
    let bytes = object.body.collect().await.map_err(|error| unreadable(location, error))?.to_vec();
    seen.etag = etag;
    Ok(Some(bytes))
}

fn parse(location: &PolicyLocation, bytes: &[u8]) -> Result<Policy, PolicyLoadError> {
    let text = std::str::from_utf8(bytes).map_err(|_| unreadable(location, "it is not UTF-8 text"))?;
    Policy::parse(text).map_err(|error| PolicyLoadError::Invalid { place: location.to_string(), error })
}

fn unreadable(location: &PolicyLocation, error: impl std::fmt::Display) -> PolicyLoadError {
    PolicyLoadError::Unreadable { place: location.to_string(), error: error.to_string() }
}

#[cfg(test)]
mod tests;
