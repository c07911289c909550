//! The public keys decisions may be signed with.

use std::collections::BTreeMap;

use p256::ecdsa::VerifyingKey;
use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _};
use sha2::{Digest as _, Sha256};

/// First 16 hex digits of SHA-256 over the key's SPKI DER.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

/// Public keys decisions may be signed with, by key id.
#[derive(Debug, Clone, Default)]
pub struct VerifyingKeys {
    keys: BTreeMap<KeyId, VerifyingKey>,
}

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a P-256 SPKI key.
    #[error("not a P-256 public key in SubjectPublicKeyInfo form: {0}")]
    NotP256(p256::pkcs8::spki::Error),
}

impl KeyId {
    /// The id of a key.
    ///
    /// # Errors
    /// When the key cannot be encoded, which a valid key always can.
    pub fn of(key: &VerifyingKey) -> Result<Self, KeyError> {
        let der = key.to_public_key_der().map_err(KeyError::NotP256)?;
        let mut hex = hex::encode(Sha256::digest(der.as_bytes()));
        hex.truncate(16);
        Ok(Self(hex))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl VerifyingKeys {
    /// Adds a key from an SPKI PEM text (`-----BEGIN PUBLIC KEY-----`).
    ///
    /// # Errors
    /// When it is not a P-256 public key.
    pub fn add_pem(&mut self, pem: &str) -> Result<KeyId, KeyError> {
        let key = VerifyingKey::from_public_key_pem(pem).map_err(KeyError::NotP256)?;
        self.add(key)
    }

    /// Adds a key from SPKI DER, as KMS `GetPublicKey` gives it.
    ///
    /// # Errors
    /// When it is not a P-256 public key.
    pub fn add_der(&mut self, der: &[u8]) -> Result<KeyId, KeyError> {
        let key = VerifyingKey::from_public_key_der(der).map_err(KeyError::NotP256)?;
        self.add(key)
    }

    fn add(&mut self, key: VerifyingKey) -> Result<KeyId, KeyError> {
        let id = KeyId::of(&key)?;
        self.keys.insert(id.clone(), key);
        Ok(id)
    }

    /// The key of an id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&VerifyingKey> {
        self.keys.get(&KeyId(id.to_owned()))
    }

    /// Ids of all keys.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.keys.keys()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}
