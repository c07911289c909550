//! From untrusted decision tokens to a verified quorum.
//!
//! The order in which a store returns tokens means nothing: any valid denial ends the request, and approvals are counted by people,
//! where two tokens that share a person, a Slack account, an e-mail address or an identity link are one person.

use crate::jws::{TokenError, UnverifiedDecision};
use crate::v1::{Reviewer, StepUp};
use crate::v2::{Membership, ReviewerSource, Snapshot, Source};
use crate::{Decision, RequestId, StatementDigest, Verdict, VerifyingKeys};

/// How far a decision's time may lie ahead of the proxy's clock, in seconds.
pub const MAX_CLOCK_SKEW: u64 = 300;
/// How old may be what a decision says of membership, in seconds: the sign-in that opened the bot's own page, and the clocks' difference.
pub const MAX_MEMBERSHIP_AGE: u64 = 1_200;
/// How many tokens of one request anyone looks at.
pub const MAX_TOKENS: usize = 200;

/// What the proxy holds and therefore expects every decision to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// Request id.
    pub request: RequestId,
    /// Environment.
    pub environment: String,
    /// Digest of the held statement.
    pub digest: StatementDigest,
    /// Fingerprint of the whole request as placed.
    pub shown: String,
    /// Requester issuer.
    pub requester_issuer: String,
    /// Requester subject.
    pub requester_subject: String,
    /// Requester e-mail, which no reviewer may have.
    pub requester_email: Option<String>,
    /// Database.
    pub database: String,
    /// Hex digest of the policy in force.
    pub policy: String,
    /// Rule.
    pub rule: String,
    /// Expiry of the request.
    pub expires_at: u64,
    /// Roster groups, one of which each reviewer must be in.
    pub reviewers: Vec<String>,
    /// Where members of them are found beside those the policy lists.
    pub sources: Vec<ReviewerSource>,
    /// Distinct people needed.
    pub quorum: u32,
    /// Most runs an approval may be for.
    pub runs: u32,
    /// Whether an approval needs a fresh sign-in.
    pub step_up: bool,
}

/// Enough distinct, verified approvals for one held statement. Only [`quorum`] makes one.
#[derive(Debug)]
pub struct VerifiedQuorum {
    request: RequestId,
    digest: StatementDigest,
    expires_at: u64,
    runs: u32,
    decisions: Vec<Decision>,
}

impl VerifiedQuorum {
    /// Request the quorum is for.
    #[must_use]
    pub const fn request(&self) -> &RequestId {
        &self.request
    }
    /// Digest the reviewers signed.
    #[must_use]
    pub const fn digest(&self) -> &StatementDigest {
        &self.digest
    }
    /// Until when the grant may be consumed, seconds since the epoch.
    #[must_use]
    pub const fn expires_at(&self) -> u64 {
        self.expires_at
    }
    /// For how many runs: the least anyone approved.
    #[must_use]
    pub const fn runs(&self) -> u32 {
        self.runs
    }
    /// The decisions, one for each person.
    #[must_use]
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }
}

/// A token that does not count, by its place in the list, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("decision {index}: {why}")]
pub struct Rejection {
    /// Place in the list, from 0.
    pub index: usize,
    /// Why.
    pub why: RejectionReason,
}

/// Why a token does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RejectionReason {
    /// Not a signed decision.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Signed for something else.
    #[error("signed for another {0}")]
    Binding(&'static str),
    /// Signed at a time it cannot have been signed at.
    #[error("signed outside the time of the request")]
    Time,
    /// The reviewer is the requester.
    #[error("reviewer is the requester")]
    SelfApproval,
    /// Approved without the sign-in the request demands.
    #[error("approved without the sign-in the request demands")]
    NoStepUp,
    /// For no runs, or for more than the request allows.
    #[error("approved for {0} runs")]
    Runs(u32),
    /// The reviewer is in none of the groups the rule names.
    #[error("reviewer is in none of the groups that may decide")]
    NotAReviewer,
    /// By what the reviewer is said to be in a group is not what the policy names for it, not of that time, or not told apart from the requester.
    #[error("reviewer's membership does not hold: {0}")]
    Membership(&'static str),
    /// There are more tokens than anyone looks at.
    #[error("more than {MAX_TOKENS} decisions")]
    TooMany,
}

/// Why a set of decisions does not open a hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// Not enough approvals yet.
    #[error("{found} of {needed} approvals{}", summary(rejected))]
    Pending {
        /// Distinct valid approvals.
        found: u32,
        /// Needed.
        needed: u32,
        /// Tokens that do not count.
        rejected: Vec<Rejection>,
    },
    /// A reviewer denied.
    #[error("denied by {by}: {reason}")]
    Denied {
        /// Reviewer.
        by: String,
        /// Reason.
        reason: String,
    },
    /// Past the expiry.
    #[error("request expired")]
    Expired,
}

fn summary(rejected: &[Rejection]) -> String {
    rejected.first().map(|first| format!(" ({} ignored, first: {first})", rejected.len())).unwrap_or_default()
}

/// Judges a request's tokens against what the proxy holds. Invalid tokens are ignored and reported.
///
/// # Errors
/// Says why the hold stays closed: a denial first, then expiry, then what is still missing.
pub fn quorum(expected: &Expectation, tokens: &[String], keys: &VerifyingKeys, now: u64) -> Result<VerifiedQuorum, GrantError> {
    let mut approvals = Vec::new();
    let mut rejected = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        // More than anyone looks at: a denial may lie among the rest, so nothing is granted. Whoever floods the store stops the request.
        if index >= MAX_TOKENS {
            rejected.push(Rejection { index, why: RejectionReason::TooMany });
            approvals.clear();
            break;
        }
        match one(expected, token, keys, now) {
            Ok(decision) if decision.verdict == Verdict::Deny => {
                return Err(GrantError::Denied {
                    by: decision.reviewer.person,
                    reason: decision.reason.unwrap_or_else(|| "no reason given".to_owned()),
                });
            }
            Ok(decision) => approvals.push(decision),
            Err(why) => rejected.push(Rejection { index, why }),
        }
    }
    if now >= expected.expires_at {
        return Err(GrantError::Expired);
    }
    let decisions = distinct_people(approvals);
    let found = u32::try_from(decisions.len()).unwrap_or(u32::MAX);
    let needed = expected.quorum.max(1);
    if found < needed {
        return Err(GrantError::Pending { found, needed, rejected });
    }
    let runs = decisions.iter().map(|decision| decision.runs).min().unwrap_or(1);
    Ok(VerifiedQuorum { request: expected.request.clone(), digest: expected.digest, expires_at: expected.expires_at, runs, decisions })
}

/// Verifies one token and every binding.
fn one(expected: &Expectation, token: &str, keys: &VerifyingKeys, now: u64) -> Result<Decision, RejectionReason> {
    let decision = UnverifiedDecision::new(token).verify(keys)?;
    let bindings = [
        ("request", decision.request == expected.request),
        ("environment", decision.environment == expected.environment),
        ("statement", decision.digest == expected.digest),
        ("text, facts or claims", decision.shown == expected.shown),
        ("requester", decision.requester_issuer == expected.requester_issuer && decision.requester_subject == expected.requester_subject),
        ("database", decision.database == expected.database),
        ("policy", decision.policy == expected.policy),
        ("rule", decision.rule == expected.rule),
        ("expiry", decision.expires_at == expected.expires_at),
        ("version", decision.version == crate::request::version(&expected.sources)),
    ];
    for (what, holds) in bindings {
        if !holds {
            return Err(RejectionReason::Binding(what));
        }
    }
    if decision.decided_at >= expected.expires_at || decision.decided_at > now.saturating_add(MAX_CLOCK_SKEW) {
        return Err(RejectionReason::Time);
    }
    let requester = RequesterIdentity {
        issuer: &expected.requester_issuer,
        subject: &expected.requester_subject,
        email: expected.requester_email.as_deref(),
    };
    if requester.is(&decision.reviewer) || decision.snapshot.iter().any(|snapshot| requester.has_any(&snapshot.addresses)) {
        return Err(RejectionReason::SelfApproval);
    }
    if !decision.reviewer.groups.iter().any(|group| expected.reviewers.contains(group)) {
        return Err(RejectionReason::NotAReviewer);
    }
    is_member(expected, &requester, &decision)?;
    if decision.verdict == Verdict::Approve {
        if decision.runs == 0 || decision.runs > expected.runs.max(1) {
            return Err(RejectionReason::Runs(decision.runs));
        }
        let Some(step_up) = &decision.step_up else {
            return if expected.step_up { Err(RejectionReason::NoStepUp) } else { Ok(decision) };
        };
        // Whoever signed in is held against the requester as well, whatever the roster says.
        if step_up.issuer == expected.requester_issuer && step_up.subject == expected.requester_subject {
            return Err(RejectionReason::SelfApproval);
        }
    }
    Ok(decision)
}

/// Whether some membership of the snapshot, where there is one, is this reviewer's and one the policy names for this rule.
pub(crate) fn is_member(expected: &Expectation, requester: &RequesterIdentity<'_>, decision: &Decision) -> Result<(), RejectionReason> {
    let Some(snapshot) = &decision.snapshot else { return Ok(()) };
    let mut why = "there is none";
    for membership in &snapshot.memberships {
        match fits(expected, requester, decision, snapshot, membership) {
            Ok(()) => return Ok(()),
            Err(reason) => why = reason,
        }
    }
    Err(RejectionReason::Membership(why))
}

fn fits(
    expected: &Expectation,
    requester: &RequesterIdentity<'_>,
    decision: &Decision,
    snapshot: &Snapshot,
    membership: &Membership,
) -> Result<(), &'static str> {
    let reviewer = &decision.reviewer;
    if !expected.reviewers.contains(&membership.group) || !reviewer.groups.contains(&membership.group) {
        return Err("of another group");
    }
    let age = decision.decided_at.checked_sub(membership.resolved_at);
    if age.is_none_or(|age| age > MAX_MEMBERSHIP_AGE) {
        return Err("not of the time of the decision");
    }
    if membership.by == Source::Listed {
        return Ok(());
    }
    let named = expected.sources.iter().find(|named| named.group == membership.group && named.by == membership.by);
    let named = named.ok_or("the policy does not name this source for the group")?;
    // INVARIANT: four eyes. Who is listed nowhere is known by an address, and by nothing else that others know, too.
    if snapshot.addresses.is_empty() {
        return Err("nobody the policy does not list counts without an e-mail address");
    }
    let proved = match &membership.by {
        Source::Listed => true,
        Source::SlackUsergroup { team, .. } => reviewer.slack.split_once('/').is_some_and(|(own, _)| own == team),
        Source::IdentityProviderGroup { issuer, .. } => decision.step_up.as_ref().is_some_and(|step_up| step_up.issuer == *issuer),
    };
    if !proved {
        return Err("the account is not of where the group is");
    }
    if requester.tells_apart(named, decision.step_up.as_ref()) {
        Ok(())
    } else {
        Err("the reviewer cannot be told apart from the requester")
    }
}

/// Every way the requester may be known.
#[derive(Debug, Clone, Copy)]
pub struct RequesterIdentity<'a> {
    /// Issuer.
    pub issuer: &'a str,
    /// Subject.
    pub subject: &'a str,
    /// E-mail address, where the issuer vouches for it.
    pub email: Option<&'a str>,
}

impl RequesterIdentity<'_> {
    /// Whether this reviewer is the requester: by identity link, by e-mail, or by a subject that is the person's own name or address.
    #[must_use]
    pub fn is(&self, reviewer: &Reviewer) -> bool {
        let link = format!("{}|{}", self.issuer, self.subject);
        let address = reviewer.email.as_deref();
        reviewer.subjects.contains(&link)
            || same_address(&reviewer.person, self.subject)
            || address
                .is_some_and(|address| same_address(address, self.subject) || self.email.is_some_and(|own| same_address(address, own)))
    }
}

impl RequesterIdentity<'_> {
    /// Whether one of these addresses is the requester's, be it as e-mail address or as subject.
    #[must_use]
    pub fn has_any(&self, addresses: &[String]) -> bool {
        addresses.iter().any(|address| same_address(address, self.subject) || self.email.is_some_and(|own| same_address(address, own)))
    }

    /// Whether somebody the policy does not list, known by address, can be told apart from the requester at all: who asks has an address,
    /// too, or is a machine, or both signed in at the same place, where subjects are compared.
    #[must_use]
    pub fn tells_apart(&self, source: &ReviewerSource, step_up: Option<&StepUp>) -> bool {
        self.email.is_some()
            || source.machine_issuers.iter().any(|issuer| issuer == self.issuer)
            || step_up.is_some_and(|step_up| step_up.issuer == self.issuer)
    }
}

fn same_address(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}

/// One decision for each person. Tokens that share any identity belong to one person, also through a third token.
fn distinct_people(mut approvals: Vec<Decision>) -> Vec<Decision> {
    approvals.sort_by(|a, b| (a.decided_at, &a.reviewer).cmp(&(b.decided_at, &b.reviewer)));
    let mut people: Vec<(Vec<String>, Decision)> = Vec::new();
    for decision in approvals {
        let mut names = names_of(&decision);
        let (same, others): (Vec<_>, Vec<_>) = people.into_iter().partition(|(known, _)| known.iter().any(|name| names.contains(name)));
        people = others;
        // The earliest decision speaks for the person; the list is sorted by time.
        let mut first = None;
        for (known, earlier) in same {
            names.extend(known);
            first = Some(match first.take() {
                Some(kept) if is_before(&kept, &earlier) => kept,
                _ => earlier,
            });
        }
        people.push((names, first.unwrap_or(decision)));
    }
    let mut decisions: Vec<Decision> = people.into_iter().map(|(_, decision)| decision).collect();
    decisions.sort_by(|a, b| (a.decided_at, &a.reviewer).cmp(&(b.decided_at, &b.reviewer)));
    decisions
}

fn is_before(a: &Decision, b: &Decision) -> bool {
    (a.decided_at, &a.reviewer) <= (b.decided_at, &b.reviewer)
}

/// Every name a decision's reviewer is known by.
#[must_use]
pub fn names_of(decision: &Decision) -> Vec<String> {
    names(&decision.reviewer, decision.snapshot.as_ref(), decision.step_up.as_ref())
}

/// Every name a reviewer is known by. Two who share one are one person.
#[must_use]
pub fn names(reviewer: &Reviewer, snapshot: Option<&Snapshot>, step_up: Option<&StepUp>) -> Vec<String> {
    let mut names = vec![format!("person:{}", reviewer.person), format!("slack:{}", reviewer.slack)];
    let addresses = reviewer.email.iter().chain(snapshot.iter().flat_map(|snapshot| &snapshot.addresses));
    names.extend(addresses.map(|address| format!("email:{}", address.trim().to_lowercase())));
    names.extend(reviewer.subjects.iter().map(|subject| format!("subject:{subject}")));
    names.extend(step_up.iter().map(|step_up| format!("subject:{}|{}", step_up.issuer, step_up.subject)));
    names
}
