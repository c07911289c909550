//! FROM clauses: what each entry makes visible.

use pg_query::protobuf::{Alias, RangeVar};
use pg_query::{Node, NodeEnum};

use super::{Item, Items, Lineage, Range, Scope, Source, Walk, strings};
use crate::state::truncate;

impl<'a> Walk<'a> {
    /// Adds the ranges of FROM entries to `scope`; LATERAL references see what stands before them.
    pub(super) fn ranges_of(&mut self, nodes: &[Node], scope: &mut Scope<'a, '_>) {
        for node in nodes {
            let _ = self.deeper(|walk| walk.range_of(node, scope));
        }
    }

    fn range_of(&mut self, node: &Node, scope: &mut Scope<'a, '_>) {
        match &node.node {
            Some(NodeEnum::RangeVar(range)) => {
                let ranges = self.range_var(range);
                scope.ranges.extend(ranges);
            }
            Some(NodeEnum::RangeSubselect(sub)) => {
                let items = match sub.subquery.as_deref() {
                    // Without LATERAL it does not see what stands beside it.
                    Some(query) if !sub.lateral => self.query(query, scope.parent),
                    Some(query) => self.query(query, Some(scope)),
                    None => Items::default(),
                };
                scope.ranges.push(aliased(items, sub.alias.as_ref(), ""));
            }
            Some(NodeEnum::RangeFunction(function)) => self.range_function(function, scope),
            Some(NodeEnum::RangeTableSample(sample)) => {
                if let Some(relation) = sample.relation.as_deref() {
                    self.range_of(relation, scope);
                }
                if !matches!(strings(&sample.method).as_deref(), Some(["bernoulli" | "system"] | ["pg_catalog", "bernoulli" | "system"])) {
                    self.unknown(|| "a sampling method that is not built in".to_owned());
                }
                for argument in sample.args.iter().chain(sample.repeatable.as_deref()) {
                    for scope in [Some(&*scope), scope.parent].into_iter().flatten() {
                        self.condition(Some(argument), scope, "a protected column decides a sample");
                    }
                }
            }
            Some(NodeEnum::RangeTableFunc(table)) => {
                let mut lineage = Lineage::default();
                for part in [table.docexpr.as_deref(), table.rowexpr.as_deref()] {
                    let value = self.optional(part, scope);
                    lineage.absorb(&value);
                }
                let namespaces = self.expressions(&table.namespaces, scope);
                lineage.absorb(&namespaces);
                let mut columns = Vec::new();
                for column in &table.columns {
                    if let Some(NodeEnum::RangeTableFuncCol(column)) = &column.node {
                        if let Some(name) = &column.type_name {
                            self.type_name(name);
                        }
                        for part in [column.colexpr.as_deref(), column.coldefexpr.as_deref()] {
                            let value = self.optional(part, scope);
                            lineage.absorb(&value);
                        }
                        columns.push(column.colname.clone());
                    } else {
                        self.unknown(|| "a column of XMLTABLE that is none".to_owned());
                    }
                }
                self.expose(&lineage, "a protected column decides how many rows there are");
                let columns = columns.into_iter().map(|name| Item { name, lineage: lineage.clone() }).collect();
                scope.ranges.push(aliased(Items { columns, complete: true }, table.alias.as_ref(), "xmltable"));
            }
            Some(NodeEnum::JoinExpr(join)) => self.join(join, scope),
            Some(NodeEnum::JsonTable(table)) => self.json_table(table, scope),
            _ => self.unknown(|| "a FROM entry of a kind that is not on the list".to_owned()),
        }
    }

    fn join(&mut self, join: &pg_query::protobuf::JoinExpr, scope: &mut Scope<'a, '_>) {
        let (before, hidden) = (scope.ranges.len(), scope.hidden.len());
        if let Some(left) = join.larg.as_deref() {
            let _ = self.deeper(|walk| walk.range_of(left, scope));
        }
        let middle = scope.ranges.len();
        if let Some(right) = join.rarg.as_deref() {
            let _ = self.deeper(|walk| walk.range_of(right, scope));
        }
        let how = "a protected column decides a join";
        if join.is_natural || !join.using_clause.is_empty() {
            // Which calls what `a.column = b.column` would.
            self.computes = true;
            self.operator_named("=");
        }
        if join.is_natural {
            scope.merged = true;
            let (left, right) = (scope.ranges.get(before..middle).unwrap_or_default(), scope.ranges.get(middle..).unwrap_or_default());
            let shared: Vec<Lineage> = left
                .iter()
                .flat_map(|range| column_names(range))
                .take_while(|_| self.work.get() > 0)
                .flat_map(|name| {
                    let ours = left.iter().filter_map(|range| self.range_column(range, name));
                    let theirs: Vec<Lineage> = right.iter().filter_map(|range| self.range_column(range, name)).collect();
                    let shared = !theirs.is_empty();
                    ours.chain(theirs.clone()).filter(move |_| shared).collect::<Vec<_>>()
                })
                .collect();
            for lineage in &shared {
                self.expose(lineage, how);
            }
            let _ = self.is_spent();
        }
        if !join.using_clause.is_empty() {
            scope.merged = true;
            for name in strings(&join.using_clause).unwrap_or_default() {
                let lineages: Vec<Lineage> =
                    scope.ranges.get(before..).unwrap_or_default().iter().filter_map(|range| self.range_column(range, name)).collect();
                for lineage in &lineages {
                    self.expose(lineage, how);
                }
            }
        }
        if join.join_using_alias.is_some() && join.alias.is_some() {
            self.unknown(|| "a join with two names".to_owned());
        }
        if let Some(alias) = &join.join_using_alias {
            let names = strings(&join.using_clause).unwrap_or_default();
            let lineage = |name: &str| {
                let mut lineage = Lineage::default();
                for range in scope.ranges.get(before..).unwrap_or_default() {
                    lineage.absorb(&self.range_column(range, name).unwrap_or_default());
                }
                lineage
            };
            let columns = names.iter().map(|name| Item { name: (*name).to_owned(), lineage: lineage(name) }).collect();
            let source = Source::Items(Items { columns, complete: true });
            scope.hidden.push(Range { alias: alias.aliasname.clone(), schema: None, source });
        }
        // ON sees the two sides of its join, and then what is further out.
        let beside: Vec<Range<'a>> = scope.ranges.drain(..before).collect();
        let aside: Vec<Range<'a>> = scope.hidden.drain(..hidden).collect();
        self.condition(join.quals.as_deref(), scope, how);
        scope.ranges.splice(..0, beside);
        scope.hidden.splice(..0, aside);
        if let Some(alias) = &join.alias {
            // It hides all that it is made of.
            scope.hidden.truncate(hidden);
            let ranges: Vec<Range<'a>> = scope.ranges.drain(before..).collect();
            let mut items = Items { columns: Vec::new(), complete: !scope.merged };
            for range in &ranges {
                let part = self.range_items(range);
                items.complete &= part.complete;
                items.columns.extend(part.columns);
            }
            scope.ranges.push(aliased(items, Some(alias), ""));
        }
    }

    pub(super) fn range_var(&mut self, range: &RangeVar) -> Vec<Range<'a>> {
        let aliases: Vec<String> =
            range.alias.as_ref().and_then(|alias| strings(&alias.colnames)).unwrap_or_default().into_iter().map(str::to_owned).collect();
        let alias = range.alias.as_ref().map_or(truncate(&range.relname), |alias| alias.aliasname.as_str()).to_owned();
        if range.schemaname.is_empty()
            && let Some(cte) = self.ctes.iter().rev().find(|cte| cte.name == range.relname)
        {
            let (items, known) = (cte.items.clone(), cte.known);
            if !known {
                self.unknown(|| format!("{} is used before the WITH entry of its name", range.relname));
            }
            return vec![aliased(items, range.alias.as_ref(), &range.relname)];
        }
        let found = self.resolve(range);
        if found.is_empty() {
            let items = Items { columns: Vec::new(), complete: false };
            return vec![Range { alias, schema: None, source: Source::Items(items) }];
        }
        let mut ranges = Vec::with_capacity(1);
        for relation in found {
            self.read(relation);
            if self.state.changes.is_extended(&relation.name) {
                // Columns that the catalog does not show yet.
                let items = Items { columns: Vec::new(), complete: false };
                ranges.push(Range { alias: String::new(), schema: None, source: Source::Items(items) });
            }
            let schema = range.alias.is_none().then(|| relation.schema.clone());
            ranges.push(Range { alias: alias.clone(), schema, source: Source::Relation(relation, aliases.clone()) });
        }
        ranges
    }

    fn range_function(&mut self, function: &pg_query::protobuf::RangeFunction, scope: &mut Scope<'a, '_>) {
        let mut lineage = Lineage::default();
        let mut default = String::new();
        for entry in &function.functions {
            // Each entry is a list: the call and its column definitions.
            let parts: &[Node] = match &entry.node {
                Some(NodeEnum::List(list)) => &list.items,
                _ => std::slice::from_ref(entry),
            };
            for part in parts {
                match &part.node {
                    Some(NodeEnum::List(definitions)) => self.definitions(&definitions.items),
                    Some(NodeEnum::ColumnDef(_)) => self.definitions(std::slice::from_ref(part)),
                    None => {}
                    Some(NodeEnum::FuncCall(call)) => {
                        default = strings(&call.funcname).and_then(|names| names.last().map(|name| (*name).to_owned())).unwrap_or_default();
                        let value = self.call(call, scope);
                        lineage.absorb(&value);
                    }
                    Some(_) => {
                        let value = self.expression(part, scope);
                        lineage.absorb(&value);
                    }
                }
            }
        }
        self.definitions(&function.coldeflist);
        // How many rows a function of users gives is its own: their values are what may be a column's.
        let given = Lineage { returned: false, ..lineage.clone() };
        self.expose(&given, "a protected column decides how many rows there are");
        let names = function.alias.as_ref().and_then(|alias| strings(&alias.colnames)).unwrap_or_default();
        let mut columns: Vec<Item> = names.into_iter().map(|name| Item { name: name.to_owned(), lineage: lineage.clone() }).collect();
        for definition in &function.coldeflist {
            if let Some(NodeEnum::ColumnDef(definition)) = &definition.node {
                columns.push(Item { name: definition.colname.clone(), lineage: lineage.clone() });
            }
        }
        let alias = function.alias.as_ref().map_or(default, |alias| alias.aliasname.clone());
        // What columns a function returns is not followed: any name is one of them, of the arguments' lineage.
        scope.ranges.push(Range { alias: alias.clone(), schema: None, source: Source::Function(columns, lineage, alias) });
    }

    fn definitions(&mut self, nodes: &[Node]) {
        for node in nodes {
            match &node.node {
                Some(NodeEnum::ColumnDef(definition)) => {
                    if let Some(name) = &definition.type_name {
                        self.type_name(name);
                    }
                }
                None => {}
                _ => self.unknown(|| "a column definition that is none".to_owned()),
            }
        }
    }

    /// All columns of a range, in order.
    pub(super) fn range_items(&self, range: &Range<'a>) -> Items {
        self.spend(column_names(range).len());
        if self.work.get() == 0 {
            return Items::default();
        }
        match &range.source {
            Source::Items(items) => items.clone(),
            Source::Function(columns, ..) => Items { columns: columns.clone(), complete: false },
            Source::Relation(relation, aliases) => {
                let columns = relation
                    .columns
                    .iter()
                    .enumerate()
                    .map(|(index, column)| Item {
                        name: aliases.get(index).unwrap_or(&column.name).clone(),
                        lineage: self.base_column(relation, column.number),
                    })
                    .collect();
                Items { columns, complete: true }
            }
        }
    }
}

fn column_names<'r>(range: &'r Range<'_>) -> Vec<&'r str> {
    match &range.source {
        Source::Relation(relation, _) => relation.columns.iter().map(|column| column.name.as_str()).collect(),
        Source::Items(Items { columns, .. }) | Source::Function(columns, ..) => columns.iter().map(|item| item.name.as_str()).collect(),
    }
}

fn aliased<'a>(mut items: Items, alias: Option<&Alias>, default: &str) -> Range<'a> {
    let names = alias.and_then(|alias| strings(&alias.colnames)).unwrap_or_default();
    super::query::rename(&mut items, &names);
    Range { alias: alias.map_or(default, |alias| alias.aliasname.as_str()).to_owned(), schema: None, source: Source::Items(items) }
}
