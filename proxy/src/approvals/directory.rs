//! The store in a folder that proxy and bot share: for the demo, tests and single machines.
//!
//! Each file is written aside, synced, and linked into place under a name that must not exist, which is the conditional write here:
//! exactly one linker wins, and nobody ever sees half a file. Layout: [`countersign_approval::item`].

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_approval::item::{CardState, Closed, Finished, MAX_QUESTIONS, Status, file};
use countersign_approval::{Request, RequestId, StatementDigest, UnverifiedRequest};
use serde::de::DeserializeOwned;

use super::store::{Listed, Snapshot, Store, StoreError};

/// The largest file anyone reads here.
const MAX_FILE: u64 = 1 << 20;
/// How long the token of a denial may come after the denial itself; a bot that died in between never writes it.
const DENIAL_LAG: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
}

impl Directory {
    pub(super) const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Runs file work off the async threads.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Files) -> std::io::Result<T> + Send + 'static) -> Result<T, StoreError> {
        let files = Files { root: self.root.clone() };
        let path = self.root.display().to_string();
        match tokio::task::spawn_blocking(move || work(&files)).await {
            Ok(result) => result.map_err(|error| StoreError::Unavailable(format!("{path}: {error}"))),
            Err(error) => Err(StoreError::Unavailable(format!("{path}: {error}"))),
        }
    }
}

#[async_trait]
impl Store for Directory {
    async fn check(&self) -> Result<(), StoreError> {
        self.blocking(|files| {
            fs::create_dir_all(files.root.join(file::PARTS))?;
            // A link is what every change needs: prove that this file system and these permissions allow it.
            let probe = format!("probe-{}", uuid::Uuid::new_v4());
            let placed = files.create(&files.root.join(&probe), b"");
            fs::remove_file(files.root.join(&probe))?;
            placed.map(|_| ())
        })
        .await
        .map_err(|error| match error {
            StoreError::Unavailable(why) => StoreError::Unusable(format!("directory must be writable and allow hard links: {why}")),
            other => other,
        })
    }

    async fn place(&self, request: &Request, bytes: &[u8]) -> Result<(), StoreError> {
        let id = request.id.clone();
        let bytes = bytes.to_vec();
        let fits = self
            .blocking(move |files| {
                let folder = files.folder(&id);
                fs::create_dir_all(folder.join(file::DECISIONS))?;
                fs::create_dir_all(folder.join(file::VOTERS))?;
                let target = folder.join(file::REQUEST);
                Ok(files.create(&target, &bytes)? || files.read(&target)?.as_ref() == Some(&bytes))
            })
            .await?;
        if fits { Ok(()) } else { Err(StoreError::IdTaken) }
    }

    async fn read(&self, ids: &[RequestId]) -> Result<HashMap<RequestId, Snapshot>, StoreError> {
        let ids = ids.to_vec();
        self.blocking(move |files| {
            let mut found = HashMap::new();
            for id in ids {
                if let Some(snapshot) = files.snapshot(&id)? {
                    found.insert(id, snapshot);
                }
            }
            Ok(found)
        })
        .await
    }

    async fn fetch(&self, id: &RequestId) -> Result<Option<(Vec<u8>, Snapshot)>, StoreError> {
        let id = id.clone();
        self.blocking(move |files| {
            let Some(bytes) = files.read(&files.folder(&id).join(file::REQUEST))? else { return Ok(None) };
            Ok(files.snapshot(&id)?.map(|snapshot| (bytes, snapshot)))
        })
        .await
    }

    async fn open(&self, now: u64) -> Result<Vec<Listed>, StoreError> {
        self.blocking(move |files| {
            let mut open = Vec::new();
            for entry in fs::read_dir(&files.root)? {
                let Some(id) = entry?.file_name().to_str().and_then(|name| RequestId::parse(name).ok()) else { continue };
                let folder = files.folder(&id);
                let Some(request) = files.read(&folder.join(file::REQUEST))? else { continue };
                let lives = UnverifiedRequest::new(&request).parse().is_ok_and(|request| now < request.expires_at);
                if lives && files.read(&folder.join(file::CLOSED))?.is_none() {
                    let attended = files.read(&folder.join(file::LEFT))?.is_none();
                    open.push(Listed { request, attended, tokens: files.decisions(&folder)? });
                }
            }
            Ok(open)
        })
        .await
    }

    async fn pointer(&self, key: &str) -> Result<Option<RequestId>, StoreError> {
        let folder = self.root.join(file::AGAIN).join(key);
        self.blocking(move |files| Ok(files.last_pointer(&folder)?.1)).await
    }

    async fn point(&self, key: &str, from: Option<&RequestId>, to: &RequestId, _forget_at: u64) -> Result<bool, StoreError> {
        let folder = self.root.join(file::AGAIN).join(key);
        let (from, to) = (from.cloned(), to.clone());
        self.blocking(move |files| {
            fs::create_dir_all(&folder)?;
            let (next, last) = files.last_pointer(&folder)?;
            // The name of the next one is free for exactly one of those who saw the same last one.
            Ok(last == from && files.create(&folder.join(next.to_string()), to.as_str().as_bytes())?)
        })
        .await
    }

    async fn attend(&self, id: &RequestId, left_at: Option<u64>) -> Result<(), StoreError> {
        let id = id.clone();
        self.blocking(move |files| {
            let left = files.folder(&id).join(file::LEFT);
            match left_at {
                Some(at) => files.create(&left, at.to_string().as_bytes()).map(|_| ()),
                None => match fs::remove_file(&left) {
                    Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                },
            }
        })
        .await
    }

    async fn note_run(&self, id: &RequestId, digest: &StatementDigest, run: u32, now: u64) -> Result<bool, StoreError> {
        let (id, digest) = (id.clone(), *digest);
        self.blocking(move |files| {
            let folder = files.folder(&id);
            let Some(bytes) = files.read(&folder.join(file::REQUEST))? else { return Ok(false) };
            let fits = UnverifiedRequest::new(&bytes).parse().is_ok_and(|request| request.digest == digest && now < request.expires_at);
            if !fits || files.read(&folder.join(file::CLOSED))?.is_some() {
                return Ok(false);
            }
            // A number for people; what was used is said by the marks.
            let part = files.aside(run.to_string().as_bytes())?;
            fs::rename(part, folder.join(file::USED))?;
            Ok(true)
        })
        .await
    }

    async fn close(&self, id: &RequestId, digest: Option<&StatementDigest>, closed: &Closed) -> Result<bool, StoreError> {
        let (id, digest) = (id.clone(), digest.copied());
        let closed = closed.clone();
        self.blocking(move |files| {
            let folder = files.folder(&id);
            let Some(bytes) = files.read(&folder.join(file::REQUEST))? else { return Ok(false) };
            if let Some(digest) = digest {
                let matches =
                    UnverifiedRequest::new(&bytes).parse().is_ok_and(|request| request.digest == digest && closed.at < request.expires_at);
                if !matches {
                    return Ok(false);
                }
            }
            files.create(&folder.join(file::CLOSED), &serde_json::to_vec(&closed)?)
        })
        .await
    }

    async fn finish(&self, id: &RequestId, outcome: &str, at: u64, _forget_at: u64) -> Result<bool, StoreError> {
        let id = id.clone();
        let finished = Finished { outcome: outcome.to_owned(), at };
        self.blocking(move |files| {
            let folder = files.folder(&id);
            if files.read(&folder.join(file::CLOSED))?.is_none() {
                return Ok(false);
            }
            files.create(&folder.join(file::FINISHED), &serde_json::to_vec(&finished)?)
        })
        .await
    }
}

struct Files {
    root: PathBuf,
}

impl Files {
    /// INVARIANT: a request id holds no separators or dots, so this never leaves the root.
    fn folder(&self, id: &RequestId) -> PathBuf {
        self.root.join(id.as_str())
    }

    /// Writes a file aside, durably.
    fn aside(&self, content: &[u8]) -> std::io::Result<PathBuf> {
        let part = self.root.join(file::PARTS).join(uuid::Uuid::new_v4().to_string());
        let mut aside = File::create_new(&part)?;
        aside.write_all(content)?;
        aside.sync_all()?;
        Ok(part)
    }

    /// The number of the next pointer in a folder, and where the last one leads.
    fn last_pointer(&self, folder: &Path) -> std::io::Result<(u32, Option<RequestId>)> {
        let names = match fs::read_dir(folder) {
            Ok(names) => names,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((0, None)),
            Err(error) => return Err(error),
        };
        let mut last: Option<u32> = None;
        for name in names {
            last = last.max(name?.file_name().to_str().and_then(|name| name.parse().ok()));
        }
        let Some(last) = last else { return Ok((0, None)) };
        let content = self.read(&folder.join(last.to_string()))?.unwrap_or_default();
        Ok((last.saturating_add(1), std::str::from_utf8(&content).ok().and_then(|id| RequestId::parse(id).ok())))
    }

    /// Creates a file with this content, durably, unless the name is taken. True when created.
    fn create(&self, target: &Path, content: &[u8]) -> std::io::Result<bool> {
        let part = self.aside(content)?;
        let linked = match fs::hard_link(&part, target) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        };
        fs::remove_file(&part)?;
        if let (Ok(true), Some(folder)) = (&linked, target.parent()) {
            File::open(folder)?.sync_all()?;
        }
        linked
    }

    fn read(&self, path: &Path) -> std::io::Result<Option<Vec<u8>>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut content = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    fn json<T: DeserializeOwned>(&self, path: &Path) -> std::io::Result<Option<T>> {
        Ok(self.read(path)?.and_then(|content| serde_json::from_slice(&content).ok()))
    }

    fn snapshot(&self, id: &RequestId) -> std::io::Result<Option<Snapshot>> {
        let folder = self.folder(id);
        if self.read(&folder.join(file::REQUEST))?.is_none() {
            return Ok(None);
        }
        let mut closed: Option<Closed> = self.json(&folder.join(file::CLOSED))?;
        let tokens = self.decisions(&folder)?;
        // The bot closes first and puts its token there then: between the two the request is not denied yet, for whoever reads the reason.
        if closed.as_ref().is_some_and(|closed| closed.status == Status::Denied)
            && !tokens.iter().any(|token| denies(token))
            && self.age(&folder.join(file::CLOSED))? < DENIAL_LAG
        {
            closed = None;
        }
        let card: CardState = self.json(&folder.join(file::CARD))?.unwrap_or_default();
        let status = closed.as_ref().map_or(Status::Open, |closed| closed.status);
        Ok(Some(Snapshot {
            tokens,
            status: Some(status),
            why: closed.map(|closed| closed.why),
            card_error: card.error,
            questions: self.questions(&folder)?,
        }))
    }

    /// Since when a file is there. A clock that was put back makes it old.
    fn age(&self, path: &Path) -> std::io::Result<Duration> {
        Ok(fs::metadata(path)?.modified()?.elapsed().unwrap_or(Duration::MAX))
    }

    fn questions(&self, folder: &Path) -> std::io::Result<Vec<String>> {
        let mut questions = Vec::new();
        while questions.len() < MAX_QUESTIONS
            && let Some(content) = self.read(&folder.join(file::QUESTIONS).join(format!("{}.txt", questions.len())))?
        {
            questions.push(String::from_utf8_lossy(&content).into_owned());
        }
        Ok(questions)
    }

    fn decisions(&self, folder: &Path) -> std::io::Result<Vec<String>> {
        let mut tokens = Vec::new();
        while let Some(content) = self.read(&folder.join(file::DECISIONS).join(file::decision(tokens.len())))? {
            tokens.push(String::from_utf8_lossy(&content).trim().to_owned());
            if tokens.len() > countersign_approval::verify::MAX_TOKENS {
                break;
            }
        }
        Ok(tokens)
    }
}

/// Whether a token says that it denies. Whether that is true, its signature tells whoever judges it.
fn denies(token: &str) -> bool {
    let claims = token.split('.').nth(1).and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok());
    claims
        .and_then(|claims| serde_json::from_slice::<serde_json::Value>(&claims).ok())
        .is_some_and(|claims| claims.get("verdict").and_then(serde_json::Value::as_str) == Some("deny"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use countersign_approval::RequestId;
    use countersign_approval::item::{Closed, Status, file};

    use super::Files;

    /// Between the two writes of a denial the requester would be told of a denial without a reason.
    #[test]
    fn a_denial_counts_with_its_token_or_when_that_never_came() {
        let root = tempfile::tempdir().unwrap();
        let id = RequestId::from_bytes([1; 16]);
        let files = Files { root: root.path().to_owned() };
        let folder = files.folder(&id);
        fs::create_dir_all(folder.join(file::DECISIONS)).unwrap();
        fs::write(folder.join(file::REQUEST), "{}").unwrap();
        let closed = |status| Closed { status, by: "bot".to_owned(), at: 1, why: "denied by lee".to_owned() };
        let close = |status| fs::write(folder.join(file::CLOSED), serde_json::to_vec(&closed(status)).unwrap()).unwrap();
        let status = || files.snapshot(&id).unwrap().unwrap().status.unwrap();
        assert_eq!(status(), Status::Open);
        close(Status::Denied);
        assert_eq!(status(), Status::Open);
        let token = |verdict: &str| format!("e30.{}.x", URL_SAFE_NO_PAD.encode(format!("{{\"verdict\":\"{verdict}\"}}")));
        fs::write(folder.join(file::DECISIONS).join("0.jws"), token("approve")).unwrap();
        assert_eq!(status(), Status::Open);
        let old = SystemTime::now() - Duration::from_secs(60);
        File::options().append(true).open(folder.join(file::CLOSED)).unwrap().set_modified(old).unwrap();
        assert_eq!(status(), Status::Denied, "the bot died in between");
        close(Status::Denied);
        fs::write(folder.join(file::DECISIONS).join("1.jws"), token("deny")).unwrap();
        assert_eq!(status(), Status::Denied);
        close(Status::Cancelled);
        assert_eq!(status(), Status::Cancelled);
    }
}
