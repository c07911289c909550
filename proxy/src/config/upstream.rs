//! `[upstream]`: the server behind the gateway and the service credential for it.

use std::{path::PathBuf, time::Duration};

use super::{
    ConfigError, Secret, TlsFiles,
    check::{Place, is_loopback},
    raw,
};

/// The server behind the gateway.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The service role.
    pub user: String,
    /// What the server is answered when it asks for a password.
    pub credential: Credential,
    /// Certificate and key shown to the server.
    pub client_certificate: Option<TlsFiles>,
    /// The only database served; `None` serves what the client names.
    pub database: Option<String>,
    /// TLS towards the server.
    pub tls: UpstreamTls,
    /// How long dialling and logging in may take together.
    pub connect_timeout: Duration,
    /// How old catalog facts may grow.
    pub catalog_refresh: Duration,
    /// How long a hold may wait for an estimate of its rows.
    pub estimate_timeout: Duration,
    /// Other service roles, for principals of certain groups; the first that fits.
    pub roles: Vec<UpstreamRole>,
}

/// The service role of some groups' sessions.
#[derive(Debug, Clone)]
pub struct UpstreamRole {
    /// Groups whose members log in as this role.
    pub groups: Vec<String>,
    /// The role.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// What the server is answered when it asks for a password.
#[derive(Debug, Clone)]
pub enum Credential {
    /// This one.
    Password(Secret),
    /// A token of RDS IAM authentication, made anew for each login.
    RdsIam,
    /// Nothing: the client certificate must do.
    None,
}

/// TLS towards the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamTls {
    /// Certificate and host name are verified.
    VerifyFull {
        /// PEM file of the authorities; the system's own when absent.
        ca: Option<PathBuf>,
    },
    /// None. Only towards loopback.
    Disable,
}

impl UpstreamRole {
    fn from_raw(raw: &raw::UpstreamRole, place: &Place<'_>) -> Result<Self, ConfigError> {
        let groups = raw.groups.get_ref();
        if groups.is_empty() || groups.iter().any(String::is_empty) {
            return Err(place
                .fault("upstream.roles.groups", raw.groups.span(), "must name at least one group")
                .hint("sessions of principals in no listed group log in as upstream.user"));
        }
        Ok(Self {
            groups: groups.clone(),
            user: place.text("upstream.roles.user", &raw.user)?,
            password: Secret::from_raw("upstream.roles.password", &raw.password, place)?,
        })
    }
}

impl Upstream {
    pub(super) fn from_raw(raw: &raw::Upstream, place: &Place<'_>) -> Result<Self, ConfigError> {
        let host = place.text("upstream.host", &raw.host)?;
        if host.contains('/') {
            return Err(place
                .fault("upstream.host", raw.host.span(), "must be a host name or address")
                .hint("no URL and no socket directory; the port is a key of its own"));
        }
        let verify = match &raw.tls {
            None => true,
            Some(word) => place.word("upstream.tls", word, &[("verify-full", true), ("disable", false)])?,
        };
        let tls = if verify {
            UpstreamTls::VerifyFull { ca: raw.ca.as_ref().map(|path| place.existing("upstream.ca", path)).transpose()? }
        } else {
            place.absent("upstream.ca", raw.ca.as_ref(), "has no use with tls = \"disable\"")?;
            if !is_loopback(&host) {
                let span = raw.tls.as_ref().map_or_else(|| raw.host.span(), toml::Spanned::span);
                return Err(place
                    .fault("upstream.tls", span, format!("\"disable\" is allowed towards loopback only, not towards {host}"))
                    .hint("use \"verify-full\", with ca = \"…\" for a private authority"));
            }
            UpstreamTls::Disable
        };
        let client_certificate = match (&raw.client_certificate, &raw.client_key) {
            (Some(certificate), Some(key)) => {
                if tls == UpstreamTls::Disable {
                    return Err(place
                        .fault("upstream.client_certificate", certificate.span(), "has no use with tls = \"disable\"")
                        .hint("remove it"));
                }
                Some(TlsFiles {
                    certificate: place.existing("upstream.client_certificate", certificate)?,
                    key: place.existing("upstream.client_key", key)?,
                })
            }
            (None, None) => None,
            (Some(given), None) => {
                return Err(place.fault("upstream.client_key", given.span(), "missing, but client_certificate is given"));
            }
            (None, Some(given)) => {
                return Err(place.fault("upstream.client_certificate", given.span(), "missing, but client_key is given"));
            }
        };
        let credential = credential(raw, place, &tls, client_certificate.is_some())?;
        Ok(Self {
            host,
            port: place.number("upstream.port", raw.port.as_ref(), 5432, 1..=65_535)?,
            user: place.text("upstream.user", &raw.user)?,
            credential,
            client_certificate,
            database: raw.database.as_ref().map(|name| place.text("upstream.database", name)).transpose()?,
            tls,
            connect_timeout: place.seconds("upstream.connect_timeout_seconds", raw.connect_timeout_seconds.as_ref(), 10, 1..=300)?,
            catalog_refresh: place.seconds("upstream.catalog_refresh_seconds", raw.catalog_refresh_seconds.as_ref(), 60, 1..=3600)?,
            estimate_timeout: place.milliseconds("upstream.estimate_timeout_ms", raw.estimate_timeout_ms.as_ref(), 2_000, 100..=60_000)?,
            roles: raw.roles.iter().map(|role| UpstreamRole::from_raw(role, place)).collect::<Result<_, _>>()?,
        })
    }

    /// The same server, entered as another role.
    #[must_use]
    pub fn entered_as(&self, role: &UpstreamRole) -> Self {
        Self { user: role.user.clone(), credential: Credential::Password(role.password.clone()), roles: Vec::new(), ..self.clone() }
    }

    /// `host:port`, for people and recordings.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }
}

fn credential(raw: &raw::Upstream, place: &Place<'_>, tls: &UpstreamTls, certificate: bool) -> Result<Credential, ConfigError> {
    let iam = raw.rds_iam.as_ref().filter(|value| *value.get_ref());
    match (iam, &raw.password) {
        (Some(given), Some(_)) => {
            Err(place.fault("upstream.rds_iam", given.span(), "and upstream.password exclude each other").hint("remove one"))
        }
        (Some(given), None) if *tls == UpstreamTls::Disable => {
            Err(place.fault("upstream.rds_iam", given.span(), "needs TLS: the token is sent as it is").hint("use tls = \"verify-full\""))
        }
        (Some(_), None) => Ok(Credential::RdsIam),
        (None, Some(secret)) => Secret::from_raw("upstream.password", secret, place).map(Credential::Password),
        (None, None) if certificate => Ok(Credential::None),
        (None, None) => Err(place
            .fault("upstream.password", raw.user.span(), "missing: the gateway needs something to log in to the server with")
            .hint("give password, rds_iam = true, or client_certificate and client_key")),
    }
}
