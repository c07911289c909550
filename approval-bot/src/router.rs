//! The bot's HTTP face: presses (`POST /slack/interactions`), its own pages (`/requests`), sign-ins (`/step-up`), `GET /healthz`. The same
//! router serves in-process and in Lambda.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use countersign_approval::{RequestId, UnverifiedRequest};
use serde::Deserialize;

use crate::bot::Bot;
use crate::card::{self, View};
use crate::interactions::{self, Raw, Reply};
use crate::{html, step_up, web};

/// Slack's payloads are far smaller; a card of ours is at most some 20 KB in them.
const MAX_BODY: usize = 512 * 1024;

/// The router.
pub fn router(bot: Bot) -> Router {
    Router::new()
        .route("/slack/interactions", post(interaction))
        .route("/requests/{id}", get(request))
        .merge(web::routes())
        .merge(step_up::routes())
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(bot)
}

async fn interaction(State(bot): State<Bot>, headers: HeaderMap, body: Bytes) -> Response {
    let patience = bot.acknowledge_after;
    // A task of its own: Slack hangs up after three seconds, and a decision is not to be broken off half-way.
    let mut work = tokio::spawn(async move {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let raw = Raw {
            timestamp: text("x-slack-request-timestamp"),
            signature: text("x-slack-signature"),
            body: &body,
            retry: headers.contains_key("x-slack-retry-num"),
            host: text("host"),
        };
        interactions::take(&bot, raw).await
    });
    let done = match patience {
        // The presser hears of it at the press's own URL when it is done.
        Some(patience) => tokio::time::timeout(patience, &mut work).await.unwrap_or(Ok(Reply::Taken)),
        None => work.await,
    };
    match done {
        Ok(Reply::Taken) => StatusCode::OK.into_response(),
        Ok(Reply::Form(form)) => axum::Json(form).into_response(),
        Ok(Reply::NotSlack(error)) => (StatusCode::UNAUTHORIZED, format!("{error}\n")).into_response(),
        Ok(Reply::NotUnderstood) => (StatusCode::BAD_REQUEST, "not an interaction payload\n").into_response(),
        Ok(Reply::NotOurs) => (StatusCode::FORBIDDEN, "another app or workspace\n").into_response(),
        Err(error) => {
            tracing::error!(%error, "a press could not be dealt with");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Sees something through that must not be broken off half-way, though whoever asked for it may hang up.
pub(crate) async fn through(work: impl Future<Output = Response> + Send + 'static) -> Response {
    match tokio::spawn(work).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::error!(%error, "a request could not be dealt with");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Deserialize)]
struct Link {
    until: Option<u64>,
    key: Option<String>,
}

/// With the key of a card's link, the request as plain text; without one, the page.
async fn request(State(bot): State<Bot>, Path(id): Path<String>, Query(link): Query<Link>, headers: HeaderMap) -> Response {
    let gone = || (StatusCode::NOT_FOUND, "no such request, or the link is no longer good\n").into_response();
    let Ok(id) = RequestId::parse(&id) else { return gone() };
    let (until, key) = match (link.until, link.key) {
        (None, None) => return web::show(&bot, &id, &headers).await,
        (until, key) => (until.unwrap_or_default(), key.unwrap_or_default()),
    };
    if !bot.links.admits(&id, until, &key, bot.clock.now()) {
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
    let policy = "default-src 'none'; frame-ancestors 'none'; sandbox";
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], html::guarded(policy), text).into_response()
}
