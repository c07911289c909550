//! Opening what a gateway sealed: with every opening key of a recording, in files or KMS, or with shares that others unwrapped with theirs.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::EncryptionAlgorithmSpec;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use countersign_aws_error as aws_error;
use countersign_recording::{DataKey, Event, Hash, Limits, SealError, Sealed, SessionId, Share, opening_key_id};
use serde::{Deserialize, Serialize};

use crate::load::Session;

/// Where opening keys are.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Opening what is sealed")]
pub struct OpeningKeys {
    /// Private opening key, PKCS#8 PEM (RSA); may be given more than once
    #[arg(long = "open-key", global = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Opening key in KMS: id, ARN or alias; may be given more than once
    #[arg(long = "open-kms-key", global = true, value_name = "KEY")]
    kms: Vec<String>,
    /// Shares that somebody else unwrapped by `open --shares-out`; may be given more than once
    #[arg(long = "open-share", global = true, value_name = "FILE")]
    shares: Vec<PathBuf>,
}

/// Opening keys, opened themselves.
#[derive(Default)]
pub struct Opener {
    files: BTreeMap<String, OaepPrivateDecryptingKey>,
    kms: BTreeMap<String, (aws_sdk_kms::Client, String)>,
    shares: BTreeMap<Hash, [u8; 32]>,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("files", &self.files.keys()).field("kms", &self.kms.keys()).finish_non_exhaustive()
    }
}

/// A share as it goes from the holder of one key to the holder of another.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenShare {
    session: String,
    /// Opening key that it was wrapped for.
    key: String,
    /// SHA-256 of the wrapped share, hex.
    wrapped: String,
    /// The share itself, base64.
    share: String,
}

/// Why something stays sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not all keys are at hand.
    #[error("opening key {0} is needed")]
    Missing(String),
    /// A key does not open what was wrapped for it.
    #[error("opening key {key}: {error}")]
    Unwrap {
        /// Key.
        key: String,
        /// Why.
        error: String,
    },
    /// With all keys, what comes out is not what was sealed.
    #[error(transparent)]
    Sealed(#[from] SealError),
}

impl OpeningKeys {
    /// Reads the keys.
    ///
    /// # Errors
    /// When a file or KMS does not give one.
    pub async fn read(&self) -> anyhow::Result<Opener> {
        let mut opener = Opener::default();
        for file in &self.files {
            let pem = std::fs::read_to_string(file).with_context(|| format!("cannot read the opening key {}", file.display()))?;
            let key = private_key(&pem).with_context(|| format!("opening key {}", file.display()))?;
            let spki = key.public_key().as_der().map_err(|_| anyhow::anyhow!("opening key {}: no public half", file.display()))?;
            let id = opening_key_id(spki.as_ref());
            let key =
                OaepPrivateDecryptingKey::new(key).map_err(|_| anyhow::anyhow!("opening key {}: not for RSAES-OAEP", file.display()))?;
            opener.files.insert(id, key);
        }
        if !self.kms.is_empty() {
            let client = aws_sdk_kms::Client::new(&aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await);
            for key in &self.kms {
                let public = client.get_public_key().key_id(key).send().await;
                let public = public.map_err(|error| anyhow::anyhow!("opening key {key} in KMS: {}", aws_error::line(&error)))?;
                let id = opening_key_id(public.public_key().map(Blob::as_ref).unwrap_or_default());
                opener.kms.insert(id, (client.clone(), key.clone()));
            }
        }
        for file in &self.shares {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the shares {}", file.display()))?;
            for line in text.lines() {
                let share: OpenShare = serde_json::from_str(line).with_context(|| format!("{} holds no shares", file.display()))?;
                let part = STANDARD.decode(&share.share).ok().and_then(|part| <[u8; 32]>::try_from(part).ok());
                let part = part.with_context(|| format!("{}: a share of session {} has not 32 bytes", file.display(), share.session))?;
                opener.shares.insert(share.wrapped.parse().with_context(|| format!("{}: wrapped", file.display()))?, part);
            }
        }
        Ok(opener)
    }
}

fn private_key(pem: &str) -> anyhow::Result<PrivateDecryptingKey> {
    let body = pem.split_once("-----BEGIN PRIVATE KEY-----").and_then(|(_, rest)| rest.split_once("-----END PRIVATE KEY-----"));
    let (body, _) = body.context("not a private key in PKCS#8 PEM (BEGIN PRIVATE KEY)")?;
    let der = STANDARD.decode(body.split_whitespace().collect::<String>()).context("not PEM")?;
    PrivateDecryptingKey::from_pkcs8(&der).map_err(|error| anyhow::anyhow!("not an RSA key: {error}"))
}

impl Opener {
    /// Whether there is anything to open with.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.kms.is_empty() && self.shares.is_empty()
    }

    /// Opens a sealed event. `known` keeps the data keys of a recording between its events.
    ///
    /// # Errors
    /// When it stays sealed.
    pub async fn open(
        &self,
        session: SessionId,
        sealed: &Sealed,
        known: &mut BTreeMap<Hash, [u8; 32]>,
        limits: &Limits,
    ) -> Result<Event, OpenError> {
        let mut parts = Vec::new();
        for share in &sealed.shares {
            let name = Hash::of(&share.wrapped);
            let part = match known.get(&name) {
                Some(part) => *part,
                None => {
                    let part = self.unwrap(share).await?.ok_or_else(|| OpenError::Missing(share.key.clone()))?;
                    known.insert(name, part);
                    part
                }
            };
            parts.push(part);
        }
        Ok(DataKey::of_shares(&parts).open(session, sealed, limits)?)
    }

    /// A share, when there is the key for it.
    async fn unwrap(&self, share: &Share) -> Result<Option<[u8; 32]>, OpenError> {
        if let Some(part) = self.shares.get(&Hash::of(&share.wrapped)) {
            return Ok(Some(*part));
        }
        let failed = |error: String| OpenError::Unwrap { key: share.key.clone(), error };
        let plain = if let Some(key) = self.files.get(&share.key) {
            let mut out = vec![0; key.min_output_size()];
            let plain = key.decrypt(&OAEP_SHA256_MGF1SHA256, &share.wrapped, &mut out, None);
            plain.map_err(|_| failed("it does not open what was wrapped for it".to_owned()))?.to_vec()
        } else if let Some((client, key)) = self.kms.get(&share.key) {
            let request = client.decrypt().key_id(key).encryption_algorithm(EncryptionAlgorithmSpec::RsaesOaepSha256);
            let answer = request.ciphertext_blob(Blob::new(share.wrapped.to_vec())).send().await;
            let answer = answer.map_err(|error| failed(format!("KMS: {}", aws_error::line(&error))))?;
            answer.plaintext().map(Blob::as_ref).unwrap_or_default().to_vec()
        } else {
            return Ok(None);
        };
        <[u8; 32]>::try_from(plain).map(Some).map_err(|_| failed("what was wrapped for it has not 32 bytes".to_owned()))
    }

    /// Writes the shares of a session that these keys unwrap, for the holder of another key. Gives how many.
    ///
    /// # Errors
    /// When there are none, a key refuses, or the file cannot be written.
    pub async fn write_shares(&self, session: &Session, file: &Path) -> anyhow::Result<usize> {
        let mut lines: BTreeMap<Hash, OpenShare> = BTreeMap::new();
        for sealed in session.sealed.values() {
            for share in &sealed.shares {
                let name = Hash::of(&share.wrapped);
                if lines.contains_key(&name) {
                    continue;
                }
                if let Some(part) = self.unwrap(share).await? {
                    let (key, share) = (share.key.clone(), STANDARD.encode(part));
                    lines.insert(name, OpenShare { session: session.id.to_string(), key, wrapped: name.to_string(), share });
                }
            }
        }
        if lines.is_empty() {
            bail!("nothing in session {} was sealed for the keys given", session.id);
        }
        let mut out = std::fs::File::create_new(file).with_context(|| format!("cannot write {}", file.display()))?;
        for line in lines.values() {
            writeln!(out, "{}", serde_json::to_string(line)?)?;
        }
        Ok(lines.len())
    }
}
