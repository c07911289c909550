//! The forms behind buttons: a reason, a question. <https://docs.slack.dev/reference/views/modal-views>

use countersign_approval::item::Status;
use serde_json::json;
use slack_morphism::blocks::{
    SlackBlockPlainText, SlackBlockPlainTextInputElement, SlackInputBlock, SlackModalView, SlackSectionBlock, SlackView,
};

use super::Reply;
use super::payload::Payload;
use crate::bot::Bot;
use crate::card::action;
use crate::decide::MAX_REASON;
use crate::{visible, votes};

/// What a form says.
pub(super) struct Form {
    id: &'static str,
    title: &'static str,
    label: &'static str,
    submit: &'static str,
}

/// Why a request is denied.
pub(super) const REASON: Form = Form { id: action::REASON, title: "Deny request", label: "Reason, shown to the requester", submit: "Deny" };
/// What a reviewer wants to know.
pub(super) const QUESTION: Form =
    Form { id: action::QUESTION, title: "Ask about request", label: "Question, shown in the thread and to the client", submit: "Ask" };

/// What is wrong with what was written.
pub(super) fn error(field: &str, text: &str) -> Reply {
    Reply::Form(json!({"response_action": "errors", "errors": {field: text}}))
}

/// Opens a form, while its request is open.
pub(super) async fn open(bot: &Bot, payload: &Payload, reference: &str, form: &Form, now: u64) -> Result<(), String> {
    let found = votes::find(bot, reference).await?;
    if found.stored.status != Status::Open || now >= found.request.expires_at {
        return Err("too late: the request is closed already".to_owned());
    }
    let trigger = payload.trigger_id.as_deref().ok_or_else(|| "Slack sent no trigger for the form; try again".to_owned())?;
    let text = |text: &str| SlackBlockPlainText::new(text.to_owned()).with_emoji(false);
    let field = SlackBlockPlainTextInputElement::new()
        .with_action_id(form.id.into())
        .with_multiline(true)
        .with_min_length(3)
        .with_max_length(MAX_REASON.try_into().unwrap_or(1_000));
    let about = format!("Request {} on database {}", found.request.id, visible::line(&found.request.database));
    let view = SlackModalView::new(
        text(form.title).into(),
        vec![
            SlackSectionBlock::new().with_text(text(&about).into()).into(),
            SlackInputBlock::new(text(form.label).into(), field.into()).with_block_id(form.id.into()).into(),
        ],
    )
    .with_callback_id(form.id.into())
    .with_private_metadata(reference.to_owned())
    .with_submit(text(form.submit).into())
    .with_close(text("Back").into());
    bot.slack.open(trigger, SlackView::Modal(view)).await.map_err(|error| {
        tracing::error!(%error, "a form could not be opened");
        "the form could not be opened; try again".to_owned()
    })
}
