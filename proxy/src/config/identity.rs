//! `[identity]`: whose tokens are taken, and which claims mean what.

use std::{path::PathBuf, time::Duration};

use super::{
    ConfigError,
    check::{Place, is_loopback},
    raw,
};

/// Whose tokens are taken.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Issuer URL, exactly as tokens carry it in `iss`. Its discovery document names the keys.
    pub issuer: String,
    /// Accepted `aud` values; a token needs one of them.
    pub audiences: Vec<String>,
    /// Accepted signature algorithms; never symmetric ones.
    pub algorithms: Vec<Algorithm>,
    /// Path of the claim with the groups: names separated by dots. A list of strings, or one string.
    pub groups_claim: Vec<String>,
    /// Path of the claim with the e-mail address.
    pub email_claim: Vec<String>,
    /// Path of the claim that names the subject.
    pub subject_claim: Vec<String>,
    /// Claims shown to reviewers and kept in recordings: the path as written, and its parts.
    pub kept_claims: Vec<(String, Vec<String>)>,
    /// Clock difference forgiven for `exp` and `nbf`.
    pub leeway: Duration,
    /// How long a session may live at most; `None` is no limit.
    pub max_session: Option<Duration>,
    /// How often the issuer's keys are fetched anew.
    pub jwks_refresh: Duration,
    /// How soon an unknown key id may cause another fetch.
    pub jwks_min_interval: Duration,
    /// PEM file of the authorities that may vouch for the issuer; the system's own when absent.
    pub ca: Option<PathBuf>,
    /// How clients show their tokens.
    pub methods: Methods,
    /// Scopes a client is told to ask its issuer for.
    pub oauth_scope: String,
}

/// How clients show their tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Methods {
    /// As the password.
    Password,
    /// By the SASL mechanism OAUTHBEARER.
    OauthBearer,
    /// By OAUTHBEARER those who give one of these user names, the others as the password.
    OauthBearerFor(Vec<String>),
}

impl Methods {
    /// Whether a client that gives this user name is asked for its token by OAUTHBEARER. A name that ends in `*` counts for all that begin so.
    #[must_use]
    pub fn oauth_bearer_for(&self, user: &str) -> bool {
        match self {
            Self::Password => false,
            Self::OauthBearer => true,
            Self::OauthBearerFor(names) => {
                names.iter().any(|name| name.strip_suffix('*').map_or(name == user, |prefix| user.starts_with(prefix)))
            }
        }
    }
}

/// A signature algorithm with a public key (RFC 7518 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the registry's")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

impl Identity {
    pub(super) fn from_raw(raw: &raw::Identity, place: &Place<'_>) -> Result<Self, ConfigError> {
        let issuer = issuer(raw, place)?;
        let audiences = match raw.audience.get_ref() {
            raw::OneOrMany::One(one) => vec![one.clone()],
            raw::OneOrMany::Many(many) => many.clone(),
        };
        if audiences.is_empty() || audiences.iter().any(|audience| audience.trim().is_empty()) {
            return Err(place.fault("identity.audience", raw.audience.span(), "must name at least one audience, none of them empty"));
        }
        let algorithms = match &raw.algorithms {
            None => vec![Algorithm::RS256, Algorithm::ES256],
            Some(list) if list.get_ref().is_empty() => {
                return Err(place.fault("identity.algorithms", list.span(), "must name at least one algorithm"));
            }
            Some(list) => {
                list.get_ref().iter().map(|name| place.word("identity.algorithms", name, ALGORITHMS)).collect::<Result<_, _>>()?
            }
        };
        let path = |key: &str, value: Option<&toml::Spanned<String>>, default: &str| match value {
            None => Ok(vec![default.to_owned()]),
            Some(value) => claim_path(key, value, place),
        };
        let kept = raw.kept_claims.iter().flatten();
        let kept_claims =
            kept.map(|name| Ok((name.get_ref().clone(), claim_path("identity.kept_claims", name, place)?))).collect::<Result<_, _>>()?;
        let max_session = raw.max_session_seconds.as_ref();
        Ok(Self {
            issuer,
            audiences,
            algorithms,
            groups_claim: path("identity.groups_claim", raw.groups_claim.as_ref(), "groups")?,
            email_claim: path("identity.email_claim", raw.email_claim.as_ref(), "email")?,
            subject_claim: path("identity.subject_claim", raw.subject_claim.as_ref(), "sub")?,
            kept_claims,
            leeway: place.seconds("identity.leeway_seconds", raw.leeway_seconds.as_ref(), 30, 0..=300)?,
            max_session: match max_session {
                None => None,
                value => Some(place.seconds("identity.max_session_seconds", value, 0, 1..=31_536_000)?),
            },
            jwks_refresh: place.seconds("identity.jwks_refresh_seconds", raw.jwks_refresh_seconds.as_ref(), 300, 10..=86_400)?,
            jwks_min_interval: place.seconds("identity.jwks_min_interval_seconds", raw.jwks_min_interval_seconds.as_ref(), 10, 1..=3600)?,
            ca: raw.ca.as_ref().map(|path| place.existing("identity.ca", path)).transpose()?,
            methods: methods(raw, place)?,
            oauth_scope: match &raw.oauth_scope {
                Some(scope) => place.text("identity.oauth_scope", scope)?,
                None => "openid".to_owned(),
            },
        })
    }

    /// Where clients find the issuer's configuration.
    #[must_use]
    pub fn discovery_url(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'))
    }
}

fn methods(raw: &raw::Identity, place: &Place<'_>) -> Result<Methods, ConfigError> {
    const KEY: &str = "identity.methods";
    const USERS: &str = "identity.oauth_users";
    let (mut password, mut oauth) = (raw.methods.is_none(), false);
    for method in raw.methods.iter().flat_map(|list| list.get_ref()) {
        let flag = if place.word(KEY, method, &[("password", true), ("oauthbearer", false)])? { &mut password } else { &mut oauth };
        if std::mem::replace(flag, true) {
            return Err(place.fault(KEY, method.span(), "is there twice"));
        }
    }
    match (password, oauth) {
        (true, true) => {
            let span = raw.methods.as_ref().map(toml::Spanned::span).unwrap_or_default();
            let users = raw.oauth_users.as_ref().ok_or_else(|| {
                place
                    .fault(USERS, span, "missing: with both methods it says which user names are asked for OAUTHBEARER")
                    .hint("as in [\"people\", \"person-*\"]; all others show their token as the password")
            })?;
            if users.get_ref().is_empty() {
                return Err(place.fault(USERS, users.span(), "must name at least one user name"));
            }
            users.get_ref().iter().map(|name| place.text(USERS, name)).collect::<Result<_, _>>().map(Methods::OauthBearerFor)
        }
        (password, oauth) => {
            place.absent(USERS, raw.oauth_users.as_ref(), "has a use with both methods only")?;
            match (password, oauth, &raw.methods) {
                (_, true, _) => Ok(Methods::OauthBearer),
                (false, false, Some(list)) => Err(place.fault(KEY, list.span(), "must name at least one method")),
                _ => Ok(Methods::Password),
            }
        }
    }
}

/// An https URL, or http on this machine.
fn issuer(raw: &raw::Identity, place: &Place<'_>) -> Result<String, ConfigError> {
    let text = place.text("identity.issuer", &raw.issuer)?;
    let fault = |message: String| place.fault("identity.issuer", raw.issuer.span(), message);
    let url = reqwest::Url::parse(&text)
        .map_err(|error| fault(format!("{text:?} is not a URL: {error}")).hint("write it as tokens carry it in `iss`, with https://"))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(fault("an issuer has no query and no fragment".to_owned()));
    }
    match url.scheme() {
        "https" => Ok(text),
        "http" if url.host_str().is_some_and(is_loopback) => Ok(text),
        "http" => Err(fault("http is allowed for issuers on loopback addresses only".to_owned())
            .hint("use https://: whoever answers here decides who gets in")),
        other => Err(fault(format!("scheme {other:?} is not known here")).hint("use https://")),
    }
}

fn claim_path(key: &str, value: &toml::Spanned<String>, place: &Place<'_>) -> Result<Vec<String>, ConfigError> {
    let text = place.text(key, value)?;
    // A name that is a URL (`https://bank.example/groups`) is one name, dots and all.
    if text.contains("://") {
        return Ok(vec![text]);
    }
    let parts: Vec<String> = text.split('.').map(str::to_owned).collect();
    if parts.iter().any(String::is_empty) {
        return Err(place
            .fault(key, value.span(), format!("{text:?} is not a claim path"))
            .hint("names separated by single dots, as in \"realm_access.roles\""));
    }
    Ok(parts)
}
