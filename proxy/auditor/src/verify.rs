//! Is a recording what happened? The format's own verification, and what only an auditor asks: were the approvals given, by whom, for
//! exactly this; did anything run without leave; is the store bound to keep it.

mod approvals;
mod beside;
mod environments;
mod report;

use std::collections::BTreeMap;

use countersign_approval::break_glass::REVIEWS;
use countersign_recording::{Anchor, Journals, ObjectName, SessionId};
use futures_util::StreamExt as _;

use crate::load::{Archive, LoadError, Session};
use crate::store::{Retention, Store, StoreError};

use environments::Environments;

pub(crate) use beside::GRANTS;

pub(crate) use approvals::claimed_shown;
pub use approvals::{Grant, Outcome};
pub use report::{Failure, KeptUntil, Result, SessionReport, VerifyReport};

/// Verifies the given sessions.
///
/// # Errors
/// When the store cannot be read.
pub async fn sessions(archive: &Archive, ids: &[SessionId]) -> anyhow::Result<VerifyReport> {
    let mut report = VerifyReport::new(archive);
    let mut grants = BTreeMap::new();
    for id in ids {
        match archive.load(*id, true).await {
            Ok((session, journals)) => {
                let one = one(archive, &session, &mut grants).await?;
                // A recording that was asked for by name and is not sealed cannot be proved whole.
                report.push(if one.result == Result::Open {
                    one.unproved("not sealed yet: verify it again when the session has ended")
                } else {
                    one
                });
                if let Some(key) = lost_task(&session, &journals) {
                    report.notes.push(format!("{key} is not here: nothing but its manifest vouches for session {id}"));
                }
                report.journals(&journals, journals.session(*id).map(|known| known.task));
            }
            Err(LoadError::NotFound(id)) => report.push(SessionReport::missing(id)),
            Err(LoadError::Store(error)) => return Err(error.into()),
        }
    }
    Ok(report)
}

/// Verifies everything in the store, journals included.
///
/// # Errors
/// When the store cannot be read.
pub async fn all(archive: &Archive) -> anyhow::Result<VerifyReport> {
    Ok(all_since(archive, None, None).await?.0)
}

/// The same, and whether what somebody noted earlier is still there, and all is of the environment that should be. Gives what to note now.
///
/// # Errors
/// When the store cannot be read.
pub async fn all_since(archive: &Archive, anchor: Option<&Anchor>, environment: Option<&str>) -> anyhow::Result<(VerifyReport, Anchor)> {
    let mut report = VerifyReport::new(archive);
    // What runs meanwhile has its mark before it is recorded and its review long after: reviews are listed first, marks last.
    let reviews = archive.store.keys(REVIEWS).await?;
    let (stored, strays) = archive.sessions_and_strays(None).await?;
    report.strays(strays);
    let sealed = |id: SessionId| stored.get(&id).is_some_and(|keys| keys.iter().any(|key| key.ends_with("/manifest.json")));
    let journals: Journals = archive.journals(|id| !sealed(id)).await?;
    let mut ids: Vec<SessionId> = stored.keys().copied().chain(journals.sessions()).collect();
    ids.sort();
    ids.dedup();
    let mut grants = BTreeMap::new();
    let mut manifests = BTreeMap::new();
    let mut broken = Vec::new();
    let mut environments = Environments::default();
    report.nothing(ids.is_empty() && journals.tasks().is_empty());
    for id in ids {
        let session = archive.assemble(id, stored.get(&id).cloned().unwrap_or_default(), &journals).await?;
        let one = one(archive, &session, &mut grants).await?;
        manifests.extend(session.manifest.clone());
        broken.extend(crate::reviews::of(archive, &session).await?);
        environments.add(session.environment(), || format!("session {id}"));
        if let (Some(key), Some((manifest, _))) = (lost_task(&session, &journals), &session.manifest) {
            report.store_findings.push(Failure { object: Some(key), event: None, problem: format!("missing: {manifest} names it") });
        }
        report.push(if session.orphan && one.result == Result::Open {
            one.unproved("its task is gone and nobody has sealed it yet")
        } else {
            one
        });
    }
    report.journals(&journals, None);
    for (task, known) in journals.tasks() {
        environments.add(known.statement.as_ref().map(|statement| statement.environment.as_str()), || format!("task {task}"));
    }
    environments.check(environment, &mut report);
    let mut digests = archive.digests(&journals).await?;
    if let Some(anchor) = anchor {
        digests.hold_against(anchor, &format!("the anchor of {}", crate::text::timestamp(anchor.noted_us)), &journals);
    }
    report.found(digests.findings().iter().chain(&digests.sessions(|key| manifests.get(key).copied())));
    report.digests(&digests, &manifests);
    beside::check(archive, &broken, &reviews, &mut report).await?;
    for folder in ["journal/", "digests/", "index/", "grants/", "reviews/"] {
        for alteration in archive.store.alterations(folder).await? {
            report.store_findings.push(Failure { object: Some(alteration.key), event: None, problem: alteration.what });
        }
        let keys = archive.store.keys(folder).await?;
        if !matches!(folder, "grants/" | "reviews/") {
            report.strays(keys.iter().filter(|key| ObjectName::parse(key).is_none()).cloned());
        }
        shared_retention(archive, keys, &mut report).await?;
    }
    // Of sessions that have objects their own reports have told it.
    for alteration in archive.store.alterations("sessions/").await? {
        let session = ObjectName::parse(&alteration.key).and_then(|name| name.session());
        if session.is_none_or(|session| !stored.contains_key(&session)) {
            report.store_findings.push(Failure { object: Some(alteration.key), event: None, problem: alteration.what });
        }
    }
    Ok((report, digests.anchor(&journals, archive.now_us)))
}

/// The statement of a session's task, when that is named and there is nothing of it: the session may be of another store.
fn lost_task(session: &Session, journals: &Journals) -> Option<String> {
    let task = session.stated.as_ref()?.task?;
    (!journals.tasks().contains_key(&task)).then(|| ObjectName::Task { task }.to_string())
}

/// How long the store must keep what belongs to no single session.
async fn shared_retention(archive: &Archive, keys: Vec<String>, report: &mut VerifyReport) -> std::result::Result<(), StoreError> {
    if matches!(archive.store, Store::Directory(_)) {
        return Ok(());
    }
    let mut answers = futures_util::stream::iter(keys)
        .map(|key| async move {
            let retention = archive.store.retention(&key).await;
            (key, retention)
        })
        .buffered(16);
    while let Some((key, retention)) = answers.next().await {
        match retention? {
            Retention::None => {
                report.store_findings.push(Failure { object: Some(key), event: None, problem: "nothing keeps it: no retention".to_owned() })
            }
            Retention::Until { mode, .. } if mode != "COMPLIANCE" => {
                report.notes.push(format!("{key}: retention is {mode}, which privileged users can lift"));
            }
            Retention::Until { .. } | Retention::NotApplicable => {}
        }
    }
    Ok(())
}

/// Verifies one loaded session. `grants` remembers how often each request was used, and by which session first.
async fn one(
    archive: &Archive,
    session: &Session,
    grants: &mut BTreeMap<String, (u32, SessionId)>,
) -> std::result::Result<SessionReport, StoreError> {
    let mut report = SessionReport::new(session);
    let outcome = approvals::check(session, &archive.keys.decision);
    report.statements = outcome.statements;
    report.failures.extend(outcome.failures);
    report.notes.extend(outcome.notes);
    for grant in outcome.grants {
        // Within one session its own check has counted.
        if let Some(runs) = grant.runs {
            let (used, elsewhere) = grants.entry(grant.request.clone()).or_insert((0, session.id));
            *used = used.saturating_add(1);
            if *used > runs && *elsewhere != session.id {
                report.failures.push(Failure {
                    object: None,
                    event: Some(grant.event),
                    problem: format!("grant of request {} was used before, in session {elsewhere}", grant.request),
                });
            }
        }
        report.grants.push(grant);
    }
    retention(archive, session, &mut report).await?;
    report.conclude();
    Ok(report)
}

/// Asks the store how long it must keep each object, and what was done to them since.
async fn retention(archive: &Archive, session: &Session, report: &mut SessionReport) -> std::result::Result<(), StoreError> {
    let now = archive.now_us.div_euclid(1_000_000);
    for key in &session.keys {
        let fail = |problem: &str| Failure { object: Some(key.clone()), event: None, problem: problem.to_owned() };
        match archive.store.retention(key).await {
            Ok(Retention::NotApplicable) => return Ok(()),
            Ok(Retention::None) => {
                report.failures.push(fail("nothing keeps it: no retention (the bucket must have Object Lock, and the writer must set it)"))
            }
            Ok(Retention::Until { mode, until }) => {
                if until <= now {
                    report.notes.push(format!("{key}: its retention ended {}", crate::text::timestamp(until.saturating_mul(1_000_000))));
                }
                if mode != "COMPLIANCE" {
                    report.notes.push(format!("{key}: retention is {mode}, which privileged users can lift"));
                }
                report.keep(&mode, until);
            }
            Err(error) => report.unchecked.push(error.to_string()),
        }
    }
    let mut folders: Vec<&str> = session.keys.iter().filter_map(|key| key.rsplit_once('/').map(|(folder, _)| folder)).collect();
    folders.dedup();
    for folder in folders {
        match archive.store.alterations(&format!("{folder}/")).await {
            Ok(alterations) => report.failures.extend(alterations.into_iter().map(|alteration| Failure {
                object: Some(alteration.key),
                event: None,
                problem: alteration.what,
            })),
            Err(error) => report.unchecked.push(error.to_string()),
        }
    }
    Ok(())
}
