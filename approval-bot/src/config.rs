//! The bot's settings, from the environment, parsed whole before anything starts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::bot::Bot;
use crate::links::Links;
use crate::marks::Marks;
use crate::members::Memory;
use crate::policies::{Location, Policies};
use crate::signer::Signer;
use crate::slack::Slack;
use crate::step_up::{Provider, Seals};
use crate::store::{Directory, Dynamo, SharedStore};
use crate::webhook::Webhook;

/// A setting that is missing or does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {why}")]
pub struct ConfigError {
    name: String,
    why: String,
}

impl ConfigError {
    fn new(name: &str, why: impl Into<String>) -> Self {
        Self { name: name.to_owned(), why: why.into() }
    }
}

/// Settings as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    environment: String,
    store: StorePlace,
    signer: SignerPlace,
    marks: MarksPlace,
    policy: PolicyPlace,
    slack_api_url: String,
    slack_secret: SecretPlace,
    slack: Slacks,
    public_url: Option<String>,
    step_up: Option<StepUpPlace>,
    digest_every: Option<Duration>,
    webhook_url: Option<String>,
    webhook_secret: Option<Secret>,
}

/// Where reviewers sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StepUpPlace {
    issuer: String,
    client_id: String,
    client_secret: Option<Secret>,
    scope: String,
    groups_claim: Vec<String>,
}

/// The bot's place in Slack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slacks {
    /// Signing secret of the app.
    pub signing_secret: Secret,
    /// Workspace.
    pub team_id: String,
    /// App.
    pub app_id: String,
    /// Channel of the cards.
    pub channel: String,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum StorePlace {
    Directory(PathBuf),
    DynamoDb(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum SignerPlace {
    File(PathBuf),
    Kms(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum MarksPlace {
    Nowhere,
    Directory(PathBuf),
    S3 { bucket: String, prefix: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PolicyPlace {
    File(PathBuf),
    S3 { bucket: String, key: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum SecretPlace {
    Given { token: Secret, signing: Secret },
    Manager(String),
}

/// The JSON in Secrets Manager.
#[derive(Deserialize)]
struct SlackSecret {
    #[serde(alias = "SLACK_BOT_TOKEN")]
    bot_token: String,
    #[serde(alias = "SLACK_SIGNING_SECRET")]
    signing_secret: String,
    #[serde(default, alias = "COUNTERSIGN_WEBHOOK_SECRET")]
    webhook_secret: Option<String>,
    #[serde(default, alias = "COUNTERSIGN_STEP_UP_CLIENT_SECRET")]
    step_up_client_secret: Option<String>,
}

/// What the bot keeps to itself, as Secrets Manager or the environment has it.
#[derive(Default)]
struct Secrets {
    token: Secret,
    signing: Secret,
    webhook: Option<Secret>,
    step_up: Option<Secret>,
}

impl Settings {
    /// Reads the settings through `get`, usually the process's environment.
    ///
    /// # Errors
    /// Names the first setting that is missing or does not fit.
    pub fn from(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let get = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        let need = |name: &str, what: &str| get(name).ok_or_else(|| ConfigError::new(name, format!("is not set; it is {what}")));
        let slack_secret = match get("SLACK_SECRET_ARN") {
            Some(arn) => SecretPlace::Manager(arn),
            None => SecretPlace::Given {
                token: Secret(need("SLACK_BOT_TOKEN", "the bot token of the Slack app (or set SLACK_SECRET_ARN)")?),
                signing: Secret(need("SLACK_SIGNING_SECRET", "the signing secret of the Slack app (or set SLACK_SECRET_ARN)")?),
            },
        };
        Ok(Self {
            environment: need("COUNTERSIGN_ENVIRONMENT", "the name of the deployment, the same as the proxy's")?,
            store: store(&need("COUNTERSIGN_STORE", "dynamodb:TABLE or directory:PATH")?)?,
            signer: signer(&need("COUNTERSIGN_SIGNER", "kms:KEY or file:PATH")?)?,
            marks: get("COUNTERSIGN_RECORDINGS").map_or(Ok(MarksPlace::Nowhere), |text| marks(&text))?,
            policy: policy(&need("COUNTERSIGN_POLICY", "file:PATH or s3://bucket/key")?)?,
            slack_api_url: get("SLACK_API_URL").unwrap_or_else(|| "https://slack.com/api".to_owned()),
            slack_secret,
            slack: Slacks {
                signing_secret: Secret::default(),
                team_id: need("SLACK_TEAM_ID", "the id of the workspace, T…")?,
                app_id: need("SLACK_APP_ID", "the id of the Slack app, A…")?,
                channel: need("SLACK_CHANNEL", "the id of the channel for cards, C…")?,
            },
            public_url: get("COUNTERSIGN_PUBLIC_URL").map(|url| url.trim_end_matches('/').to_owned()),
            step_up: match get("COUNTERSIGN_STEP_UP_ISSUER") {
                Some(issuer) => Some(StepUpPlace {
                    issuer,
                    client_id: need("COUNTERSIGN_STEP_UP_CLIENT_ID", "the bot's client id at the identity provider")?,
                    client_secret: get("COUNTERSIGN_STEP_UP_CLIENT_SECRET").map(Secret),
                    scope: get("COUNTERSIGN_STEP_UP_SCOPE").map_or(Ok("openid email".to_owned()), |text| scope(&text))?,
                    groups_claim: get("COUNTERSIGN_STEP_UP_GROUPS_CLAIM")
                        .map_or(Ok(vec!["groups".to_owned()]), |text| claim_path(&text))?,
                }),
                None => None,
            },
            digest_every: match get("COUNTERSIGN_DIGEST_HOURS") {
                Some(hours) => digest_every(&hours)?,
                None => None,
            },
            webhook_url: get("COUNTERSIGN_WEBHOOK_URL"),
            webhook_secret: get("COUNTERSIGN_WEBHOOK_SECRET").map(Secret),
        })
    }

    /// Sets the URL under which the bot is reachable, unless one is configured.
    #[must_use]
    pub fn reachable_at(mut self, url: String) -> Self {
        self.public_url.get_or_insert(url);
        self
    }

    fn needs_aws(&self) -> bool {
        matches!(self.store, StorePlace::DynamoDb(_))
            || matches!(self.signer, SignerPlace::Kms(_))
            || matches!(self.policy, PolicyPlace::S3 { .. })
            || matches!(self.marks, MarksPlace::S3 { .. })
            || matches!(self.slack_secret, SecretPlace::Manager(_))
    }

    /// Opens store and key, reads secret and policy.
    ///
    /// # Errors
    /// Names what the operator must mend.
    pub async fn open(self) -> Result<Bot, ConfigError> {
        let aws = if self.needs_aws() { Some(aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await) } else { None };
        let aws = || aws.as_ref().ok_or_else(|| ConfigError::new("AWS", "is not configured"));
        let store: SharedStore = match &self.store {
            StorePlace::Directory(path) => Arc::new(Directory::new(path.clone())),
            StorePlace::DynamoDb(table) => Arc::new(Dynamo::new(aws_sdk_dynamodb::Client::new(aws()?), table.clone())),
        };
        store.check().await.map_err(|error| ConfigError::new("COUNTERSIGN_STORE", error.to_string()))?;
        let fault = |why: String| ConfigError::new("COUNTERSIGN_SIGNER", why);
        let signer = match &self.signer {
            SignerPlace::File(path) => {
                let name = path.display().to_string();
                let pem = tokio::fs::read_to_string(path).await.map_err(|error| fault(format!("{name}: {error}")))?;
                Signer::from_pem(&name, &pem).map_err(|error| fault(error.to_string()))?
            }
            SignerPlace::Kms(key) => {
                Signer::from_kms(aws_sdk_kms::Client::new(aws()?), key).await.map_err(|error| fault(error.to_string()))?
            }
        };
        let s3 = || -> Result<aws_sdk_s3::Client, ConfigError> {
            let config = aws_sdk_s3::config::Builder::from(aws()?).force_path_style(true).build();
            Ok(aws_sdk_s3::Client::from_conf(config))
        };
        let marks = match &self.marks {
            MarksPlace::Nowhere => Marks::Nowhere,
            MarksPlace::Directory(path) => Marks::Directory(path.clone()),
            MarksPlace::S3 { bucket, prefix } => Marks::S3 { client: s3()?, bucket: bucket.clone(), prefix: prefix.clone() },
        };
        let policies = Policies::new(match &self.policy {
            PolicyPlace::File(path) => Location::File(path.clone()),
            PolicyPlace::S3 { bucket, key } => Location::S3 { client: s3()?, bucket: bucket.clone(), key: key.clone() },
        });
        policies.load().await.map_err(|error| ConfigError::new("COUNTERSIGN_POLICY", error.to_string()))?;
        let Secrets { token, signing, webhook: kept, step_up: client_secret } = match self.slack_secret {
            SecretPlace::Given { token, signing } => Secrets { token, signing, ..Secrets::default() },
            SecretPlace::Manager(arn) => from_manager(&aws_sdk_secretsmanager::Client::new(aws()?), &arn).await?,
        };
        let webhook = match &self.webhook_url {
            Some(url) => {
                let fault = |why: &str| ConfigError::new("COUNTERSIGN_WEBHOOK_URL", why);
                let secret =
                    self.webhook_secret.or(kept).ok_or_else(|| fault("needs a secret to sign with: COUNTERSIGN_WEBHOOK_SECRET"))?;
                Some(Webhook::new(url, secret).map_err(|error| fault(&error.to_string()))?)
            }
            None => None,
        };
        let step_up = match &self.step_up {
            Some(place) => {
                let base = self.public_url.as_ref().ok_or_else(|| {
                    ConfigError::new("COUNTERSIGN_PUBLIC_URL", "is not set; the identity provider sends reviewers back to it")
                })?;
                let callback = format!("{base}/step-up/callback");
                let client_secret = place.client_secret.clone().or(client_secret);
                let provider = Provider::new(&place.issuer, &place.client_id, client_secret, callback);
                let provider = provider.map_err(|error| ConfigError::new("COUNTERSIGN_STEP_UP_ISSUER", error.to_string()))?;
                Some(provider.asking(&place.scope, &place.groups_claim))
            }
            None => None,
        };
        let slack = Slack::new(&self.slack_api_url, &token.0).map_err(|error| ConfigError::new("SLACK_API_URL", error.to_string()))?;
        Ok(Bot {
            environment: self.environment,
            store,
            signer,
            policies: Arc::new(policies),
            slack,
            members: Memory::default(),
            links: Links::new(signing.0.as_bytes()),
            marks,
            seals: Seals::new(signing.0.as_bytes()),
            step_up,
            settings: Arc::new(Slacks { signing_secret: signing, ..self.slack }),
            digest_every: self.digest_every,
            webhook,
            clock: crate::clock::Clock::default(),
            acknowledge_after: None,
            public_url: self.public_url,
        })
    }
}

async fn from_manager(client: &aws_sdk_secretsmanager::Client, arn: &str) -> Result<Secrets, ConfigError> {
    let fault = |why: String| ConfigError::new("SLACK_SECRET_ARN", why);
    let answer = client
        .get_secret_value()
        .secret_id(arn)
        .send()
        .await
        .map_err(|error| fault(format!("secretsmanager:GetSecretValue failed: {}", countersign_aws_error::line(&error))))?;
    // The parser's own error would quote the secret.
    let secret: SlackSecret = serde_json::from_str(answer.secret_string().unwrap_or_default())
        .map_err(|_| fault("is not JSON with bot_token and signing_secret".to_owned()))?;
    if secret.bot_token.is_empty() || secret.signing_secret.is_empty() {
        return Err(fault("bot_token or signing_secret is empty".to_owned()));
    }
    let given = |secret: Option<String>| secret.filter(|text| !text.is_empty()).map(Secret);
    Ok(Secrets {
        token: Secret(secret.bot_token),
        signing: Secret(secret.signing_secret),
        webhook: given(secret.webhook_secret),
        step_up: given(secret.step_up_client_secret),
    })
}

/// Space-separated, `openid` among them (OpenID Connect Core 1.0, 3.1.2.1).
fn scope(text: &str) -> Result<String, ConfigError> {
    let scopes: Vec<&str> = text.split_whitespace().collect();
    if scopes.contains(&"openid") {
        Ok(scopes.join(" "))
    } else {
        Err(ConfigError::new("COUNTERSIGN_STEP_UP_SCOPE", "must have openid in it, for example `openid email groups`"))
    }
}

/// The path of a claim: names separated by dots. A name that is a URL is one name, dots and all.
fn claim_path(text: &str) -> Result<Vec<String>, ConfigError> {
    if text.contains("://") {
        return Ok(vec![text.to_owned()]);
    }
    let path: Vec<String> = text.split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err(ConfigError::new(
            "COUNTERSIGN_STEP_UP_GROUPS_CLAIM",
            "must be names separated by single dots, as in realm_access.roles",
        ));
    }
    Ok(path)
}

fn digest_every(text: &str) -> Result<Option<Duration>, ConfigError> {
    match text.trim().parse::<u64>() {
        Ok(0) => Ok(None),
        Ok(hours @ 1..=168) => Ok(Some(Duration::from_secs(hours.saturating_mul(3_600)))),
        _ => Err(ConfigError::new("COUNTERSIGN_DIGEST_HOURS", "must be 0 (none) to 168")),
    }
}

fn store(text: &str) -> Result<StorePlace, ConfigError> {
    match text.split_once(':') {
        Some(("dynamodb", table)) if !table.is_empty() => Ok(StorePlace::DynamoDb(table.to_owned())),
        Some(("directory", path)) if !path.is_empty() => Ok(StorePlace::Directory(path.into())),
        _ => Err(ConfigError::new("COUNTERSIGN_STORE", "must be dynamodb:TABLE or directory:PATH")),
    }
}

fn signer(text: &str) -> Result<SignerPlace, ConfigError> {
    match text.split_once(':') {
        Some(("kms", key)) if !key.is_empty() => Ok(SignerPlace::Kms(key.to_owned())),
        Some(("file", path)) if !path.is_empty() => Ok(SignerPlace::File(path.into())),
        _ => Err(ConfigError::new("COUNTERSIGN_SIGNER", "must be kms:KEY or file:PATH")),
    }
}

fn marks(text: &str) -> Result<MarksPlace, ConfigError> {
    if let Some(path) = text.strip_prefix("directory:").filter(|path| !path.is_empty()) {
        return Ok(MarksPlace::Directory(path.into()));
    }
    let place = text.strip_prefix("s3://").map(|place| place.split_once('/').unwrap_or((place, "")));
    match place {
        Some((bucket, prefix)) if !bucket.is_empty() => {
            let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
            Ok(MarksPlace::S3 { bucket: bucket.to_owned(), prefix: format!("{prefix}{slash}") })
        }
        _ => Err(ConfigError::new("COUNTERSIGN_RECORDINGS", "must be directory:PATH or s3://bucket/prefix")),
    }
}

fn policy(text: &str) -> Result<PolicyPlace, ConfigError> {
    if let Some(path) = text.strip_prefix("file:").filter(|path| !path.is_empty()) {
        return Ok(PolicyPlace::File(path.into()));
    }
    match text.strip_prefix("s3://").and_then(|place| place.split_once('/')) {
        Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
            Ok(PolicyPlace::S3 { bucket: bucket.to_owned(), key: key.to_owned() })
        }
        _ => Err(ConfigError::new("COUNTERSIGN_POLICY", "must be file:PATH or s3://bucket/key")),
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;

    fn settings(change: (&str, Option<&str>)) -> Result<Settings, String> {
        let given = [
            ("COUNTERSIGN_ENVIRONMENT", "demo"),
            ("COUNTERSIGN_STORE", "directory:/tmp/approvals"),
            ("COUNTERSIGN_SIGNER", "file:key.pem"),
            ("COUNTERSIGN_POLICY", "file:policy.toml"),
            ("SLACK_BOT_TOKEN", "xoxb-1"),
            ("SLACK_SIGNING_SECRET", "hush"),
            ("SLACK_TEAM_ID", "T1"),
            ("SLACK_APP_ID", "A1"),
            ("SLACK_CHANNEL", "C1"),
        ];
        let get = |name: &str| match change {
            (changed, value) if changed == name => value.map(ToOwned::to_owned),
            _ => given.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
        };
        Settings::from(get).map_err(|error| error.to_string())
    }

    #[test]
    fn faults_name_the_setting() {
        assert!(settings(("unused", None)).is_ok());
        for (name, value) in [
            ("COUNTERSIGN_ENVIRONMENT", None),
            ("COUNTERSIGN_STORE", Some("dynamodb")),
            ("COUNTERSIGN_SIGNER", Some("pkcs11:1")),
            ("COUNTERSIGN_POLICY", Some("s3://bucket")),
            ("SLACK_BOT_TOKEN", Some(" ")),
            ("SLACK_SIGNING_SECRET", None),
            ("SLACK_TEAM_ID", None),
            ("SLACK_APP_ID", None),
            ("SLACK_CHANNEL", None),
            ("COUNTERSIGN_RECORDINGS", Some("bucket")),
            ("COUNTERSIGN_DIGEST_HOURS", Some("169")),
        ] {
            let error = settings((name, value)).err().unwrap_or_default();
            assert!(error.starts_with(name), "{name}: {error}");
        }
        assert!(settings(("SLACK_SECRET_ARN", Some("arn:aws:secretsmanager:eu-central-1:1:secret:slack"))).is_ok());
        let shown = settings(("unused", None)).map(|settings| format!("{settings:?}")).unwrap_or_default();
        assert!(!shown.contains("hush") && !shown.contains("xoxb"), "{shown}");
    }
}
