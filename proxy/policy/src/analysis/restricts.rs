//! Whether a condition picks rows of the table that is written, or only looks like one: `WHERE true`, `WHERE 1 = 1`, `WHERE id = id`.
//!
//! What a column's values are is not known here, so that `WHERE id >= 0` counts as a condition. What does not look at a column of the table at
//! all, compares it with itself or asks whether it has a value does not.

use std::collections::BTreeSet;

use pg_query::protobuf::{AExpr, AExprKind, BoolExprType, BoolTestType, NullTestType, SetOperation, SubLink, SubLinkType, a_const};
use pg_query::{Node, NodeEnum};

use super::{ColumnId, Interest, Item, Items, Lineage, Range, Scope, Source, Walk};

/// Greatest nesting that is looked into; what is nested deeper counts as no condition.
const MOST_LEVELS: usize = 200;

/// Stands for the table that is written: the same table may be read besides.
const TARGET: u32 = u32::MAX;

impl<'a> Walk<'a> {
    /// Whether a condition restricts the rows of the first range of a scope.
    pub(super) fn restricts(&self, condition: Option<&Node>, scope: &Scope<'a, '_>) -> bool {
        let (Some(condition), Some((target, others))) = (condition, scope.ranges.split_first()) else { return false };
        let mut walk = self.within(Interest::All);
        walk.depth = self.depth;
        // Of a table that the catalog does not show yet any column may be one.
        let table = match &target.source {
            Source::Relation(relation, _) => Some(relation.oid),
            _ => None,
        };
        let items = self.range_items(target);
        let mark =
            |(item, number): (Item, i16)| Item { lineage: Lineage { sources: vec![(TARGET, number)], ..Lineage::default() }, ..item };
        let columns = items.columns.into_iter().zip(1..).map(mark).collect();
        let own = |range: &Range<'a>| Range { alias: range.alias.clone(), schema: range.schema.clone(), source: range.source.clone() };
        let marked = Range { source: Source::Items(Items { columns, complete: true }), ..own(target) };
        let ranges = std::iter::once(marked).chain(others.iter().map(own)).collect();
        let scope = Scope { ranges, hidden: Vec::new(), parent: scope.parent, merged: scope.merged };
        walk.picks(condition, false, table, &scope, 0)
    }

    /// Whether a condition, or what is `not` that condition, picks rows.
    fn picks(&mut self, node: &Node, not: bool, table: Option<u32>, scope: &Scope<'a, '_>, level: usize) -> bool {
        if level > MOST_LEVELS {
            return false;
        }
        let level = level.saturating_add(1);
        match &node.node {
            Some(NodeEnum::BoolExpr(logic)) => {
                let operation = BoolExprType::try_from(logic.boolop);
                let not = not != (operation == Ok(BoolExprType::NotExpr));
                let mut arms = logic.args.iter().map(|arm| self.picks(arm, not, table, scope, level));
                match (operation, not) {
                    (Ok(BoolExprType::AndExpr), false) | (Ok(BoolExprType::OrExpr), true) => arms.any(|picks| picks),
                    (Ok(_), _) => arms.all(|picks| picks),
                    _ => false,
                }
            }
            Some(NodeEnum::BooleanTest(test)) => {
                let Some(inner) = test.arg.as_deref() else { return false };
                match BoolTestType::try_from(test.booltesttype) {
                    Ok(BoolTestType::IsTrue | BoolTestType::IsNotFalse) => self.picks(inner, not, table, scope, level),
                    Ok(BoolTestType::IsFalse | BoolTestType::IsNotTrue) => self.picks(inner, !not, table, scope, level),
                    // What is unknown is a value that is NULL.
                    Ok(BoolTestType::IsUnknown) => !not && !self.looks_at(Some(inner), table, scope).is_empty(),
                    Ok(BoolTestType::IsNotUnknown) => not && !self.looks_at(Some(inner), table, scope).is_empty(),
                    _ => false,
                }
            }
            Some(NodeEnum::NullTest(test)) => {
                let is_null = NullTestType::try_from(test.nulltesttype) == Ok(NullTestType::IsNull);
                is_null != not && !self.looks_at(Some(node), table, scope).is_empty()
            }
            Some(NodeEnum::AExpr(operation)) => self.compares(operation, not, table, scope, level),
            Some(NodeEnum::SubLink(link)) => self.selects(node, link, not, table, scope, level),
            Some(NodeEnum::CurrentOfExpr(_)) => true,
            _ => !self.looks_at(Some(node), table, scope).is_empty(),
        }
    }

    fn compares(&mut self, operation: &AExpr, not: bool, table: Option<u32>, scope: &Scope<'a, '_>, level: usize) -> bool {
        let sides = [operation.lexpr.as_deref(), operation.rexpr.as_deref()];
        let other_than = |is: fn(&Node) -> bool| match sides {
            [Some(left), Some(right)] if is(right) => Some(left),
            [Some(left), Some(right)] if is(left) => Some(right),
            _ => None,
        };
        // `x IS DISTINCT FROM NULL` asks whether it has a value.
        let kind = AExprKind::try_from(operation.kind);
        if let (Ok(AExprKind::AexprDistinct | AExprKind::AexprNotDistinct), Some(value)) = (kind, other_than(is_null)) {
            let is_null = kind == Ok(AExprKind::AexprNotDistinct);
            return is_null != not && !self.looks_at(Some(value), table, scope).is_empty();
        }
        // `(condition) = true` is the condition, or what it is not.
        if let Some(condition) = other_than(is_boolean) {
            return self.picks(condition, false, table, scope, level) && self.picks(condition, true, table, scope, level);
        }
        let [left, right] = sides.map(|side| self.looks_at(side, table, scope));
        // Both sides look at the same columns, or at none. One that is not known is no column's like.
        left != right || left.contains(&(TARGET, 0))
    }

    /// A query within the condition: one that leaves nothing out is none.
    fn selects(&mut self, node: &Node, link: &SubLink, not: bool, table: Option<u32>, scope: &Scope<'a, '_>, level: usize) -> bool {
        let Some(NodeEnum::SelectStmt(select)) = link.subselect.as_deref().and_then(|query| query.node.as_ref()) else { return false };
        let bare = select.where_clause.is_none()
            && select.having_clause.is_none()
            && select.limit_count.is_none()
            && select.limit_offset.is_none()
            && SetOperation::try_from(select.op) == Ok(SetOperation::SetopNone);
        let value = select.target_list.first().and_then(|target| match &target.node {
            Some(NodeEnum::ResTarget(target)) => target.val.as_deref(),
            _ => None,
        });
        match SubLinkType::try_from(link.sub_link_type) {
            Ok(SubLinkType::ExistsSublink) if bare => return false,
            Ok(SubLinkType::ExprSublink) if bare && select.from_clause.is_empty() => {
                return value.is_some_and(|value| self.picks(value, not, table, scope, level));
            }
            // `id IN (SELECT id FROM the_same_table)`
            Ok(SubLinkType::AnySublink) if bare && !not => {
                if let [from] = select.from_clause.as_slice()
                    && let Some(NodeEnum::RangeVar(from)) = &from.node
                    && self.candidates(from).iter().any(|relation| table == Some(relation.oid))
                {
                    return false;
                }
            }
            _ => {}
        }
        !self.looks_at(Some(node), table, scope).is_empty()
    }

    /// The target's columns that an expression looks at, in queries of its own, too.
    fn looks_at(&mut self, node: Option<&Node>, table: Option<u32>, scope: &Scope<'a, '_>) -> BTreeSet<ColumnId> {
        self.seen.clear();
        let before = self.columns_seen;
        let lineage = self.optional(node, scope);
        let seen = std::mem::take(&mut self.seen).into_iter().chain(lineage.sources);
        let mut found: BTreeSet<ColumnId> = seen.filter(|(relation, _)| *relation == TARGET).collect();
        if table.is_none() && self.columns_seen > before {
            found.insert((TARGET, 0));
        }
        found
    }
}

fn is_null(node: &Node) -> bool {
    matches!(&node.node, Some(NodeEnum::AConst(value)) if value.isnull)
}

fn is_boolean(node: &Node) -> bool {
    matches!(&node.node, Some(NodeEnum::AConst(value)) if matches!(value.val, Some(a_const::Val::Boolval(_))))
}
