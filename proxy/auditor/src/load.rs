//! Finding recordings in a store and putting them together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use countersign_recording::v1::manifest::Payload;
use countersign_recording::v1::names::day;
use countersign_recording::v1::recording::Object;
use countersign_recording::{
    Digests, Event, Finding, Hash, Journals, Limits, Manifest, ObjectName, Problem, RawEvent, Report, SessionId, Share, verify_session,
};

use crate::keys::TrustedKeys;
use crate::opening::{OpenError, Opener};
use crate::store::{Store, StoreError};

/// One recording as far as it could be read.
#[derive(Debug)]
pub struct Session {
    /// Id.
    pub id: SessionId,
    /// What the format's own verification says.
    pub report: Report,
    /// Events that link, each with its body where that could be read; of a sealed one what everybody may read, or, opened, all of it.
    pub events: Vec<(RawEvent, Option<Event>)>,
    /// Which of them are sealed.
    pub sealed: BTreeMap<u64, SealedEvent>,
    /// Keys of its objects.
    pub keys: Vec<String>,
    /// What its manifest says, trusted or not.
    pub stated: Option<Manifest>,
    /// Key and SHA-256 of its manifest.
    pub manifest: Option<(String, Hash)>,
    /// Whether its task is known to be gone.
    pub orphan: bool,
    /// Whether there were keys to check signatures with.
    pub checked: bool,
}

/// How an event is sealed.
#[derive(Debug)]
pub struct SealedEvent {
    /// The shares of its data key.
    pub shares: Vec<Share>,
    /// Why it is not opened; none when it is.
    pub closed: Option<OpenError>,
}

/// Why a recording cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No such recording.
    #[error("no recording of session {0} in the store")]
    NotFound(SessionId),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A store being audited.
#[derive(Debug)]
pub struct Archive {
    /// Store.
    pub store: Store,
    /// Keys; empty when nothing is to be proved.
    pub keys: TrustedKeys,
    /// What sealed events are opened with.
    pub opener: Opener,
    /// Bounds for reading.
    pub limits: Limits,
    /// Now, microseconds since the epoch.
    pub now_us: i64,
    /// A task that wrote nothing for so long is taken to be gone, microseconds.
    pub silence_us: i64,
    /// What was met on the way and is not what its keys vouch for.
    pub doubts: Doubts,
}

/// Objects that are not what trusted keys signed. Whoever can write to a store can put something new in the place of anything; what is
/// signed and lies below is still there.
#[derive(Debug, Default)]
pub struct Doubts(Mutex<BTreeSet<String>>);

impl Doubts {
    /// Notes one, as a line for people.
    pub fn add(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(line);
    }

    /// Those noted.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Archive {
    /// Whether there is a key to prove anything with.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.keys.recording.ids().next().is_some()
    }

    /// What an object says: with keys only if one of them signed it, and it lies where it belongs.
    pub(crate) fn believed<T: Payload>(&self, object: &Object, place: impl Fn(&T) -> ObjectName) -> Option<T> {
        if !self.has_keys() {
            return T::unverified(&object.bytes).ok();
        }
        let why = match T::verified(&object.bytes, &self.keys.recording) {
            Ok((said, _)) if place(&said).to_string() == object.key => return Some(said),
            Ok(_) => "not in its place".to_owned(),
            Err(error) => error.to_string(),
        };
        self.doubts.add(format!("{}: {why}", object.key));
        None
    }

    /// Keys of all sessions, by session; with days given (`yyyy/mm/dd`) only of sessions that began on them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn sessions(&self, days: Option<&[String]>) -> Result<BTreeMap<SessionId, Vec<String>>, StoreError> {
        Ok(self.sessions_and_strays(days).await?.0)
    }

    /// The same, and keys among them that are of no name of the format.
    pub(crate) async fn sessions_and_strays(
        &self,
        days: Option<&[String]>,
    ) -> Result<(BTreeMap<SessionId, Vec<String>>, Vec<String>), StoreError> {
        let (mut sessions, mut strays): (BTreeMap<SessionId, Vec<String>>, _) = (BTreeMap::new(), Vec::new());
        let everything = [String::new()];
        for day in days.unwrap_or(&everything) {
            let prefix = if day.is_empty() { "sessions/".to_owned() } else { format!("sessions/{day}/") };
            for key in self.store.keys(&prefix).await? {
                match ObjectName::parse(&key).and_then(|name| name.session()) {
                    Some(session) => sessions.entry(session).or_default().push(key),
                    None => strays.push(key),
                }
            }
        }
        Ok((sessions, strays))
    }

    /// Reads all journals, keeping the events of sessions for which `keep` is true.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn journals(&self, keep: impl Fn(SessionId) -> bool) -> Result<Journals, StoreError> {
        let mut keys = self.store.keys("journal/").await?;
        keys.retain(|key| ObjectName::parse(key).is_some());
        let objects = self.store.get_all(keys).await?;
        Ok(Journals::read(&objects, &self.keys.recording, &self.limits, keep))
    }

    /// Reads all digests, and holds them against the journals.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn digests(&self, journals: &Journals) -> Result<Digests, StoreError> {
        let mut keys = self.store.keys("digests/").await?;
        keys.extend(self.store.keys("index/").await?);
        keys.retain(|key| ObjectName::parse(key).is_some());
        let objects = self.store.get_all(keys).await?;
        Ok(Digests::read(&objects, journals, &self.keys.recording, &self.limits))
    }

    /// Loads one recording. With `thorough`, journals are checked against even where segments are complete.
    ///
    /// # Errors
    /// When there is none, or the store cannot be read.
    pub async fn load(&self, id: SessionId, thorough: bool) -> Result<(Session, Journals), LoadError> {
        let keys = self.find(id).await?;
        let sealed = keys.iter().any(|key| matches!(ObjectName::parse(key), Some(ObjectName::Manifest { .. })));
        let journals = if sealed && !thorough { Journals::default() } else { self.journals(|session| session == id).await? };
        if keys.is_empty() && journals.session(id).is_none() {
            return Err(LoadError::NotFound(id));
        }
        let session = self.assemble(id, keys, &journals).await?;
        Ok((session, journals))
    }

    /// Puts a recording together from its objects and journals.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn assemble(&self, id: SessionId, keys: Vec<String>, journals: &Journals) -> Result<Session, StoreError> {
        let objects = self.store.get_all(keys.clone()).await?;
        let mut report = verify_session(id, &objects, journals, &self.keys.recording, &self.limits);
        let mut events: Vec<(RawEvent, Option<Event>)> = report.events.iter().map(|raw| (raw.clone(), raw.event().ok())).collect();
        let sealed = self.open(id, &mut events, &mut report).await;
        let orphan = !report.sealed && self.task_is_gone(id, journals);
        let manifest = objects.iter().find(|object| object.key.ends_with("/manifest.json"));
        let manifest = manifest.map(|object| (object.key.clone(), Hash::of(&object.bytes)));
        let checked = self.has_keys();
        if let (true, Some(finding)) = (checked, report.findings.first()) {
            self.doubts.add(format!("session {id}: {finding}"));
        }
        Ok(Session { id, report, events, sealed, stated: stated(&objects), manifest, keys, orphan, checked })
    }

    /// Puts in place of each sealed event what it shows, or says when it is opened.
    async fn open(&self, id: SessionId, events: &mut [(RawEvent, Option<Event>)], report: &mut Report) -> BTreeMap<u64, SealedEvent> {
        let mut all = BTreeMap::new();
        let mut known = BTreeMap::new();
        for (raw, event) in events {
            let Some(Event::Sealed(sealed)) = event else { continue };
            let opened = self.opener.open(id, sealed, &mut known, &self.limits).await;
            if let Err(OpenError::Sealed(error)) = &opened {
                report.findings.push(Finding { object: None, event: Some(raw.number), problem: Problem::Sealed(error.clone()) });
            }
            sealed.shown.kind().clone_into(&mut raw.kind);
            let shares = std::mem::take(&mut sealed.shares);
            let (shown, closed) = match opened {
                Ok(exact) => (exact, None),
                Err(error) => ((*sealed.shown).clone(), Some(error)),
            };
            all.insert(raw.number, SealedEvent { shares, closed });
            *event = Some(shown);
        }
        all
    }

    /// The object keys of one session: a session id carries its time (UUID version 7), so only the days around it are looked at.
    pub(crate) async fn find(&self, id: SessionId) -> Result<Vec<String>, StoreError> {
        let Some(seconds) = id.0.get_timestamp().and_then(|time| i64::try_from(time.to_unix().0).ok()) else {
            return Ok(self.sessions(None).await?.remove(&id).unwrap_or_default());
        };
        let around: BTreeSet<String> =
            [-3600, 0, 3600].iter().map(|offset| day(seconds.saturating_add(*offset).saturating_mul(1_000_000))).collect();
        let mut keys = Vec::new();
        for day in around {
            let found = self.store.keys(&format!("sessions/{day}/{id}/")).await?;
            keys.extend(found.into_iter().filter(|key| ObjectName::parse(key).is_some()));
        }
        Ok(keys)
    }

    pub(crate) fn task_is_gone(&self, id: SessionId, journals: &Journals) -> bool {
        let Some(task) = journals.session(id).and_then(|known| journals.tasks().get(&known.task)) else { return true };
        task.ended || task.last_us.is_none_or(|last| self.now_us.saturating_sub(last) > self.silence_us)
    }
}

/// What a manifest among objects says, without a look at its signature.
#[must_use]
pub fn stated(objects: &[Object]) -> Option<Manifest> {
    objects
        .iter()
        .filter(|object| matches!(ObjectName::parse(&object.key), Some(ObjectName::Manifest { .. })))
        .find_map(|object| Manifest::unverified(&object.bytes).ok())
}

impl Session {
    /// The deployment it says it is of.
    #[must_use]
    pub fn environment(&self) -> Option<&str> {
        match self.events.first() {
            Some((_, Some(Event::SessionStart(start)))) => Some(&start.environment),
            _ => self.stated.as_ref().map(|manifest| manifest.environment.as_str()),
        }
    }

    /// Whether an event is sealed and stays so.
    #[must_use]
    pub fn is_closed(&self, event: u64) -> bool {
        self.sealed.get(&event).is_some_and(|sealed| sealed.closed.is_some())
    }

    /// `sealed`, `open` or `orphan`.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match (self.report.sealed, self.orphan) {
            (true, _) => "sealed",
            (false, false) => "open",
            (false, true) => "orphan",
        }
    }
}
