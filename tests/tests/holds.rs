//! Holds: who and what opens one, what ends one, and what must not open one whatever lies in the store.

#[path = "holds/state.rs"]
mod state;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign_approval::StatementDigest;
use countersign_approval::v2::{Membership, Snapshot, Source};
use countersign_e2e::client::{full_text, sqlstate};
use countersign_e2e::pki;
use countersign_e2e::scenario::{core, count, forge, hold, hold_on, on_shared, recordings_sealed, wait_for_card_text, wait_for_count};
use countersign_e2e::slack::{Press, Signing};
use countersign_e2e::stack::Stack;

#[test]
fn an_approval_lets_it_run_once() -> Result<()> {
    on_shared(|stack| core::hold_and_approve(stack, 101))
}

#[test]
fn a_denial_ends_it_with_the_reviewers_reason() -> Result<()> {
    on_shared(|stack| core::hold_and_deny(stack, 102))
}

#[test]
fn the_recording_carries_hold_and_approval() -> Result<()> {
    on_shared(|stack| core::evidence_is_complete(stack, 103))
}

#[test]
fn bound_parameters_are_shown_and_bound_to_the_approval() -> Result<()> {
    on_shared(|stack| async move {
        let session = stack.connect("ci").await?;
        let call = tokio::spawn(async move {
            session.execute("update ledger set note = $1 where id = $2", &[&"seen by the reviewer", &115_i32]).await
        });
        let shows = |card: &countersign_e2e::slack::Card| card.plain.contains("seen by the reviewer") && card.plain.contains("115");
        let card = stack.slack.wait_for_card(Duration::from_secs(60), shows).await?;
        ensure!(
            count(stack, "select count(*) from ledger where note = 'seen by the reviewer'").await? == 0,
            "it ran before anybody approved"
        );
        let press =
            Press { request: card.request.context("no request")?, action: "approve".to_owned(), user: "U0DANA".to_owned(), reason: None };
        let outcome = stack.slack.press(&press).await;
        ensure!(outcome.ok, "{outcome:?}");
        ensure!(call.await?? == 1, "one row");
        ensure!(count(stack, "select count(*) from ledger where id = 115 and note = 'seen by the reviewer'").await? == 1, "it did not run");
        Ok(())
    })
}

#[test]
fn nobody_decides_and_it_expires() -> Result<()> {
    on_shared(|stack| async move {
        let pending = hold(stack, "ci", "delete from short_lived where id = 3").await?;
        let request = pending.request.clone();
        let (session, result) = pending.ended().await?;
        let error = result.err().context("an expired statement ran")?;
        ensure!(sqlstate(&error) == "42501" && full_text(&error).contains(&request), "{}", full_text(&error));
        ensure!(full_text(&error).contains("expire"), "{}", full_text(&error));
        ensure!(session.query_one("select 1", &[]).await?.try_get::<_, i32>(0)? == 1, "the session must live on");
        ensure!(count(stack, "select count(*) from short_lived").await? == 10, "nothing may be gone");
        wait_for_card_text(stack, &request, "expired").await?;
        // A late press changes nothing.
        let press = Press { request, action: "approve".to_owned(), user: "U0DANA".to_owned(), reason: None };
        let outcome = stack.slack.press(&press).await;
        ensure!(!outcome.ok || count(stack, "select count(*) from short_lived").await? == 10, "{outcome:?}");
        Ok(())
    })
}

/// Cards that show this text.
fn cards_of(stack: &Stack, text: &str) -> usize {
    stack.slack.cards().iter().filter(|card| card.plain.contains(text) && card.thread_ts.is_none()).count()
}

/// Its connection breaks, people approve meanwhile, it comes back and asks again: no second card, one run.
#[test]
fn a_client_that_goes_away_comes_back_to_its_grant() -> Result<()> {
    on_shared(|stack| async move {
        let sql = "delete from ledger where id = 105";
        let ci = stack.principal("ci")?;
        let mut psql = stack.gateway.psql(&ci.user, &ci.token)?;
        let mut client = psql.args(["-c", sql]).spawn()?;
        let card = stack.slack.wait_for_card(Duration::from_secs(60), |card| card.plain.contains("where id = 105")).await?;
        let request = card.request.context("no request")?;
        client.kill().await?;
        wait_for_card_text(stack, &request, "nobody waits since").await?;
        let press = Press { request: request.clone(), action: "approve".to_owned(), user: "U0DANA".to_owned(), reason: None };
        ensure!(stack.slack.press(&press).await.ok, "the press was not taken");
        tokio::time::sleep(Duration::from_millis(600)).await;
        ensure!(count(stack, "select count(*) from ledger where id = 105").await? == 1, "it ran without its client");

        let session = stack.connect("ci").await?;
        ensure!(session.batch_execute(sql).await.is_ok(), "the grant was not found again");
        ensure!(count(stack, "select count(*) from ledger where id = 105").await? == 0, "it did not run");
        ensure!(cards_of(stack, "where id = 105") == 1, "asked again, it must not get a second card");
        wait_for_card_text(stack, &request, "approved, done").await?;
        // Once: the next time is a new request.
        let pending = hold_on(stack, session, sql).await?;
        ensure!(pending.request != request, "a used grant was found again");
        ensure!(pending.press(stack, "deny", "U0LEE", Some("enough")).await.ok, "the press was not taken");
        ensure!(pending.ended().await?.1.is_err(), "it must be refused");
        Ok(())
    })
}

/// An agent that does not wait: an error with the request's id at once, and the same statement again once approved.
#[test]
fn an_agent_that_does_not_wait_comes_back() -> Result<()> {
    on_shared(|stack| async move {
        let ci = stack.principal("ci")?;
        let ask = || async {
            let mut psql = stack.gateway.psql(&ci.user, &ci.token)?;
            psql.env("PGOPTIONS", "-c countersign.on_hold=return").args([
                "-v",
                "VERBOSITY=verbose",
                "-c",
                "delete from ledger where id = 104",
            ]);
            let output = psql.output().await?;
            anyhow::Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
        };
        let (ran, said) = ask().await?;
        ensure!(!ran && said.contains("55000") && said.contains("send the same statement"), "{said}");
        let card = stack.slack.wait_for_card(Duration::from_secs(60), |card| card.plain.contains("where id = 104")).await?;
        let request = card.request.context("no request")?;
        ensure!(said.contains(&request), "the error must name request {request}: {said}");
        let (ran, said) = ask().await?;
        ensure!(!ran && said.contains(&request), "asked again before anybody decided: {said}");
        let press = Press { request, action: "approve".to_owned(), user: "U0DANA".to_owned(), reason: None };
        ensure!(stack.slack.press(&press).await.ok, "the press was not taken");
        let (ran, said) = ask().await?;
        ensure!(ran, "{said}");
        ensure!(count(stack, "select count(*) from ledger where id = 104").await? == 0, "it did not run");
        ensure!(cards_of(stack, "where id = 104") == 1, "one request, one card");
        Ok(())
    })
}

#[test]
fn a_cancel_request_ends_it() -> Result<()> {
    on_shared(|stack| async move {
        let session = stack.connect("ci").await?;
        let (token, tls) = session.canceller();
        let pending = hold_on(stack, session, "delete from ledger where id = 106").await?;
        let request = pending.request.clone();
        token.cancel_query(tls).await?;
        let (session, result) = pending.ended().await?;
        let error = result.err().context("a cancelled statement ran")?;
        ensure!(sqlstate(&error) == "57014", "{error:?}");
        ensure!(session.query_one("select 1", &[]).await?.try_get::<_, i32>(0)? == 1, "the session must live on");
        wait_for_card_text(stack, &request, "cancelled").await?;
        ensure!(count(stack, "select count(*) from ledger where id = 106").await? == 1, "nothing may be gone");
        Ok(())
    })
}

#[test]
fn a_hold_inside_a_transaction_keeps_the_transaction() -> Result<()> {
    on_shared(|stack| async move {
        let session = stack.connect("ci").await?;
        session.batch_execute("begin").await?;
        let pending = hold_on(stack, session, "delete from ledger where id = 107").await?;
        let outcome = pending.press(stack, "approve", "U0LEE", None).await;
        ensure!(outcome.ok, "{outcome:?}");
        let (session, result) = pending.ended().await?;
        ensure!(result? == 1, "one row");
        session.batch_execute("rollback").await?;
        ensure!(count(stack, "select count(*) from ledger where id = 107").await? == 1, "the rollback must undo it");
        // Denied inside a transaction: it has failed, as after a native error.
        session.batch_execute("begin").await?;
        let pending = hold_on(stack, session, "delete from ledger where id = 108").await?;
        let outcome = pending.press(stack, "deny", "U0LEE", Some("not tonight")).await;
        ensure!(outcome.ok, "{outcome:?}");
        let (session, result) = pending.ended().await?;
        ensure!(result.is_err_and(|error| sqlstate(&error) == "42501"), "it must be refused");
        let failed = session.batch_execute("select 1").await.err().context("the transaction must have failed")?;
        ensure!(sqlstate(&failed) == "25P02", "{failed:?}");
        session.batch_execute("rollback").await?;
        Ok(())
    })
}

/// I6: the requester never counts, nor does somebody in no roster, a guest, or a bot.
#[test]
fn who_may_not_decide_changes_nothing() -> Result<()> {
    on_shared(|stack| async move {
        let pending = hold(stack, "ci", "delete from ledger where id = 109").await?;
        for user in ["U0CI", "U0MALLORY", "U0GUEST"] {
            let _ = pending.press(stack, "approve", user, None).await;
            let _ = pending.press(stack, "deny", user, Some("spite")).await;
        }
        pending.must_wait().await?;
        let outcome = pending.press(stack, "approve", "U0DANA", None).await;
        ensure!(outcome.ok, "{outcome:?}");
        ensure!(pending.ended().await?.1? == 1, "one row");
        Ok(())
    })
}

#[test]
fn a_quorum_of_two_takes_two_people() -> Result<()> {
    on_shared(|stack| async move {
        let pending = hold(stack, "ci", "delete from vault where id = 1").await?;
        for _ in 0..2 {
            let _ = pending.press(stack, "approve", "U0DANA", None).await;
        }
        pending.must_wait().await?;
        let outcome = pending.press(stack, "approve", "U0LEE", None).await;
        ensure!(outcome.ok, "{outcome:?}");
        ensure!(pending.ended().await?.1? == 1, "one row");
        Ok(())
    })
}

/// Reviewers whom the policy does not list, by a user group of Slack's: found at the press, counted once, and proved to the auditor.
#[test]
fn members_of_a_slack_user_group_decide() -> Result<()> {
    on_shared(|stack| async move {
        let approvals = stack.approvals()?;
        let pending = hold(stack, "ci", "delete from shelf where id = 1").await?;
        wait_for_card_text(stack, &pending.request, "clerks (Slack user group T0BANK/S0CLERKS").await?;
        // The requester's own account and the guest are in the user group; dana is not, though she is listed for other rules.
        for user in ["U0CI", "U0GUEST", "U0DANA"] {
            let _ = pending.press(stack, "approve", user, None).await;
        }
        ensure!(forge::tokens(approvals, &pending.request)?.is_empty(), "somebody decided who may not");
        ensure!(pending.press(stack, "approve", "U0MALLORY", None).await.ok, "a member's press");
        let _ = pending.press(stack, "approve", "U0MALLORY", None).await;
        pending.must_wait().await?;

        // Signed with the bot's own key, but by groups this rule's policy does not name: the gateway opens nothing.
        let request = forge::read_request(approvals, &pending.request)?;
        let mut claims = forge::approval(&request, "erin@bank.example", "T0BANK/U0ERIN")?;
        claims.version = 2;
        claims.reviewer.groups = vec!["clerks".to_owned()];
        let membership = |group: &str, by: Source| Membership {
            group: group.to_owned(),
            by,
            resolved_at: claims.decided_at,
            members: Some(1),
            digest: Some("0".repeat(64)),
        };
        let slack = |team: &str, id: &str| Source::SlackUsergroup { team: team.to_owned(), id: id.to_owned() };
        for by in [
            membership("clerks", slack("T0BANK", "S0EVIL")),
            membership("clerks", slack("T0EVIL", "S0CLERKS")),
            membership("dba-oncall", slack("T0BANK", "S0CLERKS")),
            membership("clerks", Source::IdentityProviderGroup { issuer: "https://evil.example".to_owned(), group: "clerks".to_owned() }),
            // The right group of the provider's, without the sign-in that shows it.
            membership("clerks", Source::IdentityProviderGroup { issuer: stack.issuer.url().to_owned(), group: "clerks".to_owned() }),
        ] {
            let mut forged = claims.clone();
            forged.snapshot = Some(Snapshot { memberships: vec![by], addresses: vec!["erin@bank.example".to_owned()] });
            forge::plant(approvals, &pending.request, &forge::sign(&forged, &stack.decision_key.pem, &stack.decision_key.id)?)?;
        }
        let old = forge::approval(&request, "dana", "T0BANK/U0DANA")?;
        forge::plant(approvals, &pending.request, &forge::sign(&old, &stack.decision_key.pem, &stack.decision_key.id)?)?;
        pending.must_wait().await?;
        ensure!(count(stack, "select count(*) from shelf where id = 1").await? == 1, "a forged decision opened the hold");

        // Lee is listed for other rules, and a member here: as lee.
        ensure!(pending.press(stack, "approve", "U0LEE", None).await.ok, "a member's press");
        let id = pending.request.clone();
        ensure!(pending.ended().await?.1? == 1, "one row");
        wait_for_card_text(stack, &id, "mallory@bank.example (Slack user group T0BANK/S0CLERKS) approved").await?;

        recordings_sealed(stack).await?;
        let folder = stack.dir().join("evidence-of-clerks").display().to_string();
        let key = stack.recording_key.private.display().to_string();
        let order = ["--since", "2020-01-01", "--until", "2100-01-01", "--out", &folder, "--signing-key", &key, "--samples", "0"];
        let made = stack.audit().run("evidence", &order).await?;
        ensure!(made.status == 0, "{}", made.stderr);
        let roster = std::fs::read_to_string(std::path::Path::new(&folder).join("roster.csv"))?;
        let mallory = roster.lines().find(|line| line.contains("mallory@bank.example")).with_context(|| roster.clone())?;
        ensure!(mallory.contains("clerks: Slack user group T0BANK/S0CLERKS (5 members, sha256 "), "{roster}");
        ensure!(roster.lines().any(|line| line.contains("lee") && line.contains("T0BANK/S0CLERKS")), "{roster}");
        Ok(())
    })
}

/// I2: what an attacker writes into the store opens nothing, and does not keep the right decision from working.
#[test]
fn forged_decisions_in_the_store_open_nothing() -> Result<()> {
    on_shared(|stack| async move {
        let approvals = stack.approvals()?;
        let pending = hold(stack, "ci", "delete from ledger where id = 110").await?;
        let request = forge::read_request(approvals, &pending.request)?;
        let claims = forge::approval(&request, "dana", "T0BANK/U0DANA")?;
        let stranger = pki::signing_key(&stack.dir().join("attacker"), "decision")?;
        let ours = &stack.decision_key;

        let mut other_statement = claims.clone();
        other_statement.digest = StatementDigest::compute(b"select 1", std::iter::empty());
        let mut other_environment = claims.clone();
        other_environment.environment = "production".to_owned();
        let mut other_policy = claims.clone();
        other_policy.policy = "0".repeat(64);
        let mut other_database = claims.clone();
        other_database.database = "postgres".to_owned();
        let mut other_principal = claims.clone();
        other_principal.requester_subject = "dba".to_owned();
        let mut not_on_call = claims.clone();
        not_on_call.reviewer.groups = vec!["interns".to_owned()];
        let mut other_facts = claims.clone();
        other_facts.shown = "0".repeat(64);
        let mut many_runs = claims.clone();
        many_runs.runs = 100;
        // The identity provider's key and tokens are good for signing in, and for nothing here.
        let identity = |email: &str| {
            let mut token = countersign_e2e::oidc::Claims::of(email, &["dba-oncall"]);
            if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(&claims) {
                token.more.extend(fields);
            }
            stack.issuer.mint_with(&token, jsonwebtoken::Algorithm::ES256)
        };
        let own = forge::approval(&request, "casey", "T0BANK/U0CI")?;
        let mut own = own;
        own.reviewer.email = Some("ci@bank.example".to_owned());
        own.reviewer.subjects = vec![format!("{}|ci", request.requester.issuer)];

        for (name, token) in [
            ("a stranger's key under our key id", forge::sign(&claims, &stranger.pem, &ours.id)?),
            ("a stranger's key under its own id", forge::sign(&claims, &stranger.pem, &stranger.id)?),
            ("no signature", forge::unsigned(&claims, &ours.id)?),
            ("our key, another statement", forge::sign(&other_statement, &ours.pem, &ours.id)?),
            ("our key, another environment", forge::sign(&other_environment, &ours.pem, &ours.id)?),
            ("our key, another policy", forge::sign(&other_policy, &ours.pem, &ours.id)?),
            ("our key, another database", forge::sign(&other_database, &ours.pem, &ours.id)?),
            ("our key, another principal", forge::sign(&other_principal, &ours.pem, &ours.id)?),
            ("our key, other facts than were placed", forge::sign(&other_facts, &ours.pem, &ours.id)?),
            ("our key, more runs than the rule allows", forge::sign(&many_runs, &ours.pem, &ours.id)?),
            ("an identity token that says all a decision says", identity("dana")?),
            ("our key, a reviewer of no right group", forge::sign(&not_on_call, &ours.pem, &ours.id)?),
            ("our key, the requester as reviewer", forge::sign(&own, &ours.pem, &ours.id)?),
            ("no token at all", "not a token".to_owned()),
        ] {
            forge::plant(approvals, &pending.request, &token).with_context(|| name.to_owned())?;
        }
        pending.must_wait().await?;
        ensure!(count(stack, "select count(*) from ledger where id = 110").await? == 1, "a forged decision opened the hold");

        // The other way round, a decision is nobody's password.
        let decision = forge::sign(&claims, &ours.pem, &ours.id)?;
        ensure!(stack.gateway.connect("ci", &decision).await.is_err(), "a decision let somebody in");

        // The harness's own oracle: a token signed as the bot signs does open it, so the ones above failed for what they say.
        forge::plant(approvals, &pending.request, &forge::sign(&claims, &ours.pem, &ours.id)?)?;
        ensure!(pending.ended().await?.1? == 1, "one row");
        Ok(())
    })
}

#[test]
fn a_decision_on_another_request_opens_nothing() -> Result<()> {
    on_shared(|stack| async move {
        let approvals = stack.approvals()?;
        let first = hold(stack, "ci", "delete from ledger where id = 111").await?;
        let first_request = first.request.clone();
        let outcome = first.press(stack, "approve", "U0DANA", None).await;
        ensure!(outcome.ok, "{outcome:?}");
        ensure!(first.ended().await?.1? == 1, "one row");
        let genuine = forge::tokens(approvals, &first_request)?;
        ensure!(!genuine.is_empty(), "the approved request carries no decision");

        // The grant of the first, replayed: for another statement, and for the very same one asked again.
        for sql in ["delete from ledger where id = 112", "delete from ledger where id = 111"] {
            let pending = hold(stack, "ci", sql).await?;
            ensure!(pending.request != first_request, "a consumed request must not be used again");
            for token in &genuine {
                forge::plant(approvals, &pending.request, token)?;
            }
            pending.must_wait().await?;
            let outcome = pending.press(stack, "deny", "U0LEE", Some("replayed")).await;
            ensure!(outcome.ok, "{outcome:?}");
            ensure!(pending.ended().await?.1.is_err(), "{sql} ran on a replayed grant");
        }
        wait_for_count(stack, "select count(*) from ledger where id = 112", 1).await
    })
}

/// The bot takes nothing that Slack did not sign just now, for this app and workspace.
#[test]
fn presses_slack_did_not_sign_are_refused() -> Result<()> {
    on_shared(|stack| async move {
        let pending = hold(stack, "ci", "delete from ledger where id = 113").await?;
        let press = Press { request: pending.request.clone(), action: "approve".to_owned(), user: "U0DANA".to_owned(), reason: None };
        let payload = stack.slack.payload(&press).map_err(anyhow::Error::msg)?;
        let cases = [
            ("another secret", Signing { secret: Some("0123456789abcdef".to_owned()), ..Signing::default() }),
            ("six minutes old", Signing { age_seconds: 360, ..Signing::default() }),
            ("six minutes early", Signing { age_seconds: -360, ..Signing::default() }),
            ("no signature", Signing { header: Some(String::new()), ..Signing::default() }),
            ("a signature of zeros", Signing { header: Some(format!("v0={}", "0".repeat(64))), ..Signing::default() }),
        ];
        for (name, signing) in cases {
            let (status, body) = stack.slack.send(&payload, &signing).await?;
            ensure!((400..500).contains(&status), "{name}: {status} {body}");
            ensure!(!body.contains("v0="), "{name}: the answer must not carry a signature: {body}");
        }
        for (pointer, value) in [("/team/id", "T0OTHER"), ("/api_app_id", "A0OTHER")] {
            let mut foreign = payload.clone();
            *foreign.pointer_mut(pointer).context("no such field")? = value.into();
            let _ = stack.slack.send(&foreign, &Signing::default()).await?;
        }
        pending.must_wait().await?;
        let outcome = pending.press(stack, "deny", "U0LEE", Some("enough")).await;
        ensure!(outcome.ok, "{outcome:?}");
        ensure!(pending.ended().await?.1.is_err(), "it must be refused");
        Ok(())
    })
}

/// Presses Approve on the card of a PREPARE that shows `text` and can be decided.
async fn approve_card(stack: &Stack, text: &str) -> Result<()> {
    let prepares = |card: &countersign_e2e::slack::Card| {
        card.plain.contains(text) && !card.plain.contains("execute takes") && !card.buttons.is_empty()
    };
    let card = stack.slack.wait_for_card(Duration::from_secs(60), prepares).await?;
    let press =
        Press { request: card.request.context("no request")?, action: "approve".to_owned(), user: "U0DANA".to_owned(), reason: None };
    let outcome = stack.slack.press(&press).await;
    ensure!(outcome.ok, "{outcome:?}");
    Ok(())
}

/// Runs something on a session in the background and approves it.
async fn approved(
    stack: &Stack,
    session: countersign_e2e::client::Session,
    sql: &str,
    text: &str,
) -> Result<countersign_e2e::client::Session> {
    let sql = sql.to_owned();
    let call = tokio::spawn(async move {
        let outcome = session.batch_execute(&sql).await;
        (session, outcome)
    });
    approve_card(stack, text).await?;
    let ended = tokio::time::timeout(Duration::from_secs(60), call).await.context("what was approved does not end")?;
    let (session, outcome) = ended?;
    outcome?;
    Ok(session)
}

/// EXECUTE runs what was prepared: reviewers see that text, and sign it. The same EXECUTE of another text is another request.
#[test]
fn execute_shows_what_it_runs() -> Result<()> {
    on_shared(|stack| async move {
        let prepare = |text: &str| format!("prepare takes(int) as {text}");
        let (small, all) = ("delete from ledger where id = $1 /* one row */", "delete from ledger where id >= $1 /* many rows */");
        // A client that prepares, executes, and goes away while that waits.
        let ci = stack.principal("ci")?;
        let mut psql = stack.gateway.psql(&ci.user, &ci.token)?;
        let mut client = psql.args(["-c", &prepare(small), "-c", "execute takes(131)"]).spawn()?;
        approve_card(stack, "as delete from ledger where id = $1 /* one row */").await?;
        let executes = |card: &countersign_e2e::slack::Card| card.plain.contains("execute takes(131)");
        let card = stack.slack.wait_for_card(Duration::from_secs(60), executes).await?;
        for part in ["Runs", &prepare(small)] {
            ensure!(card.plain.contains(part), "the card does not show `{part}`: {}", card.plain);
        }
        let request = card.request.context("no request")?;
        client.kill().await?;
        wait_for_card_text(stack, &request, "nobody waits since").await?;
        let second = approved(stack, stack.connect("ci").await?, &prepare(all), "id >= $1 /* many rows */").await?;
        let third =
            approved(stack, stack.connect("ci").await?, &prepare(small), "as delete from ledger where id = $1 /* one row */").await?;
        // Asked where the name stands for something else: another request, with its own text.
        let other = tokio::spawn(async move { second.batch_execute("execute takes(131)").await });
        let another = |card: &countersign_e2e::slack::Card| executes(card) && card.plain.contains("many rows");
        let second_card = stack.slack.wait_for_card(Duration::from_secs(60), another).await?;
        ensure!(!second_card.plain.contains("one row"), "{}", second_card.plain);
        let second_request = second_card.request.context("no request")?;
        ensure!(second_request != request, "another text was taken for the same request");
        // Approved is the one with the small text: the other goes on waiting.
        let press = Press { request: request.clone(), action: "approve".to_owned(), user: "U0DANA".to_owned(), reason: None };
        ensure!(stack.slack.press(&press).await.ok, "the press was not taken");
        // The proxy looks at the store many times meanwhile.
        tokio::time::sleep(Duration::from_millis(900)).await;
        ensure!(!other.is_finished(), "the hold opened");
        ensure!(count(stack, "select count(*) from ledger where id >= 131 and id < 140").await? == 9, "it ran");
        // Asked again with the same text behind the name, on another connection, it finds its grant.
        third.batch_execute("execute takes(131)").await?;
        ensure!(count(stack, "select count(*) from ledger where id = 131").await? == 0, "it did not run");
        ensure!(count(stack, "select count(*) from ledger where id > 131 and id < 140").await? == 8, "more than that ran");
        let reason = Some("too many".to_owned());
        let press = Press { request: second_request, action: "deny".to_owned(), user: "U0LEE".to_owned(), reason };
        ensure!(stack.slack.press(&press).await.ok, "the press was not taken");
        ensure!(other.await?.is_err(), "a denied statement ran");
        Ok(())
    })
}

/// A statement the driver prepared by the protocol: the text that runs is on the card, not the name.
#[test]
fn a_named_statement_of_the_protocol_is_shown_by_its_text() -> Result<()> {
    on_shared(|stack| async move {
        let session = stack.connect("ci").await?;
        let statement = session.prepare("delete from ledger where id = $1 /* by name */").await?;
        let call = tokio::spawn(async move { session.execute(&statement, &[&141_i32]).await });
        let card = stack.slack.wait_for_card(Duration::from_secs(60), |card| card.plain.contains("by name")).await?;
        ensure!(card.plain.contains("$1 int4 = 141"), "{}", card.plain);
        let press =
            Press { request: card.request.context("no request")?, action: "approve".to_owned(), user: "U0DANA".to_owned(), reason: None };
        ensure!(stack.slack.press(&press).await.ok, "the press was not taken");
        ensure!(call.await?? == 1, "one row");
        Ok(())
    })
}

/// Where the rule says so, the card says how many rows the server expects. Nothing is run for it, and what cannot be told is left out.
#[test]
fn reviewers_see_how_many_rows_are_expected() -> Result<()> {
    on_shared(|stack| async move {
        let estimate = |card: &countersign_e2e::slack::Card| {
            let line = card.plain.split_once("Estimated rows")?.1.trim_start();
            line.strip_prefix("about ")?.split([',', ' ']).next()?.parse::<u64>().ok()
        };
        let deny = async |pending: countersign_e2e::scenario::Pending| -> Result<countersign_e2e::client::Session> {
            ensure!(pending.press(stack, "deny", "U0LEE", Some("just looking")).await.ok, "the press was not taken");
            Ok(pending.ended().await?.0)
        };
        let deny_card = async |card: &countersign_e2e::slack::Card| -> Result<()> {
            let request = card.request.clone().context("no request")?;
            let reason = Some("just looking".to_owned());
            let press = Press { request, action: "deny".to_owned(), user: "U0LEE".to_owned(), reason };
            ensure!(stack.slack.press(&press).await.ok, "the press was not taken");
            Ok(())
        };
        let mut session = stack.connect("ci").await?;
        for (sql, least, most) in [
            ("delete from counted /* all */", 5_000, 5_000),
            ("delete from counted where id <= 500", 400, 600),
            ("update counted set note = 'x' where id = 7", 1, 1),
            ("insert into counted select id + 10000, note from counted where id <= 100", 50, 150),
            ("with gone as (delete from counted where id > 4000 returning id) select count(*) from gone", 800, 1_200),
            ("select * from counted where id > 2500", 2_000, 3_000),
        ] {
            let pending = hold_on(stack, session, sql).await?;
            let found = estimate(&pending.card).with_context(|| format!("{sql}: no estimate: {}", pending.card.plain))?;
            ensure!((least..=most).contains(&found), "{sql}: {found} rows");
            session = deny(pending).await?;
        }
        // Bound values go with it.
        let call = tokio::spawn(async move { session.execute("delete from counted where id <= $1 /* bound */", &[&1_000_i32]).await });
        let card = stack.slack.wait_for_card(Duration::from_secs(60), |card| card.plain.contains("/* bound */")).await?;
        ensure!(estimate(&card).is_some_and(|found| (800..=1_200).contains(&found)), "{}", card.plain);
        deny_card(&card).await?;
        ensure!(call.await?.is_err(), "a denied statement ran");
        ensure!(count(stack, "select count(*) from counted").await? == 5_000, "asking for the plan changed something");

        // No estimate: of a text of two statements, behind another search path.
        let session = stack.connect("ci").await?;
        let sql = "delete from counted where id = 1; delete from counted where id = 2 /* two */";
        let call = tokio::spawn(async move { session.batch_execute(sql).await });
        let card = stack.slack.wait_for_card(Duration::from_secs(60), |card| card.plain.contains("/* two */")).await?;
        ensure!(estimate(&card).is_none(), "{}", card.plain);
        deny_card(&card).await?;
        ensure!(call.await?.is_err(), "a denied statement ran");
        let session = stack.connect("ci").await?;
        session.batch_execute("set search_path = public, pg_temp").await?;
        let session = deny({
            let pending = hold_on(stack, session, "delete from counted where id = 3 /* other path */").await?;
            ensure!(estimate(&pending.card).is_none(), "{}", pending.card.plain);
            pending
        })
        .await?;
        drop(session);

        // Asked again, the same request is found, though the planner may count a little differently by now.
        let sql = "delete from counted where id <= 2000 /* again */";
        let ci = stack.principal("ci")?;
        let mut psql = stack.gateway.psql(&ci.user, &ci.token)?;
        let mut client = psql.args(["-c", sql]).spawn()?;
        let card = stack.slack.wait_for_card(Duration::from_secs(60), |card| card.plain.contains("/* again */")).await?;
        let request = card.request.context("no request")?;
        client.kill().await?;
        wait_for_card_text(stack, &request, "nobody waits since").await?;
        stack.upstream.oracle().await?.batch_execute("delete from counted where id <= 100; analyze counted").await?;
        let session = stack.connect("ci").await?;
        let mut call = tokio::spawn(async move { session.batch_execute(sql).await });
        let press = Press { request, action: "approve".to_owned(), user: "U0DANA".to_owned(), reason: None };
        ensure!(stack.slack.press(&press).await.ok, "the press was not taken");
        tokio::time::timeout(Duration::from_secs(60), &mut call).await.context("it was not taken up")???;
        ensure!(cards_of(stack, "/* again */") == 1, "asked again, it must not get a second card");
        Ok(())
    })
}
