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
            Self::Journal { .. } | Self::Task { .. } => None,
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
        }
    }
}

/// `yyyy/mm/dd` (UTC) of a time in microseconds since the epoch.
#[must_use]
pub fn day(time_us: i64) -> String {
    let date = OffsetDateTime::from_unix_timestamp(time_us.div_euclid(1_000_000)).unwrap_or(OffsetDateTime::UNIX_EPOCH).date();
    format!("{:04}/{:02}/{:02}", date.year(), u8::from(date.month()), date.day())
}
