//! The admin server: `/healthz` (the process lives), `/readyz` (it can serve sessions; otherwise what is missing), `/metrics`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;

use crate::{identity::Verifier, shutdown::Drain};

/// What readiness depends on, beside what can be asked at any time.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    faults: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Readiness {
    /// Notes that something works. True when it did not before.
    pub fn good(&self, what: &'static str) -> bool {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).remove(what).is_some()
    }

    /// Whether nothing is noted against it.
    #[must_use]
    pub fn is_good(&self, what: &'static str) -> bool {
        !self.faults.lock().unwrap_or_else(PoisonError::into_inner).contains_key(what)
    }

    /// Notes that something does not work, for operators. True when that is news.
    pub fn bad(&self, what: &'static str, why: impl Into<String>) -> bool {
        let why = why.into();
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).insert(what, why.clone()).is_none_or(|before| before != why)
    }

    fn faults(&self) -> BTreeMap<&'static str, String> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the admin server shows.
#[derive(Clone)]
pub struct Admin {
    /// Metrics.
    pub metrics: PrometheusHandle,
    /// Faults noted by tasks.
    pub readiness: Readiness,
    /// Issuer's keys.
    pub identity: Verifier,
    /// The orderly end.
    pub drain: Drain,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// Body of `/readyz`.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    /// What is not ready, and why.
    not_ready: BTreeMap<&'static str, String>,
}

/// Serves until the listener fails.
///
/// # Errors
/// When it does.
pub async fn serve(listener: tokio::net::TcpListener, admin: Admin) -> std::io::Result<()> {
    let address: Option<SocketAddr> = listener.local_addr().ok();
    tracing::info!(admin.address = address.map(|address| address.to_string()), "admin server listening");
    axum::serve(listener, router(admin)).await
}

fn router(admin: Admin) -> Router {
    Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(readyz)).route("/metrics", get(render)).with_state(admin)
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let mut not_ready = admin.readiness.faults();
    if let Err(why) = admin.identity.ready() {
        not_ready.insert("identity", why);
    }
    if admin.drain.is_draining() {
        not_ready.insert("draining", "the gateway is shutting down".to_owned());
    }
    let ready = not_ready.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready, not_ready })).into_response()
}

async fn render(State(admin): State<Admin>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.metrics.render()).into_response()
}

#[cfg(test)]
mod tests;
