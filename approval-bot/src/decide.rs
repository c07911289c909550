//! Who may decide what: the rules a press must pass before it becomes a decision. No I/O, no clock.

use countersign_approval::item::Status;
use countersign_approval::v1::{Reviewer, StepUp, Verdict};
use countersign_approval::verify::{RequesterIdentity, quorum};
use countersign_approval::{Decision, GrantError, Request, VerifyingKeys};
use countersign_policy::roster::{Person, Roster};

/// A press, as far as Slack vouches for it.
#[derive(Debug, Clone, Copy)]
pub struct Press<'a> {
    /// Approve or deny.
    pub verdict: Verdict,
    /// Reason of a denial.
    pub reason: Option<&'a str>,
    /// For how many identical runs.
    pub runs: u32,
    /// The presser's fresh sign-in at the identity provider.
    pub step_up: Option<&'a SignIn>,
    /// Workspace of the presser.
    pub team: &'a str,
    /// User id of the presser.
    pub user: &'a str,
    /// The presser's address as their Slack profile has it.
    pub email: Option<&'a str>,
}

/// A fresh sign-in at the identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// Who and when.
    pub step_up: StepUp,
    /// The address, where the provider vouches for it.
    pub email: Option<String>,
}

/// Where the request stands at the press.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// The request as the card showed it.
    pub request: &'a Request,
    /// Status in the store.
    pub status: Status,
    /// Decisions so far.
    pub tokens: &'a [String],
    /// Seconds since the epoch.
    pub now: u64,
}

/// Why a press is not a decision, in words for the presser.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not in the roster.
    #[error("you are not in the roster of reviewers of this policy version")]
    NotInRoster,
    /// In the roster, in none of the groups.
    #[error("you are not in {0}, whose members decide on this request")]
    NotInGroup(String),
    /// Four eyes.
    #[error("you asked for this yourself: somebody else must decide")]
    Requester,
    /// Voted before.
    #[error("you have decided on this request already")]
    AlreadyVoted,
    /// Past its time.
    #[error("too late: the request has expired")]
    Expired,
    /// Closed.
    #[error("too late: the request is {0} already")]
    Closed(&'static str),
    /// Nothing more to approve.
    #[error("nothing to do: the request has all the approvals it needs")]
    Granted,
    /// A press alone is not enough.
    #[error("approving this takes a sign-in at the identity provider")]
    NeedsStepUp,
    /// Somebody else signed in.
    #[error("whoever signed in is not {0}, who pressed: nothing was decided")]
    OtherPerson(String),
    /// More runs than the request allows.
    #[error("this request can be approved for at most {0} runs")]
    TooManyRuns(u32),
    /// A denial without a reason.
    #[error("a denial needs a reason")]
    NoReason,
}

/// Longest reason that goes into a decision.
pub const MAX_REASON: usize = 1_000;

/// Turns a press into the claims to sign.
///
/// # Errors
/// Says why not.
pub fn decide(press: &Press<'_>, standing: &Standing<'_>, roster: &Roster, keys: &VerifyingKeys) -> Result<Decision, Refusal> {
    let request = standing.request;
    let reviewer = reviewer(press, request, roster)?;
    match standing.status {
        Status::Open => {}
        Status::Expired => return Err(Refusal::Expired),
        closed => return Err(Refusal::Closed(closed.as_str())),
    }
    if standing.now >= request.expires_at {
        return Err(Refusal::Expired);
    }
    let voted = standing.tokens.iter().any(|token| {
        countersign_approval::UnverifiedDecision::new(token)
            .verify(keys)
            .is_ok_and(|decision| decision.reviewer.person == reviewer.person || decision.reviewer.slack == reviewer.slack)
    });
    if voted {
        return Err(Refusal::AlreadyVoted);
    }
    match quorum(&request.expectation(), standing.tokens, keys, standing.now) {
        Ok(_) if press.verdict == Verdict::Approve => return Err(Refusal::Granted),
        Err(GrantError::Denied { .. }) => return Err(Refusal::Closed(Status::Denied.as_str())),
        _ => {}
    }
    let reason = press.reason.map(str::trim).filter(|reason| !reason.is_empty());
    if press.verdict == Verdict::Deny && reason.is_none() {
        return Err(Refusal::NoReason);
    }
    let mut runs = 1;
    if press.verdict == Verdict::Approve {
        runs = press.runs;
        if runs == 0 || runs > request.runs.max(1) {
            return Err(Refusal::TooManyRuns(request.runs.max(1)));
        }
        if request.step_up && press.step_up.is_none() {
            return Err(Refusal::NeedsStepUp);
        }
    }
    if let Some(sign_in) = press.step_up {
        same_person(&reviewer, sign_in, request)?;
    }
    // INVARIANT: the digest is that of the statement the card was made of; `UnverifiedRequest::parse` computed it.
    Ok(Decision {
        version: 1,
        request: request.id.clone(),
        environment: request.environment.clone(),
        digest: request.digest,
        shown: request.fingerprint(),
        requester_issuer: request.requester.issuer.clone(),
        requester_subject: request.requester.subject.clone(),
        database: request.database.clone(),
        policy: request.policy.clone(),
        rule: request.rule.clone(),
        expires_at: request.expires_at,
        reviewer,
        verdict: press.verdict,
        runs,
        step_up: press.step_up.map(|sign_in| sign_in.step_up.clone()),
        reason: reason.map(|reason| reason.chars().take(MAX_REASON).collect()),
        decided_at: standing.now,
    })
}

/// Whoever signed in must be the reviewer who pressed, by identity link or by an address both sides vouch for, and not the requester.
fn same_person(reviewer: &Reviewer, sign_in: &SignIn, request: &Request) -> Result<(), Refusal> {
    let link = format!("{}|{}", sign_in.step_up.issuer, sign_in.step_up.subject);
    let address = match (&reviewer.email, &sign_in.email) {
        (Some(own), Some(theirs)) => own.trim().eq_ignore_ascii_case(theirs.trim()),
        _ => false,
    };
    // Where the roster links identities, they are what counts.
    let same = if reviewer.subjects.is_empty() { address } else { reviewer.subjects.contains(&link) };
    if !same {
        return Err(Refusal::OtherPerson(reviewer.person.clone()));
    }
    let requester = &request.requester;
    let identity = RequesterIdentity { issuer: &requester.issuer, subject: &requester.subject, email: requester.email.as_deref() };
    let signed_in = Reviewer { email: sign_in.email.clone(), subjects: vec![link], ..reviewer.clone() };
    if identity.is(&signed_in) { Err(Refusal::Requester) } else { Ok(()) }
}

/// The roster's name for whoever pressed, if they are among those who decide on this request.
///
/// # Errors
/// When they are not.
pub fn who(press: &Press<'_>, request: &Request, roster: &Roster) -> Result<String, Refusal> {
    reviewer(press, request, roster).map(|reviewer| reviewer.person)
}

fn reviewer(press: &Press<'_>, request: &Request, roster: &Roster) -> Result<Reviewer, Refusal> {
    let person = find(press, roster).ok_or(Refusal::NotInRoster)?;
    let requester = &request.requester;
    let reviewer = Reviewer {
        person: person.name.clone(),
        slack: format!("{}/{}", press.team, press.user),
        // Where the roster has no address, the profile's goes into the decision: the proxy then holds it against the requester, too.
        email: person.email.clone().or_else(|| press.email.map(str::to_owned)),
        groups: person.groups.iter().cloned().collect(),
        subjects: person.subjects.iter().cloned().collect(),
    };
    let identity = RequesterIdentity { issuer: &requester.issuer, subject: &requester.subject, email: requester.email.as_deref() };
    // The profile's address counts beside the roster's, whichever of the requester's names it is.
    let as_in_slack = Reviewer { email: press.email.map(str::to_owned), ..reviewer.clone() };
    if identity.is(&reviewer)
        || identity.is(&as_in_slack)
        || person.is_principal(&requester.issuer, &requester.subject, requester.email.as_deref())
    {
        return Err(Refusal::Requester);
    }
    if !person.in_any(&request.reviewers) {
        return Err(Refusal::NotInGroup(request.reviewers.join(" or ")));
    }
    Ok(reviewer)
}

/// By Slack id; by the profile's address only where the roster names no Slack id for that person.
fn find<'a>(press: &Press<'_>, roster: &'a Roster) -> Option<&'a Person> {
    roster.by_slack(press.team, press.user).or_else(|| {
        let address = press.email?;
        let mut matches = roster
            .people()
            .iter()
            .filter(|person| person.slack.is_none() && person.email.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(address)));
        let first = matches.next();
        if matches.next().is_some() { None } else { first }
    })
}
