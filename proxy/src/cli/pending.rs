//! `countersign-proxy pending`: what waits for reviewers, for operators. Reads the approval store and nothing else.
#![expect(clippy::print_stdout, reason = "a command line's answer goes to standard output")]

use std::path::Path;
use std::process::ExitCode;

use countersign_approval::{Request, UnverifiedRequest};
use serde_json::json;

use crate::approvals::{self, Clock, Listed};
use crate::config::Config;

/// Lists the open requests of the store the configuration names.
///
/// # Errors
/// When the configuration or the store cannot be read.
pub fn run(config: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let config = Config::load(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let open = runtime.block_on(async {
        let aws = if config.uses_aws() { Some(config.aws.sdk_config().await) } else { None };
        approvals::pending(&config.approvals, aws.as_ref()).await
    })?;
    let now = Clock::default().now();
    let mut requests: Vec<(Request, Listed)> = open
        .into_iter()
        .filter_map(|listed| Some((UnverifiedRequest::new(&listed.request).parse().ok()?, listed)))
        .filter(|(request, _)| request.environment == config.environment)
        .collect();
    requests.sort_by_key(|(request, _)| request.expires_at);
    let page = config.approvals.bot_url.as_deref();
    for (request, listed) in &requests {
        println!("{}", if as_json { object(request, listed, page, now).to_string() } else { line(request, listed, page, now) });
    }
    if requests.is_empty() && !as_json {
        println!("nothing waits for approval");
    }
    Ok(ExitCode::SUCCESS)
}

fn object(request: &Request, listed: &Listed, bot_url: Option<&str>, now: u64) -> serde_json::Value {
    json!({
        "request": request.id.as_str(),
        "database": request.database,
        "requester": request.requester.subject,
        "issuer": request.requester.issuer,
        "rule": request.rule,
        "reviewers": request.reviewers,
        "quorum": request.quorum,
        "decisions": listed.tokens.len(),
        "waiting": listed.attended,
        "created_at": request.created_at,
        "expires_at": request.expires_at,
        "expires_in_s": request.expires_at.saturating_sub(now),
        "session": request.session,
        "page": bot_url.map(|url| format!("{url}/requests/{}", request.id)),
    })
}

/// One line for a terminal. The statement is not in it: it may hold what operators must not see.
fn line(request: &Request, listed: &Listed, bot_url: Option<&str>, now: u64) -> String {
    let plain = |text: &str| approvals::plain(text).chars().take(120).collect::<String>();
    format!(
        "{}  {}  by {}  rule {}  {} of {} decisions by {}  {}  expires in {} s{}",
        request.id,
        plain(&request.database),
        plain(&request.requester.subject),
        plain(&request.rule),
        listed.tokens.len(),
        request.quorum.max(1),
        plain(&request.reviewers.join(", ")),
        if listed.attended { "client waits" } else { "client gone, may come back" },
        request.expires_at.saturating_sub(now),
        bot_url.map(|url| format!("  {url}/requests/{}", request.id)).unwrap_or_default(),
    )
}
