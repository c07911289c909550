//! The wall clock, in the unit requests use. A value, so that tests can have replicas whose clocks differ.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock(…)")
    }
}

impl Default for Clock {
    /// The machine's. A clock before the epoch counts as far in the future, where everything has expired.
    fn default() -> Self {
        Self::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs()))
    }
}

impl Clock {
    /// A clock that says what `now` says, in seconds since the epoch.
    pub fn new(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Seconds since the epoch.
    #[must_use]
    pub fn now(&self) -> u64 {
        (self.0)()
    }
}
