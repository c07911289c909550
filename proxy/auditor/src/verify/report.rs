//! What verification found, for people and programs.

use std::collections::BTreeMap;
use std::io::Write;

use countersign_recording::{Digests, Finding, Hash, Journals, ObjectName, SessionId, TaskId};
use serde::Serialize;

use super::Grant;
use crate::load::{Archive, Session};
use crate::text::{timestamp, visible};

/// How it went for one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Result {
    /// Everything holds.
    Verified,
    /// Something does not.
    Failed,
    /// Something could not be checked.
    Unchecked,
    /// Nothing is wrong so far; the session is not over.
    Open,
}

/// Something that does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Key of the object.
    pub object: Option<String>,
    /// Number of the event.
    pub event: Option<u64>,
    /// What.
    pub problem: String,
}

impl From<&Finding> for Failure {
    fn from(finding: &Finding) -> Self {
        Self { object: finding.object.clone(), event: finding.event, problem: finding.problem.to_string() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if let Some(event) = self.event {
            write!(f, "event {event}: ")?;
        }
        f.write_str(&self.problem)
    }
}

/// Retention over all objects of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptUntil {
    /// Modes seen.
    pub modes: Vec<String>,
    /// The earliest end, seconds since the epoch.
    pub earliest: i64,
    /// Objects asked about.
    pub objects: u64,
}

/// One session.
#[derive(Debug, Clone, Serialize)]
pub struct SessionReport {
    /// Session.
    pub session: String,
    /// How it went.
    pub result: Result,
    /// `sealed`, `open`, `orphan`, `missing`.
    pub state: &'static str,
    /// Key that signed the manifest.
    pub signed_by: Option<String>,
    /// Events.
    pub events: u64,
    /// Statements.
    pub statements: u64,
    /// Held statements that ran, with who approved.
    pub grants: Vec<Grant>,
    /// Retention; none where the store has no such thing.
    pub retention: Option<KeptUntil>,
    /// What does not hold.
    pub failures: Vec<Failure>,
    /// What could not be checked.
    pub unchecked: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

impl SessionReport {
    pub(super) fn new(session: &Session) -> Self {
        let report = &session.report;
        Self {
            session: session.id.to_string(),
            result: Result::Unchecked,
            state: session.state(),
            signed_by: report.manifest.as_ref().map(|(_, key)| key.to_string()),
            events: u64::try_from(session.events.len()).unwrap_or(u64::MAX),
            statements: 0,
            grants: Vec::new(),
            retention: None,
            failures: report.findings.iter().map(Failure::from).collect(),
            unchecked: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn missing(id: SessionId) -> Self {
        Self {
            session: id.to_string(),
            result: Result::Unchecked,
            state: "missing",
            signed_by: None,
            events: 0,
            statements: 0,
            grants: Vec::new(),
            retention: None,
            failures: Vec::new(),
            unchecked: vec!["there is no such recording in the store".to_owned()],
            notes: Vec::new(),
        }
    }

    pub(super) fn keep(&mut self, mode: &str, until: i64) {
        let kept = self.retention.get_or_insert(KeptUntil { modes: Vec::new(), earliest: until, objects: 0 });
        kept.earliest = kept.earliest.min(until);
        kept.objects = kept.objects.saturating_add(1);
        if !kept.modes.iter().any(|known| known == mode) {
            kept.modes.push(mode.to_owned());
        }
    }

    pub(super) fn conclude(&mut self) {
        self.result = match (self.failures.is_empty(), self.unchecked.is_empty(), self.state) {
            (false, ..) => Result::Failed,
            (true, false, _) => Result::Unchecked,
            (true, true, "sealed") => Result::Verified,
            (true, true, _) => Result::Open,
        };
    }

    pub(super) fn unproved(mut self, why: &str) -> Self {
        self.unchecked.push(why.to_owned());
        self.conclude();
        self
    }
}

/// Everything that was verified.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// Sessions.
    pub sessions: Vec<SessionReport>,
    /// What is wrong with journals and the store as such.
    pub store_findings: Vec<Failure>,
    /// What could not be checked about the store as such.
    pub store_unchecked: Vec<String>,
    /// What is worth knowing about keys, journals and store.
    pub notes: Vec<String>,
    /// Sessions that hold.
    pub verified: u64,
    /// Sessions that do not.
    pub failed: u64,
    /// Sessions that could not be checked.
    pub unchecked: u64,
    /// Sessions that are not over.
    pub open: u64,
}

impl VerifyReport {
    pub(super) fn new(archive: &Archive) -> Self {
        let notes = archive.keys.notes.clone();
        Self {
            sessions: Vec::new(),
            store_findings: Vec::new(),
            store_unchecked: Vec::new(),
            notes,
            verified: 0,
            failed: 0,
            unchecked: 0,
            open: 0,
        }
    }

    /// Names what lies among recordings and is none.
    pub(super) fn strays(&mut self, keys: impl IntoIterator<Item = String>) {
        self.store_findings.extend(keys.into_iter().map(|key| Failure {
            object: Some(key),
            event: None,
            problem: "the format has no object of this name".to_owned(),
        }));
    }

    /// A store without a single recording proves nothing: it may be the wrong one, or all of it is gone.
    pub(super) fn nothing(&mut self, empty: bool) {
        if empty {
            self.store_unchecked.push("there is no recording and no journal here: is it the right store and prefix?".to_owned());
        }
    }

    pub(super) fn push(&mut self, session: SessionReport) {
        let counter = match session.result {
            Result::Verified => &mut self.verified,
            Result::Failed => &mut self.failed,
            Result::Unchecked => &mut self.unchecked,
            Result::Open => &mut self.open,
        };
        *counter = counter.saturating_add(1);
        self.sessions.push(session);
    }

    /// Takes over what is wrong with journals: all of them, or one task's.
    pub(super) fn journals(&mut self, journals: &Journals, task: Option<TaskId>) {
        let folder = task.map(|task| format!("journal/{task}/"));
        let concerns = |finding: &&Finding| match (&folder, &finding.object) {
            (Some(folder), Some(object)) => object.starts_with(folder),
            _ => true,
        };
        for failure in journals.findings().iter().filter(concerns).map(Failure::from) {
            if !self.store_findings.contains(&failure) {
                self.store_findings.push(failure);
            }
        }
        self.notes.extend(journals.notes().iter().filter(concerns).map(ToString::to_string));
    }

    /// Takes over what is wrong with the store as such.
    pub(super) fn found<'a>(&mut self, findings: impl Iterator<Item = &'a Finding>) {
        for failure in findings.map(Failure::from) {
            if !self.store_findings.contains(&failure) {
                self.store_findings.push(failure);
            }
        }
    }

    /// Says how far digests reach.
    pub(super) fn digests(&mut self, digests: &Digests, manifests: &BTreeMap<String, Hash>) {
        let named = digests.sealed();
        let sealed = manifests.keys().filter_map(|key| ObjectName::parse(key)?.session());
        let rest = sealed.filter(|session| !named.contains(session)).count();
        self.notes.push(format!(
            "digests: {} of tasks and {} of days; they name {} sealed sessions, {rest} are in none yet",
            digests.of_tasks().count(),
            digests.of_days().count(),
            named.len()
        ));
    }

    /// 0: all verified; 1: something does not hold; 2: something could not be checked.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match (self.failed == 0 && self.store_findings.is_empty(), self.unchecked == 0 && self.store_unchecked.is_empty()) {
            (true, true) => 0,
            (true, false) => 2,
            (false, _) => 1,
        }
    }

    /// Writes it for people.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let line = |text: &str| visible(text, false);
        for session in &self.sessions {
            let word = match session.result {
                Result::Verified => "VERIFIED",
                Result::Failed => "FAILED",
                Result::Unchecked => "NOT CHECKED",
                Result::Open => "OPEN",
            };
            let signed = session.signed_by.as_ref().map_or_else(String::new, |key| format!(", manifest signed by {key}"));
            writeln!(out, "{word:<12} {} {} events, {} statements{signed}", session.session, session.events, session.statements)?;
            for grant in &session.grants {
                writeln!(
                    out,
                    "  approved   statement {} by {} (rule {}, quorum {}, request {})",
                    grant.statement,
                    line(&grant.approved_by.join(", ")),
                    line(&grant.rule),
                    grant.quorum,
                    line(&grant.request)
                )?;
            }
            match &session.retention {
                Some(kept) => writeln!(
                    out,
                    "  retention  {} until {} at least, {} objects",
                    kept.modes.join(", "),
                    timestamp(kept.earliest.saturating_mul(1_000_000)),
                    kept.objects
                )?,
                None if session.state != "missing" => writeln!(out, "  retention  not applicable: the store has no retention of its own")?,
                None => {}
            }
            for failure in &session.failures {
                writeln!(out, "  wrong      {}", line(&failure.to_string()))?;
            }
            for unchecked in &session.unchecked {
                writeln!(out, "  unchecked  {}", line(unchecked))?;
            }
            for note in &session.notes {
                writeln!(out, "  note       {}", line(note))?;
            }
        }
        for failure in &self.store_findings {
            writeln!(out, "FAILED       {}", line(&failure.to_string()))?;
        }
        for unchecked in &self.store_unchecked {
            writeln!(out, "NOT CHECKED  {}", line(unchecked))?;
        }
        for note in &self.notes {
            writeln!(out, "note         {}", line(note))?;
        }
        writeln!(
            out,
            "{} verified, {} failed, {} not checked, {} open; {} findings in journals, digests and store",
            self.verified,
            self.failed,
            self.unchecked,
            self.open,
            self.store_findings.len()
        )
    }
}
