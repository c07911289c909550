//! The tools that people write policies with, over the catalog and the recordings of a running gateway.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::client::{Output, run};
use countersign_e2e::stack::Stack;
use serde_json::Value;

use super::code;

const STRICTER: &str = r#"
version = 1

[[rules]]
name = "main-changes"
who = { groups = ["ci"], claims = { ref = ["refs/heads/main"] } }
what = { kinds = ["write"], relations = ["public.ledger"] }
action = "allow"

[[rules]]
name = "ci-reads"
who = { groups = ["ci"] }
what = { kinds = ["read", "transaction", "session"] }
action = "allow"
"#;

const CASES: &str = r#"
policy = "stricter.toml"
catalog = "snapshot.json"
[[case]]
sql = "update ledger set note = '' where id = 1"
as = "job:ci"
claims = { ref = "refs/heads/main" }
expect = "allow"
rule = "main-changes"
[[case]]
sql = "update ledger set note = '' where id = 1"
as = "job:ci"
claims = { ref = "refs/heads/topic" }
expect = "deny"
rule = "default"
"#;

async fn tool(stack: &Stack, dir: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = tokio::process::Command::new(&stack.programs.proxy);
    command.arg("policy").args(arguments).current_dir(dir).env("PGPASSWORD", &stack.upstream.password);
    run(command, "countersign-proxy policy").await
}

/// Snapshot, check, explain, test and replay, one after the other, as somebody does who tightens a policy.
pub(super) async fn tighten_a_policy(stack: &Stack) -> Result<()> {
    let ci = stack.connect("ci").await?;
    let found = code(&ci, "update ledger set note = note where id = 77").await;
    ensure!(found.is_empty(), "the write of ci: {found}");
    let folder = tempfile::tempdir()?;
    let dir = folder.path();
    std::fs::write(dir.join("stricter.toml"), STRICTER)?;
    std::fs::write(dir.join("cases.toml"), CASES)?;
    std::fs::write(dir.join("wrong.toml"), CASES.replace("\"deny\"", "\"allow\""))?;
    std::fs::write(dir.join("misspelt.toml"), CASES.replace("\"deny\"", "\"denied\""))?;

    let server = &stack.upstream;
    let connection = format!("host={} port={} dbname={} user={}", server.host, server.port, server.database, server.user);
    let made = tool(stack, dir, &["snapshot", &connection]).await?;
    ensure!(made.status == 0, "snapshot: {}", made.stderr);
    std::fs::write(dir.join("snapshot.json"), made.stdout)?;

    let checked = tool(stack, dir, &["check", "stricter.toml"]).await?;
    ensure!(checked.status == 0 && checked.stdout.contains("2 rules, 0 masks"), "check: {} {}", checked.stdout, checked.stderr);

    let ask = ["explain", "--policy", "stricter.toml", "--sql", "delete from ledger", "--as", "job:ci"];
    let known = ["--catalog", "snapshot.json", "--claim", "ref=refs/heads/main"];
    let explained = tool(stack, dir, &[&ask[..], &known, &["--json"]].concat()).await?;
    let told: Value = serde_json::from_str(&explained.stdout).with_context(|| explained.stderr.clone())?;
    let at = |pointer: &str| told.pointer(pointer).cloned().unwrap_or_default();
    ensure!(at("/decision") == "allow" && at("/rule") == "main-changes", "explain: {told}");
    ensure!(at("/statements/0/missing_where") == true && at("/statements/0/writes/0/name") == "ledger", "explain: {told}");
    let without = tool(stack, dir, &ask).await?;
    ensure!(
        without.stdout.starts_with("Decision   DENY") && without.stdout.contains("No --catalog was given"),
        "explain: {}",
        without.stdout
    );

    let tested = tool(stack, dir, &["test", "cases.toml"]).await?;
    ensure!(tested.status == 0 && tested.stdout == "2 examples, 0 failed", "test: {} {}", tested.stdout, tested.stderr);
    let wrong = tool(stack, dir, &["test", "wrong.toml"]).await?;
    ensure!(wrong.status == 1 && wrong.stdout.contains("expected allow by rule default, found deny"), "test: {}", wrong.stdout);
    let misspelt = tool(stack, dir, &["test", "misspelt.toml"]).await?;
    ensure!(misspelt.status == 1 && misspelt.stderr.contains("line 14, column 10: unknown variant `denied`"), "test: {}", misspelt.stderr);

    let store = format!("directory:{}", stack.recordings()?.display());
    let replay = ["replay", "--policy", "stricter.toml", "--catalog", "snapshot.json", "--store"];
    // Journals are believed only where a key proves them, so without keys open sessions are missing, and that is said.
    let unproved = tool(stack, dir, &[&replay[..], &[&store]].concat()).await?;
    ensure!(
        unproved.status == 0
            && !unproved.stdout.contains("where id = 77")
            && unproved.stdout.contains("journals are read only with --keys"),
        "replay without keys: {} {}",
        unproved.stdout,
        unproved.stderr
    );
    let keys = stack.keys.display().to_string();
    let replayed = tool(stack, dir, &[&replay[..], &[&store, "--keys", &keys]].concat()).await?;
    ensure!(replayed.status == 0 && !replayed.stdout.contains("--keys"), "replay: {} {}", replayed.stdout, replayed.stderr);
    let line = replayed
        .stdout
        .lines()
        .find(|line| line.contains("where id = 77"))
        .with_context(|| format!("the write of ci is not told: {}", replayed.stdout))?;
    ensure!(line.contains("allow (ci-changes) would be deny (default)"), "replay: {line}");
    for (place, why) in [("directory:missing", "is not a directory"), ("directory:.", "no recorded session")] {
        let none = tool(stack, dir, &[&replay[..], &[place]].concat()).await?;
        ensure!(
            none.status == 1 && none.stderr.contains(why),
            "nothing to replay in {place} counts as an all-clear: {} {}",
            none.stdout,
            none.stderr
        );
    }
    Ok(())
}
