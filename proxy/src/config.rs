//! The proxy's configuration: one strict TOML file, one module per concern, validated whole before any port opens.
//!
//! Owns parsing, defaults, and every check that needs nothing but the file. Secrets stay references ([`Secret`]) until they are used;
//! relative paths are relative to the file's own directory. `docs/configuration.md` is this module in prose.

mod approvals;
mod aws;
mod check;
mod error;
mod identity;
mod limits;
mod listen;
mod policy;
mod raw;
mod recording;
mod secret;
mod upstream;

use std::path::{Path, PathBuf};

pub use aws::Aws;
pub use error::ConfigError;
pub use identity::{Algorithm, Identity, Methods};
pub use limits::{Limits, Runtime};
pub use listen::{Admin, Listen, Network, TlsFiles};
pub use policy::{PolicyLocation, PolicySettings};
pub use recording::{Durability, OpeningKey, Recording, RecordingStore, RetentionMode, Sealing, SigningKey};
pub use secret::{Secret, SecretError, SecretValue};
pub use upstream::{Credential, Upstream, UpstreamTls};

use check::Place;

/// The whole configuration, valid.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the deployment. Bound into every approval and recording.
    pub environment: String,
    /// `[listen]`
    pub listen: Listen,
    /// `[admin]`
    pub admin: Admin,
    /// `[identity]`
    pub identity: Identity,
    /// `[upstream]`
    pub upstream: Upstream,
    /// `[policy]`
    pub policy: PolicySettings,
    /// `[approvals]`
    pub approvals: crate::approvals::ApprovalsConfig,
    /// `[recording]`
    pub recording: Recording,
    /// `[aws]`
    pub aws: Aws,
    /// `[mask] key`: 32 bytes in hex.
    pub mask_key: Option<Secret>,
    /// `[limits]`
    pub limits: Limits,
    /// `[runtime]`
    pub runtime: Runtime,
}

impl Config {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// Names the file, line, column and key of the first fault, and how to mend it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))?;
        let base = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Self::parse(&text, &base).map_err(|error| error.in_file(path))
    }

    /// Validates a document whose relative paths are relative to `base`.
    ///
    /// # Errors
    /// As [`Config::load`], without the file.
    pub fn parse(text: &str, base: &Path) -> Result<Self, ConfigError> {
        let raw: raw::Document = toml::from_str(text).map_err(|error| ConfigError::syntax(text, &error))?;
        let place = Place { text, base };
        let environment = place.name("environment", &raw.environment)?;
        let config = Self {
            environment,
            listen: Listen::from_raw(&raw.listen, &place)?,
            admin: Admin::from_raw(&raw.admin, &place)?,
            identity: Identity::from_raw(&raw.identity, &place)?,
            upstream: Upstream::from_raw(&raw.upstream, &place)?,
            policy: PolicySettings::from_raw(&raw.policy, &place)?,
            approvals: approvals::from_raw(&raw.approvals, &place)?,
            recording: Recording::from_raw(&raw.recording, &place)?,
            aws: Aws::from_raw(raw.aws.as_ref(), &place)?,
            mask_key: raw.mask.as_ref().map(|mask| Secret::from_raw("mask.key", &mask.key, &place)).transpose()?,
            limits: Limits::from_raw(raw.limits.as_ref(), &place)?,
            runtime: Runtime::from_raw(raw.runtime.as_ref(), &place)?,
        };
        config.check_ports(&raw, &place)?;
        Ok(config)
    }

    /// Whether anything configured needs AWS.
    #[must_use]
    pub fn uses_aws(&self) -> bool {
        matches!(self.recording.store, RecordingStore::S3 { .. })
            || matches!(self.recording.signing_key, SigningKey::Kms(_))
            || self.recording.sealing.iter().flat_map(|sealing| &sealing.keys).any(|key| matches!(key, OpeningKey::Kms(_)))
            || self.approvals.store == crate::approvals::StoreKind::DynamoDb
            || !self.approvals.kms_keys.is_empty()
            || matches!(self.policy.location, PolicyLocation::S3 { .. })
    }

    fn check_ports(&self, raw: &raw::Document, place: &Place<'_>) -> Result<(), ConfigError> {
        if self.listen.address == self.admin.address && self.listen.address.port() != 0 {
            return Err(place
                .fault("admin.address", raw.admin.address.span(), format!("{} is the address of [listen] too", self.admin.address))
                .hint("give the admin server a port of its own"));
        }
        Ok(())
    }
}

/// Joins a configured path to the directory of the configuration file.
fn resolve(base: &Path, path: &Path) -> PathBuf {
    if path.is_absolute() { path.to_path_buf() } else { base.join(path) }
}

#[cfg(test)]
mod tests;
