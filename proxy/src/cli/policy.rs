//! `countersign-proxy policy check | explain | test | replay | snapshot | schema`: lint a policy, say why a statement gets its decision, run tables
//! of examples, try a new policy over recorded sessions.
#![expect(clippy::print_stdout, reason = "a command line's answer goes to standard output")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use countersign_policy::catalog::{CatalogBuilder, QUERIES, Snapshot};
use countersign_policy::judge::STACK_BYTES;
use countersign_policy::{Catalog, GroupSource, JudgeRequest, Judgement, Policy, Principal, SessionState, Verdict, foresee_masks, judge};
use serde::Deserialize;

mod explain;
mod replay;
mod snapshot;

use explain::{Explanation, verdict_name};
pub use replay::ReplayArgs;

/// Check, explain and test policies.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Validate a policy document.
    Check {
        /// The document.
        file: PathBuf,
    },
    /// Say what a statement is, which rules were tried, and what is decided.
    Explain(ExplainArgs),
    /// Run tables of statement, principal and expected decision.
    Test {
        /// Files of `[[case]]` tables.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Judge recorded sessions by a new policy, and say what would change.
    Replay(ReplayArgs),
    /// Print the catalog of a database, as `--catalog` takes it. Runs psql.
    Snapshot {
        /// As psql's: `host=… dbname=…` or a URL. Its password comes from PGPASSWORD or the password file.
        connection: String,
    },
    /// Print the JSON Schema of the policy document.
    Schema,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// The policy.
    #[arg(long)]
    policy: PathBuf,
    /// The statement text.
    #[arg(long, required_unless_present = "sql_file", allow_hyphen_values = true)]
    sql: Option<String>,
    /// A file with the statement text, for long ones; `-` is standard input.
    #[arg(long, conflicts_with = "sql")]
    sql_file: Option<PathBuf>,
    /// Texts the session sent before it, in order; for SET, PREPARE, temporary tables.
    #[arg(long, allow_hyphen_values = true)]
    after: Vec<String>,
    /// Who asks: `subject`, `subject:group,group`, or `:group,group`; a subject with `@` is the e-mail address too.
    #[arg(long = "as", value_parser = parse_somebody)]
    principal: String,
    /// A verified claim of whoever asks, `name=value`; may be given more than once.
    #[arg(long = "claim", value_parser = parse_claim)]
    claims: Vec<(String, String)>,
    /// The database's name, as the policy knows it.
    #[arg(long, default_value = "postgres")]
    database: String,
    /// A catalog snapshot (JSON); without one only built-in relations are known.
    #[arg(long)]
    catalog: Option<PathBuf>,
    /// Seconds since the epoch, for rules with times; default now.
    #[arg(long)]
    at: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A file of examples.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Examples {
    /// Policy, relative to this file.
    policy: PathBuf,
    /// Catalog snapshot, relative to this file.
    catalog: Option<PathBuf>,
    #[serde(default = "default_database")]
    database: String,
    #[serde(rename = "case")]
    cases: Vec<Example>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    sql: String,
    #[serde(rename = "as")]
    principal: String,
    expect: Expected,
    rule: Option<String>,
    /// Seconds since the epoch, for rules with times.
    at: Option<u64>,
    #[serde(default)]
    claims: BTreeMap<String, String>,
    /// Statements of the same session before it.
    #[serde(default)]
    after: Vec<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Allow,
    Deny,
    Hold,
}

impl Expected {
    const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Hold => "hold",
        }
    }
}

fn default_database() -> String {
    "postgres".to_owned()
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be read or is not what it should be.
pub fn run(args: PolicyArgs) -> anyhow::Result<ExitCode> {
    // Judging recurses over the statement's tree.
    let worker = std::thread::Builder::new().name("policy".to_owned()).stack_size(STACK_BYTES).spawn(move || command(args.command))?;
    worker.join().map_err(|_| anyhow::anyhow!("the judge stopped unexpectedly"))?
}

fn command(command: PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Check { file } => {
            let policy = load_policy(&file)?;
            println!(
                "{}: valid, {}, {}, {}{}, sha256 {}",
                file.display(),
                counted(policy.rules().len(), "rule"),
                counted(policy.masks().len(), "mask"),
                counted(policy.roster().people().len(), "reviewer"),
                elsewhere(policy.roster().sources()),
                policy.digest()
            );
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Explain(args) => explain(&args),
        PolicyCommand::Test { files } => test(&files),
        PolicyCommand::Replay(args) => replay::run(&args),
        PolicyCommand::Snapshot { connection } => snapshot::run(&connection),
        PolicyCommand::Schema => {
            println!("{}", serde_json::to_string_pretty(&countersign_policy::document::json_schema())?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Groups whose members the document does not list.
fn elsewhere(sources: &[GroupSource]) -> String {
    let said: Vec<String> = sources.iter().map(ToString::to_string).collect();
    if said.is_empty() { String::new() } else { format!(" and {}", said.join(", ")) }
}

fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let policy = load_policy(&args.policy)?;
    let catalog = load_catalog(args.catalog.as_deref())?;
    let principal = Principal { claims: args.claims.iter().cloned().collect(), ..parse_principal(&args.principal) };
    let fresh = SessionState::new(&principal, &args.database, &[]);
    let request = JudgeRequest {
        policy: &policy,
        principal: &principal,
        database: &args.database,
        catalog: &catalog,
        state: &fresh,
        parameter_types: &[],
        now: args.at.unwrap_or_else(now),
    };
    let mut state = fresh.clone();
    for (index, before) in args.after.iter().enumerate() {
        let judgement = judge(before, &JudgeRequest { state: &state, ..request });
        if let Verdict::Deny(denial) = &judgement.verdict {
            let number = index.saturating_add(1);
            anyhow::bail!("text {number} of --after would not have run: {} (rule {})", denial.message, judgement.rule);
        }
        state.forwarded(&judgement);
    }
    let sql = match (&args.sql, &args.sql_file) {
        (Some(sql), _) => sql.clone(),
        (None, Some(file)) if file.as_os_str() == "-" => std::io::read_to_string(std::io::stdin()).context("reading standard input")?,
        (None, Some(file)) => std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?,
        (None, None) => anyhow::bail!("give the statement by --sql or --sql-file"),
    };
    let judgement = judge(&sql, &JudgeRequest { state: &state, ..request });
    let columns = foresee_masks(&judgement, &JudgeRequest { state: &state, ..request });
    let explanation = Explanation { principal: &principal, database: &args.database, judgement: &judgement, columns };
    let mut text = if args.json { serde_json::to_string_pretty(&explanation.json())? + "\n" } else { explanation.text() };
    if !args.json && args.catalog.is_none() {
        text += "\nNo --catalog was given: tables, views and functions other than PostgreSQL's own are unknown.\n";
    }
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads it has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => Ok(written.map(|()| ExitCode::SUCCESS)?),
    }
}

fn decide(policy: &Policy, catalog: &Catalog, principal: &Principal, database: &str, example: &Example) -> Judgement {
    let mut state = SessionState::new(principal, database, &[]);
    let now = example.at.unwrap_or(0);
    let judged = |sql: &str, state: &SessionState| {
        judge(sql, &JudgeRequest { policy, principal, database, catalog, state, parameter_types: &[], now })
    };
    for before in &example.after {
        let judgement = judged(before, &state);
        state.forwarded(&judgement);
    }
    judged(&example.sql, &state)
}

fn test(files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let (mut run, mut failed) = (0_usize, 0_usize);
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let examples: Examples = toml::from_str(&text).map_err(|error| not_examples(file, &text, &error))?;
        let folder = file.parent().unwrap_or(Path::new("."));
        let policy = load_policy(&folder.join(&examples.policy))?;
        let catalog = load_catalog(examples.catalog.as_ref().map(|path| folder.join(path)).as_deref())?;
        for (index, example) in examples.cases.iter().enumerate() {
            run += 1;
            let principal = Principal { claims: example.claims.clone(), ..parse_principal(&example.principal) };
            let judgement = decide(&policy, &catalog, &principal, &examples.database, example);
            let found = verdict_name(&judgement.verdict);
            let as_expected = found == example.expect.name() && example.rule.as_ref().is_none_or(|rule| *rule == judgement.rule);
            if !as_expected {
                failed += 1;
                println!(
                    "{} case {}: expected {}{}, found {found} by rule {}: {}",
                    file.display(),
                    index + 1,
                    example.expect.name(),
                    example.rule.as_ref().map(|rule| format!(" by rule {rule}")).unwrap_or_default(),
                    judgement.rule,
                    example.sql
                );
            }
        }
    }
    println!("{run} examples, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn load_policy(file: &Path) -> anyhow::Result<Policy> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    Policy::parse(&text).with_context(|| format!("in {}", file.display()))
}

fn load_catalog(file: Option<&Path>) -> anyhow::Result<Catalog> {
    if let Some(file) = file {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let snapshot = Snapshot::from_json(&text).with_context(|| format!("{} is no catalog snapshot", file.display()))?;
        return snapshot.build().with_context(|| format!("in {}", file.display()));
    }
    let mut builder = CatalogBuilder::default();
    if let Some(defaults) = QUERIES.iter().position(|query| query.name == "defaults") {
        builder.row(defaults, &[Some("nobody"), Some("\"$user\", public"), Some("postgres"), Some("150000")])?;
    }
    Ok(builder.finish()?)
}

/// Where and why a file of examples cannot be read, without its text.
fn not_examples(file: &Path, text: &str, error: &toml::de::Error) -> anyhow::Error {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let (line, column) = (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1);
    anyhow::anyhow!("in {}: line {line}, column {column}: {}", file.display(), error.message())
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn parse_claim(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `--as` names somebody, or a group at least.
fn parse_somebody(text: &str) -> Result<String, String> {
    let who = parse_principal(text);
    if who.subject.is_empty() && who.groups.is_empty() {
        return Err("it names nobody: give `subject`, `subject:group,group` or `:group,group`".to_owned());
    }
    Ok(text.to_owned())
}

fn parse_principal(text: &str) -> Principal {
    let (subject, groups) = text.split_once(':').unwrap_or((text, ""));
    let groups: BTreeSet<String> = groups.split(',').filter(|group| !group.is_empty()).map(str::to_owned).collect();
    Principal {
        issuer: "explain".to_owned(),
        subject: subject.to_owned(),
        email: subject.contains('@').then(|| subject.to_owned()),
        groups,
        claims: BTreeMap::new(),
    }
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
