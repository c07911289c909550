//! A signed package for a period: what auditors ask a bank for, taken from recordings that were verified on the way. It says what supports a
//! control, never that one is met.

mod collect;
mod controls;
mod page;
mod tables;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use countersign_recording::v1::manifest::Payload;
use countersign_recording::{Digests, Hash, Keys, ObjectName, Outage, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::export;
use crate::list::{self, Filter};
use crate::load::{Archive, Session};
use crate::reviews;
use crate::seal::{Key, Signer};
use crate::store::{Attempt, Retention};
use crate::text::timestamp;
use crate::verify::{self, SessionReport, VerifyReport};

pub(crate) use collect::said;
pub use collect::{Collection, Denied, Exception, Held, PolicyUse};
pub use controls::{CONTROLS, Control, SOURCES};

/// Name of the signed list of files.
const PACKAGE: &str = "package.json";

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Order {
    /// Begin of the period, microseconds since the epoch.
    pub since_us: i64,
    /// End.
    pub until_us: i64,
    /// Seed of the samples.
    pub seed: u64,
    /// How many of each population.
    pub samples: usize,
    /// Whether to try what the store must refuse.
    pub try_deletion: bool,
}

/// The signed list of files, `package.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// `countersign-evidence`.
    #[serde(rename = "type")]
    pub kind: String,
    /// 1.
    pub version: u32,
    /// Begin of the period, RFC 3339.
    pub since: String,
    /// End.
    pub until: String,
    /// When it was made.
    pub made: String,
    /// Program and version.
    pub made_by: String,
    /// Seed of the samples.
    pub seed: u64,
    /// Exit status of verification: 0 when all held.
    pub verification: u8,
    /// Files.
    pub files: Vec<File>,
}

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Path in the package.
    pub path: String,
    /// SHA-256.
    pub sha256: Hash,
    /// Length, bytes.
    pub length: u64,
}

impl Payload for Package {
    const KIND: &'static str = "countersign-evidence";

    fn stated(&self) -> (&str, u32) {
        (&self.kind, self.version)
    }
}

/// All that a package is made of.
pub(crate) struct Evidence {
    pub(crate) order: Order,
    pub(crate) sessions: Vec<list::Row>,
    pub(crate) reports: Vec<SessionReport>,
    pub(crate) collection: Collection,
    pub(crate) verification: VerifyReport,
    pub(crate) outages: Vec<(String, Outage)>,
    pub(crate) lost: Vec<(String, i64, u64)>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) samples: Samples,
    pub(crate) made_us: i64,
}

/// Drawn from the populations.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Samples {
    /// Held statements.
    pub(crate) held: Vec<Held>,
    /// Sessions.
    pub(crate) sessions: Vec<String>,
}

/// Makes a package in a folder that must not be there yet.
///
/// # Errors
/// When the store cannot be read, or the folder not written.
pub async fn make(archive: &Archive, order: Order, signer: &Signer, folder: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    ensure!(order.since_us < order.until_us, "--since must be before --until");
    let key = Key::open(signer).await?;
    if folder.exists() {
        bail!("{} is there already: evidence is never written over", folder.display());
    }
    let made_us = archive.now_us;
    let verification = verify::all(archive).await?;
    let filter = Filter { since_us: Some(order.since_us), until_us: Some(order.until_us), ..Filter::default() };
    let sessions = list::rows(archive, &filter).await?;
    let mut collection = Collection::default();
    let mut reports = Vec::new();
    let mut files = Files::new(folder)?;
    for row in &sessions {
        let id: SessionId = row.session.parse()?;
        let (session, _) = archive.load(id, false).await?;
        let report = verification.sessions.iter().find(|report| report.session == row.session).cloned();
        let report = report.with_context(|| format!("session {id} appeared while the package was made: start again"))?;
        collection.add(&session, &report);
        collection.add_broken_glass(reviews::of(archive, &session).await?);
        reports.push(report);
    }
    for failure in &verification.store_findings {
        let what = failure.to_string();
        collection.exceptions.push(Exception { session: String::new(), event: failure.event, kind: "verification", what });
    }
    for what in verification.store_unchecked.clone() {
        collection.exceptions.push(Exception { session: String::new(), event: None, kind: "not-checked", what });
    }
    let samples = draw(&order, &sessions, &collection);
    let digests = archive.digests(&countersign_recording::Journals::default()).await?;
    let (outages, lost) = outages(&digests, &order);
    let attempts = match (&order.try_deletion, sessions.iter().find(|row| row.state == "sealed")) {
        (true, Some(row)) => try_deletion(archive, row.session.parse()?).await?,
        _ => Vec::new(),
    };
    for id in samples.held.iter().map(|held| &held.session).chain(&samples.sessions).collect::<std::collections::BTreeSet<_>>() {
        let (session, _) = archive.load(id.parse()?, false).await?;
        let report = reports.iter().find(|report| report.session == *id);
        write_sample(&mut files, id, &session, report)?;
    }
    let evidence = Evidence { order, sessions, reports, collection, verification, outages, lost, attempts, samples, made_us };
    tables::write(&evidence, &mut files)?;
    let mut index = Vec::new();
    page::write(&evidence, &mut index)?;
    files.add("index.html", &index)?;
    let count = files.list.len();
    let package = Package {
        kind: Package::KIND.to_owned(),
        version: 1,
        since: timestamp(evidence.order.since_us),
        until: timestamp(evidence.order.until_us),
        made: timestamp(made_us),
        made_by: concat!("countersign-audit ", env!("CARGO_PKG_VERSION")).to_owned(),
        seed: evidence.order.seed,
        verification: evidence.verification.exit_status(),
        files: std::mem::take(&mut files.list),
    };
    let signed = key.sign(package.unsigned(key.id())?).await?;
    files.add(PACKAGE, &signed)?;
    writeln!(
        out,
        "wrote {} ({count} files, signed by key {}): {} sessions, {} held statements, {} exceptions, verification status {}",
        folder.display(),
        key.id(),
        evidence.sessions.len(),
        evidence.collection.held.len(),
        evidence.collection.exceptions.len(),
        package.verification
    )?;
    Ok(())
}

/// Checks a package: its signature, and every file in it. Gives what is wrong, and the list of files where its signature holds.
///
/// # Errors
/// When it cannot be read.
pub fn check(folder: &Path, keys: &Keys) -> anyhow::Result<(Option<Package>, Vec<String>)> {
    let path = folder.join(PACKAGE);
    let object = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let package = match Package::verified(&object, keys) {
        Ok((package, _)) => package,
        Err(error) => return Ok((None, vec![format!("{PACKAGE}: {error}")])),
    };
    let mut wrong = Vec::new();
    for file in &package.files {
        // Paths are the signer's, and a folder is all they may reach.
        let plain = Path::new(&file.path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        match std::fs::read(folder.join(&file.path)).ok().filter(|_| plain) {
            None => wrong.push(format!("{}: missing", file.path)),
            Some(bytes) if Hash::of(&bytes) != file.sha256 => wrong.push(format!("{}: changed", file.path)),
            Some(_) => {}
        }
    }
    let mut found = Vec::new();
    walk(folder, "", &mut found)?;
    wrong.extend(
        found
            .into_iter()
            .filter(|path| path != PACKAGE && !package.files.iter().any(|file| file.path == *path))
            .map(|path| format!("{path}: not of the package")),
    );
    Ok((Some(package), wrong))
}

fn walk(folder: &Path, below: &str, found: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let path = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() { walk(&entry.path(), &format!("{path}/"), found)? } else { found.push(path) }
    }
    Ok(())
}

/// Files being written.
pub(crate) struct Files {
    folder: PathBuf,
    list: Vec<File>,
}

impl Files {
    fn new(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder.join("samples")).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), list: Vec::new() })
    }

    /// Writes one.
    pub(crate) fn add(&mut self, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let full = self.folder.join(path);
        std::fs::write(&full, bytes).with_context(|| format!("cannot write {}", full.display()))?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.list.push(File { path: path.to_owned(), sha256: Hash::of(bytes), length });
        Ok(())
    }
}

fn write_sample(files: &mut Files, id: &str, session: &Session, report: Option<&SessionReport>) -> anyhow::Result<()> {
    let mut page = Vec::new();
    export::html(session, report, &mut page)?;
    files.add(&format!("samples/{id}.html"), &page)?;
    let mut lines = Vec::new();
    export::jsonl(session, &mut lines)?;
    files.add(&format!("samples/{id}.jsonl"), &lines)
}

/// Draws samples: those whose SHA-256 over seed and name is lowest. Anybody can draw them again from the population and the seed.
fn draw(order: &Order, sessions: &[list::Row], collection: &Collection) -> Samples {
    let lot = |name: &str| Hash::of(format!("{}:{name}", order.seed).as_bytes());
    let mut held: Vec<&Held> = collection.held.iter().collect();
    held.sort_by_key(|held| lot(&held.request));
    let mut names: Vec<&String> = sessions.iter().map(|row| &row.session).collect();
    names.sort_by_key(|name| lot(name));
    Samples {
        held: held.into_iter().take(order.samples).cloned().collect(),
        sessions: names.into_iter().take(order.samples).cloned().collect(),
    }
}

type Lost = Vec<(String, i64, u64)>;

fn outages(digests: &Digests, order: &Order) -> (Vec<(String, Outage)>, Lost) {
    let (mut outages, mut lost): (Vec<(String, Outage)>, Lost) = (Vec::new(), Vec::new());
    for digest in digests.of_tasks() {
        for outage in &digest.outages {
            if outage.from_us >= order.until_us || outage.until_us.is_some_and(|until| until < order.since_us) {
                continue;
            }
            // One that lasts is told by every digest until it is over.
            outages.retain(|(task, known)| *task != digest.task.to_string() || known.from_us != outage.from_us);
            outages.push((digest.task.to_string(), outage.clone()));
        }
        if digest.lost > 0 && digest.from_us < order.until_us && digest.until_us >= order.since_us {
            lost.push((digest.task.to_string(), digest.until_us, digest.lost));
        }
    }
    (outages, lost)
}

/// Tries on one sealed session what the store must refuse.
async fn try_deletion(archive: &Archive, id: SessionId) -> anyhow::Result<Vec<Attempt>> {
    for key in archive.find(id).await? {
        if matches!(ObjectName::parse(&key), Some(ObjectName::Segment { .. }))
            && matches!(archive.store.retention(&key).await?, Retention::Until { .. })
        {
            return Ok(archive.store.try_to_break(&key).await?);
        }
    }
    Ok(Vec::new())
}

/// What the deletion test found, as JSON.
pub(crate) fn attempts_json(attempts: &[Attempt]) -> serde_json::Value {
    json!({
        "tried": !attempts.is_empty(),
        "refused": !attempts.is_empty() && attempts.iter().all(|attempt| attempt.refused),
        "attempts": attempts.iter().map(|attempt| json!({ "what": attempt.what, "refused": attempt.refused, "answer": attempt.answer })).collect::<Vec<_>>(),
    })
}
