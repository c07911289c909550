//! What the scenarios in `tests/tests/` share: one runtime and one stack a test binary, holds, and the check of the recordings.
//!
//! Owns: taking turns on the shared stack. Does not own: what a scenario does.

use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, OnceCell};
use tokio::task::JoinHandle;

use crate::client::Session;
use crate::slack::{Card, Press, PressOutcome};
use crate::stack::{Stack, StackOptions};

pub mod core;
pub mod forge;

/// Rules of the scenarios' own, ahead of the demo's.
pub const FIRST_RULES: &str = r#"
[[rules]]
name = "scenario-short-hold"
who = { groups = ["ci"] }
what = { kinds = ["write"], relations = ["public.short_lived"] }
action = "hold"
hold = { reviewers = ["dba-oncall"], quorum = 1, expiry = "3s", reason = "expires soon" }

[[rules]]
name = "scenario-two-people"
who = { groups = ["ci"] }
what = { kinds = ["write"], relations = ["public.vault"] }
action = "hold"
hold = { reviewers = ["dba-oncall"], quorum = 2, expiry = "15m", reason = "the vault takes two" }

[[rules]]
name = "scenario-estimated"
who = { groups = ["ci"] }
what = { kinds = ["read", "write"], relations = ["public.counted"] }
action = "hold"
hold = { reviewers = ["dba-oncall"], expiry = "15m", reason = "rows are counted", estimate = true }

[[rules]]
name = "scenario-sign-in"
who = { groups = ["ci"] }
what = { kinds = ["write"], relations = ["public.strongroom"] }
action = "hold"
hold = { reviewers = ["dba-oncall"], step_up = true, expiry = "15m", reason = "the strongroom takes a sign-in" }

[[reviewer_groups]]
name = "clerks"
slack_usergroup = "T0BANK/S0CLERKS"
identity_provider_group = { issuer = "@ISSUER@", group = "clerks" }

[[rules]]
name = "scenario-clerks"
who = { groups = ["ci"] }
what = { kinds = ["write"], relations = ["public.shelf"] }
action = "hold"
hold = { reviewers = ["clerks"], quorum = 2, expiry = "15m", reason = "the shelf is the clerks'" }
"#;

const TABLES: &str = "
    create table if not exists public.short_lived (id integer primary key);
    create table if not exists public.vault (id integer primary key, content text not null);
    create table if not exists public.strongroom (id integer primary key, content text not null);
    insert into public.strongroom select n, 'ingot ' || n from generate_series(1, 10) as n;
    alter table public.strongroom owner to countersign_svc;
    create table if not exists public.ledger (id integer primary key, note text not null);
    insert into public.short_lived select generate_series(1, 10);
    insert into public.vault select n, 'item ' || n from generate_series(1, 10) as n;
    insert into public.ledger select n, 'entry ' || n from generate_series(1, 1000) as n;
    create table if not exists public.counted (id integer primary key, note text not null);
    insert into public.counted select n, 'entry ' || n from generate_series(1, 5000) as n;
    analyze public.counted;
    create table if not exists public.shelf (id integer primary key, note text not null);
    insert into public.shelf select n, 'book ' || n from generate_series(1, 50) as n;
    alter table public.shelf owner to countersign_svc;
    create table if not exists public.kills (marker text primary key, note text not null);
    alter table public.kills owner to countersign_svc;
    alter table public.short_lived owner to countersign_svc;
    alter table public.vault owner to countersign_svc;
    alter table public.ledger owner to countersign_svc;
    alter table public.counted owner to countersign_svc;
";

static RUNTIME: OnceLock<Runtime> = OnceLock::new();
static SHARED: OnceCell<Stack> = OnceCell::const_new();
static TURN: Mutex<()> = Mutex::const_new(());

/// The runtime everything of a test binary lives on: servers must outlive the test that started them.
///
/// # Errors
/// No runtime can be made.
pub fn runtime() -> Result<&'static Runtime> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let made = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    // Two tests may come here at once: one of the two runtimes is used, the other goes.
    Ok(RUNTIME.get_or_init(|| made))
}

/// The options of the scenarios' stack.
#[must_use]
pub fn options() -> StackOptions {
    StackOptions {
        first_rules: Some(FIRST_RULES.to_owned()),
        setup: Some(TABLES.to_owned()),
        pgbench: Some(1),
        plaintext: true,
        principals: vec![("stranger".to_owned(), vec!["nobody-knows".to_owned()])],
        ..StackOptions::default()
    }
}

/// Runs a scenario on the stack its test binary shares, in turn with the others, and verifies all recordings afterwards.
///
/// # Errors
/// The scenario's own, or a recording that does not verify.
pub fn on_shared<F, R>(scenario: F) -> Result<()>
where
    F: FnOnce(&'static Stack) -> R,
    R: Future<Output = Result<()>>,
{
    on_shared_with(options(), scenario)
}

/// The same with options of the test binary's own, all of whose tests give the same.
///
/// # Errors
/// The scenario's own, or a recording that does not verify.
pub fn on_shared_with<F, R>(options: StackOptions, scenario: F) -> Result<()>
where
    F: FnOnce(&'static Stack) -> R,
    R: Future<Output = Result<()>>,
{
    runtime()?.block_on(async {
        let _turn = TURN.lock().await;
        let stack = SHARED.get_or_try_init(|| Stack::start(options, &|_| ())).await?;
        let outcome = scenario(stack).await;
        if let Err(error) = &outcome {
            return Err(anyhow::anyhow!(
                "{error:#}\n--- proxy\n{}\n--- bot\n{}",
                crate::process::last_lines(&stack.proxy.log(), 12),
                stack.bot.as_ref().map(|bot| crate::process::last_lines(&bot.log(), 6)).unwrap_or_default()
            ));
        }
        recordings_verify(stack).await
    })
}

/// Waits until every session is sealed, then verifies all of them with the real auditor.
///
/// # Errors
/// A session stays open, or one does not verify.
pub async fn recordings_verify(stack: &Stack) -> Result<()> {
    recordings_sealed(stack).await?;
    let verified = stack.audit().verify(None).await?;
    ensure!(verified.status == 0, "countersign-audit verify says:\n{}\n{}", verified.stdout, verified.stderr);
    Ok(())
}

/// Waits until every session is sealed.
///
/// # Errors
/// One stays open.
pub async fn recordings_sealed(stack: &Stack) -> Result<()> {
    let audit = stack.audit();
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let open: Vec<String> = audit
            .sessions()
            .await?
            .iter()
            .filter(|session| session.get("state").and_then(serde_json::Value::as_str) != Some("sealed"))
            .map(ToString::to_string)
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "these recordings were not sealed after their sessions ended: {open:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A statement on its way through a hold. Dropped before its end, its client goes away.
pub struct Pending {
    call: Option<Call>,
    /// The card of its request.
    pub card: Card,
    /// Id of the request.
    pub request: String,
}

type Call = JoinHandle<(Session, Result<u64, tokio_postgres::Error>)>;

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(call) = &self.call {
            call.abort();
        }
    }
}

/// Runs `sql` as `who` on a connection of its own and waits for its card. `sql` must hold a text no other statement of the run has.
///
/// # Errors
/// No card comes, or the statement ends before.
pub async fn hold(stack: &Stack, who: &str, sql: &str) -> Result<Pending> {
    let session = stack.connect(who).await?;
    hold_on(stack, session, sql).await
}

/// The same on a connection that is already there.
///
/// # Errors
/// No card comes, or the statement ends before.
pub async fn hold_on(stack: &Stack, session: Session, sql: &str) -> Result<Pending> {
    let text = sql.to_owned();
    let mut call = tokio::spawn(async move {
        let outcome = session.execute(&text, &[]).await;
        (session, outcome)
    });
    let decidable = |card: &Card| card.plain.contains(sql) && card.buttons.iter().any(|button| button.action.as_deref() == Some("approve"));
    let card = tokio::select! {
        card = stack.slack.wait_for_card(Duration::from_secs(60), decidable) => card?,
        ended = &mut call => {
            let (_, outcome) = ended?;
            anyhow::bail!("the statement did not wait for anybody: {outcome:?}");
        }
    };
    let request = card.request.clone().context("the card names no request")?;
    Ok(Pending { call: Some(call), card, request })
}

impl Pending {
    /// Waits for the statement's end.
    ///
    /// # Errors
    /// It does not end within a minute.
    pub async fn ended(mut self) -> Result<(Session, Result<u64, tokio_postgres::Error>)> {
        let call = self.call.as_mut().context("it has ended already")?;
        let ended = tokio::time::timeout(Duration::from_secs(60), call).await.context("the held statement does not end")??;
        self.call = None;
        Ok(ended)
    }

    /// Presses one of its buttons.
    pub async fn press(&self, stack: &Stack, action: &str, user: &str, reason: Option<&str>) -> PressOutcome {
        let press = Press {
            request: self.request.clone(),
            action: action.to_owned(),
            user: user.to_owned(),
            reason: reason.map(ToOwned::to_owned),
        };
        stack.slack.press(&press).await
    }

    /// Whether the statement has not ended.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.call.as_ref().is_some_and(|call| !call.is_finished())
    }

    /// Fails if the statement has ended after a while in which the proxy looked at the store many times.
    ///
    /// # Errors
    /// It has ended.
    pub async fn must_wait(&self) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(900)).await;
        ensure!(self.is_held(), "the hold opened");
        Ok(())
    }
}

/// What a query at the server, around the gateway, counts.
///
/// # Errors
/// The query fails.
pub async fn count(stack: &Stack, sql: &str) -> Result<i64> {
    Ok(stack.upstream.oracle().await?.query_one(sql, &[]).await?.try_get(0)?)
}

/// Waits until a query at the server counts `wanted`.
///
/// # Errors
/// It does not within half a minute.
pub async fn wait_for_count(stack: &Stack, sql: &str, wanted: i64) -> Result<()> {
    let oracle = stack.upstream.oracle().await?;
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let found: i64 = oracle.query_one(sql, &[]).await?.try_get(0)?;
        if found == wanted {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{sql}: {found}, not {wanted}");
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

/// Waits until the card of a request says `text`.
///
/// # Errors
/// It does not within half a minute.
pub async fn wait_for_card_text(stack: &Stack, request: &str, text: &str) -> Result<()> {
    let says = |card: &Card| {
        card.ephemeral_for.is_none() && card.request.as_deref() == Some(request) && card.plain.to_lowercase().contains(&text.to_lowercase())
    };
    stack.slack.wait_for_card(Duration::from_secs(30), says).await.map(|_| ()).with_context(|| format!("the card never said `{text}`"))
}
