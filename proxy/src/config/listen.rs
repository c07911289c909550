//! `[listen]` and `[admin]`: where clients and operators connect.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

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
    /// How often certificate and key are looked at anew.
    pub tls_reload: Duration,
    /// Load balancers, which say by PROXY protocol version 2 for whom they connect.
    pub proxies: Vec<Network>,
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `fd00::/8` or a single address.
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address.parse::<IpAddr>().ok()?, Some(prefix.parse::<u8>().ok()?)),
            None => (text.parse::<IpAddr>().ok()?, None),
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(most);
        (prefix <= most).then_some(Self { address, prefix })
    }

    /// Whether an address lies in it. An IPv4 address that comes as IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, true),
            IpAddr::V6(v6) => (u128::from(v6), false),
        };
        let ((own, own_v4), (other, other_v4)) = (bits(self.address), bits(address.to_canonical()));
        let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
        own_v4 == other_v4 && own & mask == other & mask
    }
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
        Ok(Self {
            address,
            tls,
            plaintext,
            tls_reload: place.seconds("listen.tls_reload_seconds", raw.tls_reload_seconds.as_ref(), 30, 1..=86_400)?,
            proxies: proxies(raw, place)?,
        })
    }
}

fn proxies(raw: &raw::Listen, place: &Place<'_>) -> Result<Vec<Network>, ConfigError> {
    const KEY: &str = "listen.proxy_protocol_from";
    let Some(list) = &raw.proxy_protocol_from else { return Ok(Vec::new()) };
    if list.get_ref().is_empty() {
        return Err(place
            .fault(KEY, list.span(), "must name at least one address")
            .hint("remove it where no load balancer stands in front"));
    }
    let network = |text: &toml::Spanned<String>| {
        Network::parse(text.get_ref()).ok_or_else(|| {
            place
                .fault(KEY, text.span(), format!("{:?} is no range of addresses", text.get_ref()))
                .hint("as in \"10.0.0.0/8\" or \"10.0.1.7\"")
        })
    };
    list.get_ref().iter().map(network).collect()
}

impl Admin {
    pub(super) fn from_raw(raw: &raw::Admin, place: &Place<'_>) -> Result<Self, ConfigError> {
        Ok(Self { address: place.address("admin.address", &raw.address)? })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn networks_contain_their_addresses_only() {
        let contains = |network: &str, address: &str| Network::parse(network).unwrap().contains(address.parse().unwrap());
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.0.1.7", "10.0.1.7", "10.0.1.6"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("127.0.0.1/32", "::ffff:127.0.0.1", "127.0.0.2"),
            ("fd00::/8", "fd12::1", "fe80::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
        ] {
            assert!(contains(network, inside), "{network} {inside}");
            assert!(!contains(network, outside), "{network} {outside}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1", "gateway", "10.0.0.0/8/8"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
