//! The demo: starts a stack, writes the ready file, plays a scripted CI job, and leaves nothing running.
//!
//! Owns: its command line, what it prints, the ready file. Does not own: how a stack is made ([`crate::stack`]).

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::Server;
use crate::localstack::LocalStack;
use crate::stack::{Stack, StackOptions};

mod console;
mod ready;
mod script;

use console::Console;

/// Countersign on this machine: Postgres, issuer, Slack look-alike, bot and proxy, and a CI job that uses them.
#[derive(Debug, Clone, Parser)]
#[command(name = "demo")]
pub struct Options {
    /// Presses Approve by itself instead of waiting for a person on the page.
    #[arg(long)]
    pub auto: bool,
    /// Keeps everything running afterwards, until Ctrl-C or SIGTERM.
    #[arg(long)]
    pub keep: bool,
    /// Does not play the CI job.
    #[arg(long)]
    pub no_script: bool,
    /// Writes this JSON file once everything is up (docs/demo.md).
    #[arg(long, value_name = "FILE")]
    pub ready: Option<PathBuf>,
    /// Another policy than the demo's; `@ISSUER@` in it becomes the issuer's URL.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Another Postgres than a throw-away one: postgres://user:password@host:port/database[?sslmode=verify-full&sslrootcert=FILE]
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// Records asynchronously: faster, with a bounded loss window.
    #[arg(long = "async")]
    pub asynchronous: bool,
    /// Uses LocalStack and the templates in infra/ in place of directories.
    #[arg(long)]
    pub localstack: bool,
    /// One more principal; may be given several times.
    #[arg(long, value_name = "NAME=GROUP,GROUP", value_parser = principal)]
    pub principal: Vec<(String, Vec<String>)>,
}

fn principal(text: &str) -> Result<(String, Vec<String>), String> {
    let (name, groups) = text.split_once('=').unwrap_or((text, ""));
    let sound = |word: &str| !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter));
    if !sound(name) {
        return Err(format!("`{name}` is no name; write name=group,group"));
    }
    let groups: Vec<String> = groups.split(',').map(str::trim).filter(|group| !group.is_empty()).map(ToOwned::to_owned).collect();
    match groups.iter().find(|group| !sound(group)) {
        Some(group) => Err(format!("`{group}` is no group; write name=group,group")),
        None => Ok((name.to_owned(), groups)),
    }
}

/// Runs the demo to its end or until a signal.
///
/// # Errors
/// A part does not start, or the CI job does not see what it should.
pub async fn run(options: Options) -> Result<()> {
    let console = Console::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stopped = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // Said here: what runs is ended before the caller hears of the signal.
        console.line("\nending everything …");
    };
    tokio::pin!(stopped);
    let result = tokio::select! {
        result = play(&options, &console) => result,
        () = &mut stopped => Ok(()),
    };
    if let Some(file) = &options.ready {
        let _ = std::fs::remove_file(file);
    }
    result
}

async fn play(options: &Options, console: &Console) -> Result<()> {
    console.title("Countersign demo");
    let upstream = options.upstream.as_deref().map(Server::from_url).transpose()?;
    ensure!(options.no_script || upstream.is_none(), "the CI job is written for the demo's own bank; give --no-script with --upstream");
    let localstack = if options.localstack {
        console.step("starting LocalStack (the first time takes some minutes)");
        let instance = tokio::task::spawn_blocking(|| LocalStack::start_private("demo")).await??;
        Some(Arc::new(instance))
    } else {
        None
    };
    let stack_options = StackOptions {
        upstream,
        policy: options.policy.clone(),
        asynchronous: options.asynchronous,
        localstack,
        principals: options.principal.clone(),
        show_build: true,
        ..StackOptions::default()
    };
    let mut stack = Stack::start(stack_options, &|text| console.step(text)).await?;
    console.done("everything is up");
    if let Some(file) = &options.ready {
        ready::write(file, &stack).with_context(|| format!("cannot write {}", file.display()))?;
        console.fact("ready file", &file.display().to_string());
    }
    let outcome = if options.no_script { Ok(()) } else { script::play(&stack, options, console).await };
    if options.keep {
        if let Err(error) = &outcome {
            console.bad(&format!("{error:#}"));
        }
        keep(&mut stack, console).await?;
    } else if options.no_script {
        console.line("nothing more to do: --no-script without --keep");
    }
    outcome
}

/// Keeps everything up until a signal drops us; fails when a part ends by itself.
async fn keep(stack: &mut Stack, console: &Console) -> Result<()> {
    console.title("Everything stays up; Ctrl-C ends it");
    let ci = stack.principal("ci")?;
    console.fact("page", &stack.slack.page_url());
    console.fact("policy", &format!("{} (edit it: it is reloaded)", stack.policy.display()));
    console.line("\n  As the CI job:\n");
    console.line(&script::psql_line(stack, ci));
    console.line("");
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        stack.proxy.process().must_run()?;
        if let Some(bot) = stack.bot.as_mut() {
            bot.process().must_run()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_named_with_their_groups() {
        let groups = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(principal("eve=ops,dba"), Ok(("eve".to_owned(), groups(&["ops", "dba"]))));
        assert_eq!(principal("eve"), Ok(("eve".to_owned(), Vec::new())));
        for bad in ["", "=dba", "e ve=x", "eve=a b"] {
            assert!(principal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_the_documented_one() -> Result<()> {
        let words = "demo --auto --keep --no-script --ready r.json --policy p.toml --upstream postgres://a@localhost/b --async --localstack --principal a=b --principal c=d,e";
        let options = Options::try_parse_from(words.split(' '))?;
        assert_eq!(options.principal.len(), 2);
        assert!(options.auto && options.keep && options.no_script && options.asynchronous && options.localstack);
        Ok(())
    }
}
