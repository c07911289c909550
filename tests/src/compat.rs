//! Two servers that are the same, one behind the gateway: what is asked of both must come out the same.
//!
//! Owns: starting the pair, the fresh databases on both, what a client needs to reach either. Does not own: what is asked.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::cluster::Cluster;
use crate::pki::Authority;
use crate::process::Scratch;
use crate::stack::{Stack, StackOptions};

pub mod matrix;
pub mod regress;

/// Who asks, on both sides: the superuser's name, which is also the token's subject.
pub const USER: &str = "postgres";

/// Settings both servers run with.
const SETTINGS: &[&str] = &["max_prepared_transactions=10", "wal_level=minimal", "max_wal_senders=0", "autovacuum=off"];

/// Two servers of one version, one of them behind the gateway.
pub struct Pair {
    /// The gateway and all that is around it.
    pub through: Stack,
    /// The server behind it.
    pub behind: Cluster,
    /// The other server.
    pub direct: Cluster,
    _dir: Scratch,
}

/// How a client reaches one of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `direct` or `through`.
    pub name: &'static str,
    /// Port on `localhost`.
    pub port: u16,
    /// Password: the superuser's, or a token.
    pub password: String,
    /// Authority, PEM.
    pub ca: String,
    /// Database.
    pub database: String,
}

impl Pair {
    /// Starts two servers out of `bin` and the gateway in front of one. `asynchronous` records in `async` durability.
    ///
    /// # Errors
    /// A part does not start; the error says which and why.
    pub async fn start(bin: &Path, asynchronous: bool) -> Result<Self> {
        let dir = Scratch::new("pair")?;
        let authority = Authority::new(&dir.path().join("pki"), "Countersign throw-away authority")?;
        let (direct, behind) = tokio::try_join!(Cluster::boot(&authority, bin, SETTINGS), Cluster::boot(&authority, bin, SETTINGS))?;
        let options = StackOptions {
            upstream: Some(behind.server().clone()),
            policy: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/everything.toml")),
            asynchronous,
            principals: vec![(USER.to_owned(), vec!["everyone".to_owned()])],
            ..StackOptions::default()
        };
        let through = Stack::start(options, &|_| ()).await?;
        Ok(Self { through, behind, direct, _dir: dir })
    }

    /// The servers' version, as they say it.
    #[must_use]
    pub fn version(&self) -> &str {
        self.direct.version()
    }

    /// Runs SQL on both servers, around the gateway.
    ///
    /// # Errors
    /// One of them refuses.
    pub async fn on_both(&self, database: &str, sql: &str) -> Result<()> {
        for cluster in [&self.direct, &self.behind] {
            cluster.server().oracle_on(database).await?.batch_execute(sql).await.with_context(|| format!("cannot prepare {database}"))?;
        }
        Ok(())
    }

    /// The routes to a database of both.
    ///
    /// # Errors
    /// The gateway has no token for the user.
    pub fn routes(&self, database: &str) -> Result<[Route; 2]> {
        let server = self.direct.server();
        let ca = server.ca.as_ref().context("the server has no certificate")?;
        let direct = Route {
            name: "direct",
            port: server.port,
            password: server.superuser_password.clone(),
            ca: ca.display().to_string(),
            database: database.to_owned(),
        };
        let through = Route {
            name: "through",
            port: self.through.gateway.port,
            password: self.through.principal(USER)?.token.clone(),
            ca: self.through.gateway.ca.display().to_string(),
            database: database.to_owned(),
        };
        Ok([direct, through])
    }
}

impl Route {
    /// What libpq and the drivers that follow it read from the environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("PGHOST", "localhost".to_owned()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", USER.to_owned()),
            ("PGPASSWORD", self.password.clone()),
            ("PGDATABASE", self.database.clone()),
            ("PGSSLMODE", "verify-full".to_owned()),
            ("PGSSLROOTCERT", self.ca.clone()),
            ("PGCONNECT_TIMEOUT", "20".to_owned()),
        ]
    }
}
