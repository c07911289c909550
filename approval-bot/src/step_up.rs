//! Step-up: for the top tier a press in Slack is not enough, the reviewer also signs in at the identity provider, on the bot's own page.
//!
//! A press answers with a link that carries a *ticket*: what was pressed, by whom, sealed with a key of the bot's and good for some
//! minutes. The page behind it shows the whole request. Signing in goes the authorization code way with PKCE (RFC 7636, S256), `state`
//! bound to the browser by a cookie, a `nonce`, and a login that is demanded anew (`prompt=login`, `max_age=0`). Verifier and nonce are
//! computed from the key, so nothing is kept anywhere; each sign-in counts once. Whoever signs in must be the person who pressed.
//! OpenID Connect Core 1.0: <https://openid.net/specs/openid-connect-core-1_0.html>

mod pages;
mod provider;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

pub use self::pages::routes;
pub use self::provider::{Provider, StepUpError};

/// How long a ticket is good, in seconds.
pub const TICKET_LIFE: u64 = 300;
/// The largest ticket anyone looks at.
const MAX_TICKET: usize = 2_048;

/// What was pressed, by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// The button's reference: request and fingerprint of what was shown.
    pub reference: String,
    /// Slack user.
    pub user: String,
    /// Approve all runs the request allows, or one.
    pub all: bool,
    /// Until when it is good, seconds since the epoch.
    pub until: u64,
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
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(ticket).unwrap_or_default());
        let seal = mac(&self.key, &[b"ticket", body.as_bytes()]);
        format!("{body}.{}", hex::encode(seal))
    }

    /// The ticket, if it is ours and still good. Constant time in the seal.
    #[must_use]
    pub fn open(&self, text: &str, now: u64) -> Option<Ticket> {
        if text.len() > MAX_TICKET {
            return None;
        }
        let (body, seal) = text.split_once('.')?;
        let given = hex::decode(seal).ok()?;
        let right = mac(&self.key, &[b"ticket", body.as_bytes()]);
        if !bool::from(subtle::ConstantTimeEq::ct_eq(right.as_slice(), given.as_slice())) {
            return None;
        }
        let ticket: Ticket = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()?;
        (now < ticket.until).then_some(ticket)
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

    use super::{Seals, Ticket};

    #[test]
    fn a_ticket_cannot_be_changed_nor_kept() {
        let seals = Seals::new(b"secret");
        let ticket = Ticket { reference: "v1.x.y".to_owned(), user: "U0DANA".to_owned(), all: false, until: 1_000 };
        let text = seals.seal(&ticket);
        assert_eq!(seals.open(&text, 999), Some(ticket.clone()));
        assert_eq!(seals.open(&text, 1_000), None);
        assert_eq!(Seals::new(b"other").open(&text, 999), None);
        let other = seals.seal(&Ticket { user: "U0EVIL".to_owned(), ..ticket });
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
