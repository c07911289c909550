//! Pre-approved templates: the shape of a statement with bounds for its values, signed by the people who would otherwise be asked each time.
//!
//! A template is put before reviewers as a request of its own ([`RULE`]): its statement is the shape, its facts are everything else, in
//! words and once more as a document. What is signed is that whole request, so a template is verified as a grant is. It covers a statement
//! only if text, values, types, principal, database, rule and time all fit; whoever approved it is not covered by it. Owns the document, its
//! verification and its match; does not own where templates are kept (the policy) or what is recorded of their use.

mod bounds;
mod days;
mod shape;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use self::bounds::{Bounds, Characters};

use self::shape::Shape;
use crate::v2::ReviewerSource;
use crate::verify::{self, GrantError, RequesterIdentity};
use crate::{Decision, Parameter, Request, RequestError, StatementDigest, UnverifiedRequest, VerifyingKeys};

/// Rule of the requests templates are approved by. No rule of a policy may have this name.
pub const RULE: &str = "countersign:template";
/// Longest life of a template, in seconds.
pub const LONGEST_LIFE: u64 = 366 * 86_400;
/// Most parameters of a template.
pub const MOST_PARAMETERS: usize = 32;
/// Label of the fact that carries the document.
const DOCUMENT: &str = "document";

/// What a template says besides its statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Name, for recordings: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// Rule of the policy that holds such statements otherwise.
    pub rule: String,
    /// Groups whose members it is for.
    pub groups: Vec<String>,
    /// Principals it is for, `issuer|subject`.
    pub subjects: Vec<String>,
    /// First second it is good, seconds since the epoch.
    pub valid_from: u64,
    /// First second it is no longer good.
    pub valid_until: u64,
    /// Every relation such a statement reads or writes, `schema.name`: names in its text mean these and no others.
    pub touches: Vec<String>,
    /// Every function it calls beyond the harmless built-in ones, `schema.name`.
    pub calls: Vec<String>,
    /// Bounds of `$1`, `$2`, …
    pub parameters: Vec<Bounds>,
}

/// Why something is no template, or none to go by.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Not a request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A request for something else.
    #[error("its rule is `{0}`, not `{RULE}`")]
    Rule(String),
    /// Another deployment's.
    #[error("it is of environment `{0}`")]
    Environment(String),
    /// No document, or one that is none.
    #[error("its document cannot be read: {0}")]
    Document(String),
    /// What people read is not what the document says.
    #[error("its facts are not those of its document")]
    Facts,
    /// Something in it does not make sense.
    #[error("{0}")]
    Invalid(String),
    /// Not enough signatures.
    #[error(transparent)]
    Grant(#[from] GrantError),
}

/// Why a template does not cover a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("template does not fit: {0}")]
pub struct Mismatch(pub &'static str);

impl Template {
    /// The facts of the request that asks for this template: for people, then the document itself.
    #[must_use]
    pub fn facts(&self) -> Vec<(String, String)> {
        let mut facts = vec![
            ("template".to_owned(), self.name.clone()),
            ("effect".to_owned(), "every statement of this shape, with values within these bounds, runs without asking again".to_owned()),
            ("instead of".to_owned(), format!("holding it by rule {}", self.rule)),
            ("valid".to_owned(), format!("from {} until {}", days::time(self.valid_from), days::time(self.valid_until))),
        ];
        if !self.groups.is_empty() {
            facts.push(("for groups".to_owned(), self.groups.join(", ")));
        }
        if !self.subjects.is_empty() {
            facts.push(("for principals".to_owned(), self.subjects.join(", ")));
        }
        for (label, names) in [("touches", &self.touches), ("calls", &self.calls)] {
            facts.push((label.to_owned(), if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }));
        }
        facts.extend((1..).zip(&self.parameters).map(|(number, bounds): (usize, _)| (format!("${number}"), bounds.in_words())));
        facts.push((DOCUMENT.to_owned(), serde_json::to_string(self).unwrap_or_default()));
        facts
    }

    /// The template a request asks for.
    ///
    /// # Errors
    /// When it asks for none, or for one that does not make sense.
    pub fn of(request: &Request) -> Result<Self, TemplateError> {
        if request.rule != RULE {
            return Err(TemplateError::Rule(request.rule.clone()));
        }
        let document = request.facts.iter().find(|(label, _)| label == DOCUMENT).map(|(_, document)| document.as_str()).unwrap_or_default();
        let template: Self = serde_json::from_str(document).map_err(|error| TemplateError::Document(error.to_string()))?;
        if template.facts() != request.facts {
            return Err(TemplateError::Facts);
        }
        if !request.parameters.is_empty() || request.runs != 1 {
            return Err(TemplateError::Invalid("a request for a template has no values and is for one run".to_owned()));
        }
        template.check(&request.statement)?;
        Ok(template)
    }

    /// Whether it makes sense with this statement.
    ///
    /// # Errors
    /// Says what does not, and how to mend it.
    pub fn check(&self, statement: &str) -> Result<(), TemplateError> {
        let fault = |why: &str| Err(TemplateError::Invalid(why.to_owned()));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if self.name.is_empty() || self.name.len() > 100 || !self.name.bytes().all(plain) {
            return fault("the name must be 1 to 100 letters, digits, `-`, `_` or `.`");
        }
        if self.groups.is_empty() && self.subjects.is_empty() {
            return fault("it is for nobody: name groups or subjects");
        }
        if self.groups.iter().chain(&self.subjects).any(String::is_empty) {
            return fault("an empty group or subject means nobody");
        }
        if self.valid_from >= self.valid_until || self.valid_until.saturating_sub(self.valid_from) > LONGEST_LIFE {
            return fault("it must be valid for at least a second and at most 366 days");
        }
        if self.parameters.len() > MOST_PARAMETERS {
            return fault("it has more than 32 parameters");
        }
        for bounds in &self.parameters {
            bounds.check().map_err(|why| TemplateError::Invalid(why.to_owned()))?;
        }
        Shape::parse(statement, self.parameters.len()).map(|_| ()).map_err(|why| TemplateError::Invalid(why.to_owned()))
    }
}

/// A template whose signatures hold. Only [`VerifiedTemplate::verify`] makes one.
#[derive(Debug, Clone)]
pub struct VerifiedTemplate {
    template: Template,
    request: Request,
    body: String,
    tokens: Vec<String>,
    decisions: Vec<Decision>,
}

/// A statement that wants to run.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// Its exact text.
    pub text: &'a [u8],
    /// Its bound values.
    pub parameters: &'a [Parameter<'a>],
    /// Relations it reads or writes, as it was judged.
    pub touches: &'a [String],
    /// Functions it calls, as it was judged.
    pub calls: &'a [String],
    /// Database.
    pub database: &'a str,
    /// Rule that holds it.
    pub rule: &'a str,
    /// Who wants to run it.
    pub requester: RequesterIdentity<'a>,
    /// The requester's groups.
    pub groups: &'a [String],
    /// Seconds since the epoch.
    pub now: u64,
}

/// Terms a statement is held under, which the template's reviewers must meet.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Groups that may decide.
    pub reviewers: &'a [String],
    /// Where members of them are found beside those the policy lists.
    pub sources: &'a [ReviewerSource],
    /// Distinct reviewers.
    pub quorum: u32,
    /// Whether an approval takes a sign-in.
    pub step_up: bool,
}

impl VerifiedTemplate {
    /// Verifies a template: the request as it was shown and the decisions on it.
    ///
    /// # Errors
    /// Says what does not hold.
    pub fn verify(body: &str, tokens: &[String], environment: &str, keys: &VerifyingKeys) -> Result<Self, TemplateError> {
        let request = UnverifiedRequest::new(body.as_bytes()).parse()?;
        if request.environment != environment {
            return Err(TemplateError::Environment(request.environment));
        }
        let template = Template::of(&request)?;
        // Decided in time, whatever the time is now: how long it is good the template says.
        let then = request.expires_at.saturating_sub(1);
        let quorum = verify::quorum(&request.expectation(), tokens, keys, then)?;
        let decisions = quorum.decisions().to_vec();
        Ok(Self { template, request, body: body.to_owned(), tokens: tokens.to_vec(), decisions })
    }

    /// The template.
    #[must_use]
    pub const fn template(&self) -> &Template {
        &self.template
    }

    /// The request it was approved by.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// Who approved it.
    #[must_use]
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// Whether it covers a statement. `terms`: those it is held under, where they are known.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn covers(&self, statement: &Statement<'_>, terms: Option<&Terms<'_>>) -> Result<(), Mismatch> {
        let Template { rule, groups, subjects, valid_from, valid_until, parameters, touches, calls, .. } = &self.template;
        if statement.now < *valid_from || statement.now >= *valid_until {
            return Err(Mismatch("it is not valid at this time"));
        }
        if statement.database != self.request.database {
            return Err(Mismatch("it is for another database"));
        }
        if statement.rule != rule {
            return Err(Mismatch("it is for another rule"));
        }
        // The search path and temporary tables are the client's: what names mean is judged each time.
        if !statement.touches.iter().all(|name| touches.contains(name)) || !statement.calls.iter().all(|name| calls.contains(name)) {
            return Err(Mismatch("it means other relations or functions"));
        }
        let link = format!("{}|{}", statement.requester.issuer, statement.requester.subject);
        if !subjects.contains(&link) && !statement.groups.iter().any(|group| groups.contains(group)) {
            return Err(Mismatch("it is for other principals"));
        }
        if let Some(terms) = terms {
            let sorted = |list: &[String]| {
                let mut list = list.to_vec();
                list.sort();
                list.dedup();
                list
            };
            if sorted(&self.request.reviewers) != sorted(terms.reviewers) {
                return Err(Mismatch("other reviewers decide on such statements"));
            }
            let by = |list: &[ReviewerSource]| list.iter().cloned().collect::<BTreeSet<_>>();
            if by(&self.request.sources) != by(terms.sources) {
                return Err(Mismatch("who those reviewers are is found another way now"));
            }
            if self.request.quorum.max(1) < terms.quorum {
                return Err(Mismatch("such statements need more reviewers"));
            }
            if terms.step_up && !self.request.step_up {
                return Err(Mismatch("such statements need reviewers who sign in"));
            }
        }
        // INVARIANT: four eyes. What somebody approved is for others.
        let own = |decision: &Decision| {
            let signed_in = decision.step_up.as_ref();
            statement.requester.is(&decision.reviewer)
                || decision.snapshot.iter().any(|snapshot| statement.requester.has_any(&snapshot.addresses))
                || signed_in.is_some_and(|by| by.issuer == statement.requester.issuer && by.subject == statement.requester.subject)
        };
        let expected = self.request.expectation();
        let mixed_up = |decision: &Decision| verify::is_member(&expected, &statement.requester, decision).is_err();
        if self.decisions.iter().any(|decision| own(decision) || mixed_up(decision)) {
            return Err(Mismatch("the requester approved it"));
        }
        let shape = Shape::parse(&self.request.statement, parameters.len()).map_err(Mismatch)?;
        shape.admits(statement.text, statement.parameters, parameters).map_err(Mismatch)
    }
}

/// That a template covers one statement: permission for it. Only [`Templates::find`] makes one.
#[derive(Debug, Clone)]
pub struct TemplateUse {
    digest: StatementDigest,
    /// Name of the template.
    pub name: String,
    /// Id of the request it was approved by.
    pub request: String,
    /// That request, whole.
    pub body: String,
    /// The decisions on it, as signed.
    pub tokens: Vec<String>,
}

impl TemplateUse {
    /// Digest of the statement and values it is for.
    #[must_use]
    pub const fn digest(&self) -> &StatementDigest {
        &self.digest
    }
}

/// The templates of one policy whose signatures hold.
#[derive(Debug, Clone, Default)]
pub struct Templates(Vec<VerifiedTemplate>);

impl Templates {
    /// These.
    #[must_use]
    pub const fn new(templates: Vec<VerifiedTemplate>) -> Self {
        Self(templates)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first that covers a statement under these terms.
    #[must_use]
    pub fn find(&self, statement: &Statement<'_>, terms: &Terms<'_>) -> Option<TemplateUse> {
        let found = self.0.iter().find(|template| template.covers(statement, Some(terms)).is_ok())?;
        Some(TemplateUse {
            digest: StatementDigest::compute(statement.text, statement.parameters.iter().copied()),
            name: found.template.name.clone(),
            request: found.request.id.to_string(),
            body: found.body.clone(),
            tokens: found.tokens.clone(),
        })
    }
}
