//! `policy snapshot`: the catalog of a database as a file, so that policies are explained, tested and replayed without a server.
//!
//! Read by `psql`, which knows every way to a server that the reader's own connections take. Names, types and definitions; no rows.
#![expect(clippy::print_stdout, reason = "a command line's answer goes to standard output")]

use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};
use countersign_policy::catalog::{CatalogBuilder, QUERIES};

// What separates fields, rows and results, and stands for NULL: no name has these characters.
const FIELD: char = '\u{1f}';
const ROW: char = '\u{1e}';
const NULL: &str = "\u{1d}";
const QUERY: &str = "\u{1c}";

/// Prints the snapshot.
///
/// # Errors
/// When `psql` is missing or does not get through, or the catalog cannot be read.
pub(super) fn run(connection: &str) -> anyhow::Result<ExitCode> {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-P", &format!("null={NULL}"), "-F", &FIELD.to_string()]);
    psql.args(["-R", &ROW.to_string(), "-d", connection, "-c", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"]);
    for query in QUERIES {
        psql.args(["-c", query.sql, "-c", &format!("\\echo {QUERY}")]);
    }
    let output =
        psql.args(["-c", "COMMIT"]).env("PGCLIENTENCODING", "UTF8").output().context("psql cannot be run: install PostgreSQL's client")?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8(output.stdout).context("psql's answer is not UTF-8")?;
    let mut builder = CatalogBuilder::recording();
    for (index, result) in text.split(&format!("{QUERY}\n")).take(QUERIES.len()).enumerate() {
        for row in result.trim_end_matches('\n').split(ROW).filter(|row| !row.is_empty()) {
            let values: Vec<Option<&str>> = row.split(FIELD).map(|value| (value != NULL).then_some(value)).collect();
            builder.row(index, &values)?;
        }
    }
    let (_, snapshot) = builder.finish_with_snapshot()?;
    println!("{}", snapshot.to_json()?);
    Ok(ExitCode::SUCCESS)
}
