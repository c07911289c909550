//! Code that runs with the rows of a relation or the values of a type: policies, defaults, checks, index expressions.
//!
//! The server prints it as SQL; what it amounts to is found out once per catalog. Functions that triggers and rules call are not
//! here: they are named by the catalog (`Relation::write_code`).

use super::{Interest, Range, Reach, Scope, Source, Walk};
use crate::catalog::Relation;
use crate::state::SessionState;
use crate::{Catalog, StatementKind, grammar};

const MOST_BYTES: usize = 1 << 20;

/// What evaluating an expression of the catalog amounts to.
#[derive(Debug)]
pub(crate) struct CodeFacts {
    kind: StatementKind,
    notes: Vec<String>,
    reads: Vec<u32>,
    calls: Vec<u32>,
    operators: Vec<(Option<String>, String)>,
    types: Vec<u32>,
    /// Types of users whose values are made, whatever is calculated with them.
    checked: Vec<u32>,
    computes: bool,
    sorts: bool,
    has_cast: bool,
    functions: Vec<String>,
    /// Immutable functions called with nothing but constants.
    constant_calls: Vec<u32>,
}

impl<'a> Walk<'a> {
    /// What runs with a relation's rows when they are read or written.
    pub(super) fn runs(&mut self, relation: &'a Relation, writes: bool) {
        let expressions = if writes { &relation.write_expressions } else { &relation.read_expressions };
        let triggers: &[String] = if writes { &relation.conditional_triggers } else { &[] };
        if (expressions.is_empty() && triggers.is_empty()) || self.shallow {
            return;
        }
        let [reading, writing, _] = &relation.code;
        let slot = if writes { writing } else { reading };
        if slot.get().is_none() {
            let _ = slot.set(relation_code(self.catalog, relation, expressions, triggers, self.level));
        }
        self.take_code(slot.get().and_then(Option::as_ref), || format!("{}.{}", relation.schema, relation.name));
    }

    /// What planning a statement over the relation runs: the server folds constants in checks, index and partition expressions.
    pub(super) fn plans(&mut self, relation: &'a Relation) {
        if let Some(Some(facts)) = self.planned(relation) {
            self.calls.extend(facts.constant_calls.iter().copied());
        }
    }

    /// What maintenance of a relation evaluates: the expressions of its indexes.
    pub(super) fn maintenance(&mut self, relation: &'a Relation) {
        // Values are put in order, too, those of partitions with them.
        self.sorts = true;
        self.use_columns(relation);
        for child in relation.children.iter().filter_map(|child| self.catalog.relation(*child)).collect::<Vec<_>>() {
            let _ = self.deeper(|walk| walk.maintenance(child));
        }
        self.calls.extend(relation.index_code.iter().chain(&relation.read_code).copied());
        if let Some(facts) = self.planned(relation) {
            self.take_code(facts.as_ref(), || format!("{}.{}", relation.schema, relation.name));
        }
    }

    fn planned(&self, relation: &'a Relation) -> Option<&'a Option<CodeFacts>> {
        if relation.planned_expressions.is_empty() || self.shallow {
            return None;
        }
        let [_, _, slot] = &relation.code;
        if slot.get().is_none() {
            let _ = slot.set(relation_code(self.catalog, relation, &relation.planned_expressions, &[], self.level));
        }
        slot.get()
    }

    /// The checks of a domain.
    pub(super) fn domain_check(&mut self, check: &str, slot: &'a std::sync::OnceLock<Option<CodeFacts>>) {
        if slot.get().is_none() {
            let text = format!("SELECT {check} FROM (SELECT NULL) AS domain(value)");
            let _ = slot.set(code(self.catalog, &text, self.level, |walk, node| {
                let _ = walk.query(node, None);
            }));
        }
        self.take_code(slot.get().and_then(Option::as_ref), || "the check of a domain".to_owned());
    }

    fn take_code(&mut self, facts: Option<&'a CodeFacts>, whose: impl Fn() -> String) {
        let Some(facts) = facts else {
            let whose = whose();
            self.unknown(|| format!("an expression of {whose} could not be judged"));
            return;
        };
        if facts.kind > self.kind.max(StatementKind::Read) {
            for note in &facts.notes {
                let note = format!("{}: {note}", whose());
                self.raise(facts.kind, || note);
            }
            self.kind = self.kind.max(facts.kind);
        }
        self.calls.extend(facts.calls.iter().copied());
        self.operators.extend(facts.operators.iter().cloned());
        for name in &facts.functions {
            self.function_changed(name);
        }
        for oid in &facts.types {
            self.know_type(*oid, 0);
        }
        self.checked.extend(facts.checked.iter().copied());
        self.computes |= facts.computes;
        self.sorts |= facts.sorts;
        self.has_cast |= facts.has_cast;
        for oid in &facts.reads {
            if let Some(relation) = self.catalog.relation(*oid) {
                let kind = self.kind;
                self.read_as(relation, Reach::Kin);
                self.kind = self.kind.max(kind);
            }
        }
    }
}

fn relation_code(catalog: &Catalog, relation: &Relation, expressions: &[String], triggers: &[String], level: usize) -> Option<CodeFacts> {
    let expressions = (!expressions.is_empty()).then(|| format!("SELECT {}", expressions.join(", ")));
    let texts: Vec<&str> = expressions.iter().chain(triggers).map(String::as_str).collect();
    code(catalog, &texts.join("; "), level, |walk, node| {
        let Some(relation) = walk.catalog.relation(relation.oid) else { return };
        let range = |alias: &str| Range { alias: alias.to_owned(), schema: None, source: Source::Relation(relation, Vec::new()) };
        let scope = |ranges| Scope { ranges, hidden: Vec::new(), parent: None, merged: false };
        walk.use_columns(relation);
        match &node.node {
            Some(pg_query::NodeEnum::SelectStmt(select)) => {
                let _ = walk.targets(&select.target_list, &scope(vec![range(&relation.name)]));
            }
            Some(pg_query::NodeEnum::CreateTrigStmt(trigger)) => {
                let _ = walk.optional(trigger.when_clause.as_deref(), &scope(vec![range("old"), range("new")]));
            }
            _ => walk.unknown(|| "what runs with a row is of a kind that is not on the list".to_owned()),
        }
    })
}

fn code(catalog: &Catalog, text: &str, level: usize, look: impl Fn(&mut Walk<'_>, &pg_query::Node)) -> Option<CodeFacts> {
    if level >= super::MOST_LEVELS {
        return None;
    }
    let statements = grammar::parse(text, MOST_BYTES).ok()?;
    let state = SessionState::default();
    let mut walk = Walk::new(catalog, &state, Interest::All);
    walk.depth = super::MOST_DEPTH / 2;
    walk.shallow = true;
    walk.level = level + 1;
    walk.kind = StatementKind::Read;
    for statement in &statements {
        look(&mut walk, statement.stmt.as_deref()?);
    }
    Some(CodeFacts {
        kind: walk.kind,
        notes: walk.notes,
        reads: walk.reads.into_keys().collect(),
        calls: walk.calls.into_iter().collect(),
        operators: walk.operators.into_iter().collect(),
        types: walk.types.into_iter().collect(),
        checked: walk.checked.into_iter().collect(),
        computes: walk.computes,
        sorts: walk.sorts,
        has_cast: walk.has_cast,
        functions: walk.called_names.into_iter().collect(),
        constant_calls: walk.constant_calls.into_iter().collect(),
    })
}
