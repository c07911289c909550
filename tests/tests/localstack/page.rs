//! A reviewer at the page, in headless Chromium: what is read there is what runs, and what is pressed there decides.

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::reviewer;
use countersign_e2e::scenario::{count, hold};

use super::on_localstack;

#[test]
fn a_reviewer_at_the_page_approves_and_denies() -> Result<()> {
    let Some(browser) = reviewer::chromium() else { return Ok(()) };
    on_localstack(|stack| async move {
        let sql = "delete from ledger where id = 241 /* <!channel> *b* :smile: */";
        let pending = hold(stack, "ci", sql).await.context("approve")?;
        let (before, after) = reviewer::press(stack, &browser, "approve", &["U0DANA", "id = 241", "Approve"]).await?;
        for part in ["delete from ledger where id = 241", "<!channel> *b* :smile:", "0 of 1 approval", "Requester", &pending.request] {
            ensure!(before.contains(part), "the page does not show `{part}`:\n{before}");
        }
        ensure!(pending.ended().await?.1? == 1, "one row");
        ensure!(after.contains("dana approved") && after.contains("Approved, done"), "{after}");

        let pending = hold(stack, "ci", "delete from ledger where id = 242").await.context("deny")?;
        let arguments = ["U0LEE", "id = 242", "Deny…", "not before the backup"];
        let (_, after) = reviewer::press(stack, &browser, "deny", &arguments).await?;
        let error = pending.ended().await?.1.err().context("a denied statement ran")?;
        ensure!(countersign_e2e::client::full_text(&error).contains("not before the backup"), "{error:?}");
        ensure!(after.contains("lee denied") && after.contains("not before the backup"), "{after}");
        ensure!(count(stack, "select count(*) from ledger where id in (241, 242)").await? == 1, "the wrong one ran");
        Ok(())
    })
}
