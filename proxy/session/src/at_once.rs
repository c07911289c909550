//! Held statements that run without waiting: covered by a signed template, or because somebody with the right to it breaks glass.
//!
//! Both leave the same trail as a hold that was granted: a [`Event::Hold`] with the request whole, and an [`Event::Approval`] that says how
//! it opened, before anything goes upstream. Whether a template covers a statement is [`countersign_approval::template`]'s to judge.

use bytes::Bytes;
use countersign_approval::template::{Statement, Terms};
use countersign_approval::verify::RequesterIdentity;
use countersign_approval::{StatementDigest, TemplateUse};
use countersign_policy::HoldTerms;
use countersign_recording::Event;
use countersign_recording::v1::event::Parameter;

use crate::effect::BreakGlass;
use crate::errors;
use crate::hold::{Held, What};
use crate::permit::Permit;
use crate::session::{Intake, Session};
use crate::sources::reviewer_sources;

impl Session {
    /// The template that covers what is held, if one does.
    pub(crate) fn template_for(&self, text: &Bytes, parameters: &[Parameter], held: &Held) -> Option<TemplateUse> {
        // A template never grants clear text, and is reviewed as one statement.
        let [facts] = held.judged.judgement.statements.as_slice() else { return None };
        // Nor was what a name stands for reviewed with it, nor another meaning of the same text.
        if self.templates.is_empty() || self.state.is_altered() || held.judged.judgement.trace.unmask() || !facts.executes.is_empty() {
            return None;
        }
        let touches: Vec<String> =
            facts.reads.iter().chain(&facts.writes).map(|relation| format!("{}.{}", relation.schema, relation.name)).collect();
        let groups: Vec<String> = self.principal.groups.iter().cloned().collect();
        let values: Vec<countersign_approval::Parameter<'_>> = parameters
            .iter()
            .map(|parameter| countersign_approval::Parameter {
                type_oid: parameter.type_oid,
                format: parameter.format,
                value: parameter.value.as_deref(),
            })
            .collect();
        let statement = Statement {
            text,
            parameters: &values,
            touches: &touches,
            calls: &facts.functions,
            database: &self.database,
            rule: &held.judged.judgement.rule,
            requester: RequesterIdentity {
                issuer: &self.principal.issuer,
                subject: &self.principal.subject,
                email: self.principal.email.as_deref(),
            },
            groups: &groups,
            now: self.now_us / 1_000_000,
        };
        let terms = Terms {
            reviewers: &held.terms.reviewers,
            sources: &reviewer_sources(&held.terms.sources),
            quorum: held.terms.quorum,
            step_up: held.terms.step_up,
        };
        self.templates.find(&statement, &terms)
    }

    /// Runs what a template covers.
    pub(crate) fn run_templated(&mut self, held: Held, statement: u64, digest: StatementDigest, found: &TemplateUse) {
        self.record(Event::Hold { statement, request: found.request.clone(), body: found.body.clone() });
        self.record(Event::Approval {
            statement,
            request: found.request.clone(),
            outcome: "template".to_owned(),
            decisions: found.tokens.clone(),
        });
        match Permit::templated(statement, &digest, found) {
            Ok(permit) => self.run_held(permit, held),
            Err(mismatch) => {
                self.anomaly(statement, mismatch.to_string());
                let error = errors::error("42501", &format!("template {} is not for this statement", found.name));
                self.refuse_held(&held.what, statement, error);
            }
        }
    }

    /// Why and how this session may run what is held at once; `None` when it did not ask or may not.
    pub(crate) fn breaks_glass(&self, terms: &HoldTerms) -> Option<BreakGlass> {
        let reason = self.holding.break_glass.clone()?;
        let own = terms.break_glass.clone()?;
        own.groups.iter().any(|group| self.principal.groups.contains(group)).then_some(BreakGlass { reason, terms: own })
    }

    /// Runs what may run at once, now that it is on its way to reviewers.
    pub(crate) fn run_broken(&mut self, statement: u64, request: &str, body: String) {
        let Intake::Held(held) = std::mem::replace(&mut self.intake, Intake::Open) else { return };
        self.record(Event::Hold { statement, request: request.to_owned(), body });
        let permit = match Permit::broken_glass(statement, &held.terms, &self.principal) {
            // The policy may be another by now.
            Some(permit) if held.judged.judgement.policy == self.policy.digest() => permit,
            _ => {
                self.record(Event::Approval {
                    statement,
                    request: request.to_owned(),
                    outcome: "failed".to_owned(),
                    decisions: Vec::new(),
                });
                let error = errors::error("42501", "the policy changed, so this statement may no longer run at once");
                return self.refuse_held(&held.what, statement, error);
            }
        };
        self.record(Event::Approval { statement, request: request.to_owned(), outcome: "break-glass".to_owned(), decisions: Vec::new() });
        if self.holding.notices {
            let detail = format!("everybody responsible is told; it will be reviewed by {}", reviewers(&held));
            self.notice(&errors::notice(
                &format!("countersign: break-glass, the statement runs without approval under {request}"),
                Some(detail),
            ));
        }
        self.run_held(permit, *held);
    }

    fn run_held(&mut self, permit: Permit, held: Held) {
        match held.what {
            // No request in the store waits for its end.
            What::Query { text } => self.forward_query(permit, &text, &held.judged, None),
            What::Bind(bind) => self.forward_bind(permit, *bind, held.judged, None),
            What::Fetch(fetch) => self.forward_fetch(permit, &fetch, &held.judged, None),
        }
    }
}

fn reviewers(held: &Held) -> String {
    held.terms.break_glass.as_ref().map(|terms| terms.reviewers.join(", ")).unwrap_or_default()
}
