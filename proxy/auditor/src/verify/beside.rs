//! What lies beside the recordings and says what became of requests: marks of grants that were used up (`grants/<request>/<run>.json`), and
//! reviews of statements that ran at once (`reviews/<request>.json`). Marks are not signed: what holds them is that every run in a recording has
//! its own, with the digest of the statement. Reviews are signed over the request as it is recorded.

use std::collections::BTreeMap;

use countersign_approval::break_glass::REVIEWS;
use serde::Deserialize;

use super::{Failure, VerifyReport};
use crate::load::Archive;
use crate::reviews::BrokenGlass;
use crate::store::StoreError;

/// Where marks lie.
pub(crate) const GRANTS: &str = "grants/";

/// How far the time of a mark may be from that of the run it is for, which is recorded right after.
const SLACK_S: u64 = 300;

/// A mark, as it lies there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    version: u32,
    request: String,
    run: u32,
    digest: String,
    used_by: Option<String>,
    used_at: Option<u64>,
    denied_by: Option<String>,
    denied_at: Option<u64>,
}

impl Mark {
    /// Exactly as it was written: one value, one spelling.
    fn read(bytes: &[u8]) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        let mark: Self = serde_json::from_slice(bytes).ok().filter(|_| value.to_string().as_bytes() == bytes)?;
        let either = (mark.used_by.is_some() && mark.used_at.is_some()) != (mark.denied_by.is_some() && mark.denied_at.is_some());
        (mark.version == 1 && either).then_some(mark)
    }
}

/// A run of a grant, by a recording.
struct Run {
    digest: String,
    at: String,
    time_s: u64,
}

/// Holds marks, and the reviews that were `there`, against what the sessions in the report and these statements say.
pub(super) async fn check(
    archive: &Archive,
    broken: &[BrokenGlass],
    there: &[String],
    report: &mut VerifyReport,
) -> Result<(), StoreError> {
    let mut runs: BTreeMap<String, Vec<Run>> = BTreeMap::new();
    for session in &report.sessions {
        for grant in session.grants.iter().filter(|grant| grant.runs.is_some()) {
            let run = Run {
                digest: hex::encode(grant.digest),
                at: format!("session {}, event {}", session.session, grant.event),
                time_s: u64::try_from(grant.time_us.div_euclid(1_000_000)).unwrap_or(0),
            };
            runs.entry(grant.request.clone()).or_default().push(run);
        }
    }
    marks(archive, &runs, report).await?;
    reviews(there, broken, report);
    Ok(())
}

async fn marks(archive: &Archive, runs: &BTreeMap<String, Vec<Run>>, report: &mut VerifyReport) -> Result<(), StoreError> {
    let mut used: BTreeMap<String, BTreeMap<u32, Mark>> = BTreeMap::new();
    for object in archive.store.get_all(archive.store.keys(GRANTS).await?).await? {
        let mark = Mark::read(&object.bytes).filter(|mark| object.key == format!("{GRANTS}{}/{}.json", mark.request, mark.run));
        match mark {
            Some(mark) => {
                used.entry(mark.request.clone()).or_default().insert(mark.run, mark);
            }
            None => wrong(report, object.key, "not the mark that its name says".to_owned()),
        }
    }
    let none = BTreeMap::new();
    for (request, runs) in runs {
        let marks = used.get(request).unwrap_or(&none);
        let taken: Vec<&Mark> = marks.values().filter(|mark| mark.used_by.is_some() && mark.denied_by.is_none()).collect();
        if taken.len() < runs.len() {
            let missing = (1_u32..).find(|run| !taken.iter().any(|mark| mark.run == *run)).unwrap_or(1);
            let at: Vec<&str> = runs.iter().map(|run| run.at.as_str()).collect();
            let problem = format!("missing: request {request} ran {} times ({}), and has {} marks", runs.len(), at.join("; "), taken.len());
            wrong(report, format!("{GRANTS}{request}/{missing}.json"), problem);
        }
        for mark in marks.values() {
            if let Some(run) = runs.first().filter(|run| run.digest != mark.digest) {
                let problem = format!("its digest is not that of the statement in {}, for which request {request} was granted", run.at);
                wrong(report, format!("{GRANTS}{request}/{}.json", mark.run), problem);
            }
            if let Some(used_at) = mark.used_at.filter(|at| !runs.iter().any(|run| run.time_s.abs_diff(*at) <= SLACK_S))
                // One that a gateway took before it died has no run, whatever its time.
                && taken.len() == runs.len()
            {
                let at = crate::text::timestamp(i64::try_from(used_at).unwrap_or(i64::MAX).saturating_mul(1_000_000));
                let problem = format!("used {at}, when no recording says that request {request} ran");
                wrong(report, format!("{GRANTS}{request}/{}.json", mark.run), problem);
            }
        }
    }
    for (request, marks) in &used {
        let recorded = runs.get(request).map_or(0, Vec::len);
        let taken = marks.values().filter(|mark| mark.denied_by.is_none()).count();
        if taken > recorded {
            report.notes.push(format!(
                "{GRANTS}{request}/: {taken} runs were begun and {recorded} are recorded: a gateway died before it could run, or a recording is missing"
            ));
        }
    }
    Ok(())
}

fn reviews(there: &[String], broken: &[BrokenGlass], report: &mut VerifyReport) {
    let known: BTreeMap<String, &BrokenGlass> = broken.iter().map(|broken| (format!("{REVIEWS}{}.json", broken.request), broken)).collect();
    for key in there {
        match known.get(key) {
            Some(broken) if broken.is_open() => {
                let problem = format!("no review of request {}: not signed over it by its reviewers, or not in time", broken.request);
                wrong(report, key.clone(), problem);
            }
            Some(_) => {}
            None => wrong(report, key.clone(), "a review of nothing that any recording here says ran at once".to_owned()),
        }
    }
    for (key, broken) in known.iter().filter(|(key, broken)| broken.is_open() && !there.contains(*key)) {
        let (was, due) = (if broken.review == "overdue" { "was" } else { "is" }, &broken.due);
        report.notes.push(format!("{key}: there is none, and it {was} due {due}"));
    }
}

fn wrong(report: &mut VerifyReport, object: String, problem: String) {
    report.store_findings.push(Failure { object: Some(object), event: None, problem });
}
