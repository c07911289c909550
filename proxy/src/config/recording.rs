//! `[recording]`: where recordings go, how long they cannot be deleted, and when an event counts as kept.

use std::{path::PathBuf, time::Duration};

use countersign_masking::Extent;

use super::{ConfigError, check::Place, raw};

/// Where recordings go.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The store.
    pub store: RecordingStore,
    /// When bytes may go on.
    pub durability: Durability,
    /// How long events of all sessions are gathered before one flush.
    pub flush_interval: Duration,
    /// How long the store may fail before sessions that wait for it end.
    pub retry_window: Duration,
    /// Time between two digests of the task.
    pub digest_interval: Duration,
    /// A task without a digest for so long is dead, and what it left open is sealed by another.
    pub orphan_after: Duration,
    /// What signs manifests.
    pub signing_key: SigningKey,
    /// What is sealed in recordings, and for whom; none: nothing.
    pub sealing: Option<Sealing>,
}

/// Where recordings go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordingStore {
    /// A local directory: nothing stops its owner from deleting, so for demos and tests.
    Directory {
        /// Path.
        path: PathBuf,
    },
    /// A bucket with Object Lock.
    S3 {
        /// Bucket.
        bucket: String,
        /// Prefix of every key, empty or ending in `/`.
        prefix: String,
        /// Days each object is locked.
        retention_days: u32,
        /// Lock mode.
        retention_mode: RetentionMode,
        /// KMS key the objects are encrypted with (id, ARN or alias); none leaves that to the bucket.
        encryption_key: Option<String>,
    },
}

/// Object Lock's retention modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionMode {
    /// Nobody can shorten it.
    Compliance,
    /// Holders of a special permission can.
    Governance,
}

/// When bytes may go on to the client and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After their record is durable.
    Strict,
    /// At once; a crash loses what was not flushed yet.
    Async,
}

impl Durability {
    /// The word of the configuration and of recordings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Async => "async",
        }
    }
}

/// What signs manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigningKey {
    /// PKCS#8 PEM file of a P-256 key.
    File(PathBuf),
    /// KMS key (id, ARN or alias), `ECC_NIST_P256`.
    Kms(String),
}

/// What is sealed in recordings, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealing {
    /// Which literals and parameters.
    pub extent: Extent,
    /// Whoever opens needs the private halves of all of these; at least one.
    pub keys: Vec<OpeningKey>,
}

/// The public half of an opening key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpeningKey {
    /// SPKI PEM file of an RSA key.
    File(PathBuf),
    /// KMS key (id, ARN or alias), `RSA_3072` or `RSA_4096` for `ENCRYPT_DECRYPT`.
    Kms(String),
}

impl Recording {
    pub(super) fn from_raw(section: &toml::Spanned<raw::Recording>, place: &Place<'_>) -> Result<Self, ConfigError> {
        let raw = section.get_ref();
        let directory = place.word("recording.store", &raw.store, &[("directory", true), ("s3", false)])?;
        let store = if directory { directory_store(raw, place)? } else { s3_store(raw, place)? };
        let durability = match &raw.durability {
            None => Durability::Strict,
            Some(word) => place.word("recording.durability", word, &[("strict", Durability::Strict), ("async", Durability::Async)])?,
        };
        let signing_key = match (&raw.signing_key, &raw.kms_key) {
            (Some(path), None) => SigningKey::File(place.existing("recording.signing_key", path)?),
            (None, Some(key)) => SigningKey::Kms(place.text("recording.kms_key", key)?),
            (Some(_), Some(key)) => {
                return Err(place
                    .fault("recording.kms_key", key.span(), "manifests cannot have two signing keys")
                    .hint("keep one of signing_key and kms_key"));
            }
            (None, None) => {
                return Err(place
                    .fault("recording.signing_key", section.span(), "missing: manifests must be signed")
                    .hint("give signing_key = \"recording.key.pem\" or kms_key = \"alias/…\""));
            }
        };
        // Somebody waits for each flush in `strict`, nobody in `async`, where more at a time is fewer PUTs to pay.
        let gathered = if durability == Durability::Strict { 5 } else { 250 };
        let digest_interval = place.seconds("recording.digest_interval_seconds", raw.digest_interval_seconds.as_ref(), 300, 1..=3_600)?;
        let orphan_after = place.seconds("recording.orphan_after_seconds", raw.orphan_after_seconds.as_ref(), 900, 2..=86_400)?;
        if orphan_after < digest_interval.saturating_mul(2) {
            let span = raw.orphan_after_seconds.as_ref().or(raw.digest_interval_seconds.as_ref()).map_or(0..0, toml::Spanned::span);
            return Err(place
                .fault("recording.orphan_after_seconds", span, "less than two digest intervals: living tasks would be taken for dead")
                .hint("make it at least twice recording.digest_interval_seconds"));
        }
        Ok(Self {
            digest_interval,
            orphan_after,
            store,
            durability,
            flush_interval: place.milliseconds("recording.flush_interval_ms", raw.flush_interval_ms.as_ref(), gathered, 0..=60_000)?,
            retry_window: place.seconds("recording.retry_window_seconds", raw.retry_window_seconds.as_ref(), 30, 1..=3_600)?,
            signing_key,
            sealing: sealing(raw, place)?,
        })
    }
}

fn sealing(raw: &raw::Recording, place: &Place<'_>) -> Result<Option<Sealing>, ConfigError> {
    let mut keys = Vec::new();
    for path in raw.seal_keys.iter().flatten() {
        keys.push(OpeningKey::File(place.existing("recording.seal_keys", path)?));
    }
    for key in raw.seal_kms_keys.iter().flatten() {
        keys.push(OpeningKey::Kms(place.text("recording.seal_kms_keys", key)?));
    }
    let words = [("off", None), ("detected", Some(Extent::Detected)), ("all", Some(Extent::All))];
    let extent = match &raw.seal_literals {
        Some(word) => place.word("recording.seal_literals", word, &words)?,
        None => None,
    };
    match (extent, &raw.seal_literals) {
        (Some(_), Some(word)) if keys.is_empty() => Err(place
            .fault("recording.seal_literals", word.span(), "without an opening key nothing can be sealed")
            .hint("give seal_keys = [\"opening.pub.pem\"] or seal_kms_keys = [\"alias/…\"]; whoever opens needs all of them")),
        (Some(extent), _) => Ok(Some(Sealing { extent, keys })),
        (None, word) if !keys.is_empty() => {
            let files = raw.seal_keys.iter().flatten().map(toml::Spanned::span);
            let span = word
                .as_ref()
                .map(toml::Spanned::span)
                .or_else(|| files.chain(raw.seal_kms_keys.iter().flatten().map(toml::Spanned::span)).next());
            Err(place
                .fault("recording.seal_literals", span.unwrap_or(0..0), "there are opening keys, but nothing is sealed")
                .hint("set seal_literals = \"detected\" or \"all\", or remove the keys"))
        }
        (None, _) => Ok(None),
    }
}

fn directory_store(raw: &raw::Recording, place: &Place<'_>) -> Result<RecordingStore, ConfigError> {
    let why = "has no use with store = \"directory\"";
    place.absent("recording.bucket", raw.bucket.as_ref(), why)?;
    place.absent("recording.prefix", raw.prefix.as_ref(), why)?;
    place.absent("recording.retention_days", raw.retention_days.as_ref(), why)?;
    place.absent("recording.retention_mode", raw.retention_mode.as_ref(), why)?;
    place.absent("recording.encryption_key", raw.encryption_key.as_ref(), why)?;
    let path = place.required("recording.path", raw.path.as_ref(), &raw.store, "store")?;
    Ok(RecordingStore::Directory { path: place.path("recording.path", path)? })
}

fn s3_store(raw: &raw::Recording, place: &Place<'_>) -> Result<RecordingStore, ConfigError> {
    place.absent("recording.path", raw.path.as_ref(), "has no use with store = \"s3\"")?;
    let bucket = place.text("recording.bucket", place.required("recording.bucket", raw.bucket.as_ref(), &raw.store, "store")?)?;
    let days = place.required("recording.retention_days", raw.retention_days.as_ref(), &raw.store, "store")?;
    let mut prefix = raw.prefix.as_ref().map(|prefix| prefix.get_ref().clone()).unwrap_or_default();
    if prefix.starts_with('/') {
        let span = raw.prefix.as_ref().map_or(0..0, toml::Spanned::span);
        return Err(place.fault("recording.prefix", span, "must not start with '/'"));
    }
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    let modes = [("COMPLIANCE", RetentionMode::Compliance), ("GOVERNANCE", RetentionMode::Governance)];
    Ok(RecordingStore::S3 {
        bucket,
        prefix,
        retention_days: place.number("recording.retention_days", Some(days), 1, 1..=36_500)?,
        retention_mode: raw
            .retention_mode
            .as_ref()
            .map_or(Ok(RetentionMode::Compliance), |word| place.word("recording.retention_mode", word, &modes))?,
        encryption_key: raw.encryption_key.as_ref().map(|key| place.text("recording.encryption_key", key)).transpose()?,
    })
}
