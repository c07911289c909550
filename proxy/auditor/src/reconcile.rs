//! Did anything reach the database around the gateway? Compares recordings with what Postgres itself says happened: its log (csvlog), a listing of
//! `pg_stat_activity`, and counts of `pg_stat_statements`, for the service roles that only the gateway should use.

mod csv;
mod log;
mod normal;
mod own;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use countersign_recording::{Event, SessionId};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::log::{Logged, Said, What};
use crate::list::{self, Filter};
use crate::load::Archive;
use crate::text::{lossless, timestamp, visible};

/// How far clocks of gateway and server may be apart.
const SKEW_US: i64 = 60_000_000;

/// What was sent to the databases, by all recordings that count.
#[derive(Debug, Default)]
struct Sent {
    /// Statements without their constants, by database, with how often each was sent.
    forms: BTreeMap<(String, String), u64>,
    /// Texts as they were sent, by database.
    exact: BTreeSet<(String, String)>,
    /// Texts that stay sealed, without their constants, by database.
    sealed: BTreeSet<(String, String)>,
}

impl Sent {
    /// Whether exactly this was sent; of what stays sealed, this but for its constants.
    fn has(&self, database: &str, text: &str) -> bool {
        let exact = (database.to_owned(), text.to_owned());
        self.exact.contains(&exact) || self.sealed.contains(&(exact.0, normal::form(text)))
    }

    /// How often something of this form was. What PREPARE names runs under its text, as often as EXECUTE names it.
    fn of_form(&self, database: &str, form: &str) -> u64 {
        let mut count = self.forms.get(&(database.to_owned(), form.to_owned())).copied().unwrap_or(0);
        if let Some(name) = form.strip_prefix("prepare ").and_then(|rest| rest.split([' ', '(']).next()).filter(|_| count > 0) {
            let named = |text: &str| text.strip_prefix("execute ").and_then(|rest| rest.split([' ', '(']).next()) == Some(name);
            let executed = self.forms.iter().filter(|((of, text), _)| of == database && named(text)).map(|(_, count)| *count);
            count = count.saturating_add(executed.sum());
        }
        count
    }
}

/// What Postgres says.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Files of its log, csvlog, with `log_statement = all`.
    pub csvlog: Vec<PathBuf>,
    /// `\copy (select pid, usename, datname, backend_start, client_addr, application_name from pg_stat_activity) to … csv header`.
    pub activity: Option<PathBuf>,
    /// `\copy (select rolname, datname, query, calls from pg_stat_statements join …) to … csv header`.
    pub statements: Option<PathBuf>,
    /// Roles that only the gateway uses.
    pub roles: Vec<String>,
}

/// Something that Postgres says and no recording does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bypass {
    /// `session`, `statement`, `activity`, `count`.
    pub kind: &'static str,
    /// When, as Postgres says.
    pub time: String,
    /// Server process.
    pub process: u32,
    /// Role.
    pub role: String,
    /// Database.
    pub database: String,
    /// Where it came from.
    pub from: String,
    /// `application_name`.
    pub application: String,
    /// The statement, or what there is to say.
    pub what: String,
}

/// How it went.
#[derive(Debug, Default, Serialize)]
pub struct Reconciled {
    /// Recorded sessions in the time.
    pub recorded: u64,
    /// Server sessions of the roles.
    pub logged: u64,
    /// Of these, matched with a recording.
    pub matched: u64,
    /// Of these, the gateway's own.
    pub own: u64,
    /// Statements in the log that a recording has.
    pub statements: u64,
    /// What no recording has.
    pub bypasses: Vec<Bypass>,
    /// Whether recordings were held against keys.
    pub checked: bool,
    /// Recordings that are not what those keys signed, which count for nothing here: whoever goes around the gateway and can write to the
    /// store could have made them.
    pub unproved: Vec<String>,
    /// Why the comparison says less than it should.
    pub unchecked: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

impl Reconciled {
    /// Whether everything in the log is in a recording, and every recording counts.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.bypasses.is_empty() && self.unproved.is_empty()
    }

    /// 0: nothing went around the gateway; 1: something did, or a recording counts for nothing; 2: the sources do not say.
    #[must_use]
    pub const fn exit_status(&self) -> u8 {
        match (self.is_clean(), self.unchecked.is_empty()) {
            (false, _) => 1,
            (true, false) => 2,
            (true, true) => 0,
        }
    }
}

/// A recorded session.
struct Recorded {
    started_us: i64,
    ended_us: i64,
    open: bool,
    role: String,
    database: String,
    /// Texts with how often each was sent and not yet found in the log.
    texts: BTreeMap<String, u64>,
    /// The same of texts that are sealed, without their constants.
    sealed: BTreeMap<String, u64>,
    used: bool,
}

/// Compares. Sessions that began from `since_us` to `until_us` are looked at.
///
/// # Errors
/// When store or files cannot be read.
pub async fn reconcile(archive: &Archive, sources: &Sources, since_us: Option<i64>, until_us: Option<i64>) -> anyhow::Result<Reconciled> {
    if sources.roles.is_empty() {
        bail!("--role is missing: which roles does only the gateway use?");
    }
    if sources.csvlog.is_empty() && sources.activity.is_none() && sources.statements.is_none() {
        bail!("nothing to compare with: give --csvlog, --activity or --statements");
    }
    let mut outcome = Reconciled { checked: archive.has_keys(), ..Reconciled::default() };
    // A session that began earlier may still speak in the time.
    let filter = Filter { since_us: since_us.map(|since| since.saturating_sub(86_400_000_000)), until_us, ..Filter::default() };
    let mut recorded: BTreeMap<u32, Vec<Recorded>> = BTreeMap::new();
    let mut sent = Sent::default();
    // `pg_stat_statements` was reset when the time began; a clock may be wrong by as much as elsewhere.
    let counted = |us: i64| {
        since_us.is_none_or(|since| us >= since.saturating_sub(SKEW_US)) && until_us.is_none_or(|until| us < until.saturating_add(SKEW_US))
    };
    for row in list::rows(archive, &filter).await? {
        let id: SessionId = row.session.parse()?;
        let (session, _) = archive.load(id, false).await?;
        if let (true, Some(finding)) = (session.checked, session.report.findings.first()) {
            outcome.unproved.push(format!("{id}: {finding}"));
            continue;
        }
        let mut one = Recorded {
            started_us: row.started_us,
            ended_us: row.started_us,
            open: row.state != "sealed",
            role: row.summary.upstream_user.clone(),
            database: row.summary.database.clone(),
            texts: BTreeMap::new(),
            sealed: BTreeMap::new(),
            used: false,
        };
        let mut process = 0;
        for (raw, event) in session.events.iter().filter_map(|(raw, event)| Some((raw, event.as_ref()?))) {
            one.ended_us = raw.time_us;
            match event {
                Event::SessionStart(start) => process = start.upstream_pid,
                Event::Statement { text, .. } => {
                    let text = lossless(text);
                    let closed = session.is_closed(raw.number);
                    for form in normal::forms(&text).into_iter().filter(|_| counted(raw.time_us)) {
                        let count = sent.forms.entry((one.database.clone(), form)).or_default();
                        *count = count.saturating_add(1);
                    }
                    // What stays sealed is compared without constants.
                    let text = if closed { normal::form(&text) } else { text };
                    if closed { &mut sent.sealed } else { &mut sent.exact }.insert((one.database.clone(), text.clone()));
                    let count = if closed { &mut one.sealed } else { &mut one.texts }.entry(text).or_default();
                    *count = count.saturating_add(1);
                }
                _ => {}
            }
        }
        outcome.recorded = outcome.recorded.saturating_add(1);
        recorded.entry(process).or_default().push(one);
    }
    // The log has a session's start in whole seconds.
    let in_time =
        |us: i64| since_us.is_none_or(|since| us >= since - since.rem_euclid(1_000_000)) && until_us.is_none_or(|until| us < until);
    for ((process, _), logged) in log::read(&sources.csvlog, &sources.roles)? {
        if in_time(logged.start_us) {
            compare(process, &logged, recorded.get_mut(&process), &sent, &mut outcome);
        }
    }
    let of_roles = recorded.values().flatten().any(|one| sources.roles.contains(&one.role));
    if !of_roles && outcome.logged == 0 {
        outcome.unchecked.push("neither a recording nor the log has one of these roles: are they spelled right?".to_owned());
    }
    let missing =
        recorded.values().flatten().filter(|one| !one.used && in_time(one.started_us) && sources.roles.contains(&one.role)).count();
    match (sources.csvlog.is_empty(), outcome.matched, missing) {
        (true, ..) | (_, _, 0) => {}
        (false, 0, _) => outcome.unchecked.push(format!(
            "the log has not one of {missing} recorded sessions of these roles: is it the right log, with log_statement = all, and are the roles spelled right?"
        )),
        // Of a session all of whose statements were refused the log may have nothing.
        (false, ..) => outcome.notes.push(format!("{missing} recorded sessions are not in the log")),
    }
    if let Some(file) = &sources.activity {
        activity(file, &sources.roles, &recorded, &mut outcome)?;
    }
    if let Some(file) = &sources.statements {
        count(file, &sources.roles, &sent, &mut outcome)?;
    }
    Ok(outcome)
}

fn compare(process: u32, logged: &Logged, recorded: Option<&mut Vec<Recorded>>, sent: &Sent, outcome: &mut Reconciled) {
    outcome.logged = outcome.logged.saturating_add(1);
    let bypass = |kind, time: &str, what: String| Bypass {
        kind,
        time: time.to_owned(),
        process,
        role: logged.role.clone(),
        database: logged.database.clone(),
        from: logged.from.clone(),
        application: logged.application.clone(),
        what,
    };
    let same = |one: &&mut Recorded| {
        !one.used
            && one.role == logged.role
            && one.database == logged.database
            && one.started_us.saturating_sub(logged.start_us).abs() <= SKEW_US
    };
    let Some(one) = recorded.and_then(|all| all.iter_mut().find(same)) else {
        let own = |said: &Said| match &said.what {
            What::Statement(text) | What::Fetch(text) | What::Cursor(text) => own::said(text, &logged.database, sent),
            What::Other(_) => false,
        };
        if logged.said.iter().all(own) {
            // Also connections that said nothing: probes, and logins whose client went away.
            outcome.own = outcome.own.saturating_add(1);
            return;
        }
        let what = logged.said.iter().map(|said| said.what.text()).take(20).collect::<Vec<_>>().join("; ");
        outcome.bypasses.push(bypass("session", &timestamp(logged.start_us), what));
        return;
    };
    one.used = true;
    outcome.matched = outcome.matched.saturating_add(1);
    for (index, said) in logged.said.iter().enumerate() {
        // Before the client says anything the gateway asks where the login looks names up.
        if index == 0 && said.what.text() == own::AT_LOGIN {
            continue;
        }
        let known = match &said.what {
            What::Statement(text) => one.take(text),
            // Further rows of what was executed before. The name in the message is whatever the client likes.
            What::Fetch(text) => one.knows(text),
            What::Cursor(text) => one.take(text) || one.knows(text),
            What::Other(_) => false,
        };
        match (known, &said.what) {
            (true, What::Statement(_)) => outcome.statements = outcome.statements.saturating_add(1),
            (true, _) => {}
            (false, what) => outcome.bypasses.push(bypass("statement", &said.time, what.text().to_owned())),
        }
    }
}

impl Recorded {
    fn knows(&self, text: &str) -> bool {
        self.texts.contains_key(text) || self.sealed.contains_key(&normal::form(text))
    }

    /// Takes one sending of a text; false when none is left.
    fn take(&mut self, text: &str) -> bool {
        let exact = self.texts.get_mut(text).filter(|left| **left > 0);
        match exact.or_else(|| self.sealed.get_mut(&normal::form(text)).filter(|left| **left > 0)) {
            Some(left) => {
                *left = left.saturating_sub(1);
                true
            }
            None => false,
        }
    }
}

/// Sessions that are there now and that no recording has.
fn activity(file: &Path, roles: &[String], recorded: &BTreeMap<u32, Vec<Recorded>>, outcome: &mut Reconciled) -> anyhow::Result<()> {
    let table = csv::Table::new(&read(file)?, &["pid", "usename", "datname", "backend_start", "client_addr", "application_name"])
        .with_context(|| file.display().to_string())?;
    for row in table.rows() {
        let [process, role, database, start, from, application] = row;
        if !roles.contains(&role) {
            continue;
        }
        let process = process.parse().with_context(|| format!("{}: pid {process}", file.display()))?;
        let start_us = csv::time_us(&start).with_context(|| format!("{}: backend_start {start}", file.display()))?;
        let known = recorded.get(&process).is_some_and(|all| {
            all.iter().any(|one| one.role == role && one.open && one.started_us.saturating_sub(start_us).abs() <= SKEW_US)
        });
        if !known {
            let what = "connected, and no open recording has it".to_owned();
            outcome.bypasses.push(Bypass { kind: "activity", time: start, process, role, database, from, application, what });
        }
    }
    Ok(())
}

/// Statements that ran more often than recordings say.
fn count(file: &Path, roles: &[String], sent: &Sent, outcome: &mut Reconciled) -> anyhow::Result<()> {
    let table = csv::Table::new(&read(file)?, &["rolname", "datname", "query", "calls"]).with_context(|| file.display().to_string())?;
    let mut calls: BTreeMap<(String, String), (u64, String, String)> = BTreeMap::new();
    for row in table.rows() {
        let [role, database, query, count] = row;
        if !roles.contains(&role) || own::counted(&query, &database, sent) {
            continue;
        }
        let count: u64 = count.parse().with_context(|| format!("{}: calls {count}", file.display()))?;
        let entry = calls.entry((database, normal::form(&query))).or_insert_with(|| (0, role, query));
        entry.0 = entry.0.saturating_add(count);
    }
    for ((database, form), (calls, role, query)) in calls {
        let known = sent.of_form(&database, &form);
        if calls > known {
            outcome.bypasses.push(Bypass {
                kind: "count",
                time: String::new(),
                process: 0,
                role,
                database,
                from: String::new(),
                application: String::new(),
                what: format!("ran {calls} times, recorded {known} times: {query}"),
            });
        }
    }
    Ok(())
}

/// Writes it for people.
///
/// # Errors
/// When the output cannot be written.
pub fn write(outcome: &Reconciled, out: &mut dyn Write) -> std::io::Result<()> {
    for bypass in &outcome.bypasses {
        let line = |text: &str| visible(text, false);
        writeln!(
            out,
            "UNRECORDED {:<9} {} process {} role {} database {} from {} as {}: {}",
            bypass.kind,
            line(&bypass.time),
            bypass.process,
            line(&bypass.role),
            line(&bypass.database),
            line(&bypass.from),
            line(&bypass.application),
            line(&bypass.what)
        )?;
    }
    for line in &outcome.unproved {
        writeln!(out, "UNPROVED   recording {}", visible(line, false))?;
    }
    for line in &outcome.unchecked {
        writeln!(out, "NOT CHECKED {}", visible(line, false))?;
    }
    for line in &outcome.notes {
        writeln!(out, "note       {}", visible(line, false))?;
    }
    if !outcome.checked {
        writeln!(out, "note       recordings were taken as they stand: give --keys, or whoever can write to the store can make some up")?;
    }
    writeln!(
        out,
        "{} recorded sessions; of {} server sessions {} are recorded and {} the gateway's own; {} statements match, {} things are in no recording",
        outcome.recorded,
        outcome.logged,
        outcome.matched,
        outcome.own,
        outcome.statements,
        outcome.bypasses.len()
    )
}

fn read(file: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A time as Postgres writes it, in UTC or with an offset.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let text = text.trim();
    let text = text.strip_suffix(" UTC").or_else(|| text.strip_suffix(" GMT")).map_or_else(|| text.to_owned(), |plain| format!("{plain}Z"));
    let mut text = text.replacen(' ', "T", 1);
    // An offset of hours alone: +00.
    if let Some(at) = text.rfind(['+', '-']).filter(|at| *at > 10)
        && text.len().saturating_sub(at) == 3
    {
        text.push_str(":00");
    }
    let time = OffsetDateTime::parse(&text, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos() / 1000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for text in ["2026-03-01 12:00:00.5 UTC", "2026-03-01 12:00:00.5+00", "2026-03-01 14:00:00.5+02:00"] {
            assert_eq!(parse_time(text), Some(1_772_366_400_500_000), "{text}");
        }
        assert_eq!(parse_time("2026-03-01 12:00:00 CET"), None);
    }
}
