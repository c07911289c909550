//! One table in memory with the conditional writes of the real ones, seen by a proxy or by a bot through a line that loses questions and
//! answers, and dies.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use countersign_approval::item::{CardState, Closed, MAX_QUESTIONS, Status};
use countersign_approval::{Request, RequestId, StatementDigest, UnverifiedRequest};
use countersign_bot::store as bot;

use crate::approvals::store::{Listed, Snapshot, Store, StoreError};
use crate::recorder;

/// One item. What an attacker with the table in hand can change is all of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Item {
    pub(super) request: Vec<u8>,
    pub(super) status: Option<Status>,
    pub(super) digest: String,
    pub(super) expires_at: u64,
    pub(super) tokens: Vec<String>,
    pub(super) voters: BTreeSet<String>,
    pub(super) why: Option<String>,
    pub(super) outcome: Option<String>,
    pub(super) left_at: Option<u64>,
    pub(super) used: Option<u32>,
    pub(super) questions: Vec<String>,
    pub(super) card: CardState,
    pub(super) claim: u64,
}

#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) items: BTreeMap<RequestId, Item>,
    pub(super) pointers: HashMap<String, RequestId>,
    pub(super) once: BTreeSet<String>,
    /// Not in the table: the bucket with Object Lock, which the attacker cannot write to.
    pub(super) marks: BTreeMap<String, Bytes>,
}

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done and answered.
    Fine,
    /// It never arrives.
    Lost,
    /// It is done, but the answer is lost.
    Unheard,
    /// The caller dies before it, or right after it.
    Dies { after: bool },
}

/// One replica's line to the table.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) content: Arc<Mutex<Content>>,
    chance: Arc<Mutex<Chance>>,
    /// This replica is dead: nothing of it ever goes on.
    dead: Arc<Mutex<bool>>,
}

/// A source of fates that a test case determines.
#[derive(Debug)]
struct Chance {
    state: u64,
    faults: bool,
}

impl Line {
    pub(super) fn new(content: Arc<Mutex<Content>>, seed: u64) -> Self {
        Self { content, chance: Arc::new(Mutex::new(Chance { state: seed | 1, faults: true })), dead: Arc::default() }
    }

    /// Works from now on, as a new process.
    pub(super) fn heal(&self) {
        self.chance.lock().unwrap().faults = false;
        *self.dead.lock().unwrap() = false;
    }

    /// A new process takes the place of a dead one; the line is as bad as before.
    pub(super) fn revive(&self) {
        *self.dead.lock().unwrap() = false;
    }

    pub(super) fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap()
    }

    fn roll(&self) -> (Fate, u64) {
        let mut chance = self.chance.lock().unwrap();
        // xorshift64
        chance.state ^= chance.state << 13;
        chance.state ^= chance.state >> 7;
        chance.state ^= chance.state << 17;
        let fate = match (chance.faults, chance.state % 64) {
            (true, 0..=2) => Fate::Lost,
            (true, 3..=5) => Fate::Unheard,
            (true, 6) => Fate::Dies { after: false },
            (true, 7) => Fate::Dies { after: true },
            _ => Fate::Fine,
        };
        (fate, chance.state >> 32)
    }

    /// One call: other calls come between at any point, and it may be lost, unheard, or the caller's last. Writes are atomic.
    async fn call<T>(&self, work: impl FnOnce(&mut Content) -> T) -> Result<T, String> {
        let (fate, pauses) = self.roll();
        if *self.dead.lock().unwrap() || fate == (Fate::Dies { after: false }) {
            *self.dead.lock().unwrap() = true;
            return std::future::pending().await;
        }
        for _ in 0..pauses % 4 {
            tokio::task::yield_now().await;
        }
        if fate == Fate::Lost {
            return Err("the question was lost".to_owned());
        }
        let answer = work(&mut self.content());
        for _ in 0..pauses % 3 {
            tokio::task::yield_now().await;
        }
        match fate {
            Fate::Unheard => Err("the answer was lost".to_owned()),
            Fate::Dies { .. } => {
                *self.dead.lock().unwrap() = true;
                std::future::pending().await
            }
            _ => Ok(answer),
        }
    }

    async fn proxy<T>(&self, work: impl FnOnce(&mut Content) -> T) -> Result<T, StoreError> {
        self.call(work).await.map_err(StoreError::Unavailable)
    }

    async fn bot<T>(&self, work: impl FnOnce(&mut Content) -> T) -> Result<T, bot::StoreError> {
        self.call(work).await.map_err(|why| bot::StoreError { place: "table".to_owned(), why })
    }
}

fn snapshot(item: &Item) -> Snapshot {
    Snapshot {
        tokens: item.tokens.clone(),
        status: item.status,
        why: item.why.clone(),
        card_error: item.card.error.clone(),
        questions: item.questions.clone(),
    }
}

/// The conditional write behind closing.
fn close(content: &mut Content, id: &RequestId, digest: Option<&StatementDigest>, closed: &Closed) -> bool {
    let Some(item) = content.items.get_mut(id) else { return false };
    let fits = digest.is_none_or(|digest| item.digest == digest.to_hex() && closed.at < item.expires_at);
    if item.status != Some(Status::Open) || !fits {
        return false;
    }
    item.status = Some(closed.status);
    item.why = Some(closed.why.clone());
    true
}

#[async_trait]
impl Store for Line {
    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn place(&self, request: &Request, bytes: &[u8]) -> Result<(), StoreError> {
        let placed = self
            .proxy(|content| match content.items.get(&request.id) {
                Some(item) => item.request == bytes,
                None => {
                    let item = Item {
                        request: bytes.to_vec(),
                        status: Some(Status::Open),
                        digest: request.digest.to_hex(),
                        expires_at: request.expires_at,
                        ..Item::default()
                    };
                    content.items.insert(request.id.clone(), item);
                    true
                }
            })
            .await?;
        if placed { Ok(()) } else { Err(StoreError::IdTaken) }
    }

    async fn read(&self, ids: &[RequestId]) -> Result<HashMap<RequestId, Snapshot>, StoreError> {
        self.proxy(|content| ids.iter().filter_map(|id| Some((id.clone(), snapshot(content.items.get(id)?)))).collect()).await
    }

    async fn fetch(&self, id: &RequestId) -> Result<Option<(Vec<u8>, Snapshot)>, StoreError> {
        self.proxy(|content| content.items.get(id).map(|item| (item.request.clone(), snapshot(item)))).await
    }

    async fn open(&self, now: u64) -> Result<Vec<Listed>, StoreError> {
        self.proxy(|content| {
            let open = content.items.values().filter(|item| item.status == Some(Status::Open) && now < item.expires_at);
            open.map(|item| Listed { request: item.request.clone(), attended: item.left_at.is_none(), tokens: item.tokens.clone() })
                .collect()
        })
        .await
    }

    async fn pointer(&self, key: &str) -> Result<Option<RequestId>, StoreError> {
        self.proxy(|content| content.pointers.get(key).cloned()).await
    }

    async fn point(&self, key: &str, from: Option<&RequestId>, to: &RequestId, _forget_at: u64) -> Result<bool, StoreError> {
        self.proxy(|content| {
            let fits = content.pointers.get(key) == from;
            if fits {
                content.pointers.insert(key.to_owned(), to.clone());
            }
            fits
        })
        .await
    }

    async fn attend(&self, id: &RequestId, left_at: Option<u64>) -> Result<(), StoreError> {
        self.proxy(|content| {
            if let Some(item) = content.items.get_mut(id).filter(|item| item.status == Some(Status::Open)) {
                item.left_at = left_at;
            }
        })
        .await
    }

    async fn note_run(&self, id: &RequestId, digest: &StatementDigest, run: u32, now: u64) -> Result<bool, StoreError> {
        self.proxy(|content| {
            let fits = |item: &&mut Item| item.status == Some(Status::Open) && item.digest == digest.to_hex() && now < item.expires_at;
            content.items.get_mut(id).filter(fits).map(|item| item.used = Some(run)).is_some()
        })
        .await
    }

    async fn close(&self, id: &RequestId, digest: Option<&StatementDigest>, closed: &Closed) -> Result<bool, StoreError> {
        self.proxy(|content| close(content, id, digest, closed)).await
    }

    async fn finish(&self, id: &RequestId, outcome: &str, _at: u64, _forget_at: u64) -> Result<bool, StoreError> {
        self.proxy(|content| {
            let Some(item) = content.items.get_mut(id) else { return false };
            match item.status {
                Some(Status::Consumed) => item.status = Some(Status::Finished),
                Some(Status::Denied | Status::Cancelled | Status::Expired) if item.outcome.is_none() => {}
                _ => return false,
            }
            item.outcome = Some(outcome.to_owned());
            true
        })
        .await
    }
}

#[async_trait]
impl bot::Store for Line {
    async fn check(&self) -> Result<(), bot::StoreError> {
        Ok(())
    }

    async fn get(&self, id: &RequestId) -> Result<Option<bot::Stored>, bot::StoreError> {
        self.bot(|content| {
            let item = content.items.get(id)?;
            Some(bot::Stored {
                request: item.request.clone(),
                status: item.status?,
                why: item.why.clone(),
                outcome: item.outcome.clone(),
                tokens: item.tokens.clone(),
                card: item.card.clone(),
                left_at: item.left_at,
                used: item.used,
                questions: item.questions.clone(),
            })
        })
        .await
    }

    async fn list(&self) -> Result<Vec<RequestId>, bot::StoreError> {
        self.bot(|content| content.items.keys().cloned().collect()).await
    }

    async fn unsettled(&self) -> Result<Vec<RequestId>, bot::StoreError> {
        self.bot(|content| content.items.iter().filter(|(_, item)| item.status == Some(Status::Open)).map(|(id, _)| id.clone()).collect())
            .await
    }

    async fn append(&self, id: &RequestId, vote: &bot::Vote<'_>) -> Result<bot::Appended, bot::StoreError> {
        self.bot(|content| {
            let Some(item) = content.items.get_mut(id) else { return bot::Appended::NotOpen };
            if item.status != Some(Status::Open) || vote.now >= item.expires_at {
                return bot::Appended::NotOpen;
            }
            if vote.voters.iter().any(|voter| item.voters.contains(voter)) {
                return bot::Appended::AlreadyVoted;
            }
            item.voters.extend(vote.voters.iter().cloned());
            item.tokens.push(vote.token.to_owned());
            if let Some(closed) = &vote.close {
                item.status = Some(closed.status);
                item.why = Some(closed.why.clone());
            }
            bot::Appended::Done
        })
        .await
    }

    async fn close(&self, id: &RequestId, closed: &Closed) -> Result<bool, bot::StoreError> {
        self.bot(|content| close(content, id, None, closed)).await
    }

    async fn take_once(&self, key: &str, _forget_at: u64) -> Result<bool, bot::StoreError> {
        self.bot(|content| content.once.insert(key.to_owned())).await
    }

    async fn ask(&self, id: &RequestId, question: &str) -> Result<bool, bot::StoreError> {
        self.bot(|content| {
            let open = |item: &&mut Item| item.status == Some(Status::Open) && item.questions.len() < MAX_QUESTIONS;
            content.items.get_mut(id).filter(open).map(|item| item.questions.push(question.to_owned())).is_some()
        })
        .await
    }

    async fn claim_card(&self, id: &RequestId, now: u64, until: u64) -> Result<bool, bot::StoreError> {
        self.bot(|content| {
            let free = |item: &&mut Item| item.card.ts.is_none() && item.claim <= now;
            content.items.get_mut(id).filter(free).map(|item| item.claim = until).is_some()
        })
        .await
    }

    async fn save_card(&self, id: &RequestId, card: &CardState) -> Result<(), bot::StoreError> {
        self.bot(|content| {
            if let Some(item) = content.items.get_mut(id) {
                (item.card, item.claim) = (card.clone(), 0);
            }
        })
        .await
    }
}

/// The bucket: an object is written once.
#[async_trait]
impl recorder::Store for Line {
    async fn put(&self, key: &str, object: Bytes) -> Result<(), recorder::PutError> {
        let put = |content: &mut Content| match content.marks.get(key) {
            Some(there) => *there == object,
            None => {
                content.marks.insert(key.to_owned(), object);
                true
            }
        };
        match self.call(put).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(recorder::PutError::Conflict),
            Err(why) => Err(recorder::PutError::Unavailable(why)),
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, recorder::PutError> {
        self.call(|content| content.marks.get(key).cloned()).await.map_err(recorder::PutError::Unavailable)
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, recorder::PutError> {
        let keys = |content: &mut Content| {
            content.marks.keys().filter(|key| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after)).cloned().collect()
        };
        let mut keys: Vec<String> = self.call(keys).await.map_err(recorder::PutError::Unavailable)?;
        keys.sort();
        Ok(keys)
    }

    async fn folders(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, recorder::PutError> {
        let keys = self.list(prefix, None).await?;
        let mut names: Vec<String> =
            keys.iter().filter_map(|key| key.get(prefix.len()..)?.split_once('/')).map(|(name, _)| name.to_owned()).collect();
        names.dedup();
        names.retain(|name| after.is_none_or(|after| name.as_str() > after));
        Ok(names)
    }

    async fn check(&self) -> Result<(), recorder::PutError> {
        Ok(())
    }

    fn describe(&self) -> String {
        "bucket".to_owned()
    }
}

/// What the store holds under an id, if it is a request at all.
pub(super) fn request_of(item: &Item) -> Option<Request> {
    UnverifiedRequest::new(&item.request).parse().ok()
}
