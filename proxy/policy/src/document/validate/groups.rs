//! Groups of reviewers whose members Slack or an identity provider knows.

use std::collections::{BTreeSet, HashSet};

use toml::Spanned;

use super::{Check, PolicyError, source};
use crate::roster::{GroupBy, GroupSource};

/// Most groups of that kind in one document.
const MOST: usize = 200;
/// Longest name of a group or an issuer.
const LONGEST: usize = 500;

impl Check<'_> {
    pub(super) fn sources(&self, groups: &[source::ReviewerGroup]) -> Result<Vec<GroupSource>, PolicyError> {
        let (mut names, mut sources) = (HashSet::new(), Vec::new());
        if let Some(excess) = groups.get(MOST) {
            return Err(self.fault(&excess.name, "more than 200 groups of reviewers", None));
        }
        for group in groups {
            let name = self.word(&group.name, "a group of reviewers needs a name")?;
            if !names.insert(name.clone()) {
                return Err(self.fault(
                    &group.name,
                    format!("two groups of reviewers are named `{name}`"),
                    Some("one entry per group; it may have a Slack user group and a group of an identity provider"),
                ));
            }
            let machine_issuers = group.machine_issuers.iter().map(|issuer| self.issuer(issuer)).collect::<Result<BTreeSet<_>, _>>()?;
            let by_slack = match &group.slack_usergroup {
                None => None,
                Some(written) => {
                    let parts = written.get_ref().split_once('/');
                    let (team, id) = parts.filter(|(team, id)| is_id(team, "TE") && is_id(id, "S")).ok_or_else(|| {
                        self.fault(written, "not a Slack user group", Some("write `TEAM/USERGROUP`, for example `T0BANK/S0DBA`"))
                    })?;
                    Some(GroupBy::SlackUsergroup { team: team.to_owned(), id: id.to_owned() })
                }
            };
            let by_provider = match &group.identity_provider_group {
                None => None,
                Some(written) => Some(GroupBy::IdentityProviderGroup {
                    issuer: self.issuer(&written.issuer)?,
                    group: self.word(&written.group, "a group of an identity provider needs its name")?,
                }),
            };
            if by_slack.is_none() && by_provider.is_none() {
                return Err(self.fault(
                    &group.name,
                    format!("nothing says who is in `{name}`"),
                    Some("add `slack_usergroup` or `identity_provider_group`, or remove the entry: groups of listed people need none"),
                ));
            }
            sources.extend([by_slack, by_provider].into_iter().flatten().map(|by| GroupSource {
                group: name.clone(),
                by,
                machine_issuers: machine_issuers.clone(),
            }));
        }
        Ok(sources)
    }

    /// A name as tokens have it: to the letter, with nothing unseen in it.
    fn word(&self, written: &Spanned<String>, fault: &str) -> Result<String, PolicyError> {
        let word = written.get_ref();
        if word.trim().is_empty() || word.trim() != word || word.len() > LONGEST || word.chars().any(char::is_control) {
            return Err(self.fault(written, fault, Some("1 to 500 bytes, no white space at either end, no control characters")));
        }
        Ok(word.clone())
    }

    fn issuer(&self, written: &Spanned<String>) -> Result<String, PolicyError> {
        let issuer = self.word(written, "an issuer is a URL")?;
        if !issuer.starts_with("https://") && !issuer.starts_with("http://") {
            return Err(self.fault(
                written,
                "an issuer is a URL",
                Some("write it as the tokens' `iss` has it: `https://login.bank.example`"),
            ));
        }
        Ok(issuer)
    }
}

fn is_id(id: &str, kinds: &str) -> bool {
    (2..=32).contains(&id.len())
        && id.starts_with(|first| kinds.contains(first))
        && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}
