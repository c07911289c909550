//! Who may decide what: the rules a press must pass before it becomes a decision. No I/O, no clock.

use countersign_approval::item::Status;
use countersign_approval::v1::{Reviewer, StepUp, Verdict};
use countersign_approval::verify::{RequesterIdentity, quorum};
use countersign_approval::{Decision, GrantError, Request, VerifyingKeys};
use countersign_policy::roster::{Person, Roster};

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
    },
    /// By a sign-in at the identity provider, on the bot's own page.
    SignIn(&'a SignIn),
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
    let reviewer = reviewer(press.by, request, roster)?;
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
    // A decision on the page says by which sign-in; one for this very decision goes before the one that opened the page.
    let own = match press.by {
        By::SignIn(own) => Some(own),
        By::Slack { .. } => None,
    };
    for sign_in in [press.step_up, own].into_iter().flatten() {
        same_person(&reviewer, sign_in, request)?;
    }
    let sign_in = press.step_up.or(own);
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
        step_up: sign_in.map(|sign_in| sign_in.step_up.clone()),
        reason: reason.map(|reason| reason.chars().take(MAX_REASON).collect()),
        decided_at: standing.now,
    })
}

/// Whoever signed in must be the reviewer who pressed, by identity link or by an address both sides vouch for, and not the requester.
fn same_person(reviewer: &Reviewer, sign_in: &SignIn, request: &Request) -> Result<(), Refusal> {
    let address = match (&reviewer.email, &sign_in.email) {
        (Some(own), Some(theirs)) => own.trim().eq_ignore_ascii_case(theirs.trim()),
        _ => false,
    };
    // Where the roster links identities, they are what counts.
    let same = if reviewer.subjects.is_empty() { address } else { reviewer.subjects.contains(&sign_in.link()) };
    if !same {
        return Err(Refusal::OtherPerson(reviewer.person.clone()));
    }
    let signed_in = Reviewer { email: sign_in.email.clone(), subjects: vec![sign_in.link()], ..reviewer.clone() };
    if identity(request).is(&signed_in) { Err(Refusal::Requester) } else { Ok(()) }
}

impl SignIn {
    /// As rosters write it.
    #[must_use]
    pub fn link(&self) -> String {
        format!("{}|{}", self.step_up.issuer, self.step_up.subject)
    }
}

/// The roster's name for whoever this is, if they are among those who decide on this request.
///
/// # Errors
/// When they are not.
pub fn who(by: By<'_>, request: &Request, roster: &Roster) -> Result<String, Refusal> {
    reviewer(by, request, roster).map(|reviewer| reviewer.person)
}

/// Whether this is somebody of the roster at all.
#[must_use]
pub fn is_known(by: By<'_>, roster: &Roster) -> bool {
    find(by, roster).is_some()
}

fn reviewer(by: By<'_>, request: &Request, roster: &Roster) -> Result<Reviewer, Refusal> {
    let person = find(by, roster).ok_or(Refusal::NotInRoster)?;
    let requester = &request.requester;
    let (account, address, link) = match by {
        By::Slack { team, user, email } => (format!("{team}/{user}"), email, None),
        By::SignIn(sign_in) => (account(person, sign_in), sign_in.email.as_deref(), Some(sign_in.link())),
    };
    let reviewer = Reviewer {
        person: person.name.clone(),
        slack: account,
        // Where the roster has no address, the profile's goes into the decision: the proxy then holds it against the requester, too.
        email: person.email.clone().or_else(|| address.map(str::to_owned)),
        groups: person.groups.iter().cloned().collect(),
        subjects: person.subjects.iter().cloned().collect(),
    };
    // What Slack or the provider says of them counts beside the roster, whichever of the requester's names it is.
    let as_known = Reviewer { email: address.map(str::to_owned), subjects: link.into_iter().collect(), ..reviewer.clone() };
    if identity(request).is(&reviewer)
        || identity(request).is(&as_known)
        || person.is_principal(&requester.issuer, &requester.subject, requester.email.as_deref())
    {
        return Err(Refusal::Requester);
    }
    if !person.in_any(&request.reviewers) {
        return Err(Refusal::NotInGroup(request.reviewers.join(" or ")));
    }
    Ok(reviewer)
}

fn identity(request: &Request) -> RequesterIdentity<'_> {
    let requester = &request.requester;
    RequesterIdentity { issuer: &requester.issuer, subject: &requester.subject, email: requester.email.as_deref() }
}

/// The account a decision on the page uses up: the person's in Slack, so that nobody decides once here and once there.
fn account(person: &Person, sign_in: &SignIn) -> String {
    match &person.slack {
        Some((team, user)) => format!("{team}/{user}"),
        None => format!("oidc/{}", sign_in.link()),
    }
}

fn find<'a>(by: By<'_>, roster: &'a Roster) -> Option<&'a Person> {
    match by {
        // By Slack id; by the profile's address only where the roster names no Slack id for that person.
        By::Slack { team, user, email } => roster.by_slack(team, user).or_else(|| only(roster, email?, |person| person.slack.is_none())),
        // By identity link; by the address the provider vouches for only where the roster links no identities of that person.
        By::SignIn(sign_in) => {
            let link = sign_in.link();
            let mut linked = roster.people().iter().filter(|person| person.subjects.contains(&link));
            match (linked.next(), linked.next()) {
                (Some(person), None) => Some(person),
                (Some(_), Some(_)) => None,
                (None, _) => only(roster, sign_in.email.as_deref()?, |person| person.subjects.is_empty()),
            }
        }
    }
}

/// The one person with this address among some of the roster.
fn only<'a>(roster: &'a Roster, address: &str, among: impl Fn(&Person) -> bool) -> Option<&'a Person> {
    let has = |person: &&Person| among(person) && person.email.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(address));
    let mut matches = roster.people().iter().filter(has);
    let first = matches.next();
    if matches.next().is_some() { None } else { first }
}
