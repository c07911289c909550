//! The document as written: what serde reads before anything is checked. Unknown keys are errors; values that later checks may refuse
//! carry their place in the text.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) environment: Spanned<String>,
    pub(super) listen: Listen,
    pub(super) admin: Admin,
    pub(super) identity: Identity,
    pub(super) upstream: Upstream,
    pub(super) policy: Spanned<Policy>,
    pub(super) approvals: Spanned<Approvals>,
    pub(super) recording: Spanned<Recording>,
    pub(super) aws: Option<Aws>,
    pub(super) mask: Option<Mask>,
    pub(super) limits: Option<Limits>,
    pub(super) runtime: Option<Runtime>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listen {
    pub(super) address: Spanned<String>,
    pub(super) tls_certificate: Option<Spanned<PathBuf>>,
    pub(super) tls_key: Option<Spanned<PathBuf>>,
    pub(super) plaintext: Option<Spanned<bool>>,
    pub(super) tls_reload_seconds: Option<Spanned<u64>>,
    pub(super) proxy_protocol_from: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) address: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    pub(super) issuer: Spanned<String>,
    pub(super) audience: Spanned<OneOrMany>,
    pub(super) algorithms: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) groups_claim: Option<Spanned<String>>,
    pub(super) email_claim: Option<Spanned<String>>,
    pub(super) subject_claim: Option<Spanned<String>>,
    pub(super) kept_claims: Option<Vec<Spanned<String>>>,
    pub(super) leeway_seconds: Option<Spanned<u64>>,
    pub(super) max_session_seconds: Option<Spanned<u64>>,
    pub(super) jwks_refresh_seconds: Option<Spanned<u64>>,
    pub(super) jwks_min_interval_seconds: Option<Spanned<u64>>,
    pub(super) methods: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) oauth_users: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) oauth_scope: Option<Spanned<String>>,
    pub(super) ca: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings")]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) host: Spanned<String>,
    pub(super) port: Option<Spanned<u16>>,
    pub(super) user: Spanned<String>,
    pub(super) password: Option<Spanned<Secret>>,
    pub(super) rds_iam: Option<Spanned<bool>>,
    pub(super) client_certificate: Option<Spanned<PathBuf>>,
    pub(super) client_key: Option<Spanned<PathBuf>>,
    pub(super) database: Option<Spanned<String>>,
    pub(super) tls: Option<Spanned<String>>,
    pub(super) ca: Option<Spanned<PathBuf>>,
    pub(super) connect_timeout_seconds: Option<Spanned<u64>>,
    pub(super) catalog_refresh_seconds: Option<Spanned<u64>>,
    pub(super) estimate_timeout_ms: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) roles: Vec<UpstreamRole>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamRole {
    pub(super) groups: Spanned<Vec<String>>,
    pub(super) user: Spanned<String>,
    pub(super) password: Spanned<Secret>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    pub(super) file: Option<Spanned<PathBuf>>,
    pub(super) s3: Option<Spanned<String>>,
    pub(super) reload_seconds: Option<Spanned<u64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Approvals {
    pub(super) store: Spanned<String>,
    pub(super) path: Option<Spanned<PathBuf>>,
    pub(super) table: Option<Spanned<String>>,
    pub(super) keys: Option<Vec<Spanned<PathBuf>>>,
    pub(super) kms_keys: Option<Vec<Spanned<String>>>,
    pub(super) poll_interval_ms: Option<Spanned<u64>>,
    pub(super) resume: Option<bool>,
    pub(super) keep_finished_days: Option<Spanned<u64>>,
    pub(super) bot_url: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recording {
    pub(super) store: Spanned<String>,
    pub(super) path: Option<Spanned<PathBuf>>,
    pub(super) bucket: Option<Spanned<String>>,
    pub(super) prefix: Option<Spanned<String>>,
    pub(super) retention_days: Option<Spanned<u32>>,
    pub(super) retention_mode: Option<Spanned<String>>,
    pub(super) durability: Option<Spanned<String>>,
    pub(super) encryption_key: Option<Spanned<String>>,
    pub(super) flush_interval_ms: Option<Spanned<u64>>,
    pub(super) retry_window_seconds: Option<Spanned<u64>>,
    pub(super) digest_interval_seconds: Option<Spanned<u64>>,
    pub(super) orphan_after_seconds: Option<Spanned<u64>>,
    pub(super) signing_key: Option<Spanned<PathBuf>>,
    pub(super) kms_key: Option<Spanned<String>>,
    pub(super) seal_literals: Option<Spanned<String>>,
    pub(super) seal_keys: Option<Vec<Spanned<PathBuf>>>,
    pub(super) seal_kms_keys: Option<Vec<Spanned<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Aws {
    pub(super) region: Option<Spanned<String>>,
    pub(super) endpoint: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mask {
    pub(super) key: Spanned<Secret>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) startup_seconds: Option<Spanned<u64>>,
    pub(super) max_sessions: Option<Spanned<u32>>,
    pub(super) max_sessions_per_source: Option<Spanned<u32>>,
    pub(super) max_logins: Option<Spanned<u32>>,
    pub(super) idle_seconds: Option<Spanned<u64>>,
    pub(super) drain_seconds: Option<Spanned<u64>>,
    pub(super) max_statement_bytes: Option<Spanned<u64>>,
    pub(super) max_held_client_bytes: Option<Spanned<u64>>,
    pub(super) max_buffer_bytes: Option<Spanned<u64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Runtime {
    pub(super) threads: Option<Spanned<u32>>,
}

/// A secret as written: text, or where it is kept.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a string, { env = \"NAME\" }, { file = \"path\" } or { secret = \"ARN\" }")]
pub(super) enum Secret {
    Literal(String),
    Reference(SecretReference),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretReference {
    pub(super) env: Option<String>,
    pub(super) file: Option<PathBuf>,
    pub(super) secret: Option<String>,
    /// Key within a JSON secret of Secrets Manager.
    pub(super) key: Option<String>,
}
