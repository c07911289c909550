//! Decisions as compact JWS (RFC 7515) under ES256 (RFC 7518, 3.4), and nothing else: one algorithm, one `typ`.
//!
//! Signing is split in two so that the key can live in KMS: [`signing_input`] makes the bytes, [`attach`] takes the signature. The way
//! back checks the signature over the raw bytes before a single claim is parsed.
//!
//! A signature's S may lie in either half of the order, as RFC 7518 allows and KMS produces. The second form of a signature is no
//! second approval: people are counted, not tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::Signature;
use p256::ecdsa::signature::Verifier as _;
use serde::{Deserialize, Serialize};

use crate::{Decision, KeyId, VerifyingKeys};

/// `typ` of a decision.
pub const TYPE: &str = "countersign-decision+jwt";
/// The largest token anyone looks at.
pub const MAX_TOKEN_BYTES: usize = 16_384;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// A decision token as a store gave it.
#[derive(Debug, Clone, Copy)]
pub struct UnverifiedDecision<'a>(&'a str);

/// Why a token is not a decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Not three base64url parts with a header of exactly alg, typ and kid.
    #[error("not a compact JWS with a header of alg, typ and kid")]
    Malformed,
    /// Another algorithm.
    #[error("algorithm is not ES256")]
    Algorithm,
    /// Another type.
    #[error("type is not {TYPE}")]
    Type,
    /// No such key.
    #[error("signed with a key that is not trusted for decisions")]
    UnknownKey,
    /// The signature is not over these bytes by that key.
    #[error("signature does not verify")]
    Signature,
    /// Signed, but not the claims of a decision of a known version.
    #[error("claims are not a version 1 or 2 decision")]
    Claims,
    /// A signature from a signing service that cannot be read.
    #[error("signature is not DER as the signing service should give it")]
    Der,
}

/// The bytes to sign for a decision: encoded header, a dot, encoded claims.
///
/// # Errors
/// Never for values of this type; the signature says so because `serde_json` does.
pub fn signing_input(claims: &Decision, kid: &KeyId) -> Result<String, TokenError> {
    let header = Header { alg: "ES256".to_owned(), typ: TYPE.to_owned(), kid: kid.as_str().to_owned() };
    let header = serde_json::to_vec(&header).map_err(|_| TokenError::Malformed)?;
    let claims = serde_json::to_vec(claims).map_err(|_| TokenError::Claims)?;
    Ok(format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims)))
}

/// The token: signing input, a dot, the 64 bytes of R and S encoded.
#[must_use]
pub fn attach(signing_input: &str, signature: &Signature) -> String {
    format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

/// A signature from the DER form that KMS returns.
///
/// # Errors
/// When it is not that.
pub fn signature_from_der(der: &[u8]) -> Result<Signature, TokenError> {
    Signature::from_der(der).map_err(|_| TokenError::Der)
}

impl<'a> UnverifiedDecision<'a> {
    /// Wraps a token.
    #[must_use]
    pub const fn new(token: &'a str) -> Self {
        Self(token)
    }

    /// Checks header and signature, then parses the claims. What the claims bind is [`crate::verify::quorum`]'s to judge.
    ///
    /// # Errors
    /// Says what does not hold.
    pub fn verify(&self, keys: &VerifyingKeys) -> Result<Decision, TokenError> {
        if self.0.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let (signing_input, signature) = self.0.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signing_input.split_once('.').ok_or(TokenError::Malformed)?;
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| TokenError::Malformed)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
        if header.alg != "ES256" {
            return Err(TokenError::Algorithm);
        }
        if header.typ != TYPE {
            return Err(TokenError::Type);
        }
        let key = keys.get(&header.kid).ok_or(TokenError::UnknownKey)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
        let signature = Signature::from_slice(&signature).map_err(|_| TokenError::Signature)?;
        key.verify(signing_input.as_bytes(), &signature).map_err(|_| TokenError::Signature)?;
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| TokenError::Claims)?;
        let decision: Decision = serde_json::from_slice(&claims).map_err(|_| TokenError::Claims)?;
        let known = match decision.version {
            1 => decision.snapshot.is_none(),
            2 => decision.snapshot.is_some(),
            _ => false,
        };
        if known { Ok(decision) } else { Err(TokenError::Claims) }
    }
}
