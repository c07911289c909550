//! SQL/JSON of PostgreSQL 16 and later: constructors, queries, JSON_TABLE.
//!
//! To a server before those versions the same words are calls of functions, maybe a user's: functions of that name count as called.

use pg_query::protobuf::{JsonAggConstructor, JsonBehavior, JsonOutput, JsonTable, JsonValueExpr};
use pg_query::{Node, NodeEnum};

use super::{Item, Items, Lineage, Range, Scope, Source, Walk};

impl<'a> Walk<'a> {
    /// The lineage of a JSON expression; `None` when the node is none.
    pub(super) fn json(&mut self, node: &NodeEnum, scope: &Scope<'a, '_>) -> Option<Lineage> {
        Some(match node {
            NodeEnum::JsonFuncExpr(call) => {
                self.json_word(&["json_value", "json_query", "json_exists"]);
                let mut lineage = self.json_value(call.context_item.as_deref(), scope);
                let path = self.optional(call.pathspec.as_deref(), scope);
                lineage.absorb(&path);
                let passing = self.expressions(&call.passing, scope);
                lineage.absorb(&passing);
                self.json_output(call.output.as_ref());
                for behavior in [call.on_empty.as_deref(), call.on_error.as_deref()].into_iter().flatten() {
                    let value = self.json_behavior(behavior, scope);
                    lineage.absorb(&value);
                }
                lineage
            }
            NodeEnum::JsonParseExpr(parse) => {
                self.json_word(&["json"]);
                self.json_output(parse.output.as_ref());
                self.json_value(parse.expr.as_deref(), scope)
            }
            NodeEnum::JsonScalarExpr(scalar) => {
                self.json_word(&["json_scalar"]);
                self.json_output(scalar.output.as_ref());
                self.optional(scalar.expr.as_deref(), scope).derived()
            }
            NodeEnum::JsonSerializeExpr(serialize) => {
                self.json_word(&["json_serialize"]);
                self.json_output(serialize.output.as_ref());
                self.json_value(serialize.expr.as_deref(), scope)
            }
            NodeEnum::JsonObjectConstructor(object) => {
                self.json_word(&["json_object"]);
                self.json_output(object.output.as_ref());
                self.expressions(&object.exprs, scope)
            }
            NodeEnum::JsonArrayConstructor(array) => {
                self.json_word(&["json_array"]);
                self.json_output(array.output.as_ref());
                self.expressions(&array.exprs, scope)
            }
            NodeEnum::JsonArrayQueryConstructor(array) => {
                self.json_word(&["json_array"]);
                self.json_output(array.output.as_ref());
                array.query.as_deref().map(|query| self.query(query, Some(scope)).all()).unwrap_or_default().derived()
            }
            NodeEnum::JsonObjectAgg(aggregate) => {
                self.json_word(&["json_objectagg"]);
                let pair = aggregate.arg.as_deref();
                let mut lineage = self.optional(pair.and_then(|pair| pair.key.as_deref()), scope).derived();
                let value = self.json_value(pair.and_then(|pair| pair.value.as_deref()), scope);
                lineage.absorb(&value);
                self.json_aggregate(aggregate.constructor.as_deref(), scope, &mut lineage);
                lineage
            }
            NodeEnum::JsonArrayAgg(aggregate) => {
                self.json_word(&["json_arrayagg"]);
                let mut lineage = self.json_value(aggregate.arg.as_deref(), scope);
                self.json_aggregate(aggregate.constructor.as_deref(), scope, &mut lineage);
                lineage
            }
            NodeEnum::JsonKeyValue(pair) => {
                let mut lineage = self.optional(pair.key.as_deref(), scope).derived();
                let value = self.json_value(pair.value.as_deref(), scope);
                lineage.absorb(&value);
                lineage
            }
            NodeEnum::JsonValueExpr(value) => self.json_value(Some(value), scope),
            NodeEnum::JsonArgument(argument) => self.json_value(argument.val.as_deref(), scope),
            NodeEnum::MergeSupportFunc(_) => {
                self.json_word(&["merge_action"]);
                Lineage::default()
            }
            _ => return None,
        })
    }

    /// JSON_TABLE in FROM.
    pub(super) fn json_table(&mut self, table: &JsonTable, scope: &mut Scope<'a, '_>) {
        self.json_word(&["json_table"]);
        let mut lineage = self.json_value(table.context_item.as_deref(), scope);
        let passing = self.expressions(&table.passing, scope);
        lineage.absorb(&passing);
        if let Some(behavior) = table.on_error.as_deref() {
            let value = self.json_behavior(behavior, scope);
            lineage.absorb(&value);
        }
        let mut names = Vec::new();
        self.json_columns(&table.columns, scope, &mut lineage, &mut names);
        self.expose(&lineage, "a protected column decides how many rows there are");
        let mut columns: Vec<Item> = names.into_iter().map(|name| Item { name, lineage: lineage.clone().derived() }).collect();
        let alias = table.alias.as_ref();
        let aliases = alias.and_then(|alias| super::strings(&alias.colnames)).unwrap_or_default();
        for (column, name) in columns.iter_mut().zip(aliases) {
            name.clone_into(&mut column.name);
        }
        let alias = alias.map_or("json_table", |alias| alias.aliasname.as_str()).to_owned();
        scope.ranges.push(Range { alias, schema: None, source: Source::Items(Items { columns, complete: true }) });
    }

    fn json_columns(&mut self, nodes: &[Node], scope: &Scope<'a, '_>, lineage: &mut Lineage, names: &mut Vec<String>) {
        for node in nodes {
            let Some(NodeEnum::JsonTableColumn(column)) = &node.node else {
                self.unknown(|| "a column of JSON_TABLE that is none".to_owned());
                continue;
            };
            if let Some(name) = &column.type_name {
                self.type_name(name);
                self.has_cast = true;
            }
            for behavior in [column.on_empty.as_deref(), column.on_error.as_deref()].into_iter().flatten() {
                let value = self.json_behavior(behavior, scope);
                lineage.absorb(&value);
            }
            if column.columns.is_empty() {
                names.push(column.name.clone());
            } else {
                let _ = self.deeper(|walk| walk.json_columns(&column.columns, scope, lineage, names));
            }
        }
    }

    fn json_value(&mut self, value: Option<&JsonValueExpr>, scope: &Scope<'a, '_>) -> Lineage {
        self.computes = true;
        self.has_cast = true;
        let mut lineage = self.optional(value.and_then(|value| value.raw_expr.as_deref()), scope).derived();
        let formatted = self.optional(value.and_then(|value| value.formatted_expr.as_deref()), scope);
        lineage.absorb(&formatted);
        lineage
    }

    fn json_behavior(&mut self, behavior: &JsonBehavior, scope: &Scope<'a, '_>) -> Lineage {
        self.optional(behavior.expr.as_deref(), scope).derived()
    }

    fn json_aggregate(&mut self, constructor: Option<&JsonAggConstructor>, scope: &Scope<'a, '_>, lineage: &mut Lineage) {
        let Some(constructor) = constructor else { return };
        self.json_output(constructor.output.as_ref());
        self.condition(constructor.agg_filter.as_deref(), scope, "a protected column decides in FILTER");
        for order in &constructor.agg_order {
            let order = self.sort(order, scope);
            lineage.absorb(&order);
        }
        if let Some(window) = constructor.over.as_deref() {
            self.window(window, scope);
        }
    }

    fn json_output(&mut self, output: Option<&JsonOutput>) {
        self.has_cast = true;
        self.computes = true;
        if let Some(name) = output.and_then(|output| output.type_name.as_ref()) {
            self.type_name(name);
        }
    }

    /// To an older server the word is the name of a function.
    fn json_word(&mut self, names: &[&str]) {
        for name in names {
            self.function_changed(name);
            self.by_path("function ", name);
            let visible: Vec<u32> = self
                .catalog
                .functions_named(name)
                .filter(|function| self.paths.iter().any(|path| path.contains(&function.schema.as_str())))
                .map(|function| function.oid)
                .collect();
            self.calls.extend(visible);
        }
    }
}
