//! What the server's own log says (csvlog, with `log_statement = all`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::csv;

/// A server session, by the log.
#[derive(Default)]
pub(super) struct Logged {
    pub(super) role: String,
    pub(super) database: String,
    pub(super) from: String,
    pub(super) application: String,
    pub(super) start_us: i64,
    pub(super) said: Vec<Said>,
}

/// Something that was said in it.
pub(super) struct Said {
    /// When, as Postgres writes it.
    pub(super) time: String,
    pub(super) what: What,
}

/// What.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A statement, or the execution of a prepared one.
    Statement(String),
    /// More rows from a portal of a statement, or so the message says.
    Fetch(String),
    /// A portal of a DECLARE: that statement by Bind, or rows of the cursor that it made, by Execute.
    Cursor(String),
    /// What no gateway lets through: a function called by number, a replication connection.
    Other(String),
}

impl What {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Statement(text) | Self::Fetch(text) | Self::Cursor(text) | Self::Other(text) => text,
        }
    }

    /// What a line says; none when it is of something else.
    fn of(message: &str, backend: &str) -> Option<Self> {
        if backend == "walsender" || message.starts_with("received replication command: ") {
            return Some(Self::Other(format!("replication connection: {message}")));
        }
        if message.starts_with("fastpath function call: ") {
            return Some(Self::Other(message.to_owned()));
        }
        if let Some(text) = message.strip_prefix("statement: ") {
            return Some(Self::Statement(text.to_owned()));
        }
        // `execute <statement>/<portal>: <text>`, `execute fetch from <statement>/<portal>: <text>`; both names may hold anything.
        let (name, text) = message.strip_prefix("execute ")?.split_once(": ")?;
        let declares = text.trim_start().get(..7).is_some_and(|word| word.eq_ignore_ascii_case("declare"));
        Some(if name.starts_with("fetch from ") {
            Self::Fetch(text.to_owned())
        } else if name.contains('/') && declares {
            Self::Cursor(text.to_owned())
        } else {
            Self::Statement(text.to_owned())
        })
    }
}

/// The sessions of the roles, by process and start.
pub(super) fn read(files: &[PathBuf], roles: &[String]) -> anyhow::Result<BTreeMap<(u32, String), Logged>> {
    let mut sessions: BTreeMap<(u32, String), Logged> = BTreeMap::new();
    for file in files {
        for line in csv::rows(&super::read(file)?) {
            // https://www.postgresql.org/docs/current/runtime-config-logging.html#RUNTIME-CONFIG-LOGGING-CSVLOG
            let column = |index: usize| line.get(index).map(String::as_str).unwrap_or_default();
            if line.len() < 23 {
                bail!("{}: {} columns; expected a log of Postgres 13 or newer, `log_destination = csvlog`", file.display(), line.len());
            }
            if !roles.iter().any(|role| role == column(1)) {
                continue;
            }
            let process = column(3).parse().with_context(|| format!("{}: process {}", file.display(), column(3)))?;
            let start = column(8);
            let start_us = csv::time_us(start).with_context(|| format!("{}: session start {start}", file.display()))?;
            let session = sessions.entry((process, start.to_owned())).or_insert_with(|| Logged {
                role: column(1).to_owned(),
                database: column(2).to_owned(),
                from: column(4).to_owned(),
                start_us,
                ..Logged::default()
            });
            if !column(22).is_empty() {
                column(22).clone_into(&mut session.application);
            }
            if let Some(what) = What::of(column(13), column(23)) {
                session.said.push(Said { time: column(0).to_owned(), what });
            }
        }
    }
    Ok(sessions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let statement = |text: &str| Some(What::Statement(text.to_owned()));
        for (message, expected) in [
            ("statement: select 1; select 2", statement("select 1; select 2")),
            ("execute s1/p1: select $1: x", statement("select $1: x")),
            ("execute fetch from s1: select 1", Some(What::Fetch("select 1".to_owned()))),
            ("execute <unnamed>/c: declare c cursor for select 1", Some(What::Cursor("declare c cursor for select 1".to_owned()))),
            ("execute <unnamed>: declare c cursor for select 1", statement("declare c cursor for select 1")),
            ("connection authorized: user=a", None),
            (
                "fastpath function call: \"lo_unlink\" (OID 964)",
                Some(What::Other("fastpath function call: \"lo_unlink\" (OID 964)".to_owned())),
            ),
        ] {
            assert_eq!(What::of(message, "client backend"), expected, "{message}");
        }
        assert!(matches!(What::of("anything", "walsender"), Some(What::Other(_))));
        assert!(matches!(What::of("received replication command: IDENTIFY_SYSTEM", ""), Some(What::Other(_))));
    }
}
