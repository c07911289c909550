//! Held statements that run without waiting: by a signed template, or as break-glass. And what must not pass for either.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::client::{full_text, sqlstate};
use countersign_e2e::gateway::{json_lines, metric};
use countersign_e2e::scenario::{self, count, hold, wait_for_card_text};
use countersign_e2e::slack::{Card, Press};
use countersign_e2e::stack::{Stack, StackOptions};
use serde_json::Value;

const RULES: &str = r#"
[[rules]]
name = "at-once"
who = { groups = ["ci", "incident"] }
what = { kinds = ["write"], relations = ["public.ledger"] }
action = "hold"
hold = { reviewers = ["dba-oncall"], expiry = "15m", reason = "the ledger", break_glass = { groups = ["incident"], review_within = "1d" } }
"#;

const TEMPLATE: &str = r#"
name = "correct-a-note"
rule = "at-once"
database = "bank"
groups = ["ci"]
statement = "update ledger set note = $2 where id = $1"
touches = ["public.ledger"]
valid_days = 30

[[parameters]]
type = "integer"
min = 400
max = 410

[[parameters]]
type = "text"
one_of = ["checked", "it's wrong"]
"#;

fn on_shared<F, R>(scenario: F) -> Result<()>
where
    F: FnOnce(&'static Stack) -> R,
    R: Future<Output = Result<()>>,
{
    let own = scenario::options();
    let principals = own.principals.iter().cloned().chain([("olga".to_owned(), vec!["incident".to_owned()])]).collect();
    let first_rules = Some(format!("{RULES}{}", own.first_rules.clone().unwrap_or_default()));
    scenario::on_shared_with(StackOptions { first_rules, principals, ..own }, scenario)
}

/// What stands in a folder that others still write to: their temporary files, whose names begin with a dot, come and go.
fn copy_folder(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (name, path) = (entry.as_ref().map(std::fs::DirEntry::file_name), entry.as_ref().map(std::fs::DirEntry::path));
        let (Ok(name), Ok(path)) = (name, path) else { continue };
        if path.is_dir() {
            copy_folder(&path, &to.join(&name))?;
        } else if !name.to_string_lossy().starts_with('.') {
            std::fs::copy(&path, to.join(&name))?;
        }
    }
    Ok(())
}

async fn press(stack: &Stack, request: &str, action: &str, user: &str, reason: Option<&str>) -> Result<()> {
    let press =
        Press { request: request.to_owned(), action: action.to_owned(), user: user.to_owned(), reason: reason.map(ToOwned::to_owned) };
    let outcome = stack.slack.press(&press).await;
    ensure!(outcome.ok, "{outcome:?}");
    Ok(())
}

/// Proposes a template as somebody, has it approved by Dana, and returns the policy's entry for it.
async fn propose(stack: &Stack, who: &str, name: &str, text: &str) -> Result<String> {
    let file = stack.dir().join(format!("{name}.toml"));
    std::fs::write(&file, text)?;
    let token = stack.dir().join(format!("{name}.token"));
    std::fs::write(&token, &stack.principal(who)?.token)?;
    let mut command = tokio::process::Command::new(&stack.programs.proxy);
    command.arg("template").arg("propose").arg("--config").arg(stack.proxy.config_file());
    command.arg("--file").arg(&file).arg("--token-file").arg(&token).kill_on_drop(true);
    let proposing = tokio::spawn(async move { command.output().await });
    let shows = |card: &Card| card.plain.contains("Approval needed for a template") && card.plain.contains(name);
    let card = stack.slack.wait_for_card(Duration::from_secs(30), shows).await;
    let Ok(card) = card else {
        let output = proposing.await??;
        anyhow::bail!("no card; the command says: {}", String::from_utf8_lossy(&output.stderr));
    };
    for part in ["update ledger set note = $2 where id = $1", "integer from 400 to 410", "it''s wrong", "runs without asking again"] {
        ensure!(card.plain.contains(part), "the card does not show `{part}`: {}", card.plain);
    }
    let request = card.request.context("no request")?;
    press(stack, &request, "approve", "U0DANA", None).await?;
    let output = proposing.await??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    wait_for_card_text(stack, &request, "template signed").await?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Appends to the policy and waits until the proxy has taken it into force.
async fn append(stack: &Stack, entry: &str) -> Result<()> {
    let text = std::fs::read_to_string(&stack.policy)?;
    std::fs::write(&stack.policy, format!("{text}\n{entry}\n"))?;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    Ok(())
}

fn cards_about(stack: &Stack, text: &str) -> usize {
    stack.slack.cards().iter().filter(|card| card.plain.contains(text) && card.thread_ts.is_none()).count()
}

/// Events of all recordings whose JSON contains a text.
async fn recorded(stack: &Stack, text: &str) -> Result<Vec<Value>> {
    scenario::recordings_sealed(stack).await?;
    let mut found = Vec::new();
    for session in stack.audit().sessions().await? {
        let id = session.get("session").and_then(Value::as_str).context("no session")?;
        let file = stack.dir().join(format!("{}.jsonl", uuid::Uuid::new_v4()));
        let exported = stack.audit().run("export", &[id, "--format", "jsonl", "--out", &file.display().to_string()]).await?;
        ensure!(exported.status == 0, "{}", exported.stderr);
        found.extend(json_lines(&std::fs::read_to_string(&file)?).into_iter().filter(|line| line.to_string().contains(text)));
    }
    Ok(found)
}

#[test]
fn a_signed_template_runs_within_its_bounds_and_nowhere_else() -> Result<()> {
    on_shared(|stack| async move {
        let entry = propose(stack, "ci", "correct-a-note", TEMPLATE).await?;
        // Signed, but not in the policy yet: held.
        let pending = hold(stack, "ci", "update ledger set note = 'checked' where id = 400").await?;
        press(stack, &pending.request, "deny", "U0LEE", Some("use the template")).await?;
        ensure!(pending.ended().await?.1.is_err(), "it ran");

        // A copy that was widened after it was signed goes in first: it is passed over.
        let widened = entry.replace(":410", ":999").replace("from 400 to 410", "from 400 to 999");
        ensure!(widened != entry, "nothing was widened: {entry}");
        append(stack, &widened).await?;
        drop(stack.connect("ci").await?);
        stack.proxy.wait_for_log("template does not hold", Duration::from_secs(10)).await?;
        append(stack, &entry).await?;
        drop(stack.connect("ci").await?);
        stack.proxy.wait_for_log("template in force", Duration::from_secs(10)).await?;

        let ci = stack.connect("ci").await?;
        let covered = ci.execute("update ledger set note = $2 where id = $1", &[&401_i32, &"checked"]).await;
        ensure!(covered? == 1, "one row, by bound values");
        ci.batch_execute("update ledger set note = 'it''s wrong' where id = 402;").await?;
        ensure!(
            count(stack, "select count(*) from ledger where (id, note) in ((401, 'checked'), (402, 'it''s wrong'))").await? == 2,
            "both ran"
        );
        ensure!(cards_about(stack, "where id = 402") == 0, "nobody is asked about what a template covers");
        drop(ci);

        // Just outside, of another text, of another principal: held as ever.
        for (who, sql) in [
            ("ci", "update ledger set note = 'checked' where id = 411"),
            ("ci", "update ledger set note = 'checked' where id = 399"),
            ("ci", "update ledger set note = 'Checked' where id = 403"),
            ("ci", "update ledger set note = 'checked' where id = 403 or true"),
            ("ci", "update ledger set note = 'checked' where id = 403 --"),
            ("ci", "update ledger set note = 'checked' where id = '403'"),
            ("olga", "update ledger set note = 'checked' where id = 404"),
        ] {
            let pending = hold(stack, who, sql).await.with_context(|| format!("{who}: {sql}"))?;
            press(stack, &pending.request, "deny", "U0LEE", Some("not covered")).await?;
            ensure!(pending.ended().await?.1.is_err(), "{who}: {sql}");
        }
        ensure!(count(stack, "select count(*) from ledger where note in ('checked', 'Checked')").await? == 1, "only the first one");

        // The recording names the template and carries it whole; `recordings_verify` behind this test proves it.
        let uses = recorded(stack, r#""outcome":"template""#).await?;
        ensure!(uses.len() == 2, "two uses: {uses:?}");
        let carried = recorded(stack, "correct-a-note").await?;
        ensure!(carried.iter().any(|event| event.to_string().contains("integer from 400 to 410")), "the template is not in the recording");
        let verified = stack.audit().verify(None).await?;
        ensure!(verified.stdout.contains("ran by template correct-a-note"), "{}", verified.stdout);
        Ok(())
    })
}

#[test]
fn glass_is_broken_by_the_right_people_and_reviewed_afterwards() -> Result<()> {
    on_shared(|stack| async move {
        let reason = "-c countersign.break_glass=restore\\ service,\\ incident\\ 4711";
        let run = async |who: &str, sql: &str, options: &str| -> Result<countersign_e2e::client::Output> {
            let principal = stack.principal(who)?;
            let mut psql = stack.gateway.psql(&principal.user, &principal.token)?;
            psql.env("PGOPTIONS", options).args(["-c", sql]);
            countersign_e2e::client::run(psql, "psql").await
        };
        let sql = "update ledger set note = 'restored' where id = 421";
        let output = run("olga", sql, reason).await?;
        ensure!(output.status == 0 && output.stdout.contains("UPDATE 1"), "{} {}", output.stdout, output.stderr);
        ensure!(output.stderr.contains("break-glass"), "the client is not told: {}", output.stderr);
        ensure!(count(stack, "select count(*) from ledger where id = 421 and note = 'restored'").await? == 1, "it did not run");

        // Everybody is paged, with the statement, the reason and who it was.
        let shows = |card: &Card| card.plain.contains("it ran without approval") && card.plain.contains("where id = 421");
        let card = stack.slack.wait_for_card(Duration::from_secs(30), shows).await?;
        ensure!(card.plain.contains("restore service, incident 4711") && card.plain.contains("olga"), "{}", card.plain);
        ensure!(card.blocks.iter().any(|block| block.to_string().contains("<!channel>")), "nobody is paged: {:?}", card.blocks);
        let request = card.request.clone().context("no request")?;
        let paged = metric(&stack.proxy.metrics_url(), "countersign_break_glass_total").await?;
        ensure!(paged.is_some_and(|count| count >= 1.0), "no alarm: {paged:?}");

        // The evidence shows the review as open.
        scenario::recordings_sealed(stack).await?;
        let listed = stack.audit().run("list", &["--decision", "break-glass"]).await?;
        ensure!(listed.stdout.contains(&request) && listed.stdout.contains("review open"), "{}{}", listed.stdout, listed.stderr);
        let evidence = async |name: &str| -> Result<(String, String)> {
            let folder = stack.dir().join(name);
            let key = stack.recording_key.private.display().to_string();
            let out = folder.display().to_string();
            let order = ["--since", "2020-01-01", "--until", "2100-01-01", "--out", &out, "--signing-key", &key];
            let made = stack.audit().run("evidence", &order).await?;
            ensure!(made.status == 0, "{}", made.stderr);
            Ok((std::fs::read_to_string(folder.join("break-glass.csv"))?, std::fs::read_to_string(folder.join("exceptions.csv"))?))
        };
        let (broken, exceptions) = evidence("evidence-open").await?;
        ensure!(broken.contains(&request) && broken.contains("\"open\"") && exceptions.contains("review-open"), "{broken}{exceptions}");

        // A second run is a second event, which is found not to have been right.
        let output = run("olga", "update ledger set note = 'again' where id = 422", reason).await?;
        ensure!(output.status == 0, "{}", output.stderr);
        let again = stack.slack.wait_for_card(Duration::from_secs(30), |card| card.plain.contains("where id = 422")).await?;
        let again = again.request.context("no request")?;
        ensure!(again != request, "one request for two runs");

        // Whoever ran it does not review it; strangers do not either.
        press(stack, &request, "approve", "U0MALLORY", None).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        ensure!(stack.audit().run("list", &["--decision", "break-glass"]).await?.stdout.contains("review open"), "a stranger reviewed it");
        press(stack, &request, "approve", "U0DANA", None).await?;
        wait_for_card_text(stack, &request, "reviewed, justified").await?;
        press(stack, &again, "deny", "U0LEE", Some("the incident was over")).await?;
        wait_for_card_text(stack, &again, "reviewed, not justified").await?;
        // Closed: a second press changes nothing.
        let late = Press { request: request.clone(), action: "deny".to_owned(), user: "U0LEE".to_owned(), reason: Some("late".to_owned()) };
        let _refused = stack.slack.press(&late).await;

        scenario::recordings_sealed(stack).await?;
        let listed = stack.audit().run("list", &["--decision", "break-glass", "--json"]).await?;
        for (part, what) in [(r#""review":"justified""#, "dana"), (r#""review":"not justified""#, "the incident was over")] {
            let plain = listed.stdout.replace(": ", ":");
            ensure!(plain.contains(part) && plain.contains(what), "{part}: {}", listed.stdout);
        }
        let (broken, exceptions) = evidence("evidence-done").await?;
        ensure!(broken.contains("\"justified\",\"dana\"") && broken.contains("the incident was over"), "{broken}");
        // Other scenarios leave reviews of their own open.
        let open = |line: &str| line.contains("review-open") && (line.contains(&request) || line.contains(&again));
        ensure!(exceptions.contains("break-glass-not-justified") && !exceptions.lines().any(open), "{exceptions}");
        let verified = stack.audit().verify(None).await?;
        ensure!(verified.status == 0 && verified.stdout.contains("ran without approval"), "{}", verified.stdout);
        // One review in the place of the other is a review of neither; one that is gone leaves its statement open.
        let copy = stack.dir().join("reviews-tampered");
        copy_folder(stack.recordings()?, &copy)?;
        let place = |request: &str| copy.join("reviews").join(format!("{request}.json"));
        let (one, other) = (std::fs::read(place(&request))?, std::fs::read(place(&again))?);
        std::fs::write(place(&request), other)?;
        std::fs::write(place(&again), &one)?;
        std::fs::write(copy.join("reviews/none.json"), &one)?;
        let found = stack.audit().over(&copy).verify(None).await?;
        let named = [&request, &again].iter().all(|id| found.stdout.contains(&format!("reviews/{id}.json: no review of request {id}")));
        ensure!(found.status == 1 && named && found.stdout.contains("reviews/none.json: a review of nothing"), "{}", found.stdout);
        std::fs::remove_file(place(&request))?;
        let listed = stack.audit().over(&copy).run("list", &["--decision", "break-glass"]).await?;
        ensure!(listed.stdout.contains(&format!("{request} by olga@bank.example: review open")), "{}", listed.stdout);
        Ok(())
    })
}

#[test]
fn asking_for_it_is_not_enough_to_break_glass() -> Result<()> {
    on_shared(|stack| async move {
        // Not of the group: held as ever, reason or not.
        let principal = stack.principal("ci")?;
        let mut psql = stack.gateway.psql(&principal.user, &principal.token)?;
        psql.env("PGOPTIONS", "-c countersign.break_glass=because\\ I\\ would\\ like\\ to");
        let mut waiting = psql.args(["-c", "delete from ledger where id = 431"]).spawn()?;
        let card = stack.slack.wait_for_card(Duration::from_secs(60), |card| card.plain.contains("where id = 431")).await?;
        ensure!(card.plain.contains("Approval needed"), "{}", card.plain);
        waiting.kill().await?;
        // Of the group, without a reason: held; with no reason worth the name: not let in.
        let pending = hold(stack, "olga", "delete from ledger where id = 432").await?;
        press(stack, &pending.request, "deny", "U0LEE", Some("not without a reason")).await?;
        ensure!(pending.ended().await?.1.is_err(), "it ran");
        let olga = stack.principal("olga")?;
        let mut psql = stack.gateway.psql(&olga.user, &olga.token)?;
        psql.env("PGOPTIONS", "-c countersign.break_glass=x").args(["-c", "select 1"]);
        let output = countersign_e2e::client::run(psql, "psql").await?;
        ensure!(output.status != 0 && output.stderr.contains("is not a reason"), "{}", output.stderr);
        // What the policy denies stays denied.
        let mut psql = stack.gateway.psql(&olga.user, &olga.token)?;
        psql.env("PGOPTIONS", "-c countersign.break_glass=restore\\ service\\ now").args(["-c", "drop table ledger"]);
        let output = countersign_e2e::client::run(psql, "psql").await?;
        ensure!(output.status != 0, "{}", output.stdout);
        ensure!(count(stack, "select count(*) from ledger where id in (431, 432)").await? == 2, "something ran");
        Ok(())
    })
}

/// Table and bot are down, so to say: who may break glass is not held up by that, and the page comes later.
#[test]
fn a_store_that_is_down_does_not_stop_an_incident() -> Result<()> {
    on_shared(|stack| async move {
        let approvals = stack.approvals()?.to_owned();
        let olga = stack.principal("olga")?;
        let session = stack.gateway.connect_with(|config| {
            config.user(&olga.user).password(&olga.token).options("-c countersign.break_glass=the\\ store\\ is\\ down,\\ incident\\ 4712");
        });
        let session = session.await?;
        let aside = approvals.with_extension("aside");
        std::fs::rename(&approvals, &aside)?;
        // Nothing can be put there, and nobody makes it anew.
        std::fs::write(&approvals, "")?;
        let outcome = session.batch_execute("update ledger set note = 'no store' where id = 441").await;
        std::fs::remove_file(&approvals)?;
        std::fs::rename(&aside, &approvals)?;
        outcome.map_err(|error| anyhow::anyhow!("{} {}", sqlstate(&error), full_text(&error)))?;
        ensure!(count(stack, "select count(*) from ledger where id = 441 and note = 'no store'").await? == 1, "it did not run");
        drop(session);
        let card = stack.slack.wait_for_card(Duration::from_secs(60), |card| card.plain.contains("where id = 441")).await?;
        ensure!(card.plain.contains("it ran without approval"), "{}", card.plain);
        Ok(())
    })
}
