//! From what the session holds to the request reviewers see.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_approval::break_glass;
use countersign_approval::request::{estimate_fact, transaction_fact, version};
use countersign_approval::v1::{RequestParameter, Requester};
use countersign_approval::{Request, RequestId};
use countersign_policy::{Principal, StatementFacts};
use countersign_session::{HoldRequest, reviewer_sources};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::oneshot;

use crate::approvals::{Approvals, Placed};
use crate::catalog::CatalogSource;
use crate::estimate;

/// What every request of a session says of it.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) environment: String,
    pub(super) session: String,
    pub(super) principal: Arc<Principal>,
    pub(super) database: String,
}

/// A request that lies in the store.
#[derive(Debug)]
pub(super) struct PlacedHold {
    pub(super) placed: Placed,
    pub(super) expires: String,
}

/// Places a request in a task of its own: when nobody waits for the outcome any more (the client cancelled or left meanwhile), a request
/// that was placed all the same is cancelled again, or left for the client to come back.
pub(super) fn place_or_cancel(
    who: Who,
    hold: HoldRequest,
    approvals: Approvals,
    catalog: CatalogSource,
) -> oneshot::Receiver<Result<PlacedHold, String>> {
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let outcome = place(who, hold, approvals.clone(), &catalog).await;
        let Err(Ok(PlacedHold { placed, .. })) = sender.send(outcome) else { return };
        let id = &placed.request.id;
        if approvals.resumes() && placed.request.rule != break_glass::RULE {
            approvals.leave(id, placed.request.expires_at);
        } else if let Err(error) = approvals.cancel(id, "the client went away").await {
            tracing::warn!(approval.request = %id, error = %error, "a request could not be cancelled; it stays open until it expires");
        }
    });
    receiver
}

/// Places a request.
async fn place(who: Who, hold: HoldRequest, approvals: Approvals, catalog: &CatalogSource) -> Result<PlacedHold, String> {
    let id = RequestId::from_bytes(*uuid::Uuid::now_v7().as_bytes());
    let estimate = estimate_of(&hold, catalog).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?.as_secs();
    let mut request = request(id, &who, &hold, estimate, now)?;
    let placed = match &hold.break_glass {
        None => approvals.place_or_take_up(request).await.map_err(|error| error.to_string())?,
        Some(broken) => {
            let mut facts = break_glass::facts(&broken.reason, &request.rule);
            facts.append(&mut request.facts);
            request.facts = facts;
            request.rule = break_glass::RULE.to_owned();
            request.expires_at = now.saturating_add(broken.terms.review_within.as_secs());
            request.reviewers.clone_from(&broken.terms.reviewers);
            request.sources = reviewer_sources(&broken.terms.sources);
            request.version = version(&request.sources);
            (request.quorum, request.runs, request.step_up) = (1, 1, false);
            approvals.place_for_review(request).await.map_err(|error| error.to_string())?
        }
    };
    let expires_at = placed.request.expires_at;
    let expires = i64::try_from(expires_at)
        .ok()
        .and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok())
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| expires_at.to_string());
    Ok(PlacedHold { placed, expires })
}

/// How many rows the server expects, where the policy wants reviewers to see that. Never for what is not to wait at all.
async fn estimate_of(hold: &HoldRequest, catalog: &CatalogSource) -> Option<u64> {
    let [only] = hold.facts.as_slice() else { return None };
    if !hold.terms.estimate || !hold.as_at_login || hold.break_glass.is_some() {
        return None;
    }
    estimate::rows(catalog, &hold.text, &hold.parameters, only).await
}

fn request(id: RequestId, who: &Who, hold: &HoldRequest, estimate: Option<u64>, now: u64) -> Result<Request, String> {
    let statement = String::from_utf8(hold.text.to_vec()).map_err(|_| "the statement is not valid UTF-8".to_owned())?;
    let parameters = hold
        .parameters
        .iter()
        .map(|parameter| RequestParameter {
            type_oid: parameter.type_oid,
            format: parameter.format,
            value: parameter.value.as_ref().map(|value| STANDARD.encode(value)),
        })
        .collect();
    let sources = reviewer_sources(&hold.terms.sources);
    Ok(Request {
        version: version(&sources),
        id,
        environment: who.environment.clone(),
        created_at: now,
        expires_at: now.saturating_add(hold.terms.expiry.as_secs()),
        statement,
        parameters,
        digest: hold.digest,
        requester: Requester {
            issuer: who.principal.issuer.clone(),
            subject: who.principal.subject.clone(),
            email: who.principal.email.clone(),
            groups: who.principal.groups.iter().cloned().collect(),
            claims: who.principal.claims.clone(),
        },
        database: who.database.clone(),
        policy: hex::encode(hold.policy),
        rule: hold.rule.clone(),
        reason: hold.terms.reason.clone(),
        reviewers: hold.terms.reviewers.clone(),
        quorum: hold.terms.quorum,
        runs: hold.terms.runs,
        step_up: hold.terms.step_up,
        facts: facts(&hold.facts, &hold.told, estimate, hold.in_transaction.then_some(hold.transaction_age)),
        session: who.session.clone(),
        sources,
    })
}

/// The facts a reviewer should see at a glance.
fn facts(
    statements: &[StatementFacts],
    told: &[(String, String)],
    estimate: Option<u64>,
    transaction_age: Option<u64>,
) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let several = statements.len() > 1;
    for (index, statement) in statements.iter().enumerate() {
        let label = |name: &str| if several { format!("{name} (statement {})", index + 1) } else { name.to_owned() };
        let kind = serde_json::to_value(statement.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default();
        facts.push((label("kind"), kind));
        for text in &statement.executes {
            facts.push((label("runs"), text.clone()));
        }
        for (name, relations) in [("reads", &statement.reads), ("writes", &statement.writes)] {
            if !relations.is_empty() {
                let list: Vec<String> = relations.iter().map(|relation| format!("{}.{}", relation.schema, relation.name)).collect();
                facts.push((label(name), list.join(", ")));
            }
        }
        if !statement.functions.is_empty() {
            facts.push((label("calls"), statement.functions.join(", ")));
        }
        if statement.missing_where {
            facts.push((label("warning"), "no WHERE: every row is affected".to_owned()));
        }
        for note in &statement.notes {
            facts.push((label("note"), note.clone()));
        }
    }
    facts.extend_from_slice(told);
    facts.extend(estimate.map(estimate_fact));
    if let Some(age) = transaction_age {
        facts.push(transaction_fact(age));
    }
    facts
}
