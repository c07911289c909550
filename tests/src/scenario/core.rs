//! The core scenarios, which run the same over directories and over LocalStack.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{count, hold, wait_for_card_text, wait_for_count};
use crate::client::{full_text, sqlstate};
use crate::stack::Stack;

/// Masked in text (psql) and in binary (tokio-postgres); clear for those the policy names.
///
/// # Errors
/// Anything is not as it should be.
pub async fn masked_column(stack: &Stack) -> Result<()> {
    let row = stack.upstream.oracle().await?.query_one("select ssn, email from customers where id = 7", &[]).await?;
    let (ssn, email): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let last4 = ssn.get(ssn.len().saturating_sub(4)..).context("an SSN is longer than that")?;

    let ci = stack.principal("ci")?;
    let output = stack.gateway.run_psql(&ci.user, &ci.token, "select id, ssn, email from customers where id = 7").await?;
    ensure!(output.status == 0, "psql: {}", output.stderr);
    ensure!(output.stdout.starts_with("7|") && output.stdout.contains(last4), "text: {}", output.stdout);
    ensure!(!output.stdout.contains(&ssn) && !output.stdout.contains(&email), "text: a protected value came through");

    let session = stack.connect("ci").await?;
    let row = session.query_one("select c.ssn as tax_number, c.email, c.id from customers c where c.id = $1", &[&7_i32]).await?;
    let (masked_ssn, masked_email): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    ensure!(masked_ssn != ssn && masked_ssn.ends_with(last4), "binary: {masked_ssn}");
    ensure!(masked_email != email && masked_email.contains('@'), "binary: {masked_email}");
    ensure!(row.try_get::<_, i32>(2)? == 7, "the other columns must be as they are");

    let dba = stack.connect("dba").await?;
    let row = dba.query_one("select ssn from customers where id = 7", &[]).await?;
    ensure!(row.try_get::<_, String>(0)? == ssn, "dba sees clear text by policy");
    Ok(())
}

/// A refusal is an ordinary error: the session lives on, and a transaction is exactly as after a native error.
///
/// # Errors
/// Anything is not as it should be.
pub async fn denial_leaves_the_state_right(stack: &Stack) -> Result<()> {
    let session = stack.connect("ci").await?;
    // Outside a transaction, simple and extended.
    let refused = session.batch_execute("truncate table accounts").await.err().context("truncate ran")?;
    ensure!(sqlstate(&refused) == "42501", "{refused:?}");
    let refused = session.execute("truncate table accounts", &[]).await.err().context("truncate ran")?;
    ensure!(sqlstate(&refused) == "42501", "{refused:?}");
    ensure!(session.query_one("select 1", &[]).await?.try_get::<_, i32>(0)? == 1, "the session must live on");

    // Inside one: failed until rolled back, and COMMIT answers ROLLBACK.
    session.batch_execute("begin").await?;
    let refused = session.batch_execute("truncate table accounts").await.err().context("truncate ran")?;
    ensure!(sqlstate(&refused) == "42501", "{refused:?}");
    let failed = session.batch_execute("select 1").await.err().context("the transaction must have failed")?;
    ensure!(sqlstate(&failed) == "25P02", "{failed:?}");
    session.batch_execute("rollback").await?;
    ensure!(session.query_one("select 2", &[]).await?.try_get::<_, i32>(0)? == 2, "the session must live on");

    // One refused statement in a text of several: none of it ran.
    let refused = session.batch_execute("select 1; truncate table accounts; select 2").await.err().context("truncate ran")?;
    ensure!(sqlstate(&refused) == "42501", "{refused:?}");
    ensure!(count(stack, "select count(*) from accounts").await? == 360, "nothing may be gone");
    Ok(())
}

/// Held, approved by a reviewer, run once; the client hears of it by NOTICE, and the card follows.
///
/// # Errors
/// Anything is not as it should be.
pub async fn hold_and_approve(stack: &Stack, id: i32) -> Result<()> {
    let pending = hold(stack, "ci", &format!("update ledger set note = 'approved' where id = {id}")).await?;
    let request = pending.request.clone();
    ensure!(
        count(stack, &format!("select count(*) from ledger where id = {id} and note = 'approved'")).await? == 0,
        "it ran before anybody approved"
    );
    let outcome = pending.press(stack, "approve", "U0DANA", None).await;
    ensure!(outcome.ok, "{outcome:?}");
    let (mut session, result) = pending.ended().await?;
    ensure!(result? == 1, "one row");
    session.wait_for_notice(&request, std::time::Duration::from_secs(5)).await?;
    ensure!(count(stack, &format!("select count(*) from ledger where id = {id} and note = 'approved'")).await? == 1, "it did not run");
    wait_for_card_text(stack, &request, "dana").await?;
    Ok(())
}

/// Held, denied with a reason through the modal: 42501, the reason as DETAIL, and the session lives on.
///
/// # Errors
/// Anything is not as it should be.
pub async fn hold_and_deny(stack: &Stack, id: i32) -> Result<()> {
    let pending = hold(stack, "ci", &format!("delete from ledger where id = {id}")).await?;
    let request = pending.request.clone();
    let outcome = pending.press(stack, "deny", "U0LEE", Some("not without a ticket")).await;
    ensure!(outcome.ok, "{outcome:?}");
    let (session, result) = pending.ended().await?;
    let error = result.err().context("a denied statement ran")?;
    ensure!(sqlstate(&error) == "42501", "{error:?}");
    let text = full_text(&error);
    ensure!(text.contains("not without a ticket") && text.contains(&request), "{text}");
    ensure!(session.query_one("select 3", &[]).await?.try_get::<_, i32>(0)? == 3, "the session must live on");
    wait_for_count(stack, &format!("select count(*) from ledger where id = {id}"), 1).await?;
    wait_for_card_text(stack, &request, "not without a ticket").await
}

/// The recording of a session carries what happened: statement, decision, hold and approval.
///
/// # Errors
/// Anything is not as it should be.
pub async fn evidence_is_complete(stack: &Stack, id: i32) -> Result<()> {
    hold_and_approve(stack, id).await?;
    super::recordings_verify(stack).await?;
    let audit = stack.audit();
    let statement = format!("update ledger set note = 'approved' where id = {id}");
    for session in audit.sessions().await?.iter().rev() {
        let session = session.get("session").and_then(Value::as_str).context("a listed session has no id")?;
        let shown = audit.run("show", &[session]).await?;
        if shown.stdout.contains(&statement) {
            ensure!(shown.stdout.contains("ci-writes-need-a-reviewer"), "the rule is missing from\n{}", shown.stdout);
            // Who approved is said only where the signature was checked.
            let verified = audit.verify(Some(session)).await?;
            ensure!(verified.status == 0 && verified.stdout.contains("by dana"), "the reviewer is missing from\n{}", verified.stdout);
            return Ok(());
        }
    }
    anyhow::bail!("no recording carries the statement")
}
