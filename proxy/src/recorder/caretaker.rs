//! Looks after what no single session does: signs the digests of this task, follows those of all others, seals what dead tasks left open
//! (`orphans`) and signs for whole days (`days`). Every task does all of it; conditional puts decide who was first.

mod days;
mod orphans;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use countersign_recording::v1::manifest::Payload;
use countersign_recording::{
    Hash, Head, IndexEntry, IndexRow, Keys, Limits, ObjectName, SeenDay, SeenTask, TaskDigest, TaskId, TaskState, write_index,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::config::Tuning;
use super::engine::{Message, Snapshot};
use super::now_us;
use super::put::{Pause, PutParts};
use super::store::PutError;

/// How far the clocks of tasks may be apart when names are put in order of time.
const SKEW_US: i64 = 86_400_000_000;

/// Attempts at what the next round can do as well.
const FEW: usize = 3;

/// Ends the work after a last digest, and says so.
pub(super) type Last = oneshot::Sender<()>;

pub(super) struct Caretaker {
    parts: PutParts,
    messages: mpsc::WeakUnboundedSender<Message>,
    task: TaskId,
    environment: String,
    build: String,
    tuning: Tuning,
    keys: Keys,
    limits: Limits,
    /// Number of the next digest.
    number: u32,
    previous: Hash,
    from_us: i64,
    peers: BTreeMap<TaskId, Peer>,
    day: Option<SeenDay>,
    /// When that was made.
    day_us: Option<i64>,
    /// The day up to which days were looked at.
    looked_at: String,
    /// Sessions of dead tasks, for the next digest.
    rows: Vec<IndexRow>,
}

/// Another task.
#[derive(Debug, Default)]
struct Peer {
    ended: bool,
    dead: bool,
    /// An own digest has said so.
    told: bool,
    digests: Option<Head>,
    journal: Option<Head>,
    newest: Option<TaskDigest>,
    /// Since when every look has found nothing new.
    silent: Option<Instant>,
}

impl Peer {
    fn state(&self) -> TaskState {
        match (self.ended, self.dead) {
            (true, _) => TaskState::Ended,
            (false, true) => TaskState::Dead,
            (false, false) => TaskState::Running,
        }
    }
}

/// What a caretaker is about.
pub(super) struct Care {
    pub(super) messages: mpsc::WeakUnboundedSender<Message>,
    pub(super) task: TaskId,
    pub(super) environment: String,
    pub(super) build: String,
    pub(super) tuning: Tuning,
    /// SHA-256 of the task's statement.
    pub(super) statement: Hash,
    pub(super) started_us: i64,
}

impl Caretaker {
    pub(super) fn new(care: Care, parts: PutParts) -> Self {
        let mut keys = Keys::new();
        if let Err(error) = keys.add_der(parts.signer.public_key()) {
            tracing::error!(%error, "the public recording key is not readable: digests of other tasks are not followed");
        }
        Self {
            parts,
            messages: care.messages,
            task: care.task,
            environment: care.environment,
            build: care.build,
            tuning: care.tuning,
            keys,
            limits: Limits::default(),
            number: 0,
            previous: care.statement,
            from_us: care.started_us,
            peers: BTreeMap::new(),
            day: None,
            day_us: None,
            looked_at: String::new(),
            rows: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) async fn days_for_tests(&mut self, now_us: i64) -> Result<(), PutError> {
        self.days(now_us).await
    }

    /// Works until the last digest is asked for, or nobody is left to record.
    pub(super) async fn run(mut self, mut last: mpsc::Receiver<Last>) {
        loop {
            self.round(now_us()).await;
            if !self.digest(false).await {
                return;
            }
            // Tasks that started together do not go on together.
            let pause = self.tuning.digest_interval.mul_f64(0.9 + 0.2 * rand::random::<f64>());
            tokio::select! {
                done = last.recv() => {
                    let Some(done) = done else { return };
                    self.digest(true).await;
                    let _gone = done.send(());
                    return;
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One look at everything. What fails is tried again in the next round.
    async fn round(&mut self, now_us: i64) {
        if let Err(error) = self.look_around(now_us).await {
            // What could not be looked at was not silent.
            self.peers.values_mut().for_each(|peer| peer.silent = None);
            tracing::warn!(%error, "the recordings of other tasks could not be looked after; trying again with the next digest");
        }
    }

    async fn look_around(&mut self, now_us: i64) -> Result<(), PutError> {
        if self.day_us.is_none() {
            self.find_day().await?;
        }
        let after = self.day_us.map(|made_us| earliest(made_us.saturating_sub(SKEW_US)));
        for name in self.parts.store.folders("journal/", after.as_deref()).await? {
            if let Ok(task) = name.parse::<TaskId>()
                && task != self.task
            {
                self.peers.entry(task).or_default();
            }
        }
        let running: Vec<TaskId> =
            self.peers.iter().filter(|(_, peer)| peer.state() == TaskState::Running).map(|(task, _)| *task).collect();
        for task in running {
            self.follow(task).await?;
            if self.is_dead(task, now_us) {
                self.bury(task, now_us).await?;
            }
        }
        self.days(now_us).await
    }

    /// Reads what is new of a task's digests.
    async fn follow(&mut self, task: TaskId) -> Result<(), PutError> {
        let known = self.peers.get(&task).and_then(|peer| peer.digests).map_or(0, |head| head.objects);
        let (found, untrusted) = self.digests_of(task, known).await?;
        let Some(peer) = self.peers.get_mut(&task) else { return Ok(()) };
        if untrusted {
            // It may live under another key: not for this one to say.
            peer.silent = None;
        } else if found.is_empty() {
            peer.silent.get_or_insert_with(Instant::now);
        }
        for (digest, sha256) in found {
            peer.silent = None;
            peer.digests = Some(Head { objects: digest.number.saturating_add(1), sha256 });
            peer.ended = digest.last;
            peer.newest = Some(digest);
        }
        Ok(())
    }

    /// A task's digests from number `first` on, as far as they can be trusted, and whether there are others.
    async fn digests_of(&self, task: TaskId, first: u32) -> Result<(Vec<(TaskDigest, Hash)>, bool), PutError> {
        let after = first.checked_sub(1).map(|number| ObjectName::Digest { task, number }.to_string());
        let (mut found, mut untrusted) = (Vec::new(), false);
        for key in self.parts.store.list(&format!("digests/{task}/"), after.as_deref()).await? {
            let Some(ObjectName::Digest { number, .. }) = ObjectName::parse(&key) else { continue };
            let Some(object) = self.parts.store.get(&key).await? else { continue };
            match TaskDigest::verified(&object, &self.keys) {
                Ok((digest, _)) if digest.task == task && digest.number == number => found.push((digest, Hash::of(&object))),
                Ok(_) => {
                    untrusted = true;
                    tracing::warn!(object.key = key, "a digest says it is another; run `countersign-audit verify --all`");
                }
                Err(error) => {
                    // A task under the key before this one, or worse.
                    untrusted = true;
                    tracing::warn!(object.key = key, %error, "a digest of another task cannot be trusted; `countersign-audit verify --all` tells more");
                    break;
                }
            }
        }
        Ok((found, untrusted))
    }

    fn is_dead(&self, task: TaskId, now_us: i64) -> bool {
        let Some(peer) = self.peers.get(&task) else { return false };
        let last_us = peer.newest.as_ref().map_or_else(|| born_us(task), |digest| digest.until_us);
        let long = i64::try_from(self.tuning.orphan_after.as_micros()).unwrap_or(i64::MAX);
        // By its own clock and by this one's: a wrong clock alone kills nobody.
        !peer.ended && peer.silent.is_some_and(|since| since.elapsed() >= self.tuning.orphan_after) && now_us.saturating_sub(last_us) > long
    }

    /// Signs and stores the next digest, however long that takes. False when nobody is left to record.
    async fn digest(&mut self, last: bool) -> bool {
        let Some(snapshot) = self.snapshot().await else { return false };
        let until_us = now_us();
        let number = self.number;
        let mut rows = std::mem::take(&mut self.rows);
        rows.extend(snapshot.sealed);
        let name = ObjectName::DigestIndex { task: self.task, number };
        let sealed = match self.index(&name, rows, usize::MAX).await {
            Ok(sealed) => sealed,
            Err(error) => {
                tracing::error!(error, "an index could not be made; no more digests are written");
                return false;
            }
        };
        let seen = |(task, peer): (&TaskId, &Peer)| {
            let listed = SeenTask { task: *task, state: peer.state(), digests: peer.digests, journal: peer.journal };
            (!peer.told).then_some(listed)
        };
        let digest = TaskDigest {
            kind: TaskDigest::KIND.to_owned(),
            version: 1,
            task: self.task,
            environment: self.environment.clone(),
            number,
            previous: self.previous,
            from_us: self.from_us,
            until_us,
            last,
            journal: snapshot.journal,
            sealed,
            open: snapshot.open,
            lost: snapshot.lost,
            outages: self.parts.health.outages(),
            tasks: self.peers.iter().filter_map(seen).collect(),
            day: self.day.clone(),
        };
        let Some(object) = self.signed(&digest, usize::MAX).await else { return false };
        let sha256 = Hash::of(&object);
        let key = ObjectName::Digest { task: self.task, number }.to_string();
        match self.persist(&key, object, usize::MAX).await {
            Some(true) => {}
            Some(false) => {
                tracing::error!(object.key = key, "another object has the name of this task's digest; it writes no more of them");
                return false;
            }
            None => return false,
        }
        self.peers.values_mut().filter(|peer| peer.state() != TaskState::Running).for_each(|peer| peer.told = true);
        self.number = number.saturating_add(1);
        self.previous = sha256;
        self.from_us = until_us;
        self.messages.upgrade().is_some_and(|messages| messages.send(Message::Digested { number, sha256 }).is_ok())
    }

    async fn snapshot(&self) -> Option<Snapshot> {
        let (reply, snapshot) = oneshot::channel();
        self.messages.upgrade()?.send(Message::Snapshot { reply }).ok()?;
        snapshot.await.ok()
    }

    /// Stores rows as an index; none when there are none.
    async fn index(&self, name: &ObjectName, mut rows: Vec<IndexRow>, attempts: usize) -> Result<Option<IndexEntry>, String> {
        rows.sort_by_key(|row| (row.started_us, row.session));
        rows.dedup_by_key(|row| row.session);
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(None) };
        let (first_us, last_us) = (first.started_us, last.started_us);
        let object = Bytes::from(write_index(&rows).map_err(|error| error.to_string())?);
        let key = name.to_string();
        let entry = IndexEntry {
            key: key.clone(),
            sha256: Hash::of(&object),
            length: u64::try_from(object.len()).unwrap_or(u64::MAX),
            sessions: u64::try_from(rows.len()).unwrap_or(u64::MAX),
            first_us,
            last_us,
        };
        match self.persist(&key, object, attempts).await {
            Some(true) => Ok(Some(entry)),
            Some(false) => Err(format!("{key} is there already, and is another")),
            None => Err(format!("{key} could not be stored")),
        }
    }

    /// Signs, trying again; none when it did not succeed.
    async fn signed(&self, payload: &impl Payload, attempts: usize) -> Option<Bytes> {
        let unsigned = payload.unsigned(self.parts.signer.key_id()).ok()?;
        let mut pause = Pause::new(self.tuning.backoff);
        for _ in 0..attempts {
            match tokio::time::timeout(self.tuning.attempt, self.parts.signer.sign(&unsigned)).await {
                Ok(Ok(signature)) => return Some(Bytes::from(unsigned.finish(&signature))),
                Ok(Err(error)) => tracing::warn!(%error, "a digest could not be signed; trying again"),
                Err(_elapsed) => tracing::warn!("a digest could not be signed in time; trying again"),
            }
            if self.messages.strong_count() == 0 {
                return None;
            }
            pause.wait().await;
        }
        None
    }

    /// Stores, trying again. True when it is stored, false when something else has the name, none when it did not succeed.
    async fn persist(&self, key: &str, object: Bytes, attempts: usize) -> Option<bool> {
        let mut pause = Pause::new(self.tuning.backoff);
        let attempt = self.tuning.attempt + Duration::from_secs(u64::try_from(object.len() >> 20).unwrap_or(u64::MAX));
        for _ in 0..attempts {
            match tokio::time::timeout(attempt, self.parts.store.put(key, object.clone())).await {
                Ok(Ok(())) => return Some(true),
                Ok(Err(PutError::Conflict)) => return Some(false),
                Ok(Err(error)) => tracing::debug!(object.key = key, %error, "not stored; trying again"),
                Err(_elapsed) => tracing::debug!(object.key = key, "not stored in time; trying again"),
            }
            if self.messages.strong_count() == 0 {
                return None;
            }
            pause.wait().await;
        }
        None
    }
}

/// The first name a task can have that began at a time: task ids are UUIDs of version 7.
fn earliest(time_us: i64) -> String {
    let milliseconds = u128::try_from(time_us.div_euclid(1000)).unwrap_or(0);
    TaskId(Uuid::from_u128(milliseconds << 80)).to_string()
}

/// When a task began, by its id.
fn born_us(task: TaskId) -> i64 {
    let (seconds, nanoseconds) = task.0.get_timestamp().map_or((0, 0), |time| time.to_unix());
    i64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000).saturating_add(i64::from(nanoseconds / 1000))
}
