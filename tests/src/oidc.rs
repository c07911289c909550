//! A stand-in for an OIDC issuer: discovery document, keys with rotation, tokens, sign-ins in a browser, and misbehaviour on demand.
//!
//! Owns: the issuer's HTTP face and its keys. Does not own: who the principals are.
//! Discovery: <https://openid.net/specs/openid-connect-discovery-1_0.html>, keys: RFC 7517, tokens: RFC 7519.

mod sign_in;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Map, Value, json};

pub use sign_in::Client;

/// What the gateway expects in `aud`.
pub const AUDIENCE: &str = "countersign";

/// How the issuer misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Not at all.
    #[default]
    None,
    /// Answers every request with this status.
    Status(u16),
    /// Answers after this long.
    Slow(Duration),
    /// Answers with something that is not JSON.
    Garbage,
    /// Publishes no keys.
    NoKeys,
}

struct SigningPair {
    kid: String,
    algorithm: Algorithm,
    key: EncodingKey,
    public: Jwk,
}

#[derive(Default)]
struct Inner {
    keys: Vec<SigningPair>,
    fault: Fault,
    key_requests: u64,
    generation: u32,
    clients: Vec<Client>,
    codes: HashMap<String, sign_in::Code>,
    id_token_changes: BTreeMap<String, Value>,
}

/// The running issuer; its server ends when the last handle is dropped.
#[derive(Clone)]
pub struct Issuer {
    url: String,
    inner: Arc<Mutex<Inner>>,
    _server: Arc<crate::http::Server>,
}

/// What a token says. Start from [`Claims::of`] and change what the case is about.
#[derive(Debug, Clone)]
pub struct Claims {
    /// `sub`
    pub subject: String,
    /// `groups`
    pub groups: Vec<String>,
    /// `email`
    pub email: Option<String>,
    /// `aud`
    pub audience: String,
    /// Seconds from now until `exp`; negative: expired.
    pub lifetime_seconds: i64,
    /// Anything else, replacing the claims above by name.
    pub more: BTreeMap<String, Value>,
}

impl Claims {
    /// A sound token of `subject`'s, good for a day.
    #[must_use]
    pub fn of(subject: &str, groups: &[&str]) -> Self {
        Self {
            subject: subject.to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            email: Some(format!("{subject}@bank.example")),
            audience: AUDIENCE.to_owned(),
            lifetime_seconds: 86_400,
            more: BTreeMap::new(),
        }
    }
}

impl Issuer {
    /// Starts an issuer on a free loopback port with one RS256 and one ES256 key.
    ///
    /// # Errors
    /// No port is free or no key can be made.
    pub async fn start() -> Result<Self> {
        let inner = Arc::new(Mutex::new(Inner::default()));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://127.0.0.1:{}", listener.local_addr()?.port());
        let state = Shared { url: url.clone(), inner: Arc::clone(&inner) };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(jwks))
            .merge(sign_in::routes())
            .with_state(state);
        let server = Arc::new(crate::http::Server::spawn(listener, router));
        let issuer = Self { url, inner, _server: server };
        issuer.rotate()?;
        Ok(issuer)
    }

    /// `iss`, and where discovery is found.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Signs with new keys under new ids from now on; the old ones stay published.
    ///
    /// # Errors
    /// No key can be made.
    pub fn rotate(&self) -> Result<()> {
        let generation = self.lock().generation + 1;
        let keys = vec![pair(&format!("rs-{generation}"), Algorithm::RS256)?, pair(&format!("es-{generation}"), Algorithm::ES256)?];
        let mut inner = self.lock();
        inner.generation = generation;
        inner.keys.splice(0..0, keys);
        Ok(())
    }

    /// Publishes the newest keys only: tokens of older ones are void from now on.
    pub fn retire_old_keys(&self) {
        self.lock().keys.truncate(2);
    }

    /// From now on misbehaves like this.
    pub fn set_fault(&self, fault: Fault) {
        self.lock().fault = fault;
    }

    /// Registers a public client.
    pub fn register(&self, client: Client) {
        self.lock().clients.push(client);
    }

    /// ID tokens of sign-ins say this instead from now on, by claim.
    pub fn set_id_token_changes(&self, changes: BTreeMap<String, Value>) {
        self.lock().id_token_changes = changes;
    }

    /// How often the keys were asked for.
    #[must_use]
    pub fn key_requests(&self) -> u64 {
        self.lock().key_requests
    }

    /// Mints an RS256 token.
    ///
    /// # Errors
    /// The claims cannot be encoded.
    pub fn mint(&self, claims: &Claims) -> Result<String> {
        self.mint_with(claims, Algorithm::RS256)
    }

    /// Mints a token with the issuer's key for `algorithm`.
    ///
    /// # Errors
    /// The issuer has no such key.
    pub fn mint_with(&self, claims: &Claims, algorithm: Algorithm) -> Result<String> {
        let inner = self.lock();
        let pair = inner.keys.iter().find(|pair| pair.algorithm == algorithm).context("no key for that algorithm")?;
        encode(&self.url, claims, pair)
    }

    /// A token signed by a key the issuer never published, under an id it never published.
    ///
    /// # Errors
    /// No key can be made.
    pub fn mint_with_unknown_key(&self, claims: &Claims) -> Result<String> {
        encode(&self.url, claims, &pair("nobody-knows-me", Algorithm::RS256)?)
    }

    /// A token signed by a foreign key under the id of a published one.
    ///
    /// # Errors
    /// No key can be made.
    pub fn mint_forged(&self, claims: &Claims) -> Result<String> {
        let kid = self.lock().keys.first().map(|pair| pair.kid.clone()).context("no keys")?;
        encode(&self.url, claims, &pair(&kid, Algorithm::RS256)?)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pair(kid: &str, algorithm: Algorithm) -> Result<SigningPair> {
    let key = match algorithm {
        Algorithm::ES256 => {
            let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes())?
        }
        _ => {
            let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
            EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes())?
        }
    };
    let mut public = Jwk::from_encoding_key(&key, algorithm)?;
    public.common.key_id = Some(kid.to_owned());
    Ok(SigningPair { kid: kid.to_owned(), algorithm, key, public })
}

fn encode(issuer: &str, claims: &Claims, pair: &SigningPair) -> Result<String> {
    let now = i64::try_from(now_seconds())?;
    let mut body = Map::new();
    body.insert("iss".to_owned(), json!(issuer));
    body.insert("sub".to_owned(), json!(claims.subject));
    body.insert("aud".to_owned(), json!(claims.audience));
    body.insert("iat".to_owned(), json!(now.min(now + claims.lifetime_seconds)));
    body.insert("exp".to_owned(), json!(now + claims.lifetime_seconds));
    body.insert("jti".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
    body.insert("groups".to_owned(), json!(claims.groups));
    if let Some(email) = &claims.email {
        body.insert("email".to_owned(), json!(email));
        body.insert("email_verified".to_owned(), json!(true));
    }
    body.extend(claims.more.clone());
    let mut header = Header::new(pair.algorithm);
    header.kid = Some(pair.kid.clone());
    Ok(jsonwebtoken::encode(&header, &body, &pair.key)?)
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[derive(Clone)]
struct Shared {
    url: String,
    inner: Arc<Mutex<Inner>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mint(&self, claims: &Claims) -> Result<String> {
        let inner = self.lock();
        encode(&self.url, claims, inner.keys.first().context("no keys")?)
    }

    async fn misbehave(&self) -> Option<Response> {
        let fault = self.inner.lock().unwrap_or_else(PoisonError::into_inner).fault;
        match fault {
            Fault::None | Fault::NoKeys => None,
            Fault::Status(status) => Some(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response()),
            Fault::Slow(delay) => {
                tokio::time::sleep(delay).await;
                None
            }
            Fault::Garbage => Some("<html>come back later</html>".into_response()),
        }
    }
}

async fn discovery(State(shared): State<Shared>) -> Response {
    if let Some(answer) = shared.misbehave().await {
        return answer;
    }
    Json(json!({
        "issuer": shared.url,
        "jwks_uri": format!("{}/jwks", shared.url),
        "authorization_endpoint": format!("{}/authorize", shared.url),
        "token_endpoint": format!("{}/token", shared.url),
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "authorization_response_iss_parameter_supported": true,
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
    }))
    .into_response()
}

async fn jwks(State(shared): State<Shared>) -> Response {
    if let Some(answer) = shared.misbehave().await {
        return answer;
    }
    let mut inner = shared.inner.lock().unwrap_or_else(PoisonError::into_inner);
    inner.key_requests += 1;
    let keys: Vec<&Jwk> = if inner.fault == Fault::NoKeys { Vec::new() } else { inner.keys.iter().map(|pair| &pair.public).collect() };
    Json(json!({ "keys": keys })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation};

    async fn published(issuer: &Issuer) -> Result<jsonwebtoken::jwk::JwkSet> {
        let discovery: Value = reqwest::get(format!("{}/.well-known/openid-configuration", issuer.url())).await?.json().await?;
        let uri = discovery.get("jwks_uri").and_then(Value::as_str).context("no jwks_uri")?;
        Ok(reqwest::get(uri).await?.json().await?)
    }

    fn check(token: &str, keys: &jsonwebtoken::jwk::JwkSet, algorithm: Algorithm) -> Result<Value> {
        let kid = jsonwebtoken::decode_header(token)?.kid.context("no kid")?;
        let key = DecodingKey::from_jwk(keys.find(&kid).context("unknown kid")?)?;
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&[AUDIENCE]);
        Ok(jsonwebtoken::decode::<Value>(token, &key, &validation)?.claims)
    }

    #[tokio::test]
    async fn tokens_verify_with_the_published_keys_only() -> Result<()> {
        let issuer = Issuer::start().await?;
        let keys = published(&issuer).await?;
        let claims = Claims::of("ci", &["ci", "everyone"]);
        for algorithm in [Algorithm::RS256, Algorithm::ES256] {
            let body = check(&issuer.mint_with(&claims, algorithm)?, &keys, algorithm)?;
            assert_eq!(body.get("iss"), Some(&json!(issuer.url())));
            assert_eq!(body.get("groups"), Some(&json!(["ci", "everyone"])));
        }
        assert!(check(&issuer.mint_with_unknown_key(&claims)?, &keys, Algorithm::RS256).is_err());
        assert!(check(&issuer.mint_forged(&claims)?, &keys, Algorithm::RS256).is_err());
        let expired = Claims { lifetime_seconds: -600, ..claims.clone() };
        assert!(check(&issuer.mint(&expired)?, &keys, Algorithm::RS256).is_err());

        let old = issuer.mint(&claims)?;
        issuer.rotate()?;
        assert!(check(&old, &published(&issuer).await?, Algorithm::RS256).is_ok());
        issuer.retire_old_keys();
        assert!(check(&old, &published(&issuer).await?, Algorithm::RS256).is_err());
        assert_eq!(issuer.key_requests(), 3);
        Ok(())
    }

    #[tokio::test]
    async fn it_misbehaves_when_told() -> Result<()> {
        let issuer = Issuer::start().await?;
        issuer.set_fault(Fault::Status(500));
        let status = reqwest::get(format!("{}/jwks", issuer.url())).await?.status();
        assert_eq!(status.as_u16(), 500);
        issuer.set_fault(Fault::NoKeys);
        assert!(published(&issuer).await?.keys.is_empty());
        issuer.set_fault(Fault::Garbage);
        assert!(published(&issuer).await.is_err());
        Ok(())
    }
}
