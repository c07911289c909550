//! `countersign-proxy template propose`: puts a template before the reviewers and, once they have signed, prints what goes into the policy.
//!
//! Owns the file a template is written in and the request made of it. What a template is and whom it serves is
//! [`countersign_approval::template`]'s to say.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line's answer goes to standard output")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use countersign_approval::request::version;
use countersign_approval::template::{Bounds, LONGEST_LIFE, RULE};
use countersign_approval::v1::Requester;
use countersign_approval::{GrantError, Request, RequestId, StatementDigest, Template, TemplateError, VerifiedTemplate};
use countersign_policy::rule::{Action, Hold};
use countersign_policy::{Policy, Principal};
use countersign_session::reviewer_sources;
use serde::Deserialize;

use crate::approvals::{Clock, Desk};
use crate::config::Config;
use crate::identity::{UnverifiedToken, Verifier};
use crate::policy_source;

/// How often the store is looked at.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a template is good where its file does not say, in days.
const VALID_DAYS: u64 = 90;

/// Templates.
#[derive(Debug, Args)]
pub struct TemplateArgs {
    #[command(subcommand)]
    command: TemplateCommand,
}

#[derive(Debug, Subcommand)]
enum TemplateCommand {
    /// Put a template before the reviewers of its rule, wait for them, and print the `[[templates]]` entry for the policy
    Propose {
        /// Configuration file
        #[arg(long, value_name = "FILE", env = "COUNTERSIGN_CONFIG")]
        config: PathBuf,
        /// The template (docs/reviewers.md)
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// File with the identity token of whoever proposes it; otherwise the environment's COUNTERSIGN_TOKEN
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
}

/// The file a template is written in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    name: String,
    rule: String,
    database: String,
    statement: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    subjects: Vec<String>,
    touches: Vec<String>,
    #[serde(default)]
    calls: Vec<String>,
    #[serde(default)]
    valid_days: Option<u64>,
    #[serde(default)]
    parameters: Vec<Bounds>,
}

/// Carries the command out.
///
/// # Errors
/// When the template does not make sense, or is not approved.
pub fn run(args: TemplateArgs) -> anyhow::Result<ExitCode> {
    let TemplateCommand::Propose { config, file, token_file } = args.command;
    let config = Config::load(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(propose(&config, &file, token_file.as_deref()))?;
    Ok(ExitCode::SUCCESS)
}

async fn propose(config: &Config, file: &Path, token_file: Option<&Path>) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let source: Source = toml::from_str(&text).with_context(|| format!("{}", file.display()))?;
    let token = match token_file {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => std::env::var("COUNTERSIGN_TOKEN").context("who proposes it? set COUNTERSIGN_TOKEN or give --token-file")?,
    };
    let verifier = Verifier::new(&config.identity, tokio::runtime::Handle::current())?;
    let verified = verifier.verify(&UnverifiedToken::from_bearer(token.trim())).await.context("the token is not taken")?;
    let (policy, _reloader) = policy_source::load(&config.policy, &config.aws).await?;
    let request = request(config, &policy.current(), &source, verified.principal, Clock::default().now())?;
    let aws = if config.uses_aws() { Some(config.aws.sdk_config().await) } else { None };
    let desk = Desk::open(&config.approvals, aws.as_ref()).await?;
    let body = desk.place(&request).await?;
    eprintln!("request {} waits for {} approval(s) of {}", request.id, request.quorum, request.reviewers.join(", "));
    let (template, tokens) = signed(&desk, config, &request, &body).await?;
    desk.settle(&request, &format!("template {} is signed", template.template().name)).await?;
    println!("{}", entry(&body, &tokens));
    eprintln!("signed; append this to the policy document, and remove it there to end it before its time");
    Ok(())
}

/// Waits until enough people signed.
async fn signed(desk: &Desk, config: &Config, request: &Request, body: &str) -> anyhow::Result<(VerifiedTemplate, Vec<String>)> {
    loop {
        let tokens = desk.tokens(&request.id).await?;
        match VerifiedTemplate::verify(body, &tokens, &config.environment, desk.keys()) {
            Ok(template) => return Ok((template, tokens)),
            Err(TemplateError::Grant(GrantError::Pending { .. })) if Clock::default().now() < request.expires_at => {}
            Err(TemplateError::Grant(GrantError::Pending { found, needed, .. })) => {
                bail!("request {} expired with {found} of {needed} approvals", request.id)
            }
            Err(error) => return Err(error).with_context(|| format!("request {}", request.id)),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn request(config: &Config, policy: &Policy, source: &Source, principal: Principal, now: u64) -> anyhow::Result<Request> {
    let rule = policy.rules().iter().find(|rule| rule.name == source.rule);
    let Some(Action::Hold(Hold { reviewers, sources, quorum, expiry, step_up, .. })) = rule.map(|rule| &rule.action) else {
        bail!("the policy in force has no rule `{}` that holds statements", source.rule);
    };
    let days = source.valid_days.unwrap_or(VALID_DAYS);
    ensure!((1..=LONGEST_LIFE / 86_400).contains(&days), "valid_days must be 1 to {}", LONGEST_LIFE / 86_400);
    let template = Template {
        name: source.name.clone(),
        rule: source.rule.clone(),
        groups: source.groups.clone(),
        subjects: source.subjects.clone(),
        valid_from: now,
        valid_until: now.saturating_add(days.saturating_mul(86_400)),
        touches: source.touches.clone(),
        calls: source.calls.clone(),
        parameters: source.parameters.clone(),
    };
    template.check(&source.statement)?;
    let sources = reviewer_sources(sources);
    Ok(Request {
        version: version(&sources),
        id: RequestId::from_bytes(*uuid::Uuid::now_v7().as_bytes()),
        environment: config.environment.clone(),
        created_at: now,
        expires_at: now.saturating_add(expiry.as_secs()),
        statement: source.statement.clone(),
        parameters: Vec::new(),
        digest: StatementDigest::compute(source.statement.as_bytes(), std::iter::empty()),
        requester: Requester {
            issuer: principal.issuer,
            subject: principal.subject,
            email: principal.email,
            groups: principal.groups.into_iter().collect(),
            claims: principal.claims,
        },
        database: source.database.clone(),
        policy: policy.digest().to_hex(),
        rule: RULE.to_owned(),
        reason: "a template that is to run without being held".to_owned(),
        reviewers: reviewers.clone(),
        quorum: (*quorum).max(1),
        runs: 1,
        step_up: *step_up,
        facts: template.facts(),
        session: String::new(),
        sources,
    })
}

/// The policy's entry. The request is canonical JSON, which has no line ends; as a TOML basic string nothing in it can end it.
fn entry(body: &str, tokens: &[String]) -> String {
    let quoted: Vec<String> = tokens.iter().map(|token| format!("    {},", toml::Value::from(token.as_str()))).collect();
    format!("[[templates]]\nrequest = {}\ndecisions = [\n{}\n]", toml::Value::from(body), quoted.join("\n"))
}
