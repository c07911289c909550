//! Whether a condition picks rows of the table that is written, or only looks like one: `WHERE true`, `WHERE 1 = 1`, `WHERE id = id`.
//!
//! What a column's values are is not known here, so that `WHERE id >= 0` counts as a condition. What does not look at a column of the table at
//! all, compares it with itself or asks whether it has a value does not.

use std::collections::BTreeSet;

use pg_query::protobuf::{BoolExprType, NullTestType};
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
        let mut walk = Walk::new(self.catalog, self.state, Interest::All);
        walk.depth = self.depth;
        // Of a table that the catalog does not show yet any column may be one.
        let known = matches!(target.source, Source::Relation(..));
        let items = self.range_items(target);
        let mark =
            |(item, number): (Item, i16)| Item { lineage: Lineage { sources: vec![(TARGET, number)], ..Lineage::default() }, ..item };
        let columns = items.columns.into_iter().zip(1..).map(mark).collect();
        let own = |range: &Range<'a>| Range { alias: range.alias.clone(), schema: range.schema.clone(), source: range.source.clone() };
        let marked = Range { source: Source::Items(Items { columns, complete: true }), ..own(target) };
        let ranges = std::iter::once(marked).chain(others.iter().map(own)).collect();
        let scope = Scope { ranges, hidden: Vec::new(), parent: scope.parent, merged: scope.merged };
        walk.picks(condition, known, &scope, 0)
    }

    fn picks(&mut self, node: &Node, known: bool, scope: &Scope<'a, '_>, level: usize) -> bool {
        if level > MOST_LEVELS {
            return false;
        }
        match &node.node {
            Some(NodeEnum::BoolExpr(logic)) => {
                let mut arms = logic.args.iter().map(|arm| self.picks(arm, known, scope, level.saturating_add(1)));
                match BoolExprType::try_from(logic.boolop) {
                    Ok(BoolExprType::AndExpr) => arms.any(|picks| picks),
                    Ok(BoolExprType::OrExpr | BoolExprType::NotExpr) => arms.all(|picks| picks),
                    _ => false,
                }
            }
            Some(NodeEnum::BooleanTest(test)) => {
                test.arg.as_deref().is_some_and(|inner| self.picks(inner, known, scope, level.saturating_add(1)))
            }
            Some(NodeEnum::NullTest(test)) => {
                let asks = NullTestType::try_from(test.nulltesttype) == Ok(NullTestType::IsNull);
                asks && !self.looks_at(Some(node), known, scope).is_empty()
            }
            Some(NodeEnum::AExpr(operation)) => {
                let left = self.looks_at(operation.lexpr.as_deref(), known, scope);
                let right = self.looks_at(operation.rexpr.as_deref(), known, scope);
                // Both sides look at the same columns, or at none. One that is not known is no column's like.
                left != right || left.contains(&(TARGET, 0))
            }
            Some(NodeEnum::CurrentOfExpr(_)) => true,
            _ => !self.looks_at(Some(node), known, scope).is_empty(),
        }
    }

    /// The target's columns that an expression looks at, in queries of its own, too.
    fn looks_at(&mut self, node: Option<&Node>, known: bool, scope: &Scope<'a, '_>) -> BTreeSet<ColumnId> {
        self.seen.clear();
        let before = self.columns_seen;
        let lineage = self.optional(node, scope);
        let seen = std::mem::take(&mut self.seen).into_iter().chain(lineage.sources);
        let mut found: BTreeSet<ColumnId> = seen.filter(|(relation, _)| *relation == TARGET).collect();
        if !known && self.columns_seen > before {
            found.insert((TARGET, 0));
        }
        found
    }
}
