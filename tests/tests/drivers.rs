//! Real clients through the gateway: psql, tokio-postgres, psycopg and pgbench; masking and refusal as they see it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::client::{run, sqlstate};
use countersign_e2e::cluster::find_program;
use countersign_e2e::scenario::{core, on_shared};
use countersign_e2e::stack::Stack;
use serde_json::Value;

#[test]
fn a_masked_column_is_masked_in_text_and_binary() -> Result<()> {
    on_shared(core::masked_column)
}

#[test]
fn a_denial_leaves_session_and_transaction_right() -> Result<()> {
    on_shared(core::denial_leaves_the_state_right)
}

#[test]
fn psql_works_by_the_printed_line() -> Result<()> {
    on_shared(|stack| async move {
        let ci = stack.principal("ci")?;
        let output = stack.gateway.run_psql(&ci.user, &ci.token, "select count(*) from transactions").await?;
        ensure!((output.status, output.stdout.as_str()) == (0, "6000"), "{output:?}");
        // Several statements of one text, and psql's own catalog queries.
        let mut psql = stack.gateway.psql(&ci.user, &ci.token)?;
        psql.args(["-At", "-c", "select 1; select 2", "-c", "\\dt public.*", "-c", "\\d public.customers"]);
        let output = run(psql, "psql").await?;
        ensure!(output.status == 0, "{output:?}");
        ensure!(output.stdout.contains("transactions") && output.stdout.contains("ssn"), "{}", output.stdout);
        let output = stack.gateway.run_psql(&ci.user, &ci.token, "truncate accounts").await?;
        ensure!(output.status == 1 && output.stderr.contains("42501"), "{output:?}");
        Ok(())
    })
}

#[test]
fn errors_of_the_server_come_through_as_they_are() -> Result<()> {
    on_shared(|stack| async move {
        let session = stack.connect("ci").await?;
        for (sql, code) in [("select 1/0", "22012"), ("select * from transactions where nonsense", "42703"), ("selec 1", "42601")] {
            let through = session.simple_query(sql).await.err().with_context(|| format!("{sql} worked"))?;
            ensure!(sqlstate(&through) == code || (sqlstate(&through) == "42501" && code != "22012"), "{sql}: {through:?}");
        }
        ensure!(session.query_one("select 1", &[]).await?.try_get::<_, i32>(0)? == 1, "the session must live on");
        Ok(())
    })
}

#[test]
fn a_prepared_statement_runs_many_times() -> Result<()> {
    on_shared(|stack| async move {
        let session = stack.connect("ci").await?;
        let statement = session.prepare("select id, description from transactions where account_id = $1 order by id limit $2").await?;
        let oracle = stack.upstream.oracle().await?;
        for account in [1_i32, 2, 3, 350] {
            let through = session.query(&statement, &[&account, &3_i64]).await?;
            let direct =
                oracle.query("select id, description from transactions where account_id = $1 order by id limit 3", &[&account]).await?;
            ensure!(through.len() == direct.len(), "account {account}");
            for (one, other) in through.iter().zip(&direct) {
                ensure!(one.try_get::<_, i64>(0)? == other.try_get::<_, i64>(0)?, "account {account}");
                ensure!(one.try_get::<_, String>(1)? == other.try_get::<_, String>(1)?, "account {account}");
            }
        }
        let masked = session.prepare("select ssn from customers where id = $1").await?;
        for id in [1_i32, 2, 3] {
            let clear: String = oracle.query_one("select ssn from customers where id = $1", &[&id]).await?.try_get(0)?;
            let row = session.query_one(&masked, &[&id]).await?;
            ensure!(row.try_get::<_, String>(0)? != clear, "customer {id} came through in clear");
        }
        Ok(())
    })
}

#[test]
fn transactions_commit_and_roll_back() -> Result<()> {
    on_shared(|stack| async move {
        let mut session = stack.connect("dba").await?;
        let transaction = session.transaction().await?;
        transaction.execute("insert into ledger values (5001, 'kept')", &[]).await?;
        transaction.commit().await?;
        let transaction = session.transaction().await?;
        transaction.execute("insert into ledger values (5002, 'gone')", &[]).await?;
        transaction.rollback().await?;
        let kept = countersign_e2e::scenario::count(stack, "select count(*) from ledger where id in (5001, 5002)").await?;
        ensure!(kept == 1, "{kept} rows");
        session.execute("delete from ledger where id = 5001", &[]).await?;
        Ok(())
    })
}

#[test]
fn psycopg_works() -> Result<()> {
    on_shared(|stack| async move {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut ensure_driver = tokio::process::Command::new(root.join("python/ensure"));
        ensure_driver.current_dir(root);
        let python = run(ensure_driver, "tests/python/ensure").await?;
        ensure!(python.status == 0, "psycopg cannot be put in place: {}", python.stderr);
        let ci = stack.principal("ci")?;
        let mut driver = tokio::process::Command::new(python.stdout.lines().last().context("no Python")?);
        driver.arg(root.join("python/driver.py")).arg(stack.gateway.conninfo(&ci.user)).env("PGPASSWORD", &ci.token);
        let output = run(driver, "psycopg").await?;
        ensure!(output.status == 0, "psycopg: {}\n{}", output.stdout, output.stderr);
        let seen: Value = serde_json::from_str(&output.stdout)?;
        let row = stack.upstream.oracle().await?.query_one("select ssn, email from customers where id = 9", &[]).await?;
        let (ssn, email): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        for format in ["text", "binary"] {
            let masked = seen.pointer(&format!("/{format}/ssn")).and_then(Value::as_str).context("no ssn")?;
            ensure!(masked != ssn && masked.get(masked.len() - 4..) == ssn.get(ssn.len() - 4..), "{format}: {masked}");
            ensure!(seen.pointer(&format!("/{format}/email")).and_then(Value::as_str) != Some(email.as_str()), "{format}");
        }
        ensure!(seen.get("sum").and_then(Value::as_i64) == Some(500_500), "{seen}");
        ensure!(seen.get("denied").and_then(Value::as_str) == Some("42501"), "{seen}");
        ensure!(seen.get("after").and_then(Value::as_i64) == Some(1), "{seen}");
        Ok(())
    })
}

async fn pgbench(stack: &Stack, mode: &str) -> Result<()> {
    let dba = stack.principal("dba")?;
    let mut command = tokio::process::Command::new(find_program("pgbench")?);
    command.args(["-M", mode, "-n", "-c", "2", "-j", "2", "-t", "25"]).arg(stack.gateway.conninfo(&dba.user)).env("PGPASSWORD", &dba.token);
    let before = countersign_e2e::scenario::count(stack, "select count(*) from pgbench_history").await?;
    let output = run(command, "pgbench").await?;
    ensure!(output.status == 0, "pgbench -M {mode}: {}\n{}", output.stdout, output.stderr);
    ensure!(output.stdout.contains("50/50"), "{}", output.stdout);
    let after = countersign_e2e::scenario::count(stack, "select count(*) from pgbench_history").await?;
    ensure!(after - before == 50, "{} transactions reached the server", after - before);
    Ok(())
}

#[test]
fn pgbench_simple() -> Result<()> {
    on_shared(|stack| pgbench(stack, "simple"))
}

#[test]
fn pgbench_extended() -> Result<()> {
    on_shared(|stack| pgbench(stack, "extended"))
}

#[test]
fn pgbench_prepared() -> Result<()> {
    on_shared(|stack| pgbench(stack, "prepared"))
}

#[test]
fn a_large_result_comes_whole() -> Result<()> {
    on_shared(|stack| async move {
        let session = stack.connect("dba").await?;
        let rows = session.query("select n, repeat('x', 1000) from generate_series(1, 20000) as n", &[]).await?;
        ensure!(rows.len() == 20_000, "{} rows", rows.len());
        let last: i32 = rows.last().context("no rows")?.try_get(0)?;
        ensure!(last == 20_000, "the last is {last}");
        Ok(())
    })
}

#[test]
fn a_running_statement_is_cancelled() -> Result<()> {
    on_shared(|stack| async move {
        let session = stack.connect("dba").await?;
        let (token, tls) = session.canceller();
        let sleeping = tokio::spawn(async move {
            let outcome = session.execute("select pg_sleep(600)", &[]).await;
            (session, outcome)
        });
        let running = "select count(*) from pg_stat_activity where query like 'select pg_sleep(600)%' and state = 'active' and pid <> pg_backend_pid()";
        countersign_e2e::scenario::wait_for_count(stack, running, 1).await?;
        token.cancel_query(tls).await?;
        let (session, outcome) =
            tokio::time::timeout(std::time::Duration::from_secs(30), sleeping).await.context("it was not cancelled")??;
        let error = outcome.err().context("it ended by itself")?;
        ensure!(sqlstate(&error) == "57014", "{error:?}");
        ensure!(session.query_one("select 1", &[]).await?.try_get::<_, i32>(0)? == 1, "the session must live on");
        Ok(())
    })
}
