//! The core scenarios on LocalStack, and what only AWS can do or fail at: the real templates, table, stream, Lambda, KMS keys and bucket
//! under Object Lock. One instance and one deployment for all of them.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use countersign_e2e::localstack::{self, LocalStack};
use countersign_e2e::scenario::{core, hold, on_shared_with, options};
use countersign_e2e::stack::{Stack, StackOptions, Stores};

mod fault_proxy;
mod forged;
mod kills;
mod object_lock;
mod outage;
mod own_page;
mod page;
mod policy;
mod refusals;
mod rotation;

/// The instance and what was deployed on it.
fn deployed(stack: &Stack) -> Result<(&LocalStack, &localstack::Stack)> {
    match &stack.stores {
        Stores::Aws { instance, deployed } => Ok((instance, deployed)),
        Stores::Directory { .. } => bail!("this stack is not on LocalStack"),
    }
}

fn on_localstack<F, R>(scenario: F) -> Result<()>
where
    F: FnOnce(&'static Stack) -> R,
    R: Future<Output = Result<()>>,
{
    static INSTANCE: std::sync::Mutex<Option<Arc<LocalStack>>> = std::sync::Mutex::new(None);
    let instance = {
        let mut held = INSTANCE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match held.as_ref() {
            Some(instance) => Arc::clone(instance),
            None => {
                // Blocks, outside of the runtime.
                let instance = Arc::new(LocalStack::start()?);
                *held = Some(Arc::clone(&instance));
                instance
            }
        }
    };
    on_shared_with(StackOptions { localstack: Some(instance), ..options() }, scenario)
}

#[test]
fn a_masked_column_is_masked() -> Result<()> {
    on_localstack(core::masked_column)
}

#[test]
fn a_denial_leaves_the_state_right() -> Result<()> {
    on_localstack(core::denial_leaves_the_state_right)
}

#[test]
fn an_approval_lets_it_run_once() -> Result<()> {
    on_localstack(|stack| core::hold_and_approve(stack, 201))
}

#[test]
fn a_denial_ends_it_with_the_reviewers_reason() -> Result<()> {
    on_localstack(|stack| core::hold_and_deny(stack, 202))
}

#[test]
fn the_recording_carries_hold_and_approval() -> Result<()> {
    on_localstack(|stack| core::evidence_is_complete(stack, 203))
}

#[test]
fn the_requester_cannot_approve() -> Result<()> {
    on_localstack(|stack| async move {
        let pending = hold(stack, "ci", "delete from ledger where id = 204").await?;
        let _ = pending.press(stack, "approve", "U0CI", None).await;
        pending.must_wait().await?;
        let outcome = pending.press(stack, "approve", "U0DANA", None).await;
        ensure!(outcome.ok, "{outcome:?}");
        ensure!(pending.ended().await?.1? == 1, "one row");
        Ok(())
    })
}

/// Version 2 of requests and decisions through table, stream, Lambda and KMS: reviewers whom the policy does not list.
#[test]
fn members_of_a_slack_user_group_decide() -> Result<()> {
    on_localstack(|stack| async move {
        let pending = hold(stack, "ci", "delete from shelf where id = 21").await?;
        // The requester's own account, and a guest, are in the user group as well.
        for user in ["U0CI", "U0GUEST", "U0MALLORY", "U0MALLORY"] {
            let _ = pending.press(stack, "approve", user, None).await;
        }
        pending.must_wait().await?;
        let outcome = pending.press(stack, "approve", "U0LEE", None).await;
        ensure!(outcome.ok, "{outcome:?}");
        ensure!(pending.ended().await?.1? == 1, "one row");
        Ok(())
    })
}
