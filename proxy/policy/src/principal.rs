//! Who asks: the verified identity behind a session.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A principal, made only from a verified token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// Issuer URL (`iss`).
    pub issuer: String,
    /// Subject (`sub`), unique within the issuer.
    pub subject: String,
    /// E-mail address, where the issuer vouches for it.
    pub email: Option<String>,
    /// Groups, from the configured claim.
    pub groups: BTreeSet<String>,
    /// Verified claims worth showing to reviewers and keeping in recordings (repository, workflow, run link …), by name.
    pub claims: BTreeMap<String, String>,
}
