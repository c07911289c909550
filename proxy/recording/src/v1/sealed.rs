//! Sealed events: what a client said in the clear, for those only who hold every opening key. The rest of the recording reads without it.
//!
//! Owns the box: its bytes, what binds it to its session, and the way back. The data key's shares are wrapped and unwrapped elsewhere,
//! and randomness comes from the caller.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bytes::Bytes;
use minicbor::Decoder;
use sha2::{Digest, Sha256};

use super::cbor::{self, Value, Writer};
use super::event::Event;
use super::ids::{Hash, SessionId};
use super::object::{FormatError, Limits, decompress};
use super::writer::compress;
use super::{decode, encode};

/// Stands before the session id in what the cipher binds a box to.
const BOX_DOMAIN: &[u8] = b"countersign box v1\0";
/// Stands before data key and content in a commitment.
const COMMITMENT_DOMAIN: &[u8] = b"countersign commitment v1\0";
/// What is in a box is small beside what compression could make of it.
const COMPRESSION_LEVEL: i32 = 1;

/// An event of which a part is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The event as everybody may read it: what is sealed is replaced by marks.
    pub shown: Box<Event>,
    /// The data key's shares, each wrapped for one opening key. All of them together make the key.
    pub shares: Vec<Share>,
    /// Nonce (12 bytes), then the whole event, compressed and encrypted, and the cipher's tag.
    pub content: Bytes,
    /// What was sealed, without telling it.
    pub commitment: [u8; 32],
}

/// A share of a data key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// First 16 hex digits of the SHA-256 over the opening key's SPKI.
    pub key: String,
    /// The share, encrypted to it (RSAES-OAEP with SHA-256).
    pub wrapped: Bytes,
}

/// Why a box is not sealed or not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The cipher refused to encrypt.
    #[error("the cipher refused")]
    Cipher,
    /// Another key, or a box that was changed or moved.
    #[error("the sealed part does not open: it was sealed under other keys, or changed")]
    NotOpened,
    /// It opens, to something that was not committed to.
    #[error("the sealed part is not what was committed to when it was recorded")]
    Commitment,
    /// It opens, to no event of its kind.
    #[error("the sealed part is no event of its kind: {0}")]
    Content(#[from] FormatError),
}

/// The data key of a session.
pub struct DataKey([u8; 32]);

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey")
    }
}

impl DataKey {
    /// The key that shares make together: their exclusive or. None of them, nor any number short of all, says anything of it.
    #[must_use]
    pub fn of_shares<'a>(shares: impl IntoIterator<Item = &'a [u8; 32]>) -> Self {
        let mut key = [0; 32];
        for share in shares {
            for (byte, part) in key.iter_mut().zip(share) {
                *byte ^= part;
            }
        }
        Self(key)
    }

    /// Seals an event. `nonce` is never used twice with a key.
    ///
    /// # Errors
    /// When compression or the cipher fails.
    pub fn seal(
        &self,
        session: SessionId,
        nonce: [u8; NONCE_LEN],
        exact: &Event,
        shown: Event,
        shares: &[Share],
    ) -> Result<Sealed, SealError> {
        let mut plain = Vec::new();
        encode::body(&mut Writer(&mut plain), exact);
        let commitment = self.commitment(&plain);
        let mut sealed = Vec::new();
        compress(&plain, COMPRESSION_LEVEL, &mut sealed)?;
        let bound = Self::bound(session, encode::kind(&shown));
        self.cipher()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut sealed)
            .map_err(|_| SealError::Cipher)?;
        let content = Bytes::from([&nonce[..], &sealed].concat());
        Ok(Sealed { shown: Box::new(shown), shares: shares.to_vec(), content, commitment })
    }

    /// The exact event.
    ///
    /// # Errors
    /// When it was sealed under another key or for another session, was changed, or is not what was committed to.
    pub fn open(&self, session: SessionId, sealed: &Sealed, limits: &Limits) -> Result<Event, SealError> {
        let (nonce, content) = sealed.content.split_first_chunk::<NONCE_LEN>().ok_or(SealError::NotOpened)?;
        let kind = encode::kind(&sealed.shown);
        let mut content = content.to_vec();
        let opened = self
            .cipher()?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(Self::bound(session, kind)), &mut content)
            .map_err(|_| SealError::NotOpened)?;
        let plain = Bytes::from(decompress(opened, limits)?);
        if self.commitment(&plain) != sealed.commitment {
            return Err(SealError::Commitment);
        }
        let mut decoder = Decoder::new(&plain);
        let body = cbor::value(&mut decoder, &plain)?;
        if decoder.position() != plain.len() {
            return Err(SealError::Content(FormatError::Malformed("something follows the event")));
        }
        Ok(decode::event(kind, body)?)
    }

    /// SHA-256 over a domain, the data key and the content. Without the key it tells nothing, even of content that can be guessed.
    fn commitment(&self, plain: &[u8]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(COMMITMENT_DOMAIN);
        hasher.update(self.0);
        hasher.update(plain);
        hasher.finalize().into()
    }

    fn bound(session: SessionId, kind: &str) -> Vec<u8> {
        [BOX_DOMAIN, session.as_bytes(), kind.as_bytes()].concat()
    }

    fn cipher(&self) -> Result<LessSafeKey, SealError> {
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.0).map_err(|_| SealError::Cipher)?))
    }
}

/// Name of an opening key: the first 16 hex digits of the SHA-256 over its SPKI.
#[must_use]
pub fn opening_key_id(spki: &[u8]) -> String {
    Hash::of(spki).to_string().chars().take(16).collect()
}

impl Event {
    /// The name of its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        encode::kind(self)
    }

    /// The event as everybody may read it: itself, or what a sealed one shows.
    #[must_use]
    pub fn shown(&self) -> &Self {
        match self {
            Self::Sealed(sealed) => &sealed.shown,
            other => other,
        }
    }
}

pub(super) fn write(w: &mut Writer<'_>, sealed: &Sealed) {
    w.map(5);
    w.text("box");
    w.bytes(&sealed.content);
    w.text("keys");
    w.array(sealed.shares.len());
    for share in &sealed.shares {
        w.map(2);
        w.text("key");
        w.text(&share.key);
        w.text("share");
        w.bytes(&share.wrapped);
    }
    w.text("kind");
    w.text(encode::kind(&sealed.shown));
    w.text("shown");
    encode::body(w, &sealed.shown);
    w.text("commitment");
    w.bytes(&sealed.commitment);
}

pub(super) fn read(f: &mut cbor::Fields) -> Result<Sealed, FormatError> {
    let kind = f.text("kind")?;
    // Neither a box in a box, nor a session that begins or ends in one.
    if matches!(&*kind, "sealed" | "session-start" | "session-end" | "gap") {
        return Err(FormatError::Field { name: "kind", expected: "a kind that can be sealed" });
    }
    Ok(Sealed {
        content: f.bytes("box")?,
        shares: f.array("keys")?.into_iter().map(share).collect::<Result<_, _>>()?,
        shown: Box::new(decode::event(&kind, f.value("shown")?)?),
        commitment: f.hash("commitment")?,
    })
}

fn share(value: Value) -> Result<Share, FormatError> {
    let mut f = cbor::Fields::of(value)?;
    let share = Share { key: f.text("key")?, wrapped: f.bytes("share")? };
    f.end()?;
    Ok(share)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use uuid::Uuid;

    use super::*;
    use crate::{Chain, RawEvent};

    const LIMIT: &Limits = &Limits { decompressed: 1 << 20 };

    fn statement(text: &'static [u8]) -> Event {
        Event::Statement { statement: 1, extended: false, text: Bytes::from_static(text), parameters: Vec::new(), digest: [4; 32] }
    }

    fn sealed(key: &DataKey, session: SessionId) -> Sealed {
        let shares = [Share { key: "0123456789abcdef".into(), wrapped: Bytes::from_static(b"wrapped") }];
        key.seal(session, [9; 12], &statement(b"select '123-45-6789'"), statement(b"select '[sealed]'"), &shares).unwrap()
    }

    #[test]
    fn a_box_opens_to_the_exact_event_in_its_session_with_all_shares_and_nowhere_else() {
        let (session, other) = (SessionId(Uuid::from_bytes([1; 16])), SessionId(Uuid::from_bytes([2; 16])));
        let (one, two) = ([1; 32], [6; 32]);
        let key = DataKey::of_shares([&one, &two]);
        let sealed = sealed(&key, session);
        assert_eq!(key.open(session, &sealed, LIMIT).unwrap(), statement(b"select '123-45-6789'"));
        assert_eq!(key.open(other, &sealed, LIMIT), Err(SealError::NotOpened));
        assert_eq!(DataKey::of_shares([&one]).open(session, &sealed, LIMIT), Err(SealError::NotOpened));
        assert_eq!(DataKey::of_shares([&two]).open(session, &sealed, LIMIT), Err(SealError::NotOpened));
        for at in 0..sealed.content.len() {
            let mut changed = sealed.clone();
            let mut content = changed.content.to_vec();
            content[at] ^= 1;
            changed.content = Bytes::from(content);
            assert_eq!(key.open(session, &changed, LIMIT), Err(SealError::NotOpened), "byte {at}");
        }
        let mut changed = sealed.clone();
        changed.commitment[0] ^= 1;
        assert_eq!(key.open(session, &changed, LIMIT), Err(SealError::Commitment));
        let mut moved = sealed;
        *moved.shown = Event::Anomaly { statement: 1, what: String::new() };
        assert_eq!(key.open(session, &moved, LIMIT), Err(SealError::NotOpened));
    }

    #[test]
    fn it_goes_through_its_bytes_and_shows_nothing() {
        let session = SessionId(Uuid::from_bytes([1; 16]));
        let event = Event::Sealed(sealed(&DataKey::of_shares([&[3; 32]]), session));
        let mut bytes = Vec::new();
        Chain::new(session).append(1, &event, &mut bytes);
        assert!(!bytes.windows(5).any(|window| window == b"45-67"));
        let read = RawEvent::sequence(&Bytes::from(bytes)).unwrap().remove(0);
        assert_eq!((&*read.kind, read.event().unwrap()), ("sealed", event));
    }
}
