//! One digest over all tasks for each day: whichever task comes first after midnight (UTC) signs it, and sorts the day's index on the way.

use std::collections::{BTreeMap, BTreeSet};

use countersign_recording::v1::manifest::Payload as _;
use countersign_recording::v1::names::day;
use countersign_recording::{
    DayDigest, Hash, Head, IndexEntry, IndexRow, ObjectName, SeenDay, SeenTask, TaskDigest, TaskId, TaskState, read_index,
};

use super::{Caretaker, FEW, SKEW_US, earliest};
use crate::recorder::store::PutError;

/// After midnight so long is waited for digests of the day before that are still on their way.
const GRACE_US: i64 = 900_000_000;

/// Sessions in one index of a day: what is held in memory while it is made.
const ROWS: usize = 50_000;

/// Digests of one task that no day has yet, the oldest first.
struct Uncovered {
    /// What days have.
    covered: Option<Head>,
    rest: std::collections::VecDeque<(TaskDigest, Hash)>,
    state: TaskState,
    journal: Option<Head>,
}

impl Caretaker {
    /// Finds the newest day's digest.
    pub(super) async fn find_day(&mut self) -> Result<Option<DayDigest>, PutError> {
        let mut days = Vec::new();
        'found: for year in self.parts.store.folders("index/", None).await?.into_iter().rev() {
            for month in self.parts.store.folders(&format!("index/{year}/"), None).await?.into_iter().rev() {
                let folder = format!("{year}/{month}");
                days.extend(
                    self.parts.store.folders(&format!("index/{folder}/"), None).await?.into_iter().map(|day| format!("{folder}/{day}")),
                );
                if !days.is_empty() {
                    break 'found;
                }
            }
        }
        for day in days.into_iter().rev() {
            let key = ObjectName::Day { day: day.clone() }.to_string();
            let Some(object) = self.parts.store.get(&key).await? else { continue };
            match DayDigest::verified(&object, &self.keys) {
                Ok((digest, _)) if digest.day == day => {
                    self.day = Some(SeenDay { day, sha256: Hash::of(&object) });
                    self.day_us = Some(digest.made_us);
                    return Ok(Some(digest));
                }
                _ => tracing::error!(object.key = key, "the digest of a day cannot be trusted; run `countersign-audit verify --all`"),
            }
        }
        Ok(None)
    }

    /// Signs for every day that is over and has no digest yet.
    pub(super) async fn days(&mut self, now_us: i64) -> Result<(), PutError> {
        let today = day(now_us.saturating_sub(GRACE_US));
        if self.looked_at == today {
            return Ok(());
        }
        let mut newest = self.find_day().await?;
        let mut tasks = self.uncovered(newest.as_ref()).await?;
        let days: BTreeSet<String> = tasks
            .values()
            .flat_map(|task| task.rest.iter().map(|(digest, _)| day(digest.until_us)))
            .map(|at| newest.as_ref().map_or(at.clone(), |newest| at.max(next(&newest.day))))
            .filter(|at| *at < today)
            .collect();
        for at in days {
            if !self.day(&at, newest.as_ref(), &mut tasks, now_us).await? {
                // Another task was faster; the next round goes on from there.
                self.find_day().await?;
                return Ok(());
            }
            newest = self.find_day().await?;
        }
        self.looked_at = today;
        Ok(())
    }

    /// All digests that no day has.
    async fn uncovered(&self, newest: Option<&DayDigest>) -> Result<BTreeMap<TaskId, Uncovered>, PutError> {
        let mut tasks: BTreeMap<TaskId, Option<Head>> = BTreeMap::new();
        let after = newest.map(|newest| earliest(newest.made_us.saturating_sub(2 * SKEW_US)));
        for name in self.parts.store.folders("journal/", after.as_deref()).await? {
            if let Ok(task) = name.parse() {
                tasks.insert(task, None);
            }
        }
        for seen in newest.iter().flat_map(|newest| &newest.tasks) {
            if seen.state == TaskState::Running {
                tasks.insert(seen.task, seen.digests);
            } else {
                tasks.remove(&seen.task);
            }
        }
        let mut uncovered = BTreeMap::new();
        for (task, covered) in tasks {
            let (rest, _) = self.digests_of(task, covered.map_or(0, |head| head.objects)).await?;
            let rest = rest.into();
            let peer = self.peers.get(&task);
            let (state, journal) = peer.map_or((TaskState::Running, None), |peer| (peer.state(), peer.journal));
            uncovered.insert(task, Uncovered { covered, rest, state, journal });
        }
        Ok(uncovered)
    }

    /// Signs for one day; false when another task has.
    async fn day(
        &mut self,
        at: &str,
        newest: Option<&DayDigest>,
        tasks: &mut BTreeMap<TaskId, Uncovered>,
        now_us: i64,
    ) -> Result<bool, PutError> {
        let mut sealed: Vec<(i64, IndexEntry)> = Vec::new();
        let mut seen = Vec::new();
        for (task, uncovered) in &mut *tasks {
            let mut last = false;
            while let Some((digest, sha256)) = uncovered.rest.pop_front_if(|(digest, _)| *day(digest.until_us) <= *at) {
                uncovered.covered = Some(Head { objects: digest.number.saturating_add(1), sha256 });
                last |= digest.last;
                sealed.extend(digest.sealed.map(|entry| (digest.until_us, entry)));
            }
            let state = match uncovered.state {
                TaskState::Dead if uncovered.rest.is_empty() => TaskState::Dead,
                _ if last => TaskState::Ended,
                _ => TaskState::Running,
            };
            let journal = if state == TaskState::Dead { uncovered.journal } else { None };
            seen.push(SeenTask { task: *task, state, digests: uncovered.covered, journal });
        }
        // Those that are over are told once.
        let over: Vec<TaskId> = seen.iter().filter(|seen| seen.state != TaskState::Running).map(|seen| seen.task).collect();
        tasks.retain(|task, _| !over.contains(task));
        sealed.sort_by_key(|(until_us, _)| *until_us);
        let index = self.compact(at, sealed.into_iter().map(|(_, entry)| entry)).await?;
        let digest = DayDigest {
            kind: DayDigest::KIND.to_owned(),
            version: 1,
            environment: self.environment.clone(),
            day: at.to_owned(),
            previous: newest.and(self.day.clone()),
            made_by: self.task,
            made_us: now_us,
            tasks: seen,
            index,
        };
        let unstored = || PutError::Unavailable(format!("the digest of {at} could not be signed or stored"));
        let object = self.signed(&digest, FEW).await.ok_or_else(unstored)?;
        let stored = self.persist(&ObjectName::Day { day: at.to_owned() }.to_string(), object, FEW).await.ok_or_else(unstored)?;
        if stored {
            let sessions: u64 = digest.index.iter().map(|entry| entry.sessions).sum();
            tracing::info!(day = at, sessions, tasks = digest.tasks.len(), "the digest of a day is signed");
        }
        Ok(stored)
    }

    /// Joins the indexes of many digests into few.
    async fn compact(&self, at: &str, entries: impl Iterator<Item = IndexEntry>) -> Result<Vec<IndexEntry>, PutError> {
        let mut index = Vec::new();
        let mut rows: Vec<IndexRow> = Vec::new();
        for entry in entries {
            let wrong = |error: String| PutError::Unavailable(format!("{}: {error}", entry.key));
            let object = self.parts.store.get(&entry.key).await?.ok_or_else(|| wrong("missing".to_owned()))?;
            if Hash::of(&object) != entry.sha256 {
                return Err(wrong("it is not what the digest says".to_owned()));
            }
            read_index(&object, &self.limits, |_| true, |row| rows.push(row)).map_err(|error| wrong(error.to_string()))?;
            if rows.len() >= ROWS {
                self.shard(at, &mut index, std::mem::take(&mut rows)).await?;
            }
        }
        self.shard(at, &mut index, rows).await?;
        Ok(index)
    }

    async fn shard(&self, at: &str, index: &mut Vec<IndexEntry>, rows: Vec<IndexRow>) -> Result<(), PutError> {
        let number = u32::try_from(index.len()).unwrap_or(u32::MAX);
        let name = ObjectName::DayIndex { day: at.to_owned(), task: self.task, number };
        index.extend(self.index(&name, rows, FEW).await.map_err(PutError::Unavailable)?);
        Ok(())
    }
}

/// The day after one.
fn next(at: &str) -> String {
    let format = time::macros::format_description!("[year]/[month]/[day]");
    let next = time::Date::parse(at, &format).ok().and_then(time::Date::next_day);
    next.map_or_else(|| at.to_owned(), |next| day(next.midnight().assume_utc().unix_timestamp().saturating_mul(1_000_000)))
}
