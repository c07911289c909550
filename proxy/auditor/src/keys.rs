//! The public keys an auditor trusts, each for what it is there for.

use std::path::Path;

use anyhow::{Context as _, bail};
use countersign_approval::VerifyingKeys;
use countersign_recording::Keys;

/// Trusted public keys.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys {
    /// Keys of recordings: manifests and tasks.
    pub recording: Keys,
    /// Keys of reviewers' decisions.
    pub decision: VerifyingKeys,
    /// What an auditor should know about the folder.
    pub notes: Vec<String>,
}

impl TrustedKeys {
    /// Reads every file of a folder that holds an SPKI public key in PEM. A file name with `recording` or `decision` in it says what the
    /// key is for, one with `evidence` is for neither; any other key is taken for both, which lets the holder of either speak for the other, and is noted.
    ///
    /// # Errors
    /// When the folder or a key cannot be read.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut trusted = Self::default();
        let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read the folder of public keys {}", folder.display()))?;
        let mut files = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
        files.sort();
        let mut found = false;
        for file in files.into_iter().filter(|file| file.is_file()) {
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            if text.contains("PRIVATE KEY-----") {
                trusted.notes.push(format!("{name} holds a private key: it is not used, and does not belong with an auditor"));
                continue;
            }
            if !text.contains("-----BEGIN PUBLIC KEY-----") {
                continue;
            }
            let (recording, decision) = match (name.contains("recording"), name.contains("decision")) {
                (true, false) => (true, false),
                (false, true) => (false, true),
                // Packages of evidence are checked by the key that is named then, and nothing else is.
                (false, false) if name.contains("evidence") => continue,
                _ => {
                    trusted
                        .notes
                        .push(format!("{name} says neither `recording` nor `decision`: trusted for both; rename it to narrow that"));
                    (true, true)
                }
            };
            if recording {
                trusted.recording.add_pem(&text).with_context(|| format!("public key {}", file.display()))?;
            }
            if decision {
                trusted.decision.add_pem(&text).with_context(|| format!("public key {}", file.display()))?;
            }
            found = true;
        }
        if !found {
            bail!("no public key in {}: put the SPKI PEM files of the recording and decision keys there", folder.display());
        }
        Ok(trusted)
    }
}
