//! From a statement's tree to facts: what it is, what it touches, where its results come from.
//!
//! An exhaustive walk: a node kind that is not listed makes the statement unknown. Owns name resolution under the session's
//! search paths and the lineage of columns; does not own what the policy makes of it (`decide`).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use pg_query::Node;

use crate::decision::{CopyOut, Effect, Lasts};
use crate::facts::{RelationName, SessionAction};
use crate::masks::Protection;
use crate::state::{SearchPath, SessionState};
use crate::{Catalog, StatementFacts, StatementKind};

mod aggregate;
mod call;
mod copy;
mod expression;
mod finish;
mod from;
mod query;
mod relation;
mod session;
mod statement;
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
}

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
}

impl Lineage {
    fn absorb(&mut self, other: &Self) {
        for source in &other.sources {
            if !self.sources.contains(source) {
                self.sources.push(*source);
            }
        }
        self.opaque |= other.opaque;
        self.direct = None;
    }

    fn derived(mut self) -> Self {
        self.direct = None;
        self
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
    fn all(&self) -> Lineage {
        let mut lineage = Lineage::default();
        for column in &self.columns {
            lineage.absorb(&column.lineage);
        }
        lineage.opaque |= !self.complete;
        lineage
    }
}

/// A common table expression in scope.
struct Cte {
    name: String,
    items: Items,
}

/// One entry of a FROM clause.
struct Range<'a> {
    alias: String,
    schema: Option<String>,
    source: Source<'a>,
}

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
    kind: StatementKind,
    notes: Vec<String>,
    reads: BTreeMap<u32, Reach>,
    writes: BTreeMap<u32, Reach>,
    unresolved: BTreeSet<RelationName>,
    calls: BTreeSet<u32>,
    builtin_calls: BTreeSet<String>,
    operators: HashSet<(Option<String>, String)>,
    types: BTreeSet<u32>,
    has_cast: bool,
    exposed: Option<String>,
    copy_refused: Option<String>,
    copies: Vec<CopyOut>,
    /// Columns of which the query at hand says that each result is made of enough values.
    floor: Vec<ColumnId>,
    stale: bool,
    opaque: bool,
    ctes: Vec<Cte>,
    effects: Vec<Effect>,
    outputs: Option<Items>,
    missing_where: bool,
    limit: Option<u64>,
    action: SessionAction,
}

/// Analyses one statement.
pub(crate) fn statement(node: &Node, catalog: &Catalog, state: &SessionState, protection: &Protection<'_>) -> Analysis {
    let mut walk = Walk::new(catalog, state, Interest::Protected(protection));
    walk.statement(node);
    walk.finish(protection)
}

impl<'a> Walk<'a> {
    fn new(catalog: &'a Catalog, state: &'a SessionState, interest: Interest<'a>) -> Self {
        Self {
            catalog,
            state,
            interest,
            paths: state.paths.iter().map(|path| catalog.schemas_of(path)).collect(),
            depth: 0,
            nesting: 0,
            queries: 0,
            kind: StatementKind::Empty,
            notes: Vec::new(),
            reads: BTreeMap::new(),
            writes: BTreeMap::new(),
            unresolved: BTreeSet::new(),
            calls: BTreeSet::new(),
            builtin_calls: BTreeSet::new(),
            operators: HashSet::new(),
            types: BTreeSet::new(),
            has_cast: false,
            exposed: None,
            copy_refused: None,
            copies: Vec::new(),
            floor: Vec::new(),
            stale: false,
            opaque: false,
            ctes: Vec::new(),
            effects: Vec::new(),
            outputs: None,
            missing_where: false,
            limit: None,
            action: SessionAction::None,
        }
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

    fn unresolved(&mut self, note: impl FnOnce() -> String) {
        self.stale = true;
        self.unknown(note);
    }

    fn expose(&mut self, lineage: &Lineage, how: &str) {
        if !lineage.sources.is_empty() && matches!(self.interest, Interest::Protected(_)) && self.exposed.is_none() {
            self.exposed = Some(how.to_owned());
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

fn arc(node: &Node) -> Arc<Node> {
    Arc::new(node.clone())
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
