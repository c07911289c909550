//! A reviewer at the look-alike's page or at the bot's own, in a real headless Chromium: reads a card, presses a button, writes into the form.
//!
//! Owns: running `tests/python/page.py` and `decide.py`, and where their pictures go. Does not own: the page, nor what the card should say.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::cluster::find_program;
use crate::stack::Stack;

/// The browser; none, with a word on standard error, when there is none.
#[must_use]
pub fn chromium() -> Option<PathBuf> {
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(|name| find_program(name).ok());
    if found.is_none() {
        eprintln!("skipped: there is no Chromium on this machine (`./run prepare` installs it; Debian: apt-get install chromium)");
    }
    found
}

/// Presses a button on the card that shows a text; returns what the card said before and after. `arguments`: user, text, button, perhaps
/// what goes into the form. The pictures stay in `target/screenshots/<folder>` for somebody to look at.
///
/// # Errors
/// The card does not come, or does not follow.
pub async fn press(stack: &Stack, browser: &Path, folder: &str, arguments: &[&str]) -> Result<(String, String)> {
    let said = run(stack, "page.py", browser, &stack.slack.page_url(), (folder, &["before.png", "after.png"]), arguments).await?;
    let text = |name: &str| said.get(name).and_then(Value::as_str).map(ToOwned::to_owned).context("no text");
    Ok((text("before")?, text("after")?))
}

/// Opens a page of the bot's own, signs in, and decides there; returns what the page said before and after. `arguments`: login, text, button,
/// perhaps a reason.
///
/// # Errors
/// The page does not come, shows something else, has a script in it, or does not take the decision.
pub async fn decide(stack: &Stack, browser: &Path, folder: &str, url: &str, arguments: &[&str]) -> Result<(String, String)> {
    let said = run(stack, "decide.py", browser, url, (folder, &["page.png", "decided.png"]), arguments).await?;
    ensure!(said.get("scripts").and_then(Value::as_u64) == Some(0), "there is a script in the page");
    let text = |name: &str| said.get(name).and_then(Value::as_str).map(ToOwned::to_owned).context("no text");
    Ok((text("before")?, text("after")?))
}

/// Opens the link that a press was answered with, reads what is to be approved, and signs in; returns what the answer said. `arguments`: login,
/// text.
///
/// # Errors
/// The page does not come, shows something else, or has a script in it.
pub async fn sign_in(stack: &Stack, browser: &Path, folder: &str, url: &str, arguments: &[&str]) -> Result<String> {
    let said = run(stack, "decide.py", browser, url, (folder, &["page.png", "decided.png"]), arguments).await?;
    ensure!(said.get("scripts").and_then(Value::as_u64) == Some(0), "there is a script in the page");
    said.get("after").and_then(Value::as_str).map(ToOwned::to_owned).context("no text")
}

async fn run(
    stack: &Stack,
    script: &str,
    browser: &Path,
    url: &str,
    (folder, pictures): (&str, &[&str]),
    arguments: &[&str],
) -> Result<Value> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tests.join("../target/screenshots").join(folder);
    std::fs::create_dir_all(&folder)?;
    let mut command = tokio::process::Command::new("python3");
    command.arg(tests.join("python").join(script)).arg(browser).arg(url).arg(&folder).args(arguments).kill_on_drop(true);
    let output = command.output().await.context("python3")?;
    let calls = stack.slack.calls();
    let last = calls.iter().rev().take(8).cloned().collect::<Vec<_>>().join(", ");
    ensure!(output.status.success(), "{}\nSlack was called last for: {last}", String::from_utf8_lossy(&output.stderr));
    for picture in pictures {
        ensure!(std::fs::metadata(folder.join(picture))?.len() > 10_000, "{picture} shows nothing");
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
