//! Aggregates over protected columns whose result a policy lets through: those that the query itself makes of enough values.
//!
//! The gateway cannot count what an aggregate is made of, but the server can: a query that says `HAVING count(salary) >= 10` gives no group
//! made of fewer salaries. That holds as it stands only where each value is counted once: one relation, no joins, no functions that
//! return sets, no FILTER, DISTINCT or window.

use pg_query::protobuf::{AExprKind, BoolExprType, FuncCall, SelectStmt};
use pg_query::{Node, NodeEnum};

use super::{ColumnId, Interest, Scope, Source, Walk, strings};
use crate::rule::MaskKind;

impl<'a> Walk<'a> {
    /// The columns of which each group has enough values.
    pub(super) fn floor_of(&mut self, select: &SelectStmt, scope: &Scope<'a, '_>) -> Vec<ColumnId> {
        let Interest::Protected(protection) = self.interest else { return Vec::new() };
        let Some((_, least)) = &protection.policy().masking().aggregates else { return Vec::new() };
        let ([Node { node: Some(NodeEnum::RangeVar(_)) }], [range]) = (select.from_clause.as_slice(), scope.ranges.as_slice()) else {
            return Vec::new();
        };
        if !matches!(&range.source, Source::Relation(relation, _) if matches!(relation.kind, 'r' | 'p' | 'm' | 'f')) {
            return Vec::new();
        }
        let mut conditions: Vec<&Node> = Vec::new();
        match select.having_clause.as_deref().map(|having| (having, &having.node)) {
            Some((_, Some(NodeEnum::BoolExpr(all)))) if BoolExprType::try_from(all.boolop) == Ok(BoolExprType::AndExpr) => {
                conditions.extend(&all.args);
            }
            Some((one, _)) => conditions.push(one),
            None => {}
        }
        conditions.into_iter().filter_map(|condition| self.counted(condition, *least, scope)).collect()
    }

    /// The column of `count(column) >= least`.
    fn counted(&mut self, condition: &Node, least: u64, scope: &Scope<'a, '_>) -> Option<ColumnId> {
        let Some(NodeEnum::AExpr(comparison)) = &condition.node else { return None };
        if AExprKind::try_from(comparison.kind) != Ok(AExprKind::AexprOp) {
            return None;
        }
        let operator = strings(&comparison.name)?;
        let Some(NodeEnum::FuncCall(call)) = comparison.lexpr.as_deref().and_then(|left| left.node.as_ref()) else { return None };
        let Some(NodeEnum::AConst(number)) = comparison.rexpr.as_deref().and_then(|right| right.node.as_ref()) else { return None };
        let Some(pg_query::protobuf::a_const::Val::Ival(number)) = &number.val else { return None };
        let number = u64::try_from(number.ival).ok()?;
        let enough = match operator.as_slice() {
            [">="] => number >= least,
            [">"] => number.saturating_add(1) >= least,
            _ => false,
        };
        // An operator or function of the user's own could mean anything.
        let own = !self.catalog.operators_named(operator.first()?).is_empty() || self.catalog.functions_named("count").next().is_some();
        (enough && !own && is_named(call, &["count"])).then(|| self.only_column(call, scope)).flatten()
    }

    /// The column that a plain aggregate call is over.
    fn only_column(&mut self, call: &FuncCall, scope: &Scope<'a, '_>) -> Option<ColumnId> {
        let plain = !call.agg_distinct
            && !call.agg_star
            && !call.agg_within_group
            && !call.func_variadic
            && call.agg_filter.is_none()
            && call.over.is_none()
            && call.agg_order.is_empty();
        let [argument] = call.args.as_slice() else { return None };
        if !plain || !self.is_own(argument, scope) {
            return None;
        }
        self.expression(argument, scope).direct
    }

    /// Whether an expression is a column of the query at hand: an aggregate over an outer query's is that query's.
    fn is_own(&self, argument: &Node, scope: &Scope<'a, '_>) -> bool {
        let Some(NodeEnum::ColumnRef(column)) = &argument.node else { return false };
        match strings(&column.fields).as_deref() {
            Some([name]) => scope.ranges.iter().any(|range| self.range_column(range, name).is_some()),
            Some([.., relation, _]) => scope.ranges.iter().any(|range| range.alias == *relation),
            _ => false,
        }
    }

    /// Whether every argument is a column as it stands, or nothing of a column. A listed function over what was made of a column would show
    /// whatever is asked of it.
    fn takes_columns(&mut self, call: &FuncCall, scope: &Scope<'a, '_>) -> bool {
        let Interest::Protected(protection) = self.interest else { return false };
        call.args.iter().all(|argument| {
            let lineage = self.expression(argument, scope);
            match lineage.direct {
                Some(column) => protection.mask(column) != Some(MaskKind::Derived),
                None => !lineage.is_protected() && !lineage.opaque,
            }
        })
    }

    /// Whether the result of a call is shown whatever it is made of: counts, and what the policy lets through.
    pub(super) fn is_shown(&mut self, call: &FuncCall, scope: &Scope<'a, '_>) -> bool {
        let Interest::Protected(protection) = self.interest else { return false };
        let Some(name) = strings(&call.funcname).and_then(|names| match names.as_slice() {
            [name] | ["pg_catalog", name] => Some((*name).to_owned()),
            _ => None,
        }) else {
            return false;
        };
        if !crate::builtin::is_harmless(&name) || self.catalog.functions_named(&name).next().is_some() {
            return false;
        }
        let masking = protection.policy().masking();
        if masking.functions.contains(&name) && call.over.is_none() && call.agg_filter.is_none() {
            return self.takes_columns(call, scope);
        }
        if name == "count" && call.over.is_none() {
            return self.only_column(call, scope).is_some();
        }
        let listed = masking.aggregates.as_ref().is_some_and(|(functions, _)| functions.contains(&name));
        listed && self.only_column(call, scope).is_some_and(|column| self.floor.contains(&column))
    }
}

fn is_named(call: &FuncCall, names: &[&str]) -> bool {
    match strings(&call.funcname).as_deref() {
        Some([name] | ["pg_catalog", name]) => names.contains(name),
        _ => false,
    }
}
