//! ES256 (RFC 7518 section 3.4) keys. Signatures are the 64 bytes `r || s` with the low `s`, so that there is one for each.

use std::collections::BTreeMap;

use p256::ecdsa::signature::DigestSigner as _;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _};
use sha2::{Digest as _, Sha256};

use super::ids::KeyId;
use super::object::FormatError;

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a private key.
    #[error("expected a P-256 private key as PKCS#8 PEM (make one by `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`)")]
    Private,
    /// Not a public key.
    #[error("expected a P-256 public key as SPKI (make it by `openssl pkey -pubout`)")]
    Public,
    /// The signature's bytes are no signature.
    #[error("expected a DER signature over P-256")]
    Signature,
}

/// A private key held in memory.
#[derive(Clone)]
pub struct SigningKey {
    key: p256::ecdsa::SigningKey,
    spki: Vec<u8>,
    id: KeyId,
}

impl SigningKey {
    /// From PKCS#8 PEM.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        Self::of(p256::ecdsa::SigningKey::from_pkcs8_pem(pem).map_err(|_| KeyError::Private)?)
    }

    /// From 32 random bytes: a task's own key. Fails for the very few values that are no scalar.
    ///
    /// # Errors
    /// When the bytes are no scalar; draw again.
    pub fn from_random(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        Self::of(p256::ecdsa::SigningKey::from_slice(bytes).map_err(|_| KeyError::Private)?)
    }

    fn of(key: p256::ecdsa::SigningKey) -> Result<Self, KeyError> {
        let spki = key.verifying_key().to_public_key_der().map_err(|_| KeyError::Private)?.into_vec();
        let id = KeyId::of_spki(&spki);
        Ok(Self { key, spki, id })
    }

    /// Id of the public half.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The public half, SPKI DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The public half, SPKI PEM.
    ///
    /// # Errors
    /// Never for a key that was made here.
    pub fn public_pem(&self) -> Result<String, KeyError> {
        self.key.verifying_key().to_public_key_pem(p256::pkcs8::LineEnding::LF).map_err(|_| KeyError::Public)
    }

    /// Signs a message.
    ///
    /// # Errors
    /// When the curve arithmetic refuses, which it does for no message known.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], FormatError> {
        let mut hasher = Sha256::new();
        hasher.update(message);
        self.sign_digest(hasher)
    }

    pub(crate) fn sign_digest(&self, hasher: Sha256) -> Result<[u8; 64], FormatError> {
        let signature: Signature = self.key.try_sign_digest(hasher).map_err(|_| FormatError::Malformed("signing failed"))?;
        Ok(low_s(signature).to_bytes().into())
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

/// The 64 bytes of a signature that came as DER, as KMS gives it.
///
/// # Errors
/// When it is none.
pub fn signature_from_der(der: &[u8]) -> Result<[u8; 64], KeyError> {
    let signature = Signature::from_der(der).map_err(|_| KeyError::Signature)?;
    Ok(low_s(signature).to_bytes().into())
}

fn low_s(signature: Signature) -> Signature {
    signature.normalize_s().unwrap_or(signature)
}

/// Public keys a reader trusts.
#[derive(Debug, Clone, Default)]
pub struct Keys(BTreeMap<KeyId, VerifyingKey>);

impl Keys {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key as SPKI PEM and gives its id.
    ///
    /// # Errors
    /// When it is no such key.
    pub fn add_pem(&mut self, pem: &str) -> Result<KeyId, KeyError> {
        self.add(VerifyingKey::from_public_key_pem(pem).map_err(|_| KeyError::Public)?)
    }

    /// Adds a key as SPKI DER and gives its id.
    ///
    /// # Errors
    /// When it is no such key.
    pub fn add_der(&mut self, der: &[u8]) -> Result<KeyId, KeyError> {
        self.add(VerifyingKey::from_public_key_der(der).map_err(|_| KeyError::Public)?)
    }

    fn add(&mut self, key: VerifyingKey) -> Result<KeyId, KeyError> {
        let der = key.to_public_key_der().map_err(|_| KeyError::Public)?;
        let id = KeyId::of_spki(der.as_bytes());
        self.0.insert(id.clone(), key);
        Ok(id)
    }

    /// Ids of the keys.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.0.keys()
    }

    /// Whether a key is among them.
    #[must_use]
    pub fn contains(&self, id: &KeyId) -> bool {
        self.0.contains_key(id)
    }

    /// Whether the key of that id signed the message.
    pub(crate) fn verifies(&self, id: &KeyId, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.get(id).is_some_and(|key| verifies(key, message, signature))
    }
}

pub(crate) fn verifies(key: &VerifyingKey, message: &[u8], signature: &[u8; 64]) -> bool {
    Signature::from_slice(signature).is_ok_and(|signature| signature.normalize_s().is_none() && key.verify(message, &signature).is_ok())
}
