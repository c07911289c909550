//! A reviewer at the page, in headless Chromium: what is read there is what runs, and what is pressed there decides. The pictures stay in
//! `target/screenshots` for somebody to look at.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::cluster::find_program;
use countersign_e2e::scenario::{count, hold};
use countersign_e2e::stack::Stack;
use serde_json::Value;

use super::on_localstack;

fn chromium() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(|name| find_program(name).ok())
}

/// Presses a button on the card that shows `text`; returns what it said before and after.
async fn drive(stack: &Stack, browser: &Path, folder: &str, arguments: &[&str]) -> Result<(String, String)> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tests.join("../target/screenshots").join(folder);
    std::fs::create_dir_all(&folder)?;
    let mut command = tokio::process::Command::new("python3");
    command.arg(tests.join("python/page.py")).arg(browser).arg(stack.slack.page_url()).arg(&folder).args(arguments).kill_on_drop(true);
    let output = command.output().await.context("python3")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout)?;
    for picture in ["before.png", "after.png"] {
        ensure!(std::fs::metadata(folder.join(picture))?.len() > 10_000, "{picture} shows nothing");
    }
    let text = |name: &str| said.get(name).and_then(Value::as_str).map(ToOwned::to_owned).context("no text");
    Ok((text("before")?, text("after")?))
}

#[test]
fn a_reviewer_at_the_page_approves_and_denies() -> Result<()> {
    let Some(browser) = chromium() else {
        eprintln!("skipped: there is no Chromium on this machine (Debian: apt-get install chromium)");
        return Ok(());
    };
    on_localstack(|stack| async move {
        let sql = "delete from ledger where id = 221 /* <!channel> *b* :smile: */";
        let pending = hold(stack, "ci", sql).await.context("approve")?;
        let (before, after) = drive(stack, &browser, "approve", &["U0DANA", "id = 221", "Approve"]).await?;
        for part in ["delete from ledger where id = 221", "<!channel> *b* :smile:", "0 of 1 approval", "Requester", &pending.request] {
            ensure!(before.contains(part), "the page does not show `{part}`:\n{before}");
        }
        ensure!(pending.ended().await?.1? == 1, "one row");
        ensure!(after.contains("dana approved") && after.contains("Approved, done"), "{after}");

        let pending = hold(stack, "ci", "delete from ledger where id = 222").await.context("deny")?;
        let arguments = ["U0LEE", "id = 222", "Deny…", "not before the backup"];
        let (_, after) = drive(stack, &browser, "deny", &arguments).await?;
        let error = pending.ended().await?.1.err().context("a denied statement ran")?;
        ensure!(countersign_e2e::client::full_text(&error).contains("not before the backup"), "{error:?}");
        ensure!(after.contains("lee denied") && after.contains("not before the backup"), "{after}");
        ensure!(count(stack, "select count(*) from ledger where id in (221, 222)").await? == 1, "the wrong one ran");
        Ok(())
    })
}
