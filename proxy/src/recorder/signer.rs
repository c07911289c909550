//! What signs manifests and the statement of the task: a key file, or KMS.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{MessageType, SigningAlgorithmSpec};
use countersign_recording::v1::keys::{KeyError, signature_from_der};
use countersign_recording::{KeyId, Keys, Unsigned};

use super::StartError;
use crate::config::SigningKey;
use countersign_aws_error as aws_error;

/// Signs by ES256.
#[async_trait]
pub trait ManifestSigner: std::fmt::Debug + Send + Sync + 'static {
    /// Id of the key.
    fn key_id(&self) -> &KeyId;

    /// The public key, in SPKI DER.
    fn public_key(&self) -> &[u8];

    /// The signature, `r || s` with the low `s`.
    async fn sign(&self, unsigned: &Unsigned) -> Result<[u8; 64], SignerError>;
}

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The file cannot be read.
    #[error("recording key {path}: {error}")]
    File {
        /// Path.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The file is no such key.
    #[error("recording key {path}: {error}")]
    Key {
        /// Path.
        path: String,
        /// Why.
        error: KeyError,
    },
    /// KMS refused or did not answer.
    #[error(
        "recording key {key} in KMS: {error} (hint: kms_key must name an enabled SIGN_VERIFY key of spec ECC_NIST_P256 in this account and region, which the task's role may use for kms:GetPublicKey and kms:Sign)"
    )]
    Kms {
        /// Key.
        key: String,
        /// Why.
        error: String,
    },
    /// A key in memory refused.
    #[error("recording key: {0}")]
    Signing(String),
}

/// The configured signer.
pub(super) async fn open(key: &SigningKey, aws: Option<&SdkConfig>) -> Result<Arc<dyn ManifestSigner>, StartError> {
    Ok(match key {
        SigningKey::File(path) => Arc::new(PemSigner::open(path)?),
        SigningKey::Kms(key) => Arc::new(KmsSigner::open(aws.ok_or(StartError::NoAws)?, key).await?),
    })
}

/// A key from a PEM file.
#[derive(Debug)]
pub struct PemSigner(countersign_recording::SigningKey);

impl PemSigner {
    /// Reads it.
    ///
    /// # Errors
    /// When the file is not a P-256 key in PKCS#8 PEM.
    pub fn open(path: &Path) -> Result<Self, SignerError> {
        let name = || path.display().to_string();
        let pem = std::fs::read_to_string(path).map_err(|error| SignerError::File { path: name(), error })?;
        countersign_recording::SigningKey::from_pem(&pem).map(Self).map_err(|error| SignerError::Key { path: name(), error })
    }
}

impl From<countersign_recording::SigningKey> for PemSigner {
    fn from(key: countersign_recording::SigningKey) -> Self {
        Self(key)
    }
}

#[async_trait]
impl ManifestSigner for PemSigner {
    fn key_id(&self) -> &KeyId {
        self.0.id()
    }

    fn public_key(&self) -> &[u8] {
        self.0.spki()
    }

    async fn sign(&self, unsigned: &Unsigned) -> Result<[u8; 64], SignerError> {
        self.0.sign(unsigned.signing_input().as_bytes()).map_err(|error| SignerError::Signing(error.to_string()))
    }
}

/// A key in KMS, `ECC_NIST_P256` for `SIGN_VERIFY`.
#[derive(Debug)]
pub struct KmsSigner {
    client: aws_sdk_kms::Client,
    key: String,
    id: KeyId,
    public_key: Vec<u8>,
}

impl KmsSigner {
    /// Looks the key up.
    ///
    /// # Errors
    /// When KMS refuses or the key is of another kind.
    pub async fn open(aws: &SdkConfig, key: &str) -> Result<Self, SignerError> {
        let failed = |error: String| SignerError::Kms { key: key.to_owned(), error };
        let client = aws_sdk_kms::Client::new(aws);
        let output = client.get_public_key().key_id(key).send().await;
        let output = output.map_err(|error| failed(format!("GetPublicKey: {}", aws_error::line(&error))))?;
        let der = output.public_key().map(Blob::as_ref).unwrap_or_default();
        let id = Keys::new().add_der(der).map_err(|error| failed(error.to_string()))?;
        Ok(Self { client, key: key.to_owned(), id, public_key: der.to_vec() })
    }
}

#[async_trait]
impl ManifestSigner for KmsSigner {
    fn key_id(&self) -> &KeyId {
        &self.id
    }

    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    async fn sign(&self, unsigned: &Unsigned) -> Result<[u8; 64], SignerError> {
        let failed = |error: String| SignerError::Kms { key: self.key.clone(), error };
        let output = self
            .client
            .sign()
            .key_id(&self.key)
            .message_type(MessageType::Digest)
            .signing_algorithm(SigningAlgorithmSpec::EcdsaSha256)
            .message(Blob::new(unsigned.digest()))
            .send()
            .await
            .map_err(|error| failed(format!("Sign: {}", aws_error::line(&error))))?;
        signature_from_der(output.signature().map(Blob::as_ref).unwrap_or_default()).map_err(|error| failed(error.to_string()))
    }
}
