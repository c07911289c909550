//! Who may decide what: the rules a press must pass before it becomes a decision. No I/O, no clock.

mod known;

use std::collections::BTreeSet;

use countersign_approval::item::Status;
use countersign_approval::v1::{StepUp, Verdict};
use countersign_approval::verify::{self, quorum};
use countersign_approval::{Decision, GrantError, Request, VerifyingKeys};
use countersign_policy::roster::Roster;

use self::known::known;
pub use self::known::{groups_that_matter, is_known, usergroups};

/// Somebody's wish.
#[derive(Debug, Clone, Copy)]
pub struct Press<'a> {
    /// Approve or deny.
    pub verdict: Verdict,
    /// Reason of a denial.
    pub reason: Option<&'a str>,
    /// For how many identical runs.
    pub runs: u32,
    /// A sign-in at the identity provider for this very decision.
    pub step_up: Option<&'a SignIn>,
    /// Whose it is.
    pub by: By<'a>,
}

/// How somebody is known who wishes to decide.
#[derive(Debug, Clone, Copy)]
pub enum By<'a> {
    /// By a press in Slack, as far as Slack vouches for it.
    Slack {
        /// Workspace.
        team: &'a str,
        /// User id.
        user: &'a str,
        /// The address as the profile has it.
        email: Option<&'a str>,
        /// The user groups that Slack says they are in now, of those asked for.
        usergroups: &'a [Usergroup],
    },
    /// By a sign-in at the identity provider, on the bot's own page.
    SignIn(&'a SignIn),
}

/// A user group of Slack's with somebody in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usergroup {
    /// `S…`
    pub id: String,
    /// When Slack was asked, seconds since the epoch.
    pub resolved_at: u64,
    /// How many members there were.
    pub members: u32,
    /// Digest of who they were.
    pub digest: String,
}

/// A fresh sign-in at the identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// Who and when.
    pub step_up: StepUp,
    /// The address, where the provider vouches for it.
    pub email: Option<String>,
    /// Groups, as the ID token has them.
    pub groups: BTreeSet<String>,
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
    /// Somebody whom only a sign-in can show to be in one of the groups.
    #[error("whether you may decide with {0} only a sign-in at the identity provider tells")]
    NeedsProof(String),
    /// The request's own words on where reviewers are found are not the policy's.
    #[error("this request was altered: who may decide is not what the policy says; nothing was decided")]
    Altered,
    /// Nothing to know them by.
    #[error("{0} has no e-mail address that is vouched for: whom the policy does not list counts only with one")]
    NoAddress(&'static str),
    /// Several people of the roster at once.
    #[error("the roster has several people who would be you: {0}; nothing was decided")]
    SeveralPeople(String),
    /// The requester has no name that could be compared.
    #[error(
        "nobody can tell whether you asked for this yourself: the requester's token has no e-mail address, and the policy does not list you"
    )]
    Indistinct,
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
    let known = known(press.by, press.step_up, request, roster, standing.now)?;
    match standing.status {
        Status::Open => {}
        Status::Expired => return Err(Refusal::Expired),
        closed => return Err(Refusal::Closed(closed.as_str())),
    }
    if standing.now >= request.expires_at {
        return Err(Refusal::Expired);
    }
    let sign_in = press.step_up.or(match press.by {
        // A decision on the page says by which sign-in; one for this very decision goes before the one that opened the page.
        By::SignIn(own) => Some(own),
        By::Slack { .. } => None,
    });
    let names = verify::names(&known.reviewer, known.snapshot.as_ref(), sign_in.map(|sign_in| &sign_in.step_up));
    let voted = standing.tokens.iter().any(|token| {
        countersign_approval::UnverifiedDecision::new(token)
            .verify(keys)
            .is_ok_and(|decision| verify::names_of(&decision).iter().any(|name| names.contains(name)))
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
    let own = match press.by {
        By::SignIn(own) => Some(own),
        By::Slack { .. } => None,
    };
    for sign_in in [press.step_up, own].into_iter().flatten() {
        known.same_person(sign_in, request)?;
    }
    // INVARIANT: the digest is that of the statement the card was made of; `UnverifiedRequest::parse` computed it.
    Ok(Decision {
        version: request.version,
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
        reviewer: known.reviewer,
        verdict: press.verdict,
        runs,
        step_up: sign_in.map(|sign_in| sign_in.step_up.clone()),
        reason: reason.map(|reason| reason.chars().take(MAX_REASON).collect()),
        decided_at: standing.now,
        snapshot: known.snapshot,
    })
}

impl SignIn {
    /// As rosters write it.
    #[must_use]
    pub fn link(&self) -> String {
        format!("{}|{}", self.step_up.issuer, self.step_up.subject)
    }
}

/// The name of whoever this is, if they are among those who decide on this request.
///
/// # Errors
/// When they are not.
pub fn who(by: By<'_>, request: &Request, roster: &Roster) -> Result<String, Refusal> {
    known(by, None, request, roster, request.created_at).map(|known| known.reviewer.person)
}
