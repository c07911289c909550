//! The roster of reviewers: who they are, how Slack and the identity provider know them, which groups they are in, and where members of
//! groups are found whom the policy does not list.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One reviewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Stable name of the person; quorums count distinct names.
    pub name: String,
    /// E-mail address.
    pub email: Option<String>,
    /// `(team id, user id)` in Slack.
    pub slack: Option<(String, String)>,
    /// Identities of the same person at identity providers, as `issuer|subject`.
    pub subjects: BTreeSet<String>,
    /// Reviewer groups.
    pub groups: BTreeSet<String>,
}

impl Person {
    /// Whether this reviewer is the principal with that issuer, subject and e-mail address. A person is recognised by either.
    #[must_use]
    pub fn is_principal(&self, issuer: &str, subject: &str, email: Option<&str>) -> bool {
        let linked = self
            .subjects
            .iter()
            .any(|link| link.strip_prefix(issuer).and_then(|rest| rest.strip_prefix('|')).is_some_and(|linked| linked == subject));
        let same_email = match (&self.email, email) {
            (Some(own), Some(theirs)) => own.eq_ignore_ascii_case(theirs),
            _ => false,
        };
        linked || same_email
    }

    /// Whether the person is in any of these groups.
    #[must_use]
    pub fn in_any(&self, groups: &[String]) -> bool {
        groups.iter().any(|group| self.groups.contains(group))
    }
}

/// Where members of a reviewer group are found beside those the policy lists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupSource {
    /// The reviewer group.
    pub group: String,
    /// Where.
    pub by: GroupBy,
    /// Issuers whose principals are never people.
    pub machine_issuers: BTreeSet<String>,
}

/// Who knows the members of a reviewer group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupBy {
    /// Slack.
    SlackUsergroup {
        /// Workspace, `T…`.
        team: String,
        /// User group, `S…`.
        id: String,
    },
    /// An identity provider, in the tokens of whoever signs in.
    IdentityProviderGroup {
        /// `iss`
        issuer: String,
        /// The value in the claim.
        group: String,
    },
}

impl fmt::Display for GroupSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            GroupBy::SlackUsergroup { team, id } => write!(f, "{} by Slack user group {team}/{id}", self.group),
            GroupBy::IdentityProviderGroup { issuer, group } => write!(f, "{} by group {group} of {issuer}", self.group),
        }
    }
}

/// All reviewers of a policy version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    people: Vec<Person>,
    sources: Vec<GroupSource>,
}

impl Roster {
    /// A roster of these people, and of those who are found by these sources.
    #[must_use]
    pub const fn new(people: Vec<Person>, sources: Vec<GroupSource>) -> Self {
        Self { people, sources }
    }

    /// Where members of groups are found beside those listed, in the document's order.
    #[must_use]
    pub fn sources(&self) -> &[GroupSource] {
        &self.sources
    }

    /// The sources of these groups, sorted.
    #[must_use]
    pub fn sources_of(&self, groups: &[String]) -> Vec<GroupSource> {
        let mut found: Vec<GroupSource> = self.sources.iter().filter(|source| groups.contains(&source.group)).cloned().collect();
        found.sort();
        found
    }

    /// Everyone, in the document's order.
    #[must_use]
    pub fn people(&self) -> &[Person] {
        &self.people
    }

    /// The person with that Slack team and user.
    #[must_use]
    pub fn by_slack(&self, team: &str, user: &str) -> Option<&Person> {
        self.people.iter().find(|person| person.slack.as_ref().is_some_and(|(t, u)| t == team && u == user))
    }

    /// The person of that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Person> {
        self.people.iter().find(|person| person.name == name)
    }

    /// Members of any of these groups, each once.
    pub fn members<'a>(&'a self, groups: &'a [String]) -> impl Iterator<Item = &'a Person> {
        self.people.iter().filter(|person| person.in_any(groups))
    }
}
