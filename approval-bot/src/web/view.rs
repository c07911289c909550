//! The pages as HTML. Pure. Whatever is not ours is made visible first and escaped then.

use crate::bot::Bot;
use crate::card::{self, Details, View};
use crate::decide::{MAX_REASON, SignIn};
use crate::html::escape;
use crate::visible;
use crate::votes::Found;

/// What somebody may do about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Offer {
    /// Approve or deny.
    Both,
    /// Deny, and why not approve.
    Deny(String),
    /// Nothing, and why.
    Nothing(String),
}

/// A list of open requests. Statements are on their own pages.
pub(super) fn list(bot: &Bot, who: &SignIn, requests: &[Found]) -> String {
    let mut html = signed_in(who.email.as_deref().unwrap_or(&who.step_up.subject));
    if requests.is_empty() {
        html.push_str("<p>Nothing waits for you.</p>");
        return html;
    }
    html.push_str("<table><tr><th>Request</th><th>Database</th><th>Rule</th><th>Requester</th><th>State</th><th>Left</th></tr>");
    let now = bot.clock.now();
    for Found { request, stored } in requests {
        let fingerprint = request.fingerprint();
        let view = View::of(request, &fingerprint, stored, bot.signer.public());
        let state = card::progress(&view).lines().next().unwrap_or_default().to_owned();
        html.push_str(&format!(
            "<tr><td><a href=\"/requests/{id}\">{id}</a></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{} min</td></tr>",
            shown(&request.database),
            shown(&request.rule),
            shown(&request.requester.subject),
            escape(&state),
            request.expires_at.saturating_sub(now).div_ceil(60),
            id = request.id,
        ));
    }
    html.push_str("</table>");
    html
}

/// One request, whole: everything that is on a card, and nothing of it cut.
pub(super) fn request(view: &View<'_>, person: &str, offer: &Offer, reference: &str, token: &str) -> String {
    let details = Details::of(view.request);
    let mut html = signed_in(person);
    html.push_str(&format!("<h2>Statement</h2><pre>{}</pre>", escape(&details.statement)));
    if !details.parameters.is_empty() {
        html.push_str(&format!("<h2>Parameters</h2><pre>{}</pre>", escape(&details.parameters)));
    }
    html.extend(details.notes.iter().map(|note| format!("<p class=note>⚠ {}</p>", escape(note))));
    html.push_str(&format!("<h2>Why it waits</h2>{}", lines(&details.why)));
    html.push_str(&format!("<h2>Who asks</h2>{}", lines(&details.who)));
    html.push_str(&format!("<h2>Progress</h2><p class=said>{}</p>", escape(&card::progress(view))));
    html.push_str(&forms(view, offer, reference, token));
    html.push_str(&format!(
        "<p class=\"small said\">{}\nDigest of statement and parameters {}</p>",
        escape(&card::names(view.request)),
        view.request.digest.to_hex()
    ));
    html
}

fn forms(view: &View<'_>, offer: &Offer, reference: &str, token: &str) -> String {
    let request = view.request;
    let hidden = format!(
        "<input type=hidden name=reference value=\"{}\"><input type=hidden name=token value=\"{}\">",
        escape(reference),
        escape(token)
    );
    let form = |inside: &str| format!("<form method=post action=\"/requests/{}\" autocomplete=off>{hidden}{inside}</form>", request.id);
    let mut html = String::new();
    match offer {
        Offer::Nothing(why) => return format!("<p class=note>{}</p>", escape(why)),
        Offer::Deny(why) => html.push_str(&format!("<p class=note>It cannot be approved: {}.</p>", escape(why))),
        Offer::Both => {
            let mut buttons = format!("<button name=what value=approve>{}</button>", card::approve_label(request));
            if request.runs > 1 {
                buttons.push_str(&format!("<button name=what value=approve-runs>Approve {} runs</button>", request.runs));
            }
            if request.step_up {
                buttons.push_str("<span class=small>takes another sign-in, for this decision alone</span>");
            }
            html.push_str(&form(&buttons));
        }
    }
    html.push_str(&form(&format!(
        "<label>Reason, shown to the requester<textarea name=reason required minlength=3 maxlength={MAX_REASON}></textarea></label>\
         <button class=deny name=what value=deny>{}</button>",
        card::deny_label(request)
    )));
    html.push_str(&form(&format!(
        "<label>Question, shown to the requester and in Slack<textarea name=question required minlength=3 maxlength={MAX_REASON}></textarea>\
         </label><button class=plain name=what value=ask>Ask</button>"
    )));
    html
}

fn signed_in(name: &str) -> String {
    format!(
        "<form class=small method=post action=\"/requests/sign-out\">Signed in as {} <button class=plain>Sign out</button></form>",
        shown(name)
    )
}

fn lines(lines: &[(String, String)]) -> String {
    let rows: String = lines.iter().map(|(label, value)| format!("<dt>{}</dt><dd>{}</dd>", escape(label), escape(value))).collect();
    format!("<dl>{rows}</dl>")
}

/// Somebody else's words on one line.
fn shown(text: &str) -> String {
    escape(&visible::line(text))
}
