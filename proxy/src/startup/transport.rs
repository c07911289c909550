//! Which encryption a connection has: SSLRequest, direct TLS, or none where that is allowed. The certificate is read anew when its file changes.

use std::{path::PathBuf, pin::Pin, sync::Arc, task::Poll, time::Duration};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::Acceptor,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::packet::{self, Packet, ReadError};
use crate::{
    config::{Listen, TlsFiles},
    error::{ClientError, sqlstate},
    established::ClientIo,
    metrics,
};

/// First byte of a TLS handshake record. As the first byte of a start-up packet it would mean a length of at least 369,098,752.
const TLS_HANDSHAKE: u8 = 0x16;
/// Protocol name for direct TLS.
const ALPN: &[u8] = b"postgresql";

/// What encryption clients get.
#[derive(Clone)]
pub struct Transport {
    tls: Option<Arc<Served>>,
    plaintext: bool,
}

/// The certificate in use and the files it came from.
struct Served {
    config: ArcSwap<ServerConfig>,
    files: TlsFiles,
    read: Contents,
}

/// Contents of certificate and key file.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("tls", &self.tls.is_some()).field("plaintext", &self.plaintext).finish()
    }
}

/// Why the gateway's certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// A file.
    #[error("{key} {path}: {error} (it must be a PEM file the proxy's user can read)")]
    File {
        /// Key of the configuration.
        key: &'static str,
        /// File.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// The pair.
    #[error("listen.tls_certificate and listen.tls_key: {0} (does the key belong to the first certificate of the file?)")]
    Pair(rustls::Error),
}

impl Transport {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// Names the file.
    pub fn new(listen: &Listen) -> Result<Self, TransportError> {
        let served = listen.tls.as_ref().map(|files| {
            let read = Contents::read(files)?;
            let config = ArcSwap::new(server_config(files, &read)?);
            Ok::<_, TransportError>(Arc::new(Served { config, files: files.clone(), read }))
        });
        Ok(Self { tls: served.transpose()?, plaintext: listen.plaintext })
    }

    /// Looks at the files every so often, for ever, and takes what changed for the connections to come. A pair that is not usable changes nothing.
    pub async fn keep_fresh(self, every: Duration) {
        let Some(served) = self.tls else { return };
        let mut seen = served.read.clone();
        let mut complained = false;
        loop {
            tokio::time::sleep(every).await;
            let files = served.files.clone();
            let looked = tokio::task::spawn_blocking(move || Contents::read(&files)).await;
            let Ok(looked) = looked else { continue };
            let renewed = match looked {
                Ok(contents) if contents == seen => {
                    complained = false;
                    metrics::certificate_stale(false);
                    continue;
                }
                Ok(contents) => server_config(&served.files, &contents).map(|config| (config, contents)),
                Err(error) => Err(error),
            };
            match renewed {
                Ok((config, contents)) => {
                    served.config.store(config);
                    (seen, complained) = (contents, false);
                    metrics::certificate_stale(false);
                    tracing::info!("the gateway's certificate was read anew");
                }
                Err(error) => {
                    // Certificate and key are two files, so a pair that does not fit may be one that is being replaced.
                    if !std::mem::replace(&mut complained, true) {
                        tracing::error!("the gateway's certificate cannot be read anew, the old one stays in use: {error}");
                    }
                    metrics::certificate_stale(true);
                }
            }
        }
    }

    /// Without TLS, as configured for loopback.
    #[cfg(test)]
    pub(super) const fn plaintext() -> Self {
        Self { tls: None, plaintext: true }
    }
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, TransportError> {
        let read = |key, path: &PathBuf| {
            std::fs::read(path).map_err(|error| TransportError::File { key, path: path.clone(), error: error.to_string() })
        };
        Ok(Self { certificate: read("listen.tls_certificate", &files.certificate)?, key: read("listen.tls_key", &files.key)? })
    }
}

fn server_config(files: &TlsFiles, contents: &Contents) -> Result<Arc<ServerConfig>, TransportError> {
    let fault = |key, path: &PathBuf, error: String| TransportError::File { key, path: path.clone(), error };
    let chain = CertificateDer::pem_slice_iter(&contents.certificate).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| fault("listen.tls_certificate", &files.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(fault("listen.tls_certificate", &files.certificate, "no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| fault("listen.tls_key", &files.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(TransportError::Pair)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(TransportError::Pair)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// How a connection opened.
pub(super) enum Opened<S> {
    /// Encrypted; its start-up packet follows.
    Encrypted(ClientIo<S>),
    /// Not encrypted, and its packet was read.
    Ready { io: ClientIo<S>, packet: Packet },
}

/// Why it did not.
pub(super) enum Failure<S> {
    Gone(&'static str),
    Refused { io: S, error: ClientError },
}

/// Settles encryption. Reads never more than one packet.
pub(super) async fn open<S: AsyncRead + AsyncWrite + Unpin>(mut io: S, transport: &Transport) -> Result<Opened<S>, Failure<S>> {
    let mut first = [0_u8; 1];
    match io.read(&mut first).await {
        Ok(1..) => {}
        Ok(0) | Err(_) => return Err(Failure::Gone("closed before start-up")),
    }
    let tls = transport.tls.as_ref().map(|served| served.config.load_full());
    if let ([TLS_HANDSHAKE], Some(config)) = (first, &tls) {
        return direct(io, first, config).await.map(|stream| Opened::Encrypted(ClientIo::Tls(Box::new(stream))));
    }
    let (mut asked_ssl, mut asked_gss) = (false, false);
    let mut packet = packet::read_after(&mut io, first).await;
    loop {
        match packet {
            Ok(Packet::Ssl) if !asked_ssl => {
                asked_ssl = true;
                if let Some(config) = &tls {
                    return after_request(io, config).await;
                }
                answer(&mut io, b'N').await?;
            }
            Ok(Packet::Gss) if !asked_gss => {
                asked_gss = true;
                answer(&mut io, b'N').await?;
            }
            // A cancel request carries its own key, and libpq before 17 sends it without encryption.
            Ok(packet @ Packet::Cancel { .. }) => return Ok(Opened::Ready { io: ClientIo::Plain(io), packet }),
            Ok(packet) if transport.plaintext => return Ok(Opened::Ready { io: ClientIo::Plain(io), packet }),
            Ok(_) => {
                let error = ClientError::new(sqlstate::INVALID_AUTHORIZATION, "the gateway takes encrypted connections only")
                    .hint("connect with sslmode=require or stricter");
                return Err(Failure::Refused { io, error });
            }
            Err(ReadError::Gone(reason)) => return Err(Failure::Gone(reason)),
            Err(ReadError::Refused(error)) => return Err(Failure::Refused { io, error }),
        }
        packet = packet::read(&mut io).await;
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S, letter: u8) -> Result<(), Failure<S>> {
    let gone = |_| Failure::Gone("closed within encryption negotiation");
    io.write_all(&[letter]).await.map_err(gone)?;
    io.flush().await.map_err(gone)
}

/// After SSLRequest: nothing may wait already. Whoever could put bytes there would speak before the encryption and be heard within it.
async fn after_request<S: AsyncRead + AsyncWrite + Unpin>(mut io: S, config: &Arc<ServerConfig>) -> Result<Opened<S>, Failure<S>> {
    let mut byte = [0_u8; 1];
    let waiting = std::future::poll_fn(|context| {
        let mut buffer = ReadBuf::new(&mut byte);
        let poll = Pin::new(&mut io).poll_read(context, &mut buffer);
        Poll::Ready(match poll {
            Poll::Ready(Ok(())) => Some(!buffer.filled().is_empty()),
            Poll::Ready(Err(_)) => Some(false),
            Poll::Pending => None,
        })
    })
    .await;
    match waiting {
        Some(true) => {
            let error = ClientError::new(sqlstate::PROTOCOL_VIOLATION, "received unencrypted data after the SSL request")
                .detail("this could be a fault of the client or somebody in the middle");
            return Err(Failure::Refused { io, error });
        }
        Some(false) => return Err(Failure::Gone("closed within encryption negotiation")),
        None => answer(&mut io, b'S').await?,
    }
    match tokio_rustls::TlsAcceptor::from(Arc::clone(config)).accept(io).await {
        Ok(stream) => Ok(Opened::Encrypted(ClientIo::Tls(Box::new(stream)))),
        Err(error) => {
            tracing::debug!("TLS handshake with a client failed: {error}");
            Err(Failure::Gone("TLS handshake failed"))
        }
    }
}

/// `sslnegotiation=direct`: TLS from the first byte, which must name the protocol by ALPN so that no other protocol's client can be led here.
async fn direct<S: AsyncRead + AsyncWrite + Unpin>(io: S, first: [u8; 1], config: &Arc<ServerConfig>) -> Result<TlsStream<S>, Failure<S>> {
    let failed = |error: std::io::Error| {
        tracing::debug!("TLS handshake with a client failed: {error}");
        Failure::Gone("TLS handshake failed")
    };
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut first.as_slice()).map_err(failed)?;
    let start = LazyConfigAcceptor::new(acceptor, io).await.map_err(failed)?;
    let stream = start.into_stream(Arc::clone(config)).await.map_err(failed)?;
    if stream.get_ref().1.alpn_protocol() == Some(ALPN) { Ok(stream) } else { Err(Failure::Gone("direct TLS without ALPN")) }
}
