//! Logs: JSON lines on stderr, one per event at the boundary. Never secrets, tokens, rows or SQL literals.

use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// Variable that holds the filter; `info` when absent.
pub const FILTER_VARIABLE: &str = "COUNTERSIGN_LOG";

/// Starts logging and makes panics part of the log, without their messages: those may quote data.
pub fn start() {
    let filter = EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(std::io::stderr);
    // A second start (in tests) keeps the first.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(panic.location = place, "internal fault: a task panicked; its session ends");
    }));
}
