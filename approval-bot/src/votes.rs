//! From somebody's wish to a signed decision in the store: the one way every decision goes, wherever it was made.
//!
//! Owns: finding the request that was shown, the roster at that moment, signing, the conditional write. Does not own: who may decide
//! ([`crate::decide`]), nor how somebody says what they wish (a press in Slack, [`crate::interactions`]; a form of the bot's own page,
//! [`crate::web`]).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use countersign_approval::item::{Closed, Status, voter_names};
use countersign_approval::{Request, RequestId, Template, UnverifiedRequest, Verdict, break_glass, template};
use countersign_policy::{Policy, Roster};

use crate::bot::Bot;
use crate::card;
use crate::decide::{self, By, Press, Refusal, SignIn, Standing, Usergroup};
use crate::slack::UserInfo;
use crate::store::{Appended, Stored, Vote};
use crate::web;

/// How long Slack may take to say who pressed: the press must be acknowledged within three seconds.
const USER_TIMEOUT: Duration = Duration::from_millis(1_500);

/// What a button or form refers to, found again in the store.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) request: Request,
    pub(crate) stored: Stored,
}

/// What somebody wishes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wish<'a> {
    Approve { all: bool, sign_in: Option<&'a SignIn> },
    Deny(&'a str),
}

/// Who wishes it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Presser<'a> {
    /// A Slack account, as the payload or the ticket has it.
    Slack { id: &'a str, team: Option<&'a str> },
    /// Whoever signed in on the bot's own page.
    SignedIn(&'a SignIn),
}

/// What came of a wish.
#[derive(Debug)]
pub(crate) enum Voted {
    /// It was signed and stored; the text is for whoever decided.
    Done(String),
    /// It takes a fresh sign-in first. Nothing was decided.
    NeedsSignIn,
}

/// The request of that id as it stands now.
pub(crate) async fn look(bot: &Bot, id: &RequestId) -> Result<Found, String> {
    let stored = stored(bot, id).await?;
    read(bot, id, stored)
}

/// The request a reference was made of, if it is still the same to the last byte.
pub(crate) async fn find(bot: &Bot, reference: &str) -> Result<Found, String> {
    let mut parts = reference.split('.');
    let (Some("v1"), Some(id), Some(fingerprint), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err("this button is not one of mine".to_owned());
    };
    let id = RequestId::parse(id).map_err(|_| "this button is not one of mine".to_owned())?;
    let stored = stored(bot, &id).await?;
    if UnverifiedRequest::new(&stored.request).fingerprint() != fingerprint {
        tracing::error!(request.id = %id, "request was altered after its card was shown");
        return Err("this request was altered after the card was shown; nothing was decided".to_owned());
    }
    read(bot, &id, stored)
}

async fn stored(bot: &Bot, id: &RequestId) -> Result<Stored, String> {
    let stored = bot.store.get(id).await.map_err(|error| {
        tracing::error!(request.id = %id, %error, "approval store does not answer");
        "the approval store does not answer; nothing was decided, try again".to_owned()
    })?;
    stored.ok_or_else(|| "this request is not there any more".to_owned())
}

fn read(bot: &Bot, id: &RequestId, stored: Stored) -> Result<Found, String> {
    let request = UnverifiedRequest::new(&stored.request).parse().map_err(|error| {
        tracing::error!(request.id = %id, %error, "what lies in the store is not a request");
        "this request cannot be read; nothing was decided".to_owned()
    })?;
    if request.id != *id || request.environment != bot.environment {
        return Err("this request belongs to another environment; nothing was decided".to_owned());
    }
    Ok(Found { request, stored })
}

/// The whole of what a reference refers to, as text, while it is open.
///
/// # Errors
/// Why there is nothing to show, for the reviewer.
pub(crate) async fn whole(bot: &Bot, reference: &str) -> Result<String, String> {
    let Found { request, stored } = find(bot, reference).await?;
    if stored.status != Status::Open || bot.clock.now() >= request.expires_at {
        return Err("too late: the request is closed already".to_owned());
    }
    let fingerprint = request.fingerprint();
    Ok(card::whole(&card::View::of(&request, &fingerprint, &stored, bot.signer.public())))
}

/// Decides, signs, writes.
///
/// # Errors
/// Why nothing was decided, for whoever wished it.
pub(crate) async fn vote(bot: &Bot, presser: Presser<'_>, found: &Found, wish: Wish<'_>, now: u64) -> Result<Voted, String> {
    let Found { request, stored } = found;
    if request.rule == template::RULE
        && let (Wish::Approve { .. }, Err(error)) = (&wish, Template::of(request))
    {
        tracing::error!(request.id = %request.id, %error, "something that is no template was to be approved as one");
        return Err("this is no template that can be approved; nothing was decided".to_owned());
    }
    let policy = policy(bot, request).await?;
    let asker = asker(bot, presser, request, policy.roster()).await?;
    let by = asker.by();
    let (verdict, reason, all, step_up) = match wish {
        Wish::Approve { all, sign_in } => (Verdict::Approve, None, all, sign_in),
        Wish::Deny(reason) => (Verdict::Deny, Some(reason), false, None),
    };
    let runs = if all { request.runs.max(1) } else { 1 };
    let standing = Standing { request, status: stored.status, tokens: &stored.tokens, now };
    let decision = match decide::decide(&Press { verdict, reason, runs, step_up, by }, &standing, policy.roster(), bot.signer.public()) {
        Ok(decision) => decision,
        Err(Refusal::NeedsStepUp) => return Ok(Voted::NeedsSignIn),
        Err(Refusal::NeedsProof(_)) if verdict == Verdict::Approve && bot.step_up.is_some() => return Ok(Voted::NeedsSignIn),
        Err(refusal) => return Err(asker.told(bot, &refusal, request)),
    };
    let token = bot.signer.sign(&decision).await.map_err(|error| {
        tracing::error!(request.id = %request.id, %error, "decision could not be signed");
        "the decision could not be signed; nothing was decided, try again".to_owned()
    })?;
    let close = (verdict == Verdict::Deny).then(|| Closed {
        status: Status::Denied,
        by: uuid::Uuid::new_v4().to_string(),
        at: now,
        why: format!("denied by {}", decision.reviewer.person),
    });
    let voters = voter_names(&decision.reviewer);
    let vote = Vote { token: &token, voters: &voters, close, now };
    let appended = bot.store.append(&request.id, &vote).await.map_err(|error| {
        tracing::error!(request.id = %request.id, %error, "decision could not be written");
        "the decision could not be written; try again".to_owned()
    })?;
    match appended {
        Appended::AlreadyVoted => return Err(Refusal::AlreadyVoted.to_string()),
        Appended::NotOpen => return Err("too late: the request is closed already".to_owned()),
        Appended::Done => {}
    }
    if verdict == Verdict::Deny
        && let Err(error) = bot.marks.deny(request, &decision.reviewer.person, now).await
    {
        tracing::error!(request.id = %request.id, %error, "a denial lies in the table alone: whoever can write there could take it back");
    }
    tracing::info!(
        request.id = %request.id,
        reviewer = %decision.reviewer.person,
        verdict = ?verdict,
        page = matches!(presser, Presser::SignedIn(_)),
        "decision signed and stored"
    );
    Ok(Voted::Done(match verdict {
        _ if request.rule == break_glass::RULE => format!("your review of {} is signed", request.id),
        Verdict::Approve => format!("you approved request {}", request.id),
        Verdict::Deny => format!("you denied request {}", request.id),
    }))
}

/// The policy a request was made under, if it is in force.
pub(crate) async fn policy(bot: &Bot, request: &Request) -> Result<Arc<Policy>, String> {
    bot.policies.get(&request.policy).await.map_err(|error| {
        tracing::warn!(request.id = %request.id, %error, "no roster for this request");
        "the policy this request was made under is not in force any more; nothing was decided, it must be asked for again".to_owned()
    })
}

/// Whoever wishes something, with all that Slack or the identity provider says of them.
#[derive(Debug)]
pub(crate) enum Asker<'a> {
    /// A Slack account.
    Slack {
        team: &'a str,
        id: &'a str,
        email: Option<String>,
        usergroups: Vec<Usergroup>,
        /// Of which user groups Slack did not say who is in them, and why.
        silent: Vec<String>,
    },
    /// Whoever signed in.
    SignedIn(&'a SignIn),
}

/// Asks Slack what there is to ask, all at once.
pub(crate) async fn asker<'a>(bot: &'a Bot, presser: Presser<'a>, request: &Request, roster: &Roster) -> Result<Asker<'a>, String> {
    let (id, account_team) = match presser {
        Presser::SignedIn(sign_in) => return Ok(Asker::SignedIn(sign_in)),
        Presser::Slack { id, team } => (id, team),
    };
    let team = bot.settings.team_id.as_str();
    // Whoever is listed for this needs no user group.
    let listed = roster.by_slack(team, id).is_some_and(|person| person.in_any(&request.reviewers));
    let named = if listed { BTreeSet::new() } else { decide::usergroups(team, request, roster) };
    let groups = futures_util::future::join_all(named.iter().map(|group| async {
        let answer = tokio::time::timeout(USER_TIMEOUT, bot.members.find(&bot.slack, &bot.clock, group, id)).await;
        (*group, answer)
    }));
    let (info, groups) = tokio::join!(user(bot, id, account_team), groups);
    let email = info?.profile.email;
    let (mut usergroups, mut silent) = (Vec::new(), Vec::new());
    for (group, answer) in groups {
        match answer {
            Ok(Ok(found)) => usergroups.extend(found),
            Ok(Err(error)) => {
                tracing::error!(slack.usergroup = %group, %error, "Slack does not say who is in a user group of the policy");
                silent.push(format!("{group} ({})", error.code().unwrap_or("no answer")));
            }
            Err(_) => silent.push(format!("{group} (no answer in time)")),
        }
    }
    Ok(Asker::Slack { team, id, email, usergroups, silent })
}

impl Asker<'_> {
    /// As the rules know them.
    pub(crate) fn by(&self) -> By<'_> {
        match self {
            Self::Slack { team, id, email, usergroups, .. } => By::Slack { team, user: id, email: email.as_deref(), usergroups },
            Self::SignedIn(sign_in) => By::SignIn(sign_in),
        }
    }

    /// Why not, with what they may do about it.
    pub(crate) fn told(&self, bot: &Bot, refusal: &Refusal, request: &Request) -> String {
        let page = match (refusal, web::address(bot, &request.id)) {
            (Refusal::NeedsProof(_), Some(page)) => format!("; sign in at {page}"),
            _ => String::new(),
        };
        match self {
            Self::Slack { silent, .. }
                if !silent.is_empty() && matches!(refusal, Refusal::NotInRoster | Refusal::NotInGroup(_) | Refusal::NeedsProof(_)) =>
            {
                format!(
                    "Slack did not say who is in user group {}, so nobody counts as a member; nothing was decided, try again{page}",
                    silent.join(", ")
                )
            }
            _ => format!("{refusal}{page}"),
        }
    }
}

/// Who pressed in Slack, as Slack knows them now. Bots, guests and strangers never decide.
pub(crate) async fn user(bot: &Bot, id: &str, team: Option<&str>) -> Result<UserInfo, String> {
    if team.is_some_and(|team| team != bot.settings.team_id) {
        return Err("you are from another workspace and cannot decide here".to_owned());
    }
    let mut info = match tokio::time::timeout(USER_TIMEOUT, bot.slack.user(id)).await {
        Ok(Ok(info)) => info,
        Ok(Err(error)) => {
            tracing::error!(slack.user = %id, %error, "Slack does not say who pressed");
            return Err("Slack did not say who you are; nothing was decided, try again".to_owned());
        }
        Err(_) => return Err("Slack did not say in time who you are; nothing was decided, try again".to_owned()),
    };
    if info.deleted || info.is_bot || info.is_restricted || info.is_ultra_restricted || info.is_stranger {
        return Err("bots, guests and deactivated accounts cannot decide".to_owned());
    }
    // Another workspace's administrators write what they like into its profiles: nobody is found by an address from there. Nor by one that
    // nobody confirmed.
    if info.team_id.as_ref() != Some(&bot.settings.team_id) || info.is_email_confirmed == Some(false) {
        info.profile.email = None;
    }
    Ok(info)
}
