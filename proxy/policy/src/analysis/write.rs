//! INSERT, UPDATE, DELETE, MERGE and SELECT INTO.

use pg_query::protobuf::{
    CmdType, DeleteStmt, InsertStmt, IntoClause, MergeMatchKind, MergeStmt, OnConflictAction, RangeVar, ReturningClause, UpdateStmt,
};
use pg_query::{Node, NodeEnum};

use super::{Item, Items, Lineage, Range, Scope, Source, Walk};
use crate::StatementKind;
use crate::decision::Effect;
use crate::facts::{RelationName, SessionAction};
use crate::state::changes::Change;
use crate::state::truncate;

const FEEDS: &str = "a protected column feeds a write";
const CONFLICT: &str = "a protected column decides a conflict";

impl<'a> Walk<'a> {
    pub(super) fn insert(&mut self, insert: &InsertStmt, outer: Option<&Scope<'a, '_>>) -> Items {
        let before = self.with(insert.with_clause.as_ref(), outer);
        let mut scope = Scope { ranges: Vec::new(), hidden: Vec::new(), parent: outer, merged: false };
        self.target(insert.relation.as_ref(), &mut scope);
        if let Some(source) = insert.select_stmt.as_deref() {
            let items = self.query(source, outer);
            self.expose(&items.all(), FEEDS);
        }
        if let Some(conflict) = insert.on_conflict_clause.as_deref() {
            let proposed = scope
                .ranges
                .iter()
                .flat_map(|range| self.range_items(range).columns)
                .map(|item| Item { name: item.name, lineage: Lineage::default() });
            let proposed = Items { columns: proposed.collect(), complete: true };
            if let Some(infer) = conflict.infer.as_deref() {
                for element in &infer.index_elems {
                    match &element.node {
                        Some(NodeEnum::IndexElem(element)) => {
                            let named = self.lookup_column(&element.name, &scope).unwrap_or_default();
                            self.expose(&named, CONFLICT);
                            self.condition(element.expr.as_deref(), &scope, CONFLICT);
                        }
                        _ => self.unknown(|| "a conflict target that is none".to_owned()),
                    }
                }
                self.condition(infer.where_clause.as_deref(), &scope, CONFLICT);
            }
            if conflict.infer.as_deref().is_none_or(|infer| infer.index_elems.is_empty()) {
                // A constraint by its name, or any there is.
                let row = scope.ranges.first().map(|range| self.range_whole(range)).unwrap_or_default();
                self.expose(&row, "a protected column may decide a conflict where ON CONFLICT does not name the columns");
            }
            let updates = OnConflictAction::try_from(conflict.action) == Ok(OnConflictAction::OnconflictUpdate);
            let target = scope.ranges.iter().find_map(|range| match &range.source {
                Source::Relation(relation, _) => Some(relation.oid),
                _ => None,
            });
            if updates && target.is_some_and(|target| self.reads.get(&target) == Some(&super::Reach::Named)) {
                // Rows of the table itself meet themselves there.
                self.missing_where |= !self.restricts(&[conflict.where_clause.as_deref()], &[], &scope);
            }
            scope.ranges.push(Range { alias: "excluded".to_owned(), schema: None, source: Source::Items(proposed) });
            self.assignments(&conflict.target_list, &scope);
            self.condition(conflict.where_clause.as_deref(), &scope, "a protected column decides in WHERE");
            scope.ranges.pop();
        }
        let items = self.returning(insert.returning_clause.as_ref(), &scope, 0);
        self.ctes.truncate(before);
        items
    }

    pub(super) fn update(&mut self, update: &UpdateStmt, outer: Option<&Scope<'a, '_>>) -> Items {
        let before = self.with(update.with_clause.as_ref(), outer);
        let mut scope = Scope { ranges: Vec::new(), hidden: Vec::new(), parent: outer, merged: false };
        self.target(update.relation.as_ref(), &mut scope);
        self.ranges_of(&update.from_clause, &mut scope);
        self.missing_where |= !self.restricts(&[update.where_clause.as_deref()], &update.from_clause, &scope);
        self.condition(update.where_clause.as_deref(), &scope, "a protected column decides in WHERE");
        self.assignments(&update.target_list, &scope);
        let items = self.returning(update.returning_clause.as_ref(), &scope, 0);
        self.ctes.truncate(before);
        items
    }

    pub(super) fn delete(&mut self, delete: &DeleteStmt, outer: Option<&Scope<'a, '_>>) -> Items {
        let before = self.with(delete.with_clause.as_ref(), outer);
        let mut scope = Scope { ranges: Vec::new(), hidden: Vec::new(), parent: outer, merged: false };
        self.target(delete.relation.as_ref(), &mut scope);
        self.ranges_of(&delete.using_clause, &mut scope);
        self.missing_where |= !self.restricts(&[delete.where_clause.as_deref()], &delete.using_clause, &scope);
        self.condition(delete.where_clause.as_deref(), &scope, "a protected column decides in WHERE");
        let items = self.returning(delete.returning_clause.as_ref(), &scope, 0);
        self.ctes.truncate(before);
        items
    }

    pub(super) fn merge(&mut self, merge: &MergeStmt, outer: Option<&Scope<'a, '_>>) -> Items {
        let before = self.with(merge.with_clause.as_ref(), outer);
        let mut scope = Scope { ranges: Vec::new(), hidden: Vec::new(), parent: outer, merged: false };
        self.target(merge.relation.as_ref(), &mut scope);
        let targets = scope.ranges.len();
        if let Some(source) = merge.source_relation.as_deref() {
            self.ranges_of(std::slice::from_ref(source), &mut scope);
        }
        self.condition(merge.join_condition.as_deref(), &scope, "a protected column decides in MERGE");
        let source = merge.source_relation.as_deref().map(std::slice::from_ref).unwrap_or_default();
        let joined = merge.join_condition.as_deref();
        for clause in &merge.merge_when_clauses {
            match &clause.node {
                Some(NodeEnum::MergeWhenClause(when)) => {
                    let changes = matches!(CmdType::try_from(when.command_type), Ok(CmdType::CmdUpdate | CmdType::CmdDelete));
                    // ON says which rows those are that have no match, however many.
                    let unmatched = MergeMatchKind::try_from(when.match_kind) == Ok(MergeMatchKind::MergeWhenNotMatchedBySource);
                    let joined = joined.filter(|_| !unmatched);
                    self.missing_where |= changes && !self.restricts(&[joined, when.condition.as_deref()], source, &scope);
                    self.condition(when.condition.as_deref(), &scope, "a protected column decides in MERGE");
                    self.assignments(&when.target_list, &scope);
                    let values = self.expressions(&when.values, &scope);
                    self.expose(&values, FEEDS);
                }
                _ => self.unknown(|| "a MERGE clause that is none".to_owned()),
            }
        }
        let items = self.returning(merge.returning_clause.as_ref(), &scope, targets);
        self.ctes.truncate(before);
        items
    }

    /// SELECT INTO and the target of CREATE TABLE AS.
    pub(super) fn into(&mut self, into: Option<&IntoClause>, items: &Items, plain: bool) {
        self.raise(StatementKind::Ddl, || "creates a table from a query".to_owned());
        self.action = SessionAction::CatalogChange;
        self.expose(&items.all(), FEEDS);
        if let Some(relation) = into.and_then(|into| into.rel.as_ref()) {
            self.created(relation, plain);
        }
    }

    /// A relation that the statement makes; a plain one runs nothing when it is used.
    pub(super) fn created(&mut self, relation: &RangeVar, plain: bool) {
        let temporary = relation.relpersistence == "t" || relation.schemaname.starts_with("pg_temp");
        let schema = match (temporary, relation.schemaname.as_str()) {
            (true, _) => "pg_temp".to_owned(),
            (false, "") => self.creation_schema(),
            (false, schema) => truncate(schema).to_owned(),
        };
        let name = RelationName { schema, name: truncate(&relation.relname).to_owned() };
        self.unresolved.insert(name.clone());
        if temporary || self.makes_temporary(&relation.schemaname) {
            // Its row type has its name.
            self.effects.push(Effect::Changed(Change::TemporaryType(name.name.clone())));
        }
        if !temporary && self.makes_temporary(&relation.schemaname) {
            self.effects.push(Effect::TemporaryObjects);
            self.effects.push(Effect::Changed(Change::Temporary(name.name.clone())));
        }
        if temporary {
            self.effects.push(Effect::TemporaryObjects);
            if !plain {
                self.effects.push(Effect::Changed(Change::Temporary(name.name)));
            }
        } else {
            self.effects.push(Effect::Changed(if plain { Change::Created(name) } else { Change::Relation(name.name) }));
        }
    }

    /// Where a name without a schema is created.
    pub(super) fn creation_schema(&self) -> String {
        let first = self.paths.first().and_then(|path| path.iter().find(|schema| **schema != "pg_catalog"));
        first.map(|schema| (*schema).to_owned()).unwrap_or_default()
    }

    /// The relation a statement writes, as the first range of its scope.
    pub(super) fn target(&mut self, relation: Option<&RangeVar>, scope: &mut Scope<'a, '_>) {
        self.kind = self.kind.max(StatementKind::Write);
        let Some(range) = relation else {
            self.unknown(|| "a write without a target".to_owned());
            return;
        };
        let alias = range.alias.as_ref().map_or(range.relname.as_str(), |alias| alias.aliasname.as_str()).to_owned();
        let found = self.resolve(range);
        self.writing_changed(truncate(&range.relname));
        if found.is_empty() {
            scope.ranges.push(Range { alias, schema: None, source: Source::Items(Items::default()) });
            return;
        }
        for relation in found {
            self.write(relation);
            self.understand_view(relation, 0);
            scope.ranges.push(Range {
                alias: alias.clone(),
                schema: Some(relation.schema.clone()),
                source: Source::Relation(relation, Vec::new()),
            });
        }
    }

    fn assignments(&mut self, nodes: &[Node], scope: &Scope<'a, '_>) {
        for node in nodes {
            match &node.node {
                Some(NodeEnum::ResTarget(target)) => {
                    for part in &target.indirection {
                        if matches!(part.node, Some(NodeEnum::AIndices(_))) {
                            let lineage = self.expression(part, scope);
                            self.expose(&lineage, FEEDS);
                        }
                    }
                    let lineage = self.optional(target.val.as_deref(), scope);
                    self.expose(&lineage, FEEDS);
                }
                _ => self.unknown(|| "an assignment that is none".to_owned()),
            }
        }
    }

    /// RETURNING; so many ranges at the beginning come last in `*`.
    fn returning(&mut self, clause: Option<&ReturningClause>, scope: &Scope<'a, '_>, last: usize) -> Items {
        let Some(clause) = clause else {
            return Items { columns: Vec::new(), complete: true };
        };
        // OLD and NEW, or the names given to them, are the target's rows (PostgreSQL 18).
        let mut names = vec!["old", "new"];
        for option in &clause.options {
            match &option.node {
                Some(NodeEnum::ReturningOption(option)) => names.push(option.value.as_str()),
                _ => self.unknown(|| "an option of RETURNING that is none".to_owned()),
            }
        }
        let Some(Source::Relation(target, _)) = scope.ranges.first().map(|range| &range.source) else {
            return self.targets(&clause.exprs, scope);
        };
        let row = |name: &str| Range { alias: name.to_owned(), schema: None, source: Source::Relation(target, Vec::new()) };
        let own = |range: &Range<'a>| Range { alias: range.alias.clone(), schema: range.schema.clone(), source: range.source.clone() };
        let inner = Scope {
            ranges: scope.ranges.iter().skip(last).chain(scope.ranges.iter().take(last)).map(own).collect(),
            hidden: names.iter().map(|name| row(name)).collect(),
            parent: scope.parent,
            merged: scope.merged,
        };
        self.targets(&clause.exprs, &inner)
    }
}
