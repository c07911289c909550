//! The ready file: a stable interface for outsiders' suites, documented field by field in `docs/demo.md`.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::stack::{Stack, Stores};

/// Writes the file whole or not at all.
pub(super) fn write(file: &Path, stack: &Stack) -> Result<()> {
    let name = file.file_name().context("--ready names no file")?.to_string_lossy();
    let aside = file.with_file_name(format!(".{name}.{}", std::process::id()));
    crate::pki::write_secret(&aside, &serde_json::to_string_pretty(&document(stack))?)?;
    std::fs::rename(&aside, file)?;
    Ok(())
}

fn document(stack: &Stack) -> Value {
    let principals: serde_json::Map<String, Value> = stack
        .principals
        .iter()
        .map(|(name, principal)| (name.clone(), json!({"user": principal.user, "token": principal.token, "groups": principal.groups})))
        .collect();
    let (recordings, approvals, aws) = match &stack.stores {
        Stores::Directory { approvals, recordings } => (recordings.display().to_string(), approvals.display().to_string(), Value::Null),
        Stores::Aws { instance, deployed } => (
            format!("s3://{}", deployed.bucket),
            deployed.table.clone(),
            json!({
                "endpoint": instance.endpoint,
                "region": instance.region,
                "bucket": deployed.bucket,
                "table": deployed.table,
                "decision_key": deployed.decision_key,
                "recording_key": deployed.recording_key,
                "function": deployed.function_name,
            }),
        ),
    };
    json!({
        "version": 1,
        "pid": std::process::id(),
        "gateway": {
            "host": stack.gateway.host,
            "port": stack.gateway.port,
            "ca": stack.gateway.ca,
            "database": stack.gateway.database,
            "metrics": stack.proxy.metrics_url(),
            "log": stack.proxy.log_file(),
        },
        "principals": principals,
        "upstream": {
            "host": stack.upstream.host,
            "port": stack.upstream.port,
            "user": stack.upstream.user,
            "password": stack.upstream.password,
            "database": stack.upstream.database,
            "ca": stack.upstream.ca,
            "superuser": {"user": stack.upstream.superuser, "password": stack.upstream.superuser_password},
        },
        "issuer": stack.issuer.url(),
        "slack": {
            "page": stack.slack.page_url(),
            "cards": format!("{}cards", stack.slack.page_url()),
            "press": {
                "method": "POST",
                "url": stack.slack.press_url(),
                "body": {"request": "latest", "action": "approve", "user": "U0DANA", "reason": null},
            },
            "reviewers": ["U0DANA", "U0LEE"],
        },
        "recordings": recordings,
        "approvals": approvals,
        "keys": stack.keys,
        "policy": stack.policy,
        "programs": {"proxy": stack.programs.proxy, "bot": stack.programs.bot, "audit": stack.programs.audit},
        "aws": aws,
    })
}
