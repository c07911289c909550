//! One poller for everything this process waits for: one batch each interval, nothing when nothing waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use countersign_approval::RequestId;
use tokio::sync::{Notify, watch};

use super::store::{Snapshot, Store};

/// The longest pause between two tries while the store does not answer.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// What a watcher sees.
#[derive(Debug, Clone, Default)]
pub(super) struct Observed {
    /// Newest answer of the store; `None` before the first.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// Why the store does not answer, while it does not.
    pub(super) outage: Option<String>,
}

type Pending = Mutex<HashMap<RequestId, watch::Sender<Observed>>>;

/// Handle to the poller; the task ends when this is dropped.
#[derive(Debug)]
pub(super) struct Poller {
    pending: Arc<Pending>,
    wake: Arc<Notify>,
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

impl Poller {
    pub(super) fn start(store: Arc<dyn Store>, interval: Duration) -> Self {
        let pending = Arc::new(Pending::default());
        let wake = Arc::new(Notify::new());
        tokio::spawn(run(Arc::downgrade(&pending), wake.clone(), store, interval));
        Self { pending, wake }
    }

    /// What the store says of a request, from now on.
    pub(super) fn observe(&self, id: &RequestId) -> watch::Receiver<Observed> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = pending.entry(id.clone()).or_insert_with(|| watch::Sender::new(Observed::default())).subscribe();
        drop(pending);
        self.wake.notify_one();
        receiver
    }
}

async fn run(pending: Weak<Pending>, wake: Arc<Notify>, store: Arc<dyn Store>, interval: Duration) {
    let mut pause = interval;
    loop {
        let Some(ids) = pending.upgrade().map(|pending| waiting(&pending)) else { return };
        if ids.is_empty() {
            wake.notified().await;
            continue;
        }
        let answer = store.read(&ids).await;
        let Some(shared) = pending.upgrade() else { return };
        match answer {
            Ok(mut found) => {
                if pause > interval {
                    tracing::info!(approvals.waiting = ids.len(), "approval store answers again");
                }
                pause = interval;
                deliver(&shared, &ids, |id| {
                    let snapshot = found.remove(id).map(Arc::new);
                    move |seen: &mut Observed| {
                        let changed = seen.snapshot != snapshot || seen.outage.is_some();
                        seen.snapshot = snapshot;
                        seen.outage = None;
                        changed
                    }
                });
            }
            Err(error) => {
                pause = pause.saturating_mul(2).min(MAX_PAUSE);
                tracing::warn!(%error, approvals.waiting = ids.len(), "approval store does not answer, trying again");
                deliver(&shared, &ids, |_| {
                    let outage = error.to_string();
                    move |seen: &mut Observed| {
                        let changed = seen.outage.is_none();
                        seen.outage = Some(outage);
                        changed
                    }
                });
            }
        }
        drop(shared);
        tokio::time::sleep(pause).await;
    }
}

/// Ids somebody still watches; the others are forgotten.
fn waiting(pending: &Pending) -> Vec<RequestId> {
    let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
    pending.retain(|_, sender| sender.receiver_count() > 0);
    pending.keys().cloned().collect()
}

fn deliver<F: FnOnce(&mut Observed) -> bool>(pending: &Pending, ids: &[RequestId], mut change: impl FnMut(&RequestId) -> F) {
    let pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
    for id in ids {
        if let Some(sender) = pending.get(id) {
            sender.send_if_modified(change(id));
        }
    }
}
