//! Whether a condition picks rows of the table that is written, or only looks like one: `WHERE true`, `WHERE 1 = 1`, `WHERE id = id`.
//!
//! What a column's values are is not known here, so that `WHERE id >= 0` counts as a condition. What does not look at a column of the table at
//! all, compares it with itself, also by way of the whole table read besides, or asks whether it has a value does not.

use std::collections::BTreeSet;

use pg_query::protobuf::{
    AExpr, AExprKind, BoolExprType, BoolTestType, NullTestType, RangeVar, SelectStmt, SetOperation, SubLink, SubLinkType, a_const,
};
use pg_query::{Node, NodeEnum};

use super::{ColumnId, Interest, Item, Items, Lineage, Range, Scope, Source, Walk, strings};

/// Greatest nesting that is looked into; what is nested deeper counts as no condition.
const MOST_LEVELS: usize = 200;

/// Stands for the table that is written: the same table may be read besides.
const TARGET: u32 = u32::MAX;

/// Down to here: the same table read besides, each time it is.
const LEAST_TWIN: u32 = u32::MAX - 10_000;

/// `pg_attribute.attnum` of where a row is.
const CTID: i16 = -1;

/// Functions that tell of a value no more than that there is one.
const SAY_NOTHING: &[&str] = &["num_nulls", "num_nonnulls", "pg_typeof", "pg_column_size", "pg_column_compression", "pg_collation_for"];

/// What the condition is about.
#[derive(Clone, Copy)]
struct Written {
    /// Of a table that the catalog does not show yet any column may be one.
    table: Option<u32>,
    /// The number of the last twin.
    twins: u32,
}

impl<'a> Walk<'a> {
    /// Whether conditions restrict the rows of the first range of a scope; `from` is what the other ranges come of.
    pub(super) fn restricts(&self, conditions: &[Option<&Node>], from: &[Node], scope: &Scope<'a, '_>) -> bool {
        let conditions: Vec<&Node> = conditions.iter().flatten().copied().collect();
        let (false, Some((target, others))) = (conditions.is_empty(), scope.ranges.split_first()) else { return false };
        let mut walk = self.within(Interest::All);
        walk.depth = self.depth;
        self.spend(self.ctes.len());
        walk.ctes.clone_from(&self.ctes);
        let table = match &target.source {
            Source::Relation(relation, _) => Some(relation.oid),
            _ => None,
        };
        let mut written = Written { table, twins: TARGET };
        let items = walk.range_items(target);
        let marked = |number| Lineage { sources: vec![(TARGET, number)], ..Lineage::default() };
        let mark = |(item, number): (Item, i16)| Item { lineage: marked(number), ..item };
        let place = Item { name: "ctid".to_owned(), lineage: marked(CTID) };
        let columns = items.columns.into_iter().zip(1..).map(mark).chain([place]).collect();
        let marked = Range { source: Source::Items(Items { columns, complete: true }), ..own(target) };
        let twins = walk.twins(others, from, &mut written);
        let ranges = std::iter::once(marked).chain(twins).collect();
        let mut scope = Scope { ranges, hidden: Vec::new(), parent: scope.parent, merged: scope.merged };
        walk.joined(conditions, from, false, written, &mut scope, 0)
    }

    /// Ranges in which those that are the whole of the written table are told from all others.
    fn twins(&self, ranges: &[Range<'a>], from: &[Node], written: &mut Written) -> Vec<Range<'a>> {
        let wholes = self.wholes(from);
        let twin_of = |range: &Range<'a>| match &range.source {
            Source::Relation(relation, _) => written.table == Some(relation.oid),
            Source::Items(_) => wholes.contains(&range.alias.as_str()),
            Source::Function(..) => false,
        };
        let mut twins = Vec::with_capacity(ranges.len());
        for range in ranges {
            if !twin_of(range) || written.twins <= LEAST_TWIN {
                twins.push(own(range));
                continue;
            }
            let twin = written.twins.saturating_sub(1);
            let items = self.range_items(range);
            let mark = |item: Item| {
                let lineage = match item.lineage.direct {
                    Some((relation, number)) if written.table == Some(relation) => {
                        Lineage { sources: vec![(twin, number)], ..Lineage::default() }
                    }
                    _ => item.lineage,
                };
                Item { lineage, ..item }
            };
            let place = Lineage { sources: vec![(twin, CTID)], ..Lineage::default() };
            let place = matches!(range.source, Source::Relation(..)).then(|| Item { name: "ctid".to_owned(), lineage: place });
            let columns = items.columns.into_iter().map(mark).chain(place).collect();
            written.twins = twin;
            twins.push(Range { source: Source::Items(Items { columns, complete: items.complete }), ..own(range) });
        }
        twins
    }

    /// Names of sub-queries of FROM that leave no row of a table out.
    fn wholes<'n>(&self, from: &'n [Node]) -> Vec<&'n str> {
        let mut wholes = Vec::new();
        let mut open: Vec<&Node> = from.iter().collect();
        while let Some(node) = open.pop() {
            match &node.node {
                Some(NodeEnum::RangeSubselect(sub)) if sub.subquery.as_deref().is_some_and(|query| self.is_whole(query)) => {
                    wholes.extend(sub.alias.as_ref().map(|alias| alias.aliasname.as_str()));
                }
                Some(NodeEnum::RangeVar(range)) if self.is_whole_range(range) => {
                    wholes.push(range.alias.as_ref().map_or(range.relname.as_str(), |alias| alias.aliasname.as_str()));
                }
                Some(NodeEnum::JoinExpr(join)) => open.extend([join.larg.as_deref(), join.rarg.as_deref()].into_iter().flatten()),
                _ => {}
            }
        }
        wholes
    }

    /// Whether a query leaves no row of the one relation it reads out.
    pub(super) fn is_whole(&self, query: &Node) -> bool {
        let Some(NodeEnum::SelectStmt(select)) = &query.node else { return false };
        match select.from_clause.as_slice() {
            [from] if is_plain(select) && select.where_clause.is_none() => {
                matches!(&from.node, Some(NodeEnum::RangeVar(range)) if self.is_whole_range(range))
            }
            _ => false,
        }
    }

    fn is_whole_range(&self, range: &RangeVar) -> bool {
        let cte = self.ctes.iter().rev().find(|cte| range.schemaname.is_empty() && cte.name == range.relname);
        cte.is_none_or(|cte| cte.whole)
    }

    /// Whether conditions that all hold, and those of joins, pick rows of the target.
    ///
    /// `one` says that a row of the other ranges is already known to be one of the target's.
    fn joined(
        &mut self,
        conditions: Vec<&Node>,
        from: &[Node],
        mut one: bool,
        written: Written,
        scope: &mut Scope<'a, '_>,
        level: usize,
    ) -> bool {
        let mut arms: Vec<&Node> = Vec::new();
        let mut open = conditions;
        while let Some(node) = open.pop() {
            match &node.node {
                Some(NodeEnum::BoolExpr(logic)) if BoolExprType::try_from(logic.boolop) == Ok(BoolExprType::AndExpr) => {
                    open.extend(&logic.args)
                }
                _ => arms.push(node),
            }
        }
        let mut joins = Vec::new();
        let mut merges = false;
        let mut open: Vec<&Node> = from.iter().collect();
        while let Some(node) = open.pop() {
            if let Some(NodeEnum::JoinExpr(join)) = &node.node {
                joins.extend(join.quals.as_deref());
                merges |= join.is_natural || !join.using_clause.is_empty();
                open.extend([join.larg.as_deref(), join.rarg.as_deref()].into_iter().flatten());
            }
        }
        if arms.iter().any(|arm| self.picks(arm, false, written, scope, level)) {
            return true;
        }
        // `a.id = b.id` makes one of the target and the same table read besides: what picks rows of the other picks the target's.
        while let Some(twin) = arms.iter().chain(&joins).find_map(|arm| self.equates(arm, written, scope)) {
            one = true;
            for range in &mut scope.ranges {
                become_target(range, twin);
            }
        }
        // A join by name with another table looks at both.
        let others = scope.ranges.iter().any(|range| !is_marked(range));
        one && ((merges && others) || arms.into_iter().chain(joins).any(|arm| self.picks(arm, false, written, scope, level)))
    }

    /// The twin of which a condition says that a column is the target's.
    fn equates(&mut self, arm: &Node, written: Written, scope: &Scope<'a, '_>) -> Option<u32> {
        let Some(NodeEnum::AExpr(operation)) = &arm.node else { return None };
        if written.twins == TARGET {
            return None;
        }
        let equal = match AExprKind::try_from(operation.kind) {
            Ok(AExprKind::AexprOp) => strings(&operation.name).is_some_and(|name| name.last() == Some(&"=")),
            Ok(AExprKind::AexprNotDistinct) => true,
            _ => false,
        };
        if !equal {
            return None;
        }
        let [left, right] = [&operation.lexpr, &operation.rexpr].map(|side| self.columns_in(side.as_deref(), written, scope));
        let twin = left.iter().chain(&right).map(|(relation, _)| *relation).find(|relation| *relation != TARGET)?;
        let only = |side: &BTreeSet<ColumnId>, of: u32| !side.is_empty() && side.iter().all(|(relation, _)| *relation == of);
        let apart = (only(&left, TARGET) && only(&right, twin)) || (only(&right, TARGET) && only(&left, twin));
        (apart && as_target(&left) == as_target(&right)).then_some(twin)
    }

    /// Whether a condition, or what is `not` that condition, picks rows.
    fn picks(&mut self, node: &Node, not: bool, written: Written, scope: &Scope<'a, '_>, level: usize) -> bool {
        if level > MOST_LEVELS {
            return false;
        }
        let level = level.saturating_add(1);
        match &node.node {
            Some(NodeEnum::BoolExpr(logic)) => {
                let operation = BoolExprType::try_from(logic.boolop);
                let not = not != (operation == Ok(BoolExprType::NotExpr));
                let mut arms = logic.args.iter().map(|arm| self.picks(arm, not, written, scope, level));
                match (operation, not) {
                    (Ok(BoolExprType::AndExpr), false) | (Ok(BoolExprType::OrExpr), true) => arms.any(|picks| picks),
                    (Ok(_), _) => arms.all(|picks| picks),
                    _ => false,
                }
            }
            Some(NodeEnum::BooleanTest(test)) => {
                let Some(inner) = test.arg.as_deref() else { return false };
                match BoolTestType::try_from(test.booltesttype) {
                    Ok(BoolTestType::IsTrue | BoolTestType::IsNotFalse) => self.picks(inner, not, written, scope, level),
                    Ok(BoolTestType::IsFalse | BoolTestType::IsNotTrue) => self.picks(inner, !not, written, scope, level),
                    // What is unknown is a value that is NULL.
                    Ok(BoolTestType::IsUnknown) => !not && self.looks_at(inner, written, scope),
                    Ok(BoolTestType::IsNotUnknown) => not && self.looks_at(inner, written, scope),
                    _ => false,
                }
            }
            Some(NodeEnum::NullTest(test)) => {
                let is_null = NullTestType::try_from(test.nulltesttype) == Ok(NullTestType::IsNull);
                is_null != not && self.looks_at(node, written, scope)
            }
            Some(NodeEnum::AExpr(operation)) => self.compares(operation, not, written, scope, level),
            Some(NodeEnum::SubLink(link)) => self.selects(node, link, not, written, scope, level),
            Some(NodeEnum::CurrentOfExpr(_)) => true,
            _ => self.looks_at(node, written, scope),
        }
    }

    fn compares(&mut self, operation: &AExpr, not: bool, written: Written, scope: &Scope<'a, '_>, level: usize) -> bool {
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
            return is_null != not && self.looks_at(value, written, scope);
        }
        // `(condition) = true` is the condition, or what it is not.
        if let Some(condition) = other_than(is_boolean) {
            return self.picks(condition, false, written, scope, level) && self.picks(condition, true, written, scope, level);
        }
        if sides.into_iter().flatten().any(says_nothing) || matches_everything(operation) {
            return false;
        }
        let [left, right] = sides.map(|side| self.columns_in(side, written, scope));
        if !left.iter().chain(&right).any(|(relation, _)| *relation == TARGET) {
            return false;
        }
        // Both sides look at the same columns, or at none. One that is not known is no column's like.
        let orders = strings(&operation.name).is_some_and(|name| matches!(name.last(), Some(&("<" | ">"))));
        let twins = left.iter().chain(&right).any(|(relation, _)| *relation != TARGET);
        // `note <> lower(note)` picks what is not yet as it should be.
        let differs = match kind {
            Ok(AExprKind::AexprOp) => strings(&operation.name).is_some_and(|name| name.last() == Some(if not { &"=" } else { &"<>" })),
            Ok(AExprKind::AexprDistinct) => !not,
            Ok(AExprKind::AexprNotDistinct) => not,
            _ => false,
        };
        let changes = differs && !twins && sides.into_iter().flatten().any(is_column) && sides.into_iter().flatten().any(is_call);
        as_target(&left) != as_target(&right) || left.contains(&(TARGET, 0)) || (orders && twins) || changes
    }

    /// A query within the condition: one that leaves nothing out is none.
    fn selects(&mut self, node: &Node, link: &SubLink, not: bool, written: Written, scope: &Scope<'a, '_>, level: usize) -> bool {
        let Some(NodeEnum::SelectStmt(select)) = link.subselect.as_deref().and_then(|query| query.node.as_ref()) else { return false };
        let value = select.target_list.first().and_then(|target| match &target.node {
            Some(NodeEnum::ResTarget(target)) => target.val.as_deref(),
            _ => None,
        });
        let kind = SubLinkType::try_from(link.sub_link_type);
        let all = is_plain(select) && select.where_clause.is_none();
        match kind {
            Ok(SubLinkType::ExistsSublink) if all => false,
            Ok(SubLinkType::ExprSublink) if all && select.from_clause.is_empty() => {
                value.is_some_and(|value| self.picks(value, not, written, scope, level))
            }
            // There is a row of those tables for which the condition holds: what a join asks.
            Ok(SubLinkType::ExistsSublink) if !not && is_plain(select) && self.reads_tables(&select.from_clause) => {
                self.matches_a_row(None, select, written, scope, level)
            }
            Ok(SubLinkType::AnySublink) if !not && is_equality(link) && is_plain(select) && self.reads_tables(&select.from_clause) => {
                let (Some(tested), Some(value)) = (link.testexpr.as_deref(), value) else { return false };
                self.matches_a_row(Some((tested, value)), select, written, scope, level)
            }
            _ => self.looks_at(node, written, scope),
        }
    }

    fn matches_a_row(
        &mut self,
        equal: Option<(&Node, &Node)>,
        select: &SelectStmt,
        mut written: Written,
        scope: &Scope<'a, '_>,
        level: usize,
    ) -> bool {
        let mut inner = Scope { ranges: Vec::new(), hidden: Vec::new(), parent: Some(scope), merged: false };
        self.ranges_of(&select.from_clause, &mut inner);
        inner.ranges = self.twins(&inner.ranges, &select.from_clause, &mut written);
        let mut one = false;
        if let Some((tested, value)) = equal {
            let tested = self.columns_in(Some(tested), written, scope);
            let value = self.columns_in(Some(value), written, &inner);
            if tested.iter().any(|(relation, _)| *relation == TARGET) {
                let twin = value.first().map(|(relation, _)| *relation).filter(|twin| *twin != TARGET);
                let alone = value.iter().all(|(relation, _)| Some(*relation) == twin);
                match twin {
                    Some(twin) if alone && as_target(&tested) == as_target(&value) => {
                        one = true;
                        for range in &mut inner.ranges {
                            become_target(range, twin);
                        }
                    }
                    _ => return true,
                }
            }
        }
        self.joined(select.where_clause.as_deref().into_iter().collect(), &select.from_clause, one, written, &mut inner, level)
    }

    /// Whether FROM has nothing but relations, and sub-queries that are the whole of one.
    fn reads_tables(&self, from: &[Node]) -> bool {
        let mut open: Vec<&Node> = from.iter().collect();
        while let Some(node) = open.pop() {
            match &node.node {
                Some(NodeEnum::RangeVar(_)) => {}
                Some(NodeEnum::RangeSubselect(sub)) if sub.subquery.as_deref().is_some_and(|query| self.is_whole(query)) => {}
                Some(NodeEnum::JoinExpr(join)) => open.extend([join.larg.as_deref(), join.rarg.as_deref()].into_iter().flatten()),
                _ => return false,
            }
        }
        true
    }

    /// Whether an expression looks at a column of the target.
    fn looks_at(&mut self, node: &Node, written: Written, scope: &Scope<'a, '_>) -> bool {
        self.columns_in(Some(node), written, scope).iter().any(|(relation, _)| *relation == TARGET)
    }

    /// The columns of the target and its twins that an expression looks at, in queries of its own, too.
    fn columns_in(&mut self, node: Option<&Node>, written: Written, scope: &Scope<'a, '_>) -> BTreeSet<ColumnId> {
        self.seen.clear();
        let before = self.columns_seen;
        let lineage = self.optional(node, scope);
        let seen = std::mem::take(&mut self.seen).into_iter().chain(lineage.sources);
        let mut found: BTreeSet<ColumnId> = seen.filter(|(relation, _)| *relation >= LEAST_TWIN).collect();
        if written.table.is_none() && self.columns_seen > before {
            found.insert((TARGET, 0));
        }
        found
    }
}

fn own<'a>(range: &Range<'a>) -> Range<'a> {
    Range { alias: range.alias.clone(), schema: range.schema.clone(), source: range.source.clone() }
}

fn as_target(columns: &BTreeSet<ColumnId>) -> BTreeSet<i16> {
    columns.iter().map(|(_, number)| *number).collect()
}

fn become_target(range: &mut Range<'_>, twin: u32) {
    let Source::Items(items) = &mut range.source else { return };
    for source in items.columns.iter_mut().flat_map(|item| &mut item.lineage.sources) {
        if source.0 == twin {
            source.0 = TARGET;
        }
    }
}

/// Whether a range is the target or the same table read besides.
fn is_marked(range: &Range<'_>) -> bool {
    let Source::Items(items) = &range.source else { return false };
    items.columns.iter().flat_map(|item| &item.lineage.sources).any(|(relation, _)| *relation >= LEAST_TWIN)
}

/// A SELECT whose rows only its FROM and WHERE make.
fn is_plain(select: &SelectStmt) -> bool {
    SetOperation::try_from(select.op) == Ok(SetOperation::SetopNone)
        && select.with_clause.is_none()
        && select.group_clause.is_empty()
        && select.having_clause.is_none()
        && select.limit_count.is_none()
        && select.limit_offset.is_none()
        && select.values_lists.is_empty()
}

/// `x IN (…)` or `x = ANY (…)`.
fn is_equality(link: &SubLink) -> bool {
    link.oper_name.is_empty() || strings(&link.oper_name).is_some_and(|name| name.last() == Some(&"="))
}

/// A call that says no more of a column than that it has a value.
fn says_nothing(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::FuncCall(call)) => {
            strings(&call.funcname).is_some_and(|name| name.last().is_some_and(|name| SAY_NOTHING.contains(name)))
        }
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(says_nothing),
        _ => false,
    }
}

/// `LIKE '%'`, `~ '.*'` and their like.
fn matches_everything(operation: &AExpr) -> bool {
    let name = strings(&operation.name).and_then(|name| name.last().copied());
    let wild = match (AExprKind::try_from(operation.kind), name) {
        (Ok(AExprKind::AexprLike | AExprKind::AexprIlike | AExprKind::AexprSimilar), _) | (_, Some("~~" | "~~*" | "!~~" | "!~~*")) => "%",
        (Ok(AExprKind::AexprOp), Some("~" | "~*" | "!~" | "!~*")) => "^.*?$()",
        _ => return false,
    };
    let pattern = match operation.rexpr.as_deref().and_then(|pattern| pattern.node.as_ref()) {
        Some(NodeEnum::AConst(value)) => value.val.as_ref(),
        _ => None,
    };
    matches!(pattern, Some(a_const::Val::Sval(text)) if text.sval.chars().all(|each| wild.contains(each)) && (wild != "%" || !text.sval.is_empty()))
}

fn is_column(node: &Node) -> bool {
    matches!(node.node, Some(NodeEnum::ColumnRef(_)))
}

fn is_call(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::FuncCall(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_call),
        _ => false,
    }
}

fn is_null(node: &Node) -> bool {
    matches!(&node.node, Some(NodeEnum::AConst(value)) if value.isnull)
}

fn is_boolean(node: &Node) -> bool {
    matches!(&node.node, Some(NodeEnum::AConst(value)) if matches!(value.val, Some(a_const::Val::Boolval(_))))
}
