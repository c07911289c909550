//! From a statement's tree to facts: what it is, what it touches, where its results come from.
//!
//! An exhaustive walk: a node kind that is not listed makes the statement unknown. Owns name resolution under the session's
//! search paths and the lineage of columns; does not own what the policy makes of it (`decide`).

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

use pg_query::Node;

use crate::decision::{CopyOut, Effect, Lasts};
use crate::facts::{RelationName, SessionAction};
use crate::masks::Protection;
use crate::state::{SearchPath, SessionState};
use crate::{Catalog, StatementFacts, StatementKind};

mod aggregate;
mod alter;
mod array;
mod call;
mod code;
mod copy;
mod ddl;
mod expression;
mod finish;
mod from;
mod json;
mod made;
mod names;
mod query;
mod relation;
mod restricts;
mod sequences;
mod session;
mod statement;
mod stored;
mod write;

/// A base column: relation and attribute number.
pub(crate) type ColumnId = (u32, i16);

/// Greatest nesting of the walk, views included.
const MOST_DEPTH: usize = 3000;
/// Greatest nesting of expressions, the left operands of long chains not counted.
const MOST_NESTING: usize = 1000;
/// Greatest nesting of queries.
const MOST_QUERIES: usize = 200;
const MOST_NOTES: usize = 24;
/// Most columns of a query, which is many times what the server takes (1,664).
const MOST_COLUMNS: usize = 20_000;
/// What a walk may cost in all: expressions visited, columns copied and looked through. Parts of a tree are looked at more than once, and a star
/// over a star doubles what is behind it, so that nesting alone would bound nothing.
const WORK: u64 = 100_000;
const WORK_FOR_A_BYTE: u64 = 200;
const MOST_WORK: u64 = 5_000_000;
/// Greatest nesting of views and expressions of the catalog.
const MOST_LEVELS: usize = 24;

/// What a view's column is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct ViewColumn {
    /// Every base column that contributes.
    pub(crate) sources: Vec<ColumnId>,
    /// The one base column it is, unchanged.
    pub(crate) direct: Option<ColumnId>,
    /// Something that cannot be seen through contributes.
    pub(crate) opaque: bool,
}

/// What reading a view amounts to.
#[derive(Debug)]
pub(crate) struct ViewFacts {
    pub(crate) columns: Vec<ViewColumn>,
    kind: StatementKind,
    notes: Vec<String>,
    reads: Vec<u32>,
    calls: Vec<u32>,
    operators: Vec<(Option<String>, String)>,
    types: Vec<u32>,
    computes: bool,
    sorts: bool,
    has_cast: bool,
    /// Names of the functions called.
    functions: Vec<String>,
}

pub(crate) use code::CodeFacts;

/// How the lineage of a value is followed.
#[derive(Clone, Copy)]
enum Interest<'a> {
    /// Every base column counts: for the definition of a view.
    All,
    /// Columns that are masked for the principal count.
    Protected(&'a Protection<'a>),
}

/// Where a value comes from.
#[derive(Debug, Clone, Default)]
struct Lineage {
    /// The column it is, unchanged.
    direct: Option<ColumnId>,
    /// Columns of interest that contribute.
    sources: Vec<ColumnId>,
    /// Something that cannot be seen through contributes.
    opaque: bool,
    /// What a function returned that nobody vouches for contributes: it may be any column.
    returned: bool,
    /// Made of what is protected by something that looks at the value: what is in it, whether it is NULL and how long it is answers a question
    /// that the client chose.
    telling: bool,
    /// Neither an array nor JSON: `||` makes text of it.
    joins: bool,
    /// It may be a row of several values: of those not all can be compared, and whether one is reached tells of those before it.
    row: bool,
}

impl Lineage {
    /// Whether what is masked contributes, or may.
    fn is_protected(&self) -> bool {
        !self.sources.is_empty() || self.returned
    }

    fn absorb(&mut self, other: &Self) {
        for source in &other.sources {
            if !self.sources.contains(source) {
                self.sources.push(*source);
            }
        }
        self.opaque |= other.opaque;
        self.returned |= other.returned;
        self.row |= other.row;
        self.direct = None;
        self.joins = false;
        // Nothing is known of how they are put together; who knows better says so.
        self.telling = self.is_protected();
    }

    /// How much contributes, in each way.
    fn contributors(&self) -> (usize, [bool; 4]) {
        (self.sources.len(), [self.opaque, self.returned, self.telling, self.row])
    }

    fn derived(mut self) -> Self {
        self.direct = None;
        self.joins = false;
        self.telling = self.is_protected();
        self
    }

    /// Parts that are put together whatever they hold.
    fn built<'l>(parts: impl IntoIterator<Item = &'l Self>) -> Self {
        let mut lineage = Self::default();
        let mut telling = false;
        for part in parts {
            lineage.absorb(part);
            telling |= part.telling;
        }
        lineage.telling = telling;
        lineage
    }

    fn opaque() -> Self {
        Self { opaque: true, ..Self::default() }
    }
}

/// A column of a range or a result.
#[derive(Debug, Clone)]
struct Item {
    name: String,
    lineage: Lineage,
}

/// Columns of a query; `complete` is false when there may be others.
#[derive(Debug, Clone, Default)]
struct Items {
    columns: Vec<Item>,
    complete: bool,
}

impl Items {
    /// Columns that have names, but not known ones.
    fn unnamed(&self) -> Option<Lineage> {
        let mut unnamed = self.columns.iter().filter(|item| item.name.is_empty()).peekable();
        unnamed.peek()?;
        let mut lineage = Lineage::default();
        unnamed.for_each(|item| lineage.absorb(&item.lineage));
        Some(lineage)
    }

    fn all(&self) -> Lineage {
        let mut lineage = Lineage::built(self.columns.iter().map(|column| &column.lineage));
        lineage.opaque |= !self.complete;
        lineage
    }
}

/// A common table expression in scope.
#[derive(Clone)]
struct Cte {
    name: String,
    items: Items,
    /// No row of the one relation it reads is left out.
    whole: bool,
    /// It stands before what uses it, so that its columns are known.
    known: bool,
}

/// One entry of a FROM clause.
struct Range<'a> {
    alias: String,
    schema: Option<String>,
    source: Source<'a>,
}

#[derive(Clone)]
enum Source<'a> {
    Relation(&'a crate::catalog::Relation, Vec<String>),
    Items(Items),
    /// A function: columns known by name, the lineage of any other, its alias.
    Function(Vec<Item>, Lineage, String),
}

/// The ranges that names can mean, innermost first.
struct Scope<'a, 's> {
    ranges: Vec<Range<'a>>,
    parent: Option<&'s Scope<'a, 's>>,
    /// Ranges that only qualified names reach: of `JOIN … USING (…) AS name`, OLD and NEW.
    hidden: Vec<Range<'a>>,
    /// `*` over these ranges is not simply their columns in order.
    merged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// Through a parent, a child or a foreign key.
    Kin,
    /// By name, or through a view.
    Named,
}

/// The judged facts of one statement, with what only this crate needs.
#[derive(Debug)]
pub(crate) struct Analysis {
    pub(crate) facts: StatementFacts,
    /// Relations touched by name or through views: what an allow rule must cover.
    pub(crate) named: Vec<RelationName>,
    /// Result columns: `(name, tainted, direct)`.
    pub(crate) outputs: Option<Vec<crate::decision::Output>>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) stale: bool,
    /// A protected relation is touched, or something that cannot be seen through while masks apply.
    pub(crate) protected: bool,
    /// A protected column is used where no mask can cover it; says how.
    pub(crate) exposed: Option<String>,
    /// Protected rows leave by a COPY whose data no mask can cover; says why.
    pub(crate) copy_refused: Option<String>,
    /// COPYs to the client.
    pub(crate) copies: Vec<CopyOut>,
    /// Protected columns that contribute to the result, as `schema.table.column`.
    pub(crate) shows: Vec<String>,
    /// The text asks for clear text, and the policy knows whom to ask.
    pub(crate) unmask: bool,
    /// The judgement was made by the value of a literal.
    pub(crate) by_literal: bool,
    /// A setting that the gateway keeps as it is would change, whatever rules say: under another value no text could be judged.
    pub(crate) unpins: Option<&'static str>,
}

/// The walk over one statement.
struct Walk<'a> {
    catalog: &'a Catalog,
    state: &'a SessionState,
    interest: Interest<'a>,
    paths: Vec<Vec<&'a str>>,
    depth: usize,
    nesting: usize,
    queries: usize,
    /// What this walk and those within it may still cost.
    work: Rc<Cell<u64>>,
    kind: StatementKind,
    notes: Vec<String>,
    /// Texts that EXECUTE or FETCH may stand for.
    executes: Vec<String>,
    reads: BTreeMap<u32, Reach>,
    writes: BTreeMap<u32, Reach>,
    unresolved: BTreeSet<RelationName>,
    calls: BTreeSet<u32>,
    builtin_calls: BTreeSet<String>,
    operators: HashSet<(Option<String>, String)>,
    types: BTreeSet<u32>,
    /// User types whose checks have been taken account of.
    checked: BTreeSet<u32>,
    has_cast: bool,
    /// A function is called or an operator applied, whatever it is.
    computes: bool,
    /// Values are put in order or told apart.
    sorts: bool,
    /// The judgement was made by the value of a literal.
    by_literal: bool,
    /// Columns looked up so far.
    columns_seen: usize,
    /// Where every column counts: those that were looked up.
    seen: Vec<ColumnId>,
    /// In an expression of the catalog: immutable functions called with nothing but constants, which planning runs.
    constant_calls: BTreeSet<u32>,
    /// A name was looked up that the session's own changes may have given another meaning.
    looked_up: bool,
    /// Code that runs with the rows of a relation is not followed: it is what is being judged.
    shallow: bool,
    /// How many views and expressions of the catalog this walk stands in.
    level: usize,
    /// Materialized views are run, not only read.
    refreshes: bool,
    /// Names of functions called, kept for the facts of views and expressions.
    called_names: BTreeSet<String>,
    /// What the column `name` is where a setting is looked up by it.
    setting: Option<String>,
    exposed: Option<String>,
    /// A protected column is an operand.
    operates: bool,
    /// How the first expression that decides something does so, whatever it is made of.
    decides: Option<&'static str>,
    copy_refused: Option<String>,
    copies: Vec<CopyOut>,
    /// Columns of which the query at hand says that each result is made of enough values.
    floor: Vec<ColumnId>,
    stale: bool,
    unpins: Option<&'static str>,
    /// The first telling value that something was made of.
    tells: Option<Lineage>,
    /// A telling value may have been replaced by one that the client chose, which not every operator can take.
    replaced: bool,
    opaque: bool,
    ctes: Vec<Cte>,
    effects: Vec<Effect>,
    outputs: Option<Items>,
    missing_where: bool,
    limit: Option<u64>,
    action: SessionAction,
}

/// Analyses one statement.
pub(crate) fn statement(
    node: &Node,
    catalog: &Catalog,
    state: &SessionState,
    protection: &Protection<'_>,
    parameter_types: &[u32],
    text_length: usize,
) -> Analysis {
    let mut walk = Walk::new(catalog, state, Interest::Protected(protection));
    let length = u64::try_from(text_length).unwrap_or(u64::MAX);
    walk.work.set(length.saturating_mul(WORK_FOR_A_BYTE).saturating_add(WORK).min(MOST_WORK));
    for oid in parameter_types {
        walk.parameter(*oid);
    }
    walk.statement(node);
    walk.finish(protection)
}

impl<'a> Walk<'a> {
    fn new(catalog: &'a Catalog, state: &'a SessionState, interest: Interest<'a>) -> Self {
        Self {
            catalog,
            state,
            interest,
            paths: resolved(catalog, state, &state.paths),
            depth: 0,
            nesting: 0,
            queries: 0,
            work: Rc::new(Cell::new(MOST_WORK)),
            kind: StatementKind::Empty,
            notes: Vec::new(),
            executes: Vec::new(),
            reads: BTreeMap::new(),
            writes: BTreeMap::new(),
            unresolved: BTreeSet::new(),
            calls: BTreeSet::new(),
            builtin_calls: BTreeSet::new(),
            operators: HashSet::new(),
            types: BTreeSet::new(),
            checked: BTreeSet::new(),
            has_cast: false,
            computes: false,
            sorts: false,
            by_literal: false,
            columns_seen: 0,
            seen: Vec::new(),
            constant_calls: BTreeSet::new(),
            looked_up: false,
            shallow: false,
            level: 0,
            refreshes: false,
            called_names: BTreeSet::new(),
            setting: None,
            exposed: None,
            operates: false,
            decides: None,
            copy_refused: None,
            copies: Vec::new(),
            floor: Vec::new(),
            stale: false,
            unpins: None,
            tells: None,
            replaced: false,
            opaque: false,
            ctes: Vec::new(),
            effects: Vec::new(),
            outputs: None,
            missing_where: false,
            limit: None,
            action: SessionAction::None,
        }
    }

    /// A walk within this one, which pays for it.
    fn within(&self, interest: Interest<'a>) -> Self {
        Self { work: Rc::clone(&self.work), ..Walk::new(self.catalog, self.state, interest) }
    }

    fn spend(&self, work: usize) {
        self.work.set(self.work.get().saturating_sub(u64::try_from(work).unwrap_or(u64::MAX)));
    }

    /// Whether this has cost all it may.
    fn is_spent(&mut self) -> bool {
        let spent = self.work.get() == 0;
        if spent {
            self.unknown(|| "it takes more work than is judged".to_owned());
        }
        spent
    }

    fn raise(&mut self, kind: StatementKind, note: impl FnOnce() -> String) {
        self.kind = self.kind.max(kind);
        if self.notes.len() < MOST_NOTES {
            let note = note();
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }

    fn unknown(&mut self, note: impl FnOnce() -> String) {
        self.raise(StatementKind::Unknown, note);
    }

    /// A name without a schema is looked up: what it means hangs on the search path.
    fn by_path(&mut self, what: &str, name: &str) {
        if self.state.path_unknown {
            self.unknown(|| format!("what {what}{name} means depends on a search path that is not known"));
        }
    }

    fn unresolved(&mut self, note: impl FnOnce() -> String) {
        self.stale = true;
        self.unknown(note);
    }

    fn expose(&mut self, lineage: &Lineage, how: &'static str) {
        let Interest::Protected(protection) = self.interest else { return };
        self.decides = self.decides.or(Some(how));
        if self.exposed.is_some() {
            return;
        }
        if !lineage.sources.is_empty() {
            self.exposed = Some(how.to_owned());
        } else if lineage.returned && protection.any() {
            self.exposed = Some(returned(how));
        }
    }

    /// Runs `inner` one level deeper; `None` when that is too deep.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.depth >= MOST_DEPTH {
            self.unknown(|| "nested deeper than is judged".to_owned());
            return None;
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        Some(result)
    }
}

/// What is said where the result of a function counts as a protected column.
fn returned(how: &str) -> String {
    format!("{how}: what a function returns that the policy does not name under trusted_functions counts as one")
}

/// The schemas that names are looked up in, for each path and each role that `$user` may stand for.
fn resolved<'a>(catalog: &'a Catalog, state: &'a SessionState, paths: &'a [SearchPath]) -> Vec<Vec<&'a str>> {
    let mut all: Vec<Vec<&'a str>> = Vec::with_capacity(paths.len());
    for path in paths {
        let roles = std::iter::once(None).chain(state.roles.iter().map(|role| Some(role.as_str())));
        for schemas in roles.map(|role| catalog.schemas_of(path, role)) {
            if !all.contains(&schemas) {
                all.push(schemas);
            }
        }
    }
    all
}

/// Strings of a list of `String` nodes; `None` when something else is among them.
fn strings(nodes: &[Node]) -> Option<Vec<&str>> {
    nodes
        .iter()
        .map(|node| match &node.node {
            Some(pg_query::NodeEnum::String(string)) => Some(string.sval.as_str()),
            _ => None,
        })
        .collect()
}

/// The search path effect of a value list, `None` inside when it is not understood.
fn path_effect(path: Option<SearchPath>, lasts: Lasts) -> Effect {
    Effect::SearchPath { path, lasts }
}

/// What a view's columns are made of; `None` when that could not be found out.
pub(crate) fn relation_view<'c>(catalog: &'c Catalog, relation: &'c crate::catalog::Relation) -> Option<&'c ViewFacts> {
    relation::understand(catalog, relation, 0);
    relation.view.get().and_then(Option::as_ref)
}
