//! Slack's request signature, version 0, over the raw body.
//! <https://docs.slack.dev/authentication/verifying-requests-from-slack>

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// How old, or how far ahead, a request may be, in seconds.
pub const MAX_AGE: u64 = 300;

/// Why a request is not from Slack. Says nothing about what would have been right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// A header is missing or malformed.
    #[error("signature headers are missing or malformed")]
    Malformed,
    /// Too old or from the future.
    #[error("request is older than five minutes, or its clock is ahead")]
    Age,
    /// Not signed with the signing secret.
    #[error("signature does not match")]
    Mismatch,
}

/// Verifies `X-Slack-Signature` and `X-Slack-Request-Timestamp`, in constant time.
///
/// # Errors
/// Says in general terms what is wrong.
pub fn verify(secret: &[u8], timestamp: Option<&str>, signature: Option<&str>, body: &[u8], now: u64) -> Result<(), SignatureError> {
    let timestamp = timestamp.ok_or(SignatureError::Malformed)?;
    if timestamp.is_empty() || timestamp.len() > 12 || !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SignatureError::Malformed);
    }
    let seconds: u64 = timestamp.parse().map_err(|_| SignatureError::Malformed)?;
    let hex = signature.and_then(|signature| signature.strip_prefix("v0=")).ok_or(SignatureError::Malformed)?;
    let given = hex::decode(hex).map_err(|_| SignatureError::Malformed)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| SignatureError::Mismatch)?;
    mac.update(b"v0:");
    mac.update(timestamp.as_bytes());
    mac.update(b":");
    mac.update(body);
    mac.verify_slice(&given).map_err(|_| SignatureError::Mismatch)?;
    if now.abs_diff(seconds) > MAX_AGE { Err(SignatureError::Age) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::{SignatureError, verify};

    // The example of Slack's own documentation.
    const SECRET: &[u8] = b"8f742231b10e8888abcd99yyyzzz85a5";
    const BODY: &[u8] = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const TIME: &str = "1531420618";
    const SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";

    #[test]
    fn only_fresh_requests_with_the_right_mac_pass() {
        let at = 1_531_420_618;
        type Case<'a> = (Option<&'a str>, Option<&'a str>, &'a [u8], u64, Result<(), SignatureError>);
        let cases: [Case<'_>; 11] = [
            (Some(TIME), Some(SIGNATURE), BODY, at, Ok(())),
            (Some(TIME), Some(SIGNATURE), BODY, at + 300, Ok(())),
            (Some(TIME), Some(SIGNATURE), BODY, at + 301, Err(SignatureError::Age)),
            (Some(TIME), Some(SIGNATURE), BODY, at - 301, Err(SignatureError::Age)),
            (Some(TIME), Some(SIGNATURE), b"token=other", at, Err(SignatureError::Mismatch)),
            (Some("1531420619"), Some(SIGNATURE), BODY, at, Err(SignatureError::Mismatch)),
            (Some(TIME), SIGNATURE.get(..60), BODY, at, Err(SignatureError::Malformed)),
            (Some(TIME), SIGNATURE.get(..61), BODY, at, Err(SignatureError::Mismatch)),
            (Some(TIME), SIGNATURE.get(3..), BODY, at, Err(SignatureError::Malformed)),
            (None, Some(SIGNATURE), BODY, at, Err(SignatureError::Malformed)),
            (Some("+1531420618"), Some(SIGNATURE), BODY, at, Err(SignatureError::Malformed)),
        ];
        for (time, signature, body, now, expected) in cases {
            assert_eq!(verify(SECRET, time, signature, body, now), expected, "{time:?} {signature:?} {now}");
        }
        assert_eq!(verify(b"other secret", Some(TIME), Some(SIGNATURE), BODY, at), Err(SignatureError::Mismatch));
    }
}
