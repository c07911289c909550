//! What a driver saw at both servers, compared operation by operation, and the tables of `docs/compatibility.md` that follow from it.
//!
//! Owns: the form of a driver's report, the comparison, the list of what differs by design, the tables. Does not own: the drivers.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// One operation and what came of it.
pub type Operation = (String, Value);

/// What differs because the gateway is one, with the reason that stands in the documentation.
const BY_DESIGN: &[(&str, &str, &str)] = &[
    ("psycopg", "own_application_name", "`application_name` carries the principal's name to the server's log and views"),
    ("psycopg", "other_client_encoding", "`client_encoding` stays UTF8: statements are judged in it"),
    (
        "JDBC",
        "large_objects",
        "the driver's large object API uses the function call protocol, which is refused; the functions work by SELECT",
    ),
];

/// What came of comparing one driver.
#[derive(Debug, Clone)]
pub struct Compared {
    /// Driver with its version.
    pub driver: String,
    /// Number of operations.
    pub operations: usize,
    /// Of them the ones that differ by design.
    pub by_design: usize,
    /// What is wrong: an operation that differs, one that failed by itself, or one that should differ and does not.
    pub faults: Vec<String>,
}

/// Reads a driver's report: a line of JSON for each operation.
///
/// # Errors
/// A line is none.
pub fn report(text: &str) -> Result<Vec<Operation>> {
    let mut seen = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let mut value: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {}", excerpt(line, 200)))?;
        let name = value.get("op").and_then(Value::as_str).context("a line without `op`")?.to_owned();
        seen.push((name, value.get_mut("out").map(Value::take).unwrap_or_default()));
    }
    Ok(seen)
}

/// Compares what a driver saw at the direct server and through the gateway. `name` is the driver's in the list of what differs by design.
#[must_use]
pub fn compare(name: &str, driver: &str, direct: &[Operation], through: &[Operation]) -> Compared {
    let mut compared = Compared { driver: driver.to_owned(), operations: direct.len(), by_design: 0, faults: Vec::new() };
    if direct.is_empty() {
        compared.faults.push(format!("{name} did nothing"));
    }
    for (operation, value) in direct {
        if failed(value) {
            compared.faults.push(format!("{name}, {operation}: fails at the direct server already: {value}"));
            continue;
        }
        let Some((_, other)) = through.iter().find(|(known, _)| known == operation) else {
            compared.faults.push(format!("{name}, {operation}: missing through the gateway"));
            continue;
        };
        match (value == other, designed(name, operation)) {
            (true, None) => {}
            (false, Some(_)) => compared.by_design += 1,
            (false, None) => compared.faults.push(format!("{name}, {operation}: {}", difference(value, other))),
            (true, Some(_)) => compared.faults.push(format!("{name}, {operation}: is listed as different by design and is the same")),
        }
    }
    compared
}

fn designed(name: &str, operation: &str) -> Option<&'static str> {
    BY_DESIGN.iter().find(|(driver, known, _)| *driver == name && *known == operation).map(|(_, _, reason)| *reason)
}

fn failed(value: &Value) -> bool {
    value.get("failed").is_some() || value.get("seen").is_some_and(|seen| seen.get("failed").is_some())
}

/// Where two values part, shortly.
fn difference(one: &Value, other: &Value) -> String {
    let mut found = Vec::new();
    walk(one, other, &mut String::new(), &mut found);
    found.truncate(6);
    found.join("\n    ")
}

fn walk(one: &Value, other: &Value, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                path.push('.');
                path.push_str(key);
                walk(a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), path, found);
                path.truncate(length);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                path.push_str(&format!("[{index}]"));
                walk(a, b, path, found);
                path.truncate(length);
            }
        }
        (a, b) if a == b => {}
        (Value::Array(a), Value::Array(b)) => {
            let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or_else(|| a.len().min(b.len()));
            let rest = |list: &[Value]| excerpt(&Value::Array(list.iter().skip(at).take(4).cloned().collect()).to_string(), 400);
            found.push(format!("{path}: {} and {} entries; from [{at}] on direct {} through {}", a.len(), b.len(), rest(a), rest(b)));
        }
        (a, b) => found.push(format!("{path}: direct {} through {}", excerpt(&a.to_string(), 400), excerpt(&b.to_string(), 400))),
    }
}

fn excerpt(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most).chain("…".chars()).collect() }
}

/// The table of one server.
#[must_use]
pub fn table(rows: &[Compared]) -> String {
    let mut text = "| driver | operations | the same | different by design |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        text.push_str(&format!("| {} | {} | {} | {} |\n", row.driver, row.operations, row.operations - row.by_design, row.by_design));
    }
    text
}

/// The list of what differs by design.
#[must_use]
pub fn designs() -> String {
    let mut text = "| driver | operation | why |\n|---|---|---|\n".to_owned();
    for (driver, operation, reason) in BY_DESIGN {
        text.push_str(&format!("| {driver} | `{operation}` | {reason} |\n"));
    }
    text
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md")
}

/// Checks that a part of `docs/compatibility.md` says what was seen; with `COUNTERSIGN_WRITE_DOCS` set it is written instead. `lines` alone
/// are looked for where `whole` is false, since not every driver could be had.
///
/// # Errors
/// The page says something else.
pub fn documented(part: &str, content: &str, whole: bool) -> Result<()> {
    let file = page();
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let (begin, end) = (format!("<!-- {part} -->\n"), format!("<!-- end of {part} -->\n"));
    let (Some(from), Some(to)) = (text.find(&begin).map(|at| at + begin.len()), text.find(&end)) else {
        bail!("docs/compatibility.md has no part `{part}`");
    };
    let (before, rest) = text.split_at(from);
    let (known, after) = rest.split_at(to.saturating_sub(from));
    if std::env::var_os("COUNTERSIGN_WRITE_DOCS").is_some() && whole {
        std::fs::write(&file, format!("{before}{content}{after}"))?;
        return Ok(());
    }
    let said = if whole { known == content } else { content.lines().all(|line| known.lines().any(|known| known == line)) };
    ensure!(said, "docs/compatibility.md says of {part}:\n{known}but this was seen:\n{content}set COUNTERSIGN_WRITE_DOCS=1 to write it");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "tests")]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_is_a_fault_unless_it_is_by_design() -> Result<()> {
        let direct = report("{\"op\": \"a\", \"out\": [1, {\"b\": 2}]}\nnoise\n{\"op\": \"own_application_name\", \"out\": 1}")?;
        let mut through = direct.clone();
        assert_eq!(compare("psql", "psql", &direct, &through).faults, Vec::<String>::new());
        assert_eq!(compare("psycopg", "psycopg", &direct, &through).faults.len(), 1, "listed and yet the same");
        through[1].1 = json!(2);
        let compared = compare("psycopg", "psycopg", &direct, &through);
        assert_eq!((compared.faults.len(), compared.by_design), (0, 1));
        through[0].1 = json!([1, {"b": 3}]);
        let compared = compare("psycopg", "psycopg", &direct, &through);
        assert_eq!(compared.faults, ["psycopg, a: [1].b: direct 2 through 3"]);
        through.remove(0);
        assert_eq!(compare("psycopg", "psycopg", &direct, &through).faults, ["psycopg, a: missing through the gateway"]);
        let broken = [("a".to_owned(), json!({"failed": "x"}))];
        assert_eq!(compare("psql", "psql", &broken, &broken).faults.len(), 1);
        Ok(())
    }
}
