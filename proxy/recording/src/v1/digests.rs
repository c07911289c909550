//! All digests at hand: read, checked as chains, and held against journals and sessions, so that what was removed whole is still named.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::digest::{DayDigest, Head, IndexEntry, SeenDay, SeenTask, TaskDigest, TaskState};
use super::ids::{Hash, SessionId, TaskId};
use super::index::{IndexRow, read_index};
use super::journals::Journals;
use super::keys::Keys;
use super::manifest::Payload as _;
use super::names::{ObjectName, day};
use super::object::Limits;
use super::recording::Object;
use super::verify::{Finding, Problem};

/// Digests and what they name.
#[derive(Debug, Default)]
pub struct Digests {
    tasks: BTreeMap<TaskId, BTreeMap<u32, (Hash, Option<TaskDigest>)>>,
    days: BTreeMap<String, (Hash, Option<DayDigest>)>,
    /// Sealed sessions by key of their manifest: its hash, and what names it.
    sealed: BTreeMap<String, (Hash, String)>,
    findings: Vec<Finding>,
}

/// What somebody noted outside of the store: how far it went then. What it names must be there ever after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// When it was noted, microseconds since the epoch.
    pub noted_us: i64,
    /// Every task.
    pub tasks: Vec<SeenTask>,
    /// The newest day's digest.
    pub day: Option<SeenDay>,
}

impl Digests {
    /// Reads digests and index objects, and holds them against each other and against the journals; other objects are passed over.
    #[must_use]
    pub fn read(objects: &[Object], journals: &Journals, keys: &Keys, limits: &Limits) -> Self {
        let mut digests = Self::default();
        let mut indexes: BTreeMap<&str, &Object> = BTreeMap::new();
        for object in objects {
            let sha256 = Hash::of(&object.bytes);
            match ObjectName::parse(&object.key) {
                Some(ObjectName::Digest { task, number }) => {
                    let digest = digests.accept(&object.key, TaskDigest::verified(&object.bytes, keys), |digest| {
                        digest.task == task && digest.number == number
                    });
                    digests.tasks.entry(task).or_default().insert(number, (sha256, digest));
                }
                Some(ObjectName::Day { day }) => {
                    let digest = digests.accept(&object.key, DayDigest::verified(&object.bytes, keys), |digest| digest.day == day);
                    digests.days.insert(day, (sha256, digest));
                }
                Some(ObjectName::DigestIndex { .. } | ObjectName::DayIndex { .. }) => {
                    indexes.insert(&object.key, object);
                }
                _ => {}
            }
        }
        let (mut entries, mut seen) = (Vec::new(), Vec::new());
        digests.chains(journals, &mut entries, &mut seen);
        digests.days(&mut entries, &mut seen);
        for (by, tasks, day) in seen {
            digests.seen(&by, &tasks, day.as_ref(), journals);
        }
        digests.indexes(entries, &indexes, limits);
        digests.findings.sort_by(|a, b| a.object.cmp(&b.object));
        digests.findings.dedup();
        digests
    }

    /// What is wrong with them, and what they name and is not there.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Digests of a task, by number, those that can be trusted.
    pub fn of_task(&self, task: TaskId) -> impl Iterator<Item = &TaskDigest> {
        self.tasks.get(&task).into_iter().flat_map(|chain| chain.values().filter_map(|(_, digest)| digest.as_ref()))
    }

    /// All digests of tasks that can be trusted.
    pub fn of_tasks(&self) -> impl Iterator<Item = &TaskDigest> {
        self.tasks.values().flat_map(|chain| chain.values().filter_map(|(_, digest)| digest.as_ref()))
    }

    /// Digests of days that can be trusted.
    pub fn of_days(&self) -> impl Iterator<Item = &DayDigest> {
        self.days.values().filter_map(|(_, digest)| digest.as_ref())
    }

    /// Sealed sessions that digests name and that are not there, or are others. `manifest` gives the SHA-256 of the manifest of that key.
    #[must_use]
    pub fn sessions(&self, manifest: impl Fn(&str) -> Option<Hash>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (key, (sha256, by)) in &self.sealed {
            let problem = match manifest(key) {
                Some(found) if found == *sha256 => continue,
                Some(_) => Problem::NamedOtherwise { by: by.clone(), sha256: *sha256 },
                None => Problem::NamedAndMissing { by: by.clone() },
            };
            findings.push(Finding { object: Some(key.clone()), event: None, problem });
        }
        findings
    }

    /// Sessions that digests name.
    #[must_use]
    pub fn sealed(&self) -> BTreeSet<SessionId> {
        self.sealed.keys().filter_map(|key| ObjectName::parse(key)?.session()).collect()
    }

    /// How far everything goes now, to be kept outside of the store.
    #[must_use]
    pub fn anchor(&self, journals: &Journals, now_us: i64) -> Anchor {
        let tasks = journals.tasks().iter().map(|(task, known)| {
            let head = |objects: &BTreeMap<u32, Hash>| {
                objects.last_key_value().map(|(number, sha256)| Head { objects: number.saturating_add(1), sha256: *sha256 })
            };
            let digests = self.tasks.get(task).map(|chain| chain.iter().map(|(number, (sha256, _))| (*number, *sha256)).collect());
            SeenTask {
                task: *task,
                state: if known.ended { TaskState::Ended } else { TaskState::Running },
                digests: head(&digests.unwrap_or_default()),
                journal: head(&known.objects),
            }
        });
        let day = self.days.last_key_value().map(|(day, (sha256, _))| SeenDay { day: day.clone(), sha256: *sha256 });
        Anchor { noted_us: now_us, tasks: tasks.collect(), day }
    }

    /// What an anchor names and is not there. `by` is what to call it.
    pub fn hold_against(&mut self, anchor: &Anchor, by: &str, journals: &Journals) {
        self.seen(by, &anchor.tasks, anchor.day.as_ref(), journals);
        for task in &anchor.tasks {
            if task.state == TaskState::Ended && !journals.tasks().get(&task.task).is_some_and(|known| known.ended) {
                self.unended(task.task, by, journals);
            }
        }
    }

    /// A digest that can be trusted and is in its place.
    fn accept<T, E: Into<super::manifest::SignedError>>(
        &mut self,
        key: &str,
        read: Result<(T, super::ids::KeyId), E>,
        placed: impl Fn(&T) -> bool,
    ) -> Option<T> {
        match read {
            Ok((digest, _)) if placed(&digest) => return Some(digest),
            Ok(_) => self.found(key, Problem::Misplaced("it says it is another".to_owned())),
            Err(error) => self.found(key, Problem::Manifest(error.into())),
        }
        None
    }

    fn chains(&mut self, journals: &Journals, entries: &mut Vec<(String, IndexEntry)>, seen: &mut Vec<Seen>) {
        let mut findings = Vec::new();
        let mut found = |key: String, problem| findings.push(Finding { object: Some(key), event: None, problem });
        let mut unended = Vec::new();
        for (&task, chain) in &self.tasks {
            let known = journals.tasks().get(&task);
            let mut previous = known.and_then(|known| known.statement_sha256);
            let mut expected = 0;
            let mut ended = false;
            for (&number, (sha256, digest)) in chain {
                let key = ObjectName::Digest { task, number }.to_string();
                while expected < number {
                    found(ObjectName::Digest { task, number: expected }.to_string(), Problem::Missing);
                    expected = expected.saturating_add(1);
                    previous = None;
                }
                expected = number.saturating_add(1);
                if ended {
                    found(key.clone(), Problem::AfterEnd);
                }
                if let Some(digest) = digest {
                    if previous.is_some_and(|previous| previous != digest.previous) {
                        let before = number.checked_sub(1).map_or(ObjectName::Task { task }, |number| ObjectName::Digest { task, number });
                        found(before.to_string(), Problem::NamedOtherwise { by: key.clone(), sha256: digest.previous });
                    }
                    ended = digest.last;
                    // The chain itself says what stood before: also when it is gone.
                    if number == 0 && known.is_none_or(|known| known.statement_sha256.is_none()) {
                        found(ObjectName::Task { task }.to_string(), Problem::NamedAndMissing { by: key.clone() });
                    }
                    entries.extend(digest.sealed.clone().map(|entry| (key.clone(), entry)));
                    seen.push((key.clone(), digest.tasks.clone(), digest.day.clone()));
                    let own = SeenTask { task, state: TaskState::Running, digests: None, journal: Some(digest.journal) };
                    seen.push((key.clone(), vec![own], None));
                    if digest.last && !known.is_some_and(|known| known.ended) {
                        unended.push((task, key));
                    }
                }
                previous = Some(*sha256);
            }
        }
        for (task, known) in journals.tasks() {
            for (&number, sha256) in &known.digests {
                let digests = Some(Head { objects: number.saturating_add(1), sha256: *sha256 });
                let own = SeenTask { task: *task, state: TaskState::Running, digests, journal: None };
                seen.push((format!("the journal of task {task}"), vec![own], None));
            }
        }
        self.findings.append(&mut findings);
        for (task, by) in unended {
            self.unended(task, &by, journals);
        }
    }

    fn days(&mut self, entries: &mut Vec<(String, IndexEntry)>, seen: &mut Vec<Seen>) {
        for (day, (_, digest)) in &self.days {
            let Some(digest) = digest else { continue };
            let key = ObjectName::Day { day: day.clone() }.to_string();
            entries.extend(digest.index.iter().map(|entry| (key.clone(), entry.clone())));
            seen.push((key, digest.tasks.clone(), digest.previous.clone()));
        }
    }

    /// Holds what `by` names against what is there.
    fn seen(&mut self, by: &str, tasks: &[SeenTask], day: Option<&SeenDay>, journals: &Journals) {
        for seen in tasks {
            let task = seen.task;
            let known = journals.tasks().get(&task);
            if known.is_none_or(|known| known.statement_sha256.is_none()) {
                self.found(&ObjectName::Task { task }.to_string(), Problem::NamedAndMissing { by: by.to_owned() });
            }
            if let Some(head) = seen.digests {
                let found = |number| self.tasks.get(&task).and_then(|chain| chain.get(&number)).map(|(sha256, _)| *sha256);
                let number = head.objects.saturating_sub(1);
                let (name, found) = (ObjectName::Digest { task, number }, found(number));
                self.named(&name, found, head.sha256, by);
            }
            if let Some(head) = seen.journal {
                let (name, found) = match head.objects.checked_sub(1) {
                    Some(number) => (ObjectName::Journal { task, number }, known.and_then(|known| known.objects.get(&number).copied())),
                    None => (ObjectName::Task { task }, known.and_then(|known| known.statement_sha256)),
                };
                self.named(&name, found, head.sha256, by);
            }
        }
        if let Some(SeenDay { day, sha256 }) = day {
            let found = self.days.get(day).map(|(sha256, _)| *sha256);
            self.named(&ObjectName::Day { day: day.clone() }, found, *sha256, by);
        }
    }

    fn named(&mut self, name: &ObjectName, found: Option<Hash>, sha256: Hash, by: &str) {
        match found {
            Some(found) if found == sha256 => {}
            Some(_) => self.found(&name.to_string(), Problem::NamedOtherwise { by: by.to_owned(), sha256 }),
            None => self.found(&name.to_string(), Problem::NamedAndMissing { by: by.to_owned() }),
        }
    }

    fn unended(&mut self, task: TaskId, by: &str, journals: &Journals) {
        let next = journals.tasks().get(&task).and_then(|known| known.last).map_or(0, |last| last.saturating_add(1));
        let name = ObjectName::Journal { task, number: next }.to_string();
        self.found(&name, Problem::NamedAndMissing { by: format!("the task ended in order ({by}), and the end of its journal") });
    }

    fn indexes(&mut self, mut entries: Vec<(String, IndexEntry)>, objects: &BTreeMap<&str, &Object>, limits: &Limits) {
        // One index can be named by its digest and by a day.
        entries.sort_by(|(_, a), (_, b)| a.key.cmp(&b.key));
        entries.dedup_by(|(_, a), (_, b)| a == b);
        for object in objects.values().filter(|object| !entries.iter().any(|(_, entry)| entry.key == object.key)) {
            // A task that died may have left one that nothing names; but nothing else may be there under its name.
            if let Err(error) = read_index(&object.bytes, limits, |_| false, |_| ()) {
                self.found(&object.key, Problem::Unreadable(error));
            }
        }
        for (by, entry) in entries {
            let Some(object) = objects.get(entry.key.as_str()) else {
                self.found(&entry.key, Problem::NamedAndMissing { by });
                continue;
            };
            if Hash::of(&object.bytes) != entry.sha256 {
                self.found(&entry.key, Problem::NamedOtherwise { by, sha256: entry.sha256 });
                continue;
            }
            let mut count = 0_u64;
            let mut outside = false;
            let sealed = &mut self.sealed;
            let read = read_index(
                &object.bytes,
                limits,
                |_| true,
                |row: IndexRow| {
                    count = count.saturating_add(1);
                    outside |= !(entry.first_us..=entry.last_us).contains(&row.started_us);
                    let key = ObjectName::Manifest { day: day(row.started_us), session: row.session }.to_string();
                    sealed.entry(key).or_insert_with(|| (row.manifest, entry.key.clone()));
                },
            );
            match read {
                Err(error) => self.found(&entry.key, Problem::Unreadable(error)),
                Ok(()) if outside || count != entry.sessions => self.found(&entry.key, Problem::IndexDisagrees { by }),
                Ok(()) => {}
            }
        }
    }

    fn found(&mut self, object: &str, problem: Problem) {
        let finding = Finding { object: Some(object.to_owned()), event: None, problem };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}

/// What names, tasks, day.
type Seen = (String, Vec<SeenTask>, Option<SeenDay>);
