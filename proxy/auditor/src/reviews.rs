//! Statements that ran at once, and what their reviews say. Each review lies beside the recordings under the id of its request.

use std::collections::BTreeMap;

use countersign_approval::break_glass::{Outcome, REVIEWS, Review, review_name, said};
use countersign_approval::{Request, UnverifiedRequest};
use countersign_recording::Event;
use serde::Serialize;

use crate::load::{Archive, Session};
use crate::store::StoreError;
use crate::text::timestamp;
use crate::verify::claimed_shown;

/// A statement that ran at once.
#[derive(Debug, Clone, Serialize)]
pub struct BrokenGlass {
    /// Request for its review.
    pub request: String,
    /// Session.
    pub session: String,
    /// Statement.
    pub statement: u64,
    /// When it ran, RFC 3339.
    pub time: String,
    /// Who ran it.
    pub requester: String,
    /// Rule that would have held it.
    pub rule: String,
    /// The reason given.
    pub reason: String,
    /// Until when it is to be reviewed, RFC 3339.
    pub due: String,
    /// `open`, `overdue`, `justified` or `not justified`.
    pub review: &'static str,
    /// Who reviewed it.
    pub reviewed_by: Vec<String>,
    /// What they said, of one that is not justified.
    pub finding: String,
}

impl BrokenGlass {
    /// Whether the review is still to be done.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.review, "open" | "overdue")
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let by = if self.reviewed_by.is_empty() { format!("due {}", self.due) } else { format!("by {}", self.reviewed_by.join(", ")) };
        format!("break-glass {} by {}: review {} ({by})", self.request, self.requester, self.review)
    }
}

/// Those of a session, with their reviews.
///
/// # Errors
/// When the store cannot be read.
pub async fn of(archive: &Archive, session: &Session) -> Result<Vec<BrokenGlass>, StoreError> {
    let mut bodies: BTreeMap<&str, (&str, bool)> = BTreeMap::new();
    let (mut requester, mut found) = (String::new(), Vec::new());
    for (raw, event) in session.events.iter().filter_map(|(raw, event)| Some((raw, event.as_ref()?))) {
        match event {
            Event::SessionStart(start) => requester = start.email.clone().unwrap_or_else(|| start.subject.clone()),
            Event::Hold { request, body, .. } => {
                bodies.insert(request, (body, session.is_closed(raw.number)));
            }
            Event::Approval { statement, request, outcome, .. } if outcome == "break-glass" => {
                let (body, closed) = bodies.get(request.as_str()).copied().unwrap_or_default();
                found.push((*statement, raw.time_us, request.as_str(), body, closed));
            }
            _ => {}
        }
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let reviews = archive.store.keys(REVIEWS).await?;
    let mut broken = Vec::with_capacity(found.len());
    for (statement, time_us, id, body, closed) in found {
        // A sealed one's digest is that of what is sealed.
        let request: Option<Request> =
            if closed { serde_json::from_str(body).ok() } else { UnverifiedRequest::new(body.as_bytes()).parse().ok() };
        let name = request.as_ref().map(|request| review_name(&request.id)).filter(|name| reviews.contains(name));
        let review: Option<Review> = match name {
            Some(name) => {
                let bytes = archive.store.get(&name).await?;
                // Exactly as it was written: one value, one spelling.
                let review: Option<Review> = serde_json::from_slice(&bytes).ok();
                review.filter(|review| serde_json::to_vec(review).is_ok_and(|again| again == bytes))
            }
            None => None,
        };
        let due_us = request.as_ref().and_then(|request| i64::try_from(request.expires_at).ok()).unwrap_or(0).saturating_mul(1_000_000);
        let (reason, rule) = request.as_ref().and_then(said).unwrap_or_default();
        let expected = request.as_ref().map(|request| {
            let mut expected = request.expectation();
            let shown = review.as_ref().and_then(|review| claimed_shown(review.decisions.first()?));
            if let (true, Some(shown)) = (closed, shown) {
                expected.shown = shown;
            }
            expected
        });
        let outcome = review.zip(expected).map(|(review, expected)| review.outcome(&expected, &archive.keys.decision));
        let (state, reviewed_by, finding) = state(outcome, archive.now_us >= due_us);
        broken.push(BrokenGlass {
            request: id.to_owned(),
            session: session.id.to_string(),
            statement,
            time: timestamp(time_us),
            requester: requester.clone(),
            rule: rule.to_owned(),
            reason: reason.to_owned(),
            due: timestamp(due_us),
            review: state,
            reviewed_by,
            finding,
        });
    }
    Ok(broken)
}

fn state(outcome: Option<Outcome>, late: bool) -> (&'static str, Vec<String>, String) {
    match outcome {
        Some(Outcome::Justified { by, .. }) => ("justified", by, String::new()),
        Some(Outcome::NotJustified { by, reason }) => ("not justified", vec![by], reason),
        Some(Outcome::Open) | None => (if late { "overdue" } else { "open" }, Vec::new(), String::new()),
    }
}
