//! LocalStack and the project's stacks on it: starts one by `localstack/up`, deploys `infra/` to it by `localstack/deploy`.
//!
//! Owns: one shared instance for all test binaries of a run, private instances for the demo, and that none is left behind. Does not own:
//! how LocalStack is installed and run (the scripts in `localstack/`), nor what the stacks hold (`infra/`).
//!
//! Everybody who uses an instance holds a shared lock on its users file for as long as they live. The instance ends by itself once
//! nobody has held that lock for a while, so a killed test run leaves nothing running.

#[cfg(test)]
mod tests;

use std::{
    fs::{File, OpenOptions},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::Credentials;
use serde::Deserialize;

/// How long the shared instance stays when no test binary uses it: longer than the pause between two of them.
const SHARED_LINGER: Duration = Duration::from_secs(90);
/// How long a private instance outlives an owner that was killed.
const PRIVATE_LINGER: Duration = Duration::from_secs(3);

/// A running LocalStack, and the promise that it stays while this value lives.
#[derive(Debug)]
pub struct LocalStack {
    /// Base address of every service, as `http://127.0.0.1:4566`.
    pub endpoint: String,
    /// The region everything is in.
    pub region: String,
    /// Process id of the instance's supervisor.
    pub pid: u32,
    /// Set for an instance that ends with this value.
    private: Option<PathBuf>,
    _lease: File,
}

/// What one deployment is made of.
#[derive(Debug, Clone)]
pub struct Deployment<'a> {
    /// Names the stacks; deployments with different prefixes live side by side. Lower case letters, digits and dashes.
    pub prefix: &'a str,
    /// The bot's zip. Without it only the data stack is made.
    pub lambda_zip: Option<&'a Path>,
    /// Policy document for the bot, uploaded to the configuration bucket.
    pub policy: Option<&'a Path>,
    /// The environment's name.
    pub environment: &'a str,
    /// Base address of Slack's Web API, or of what stands in for it.
    pub slack_url: &'a str,
    /// Slack bot token.
    pub slack_token: &'a str,
    /// Slack signing secret.
    pub slack_signing_secret: &'a str,
    /// Slack workspace.
    pub slack_team: &'a str,
    /// Slack app.
    pub slack_app: &'a str,
    /// Slack channel of the cards.
    pub slack_channel: &'a str,
    /// Days of retention under Object Lock.
    pub retention_days: u32,
    /// Where the bot is reached by browsers, and where reviewers sign in; without it the bot has no pages of its own.
    pub sign_in: Option<SignIn<'a>>,
}

/// Sign-ins of reviewers.
#[derive(Debug, Clone)]
pub struct SignIn<'a> {
    /// Base address of the bot for browsers, without a slash at the end.
    pub public_url: &'a str,
    /// Issuer.
    pub issuer: &'a str,
    /// The bot's client id there.
    pub client: &'a str,
    /// Its secret.
    pub client_secret: &'a str,
}

impl Default for Deployment<'_> {
    fn default() -> Self {
        Self {
            prefix: "countersign",
            lambda_zip: None,
            policy: None,
            environment: "test",
            slack_url: "http://127.0.0.1:9",
            slack_token: "xoxb-test",
            slack_signing_secret: "test",
            slack_team: "T0TEST",
            slack_app: "A0TEST",
            slack_channel: "C0TEST",
            retention_days: 1,
            sign_in: None,
        }
    }
}

/// What a deployment made.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Stack {
    /// Bucket of the recordings, under Object Lock.
    #[serde(rename = "RecordingsBucket")]
    pub bucket: String,
    /// Bucket of policies and zips; the policy's key is `policy/policy.toml`.
    #[serde(rename = "ConfigurationBucket")]
    pub configuration_bucket: String,
    /// Table of the approvals.
    #[serde(rename = "ApprovalsTable")]
    pub table: String,
    /// KMS key that signs decisions (ARN).
    #[serde(rename = "DecisionKeyArn")]
    pub decision_key: String,
    /// KMS key that signs manifests (ARN).
    #[serde(rename = "RecordingKeyArn")]
    pub recording_key: String,
    /// Secret with the bot's Slack token and signing secret (ARN).
    #[serde(rename = "SlackSecretArn")]
    pub secret_arn: String,
    /// Name of the bot's function, if there is one.
    pub function_name: Option<String>,
    /// Address of the bot's function, if there is one, ending in `/`. Its host resolves nowhere: call it through [`LocalStack::client`].
    pub function_url: Option<String>,
}

#[derive(Deserialize)]
struct Ready {
    endpoint: String,
    region: String,
    pid: u32,
}

impl LocalStack {
    /// The instance shared by all tests of a run, started if need be (about ten seconds; some minutes the very first time, when it is
    /// installed). Blocks: call it through `spawn_blocking` from async code.
    ///
    /// # Errors
    ///
    /// When it cannot be installed or started; the message is the script's.
    pub fn start() -> Result<Self> {
        Self::up(&run_directory()?.join("shared.json"), SHARED_LINGER, false)
    }

    /// An instance of one's own, which ends when the value is dropped.
    ///
    /// # Errors
    ///
    /// As [`LocalStack::start`].
    pub fn start_private(name: &str) -> Result<Self> {
        Self::up(&run_directory()?.join(format!("{name}-{}.json", std::process::id())), PRIVATE_LINGER, true)
    }

    fn up(ready: &Path, linger: Duration, private: bool) -> Result<Self> {
        // One at a time looks and starts. The lease comes before the look, so that what is found cannot end meanwhile.
        let gate = open_lock(&ready.with_extension("gate"))?;
        gate.lock().context("cannot lock the gate of LocalStack")?;
        let users = ready.with_extension("users");
        let lease = open_lock(&users)?;
        lease.lock_shared().context("cannot lock the users file of LocalStack")?;
        let output = Command::new(root().join("localstack/up"))
            .arg("--ready")
            .arg(ready)
            .arg("--users")
            .arg(&users)
            .args(["--linger", &linger.as_secs().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run localstack/up")?;
        ensure!(output.status.success(), "localstack/up failed ({}); what it said is above", output.status);
        let Ready { endpoint, region, pid } = serde_json::from_slice(&output.stdout).context("localstack/up printed no ready file")?;
        Ok(Self { endpoint, region, pid, private: private.then(|| ready.to_owned()), _lease: lease })
    }

    /// Creates the stacks of one deployment from the templates in `infra/`. Blocks for some ten seconds.
    ///
    /// # Errors
    ///
    /// When a stack fails; the reasons of its resources go to standard error.
    pub fn deploy(&self, deployment: &Deployment<'_>) -> Result<Stack> {
        let mut command = Command::new(root().join("localstack/deploy"));
        command
            .args(["--endpoint", &self.endpoint, "--prefix", deployment.prefix, "--environment", deployment.environment])
            .args(["--slack-url", deployment.slack_url, "--slack-token", deployment.slack_token])
            .args(["--slack-signing-secret", deployment.slack_signing_secret, "--slack-team", deployment.slack_team])
            .args(["--slack-app", deployment.slack_app, "--slack-channel", deployment.slack_channel])
            .args(["--retention-days", &deployment.retention_days.to_string()]);
        if let Some(zip) = deployment.lambda_zip {
            command.arg("--lambda-zip").arg(zip);
        }
        if let Some(sign_in) = &deployment.sign_in {
            command.args(["--public-url", sign_in.public_url, "--step-up-issuer", sign_in.issuer]);
            command.args(["--step-up-client", sign_in.client, "--step-up-client-secret", sign_in.client_secret]);
        }
        if let Some(policy) = deployment.policy {
            command.arg("--policy").arg(policy);
        }
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot run localstack/deploy")?;
        ensure!(output.status.success(), "localstack/deploy failed ({}); what it said is above", output.status);
        serde_json::from_slice(&output.stdout).context("localstack/deploy printed no outputs")
    }

    /// What the environment of a program must hold for its AWS SDK to talk to this instance.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_REGION", self.region.clone()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }

    /// What an AWS SDK client made in this process needs.
    pub async fn sdk_config(&self) -> SdkConfig {
        aws_config::defaults(BehaviorVersion::latest())
            .endpoint_url(&self.endpoint)
            .region(Region::new(self.region.clone()))
            .credentials_provider(Credentials::new("test", "test", None, None, "localstack"))
            .load()
            .await
    }

    /// An HTTP client that finds a stack's Function URL here.
    ///
    /// # Errors
    ///
    /// When the stack has no function or its address cannot be read.
    pub fn client(&self, stack: &Stack) -> Result<reqwest::Client> {
        let url = stack.function_url.as_deref().context("the stack has no function")?;
        let url = reqwest::Url::parse(url).context("the function's address is no URL")?;
        let host = url.host_str().context("the function's address has no host")?;
        Ok(reqwest::Client::builder().no_proxy().resolve(host, self.address()?).build()?)
    }

    /// Where the gateway listens.
    ///
    /// # Errors
    ///
    /// When the endpoint is not an address with a port.
    pub fn address(&self) -> Result<SocketAddr> {
        self.endpoint.strip_prefix("http://").unwrap_or(&self.endpoint).parse().context("the endpoint is not an address and a port")
    }
}

impl Drop for LocalStack {
    fn drop(&mut self) {
        if let Some(ready) = &self.private {
            let _ = Command::new(root().join("localstack/down")).arg(ready).stdin(Stdio::null()).status();
            for extension in ["users", "gate", "json.log"] {
                let _ = std::fs::remove_file(ready.with_extension(extension));
            }
        }
    }
}

/// The bot's zip: what `COUNTERSIGN_LAMBDA_ZIP` names, otherwise one made from `program`, a `countersign-bot` built for this machine.
/// (LocalStack runs functions on this machine; for AWS, `infra/build-lambda` builds against the libraries of `provided.al2023`.)
///
/// # Errors
///
/// When the file cannot be read or the zip not written.
pub fn lambda_zip(program: &Path) -> Result<PathBuf> {
    if let Some(zip) = std::env::var_os("COUNTERSIGN_LAMBDA_ZIP") {
        let zip = PathBuf::from(zip);
        ensure!(zip.is_file(), "COUNTERSIGN_LAMBDA_ZIP names {}, which is not a file", zip.display());
        return Ok(zip);
    }
    if !program.is_file() {
        bail!("{} is not there (cargo build --package countersign-bot)", program.display());
    }
    let zip = run_directory()?.join(format!("bootstrap-{}.zip", std::process::id()));
    zip_program(program, &zip)
}

fn zip_program(program: &Path, zip: &Path) -> Result<PathBuf> {
    let status = Command::new(root().join("target/localstack/venv/bin/python"))
        .arg(root().join("localstack/zip_bootstrap.py"))
        .arg(program)
        .arg(zip)
        .stdin(Stdio::null())
        .status()
        .context("cannot run the Python that localstack/up installed")?;
    ensure!(status.success(), "the bot's zip could not be written");
    Ok(zip.to_owned())
}

fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn run_directory() -> Result<PathBuf> {
    let directory = root().join("target/localstack/run");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
