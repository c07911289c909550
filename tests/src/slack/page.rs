//! The page a person uses: cards rendered from Block Kit, with buttons that work.

use axum::extract::{Query, State};
use axum::response::Html;
use serde::Deserialize;
use serde_json::Value;

use super::blocks::{list, text_of};
use super::{Card, Shared};

const PAGE: &str = include_str!("page.html");

#[derive(Debug, Deserialize)]
pub(super) struct Viewer {
    #[serde(default)]
    user: String,
}

pub(super) async fn page(State(shared): State<Shared>) -> Html<String> {
    let mut options = String::new();
    for user in shared.users.iter().filter(|user| !user.bot) {
        options.push_str(&format!("<option value=\"{}\">{}</option>", escape(&user.id), escape(&user.real_name)));
    }
    Html(PAGE.replace("{{users}}", &options))
}

pub(super) async fn fragment(State(shared): State<Shared>, Query(viewer): Query<Viewer>) -> Html<String> {
    let inner = shared.lock();
    let mut out = String::new();
    let visible = |card: &&Card| card.ephemeral_for.as_ref().is_none_or(|user| *user == viewer.user || user == "presser");
    for card in inner.cards.iter().filter(visible) {
        message(card, &mut out);
    }
    if out.is_empty() {
        out.push_str("<p class=empty>Nothing to decide yet. A card appears here as soon as a statement is held.</p>");
    }
    if let Some(modal) = inner.modals.iter().find(|modal| modal.user == viewer.user) {
        dialog(&modal.id, &modal.view, &mut out);
    }
    Html(out)
}

fn message(card: &Card, out: &mut String) {
    let note = if card.ephemeral_for.is_some() { "<div class=only>Only visible to you</div>" } else { "" };
    let edited = if card.updates > 0 { " <span class=edited>(edited)</span>" } else { "" };
    let reply = if card.thread_ts.is_some() { " reply" } else { "" };
    out.push_str(&format!(
        "<article class=\"message{reply}\" id=\"{ts}\"><div class=avatar>✓</div><div class=body><header><b>Countersign</b><span class=app>APP</span><time data-ts=\"{ts}\"></time>{edited}</header>{note}",
        ts = escape(&card.ts)
    ));
    if card.blocks.is_empty() {
        out.push_str(&format!("<p>{}</p>", mrkdwn(&card.text)));
    }
    for block in &card.blocks {
        render(block, card, out);
    }
    out.push_str("</div></article>");
}

fn dialog(id: &str, view: &Value, out: &mut String) {
    let title = view.get("title").and_then(|title| text_of(title, "text")).unwrap_or("Modal");
    out.push_str(&format!("<div class=veil><form class=modal data-view=\"{}\"><h2>{}</h2>", escape(id), escape(title)));
    for block in list(view, "blocks") {
        if let Some(element) = block.get("element") {
            let label = block.get("label").map(text_html).unwrap_or_default();
            let most = element.get("max_length").and_then(Value::as_u64).unwrap_or(3000);
            out.push_str(&format!("<label>{label}<textarea name=reason rows=3 maxlength={most} autofocus required></textarea></label>"));
        } else {
            render_plain(&block, out);
        }
    }
    let submit = view.get("submit").and_then(|label| text_of(label, "text")).unwrap_or("Submit");
    out.push_str(&format!(
        "<footer><button type=button class=close>Cancel</button><button type=submit class=primary>{}</button></footer></form></div>",
        escape(submit)
    ));
}

fn render(block: &Value, card: &Card, out: &mut String) {
    if text_of(block, "type") != Some("actions") {
        render_plain(block, out);
        return;
    }
    out.push_str("<div class=actions>");
    for element in list(block, "elements") {
        let label = element.get("text").map(text_html).unwrap_or_default();
        if let Some(url) = text_of(&element, "url").filter(|url| url.starts_with("http")) {
            out.push_str(&format!("<a class=button href=\"{}\">{label}</a>", escape(url)));
            continue;
        }
        let button = card.buttons.iter().find(|button| Some(button.action_id.as_str()) == text_of(&element, "action_id"));
        let action = button.and_then(|button| button.action.clone()).unwrap_or_default();
        let style = text_of(&element, "style").unwrap_or_default();
        out.push_str(&format!(
            "<button class=\"{}\" data-action=\"{}\" data-request=\"{}\">{label}</button>",
            escape(style),
            escape(&action),
            escape(card.request.as_deref().unwrap_or("latest"))
        ));
    }
    out.push_str("</div>");
}

fn render_plain(block: &Value, out: &mut String) {
    match text_of(block, "type") {
        Some("header") => out.push_str(&format!("<h3>{}</h3>", block.get("text").map(text_html).unwrap_or_default())),
        Some("divider") => out.push_str("<hr>"),
        Some("section") => {
            if let Some(text) = block.get("text") {
                out.push_str(&format!("<div class=text>{}</div>", text_html(text)));
            }
            let fields = list(block, "fields");
            if !fields.is_empty() {
                out.push_str("<div class=fields>");
                for field in &fields {
                    out.push_str(&format!("<div>{}</div>", text_html(field)));
                }
                out.push_str("</div>");
            }
        }
        Some("context") => {
            out.push_str("<div class=context>");
            for element in list(block, "elements") {
                out.push_str(&format!("<span>{}</span> ", text_html(&element)));
            }
            out.push_str("</div>");
        }
        Some("markdown") => out.push_str(&format!("<pre>{}</pre>", escape(text_of(block, "text").unwrap_or_default()))),
        Some("rich_text") => list(block, "elements").iter().for_each(|element| rich(element, out)),
        _ => {}
    }
}

fn rich(element: &Value, out: &mut String) {
    let (open, close) = match text_of(element, "type") {
        Some("rich_text_preformatted") => ("<pre>", "</pre>"),
        Some("rich_text_quote") => ("<blockquote>", "</blockquote>"),
        Some("rich_text_list") => ("<ul>", "</ul>"),
        Some("text") => {
            let style = |name: &str| element.get("style").and_then(|style| style.get(name)).and_then(Value::as_bool) == Some(true);
            // Slack knows no emoji by name here: rich text has elements for them.
            let mut html = escape(text_of(element, "text").unwrap_or_default()).replace('\n', "<br>");
            for (name, tag) in [("code", "code"), ("bold", "b"), ("italic", "i"), ("strike", "s")] {
                if style(name) {
                    html = format!("<{tag}>{html}</{tag}>");
                }
            }
            out.push_str(&html);
            return;
        }
        Some("user") => {
            out.push_str(&format!("<span class=mention>@{}</span>", escape(text_of(element, "user_id").unwrap_or_default())));
            return;
        }
        _ => ("<div>", "</div>"),
    };
    out.push_str(open);
    list(element, "elements").iter().for_each(|child| rich(child, out));
    out.push_str(close);
}

fn text_html(object: &Value) -> String {
    let text = text_of(object, "text").unwrap_or_default();
    let named = object.get("emoji").and_then(Value::as_bool) != Some(false);
    match text_of(object, "type") {
        Some("mrkdwn") => mrkdwn(text),
        _ if named => emoji(&escape(&unescape(text))),
        _ => escape(&unescape(text)),
    }
}

/// Slack's mrkdwn as HTML: code, bold, italic, strike, links and mentions; everything else is text.
fn mrkdwn(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split("```").enumerate() {
        if index % 2 == 1 {
            out.push_str(&format!("<pre>{}</pre>", escape(&unescape(part.trim_matches('\n')))));
        } else {
            for (index, part) in part.split('`').enumerate() {
                if index % 2 == 1 {
                    out.push_str(&format!("<code>{}</code>", escape(&unescape(part))));
                } else {
                    out.push_str(&spans(part));
                }
            }
        }
    }
    out
}

fn spans(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(&styled(before));
        let Some((inside, tail)) = after.split_once('>') else {
            out.push_str(&styled(after));
            return out;
        };
        let (target, label) = inside.split_once('|').unwrap_or((inside, inside));
        if inside.starts_with(['@', '#', '!']) {
            let label = if label.starts_with("!date^") || target.starts_with("!date^") { label } else { target };
            out.push_str(&format!("<span class=mention>{}</span>", escape(&unescape(label))));
        } else if target.starts_with("http") {
            out.push_str(&format!("<a href=\"{}\">{}</a>", escape(&unescape(target)), escape(&unescape(label))));
        } else {
            out.push_str(&escape(&unescape(label)));
        }
        rest = tail;
    }
    out.push_str(&styled(rest));
    out
}

fn styled(text: &str) -> String {
    let mut html = emoji(&escape(&unescape(text))).replace('\n', "<br>");
    for (mark, tag) in [("*", "b"), ("_", "i"), ("~", "s")] {
        html = pairs(&html, mark, tag);
    }
    html
}

/// Turns pairs of a mark that stand at word borders into a tag.
fn pairs(html: &str, mark: &str, tag: &str) -> String {
    let pieces: Vec<&str> = html.split(mark).collect();
    let mut out = String::new();
    let mut open = false;
    for (index, piece) in pieces.iter().enumerate() {
        out.push_str(piece);
        if index + 1 == pieces.len() {
            break;
        }
        let next = pieces.get(index + 1).copied().unwrap_or_default();
        let border = piece.is_empty() || piece.ends_with([' ', '>', '(', '\n', ':']);
        if !open && border && !next.starts_with(' ') && index + 2 < pieces.len() {
            out.push_str(&format!("<{tag}>"));
            open = true;
        } else if open {
            out.push_str(&format!("</{tag}>"));
            open = false;
        } else {
            out.push_str(mark);
        }
    }
    if open {
        out.push_str(&format!("</{tag}>"));
    }
    out
}

fn emoji(text: &str) -> String {
    [
        (":white_check_mark:", "✅"),
        (":x:", "❌"),
        (":no_entry:", "⛔"),
        (":lock:", "🔒"),
        (":warning:", "⚠️"),
        (":hourglass:", "⌛"),
        (":hourglass_flowing_sand:", "⏳"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (name, sign)| text.replace(name, sign))
}

/// The three entities Slack knows.
fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mrkdwn_becomes_html_and_never_markup_of_the_author() {
        let cases = [
            ("*held* by `ci`", "<b>held</b> by <code>ci</code>"),
            ("```delete from t\nwhere a &lt; 3```", "<pre>delete from t\nwhere a &lt; 3</pre>"),
            ("<https://bank.example/run|the run>", "<a href=\"https://bank.example/run\">the run</a>"),
            ("ask <@U0DANA>", "ask <span class=mention>@U0DANA</span>"),
            ("<javascript:alert(1)|press me>", "press me"),
            ("a * b", "a * b"),
            ("&lt;script&gt;x&lt;/script&gt;", "&lt;script&gt;x&lt;/script&gt;"),
        ];
        for (text, html) in cases {
            assert_eq!(mrkdwn(text), html, "{text}");
        }
    }
}
