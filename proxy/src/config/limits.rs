//! `[limits]` and `[runtime]`: how much one client may take, how long things may last, how many threads serve.

use std::{num::NonZeroUsize, time::Duration};

use super::{ConfigError, check::Place, raw};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// How much and how long.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From accept to the end of authentication.
    pub startup: Duration,
    /// Sessions at once.
    pub max_sessions: usize,
    /// Sessions at once from one address.
    pub max_sessions_per_source: usize,
    /// Connections at once that have not shown a good token yet.
    pub max_logins: usize,
    /// A session without any traffic ends after this; `None` is no limit.
    pub idle: Option<Duration>,
    /// How long running statements may go on after SIGTERM.
    pub drain: Duration,
    /// Largest message that has to be read whole: a statement text with its parameters, a row that masks rewrite.
    pub max_statement_bytes: usize,
    /// What a client may send ahead while its statement is held.
    pub max_held_client_bytes: usize,
    /// What one session may buffer in each direction.
    pub max_buffer_bytes: usize,
}

/// Threads.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Threads that serve sessions, one tokio runtime each.
    pub threads: usize,
}

impl Limits {
    pub(super) fn from_raw(raw: Option<&raw::Limits>, place: &Place<'_>) -> Result<Self, ConfigError> {
        let bytes = |key: &str, value: Option<&toml::Spanned<u64>>, default: u64, low: u64| {
            place.number(key, value, default, low..=GIB).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
        };
        let count = |key: &str, value: Option<&toml::Spanned<u32>>, default: u32| {
            place.number(key, value, default, 1..=1_000_000).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
        };
        let idle = raw.and_then(|raw| raw.idle_seconds.as_ref());
        Ok(Self {
            startup: place.seconds("limits.startup_seconds", raw.and_then(|raw| raw.startup_seconds.as_ref()), 30, 1..=600)?,
            max_sessions: count("limits.max_sessions", raw.and_then(|raw| raw.max_sessions.as_ref()), 10_000)?,
            max_sessions_per_source: count(
                "limits.max_sessions_per_source",
                raw.and_then(|raw| raw.max_sessions_per_source.as_ref()),
                1_000,
            )?,
            max_logins: count("limits.max_logins", raw.and_then(|raw| raw.max_logins.as_ref()), 1_000)?,
            idle: match idle {
                None => None,
                value => Some(place.seconds("limits.idle_seconds", value, 0, 1..=31_536_000)?),
            },
            drain: place.seconds("limits.drain_seconds", raw.and_then(|raw| raw.drain_seconds.as_ref()), 30, 0..=86_400)?,
            max_statement_bytes: bytes("limits.max_statement_bytes", raw.and_then(|raw| raw.max_statement_bytes.as_ref()), 16 * MIB, KIB)?,
            max_held_client_bytes: bytes(
                "limits.max_held_client_bytes",
                raw.and_then(|raw| raw.max_held_client_bytes.as_ref()),
                256 * KIB,
                KIB,
            )?,
            max_buffer_bytes: bytes("limits.max_buffer_bytes", raw.and_then(|raw| raw.max_buffer_bytes.as_ref()), MIB, 64 * KIB)?,
        })
    }
}

impl Runtime {
    pub(super) fn from_raw(raw: Option<&raw::Runtime>, place: &Place<'_>) -> Result<Self, ConfigError> {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let default = u32::try_from(cores).unwrap_or(1).min(256);
        let threads = place.number("runtime.threads", raw.and_then(|raw| raw.threads.as_ref()), default, 1..=256)?;
        Ok(Self { threads: usize::try_from(threads).unwrap_or(1) })
    }
}
