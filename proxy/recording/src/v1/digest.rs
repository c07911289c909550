//! Digests: what a task signs at intervals about everything that was sealed since, and what is signed once a day about all tasks.
//!
//! A task's digests are a chain. Each names the head of the task's journal, the sessions sealed in its time (by way of an index object), the
//! chains of all other tasks as it finds them, and the newest day. A day names every task's chain and every session sealed, and the day before.
//! So whatever is removed, something signed still names it.

use serde::{Deserialize, Serialize};

use super::ids::{Hash, SessionId, TaskId};
use super::manifest::Payload;

/// How far a chain of objects goes: how many there are from number 0, and the SHA-256 of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Objects.
    pub objects: u32,
    /// SHA-256 of the last; of `task.json` when there is none.
    pub sha256: Hash,
}

/// An index object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexEntry {
    /// Its key below the prefix.
    pub key: String,
    /// SHA-256 of the object.
    pub sha256: Hash,
    /// Length of the object, bytes.
    pub length: u64,
    /// Sessions in it.
    pub sessions: u64,
    /// Earliest start of a session in it, microseconds since the epoch.
    pub first_us: i64,
    /// Latest start.
    pub last_us: i64,
}

/// A session under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenSession {
    /// Session.
    pub session: SessionId,
    /// Its start, microseconds since the epoch.
    pub started_us: i64,
    /// First journal object with events of it that are in no segment.
    pub journal: u32,
}

/// A time in which the store did not take what it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// First failure, microseconds since the epoch.
    pub from_us: i64,
    /// When it was over; none when it was not when the digest was made.
    pub until_us: Option<i64>,
    /// What the store said first.
    pub error: String,
}

/// How another task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// It writes digests.
    Running,
    /// It ended in order.
    Ended,
    /// It fell silent, and what it left open was sealed by the task that says so.
    Dead,
}

/// Another task, as this one finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenTask {
    /// Task.
    pub task: TaskId,
    /// How it is.
    pub state: TaskState,
    /// Its chain of digests; none when it has none.
    pub digests: Option<Head>,
    /// Its journal, when that was looked at: of a dead task.
    pub journal: Option<Head>,
}

/// A day's digest, by name and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenDay {
    /// `yyyy/mm/dd`.
    pub day: String,
    /// SHA-256 of the object.
    pub sha256: Hash,
}

/// What a task signs at intervals, under `digests/<task>/<number>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskDigest {
    /// `countersign-digest`.
    #[serde(rename = "type")]
    pub kind: String,
    /// 1.
    pub version: u32,
    /// Task.
    pub task: TaskId,
    /// Deployment.
    pub environment: String,
    /// Number, from 0.
    pub number: u32,
    /// SHA-256 of the digest before; of `task.json` for number 0.
    pub previous: Hash,
    /// Begin of its time: the end of the one before.
    pub from_us: i64,
    /// End of its time.
    pub until_us: i64,
    /// Whether the task ends with it.
    #[serde(rename = "final")]
    pub last: bool,
    /// The task's journal, as far as it is acknowledged.
    pub journal: Head,
    /// Sessions sealed by this task in its time, orphans of others among them; none when there were none.
    pub sealed: Option<IndexEntry>,
    /// Sessions of this task under way.
    pub open: Vec<OpenSession>,
    /// Events lost in its time (`async` durability).
    pub lost: u64,
    /// Outages of the store that began or ended in its time.
    pub outages: Vec<Outage>,
    /// The other tasks that were not known to have ended, and those that have since the digest before.
    pub tasks: Vec<SeenTask>,
    /// The newest day's digest.
    pub day: Option<SeenDay>,
}

/// What is signed once for a day (UTC), by whichever task comes first, under `index/<yyyy>/<mm>/<dd>/day.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DayDigest {
    /// `countersign-day`.
    #[serde(rename = "type")]
    pub kind: String,
    /// 1.
    pub version: u32,
    /// Deployment.
    pub environment: String,
    /// `yyyy/mm/dd`.
    pub day: String,
    /// The day's digest before it; days on which nothing ran have none.
    pub previous: Option<SeenDay>,
    /// Task that made it.
    pub made_by: TaskId,
    /// When, microseconds since the epoch.
    pub made_us: i64,
    /// Every task that the day before did not know to be over, with its digests up to the end of the day.
    pub tasks: Vec<SeenTask>,
    /// Index objects: all sessions in those digests that the days before do not have.
    pub index: Vec<IndexEntry>,
}

impl Payload for TaskDigest {
    const KIND: &'static str = "countersign-digest";

    fn stated(&self) -> (&str, u32) {
        (&self.kind, self.version)
    }
}

impl Payload for DayDigest {
    const KIND: &'static str = "countersign-day";

    fn stated(&self) -> (&str, u32) {
        (&self.kind, self.version)
    }
}
