//! The policy from a bucket, looked at by its ETag: a new object counts whole for sessions that are open, a bad or missing one for none.

use std::time::Duration;

use anyhow::{Result, ensure};
use aws_sdk_s3::primitives::ByteStream;
use countersign_e2e::client::sqlstate;
use countersign_e2e::gateway::metric;

use super::{deployed, on_localstack};

const KEY: &str = "policies/reloaded.toml";
const VAULT: &str = "update vault set content = content where id = 1";
const LEDGER: &str = "update ledger set note = note where id = 1";

/// A document by which one table may be written and no other.
fn writes_to(table: &str) -> String {
    format!(
        "version = 1\n[[rules]]\nname = \"one-table\"\nwhat = {{ kinds = [\"write\"], relations = [\"public.{table}\"] }}\naction = \"allow\"\n"
    )
}

#[test]
fn a_new_policy_object_counts_at_once_and_a_bad_one_changes_nothing() -> Result<()> {
    on_localstack(|stack| async move {
        let limit = Duration::from_secs(30);
        let (instance, deployed) = deployed(stack)?;
        let shared = instance.sdk_config().await;
        let s3 = aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&shared).force_path_style(true).build());
        let bucket = deployed.configuration_bucket.as_str();
        let put = async |text: String| -> Result<()> {
            s3.put_object().bucket(bucket).key(KEY).body(ByteStream::from(text.into_bytes())).send().await?;
            Ok(())
        };
        put(writes_to("ledger")).await?;
        let mut config = stack.config.clone();
        config.unset("policy", "file").set("policy", "s3", format!("s3://{bucket}/{KEY}"));
        let (proxy, gateway) = stack.another_proxy("policy-in-a-bucket", &config).await?;
        let (metrics, ci) = (proxy.metrics_url(), stack.principal("ci")?);
        // One connection from here to the end: every version has to count for it.
        let session = gateway.connect(&ci.user, &ci.token).await?;
        let codes = async || {
            let code = async |sql: &str| session.batch_execute(sql).await.err().map_or_else(|| "done".to_owned(), |error| sqlstate(&error));
            (code(LEDGER).await, code(VAULT).await)
        };
        let answers = |ledger: &str, vault: &str| (ledger.to_owned(), vault.to_owned());
        let first = answers("done", "42501");
        let found = codes().await;
        ensure!(found == first, "the first version: {found:?}");

        put(writes_to("vault").replace("kinds", "kindz")).await?;
        let line = proxy.wait_for_log("new policy refused, the one in force stays", limit).await?;
        ensure!(line.contains("kindz"), "the log does not say what is wrong: {line}");
        ensure!(metric(&metrics, "countersign_policy_stale").await? == Some(1.0), "no alarm");
        let found = codes().await;
        ensure!(found == first, "a bad version changed something: {found:?}");

        s3.delete_object().bucket(bucket).key(KEY).send().await?;
        proxy.wait_for_log("NoSuchKey", limit).await?;
        ensure!(metric(&metrics, "countersign_policy_stale").await? == Some(1.0), "the alarm is off without a policy");
        let found = codes().await;
        ensure!(found == first, "a missing version changed something: {found:?}");

        put(writes_to("vault")).await?;
        proxy.wait_for_log("policy in force", limit).await?;
        let found = codes().await;
        ensure!(found == answers("42501", "done"), "the new version does not count whole for an open session: {found:?}");
        ensure!(metric(&metrics, "countersign_policy_stale").await? == Some(0.0), "the alarm goes on");
        ensure!(metric(&metrics, "countersign_policy_reloads_total").await? == Some(1.0), "other than one version was taken");
        Ok(())
    })
}
