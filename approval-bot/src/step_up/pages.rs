//! The pages of a sign-in: the whole request with a button, the way to the provider, and the way back.

use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

use super::{TICKET_LIFE, Ticket};
use crate::bot::Bot;
use crate::interactions;

/// Binds a sign-in to the browser that began it.
const COOKIE: &str = "countersign_step_up";

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
    match interactions::whole(&bot, &ticket.reference).await {
        Ok(text) => {
            let body = format!(
                "<p>Read what you are about to approve. Signing in approves exactly this{}.</p><pre>{}</pre>\
                 <form method=post action=\"/step-up\"><input type=hidden name=ticket value=\"{}\">\
                 <button>Sign in and approve</button></form>",
                if ticket.all { ", for as many runs as it allows" } else { ", once" },
                escape(&text),
                escape(&given.ticket),
            );
            page(&bot, StatusCode::OK, "Approve by signing in", &body)
        }
        Err(text) => page(&bot, StatusCode::OK, "Nothing to approve", &format!("<p>{}</p>", escape(&text))),
    }
}

/// Sends the browser to the provider.
async fn begin(State(bot): State<Bot>, Form(given): Form<Given>) -> Response {
    let (Some(provider), Some(_)) = (&bot.step_up, bot.seals.open(&given.ticket, bot.clock.now())) else { return stale() };
    let state = uuid::Uuid::new_v4().simple().to_string();
    let (nonce, verifier) = (bot.seals.nonce(&given.ticket, &state), bot.seals.verifier(&given.ticket, &state));
    let url = match provider.authorization(&state, &nonce, &verifier).await {
        Ok(url) => url,
        Err(error) => {
            tracing::error!(%error, "the identity provider for sign-ins does not answer");
            return page(&bot, StatusCode::BAD_GATEWAY, "Not possible now", &format!("<p>{}</p>", escape(&error.to_string())));
        }
    };
    let secure = if bot.public_url.as_deref().is_some_and(|url| url.starts_with("https://")) { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={}~{state}; Path=/step-up; Max-Age={TICKET_LIFE}; HttpOnly; SameSite=Lax{secure}", given.ticket);
    let headers = [(header::LOCATION, url), (header::SET_COOKIE, cookie), (header::CACHE_CONTROL, "no-store".to_owned())];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// Takes the browser back: only here something is signed.
async fn end(State(bot): State<Bot>, headers: HeaderMap, Query(back): Query<Back>) -> Response {
    let now = bot.clock.now();
    let refuse = |text: &str| page(&bot, StatusCode::FORBIDDEN, "Nothing was decided", &format!("<p>{}</p>", escape(text)));
    let (Some(provider), Some((sealed, state))) = (&bot.step_up, cookie(&headers)) else {
        return refuse("this browser did not begin this sign-in; press the button in Slack again");
    };
    let given = back.state.unwrap_or_default();
    if !bool::from(subtle::ConstantTimeEq::ct_eq(given.as_bytes(), state.as_bytes())) {
        tracing::warn!("sign-in with a foreign state refused");
        return refuse("this browser did not begin this sign-in; press the button in Slack again");
    }
    let Some(ticket) = bot.seals.open(&sealed, now) else { return refuse("this took too long; press the button in Slack again") };
    // RFC 9207: an answer that names another provider is one's of a mix-up.
    if back.iss.is_some_and(|issuer| issuer != provider.issuer()) {
        return refuse("the answer is another identity provider's");
    }
    let code = match (back.code, back.error) {
        (Some(code), None) => code,
        _ => return refuse("the identity provider reports that you did not sign in"),
    };
    match bot.store.take_once(&format!("step-up:{state}"), now.saturating_add(86_400)).await {
        Ok(true) => {}
        Ok(false) => return refuse("this sign-in was used already"),
        Err(error) => {
            tracing::error!(%error, "a sign-in could not be noted");
            return refuse("the approval store does not answer; try again");
        }
    }
    let (nonce, verifier) = (bot.seals.nonce(&sealed, &state), bot.seals.verifier(&sealed, &state));
    let sign_in = match provider.sign_in(&code, &nonce, &verifier, now).await {
        Ok(sign_in) => sign_in,
        Err(error) => {
            tracing::warn!(slack.user = %ticket.user, %error, "sign-in refused");
            return refuse(&error.to_string());
        }
    };
    let Ticket { reference, user, all, .. } = ticket;
    match interactions::approve_signed_in(&bot, &reference, &user, all, &sign_in, now).await {
        Ok(text) => page(&bot, StatusCode::OK, "Done", &format!("<p>{}</p>", escape(&text))),
        Err(text) => refuse(&text),
    }
}

fn cookie(headers: &HeaderMap) -> Option<(String, String)> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    let mut ours = all.filter_map(|pair| pair.trim().split_once('=')).filter(|(name, _)| *name == COOKIE);
    let (_, value) = ours.next()?;
    let (ticket, state) = value.split_once('~')?;
    (!state.is_empty()).then(|| (ticket.to_owned(), state.to_owned()))
}

fn stale() -> Response {
    (StatusCode::NOT_FOUND, "this link is no longer good; press the button in Slack again\n").into_response()
}

fn page(bot: &Bot, status: StatusCode, title: &str, body: &str) -> Response {
    // A form's target is held against the policy on each redirect, so the provider must be in it.
    let provider = bot.step_up.as_ref().and_then(|provider| reqwest::Url::parse(provider.issuer()).ok());
    let origin = provider.map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    let policy =
        format!("default-src 'none'; style-src 'unsafe-inline'; form-action 'self' {origin}; frame-ancestors 'none'; base-uri 'none'");
    let html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>{title} - Countersign</title>\
         <style>body{{font:16px system-ui;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#1d1c1d}}\
         pre{{white-space:pre-wrap;overflow-wrap:anywhere;background:#f6f6f6;border:1px solid #ddd;padding:1rem}}\
         button{{font:inherit;padding:.6rem 1.2rem;background:#007a5a;color:#fff;border:0;border-radius:4px}}</style>\
         <h1>{title}</h1>{body}</html>\n"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::X_FRAME_OPTIONS, "DENY".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    (status, headers, html).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
