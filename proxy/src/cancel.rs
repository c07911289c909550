//! Cancel keys: the gateway's own process ids and secrets, and the sessions they reach.
//!
//! A CancelRequest comes on a connection of its own. The registry only rings a bell; what that means (cancel upstream, end a hold) is the
//! session driver's business. A wrong key does nothing and says nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use rand::Rng;
use tokio::sync::Notify;

/// All cancel keys of this process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct CancelRegistry {
    sessions: Arc<Mutex<HashMap<i32, Entry>>>,
}

struct Entry {
    secret: Bytes,
    bell: Arc<Notify>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry(secret)")
    }
}

/// One session's cancel key. Dropping it makes the key void.
pub struct CancelHandle {
    process_id: i32,
    secret: Bytes,
    bell: Arc<Notify>,
    registry: CancelRegistry,
}

impl std::fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelHandle").field("process_id", &self.process_id).finish_non_exhaustive()
    }
}

impl CancelRegistry {
    /// Registers a session with a fresh key of `secret_bytes` bytes: 4 for protocol 3.0, 32 for 3.2. The process id is the server's, which
    /// clients compare with `pg_backend_pid()`, unless a session that is about to end still has it; the secret is the gateway's own.
    #[must_use]
    pub fn register(&self, secret_bytes: usize, upstream_pid: i32) -> CancelHandle {
        let mut rng = rand::rng();
        let mut secret = vec![0_u8; secret_bytes];
        rng.fill(secret.as_mut_slice());
        let secret = Bytes::from(secret);
        let bell = Arc::new(Notify::new());
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut process_id = upstream_pid;
        while sessions.contains_key(&process_id) {
            process_id = rng.random_range(1..=i32::MAX);
        }
        sessions.insert(process_id, Entry { secret: secret.clone(), bell: Arc::clone(&bell) });
        drop(sessions);
        CancelHandle { process_id, secret, bell, registry: self.clone() }
    }

    /// Rings the session's bell when the key is right; says nothing either way.
    pub fn cancel(&self, process_id: i32, secret: &[u8]) {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = sessions.get(&process_id) else { return };
        let differs =
            entry.secret.iter().zip(secret).fold(entry.secret.len() ^ secret.len(), |differs, (a, b)| differs | usize::from(a ^ b));
        if differs == 0 {
            entry.bell.notify_one();
        }
    }
}

impl CancelHandle {
    /// Process id for BackendKeyData.
    #[must_use]
    pub const fn process_id(&self) -> i32 {
        self.process_id
    }

    /// Secret for BackendKeyData: 4 bytes under protocol 3.0, 32 under 3.2.
    #[must_use]
    pub const fn secret(&self) -> &Bytes {
        &self.secret
    }

    /// The same, as a future that can be kept.
    pub fn bell(&self) -> tokio::sync::futures::OwnedNotified {
        Arc::clone(&self.bell).notified_owned()
    }

    /// Resolves when a CancelRequest with this key came. Cancel-safe; requests that come while nobody waits count once.
    pub async fn cancelled(&self) {
        self.bell.notified().await;
    }
}

impl Drop for CancelHandle {
    fn drop(&mut self) {
        self.registry.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.process_id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn only_the_right_key_rings() {
        let registry = CancelRegistry::default();
        let (short, long) = (registry.register(4, 77), registry.register(32, 77));
        assert_eq!((short.secret().len(), long.secret().len()), (4, 32));
        assert_eq!(short.process_id(), 77);
        assert_ne!(long.process_id(), 77);
        registry.cancel(short.process_id(), long.secret());
        registry.cancel(short.process_id(), &[]);
        registry.cancel(long.process_id(), short.secret());
        assert!(tokio::time::timeout(Duration::from_millis(20), short.cancelled()).await.is_err());
        registry.cancel(short.process_id(), short.secret());
        short.cancelled().await;
        assert!(tokio::time::timeout(Duration::from_millis(20), long.cancelled()).await.is_err());
    }

    #[test]
    fn a_dropped_handle_voids_its_key() {
        let registry = CancelRegistry::default();
        drop(registry.register(4, 77));
        assert!(registry.sessions.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
    }
}
