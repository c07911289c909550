//! Expiring links to a request's whole text, for cards that cannot hold it. Reading needs the link; deciding needs Slack.

use countersign_approval::RequestId;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// Makes and checks links.
#[derive(Clone)]
pub struct Links {
    key: [u8; 32],
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Links(…)")
    }
}

impl Links {
    /// Derives the key from a secret of the bot's.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let mut mac = mac(secret);
        mac.update(b"countersign.link.v1");
        Self { key: mac.finalize().into_bytes().into() }
    }

    /// Path and query of the link, good until the given second.
    #[must_use]
    pub fn path(&self, id: &RequestId, until: u64) -> String {
        let mut mac = mac(&self.key);
        mac.update(Self::message(id, until).as_bytes());
        format!("/requests/{id}?until={until}&key={}", hex::encode(mac.finalize().into_bytes()))
    }

    /// Whether a link is ours and still good. Constant time.
    #[must_use]
    pub fn admits(&self, id: &RequestId, until: u64, key: &str, now: u64) -> bool {
        let mut mac = mac(&self.key);
        mac.update(Self::message(id, until).as_bytes());
        hex::decode(key).is_ok_and(|key| mac.verify_slice(&key).is_ok()) && now < until
    }

    fn message(id: &RequestId, until: u64) -> String {
        format!("{id}|{until}")
    }
}

/// HMAC takes keys of any length.
fn mac(key: &[u8]) -> Hmac<Sha256> {
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => Hmac::<Sha256>::new(&hmac::digest::Key::<Hmac<Sha256>>::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::Links;
    use countersign_approval::RequestId;

    #[test]
    fn a_link_is_for_one_request_and_one_time() {
        let links = Links::new(b"secret");
        let (one, two) = (RequestId::from_bytes([1; 16]), RequestId::from_bytes([2; 16]));
        let path = links.path(&one, 1_000);
        let key = path.rsplit_once("key=").map(|(_, key)| key).unwrap_or_default();
        assert!(links.admits(&one, 1_000, key, 999));
        assert!(!links.admits(&one, 1_000, key, 1_000));
        assert!(!links.admits(&one, 2_000, key, 999));
        assert!(!links.admits(&two, 1_000, key, 999));
        assert!(!Links::new(b"other").admits(&one, 1_000, key, 999));
    }
}
