//! Names of objects within a store, below the configured prefix.

use std::fmt;

use time::OffsetDateTime;

use super::ids::{SessionId, TaskId};

/// An object of the format.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectName {
    /// `sessions/<yyyy>/<mm>/<dd>/<session>/<number, 8 digits>.rec`
    Segment {
        /// `yyyy/mm/dd` (UTC) of the session's first event.
        day: String,
        /// Session.
        session: SessionId,
        /// Number, from 0.
        number: u32,
    },
    /// `sessions/<yyyy>/<mm>/<dd>/<session>/manifest.json`
    Manifest {
        /// Day.
        day: String,
        /// Session.
        session: SessionId,
    },
    /// `journal/<task>/<number, 8 digits>.rec`
    Journal {
        /// Task.
        task: TaskId,
        /// Number, from 0.
        number: u32,
    },
    /// `journal/<task>/task.json`
    Task {
        /// Task.
        task: TaskId,
    },
    /// `digests/<task>/<number, 8 digits>.json`
    Digest {
        /// Task.
        task: TaskId,
        /// Number, from 0.
        number: u32,
    },
    /// `digests/<task>/<number, 8 digits>.idx`: the sessions a digest is about.
    DigestIndex {
        /// Task.
        task: TaskId,
        /// Number of the digest.
        number: u32,
    },
    /// `index/<yyyy>/<mm>/<dd>/day.json`
    Day {
        /// `yyyy/mm/dd` (UTC).
        day: String,
    },
    /// `index/<yyyy>/<mm>/<dd>/<task>-<number, 4 digits>.idx`: the sessions a day's digest is about.
    DayIndex {
        /// `yyyy/mm/dd` (UTC).
        day: String,
        /// Task that wrote it.
        task: TaskId,
        /// Number, from 0.
        number: u32,
    },
}

impl ObjectName {
    /// Parses a key below the prefix; `None` for anything else.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        let parts: Vec<&str> = key.split('/').collect();
        let name = match *parts.as_slice() {
            ["sessions", year, month, day, session, file] => {
                let session = session.parse().ok()?;
                let day = format!("{year}/{month}/{day}");
                match file {
                    "manifest.json" => Self::Manifest { day, session },
                    _ => Self::Segment { day, session, number: number(file)? },
                }
            }
            ["journal", task, "task.json"] => Self::Task { task: task.parse().ok()? },
            ["journal", task, file] => Self::Journal { task: task.parse().ok()?, number: number(file)? },
            ["digests", task, file] => {
                let task = task.parse().ok()?;
                match file.split_once('.')? {
                    (number, "json") => Self::Digest { task, number: number.parse().ok()? },
                    (number, "idx") => Self::DigestIndex { task, number: number.parse().ok()? },
                    _ => return None,
                }
            }
            ["index", year, month, day, file] => {
                let day = format!("{year}/{month}/{day}");
                match file {
                    "day.json" => Self::Day { day },
                    _ => {
                        let (task, number) = file.strip_suffix(".idx")?.rsplit_once('-')?;
                        Self::DayIndex { day, task: task.parse().ok()?, number: number.parse().ok()? }
                    }
                }
            }
            _ => return None,
        };
        // One object, one name.
        (name.to_string() == key).then_some(name)
    }

    /// The session, for objects that belong to one.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Self::Segment { session, .. } | Self::Manifest { session, .. } => Some(*session),
            _ => None,
        }
    }
}

fn number(file: &str) -> Option<u32> {
    file.strip_suffix(".rec")?.parse().ok()
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment { day, session, number } => write!(f, "sessions/{day}/{session}/{number:08}.rec"),
            Self::Manifest { day, session } => write!(f, "sessions/{day}/{session}/manifest.json"),
            Self::Journal { task, number } => write!(f, "journal/{task}/{number:08}.rec"),
            Self::Task { task } => write!(f, "journal/{task}/task.json"),
            Self::Digest { task, number } => write!(f, "digests/{task}/{number:08}.json"),
            Self::DigestIndex { task, number } => write!(f, "digests/{task}/{number:08}.idx"),
            Self::Day { day } => write!(f, "index/{day}/day.json"),
            Self::DayIndex { day, task, number } => write!(f, "index/{day}/{task}-{number:04}.idx"),
        }
    }
}

/// `yyyy/mm/dd` (UTC) of a time in microseconds since the epoch.
#[must_use]
pub fn day(time_us: i64) -> String {
    let date = OffsetDateTime::from_unix_timestamp(time_us.div_euclid(1_000_000)).unwrap_or(OffsetDateTime::UNIX_EPOCH).date();
    format!("{:04}/{:02}/{:02}", date.year(), u8::from(date.month()), date.day())
}
