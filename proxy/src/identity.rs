//! From a password that claims to be a token to a principal.
//!
//! The signature is verified over the token's raw bytes with a key of the issuer's own, then the claims are read and each checked; only
//! that makes a [`Principal`]. Owns the checks and the issuer's keys; which principal may do what is the policy's business.

mod claims;
mod error;
mod jwks;
mod token;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use countersign_policy::Principal;

use crate::config;

pub use error::{IdentityError, IdentitySetupError};
pub use token::UnverifiedToken;

use jwks::KeyStore;

/// Checks tokens of one issuer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Verifier {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: config::Identity,
    keys: KeyStore,
}

/// A principal and until when its token speaks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Who.
    pub principal: Principal,
    /// `exp`, seconds since the epoch.
    pub expires_at: u64,
}

impl Verifier {
    /// Makes a verifier that has no keys yet. Fetches run on `runtime`, whoever asks for them.
    ///
    /// # Errors
    /// When the authority file or the HTTP client cannot be set up.
    pub fn new(settings: &config::Identity, runtime: tokio::runtime::Handle) -> Result<Self, IdentitySetupError> {
        let keys = KeyStore::new(settings, runtime)?;
        Ok(Self { inner: Arc::new(Inner { settings: settings.clone(), keys }) })
    }

    /// Makes a principal of a token.
    ///
    /// # Errors
    /// Says which check failed, in words its holder may see.
    pub async fn verify(&self, token: &UnverifiedToken) -> Result<Verified, IdentityError> {
        let header = token.header(&self.inner.settings.algorithms)?;
        let key = self.inner.keys.find(&header).await?;
        let claims = token.verify(&header, &key)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        claims::check(&claims, &self.inner.settings, now)
    }

    /// Whether the issuer's keys were fetched at least once; otherwise why not.
    ///
    /// # Errors
    /// The last failure.
    pub fn ready(&self) -> Result<(), String> {
        self.inner.keys.ready()
    }

    /// Fetches the keys now and then anew, for ever.
    pub async fn keep_fresh(self) {
        self.inner.keys.keep_fresh().await;
    }
}

#[cfg(test)]
mod tests;
