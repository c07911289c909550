//! Runs the real `countersign-bot` as a server. Owns: its process. Does not own: the stores or Slack.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::process::{Process, Signal, free_port, last_lines};

/// A running bot.
#[derive(Debug)]
pub struct Bot {
    process: Process,
    port: u16,
}

impl Bot {
    /// Starts the bot with `environment` and waits until it listens.
    ///
    /// # Errors
    /// It ends, or does not listen within half a minute; the error carries its last log lines.
    pub async fn start(program: &Path, dir: &Path, environment: &BTreeMap<String, String>) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let port = free_port()?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--listen").arg(format!("127.0.0.1:{port}")).envs(environment).env_remove("AWS_LAMBDA_RUNTIME_API");
        let mut process = Process::spawn("countersign-bot", command, &dir.join("bot.log"), Signal::Term)?;
        let end = Instant::now() + Duration::from_secs(30);
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            process.must_run()?;
            ensure!(Instant::now() < end, "the bot does not listen; its log:\n{}", last_lines(&process.output(), 15));
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        Ok(Self { process, port })
    }

    /// Its own address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where Slack posts presses.
    #[must_use]
    pub fn interactions_url(&self) -> String {
        format!("http://127.0.0.1:{}/slack/interactions", self.port)
    }

    /// The process behind it.
    #[must_use]
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Everything it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }
}
