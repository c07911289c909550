//! The pages that auditors and reviewers look at: exported by the real tool or served by the real bot, opened in a real browser.
//!
//! `COUNTERSIGN_SCREENSHOTS=docs/images` keeps the pictures.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::browser::Browser;
use countersign_e2e::client::full_text;
use countersign_e2e::reviewer;
use countersign_e2e::scenario::{hold, on_shared, recordings_sealed};
use countersign_e2e::slack::{Fault, FaultKind};
use countersign_e2e::stack::Stack;
use serde_json::Value;

/// Something of everything: reads with masks, a refusal, a hold that is approved and one that is denied, and a text that would like to run.
async fn history(stack: &Stack) -> Result<String> {
    let ci = stack.connect("ci").await?;
    ci.simple_query("select id, name, ssn, email from customers order by id limit 5").await?;
    let _refused = ci.batch_execute("drop table customers").await;
    ci.simple_query("select '<script>document.title=''owned''</script><img src=x onerror=\"document.title=''owned''\">' as hostile")
        .await?;
    drop(ci);
    let approved = hold(stack, "ci", "update ledger set note = 'corrected, ticket 4711' where id = 301").await?;
    tokio::time::sleep(Duration::from_millis(400)).await;
    ensure!(approved.press(stack, "approve", "U0DANA", None).await.ok, "not approved");
    let (session, outcome) = approved.ended().await?;
    ensure!(outcome? == 1, "one row");
    let rows = session.query("select id, note from ledger where id between 300 and 303 order by id", &[]).await?;
    ensure!(rows.len() == 4, "four rows");
    session.simple_query("select id, name, ssn, email from customers order by id limit 4").await?;
    let _refused = session.batch_execute("truncate ledger").await;
    drop(session);
    let denied = hold(stack, "ci", "delete from ledger where id = 302").await?;
    ensure!(denied.press(stack, "deny", "U0LEE", Some("not without a ticket")).await.ok, "not denied");
    let (_, outcome) = denied.ended().await?;
    ensure!(outcome.is_err(), "a denied statement ran");
    recordings_sealed(stack).await?;
    let audit = stack.audit();
    let found = audit.run("search", &["ticket 4711", "--place", "statements", "--json"]).await?;
    let hit: Value = serde_json::from_str(found.stdout.lines().next().context("the search finds nothing")?)?;
    Ok(hit.get("session").and_then(Value::as_str).context("a hit without its session")?.to_owned())
}

/// Where the picture of a page goes.
fn picture(stack: &Stack, name: &str) -> PathBuf {
    let kept = std::env::var_os("COUNTERSIGN_SCREENSHOTS").map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder));
    kept.unwrap_or_else(|| stack.dir().to_owned()).join(name)
}

/// The browser runs nothing, fetches nothing and complains of nothing.
async fn looks_right(browser: &Browser, page: &Path, texts: &[&str]) -> Result<()> {
    let output = browser.dom(page).await?;
    for text in texts {
        ensure!(output.stdout.contains(text), "`{text}` is missing from {}", page.display());
    }
    ensure!(!output.stdout.contains("<title>owned"), "a recorded text ran");
    for complaint in ["CONSOLE", "Refused to", "ERR_"] {
        let said: Vec<&str> = output.stderr.lines().filter(|line| line.contains(complaint) && line.contains("file://")).collect();
        ensure!(said.is_empty(), "the browser complains: {said:?}");
    }
    Ok(())
}

#[test]
fn pages_open_in_a_browser_without_network_or_scripts() -> Result<()> {
    on_shared(|stack| async move {
        let session = history(stack).await?;
        let audit = stack.audit();
        let page = stack.dir().join("session.html");
        let exported = audit.run("export", &[&session, "--format", "html", "--out", &page.display().to_string()]).await?;
        ensure!(exported.status == 0, "{}", exported.stderr);

        let package = stack.dir().join("evidence");
        let folder = package.display().to_string();
        let key = stack.recording_key.private.display().to_string();
        let order = ["--since", "2020-01-01", "--until", "2100-01-01", "--out", &folder, "--signing-key", &key, "--samples", "5"];
        let made = audit.run("evidence", &order).await?;
        ensure!(made.status == 0, "{}", made.stderr);
        let public = stack.recording_key.public.display().to_string();
        let check = ["--public-key", public.as_str()];
        let checked = audit.run("check-evidence", &[&[folder.as_str()][..], &check].concat()).await?;
        ensure!(checked.status == 0, "{}\n{}", checked.stdout, checked.stderr);

        if let Some(browser) = Browser::find()? {
            let texts =
                ["Verified when this page was written", "ticket 4711", "signed decision: dana", "<rect class=\"hold\"", "truncate ledger"];
            looks_right(&browser, &page, &texts).await?;
            browser.picture(&page, (1150, 1500), &picture(stack, "export-html.png")).await?;
            let index = package.join("index.html");
            let texts = [
                "Every recording in the store held",
                "Segregation of duties",
                "denied by lee",
                "signatures verified",
                "<rect class=\"deny\"",
            ];
            looks_right(&browser, &index, &texts).await?;
            browser.picture(&index, (1150, 1500), &picture(stack, "evidence-index.png")).await?;
            for sample in std::fs::read_dir(package.join("samples"))? {
                let sample = sample?.path();
                if sample.extension().is_some_and(|extension| extension == "html") {
                    looks_right(&browser, &sample, &["Session events"]).await?;
                }
            }
        }

        // A package says when a file of it was changed, removed or added.
        let held = package.join("held.csv");
        let text = std::fs::read_to_string(&held)?;
        for change in ["changed", "removed", "added"] {
            match change {
                "changed" => std::fs::write(&held, text.replace("dana", "lee"))?,
                "removed" => std::fs::remove_file(&held)?,
                _ => std::fs::write(package.join("more.csv"), "x")?,
            }
            let checked = audit.run("check-evidence", &[&[folder.as_str()][..], &check].concat()).await?;
            ensure!(checked.status == 1, "{change}: {}", checked.stdout);
            std::fs::write(&held, &text)?;
        }
        Ok(())
    })
}

/// Slack is down: whoever waits is told where reviewers decide, who signs in there and decides; the statement runs.
#[test]
fn a_reviewer_decides_on_the_bots_page_while_slack_is_down() -> Result<()> {
    on_shared(|stack| async move {
        let Some(browser) = reviewer::chromium() else { return Ok(()) };
        let bot = stack.bot.as_ref().context("no bot")?;
        stack.slack.add_fault(Fault { method: "*".to_owned(), times: u32::MAX, kind: FaultKind::Status(503) });
        let outcome = without_slack(stack, &browser, &bot.url()).await;
        stack.slack.clear_faults();
        outcome
    })
}

async fn without_slack(stack: &Stack, browser: &Path, bot: &str) -> Result<()> {
    for (id, login, button, reason) in [(321, "dana", "Approve", None), (322, "lee", "Deny", Some("not before the backup"))] {
        let sql = format!("delete from ledger where id = {id} /* <b>&amp;</b> \u{430} */");
        let mut session = stack.connect("ci").await?;
        let mut notices = std::mem::replace(&mut session.notices, tokio::sync::mpsc::unbounded_channel().1);
        let text = sql.clone();
        let call = tokio::spawn(async move { session.execute(&text, &[]).await });
        // The client is told twice: when it is held, and that Slack does not take the card.
        let mut address = String::new();
        for part in ["reviewers decide in Slack or at ", "they can decide at "] {
            address = tokio::time::timeout(Duration::from_secs(60), async {
                while let Some(notice) = notices.recv().await {
                    let said = format!("{} {}", notice.message(), notice.detail().unwrap_or_default());
                    if let Some((_, address)) = said.split_once(part) {
                        return Ok(address.trim().to_owned());
                    }
                }
                anyhow::bail!("the connection ended before a notice with `{part}`")
            })
            .await
            .with_context(|| format!("no notice with `{part}`"))??;
            ensure!(address.starts_with(&format!("{bot}/requests/")), "{address}");
        }
        let arguments: Vec<&str> = [login, &sql, button].into_iter().chain(reason).collect();
        let (before, after) = reviewer::decide(stack, browser, "own-page", &address, &arguments).await?;
        for part in [sql.as_str(), "Requester", "nightly-cleanup", "0 of 1 approval", "U+0430", "Signed in as"] {
            ensure!(before.contains(part), "the page does not show `{part}`:\n{before}");
        }
        let outcome = tokio::time::timeout(Duration::from_secs(60), call).await.context("the held statement does not end")??;
        match reason {
            None => {
                ensure!(after.contains("you approved") && outcome? == 1, "{after}");
            }
            Some(reason) => {
                let error = outcome.err().context("a denied statement ran")?;
                ensure!(after.contains("you denied") && full_text(&error).contains(reason), "{error:?}");
            }
        }
    }
    Ok(())
}
