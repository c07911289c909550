//! The compatibility matrix: real drivers do the same at a server and at its twin behind the gateway, for each version of the server.
//! `docs/compatibility.md` holds what comes out; `COUNTERSIGN_WRITE_DOCS=1` writes it there.
//!
//! It takes minutes for each version, so it is played where `COUNTERSIGN_COMPAT=1` asks for it. A driver or server that cannot be had is left out with a word on standard error. `COUNTERSIGN_DRIVERS` (names with commas) takes only some.

#![expect(clippy::print_stderr, reason = "what is left out is said")]

mod benchmark;
mod masked;
mod programs;
mod tokio_driver;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::cluster::find_server;
use countersign_e2e::compat::matrix::{self, Compared, Operation};
use countersign_e2e::compat::{Pair, Route};
use countersign_e2e::scenario::{recordings_verify, runtime};

/// What every driver finds in its database.
const FIXTURE: &str = include_str!("../../drivers/fixture.sql");

/// One pair at a time: two cores are all a small machine has.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn drivers_at_the_installed_server() -> Result<()> {
    play(15, find_server)
}

#[test]
fn drivers_at_postgresql_16() -> Result<()> {
    play(16, || programs::ensure(&["postgres", "16"]).map(PathBuf::from))
}

#[test]
fn drivers_at_postgresql_17() -> Result<()> {
    play(17, || programs::ensure(&["postgres", "17"]).map(PathBuf::from))
}

#[test]
fn drivers_at_postgresql_18() -> Result<()> {
    play(18, || programs::ensure(&["postgres", "18"]).map(PathBuf::from))
}

#[test]
fn what_differs_by_design_is_documented() -> Result<()> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    matrix::documented("by design", &matrix::designs(), true)
}

/// A driver that cannot be had.
struct Missing(String);

/// Whether a driver was asked for.
fn wanted(name: &str) -> bool {
    std::env::var("COUNTERSIGN_DRIVERS").map_or(true, |names| names.split(',').any(|wanted| wanted == name))
}

fn play(version: u32, bin: impl FnOnce() -> Result<PathBuf>) -> Result<()> {
    if std::env::var_os("COUNTERSIGN_COMPAT").is_none() {
        eprintln!("the drivers at PostgreSQL {version} are left out: they take minutes; COUNTERSIGN_COMPAT=1 plays them");
        return Ok(());
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bin = match bin() {
        Ok(bin) => bin,
        Err(error) => {
            eprintln!("PostgreSQL {version} is left out: {error:#}");
            return Ok(());
        }
    };
    runtime()?.block_on(async {
        let pair = Pair::start(&bin, false).await?;
        let found = pair.version().split('.').next().unwrap_or_default().to_owned();
        pair.on_both("postgres", "create database compat_fixture").await?;
        pair.on_both("compat_fixture", FIXTURE).await?;
        let (mut rows, mut whole) = (Vec::new(), std::env::var_os("COUNTERSIGN_DRIVERS").is_none());
        for name in ["psql", "psycopg", "asyncpg", "node-postgres", "JDBC", "pgbench", "tokio-postgres", "sqlx", "sequences"] {
            if !wanted(name) {
                continue;
            }
            let begun = std::time::Instant::now();
            match driver(&pair, name).await? {
                Ok(compared) => {
                    eprintln!("PostgreSQL {found}: {name}: {} operations, {:.1} s", compared.operations, begun.elapsed().as_secs_f64());
                    rows.push(compared);
                }
                Err(Missing(why)) => {
                    eprintln!("{name} is left out: {why}");
                    whole = false;
                }
            }
        }
        let faults: Vec<&str> = rows.iter().flat_map(|row| row.faults.iter().map(String::as_str)).collect();
        ensure!(
            faults.is_empty(),
            "PostgreSQL {}: {} differences\n{}\n--- proxy\n{}",
            pair.version(),
            faults.len(),
            faults.join("\n"),
            countersign_e2e::process::last_lines(&pair.through.proxy.log(), 10)
        );
        recordings_verify(&pair.through).await?;
        if found != version.to_string() {
            eprintln!("the installed server is PostgreSQL {found}, not {version}: the documented table is not compared");
            return Ok(());
        }
        matrix::documented(&format!("PostgreSQL {version}"), &matrix::table(&rows), whole)
    })
}

/// Has one driver do its operations at both and compares.
async fn driver(pair: &Pair, name: &str) -> Result<Result<Compared, Missing>> {
    let database = format!("compat_{}", name.replace('-', "_").to_lowercase());
    pair.on_both("postgres", &format!("create database {database} template compat_fixture")).await?;
    let [direct, through] = pair.routes(&database)?;
    let (driver, one, other): (String, Vec<Operation>, Vec<Operation>) = match name {
        "tokio-postgres" => {
            let (one, other) = tokio::try_join!(tokio_driver::operations(&direct), tokio_driver::operations(&through))?;
            ("tokio-postgres".to_owned(), one, other)
        }
        "pgbench" => {
            let (one, other) = tokio::try_join!(benchmark::operations(&direct), benchmark::operations(&through))?;
            ("pgbench".to_owned(), one, other)
        }
        _ => {
            let program = match programs::find(name) {
                Ok(program) => program,
                Err(error) => return Ok(Err(Missing(format!("{error:#}")))),
            };
            let (one, other) = tokio::try_join!(program.operations(&direct), program.operations(&through))?;
            (program.title, one, other)
        }
    };
    Ok(Ok(matrix::compare(name, &driver, &one, &other)))
}

/// Fails when a route is not there.
fn route_context<T>(route: &Route, result: Result<T>) -> Result<T> {
    result.with_context(|| format!("at the {} server", route.name))
}
