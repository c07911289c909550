#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};

use super::*;

/// An issuer in this process whose keys can be exchanged.
#[derive(Clone)]
struct Issuer {
    url: String,
    inner: Arc<IssuerState>,
}

#[derive(Default)]
struct IssuerState {
    keys: Mutex<Vec<Value>>,
    fetches: AtomicUsize,
    down: Mutex<bool>,
    claimed_issuer: Mutex<Option<String>>,
}

struct SigningKey {
    id: String,
    algorithm: Algorithm,
    encoding: EncodingKey,
    pem: String,
}

impl SigningKey {
    fn new(id: &str, algorithm: Algorithm) -> Self {
        let (pair, encoding) = match algorithm {
            Algorithm::ES256 => {
                let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
                let encoding = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
                (pair, encoding)
            }
            _ => {
                let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
                let encoding = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
                (pair, encoding)
            }
        };
        Self { id: id.to_owned(), algorithm, encoding, pem: pair.public_key_pem() }
    }

    fn public(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.encoding, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.clone());
        serde_json::to_value(jwk).unwrap()
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.encoding).unwrap()
    }
}

async fn issuer(keys: &[&SigningKey]) -> Issuer {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let inner = IssuerState { keys: Mutex::new(keys.iter().map(|key| key.public()).collect()), ..IssuerState::default() };
    let issuer = Issuer { url: format!("http://{}", listener.local_addr().unwrap()), inner: Arc::new(inner) };
    let discovery = |State(issuer): State<Issuer>| async move {
        if *issuer.inner.down.lock().unwrap() {
            return StatusCode::BAD_GATEWAY.into_response();
        }
        let claimed = issuer.inner.claimed_issuer.lock().unwrap().clone().unwrap_or_else(|| issuer.url.clone());
        Json(json!({ "issuer": claimed, "jwks_uri": format!("{}/keys", issuer.url) })).into_response()
    };
    let keys = |State(issuer): State<Issuer>| async move {
        issuer.inner.fetches.fetch_add(1, Ordering::SeqCst);
        Json(json!({ "keys": *issuer.inner.keys.lock().unwrap() }))
    };
    let router =
        Router::new().route("/.well-known/openid-configuration", get(discovery)).route("/keys", get(keys)).with_state(issuer.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    issuer
}

fn settings(issuer: &str, more: &str) -> config::Identity {
    let dir = tempfile::tempdir().unwrap();
    for name in ["decision.pub.pem", "recording.key.pem"] {
        std::fs::write(dir.path().join(name), "x").unwrap();
    }
    let text = format!(
        "environment = \"test\"\n[listen]\naddress = \"127.0.0.1:0\"\nplaintext = true\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [identity]\nissuer = \"{issuer}\"\naudience = \"countersign\"\n{more}\n\
         [upstream]\nhost = \"127.0.0.1\"\nuser = \"u\"\npassword = \"p\"\ntls = \"disable\"\n[policy]\nfile = \"p\"\n\
         [approvals]\nstore = \"directory\"\npath = \"a\"\nkeys = [\"decision.pub.pem\"]\n[recording]\nstore = \"directory\"\npath = \"r\"\nsigning_key = \"recording.key.pem\"\n"
    );
    crate::config::Config::parse(&text, Path::new(dir.path())).unwrap().identity
}

fn verifier(issuer: &Issuer, more: &str) -> Verifier {
    Verifier::new(&settings(&issuer.url, more), tokio::runtime::Handle::current()).unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims(issuer: &Issuer) -> Value {
    json!({ "iss": issuer.url, "aud": "countersign", "sub": "repo:bank/app", "exp": now() + 600, "nbf": now() - 5, "iat": now(), "groups": ["ci", "etl"], "email": "ci@bank.example", "email_verified": true, "repository": "bank/app", "run": { "id": 7 } })
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name);
    claims
}

async fn verify(verifier: &Verifier, token: &str) -> Result<Verified, IdentityError> {
    let mut body = token.as_bytes().to_vec();
    body.push(0);
    verifier.verify(&UnverifiedToken::from_password(&body).unwrap()).await
}

#[tokio::test]
async fn a_good_token_makes_a_principal() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256] {
        let key = SigningKey::new("k1", algorithm);
        let issuer = issuer(&[&key]).await;
        let verifier = verifier(&issuer, "kept_claims = [\"repository\", \"run.id\", \"absent\"]");
        let verified = verify(&verifier, &key.sign(&claims(&issuer))).await.unwrap();
        let principal = verified.principal;
        assert_eq!((principal.issuer.as_str(), principal.subject.as_str()), (issuer.url.as_str(), "repo:bank/app"));
        assert_eq!(principal.email.as_deref(), Some("ci@bank.example"));
        assert_eq!(principal.groups.iter().map(String::as_str).collect::<Vec<_>>(), ["ci", "etl"]);
        let kept: Vec<_> = principal.claims.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(kept, [("repository", "bank/app"), ("run.id", "7")]);
    }
}

#[tokio::test]
async fn claims_are_held_to_their_types_and_bounds() {
    let key = SigningKey::new("k1", Algorithm::ES256);
    let issuer = issuer(&[&key]).await;
    let verifier = verifier(&issuer, "");
    let good = claims(&issuer);
    let table = [
        (with(good.clone(), "exp", json!(now() - 3600)), "token expired"),
        (with(good.clone(), "exp", json!(0)), "token expired"),
        (with(good.clone(), "exp", json!((now() + 600).to_string())), "claims"),
        (with(good.clone(), "exp", json!(-1)), "claims"),
        (with(good.clone(), "exp", json!(1e300)), "claims"),
        (with(good.clone(), "exp", Value::Null), "claims"),
        (without(good.clone(), "exp"), "claims"),
        (with(good.clone(), "nbf", json!(now() + 3600)), "not yet"),
        (with(good.clone(), "nbf", json!("0")), "claims"),
        (with(good.clone(), "aud", json!("another")), "audience"),
        (with(good.clone(), "aud", json!(["another", "third"])), "audience"),
        (with(good.clone(), "aud", json!([])), "audience"),
        (with(good.clone(), "aud", json!([1])), "claims"),
        (with(good.clone(), "aud", json!({ "countersign": true })), "claims"),
        (without(good.clone(), "aud"), "claims"),
        (with(good.clone(), "iss", json!("https://evil.example")), "issuer"),
        (with(good.clone(), "iss", json!([issuer.url])), "claims"),
        (with(good.clone(), "iss", json!(format!("{}/", issuer.url))), "issuer"),
        (without(good.clone(), "iss"), "claims"),
        (without(good.clone(), "sub"), "claims"),
        (with(good.clone(), "sub", json!("  ")), "claims"),
        (with(good.clone(), "sub", json!("a\u{0}b")), "claims"),
        (with(good.clone(), "sub", json!(7)), "claims"),
        (with(good.clone(), "sub", json!("repo:bank/app\u{200b}")), "claims"),
        (with(good.clone(), "sub", json!("repo:bank/\u{202e}ppa")), "claims"),
        (with(good.clone(), "sub", json!(" repo:bank/app")), "claims"),
        (with(good.clone(), "email", json!("dana@bank.example\u{2060}")), "claims"),
        (with(good.clone(), "email", json!("dana@\u{ad}bank.example")), "claims"),
        (with(good.clone(), "groups", json!(["ci", "db\u{200d}a"])), "claims"),
        (with(good.clone(), "groups", json!([1])), "claims"),
        (with(good.clone(), "groups", json!({ "dba": true })), "claims"),
        (with(good.clone(), "email", json!(["x"])), "claims"),
    ];
    for (claims, expected) in table {
        let error = verify(&verifier, &key.sign(&claims)).await.unwrap_err();
        assert!(error.kind().contains(expected), "{error:?} for {claims}");
        assert_eq!(error.client().code, "28P01", "{error:?}");
    }
    let within_leeway = with(with(good.clone(), "exp", json!(now() - 10)), "nbf", json!(now() + 10));
    verify(&verifier, &key.sign(&within_leeway)).await.unwrap();
    verify(&verifier, &key.sign(&with(good.clone(), "aud", json!(["x", "countersign"])))).await.unwrap();
    let plain = verify(&verifier, &key.sign(&with(good.clone(), "groups", json!("dba")))).await.unwrap();
    assert!(plain.principal.groups.contains("dba"));
    let unverified = verify(&verifier, &key.sign(&with(good, "email_verified", json!(false)))).await.unwrap();
    assert_eq!(unverified.principal.email, None);
}

#[tokio::test]
async fn the_time_a_token_expired_is_told() {
    let key = SigningKey::new("k1", Algorithm::ES256);
    let issuer = issuer(&[&key]).await;
    let error = verify(&verifier(&issuer, ""), &key.sign(&with(claims(&issuer), "exp", json!(1_700_000_000)))).await.unwrap_err();
    assert_eq!(error.client().message, "token expired at 2023-11-14T22:13:20Z");
}

fn assemble(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

#[tokio::test]
async fn forged_signatures_and_confused_algorithms_fail() {
    let (rsa, ec) = (SigningKey::new("rsa", Algorithm::RS256), SigningKey::new("ec", Algorithm::ES256));
    let issuer = issuer(&[&rsa, &ec]).await;
    let verifier = verifier(&issuer, "");
    let claims = claims(&issuer);

    // HS256 with the public key as secret.
    for secret in [rsa.pem.clone(), rsa.public().to_string()] {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("rsa".to_owned());
        let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap();
        assert_eq!(verify(&verifier, &token).await.unwrap_err(), IdentityError::Algorithm("HS256".to_owned()));
    }
    for none in ["none", "None", "NONE", ""] {
        let token = assemble(&json!({ "alg": none, "kid": "rsa" }), &claims, "");
        assert!(matches!(verify(&verifier, &token).await, Err(IdentityError::Algorithm(_))), "{none}");
    }
    assert_eq!(verify(&verifier, &assemble(&json!({ "alg": "RS256", "kid": "rsa" }), &claims, "")).await, Err(IdentityError::Signature));
    // An RSA key named for an ECDSA signature, and the reverse.
    let signature = ec.sign(&claims).rsplit('.').next().unwrap().to_owned();
    assert_eq!(
        verify(&verifier, &assemble(&json!({ "alg": "ES256", "kid": "rsa" }), &claims, &signature)).await,
        Err(IdentityError::KeyMismatch)
    );
    assert_eq!(
        verify(&verifier, &assemble(&json!({ "alg": "RS256", "kid": "ec" }), &claims, &signature)).await,
        Err(IdentityError::KeyMismatch)
    );
    // Another key under a known id; a changed claim under a good signature.
    let impostor = SigningKey::new("ec", Algorithm::ES256);
    assert_eq!(verify(&verifier, &impostor.sign(&claims)).await, Err(IdentityError::Signature));
    let good = ec.sign(&claims);
    let parts: Vec<&str> = good.split('.').collect();
    let changed = URL_SAFE_NO_PAD.encode(with(claims.clone(), "groups", json!(["dba"])).to_string());
    assert_eq!(verify(&verifier, &format!("{}.{changed}.{}", parts[0], parts[2])).await, Err(IdentityError::Signature));
    // Keys the token brings along are not looked at.
    let own =
        assemble(&json!({ "alg": "ES256", "kid": "ec", "jwk": impostor.public(), "jku": "http://evil.example" }), &claims, &signature);
    assert_eq!(verify(&verifier, &own).await, Err(IdentityError::Signature));
    assert!(matches!(
        verify(&verifier, &assemble(&json!({ "alg": "ES256", "kid": "ec", "crit": ["x"] }), &claims, &signature)).await,
        Err(IdentityError::Malformed(_))
    ));
    for malformed in ["", "hunter2", "a.b", "a.b.c.d", "....", "!.!.!", "e30.e30.e30"] {
        assert!(matches!(verify(&verifier, malformed).await, Err(IdentityError::Malformed(_))), "{malformed:?}");
    }
}

#[tokio::test]
async fn symmetric_and_encryption_keys_of_the_issuer_are_not_used() {
    let ec = SigningKey::new("ec", Algorithm::ES256);
    let issuer = issuer(&[]).await;
    let mut for_encryption = ec.public();
    for_encryption["use"] = json!("enc");
    *issuer.inner.keys.lock().unwrap() =
        vec![json!({ "kty": "oct", "kid": "s", "k": "c2VjcmV0" }), for_encryption, json!({ "kty": "strange" }), json!(7)];
    assert_eq!(verify(&verifier(&issuer, ""), &ec.sign(&claims(&issuer))).await, Err(IdentityError::KeysUnavailable));
}

#[tokio::test]
async fn rotated_keys_are_fetched_and_old_ones_go() {
    let (old, new) = (SigningKey::new("old", Algorithm::ES256), SigningKey::new("new", Algorithm::ES256));
    let issuer = issuer(&[&old]).await;
    let verifier = verifier(&issuer, "jwks_min_interval_seconds = 1");
    let claims = claims(&issuer);
    verify(&verifier, &old.sign(&claims)).await.unwrap();
    *issuer.inner.keys.lock().unwrap() = vec![new.public()];
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    verify(&verifier, &new.sign(&claims)).await.unwrap();
    assert_eq!(verify(&verifier, &old.sign(&claims)).await, Err(IdentityError::UnknownKey));
}

#[tokio::test]
async fn unknown_key_ids_do_not_make_the_gateway_hammer_the_issuer() {
    let key = SigningKey::new("k1", Algorithm::ES256);
    let issuer = issuer(&[&key]).await;
    let verifier = verifier(&issuer, "jwks_min_interval_seconds = 3600");
    let claims = claims(&issuer);
    verify(&verifier, &key.sign(&claims)).await.unwrap();
    let stranger = SigningKey::new("k2", Algorithm::ES256).sign(&claims);
    for _ in 0..20 {
        assert_eq!(verify(&verifier, &stranger).await, Err(IdentityError::UnknownKey));
    }
    assert_eq!(issuer.inner.fetches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn known_keys_outlive_the_issuer() {
    let key = SigningKey::new("k1", Algorithm::ES256);
    let issuer = issuer(&[&key]).await;
    *issuer.inner.down.lock().unwrap() = true;
    let verifier = verifier(&issuer, "jwks_min_interval_seconds = 1");
    let token = key.sign(&claims(&issuer));
    let error = verify(&verifier, &token).await.unwrap_err();
    assert_eq!((error.clone(), error.client().code), (IdentityError::KeysUnavailable, "28000"));
    assert!(verifier.ready().unwrap_err().contains("502"));
    *issuer.inner.down.lock().unwrap() = false;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    verify(&verifier, &token).await.unwrap();
    assert_eq!(verifier.ready(), Ok(()));
    *issuer.inner.down.lock().unwrap() = true;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(verify(&verifier, &SigningKey::new("k2", Algorithm::ES256).sign(&claims(&issuer))).await, Err(IdentityError::UnknownKey));
    verify(&verifier, &token).await.unwrap();
}

#[tokio::test]
async fn a_discovery_document_of_another_issuer_is_refused() {
    let key = SigningKey::new("k1", Algorithm::ES256);
    let issuer = issuer(&[&key]).await;
    *issuer.inner.claimed_issuer.lock().unwrap() = Some("https://evil.example".to_owned());
    let verifier = verifier(&issuer, "");
    assert_eq!(verify(&verifier, &key.sign(&claims(&issuer))).await, Err(IdentityError::KeysUnavailable));
    assert!(verifier.ready().unwrap_err().contains("evil.example"));
}
