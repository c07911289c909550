//! A request's canonical bytes, and the way back from bytes that came out of an untrusted store.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::v1::RequestParameter;
use crate::v2::ReviewerSource;
use crate::{Expectation, Parameter, Request, RequestId, StatementDigest};

/// The largest request anyone parses: DynamoDB's item limit is 400 KB, of which decisions and card need a share.
pub const MAX_REQUEST_BYTES: usize = 360_000;
/// Label of the fact that says whether a transaction waits with the statement. It may differ when the statement is asked for again.
pub const TRANSACTION_FACT: &str = "transaction";
/// Label of the fact that says how many rows the server's planner expects. It may differ likewise, within bounds.
pub const ESTIMATE_FACT: &str = "estimated rows";

const OPEN_FOR: &str = "open for ";
const LOCKS: &str = " s: locks taken so far are held while this waits";
const ABOUT: &str = "about ";
const BY_PLANNER: &str = ", as the server's planner expects without running it; triggers and cascades are not counted";

/// That a transaction has been open for so many seconds.
#[must_use]
pub fn transaction_fact(age: u64) -> (String, String) {
    (TRANSACTION_FACT.to_owned(), format!("{OPEN_FOR}{age}{LOCKS}"))
}

/// That the server's planner expects so many rows.
#[must_use]
pub fn estimate_fact(rows: u64) -> (String, String) {
    (ESTIMATE_FACT.to_owned(), format!("{ABOUT}{rows}{BY_PLANNER}"))
}

/// What belongs to one attempt among the facts: the estimate, if there is one. `None` when something stands there that no gateway wrote.
fn attempt(facts: &[(String, String)]) -> Option<Option<u64>> {
    let number = |value: &str, before: &str, after: &str| {
        let digits = value.strip_prefix(before)?.strip_suffix(after)?;
        digits.parse::<u64>().ok().filter(|number| number.to_string() == digits)
    };
    let (mut transaction, mut estimate) = (None, None);
    for (label, value) in facts {
        let earlier = match label.as_str() {
            TRANSACTION_FACT => transaction.replace(number(value, OPEN_FOR, LOCKS)?),
            ESTIMATE_FACT => estimate.replace(number(value, ABOUT, BY_PLANNER)?),
            _ => None,
        };
        if earlier.is_some() {
            return None;
        }
    }
    Some(estimate)
}

/// Bytes of a request as a store gave them; nothing in them is believed yet.
#[derive(Debug, Clone, Copy)]
pub struct UnverifiedRequest<'a>(&'a [u8]);

/// Why stored bytes are not a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Longer than [`MAX_REQUEST_BYTES`].
    #[error("request of {found} bytes, at most {MAX_REQUEST_BYTES} are taken")]
    TooLong {
        /// Length found.
        found: usize,
    },
    /// Not the JSON of a request.
    #[error("request is not version 1 or 2 JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Another version.
    #[error("request has version {0}, expected 1, or 2 where it has sources")]
    Version(u8),
    /// The same request has exactly one form.
    #[error("request is not in canonical form")]
    NotCanonical,
    /// A parameter's value is not base64.
    #[error("value of parameter {0} is not base64")]
    Parameter(usize),
    /// The digest is of something else than the statement and parameters beside it.
    #[error("digest does not match statement and parameters")]
    Digest,
}

/// The version a request with these sources has.
#[must_use]
pub const fn version(sources: &[ReviewerSource]) -> u8 {
    if sources.is_empty() { 1 } else { 2 }
}

impl Request {
    /// The canonical bytes: JSON without white space, fields in declaration order, maps sorted. These are stored, and these are
    /// what a reviewer's press refers to.
    ///
    /// # Errors
    /// Never for values of this type; the signature says so because `serde_json` does.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RequestError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Computes the digest of the statement and parameters as they stand here.
    ///
    /// # Errors
    /// When a parameter's value is not base64.
    pub fn compute_digest(&self) -> Result<StatementDigest, RequestError> {
        let values = self
            .parameters
            .iter()
            .enumerate()
            .map(|(at, parameter)| parameter.bytes().ok_or(RequestError::Parameter(at)))
            .collect::<Result<Vec<_>, _>>()?;
        let parameters = self.parameters.iter().zip(&values).map(|(parameter, value)| Parameter {
            type_oid: parameter.type_oid,
            format: parameter.format,
            value: value.as_deref(),
        });
        Ok(StatementDigest::compute(self.statement.as_bytes(), parameters))
    }

    /// SHA-256 of the canonical bytes, lower-case hex: what a decision says was shown.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        // Bytes that cannot be made are nobody's fingerprint.
        self.to_bytes().map(|bytes| hex::encode(Sha256::digest(bytes))).unwrap_or_default()
    }

    /// What every decision on this request must say.
    #[must_use]
    pub fn expectation(&self) -> Expectation {
        Expectation {
            request: self.id.clone(),
            environment: self.environment.clone(),
            digest: self.digest,
            shown: self.fingerprint(),
            requester_issuer: self.requester.issuer.clone(),
            requester_subject: self.requester.subject.clone(),
            requester_email: self.requester.email.clone(),
            database: self.database.clone(),
            policy: self.policy.clone(),
            rule: self.rule.clone(),
            expires_at: self.expires_at,
            reviewers: self.reviewers.clone(),
            sources: self.sources.clone(),
            quorum: self.quorum,
            runs: self.runs,
            step_up: self.step_up,
        }
    }

    /// The key under which the same request, asked again, is found: a digest over everything reviewers are shown but what belongs to the
    /// one attempt (id, times, session, whether a transaction was open, how many rows the planner expected).
    #[must_use]
    pub fn sameness(&self) -> String {
        let mut same = self.clone();
        same.id = RequestId::from_bytes([0; 16]);
        (same.created_at, same.expires_at) = (0, 0);
        same.session.clear();
        same.facts.retain(|(label, _)| label != TRANSACTION_FACT && label != ESTIMATE_FACT);
        let mut hash = Sha256::new();
        hash.update(b"countersign.again.v1\0");
        hash.update(same.to_bytes().unwrap_or_default());
        hex::encode(hash.finalize())
    }

    /// Whether `found`, which lies in an untrusted store, asks for exactly this, for no longer than this would, and may still be taken up.
    #[must_use]
    pub fn may_take_up(&self, found: &Self, now: u64) -> bool {
        let life = |request: &Self| request.expires_at.checked_sub(request.created_at);
        // Reviewers were not told of far fewer rows than are expected now: neither the tables grew so much, nor did anybody rewrite the fact.
        let estimates = match (attempt(&found.facts), attempt(&self.facts)) {
            (Some(None), _) => true,
            (Some(Some(shown)), Some(Some(now))) => shown >= now / 2,
            _ => false,
        };
        found.version == self.version
            && life(found).is_some()
            && life(found) == life(self)
            && found.created_at <= now.saturating_add(crate::verify::MAX_CLOCK_SKEW)
            && now < found.expires_at
            && estimates
            && found.sameness() == self.sameness()
    }
}

impl RequestParameter {
    /// From the bytes in Bind.
    #[must_use]
    pub fn new(type_oid: u32, format: i16, value: Option<&[u8]>) -> Self {
        Self { type_oid, format, value: value.map(|bytes| STANDARD.encode(bytes)) }
    }

    /// The bytes: outer `None` when they are not base64, inner `None` for NULL.
    #[must_use]
    pub fn bytes(&self) -> Option<Option<Vec<u8>>> {
        match &self.value {
            None => Some(None),
            Some(text) => STANDARD.decode(text).ok().map(Some),
        }
    }
}

impl<'a> UnverifiedRequest<'a> {
    /// Wraps stored bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// SHA-256 of the bytes, lower-case hex: what a card's buttons carry.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.0))
    }

    /// Checks form, version and that the digest is the digest of what stands beside it. Says nothing about who wrote it.
    ///
    /// # Errors
    /// Names what does not fit.
    pub fn parse(&self) -> Result<Request, RequestError> {
        if self.0.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLong { found: self.0.len() });
        }
        let request: Request = serde_json::from_slice(self.0)?;
        if request.version != version(&request.sources) {
            return Err(RequestError::Version(request.version));
        }
        if request.to_bytes()? != self.0 {
            return Err(RequestError::NotCanonical);
        }
        if request.compute_digest()? != request.digest {
            return Err(RequestError::Digest);
        }
        Ok(request)
    }
}
