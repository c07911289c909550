//! The credential towards the server lies in Secrets Manager and is rotated there: new sessions log in with the new one, without a restart.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::client::{self, sqlstate};
use countersign_e2e::localstack::LocalStack;

use super::{deployed, on_localstack};

async fn secrets(instance: &LocalStack, arguments: &[&str]) -> Result<()> {
    let aws = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/localstack/venv/bin/aws");
    let mut command = tokio::process::Command::new(aws);
    command
        .arg("secretsmanager")
        .args(arguments)
        .args(["--endpoint-url", &instance.endpoint, "--region", &instance.region])
        .envs(instance.environment());
    let output = client::run(command, "aws secretsmanager").await?;
    ensure!(output.status == 0, "aws secretsmanager {}: {}", arguments.first().copied().unwrap_or_default(), output.stderr);
    Ok(())
}

#[test]
fn the_credential_towards_the_server_is_rotated_without_a_restart() -> Result<()> {
    on_localstack(|stack| async move {
        let (instance, _) = deployed(stack)?;
        let oracle = stack.upstream.oracle().await?;
        oracle.batch_execute("create role rotated login superuser password 'the first one'").await?;
        let name = format!("countersign-rotated-{}", std::process::id());
        let value = |password: &str| format!("{{\"username\": \"rotated\", \"password\": \"{password}\"}}");
        secrets(instance, &["create-secret", "--name", &name, "--secret-string", &value("the first one")]).await?;

        let mut config = stack.config.clone();
        let secret = [("secret".to_owned(), name.clone().into()), ("key".to_owned(), "password".into())];
        config.set("upstream", "user", "rotated").set("upstream", "password", toml::Value::Table(secret.into_iter().collect()));
        let (proxy, gateway) = stack.another_proxy("rotation", &config).await?;
        let dba = stack.principal("dba")?;
        let sessions = "select count(*) from pg_stat_activity where usename = 'rotated' and application_name <> 'countersign:catalog'";
        let before = gateway.connect(&dba.user, &dba.token).await.context("with the first password")?;
        let open = oracle.query_one(sessions, &[]).await?.get::<_, i64>(0);
        ensure!(open == 1, "{open} sessions as the role of the secret");

        // The server has a new password, the secret not yet: that is an error of the upstream's, not an end.
        oracle.batch_execute("alter role rotated password 'the second one'").await?;
        let error = gateway.connect(&dba.user, &dba.token).await.err().context("the old password must not do")?;
        ensure!(sqlstate(&error).starts_with("08"), "{error:?}");
        secrets(instance, &["put-secret-value", "--secret-id", &name, "--secret-string", &value("the second one")]).await?;
        let after = gateway.connect(&dba.user, &dba.token).await.context("with the second password")?;
        ensure!(oracle.query_one(sessions, &[]).await?.get::<_, i64>(0) == 2, "both sessions live");
        for session in [&before, &after] {
            session.simple_query("select 1").await.context("a session must live on")?;
        }
        let log = proxy.log();
        ensure!(!log.contains("the first one") && !log.contains("the second one"), "a password in the log");
        drop((before, after, proxy));
        oracle.batch_execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rotated'; drop role rotated").await?;
        Ok(())
    })
}
