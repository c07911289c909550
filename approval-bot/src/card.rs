//! The card: a request and where it stands, as Block Kit. Pure.
//!
//! Everything a requester can influence goes into rich text and plain text, which Slack does not interpret, after
//! [`crate::visible`] has written out what would be hidden. A card shows all of what is signed or has no Approve button.
//! <https://docs.slack.dev/reference/block-kit/blocks>

use countersign_approval::item::Status;
use countersign_approval::v2::Source;
use countersign_approval::{
    Decision, GrantError, Request, Template, UnverifiedDecision, Verdict, VerifyingKeys, break_glass, template, verify,
};
use sha2::{Digest as _, Sha256};
use slack_morphism::blocks::{
    SlackActionBlockElement, SlackActionsBlock, SlackBlock, SlackBlockButtonElement, SlackBlockMarkDownText, SlackBlockPlainText,
    SlackContextBlock, SlackHeaderBlock, SlackRichTextBlock, SlackRichTextElement, SlackRichTextInlineElement, SlackRichTextPreformatted,
    SlackRichTextSection, SlackRichTextText, SlackSectionBlock,
};

use crate::slack::Message;
use crate::store::Stored;
use crate::{clock, visible};

mod details;

pub(crate) use details::Details;

/// Slack's limits: characters in one text, blocks in one message, characters in a button's value, in a header.
pub const MAX_TEXT: usize = 3_000;
/// Blocks in one message.
pub const MAX_BLOCKS: usize = 50;
/// Characters in a button's value.
pub const MAX_VALUE: usize = 2_000;
/// Characters in a header.
pub const MAX_HEADER: usize = 150;
/// Characters in all of a message's blocks: Slack answers `msg_blocks_too_long` somewhat above.
pub const MAX_MESSAGE: usize = 12_000;
/// How much of a statement is shown where it does not fit.
const EXCERPT: usize = 1_000;
/// What is left of a detail that is cut. A card with a cut detail has no Approve button.
const MAX_DETAIL: usize = 2_800;

/// Labelled lines in one block of a card.
const MAX_LINES: usize = 110;

/// Action ids of the buttons.
pub mod action {
    /// Approve.
    pub const APPROVE: &str = "countersign-approve";
    /// Approve for as many runs as the request allows.
    pub const APPROVE_RUNS: &str = "countersign-approve-runs";
    /// Ask; opens the form for the question.
    pub const ASK: &str = "countersign-ask";
    /// Callback id of the form for a question, and block and action id of its field.
    pub const QUESTION: &str = "countersign-question";
    /// Deny; opens the form for the reason.
    pub const DENY: &str = "countersign-deny";
    /// Asks for a link to the whole text.
    pub const READ: &str = "countersign-read";
    /// Callback id of the form for the reason, and block and action id of its field.
    pub const REASON: &str = "countersign-reason";
}

/// What a card is made from.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The request.
    pub request: &'a Request,
    /// [`countersign_approval::UnverifiedRequest::fingerprint`] of it.
    pub fingerprint: &'a str,
    /// Status in the store.
    pub status: Status,
    /// Why it was closed.
    pub why: Option<&'a str>,
    /// How the statement ended.
    pub outcome: Option<&'a str>,
    /// Since when no client waits.
    pub left_at: Option<u64>,
    /// Runs used of a grant for several.
    pub used: Option<u32>,
    /// What reviewers asked.
    pub questions: &'a [String],
    /// Slack user group to mention; letters and digits.
    pub mention: Option<&'a str>,
    /// Address of the bot's own page about it.
    pub page: Option<&'a str>,
    /// Decision tokens.
    pub tokens: &'a [String],
    /// Keys they are signed with.
    pub keys: &'a VerifyingKeys,
}

impl<'a> View<'a> {
    /// A request as it stands in the store.
    #[must_use]
    pub fn of(request: &'a Request, fingerprint: &'a str, stored: &'a Stored, keys: &'a VerifyingKeys) -> Self {
        Self {
            request,
            fingerprint,
            status: stored.status,
            why: stored.why.as_deref(),
            outcome: stored.outcome.as_deref(),
            left_at: stored.left_at,
            used: stored.used,
            questions: &stored.questions,
            mention: None,
            page: None,
            tokens: &stored.tokens,
            keys,
        }
    }
}

/// A card.
#[derive(Debug, Clone)]
pub struct Card {
    /// The message.
    pub message: Message,
    /// Whether it has an Approve button.
    pub approvable: bool,
    /// Distinct people who approved so far.
    pub approvals: u32,
    /// Hash of it: equal cards need no update.
    pub hash: String,
}

/// What a button carries: the request and the fingerprint of what was shown.
#[must_use]
pub fn reference(request: &Request, fingerprint: &str) -> String {
    format!("v1.{}.{fingerprint}", request.id)
}

/// Makes the card.
#[must_use]
pub fn card(view: &View<'_>) -> Card {
    let request = view.request;
    let details = Details::of(request);
    let whole = is_sound(request);
    let fits = details.fits() && whole;
    let open = view.status == Status::Open;
    // What would run, then why it waits, then who asks: reviewers read from the top.
    let mut blocks = vec![header(&headline(view)), what(&details, fits), labelled(&details.why, fits), labelled(&details.who, fits)];
    if !whole {
        blocks.push(plain("This asks for a template but is none that this bot understands, so it cannot be approved."));
    } else if !fits {
        blocks.push(plain(&format!(
            "This request does not fit on a card ({} characters), so it cannot be approved here. Read it whole {}.",
            details.size(),
            if view.page.is_some() {
                "on the bot's own page, where it can be approved, or with the button below"
            } else {
                "with the button below"
            },
        )));
    }
    blocks.extend(details.notes.iter().map(|note| plain(&format!("⚠ {note}"))));
    blocks.push(plain(&progress(view)));
    blocks.push(context(&names(request)));
    if open {
        // Whoever is there is to know, not only the group on call.
        if request.rule == break_glass::RULE {
            blocks.push(SlackContextBlock::new(vec![SlackBlockMarkDownText::new("<!channel>".to_owned()).into()]).into());
        }
        blocks.extend(view.mention.and_then(mention));
        blocks.extend(view.page.and_then(page_link));
        blocks.push(buttons(request, &reference(request, view.fingerprint), fits));
    }
    let text = format!(
        "{} on database {} by {}",
        visible::markup(&headline(view)),
        visible::markup(&clip(&request.database, 200)),
        visible::markup(&clip(&request.requester.subject, 200))
    );
    let hash = serde_json::to_vec(&blocks).map(|json| hex::encode(Sha256::digest(json))).unwrap_or_default();
    Card { message: Message { text, blocks }, approvable: open && fits, approvals: approvals(view), hash }
}

/// What finds the request and its session again.
pub(crate) fn names(request: &Request) -> String {
    format!(
        "Request {} · session {} · environment {} · expires {} · policy {}",
        request.id,
        visible::line(&request.session),
        visible::line(&request.environment),
        clock::readable(request.expires_at),
        request.policy.get(..12).unwrap_or("unknown"),
    )
}

/// What claims to be a template and is none cannot be approved.
pub(crate) fn is_sound(request: &Request) -> bool {
    request.rule != template::RULE || Template::of(request).is_ok()
}

/// The whole request as plain text, for the page behind the link.
#[must_use]
pub fn whole(view: &View<'_>) -> String {
    let request = view.request;
    let details = Details::of(request);
    let mut text = format!("{}\n\n", headline(view));
    for (label, value) in details.lines() {
        text.push_str(&format!("{label}: {value}\n"));
    }
    text.push_str(&format!(
        "Request: {}\nDigest: {}\n\nStatement\n---------\n{}\n",
        request.id,
        request.digest.to_hex(),
        details.statement
    ));
    if !details.parameters.is_empty() {
        text.push_str(&format!("\nParameters\n----------\n{}\n", details.parameters));
    }
    for note in &details.notes {
        text.push_str(&format!("\nNote: {note}\n"));
    }
    text
}

/// What would run.
fn what(details: &Details, fits: bool) -> SlackBlock {
    let mut elements: Vec<SlackRichTextElement> = Vec::new();
    let mut part = |title: String, text: &str| {
        elements.push(SlackRichTextSection::new(vec![bold(&title)]).into());
        for piece in visible::pieces(text, MAX_TEXT - 100) {
            elements.push(SlackRichTextPreformatted::new(vec![SlackRichTextInlineElement::from(piece)]).into());
        }
    };
    if fits {
        part("Statement".to_owned(), &details.statement);
        if !details.parameters.is_empty() {
            part("Parameters".to_owned(), &details.parameters);
        }
    } else {
        part(format!("Statement, the first {EXCERPT} characters only"), &clip(&details.statement, EXCERPT));
    }
    rich(elements)
}

/// Lines of a bold label and its value.
fn labelled(lines: &[(String, String)], fits: bool) -> SlackBlock {
    let mut elements = Vec::new();
    for (label, value) in lines.iter().take(MAX_LINES) {
        elements.push(bold(&format!("{}  ", clip(label, 200))));
        elements.push(SlackRichTextInlineElement::from(format!("{}\n", clip(value, if fits { MAX_DETAIL } else { 200 }))));
    }
    rich(vec![SlackRichTextSection::new(elements).into()])
}

/// Where the request stands, in a few words.
pub(crate) fn headline(view: &View<'_>) -> String {
    let text = match view.status {
        status if view.request.rule == break_glass::RULE => match status {
            Status::Open => "Break-glass: it ran without approval, review it",
            Status::Denied => "Break-glass: reviewed, not justified",
            Status::Cancelled => "Break-glass: closed without a review",
            Status::Expired => "Break-glass: not reviewed in time",
            Status::Consumed | Status::Finished => "Break-glass: reviewed, justified",
        },
        Status::Open if view.request.rule == template::RULE => "Approval needed for a template",
        Status::Consumed | Status::Finished if view.request.rule == template::RULE => "Template signed",
        Status::Open => match verify::quorum(&view.request.expectation(), view.tokens, view.keys, in_time(view.request)) {
            Ok(_) if view.left_at.is_some() => "Approved, waits to be asked again",
            Ok(granted) if granted.runs() > 1 && view.used.is_some() => "Approved for several runs",
            Ok(_) => "Approved, about to run",
            Err(_) => "Approval needed",
        },
        Status::Denied => "Denied",
        Status::Cancelled => "Cancelled",
        Status::Expired => "Expired",
        Status::Consumed => "Approved, running",
        Status::Finished => "Approved, done",
    };
    format!("{text} · {}", visible::line(&clip(&view.request.database, 60)))
}

/// A time at which decisions count whatever the clock says: the card shows what was decided, also after the expiry.
const fn in_time(request: &Request) -> u64 {
    request.expires_at.saturating_sub(1)
}

/// Distinct people who approved so far.
fn approvals(view: &View<'_>) -> u32 {
    match verify::quorum(&view.request.expectation(), view.tokens, view.keys, in_time(view.request)) {
        Ok(quorum) => u32::try_from(quorum.decisions().len()).unwrap_or(u32::MAX),
        Err(GrantError::Pending { found, .. }) => found,
        Err(_) => 0,
    }
}

/// How far it is, who decided what, and what else a reviewer should know.
pub(crate) fn progress(view: &View<'_>) -> String {
    let request = view.request;
    let found = approvals(view);
    let mut lines = vec![format!(
        "{found} of {} {} · may decide: {}",
        request.quorum.max(1),
        if request.quorum > 1 { "approvals" } else { "approval" },
        clip(&visible::line(&may_decide(request)), 600)
    )];
    for decision in view.tokens.iter().take(20).filter_map(|token| UnverifiedDecision::new(token).verify(view.keys).ok()) {
        lines.push(decided(&decision));
    }
    if matches!(view.status, Status::Cancelled | Status::Expired)
        && let Some(why) = view.why
    {
        lines.push(clip(&visible::line(why), 300));
    }
    if view.status == Status::Open {
        lines.extend(standing(view));
    }
    for question in view.questions.iter().take(5) {
        lines.push(format!("? {}", clip(&visible::line(question), 200)));
    }
    if let (Status::Finished, Some(outcome)) = (view.status, view.outcome) {
        lines.push(format!("Outcome: {}", clip(&visible::line(outcome), 300)));
    }
    clip(&lines.join("\n"), MAX_DETAIL)
}

/// The groups that may decide, and where their members are found beside those the policy lists.
fn may_decide(request: &Request) -> String {
    let said = request.reviewers.iter().map(|group| {
        let by: Vec<String> = request.sources.iter().filter(|source| source.group == *group).map(|source| source.by.to_string()).collect();
        if by.is_empty() { group.clone() } else { format!("{group} ({})", by.join(", ")) }
    });
    said.collect::<Vec<_>>().join(", ")
}

/// What else a reviewer should know of an open request.
fn standing(view: &View<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(at) = view.left_at {
        lines.push(format!(
            "Nobody waits since {}. An approval is kept until the expiry and used when the same is asked again.",
            clock::readable(at)
        ));
    }
    if view.request.runs > 1 {
        let used = view.used.map(|used| format!(", {used} used")).unwrap_or_default();
        lines.push(format!("May be approved for up to {} identical runs{used}.", view.request.runs));
    }
    if view.request.step_up {
        lines.push("Approving takes a sign-in at the identity provider, beside the press.".to_owned());
    }
    lines
}

fn decided(decision: &Decision) -> String {
    let person = clip(&visible::line(&decision.reviewer.person), 100);
    let by = decision.snapshot.iter().flat_map(|snapshot| &snapshot.memberships).find(|membership| membership.by != Source::Listed);
    let person = by.map_or(person.clone(), |by| format!("{person} ({})", clip(&visible::line(&by.by.to_string()), 200)));
    let time = clock::readable(decision.decided_at);
    match decision.verdict {
        Verdict::Approve if decision.runs > 1 => format!("✓ {person} approved {} runs at {time}", decision.runs),
        Verdict::Approve => format!("✓ {person} approved at {time}"),
        Verdict::Deny => {
            let reason = clip(&visible::line(decision.reason.as_deref().unwrap_or("no reason given")), 600);
            format!("✗ {person} denied at {time}: {reason}")
        }
    }
}

/// What approving is called.
pub(crate) fn approve_label(request: &Request) -> &'static str {
    match request.rule.as_str() {
        break_glass::RULE => "Justified",
        template::RULE => "Approve template",
        _ if request.runs > 1 => "Approve one run",
        _ => "Approve",
    }
}

/// What denying is called.
pub(crate) fn deny_label(request: &Request) -> &'static str {
    if request.rule == break_glass::RULE { "Not justified" } else { "Deny" }
}

fn buttons(request: &Request, reference: &str, fits: bool) -> SlackBlock {
    let button = |id: &str, label: &str| {
        SlackBlockButtonElement::new(literal(label).into()).with_action_id(id.into()).with_value(reference.to_owned())
    };
    let mut elements: Vec<SlackActionBlockElement> = Vec::new();
    if fits {
        let style = slack_morphism::blocks::SlackBlockButtonStyle::Primary;
        elements.push(button(action::APPROVE, approve_label(request)).with_style(style).into());
        if request.runs > 1 {
            elements.push(button(action::APPROVE_RUNS, &format!("Approve {} runs", request.runs)).into());
        }
    }
    let style = slack_morphism::blocks::SlackBlockButtonStyle::Danger;
    elements.push(button(action::DENY, &format!("{}…", deny_label(request))).with_style(style).into());
    elements.push(button(action::ASK, "Ask…").into());
    if !fits {
        elements.push(button(action::READ, "Read it whole").into());
    }
    SlackActionsBlock::new(elements).into()
}

/// The mention of a user group, the one text of a card that Slack interprets: nothing but an id of the policy's may be in it.
pub(crate) fn mention(group: &str) -> Option<SlackBlock> {
    let fits = group.starts_with('S') && group.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let text = SlackBlockMarkDownText::new(format!("<!subteam^{group}>"));
    fits.then(|| SlackContextBlock::new(vec![text.into()]).into())
}

/// The way to the bot's own page: the other text that Slack interprets. The address is the operator's and the request's id.
fn page_link(address: &str) -> Option<SlackBlock> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/[]%".contains(&byte);
    let fits = address.len() <= 300 && (address.starts_with("https://") || address.starts_with("http://")) && address.bytes().all(plain);
    let text = SlackBlockMarkDownText::new(format!("Without Slack: <{address}|read and decide on the bot's own page>"));
    fits.then(|| SlackContextBlock::new(vec![text.into()]).into())
}

fn header(text: &str) -> SlackBlock {
    SlackHeaderBlock::new(literal(&clip(text, MAX_HEADER)).into()).into()
}

pub(crate) fn plain(text: &str) -> SlackBlock {
    SlackSectionBlock::new().with_text(literal(&clip(text, MAX_TEXT)).into()).into()
}

fn context(text: &str) -> SlackBlock {
    SlackContextBlock::new(vec![literal(&clip(text, 1_900)).into()]).into()
}

/// Plain text in which `:smile:` stays `:smile:`.
fn literal(text: &str) -> SlackBlockPlainText {
    SlackBlockPlainText::new(text.to_owned()).with_emoji(false)
}

fn rich(elements: Vec<SlackRichTextElement>) -> SlackBlock {
    SlackRichTextBlock::new(elements).into()
}

fn bold(text: &str) -> SlackRichTextInlineElement {
    SlackRichTextText::new(text.to_owned()).bold().into()
}

/// Cuts a text that is too long, visibly.
fn clip(text: &str, limit: usize) -> String {
    if visible::units(text) <= limit {
        return text.to_owned();
    }
    let mut cut = visible::pieces(text, limit.saturating_sub(2).max(1)).into_iter().next().unwrap_or_default();
    cut.push('…');
    cut
}
