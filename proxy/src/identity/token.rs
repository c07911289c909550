//! A token nobody has checked yet, and the check of its signature.
//!
//! RFC 7515 (JWS compact serialization), RFC 7519 (JWT), RFC 8725 (what goes wrong with them).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Validation, decode};
use serde_json::{Map, Value};

use super::{IdentityError, jwks::Key};
use crate::{
    config::Algorithm,
    error::{ClientError, sqlstate},
};

/// What came as password. Never shown.
pub struct UnverifiedToken(String);

impl std::fmt::Debug for UnverifiedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnverifiedToken(secret)")
    }
}

/// What the token's own header says, within what is accepted. Nothing of it is true before the signature is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
}

impl UnverifiedToken {
    /// From the body of a PasswordMessage.
    ///
    /// # Errors
    /// When it is not a zero-terminated text.
    pub fn from_password(body: &[u8]) -> Result<Self, ClientError> {
        let violation = || ClientError::new(sqlstate::PROTOCOL_VIOLATION, "invalid password message");
        let (last, text) = body.split_last().ok_or_else(violation)?;
        if *last != 0 || text.contains(&0) {
            return Err(violation());
        }
        let text = String::from_utf8(text.to_vec()).map_err(|_| IdentityError::Malformed("it is not text").client())?;
        Ok(Self(text.trim().to_owned()))
    }

    /// From the credentials of a bearer.
    #[must_use]
    pub(crate) fn from_bearer(token: &str) -> Self {
        Self(token.to_owned())
    }

    /// Reads the header and holds it against the accepted algorithms.
    pub(super) fn header(&self, accepted: &[Algorithm]) -> Result<Header, IdentityError> {
        let mut parts = self.0.split('.');
        let (Some(header), Some(_), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(IdentityError::Malformed("a JWT has three parts separated by dots"));
        };
        let bytes = URL_SAFE_NO_PAD.decode(header).map_err(|_| IdentityError::Malformed("its header is not base64url"))?;
        let header: Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|_| IdentityError::Malformed("its header is not a JSON object"))?;
        let name = header.get("alg").and_then(Value::as_str).ok_or(IdentityError::Malformed("its header names no algorithm"))?;
        let algorithm =
            accepted.iter().copied().find(|algorithm| algorithm.name() == name).ok_or_else(|| IdentityError::Algorithm(plain(name)))?;
        if header.contains_key("crit") {
            return Err(IdentityError::Malformed("its header demands extensions"));
        }
        if signature.is_empty() {
            return Err(IdentityError::Signature);
        }
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(IdentityError::Malformed("its key id is not text")),
        };
        Ok(Header { algorithm, key_id })
    }

    /// Verifies the signature with exactly this key and algorithm, and hands out the claims. They are still to be checked.
    pub(super) fn verify(&self, header: &Header, key: &Key) -> Result<Value, IdentityError> {
        // The library's own claim checks are off: `claims::check` makes them with the same clock for all and with words for people.
        let mut validation = Validation::new(header.algorithm.into());
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let verified = decode::<Value>(&self.0, &key.decoding, &validation);
        verified.map(|data| data.claims).map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::Json(_) | jsonwebtoken::errors::ErrorKind::Utf8(_) => {
                IdentityError::Malformed("its claims are not JSON")
            }
            _ => IdentityError::Signature,
        })
    }
}

/// The token's own word for its algorithm, made fit for a log line.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).take(16).collect()
}

impl Algorithm {
    /// The registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::RS256 => Self::RS256,
            Algorithm::RS384 => Self::RS384,
            Algorithm::RS512 => Self::RS512,
            Algorithm::PS256 => Self::PS256,
            Algorithm::PS384 => Self::PS384,
            Algorithm::PS512 => Self::PS512,
            Algorithm::ES256 => Self::ES256,
            Algorithm::ES384 => Self::ES384,
            Algorithm::EdDSA => Self::EdDSA,
        }
    }
}
