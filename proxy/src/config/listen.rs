//! `[listen]` and `[admin]`: where clients and operators connect.

use std::{net::SocketAddr, path::PathBuf};

use super::{ConfigError, check::Place, raw};

/// Where clients connect.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// Certificate and key. Without them only plaintext is left.
    pub tls: Option<TlsFiles>,
    /// Whether sessions without TLS are accepted. Only true on a loopback address.
    pub plaintext: bool,
}

/// PEM files of the gateway's own certificate.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Where operators look.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Address and port of `/healthz`, `/readyz` and `/metrics`; port 0 takes a free one.
    pub address: SocketAddr,
}

impl Listen {
    pub(super) fn from_raw(raw: &raw::Listen, place: &Place<'_>) -> Result<Self, ConfigError> {
        let address = place.address("listen.address", &raw.address)?;
        let tls = match (&raw.tls_certificate, &raw.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles {
                certificate: place.existing("listen.tls_certificate", certificate)?,
                key: place.existing("listen.tls_key", key)?,
            }),
            (None, None) => None,
            (Some(given), None) => {
                return Err(place
                    .fault("listen.tls_key", given.span(), "missing, but tls_certificate is given")
                    .hint("name the certificate's private key"));
            }
            (None, Some(given)) => {
                return Err(place
                    .fault("listen.tls_certificate", given.span(), "missing, but tls_key is given")
                    .hint("name the key's certificate"));
            }
        };
        let plaintext = raw.plaintext.as_ref().is_some_and(|value| *value.get_ref());
        if let (true, Some(value), false) = (plaintext, &raw.plaintext, address.ip().is_loopback()) {
            return Err(place
                .fault("listen.plaintext", value.span(), format!("allowed on loopback addresses only, not on {}", address.ip()))
                .hint("give tls_certificate and tls_key, or listen on 127.0.0.1"));
        }
        if tls.is_none() && !plaintext {
            return Err(place
                .fault("listen.tls_certificate", raw.address.span(), "missing: clients send their tokens as passwords, so TLS is required")
                .hint("give tls_certificate and tls_key; plaintext = true is for loopback addresses only"));
        }
        Ok(Self { address, tls, plaintext })
    }
}

impl Admin {
    pub(super) fn from_raw(raw: &raw::Admin, place: &Place<'_>) -> Result<Self, ConfigError> {
        Ok(Self { address: place.address("admin.address", &raw.address)? })
    }
}
