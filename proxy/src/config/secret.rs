//! Secrets by reference: read when they are used, so that a new value needs no restart. Values never show in `Debug` output.

use std::{fmt, path::PathBuf};

use super::{Aws, ConfigError, check::Place, raw};

/// Where a secret is kept.
#[derive(Clone)]
pub enum Secret {
    /// In the configuration itself.
    Literal(SecretValue),
    /// In an environment variable.
    Env(String),
    /// In a file; one line ending at its end is not part of the secret.
    File(PathBuf),
    /// In AWS Secrets Manager.
    SecretsManager {
        /// Name or ARN.
        id: String,
        /// Key of a JSON secret; the whole text when absent.
        key: Option<String>,
    },
}

/// A secret's text.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(String);

/// A secret that cannot be had. Never holds its value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Environment variable.
    #[error("environment variable {0} is not set or not text (set it, or name a file)")]
    Env(String),
    /// File.
    #[error("cannot read secret file {path}: {error}")]
    File {
        /// Path.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// Secrets Manager.
    #[error("cannot read secret {id} from Secrets Manager: {error}")]
    SecretsManager {
        /// Name or ARN.
        id: String,
        /// Why.
        error: String,
    },
    /// RDS IAM.
    #[error("cannot make an RDS IAM token: {0}")]
    RdsIam(String),
    /// Nothing in it.
    #[error("secret {0} is empty")]
    Empty(String),
}

impl Secret {
    pub(super) fn from_raw(key: &str, value: &toml::Spanned<raw::Secret>, place: &Place<'_>) -> Result<Self, ConfigError> {
        let fault = |message: &str| {
            place.fault(key, value.span(), message).hint("write it as { file = \"path\" }, { env = \"NAME\" } or { secret = \"ARN\" }")
        };
        let secret = match value.get_ref() {
            raw::Secret::Literal(text) => Self::Literal(SecretValue(text.clone())),
            raw::Secret::Reference(reference) => match (&reference.env, &reference.file, &reference.secret) {
                (Some(name), None, None) => Self::Env(name.clone()),
                (None, Some(path), None) => Self::File(super::resolve(place.base, path)),
                (None, None, Some(id)) => Self::SecretsManager { id: id.clone(), key: reference.key.clone() },
                _ => return Err(fault("must name exactly one of env, file and secret")),
            },
        };
        if matches!(&secret, Self::Literal(SecretValue(text)) if text.is_empty()) {
            return Err(fault("must not be empty"));
        }
        if let (raw::Secret::Reference(reference), false) = (value.get_ref(), matches!(secret, Self::SecretsManager { .. }))
            && reference.key.is_some()
        {
            return Err(fault("`key` belongs to `secret` only"));
        }
        Ok(secret)
    }

    /// Reads the secret.
    ///
    /// # Errors
    /// Names the place that did not have it, never a value.
    pub async fn read(&self, aws: &Aws) -> Result<SecretValue, SecretError> {
        let text = match self {
            Self::Literal(value) => return Ok(value.clone()),
            Self::Env(name) => std::env::var(name).map_err(|_| SecretError::Env(name.clone()))?,
            Self::File(path) => {
                let text =
                    tokio::fs::read_to_string(path).await.map_err(|error| SecretError::File { path: path.display().to_string(), error })?;
                text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text)).unwrap_or(&text).to_owned()
            }
            Self::SecretsManager { id, key } => secrets_manager(id, key.as_deref(), aws).await?,
        };
        if text.is_empty() { Err(SecretError::Empty(self.to_string())) } else { Ok(SecretValue(text)) }
    }
}

async fn secrets_manager(id: &str, key: Option<&str>, aws: &Aws) -> Result<String, SecretError> {
    let fault = |error: String| SecretError::SecretsManager { id: id.to_owned(), error };
    let client = aws_sdk_secretsmanager::Client::new(&aws.sdk_config().await);
    let answer = client.get_secret_value().secret_id(id).send().await;
    let answer = answer.map_err(|error| fault(countersign_aws_error::line(&error)))?;
    let text = answer.secret_string().ok_or_else(|| fault("it is binary, not text".to_owned()))?;
    let Some(key) = key else { return Ok(text.to_owned()) };
    let object: serde_json::Value =
        serde_json::from_str(text).map_err(|_| fault("it is not JSON, but a key of it was asked for".to_owned()))?;
    object.get(key).and_then(serde_json::Value::as_str).map(str::to_owned).ok_or_else(|| fault(format!("it has no text under {key:?}")))
}

impl SecretValue {
    /// Wraps a text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text. Not for logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(secret)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("in the configuration"),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::SecretsManager { id, .. } => write!(f, "secret {id}"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({self})")
    }
}
