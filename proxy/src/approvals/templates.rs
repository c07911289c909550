//! Templates of the policy in force: their signatures are verified once for each policy, not once for each session.

use std::sync::{Arc, Mutex, PoisonError};

use countersign_approval::{Templates, VerifiedTemplate, VerifyingKeys};
use countersign_policy::{Policy, PolicyDigest};

/// Templates of the policy last asked for.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Option<(PolicyDigest, Arc<Templates>)>>);

impl Cache {
    /// The templates of a policy. What does not hold is logged and passed over: its statements are held then.
    pub(super) fn of(&self, policy: &Policy, environment: &str, keys: &VerifyingKeys) -> Arc<Templates> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((digest, templates)) = known.as_ref()
            && *digest == policy.digest()
        {
            return Arc::clone(templates);
        }
        let mut verified = Vec::new();
        for (place, signed) in (1_usize..).zip(policy.templates()) {
            match VerifiedTemplate::verify(&signed.request, &signed.decisions, environment, keys) {
                Ok(template) => {
                    let by: Vec<&str> = template.decisions().iter().map(|decision| decision.reviewer.person.as_str()).collect();
                    tracing::info!(template.name = %template.template().name, template.request = %template.request().id, template.approved_by = ?by, "template in force");
                    verified.push(template);
                }
                Err(error) => {
                    tracing::error!(template.place = place, %error, "template does not hold and is passed over: its statements wait for reviewers");
                }
            }
        }
        let templates = Arc::new(Templates::new(verified));
        *known = Some((policy.digest(), Arc::clone(&templates)));
        templates
    }
}
