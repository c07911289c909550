//! The identity provider, as far as a sign-in needs it: discovery, the authorization request, the code's exchange, the ID token's checks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_approval::v1::StepUp;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use crate::config::Secret;
use crate::decide::SignIn;

/// Signatures that are taken. Public keys only: with a symmetric one, whoever knows the client secret could sign.
const ALGORITHMS: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::RS384, Algorithm::EdDSA];
/// How old a login may be, and how far clocks may differ, in seconds.
const MAX_LOGIN_AGE: u64 = 300;
const LEEWAY: u64 = 60;
/// The largest answer that is read.
const MAX_ANSWER: usize = 1 << 20;
/// More groups than anybody is in, and the longest name of one.
const MAX_GROUPS: usize = 1_000;
const MAX_NAME: usize = 500;

/// An OpenID provider and the bot's registration there.
#[derive(Debug, Clone)]
pub struct Provider {
    issuer: String,
    client_id: String,
    client_secret: Option<Secret>,
    redirect_uri: String,
    scope: String,
    groups_claim: Vec<String>,
    http: reqwest::Client,
    origins: Arc<OnceCell<String>>,
}

/// Why a sign-in is nothing. The text is for the reviewer and the log, and holds no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepUpError {
    /// The provider cannot be used.
    #[error("the identity provider cannot be used: {0}")]
    Provider(String),
    /// The provider refuses the code.
    #[error("the identity provider did not take the sign-in: {0}")]
    Refused(String),
    /// The ID token does not hold.
    #[error("the identity provider's answer does not hold: {0}")]
    Token(&'static str),
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    nonce: Option<String>,
    auth_time: Option<u64>,
    azp: Option<String>,
    email: Option<String>,
    #[serde(default)]
    email_verified: serde_json::Value,
}

impl Provider {
    /// A provider, by its issuer; `redirect_uri` is the bot's callback as registered there.
    ///
    /// # Errors
    /// When the issuer is no URL that may be trusted, or TLS cannot be set up.
    pub fn new(issuer: &str, client_id: &str, client_secret: Option<Secret>, redirect_uri: String) -> Result<Self, StepUpError> {
        trusted(issuer)?;
        let mut http = reqwest::Client::builder()
            .timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("countersign-bot/", env!("CARGO_PKG_VERSION")));
        if issuer.starts_with("http://") {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| StepUpError::Provider(error.to_string()))?;
        let (issuer, client_id) = (issuer.to_owned(), client_id.to_owned());
        let (scope, groups_claim) = ("openid email".to_owned(), vec!["groups".to_owned()]);
        Ok(Self { issuer, client_id, client_secret, redirect_uri, scope, groups_claim, http, origins: Arc::default() })
    }

    /// The same, asking for these scopes and reading the groups from this claim.
    #[must_use]
    pub fn asking(mut self, scope: &str, groups_claim: &[String]) -> Self {
        scope.clone_into(&mut self.scope);
        self.groups_claim = groups_claim.to_vec();
        self
    }

    /// The issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Origins of the issuer and of its authorization endpoint, which may be another host: where a form that signs in may lead.
    pub async fn origins(&self) -> String {
        let origin = |url: &str| reqwest::Url::parse(url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        let own = origin(&self.issuer);
        let known = self.origins.get_or_try_init(|| async {
            let endpoint = origin(&self.discover().await?.authorization_endpoint);
            Ok::<_, StepUpError>(if endpoint == own { own.clone() } else { format!("{own} {endpoint}") })
        });
        // A provider that does not answer now is asked again for the next page.
        match known.await {
            Ok(known) => known.clone(),
            Err(_) => own.clone(),
        }
    }

    /// Where the browser goes to sign in, and the origin of that.
    ///
    /// # Errors
    /// When the provider's metadata cannot be had.
    pub async fn authorization(&self, state: &str, nonce: &str, verifier: &str) -> Result<String, StepUpError> {
        let discovery = self.discover().await?;
        let mut url = trusted(&discovery.authorization_endpoint)?;
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("scope", &self.scope)
            .append_pair("state", state)
            .append_pair("nonce", nonce)
            .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())))
            .append_pair("code_challenge_method", "S256")
            .append_pair("prompt", "login")
            .append_pair("max_age", "0");
        Ok(url.into())
    }

    /// Exchanges the code and checks the ID token.
    ///
    /// # Errors
    /// Says what does not hold.
    pub async fn sign_in(&self, code: &str, nonce: &str, verifier: &str, now: u64) -> Result<SignIn, StepUpError> {
        let discovery = self.discover().await?;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect_uri),
            ("client_id", &self.client_id),
            ("code_verifier", verifier),
        ];
        let mut request = self.http.post(trusted(&discovery.token_endpoint)?).form(&form);
        if let Some(secret) = &self.client_secret {
            request = request.basic_auth(encoded(&self.client_id), Some(encoded(&secret.0)));
        }
        let answer: TokenAnswer = self.json(request).await?;
        if let Some(error) = answer.error {
            return Err(StepUpError::Refused(error.chars().filter(|char| char.is_ascii_graphic()).take(60).collect()));
        }
        let token = answer.id_token.ok_or(StepUpError::Token("it has no ID token"))?;
        let keys: JwkSet = self.json(self.http.get(trusted(&discovery.jwks_uri)?)).await?;
        self.check(&token, &keys, nonce, now)
    }

    /// OpenID Connect Core 1.0, 3.1.3.7.
    fn check(&self, token: &str, keys: &JwkSet, nonce: &str, now: u64) -> Result<SignIn, StepUpError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| StepUpError::Token("the ID token is malformed"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(StepUpError::Token("the ID token is signed with an algorithm that is not taken"));
        }
        let key = match (&header.kid, keys.keys.as_slice()) {
            (Some(kid), _) => keys.find(kid),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let key = key.ok_or(StepUpError::Token("the ID token names no key of the provider"))?;
        let key = DecodingKey::from_jwk(key).map_err(|_| StepUpError::Token("the provider's key cannot be used"))?;
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.client_id]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        let all = jsonwebtoken::decode::<serde_json::Value>(token, &key, &validation)
            .map_err(|_| StepUpError::Token("signature, issuer, audience or lifetime of the ID token do not hold"))?
            .claims;
        let groups = groups(&all, &self.groups_claim);
        let claims: Claims =
            serde_json::from_value(all).map_err(|_| StepUpError::Token("the ID token's claims are not what they should be"))?;
        let own_nonce = claims.nonce.as_deref().unwrap_or_default();
        if !bool::from(subtle::ConstantTimeEq::ct_eq(own_nonce.as_bytes(), nonce.as_bytes())) {
            return Err(StepUpError::Token("the ID token is of another sign-in"));
        }
        if claims.azp.is_some_and(|party| party != self.client_id) {
            return Err(StepUpError::Token("the ID token is for another client"));
        }
        let at = claims.auth_time.ok_or(StepUpError::Token("the provider does not say when the person signed in"))?;
        if at > now.saturating_add(LEEWAY) || at.saturating_add(MAX_LOGIN_AGE) < now {
            return Err(StepUpError::Token("the sign-in is not fresh"));
        }
        let verified = claims.email_verified == serde_json::Value::Bool(true);
        let email = claims.email.filter(|_| verified).filter(|email| is_name(email));
        Ok(SignIn { step_up: StepUp { issuer: self.issuer.clone(), subject: claims.sub, at }, email, groups })
    }

    async fn discover(&self) -> Result<Discovery, StepUpError> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let discovery: Discovery = self.json(self.http.get(url)).await?;
        if discovery.issuer == self.issuer {
            Ok(discovery)
        } else {
            Err(StepUpError::Provider("its metadata names another issuer".to_owned()))
        }
    }

    async fn json<T: for<'de> Deserialize<'de>>(&self, request: reqwest::RequestBuilder) -> Result<T, StepUpError> {
        let fault = |error: reqwest::Error| StepUpError::Provider(error.without_url().to_string());
        let answer = request.header(reqwest::header::ACCEPT, "application/json").send().await.map_err(fault)?;
        let bytes = answer.bytes().await.map_err(fault)?;
        if bytes.len() > MAX_ANSWER {
            return Err(StepUpError::Provider("its answer is too long".to_owned()));
        }
        serde_json::from_slice(&bytes).map_err(|_| StepUpError::Provider("its answer is not what it should be".to_owned()))
    }
}

/// As RFC 6749, 2.3.1 wants client id and secret before they go into the header.
fn encoded(text: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse("form:?") else { return text.to_owned() };
    url.query_pairs_mut().append_key_only(text);
    url.query().unwrap_or_default().to_owned()
}

/// The groups in a claim: a list of names, or one. Of a list with anything else in it nothing is believed.
fn groups(claims: &serde_json::Value, path: &[String]) -> BTreeSet<String> {
    let found = path.iter().try_fold(claims, |within, name| within.as_object()?.get(name));
    let name = |value: &serde_json::Value| value.as_str().filter(|name| is_name(name)).map(str::to_owned);
    let read = match found {
        None | Some(serde_json::Value::Null) => Some(BTreeSet::new()),
        Some(serde_json::Value::Array(members)) if members.len() > MAX_GROUPS => None,
        Some(serde_json::Value::Array(members)) => members.iter().map(name).collect(),
        Some(one) => name(one).map(|one| BTreeSet::from([one])),
    };
    read.unwrap_or_else(|| {
        tracing::warn!(oidc.claim = %path.join("."), "the claim with the groups is no list of names, so whoever signed in is in none");
        BTreeSet::new()
    })
}

/// A text that may name somebody or something: short, nothing around it, no control characters in it.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && text.trim() == text && !text.chars().any(char::is_control)
}

/// HTTPS, or this machine.
fn trusted(url: &str) -> Result<reqwest::Url, StepUpError> {
    let parsed = reqwest::Url::parse(url).map_err(|_| StepUpError::Provider("an address of it is no URL".to_owned()))?;
    let loopback = matches!(parsed.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    match parsed.scheme() {
        "https" => Ok(parsed),
        "http" if loopback => Ok(parsed),
        _ => Err(StepUpError::Provider("an address of it is neither HTTPS nor on this machine".to_owned())),
    }
}
