//! Sealing what is personal in what clients say, before it is recorded: encrypted to public keys whose private halves the gateway does not have.
//!
//! Each session has a data key of its own, the exclusive or of one random share for each opening key, so that whoever opens needs all of
//! them. What is sealed and how the rest reads is `countersign_masking::Literals`' and [`SessionSealer::shown`]'s; the bytes are
//! `countersign_recording`'s.

use std::path::Path;
use std::sync::Arc;

use aws_config::SdkConfig;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use aws_sdk_kms::primitives::Blob;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use countersign_approval::Request;
use countersign_aws_error as aws_error;
use countersign_masking::detect::Detectors;
use countersign_masking::{Extent, Literals, MARK};
use countersign_policy::Policy;
use countersign_recording::v1::event::Verdict;
use countersign_recording::{DataKey, Event, SessionId, Share, opening_key_id};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;

use super::StartError;
use crate::config::{OpeningKey, Sealing};

/// Fewer bits can be broken.
const LEAST_BITS: usize = 3072;

/// What a deployment seals, and for whom.
pub(super) struct Sealer {
    extent: Extent,
    keys: Vec<(String, OaepPublicEncryptingKey)>,
}

/// Why something is not sealed. It is not recorded then either, and the session ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealingError {
    #[error("no random bytes for the data key")]
    Random,
    #[error("the data key cannot be encrypted to opening key {0}")]
    Wrap(String),
    #[error(transparent)]
    Seal(#[from] countersign_recording::SealError),
}

impl Sealer {
    /// Fetches the public keys.
    pub(super) async fn open(sealing: &Sealing, aws: Option<&SdkConfig>) -> Result<Arc<Self>, StartError> {
        let mut keys = Vec::new();
        for key in &sealing.keys {
            let (name, spki) = match key {
                OpeningKey::File(path) => (path.display().to_string(), from_file(path)?),
                OpeningKey::Kms(key) => (format!("{key} in KMS"), from_kms(key, aws.ok_or(StartError::NoAws)?).await?),
            };
            let wrong = |error: &str| StartError::OpeningKey { key: name.clone(), error: error.to_owned() };
            let public = PublicEncryptingKey::from_der(&spki).map_err(|_| wrong("not an RSA public key"))?;
            if public.key_size_bits() < LEAST_BITS {
                return Err(wrong(&format!("an RSA key of {} bits, at least {LEAST_BITS} are needed", public.key_size_bits())));
            }
            let public = OaepPublicEncryptingKey::new(public).map_err(|_| wrong("not a key for RSAES-OAEP"))?;
            keys.push((opening_key_id(&spki), public));
        }
        tracing::info!(keys = ?keys.iter().map(|(id, _)| id).collect::<Vec<_>>(), "literals are sealed in recordings");
        Ok(Arc::new(Self { extent: sealing.extent, keys }))
    }

    /// A new data key and its shares.
    fn data_key(&self) -> Result<(DataKey, Vec<Share>), SealingError> {
        let mut parts = Vec::new();
        let mut shares = Vec::new();
        for (id, public) in &self.keys {
            let mut part = [0; 32];
            SystemRandom::new().fill(&mut part).map_err(|_| SealingError::Random)?;
            let mut wrapped = vec![0; public.ciphertext_size()];
            let wrapped = public.encrypt(&OAEP_SHA256_MGF1SHA256, &part, &mut wrapped, None).map_err(|_| SealingError::Wrap(id.clone()))?;
            shares.push(Share { key: id.clone(), wrapped: Bytes::copy_from_slice(wrapped) });
            parts.push(part);
        }
        Ok((DataKey::of_shares(&parts), shares))
    }
}

fn from_file(path: &Path) -> Result<Vec<u8>, StartError> {
    let wrong = |error: String| StartError::OpeningKey { key: path.display().to_string(), error };
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let spki = SubjectPublicKeyInfoDer::from_pem_slice(&pem).map_err(|_| wrong("not a public key in PEM (BEGIN PUBLIC KEY)".to_owned()))?;
    Ok(spki.to_vec())
}

async fn from_kms(key: &str, aws: &SdkConfig) -> Result<Vec<u8>, StartError> {
    let output = aws_sdk_kms::Client::new(aws).get_public_key().key_id(key).send().await.map_err(|error| StartError::OpeningKey {
        key: format!("{key} in KMS"),
        error: format!(
            "GetPublicKey: {} (hint: it must be an enabled ENCRYPT_DECRYPT key of spec RSA_3072 or RSA_4096, which the task's role may use for kms:GetPublicKey and nothing else)",
            aws_error::line(&error)
        ),
    })?;
    Ok(output.public_key().map(Blob::as_ref).unwrap_or_default().to_vec())
}

/// Seals one session's events.
pub(super) struct SessionSealer {
    sealer: Arc<Sealer>,
    session: SessionId,
    literals: Literals,
    /// Made when it is first needed: most sessions need none.
    key: Option<(DataKey, Vec<Share>)>,
    boxes: u64,
}

impl std::fmt::Debug for SessionSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionSealer").field("session", &self.session).finish_non_exhaustive()
    }
}

impl SessionSealer {
    pub(super) fn new(sealer: Arc<Sealer>, session: SessionId, policy: Option<&Policy>) -> Self {
        let literals = literals(sealer.extent, policy);
        Self { sealer, session, literals, key: None, boxes: 0 }
    }

    /// From now on by the detectors of this policy, whomever they are about, beside those built in.
    pub(super) fn follow(&mut self, policy: &Policy) {
        self.literals = literals(self.sealer.extent, Some(policy));
    }

    /// Seals what has to be among events that were recorded together.
    pub(super) fn seal(&mut self, events: &mut [(i64, Event)]) -> Result<(), SealingError> {
        for at in 0..events.len() {
            let held = self.held(events, at);
            let Some((_, event)) = events.get_mut(at) else { break };
            if let Event::SessionStart(start) = event {
                // What a client calls itself is evidence of nothing.
                if let Some(hidden) = self.overwritten(&start.application) {
                    start.application = hidden;
                }
                continue;
            }
            let Some(shown) = self.shown(event, held) else { continue };
            let (key, shares) = match self.key.take() {
                Some(made) => made,
                None => self.sealer.data_key()?,
            };
            // INVARIANT: the key is this sealer's alone, so a count never comes twice.
            let mut nonce = [0; 12];
            nonce.iter_mut().zip(self.boxes.to_be_bytes()).for_each(|(to, from)| *to = from);
            self.boxes = self.boxes.saturating_add(1);
            let sealed = key.seal(self.session, nonce, event, shown, &shares);
            self.key = Some((key, shares));
            *event = Event::Sealed(sealed?);
        }
        Ok(())
    }

    /// Whether an event is a statement that is held: decisions are recorded right behind their statements.
    fn held(&self, events: &[(i64, Event)], at: usize) -> bool {
        let Some((_, Event::Statement { statement, .. })) = events.get(at) else { return false };
        events
            .iter()
            .skip(at)
            .any(|(_, event)| matches!(event, Event::Decision { statement: of, verdict: Verdict::Hold, .. } if of == statement))
    }

    /// What everybody may read of an event; `None`: all of it.
    fn shown(&self, event: &Event, held: bool) -> Option<Event> {
        match event {
            Event::Statement { statement, extended, text, parameters, digest } => {
                let hidden = self.literals.hide(text);
                let mut hides = hidden.is_some();
                let parameters = parameters
                    .iter()
                    .map(|parameter| match &parameter.value {
                        Some(value) if self.literals.hides_parameter(parameter.type_oid, parameter.format == 1, value) => {
                            hides = true;
                            let value = Some(Bytes::from_static(MARK.as_bytes()));
                            countersign_recording::v1::event::Parameter { type_oid: parameter.type_oid, format: 0, value }
                        }
                        _ => parameter.clone(),
                    })
                    .collect();
                let text = hidden.map_or_else(|| text.clone(), Bytes::from);
                // A digest of something short can be guessed. That of a held statement is in what reviewers signed in any case, and proves
                // that they did.
                let digest = if held { *digest } else { [0; 32] };
                hides.then_some(Event::Statement { statement: *statement, extended: *extended, text, parameters, digest })
            }
            Event::Hold { statement, request, body } => {
                let body = self.request(body)?;
                Some(Event::Hold { statement: *statement, request: request.clone(), body })
            }
            // Rows of another system, which nobody looks at one by one: all of them.
            Event::CopyIn { statement, .. } => Some(Event::CopyIn { statement: *statement, frames: Bytes::new() }),
            // Rows are what the client saw; the names of columns can be its own words.
            Event::Rows { statement, frames, count } => {
                let frames = self.described(frames)?;
                Some(Event::Rows { statement: *statement, frames, count: *count })
            }
            Event::Error { statement, code, message, from_server } => {
                let message = if self.sealer.extent == Extent::All && *from_server { MARK.to_owned() } else { self.overwritten(message)? };
                Some(Event::Error { statement: *statement, code: code.clone(), message, from_server: *from_server })
            }
            Event::Notice { frame } => Some(Event::Notice { frame: self.notice(frame)? }),
            Event::Parameter { name, value } => Some(Event::Parameter { name: name.clone(), value: self.overwritten(value)? }),
            Event::Anomaly { statement, what } => Some(Event::Anomaly { statement: *statement, what: self.overwritten(what)? }),
            Event::Masked { statement, columns } => {
                let mut hides = false;
                let mut columns = columns.clone();
                for column in &mut columns {
                    if let Some(hidden) = self.overwritten(&column.column) {
                        column.column = hidden;
                        hides = true;
                    }
                }
                hides.then_some(Event::Masked { statement: *statement, columns })
            }
            _ => None,
        }
    }

    fn overwritten(&self, text: &str) -> Option<String> {
        self.literals.overwritten(text.as_bytes()).map(|hidden| String::from_utf8_lossy(&hidden).into_owned())
    }

    /// A request for approval without what is sealed in its statement.
    fn request(&self, body: &str) -> Option<String> {
        // The gateway wrote it itself; what does not read is hidden whole.
        let Ok(mut request) = serde_json::from_str::<Request>(body) else { return Some(MARK.to_owned()) };
        let mut hides = false;
        if let Some(hidden) = self.literals.hide(request.statement.as_bytes()) {
            request.statement = String::from_utf8_lossy(&hidden).into_owned();
            hides = true;
        }
        for parameter in &mut request.parameters {
            let Some(value) = parameter.value.as_ref().and_then(|value| STANDARD.decode(value).ok()) else { continue };
            if self.literals.hides_parameter(parameter.type_oid, parameter.format == 1, &value) {
                (parameter.format, parameter.value) = (0, Some(STANDARD.encode(MARK)));
                hides = true;
            }
        }
        for text in request.facts.iter_mut().map(|(_, text)| text).chain([&mut request.reason]) {
            if let Some(hidden) = self.overwritten(text) {
                *text = hidden;
                hides = true;
            }
        }
        if !hides {
            return None;
        }
        Some(request.to_bytes().ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| MARK.to_owned()))
    }

    /// Rows with a RowDescription at their head whose names have something in them, of the same length.
    fn described(&self, frames: &Bytes) -> Option<Bytes> {
        let (tag, rest) = frames.split_first()?;
        let length = usize::try_from(u32::from_be_bytes(*rest.first_chunk::<4>()?)).ok()?;
        let (head, rows) = frames.split_at_checked(length.checked_add(1)?).filter(|_| *tag == b'T')?;
        let hidden = self.literals.overwritten(head)?;
        Some(Bytes::from([&hidden, rows].concat()))
    }

    /// A notice or notification, of the same length.
    fn notice(&self, frame: &Bytes) -> Option<Bytes> {
        if self.sealer.extent == Extent::Detected {
            return self.literals.overwritten(frame).map(Bytes::from);
        }
        let mut out = BytesMut::from(&frame[..]);
        let tag = out.first().copied();
        // Tag and length; of a notification the process too.
        let mut at = if tag == Some(b'A') { 9 } else { 5 };
        let mut field = 0_usize;
        while let Some(letter) = out.get(at).copied() {
            // https://www.postgresql.org/docs/current/protocol-error-fields.html; of a notification the channel stays.
            let (start, hidden) = if tag == Some(b'A') { (at, field == 1) } else { (at.saturating_add(1), b"MDHWq".contains(&letter)) };
            let Some(rest) = out.get_mut(start..) else { break };
            let length = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            if let Some(text) = rest.get_mut(..length).filter(|_| hidden) {
                text.fill(b'*');
            }
            at = start.saturating_add(length).saturating_add(1);
            field = field.saturating_add(1);
        }
        Some(out.freeze())
    }
}

fn literals(extent: Extent, policy: Option<&Policy>) -> Literals {
    let own = policy.into_iter().flat_map(|policy| policy.detect()).map(|detect| detect.detectors.clone());
    Literals::new(std::iter::once(Detectors::standard()).chain(own).collect(), extent)
}

#[cfg(test)]
mod tests;
