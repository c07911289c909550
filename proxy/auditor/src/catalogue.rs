//! Where the index of a store lies: digests of days, digests of tasks that no day has yet, and what tasks have written since. A table of
//! contents; with keys it is believed where they signed it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign_recording::v1::names::day;
use countersign_recording::v1::recording::Object;
use countersign_recording::{
    DayDigest, Hash, IndexEntry, IndexRow, Journals, ObjectName, SessionId, TaskDigest, TaskId, TaskState, read_index,
};
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::load::Archive;
use crate::store::StoreError;

/// Index objects fetched side by side.
const PARALLEL: usize = 16;

/// A task that began longer than this before the newest day's digest is in it, or over.
const SKEW_US: i64 = 2 * 86_400_000_000;

/// A session that is in no index.
#[derive(Debug, Clone)]
pub struct Unindexed {
    /// Session.
    pub session: SessionId,
    /// What to read it by.
    pub journals: Arc<Journals>,
    /// Whether its task is there.
    pub alive: bool,
}

/// What there is to read.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// Digests of days, in order.
    pub days: Vec<DayDigest>,
    /// Digests of tasks that no day has, in order of their number.
    pub digests: BTreeMap<TaskId, Vec<TaskDigest>>,
    /// Tasks that are over and left nothing behind.
    over: BTreeSet<TaskId>,
}

impl Catalogue {
    /// Finds it. Days that ended before `since_us` are left out, but for the newest.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn read(archive: &Archive, since_us: Option<i64>) -> Result<Self, StoreError> {
        let store = &archive.store;
        let mut days = Vec::new();
        for year in store.folders("index/").await? {
            for month in store.folders(&format!("index/{year}/")).await? {
                let folder = format!("{year}/{month}");
                days.extend(store.folders(&format!("index/{folder}/")).await?.into_iter().map(|day| format!("{folder}/{day}")));
            }
        }
        // A session is sealed on the day it began, or later.
        let first = since_us.map(day);
        let newest = days.last().cloned();
        days.retain(|day| first.as_ref().is_none_or(|first| day >= first) || newest.as_ref() == Some(day));
        let mut catalogue = Self::default();
        for object in present(archive, days.into_iter().map(|day| ObjectName::Day { day }.to_string()).collect()).await? {
            catalogue.days.extend(archive.believed(&object, |said: &DayDigest| ObjectName::Day { day: said.day.clone() }));
        }
        let mut covered = BTreeMap::new();
        for seen in catalogue.days.iter().flat_map(|day| &day.tasks) {
            covered.insert(seen.task, seen.digests.map_or(0, |head| head.objects));
            if seen.state == TaskState::Running {
                catalogue.over.remove(&seen.task);
            } else {
                catalogue.over.insert(seen.task);
            }
        }
        let after_us = catalogue.days.last().map(|day| day.made_us.saturating_sub(SKEW_US));
        let mut tasks: BTreeSet<TaskId> = covered.keys().copied().collect();
        for name in store.folders("journal/").await? {
            if let Ok(task) = name.parse::<TaskId>() {
                tasks.extend(after_us.is_none_or(|after| began_us(task) >= after).then_some(task));
            }
        }
        for task in tasks.into_iter().filter(|task| !catalogue.over.contains(task)).collect::<Vec<_>>() {
            let first = covered.get(&task).copied().unwrap_or(0);
            let after = first.checked_sub(1).map(|number| ObjectName::Digest { task, number }.to_string()).unwrap_or_default();
            let keys = store.keys_after(&format!("digests/{task}/"), &after).await?;
            let objects = store.get_all(keys.into_iter().filter(|key| key.ends_with(".json")).collect()).await?;
            let place = |said: &TaskDigest| ObjectName::Digest { task: said.task, number: said.number };
            let digests: Vec<TaskDigest> = objects.iter().filter_map(|object| archive.believed(object, place)).collect();
            if digests.last().is_some_and(|digest| digest.last) {
                catalogue.over.insert(task);
            }
            let dead = digests.iter().flat_map(|digest| &digest.tasks).filter(|seen| seen.state == TaskState::Dead);
            catalogue.over.extend(dead.map(|seen| seen.task));
            catalogue.digests.insert(task, digests);
        }
        Ok(catalogue)
    }

    /// Up to when every task that is not over has a digest; none when one has none at all.
    #[must_use]
    pub fn reaches_us(&self) -> Option<i64> {
        let mut reaches = self.days.last().map(|day| day.made_us);
        for digests in self.digests.iter().filter(|(task, _)| !self.over.contains(task)).map(|(_, digests)| digests) {
            let until = digests.last()?.until_us;
            reaches = Some(reaches.map_or(until, |reaches| reaches.min(until)));
        }
        reaches
    }

    /// Index objects with sessions that began in the time.
    pub fn entries(&self, since_us: Option<i64>, until_us: Option<i64>) -> impl Iterator<Item = &IndexEntry> {
        let days = self.days.iter().flat_map(|day| &day.index);
        let tasks = self.digests.values().flatten().filter_map(|digest| digest.sealed.as_ref());
        days.chain(tasks)
            .filter(move |entry| since_us.is_none_or(|since| entry.last_us >= since) && until_us.is_none_or(|until| entry.first_us < until))
    }

    /// Reads the index.
    ///
    /// # Errors
    /// When the store cannot be read, or an index object is not one.
    pub async fn rows(
        &self,
        archive: &Archive,
        since_us: Option<i64>,
        until_us: Option<i64>,
        wanted: impl Fn(i64) -> bool,
        mut row: impl FnMut(IndexRow),
    ) -> anyhow::Result<()> {
        let entries: Vec<(String, Hash)> = self.entries(since_us, until_us).map(|entry| (entry.key.clone(), entry.sha256)).collect();
        let mut objects = futures_util::stream::iter(entries)
            .map(|(key, sha256)| async move { archive.store.get(&key).await.map(|object| (key, sha256, object)) })
            .buffered(PARALLEL);
        while let Some((key, sha256, object)) = objects.try_next().await? {
            if archive.has_keys() && Hash::of(&object) != sha256 {
                anyhow::bail!("{key}: not the index that its signed digest names; verify --all says what was changed");
            }
            read_index(&object, &archive.limits, &wanted, &mut row).map_err(|error| anyhow::anyhow!("{key}: {error}"))?;
        }
        Ok(())
    }

    /// Sessions that no digest has as sealed, as far as they may have begun before `until_us`, each with the journals to read it by.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn unindexed(&self, archive: &Archive, until_us: Option<i64>) -> Result<Vec<Unindexed>, StoreError> {
        let mut found = Vec::new();
        for (&task, digests) in self.digests.iter().filter(|(task, _)| !self.over.contains(task)) {
            let newest = digests.last();
            let open: BTreeMap<SessionId, u32> = newest
                .iter()
                .flat_map(|digest| &digest.open)
                .filter(|open| until_us.is_none_or(|until| open.started_us < until))
                .map(|open| (open.session, open.journal))
                .collect();
            // What began after the last digest cannot have begun before an earlier time.
            let later = newest.is_none_or(|digest| until_us.is_none_or(|until| until > digest.until_us));
            if open.is_empty() && !later {
                continue;
            }
            let first = newest.map_or(0, |digest| open.values().copied().chain([digest.journal.objects]).min().unwrap_or(0));
            let after = first.checked_sub(1).map(|number| ObjectName::Journal { task, number }.to_string()).unwrap_or_default();
            let mut keys = archive.store.keys_after(&format!("journal/{task}/"), &after).await?;
            let statement = ObjectName::Task { task }.to_string();
            keys.retain(|key| *key != statement);
            keys.insert(0, statement);
            let objects = present(archive, keys).await?;
            let journals = Arc::new(Journals::read_from(&objects, &archive.keys.recording, &archive.limits, first, |_| true));
            let sessions: BTreeSet<SessionId> = journals.sessions().into_iter().chain(open.into_keys()).collect();
            let written_us = journals.tasks().get(&task).and_then(|known| known.last_us);
            let last_us = written_us.into_iter().chain(newest.map(|digest| digest.until_us)).max();
            let alive = last_us.is_some_and(|last| archive.now_us.saturating_sub(last) <= archive.silence_us)
                && !journals.tasks().get(&task).is_some_and(|known| known.ended);
            found.extend(sessions.into_iter().map(|session| Unindexed { session, journals: Arc::clone(&journals), alive }));
        }
        Ok(found)
    }
}

/// Objects, those that are there.
async fn present(archive: &Archive, keys: Vec<String>) -> Result<Vec<Object>, StoreError> {
    let objects = futures_util::stream::iter(keys)
        .map(|key| async move { archive.store.find(&key).await.map(|bytes| bytes.map(|bytes| Object { key, bytes })) })
        .buffered(PARALLEL);
    let objects: Vec<Option<Object>> = objects.try_collect().await?;
    Ok(objects.into_iter().flatten().collect())
}

fn began_us(task: TaskId) -> i64 {
    let seconds = task.0.get_timestamp().map_or(u64::MAX, |time| time.to_unix().0);
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}
