//! Loads the catalog of a database by `psql` and prints it as a snapshot, for `policy explain` and tests without a server.
//!
//! `cargo run -p countersign-policy --example snapshot -- 'host=… dbname=…' > snapshot.json`
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::error::Error;
use std::process::Command;

use countersign_policy::catalog::{CatalogBuilder, QUERIES};

const FIELD: char = '\u{1f}';
const ROW: char = '\u{1e}';
const NULL: &str = "\u{1d}";
const QUERY: &str = "\u{1c}";

fn main() -> Result<(), Box<dyn Error>> {
    let connection = std::env::args().nth(1).ok_or("usage: snapshot CONNECTION-STRING")?;
    let mut command = Command::new("psql");
    command.args([
        "-X",
        "-q",
        "-At",
        "-v",
        "ON_ERROR_STOP=1",
        "-P",
        &format!("null={NULL}"),
        "-F",
        &FIELD.to_string(),
        "-R",
        &ROW.to_string(),
        "-d",
        &connection,
    ]);
    command.args(["-c", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"]);
    for query in QUERIES {
        command.args(["-c", query.sql, "-c", &format!("\\echo {QUERY}")]);
    }
    command.args(["-c", "COMMIT"]);
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let text = String::from_utf8(output.stdout)?;
    let mut builder = CatalogBuilder::recording();
    for (index, result) in text.split(&format!("{QUERY}\n")).take(QUERIES.len()).enumerate() {
        for row in result.trim_end_matches('\n').split(ROW).filter(|row| !row.is_empty()) {
            let values: Vec<Option<&str>> = row.split(FIELD).map(|value| (value != NULL).then_some(value)).collect();
            builder.row(index, &values)?;
        }
    }
    let (_, snapshot) = builder.finish_with_snapshot()?;
    println!("{}", snapshot.to_json()?);
    Ok(())
}
