//! Runs the real `countersign-proxy` with a configuration made for it.
//!
//! Owns: writing the configuration, starting, readiness, logs, metrics. Does not own: what stands in the configuration.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process::{Process, Signal, free_port};

/// A proxy's configuration: the TOML document itself, so that cases can bend any key.
#[derive(Debug, Clone)]
pub struct Config(pub toml::Table);

impl Config {
    /// Sets `section.key`; creates the section where it is missing.
    pub fn set(&mut self, section: &str, key: &str, value: impl Into<toml::Value>) -> &mut Self {
        if let toml::Value::Table(table) = self.0.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new())) {
            table.insert(key.to_owned(), value.into());
        }
        self
    }

    /// Removes `section.key`.
    pub fn unset(&mut self, section: &str, key: &str) -> &mut Self {
        if let Some(toml::Value::Table(table)) = self.0.get_mut(section) {
            table.remove(key);
        }
        self
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    port: u16,
    admin: u16,
    config: PathBuf,
}

impl Proxy {
    /// Starts the proxy without waiting for anything; ports are chosen here.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch(program: &Path, dir: &Path, config: &Config, environment: &[(String, String)]) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let (port, admin) = (free_port()?, free_port()?);
        let mut config = config.clone();
        config.set("listen", "address", format!("127.0.0.1:{port}")).set("admin", "address", format!("127.0.0.1:{admin}"));
        let file = dir.join("proxy.toml");
        crate::pki::write_secret(&file, &toml::to_string(&config.0)?)?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(&file).envs(environment.iter().cloned());
        let process = Process::spawn("countersign-proxy", command, &dir.join("proxy.log"), Signal::Term)?;
        Ok(Self { process, port, admin, config: file })
    }

    /// Starts the proxy and waits until it says it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready within a minute; the error carries its last log lines.
    pub async fn start(program: &Path, dir: &Path, config: &Config, environment: &[(String, String)]) -> Result<Self> {
        let mut last = None;
        for _ in 0..3 {
            let mut proxy = Self::launch(program, dir, config, environment)?;
            match proxy.ready(Duration::from_secs(60)).await {
                Ok(()) => return Ok(proxy),
                // Someone else took the port between asking and listening.
                Err(error) if error.to_string().to_lowercase().contains("in use") => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("not tried")))
    }

    /// Waits until `/readyz` says so.
    ///
    /// # Errors
    /// It ends, or is not ready within `limit`.
    pub async fn ready(&mut self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            self.process.must_run()?;
            match self.probe("readyz").await {
                Ok((200, _)) => return Ok(()),
                last if Instant::now() >= end => {
                    bail!(
                        "the proxy is not ready after {} s ({last:?}); its log:\n{}",
                        limit.as_secs(),
                        crate::process::last_lines(&self.log(), 15)
                    )
                }
                _ => tokio::time::sleep(Duration::from_millis(30)).await,
            }
        }
    }

    /// Asks the admin port for `healthz`, `readyz` or `metrics`.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn probe(&self, what: &str) -> Result<(u16, String)> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let answer = client.get(format!("http://127.0.0.1:{}/{what}", self.admin)).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Where it listens for clients.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Where its metrics are.
    #[must_use]
    pub fn metrics_url(&self) -> String {
        format!("http://127.0.0.1:{}/metrics", self.admin)
    }

    /// Where its log goes.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        self.process.log()
    }

    /// Its configuration file.
    #[must_use]
    pub fn config_file(&self) -> &Path {
        &self.config
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

    /// Its log lines that are JSON objects.
    #[must_use]
    pub fn log_lines(&self) -> Vec<Value> {
        json_lines(&self.log())
    }

    /// Log lines of level WARN or ERROR.
    #[must_use]
    pub fn complaints(&self) -> Vec<Value> {
        let level = |line: &Value| line.get("level").and_then(Value::as_str).map(str::to_ascii_uppercase);
        self.log_lines().into_iter().filter(|line| matches!(level(line).as_deref(), Some("WARN" | "ERROR"))).collect()
    }

    /// Waits until a log line contains `text`.
    ///
    /// # Errors
    /// None does within `limit`.
    pub async fn wait_for_log(&self, text: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            if Instant::now() >= end {
                bail!("no log line with `{text}`; the last ones:\n{}", crate::process::last_lines(&log, 15));
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

/// The JSON objects among the lines of a text.
#[must_use]
pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
}

/// The value of a metric whose line starts with `name`, summed over its labels; `None` when there is no such metric.
///
/// # Errors
/// The metrics cannot be read.
pub async fn metric(url: &str, name: &str) -> Result<Option<f64>> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let text = client.get(url).send().await.context("no metrics")?.text().await?;
    let mut sum = None;
    for line in text.lines().filter(|line| line.starts_with(name)) {
        let rest = line.get(name.len()..).unwrap_or_default();
        if !rest.starts_with([' ', '{']) {
            continue;
        }
        if let Some(value) = rest.rsplit(' ').next().and_then(|text| text.parse::<f64>().ok()) {
            sum = Some(sum.unwrap_or(0.0) + value);
        }
    }
    Ok(sum)
}
