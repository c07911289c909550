//! The CI job: a read with masked columns, a refusal, a hold, and the evidence.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::Options;
use super::console::Console;
use crate::client::{Output, run};
use crate::slack::Press;
use crate::stack::{Principal, Stack};

const READ: &str = "select id, name, ssn, email from customers order by id limit 5";
const BLOCKED: &str = "truncate table transactions";
const HELD: &str = "delete from transactions where posted_at < '2026-02-01'";

/// Plays the job; fails when anything is not as it should be.
pub(super) async fn play(stack: &Stack, options: &Options, console: &Console) -> Result<()> {
    let ci = stack.principal("ci")?;
    let mut summary = Vec::new();

    console.title("1. A CI job reads customers; two columns are masked");
    masked_read(stack, ci, console).await?;
    summary.push("allowed: a read, with ssn and email masked");

    console.title("2. It tries to empty a table; the policy says no");
    blocked(stack, ci, console).await?;
    summary.push("blocked: TRUNCATE, as an ordinary ERROR 42501; the session lived on");

    console.title("3. It deletes old transactions; that waits for a reviewer");
    held(stack, ci, options, console).await?;
    summary.push("held: a DELETE, until a reviewer's signed approval");

    console.title("4. All of it is on record");
    evidence(stack, console).await?;
    summary.push("recorded: every session listed, replayed and verified with public keys only");

    console.title("Summary");
    for line in summary {
        console.done(line);
    }
    Ok(())
}

/// The line a person copies.
pub(super) fn psql_line(stack: &Stack, principal: &Principal) -> String {
    format!("  PGPASSWORD={} psql \"{}\"", principal.token, stack.gateway.conninfo(&principal.user))
}

async fn psql(stack: &Stack, principal: &Principal, statements: &[&str], console: &Console) -> Result<Output> {
    let mut shown = format!("PGPASSWORD=$OIDC_TOKEN psql \"host=localhost port={} user={} …\"", stack.gateway.port, principal.user);
    let mut command = stack.gateway.psql(&principal.user, &principal.token)?;
    command.args(["--set=VERBOSITY=verbose", "--set=SHOW_CONTEXT=never", "--pset=footer=off"]);
    command.env("PGAPPNAME", "nightly-cleanup");
    for statement in statements {
        command.args(["--command", statement]);
        shown.push_str(&format!(" -c \"{statement}\""));
    }
    console.command(&shown);
    run(command, "psql").await
}

async fn masked_read(stack: &Stack, ci: &Principal, console: &Console) -> Result<()> {
    let output = psql(stack, ci, &[READ], console).await?;
    console.output(&output.stdout);
    ensure!(output.status == 0, "the read failed: {}", output.stderr);
    let oracle = stack.upstream.oracle().await?;
    for row in oracle.query(READ, &[]).await? {
        let (name, ssn, email): (String, String, String) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        ensure!(output.stdout.contains(&name), "{name} is missing from the answer");
        ensure!(!output.stdout.contains(&ssn) && !output.stdout.contains(&email), "a protected value came through");
        let end = ssn.get(ssn.len().saturating_sub(4)..).unwrap_or_default();
        ensure!(output.stdout.contains(end), "the last four digits are missing");
    }
    console.done("five customers, none of their SSNs or e-mail addresses");
    Ok(())
}

async fn blocked(stack: &Stack, ci: &Principal, console: &Console) -> Result<()> {
    let output = psql(stack, ci, &[BLOCKED, "select count(*) from transactions"], console).await?;
    console.output(&output.stderr);
    console.output(&output.stdout);
    ensure!(output.stderr.contains("42501"), "it was not refused with 42501");
    ensure!(output.status == 0 && output.stdout.contains("6000"), "the session did not live on");
    console.done("refused, and nothing is gone");
    Ok(())
}

async fn held(stack: &Stack, ci: &Principal, options: &Options, console: &Console) -> Result<()> {
    let oracle = stack.upstream.oracle().await?;
    let due: i64 = oracle.query_one("select count(*) from transactions where posted_at < '2026-02-01'", &[]).await?.try_get(0)?;
    let job = psql(stack, ci, &[HELD], console);
    tokio::pin!(job);
    let press = approve(stack, options, console);
    tokio::pin!(press);
    // The job cannot end before somebody pressed; if it does, something let it through or broke it.
    let output = tokio::select! {
        output = &mut job => {
            let output = output?;
            console.output(&output.stderr);
            let left: i64 = oracle.query_one("select count(*) from transactions", &[]).await?.try_get(0)?;
            if options.auto || left == 6000 {
                bail!("the statement ended before anybody approved it (exit status {})", output.status);
            }
            output
        }
        pressed = &mut press => {
            pressed?;
            job.await?
        }
    };
    console.output(&output.stderr);
    console.output(&output.stdout);
    ensure!(output.status == 0, "the held statement did not run");
    let left: i64 = oracle.query_one("select count(*) from transactions", &[]).await?.try_get(0)?;
    ensure!(left == 6000 - due, "{due} rows should be gone, {left} are left");
    console.done(&format!("approved, and {due} rows are gone at the server"));
    Ok(())
}

async fn approve(stack: &Stack, options: &Options, console: &Console) -> Result<()> {
    let decidable = |card: &crate::slack::Card| card.buttons.iter().any(|button| button.action.as_deref() == Some("approve"));
    let card = stack.slack.wait_for_card(Duration::from_secs(60), decidable).await.context("no card came to the page")?;
    let request = card.request.context("the card names no request")?;
    console.step(&format!("held; the card of request {request} is on {}", stack.slack.page_url()));
    if !options.auto {
        console.line(&format!("    Open {} and press Approve (as Dana or Lee).", stack.slack.page_url()));
        std::future::pending::<()>().await;
    }
    let press = Press { request, action: "approve".to_owned(), user: "U0DANA".to_owned(), reason: None };
    let outcome = stack.slack.press(&press).await;
    ensure!(outcome.ok, "the press was not taken: {:?}", outcome.error);
    console.done("Dana pressed Approve");
    Ok(())
}

async fn evidence(stack: &Stack, console: &Console) -> Result<()> {
    let audit = stack.audit();
    crate::scenario::recordings_sealed(stack).await?;
    let listed = step(console, "list", audit.run("list", &[]).await?)?;
    console.output(&listed.stdout);
    // The session that was held is the one to replay.
    let sessions = audit.sessions().await?;
    let mut held = None;
    for session in &sessions {
        let id = session.get("session").and_then(|id| id.as_str());
        let id = id.context("a listed session has no id")?.to_owned();
        let shown = audit.run("replay", &[&id, "--no-wait"]).await?;
        ensure!(shown.status == 0, "countersign-audit replay {id} failed: {}", shown.stderr);
        if shown.stdout.contains("delete from transactions") {
            held = Some((id, shown));
        }
    }
    let (id, shown) = held.context("no recording carries the held statement")?;
    console.command(&format!("countersign-audit replay {id} --no-wait"));
    console.output(&shown.stdout);
    let verified = step(console, "verify --all", audit.verify(None).await?)?;
    console.output(&verified.stdout);
    console.done(&format!("{} sessions, all of them verified", sessions.len()));
    Ok(())
}

fn step(console: &Console, subcommand: &str, output: Output) -> Result<Output> {
    console.command(&format!("countersign-audit {subcommand}"));
    ensure!(output.status == 0, "countersign-audit {subcommand} failed: {}", output.stderr);
    Ok(output)
}
