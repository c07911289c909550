//! Expressions that a change of a table evaluates for rows that are there: whether that fails would tell what a protected column holds.

use pg_query::protobuf::{AlterDomainStmt, ColumnDef, ConstrType, IndexStmt, RangeVar};
use pg_query::{Node, NodeEnum};

use super::{Interest, Range, Scope, Walk, strings};

const STORED: &str = "a protected column decides whether a change of the table fails";

impl Walk<'_> {
    /// A constraint is checked against all rows, unless it says NOT VALID.
    pub(super) fn checks_rows(&mut self, range: &RangeVar, node: &Node) {
        let Some(NodeEnum::Constraint(constraint)) = &node.node else { return };
        if constraint.skip_validation {
            return;
        }
        let mut keys: Vec<&Node> = Vec::new();
        if ConstrType::try_from(constraint.contype) == Ok(ConstrType::ConstrForeign) {
            keys.extend(&constraint.fk_attrs);
        }
        let excluded = constraint.exclusions.iter().filter_map(|pair| match &pair.node {
            Some(NodeEnum::List(pair)) => pair.items.first(),
            _ => None,
        });
        let elements: Vec<&Node> = excluded.collect();
        let conditions: Vec<&Node> =
            [&constraint.raw_expr, &constraint.where_clause].into_iter().filter_map(|node| node.as_deref()).collect();
        self.stored(range, &keys, &elements, &conditions);
    }

    /// A column that is added: what it is made of, and what is checked of it.
    pub(super) fn adds_column(&mut self, range: &RangeVar, column: &ColumnDef) {
        for constraint in &column.constraints {
            self.checks_rows(range, constraint);
        }
    }

    /// The expressions of an index are evaluated for each row.
    pub(super) fn indexes_rows(&mut self, range: &RangeVar, index: &IndexStmt) {
        let elements: Vec<&Node> = index.index_params.iter().collect();
        let conditions: Vec<&Node> = index.where_clause.as_deref().into_iter().collect();
        self.stored(range, &[], &elements, &conditions);
    }

    /// A check that a domain gets is made of all values of that type.
    pub(super) fn checks_values(&mut self, alter: &AlterDomainStmt) {
        let Interest::Protected(protection) = self.interest else { return };
        let checks = match alter.def.as_deref().map(|definition| &definition.node) {
            Some(Some(NodeEnum::Constraint(constraint))) => !constraint.skip_validation,
            _ => alter.subtype == "V",
        };
        let names = strings(&alter.type_name).unwrap_or_default();
        let domains: Vec<u32> = match names.as_slice() {
            [name] => self.paths.iter().flatten().filter_map(|schema| self.catalog.type_in(schema, name)).collect(),
            [.., schema, name] => self.catalog.type_in(schema, name).into_iter().collect(),
            [] => return,
        };
        let is_one = |oid: u32| domains.contains(&oid) || self.catalog.type_by_oid(oid).is_some_and(|found| domains.contains(&found.base));
        let holds = checks
            && self.catalog.relations().any(|relation| {
                relation.columns.iter().any(|column| protection.is_protected((relation.oid, column.number)) && is_one(column.type_oid))
            });
        if holds {
            self.exposed.get_or_insert_with(|| STORED.to_owned());
        }
    }

    /// A condition under which rows are seen or changed, code runs or something else is done: whoever makes it sees whether it holds.
    pub(super) fn decides_rows(&mut self, range: Option<&RangeVar>, conditions: &[&Node]) {
        if let Some(range) = range {
            self.stored(range, &[], &[], conditions);
        }
    }

    pub(super) fn stored(&mut self, range: &RangeVar, keys: &[&Node], elements: &[&Node], conditions: &[&Node]) {
        // What is called there counts where it is called: here only what it is made of matters.
        let mut inner = self.within(self.interest);
        let ranges = inner.range_var(range);
        // In rules and triggers rows have these names.
        let row = |name: &str| ranges.first().map(|range| Range { alias: name.to_owned(), schema: None, source: range.source.clone() });
        let hidden = ["old", "new"].into_iter().filter_map(row).collect();
        let scope = Scope { ranges, hidden, parent: None, merged: false };
        for key in keys {
            if let Some(NodeEnum::String(name)) = &key.node
                && let Some(lineage) = inner.lookup_column(&name.sval, &scope)
            {
                inner.expose(&lineage, STORED);
            }
        }
        for element in elements {
            if let Some(NodeEnum::IndexElem(element)) = &element.node {
                inner.condition(element.expr.as_deref(), &scope, STORED);
            }
        }
        for condition in conditions {
            inner.condition(Some(condition), &scope, STORED);
        }
        self.exposed = self.exposed.take().or(inner.exposed);
    }
}
