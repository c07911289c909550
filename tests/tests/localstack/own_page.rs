//! The bot's own pages, served by the Lambda behind its Function URL, with sign-ins of a confidential client whose secret lies in Secrets
//! Manager: the whole way, in headless Chromium.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::client::full_text;
use countersign_e2e::reviewer;
use countersign_e2e::scenario::{count, hold};
use countersign_e2e::slack::Card;

use super::on_localstack;

#[test]
fn a_reviewer_decides_on_the_lambdas_own_page() -> Result<()> {
    let Some(browser) = reviewer::chromium() else { return Ok(()) };
    on_localstack(|stack| async move {
        let front = stack.front.as_ref().context("no front")?.url();
        for (id, login, button, reason) in [(251, "dana", "Approve", None), (252, "lee", "Deny", Some("not before the backup"))] {
            let sql = format!("delete from ledger where id = {id} /* <b>&amp;</b> \u{430} */");
            let pending = hold(stack, "ci", &sql).await?;
            let address = format!("{front}/requests/{}", pending.request);
            let arguments: Vec<&str> = [login, &sql, button].into_iter().chain(reason).collect();
            let (before, after) = reviewer::decide(stack, &browser, "lambda-page", &address, &arguments).await?;
            ensure!(before.contains("0 of 1 approval") && before.contains("Signed in as"), "{before}");
            let outcome = pending.ended().await?.1;
            match reason {
                None => ensure!(after.contains("you approved") && outcome? == 1, "{after}"),
                Some(reason) => {
                    let error = outcome.err().context("a denied statement ran")?;
                    ensure!(after.contains("you denied") && full_text(&error).contains(reason), "{error:?}");
                }
            }
        }
        ensure!(count(stack, "select count(*) from ledger where id in (251, 252)").await? == 1, "the wrong one ran");
        Ok(())
    })
}

/// The top tier there: the press in Slack alone is nothing, the sign-in of whoever pressed is what approves, somebody else's is not.
#[test]
fn the_top_tier_takes_a_sign_in_through_the_lambda() -> Result<()> {
    let Some(browser) = reviewer::chromium() else { return Ok(()) };
    on_localstack(|stack| async move {
        let sql = "delete from strongroom where id = 1";
        let pending = hold(stack, "ci", sql).await?;
        let _ = pending.press(stack, "approve", "U0DANA", None).await;
        let begin = format!("{}/step-up?ticket=", stack.front.as_ref().context("no front")?.url());
        let answers = |card: &Card| card.ephemeral_for.is_some() && card.text.contains(&begin);
        let answer = stack.slack.wait_for_card(Duration::from_secs(60), answers).await?.text;
        let (_, ticket) = answer.split_once(&begin).context("no link")?;
        let ticket: String = ticket.chars().take_while(|char| char.is_ascii_alphanumeric() || "-_.".contains(*char)).collect();
        pending.must_wait().await?;
        let address = format!("{begin}{ticket}");
        // Whoever else signs in behind the link of the press approves nothing.
        let refused = reviewer::sign_in(stack, &browser, "lambda-step-up", &address, &["lee", sql]).await?;
        ensure!(refused.contains("Nothing was decided") && refused.contains("not dana"), "{refused}");
        pending.must_wait().await?;
        let done = reviewer::sign_in(stack, &browser, "lambda-step-up", &address, &["dana", sql]).await?;
        ensure!(done.contains("you approved"), "{done}");
        ensure!(tokio::time::timeout(Duration::from_secs(60), pending.ended()).await??.1? == 1, "one row");
        Ok(())
    })
}
