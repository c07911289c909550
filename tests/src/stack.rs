//! Everything put together: Postgres, issuer, Slack look-alike, stores, bot and proxy, on loopback and thrown away on drop.
//!
//! Owns: the order of starting and the configuration of the parts. Does not own: the parts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rand::Rng as _;

use crate::audit::Audit;
use crate::bot::Bot;
use crate::client::Gateway;
use crate::cluster::{self, Cluster, Server};
use crate::front::Front;
use crate::gateway::{Config, Proxy};
use crate::localstack::{self, Deployment, LocalStack};
use crate::oidc::{AUDIENCE, Claims, Client, Issuer};
use crate::pki::{self, Authority, SigningKey};
use crate::process::Scratch;
use crate::programs::{Programs, Progress, ensure_built};
use crate::slack::{APP, CHANNEL, Slack, TEAM};

/// The demo's policy; `@ISSUER@` stands for the issuer's URL.
pub const POLICY: &str = include_str!("../policies/demo.toml");
/// The bot's client at the issuer.
const BOT_CLIENT: &str = "countersign-bot";
/// Name of the deployment, bound into every decision.
pub const ENVIRONMENT: &str = "demo";

/// What the stack is to be like.
#[derive(Debug, Clone, Default)]
pub struct StackOptions {
    /// A Postgres server in place of the throw-away one.
    pub upstream: Option<Server>,
    /// A policy file in place of the demo's; used where it stands unless it contains `@ISSUER@`.
    pub policy: Option<PathBuf>,
    /// Text put in front of the demo policy's first rule; for scenarios.
    pub first_rules: Option<String>,
    /// `async` durability in place of `strict`.
    pub asynchronous: bool,
    /// LocalStack in place of directories.
    pub localstack: Option<Arc<LocalStack>>,
    /// More principals: name and groups.
    pub principals: Vec<(String, Vec<String>)>,
    /// Plain TCP is accepted beside TLS.
    pub plaintext: bool,
    /// No TLS towards the server.
    pub upstream_plaintext: bool,
    /// SQL run by the superuser before the gateway starts; for scenarios.
    pub setup: Option<String>,
    /// pgbench's tables, at this scale.
    pub pgbench: Option<u32>,
    /// Cargo's progress.
    pub show_build: bool,
}

/// A principal with a token that is good for a day.
#[derive(Debug, Clone)]
pub struct Principal {
    /// What goes into `user`.
    pub user: String,
    /// What goes where the password goes.
    pub token: String,
    /// Groups in the token.
    pub groups: Vec<String>,
}

/// Where approvals and recordings are kept.
#[derive(Debug, Clone)]
pub enum Stores {
    /// In two directories.
    Directory {
        /// Approvals.
        approvals: PathBuf,
        /// Recordings.
        recordings: PathBuf,
    },
    /// On LocalStack.
    Aws {
        /// The instance.
        instance: Arc<LocalStack>,
        /// What was deployed there.
        deployed: localstack::Stack,
    },
}

/// All of it, running. Fields are dropped in this order: clients' side first.
pub struct Stack {
    /// The proxy.
    pub proxy: Proxy,
    /// The bot, unless it runs as a Lambda.
    pub bot: Option<Bot>,
    /// Where browsers reach the bot that runs as a Lambda.
    pub front: Option<Front>,
    /// The Slack look-alike.
    pub slack: Slack,
    /// The issuer.
    pub issuer: Issuer,
    /// How to reach Postgres directly.
    pub upstream: Server,
    /// The throw-away server, unless one was given.
    pub cluster: Option<Cluster>,
    /// How clients reach the gateway.
    pub gateway: Gateway,
    /// Principals by name.
    pub principals: BTreeMap<String, Principal>,
    /// Where things are kept.
    pub stores: Stores,
    /// The policy file in force.
    pub policy: PathBuf,
    /// The key decisions are signed with; on LocalStack KMS has it, and only the public half here is in force.
    pub decision_key: SigningKey,
    /// The key manifests are signed with; as above.
    pub recording_key: SigningKey,
    /// The programs.
    pub programs: Programs,
    /// The proxy's configuration, for starting more of them.
    pub config: Config,
    /// Environment the programs run with.
    pub environment: Vec<(String, String)>,
    /// Folder of the public keys.
    pub keys: PathBuf,
    authority: Authority,
    dir: Scratch,
}

impl Stack {
    /// Starts everything, saying each step to `say`.
    ///
    /// # Errors
    /// A part does not start; the error says which and why.
    pub async fn start(options: StackOptions, say: &(dyn Fn(&str) + Sync)) -> Result<Self> {
        let dir = Scratch::new("stack")?;
        say("building the programs (the first time takes some minutes)");
        let progress = if options.show_build { Progress::Shown } else { Progress::Quiet };
        let programs = tokio::task::spawn_blocking(move || ensure_built(progress)).await??;

        let authority = Authority::new(&dir.path().join("pki"), "Countersign throw-away authority")?;
        let (cluster, upstream) = match &options.upstream {
            Some(server) => (None, server.clone()),
            None => {
                say("starting a throw-away Postgres with a small bank in it");
                let cluster = Cluster::start(&authority).await?;
                let server = cluster.server().clone();
                (Some(cluster), server)
            }
        };
        if let Some(scale) = options.pgbench {
            cluster::fill_pgbench(&upstream, scale).await?;
        }

        if let Some(sql) = &options.setup {
            upstream.oracle().await?.batch_execute(sql).await.context("the setup SQL fails")?;
        }

        say("starting an OIDC issuer and a Slack look-alike");
        let issuer = Issuer::start().await?;
        let slack = Slack::start().await?;
        let policy = write_policy(&options, dir.path(), issuer.url())?;
        let keys = dir.path().join("keys");
        let secrets = dir.path().join("secrets");
        let decision_key = publish(pki::signing_key(&secrets, "decision")?, &keys, "decision")?;
        let recording_key = publish(pki::signing_key(&secrets, "recording")?, &keys, "recording")?;

        let mut environment = Vec::new();
        let mut front = None;
        let (stores, bot) = match &options.localstack {
            None => {
                say("starting the bot");
                let stores = Stores::Directory { approvals: dir.path().join("approvals"), recordings: dir.path().join("recordings") };
                let Stores::Directory { approvals, recordings } = &stores else { anyhow::bail!("unreachable") };
                std::fs::create_dir_all(approvals)?;
                std::fs::create_dir_all(recordings)?;
                let settings = bot_environment(&slack, &issuer, &policy, (approvals, recordings), &decision_key.private);
                let bot = Bot::start(&programs.bot, &dir.path().join("bot"), &settings).await?;
                slack.set_interactions_url(&bot.interactions_url());
                let redirect_uri = format!("{}/step-up/callback", bot.url());
                issuer.register(Client { id: BOT_CLIENT.to_owned(), secret: None, redirect_uri });
                (stores, Some(bot))
            }
            Some(instance) => {
                say("deploying the stacks to LocalStack");
                let before = Front::start().await?;
                // A confidential client, with characters in its secret that a header must not take as they are.
                let secret = format!("{}+%:/&=", cluster::random_password());
                issuer.register(Client {
                    id: BOT_CLIENT.to_owned(),
                    secret: Some(secret.clone()),
                    redirect_uri: format!("{}/step-up/callback", before.url()),
                });
                let place = (before.url(), issuer.url().to_owned(), secret);
                let deployed = deploy(Arc::clone(instance), &programs, &slack, &policy, place).await?;
                kms_public_key(instance, &deployed.decision_key, &decision_key.public).await?;
                kms_public_key(instance, &deployed.recording_key, &recording_key.public).await?;
                let url = deployed.function_url.clone().context("the deployment has no function URL")?;
                slack.set_interactions(&format!("{url}slack/interactions"), instance.client(&deployed)?);
                before.lead_to(&url, instance.address()?)?;
                front = Some(before);
                environment.extend(instance.environment().into_iter().map(|(name, value)| (name.to_owned(), value)));
                (Stores::Aws { instance: Arc::clone(instance), deployed }, None)
            }
        };

        say("starting the proxy");
        let parts = ConfigParts {
            options: &options,
            authority: &authority,
            issuer: &issuer,
            upstream: &upstream,
            policy: &policy,
            stores: &stores,
            bot_url: bot.as_ref().map(Bot::url).or_else(|| front.as_ref().map(Front::url)),
            decision: &decision_key,
            recording: &recording_key,
        };
        let config = parts.config(dir.path())?;
        let proxy = Proxy::start(&programs.proxy, &dir.path().join("proxy"), &config, &environment).await?;
        let gateway = Gateway {
            host: "127.0.0.1".to_owned(),
            port: proxy.port(),
            ca: authority.ca_file().to_owned(),
            database: upstream.database.clone(),
        };

        let mut principals = BTreeMap::new();
        let standing = ["ci", "analyst", "dba"].map(|name| (name.to_owned(), vec![name.to_owned()]));
        for (name, groups) in standing.into_iter().chain(options.principals.iter().cloned()) {
            let named: Vec<&str> = groups.iter().map(String::as_str).collect();
            let token = issuer.mint(&claims(&name, &named))?;
            principals.insert(name.clone(), Principal { user: name, token, groups });
        }
        Ok(Self {
            proxy,
            bot,
            front,
            slack,
            issuer,
            upstream,
            cluster,
            gateway,
            principals,
            stores,
            policy,
            decision_key,
            recording_key,
            programs,
            config,
            environment,
            keys,
            authority,
            dir,
        })
    }

    /// A principal by name.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn principal(&self, name: &str) -> Result<&Principal> {
        self.principals.get(name).with_context(|| format!("no principal `{name}`"))
    }

    /// Connects a principal.
    ///
    /// # Errors
    /// The gateway does not let it in.
    pub async fn connect(&self, name: &str) -> Result<crate::client::Session> {
        let principal = self.principal(name)?;
        self.gateway.connect(&principal.user, &principal.token).await.with_context(|| format!("cannot connect {name}"))
    }

    /// The auditors' tool for this stack's recordings.
    #[must_use]
    pub fn audit(&self) -> Audit {
        Audit::new(self)
    }

    /// Another proxy beside the stack's own, with a bent configuration, in a folder of its own.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn another_proxy(&self, name: &str, config: &Config) -> Result<(Proxy, Gateway)> {
        let proxy = Proxy::start(&self.programs.proxy, &self.dir.path().join(name), config, &self.environment).await?;
        let gateway = Gateway { port: proxy.port(), ..self.gateway.clone() };
        Ok((proxy, gateway))
    }

    /// The same without waiting for it to be ready.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch_proxy(&self, name: &str, config: &Config) -> Result<(Proxy, Gateway)> {
        let proxy = Proxy::launch(&self.programs.proxy, &self.dir.path().join(name), config, &self.environment)?;
        let gateway = Gateway { port: proxy.port(), ..self.gateway.clone() };
        Ok((proxy, gateway))
    }

    /// The authority all certificates come from.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The stack's own folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Folder of the recordings.
    ///
    /// # Errors
    /// They are not kept in a folder.
    pub fn recordings(&self) -> Result<&Path> {
        match &self.stores {
            Stores::Directory { recordings, .. } => Ok(recordings),
            Stores::Aws { .. } => anyhow::bail!("the recordings are in a bucket"),
        }
    }

    /// Folder of the approvals.
    ///
    /// # Errors
    /// They are not kept in a folder.
    pub fn approvals(&self) -> Result<&Path> {
        match &self.stores {
            Stores::Directory { approvals, .. } => Ok(approvals),
            Stores::Aws { .. } => anyhow::bail!("the approvals are in a table"),
        }
    }
}

/// A principal's claims, with what a CI system would add.
#[must_use]
pub fn claims(name: &str, groups: &[&str]) -> Claims {
    let mut claims = Claims::of(name, groups);
    if name == "ci" {
        for (claim, value) in [("repository", "bank/ledger"), ("workflow", "nightly-cleanup"), ("run_id", "4711")] {
            claims.more.insert(claim.to_owned(), value.into());
        }
    }
    claims
}

fn write_policy(options: &StackOptions, dir: &Path, issuer: &str) -> Result<PathBuf> {
    let text = match &options.policy {
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the policy {}", file.display()))?;
            if !text.contains("@ISSUER@") {
                return Ok(std::fs::canonicalize(file)?);
            }
            text
        }
        None => POLICY.to_owned(),
    };
    let mut text = text;
    if let Some(first) = &options.first_rules {
        text = text.replacen("[[rules]]", &format!("{first}\n[[rules]]"), 1);
    }
    let text = text.replace("@ISSUER@", issuer);
    let file = dir.join("policy.toml");
    std::fs::write(&file, text)?;
    Ok(file)
}

/// Puts a copy of the public key where auditors look.
fn publish(key: SigningKey, keys: &Path, name: &str) -> Result<SigningKey> {
    std::fs::create_dir_all(keys)?;
    let public = keys.join(format!("{name}.pub.pem"));
    std::fs::copy(&key.public, &public)?;
    Ok(SigningKey { public, ..key })
}

fn bot_environment(
    slack: &Slack,
    issuer: &Issuer,
    policy: &Path,
    (approvals, recordings): (&Path, &Path),
    signer: &Path,
) -> BTreeMap<String, String> {
    [
        ("COUNTERSIGN_ENVIRONMENT", ENVIRONMENT.to_owned()),
        ("COUNTERSIGN_STORE", format!("directory:{}", approvals.display())),
        ("COUNTERSIGN_RECORDINGS", format!("directory:{}", recordings.display())),
        ("COUNTERSIGN_SIGNER", format!("file:{}", signer.display())),
        ("COUNTERSIGN_POLICY", format!("file:{}", policy.display())),
        ("COUNTERSIGN_STEP_UP_ISSUER", issuer.url().to_owned()),
        ("COUNTERSIGN_STEP_UP_CLIENT_ID", BOT_CLIENT.to_owned()),
        ("SLACK_API_URL", slack.api_url()),
        ("SLACK_BOT_TOKEN", slack.token().to_owned()),
        ("SLACK_SIGNING_SECRET", slack.secret().to_owned()),
        ("SLACK_TEAM_ID", TEAM.to_owned()),
        ("SLACK_APP_ID", APP.to_owned()),
        ("SLACK_CHANNEL", CHANNEL.to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

async fn deploy(
    instance: Arc<LocalStack>,
    programs: &Programs,
    slack: &Slack,
    policy: &Path,
    (public_url, sign_in_at, client_secret): (String, String, String),
) -> Result<localstack::Stack> {
    let (bot, policy) = (programs.bot.clone(), policy.to_owned());
    let (url, token, secret) = (slack.api_url(), slack.token().to_owned(), slack.secret().to_owned());
    tokio::task::spawn_blocking(move || {
        let zip = localstack::lambda_zip(&bot)?;
        let suffix: String = rand::rng().sample_iter(rand::distr::Alphanumeric).take(6).map(char::from).collect();
        let deployed = instance.deploy(&Deployment {
            prefix: &format!("e2e-{}", suffix.to_lowercase()),
            lambda_zip: Some(&zip),
            policy: Some(&policy),
            environment: ENVIRONMENT,
            slack_url: &url,
            slack_token: &token,
            slack_signing_secret: &secret,
            slack_team: TEAM,
            slack_app: APP,
            slack_channel: CHANNEL,
            retention_days: 1,
            sign_in: Some(localstack::SignIn {
                public_url: &public_url,
                issuer: &sign_in_at,
                client: BOT_CLIENT,
                client_secret: &client_secret,
            }),
        });
        if std::env::var_os("COUNTERSIGN_LAMBDA_ZIP").is_none() {
            let _ = std::fs::remove_file(zip);
        }
        deployed
    })
    .await?
}

/// Writes the public half of a KMS key as PEM: what an auditor is given.
async fn kms_public_key(instance: &LocalStack, key: &str, file: &Path) -> Result<()> {
    let aws = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/localstack/venv/bin/aws");
    let mut command = tokio::process::Command::new(aws);
    command
        .args(["kms", "get-public-key", "--key-id", key, "--query", "PublicKey", "--output", "text"])
        .args(["--endpoint-url", &instance.endpoint, "--region", &instance.region])
        .envs(instance.environment());
    let output = crate::client::run(command, "aws kms get-public-key").await?;
    anyhow::ensure!(output.status == 0, "cannot read the public key {key}: {}", output.stderr);
    let body: String = output.stdout.split_whitespace().collect();
    let lines: Vec<&str> = body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    std::fs::write(file, format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")))?;
    Ok(())
}

struct ConfigParts<'a> {
    options: &'a StackOptions,
    authority: &'a Authority,
    issuer: &'a Issuer,
    upstream: &'a Server,
    policy: &'a Path,
    stores: &'a Stores,
    bot_url: Option<String>,
    decision: &'a SigningKey,
    recording: &'a SigningKey,
}

impl ConfigParts<'_> {
    fn config(&self, dir: &Path) -> Result<Config> {
        let path = |path: &Path| path.display().to_string();
        let secret = |name: &str, text: &str| -> Result<toml::Value> {
            let file = dir.join("secrets").join(name);
            pki::write_secret(&file, text)?;
            Ok(toml::Value::Table([("file".to_owned(), toml::Value::String(path(&file)))].into_iter().collect()))
        };
        let certificate = self.authority.server("gateway")?;
        let mut config = Config(toml::Table::new());
        config.0.insert("environment".to_owned(), ENVIRONMENT.into());
        config
            .set("listen", "tls_certificate", path(&certificate.certificate))
            .set("listen", "tls_key", path(&certificate.key))
            .set("listen", "plaintext", self.options.plaintext)
            .set("identity", "issuer", self.issuer.url())
            .set("identity", "audience", AUDIENCE)
            .set("identity", "algorithms", vec!["RS256", "ES256"])
            .set("identity", "kept_claims", vec!["repository", "workflow", "run_id"])
            .set("identity", "jwks_min_interval_seconds", 1)
            .set("identity", "max_session_seconds", 86_400)
            .set("upstream", "host", self.upstream.host.as_str())
            .set("upstream", "port", i64::from(self.upstream.port))
            .set("upstream", "user", self.upstream.user.as_str())
            .set("upstream", "password", secret("upstream", &self.upstream.password)?)
            .set("upstream", "connect_timeout_seconds", 5)
            // Long enough for a loaded machine: tests expect an estimate where one can be had.
            .set("upstream", "estimate_timeout_ms", 30_000)
            .set("policy", "file", path(self.policy))
            .set("policy", "reload_seconds", 1)
            .set("recording", "durability", if self.options.asynchronous { "async" } else { "strict" })
            .set("mask", "key", secret("mask", &hex::encode(rand::rng().random::<[u8; 32]>()))?)
            .set("limits", "drain_seconds", 2);
        match self.upstream.ca.as_ref().filter(|_| !self.options.upstream_plaintext) {
            Some(ca) => config.set("upstream", "tls", "verify-full").set("upstream", "ca", path(ca)),
            None => config.set("upstream", "tls", "disable"),
        };
        if let Some(url) = &self.bot_url {
            config.set("approvals", "bot_url", url.as_str());
        }
        match self.stores {
            Stores::Directory { approvals, recordings } => config
                .set("approvals", "store", "directory")
                .set("approvals", "path", path(approvals))
                .set("approvals", "keys", vec![path(&self.decision.public)])
                .set("recording", "store", "directory")
                .set("recording", "path", path(recordings))
                .set("recording", "signing_key", path(&self.recording.private)),
            Stores::Aws { instance, deployed } => config
                .set("approvals", "store", "dynamodb")
                .set("approvals", "table", deployed.table.as_str())
                .set("approvals", "kms_keys", vec![deployed.decision_key.as_str()])
                .set("recording", "store", "s3")
                .set("recording", "bucket", deployed.bucket.as_str())
                .set("recording", "retention_days", 1)
                .set("recording", "kms_key", deployed.recording_key.as_str())
                .set("aws", "endpoint", instance.endpoint.as_str())
                .set("aws", "region", instance.region.as_str()),
        };
        Ok(config)
    }
}
