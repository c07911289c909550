//! The approval store at a command line: requests that no session waits for, such as those for templates.

use std::sync::Arc;

use countersign_approval::item::{Closed, Status};
use countersign_approval::{Request, RequestId, VerifyingKeys};

use super::store::Store;
use super::{ApprovalsConfig, Clock, StartError, StoreError, keys, open_store};

/// An open store and the keys decisions are signed with.
#[derive(Debug)]
pub struct Desk {
    store: Arc<dyn Store>,
    keys: VerifyingKeys,
    keep_finished: u64,
}

impl Desk {
    /// Opens the store a configuration names and reads its keys.
    ///
    /// # Errors
    /// Says what the operator must mend.
    pub async fn open(config: &ApprovalsConfig, aws: Option<&aws_config::SdkConfig>) -> Result<Self, StartError> {
        let store = open_store(config, aws)?;
        let keys = keys::all(config, aws).await?;
        store.check().await?;
        Ok(Self { store, keys, keep_finished: config.keep_finished_days.saturating_mul(86_400) })
    }

    /// The keys.
    #[must_use]
    pub const fn keys(&self) -> &VerifyingKeys {
        &self.keys
    }

    /// Places a request.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn place(&self, request: &Request) -> Result<String, StoreError> {
        let bytes = request.to_bytes().map_err(|error| StoreError::Refused(error.to_string()))?;
        if bytes.len() > countersign_approval::request::MAX_REQUEST_BYTES {
            return Err(StoreError::TooLong { found: bytes.len() });
        }
        self.store.place(request, &bytes).await?;
        String::from_utf8(bytes).map_err(|error| StoreError::Refused(error.to_string()))
    }

    /// The decisions on a request so far.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn tokens(&self, id: &RequestId) -> Result<Vec<String>, StoreError> {
        Ok(self.store.fetch(id).await?.map(|(_, snapshot)| snapshot.tokens).unwrap_or_default())
    }

    /// Closes a request that was decided as it was wanted; from here on the store may forget it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn settle(&self, request: &Request, outcome: &str) -> Result<(), StoreError> {
        let now = Clock::default().now();
        let closed = Closed { status: Status::Consumed, by: uuid::Uuid::new_v4().to_string(), at: now, why: "consumed".to_owned() };
        if self.store.close(&request.id, Some(&request.digest), &closed).await? {
            self.store.finish(&request.id, outcome, now, now.saturating_add(self.keep_finished)).await?;
        }
        Ok(())
    }
}
