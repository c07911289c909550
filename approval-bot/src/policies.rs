//! The policy documents the roster of reviewers comes from. A request names its policy by digest; only that document's roster counts.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use countersign_approval::{Request, break_glass};
use countersign_policy::Policy;
use countersign_policy::rule::{Action, Route};

/// How long a policy that is not there is not looked for again, where only the card's place depends on it.
const MISSED_FOR: Duration = Duration::from_secs(5);

/// Where the policy document is.
#[derive(Debug, Clone)]
pub enum Location {
    /// A file.
    File(PathBuf),
    /// An object.
    S3 {
        /// Client.
        client: aws_sdk_s3::Client,
        /// Bucket.
        bucket: String,
        /// Key.
        key: String,
    },
}

/// Loads policies and keeps the newest.
#[derive(Debug)]
pub struct Policies {
    location: Location,
    newest: Mutex<Option<Arc<Policy>>>,
    /// A digest that the document did not have, and when that was seen.
    missed: Mutex<Option<(String, Instant)>>,
}

/// Why there is no policy of that digest.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyUnavailable {
    /// The document cannot be read.
    #[error("policy {place}: {why}")]
    Unreadable {
        /// Where.
        place: String,
        /// Why.
        why: String,
    },
    /// The document in force is another version.
    #[error("the request was made under policy {asked}, in force is {found}")]
    Superseded {
        /// Digest of the request's policy.
        asked: String,
        /// Digest of the policy in force.
        found: String,
    },
}

impl Policies {
    /// Policies at a location.
    #[must_use]
    pub const fn new(location: Location) -> Self {
        Self { location, newest: Mutex::new(None), missed: Mutex::new(None) }
    }

    /// The policy with this digest (lower-case hex). Reads the document again when the one in memory is another.
    ///
    /// # Errors
    /// When the document cannot be read or has another digest.
    pub async fn get(&self, digest: &str) -> Result<Arc<Policy>, PolicyUnavailable> {
        let known = self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(policy) = known.filter(|policy| policy.digest().to_hex() == digest) {
            return Ok(policy);
        }
        let policy = Arc::new(self.load().await?);
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(policy.clone());
        let found = policy.digest().to_hex();
        if found == digest { Ok(policy) } else { Err(PolicyUnavailable::Superseded { asked: digest.to_owned(), found }) }
    }

    /// Where a request's card goes and who is called, by the rule that holds it. The bot's own channel when the policy is another meanwhile.
    pub async fn route(&self, request: &Request) -> Route {
        let missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if missed.is_some_and(|(digest, at)| digest == request.policy && at.elapsed() < MISSED_FOR) {
            return Route::default();
        }
        let Ok(policy) = self.get(&request.policy).await else {
            // Cards are looked at often, the document is not to be read each time.
            *self.missed.lock().unwrap_or_else(PoisonError::into_inner) = Some((request.policy.clone(), Instant::now()));
            return Route::default();
        };
        let named = |name: &str| policy.rules().iter().find(|rule| rule.name == name).map(|rule| &rule.action);
        if let Some((_, held_by)) = break_glass::said(request) {
            return match named(held_by) {
                Some(Action::Hold(hold)) => hold.break_glass.as_ref().map(|terms| terms.route.clone()).unwrap_or_default(),
                _ => Route::default(),
            };
        }
        match named(&request.rule).unwrap_or(&policy.masking().predicates) {
            Action::Hold(hold) => hold.route.clone(),
            Action::Allow | Action::Deny(_) => Route::default(),
        }
    }

    /// Reads the document.
    ///
    /// # Errors
    /// When it cannot be read or is no valid policy.
    pub async fn load(&self) -> Result<Policy, PolicyUnavailable> {
        let place = match &self.location {
            Location::File(path) => path.display().to_string(),
            Location::S3 { bucket, key, .. } => format!("s3://{bucket}/{key}"),
        };
        let fault = |why: String| PolicyUnavailable::Unreadable { place: place.clone(), why };
        let text = match &self.location {
            Location::File(path) => tokio::fs::read_to_string(path).await.map_err(|error| fault(error.to_string()))?,
            Location::S3 { client, bucket, key } => {
                let answer =
                    client.get_object().bucket(bucket).key(key).send().await.map_err(|error| fault(countersign_aws_error::line(&error)))?;
                let bytes = answer.body.collect().await.map_err(|error| fault(error.to_string()))?;
                String::from_utf8(bytes.to_vec()).map_err(|_| fault("is not UTF-8".to_owned()))?
            }
        };
        Policy::parse(&text).map_err(|error| fault(error.to_string()))
    }
}
