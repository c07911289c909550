//! Who is in and who waits at the door: counts of sessions and of connections that have not shown a good token yet, in all and by address.
//!
//! The two are counted apart, so that connections nobody vouches for take no session from anybody. When too many wait, the longest waiting one
//! of the address with the most of them must go: whoever floods the door pushes out nobody but himself.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{
    config::Limits,
    error::{ClientError, sqlstate},
};

/// The door. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Door {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    max_sessions: usize,
    max_sessions_per_source: usize,
    max_waiting: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    next: u64,
    waiting: usize,
    sessions: usize,
    sources: HashMap<IpAddr, Source>,
}

/// What comes from one address.
#[derive(Debug, Default)]
struct Source {
    /// By age, the oldest first.
    waiting: BTreeMap<u64, Arc<Notify>>,
    sessions: usize,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    door: Door,
    id: u64,
    source: IpAddr,
    admitted: bool,
    bell: Arc<Notify>,
}

impl Door {
    /// Nobody is there.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let Limits { max_sessions, max_sessions_per_source, max_logins, .. } = *limits;
        let inner = Inner { max_sessions, max_sessions_per_source, max_waiting: max_logins, counts: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Somebody comes, and waits until [`Place::admit`].
    #[must_use]
    pub fn enter(&self, source: IpAddr) -> Place {
        let bell = Arc::new(Notify::new());
        let mut counts = self.lock();
        counts.next = counts.next.saturating_add(1);
        let id = counts.next;
        counts.wait(source, id, Arc::clone(&bell));
        while counts.waiting > self.inner.max_waiting && counts.evict() {}
        drop(counts);
        Place { door: self.clone(), id, source, admitted: false, bell }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.inner.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn wait(&mut self, source: IpAddr, id: u64, bell: Arc<Notify>) {
        self.sources.entry(source).or_default().waiting.insert(id, bell);
        self.waiting = self.waiting.saturating_add(1);
    }

    /// Takes a waiting connection out. `None` when it was evicted before.
    fn take(&mut self, source: IpAddr, id: u64) -> Option<Arc<Notify>> {
        let bell = self.sources.get_mut(&source)?.waiting.remove(&id)?;
        self.waiting = self.waiting.saturating_sub(1);
        self.tidy(source);
        Some(bell)
    }

    fn evict(&mut self) -> bool {
        let oldest = |source: &Source| source.waiting.first_key_value().map(|(id, _)| *id);
        // Of addresses with as many, the one whose oldest has waited longest.
        let fullest = self.sources.iter().max_by_key(|(_, source)| (source.waiting.len(), std::cmp::Reverse(oldest(source))));
        let Some((address, id)) = fullest.and_then(|(address, source)| Some((*address, oldest(source)?))) else { return false };
        self.take(address, id).is_some_and(|bell| {
            bell.notify_one();
            true
        })
    }

    fn tidy(&mut self, source: IpAddr) {
        if self.sources.get(&source).is_some_and(|found| found.waiting.is_empty() && found.sessions == 0) {
            self.sources.remove(&source);
        }
    }
}

impl Place {
    /// Resolves when this connection must make room. Cancel-safe.
    pub async fn evicted(&self) {
        self.bell.notified().await;
    }

    /// The connection comes from there in truth, as a load balancer says.
    pub fn comes_from(&mut self, source: IpAddr) {
        let mut counts = self.door.lock();
        if !self.admitted
            && let Some(bell) = counts.take(self.source, self.id)
        {
            counts.wait(source, self.id, bell);
        }
        drop(counts);
        self.source = source;
    }

    /// Makes a session of a connection that has shown a good token.
    ///
    /// # Errors
    /// What to tell the client when there are too many.
    pub fn admit(&mut self) -> Result<(), ClientError> {
        let full = |message| ClientError::new(sqlstate::TOO_MANY_CONNECTIONS, message).hint("close sessions, then try again");
        let inner = Arc::clone(&self.door.inner);
        let mut counts = self.door.lock();
        if counts.sessions >= inner.max_sessions {
            return Err(full("the gateway has no session to spare"));
        }
        if counts.sources.get(&self.source).is_some_and(|source| source.sessions >= inner.max_sessions_per_source) {
            return Err(full("too many sessions from your address"));
        }
        counts.take(self.source, self.id);
        counts.sessions = counts.sessions.saturating_add(1);
        let source = counts.sources.entry(self.source).or_default();
        source.sessions = source.sessions.saturating_add(1);
        self.admitted = true;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.door.lock();
        if self.admitted {
            counts.sessions = counts.sessions.saturating_sub(1);
            if let Some(source) = counts.sources.get_mut(&self.source) {
                source.sessions = source.sessions.saturating_sub(1);
            }
            counts.tidy(self.source);
        } else {
            counts.take(self.source, self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use super::*;

    fn door(max_sessions: usize, max_sessions_per_source: usize, max_waiting: usize) -> Door {
        Door { inner: Arc::new(Inner { max_sessions, max_sessions_per_source, max_waiting, counts: Mutex::default() }) }
    }

    fn from(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    async fn is_evicted(place: &Place) -> bool {
        tokio::time::timeout(Duration::from_millis(1), place.evicted()).await.is_ok()
    }

    #[test]
    fn sessions_are_bounded_in_all_and_by_address() {
        let door = door(3, 2, 100);
        let mut places: Vec<Place> = [1, 1, 1, 2, 3].map(|last| door.enter(from(last))).into();
        let outcomes: Vec<Option<String>> = places.iter_mut().map(|place| place.admit().err().map(|error| error.message)).collect();
        let told = |index: usize| outcomes.get(index).unwrap().as_deref();
        assert_eq!((told(0), told(1), told(3)), (None, None, None));
        assert_eq!(told(2), Some("too many sessions from your address"));
        assert_eq!(told(4), Some("the gateway has no session to spare"));
        assert_eq!(door.lock().waiting, 2);
        places.clear();
        let counts = door.lock();
        assert_eq!((counts.waiting, counts.sessions, counts.sources.len()), (0, 0, 0), "everything is given back");
    }

    #[tokio::test]
    async fn a_flood_pushes_out_its_own() {
        let door = door(10, 10, 8);
        let honest: Vec<Place> = [1, 2, 3].map(|last| door.enter(from(last))).into();
        let flood: Vec<Place> = (0..500).map(|_| door.enter(from(66))).collect();
        for place in &honest {
            assert!(!is_evicted(place).await);
        }
        let mut gone = 0;
        for place in &flood {
            gone += usize::from(is_evicted(place).await);
        }
        assert_eq!((gone, door.lock().waiting), (495, 8), "the newest stay");
        let late = door.enter(from(4));
        assert!(!is_evicted(&late).await, "there is always room for another address");
        drop(flood);
        assert_eq!(door.lock().waiting, 4);
    }

    #[tokio::test]
    async fn with_one_from_each_address_the_oldest_goes() {
        let door = door(10, 10, 3);
        let places: Vec<Place> = (1..=4).map(|last| door.enter(from(last))).collect();
        let mut evicted = Vec::new();
        for place in &places {
            evicted.push(is_evicted(place).await);
        }
        assert_eq!(evicted, [true, false, false, false]);
    }

    #[tokio::test]
    async fn a_load_balancers_clients_count_for_themselves() {
        let door = door(10, 1, 4);
        let balancer = from(200);
        let mut flood: Vec<Place> = (0..4).map(|_| door.enter(balancer)).collect();
        for place in &mut flood {
            place.comes_from(from(66));
        }
        let mut honest = door.enter(balancer);
        honest.comes_from(from(1));
        assert!(!is_evicted(&honest).await);
        honest.admit().unwrap();
        assert!(door.enter(balancer).admit().is_ok(), "the balancer's own address has no session");
        drop((flood, honest));
        assert!(door.lock().sources.is_empty());
    }

    #[test]
    fn one_that_was_evicted_may_still_be_admitted_or_go() {
        let door = door(10, 10, 1);
        let mut first = door.enter(from(1));
        let second = door.enter(from(1));
        first.comes_from(from(9));
        first.admit().unwrap();
        let counts = || {
            let counts = door.lock();
            (counts.waiting, counts.sessions)
        };
        assert_eq!(counts(), (1, 1));
        drop((first, second));
        assert_eq!(counts(), (0, 0));
    }
}
