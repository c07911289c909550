//! Queries: SELECT, VALUES, set operations and their WITH clauses.

use pg_query::protobuf::{CoercionForm, SelectStmt, SetOperation, WithClause};
use pg_query::{Node, NodeEnum};

use super::{Cte, Interest, Item, Items, Lineage, MOST_COLUMNS, MOST_QUERIES, Scope, Source, Walk, strings};
use crate::StatementKind;
use crate::rule::MaskKind;

/// How often a recursive query is looked at until nothing new comes of it.
const MOST_LOOKS: usize = 16;

impl<'a> Walk<'a> {
    /// A query or a data-modifying statement where a query may stand; its columns.
    pub(super) fn query(&mut self, node: &Node, outer: Option<&Scope<'a, '_>>) -> Items {
        if self.queries >= MOST_QUERIES {
            self.unknown(|| "queries nested deeper than are judged".to_owned());
            return Items::default();
        }
        self.queries += 1;
        // What a setting is looked up by is a matter of one query alone.
        let setting = self.setting.take();
        let items = self.query_node(node, outer);
        self.setting = setting;
        self.queries -= 1;
        items
    }

    fn query_node(&mut self, node: &Node, outer: Option<&Scope<'a, '_>>) -> Items {
        self.deeper(|walk| match &node.node {
            Some(NodeEnum::SelectStmt(select)) => walk.select(select, outer),
            Some(NodeEnum::InsertStmt(insert)) => walk.insert(insert, outer),
            Some(NodeEnum::UpdateStmt(update)) => walk.update(update, outer),
            Some(NodeEnum::DeleteStmt(delete)) => walk.delete(delete, outer),
            Some(NodeEnum::MergeStmt(merge)) => walk.merge(merge, outer),
            _ => {
                walk.unknown(|| "a sub-query of a kind that is not on the list".to_owned());
                Items::default()
            }
        })
        .unwrap_or_default()
    }

    /// Puts the WITH clause's names in scope; returns how many to take out again.
    pub(super) fn with(&mut self, with: Option<&WithClause>, outer: Option<&Scope<'a, '_>>) -> usize {
        let before = self.ctes.len();
        let Some(with) = with else { return before };
        if with.recursive {
            // A recursive name means itself, and those after it: its own rows are of the lineage of its first part, found by a
            // second look with the first look's result in scope.
            for node in &with.ctes {
                if let Some(NodeEnum::CommonTableExpr(cte)) = &node.node {
                    let items = Items { columns: Vec::new(), complete: true };
                    self.ctes.push(Cte {
                        name: cte.ctename.clone(),
                        items: Items { complete: false, ..items },
                        whole: false,
                        known: false,
                    });
                }
            }
        }
        for (index, node) in with.ctes.iter().enumerate() {
            let Some(NodeEnum::CommonTableExpr(cte)) = &node.node else {
                self.unknown(|| "a WITH entry that is none".to_owned());
                continue;
            };
            let Some(query) = cte.ctequery.as_deref() else { continue };
            let names = strings(&cte.aliascolnames).unwrap_or_default();
            let mut items =
                if with.recursive { self.recursive(query, &cte.ctename, &names, outer, before + index) } else { self.query(query, outer) };
            rename(&mut items, &names);
            if let Some(search) = &cte.search_clause {
                let all = items.all().derived();
                items.columns.push(Item { name: search.search_seq_column.clone(), lineage: all });
            }
            if let Some(cycle) = cte.cycle_clause.as_deref() {
                let all = items.all().derived();
                let by = strings(&cycle.cycle_col_list).unwrap_or_default();
                for item in &items.columns {
                    if by.contains(&item.name.as_str()) {
                        self.expose(&item.lineage, "a protected column decides how many rows there are");
                    }
                }
                items.columns.push(Item { name: cycle.cycle_mark_column.clone(), lineage: all.clone() });
                items.columns.push(Item { name: cycle.cycle_path_column.clone(), lineage: all });
            }
            if with.recursive {
                if let Some(slot) = self.ctes.get_mut(before + index) {
                    slot.items = items;
                    slot.known = true;
                }
            } else {
                let whole = self.is_whole(query);
                self.ctes.push(Cte { name: cte.ctename.clone(), items, whole, known: true });
            }
        }
        before
    }

    fn recursive(&mut self, query: &Node, name: &str, names: &[&str], outer: Option<&Scope<'a, '_>>, slot: usize) -> Items {
        let Some(NodeEnum::SelectStmt(select)) = &query.node else {
            return self.query(query, outer);
        };
        let uses_itself = SetOperation::try_from(select.op) == Ok(SetOperation::SetopUnion);
        let (Some(first), true) = (select.larg.as_deref(), uses_itself) else {
            return self.query(query, outer);
        };
        let mut items = self.deeper(|walk| walk.select(first, outer)).unwrap_or_default();
        rename(&mut items, names);
        let _ = name;
        // Lineage grows by each look until it stays: at most as many times as there are columns.
        let mut settled = false;
        for _ in 0..=items.columns.len().min(MOST_LOOKS) {
            for item in &mut items.columns {
                item.lineage = std::mem::take(&mut item.lineage).derived();
            }
            if let Some(slot) = self.ctes.get_mut(slot) {
                slot.items = items.clone();
                slot.known = true;
            }
            let mut next = self.query(query, outer);
            rename(&mut next, names);
            let same = next.columns.len() == items.columns.len()
                && next.columns.iter().zip(&items.columns).all(|(a, b)| a.lineage.contributors() == b.lineage.contributors());
            items = next;
            if same {
                settled = true;
                break;
            }
        }
        if !settled {
            // What one column has another may have a round later.
            let all = items.all().derived();
            items.columns.iter_mut().for_each(|item| item.lineage.clone_from(&all));
            if let Some(slot) = self.ctes.get_mut(slot) {
                slot.items = items.clone();
            }
            let _ = self.query(query, outer);
        }
        items
    }

    pub(super) fn select(&mut self, select: &SelectStmt, outer: Option<&Scope<'a, '_>>) -> Items {
        self.kind = self.kind.max(StatementKind::Read);
        self.spend(1);
        if self.is_spent() {
            return Items::default();
        }
        let before = self.with(select.with_clause.as_ref(), outer);
        let items = match SetOperation::try_from(select.op) {
            Ok(SetOperation::SetopNone) => self.simple_select(select, outer),
            Ok(operation @ (SetOperation::SetopUnion | SetOperation::SetopIntersect | SetOperation::SetopExcept)) => {
                self.set_operation(select, operation, outer)
            }
            _ => {
                self.unknown(|| "a set operation that is not on the list".to_owned());
                Items::default()
            }
        };
        self.ctes.truncate(before);
        items
    }

    fn set_operation(&mut self, select: &SelectStmt, operation: SetOperation, outer: Option<&Scope<'a, '_>>) -> Items {
        self.computes = true;
        let mut sides = Vec::with_capacity(2);
        for side in [select.larg.as_deref(), select.rarg.as_deref()] {
            sides.push(side.and_then(|side| self.deeper(|walk| walk.select(side, outer))).unwrap_or_default());
        }
        let right = sides.pop().unwrap_or_default();
        let mut items = sides.pop().unwrap_or_default();
        if !(select.all && operation == SetOperation::SetopUnion) {
            self.operator_named("=");
            for lineage in [items.all(), right.all()] {
                self.expose(&lineage, "a protected column decides which rows a set operation keeps");
            }
        }
        items.complete &= right.complete && right.columns.len() == items.columns.len();
        if !items.complete {
            // Which column stands beside which is not known.
            let mut all = items.all();
            all.absorb(&right.all());
            items.columns.iter_mut().for_each(|item| item.lineage.clone_from(&all));
        }
        for (item, other) in items.columns.iter_mut().zip(&right.columns) {
            item.lineage.absorb(&other.lineage);
        }
        let scope = Scope {
            ranges: vec![super::Range { alias: String::new(), schema: None, source: Source::Items(items.clone()) }],
            hidden: Vec::new(),
            parent: outer,
            merged: false,
        };
        self.tail(select, &scope, &items);
        items
    }

    fn simple_select(&mut self, select: &SelectStmt, outer: Option<&Scope<'a, '_>>) -> Items {
        let mut scope = Scope { ranges: Vec::new(), hidden: Vec::new(), parent: outer, merged: false };
        self.ranges_of(&select.from_clause, &mut scope);
        self.condition(select.where_clause.as_deref(), &scope, "a protected column decides in WHERE");
        let floor = self.floor_of(select, &scope);
        let outer_floor = std::mem::replace(&mut self.floor, floor);
        let items = if select.values_lists.is_empty() {
            self.setting = named_setting(select);
            let items = self.targets(&select.target_list, &scope);
            self.setting = None;
            items
        } else {
            self.values(&select.values_lists, &scope)
        };
        self.sorts |= !select.group_clause.is_empty() || !select.distinct_clause.is_empty();
        self.computes |= select.values_lists.len() > 1;
        let mut parted = false;
        for node in &select.group_clause {
            parted |= self.group(node, &scope, &items, "a protected column decides in GROUP BY");
        }
        self.condition(select.having_clause.as_deref(), &scope, "a protected column decides in HAVING");
        for node in &select.window_clause {
            match &node.node {
                Some(NodeEnum::WindowDef(window)) => self.window(window, &scope),
                _ => self.unknown(|| "a window that is none".to_owned()),
            }
        }
        for node in &select.distinct_clause {
            if node.node.is_some() {
                // The rows come in the order of what they are told apart by, as after ORDER BY.
                let lineage = self.grouped(node, &scope, &items);
                self.expose(&lineage, "a protected column decides in DISTINCT ON");
            } else {
                for item in &items.columns {
                    parted |= item.lineage.is_protected();
                    if item.lineage.direct.is_none() {
                        self.expose(&item.lineage, "a value made of a protected column decides in DISTINCT");
                    }
                }
            }
        }
        if parted {
            self.weigh_order(select, &scope, &items);
            self.weigh_having(select, &scope, &items);
        }
        if select.into_clause.is_some() {
            self.into(select.into_clause.as_deref(), &items, true);
        }
        self.tail(select, &scope, &items);
        self.floor = outer_floor;
        items
    }

    /// ORDER BY, LIMIT and locking.
    fn tail(&mut self, select: &SelectStmt, scope: &Scope<'a, '_>, items: &Items) {
        self.sorts |= !select.sort_clause.is_empty();
        for node in &select.sort_clause {
            let output = match &node.node {
                Some(NodeEnum::SortBy(sort)) => {
                    self.sort_operator(sort);
                    sort.node.as_deref().and_then(|node| output(node, items))
                }
                _ => None,
            };
            let lineage = match output {
                Some(lineage) => lineage,
                None => self.sort(node, scope),
            };
            self.expose(&lineage, "a protected column decides in ORDER BY");
        }
        self.condition(select.limit_offset.as_deref(), scope, "a protected column decides in OFFSET");
        self.condition(select.limit_count.as_deref(), scope, "a protected column decides in LIMIT");
        if !select.locking_clause.is_empty() {
            self.raise(StatementKind::Write, || "locks the rows it reads".to_owned());
        }
    }

    /// GROUP BY: a protected column as it stands only sorts rows into groups; what is made of one decides. Says whether one does either.
    fn group(&mut self, node: &Node, scope: &Scope<'a, '_>, items: &Items, how: &'static str) -> bool {
        if let Some(NodeEnum::GroupingSet(set)) = &node.node {
            let parts = set.content.iter().map(|inner| self.deeper(|walk| walk.group(inner, scope, items, how)) == Some(true));
            return parts.fold(false, |any, parts| any | parts);
        }
        if let Some(NodeEnum::RowExpr(row)) = &node.node
            && CoercionForm::try_from(row.row_format) == Ok(CoercionForm::CoerceImplicitCast)
        {
            // Parentheses around several are no row: each of them sorts into groups by itself.
            return row
                .args
                .iter()
                .fold(false, |any, inner| (self.deeper(|walk| walk.group(inner, scope, items, how)) == Some(true)) | any);
        }
        let lineage = self.group_key(node, scope, items);
        if lineage.direct.is_none() {
            self.expose(&lineage, how);
        }
        lineage.is_protected()
    }

    /// DISTINCT ON means result columns by their names, as ORDER BY does.
    fn grouped(&mut self, node: &Node, scope: &Scope<'a, '_>, items: &Items) -> Lineage {
        output(node, items).unwrap_or_else(|| self.expression(node, scope))
    }

    /// GROUP BY means a column of FROM where there is one of that name, and only then a result column.
    fn group_key(&mut self, node: &Node, scope: &Scope<'a, '_>, items: &Items) -> Lineage {
        let Some(NodeEnum::ColumnRef(column)) = &node.node else { return self.grouped(node, scope, items) };
        let name = match strings(&column.fields).as_deref() {
            Some([name]) => (*name).to_owned(),
            _ => return self.grouped(node, scope, items),
        };
        if scope.ranges.iter().any(|range| self.range_column(range, &name).is_some()) {
            return self.expression(node, scope);
        }
        let mut lineage = self.grouped(node, scope, items);
        let open = |range: &super::Range<'_>| match &range.source {
            Source::Items(items) => !items.complete,
            Source::Function(..) => true,
            Source::Relation(..) => false,
        };
        if let Some(range) = scope.ranges.iter().find(|range| open(range)) {
            // Which of the two it is cannot be seen.
            let whole = self.range_whole(range);
            if whole.is_protected() || whole.opaque {
                lineage.absorb(&whole);
            }
        }
        lineage
    }

    /// Groups made by a protected column may come in its order. What tells one from another beside it then tells that order: anything but what
    /// is masked in full, counts of the rows of one relation (of a join's the client chooses how many there are), and constants.
    fn weigh_order(&mut self, select: &SelectStmt, scope: &Scope<'a, '_>, items: &Items) {
        let one_by_one = items.complete && select.target_list.len() == items.columns.len();
        for (index, item) in items.columns.iter().enumerate() {
            let value = select.target_list.get(index).filter(|_| one_by_one).and_then(|target| match &target.node {
                Some(NodeEnum::ResTarget(target)) => target.val.as_deref(),
                _ => None,
            });
            let masked = item.lineage.is_protected() && !self.shows_some(&item.lineage);
            if !masked && !value.is_some_and(|value| self.tells_no_group(value, scope)) {
                let lineage = items.all();
                let lineage = if lineage.is_protected() { lineage } else { self.expressions(&select.group_clause, scope) };
                self.expose(
                    &lineage,
                    "rows told apart by a protected column come in its order, and clear columns beside it say which they are",
                );
                return;
            }
        }
    }

    /// HAVING picks among groups made by a protected column: by what tells one from another it would say which rows are in one group.
    fn weigh_having(&mut self, select: &SelectStmt, scope: &Scope<'a, '_>, items: &Items) {
        let Some(having) = select.having_clause.as_deref() else { return };
        let mut open: Vec<&Node> = vec![having];
        while let Some(node) = open.pop() {
            match &node.node {
                Some(NodeEnum::BoolExpr(logic)) => open.extend(&logic.args),
                Some(NodeEnum::AExpr(operation)) => open.extend(operation.lexpr.as_deref().into_iter().chain(operation.rexpr.as_deref())),
                _ if self.tells_no_group(node, scope) => {}
                _ => {
                    let lineage = items.all();
                    let lineage = if lineage.is_protected() { lineage } else { self.expressions(&select.group_clause, scope) };
                    self.expose(&lineage, "HAVING picks groups of a protected column by what tells which rows are in them");
                    return;
                }
            }
        }
    }

    /// Whether a mask leaves something by which values are told apart.
    fn shows_some(&self, lineage: &Lineage) -> bool {
        let Interest::Protected(protection) = self.interest else { return false };
        let mask = lineage.direct.and_then(|column| protection.mask(column));
        mask.is_some_and(|mask| !matches!(mask, MaskKind::Full | MaskKind::Derived | MaskKind::Null | MaskKind::Constant(_)))
    }

    fn tells_no_group(&mut self, value: &Node, scope: &Scope<'a, '_>) -> bool {
        match &value.node {
            Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_)) => true,
            Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(|value| self.tells_no_group(value, scope)),
            Some(NodeEnum::FuncCall(call)) => {
                // A count of some rows, or of the values of a clear column, would tell which group has them.
                let counts = matches!(strings(&call.funcname).as_deref(), Some(["count"] | ["pg_catalog", "count"]));
                let alone = matches!(scope.ranges.as_slice(), [range] if matches!(range.source, Source::Relation(..)));
                let whole = alone && call.agg_filter.is_none() && call.over.is_none();
                let mut of_masked = || self.expressions(&call.args, scope).is_protected() && self.is_shown(call, scope);
                whole && ((counts && call.agg_star) || of_masked())
            }
            _ => false,
        }
    }

    fn values(&mut self, lists: &[Node], scope: &Scope<'a, '_>) -> Items {
        let mut items = Items { columns: Vec::new(), complete: true };
        for list in lists {
            let Some(NodeEnum::List(list)) = &list.node else {
                self.unknown(|| "a VALUES list that is none".to_owned());
                continue;
            };
            for (index, value) in list.items.iter().enumerate() {
                items.complete &= !opens_out(value);
                let lineage = self.expression(value, scope).derived();
                match items.columns.get_mut(index) {
                    Some(item) => item.lineage.absorb(&lineage),
                    None => items.columns.push(Item { name: format!("column{}", index + 1), lineage }),
                }
            }
        }
        if !items.complete {
            let all = items.all().derived();
            items.columns.iter_mut().for_each(|item| item.lineage.clone_from(&all));
        }
        items
    }

    /// A target list, stars opened out.
    pub(super) fn targets(&mut self, nodes: &[Node], scope: &Scope<'a, '_>) -> Items {
        let mut items = Items { columns: Vec::with_capacity(nodes.len()), complete: true };
        for node in nodes {
            let Some(NodeEnum::ResTarget(target)) = &node.node else {
                self.unknown(|| "a result column that is none".to_owned());
                continue;
            };
            let Some(value) = target.val.as_deref() else { continue };
            if let Some(NodeEnum::ColumnRef(column)) = &value.node
                && let Some((last, prefix)) = column.fields.split_last()
                && matches!(last.node, Some(NodeEnum::AStar(_)))
            {
                let prefix = strings(prefix).unwrap_or_default();
                self.star(&prefix, scope, &mut items);
                continue;
            }
            let lineage = self.expression(value, scope);
            items.complete &= !opens_out(value);
            let name = if target.name.is_empty() { super::names::of_result(value) } else { target.name.clone() };
            items.columns.push(Item { name, lineage });
        }
        if items.columns.len() > MOST_COLUMNS {
            self.unknown(|| format!("a query of more than {MOST_COLUMNS} columns"));
            return Items::default();
        }
        items
    }

    fn star(&mut self, prefix: &[&str], scope: &Scope<'a, '_>, items: &mut Items) {
        match prefix {
            [] => {
                items.complete &= !scope.merged;
                for range in &scope.ranges {
                    let part = self.range_items(range);
                    items.complete &= part.complete;
                    items.columns.extend(part.columns);
                    if !part.complete {
                        items.columns.push(Item { name: String::new(), lineage: self.range_whole(range).derived() });
                    }
                }
            }
            [.., name] => {
                let schema = prefix.len().checked_sub(2).and_then(|index| prefix.get(index)).copied();
                match super::expression::find_range(name, schema, scope) {
                    Some(range) => {
                        let part = self.range_items(range);
                        items.complete &= part.complete;
                        if !part.complete {
                            items.columns.push(Item { name: String::new(), lineage: self.range_whole(range).derived() });
                        }
                        items.columns.extend(part.columns);
                    }
                    None => {
                        items.complete = false;
                        self.unresolved(|| format!("{name}.* names nothing in the query"));
                    }
                }
            }
        }
    }
}

/// The setting of `… FROM pg_settings WHERE name = '…'`, as pg_dump asks for it.
fn named_setting(select: &SelectStmt) -> Option<String> {
    let [from] = select.from_clause.as_slice() else { return None };
    let Some(NodeEnum::RangeVar(range)) = &from.node else { return None };
    let Some(NodeEnum::AExpr(operation)) = select.where_clause.as_deref().and_then(|condition| condition.node.as_ref()) else {
        return None;
    };
    let left = operation.lexpr.as_deref().and_then(|left| left.node.as_ref());
    let is_name = matches!(left, Some(NodeEnum::ColumnRef(column)) if strings(&column.fields).as_deref() == Some(&["name"]));
    if !is_name || strings(&operation.name).as_deref() != Some(&["="]) || range.relname != "pg_settings" || range.alias.is_some() {
        return None;
    }
    super::call::constant(operation.rexpr.as_deref()?)
}

/// Gives columns other names, in their order. Where that is not known, each of the names may mean any of them.
pub(super) fn rename(items: &mut Items, names: &[&str]) {
    if !items.complete && !names.is_empty() {
        let all = items.all().derived();
        items.columns.extend(names.iter().map(|name| Item { name: (*name).to_owned(), lineage: all.clone() }));
        return;
    }
    for (item, name) in items.columns.iter_mut().zip(names) {
        (*name).clone_into(&mut item.name);
    }
}

/// `ORDER BY 1` and `ORDER BY name` mean a result column.
fn output(node: &Node, items: &Items) -> Option<Lineage> {
    match node.node.as_ref()? {
        NodeEnum::AConst(value) => match value.val.as_ref()? {
            pg_query::protobuf::a_const::Val::Ival(number) => {
                let index = usize::try_from(number.ival).ok()?.checked_sub(1)?;
                Some(if items.complete { items.columns.get(index)?.lineage.clone() } else { items.all() })
            }
            _ => None,
        },
        NodeEnum::ColumnRef(column) => match strings(&column.fields)?.as_slice() {
            [name] => {
                let named = items.columns.iter().find(|item| item.name == *name).map(|item| item.lineage.clone());
                // What the server calls a column whose name is not known may be this.
                named.or_else(|| items.unnamed().filter(Lineage::is_protected))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Whether a value stands for several columns: `t.*`, `(t).*`.
fn opens_out(value: &Node) -> bool {
    let last = match &value.node {
        Some(NodeEnum::ColumnRef(column)) => column.fields.last(),
        Some(NodeEnum::AIndirection(indirection)) => indirection.indirection.last(),
        _ => None,
    };
    matches!(last.and_then(|last| last.node.as_ref()), Some(NodeEnum::AStar(_)))
}
