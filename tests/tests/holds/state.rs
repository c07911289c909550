//! An approval is for the statement in a session as reviewers were told it is: the same text may mean something else elsewhere.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::client::sqlstate;
use countersign_e2e::scenario::{count, on_shared};
use countersign_e2e::slack::{Card, Press};
use countersign_e2e::stack::Stack;

/// Says settings, in the start-up packet where they begin with `-c`, then the statement, and does not wait for reviewers: whether it ran, and
/// what it was told.
async fn ask(stack: &Stack, settings: &[&str], sql: &str) -> Result<(bool, String)> {
    let ci = stack.principal("ci")?;
    let mut psql = stack.gateway.psql(&ci.user, &ci.token)?;
    let (opening, settings): (Vec<&str>, Vec<&str>) = settings.iter().partition(|setting| setting.starts_with("-c "));
    psql.env("PGOPTIONS", format!("-c countersign.on_hold=return {}", opening.join(" ")));
    for text in settings.iter().chain([&sql]) {
        psql.args(["-c", text]);
    }
    let output = psql.output().await?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// The request an error names.
fn request_in(said: &str) -> Result<String> {
    let (_, rest) = said.split_once("approval: request ").with_context(|| format!("no request in {said}"))?;
    rest.get(..36).map(str::to_owned).with_context(|| format!("no id in {said}"))
}

async fn card_of(stack: &Stack, request: &str) -> Result<Card> {
    let about = |card: &Card| card.request.as_deref() == Some(request) && card.thread_ts.is_none();
    stack.slack.wait_for_card(Duration::from_secs(60), about).await
}

async fn approve(stack: &Stack, request: &str) -> Result<()> {
    let press = Press { request: request.to_owned(), action: "approve".to_owned(), user: "U0DANA".to_owned(), reason: None };
    let outcome = stack.slack.press(&press).await;
    ensure!(outcome.ok, "{outcome:?}");
    Ok(())
}

#[test]
fn an_approval_is_for_a_session_of_the_same_settings() -> Result<()> {
    on_shared(|stack| async move {
        let sql = "delete from ledger where id = 151 or note = null";
        let (ran, said) = ask(stack, &[], sql).await?;
        ensure!(!ran, "it ran unapproved");
        let first = request_in(&said)?;
        let card = card_of(stack, &first).await?;
        ensure!(card.plain.contains("TimeZone") && card.plain.contains("DateStyle"), "{}", card.plain);
        ensure!(!card.plain.contains("Set in this session"), "{}", card.plain);
        approve(stack, &first).await?;
        // The same text would delete other rows, read other dates, or find other names there.
        for (setting, told) in [
            ("set transform_null_equals = on", "transform_null_equals on"),
            ("select set_config('transform_null_equals', 'on', false)", "transform_null_equals on"),
            ("-c transform_null_equals=on", "transform_null_equals on"),
            ("-c datestyle=German", "DateStyle German, DMY"),
            ("set datestyle = 'German'", "datestyle German"),
            ("set time zone interval '-05:00' hour to minute", "a value of another kind"),
            ("set search_path = pg_catalog, public", "search_path pg_catalog, public"),
        ] {
            let (ran, said) = ask(stack, &[setting], sql).await?;
            ensure!(!ran, "{setting}: it ran under an approval that was not for it");
            let other = request_in(&said)?;
            ensure!(other != first, "{setting}: taken up");
            let card = card_of(stack, &other).await?;
            ensure!(card.plain.contains(told), "{setting}: {}", card.plain);
        }
        ensure!(count(stack, "select count(*) from ledger where id = 151").await? == 1, "it ran");
        // What changes nothing of its meaning stands in no way.
        let (ran, said) = ask(stack, &["set statement_timeout = '1min'", "set application_name = 'nightly'"], sql).await?;
        ensure!(ran, "{said}");
        ensure!(count(stack, "select count(*) from ledger where id = 151").await? == 0, "it did not run");
        Ok(())
    })
}

/// Bound and approved, it may be executed as long as the session is what it was.
#[test]
fn what_was_approved_is_not_executed_under_other_settings() -> Result<()> {
    on_shared(|stack| async move {
        for (id, change) in [(152, Some("set timezone = 'Asia/Tokyo'")), (153, Some("set search_path = public, pg_catalog")), (154, None)] {
            let mut session = stack.connect("ci").await?;
            let transaction = session.transaction().await?;
            let sql = format!("delete from ledger where id = {id} returning id");
            let statement = transaction.prepare(&sql).await?;
            let approved = async {
                let shows = |card: &Card| card.plain.contains(&sql) && !card.buttons.is_empty();
                let card = stack.slack.wait_for_card(Duration::from_secs(60), shows).await?;
                approve(stack, &card.request.context("no request")?).await
            };
            let (portal, approved) = tokio::join!(transaction.bind(&statement, &[]), approved);
            approved?;
            let portal = portal?;
            let Some(change) = change else {
                ensure!(transaction.query_portal(&portal, 0).await?.len() == 1, "one row");
                transaction.commit().await?;
                ensure!(count(stack, &format!("select count(*) from ledger where id = {id}")).await? == 0, "it did not run");
                continue;
            };
            transaction.batch_execute(change).await?;
            let error = transaction.query_portal(&portal, 0).await.err().with_context(|| format!("{change}: it ran"))?;
            ensure!(sqlstate(&error) == "42501", "{change}: {error:?}");
            transaction.rollback().await?;
            ensure!(count(stack, &format!("select count(*) from ledger where id = {id}")).await? == 1, "{change}: it ran");
        }
        Ok(())
    })
}
