//! Signed JSON: the manifest of a session and the statement of a task, each a JWS in flattened JSON serialisation (RFC 7515 section 7.2.2) by ES256.
//!
//! The object is exactly `{"payload":"…","protected":"…","signature":"…"}` and a line feed; the payload is the JSON of the types here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::ids::{Hash, KeyId, SessionId, TaskId};
use super::keys::{Keys, SigningKey};
use super::object::FormatError;
use super::summary::Summary;

/// Largest manifest a reader looks at, bytes.
const MAX_JSON: usize = 64 << 20;

/// How a session came to its end in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seal {
    /// By its own task.
    Closed,
    /// By somebody else, after its task died.
    Orphan,
}

/// One segment as the manifest has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentEntry {
    /// Number, from 0.
    pub number: u32,
    /// SHA-256 of the object.
    pub sha256: Hash,
    /// Length of the object, bytes.
    pub length: u64,
    /// Number of its first event.
    pub first_event: u64,
    /// How many events it has.
    pub events: u64,
}

/// Which journal objects have events of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalRange {
    /// Number of the first.
    pub first: u32,
    /// Number of the last.
    pub last: u32,
}

/// The manifest of a sealed session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `countersign-manifest`.
    #[serde(rename = "type")]
    pub kind: String,
    /// 1.
    pub version: u32,
    /// Session.
    pub session: SessionId,
    /// Deployment.
    pub environment: String,
    /// Task that ran the session; none when nobody knows any more.
    pub task: Option<TaskId>,
    /// Time of the first event, microseconds since the epoch.
    pub started_us: i64,
    /// Time of the last event.
    pub ended_us: i64,
    /// Why it ended.
    pub reason: String,
    /// `strict` or `async`.
    pub durability: String,
    /// How it was sealed.
    pub seal: Seal,
    /// When.
    pub sealed_us: i64,
    /// By which program and version.
    pub sealed_by: String,
    /// Segments, in order.
    pub segments: Vec<SegmentEntry>,
    /// How many events there are.
    pub events: u64,
    /// Hash of the last event.
    pub head: Hash,
    /// Journal objects that have some of its events too.
    pub journal: Option<JournalRange>,
    /// Index.
    pub summary: Summary,
}

/// What a task says about itself at its start, under `journal/<task>/task.json`: the key that signs its journal and segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskStatement {
    /// `countersign-task`.
    #[serde(rename = "type")]
    pub kind: String,
    /// 1.
    pub version: u32,
    /// Task.
    pub task: TaskId,
    /// Deployment.
    pub environment: String,
    /// Program and version.
    pub build: String,
    /// Start, microseconds since the epoch.
    pub started_us: i64,
    /// Most journal objects under way at a time: after a crash no more than so many at the very end may be missing or unacknowledged.
    pub in_flight: u32,
    /// Public key of the task, SPKI DER in base64url without padding.
    pub key: String,
}

/// Something to be signed.
#[derive(Debug, Clone)]
pub struct Unsigned {
    protected: String,
    payload: String,
}

/// Why signed JSON is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// Not of the shape.
    #[error("not the flattened JWS that was written: {0}")]
    Shape(&'static str),
    /// Unknown key.
    #[error("signed by key {0}, which is not among the trusted keys")]
    UnknownKey(KeyId),
    /// Wrong signature.
    #[error("the signature by key {0} does not fit")]
    Signature(KeyId),
    /// The payload is something else.
    #[error("payload not understood: {0}")]
    Payload(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flattened {
    payload: String,
    protected: String,
    signature: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: KeyId,
    typ: String,
}

/// A payload type with its `type` text.
pub trait Payload: Serialize + DeserializeOwned {
    /// The value of `type`, and of `typ` in the header.
    const KIND: &'static str;

    /// `type` and `version` of this value.
    fn stated(&self) -> (&str, u32);

    /// Prepares for signing by a key.
    ///
    /// # Errors
    /// Never for the types of this format.
    fn unsigned(&self, key: &KeyId) -> Result<Unsigned, FormatError> {
        let header = Header { alg: "ES256".to_owned(), kid: key.clone(), typ: Self::KIND.to_owned() };
        let json = |_| FormatError::Malformed("not representable as JSON");
        Ok(Unsigned {
            protected: URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).map_err(json)?),
            payload: URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).map_err(json)?),
        })
    }

    /// Reads and verifies; gives the key too.
    ///
    /// # Errors
    /// When anything about it is not as it was written and signed.
    fn verified(object: &[u8], keys: &Keys) -> Result<(Self, KeyId), SignedError> {
        let (flat, header, signature) = take_apart(object)?;
        if header.typ != Self::KIND {
            return Err(SignedError::Shape("typ"));
        }
        if !keys.contains(&header.kid) {
            return Err(SignedError::UnknownKey(header.kid));
        }
        let input = format!("{}.{}", flat.protected, flat.payload);
        if !keys.verifies(&header.kid, input.as_bytes(), &signature) {
            return Err(SignedError::Signature(header.kid));
        }
        Ok((payload(&flat)?, header.kid))
    }

    /// Reads without looking at the signature: for lists, never for evidence.
    ///
    /// # Errors
    /// When it cannot be read.
    fn unverified(object: &[u8]) -> Result<Self, SignedError> {
        payload(&take_apart(object)?.0)
    }
}

impl Payload for Manifest {
    const KIND: &'static str = "countersign-manifest";

    fn stated(&self) -> (&str, u32) {
        (&self.kind, self.version)
    }
}

impl Payload for TaskStatement {
    const KIND: &'static str = "countersign-task";

    fn stated(&self) -> (&str, u32) {
        (&self.kind, self.version)
    }
}

impl TaskStatement {
    /// The task's public key as the only one.
    #[must_use]
    pub fn keys(&self) -> Option<(Keys, KeyId)> {
        let mut keys = Keys::new();
        let id = keys.add_der(&URL_SAFE_NO_PAD.decode(&self.key).ok()?).ok()?;
        Some((keys, id))
    }

    /// `key` of a task's key.
    #[must_use]
    pub fn key_of(key: &SigningKey) -> String {
        URL_SAFE_NO_PAD.encode(key.spki())
    }
}

impl Unsigned {
    /// What is to be signed (RFC 7515 section 5.1).
    #[must_use]
    pub fn signing_input(&self) -> String {
        format!("{}.{}", self.protected, self.payload)
    }

    /// SHA-256 of it, for signers that take the digest.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.signing_input()).into()
    }

    /// The object.
    #[must_use]
    pub fn finish(self, signature: &[u8; 64]) -> Vec<u8> {
        let flat = Flattened { payload: self.payload, protected: self.protected, signature: URL_SAFE_NO_PAD.encode(signature) };
        render(&flat)
    }

    /// Signs with a key in memory.
    ///
    /// # Errors
    /// When signing fails.
    pub fn sign(self, key: &SigningKey) -> Result<Vec<u8>, FormatError> {
        let signature = key.sign(self.signing_input().as_bytes())?;
        Ok(self.finish(&signature))
    }
}

fn render(flat: &Flattened) -> Vec<u8> {
    // Base64url needs no escapes.
    format!("{{\"payload\":\"{}\",\"protected\":\"{}\",\"signature\":\"{}\"}}\n", flat.payload, flat.protected, flat.signature).into_bytes()
}

fn take_apart(object: &[u8]) -> Result<(Flattened, Header, [u8; 64]), SignedError> {
    if object.len() > MAX_JSON {
        return Err(SignedError::Shape("too large"));
    }
    let flat: Flattened = serde_json::from_slice(object).map_err(|_| SignedError::Shape("payload, protected, signature"))?;
    // One value, one spelling: no white space, no other order, no escapes.
    if render(&flat) != object {
        return Err(SignedError::Shape("spelling"));
    }
    let header = URL_SAFE_NO_PAD.decode(&flat.protected).map_err(|_| SignedError::Shape("protected"))?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| SignedError::Shape("protected"))?;
    if header.alg != "ES256" {
        return Err(SignedError::Shape("alg"));
    }
    let signature = URL_SAFE_NO_PAD.decode(&flat.signature).map_err(|_| SignedError::Shape("signature"))?;
    let signature = <[u8; 64]>::try_from(signature).map_err(|_| SignedError::Shape("signature"))?;
    Ok((flat, header, signature))
}

fn payload<T: Payload>(flat: &Flattened) -> Result<T, SignedError> {
    let json = URL_SAFE_NO_PAD.decode(&flat.payload).map_err(|_| SignedError::Shape("payload"))?;
    let value: T = serde_json::from_slice(&json).map_err(|error| SignedError::Payload(error.to_string()))?;
    if value.stated() == (T::KIND, 1) { Ok(value) } else { Err(SignedError::Payload("another type or version".to_owned())) }
}
