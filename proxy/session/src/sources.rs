//! Where members of reviewer groups are found: from the policy's words to those of requests. No I/O.

use countersign_approval::v2::{ReviewerSource, Source};
use countersign_policy::{GroupBy, GroupSource};

/// What a request says of these sources of the policy, in one order.
#[must_use]
pub fn reviewer_sources(sources: &[GroupSource]) -> Vec<ReviewerSource> {
    let mut said: Vec<ReviewerSource> = sources
        .iter()
        .map(|source| ReviewerSource {
            group: source.group.clone(),
            by: match &source.by {
                GroupBy::SlackUsergroup { team, id } => Source::SlackUsergroup { team: team.clone(), id: id.clone() },
                GroupBy::IdentityProviderGroup { issuer, group } => {
                    Source::IdentityProviderGroup { issuer: issuer.clone(), group: group.clone() }
                }
            },
            machine_issuers: source.machine_issuers.iter().cloned().collect(),
        })
        .collect();
    said.sort();
    said
}
