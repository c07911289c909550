//! Sealing orphans by hand: for a store whose gateway is gone for good. Writes what any other task of the gateway would have written, and
//! never over anything.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{MessageType, SigningAlgorithmSpec};
use bytes::Bytes;
use clap::Args;
use countersign_recording::v1::keys::signature_from_der;
use countersign_recording::v1::manifest::Payload as _;
use countersign_recording::{Journals, KeyId, Keys, ObjectName, SessionId, SigningKey, Unsigned, seal_orphan};

use crate::load::Archive;
use countersign_aws_error as aws_error;

/// What signs.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Signer {
    /// Private recording key, PKCS#8 PEM
    #[arg(long)]
    signing_key: Option<PathBuf>,
    /// Recording key in KMS: id, ARN or alias
    #[arg(long)]
    kms_key: Option<String>,
}

/// An opened key.
pub(crate) enum Key {
    File(SigningKey),
    Kms { client: aws_sdk_kms::Client, key: String, id: KeyId },
}

impl Key {
    pub(crate) async fn open(signer: &Signer) -> anyhow::Result<Self> {
        if let Some(path) = &signer.signing_key {
            let pem = std::fs::read_to_string(path).with_context(|| format!("cannot read the recording key {}", path.display()))?;
            return Ok(Self::File(SigningKey::from_pem(&pem).with_context(|| format!("recording key {}", path.display()))?));
        }
        let key = signer.kms_key.clone().context("neither --signing-key nor --kms-key")?;
        let client = aws_sdk_kms::Client::new(&aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await);
        let public = client.get_public_key().key_id(&key).send().await;
        let public = public.map_err(|error| anyhow::anyhow!("recording key {key} in KMS: {}", aws_error::line(&error)))?;
        let id = Keys::new().add_der(public.public_key().map(Blob::as_ref).unwrap_or_default())?;
        Ok(Self::Kms { client, key, id })
    }

    pub(crate) fn id(&self) -> &KeyId {
        match self {
            Self::File(key) => key.id(),
            Self::Kms { id, .. } => id,
        }
    }

    pub(crate) async fn sign(&self, unsigned: Unsigned) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::File(key) => Ok(unsigned.sign(key)?),
            Self::Kms { client, key, .. } => {
                let request = client.sign().key_id(key).message_type(MessageType::Digest);
                let request = request.signing_algorithm(SigningAlgorithmSpec::EcdsaSha256).message(Blob::new(unsigned.digest()));
                let answer =
                    request.send().await.map_err(|error| anyhow::anyhow!("recording key {key} in KMS: {}", aws_error::line(&error)))?;
                let signature = signature_from_der(answer.signature().map(Blob::as_ref).unwrap_or_default())?;
                Ok(unsigned.finish(&signature))
            }
        }
    }
}

/// Seals the given sessions, or with none given every orphan. Gives how many.
///
/// # Errors
/// When one that was asked for cannot be sealed, or the store does not take it.
pub async fn seal(archive: &Archive, ids: &[SessionId], signer: &Signer, out: &mut dyn Write) -> anyhow::Result<u64> {
    let key = Key::open(signer).await?;
    if !archive.keys.recording.contains(key.id()) {
        bail!("the public half of key {} is not among --keys: what it seals could not be verified", key.id());
    }
    let journals = archive.journals(|id| ids.is_empty() || ids.contains(&id)).await?;
    let wanted: Vec<SessionId> = if ids.is_empty() { journals.sessions().into_iter().collect() } else { ids.to_vec() };
    let mut count = 0_u64;
    for id in wanted {
        let keys = archive.find(id).await?;
        let sealed = keys.iter().any(|key| matches!(ObjectName::parse(key), Some(ObjectName::Manifest { .. })));
        if ids.is_empty() && (sealed || !archive.task_is_gone(id, &journals)) {
            continue;
        }
        if sealed {
            bail!("session {id} is sealed already");
        }
        if !archive.task_is_gone(id, &journals) {
            bail!("the task of session {id} was alive less than --silence minutes ago: it will seal it itself");
        }
        one(archive, id, keys, &journals, &key).await?;
        writeln!(out, "sealed {id}")?;
        count = count.saturating_add(1);
    }
    Ok(count)
}

async fn one(archive: &Archive, id: SessionId, keys: Vec<String>, journals: &Journals, key: &Key) -> anyhow::Result<()> {
    let objects = archive.store.get_all(keys).await?;
    let build = concat!("countersign-audit ", env!("CARGO_PKG_VERSION"));
    let seal = seal_orphan(id, &objects, journals, &archive.keys.recording, &archive.limits, archive.now_us, build)?;
    // Kept as long as the task's own statement, which was written with the gateway's retention.
    let like = journals.session(id).map(|known| ObjectName::Task { task: known.task }.to_string()).unwrap_or_default();
    let taken = |name: &ObjectName| anyhow::anyhow!("{name} is there already: somebody else is sealing session {id}");
    if let Some((name, segment)) = seal.segment
        && !archive.store.put_new(&name.to_string(), Bytes::from(segment), &like).await?
    {
        return Err(taken(&name));
    }
    let manifest = key.sign(seal.manifest.unsigned(key.id())?).await?;
    if !archive.store.put_new(&seal.manifest_name.to_string(), Bytes::from(manifest), &like).await? {
        return Err(taken(&seal.manifest_name));
    }
    Ok(())
}
