//! Metric names, in one place, and the few calls that use them. `docs/configuration.md` lists them for operators.
//!
//! Labels never carry user input: only words of this program.

use metrics::{Counter, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// Sessions open now.
pub const SESSIONS: &str = "countersign_sessions";
/// Sessions begun, by `end` reason once they ended.
pub const SESSIONS_TOTAL: &str = "countersign_sessions_total";
/// Connections refused before a session, by `reason`.
pub const REFUSED: &str = "countersign_connections_refused_total";
/// Statements by `verdict`: allow, deny, hold.
pub const STATEMENTS: &str = "countersign_statements_total";
/// Holds open now.
pub const HOLDS: &str = "countersign_holds";
/// Holds ended, by `outcome`.
pub const HOLDS_TOTAL: &str = "countersign_holds_total";
/// Bytes by `direction`: from_client, to_client, from_upstream, to_upstream.
pub const BYTES: &str = "countersign_bytes_total";
/// Upstream failures by `kind`: dial, tls, login, catalog, lost.
pub const UPSTREAM_ERRORS: &str = "countersign_upstream_errors_total";
/// Fetches of the issuer's keys by `result`: ok, failed.
pub const JWKS: &str = "countersign_jwks_fetches_total";
/// 1 while the newest policy document was refused and an older one is in force.
pub const POLICY_STALE: &str = "countersign_policy_stale";
/// Policy versions taken into force after the first.
pub const POLICY_RELOADS: &str = "countersign_policy_reloads_total";
/// 1 while the gateway's certificate files are not usable and what they held before stays in use.
pub const CERTIFICATE_STALE: &str = "countersign_certificate_stale";
/// Seconds a catalog load took.
pub const CATALOG_SECONDS: &str = "countersign_catalog_load_seconds";
/// Seconds between an event and its durability.
pub const RECORDER_LAG: &str = "countersign_recorder_lag_seconds";
/// Bytes waiting for durability.
pub const RECORDER_PENDING: &str = "countersign_recorder_pending_bytes";
/// Failed writes to the recording store.
pub const RECORDER_ERRORS: &str = "countersign_recorder_errors_total";
/// Sessions of dead tasks sealed by this one.
pub const ORPHANS_SEALED: &str = "countersign_recorder_orphans_sealed_total";
/// What should not be: a read that the server refused as a write, a grant that does not fit.
pub const ANOMALIES: &str = "countersign_anomalies_total";
/// Held statements that ran at once, without approval.
pub const BREAK_GLASS: &str = "countersign_break_glass_total";
/// CancelRequests received.
pub const CANCELS: &str = "countersign_cancel_requests_total";

/// Gives every metric its help text and its first value, so that it shows before anything happened.
pub fn describe() {
    for (name, help) in [
        (SESSIONS, "sessions open now"),
        (HOLDS, "holds open now"),
        (POLICY_STALE, "1 while the newest policy document is refused"),
        (CERTIFICATE_STALE, "1 while the newest certificate files are not usable"),
        (RECORDER_PENDING, "bytes waiting for durability"),
    ] {
        describe_gauge!(name, help);
        gauge!(name).set(0.0);
    }
    describe_counter!(SESSIONS_TOTAL, "sessions ended, by reason");
    describe_counter!(REFUSED, "connections refused before a session began, by reason");
    describe_counter!(STATEMENTS, "statements judged, by verdict");
    describe_counter!(BREAK_GLASS, "held statements that ran at once, without approval");
    counter!(BREAK_GLASS).absolute(0);
    describe_counter!(HOLDS_TOTAL, "holds ended, by outcome");
    describe_counter!(BYTES, "bytes carried, by direction");
    describe_counter!(UPSTREAM_ERRORS, "upstream failures, by kind");
    describe_counter!(JWKS, "fetches of the issuer's keys, by result");
    describe_counter!(POLICY_RELOADS, "policy versions taken into force after the first");
    describe_counter!(RECORDER_ERRORS, "failed writes to the recording store");
    describe_counter!(ORPHANS_SEALED, "sessions of dead tasks sealed by this one");
    describe_counter!(ANOMALIES, "anomalies: reads the server refused as writes, grants that do not fit their request");
    counter!(ANOMALIES).absolute(0);
    describe_counter!(CANCELS, "cancel requests received");
    describe_histogram!(CATALOG_SECONDS, "seconds a catalog load took");
    describe_histogram!(RECORDER_LAG, "seconds between an event and its durability");
    for verdict in ["allow", "deny", "hold"] {
        counter!(STATEMENTS, "verdict" => verdict).absolute(0);
    }
    for direction in ["from_client", "to_client", "from_upstream", "to_upstream"] {
        counter!(BYTES, "direction" => direction).absolute(0);
    }
    counter!(RECORDER_ERRORS).absolute(0);
    counter!(ORPHANS_SEALED).absolute(0);
    counter!(POLICY_RELOADS).absolute(0);
    counter!(CANCELS).absolute(0);
}

/// Counts an anomaly.
pub fn anomaly() {
    counter!(ANOMALIES).increment(1);
}

/// One session is open for as long as this lives.
#[derive(Debug)]
pub struct OpenSession(());

impl OpenSession {
    /// Counts one in.
    #[must_use]
    pub fn begin() -> Self {
        gauge!(SESSIONS).increment(1.0);
        Self(())
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        gauge!(SESSIONS).decrement(1.0);
    }
}

pub(crate) fn refused(reason: &'static str) {
    counter!(REFUSED, "reason" => reason).increment(1);
}

pub(crate) fn cancel_request() {
    counter!(CANCELS).increment(1);
}

pub(crate) fn upstream_error(kind: &'static str) {
    counter!(UPSTREAM_ERRORS, "kind" => kind).increment(1);
}

pub(crate) fn jwks_fetch(ok: bool) {
    counter!(JWKS, "result" => if ok { "ok" } else { "failed" }).increment(1);
}

pub(crate) fn policy_stale(stale: bool) {
    gauge!(POLICY_STALE).set(if stale { 1.0 } else { 0.0 });
}

pub(crate) fn certificate_stale(stale: bool) {
    gauge!(CERTIFICATE_STALE).set(if stale { 1.0 } else { 0.0 });
}

pub(crate) fn policy_reloaded() {
    counter!(POLICY_RELOADS).increment(1);
}

pub(crate) fn catalog_loaded(seconds: f64) {
    histogram!(CATALOG_SECONDS).record(seconds);
}

/// Counts statements by verdict, without looking the counters up each time.
#[derive(Debug)]
pub(crate) struct Statements {
    allow: Counter,
    deny: Counter,
    hold: Counter,
}

impl Statements {
    pub(crate) fn new() -> Self {
        let of = |verdict: &'static str| counter!(STATEMENTS, "verdict" => verdict);
        Self { allow: of("allow"), deny: of("deny"), hold: of("hold") }
    }

    pub(crate) fn allowed(&self) {
        self.allow.increment(1);
    }

    pub(crate) fn denied(&self) {
        self.deny.increment(1);
    }

    pub(crate) fn held(&self) {
        self.hold.increment(1);
        gauge!(HOLDS).increment(1.0);
    }
}

/// A held statement runs at once, without approval.
pub(crate) fn break_glass() {
    counter!(BREAK_GLASS).increment(1);
}

pub(crate) fn hold_ended(outcome: &str) {
    let outcome = match outcome {
        "granted" => "granted",
        "denied" => "denied",
        "expired" => "expired",
        "cancelled" => "cancelled",
        "template" => "template",
        "break-glass" => "break-glass",
        _ => "failed",
    };
    counter!(HOLDS_TOTAL, "outcome" => outcome).increment(1);
    gauge!(HOLDS).decrement(1.0);
}

pub(crate) fn bytes(direction: &'static str, count: u64) {
    counter!(BYTES, "direction" => direction).increment(count);
}

pub(crate) fn session_ended(reason: &str) {
    let end = match reason {
        "client terminated" => "client_terminated",
        "client gone" => "client_gone",
        "upstream gone" => "upstream_gone",
        "drain" => "drain",
        "lifetime" => "lifetime",
        "idle" => "idle",
        "recorder failed" => "recorder_failed",
        _ => "error",
    };
    counter!(SESSIONS_TOTAL, "end" => end).increment(1);
}
