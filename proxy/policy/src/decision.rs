//! What comes out of judgement.

use std::sync::Arc;
use std::time::Duration;

use countersign_masking::{CopyLayout, CopyMasker, RowMasker, TextStyle};
use serde::{Deserialize, Serialize};

use crate::roster::GroupSource;
use crate::rule::{BreakGlassTerms, OnHold};
use crate::state::SearchPath;
use crate::state::changes::Change;
use crate::{PolicyDigest, StatementFacts};

/// A judged statement text: every statement in it, and one verdict for the whole (the strictest).
#[derive(Debug, Clone)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Name of the rule that decided; `default` when none matched.
    pub rule: String,
    /// The policy this was judged under.
    pub policy: PolicyDigest,
    /// Facts of each statement, in order. Empty text has one `Empty` statement.
    pub statements: Vec<StatementFacts>,
    /// Whether any relation with a masked column (for this principal) is touched: error and notice texts must then be replaced.
    pub touches_protected: bool,
    /// Whether, in strict durability, the statement may go upstream only after its record is durable (all but plain reads and transaction openers).
    pub needs_durable_record: bool,
    /// The catalog lacks something that this text names: judge again after a refresh before telling the client.
    pub stale_catalog: bool,
    /// Until when (seconds since the epoch) the verdict holds for the same text and state; `None` when no rule looked at the time.
    pub valid_until: Option<u64>,
    /// What mask planning, session state and explanations need beyond the above; opaque to others.
    pub trace: Trace,
}

/// The part of a judgement that only this crate reads; `Default` is that of a text without results or effects.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    pub(crate) effects: Vec<Effect>,
    pub(crate) outputs: Vec<Option<Vec<Output>>>,
    pub(crate) trials: Vec<Trial>,
    /// The COPYs to the client, in order.
    pub(crate) copies: Vec<CopyOut>,
    /// The hold asks for clear text: what runs under its permit is shown as it is.
    pub(crate) unmask: bool,
    /// The judgement was made by the value of a literal.
    pub(crate) by_literal: bool,
}

impl Trace {
    /// Whether the statement asks for clear text, so that its permit grants that.
    #[must_use]
    pub const fn unmask(&self) -> bool {
        self.unmask
    }

    /// The rules looked at for each statement, in order, and why each did or did not match.
    #[must_use]
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// For each statement with a result whose columns are known: `(name, whether a protected column contributes)`.
    #[must_use]
    pub fn outputs(&self) -> Vec<Option<Vec<(String, bool)>>> {
        let column = |output: &Output| (output.name.clone(), output.tainted);
        self.outputs.iter().map(|columns| columns.as_ref().map(|columns| columns.iter().map(column).collect())).collect()
    }
}

impl Judgement {
    /// Whether other sessions may find another catalog afterwards. What functions of users do inside is not followed here.
    #[must_use]
    pub fn changes_catalog(&self) -> bool {
        self.statements.iter().any(|facts| facts.kind >= crate::StatementKind::Ddl)
            || self.trace.effects.iter().any(|effect| matches!(effect, Effect::Changed(_)))
    }

    /// Whether code runs whose inside is not followed, which may set what texts are read and names looked up by.
    #[must_use]
    pub fn runs_code(&self) -> bool {
        self.trace.effects.iter().any(|effect| matches!(effect, Effect::SettingsUnseen | Effect::CodePerhaps))
    }

    /// Names that SQL gives to prepared statements and to cursors, which the flag tells.
    pub fn makes(&self) -> impl Iterator<Item = (bool, &str)> {
        self.trace.effects.iter().filter_map(|effect| match effect {
            Effect::Prepare(name, _) => Some((false, name.as_str())),
            Effect::Declare(name, _) => Some((true, name.as_str())),
            _ => None,
        })
    }

    /// Whether nothing but the transaction is begun or ended.
    #[must_use]
    pub fn only_transaction(&self) -> bool {
        self.statements.iter().all(|facts| matches!(facts.kind, crate::StatementKind::Transaction | crate::StatementKind::Empty))
    }

    /// Whether no setting can be another one afterwards, or while it runs.
    #[must_use]
    pub fn keeps_settings(&self) -> bool {
        use crate::StatementKind as K;
        let sets = |effect: &Effect| {
            matches!(effect, Effect::Setting(..) | Effect::SettingsForeign | Effect::SettingsUnseen | Effect::CodePerhaps)
        };
        // An UPDATE of pg_settings is a SET.
        let plain = |facts: &StatementFacts| {
            matches!(facts.kind, K::Empty | K::Read | K::Write | K::CopyIn | K::CopyOut)
                && facts.writes.iter().all(|relation| relation.schema != "pg_catalog")
        };
        self.statements.iter().all(plain) && !self.trace.effects.iter().any(sets)
    }

    /// Whether the judgement serves every text with the same fingerprint: what is refused or held is told with its own text, and some judgements
    /// are made by the value of a literal.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        // What is prepared or declared runs later with the literals it was written with.
        let written = |effect: &Effect| matches!(effect, Effect::Prepare(..) | Effect::Declare(..));
        self.verdict == Verdict::Allow && !self.trace.by_literal && !self.trace.effects.iter().any(written)
    }
}

/// One rule looked at for one statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// Statement, from 0.
    pub statement: usize,
    /// Rule.
    pub rule: String,
    /// Whether it matched.
    pub matched: bool,
    /// Why, in words.
    pub why: String,
}

/// A column of a statement's result, as analysis foresees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// Name, empty where the server chooses one.
    pub(crate) name: String,
    /// Whether a protected column, or something that cannot be seen through, contributes.
    pub(crate) tainted: bool,
    /// Whether the column is a protected column as it stands, whose origin the server reports.
    pub(crate) direct: bool,
    /// The column it is, unchanged.
    pub(crate) origin: Option<(u32, i16)>,
}

/// How a column of a result will be shown, as analysis foresees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForeseenColumn {
    /// Name, empty where the server chooses one.
    pub name: String,
    /// `schema.table.column` when it is one as it stands.
    pub source: Option<String>,
    /// The mask; `None`: shown in clear.
    pub mask: Option<String>,
}

/// A COPY to the client, as analysis foresees it.
#[derive(Debug, Clone)]
pub(crate) struct CopyOut {
    /// Its columns.
    pub(crate) columns: Vec<CopyColumn>,
    /// How they are written; or why that cannot be followed.
    pub(crate) layout: Result<CopyLayout, String>,
}

/// A column of a COPY.
#[derive(Debug, Clone)]
pub(crate) struct CopyColumn {
    /// Name, empty where the server chooses one.
    pub(crate) name: String,
    /// The column it comes from.
    pub(crate) source: Option<(u32, i16)>,
    /// Whether it is that column as it stands.
    pub(crate) direct: bool,
    /// Whether a protected column, or something that cannot be seen through, contributes.
    pub(crate) tainted: bool,
}

/// How sure a change is once its statement worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasts {
    /// SET: for the session.
    Session,
    /// SET LOCAL: for the transaction, if there is one.
    Transaction,
    /// `set_config` and what the server reported: it may not have been called at all.
    Perhaps,
}

/// A statement that runs later: its text as it was sent. A tree would take a thousand times the room.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Written {
    pub(crate) text: Arc<str>,
}

/// What a statement changes in the session state.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    /// `SET search_path`; `None`: to something not understood.
    SearchPath {
        /// The new path.
        path: Option<SearchPath>,
        /// How sure it is that a statement that worked leaves this path behind.
        lasts: Lasts,
    },
    /// PREPARE.
    Prepare(String, Written),
    /// DECLARE CURSOR.
    Declare(String, Written),
    /// Names of the session's own making may now mean something else.
    TemporaryObjects,
    /// Code whose inside is not followed ran: it may have made temporary relations.
    CodeRan,
    /// Code ran that may have set what texts are read and names looked up by.
    SettingsUnseen,
    /// Code that nobody sees may run, as event triggers do.
    CodePerhaps,
    /// A setting may have this value from here on, which the text gives it.
    Setting(String, String),
    /// Code ran that may have given any setting any value.
    SettingsForeign,
    /// SET ROLE: `$user` may mean this from here on.
    Role(String),
    /// The catalog changes.
    Changed(Change),
}

/// What is to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Forward.
    Allow,
    /// Refuse.
    Deny(Denial),
    /// Wait for reviewers.
    Hold(HoldTerms),
}

/// A refusal, in words fit for the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// SQLSTATE, five characters.
    pub code: String,
    /// Primary message, lower case, no full stop.
    pub message: String,
    /// DETAIL.
    pub detail: Option<String>,
    /// HINT.
    pub hint: Option<String>,
}

/// Terms of a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldTerms {
    /// Why it is held, for reviewers.
    pub reason: String,
    /// Roster groups of which the reviewers must be members.
    pub reviewers: Vec<String>,
    /// Where members of those are found beside the people listed.
    #[serde(default)]
    pub sources: Vec<GroupSource>,
    /// How many distinct reviewers must approve.
    pub quorum: u32,
    /// How long the request stays open.
    pub expiry: Duration,
    /// What the client does meanwhile.
    #[serde(default)]
    pub on_hold: OnHold,
    /// Identical runs that may be approved at once.
    #[serde(default = "one")]
    pub runs: u32,
    /// Whether an approval takes a fresh sign-in.
    #[serde(default)]
    pub step_up: bool,
    /// Whether reviewers are shown how many rows the server's planner expects.
    #[serde(default)]
    pub estimate: bool,
    /// Who may run it at once.
    #[serde(default)]
    pub break_glass: Option<BreakGlassTerms>,
}

const fn one() -> u32 {
    1
}

/// A column of a result, from `RowDescription`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultColumn {
    /// Column name as the client sees it.
    pub name: String,
    /// `pg_class.oid` of origin, 0 when the column has none.
    pub table_oid: u32,
    /// `pg_attribute.attnum` of origin, 0 when the column has none.
    pub attribute: i16,
    /// `pg_type.oid`.
    pub type_oid: u32,
    /// Format code: 0 text, 1 binary.
    pub format: i16,
}

/// Which result of a text it is, and how it is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    /// The statement, from 0, to whose completion it belongs, where the text may have several and it is the first result before that; `None`
    /// where it may be any.
    pub statement: Option<usize>,
    /// The session's style.
    pub style: TextStyle,
}

/// What masking asks of a result.
#[derive(Debug)]
pub enum MaskOutcome {
    /// Rows pass as they are.
    Pass,
    /// Rows go through the masker; `columns` names what is masked, for the recording.
    Mask {
        /// The masker.
        masker: RowMasker,
        /// The columns that are not clear.
        columns: Vec<MaskedColumn>,
        /// Reviewers granted clear text: the client is shown what came, the recording what the masker makes of it.
        granted: bool,
    },
    /// The result cannot be masked safely.
    Refuse(Denial),
}

/// A column that is masked or looked at by detectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedColumn {
    /// Which, from 0.
    pub index: usize,
    /// Name as the client sees it.
    pub column: String,
    /// `schema.table.column`, or `derived`.
    pub source: String,
    /// The mask's name, or `detect`.
    pub mask: String,
}

/// What masking asks of a COPY to the client.
#[derive(Debug)]
pub enum CopyOutcome {
    /// Data passes as it is.
    Pass,
    /// Data goes through the masker.
    Mask {
        /// The masker.
        masker: CopyMasker,
        /// The columns that are not clear.
        columns: Vec<MaskedColumn>,
        /// Reviewers granted clear text, as for [`MaskOutcome::Mask`].
        granted: bool,
    },
    /// The data cannot be masked safely.
    Refuse(Denial),
}
