//! The second half of using a grant up: an object that can be written once and, in a bucket with Object Lock, not be taken away again.
//!
//! The table says whether a request is open, but whoever can write to the table can set a consumed request back to open. So each run of a
//! grant also takes a name, [`mark_name`], in the place of the recordings, by a put that fails when the name is taken. A grant whose
//! names are gone opens nothing, whatever the table says.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign_approval::item::mark_name;
use countersign_approval::{RequestId, StatementDigest};

use super::store::StoreError;
use crate::recorder;

/// How long one mark may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Takes marks.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    store: Arc<dyn recorder::Store>,
}

impl Marks {
    pub(super) const fn new(store: Arc<dyn recorder::Store>) -> Self {
        Self { store }
    }

    /// Takes the mark of one run: true for exactly one caller, ever. `by` is unique to the attempt, so that a put whose answer was lost is
    /// recognised as one's own.
    pub(super) async fn take(&self, id: &RequestId, run: u32, digest: &StatementDigest, by: &str, at: u64) -> Result<bool, StoreError> {
        let mark = serde_json::json!({
            "version": 1,
            "request": id.as_str(),
            "run": run,
            "digest": digest.to_hex(),
            "used_by": by,
            "used_at": at,
        });
        let name = mark_name(id, run);
        let put = self.store.put(&name, Bytes::from(mark.to_string()));
        match tokio::time::timeout(TIMEOUT, put).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(recorder::PutError::Conflict)) => Ok(false),
            Ok(Err(recorder::PutError::Unavailable(why) | recorder::PutError::Unreached(why))) => {
                Err(StoreError::Unavailable(format!("mark of the grant: {why}")))
            }
            Err(_elapsed) => Err(StoreError::Unavailable(format!("mark of the grant: no answer within {} s", TIMEOUT.as_secs()))),
        }
    }
}
