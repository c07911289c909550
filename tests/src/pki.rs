//! A certificate authority made up on the spot, with server certificates for loopback names and key pairs for signing.
//!
//! Owns: making keys and certificates. Does not own: who uses them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use sha2::{Digest as _, Sha256};

/// The authority. Clients are given `ca_file`.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    ca_file: PathBuf,
    dir: PathBuf,
}

/// A server's certificate and key, as PEM files.
#[derive(Debug, Clone)]
pub struct ServerCertificate {
    /// Certificate.
    pub certificate: PathBuf,
    /// PKCS#8 key, mode 0600.
    pub key: PathBuf,
}

/// A P-256 signing key pair, as PEM files.
#[derive(Debug, Clone)]
pub struct SigningKey {
    /// PKCS#8.
    pub private: PathBuf,
    /// SubjectPublicKeyInfo.
    pub public: PathBuf,
    /// First 16 hex digits of SHA-256 over the SubjectPublicKeyInfo's DER.
    pub id: String,
    /// The PKCS#8 PEM itself, for forgeries in tests.
    pub pem: String,
}

impl Authority {
    /// Makes an authority whose files lie in `dir`.
    ///
    /// # Errors
    /// A key cannot be made or a file not written.
    pub fn new(dir: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let key = KeyPair::generate().context("cannot make a key")?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key)?;
        let ca_pem = certificate.pem();
        let ca_file = dir.join("ca.pem");
        fs::write(&ca_file, &ca_pem)?;
        Ok(Self { issuer: Issuer::new(params, key), ca_pem, ca_file, dir: dir.to_owned() })
    }

    /// The authority's certificate as a PEM file.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The authority's certificate as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Issues a certificate for `localhost`, `127.0.0.1` and `::1`.
    ///
    /// # Errors
    /// A key cannot be made or a file not written.
    pub fn server(&self, name: &str) -> Result<ServerCertificate> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let files =
            ServerCertificate { certificate: self.dir.join(format!("{name}.crt.pem")), key: self.dir.join(format!("{name}.key.pem")) };
        fs::write(&files.certificate, certificate.pem())?;
        write_secret(&files.key, &key.serialize_pem())?;
        Ok(files)
    }
}

/// Makes a P-256 signing key as `<name>.key.pem` and `<name>.pub.pem` in `dir`.
///
/// # Errors
/// The key cannot be made or a file not written.
pub fn signing_key(dir: &Path, name: &str) -> Result<SigningKey> {
    fs::create_dir_all(dir)?;
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let public_pem = pair.public_key_pem();
    let der = pem_body(&public_pem)?;
    let digest = Sha256::digest(&der);
    let key = SigningKey {
        private: dir.join(format!("{name}.key.pem")),
        public: dir.join(format!("{name}.pub.pem")),
        id: hex::encode(digest.get(..8).unwrap_or_default()),
        pem: pair.serialize_pem(),
    };
    write_secret(&key.private, &key.pem)?;
    fs::write(&key.public, public_pem)?;
    Ok(key)
}

/// Writes a file only its owner may read.
///
/// # Errors
/// The file cannot be written.
pub fn write_secret(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn pem_body(pem: &str) -> Result<Vec<u8>> {
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(text).context("not PEM")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Scratch;

    #[test]
    fn key_ids_follow_the_public_key() -> Result<()> {
        let dir = Scratch::new("pki")?;
        let one = signing_key(dir.path(), "one")?;
        let two = signing_key(dir.path(), "two")?;
        assert_eq!(one.id.len(), 16);
        assert_ne!(one.id, two.id);
        assert!(fs::read_to_string(&one.public)?.starts_with("-----BEGIN PUBLIC KEY-----"));
        assert!(one.pem.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_eq!(fs::metadata(&one.private)?.permissions().mode() & 0o777, 0o600);
        Ok(())
    }
}
