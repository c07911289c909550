//! What a session starts from: who asks, under which policy and facts, its bounds, and how it behaves while something of it is held.

use std::sync::Arc;

use countersign_masking::MaskKey;
use countersign_policy::{Catalog, Policy, Principal};
use countersign_recording::v1::event::SessionStart;

use crate::opening::Opening;

/// Bounds of one session.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest message body from the client that is read whole, in bytes. Larger statements are refused; COPY data passes in pieces.
    pub client_message: usize,
    /// Largest message body from the server that is read whole, in bytes. Rows and COPY data without masks pass in pieces.
    pub server_message: usize,
    /// Bytes waiting for one side above which the other side is not read.
    pub backlog: usize,
    /// Prepared statements and portals a client may keep.
    pub objects: usize,
    /// Messages on their way upstream without an answer.
    pub pipeline: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            client_message: 64 * 1024 * 1024,
            server_message: 256 * 1024 * 1024,
            backlog: 1024 * 1024,
            objects: 10_000,
            pipeline: 100_000,
        }
    }
}

/// How a session behaves while a statement of it is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The client never waits: it gets an error with the request's id at once, and asks again later.
    pub returns: bool,
    /// A request stays open when its client goes away, and is found when the same statement is asked again.
    pub resumes: bool,
    /// The client is told by NOTICE how its request fares.
    pub notices: bool,
    /// The reason the client gives for running held statements at once, where the policy lets it.
    pub break_glass: Option<String>,
    /// Where reviewers find the bot's own pages.
    pub bot_url: Option<String>,
}

impl Holding {
    /// Words about the page of a request; none where there are no pages.
    pub(crate) fn page_of(&self, request: &str) -> String {
        self.bot_url.as_ref().map(|url| format!("; reviewers decide in Slack or at {url}/requests/{request}")).unwrap_or_default()
    }
}

impl Default for Holding {
    fn default() -> Self {
        Self { returns: false, resumes: true, notices: true, break_glass: None, bot_url: None }
    }
}

/// Everything a session starts from. Both logins are done.
#[derive(Debug)]
pub struct Setup {
    /// Event 0.
    pub start: SessionStart,
    /// Who asks.
    pub principal: Arc<Principal>,
    /// Database, as the policy names it.
    pub database: String,
    /// Policy in force.
    pub policy: Arc<Policy>,
    /// Catalog facts.
    pub catalog: Arc<Catalog>,
    /// Their generation.
    pub catalog_generation: u64,
    /// Secret of keyed masks.
    pub mask_key: MaskKey,
    /// Whether nothing may take effect or be shown before its record is durable.
    pub strict: bool,
    /// Bounds.
    pub limits: Limits,
    /// Behaviour while held.
    pub holding: Holding,
    /// The server's ParameterStatus values at login.
    pub parameters: Vec<(String, String)>,
    /// The search path that the login has at the server, where it was asked.
    pub search_path: Option<String>,
    /// Settings of the start-up packet that were judged, and that the login has by now.
    pub opening: Vec<Opening>,
    /// The proxy's own cancel key: process id and secret.
    pub cancel_key: (i32, Vec<u8>),
    /// Microseconds since the epoch.
    pub now_us: u64,
}
