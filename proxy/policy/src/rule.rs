//! What a validated policy says: rules, masks, settings.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_masking::detect::Detectors;

use crate::StatementKind;
use crate::pattern::{ColumnPattern, Glob, NamePattern};
use crate::principal::Principal;
use crate::roster::GroupSource;

/// One rule. The first whose conditions all hold decides for a statement.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Unique name, recorded with each decision.
    pub name: String,
    /// Who it is about.
    pub who: Who,
    /// Databases it is about; empty: all.
    pub databases: Vec<Glob>,
    /// Statements it is about.
    pub what: What,
    /// Times it is about; `None`: always.
    pub when: Option<When>,
    /// What it says.
    pub action: Action,
}

/// Conditions on the principal. Each non-empty list must have a match.
#[derive(Debug, Clone, Default)]
pub struct Who {
    /// Groups, any of which is enough.
    pub groups: Vec<Glob>,
    /// Subjects, any of which is enough.
    pub subjects: Vec<Glob>,
    /// E-mail addresses, any of which is enough.
    pub emails: Vec<Glob>,
    /// Claims: every one named must have one of its values.
    pub claims: BTreeMap<String, Vec<Glob>>,
}

impl Who {
    /// Whether a principal is meant.
    #[must_use]
    pub fn matches(&self, principal: &Principal) -> bool {
        let any = |patterns: &[Glob], value: Option<&str>| {
            patterns.is_empty() || value.is_some_and(|value| patterns.iter().any(|pattern| pattern.matches(value)))
        };
        (self.groups.is_empty() || principal.groups.iter().any(|group| self.groups.iter().any(|pattern| pattern.matches(group))))
            && any(&self.subjects, Some(&principal.subject))
            && any(&self.emails, principal.email.as_deref())
            && self
                .claims
                .iter()
                .all(|(name, values)| principal.claims.get(name).is_some_and(|value| values.iter().any(|pattern| pattern.matches(value))))
    }
}

/// Conditions on the statement. Absent lists hold for every statement.
#[derive(Debug, Clone, Default)]
pub struct What {
    /// Statement classes.
    pub kinds: Vec<StatementKind>,
    /// Relations touched: for an allow rule each of them must match, for the others any.
    pub relations: Vec<NamePattern>,
    /// Functions called beyond the harmless built-in ones: for an allow rule each of them must match, for the others any.
    pub functions: Vec<NamePattern>,
    /// Only UPDATE and DELETE without (`true`) or with (`false`) a WHERE clause.
    pub missing_where: Option<bool>,
    /// Only statements without a literal LIMIT of at most this many rows.
    pub rows_above: Option<u64>,
}

/// Days and hours, in a fixed offset from UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    /// Days of the week, 0 is Monday; empty: every day.
    pub days: Vec<u8>,
    /// First minute of the day.
    pub from: u32,
    /// First minute of the day that is no longer meant; a value below `from` wraps over midnight.
    pub until: u32,
    /// Seconds east of UTC.
    pub offset: i32,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Forward.
    Allow,
    /// Refuse, with an optional text for the client.
    Deny(Option<String>),
    /// Wait for reviewers.
    Hold(Hold),
}

/// Terms of a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Roster groups.
    pub reviewers: Vec<String>,
    /// Where members of those are found beside the people listed.
    pub sources: Vec<GroupSource>,
    /// Distinct reviewers that must approve.
    pub quorum: u32,
    /// How long a request stays open.
    pub expiry: Duration,
    /// Shown to reviewers.
    pub reason: String,
    /// What the client does meanwhile.
    pub on_hold: OnHold,
    /// Identical runs that may be approved at once.
    pub runs: u32,
    /// Whether an approval takes a fresh sign-in.
    pub step_up: bool,
    /// Whether reviewers are shown how many rows the server's planner expects.
    pub estimate: bool,
    /// Where the card goes and who is called.
    pub route: Route,
    /// Who may run such a statement at once.
    pub break_glass: Option<Box<BreakGlass>>,
}

/// Who may run a held statement at once, giving a reason, and how long reviewing it afterwards may take.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BreakGlassTerms {
    /// Groups of principals, any of.
    pub groups: Vec<String>,
    /// Roster groups that review it.
    pub reviewers: Vec<String>,
    /// Where members of those are found beside the people listed.
    #[serde(default)]
    pub sources: Vec<GroupSource>,
    /// How long that may take.
    pub review_within: Duration,
}

/// Who may run a held statement at once, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakGlass {
    /// What the gateway goes by.
    pub terms: BreakGlassTerms,
    /// Where it is told and who is called.
    pub route: Route,
}

/// A pre-approved template as the document has it. Nothing in it is believed before its signatures are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTemplate {
    /// The request it was approved by.
    pub request: String,
    /// The signed decisions on it.
    pub decisions: Vec<String>,
}

/// Where a hold's card goes and who is called. For the bot; nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// Slack channel, `C…` or `G…`.
    pub channel: Option<String>,
    /// Slack user group to mention, `S…`.
    pub mention: Option<String>,
    /// How long before the expiry reviewers are reminded.
    pub remind: Option<Duration>,
    /// After how long which Slack user group is called.
    pub escalate: Option<(Duration, String)>,
}

/// A mask over columns.
#[derive(Debug, Clone)]
pub struct Mask {
    /// Columns.
    pub columns: Vec<ColumnPattern>,
    /// Tags of columns, from their comments.
    pub tags: Vec<Glob>,
    /// How their values are hidden.
    pub mask: MaskKind,
    /// Who sees clear text; `None`: nobody.
    pub unless: Option<Who>,
}

/// How a value is hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MaskKind {
    /// The whole value.
    Full,
    /// The whole of what was made of masked values, NULL or not.
    Derived,
    /// All but the last four characters.
    Last4,
    /// First character and domain of an e-mail address.
    Email,
    /// NULL.
    Null,
    /// Keyed hash.
    Hash,
    /// A fixed text.
    Constant(String),
    /// A date or timestamp cut down to a unit.
    Truncate(TimeUnit),
    /// A number cut down to a multiple.
    Round(u64),
    /// Letters and digits replaced by others of their kind, under the deployment's key.
    Token,
}

pub use crate::document::source::{OnHold, TimeUnit};

/// What happens to uses of protected columns that no mask can cover.
#[derive(Debug, Clone)]
pub struct Masking {
    /// A protected column in a condition, a join, an order, or feeding a write.
    pub predicates: Action,
    /// Aggregates whose result is shown, and of how many values it must be made.
    pub aggregates: Option<(Vec<String>, u64)>,
    /// Built-in functions whose result is shown.
    pub functions: Vec<String>,
    /// Clear text for one statement by a reviewer's grant.
    pub unmask: Option<Unmask>,
    /// Payloads of NOTIFY.
    pub notifications: Notifications,
}

pub use crate::document::source::Notifications;

/// Clear text for one statement by a reviewer's grant.
#[derive(Debug, Clone)]
pub struct Unmask {
    /// Who may ask.
    pub who: Option<Who>,
    /// Terms.
    pub hold: Hold,
}

/// Detectors over everything no mask covers.
#[derive(Debug, Clone)]
pub struct Detect {
    /// The detectors.
    pub detectors: Detectors,
    /// Columns that are not looked at.
    pub except: Vec<ColumnPattern>,
    /// Who sees clear text; `None`: nobody.
    pub unless: Option<Who>,
}

/// A user function the policy vouches for.
#[derive(Debug, Clone)]
pub struct TrustedFunction {
    /// Its name.
    pub name: NamePattern,
    /// The class of a statement that calls it.
    pub kind: StatementKind,
    /// Relations it reads.
    pub reads: Vec<(String, String)>,
    /// Relations it writes.
    pub writes: Vec<(String, String)>,
    /// What it returns is nothing of the masked columns of the relations it reads.
    pub clear: bool,
}

/// Limits of judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Texts longer than this are not judged but unknown.
    pub max_statement_bytes: usize,
    /// More statements than this in one text make it unknown.
    pub max_statements: usize,
}
