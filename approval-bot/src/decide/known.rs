//! Who somebody is and by what they may decide: a person the roster lists, or a member of a group whose members Slack or the identity
//! provider knows. No I/O, no clock.
//!
//! Whom the roster lists is found strictly, since that gives them rights. Whoever comes by another group is compared with the roster by
//! every link there is, since that only takes rights away: they count as that person, and are the requester if that person is.

use std::collections::BTreeSet;

use countersign_approval::Request;
use countersign_approval::v1::Reviewer;
use countersign_approval::v2::{Membership, ReviewerSource, Snapshot, Source, members_digest};
use countersign_approval::verify::RequesterIdentity;
use countersign_policy::roster::{GroupBy, GroupSource, Person, Roster};

use super::{By, Refusal, SignIn};

/// A reviewer of this request, and how that is known.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) reviewer: Reviewer,
    /// Where the request is of version 2.
    pub(super) snapshot: Option<Snapshot>,
}

/// Whether somebody who signed in is one of the roster at all.
#[must_use]
pub fn is_known(sign_in: &SignIn, roster: &Roster) -> bool {
    find(By::SignIn(sign_in), roster).is_some() || (sign_in.email.is_some() && !groups_that_matter(sign_in, roster).is_empty())
}

/// The groups of whoever signed in that the policy names.
#[must_use]
pub fn groups_that_matter(sign_in: &SignIn, roster: &Roster) -> BTreeSet<String> {
    let named = roster.sources().iter().filter_map(|source| match &source.by {
        GroupBy::IdentityProviderGroup { issuer, group } if *issuer == sign_in.step_up.issuer => Some(group),
        _ => None,
    });
    named.filter(|group| sign_in.groups.contains(*group)).cloned().collect()
}

/// The user groups of a workspace whose members may decide on a request, as the policy names them.
#[must_use]
pub fn usergroups<'a>(team: &str, request: &Request, roster: &'a Roster) -> BTreeSet<&'a str> {
    let named = roster.sources().iter().filter(|source| request.reviewers.contains(&source.group));
    named
        .filter_map(|source| match &source.by {
            GroupBy::SlackUsergroup { team: own, id } if own == team => Some(id.as_str()),
            _ => None,
        })
        .collect()
}

/// Who this is, if they are among those who decide on this request.
pub(super) fn known(by: By<'_>, fresh: Option<&SignIn>, request: &Request, roster: &Roster, now: u64) -> Result<Known, Refusal> {
    if said(&roster.sources_of(&request.reviewers)) != request.sources {
        return Err(Refusal::Altered);
    }
    let person = find(by, roster);
    let listed = person.map(|person| listed(by, person, request, roster, now)).transpose()?;
    match (listed, person) {
        (Some(known), Some(person)) if person.in_any(&request.reviewers) => Ok(known),
        _ => member(by, fresh, person, request, roster),
    }
}

/// What a request says of sources of the policy. The gateway says it alike.
fn said(sources: &[GroupSource]) -> Vec<ReviewerSource> {
    let said = sources.iter().map(|source| ReviewerSource {
        group: source.group.clone(),
        by: match &source.by {
            GroupBy::SlackUsergroup { team, id } => Source::SlackUsergroup { team: team.clone(), id: id.clone() },
            GroupBy::IdentityProviderGroup { issuer, group } => {
                Source::IdentityProviderGroup { issuer: issuer.clone(), group: group.clone() }
            }
        },
        machine_issuers: source.machine_issuers.iter().cloned().collect(),
    });
    let mut said: Vec<ReviewerSource> = said.collect();
    said.sort();
    said
}

/// Somebody the roster lists, whatever group they are in. Never the requester.
fn listed(by: By<'_>, person: &Person, request: &Request, roster: &Roster, now: u64) -> Result<Known, Refusal> {
    let requester = &request.requester;
    let (account, address, link) = match by {
        By::Slack { team, user, email, .. } => (format!("{team}/{user}"), email, None),
        By::SignIn(sign_in) => (account(Some(person), sign_in), sign_in.email.as_deref(), Some(sign_in.link())),
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
    let own = person.groups.iter().filter(|group| request.reviewers.contains(group));
    let snapshot = (!request.sources.is_empty()).then(|| Snapshot {
        memberships: own.map(|group| listed_in(group, roster, now)).collect(),
        addresses: addresses([address, person.email.as_deref()]),
    });
    Ok(Known { reviewer, snapshot })
}

fn listed_in(group: &str, roster: &Roster, now: u64) -> Membership {
    let groups = [group.to_owned()];
    let names: Vec<&str> = roster.members(&groups).map(|person| person.name.as_str()).collect();
    let (members, digest) = (u32::try_from(names.len()).ok(), Some(members_digest(names)));
    Membership { group: group.to_owned(), by: Source::Listed, resolved_at: now, members, digest }
}

/// A member of a group whose members others know.
fn member(by: By<'_>, fresh: Option<&SignIn>, person: Option<&Person>, request: &Request, roster: &Roster) -> Result<Known, Refusal> {
    let sign_in = match by {
        By::SignIn(own) => Some(fresh.unwrap_or(own)),
        By::Slack { .. } => fresh,
    };
    let groups = || request.reviewers.join(" or ");
    let proved: Vec<(Membership, &ReviewerSource)> =
        request.sources.iter().filter_map(|source| Some((membership(by, sign_in, source)?, source))).collect();
    let provable = request.sources.iter().any(|source| matches!(source.by, Source::IdentityProviderGroup { .. }));
    if proved.is_empty() {
        return Err(match (sign_in, person) {
            (None, _) if provable => Refusal::NeedsProof(groups()),
            (_, Some(_)) => Refusal::NotInGroup(groups()),
            (_, None) => Refusal::NotInRoster,
        });
    }
    let (account, profile) = match by {
        By::Slack { team, user, email, .. } => (Some((team, user)), email),
        By::SignIn(_) => (None, None),
    };
    let vouched = sign_in.and_then(|sign_in| sign_in.email.as_deref());
    let own = match by {
        By::Slack { .. } => profile.ok_or(Refusal::NoAddress("your Slack profile"))?,
        By::SignIn(_) => vouched.ok_or(Refusal::NoAddress("your sign-in"))?,
    };
    let known_as = addresses([profile, vouched]);
    let person = linked(roster, account, &known_as, sign_in)?;
    let reviewer = Reviewer {
        person: person.map_or_else(|| own.trim().to_lowercase(), |person| person.name.clone()),
        slack: match (account, sign_in) {
            (Some((team, user)), _) => format!("{team}/{user}"),
            (None, Some(sign_in)) => self::account(person, sign_in),
            (None, None) => String::new(),
        },
        email: Some(own.to_owned()),
        groups: proved.iter().map(|(membership, _)| membership.group.clone()).collect::<BTreeSet<_>>().into_iter().collect(),
        subjects: person.map(|person| person.subjects.iter().cloned().collect()).unwrap_or_default(),
    };
    let addresses = addresses([profile, vouched, person.and_then(|person| person.email.as_deref())]);
    let requester = identity(request);
    let signed_in = sign_in
        .is_some_and(|sign_in| sign_in.step_up.issuer == request.requester.issuer && sign_in.step_up.subject == request.requester.subject);
    if requester.is(&reviewer) || requester.has_any(&addresses) || signed_in {
        return Err(Refusal::Requester);
    }
    let step_up = sign_in.map(|sign_in| &sign_in.step_up);
    let memberships: Vec<Membership> =
        proved.into_iter().filter(|(_, source)| requester.tells_apart(source, step_up)).map(|(membership, _)| membership).collect();
    if memberships.is_empty() {
        return Err(if step_up.is_none() { Refusal::NeedsProof(groups()) } else { Refusal::Indistinct });
    }
    Ok(Known { reviewer, snapshot: Some(Snapshot { memberships, addresses }) })
}

fn membership(by: By<'_>, sign_in: Option<&SignIn>, source: &ReviewerSource) -> Option<Membership> {
    let group = source.group.clone();
    match (&source.by, by) {
        (Source::SlackUsergroup { team, id }, By::Slack { team: own, usergroups, .. }) if team == own => {
            let found = usergroups.iter().find(|found| found.id == *id)?;
            let (members, digest) = (Some(found.members), Some(found.digest.clone()));
            Some(Membership { group, by: source.by.clone(), resolved_at: found.resolved_at, members, digest })
        }
        (Source::IdentityProviderGroup { issuer, group: value }, _) => {
            let sign_in = sign_in.filter(|sign_in| sign_in.step_up.issuer == *issuer && sign_in.groups.contains(value))?;
            Some(Membership { group, by: source.by.clone(), resolved_at: sign_in.step_up.at, members: None, digest: None })
        }
        _ => None,
    }
}

/// The person of the roster who has any of these names. Several at once are nobody.
fn linked<'a>(
    roster: &'a Roster,
    account: Option<(&str, &str)>,
    addresses: &[String],
    sign_in: Option<&SignIn>,
) -> Result<Option<&'a Person>, Refusal> {
    let link = sign_in.map(SignIn::link);
    let is_one = |person: &&Person| {
        let slack = person.slack.as_ref().map(|(team, user)| (team.as_str(), user.as_str()));
        let same = |text: &str| addresses.iter().any(|address| *address == text.trim().to_lowercase());
        (account.is_some() && slack == account)
            || person.email.as_deref().is_some_and(same)
            || same(&person.name)
            || link.as_ref().is_some_and(|link| person.subjects.contains(link))
    };
    let found: Vec<&Person> = roster.people().iter().filter(is_one).collect();
    match found.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        several => Err(Refusal::SeveralPeople(several.iter().map(|person| person.name.as_str()).collect::<Vec<_>>().join(", "))),
    }
}

/// Each once, as they are compared.
fn addresses<'a>(known: impl IntoIterator<Item = Option<&'a str>>) -> Vec<String> {
    let known: BTreeSet<String> = known.into_iter().flatten().map(|address| address.trim().to_lowercase()).collect();
    known.into_iter().filter(|address| !address.is_empty()).collect()
}

impl Known {
    /// Whoever signed in must be the reviewer who pressed, by identity link or by an address both sides vouch for, and not the requester.
    pub(super) fn same_person(&self, sign_in: &SignIn, request: &Request) -> Result<(), Refusal> {
        let reviewer = &self.reviewer;
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
}

fn identity(request: &Request) -> RequesterIdentity<'_> {
    let requester = &request.requester;
    RequesterIdentity { issuer: &requester.issuer, subject: &requester.subject, email: requester.email.as_deref() }
}

/// The account a decision on the page uses up: the person's in Slack, so that nobody decides once here and once there.
fn account(person: Option<&Person>, sign_in: &SignIn) -> String {
    match person.and_then(|person| person.slack.as_ref()) {
        Some((team, user)) => format!("{team}/{user}"),
        None => format!("oidc/{}", sign_in.link()),
    }
}

fn find<'a>(by: By<'_>, roster: &'a Roster) -> Option<&'a Person> {
    match by {
        // By Slack id; by the profile's address only where the roster names no Slack id for that person.
        By::Slack { team, user, email, .. } => {
            roster.by_slack(team, user).or_else(|| only(roster, email?, |person| person.slack.is_none()))
        }
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
