//! A way out beside Slack: each change of a request as a signed POST, for paging and ticket systems. Nothing is decided by it, and no
//! statement is in it.
//!
//! The body is signed as Slack signs its own: `X-Countersign-Signature: v1=<hex HMAC-SHA256 of "v1:<timestamp>:<body>">`, with
//! `X-Countersign-Timestamp` in seconds. Deliveries come at least once; `id` names the change.

use std::time::Duration;

use hmac::{Hmac, Mac as _};
use serde_json::json;
use sha2::Sha256;

use crate::card::{Card, View};
use crate::config::Secret;

/// How long the receiver may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where changes go.
#[derive(Debug, Clone)]
pub struct Webhook {
    url: reqwest::Url,
    secret: Secret,
    http: reqwest::Client,
}

/// Why a change was not taken. Without the URL, which may carry a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("webhook: {0}")]
pub struct WebhookError(String);

impl Webhook {
    /// A webhook at a URL, HTTPS or on this machine.
    ///
    /// # Errors
    /// When it is neither, or no client can be made.
    pub fn new(url: &str, secret: Secret) -> Result<Self, WebhookError> {
        let fault = |why: &str| WebhookError(why.to_owned());
        let url = reqwest::Url::parse(url).map_err(|_| fault("the address is no URL"))?;
        let loopback = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            return Err(fault("the address must be https, or on this machine"));
        }
        if secret.0.len() < 16 {
            return Err(fault("the secret must have at least 16 characters"));
        }
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| WebhookError(error.to_string()))?;
        Ok(Self { url, secret, http })
    }

    /// Tells of a request's state, as its card shows it.
    ///
    /// # Errors
    /// When it was not taken; it is to be told again.
    pub async fn tell(&self, view: &View<'_>, card: &Card, now: u64) -> Result<(), WebhookError> {
        let request = view.request;
        let body = json!({
            "version": 1,
            "id": format!("{}:{}", request.id, card.hash.get(..16).unwrap_or_default()),
            "request": request.id.as_str(),
            "environment": request.environment,
            "database": request.database,
            "rule": request.rule,
            "requester": request.requester.subject,
            "reviewers": request.reviewers,
            "status": view.status.as_str(),
            "approvals": card.approvals,
            "quorum": request.quorum.max(1),
            "created_at": request.created_at,
            "expires_at": request.expires_at,
            "page": view.page,
        })
        .to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.0.as_bytes()).map_err(|error| WebhookError(error.to_string()))?;
        mac.update(format!("v1:{now}:{body}").as_bytes());
        let answer = self
            .http
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("x-countersign-timestamp", now.to_string())
            .header("x-countersign-signature", format!("v1={}", hex::encode(mac.finalize().into_bytes())))
            .body(body)
            .send()
            .await
            .map_err(|error| WebhookError(error.without_url().to_string()))?;
        if answer.status().is_success() { Ok(()) } else { Err(WebhookError(format!("HTTP status {}", answer.status().as_u16()))) }
    }
}
