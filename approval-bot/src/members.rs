//! Who is in a Slack user group, asked when somebody decides, and remembered for a few seconds. Only answers are remembered, never failures.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use countersign_approval::v2::members_digest;

use crate::clock::Clock;
use crate::decide::Usergroup;
use crate::slack::{Slack, SlackError};

/// How long an answer of Slack's counts, in seconds: that long after somebody was taken out of a group, they may still decide.
pub const MEMBERS_LIFE: u64 = 10;
/// Most user groups that are remembered.
const MOST: usize = 1_000;

/// A list of members, as Slack gave it.
#[derive(Debug)]
struct Members {
    resolved_at: u64,
    ids: BTreeSet<String>,
}

/// What Slack said of user groups lately.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<HashMap<String, Arc<Members>>>>);

impl Memory {
    /// The user group, if `user` is in it now.
    ///
    /// # Errors
    /// When Slack does not say. Nobody is a member then.
    pub async fn find(&self, slack: &Slack, clock: &Clock, id: &str, user: &str) -> Result<Option<Usergroup>, SlackError> {
        let members = self.members(slack, clock, id).await?;
        Ok(members.ids.contains(user).then(|| Usergroup {
            id: id.to_owned(),
            resolved_at: members.resolved_at,
            members: u32::try_from(members.ids.len()).unwrap_or(u32::MAX),
            digest: members_digest(members.ids.iter().map(String::as_str)),
        }))
    }

    async fn members(&self, slack: &Slack, clock: &Clock, id: &str) -> Result<Arc<Members>, SlackError> {
        let now = clock.now();
        // A clock that was put back makes nothing last longer.
        let is_good = |members: &Members| now.checked_sub(members.resolved_at).is_some_and(|age| age < MEMBERS_LIFE);
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(known) = known.filter(|known| is_good(known)) {
            return Ok(known);
        }
        // As of when it was asked, not of when the answer came.
        let asked = Arc::new(Members { resolved_at: now, ids: slack.usergroup_members(id).await?.into_iter().collect() });
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.retain(|_, members| is_good(members));
        if memory.len() < MOST {
            memory.insert(id.to_owned(), asked.clone());
        }
        Ok(asked)
    }
}
