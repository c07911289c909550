//! What an attacker with the approval store in hand could write: decisions that must not open anything.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_approval::v1::{Decision, Request, Reviewer, Verdict};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey as _;
use serde_json::{Value, json};

/// The request as it lies in a directory store.
///
/// # Errors
/// It is not there.
pub fn read_request(approvals: &Path, id: &str) -> Result<Request> {
    let text = std::fs::read_to_string(approvals.join(id).join("request.json")).with_context(|| format!("no request {id}"))?;
    serde_json::from_str(&text).context("the request is not one")
}

/// The decision a reviewer in good standing would make on a request.
///
/// # Errors
/// The clock is before 1970.
pub fn approval(request: &Request, person: &str, slack: &str) -> Result<Decision> {
    Ok(Decision {
        version: 1,
        request: request.id.clone(),
        environment: request.environment.clone(),
        digest: request.digest,
        shown: request.fingerprint(),
        requester_issuer: request.requester.issuer.clone(),
        requester_subject: request.requester.subject.clone(),
        database: request.database.clone(),
        policy: request.policy.clone(),
        rule: request.rule.clone(),
        expires_at: request.expires_at,
        reviewer: Reviewer {
            person: person.to_owned(),
            slack: slack.to_owned(),
            email: Some(format!("{person}@bank.example")),
            groups: vec!["dba-oncall".to_owned()],
            subjects: vec![format!("{}|{person}", request.requester.issuer)],
        },
        verdict: Verdict::Approve,
        runs: 1,
        step_up: None,
        reason: None,
        decided_at: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        snapshot: None,
    })
}

/// Signs claims as a decision with any key, under any key id.
///
/// # Errors
/// The key is none.
pub fn sign(claims: &Decision, key_pem: &str, key_id: &str) -> Result<String> {
    let header = json!({"alg": "ES256", "typ": "countersign-decision+jwt", "kid": key_id});
    let input = input(&header, &serde_json::to_value(claims)?)?;
    let key = SigningKey::from_pkcs8_pem(key_pem).map_err(|error| anyhow::anyhow!("no key: {error}"))?;
    let signature: Signature = key.sign(input.as_bytes());
    Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes())))
}

/// A token that claims to need no signature.
///
/// # Errors
/// The claims cannot be encoded.
pub fn unsigned(claims: &Decision, key_id: &str) -> Result<String> {
    let header = json!({"alg": "none", "typ": "countersign-decision+jwt", "kid": key_id});
    Ok(format!("{}.", input(&header, &serde_json::to_value(claims)?)?))
}

fn input(header: &Value, claims: &Value) -> Result<String> {
    let encode = |value: &Value| Ok::<_, serde_json::Error>(URL_SAFE_NO_PAD.encode(serde_json::to_vec(value)?));
    Ok(format!("{}.{}", encode(header)?, encode(claims)?))
}

/// Puts a token into a request's folder, as the bot would, at the next free number.
///
/// # Errors
/// The file cannot be written.
pub fn plant(approvals: &Path, id: &str, token: &str) -> Result<PathBuf> {
    let folder = approvals.join(id);
    std::fs::create_dir_all(folder.join("decisions"))?;
    std::fs::create_dir_all(folder.join("voters"))?;
    let number = std::fs::read_dir(folder.join("decisions"))?.count();
    let file = folder.join("decisions").join(format!("{number}.jws"));
    std::fs::write(&file, token)?;
    std::fs::write(folder.join("voters").join(format!("forged-{number}.jws")), token)?;
    Ok(file)
}

/// The tokens in a request's folder.
///
/// # Errors
/// The folder cannot be read.
pub fn tokens(approvals: &Path, id: &str) -> Result<Vec<String>> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(approvals.join(id).join("decisions"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    files.iter().map(|file| Ok(std::fs::read_to_string(file)?)).collect()
}
