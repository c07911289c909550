//! Catalog facts by a side connection: what judgement and masks need to know of relations, functions and types.
//!
//! Every load reads all of `countersign_policy::catalog::QUERIES` in one REPEATABLE READ transaction, so a snapshot is one moment's.
//! Callers that come while a load runs share it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use bytes::BytesMut;
use countersign_policy::{
    Catalog,
    catalog::{CatalogBuilder, CatalogError, QUERIES, ROLE_SETTINGS},
};
use countersign_wire::{fe, put_empty};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    error::ClientError,
    established::UpstreamIo,
    metrics,
    upstream::{Dialer, Frames, LoginRequest, UpstreamError},
};

/// How long one load may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Nobody waits for facts that wait for a lock: the one who holds it may be the one who waits.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '500ms'";
/// Side connections at once, beside loads.
const MOST_SIDES: usize = 4;
/// How often a load is tried that ran into a lock.
const LOCKED_TRIES: u32 = 5;
/// How long the side connection waits for the next load. The server gives others five seconds to leave before it says that a database is in use, so
/// nobody's DROP DATABASE fails by it.
const KEPT_IDLE: Duration = Duration::from_secs(1);
/// How long one is used at most, so that rotated credentials and revoked rights are noticed.
const KEPT_AGE: Duration = Duration::from_secs(60);

/// Catalog facts of one database at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the loads of this process, from 1.
    pub generation: u64,
    /// The facts.
    pub catalog: Arc<Catalog>,
}

/// Why there are no facts.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogFailure {
    /// Towards the server.
    #[error("catalog of database {database}: {error}")]
    Upstream {
        /// Database.
        database: String,
        /// Why.
        error: Arc<UpstreamError>,
    },
    /// The server's rows are not what was asked for.
    #[error("catalog of database {database}: {error}")]
    Rows {
        /// Database.
        database: String,
        /// Why.
        error: Arc<CatalogError>,
    },
    /// Too slow.
    #[error("catalog of database {database}: not loaded within {} s", LOAD_TIMEOUT.as_secs())]
    Timeout {
        /// Database.
        database: String,
    },
}

impl CatalogFailure {
    /// What the client is told.
    #[must_use]
    pub fn client(&self, database: &str) -> ClientError {
        match self {
            Self::Upstream { error, .. } => error.client(database),
            Self::Rows { .. } | Self::Timeout { .. } => {
                ClientError::new(crate::error::sqlstate::CONNECTION_FAILURE, "the gateway cannot read the database's catalog")
            }
        }
    }
}

/// Facts of one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CatalogSource {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    database: String,
    dialer: Dialer,
    runtime: Handle,
    max_age: Duration,
    current: ArcSwapOption<Loaded>,
    /// How often a session changed the catalog, by whatever role it enters the server.
    changes: Arc<AtomicU64>,
    /// How many loads have begun. Held over a load only as a number: see [`CatalogSource::next_generation`].
    begun: AtomicU64,
    /// One load at a time, over the side connection of the last one while that is young.
    loading: tokio::sync::Mutex<Side>,
    /// Side connections beside loads.
    sides: Semaphore,
}

/// What the next load may use of the last one.
#[derive(Debug, Default)]
struct Side {
    connection: Option<SideConnection>,
    /// What `ROLE_SETTINGS` said at the last load.
    settings: Option<String>,
}

/// A connection to the server that has nothing else to do than to read the catalog.
#[derive(Debug)]
struct SideConnection {
    frames: Frames<UpstreamIo>,
    since: Instant,
    used: Instant,
}

#[derive(Debug)]
struct Loaded {
    at: Instant,
    /// `changes` when the load began.
    changes: u64,
    snapshot: Arc<Snapshot>,
}

/// The sources of all databases of one server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalogs {
    dialer: Dialer,
    runtime: Handle,
    changes: Arc<AtomicU64>,
    sources: Arc<Mutex<HashMap<String, CatalogSource>>>,
}

impl Catalogs {
    /// None loaded yet. Loads run on `runtime`, so that a large catalog does not stop the sessions of the thread that asks for it. `changes` is
    /// shared by all who enter the same server, whatever their role.
    #[must_use]
    pub fn new(dialer: Dialer, runtime: Handle, changes: Arc<AtomicU64>) -> Self {
        Self { dialer, runtime, changes, sources: Arc::default() }
    }

    /// The source of a database, loaded at least once and not older than configured.
    ///
    /// # Errors
    /// When it cannot be loaded; the next caller tries anew.
    pub async fn of(&self, database: &str) -> Result<CatalogSource, CatalogFailure> {
        let known = self.sources.lock().unwrap_or_else(PoisonError::into_inner).get(database).cloned();
        let source =
            known.unwrap_or_else(|| CatalogSource::new(database, self.dialer.clone(), self.runtime.clone(), Arc::clone(&self.changes)));
        source.fresh().await?;
        // Only names the server knows are kept, so that guessed names cost no memory.
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(sources.entry(database.to_owned()).or_insert(source).clone())
    }
}

impl CatalogSource {
    fn new(database: &str, dialer: Dialer, runtime: Handle, changes: Arc<AtomicU64>) -> Self {
        let max_age = dialer.settings().catalog_refresh;
        Self {
            inner: Arc::new(Inner {
                database: database.to_owned(),
                dialer,
                runtime,
                max_age,
                current: ArcSwapOption::empty(),
                changes,
                begun: AtomicU64::new(0),
                loading: tokio::sync::Mutex::default(),
                sides: Semaphore::new(MOST_SIDES),
            }),
        }
    }

    /// A source that never loads: for tests of what stands on it.
    #[must_use]
    pub fn fixed(catalog: Catalog, dialer: Dialer, runtime: Handle) -> Self {
        let source = Self::new("fixed", dialer, runtime, Arc::default());
        source.inner.current.store(Some(Arc::new(Loaded {
            at: Instant::now(),
            changes: 0,
            snapshot: Arc::new(Snapshot { generation: 1, catalog: Arc::new(catalog) }),
        })));
        source
    }

    /// The database the facts are of.
    pub(crate) fn database(&self) -> &str {
        &self.inner.database
    }

    /// Makes connections as whoever loads the facts does.
    pub(crate) fn dialer(&self) -> &Dialer {
        &self.inner.dialer
    }

    /// A turn for one side connection; `None` while there are as many as may be.
    pub(crate) fn side_connection(&self) -> Option<SemaphorePermit<'_>> {
        self.inner.sides.try_acquire().ok()
    }

    /// The newest facts there are. Old ones cause a load in the background, for later callers.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        match self.inner.current.load_full() {
            Some(loaded) => {
                if loaded.at.elapsed() >= self.inner.max_age && self.inner.loading.try_lock().is_ok() {
                    self.load_in_background();
                }
                Arc::clone(&loaded.snapshot)
            }
            // INVARIANT: `Catalogs::of` hands out loaded sources only. An empty catalog resolves no name, which counts as the riskiest class.
            None => Arc::new(Snapshot { generation: 0, catalog: Arc::new(Catalog::default()) }),
        }
    }

    /// A session committed a change of the catalog: nobody's facts are new enough from here on.
    pub fn changed(&self) {
        self.inner.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether a session changed the catalog since the newest facts were read.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let changes = self.inner.changes.load(Ordering::SeqCst);
        self.inner.current.load().as_ref().is_some_and(|loaded| loaded.changes < changes)
    }

    /// The generation of a load that begins after this call. What was committed on the server before it is in that load.
    #[must_use]
    pub fn next_generation(&self) -> u64 {
        self.inner.begun.load(Ordering::SeqCst).saturating_add(1)
    }

    /// Facts of at least that generation, loading when needed. Cancel-safe: a load goes on for others when one caller is dropped.
    ///
    /// # Errors
    /// When the load fails; the facts there were stay.
    pub async fn refresh(&self, min_generation: u64) -> Result<Arc<Snapshot>, CatalogFailure> {
        let source = self.clone();
        let task = self.inner.runtime.spawn(async move {
            let mut side = source.inner.loading.lock().await;
            if let Some(loaded) = source.inner.current.load_full()
                && loaded.snapshot.generation >= min_generation
            {
                return Ok(Arc::clone(&loaded.snapshot));
            }
            let loaded = source.load(&mut side).await;
            drop(side);
            source.let_go_later();
            loaded
        });
        task.await.unwrap_or_else(|_| Err(CatalogFailure::Timeout { database: self.inner.database.clone() }))
    }

    /// Facts not older than configured.
    async fn fresh(&self) -> Result<Arc<Snapshot>, CatalogFailure> {
        if let Some(loaded) = self.inner.current.load_full() {
            if self.is_stale() || loaded.at.elapsed() >= self.inner.max_age {
                return self.refresh(self.next_generation()).await;
            }
            return Ok(Arc::clone(&loaded.snapshot));
        }
        self.refresh(1).await
    }

    fn load_in_background(&self) {
        let source = self.clone();
        let min_generation = self.next_generation();
        let runtime = self.inner.runtime.clone();
        runtime.spawn(async move {
            if let Err(error) = source.refresh(min_generation).await {
                tracing::warn!(database = %source.inner.database, "catalog facts grow old: {error}");
            }
        });
    }

    /// Says goodbye to a side connection that nobody needed again.
    fn let_go_later(&self) {
        let source = self.clone();
        self.inner.runtime.spawn(async move {
            tokio::time::sleep(KEPT_IDLE).await;
            // Who used it since sees to it.
            let idle = source.inner.loading.lock().await.connection.take_if(|side| side.used.elapsed() >= KEPT_IDLE);
            if let Some(idle) = idle {
                idle.close().await;
            }
        });
    }

    /// Loads and publishes. The caller holds `loading`.
    async fn load(&self, side: &mut Side) -> Result<Arc<Snapshot>, CatalogFailure> {
        let database = &self.inner.database;
        let changes = self.inner.changes.load(Ordering::SeqCst);
        let generation = self.inner.begun.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        let at = Instant::now();
        let loaded = tokio::time::timeout(LOAD_TIMEOUT, read(&self.inner.dialer, database, side)).await;
        let catalog = loaded
            .unwrap_or_else(|_| Err(CatalogFailure::Timeout { database: database.clone() }))
            .inspect_err(|_| metrics::upstream_error("catalog"))?;
        metrics::catalog_loaded(at.elapsed().as_secs_f64());
        tracing::debug!(database, catalog.generation = generation, "catalog loaded");
        let snapshot = Arc::new(Snapshot { generation, catalog: Arc::new(catalog) });
        self.inner.current.store(Some(Arc::new(Loaded { at, changes, snapshot: Arc::clone(&snapshot) })));
        Ok(snapshot)
    }
}

/// Reads everything. Where something was locked in the middle of it, anew: what is locked at the beginning is left out. A side connection that
/// broke while it waited is replaced.
async fn read(dialer: &Dialer, database: &str, side: &mut Side) -> Result<Catalog, CatalogFailure> {
    let mut tries = LOCKED_TRIES;
    loop {
        tries -= 1;
        // It is out of its place while it is used: whatever breaks the load off, nobody finds it half-way in an answer.
        let kept = side.connection.take().filter(|side| side.since.elapsed() < KEPT_AGE);
        let was_kept = kept.is_some();
        match read_once(dialer, database, kept, &mut side.settings).await {
            Ok((catalog, connection)) => {
                side.connection = connection;
                return Ok(catalog);
            }
            Err(CatalogFailure::Upstream { error, .. }) if tries > 0 && (was_kept || error.is_lock_timeout()) => {}
            Err(error) => return Err(error),
        }
    }
}

async fn read_once(
    dialer: &Dialer,
    database: &str,
    kept: Option<SideConnection>,
    known: &mut Option<String>,
) -> Result<(Catalog, Option<SideConnection>), CatalogFailure> {
    let failed = |error: UpstreamError| CatalogFailure::Upstream { database: database.to_owned(), error: Arc::new(error) };
    let wrong = |error: CatalogError| CatalogFailure::Rows { database: database.to_owned(), error: Arc::new(error) };
    let mut reused = None;
    if let Some(mut kept) = kept {
        let settings = kept.begin().await.map_err(failed)?;
        if *known == Some(settings.clone()) {
            reused = Some((kept, settings));
        } else {
            kept.close().await;
        }
    }
    let (mut side, settings) = match reused {
        Some(reused) => reused,
        None => {
            let mut side = SideConnection::open(dialer, database).await.map_err(failed)?;
            let settings = side.begin().await.map_err(failed)?;
            (side, settings)
        }
    };
    let mut builder = CatalogBuilder::default();
    for (index, query) in QUERIES.iter().enumerate() {
        let mut fault = None;
        let answer = side.frames.query(query.sql, |row| {
            if fault.is_none() {
                fault = builder.row(index, row).err();
            }
            Ok(())
        });
        answer.await.map_err(|error| {
            tracing::error!(database, catalog.query = query.name, "catalog query failed");
            failed(error)
        })?;
        if let Some(error) = fault {
            return Err(wrong(error));
        }
    }
    side.frames.query("COMMIT", |_| Ok(())).await.map_err(failed)?;
    side.used = Instant::now();
    let catalog = builder.finish().map_err(wrong)?;
    // The defaults of a connection are those of its login. That they are today's is sure where the settings have not changed since a load before it.
    let is_of_today = known.as_ref() == Some(&settings);
    *known = Some(settings);
    if is_of_today {
        return Ok((catalog, Some(side)));
    }
    side.close().await;
    Ok((catalog, None))
}

impl SideConnection {
    async fn open(dialer: &Dialer, database: &str) -> Result<Self, UpstreamError> {
        let request =
            LoginRequest { database: database.to_owned(), application_name: "countersign:catalog".to_owned(), ..LoginRequest::default() };
        let login = dialer.login(&request).await?;
        let now = Instant::now();
        Ok(Self { frames: Frames::with_buffer(login.io, login.buffer), since: now, used: now })
    }

    /// Begins the transaction of a load and says what `ROLE_SETTINGS` says.
    async fn begin(&mut self) -> Result<String, UpstreamError> {
        self.frames.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", |_| Ok(())).await?;
        self.frames.query(LOCK_TIMEOUT, |_| Ok(())).await?;
        let mut settings = String::new();
        let answer = self.frames.query(ROLE_SETTINGS, |row| {
            settings.push_str(row.first().copied().flatten().unwrap_or_default());
            Ok(())
        });
        answer.await?;
        Ok(settings)
    }

    async fn close(mut self) {
        let mut bye = BytesMut::new();
        put_empty(&mut bye, fe::TERMINATE);
        // Nothing is asked any more; how the goodbye goes does not matter.
        let _ = self.frames.send(&bye).await;
    }
}
