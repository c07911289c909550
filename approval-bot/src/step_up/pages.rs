//! The pages of a sign-in: the whole request with a button, the way to the provider, and the way back.

use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

use super::{Provider, Purpose, TICKET_LIFE, Ticket};
use crate::bot::Bot;
use crate::decide::SignIn;
use crate::html::{escape, page};
use crate::router;
use crate::votes::{self, Presser, Voted, Wish};
use crate::web;

/// Binds a sign-in to the browser that began it.
const COOKIE: &str = "countersign_step_up";
/// Who came back with somebody else's answer, or with none.
const FOREIGN: &str = "this browser did not begin this sign-in; press the button again";

/// The pages.
pub fn routes() -> Router<Bot> {
    Router::new().route("/step-up", get(show).post(begin)).route("/step-up/callback", get(end))
}

#[derive(Deserialize)]
struct Given {
    ticket: String,
}

#[derive(Deserialize)]
struct Back {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    iss: Option<String>,
}

/// Shows the whole request. Looking at it decides nothing.
async fn show(State(bot): State<Bot>, Query(given): Query<Given>) -> Response {
    let Some(ticket) = bot.seals.open(&given.ticket, bot.clock.now()) else { return stale() };
    let Some((reference, all)) = ticket.purpose.approves() else { return stale() };
    match votes::whole(&bot, reference).await {
        Ok(text) => {
            let body = format!(
                "<p>Read what you are about to approve. Signing in approves exactly this{}.</p><pre>{}</pre>\
                 <form method=post action=\"/step-up\"><input type=hidden name=ticket value=\"{}\">\
                 <button>Sign in and approve</button></form>",
                if all { ", for as many runs as it allows" } else { ", once" },
                escape(&text),
                escape(&given.ticket),
            );
            page(&bot, StatusCode::OK, "Approve by signing in", &body).await
        }
        Err(text) => page(&bot, StatusCode::OK, "Nothing to approve", &format!("<p>{}</p>", escape(&text))).await,
    }
}

/// Sends the browser to the provider.
async fn begin(State(bot): State<Bot>, Form(given): Form<Given>) -> Response {
    let Some(ticket) = bot.seals.open(&given.ticket, bot.clock.now()) else { return stale() };
    // Whoever opens the page begins there.
    if ticket.purpose.approves().is_none() {
        return stale();
    }
    send_to_provider(&bot, &given.ticket).await
}

/// Sends the browser to the provider for the sake of a sealed ticket.
pub(crate) async fn send_to_provider(bot: &Bot, ticket: &str) -> Response {
    let Some(provider) = &bot.step_up else { return stale() };
    let state = uuid::Uuid::new_v4().simple().to_string();
    let (nonce, verifier) = (bot.seals.nonce(ticket, &state), bot.seals.verifier(ticket, &state));
    let url = match provider.authorization(&state, &nonce, &verifier).await {
        Ok(url) => url,
        Err(error) => {
            tracing::error!(%error, "the identity provider for sign-ins does not answer");
            return page(bot, StatusCode::BAD_GATEWAY, "Not possible now", &format!("<p>{}</p>", escape(&error.to_string()))).await;
        }
    };
    let secure = if bot.public_url.as_deref().is_some_and(|url| url.starts_with("https://")) { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={ticket}~{state}; Path=/step-up; Max-Age={TICKET_LIFE}; HttpOnly; SameSite=Lax{secure}");
    let headers = [(header::LOCATION, url), (header::SET_COOKIE, cookie), (header::CACHE_CONTROL, "no-store".to_owned())];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// Takes the browser back: only here something is signed, or the page opened.
async fn end(State(bot): State<Bot>, headers: HeaderMap, Query(back): Query<Back>) -> Response {
    router::through(async move {
        match came_back(&bot, &headers, back).await {
            Ok(answer) => answer,
            Err(text) => page(&bot, StatusCode::FORBIDDEN, "Nothing was decided", &format!("<p>{}</p>", escape(&text))).await,
        }
    })
    .await
}

async fn came_back(bot: &Bot, headers: &HeaderMap, back: Back) -> Result<Response, String> {
    let now = bot.clock.now();
    let (Some(provider), Some((sealed, state))) = (&bot.step_up, cookie(headers)) else { return Err(FOREIGN.to_owned()) };
    let given = back.state.clone().unwrap_or_default();
    if !bool::from(subtle::ConstantTimeEq::ct_eq(given.as_bytes(), state.as_bytes())) {
        tracing::warn!("sign-in with a foreign state refused");
        return Err(FOREIGN.to_owned());
    }
    let ticket = bot.seals.open(&sealed, now).ok_or("this took too long; press the button again")?;
    let sign_in = signed_in(bot, provider, back, (&sealed, &state), now).await?;
    finish(bot, ticket, sign_in, now).await
}

/// The sign-in behind an answer of the provider's, once.
async fn signed_in(bot: &Bot, provider: &Provider, back: Back, (sealed, state): (&str, &str), now: u64) -> Result<SignIn, String> {
    // RFC 9207: an answer that names another provider is one's of a mix-up.
    if back.iss.is_some_and(|issuer| issuer != provider.issuer()) {
        return Err("the answer is another identity provider's".to_owned());
    }
    let code = match (back.code, back.error) {
        (Some(code), None) => code,
        _ => return Err("the identity provider reports that you did not sign in".to_owned()),
    };
    match bot.store.take_once(&format!("step-up:{state}"), now.saturating_add(86_400)).await {
        Ok(true) => {}
        Ok(false) => return Err("this sign-in was used already".to_owned()),
        Err(error) => {
            tracing::error!(%error, "a sign-in could not be noted");
            return Err("the approval store does not answer; try again".to_owned());
        }
    }
    let (nonce, verifier) = (bot.seals.nonce(sealed, state), bot.seals.verifier(sealed, state));
    provider.sign_in(&code, &nonce, &verifier, now).await.map_err(|error| {
        tracing::warn!(%error, "sign-in refused");
        error.to_string()
    })
}

/// What the sign-in was for.
async fn finish(bot: &Bot, ticket: Ticket, sign_in: SignIn, now: u64) -> Result<Response, String> {
    let (reference, presser, all) = match &ticket.purpose {
        Purpose::Session { back } => return web::opened(bot, sign_in, back.as_ref(), now).await,
        Purpose::Press { reference, user, all } => (reference, Presser::Slack { id: user, team: None }, *all),
        Purpose::Page { reference, all, issuer, subject } => {
            if *issuer != sign_in.step_up.issuer || *subject != sign_in.step_up.subject {
                return Err("whoever signed in now is not who opened the page: nothing was decided".to_owned());
            }
            (reference, Presser::SignedIn(&sign_in), *all)
        }
    };
    let found = votes::find(bot, reference).await?;
    match votes::vote(bot, presser, &found, Wish::Approve { all, sign_in: Some(&sign_in) }, now).await? {
        Voted::Done(text) => Ok(page(bot, StatusCode::OK, "Done", &format!("<p>{}</p>", escape(&text))).await),
        Voted::NeedsSignIn => Err("approving this takes another sign-in".to_owned()),
    }
}

/// The ticket and the state this browser began with. Two of them are none: somebody put one there.
fn cookie(headers: &HeaderMap) -> Option<(String, String)> {
    let value = web::cookie(headers, COOKIE)?;
    let (ticket, state) = value.split_once('~')?;
    (!state.is_empty()).then(|| (ticket.to_owned(), state.to_owned()))
}

fn stale() -> Response {
    (StatusCode::NOT_FOUND, "this link is no longer good; press the button again\n").into_response()
}
