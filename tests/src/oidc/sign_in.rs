//! The issuer's browser side: authorization endpoint with a form, codes that are good once, token endpoint. It refuses what public
//! providers refuse: unknown clients, other redirect URIs, no PKCE, `plain`, a used or foreign code, a wrong verifier.
//!
//! OpenID Connect Core 1.0 section 3.1, RFC 6749 section 4.1, RFC 7636, RFC 9207.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Claims, Shared, now_seconds};

/// How long a code is good.
const CODE_LIFE: Duration = Duration::from_secs(60);

/// A client as registered.
#[derive(Debug, Clone)]
pub struct Client {
    /// `client_id`
    pub id: String,
    /// What a confidential client shows at the token endpoint (`client_secret_basic`); a public one has none.
    pub secret: Option<String>,
    /// The one redirect URI.
    pub redirect_uri: String,
}

/// A code that was given out.
#[derive(Debug)]
pub(super) struct Code {
    client: String,
    redirect_uri: String,
    challenge: String,
    nonce: Option<String>,
    subject: String,
    made: Instant,
    signed_in: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct Asked {
    response_type: Option<String>,
    client_id: Option<String>,
    redirect_uri: Option<String>,
    scope: Option<String>,
    state: Option<String>,
    nonce: Option<String>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
    /// What the person chose in the form.
    login: Option<String>,
    /// Seconds ago they signed in, where the provider does not ask anew though it was told to.
    stale: Option<u64>,
}

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/authorize", get(form).post(decide)).route("/token", post(token))
}

/// What must hold before anything is sent to the redirect URI, or an error page.
#[expect(clippy::result_large_err, reason = "the error is the answer")]
fn client_of(shared: &Shared, asked: &Asked) -> Result<Client, Response> {
    let refuse = |text: &str| (StatusCode::BAD_REQUEST, format!("{text}\n")).into_response();
    let inner = shared.lock();
    let client = inner.clients.iter().find(|client| asked.client_id.as_ref() == Some(&client.id));
    let client = client.ok_or_else(|| refuse("unknown client"))?;
    if asked.redirect_uri.as_ref() != Some(&client.redirect_uri) {
        return Err(refuse("redirect URI is not registered"));
    }
    Ok(client.clone())
}

/// Errors that go back to the client by the browser.
fn fault(asked: &Asked) -> Option<&'static str> {
    if asked.response_type.as_deref() != Some("code") {
        return Some("unsupported_response_type");
    }
    if !asked.scope.as_deref().unwrap_or_default().split(' ').any(|scope| scope == "openid") {
        return Some("invalid_scope");
    }
    let challenged = asked.code_challenge.as_deref().is_some_and(|challenge| (43..=128).contains(&challenge.len()));
    (!challenged || asked.code_challenge_method.as_deref() != Some("S256")).then_some("invalid_request")
}

fn back(shared: &Shared, client: &Client, asked: &Asked, answer: (&str, &str)) -> Response {
    let Ok(mut url) = reqwest::Url::parse(&client.redirect_uri) else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    url.query_pairs_mut().append_pair(answer.0, answer.1).append_pair("iss", &shared.url);
    if let Some(state) = &asked.state {
        url.query_pairs_mut().append_pair("state", state);
    }
    (StatusCode::SEE_OTHER, [(header::LOCATION, url.to_string())]).into_response()
}

async fn form(State(shared): State<Shared>, Query(asked): Query<Asked>) -> Response {
    let client = match client_of(&shared, &asked) {
        Ok(client) => client,
        Err(refusal) => return refusal,
    };
    if let Some(error) = fault(&asked) {
        return back(&shared, &client, &asked, ("error", error));
    }
    let hidden: String = [
        ("response_type", &asked.response_type),
        ("client_id", &asked.client_id),
        ("redirect_uri", &asked.redirect_uri),
        ("scope", &asked.scope),
        ("state", &asked.state),
        ("nonce", &asked.nonce),
        ("code_challenge", &asked.code_challenge),
        ("code_challenge_method", &asked.code_challenge_method),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(format!("<input type=hidden name={name} value=\"{}\">", escape(value.as_deref()?))))
    .collect();
    Html(format!(
        "<!doctype html><title>Sign in</title><h1>The Bank: sign in</h1><form method=post action=/authorize>{hidden}\
         <label>Name <input name=login autofocus></label> <button>Sign in</button></form>"
    ))
    .into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

async fn decide(State(shared): State<Shared>, Form(asked): Form<Asked>) -> Response {
    let client = match client_of(&shared, &asked) {
        Ok(client) => client,
        Err(refusal) => return refusal,
    };
    if let Some(error) = fault(&asked) {
        return back(&shared, &client, &asked, ("error", error));
    }
    let Some(subject) = asked.login.clone().filter(|login| !login.is_empty()) else {
        return back(&shared, &client, &asked, ("error", "access_denied"));
    };
    let code = uuid::Uuid::new_v4().simple().to_string();
    shared.lock().codes.insert(
        code.clone(),
        Code {
            client: client.id.clone(),
            redirect_uri: client.redirect_uri.clone(),
            challenge: asked.code_challenge.clone().unwrap_or_default(),
            nonce: asked.nonce.clone(),
            subject,
            made: Instant::now(),
            signed_in: now_seconds().saturating_sub(asked.stale.unwrap_or(0)),
        },
    );
    back(&shared, &client, &asked, ("code", &code))
}

/// RFC 6749, 2.3.1: client id and secret, each form-encoded, in a Basic header.
fn authenticated(headers: &HeaderMap) -> Option<(String, String)> {
    let basic = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(STANDARD.decode(basic).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    let decoded = |text: &str| {
        let url = reqwest::Url::parse(&format!("form:?{text}")).ok()?;
        url.query_pairs().next().map(|(name, _)| name.into_owned())
    };
    Some((decoded(id)?, decoded(secret)?))
}

async fn token(State(shared): State<Shared>, headers: HeaderMap, Form(form): Form<HashMap<String, String>>) -> Response {
    let refuse = |error: &str| (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let secret = shared.lock().clients.iter().find(|client| client.id == field("client_id")).and_then(|client| client.secret.clone());
    let shown = authenticated(&headers);
    if secret.map(|secret| (field("client_id").to_owned(), secret)) != shown {
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_client"}))).into_response();
    }
    if field("grant_type") != "authorization_code" {
        return refuse("unsupported_grant_type");
    }
    // Taken out whatever comes of it: a code is good once.
    let Some(code) = shared.lock().codes.remove(field("code")) else { return refuse("invalid_grant") };
    let verified = URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier"))) == code.challenge;
    if code.client != field("client_id") || code.redirect_uri != field("redirect_uri") || !verified || code.made.elapsed() > CODE_LIFE {
        return refuse("invalid_grant");
    }
    let mut claims = Claims::of(&code.subject, &[]);
    claims.audience = code.client;
    claims.lifetime_seconds = 300;
    claims.more.insert("auth_time".to_owned(), json!(code.signed_in));
    claims.more.extend(code.nonce.map(|nonce| ("nonce".to_owned(), Value::from(nonce))));
    claims.more.extend(shared.lock().id_token_changes.clone());
    match shared.mint(&claims) {
        Ok(id_token) => {
            Json(json!({"id_token": id_token, "access_token": "opaque", "token_type": "Bearer", "expires_in": 300})).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
