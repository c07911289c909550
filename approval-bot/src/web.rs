//! The bot's own pages, for those without Slack and for when Slack is down: what is open, one request whole, and a decision on it.
//!
//! Whoever comes signs in at the identity provider first ([`crate::step_up`]); the roster says who they are and whether they may decide.
//! A decision goes the way of a press (`votes`). No script; a form is bound to the session, to the request as it was shown, and
//! counts once.

mod session;
mod view;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use countersign_approval::item::Status;
use countersign_approval::{RequestId, Verdict};
use countersign_policy::Policy;
use serde::Deserialize;

use self::session::Session;
pub(crate) use self::session::cookie;
use self::view::Offer;
use crate::bot::Bot;
use crate::card;
use crate::decide::{self, By, Press, Refusal, SignIn, Standing};
use crate::html::{escape, page};
use crate::questions;
use crate::router;
use crate::step_up::{Purpose, TICKET_LIFE, Ticket, send_to_provider};
use crate::votes::{self, Found, Presser, Voted, Wish};

/// Most requests that are listed.
const MOST: usize = 200;
/// How long the number of a used form is remembered, in seconds: longer than any session.
const FORM_MEMORY: u64 = 2 * session::SESSION_LIFE;

/// The pages. `show` is reached through the router's own `/requests/{id}`, which a link of a card may lead to as well.
pub fn routes() -> Router<Bot> {
    Router::new()
        .route("/requests", get(list))
        .route("/requests/sign-in", post(sign_in))
        .route("/requests/sign-out", post(sign_out))
        .route("/requests/{id}", post(decide))
}

/// The address of the page about a request, where this bot has pages.
#[must_use]
pub fn address(bot: &Bot, id: &RequestId) -> Option<String> {
    match (&bot.step_up, &bot.public_url) {
        (Some(_), Some(base)) => Some(format!("{base}/requests/{id}")),
        _ => None,
    }
}

/// The cookie's name. Where it can be, one that no other host of the same domain may set.
fn cookie_name(bot: &Bot) -> &'static str {
    if is_secure(bot) { "__Host-countersign" } else { "countersign" }
}

fn is_secure(bot: &Bot) -> bool {
    bot.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
}

fn session(bot: &Bot, headers: &HeaderMap) -> Option<Session> {
    let issuer = bot.step_up.as_ref()?.issuer();
    Session::of(headers, cookie_name(bot), &bot.seals, issuer, bot.clock.now())
}

fn nowhere() -> Response {
    (StatusCode::NOT_FOUND, "this bot has no pages: set COUNTERSIGN_STEP_UP_ISSUER and COUNTERSIGN_PUBLIC_URL\n").into_response()
}

/// Somebody signed in for the pages.
pub(crate) async fn opened(bot: &Bot, sign_in: SignIn, back: Option<&RequestId>, now: u64) -> Result<Response, String> {
    let policy = bot.policies.load().await.map_err(|error| {
        tracing::error!(%error, "no roster");
        "the policy cannot be read, so nobody can be let in; try again".to_owned()
    })?;
    if !decide::is_known(&sign_in, policy.roster()) {
        tracing::warn!(oidc.subject = %sign_in.step_up.subject, "somebody outside of the roster signed in");
        return Err(Refusal::NotInRoster.to_string());
    }
    tracing::info!(oidc.subject = %sign_in.step_up.subject, "somebody opened the bot's pages");
    // A browser keeps no more than some groups: those that matter.
    let sign_in = SignIn { groups: decide::groups_that_matter(&sign_in, policy.roster()), ..sign_in };
    let sealed = Session::begin(sign_in, now).sealed(&bot.seals);
    // A browser would drop a longer one without a word.
    if sealed.len() > 3_500 {
        return Err("the identity provider's name for you is too long".to_owned());
    }
    let place = back.map_or_else(|| "/requests".to_owned(), |id| format!("/requests/{id}"));
    Ok(with_cookie(bot, &sealed, session::SESSION_LIFE, &place))
}

/// The cookie that a sign-in leaves in the browser, `name=value`. Whoever has the bot's own key can make one, and nobody else.
#[must_use]
pub fn cookie_of(bot: &Bot, sign_in: SignIn) -> String {
    format!("{}={}", cookie_name(bot), Session::begin(sign_in, bot.clock.now()).sealed(&bot.seals))
}

fn with_cookie(bot: &Bot, value: &str, age: u64, place: &str) -> Response {
    let secure = if is_secure(bot) { "; Secure" } else { "" };
    let cookie = format!("{}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}", cookie_name(bot));
    let headers = [(header::LOCATION, place.to_owned()), (header::SET_COOKIE, cookie), (header::CACHE_CONTROL, "no-store".to_owned())];
    (StatusCode::SEE_OTHER, headers).into_response()
}

#[derive(Deserialize)]
struct Begin {
    #[serde(default)]
    back: Option<String>,
}

/// Sends the browser to the provider.
async fn sign_in(State(bot): State<Bot>, Form(given): Form<Begin>) -> Response {
    if bot.step_up.is_none() || bot.public_url.is_none() {
        return nowhere();
    }
    let back = given.back.and_then(|id| RequestId::parse(&id).ok());
    let ticket = Ticket { purpose: Purpose::Session { back }, until: bot.clock.now().saturating_add(TICKET_LIFE) };
    send_to_provider(&bot, &bot.seals.seal(&ticket)).await
}

async fn sign_out(State(bot): State<Bot>) -> Response {
    with_cookie(&bot, "", 0, "/requests")
}

/// What is asked before anything is shown. Says nothing about what there is.
async fn ask_to_sign_in(bot: &Bot, back: Option<&RequestId>) -> Response {
    let back = back.map(|id| format!("<input type=hidden name=back value=\"{id}\">")).unwrap_or_default();
    let body = format!(
        "<p>Reviewers read and decide requests here when they do not use Slack, or when Slack is down.</p>\
         <form method=post action=\"/requests/sign-in\">{back}<button>Sign in</button></form>"
    );
    page(bot, StatusCode::OK, "Requests for approval", &body).await
}

/// Requests that are open and that whoever looks may decide on.
async fn list(State(bot): State<Bot>, headers: HeaderMap) -> Response {
    if bot.step_up.is_none() || bot.public_url.is_none() {
        return nowhere();
    }
    let Some(session) = session(&bot, &headers) else { return ask_to_sign_in(&bot, None).await };
    let who = session.sign_in();
    match open(&bot, &who).await {
        Ok(requests) => page(&bot, StatusCode::OK, "Requests for approval", &view::list(&bot, &who, &requests)).await,
        Err(error) => {
            tracing::error!(%error, "approval store does not answer");
            let body = "<p>The approval store does not answer; try again.</p>";
            page(&bot, StatusCode::SERVICE_UNAVAILABLE, "Not possible now", body).await
        }
    }
}

async fn open(bot: &Bot, who: &SignIn) -> Result<Vec<Found>, crate::store::StoreError> {
    let now = bot.clock.now();
    let mut policies: HashMap<String, Option<Arc<Policy>>> = HashMap::new();
    let mut requests = Vec::new();
    for id in bot.store.unsettled().await? {
        let Ok(found) = votes::look(bot, &id).await else { continue };
        let Found { request, stored } = &found;
        if stored.status != Status::Open || now >= request.expires_at {
            continue;
        }
        // The document is read once for all requests of one version.
        if !policies.contains_key(&request.policy) {
            policies.insert(request.policy.clone(), bot.policies.get(&request.policy).await.ok());
        }
        let policy = policies.get(&request.policy).and_then(Option::as_ref);
        if policy.is_some_and(|policy| decide::who(By::SignIn(who), request, policy.roster()).is_ok()) {
            requests.push(found);
        }
    }
    requests.sort_by_key(|found| found.request.expires_at);
    requests.truncate(MOST);
    Ok(requests)
}

/// One request, whole, with what may be done about it.
pub(crate) async fn show(bot: &Bot, id: &RequestId, headers: &HeaderMap) -> Response {
    if bot.step_up.is_none() || bot.public_url.is_none() {
        return nowhere();
    }
    let Some(session) = session(bot, headers) else { return ask_to_sign_in(bot, Some(id)).await };
    match shown(bot, id, &session).await {
        Ok((title, body)) => page(bot, StatusCode::OK, &title, &body).await,
        Err(why) => refusal(bot, &why).await,
    }
}

async fn refusal(bot: &Bot, why: &str) -> Response {
    let body = format!("<p>{}</p><p><a href=\"/requests\">All requests</a></p>", escape(why));
    page(bot, StatusCode::FORBIDDEN, "Nothing was decided", &body).await
}

async fn shown(bot: &Bot, id: &RequestId, session: &Session) -> Result<(String, String), String> {
    let found = votes::look(bot, id).await?;
    let Found { request, stored } = &found;
    let who = session.sign_in();
    let policy = bot
        .policies
        .get(&request.policy)
        .await
        .map_err(|_| "the policy this request was made under is not in force any more; it must be asked for again".to_owned())?;
    // Statements and values are for those who decide on them.
    let person = decide::who(By::SignIn(&who), request, policy.roster()).map_err(|refusal| refusal.to_string())?;
    let fingerprint = request.fingerprint();
    let reference = card::reference(request, &fingerprint);
    let view = card::View::of(request, &fingerprint, stored, bot.signer.public());
    let offer = offer(bot, &found, &who, &policy);
    let token = session.token(&bot.seals, &reference);
    Ok((card::headline(&view), view::request(&view, &person, &offer, &reference, &token)))
}

/// What this person could still do, by the same rules that judge the decision itself.
fn offer(bot: &Bot, found: &Found, who: &SignIn, policy: &Policy) -> Offer {
    let Found { request, stored } = found;
    let standing = Standing { request, status: stored.status, tokens: &stored.tokens, now: bot.clock.now() };
    let press = Press { verdict: Verdict::Approve, reason: None, runs: 1, step_up: None, by: By::SignIn(who) };
    match decide::decide(&press, &standing, policy.roster(), bot.signer.public()) {
        Ok(_) | Err(Refusal::NeedsStepUp) if card::is_sound(request) => Offer::Both,
        Ok(_) | Err(Refusal::NeedsStepUp) => Offer::Deny("this asks for a template but is none that this bot understands".to_owned()),
        Err(Refusal::Granted) => Offer::Deny(Refusal::Granted.to_string()),
        Err(refusal) => Offer::Nothing(refusal.to_string()),
    }
}

#[derive(Deserialize)]
struct Filled {
    reference: String,
    token: String,
    what: What,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    question: String,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum What {
    Approve,
    ApproveRuns,
    Deny,
    Ask,
}

/// Takes a form. Only what the page offered this session, for the request as it was shown, once.
async fn decide(State(bot): State<Bot>, Path(id): Path<String>, headers: HeaderMap, Form(filled): Form<Filled>) -> Response {
    router::through(async move {
        match decided(&bot, &id, &headers, &filled).await {
            Ok(answer) => answer,
            Err(why) => refusal(&bot, &why).await,
        }
    })
    .await
}

async fn decided(bot: &Bot, id: &str, headers: &HeaderMap, filled: &Filled) -> Result<Response, String> {
    // Browsers say where a form comes from; the token holds without that, too.
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        tracing::warn!("form from another site refused");
        return Err("this form is from another site; nothing was decided".to_owned());
    }
    let session = session(bot, headers).ok_or("your sign-in is over; open the request again and sign in")?;
    let (now, sign_in) = (bot.clock.now(), session.sign_in());
    let number = session.number(&bot.seals, &filled.reference, &filled.token).ok_or_else(|| {
        tracing::warn!(oidc.subject = %sign_in.step_up.subject, "form refused that was not made for this session and request");
        "this form was not made for you and this request; nothing was decided, open the request again".to_owned()
    })?;
    let found = votes::find(bot, &filled.reference).await?;
    if found.request.id.as_str() != id {
        return Err("this form is another request's; nothing was decided".to_owned());
    }
    if filled.what == What::Deny && filled.reason.trim().chars().count() < 3 {
        return Err("say in a few words why; nothing was decided, go back and write it".to_owned());
    }
    if filled.what == What::Ask && filled.question.trim().chars().count() < 3 {
        return Err("ask in a few words; nothing was asked, go back and write it".to_owned());
    }
    match bot.store.take_once(&format!("form:{number}"), now.saturating_add(FORM_MEMORY)).await {
        Ok(true) => {}
        Ok(false) => return Err("this form was used already; open the request again".to_owned()),
        Err(error) => {
            tracing::error!(%error, "form could not be noted");
            return Err("the approval store does not answer; nothing was decided, try again".to_owned());
        }
    }
    let done = |text: &str| {
        let links = format!("<a href=\"/requests/{id}\">The request</a> · <a href=\"/requests\">All requests</a>");
        format!("<p>{}</p><p>{links}</p>", escape(text))
    };
    if filled.what == What::Ask {
        let text = questions::ask(bot, Presser::SignedIn(&sign_in), &found, &filled.question, now).await?;
        return Ok(page(bot, StatusCode::OK, "Asked", &done(&text)).await);
    }
    let wish = match filled.what {
        What::Deny => Wish::Deny(&filled.reason),
        what => Wish::Approve { all: what == What::ApproveRuns, sign_in: None },
    };
    match votes::vote(bot, Presser::SignedIn(&sign_in), &found, wish, now).await {
        Ok(Voted::Done(text)) => Ok(page(bot, StatusCode::OK, "Done", &done(&text)).await),
        // The top tier: the same once more with a sign-in for this very decision.
        Ok(Voted::NeedsSignIn) => {
            let purpose = Purpose::Page {
                reference: filled.reference.clone(),
                all: filled.what == What::ApproveRuns,
                issuer: sign_in.step_up.issuer,
                subject: sign_in.step_up.subject,
            };
            let ticket = bot.seals.seal(&Ticket { purpose, until: now.saturating_add(TICKET_LIFE) });
            let headers = [(header::LOCATION, format!("/step-up?ticket={ticket}")), (header::CACHE_CONTROL, "no-store".to_owned())];
            Ok((StatusCode::SEE_OTHER, headers).into_response())
        }
        Err(why) => {
            tracing::info!(request.id = %found.request.id, outcome = %why, "form decided nothing");
            Err(why)
        }
    }
}
