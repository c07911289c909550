//! `countersign-bot keygen`: a decision key for installations without KMS.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use p256::ecdsa::SigningKey;
use p256::elliptic_curve::rand_core::OsRng;
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};

/// File name of the private half, PKCS#8 PEM.
pub const PRIVATE: &str = "decision.key.pem";
/// File name of the public half, SPKI PEM.
pub const PUBLIC: &str = "decision.pub.pem";

/// Writes a new key pair into a folder; never over an existing one.
///
/// # Errors
/// When a file exists or cannot be written.
pub fn keygen(out: &Path) -> std::io::Result<(PathBuf, PathBuf)> {
    let key = SigningKey::random(&mut OsRng);
    let private = key.to_pkcs8_pem(LineEnding::LF).map_err(std::io::Error::other)?;
    let public = key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(std::io::Error::other)?;
    std::fs::create_dir_all(out)?;
    let (private_path, public_path) = (out.join(PRIVATE), out.join(PUBLIC));
    write_new(&private_path, private.as_bytes(), 0o600)?;
    write_new(&public_path, public.as_bytes(), 0o644)?;
    Ok((private_path, public_path))
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let named = |error: std::io::Error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(named)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(named)
}
