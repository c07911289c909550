//! AWS as it must not be: the gateway does not start, and says in one line what is wrong and how to mend it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use countersign_e2e::gateway::Config;
use countersign_e2e::stack::Stack;

use super::fault_proxy::{FaultProxy, Mode};
use super::{deployed, on_localstack};

/// Where clients connect never opens, and exactly one line says all of `texts`.
async fn does_not_start(stack: &Stack, name: &str, bend: impl FnOnce(&mut Config), texts: &[&str]) -> Result<()> {
    let mut config = stack.config.clone();
    bend(&mut config);
    let (mut proxy, gateway) = stack.launch_proxy(&format!("bent-{}", name.replace(' ', "-")), &config)?;
    let status = loop {
        if let Some(status) = proxy.process().ended()? {
            break status;
        }
        ensure!(tokio::net::TcpStream::connect(("127.0.0.1", gateway.port)).await.is_err(), "{name}: it listens:\n{}", proxy.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let log = proxy.log();
    ensure!(!status.success() && !log.contains("panicked"), "{name}: {status}\n{log}");
    let says: Vec<&str> = log.lines().filter(|line| texts.iter().all(|text| line.contains(text))).collect();
    ensure!(says.len() == 1, "{name}: {} lines say {texts:?}:\n{log}", says.len());
    ensure!(says.iter().all(|line| line.len() < 600), "{name}: that is no clear line:\n{log}");
    let errors = log.lines().filter(|line| line.contains("\"ERROR\"") || !line.starts_with('{')).count();
    ensure!(errors == 1, "{name}: {errors} lines of errors:\n{log}");
    Ok(())
}

#[test]
fn what_aws_refuses_ends_the_start_with_one_line() -> Result<()> {
    on_localstack(|stack| async move {
        let (instance, deployed) = deployed(stack)?;
        let kms = aws_sdk_kms::Client::new(&instance.sdk_config().await);
        let make = async |spec: KeySpec| -> Result<String> {
            let made = kms.create_key().key_spec(spec).key_usage(KeyUsageType::SignVerify).send().await?;
            Ok(made.key_metadata.context("no key was made")?.key_id)
        };
        let disabled = make(KeySpec::EccNistP256).await?;
        kms.disable_key().key_id(&disabled).send().await?;
        let rsa = make(KeySpec::Rsa2048).await?;
        let nowhere = "00000000-0000-4000-8000-000000000000";

        let open = deployed.configuration_bucket.as_str();
        let bend = |config: &mut Config| {
            config.set("recording", "bucket", open);
        };
        does_not_start(stack, "no object lock", bend, &[open, "no Object Lock", "infra/data.yaml"]).await?;
        let bend = |config: &mut Config| {
            config.set("recording", "bucket", "no-such-bucket-anywhere");
        };
        does_not_start(stack, "no bucket", bend, &["no-such-bucket-anywhere", "does not exist", "recording.bucket"]).await?;
        let bend = |config: &mut Config| {
            config.set("approvals", "table", "no-such-table");
        };
        does_not_start(stack, "no table", bend, &["no-such-table", "does not exist", "deploy the data stack"]).await?;

        for (key, name, text) in [(nowhere, "key missing", "NotFound"), (&disabled, "key disabled", "Disabled"), (&rsa, "key of RSA", "")] {
            let bend = |config: &mut Config| {
                config.set("recording", "kms_key", key);
            };
            does_not_start(stack, &format!("recording {name}"), bend, &["recording key", key, text, "kms_key must name"]).await?;
        }
        for (key, name, text) in [(nowhere, "key missing", "NotFound"), (&rsa, "key of RSA", "ECC_NIST_P256")] {
            let bend = |config: &mut Config| {
                config.set("approvals", "kms_keys", vec![key]);
            };
            does_not_start(stack, &format!("decision {name}"), bend, &["[approvals] key", key, text]).await?;
        }

        for (call, text) in [("TrentService.Sign", "recording key"), ("TrentService.GetPublicKey", "[approvals] key")] {
            let body = r#"{"__type":"AccessDeniedException","message":"the role may not use this key"}"#;
            let refusing = Mode::Answer { when: call, status: "400 Bad Request", body };
            let faults = FaultProxy::start(instance.address()?.to_string(), refusing).await?;
            let bend = |config: &mut Config| {
                config.set("aws", "endpoint", faults.url());
            };
            does_not_start(stack, call, bend, &[text, "AccessDeniedException: the role may not use this key", "hint"]).await?;
        }
        let nobody = format!("http://127.0.0.1:{}", countersign_e2e::process::free_port()?);
        let bend = |config: &mut Config| {
            config.set("aws", "endpoint", nobody.as_str());
        };
        does_not_start(stack, "nobody answers", bend, &["recording store", "refused"]).await
    })
}
