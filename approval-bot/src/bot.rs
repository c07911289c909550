//! What every part of the bot shares.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::Slacks;
use crate::links::Links;
use crate::marks::Marks;
use crate::members::Memory;
use crate::policies::Policies;
use crate::signer::Signer;
use crate::slack::Slack;
use crate::step_up::{Provider, Seals};
use crate::store::SharedStore;
use crate::webhook::Webhook;

/// The bot.
#[derive(Debug, Clone)]
pub struct Bot {
    /// Name of the deployment; requests of another are not shown.
    pub environment: String,
    /// Requests and decisions.
    pub store: SharedStore,
    /// The key decisions are signed with.
    pub signer: Signer,
    /// Where rosters come from.
    pub policies: Arc<Policies>,
    /// Slack.
    pub slack: Slack,
    /// Who is in which user group of Slack's, of late.
    pub members: Memory,
    /// What the bot knows of its place in Slack.
    pub settings: Arc<Slacks>,
    /// Links to whole requests.
    pub links: Links,
    /// Where denials are made final.
    pub marks: Marks,
    /// Seals of tickets for sign-ins.
    pub seals: Seals,
    /// The identity provider of sign-ins, where one is set up.
    pub step_up: Option<Provider>,
    /// How often a digest of open requests is posted.
    pub digest_every: Option<Duration>,
    /// Where changes of requests are told beside Slack.
    pub webhook: Option<Webhook>,
    /// The time.
    pub clock: Clock,
    /// After how long a press is acknowledged whose work is not done, where a process lives on to finish it.
    pub acknowledge_after: Option<Duration>,
    /// URL under which this bot is reachable, where it is known.
    pub public_url: Option<String>,
}
