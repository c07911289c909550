//! The bot's HTTP face: `POST /slack/interactions`, `GET /requests/{id}`, `GET /healthz`. The same router serves in-process and in Lambda.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use countersign_approval::{RequestId, UnverifiedRequest};
use serde::Deserialize;

use crate::bot::Bot;
use crate::card::{self, View};
use crate::interactions::{self, Raw, Reply};
use crate::step_up;

/// Slack's payloads are far smaller; a card of ours is at most some 20 KB in them.
const MAX_BODY: usize = 512 * 1024;

/// The router.
pub fn router(bot: Bot) -> Router {
    Router::new()
        .route("/slack/interactions", post(interaction))
        .route("/requests/{id}", get(request))
        .merge(step_up::routes())
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(bot)
}

async fn interaction(State(bot): State<Bot>, headers: HeaderMap, body: Bytes) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let raw = Raw {
        timestamp: text("x-slack-request-timestamp"),
        signature: text("x-slack-signature"),
        body: &body,
        retry: headers.contains_key("x-slack-retry-num"),
        host: text("host"),
    };
    match interactions::take(&bot, raw).await {
        Reply::Taken => StatusCode::OK.into_response(),
        Reply::Form(form) => axum::Json(form).into_response(),
        Reply::NotSlack(error) => (StatusCode::UNAUTHORIZED, format!("{error}\n")).into_response(),
        Reply::NotUnderstood => (StatusCode::BAD_REQUEST, "not an interaction payload\n").into_response(),
        Reply::NotOurs => (StatusCode::FORBIDDEN, "another app or workspace\n").into_response(),
    }
}

#[derive(Deserialize)]
struct Link {
    until: u64,
    key: String,
}

async fn request(State(bot): State<Bot>, Path(id): Path<String>, Query(link): Query<Link>) -> Response {
    let gone = || (StatusCode::NOT_FOUND, "no such request, or the link is no longer good\n").into_response();
    let Ok(id) = RequestId::parse(&id) else { return gone() };
    if !bot.links.admits(&id, link.until, &link.key, bot.clock.now()) {
        return gone();
    }
    let stored = match bot.store.get(&id).await {
        Ok(Some(stored)) => stored,
        Ok(None) => return gone(),
        Err(error) => {
            tracing::error!(request.id = %id, %error, "approval store does not answer");
            return (StatusCode::SERVICE_UNAVAILABLE, "the approval store does not answer, try again\n").into_response();
        }
    };
    let unverified = UnverifiedRequest::new(&stored.request);
    let Ok(request) = unverified.parse() else { return gone() };
    let text = card::whole(&View::of(&request, &unverified.fingerprint(), &stored, bot.signer.public()));
    let headers: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text).into_response()
}
