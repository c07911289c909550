//! The wall clock, in the units requests use.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const FORMAT: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");

/// Tells the time. A value, so that tests can have bots whose clocks differ.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock(…)")
    }
}

impl Default for Clock {
    /// The machine's.
    fn default() -> Self {
        Self::new(now)
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

/// Seconds since the epoch. A clock before the epoch counts as far in the future, where everything has expired.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs())
}

/// A time for people, in UTC.
#[must_use]
pub fn readable(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(FORMAT).ok())
        .unwrap_or_else(|| format!("{seconds} s after 1970"))
}
