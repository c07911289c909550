//! The issuer's keys: found by its discovery document, kept, renewed by age and when a token names one that is not known.
//!
//! OpenID Connect Discovery 1.0 section 4, RFC 7517. While the issuer is down the keys that are known go on working.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use arc_swap::ArcSwapOption;
use jsonwebtoken::{
    AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::Handle;

use super::{IdentityError, IdentitySetupError, token::Header};
use crate::{
    config::{self, Algorithm},
    metrics,
};

/// Largest document taken from the issuer.
const MAX_BYTES: usize = 1024 * 1024;
/// How long one request may take.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// More keys than an issuer has.
const MAX_KEYS: usize = 256;

/// One key of the issuer.
#[derive(Debug)]
pub(super) struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    curve: Option<EllipticCurve>,
    pub(super) decoding: DecodingKey,
}

/// The issuer's keys.
#[derive(Debug)]
pub(super) struct KeyStore {
    shared: Arc<Shared>,
    runtime: Handle,
}

#[derive(Debug)]
struct Shared {
    settings: config::Identity,
    client: reqwest::Client,
    keys: ArcSwapOption<Vec<Arc<Key>>>,
    fetching: tokio::sync::Mutex<Option<Instant>>,
    fault: Mutex<Option<String>>,
}

#[derive(Debug, Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Debug, Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeyStore {
    pub(super) fn new(settings: &config::Identity, runtime: Handle) -> Result<Self, IdentitySetupError> {
        let fault = |error: reqwest::Error| IdentitySetupError::Client(chain(&error));
        // A redirect could lead to an issuer that is not the configured one.
        let mut builder = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")));
        // An issuer on this machine is not behind the environment's HTTP proxy.
        if settings.issuer.starts_with("http://") {
            builder = builder.no_proxy();
        }
        if let Some(path) = &settings.ca {
            let unusable = |error: String| IdentitySetupError::Authorities { path: path.clone(), error };
            let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(chain(&error)))?;
            if certificates.is_empty() {
                return Err(unusable("no certificate in it".to_owned()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(fault)?;
        let shared = Shared {
            settings: settings.clone(),
            client,
            keys: ArcSwapOption::empty(),
            fetching: tokio::sync::Mutex::new(None),
            fault: Mutex::new(Some("not fetched yet".to_owned())),
        };
        Ok(Self { shared: Arc::new(shared), runtime })
    }

    /// The one key a token's header means.
    pub(super) async fn find(&self, header: &Header) -> Result<Arc<Key>, IdentityError> {
        if let Some(keys) = self.shared.keys.load_full()
            && let Some(key) = choose(&keys, header)?
        {
            return Ok(key);
        }
        // The issuer may have a new key since. Tokens are not verified yet, so whoever sends one must not make us ask more often than now and then.
        let shared = Arc::clone(&self.shared);
        let fetched = self.runtime.spawn(async move { shared.fetch_if_due().await });
        let _ = fetched.await;
        let keys = self.shared.keys.load_full().ok_or(IdentityError::KeysUnavailable)?;
        choose(&keys, header)?.ok_or(IdentityError::UnknownKey)
    }

    pub(super) fn ready(&self) -> Result<(), String> {
        if self.shared.keys.load().is_some() {
            return Ok(());
        }
        Err(self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default())
    }

    pub(super) async fn keep_fresh(&self) {
        loop {
            self.shared.fetch_if_due().await;
            let wait =
                if self.shared.keys.load().is_some() { self.shared.settings.jwks_refresh } else { self.shared.settings.jwks_min_interval };
            tokio::time::sleep(wait).await;
        }
    }
}

/// Every key that fits; one is found, several are told apart by id only.
fn choose(keys: &[Arc<Key>], header: &Header) -> Result<Option<Arc<Key>>, IdentityError> {
    let Some(id) = &header.key_id else {
        let mut fitting = keys.iter().filter(|key| key.fits(header.algorithm));
        return match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(Some(Arc::clone(key))),
            (Some(_), Some(_)) => Err(IdentityError::Malformed("its header names no key, and the issuer has several")),
            (None, _) => Ok(None),
        };
    };
    let mut named = keys.iter().filter(|key| key.id.as_ref() == Some(id)).peekable();
    if named.peek().is_none() {
        return Ok(None);
    }
    named.find(|key| key.fits(header.algorithm)).map(|key| Some(Arc::clone(key))).ok_or(IdentityError::KeyMismatch)
}

impl Key {
    /// A usable signature key with a public half, or `None`.
    fn from_json(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let common = &jwk.common;
        let for_signatures = common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
        let verifies = common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        let curve = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(parameters) => Some(parameters.curve.clone()),
            AlgorithmParameters::OctetKeyPair(parameters) => Some(parameters.curve.clone()),
            AlgorithmParameters::RSA(_) => None,
            // A symmetric key has no place in a public document, and a token "signed" with it proves nothing.
            _ => return None,
        };
        if !for_signatures || !verifies {
            return None;
        }
        let decoding = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: common.key_id.clone(), algorithm: common.key_algorithm.as_ref().map(ToString::to_string), curve, decoding })
    }

    /// Whether this key may verify that algorithm: by its type, its curve, and what it says of itself.
    fn fits(&self, algorithm: Algorithm) -> bool {
        let (family, curve) = match algorithm {
            Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 | Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 => {
                (AlgorithmFamily::Rsa, None)
            }
            Algorithm::ES256 => (AlgorithmFamily::Ec, Some(EllipticCurve::P256)),
            Algorithm::ES384 => (AlgorithmFamily::Ec, Some(EllipticCurve::P384)),
            Algorithm::EdDSA => (AlgorithmFamily::Ed, Some(EllipticCurve::Ed25519)),
        };
        self.decoding.family() == family && self.curve == curve && self.algorithm.as_ref().is_none_or(|name| name == algorithm.name())
    }
}

impl Shared {
    /// Fetches unless that was done a moment ago. Callers that come meanwhile wait for the same fetch.
    async fn fetch_if_due(&self) {
        let mut last = self.fetching.lock().await;
        if last.is_some_and(|at| at.elapsed() < self.settings.jwks_min_interval) {
            return;
        }
        let result = self.fetch().await;
        *last = Some(Instant::now());
        metrics::jwks_fetch(result.is_ok());
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(keys) => {
                if fault.is_some() {
                    tracing::info!(identity.issuer = %self.settings.issuer, identity.keys = keys.len(), "issuer's keys fetched");
                }
                *fault = None;
                self.keys.store(Some(Arc::new(keys)));
            }
            Err(error) => {
                if fault.as_ref() != Some(&error) {
                    let known = self.keys.load().as_ref().map_or(0, |keys| keys.len());
                    tracing::error!(identity.issuer = %self.settings.issuer, identity.known_keys = known, "cannot fetch the issuer's keys, {}: {error}", if known == 0 { "so no token can be verified" } else { "those known go on working" });
                }
                *fault = Some(error);
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<Arc<Key>>, String> {
        let issuer = &self.settings.issuer;
        let place = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let discovery: Discovery = self.get(&place).await?;
        if discovery.issuer != *issuer {
            return Err(format!("{place} is the document of issuer {:?} (identity.issuer must be written exactly so)", discovery.issuer));
        }
        // Where the issuer must be https, its keys must come that way too.
        if issuer.starts_with("https://") && !discovery.jwks_uri.starts_with("https://") {
            return Err(format!("{place} names keys without https"));
        }
        let document: Document = self.get(&discovery.jwks_uri).await?;
        let keys: Vec<Arc<Key>> = document.keys.into_iter().take(MAX_KEYS).filter_map(Key::from_json).map(Arc::new).collect();
        if keys.is_empty() { Err(format!("{} has no usable key", discovery.jwks_uri)) } else { Ok(keys) }
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, url: &str) -> Result<T, String> {
        let fault = |error: reqwest::Error| format!("{url}: {}", chain(&error));
        let mut response = self.client.get(url).send().await.map_err(fault)?;
        if !response.status().is_success() {
            return Err(format!("{url}: answered {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(fault)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BYTES {
                return Err(format!("{url}: answer is larger than {MAX_BYTES} bytes"));
            }
        }
        serde_json::from_slice(&body).map_err(|error| format!("{url}: not the expected JSON: {error}"))
    }
}

/// An error with its causes, which say more than itself.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
