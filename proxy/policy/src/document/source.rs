//! The document as written: field for field what TOML carries, and the source of the published JSON Schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use crate::StatementKind;

/// The whole document.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Countersign policy")]
pub struct Document {
    /// Version of the document format: 1.
    #[schemars(with = "u32")]
    pub version: Spanned<u32>,
    /// Limits of judgement.
    #[serde(default)]
    pub settings: Settings,
    /// What happens to uses of protected columns that no mask can cover.
    #[serde(default)]
    pub masking: Masking,
    /// The roster.
    #[serde(default)]
    pub reviewers: Vec<Reviewer>,
    /// Groups of reviewers whose members Slack or an identity provider knows.
    #[serde(default)]
    pub reviewer_groups: Vec<ReviewerGroup>,
    /// The rules: the first that matches decides.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// The masks: the first that names a column applies.
    #[serde(default)]
    pub masks: Vec<Mask>,
    /// What detectors look for in everything no mask covers: the first that is about a column and a principal applies.
    #[serde(default)]
    pub detect: Vec<Detect>,
    /// User functions the policy vouches for.
    #[serde(default)]
    pub trusted_functions: Vec<TrustedFunction>,
    /// Pre-approved templates, as `countersign-proxy template propose` prints them once they are signed.
    #[serde(default)]
    pub templates: Vec<Template>,
}

/// A pre-approved template. Signatures are verified by the gateway, which passes over what does not hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The request it was approved by, byte for byte.
    #[schemars(with = "String")]
    pub request: Spanned<String>,
    /// The signed decisions on it.
    pub decisions: Vec<String>,
}

/// Limits of judgement.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Texts longer than this are unknown. Default 1 MiB, at most 16 MiB.
    #[schemars(with = "Option<usize>")]
    pub max_statement_bytes: Option<Spanned<usize>>,
    /// Texts of more statements than this are unknown. Default 1,000.
    #[schemars(with = "Option<usize>")]
    pub max_statements: Option<Spanned<usize>>,
}

/// What happens to uses of protected columns that no mask can cover.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Masking {
    /// A protected column in a condition, a join, an order, or feeding a write. Default `deny`.
    #[schemars(with = "Option<Action>")]
    pub predicates: Option<Spanned<Action>>,
    /// Terms when `predicates = "hold"`.
    #[schemars(with = "Option<Hold>")]
    pub hold: Option<Spanned<Hold>>,
    /// Aggregates over protected columns whose result is shown. Absent: none but `count`.
    #[schemars(with = "Option<Aggregates>")]
    pub aggregates: Option<Spanned<Aggregates>>,
    /// Built-in functions whose result is shown though a protected column is their argument, for example `length`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub functions: Vec<Spanned<String>>,
    /// Clear text for one statement, by a reviewer's grant. Absent: never.
    #[schemars(with = "Option<Unmask>")]
    pub unmask: Option<Spanned<Unmask>>,
    /// What becomes of payloads of NOTIFY for principals some mask is about. Default `withhold`.
    pub notifications: Option<Notifications>,
}

/// Aggregates over protected columns whose result is shown.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aggregates {
    /// Names, for example `avg` and `sum`.
    #[schemars(with = "Vec<String>")]
    pub functions: Spanned<Vec<Spanned<String>>>,
    /// How many values each result must be made of, at least 2. The statement says so: `HAVING count(column) >= …`.
    #[schemars(with = "u64")]
    pub min_rows: Spanned<u64>,
}

/// Clear text for one statement.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unmask {
    /// Who may ask for it; absent: everyone.
    #[schemars(with = "Option<Who>")]
    pub who: Option<Spanned<Who>>,
    /// Roster groups.
    #[schemars(with = "Vec<String>")]
    pub reviewers: Spanned<Vec<Spanned<String>>>,
    /// Distinct reviewers. Default 1.
    #[schemars(with = "Option<u32>")]
    pub quorum: Option<Spanned<u32>>,
    /// `90s`, `15m`, `2h`, `1d`.
    #[schemars(with = "String")]
    pub expiry: Spanned<String>,
}

/// What becomes of payloads of NOTIFY.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Notifications {
    /// The payload is replaced by `****`: whoever sent it may have put a protected value in it.
    #[default]
    Withhold,
    /// What detectors find in it is hidden.
    Detect,
}

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Forward.
    Allow,
    /// Refuse.
    Deny,
    /// Wait for reviewers.
    Hold,
}

/// A reviewer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reviewer {
    /// Stable name of the person.
    #[schemars(with = "String")]
    pub person: Spanned<String>,
    /// E-mail address.
    #[schemars(with = "Option<String>")]
    pub email: Option<Spanned<String>>,
    /// `TEAM/USER` in Slack.
    #[schemars(with = "Option<String>")]
    pub slack: Option<Spanned<String>>,
    /// Identity links, `issuer|subject`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub subjects: Vec<Spanned<String>>,
    /// Reviewer groups.
    #[schemars(with = "Vec<String>")]
    pub groups: Spanned<Vec<String>>,
}

/// A group of reviewers whose members are found at decision time, beside those whose entries name it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewerGroup {
    /// Name, as rules and reviewers use it.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// `TEAM/USERGROUP` in Slack: `T…/S…`.
    #[schemars(with = "Option<String>")]
    pub slack_usergroup: Option<Spanned<String>>,
    /// A group in the tokens of the identity provider reviewers sign in at.
    pub identity_provider_group: Option<IdentityProviderGroup>,
    /// Issuers whose principals are never people (of CI jobs, for one). Requests of other principals without an e-mail address are not for
    /// members found by Slack: nobody could tell them apart.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub machine_issuers: Vec<Spanned<String>>,
}

/// A group of an identity provider.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityProviderGroup {
    /// `iss`, to the letter.
    #[schemars(with = "String")]
    pub issuer: Spanned<String>,
    /// The value in the claim with the groups.
    #[schemars(with = "String")]
    pub group: Spanned<String>,
}

/// A rule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Unique name.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// Who it is about; absent: everyone.
    #[serde(default)]
    #[schemars(with = "Option<Who>")]
    pub who: Option<Spanned<Who>>,
    /// Where it holds; absent: everywhere.
    #[serde(default, rename = "where")]
    pub place: Place,
    /// Which statements it is about; absent: all.
    #[serde(default)]
    pub what: What,
    /// When it holds; absent: always.
    pub when: Option<When>,
    /// What it says.
    #[schemars(with = "Action")]
    pub action: Spanned<Action>,
    /// Terms of a hold.
    #[schemars(with = "Option<Hold>")]
    pub hold: Option<Spanned<Hold>>,
    /// Text for the client of a denial.
    #[schemars(with = "Option<String>")]
    pub message: Option<Spanned<String>>,
}

/// Conditions on the principal. Each list given must have a match.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Who {
    /// Groups, any of.
    pub groups: Option<Vec<String>>,
    /// Subjects, any of.
    pub subjects: Option<Vec<String>>,
    /// E-mail addresses, any of.
    pub emails: Option<Vec<String>>,
    /// Claims by name, each with its accepted values.
    #[serde(default)]
    pub claims: BTreeMap<String, Vec<String>>,
}

/// Conditions on the place.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Databases, any of.
    #[schemars(with = "Option<Vec<String>>")]
    pub databases: Option<Spanned<Vec<String>>>,
}

/// Conditions on the statement.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct What {
    /// Statement classes, any of.
    #[schemars(with = "Option<Vec<StatementKind>>")]
    pub kinds: Option<Spanned<Vec<StatementKind>>>,
    /// Relations, `schema.name`.
    #[schemars(with = "Option<Vec<String>>")]
    pub relations: Option<Spanned<Vec<Spanned<String>>>>,
    /// Functions, `schema.name`.
    #[schemars(with = "Option<Vec<String>>")]
    pub functions: Option<Spanned<Vec<Spanned<String>>>>,
    /// UPDATE and DELETE without (`true`) or with (`false`) WHERE.
    pub missing_where: Option<bool>,
    /// Only statements without a literal LIMIT of at most this many rows.
    pub rows_above: Option<u64>,
}

/// Days and hours.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// `mon` … `sun`; absent: every day.
    #[schemars(with = "Option<Vec<String>>")]
    pub days: Option<Vec<Spanned<String>>>,
    /// `HH:MM`, first minute meant.
    #[schemars(with = "Option<String>")]
    pub from: Option<Spanned<String>>,
    /// `HH:MM`, first minute no longer meant.
    #[schemars(with = "Option<String>")]
    pub until: Option<Spanned<String>>,
    /// Offset from UTC, `+02:00`. Default `+00:00`.
    #[schemars(with = "Option<String>")]
    pub offset: Option<Spanned<String>>,
}

/// Terms of a hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Roster groups.
    #[schemars(with = "Vec<String>")]
    pub reviewers: Spanned<Vec<Spanned<String>>>,
    /// Distinct reviewers. Default 1.
    #[schemars(with = "Option<u32>")]
    pub quorum: Option<Spanned<u32>>,
    /// `90s`, `15m`, `2h`, `1d`.
    #[schemars(with = "String")]
    pub expiry: Spanned<String>,
    /// Shown to reviewers.
    pub reason: Option<String>,
    /// What the client does meanwhile: `wait` (default), or `return` at once with the request's id and come back later.
    pub on_hold: Option<OnHold>,
    /// How many identical runs reviewers may approve at once, 1 to 100. Default 1.
    #[schemars(with = "Option<u32>")]
    pub runs: Option<Spanned<u32>>,
    /// Whether an approval takes a fresh sign-in at the identity provider. Default `false`.
    #[serde(default)]
    pub step_up: bool,
    /// Whether reviewers are shown how many rows the server's planner expects (EXPLAIN, without running it). Default `false`.
    #[serde(default)]
    pub estimate: bool,
    /// Slack channel of the cards, `C…`. Default: the bot's.
    #[schemars(with = "Option<String>")]
    pub channel: Option<Spanned<String>>,
    /// Slack user group to mention on the card, `S…`.
    #[schemars(with = "Option<String>")]
    pub mention: Option<Spanned<String>>,
    /// How long before the expiry reviewers are reminded, as `expiry`.
    #[schemars(with = "Option<String>")]
    pub remind: Option<Spanned<String>>,
    /// Whom to call when nobody decides.
    pub escalate: Option<Escalate>,
    /// Who may run such a statement at once, to be reviewed afterwards. Absent: nobody.
    pub break_glass: Option<BreakGlass>,
}

/// Who may run a held statement at once, giving a reason, to be reviewed afterwards.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    /// Groups of principals, any of, as their tokens have them; no patterns.
    #[schemars(with = "Vec<String>")]
    pub groups: Spanned<Vec<String>>,
    /// Roster groups that review it afterwards. Default: the hold's.
    #[schemars(with = "Option<Vec<String>>")]
    pub reviewers: Option<Spanned<Vec<Spanned<String>>>>,
    /// How long the review may take, as `expiry`. Default `1d`.
    #[schemars(with = "Option<String>")]
    pub review_within: Option<Spanned<String>>,
    /// Slack channel that is paged, `C…`. Default: the hold's.
    #[schemars(with = "Option<String>")]
    pub channel: Option<Spanned<String>>,
    /// Slack user group to mention beside the whole channel, `S…`. Default: the hold's.
    #[schemars(with = "Option<String>")]
    pub mention: Option<Spanned<String>>,
}

/// Whom to call when nobody decides.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Escalate {
    /// How long after the request, as `expiry`.
    #[schemars(with = "String")]
    pub after: Spanned<String>,
    /// Slack user group, `S…`.
    #[schemars(with = "String")]
    pub mention: Spanned<String>,
}

/// What a client does while its statement is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnHold {
    /// It waits.
    #[default]
    Wait,
    /// It gets an error with the request's id at once; the same statement, sent again, runs once approved.
    Return,
}

/// A mask.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// `schema.relation.column`.
    #[schemars(with = "Option<Vec<String>>")]
    pub columns: Option<Spanned<Vec<Spanned<String>>>>,
    /// Tags of columns: `pii` means every column whose comment has the word `countersign:pii`.
    #[schemars(with = "Option<Vec<String>>")]
    pub tags: Option<Spanned<Vec<Spanned<String>>>>,
    /// How.
    #[schemars(with = "MaskKind")]
    pub mask: Spanned<MaskKind>,
    /// Who sees clear text; absent: nobody.
    #[schemars(with = "Option<Who>")]
    pub unless: Option<Spanned<Who>>,
}

/// Detectors.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Detect {
    /// Built-in detectors, or `["all"]`.
    #[serde(default)]
    #[schemars(with = "Vec<DetectorName>")]
    pub kinds: Vec<Spanned<DetectorName>>,
    /// The policy's own.
    #[serde(default)]
    pub patterns: Vec<DetectPattern>,
    /// Columns that are not looked at, `schema.relation.column`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub except: Vec<Spanned<String>>,
    /// Who sees clear text; absent: nobody.
    #[schemars(with = "Option<Who>")]
    pub unless: Option<Spanned<Who>>,
}

/// A pattern of the policy's own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetectPattern {
    /// Name, for the recording.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// Regular expression; each match must have a greatest length.
    #[schemars(with = "String")]
    pub regex: Spanned<String>,
    /// Letters and digits at the end that stay. Default 0.
    #[serde(default)]
    pub keep: usize,
}

/// The built-in detectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DetectorName {
    /// All of them.
    All,
    /// US social security numbers.
    Ssn,
    /// Payment cards, with their check digit.
    Card,
    /// IBANs, with their check.
    Iban,
    /// US routing numbers, with their check.
    Routing,
    /// Account numbers, after a word that says so.
    Account,
    /// E-mail addresses.
    Email,
    /// Telephone numbers.
    Phone,
}

/// How values are hidden.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaskKind {
    /// Which mask.
    pub kind: MaskName,
    /// `constant`: the text, valid for the column's type.
    pub value: Option<String>,
    /// `truncate`: what stays of a date or timestamp.
    pub unit: Option<TimeUnit>,
    /// `round`: the multiple, at least 1.
    pub to: Option<u64>,
}

/// The masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MaskName {
    /// The whole value.
    Full,
    /// All but the last four characters.
    Last4,
    /// First character and domain of an e-mail address.
    Email,
    /// NULL.
    Null,
    /// Keyed hash.
    Hash,
    /// A fixed text.
    Constant,
    /// A date or timestamp cut down to a unit.
    Truncate,
    /// A number cut down to a multiple.
    Round,
    /// Letters and digits replaced by others of their kind.
    Token,
}

/// What a truncated date or timestamp keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TimeUnit {
    /// The year.
    Year,
    /// Year and month.
    Month,
    /// Up to the day.
    Day,
    /// Up to the hour.
    Hour,
}

/// A user function the policy vouches for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustedFunction {
    /// `schema.name`.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// Class of a statement that calls it. Default `read`.
    #[schemars(with = "Option<StatementKind>")]
    pub kind: Option<Spanned<StatementKind>>,
    /// Relations it reads, `schema.name`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub reads: Vec<Spanned<String>>,
    /// Relations it writes, `schema.name`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub writes: Vec<Spanned<String>>,
    /// What it returns is nothing of the masked columns of the relations it reads. Default `false`: where there are any, the result is masked.
    #[serde(default)]
    pub clear: bool,
}
