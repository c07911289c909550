//! The shell of the bot's pages: one style, no script, nothing from elsewhere, headers that keep it so.

use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::bot::Bot;

/// What is read stands in the order in which it runs: letters that run from right to left would reorder it otherwise.
const STYLE: &str = "body{font:16px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d1c1d}\
h1{font-size:1.6rem}h2{font-size:1.05rem;margin:1.6rem 0 .4rem}a{color:#1264a3}\
pre,dd,td,.said{direction:ltr;unicode-bidi:bidi-override;overflow-wrap:anywhere}\
pre{white-space:pre-wrap;background:#f6f6f6;border:1px solid #ddd;border-radius:4px;padding:1rem;margin:.3rem 0}\
dl{display:grid;grid-template-columns:minmax(8rem,max-content) 1fr;gap:.2rem 1rem;margin:.3rem 0}dt{font-weight:600;overflow-wrap:anywhere}dd{margin:0}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.45rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}\
.note{background:#fff4d6;border-left:4px solid #d9a300;padding:.5rem .8rem;margin:.4rem 0}.small{color:#555;font-size:.85rem}\
.said{white-space:pre-line}form{margin:1rem 0}\
textarea{display:block;box-sizing:border-box;font:inherit;width:100%;height:4.5rem;margin:.3rem 0 .6rem}\
button{font:inherit;padding:.6rem 1.2rem;margin-right:.5rem;background:#007a5a;color:#fff;border:0;border-radius:4px;cursor:pointer}\
button.deny{background:#b3261e}button.plain{background:none;color:#1264a3;padding:0;text-decoration:underline}";

/// A page. `body` is HTML: whatever came from elsewhere went through [`escape`].
pub(crate) async fn page(bot: &Bot, status: StatusCode, title: &str, body: &str) -> Response {
    // A form's target is held against the policy on each redirect, so the provider must be in it.
    let provider = match &bot.step_up {
        Some(provider) => provider.origins().await,
        None => String::new(),
    };
    let style = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let policy =
        format!("default-src 'none'; style-src 'sha256-{style}'; form-action 'self' {provider}; frame-ancestors 'none'; base-uri 'none'");
    let title = escape(title);
    let html = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title} - Countersign</title><style>{STYLE}</style></head><body><h1>{title}</h1>{body}</body></html>\n"
    );
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::X_FRAME_OPTIONS, "DENY")], guarded(&policy), html)
        .into_response()
}

/// Headers of everything that shows a request.
pub(crate) fn guarded(policy: &str) -> [(HeaderName, String); 5] {
    [
        (header::CONTENT_SECURITY_POLICY, policy.to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin".to_owned()),
    ]
}

/// Text as HTML, between tags or within double quotes.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
