//! Drivers that run in programs of their own: they take the server from the environment and print a line for each operation.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::cluster::find_program;
use countersign_e2e::compat::Route;
use countersign_e2e::compat::matrix::{self, Operation};
use countersign_e2e::process::Scratch;
use serde_json::json;

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(300);

/// A program, ready to run.
pub(crate) struct Program {
    /// Name and version, for the table.
    pub(crate) title: String,
    command: Vec<String>,
    dir: Option<PathBuf>,
    /// psql prints text; it is cut at `=== name` lines.
    cut: bool,
}

fn drivers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers")
}

/// Asks `tests/drivers/ensure` for something; what it prints last.
pub(crate) fn ensure(what: &[&str]) -> Result<String> {
    let output =
        std::process::Command::new(drivers().join("ensure")).args(what).stdin(Stdio::null()).output().context("cannot run ensure")?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.success(), "{}", said.lines().last().unwrap_or("it cannot be had"));
    Ok(String::from_utf8_lossy(&output.stdout).lines().last().context("ensure prints nothing")?.to_owned())
}

/// The version a list of packages pins.
fn pinned(file: &str, package: &str) -> Result<String> {
    let text = std::fs::read_to_string(drivers().join(file))?;
    let line = text.lines().find(|line| line.contains(package)).with_context(|| format!("{file} has no {package}"))?;
    Ok(line.rsplit(['=', ':']).next().unwrap_or_default().trim_matches([' ', '"', ',']).to_owned())
}

/// Finds a driver's program.
///
/// # Errors
/// It cannot be had; the error says why.
pub(crate) fn find(name: &str) -> Result<Program> {
    let text = |path: PathBuf| path.display().to_string();
    Ok(match name {
        "psql" => Program {
            title: "psql".to_owned(),
            command: vec![
                text(find_program("psql")?),
                "-X".into(),
                "-a".into(),
                "-q".into(),
                "-f".into(),
                text(drivers().join("psql.sql")),
            ],
            dir: None,
            cut: true,
        },
        "psycopg" | "asyncpg" => Program {
            title: format!("{name} {}", pinned("python.txt", name)?),
            command: vec![ensure(&["python"])?, text(drivers().join(format!("{name}_ops.py")))],
            dir: None,
            cut: false,
        },
        "node-postgres" => Program {
            title: format!("node-postgres {}", pinned("node/package.json", "\"pg\"")?),
            command: vec![text(find_program("node")?), text(drivers().join("node/ops.mjs"))],
            dir: Some(PathBuf::from(ensure(&["node"])?)),
            cut: false,
        },
        "JDBC" => Program {
            title: "JDBC".to_owned(),
            // Small heap, quick start: it runs for seconds.
            command: ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", &ensure(&["jdbc"])?, "Main"]
                .map(ToOwned::to_owned)
                .to_vec(),
            dir: None,
            cut: false,
        },
        "sqlx" => Program {
            title: format!("sqlx {}", pinned("sqlx/Cargo.toml", "version = \"=")?),
            command: vec![ensure(&["sqlx"])?],
            dir: None,
            cut: false,
        },
        "sequences" => Program {
            title: "sequences of messages".to_owned(),
            command: vec![text(find_program("python3")?), text(drivers().join("sequences.py"))],
            dir: None,
            cut: false,
        },
        other => anyhow::bail!("there is no driver {other}"),
    })
}

impl Program {
    /// Runs it at one server.
    ///
    /// # Errors
    /// It cannot run, fails, or takes too long.
    pub(crate) async fn operations(&self, route: &Route) -> Result<Vec<Operation>> {
        super::route_context(route, self.run(route).await)
    }

    async fn run(&self, route: &Route) -> Result<Vec<Operation>> {
        let scratch = Scratch::new("driver")?;
        let (program, arguments) = self.command.split_first().context("no program")?;
        let mut command = tokio::process::Command::new(program);
        command
            .args(arguments)
            .envs(route.environment())
            .env("LC_ALL", "C.UTF-8")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("PGOPTIONS")
            .env_remove("PGCLIENTENCODING")
            .current_dir(self.dir.as_deref().unwrap_or(scratch.path()))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if self.cut {
            // Errors and notices belong where they are said.
            let file = std::fs::File::create(scratch.path().join("output"))?;
            command.stdout(Stdio::from(file.try_clone()?)).stderr(Stdio::from(file));
            let status = tokio::time::timeout(LIMIT, command.status()).await.context("it does not end")??;
            ensure!(status.code().is_some(), "it was killed");
            let text = String::from_utf8_lossy(&std::fs::read(scratch.path().join("output"))?).into_owned();
            ensure!(text.contains("=== end"), "it ended early: {}", countersign_e2e::process::last_lines(&text, 5));
            return Ok(cut(&text, route));
        }
        let output = tokio::time::timeout(LIMIT, command.output()).await.context("it does not end")??;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "it failed: {}", countersign_e2e::process::last_lines(&words, 8));
        matrix::report(&String::from_utf8_lossy(&output.stdout))
    }
}

/// psql's output by operation. The port is not part of what is compared.
fn cut(text: &str, route: &Route) -> Vec<Operation> {
    let text = text.replace(&route.port.to_string(), "@PORT@");
    let mut seen: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            seen.push((name.to_owned(), Vec::new()));
        } else if let Some((_, lines)) = seen.last_mut() {
            // Process ids are the server's own.
            let line = line.split_once(" received from server process with PID").map_or(line, |(before, _)| before);
            lines.push(line.to_owned());
        }
    }
    seen.into_iter().filter(|(name, _)| name != "end").map(|(name, lines)| (name, json!(lines))).collect()
}
