//! PostgreSQL's own regression scripts, played by psql at both servers of a pair; what psql prints is compared.
//!
//! Owns: the order of the scripts, how psql is run (as `pg_regress` runs it), the comparison. Does not own: the scripts, which lie in a
//! PostgreSQL source tree (`src/test/regress`).

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Pair, Route};
use crate::cluster::find_program;

/// The database the scripts know by name.
const DATABASE: &str = "regression";
/// How long one script may take.
const LIMIT: Duration = Duration::from_secs(1200);

/// What became of one script.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// Lines psql printed at the direct server.
    pub lines: usize,
    /// Statements in the script, as psql sees them (lines that end in a semicolon).
    pub statements: usize,
    /// Lines that differ: `-` direct only, `+` through the gateway only.
    pub differences: Vec<String>,
    /// Seconds it took at the direct server and through the gateway.
    pub seconds: (f64, f64),
}

/// The scripts in a source tree's order.
///
/// # Errors
/// There is no schedule.
pub fn schedule(tree: &Path) -> Result<Vec<String>> {
    let file = tree.join("parallel_schedule");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text.lines().filter_map(|line| line.strip_prefix("test:")).flat_map(str::split_whitespace).map(ToOwned::to_owned).collect())
}

/// A play of the scripts.
pub struct Play<'a> {
    pair: &'a Pair,
    tree: PathBuf,
    library: PathBuf,
    /// One folder a route: `results/` and what the scripts write.
    builds: [PathBuf; 2],
    routes: [Route; 2],
}

impl<'a> Play<'a> {
    /// Makes the databases. `tree` is a `src/test/regress` the server's user may read; `library` the folder of `regress.so`, where there
    /// is one; psql's output is left under `out`. `control` plays both times around the gateway, to learn what differs by itself.
    ///
    /// # Errors
    /// A database or a folder cannot be made.
    pub async fn prepare(pair: &'a Pair, tree: &Path, library: &Path, out: &Path, control: bool) -> Result<Self> {
        pair.on_both("postgres", &format!("create database {DATABASE} template template0 locale 'C'")).await?;
        pair.on_both(
            DATABASE,
            &format!(
                "alter database {DATABASE} set lc_messages to 'C'; alter database {DATABASE} set lc_monetary to 'C'; \
                 alter database {DATABASE} set lc_numeric to 'C'; alter database {DATABASE} set lc_time to 'C'; \
                 alter database {DATABASE} set bytea_output to 'hex'; alter database {DATABASE} set timezone_abbreviations to 'Default'"
            ),
        )
        .await?;
        let mut routes = pair.routes(DATABASE)?;
        if control {
            let server = pair.behind.server();
            let ca = server.ca.as_ref().context("the server has no certificate")?;
            routes[1].port = server.port;
            routes[1].password.clone_from(&server.superuser_password);
            routes[1].ca = ca.display().to_string();
        }
        let builds = routes.each_ref().map(|route| out.join(route.name));
        for build in &builds {
            std::fs::create_dir_all(build.join("results"))?;
            pair.direct.give(build)?;
        }
        Ok(Self { pair, tree: tree.to_owned(), library: library.to_owned(), builds, routes })
    }

    /// Plays one script at both, at the same time, and compares.
    ///
    /// # Errors
    /// psql cannot run or takes too long.
    pub async fn script(&self, name: &str) -> Result<Outcome> {
        let (direct, through) = tokio::try_join!(self.psql(0, name), self.psql(1, name))?;
        let script = std::fs::read_to_string(self.tree.join(format!("sql/{name}.sql"))).unwrap_or_default();
        let normal = |text: &str, at: usize| {
            let build = self.builds.get(at).map(|build| build.display().to_string()).unwrap_or_default();
            text.replace(&build, "@BUILD@")
        };
        let (one, other) = (normal(&direct.0, 0), normal(&through.0, 1));
        Ok(Outcome {
            name: name.to_owned(),
            lines: one.lines().count(),
            statements: script.lines().filter(|line| line.trim_end().ends_with(';')).count(),
            differences: if one == other { Vec::new() } else { differences(&one, &other) },
            seconds: (direct.1, through.1),
        })
    }

    async fn psql(&self, at: usize, name: &str) -> Result<(String, f64)> {
        let (route, build) = (self.routes.get(at).context("no route")?, self.builds.get(at).context("no folder")?);
        let input = std::fs::File::open(self.tree.join(format!("sql/{name}.sql"))).with_context(|| format!("no script {name}"))?;
        let output = build.join(format!("results/{name}.out"));
        let file = std::fs::File::create(&output)?;
        let mut command = tokio::process::Command::new(find_program("psql")?);
        command
            .args(["-X", "-a", "-q", "-d", DATABASE, "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"])
            .envs(route.environment())
            .env("PGTZ", "PST8PDT")
            .env("PGDATESTYLE", "Postgres, MDY")
            .env("PGOPTIONS", "-c intervalstyle=postgres_verbose")
            .env("PG_ABS_SRCDIR", &self.tree)
            .env("PG_ABS_BUILDDIR", build)
            .env("PG_LIBDIR", &self.library)
            .env("PG_DLSUFFIX", ".so")
            .env("LC_ALL", "C")
            .env_remove("PGCLIENTENCODING")
            .current_dir(build)
            .stdin(Stdio::from(input))
            .stderr(Stdio::from(file.try_clone()?))
            .stdout(Stdio::from(file))
            .kill_on_drop(true);
        let begun = std::time::Instant::now();
        let status =
            tokio::time::timeout(LIMIT, command.status()).await.with_context(|| format!("{name} does not end ({})", route.name))??;
        ensure!(status.code().is_some(), "psql was killed in {name} ({})", route.name);
        let text = String::from_utf8_lossy(&std::fs::read(&output)?).into_owned();
        Ok((text, begun.elapsed().as_secs_f64()))
    }

    /// The pair it plays on.
    #[must_use]
    pub const fn pair(&self) -> &Pair {
        self.pair
    }
}

/// Lines that are only in one of two texts, in order, by `diff`.
fn differences(one: &str, other: &str) -> Vec<String> {
    let Ok(dir) = crate::process::Scratch::new("diff") else { return vec!["cannot write".to_owned()] };
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    if std::fs::write(&a, one).is_err() || std::fs::write(&b, other).is_err() {
        return vec!["cannot write".to_owned()];
    }
    let output = std::process::Command::new("diff").args(["--text", "-U0"]).arg(&a).arg(&b).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let lines: Vec<String> = text.lines().skip(2).filter(|line| !line.starts_with("@@")).map(ToOwned::to_owned).collect();
    // Without `diff` it is still known that they differ.
    if lines.is_empty() { vec!["they differ".to_owned()] } else { lines }
}
