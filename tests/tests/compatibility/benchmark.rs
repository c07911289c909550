//! pgbench: every mode and a connection for each transaction; compared by what it counts and what it leaves behind.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use countersign_e2e::cluster::find_program;
use countersign_e2e::compat::Route;
use countersign_e2e::compat::matrix::Operation;
use countersign_e2e::process::Scratch;
use serde_json::{Value, json};

const PIPELINE: &str = "\\set n random(1, 100000)\n\\startpipeline\nbegin;\nupdate pgbench_accounts set abalance = abalance + 1 where aid = :n;\n\
    select abalance from pgbench_accounts where aid = :n;\ncommit;\n\\endpipeline\n\\startpipeline\nselect 1;\nselect 2;\n\\endpipeline\n";
const SCRIPT: &str = "\\set n random(1, 10)\nselect count(*) as many, :n as n from pgbench_branches \\gset p_\n\\if :p_n > 5\nupdate pgbench_tellers set tbalance = tbalance + :p_many where tid = :n;\n\\else\n\
    select 1 \\; select 2 as two \\gset q_\n\\endif\n";
const FAILING: &str = "insert into pgbench_history (tid) values (:client_id);\nselect 1/0;\n";
const SERIALIZABLE: &str = "begin isolation level serializable;\nselect sum(tbalance) from pgbench_tellers;\nupdate pgbench_tellers set tbalance = tbalance + 1 where tid = 1 + :client_id;\ncommit;\n";

/// A run: name, arguments, script.
const RUNS: &[(&str, &[&str], Option<&str>)] = &[
    ("tpcb_simple", &["-M", "simple", "-c", "1", "-t", "60"], None),
    ("tpcb_extended", &["-M", "extended", "-c", "2", "-j", "2", "-t", "40"], None),
    ("tpcb_prepared", &["-M", "prepared", "-c", "2", "-j", "2", "-t", "40"], None),
    ("select_only_prepared", &["-S", "-M", "prepared", "-c", "4", "-t", "100"], None),
    ("simple_update", &["-N", "-M", "simple", "-c", "2", "-t", "40"], None),
    ("connection_each", &["-S", "-C", "-c", "2", "-t", "10"], None),
    ("pipeline_extended", &["-M", "extended", "-c", "2", "-t", "40"], Some(PIPELINE)),
    ("pipeline_prepared", &["-M", "prepared", "-c", "2", "-t", "40"], Some(PIPELINE)),
    ("script_simple", &["-M", "simple", "-c", "1", "-t", "60"], Some(SCRIPT)),
    ("script_extended", &["-M", "extended", "-c", "1", "-t", "1"], Some(SCRIPT)),
    ("script_fails", &["-M", "prepared", "-c", "1", "-t", "3"], Some(FAILING)),
    ("serializable_with_tries", &["-M", "prepared", "-c", "4", "-t", "10", "--max-tries=1000"], Some(SERIALIZABLE)),
];

/// Does everything at one server.
///
/// # Errors
/// pgbench is not there, or the server cannot be asked.
pub(crate) async fn operations(route: &Route) -> Result<Vec<Operation>> {
    super::route_context(route, all(route).await)
}

async fn all(route: &Route) -> Result<Vec<Operation>> {
    let scratch = Scratch::new("pgbench")?;
    let mut seen = Vec::new();
    for (name, steps) in [("initialize", "dtgvp"), ("initialize_at_the_server", "dtGvpf")] {
        seen.push((name.to_owned(), pgbench(route, &["-i", "-q", "-I", steps]).await?));
    }
    for (name, arguments, script) in RUNS {
        let mut arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend(["-n", "--random-seed=42"].map(ToOwned::to_owned));
        if let Some(script) = script {
            let file = scratch.path().join(name);
            std::fs::write(&file, script)?;
            arguments.push("-f".to_owned());
            arguments.push(file.display().to_string());
        }
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = pgbench(route, &words).await?;
        let left = sums(route).await?;
        seen.push(((*name).to_owned(), json!([said, left])));
    }
    Ok(seen)
}

/// What it says that does not depend on time.
async fn pgbench(route: &Route, arguments: &[&str]) -> Result<Value> {
    let mut command = tokio::process::Command::new(find_program("pgbench")?);
    command.args(arguments).envs(route.environment()).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(120), command.output()).await.context("pgbench does not end")??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let counted = ["number of transactions actually processed", "number of failed transactions", "query mode"];
    let lines: Vec<&str> = text.lines().filter(|line| counted.iter().any(|word| line.starts_with(word))).collect();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors: Vec<&str> = words.lines().filter(|line| line.contains("error") || line.contains("ERROR")).collect();
    Ok(json!({ "status": output.status.code(), "counts": lines, "errors": errors }))
}

async fn sums(route: &Route) -> Result<Value> {
    let sql = "select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers), (select sum(bbalance) from pgbench_branches), \
               (select count(*) from pgbench_history), (select count(*) from pgbench_accounts)";
    let mut command = tokio::process::Command::new(find_program("psql")?);
    command.args(["-XAtc", sql]).envs(route.environment()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await.context("psql does not end")??;
    Ok(json!([String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)]))
}
