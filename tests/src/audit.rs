//! Runs the real `countersign-audit` over a stack's recordings. Owns: its command lines, in one place. Does not own: what it finds.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::client::{Output, run};
use crate::stack::{Stack, Stores};

/// The tool with the store and the keys it is told.
#[derive(Debug, Clone)]
pub struct Audit {
    program: PathBuf,
    store: Vec<String>,
    keys: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Audit {
    /// For the recordings of `stack`.
    #[must_use]
    pub fn new(stack: &Stack) -> Self {
        let store = match &stack.stores {
            Stores::Directory { recordings, .. } => format!("directory:{}", recordings.display()),
            Stores::Aws { deployed, .. } => format!("s3://{}/", deployed.bucket),
        };
        Self {
            program: stack.programs.audit.clone(),
            store: vec!["--store".to_owned(), store],
            keys: vec!["--keys".to_owned(), stack.keys.display().to_string()],
            environment: stack.environment.clone(),
        }
    }

    /// The same for another folder of recordings.
    #[must_use]
    pub fn over(&self, recordings: &Path) -> Self {
        Self { store: vec!["--store".to_owned(), format!("directory:{}", recordings.display())], ..self.clone() }
    }

    /// The same for another store, as `s3://bucket/prefix`.
    #[must_use]
    pub fn at(&self, store: &str) -> Self {
        Self { store: vec!["--store".to_owned(), store.to_owned()], ..self.clone() }
    }

    /// Runs a subcommand.
    ///
    /// # Errors
    /// The program cannot run.
    pub async fn run(&self, subcommand: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = tokio::process::Command::new(&self.program);
        command.arg(subcommand).args(&self.store).args(&self.keys).args(arguments).envs(self.environment.iter().cloned());
        run(command, "countersign-audit").await
    }

    /// The sessions, newest last, as the tool lists them in JSON.
    ///
    /// # Errors
    /// The tool fails or prints no JSON.
    pub async fn sessions(&self) -> Result<Vec<Value>> {
        let output = self.run("list", &["--json"]).await?;
        ensure!(output.status == 0, "countersign-audit list failed: {}", output.stderr);
        serde_json::from_str(&output.stdout).context("list --json is not a list")
    }

    /// Verifies everything there is, or one session.
    ///
    /// # Errors
    /// The program cannot run.
    pub async fn verify(&self, session: Option<&str>) -> Result<Output> {
        self.run("verify", &[session.unwrap_or("--all")]).await
    }
}
