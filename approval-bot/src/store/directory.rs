//! The bot's side of the directory store: for the demo, tests and single machines.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use countersign_approval::RequestId;
use countersign_approval::item::{CardState, Closed, Finished, MAX_QUESTIONS, PRESS_PREFIX, Status, file, voter_file};
use countersign_approval::verify::MAX_TOKENS;
use serde::de::DeserializeOwned;

use super::{Appended, Store, StoreError, Stored, Vote};

/// The largest file anyone reads here.
const MAX_FILE: u64 = 1 << 20;
/// How long what happens once is remembered: longer than any request lives.
const PRESS_MEMORY: Duration = Duration::from_secs(8 * 86_400);
/// File that claims the posting of a card; holds the second until which.
const CLAIM: &str = "card.claim";

/// Requests as folders, see [`countersign_approval::item`].
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// A store in this folder.
    #[must_use]
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Self) -> std::io::Result<T> + Send + 'static) -> Result<T, StoreError> {
        let own = self.clone();
        let fault = |why: String| StoreError { place: self.root.display().to_string(), why };
        match tokio::task::spawn_blocking(move || work(&own)).await {
            Ok(result) => result.map_err(|error| fault(error.to_string())),
            Err(error) => Err(fault(error.to_string())),
        }
    }

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

    /// Creates a file with this content, durably, unless the name is taken. True when created.
    fn create(&self, target: &Path, content: &[u8]) -> std::io::Result<bool> {
        let part = self.aside(content)?;
        let linked = link(&part, target);
        fs::remove_file(&part)?;
        linked
    }

    fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut content = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    fn json<T: DeserializeOwned>(path: &Path) -> std::io::Result<Option<T>> {
        Ok(Self::read(path)?.and_then(|content| serde_json::from_slice(&content).ok()))
    }

    fn decisions(folder: &Path) -> std::io::Result<Vec<String>> {
        let mut tokens = Vec::new();
        while let Some(content) = Self::read(&folder.join(file::DECISIONS).join(file::decision(tokens.len())))? {
            tokens.push(String::from_utf8_lossy(&content).trim().to_owned());
            if tokens.len() > MAX_TOKENS {
                break;
            }
        }
        Ok(tokens)
    }

    fn questions(folder: &Path) -> std::io::Result<Vec<String>> {
        let mut questions = Vec::new();
        while questions.len() < MAX_QUESTIONS
            && let Some(content) = Self::read(&folder.join(file::QUESTIONS).join(format!("{}.txt", questions.len())))?
        {
            questions.push(String::from_utf8_lossy(&content).into_owned());
        }
        Ok(questions)
    }

    fn append_now(&self, id: &RequestId, token: &str, voters: &[String; 2], close: Option<&Closed>) -> std::io::Result<Appended> {
        let folder = self.folder(id);
        if Self::read(&folder.join(file::REQUEST))?.is_none() || Self::read(&folder.join(file::CLOSED))?.is_some() {
            return Ok(Appended::NotOpen);
        }
        let part = self.aside(token.as_bytes())?;
        let done = (|| {
            for voter in voters {
                if !link(&part, &folder.join(file::VOTERS).join(voter_file(voter)))? {
                    return Ok(Appended::AlreadyVoted);
                }
            }
            // A denial closes the request or loses against whoever closed it first; only then does its token count as delivered.
            if let Some(closed) = close
                && !self.create(&folder.join(file::CLOSED), &serde_json::to_vec(closed)?)?
            {
                return Ok(Appended::NotOpen);
            }
            for n in 0..MAX_TOKENS {
                if link(&part, &folder.join(file::DECISIONS).join(file::decision(n)))? {
                    return Ok(Appended::Done);
                }
            }
            Err(std::io::Error::other("no room for another decision"))
        })();
        fs::remove_file(&part)?;
        done
    }
}

/// Links a finished file into place, durably. False when the name is taken.
fn link(part: &Path, target: &Path) -> std::io::Result<bool> {
    match fs::hard_link(part, target) {
        Ok(()) => {
            if let Some(folder) = target.parent() {
                File::open(folder)?.sync_all()?;
            }
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Store for Directory {
    async fn check(&self) -> Result<(), StoreError> {
        self.blocking(|own| {
            fs::create_dir_all(own.root.join(file::PARTS))?;
            let presses = own.root.join(file::PRESSES);
            fs::create_dir_all(&presses)?;
            for press in fs::read_dir(&presses)? {
                let press = press?;
                let age = SystemTime::now().duration_since(press.metadata()?.modified()?).unwrap_or_default();
                if age > PRESS_MEMORY {
                    fs::remove_file(press.path())?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn get(&self, id: &RequestId) -> Result<Option<Stored>, StoreError> {
        let id = id.clone();
        self.blocking(move |own| {
            let folder = own.folder(&id);
            let Some(request) = Self::read(&folder.join(file::REQUEST))? else { return Ok(None) };
            let closed: Option<Closed> = Self::json(&folder.join(file::CLOSED))?;
            let finished: Option<Finished> = Self::json(&folder.join(file::FINISHED))?;
            let status = match closed.as_ref().map_or(Status::Open, |closed| closed.status) {
                Status::Consumed if finished.is_some() => Status::Finished,
                status => status,
            };
            Ok(Some(Stored {
                request,
                status,
                why: closed.map(|closed| closed.why),
                outcome: finished.map(|finished| finished.outcome),
                tokens: Self::decisions(&folder)?,
                left_at: Self::json(&folder.join(file::LEFT))?,
                used: Self::json(&folder.join(file::USED))?,
                questions: Self::questions(&folder)?,
                card: Self::json(&folder.join(file::CARD))?.unwrap_or_default(),
            }))
        })
        .await
    }

    async fn list(&self) -> Result<Vec<RequestId>, StoreError> {
        self.blocking(|own| {
            let mut ids = Vec::new();
            for entry in fs::read_dir(&own.root)? {
                let name = entry?.file_name();
                ids.extend(name.to_str().and_then(|name| RequestId::parse(name).ok()));
            }
            Ok(ids)
        })
        .await
    }

    async fn unsettled(&self) -> Result<Vec<RequestId>, StoreError> {
        let mut ids = Vec::new();
        for id in self.list().await? {
            if self.get(&id).await?.is_some_and(|stored| stored.status == Status::Open) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    async fn append(&self, id: &RequestId, vote: &Vote<'_>) -> Result<Appended, StoreError> {
        let (id, token, voters, close) = (id.clone(), vote.token.to_owned(), vote.voters.clone(), vote.close.clone());
        self.blocking(move |own| own.append_now(&id, &token, &voters, close.as_ref())).await
    }

    async fn close(&self, id: &RequestId, closed: &Closed) -> Result<bool, StoreError> {
        let (id, closed) = (id.clone(), closed.clone());
        self.blocking(move |own| own.create(&own.folder(&id).join(file::CLOSED), &serde_json::to_vec(&closed)?)).await
    }

    async fn take_once(&self, key: &str, _forget_at: u64) -> Result<bool, StoreError> {
        let name = voter_file(&format!("{PRESS_PREFIX}{key}"));
        self.blocking(move |own| own.create(&own.root.join(file::PRESSES).join(name), b"")).await
    }

    async fn ask(&self, id: &RequestId, question: &str) -> Result<bool, StoreError> {
        let (id, question) = (id.clone(), question.to_owned());
        self.blocking(move |own| {
            let folder = own.folder(&id);
            if Self::read(&folder.join(file::REQUEST))?.is_none() || Self::read(&folder.join(file::CLOSED))?.is_some() {
                return Ok(false);
            }
            let questions = folder.join(file::QUESTIONS);
            fs::create_dir_all(&questions)?;
            for n in 0..MAX_QUESTIONS {
                if own.create(&questions.join(format!("{n}.txt")), question.as_bytes())? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }

    async fn claim_card(&self, id: &RequestId, now: u64, until: u64) -> Result<bool, StoreError> {
        let id = id.clone();
        self.blocking(move |own| {
            let folder = own.folder(&id);
            let card: CardState = Self::json(&folder.join(file::CARD))?.unwrap_or_default();
            if card.ts.is_some() {
                return Ok(false);
            }
            let claim = folder.join(CLAIM);
            let claimed_until: Option<u64> = Self::json(&claim)?;
            if claimed_until.is_some_and(|until| until <= now) {
                fs::remove_file(&claim)?;
            }
            own.create(&claim, until.to_string().as_bytes())
        })
        .await
    }

    async fn save_card(&self, id: &RequestId, card: &CardState) -> Result<(), StoreError> {
        let (id, card) = (id.clone(), card.clone());
        self.blocking(move |own| {
            let folder = own.folder(&id);
            let part = own.aside(&serde_json::to_vec(&card)?)?;
            fs::rename(&part, folder.join(file::CARD))?;
            match fs::remove_file(folder.join(CLAIM)) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })
        .await
    }
}
