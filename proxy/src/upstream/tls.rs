//! TLS towards the server: verify-full, a client certificate where one is configured, and the data for SCRAM's channel binding.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::config::TlsFiles;

const AUTHORITIES: &str = "upstream.ca";
const CERTIFICATE: &str = "upstream.client_certificate";
const KEY: &str = "upstream.client_key";

/// Why TLS towards the server cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamSetupError {
    /// The name.
    #[error("upstream.host {0:?} is no name a certificate can carry")]
    Name(String),
    /// A file of authorities, certificate or key.
    #[error("{key} {path}: {error}")]
    File {
        /// Key of the configuration.
        key: &'static str,
        /// File.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// The system has none.
    #[error("no system certificate authorities found (install ca-certificates, or give upstream.ca)")]
    NoSystemRoots,
    /// The library refuses.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Makes verified connections to one name.
#[derive(Clone)]
pub(super) struct Connector {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Makes connectors from files, and anew when these change: certificates are renewed more often than gateways are restarted.
pub(super) struct Source {
    host: String,
    ca: Option<PathBuf>,
    client: Option<TlsFiles>,
    current: Mutex<Current>,
}

struct Current {
    connector: Connector,
    made_of: Files,
    looked: Instant,
}

/// Contents of the files a connector is made of.
#[derive(PartialEq, Eq)]
struct Files {
    ca: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Source {
    pub(super) fn new(host: &str, ca: Option<&Path>, client: Option<&TlsFiles>) -> Result<Self, UpstreamSetupError> {
        let made_of = Files::read(ca, client)?;
        let connector = Connector::new(host, ca, client, &made_of)?;
        let current = Mutex::new(Current { connector, made_of, looked: Instant::now() });
        Ok(Self { host: host.to_owned(), ca: ca.map(Path::to_path_buf), client: client.cloned(), current })
    }

    /// The connector; the files are looked at when that is some time ago.
    pub(super) fn connector(&self) -> Connector {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= super::CREDENTIAL_AGE {
            self.look(&mut current);
        }
        current.connector.clone()
    }

    /// Looks at the files now. True when there is a new connector.
    pub(super) fn renew(&self) -> bool {
        self.look(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn look(&self, current: &mut Current) -> bool {
        current.looked = Instant::now();
        let (ca, client) = (self.ca.as_deref(), self.client.as_ref());
        let renewed = Files::read(ca, client).and_then(|files| {
            if files == current.made_of {
                return Ok(None);
            }
            Connector::new(&self.host, ca, client, &files).map(|connector| Some((connector, files)))
        });
        match renewed {
            Ok(None) => false,
            Ok(Some((connector, files))) => {
                tracing::info!("certificates for the server were read anew");
                (current.connector, current.made_of) = (connector, files);
                true
            }
            // A file may be half written; what was read before goes on being used.
            Err(error) => {
                tracing::error!("certificates for the server cannot be read anew, the old ones stay in use: {error}");
                false
            }
        }
    }
}

impl Files {
    fn read(ca: Option<&Path>, client: Option<&TlsFiles>) -> Result<Self, UpstreamSetupError> {
        let read = |key, path: &Path| std::fs::read(path).map_err(|error| unusable(key, path, error.to_string()));
        let client = client
            .map(|files| Ok::<_, UpstreamSetupError>((read(CERTIFICATE, &files.certificate)?, read(KEY, &files.key)?)))
            .transpose()?;
        Ok(Self { ca: ca.map(|path| read(AUTHORITIES, path)).transpose()?, client })
    }
}

fn unusable(key: &'static str, path: &Path, error: String) -> UpstreamSetupError {
    UpstreamSetupError::File { key, path: path.to_path_buf(), error }
}

impl Connector {
    fn new(host: &str, ca: Option<&Path>, client: Option<&TlsFiles>, contents: &Files) -> Result<Self, UpstreamSetupError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| UpstreamSetupError::Name(host.to_owned()))?;
        let roots = roots(ca, contents.ca.as_deref())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?.with_root_certificates(roots);
        let mut config = match (client, &contents.client) {
            (Some(files), Some((certificate, key))) => {
                let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
                let chain = chain.map_err(|error| unusable(CERTIFICATE, &files.certificate, error.to_string()))?;
                if chain.is_empty() {
                    return Err(unusable(CERTIFICATE, &files.certificate, "no certificate in it".to_owned()));
                }
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unusable(KEY, &files.key, error.to_string()))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    unusable(KEY, &files.key, format!("{error} (does it belong to the first certificate of upstream.client_certificate?)"))
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    pub(super) async fn connect(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

fn roots(ca: Option<&Path>, contents: Option<&[u8]>) -> Result<RootCertStore, UpstreamSetupError> {
    let mut store = RootCertStore::empty();
    let (Some(path), Some(contents)) = (ca, contents) else {
        let (added, _) = store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return if added == 0 { Err(UpstreamSetupError::NoSystemRoots) } else { Ok(store) };
    };
    let fault = |error: String| unusable(AUTHORITIES, path, error);
    for certificate in CertificateDer::pem_slice_iter(contents) {
        store.add(certificate.map_err(|error| fault(error.to_string()))?).map_err(|error| fault(error.to_string()))?;
    }
    if store.is_empty() { Err(fault("no certificate in it".to_owned())) } else { Ok(store) }
}

/// `tls-server-end-point` (RFC 5929 section 4.1): the certificate's hash, by the hash of its own signature, at least SHA-256. `None` for
/// signatures that name no hash (Ed25519, PSS), for which the RFC defines nothing.
pub(super) fn server_end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    match signature_oid(certificate)? {
        // md5, sha1 and sha256 with RSA; ECDSA with SHA-1 and SHA-256
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04 | 0x05 | 0x0b]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02] => Some(Sha256::digest(certificate).to_vec()),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03] => {
            Some(Sha384::digest(certificate).to_vec())
        }
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04] => {
            Some(Sha512::digest(certificate).to_vec())
        }
        _ => None,
    }
}

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID, … }, … }` (RFC 5280 section 4.1)
fn signature_oid(certificate: &[u8]) -> Option<&[u8]> {
    let (whole, _) = element(certificate, 0x30)?;
    let (_, after_tbs) = element(whole, 0x30)?;
    let (algorithm, _) = element(after_tbs, 0x30)?;
    element(algorithm, 0x06).map(|(oid, _)| oid)
}

/// One DER element with that tag: its contents, and what follows.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if bytes.is_empty() || bytes.len() > 4 {
            return None;
        }
        (bytes.iter().fold(0_usize, |length, byte| (length << 8) | usize::from(*byte)), rest)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_certificate_names_the_hash_of_its_signature() {
        for (algorithm, bytes) in
            [(&rcgen::PKCS_ECDSA_P256_SHA256, Some(32)), (&rcgen::PKCS_ECDSA_P384_SHA384, Some(48)), (&rcgen::PKCS_ED25519, None)]
        {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let certificate = rcgen::CertificateParams::new(vec!["db.example".to_owned()]).unwrap().self_signed(&key).unwrap();
            assert_eq!(server_end_point(certificate.der()).map(|hash| hash.len()), bytes);
        }
    }

    #[test]
    fn broken_der_gives_no_binding() {
        for der in [&b""[..], b"\x30", b"\x30\x82", b"\x30\x84\xff\xff\xff\xff", b"\x30\x02\x30\x00", b"\x30\x80\x00\x00"] {
            assert_eq!(server_end_point(&CertificateDer::from(der)), None);
        }
    }
}
