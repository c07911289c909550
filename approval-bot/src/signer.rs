//! The key decisions are signed with: in KMS, or in a PEM file where there is no KMS.

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeySpec, KeyUsageType, MessageType, SigningAlgorithmSpec};
use countersign_approval::{Decision, KeyId, VerifyingKeys, jws};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _};
use sha2::{Digest as _, Sha256};

/// Signs decisions.
#[derive(Debug, Clone)]
pub struct Signer {
    key: Key,
    kid: KeyId,
    public: VerifyingKeys,
}

#[derive(Debug, Clone)]
enum Key {
    File(Box<SigningKey>),
    Kms { client: aws_sdk_kms::Client, id: String },
}

/// Why a decision cannot be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The key is not there or not of the right kind.
    #[error("signing key {key}: {why}")]
    Key {
        /// Which.
        key: String,
        /// Why.
        why: String,
    },
    /// The token could not be put together.
    #[error(transparent)]
    Token(#[from] jws::TokenError),
}

impl Signer {
    /// A key from the text of a PKCS#8 PEM file.
    ///
    /// # Errors
    /// When it is not a P-256 key.
    pub fn from_pem(name: &str, pem: &str) -> Result<Self, SignError> {
        let fault = |why: String| SignError::Key { key: name.to_owned(), why };
        let key = SigningKey::from_pkcs8_pem(pem).map_err(|error| fault(format!("not a P-256 key in PKCS#8 PEM form: {error}")))?;
        let der = key.verifying_key().to_public_key_der().map_err(|error| fault(error.to_string()))?;
        Self::with_public(Key::File(Box::new(key)), name, der.as_bytes())
    }

    /// A key in KMS, by id, ARN or alias.
    ///
    /// # Errors
    /// When KMS refuses or the key is of another kind.
    pub async fn from_kms(client: aws_sdk_kms::Client, id: &str) -> Result<Self, SignError> {
        let fault = |why: String| SignError::Key { key: id.to_owned(), why };
        let answer = client
            .get_public_key()
            .key_id(id)
            .send()
            .await
            .map_err(|error| fault(format!("kms:GetPublicKey failed: {}", countersign_aws_error::line(&error))))?;
        if answer.key_usage() != Some(&KeyUsageType::SignVerify) || answer.key_spec() != Some(&KeySpec::EccNistP256) {
            return Err(fault("is not a SIGN_VERIFY key of spec ECC_NIST_P256".to_owned()));
        }
        let der = answer.public_key().ok_or_else(|| fault("KMS returned no public key".to_owned()))?.clone();
        Self::with_public(Key::Kms { client, id: id.to_owned() }, id, der.as_ref())
    }

    fn with_public(key: Key, name: &str, der: &[u8]) -> Result<Self, SignError> {
        let mut public = VerifyingKeys::default();
        let kid = public.add_der(der).map_err(|error| SignError::Key { key: name.to_owned(), why: error.to_string() })?;
        Ok(Self { key, kid, public })
    }

    /// Id of the key.
    #[must_use]
    pub const fn kid(&self) -> &KeyId {
        &self.kid
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &VerifyingKeys {
        &self.public
    }

    /// Signs a decision.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub async fn sign(&self, decision: &Decision) -> Result<String, SignError> {
        let input = jws::signing_input(decision, &self.kid)?;
        let signature: Signature = match &self.key {
            Key::File(key) => key.sign(input.as_bytes()),
            Key::Kms { client, id } => {
                let fault = |why: String| SignError::Key { key: id.clone(), why };
                let answer = client
                    .sign()
                    .key_id(id)
                    .message(Blob::new(Sha256::digest(input.as_bytes()).to_vec()))
                    .message_type(MessageType::Digest)
                    .signing_algorithm(SigningAlgorithmSpec::EcdsaSha256)
                    .send()
                    .await
                    .map_err(|error| fault(format!("kms:Sign failed: {}", countersign_aws_error::line(&error))))?;
                let der = answer.signature().ok_or_else(|| fault("KMS returned no signature".to_owned()))?;
                jws::signature_from_der(der.as_ref())?
            }
        };
        let token = jws::attach(&input, &signature);
        // A signing service that signs something else must not end in a vote that nobody can use.
        countersign_approval::UnverifiedDecision::new(&token).verify(&self.public)?;
        Ok(token)
    }
}
