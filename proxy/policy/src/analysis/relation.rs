//! Relations: what a name means under the session's search paths, and what touching it touches besides.

use pg_query::protobuf::RangeVar;

use super::{Interest, Items, MOST_DEPTH, MOST_LEVELS, Reach, ViewColumn, ViewFacts, Walk};
use crate::catalog::Relation;
use crate::facts::RelationName;
use crate::state::{SessionState, truncate};
use crate::{StatementKind, builtin, grammar};

const MOST_VIEW_BYTES: usize = 1 << 20;

impl<'a> Walk<'a> {
    /// The relations that a name may mean; more than one when the session's search path is not certain.
    pub(super) fn resolve(&mut self, range: &RangeVar) -> Vec<&'a Relation> {
        let name = truncate(&range.relname);
        let schema = truncate(&range.schemaname);
        let found = self.candidates(range);
        self.looked_up = true;
        if schema.is_empty() {
            self.by_path("", name);
            if self.state.temporary {
                self.opaque = true;
            }
            if self.state.code_ran && self.catalog.has_temporary_code(name) {
                self.opaque = true;
                self.unknown(|| format!("{name} may be a temporary view"));
            }
        }
        if self.state.changes.is_relation_uncertain(name) {
            self.changed(name);
        }
        let created = self.created_named(schema, name);
        if let Some(created) = &created {
            self.unresolved.insert(created.clone());
            self.opaque = true;
            if !found.is_empty() {
                self.changed(name);
            }
        }
        if found.is_empty() && created.is_none() {
            let temporary = self.state.temporary && (schema.is_empty() || schema == "pg_temp");
            let schema = if temporary { "pg_temp" } else { schema };
            self.unresolved.insert(RelationName { schema: schema.to_owned(), name: name.to_owned() });
            if temporary {
                self.opaque = true;
            } else {
                self.unresolved(|| format!("relation {} is not in the catalog", display(range)));
            }
        }
        if found.len() > 1 {
            let shown = name.to_owned();
            self.unknown(|| format!("{shown} may mean more than one relation, since the session's search path changed"));
        }
        found
    }

    /// The relations of the catalog that a name may mean.
    pub(super) fn candidates(&self, range: &RangeVar) -> Vec<&'a Relation> {
        let catalog = self.catalog;
        let name = truncate(&range.relname);
        let there = |relation: &&'a Relation| !self.state.changes.is_dropped(&relation.schema, &relation.name);
        if !range.schemaname.is_empty() {
            return catalog.relation_in(truncate(&range.schemaname), name).filter(there).into_iter().collect();
        }
        let mut found: Vec<&'a Relation> = Vec::new();
        for path in &self.paths {
            if let Some(relation) = path.iter().find_map(|schema| catalog.relation_in(schema, name).filter(there))
                && !found.iter().any(|known| known.oid == relation.oid)
            {
                found.push(relation);
            }
        }
        found
    }

    /// The plain table of that name that the session made and the catalog does not show yet.
    fn created_named(&self, schema: &str, name: &str) -> Option<RelationName> {
        let visible = |created: &&RelationName| {
            (!schema.is_empty() || self.paths.iter().any(|path| path.contains(&created.schema.as_str())))
                && (self.catalog.relation_in(&created.schema, name).is_none() || self.state.changes.is_dropped(&created.schema, name))
        };
        self.state.changes.created(schema, name).find(visible).cloned()
    }

    /// What a name means was changed by the session itself.
    pub(super) fn changed(&mut self, name: &str) {
        self.opaque = true;
        self.unknown(|| format!("what {name} means was changed in this session and is not in the catalog yet"));
    }

    /// A relation is read.
    pub(super) fn read(&mut self, relation: &'a Relation) {
        self.read_as(relation, Reach::Named);
    }

    pub(super) fn read_as(&mut self, relation: &'a Relation, reach: Reach) {
        self.kind = self.kind.max(StatementKind::Read);
        if relation.is_system() {
            if matches!(relation.name.as_str(), "pg_settings" | "pg_prepared_statements" | "pg_cursors") && self.shows_setting(None) {
                self.unknown(|| format!("{} may show what code put into it", relation.name));
            }
            if let Some(why) = builtin::sensitive_relation(&relation.schema, &relation.name) {
                self.raise(StatementKind::Dcl, || format!("{}.{} {why}", relation.schema, relation.name));
            }
            self.reads.insert(relation.oid, Reach::Named);
            return;
        }
        let known = self.reads.get(&relation.oid).copied();
        if known.is_some_and(|known| known >= reach) {
            return;
        }
        self.reads.insert(relation.oid, reach);
        if self.state.changes.is_relation_uncertain(&relation.name) {
            self.changed(&relation.name);
        }
        self.use_columns(relation);
        self.calls.extend(relation.read_code.iter().copied());
        self.runs(relation, false);
        self.plans(relation);
        self.kin(relation, false);
        if relation.definition.is_some() || matches!(relation.kind, 'v' | 'm') {
            self.read_view(relation);
        }
        self.foreign(relation);
    }

    /// What a foreign table reaches is beyond the catalog: files, programs, other servers, this one by another name.
    fn foreign(&mut self, relation: &'a Relation) {
        if relation.kind == 'f' {
            self.opaque = true;
            self.raise(StatementKind::Procedural, || {
                format!("{}.{} is a foreign table: what is behind it is not followed", relation.schema, relation.name)
            });
        }
    }

    pub(super) fn use_columns(&mut self, relation: &'a Relation) {
        self.types.insert(relation.row_type);
        for column in &relation.columns {
            self.know_type(column.type_oid, 0);
        }
    }

    /// Children hold rows of their parents, parents show rows of their children.
    fn kin(&mut self, relation: &'a Relation, writes: bool) {
        let catalog = self.catalog;
        let mut pending: Vec<(&'a Relation, bool)> = vec![(relation, true), (relation, false)];
        while let Some((relation, down)) = pending.pop() {
            let next = if down { &relation.children } else { &relation.parents };
            for oid in next {
                let touched = if writes { &mut self.writes } else { &mut self.reads };
                if touched.contains_key(oid) {
                    continue;
                }
                touched.insert(*oid, Reach::Kin);
                if let Some(kin) = catalog.relation(*oid) {
                    if self.state.changes.is_relation_uncertain(&kin.name) {
                        self.changed(&kin.name);
                    }
                    if writes {
                        self.writing_changed(&kin.name);
                    }
                    if down {
                        self.calls.extend(kin.read_code.iter().copied());
                        self.runs(kin, false);
                        self.plans(kin);
                        self.foreign(kin);
                    }
                    if down && writes {
                        self.calls.extend(kin.write_code.iter().copied());
                        self.runs(kin, true);
                    }
                    pending.push((kin, down));
                }
            }
        }
    }

    fn read_view(&mut self, relation: &'a Relation) {
        self.understand_view(relation, self.level);
        match relation.view.get() {
            Some(Some(view)) => {
                let materialized = relation.kind == 'm' && !self.refreshes;
                for oid in &view.reads {
                    let reach = self.reads.entry(*oid).or_insert(Reach::Named);
                    *reach = Reach::Named;
                    if let Some(base) = self.catalog.relation(*oid)
                        && self.state.changes.is_relation_uncertain(&base.name)
                    {
                        self.changed(&base.name);
                    }
                }
                if !materialized {
                    self.kind = self.kind.max(view.kind);
                    for note in &view.notes {
                        let note = format!("{}.{}: {note}", relation.schema, relation.name);
                        self.raise(view.kind, || note);
                    }
                    self.calls.extend(view.calls.iter().copied());
                    self.operators.extend(view.operators.iter().cloned());
                    self.types.extend(view.types.iter().copied());
                    self.computes |= view.computes;
                    self.sorts |= view.sorts;
                    self.has_cast |= view.has_cast;
                    for name in &view.functions {
                        self.function_changed(name);
                    }
                }
            }
            _ => {
                self.opaque = true;
                // It was locked when the facts were read; they may know it by now.
                self.stale |= relation.definition.is_none();
                for oid in &relation.rule_relations {
                    self.reads.insert(*oid, Reach::Named);
                }
                self.calls.extend(relation.rule_functions.iter().copied());
                self.unknown(|| format!("the definition of view {}.{} could not be judged", relation.schema, relation.name));
            }
        }
    }

    /// Makes sure that a view's facts are there.
    pub(super) fn understand_view(&self, relation: &'a Relation, level: usize) {
        understand(self.catalog, relation, level);
    }

    /// What writing a relation of that name runs may have been changed by the session itself.
    pub(super) fn writing_changed(&mut self, name: &str) {
        if self.state.changes.is_writing_uncertain(name) || (self.state.code_ran && self.catalog.has_temporary_triggers(name)) {
            self.opaque = true;
            self.raise(StatementKind::Procedural, || {
                format!("what writing {name} runs was changed in this session and is not in the catalog yet")
            });
        }
    }

    /// A relation is written.
    pub(super) fn write(&mut self, relation: &'a Relation) {
        self.kind = self.kind.max(StatementKind::Write);
        let catalog = self.catalog;
        if relation.is_system() {
            self.raise(StatementKind::Dcl, || format!("writes {}.{}", relation.schema, relation.name));
        }
        if self.writes.insert(relation.oid, Reach::Named) == Some(Reach::Named) {
            return;
        }
        if self.state.changes.is_relation_uncertain(&relation.name) {
            self.changed(&relation.name);
        }
        self.writing_changed(&relation.name);
        self.use_columns(relation);
        for column in &relation.columns {
            self.use_type(column.type_oid, 0);
        }
        self.calls.extend(relation.write_code.iter().chain(&relation.read_code).copied());
        self.runs(relation, false);
        self.runs(relation, true);
        self.kin(relation, true);
        if relation.write_rules {
            self.calls.extend(relation.rule_functions.iter().copied());
            self.raise(StatementKind::Procedural, || format!("{}.{} has rules on writing", relation.schema, relation.name));
            for oid in &relation.rule_relations {
                self.writes.insert(*oid, Reach::Named);
            }
        } else if relation.kind == 'v' {
            self.read_view(relation);
            for oid in &relation.rule_relations {
                if let Some(base) = catalog.relation(*oid) {
                    self.write(base);
                }
            }
        }
        let mut pending = relation.cascades.clone();
        while let Some(oid) = pending.pop() {
            if self.writes.contains_key(&oid) {
                continue;
            }
            self.writes.insert(oid, Reach::Kin);
            if let Some(referencing) = catalog.relation(oid) {
                self.calls.extend(referencing.write_code.iter().copied());
                self.runs(referencing, true);
                self.kin(referencing, true);
                self.writing_changed(&referencing.name);
                if referencing.write_rules {
                    self.calls.extend(referencing.rule_functions.iter().copied());
                    self.raise(StatementKind::Procedural, || format!("{}.{} has rules on writing", referencing.schema, referencing.name));
                }
                pending.extend(referencing.cascades.iter().copied());
            }
        }
    }
}

/// Finds out, once, what reading a view amounts to.
pub(crate) fn understand(catalog: &crate::Catalog, relation: &Relation, level: usize) {
    if relation.view.get().is_some() || !matches!(relation.kind, 'v' | 'm') || relation.is_system() {
        return;
    }
    let facts = if level >= MOST_LEVELS { None } else { view_facts(catalog, relation, level) };
    // Views can be made to contain each other; whoever comes second finds the first answer.
    let _ = relation.view.set(facts);
}

fn view_facts(catalog: &crate::Catalog, relation: &Relation, level: usize) -> Option<ViewFacts> {
    for oid in &relation.rule_relations {
        if let Some(base) = catalog.relation(*oid) {
            understand(catalog, base, level + 1);
        }
    }
    let statements = grammar::parse(relation.definition.as_deref()?, MOST_VIEW_BYTES).ok()?;
    let [statement] = statements.as_slice() else { return None };
    let state = SessionState::default();
    let mut walk = Walk::new(catalog, &state, Interest::All);
    walk.depth = MOST_DEPTH / 2;
    walk.level = level + 1;
    walk.kind = StatementKind::Read;
    let items: Items = walk.query(statement.stmt.as_deref()?, None);
    let hides = walk.hides_results();
    let complete = items.complete && items.columns.len() == relation.columns.len();
    let columns = if complete {
        items
            .columns
            .into_iter()
            .map(|item| ViewColumn {
                sources: item.lineage.sources,
                direct: item.lineage.direct,
                opaque: item.lineage.opaque || (hides && item.lineage.direct.is_none()),
            })
            .collect()
    } else {
        let all = items.all();
        relation.columns.iter().map(|_| ViewColumn { sources: all.sources.clone(), direct: None, opaque: true }).collect()
    };
    let mut reads: Vec<u32> = walk.reads.into_keys().collect();
    for oid in &relation.rule_relations {
        if !reads.contains(oid) {
            reads.push(*oid);
        }
    }
    let mut calls: Vec<u32> = walk.calls.into_iter().collect();
    calls.extend(relation.rule_functions.iter().copied());
    Some(ViewFacts {
        columns,
        kind: walk.kind,
        notes: walk.notes,
        reads,
        calls,
        operators: walk.operators.into_iter().collect(),
        types: walk.types.into_iter().collect(),
        computes: walk.computes,
        sorts: walk.sorts,
        has_cast: walk.has_cast,
        functions: walk.called_names.into_iter().collect(),
    })
}

fn display(range: &RangeVar) -> String {
    if range.schemaname.is_empty() { range.relname.clone() } else { format!("{}.{}", range.schemaname, range.relname) }
}
