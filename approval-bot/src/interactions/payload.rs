//! The payloads of presses and forms, as far as the bot reads them. Only ever parsed after the signature held.

use std::collections::HashMap;

use serde::Deserialize;

use super::form_fields;
use crate::card::action;

/// One interaction payload.
#[derive(Debug, Deserialize)]
pub(super) struct Payload {
    #[serde(rename = "type")]
    kind: String,
    /// App the interaction belongs to.
    #[serde(default)]
    pub(super) api_app_id: String,
    #[serde(default)]
    team: Option<Team>,
    /// Who pressed.
    pub(super) user: User,
    /// Lets a form be opened, for three seconds.
    #[serde(default)]
    pub(super) trigger_id: Option<String>,
    /// Where to answer the presser.
    #[serde(default)]
    pub(super) response_url: Option<String>,
    #[serde(default)]
    channel: Option<Id>,
    #[serde(default)]
    actions: Vec<PressedAction>,
    #[serde(default)]
    view: Option<View>,
}

#[derive(Debug, Deserialize)]
struct Team {
    id: String,
}

#[derive(Debug, Deserialize)]
struct Id {
    id: String,
}

/// A Slack user.
#[derive(Debug, Deserialize)]
pub(super) struct User {
    /// `U…`
    pub(super) id: String,
    /// Workspace of the user.
    #[serde(default)]
    pub(super) team_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PressedAction {
    action_id: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
struct View {
    #[serde(default)]
    callback_id: String,
    #[serde(default)]
    private_metadata: String,
    #[serde(default)]
    state: State,
}

impl View {
    /// What was written into a field, by the id of its block and action.
    fn field(&self, name: &str) -> &str {
        self.state.values.get(name).and_then(|block| block.get(name)).and_then(|field| field.value.as_deref()).unwrap_or_default()
    }
}

#[derive(Debug, Default, Deserialize)]
struct State {
    #[serde(default)]
    values: HashMap<String, HashMap<String, Field>>,
}

#[derive(Debug, Deserialize)]
struct Field {
    #[serde(default)]
    value: Option<String>,
}

/// What the presser wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action<'a> {
    /// The Approve button.
    Approve(&'a str),
    /// The button that approves as many runs as may be.
    ApproveRuns(&'a str),
    /// The Ask button.
    AskQuestion(&'a str),
    /// The form with the question.
    Question {
        /// What is asked about.
        reference: &'a str,
        /// What is asked.
        question: &'a str,
    },
    /// The Deny button.
    AskReason(&'a str),
    /// The form with the reason.
    Deny {
        /// What is denied.
        reference: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// The button for the link.
    Read(&'a str),
    /// Something the bot does not act on.
    Other,
}

impl Payload {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_str(form_fields(body)?.get("payload")?).ok()
    }

    pub(super) fn team_id(&self) -> &str {
        self.team.as_ref().map(|team| team.id.as_str()).or(self.user.team_id.as_deref()).unwrap_or_default()
    }

    pub(super) fn channel(&self) -> Option<&str> {
        self.channel.as_ref().map(|channel| channel.id.as_str())
    }

    pub(super) fn action(&self) -> Action<'_> {
        match (self.kind.as_str(), self.actions.as_slice(), &self.view) {
            ("block_actions", [pressed], _) => match pressed.action_id.as_str() {
                action::APPROVE => Action::Approve(&pressed.value),
                action::APPROVE_RUNS => Action::ApproveRuns(&pressed.value),
                action::ASK => Action::AskQuestion(&pressed.value),
                action::DENY => Action::AskReason(&pressed.value),
                action::READ => Action::Read(&pressed.value),
                _ => Action::Other,
            },
            ("view_submission", _, Some(view)) if view.callback_id == action::REASON => {
                Action::Deny { reference: &view.private_metadata, reason: view.field(action::REASON) }
            }
            ("view_submission", _, Some(view)) if view.callback_id == action::QUESTION => {
                Action::Question { reference: &view.private_metadata, question: view.field(action::QUESTION) }
            }
            _ => Action::Other,
        }
    }
}
