//! The wall clock, in the unit requests use.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the epoch. A clock before the epoch counts as far in the future, where everything has expired.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs())
}
