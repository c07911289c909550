//! Who is at the page, and whose form it is: a sealed cookie of some minutes, and a number in each form that is good once, for that session
//! and for the request as it was shown. Nothing is kept; no I/O.

use std::collections::BTreeSet;

use axum::http::{HeaderMap, header};
use countersign_approval::v1::StepUp;
use serde::{Deserialize, Serialize};

use crate::decide::SignIn;
use crate::step_up::Seals;

/// How long a sign-in opens the page, in seconds. It is not prolonged.
pub(super) const SESSION_LIFE: u64 = 600;
const USE: &[u8] = b"session";

/// Somebody's sign-in at this browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Session {
    /// Told apart by this, so that a form of one is nothing in another.
    id: String,
    sign_in: Who,
    until: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Who {
    step_up: StepUp,
    email: Option<String>,
    groups: BTreeSet<String>,
}

impl Session {
    /// Begins now.
    pub(super) fn begin(sign_in: SignIn, now: u64) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        Self {
            id,
            sign_in: Who { step_up: sign_in.step_up, email: sign_in.email, groups: sign_in.groups },
            until: now.saturating_add(SESSION_LIFE),
        }
    }

    /// The sign-in.
    pub(super) fn sign_in(&self) -> SignIn {
        let Who { step_up, email, groups } = self.sign_in.clone();
        SignIn { step_up, email, groups }
    }

    /// As the cookie's value.
    pub(super) fn sealed(&self, seals: &Seals) -> String {
        seals.sealed(USE, self)
    }

    /// The session of this browser, if it has one that is ours, good, and of this issuer.
    pub(super) fn of(headers: &HeaderMap, name: &str, seals: &Seals, issuer: &str, now: u64) -> Option<Self> {
        let session: Self = seals.opened(USE, &cookie(headers, name)?)?;
        (now < session.until && session.sign_in.step_up.issuer == issuer).then_some(session)
    }

    /// A token for a form that shows `reference`.
    pub(super) fn token(&self, seals: &Seals, reference: &str) -> String {
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        let seal = seals.form(&self.id, reference, &nonce);
        format!("{nonce}.{}", hex::encode(seal))
    }

    /// The number of a form's token, if the form is this session's and showed `reference`. Whether it was used already, others know.
    pub(super) fn number(&self, seals: &Seals, reference: &str, token: &str) -> Option<String> {
        if token.len() > 200 {
            return None;
        }
        let (nonce, seal) = token.split_once('.')?;
        let (given, right) = (hex::decode(seal).ok()?, seals.form(&self.id, reference, nonce));
        bool::from(subtle::ConstantTimeEq::ct_eq(right.as_slice(), given.as_slice())).then(|| nonce.to_owned())
    }
}

/// A cookie's value. Two of one name are none: one of them was put there by somebody else.
pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    let mut ours = all.filter_map(|pair| pair.trim().split_once('=')).filter(|(known, _)| *known == name);
    let (_, value) = ours.next()?;
    ours.next().is_none().then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;

    use axum::http::{HeaderMap, header};
    use countersign_approval::v1::StepUp;

    use super::Session;
    use crate::decide::SignIn;
    use crate::step_up::Seals;

    fn session(subject: &str) -> Session {
        let step_up = StepUp { issuer: "https://issuer.example".to_owned(), subject: subject.to_owned(), at: 1_000 };
        Session::begin(SignIn { step_up, email: None, groups: BTreeSet::new() }, 1_000)
    }

    fn found(cookies: &[String], now: u64) -> Option<Session> {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::COOKIE, cookie.parse().unwrap());
        }
        Session::of(&headers, "c", &Seals::new(b"secret"), "https://issuer.example", now)
    }

    #[test]
    fn a_session_is_sealed_short_and_one() {
        let own = session("dana");
        let cookie = format!("c={}", own.sealed(&Seals::new(b"secret")));
        assert_eq!(found(&[format!("a=b; {cookie}")], 1_599), Some(own.clone()));
        assert_eq!(found(std::slice::from_ref(&cookie), 1_600), None);
        let foreign = format!("c={}", own.sealed(&Seals::new(b"other")));
        for none in [vec![foreign.clone()], vec![cookie.clone(), foreign], vec![cookie[1..].to_owned()], vec![format!("{cookie}0")], vec![]]
        {
            assert_eq!(found(&none, 1_001), None, "{none:?}");
        }
        // A ticket is no session, though sealed with the same key.
        let ticket = Seals::new(b"secret").sealed(b"ticket", &own);
        assert_eq!(found(&[format!("c={ticket}")], 1_001), None);
    }

    #[test]
    fn a_form_is_of_one_session_and_one_request() {
        let seals = Seals::new(b"secret");
        let (dana, erin) = (session("dana"), session("erin"));
        let token = dana.token(&seals, "v1.a.b");
        let number = dana.number(&seals, "v1.a.b", &token).unwrap();
        assert_ne!(dana.token(&seals, "v1.a.b").split_once('.').unwrap().0, number);
        assert_eq!(dana.number(&seals, "v1.a.c", &token), None);
        assert_eq!(erin.number(&seals, "v1.a.b", &token), None);
        assert_eq!(dana.number(&Seals::new(b"other"), "v1.a.b", &token), None);
        for forged in ["", ".", &number, &format!("{number}."), &format!("x{token}"), &"a".repeat(1 << 16)] {
            assert_eq!(dana.number(&seals, "v1.a.b", forged), None, "{forged}");
        }
    }
}
