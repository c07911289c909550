//! Signing in at the identity provider: for the top tier, where a press alone is not enough, and for the bot's own page.
//!
//! A press that needs more answers with a link that carries a *ticket*: what was pressed, by whom, sealed with a key of the bot's and good
//! for some minutes. The page behind it shows the whole request. Signing in goes the authorization code way with PKCE (RFC 7636, S256),
//! `state` bound to the browser by a cookie, a `nonce`, and a login that is demanded anew (`prompt=login`, `max_age=0`). Verifier and
//! nonce are computed from the key, so nothing is kept anywhere; each sign-in counts once. Whoever signs in must be the person who pressed.
//! OpenID Connect Core 1.0: <https://openid.net/specs/openid-connect-core-1_0.html>

mod pages;
mod provider;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_approval::RequestId;
use hmac::{Hmac, Mac as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

pub use self::pages::routes;
pub(crate) use self::pages::send_to_provider;
pub use self::provider::{Provider, StepUpError};

/// How long a ticket is good, in seconds.
pub const TICKET_LIFE: u64 = 300;
/// The largest ticket, or other sealed text, that anyone looks at: a browser keeps no larger cookie.
const MAX_SEALED: usize = 3_500;

/// What somebody is to sign in for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// What for.
    pub purpose: Purpose,
    /// Until when it is good, seconds since the epoch.
    pub until: u64,
}

/// What a sign-in is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Purpose {
    /// To complete a press in Slack.
    Press {
        /// The button's reference: request and fingerprint of what was shown.
        reference: String,
        /// Slack user.
        user: String,
        /// Approve all runs the request allows, or one.
        all: bool,
    },
    /// To complete an approval on the bot's own page.
    Page {
        /// The form's reference.
        reference: String,
        /// All runs, or one.
        all: bool,
        /// Issuer of the sign-in that opened the page.
        issuer: String,
        /// Subject of it.
        subject: String,
    },
    /// To open the bot's own page.
    Session {
        /// The request to show then; none: all that are open.
        back: Option<RequestId>,
    },
}

impl Purpose {
    /// The decision it completes, if it completes one: reference, and whether it is for all runs.
    #[must_use]
    pub fn approves(&self) -> Option<(&str, bool)> {
        match self {
            Self::Press { reference, all, .. } | Self::Page { reference, all, .. } => Some((reference, *all)),
            Self::Session { .. } => None,
        }
    }
}

/// Seals tickets and derives what a sign-in needs.
#[derive(Clone)]
pub struct Seals {
    key: [u8; 32],
}

impl std::fmt::Debug for Seals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seals(…)")
    }
}

impl Seals {
    /// Derives the key from a secret of the bot's.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self { key: mac(secret, &[b"countersign.step-up.v1"]) }
    }

    /// The ticket as text: its JSON and the seal.
    #[must_use]
    pub fn seal(&self, ticket: &Ticket) -> String {
        self.sealed(b"ticket", ticket)
    }

    /// The ticket, if it is ours and still good. Constant time in the seal.
    #[must_use]
    pub fn open(&self, text: &str, now: u64) -> Option<Ticket> {
        self.opened(b"ticket", text).filter(|ticket: &Ticket| now < ticket.until)
    }

    /// A value as text, sealed for one use.
    pub(crate) fn sealed<T: Serialize>(&self, use_: &[u8], value: &T) -> String {
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).unwrap_or_default());
        let seal = mac(&self.key, &[use_, body.as_bytes()]);
        format!("{body}.{}", hex::encode(seal))
    }

    /// The value, if it was sealed here for this use. Constant time in the seal.
    pub(crate) fn opened<T: DeserializeOwned>(&self, use_: &[u8], text: &str) -> Option<T> {
        if text.len() > MAX_SEALED {
            return None;
        }
        let (body, seal) = text.split_once('.')?;
        let given = hex::decode(seal).ok()?;
        let right = mac(&self.key, &[use_, body.as_bytes()]);
        if !bool::from(subtle::ConstantTimeEq::ct_eq(right.as_slice(), given.as_slice())) {
            return None;
        }
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()
    }

    /// The seal of a form: of one session, for one request as it was shown, with a number used once.
    pub(crate) fn form(&self, session: &str, reference: &str, nonce: &str) -> [u8; 32] {
        mac(&self.key, &[b"form", session.as_bytes(), reference.as_bytes(), nonce.as_bytes()])
    }

    /// The PKCE verifier of one sign-in.
    pub(crate) fn verifier(&self, ticket: &str, state: &str) -> String {
        URL_SAFE_NO_PAD.encode(mac(&self.key, &[b"verifier", ticket.as_bytes(), state.as_bytes()]))
    }

    /// The nonce of one sign-in.
    pub(crate) fn nonce(&self, ticket: &str, state: &str) -> String {
        hex::encode(mac(&self.key, &[b"nonce", ticket.as_bytes(), state.as_bytes()]))
    }
}

/// HMAC-SHA-256 over parts, each with its length, so that no two lists of parts are the same bytes.
fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        // HMAC takes keys of any length.
        Err(_) => Hmac::<Sha256>::new(&hmac::digest::Key::<Hmac<Sha256>>::default()),
    };
    for part in parts {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::{Purpose, Seals, Ticket};

    #[test]
    fn a_ticket_cannot_be_changed_nor_kept() {
        let seals = Seals::new(b"secret");
        let pressed = |user: &str| Purpose::Press { reference: "v1.x.y".to_owned(), user: user.to_owned(), all: false };
        let ticket = Ticket { purpose: pressed("U0DANA"), until: 1_000 };
        let text = seals.seal(&ticket);
        assert_eq!(seals.open(&text, 999), Some(ticket.clone()));
        assert_eq!(seals.open(&text, 1_000), None);
        assert_eq!(Seals::new(b"other").open(&text, 999), None);
        let other = seals.seal(&Ticket { purpose: pressed("U0EVIL"), ..ticket });
        // Sealed for another use, it is nothing.
        assert_eq!(seals.opened::<Ticket>(b"session", &text), None);
        let (body, _) = other.split_once('.').unwrap();
        let (_, seal) = text.split_once('.').unwrap();
        for forged in [format!("{body}.{seal}"), format!("{body}."), body.to_owned(), String::new(), format!("{text}00"), "a".repeat(5_000)]
        {
            assert_eq!(seals.open(&forged, 999), None, "{forged}");
        }
        assert_ne!(seals.verifier("a", "bc"), seals.verifier("ab", "c"));
        assert_ne!(seals.nonce("a", "b"), seals.verifier("a", "b"));
        assert!((43..=128).contains(&seals.verifier("a", "b").len()), "RFC 7636, 4.1");
    }
}
