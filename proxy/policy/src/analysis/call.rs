//! Function calls and type names.

use pg_query::protobuf::{FuncCall, SortBy, TypeName, WindowDef};
use pg_query::{Node, NodeEnum};

use super::{Interest, Lineage, Scope, Walk, path_effect, strings};
use crate::StatementKind;
use crate::builtin::{self, Makes, Setting};
use crate::catalog::FIRST_USER_OID;
use crate::decision::{Effect, Lasts};
use crate::state::{SearchPath, parse_path, truncate};

/// `pg_type.oid` of `record`.
const RECORD: u32 = 2249;

impl<'a> Walk<'a> {
    pub(super) fn call(&mut self, call: &FuncCall, scope: &Scope<'a, '_>) -> Lineage {
        self.computes = true;
        let Some(names) = strings(&call.funcname) else {
            self.unknown(|| "a function without a name".to_owned());
            return Lineage::opaque();
        };
        if matches!(names.as_slice(), ["pg_catalog", "system_user"]) && call.args.is_empty() {
            // To a server before 16 it is a name like any other.
            if let Some(column) = self.lookup_column("system_user", scope) {
                return column;
            }
        }
        // The database may be named, too: it can only be the one at hand.
        let names = if let [_, schema, name] = names.as_slice() { vec![*schema, *name] } else { names };
        let columns_before = self.columns_seen;
        let each: Vec<Lineage> = call.args.iter().map(|argument| self.expression(argument, scope)).collect();
        let mut arguments = Lineage::default();
        each.iter().for_each(|argument| arguments.absorb(argument));
        let shown = !arguments.sources.is_empty() && self.is_shown(call, scope);
        let mut made = None;
        if !shown {
            made = self.made_by(&names, call, &each);
            self.weigh_elements(&names, &each);
        }
        for order in &call.agg_order {
            let lineage = self.sort(order, scope);
            if lineage.is_protected() {
                made = None;
                if lineage.row {
                    self.expose(&lineage, super::made::COMPARED);
                }
                if call.agg_within_group && lineage.telling {
                    self.expose(&lineage, "what was made of a protected column is calculated with: whether that fails shows its value");
                }
            }
            arguments.absorb(&lineage);
        }
        self.condition(call.agg_filter.as_deref(), scope, "a protected column decides in FILTER");
        if let Some(window) = call.over.as_deref() {
            self.window(window, scope);
        }
        self.sorts |= call.agg_distinct;
        if call.agg_distinct {
            self.operator_named("=");
        }
        if arguments.row && (call.agg_distinct || matches!(names.last(), Some(&("min" | "max" | "mode")))) {
            self.expose_protected(&arguments, super::made::COMPARED);
        }
        if matches!(names.as_slice(), ["set_config"] | ["pg_catalog", "set_config"]) {
            self.by_literal = true;
            if self.set_config(&call.args) {
                return arguments.derived();
            }
        }
        if self.shallow && self.columns_seen == columns_before {
            self.constant_call(&names);
        }
        if let [name] | ["pg_catalog", name] = names.as_slice() {
            self.weigh_targets(name, &call.args);
            if matches!(*name, "current_schema" | "current_schemas") {
                self.weigh_schema();
            }
        }
        let count = call.args.len();
        let star = call.agg_star;
        let types: Vec<Option<u32>> = each.iter().map(|argument| argument.direct.and_then(|column| self.type_of(column))).collect();
        let mut result = self.call_named(&names, count, &types, &arguments);
        if call.agg_within_group {
            // `rank(…) WITHIN GROUP (ORDER BY …)` compares; over a window it numbers rows.
            result.absorb(&arguments);
        } else if let Some(made) = made
            && !result.returned
        {
            (result.telling, result.joins) = (made.telling, made.joins);
        }
        if result.telling && !result.returned && matches!(names.as_slice(), [name] | ["pg_catalog", name] if builtin::makes_text(name)) {
            result.joins = true;
        }
        match names.last() {
            Some(&"current_setting") => {
                self.by_literal = true;
                result.opaque |= self.shows_setting(call.args.first().and_then(constant).as_deref());
            }
            Some(&("pg_show_all_settings" | "pg_listening_channels")) => result.opaque |= self.shows_setting(None),
            _ => {}
        }
        if star || shown { Lineage::default() } else { result }
    }

    /// The session's own temporary schema is made when it is the first that is looked in and somebody asks which that is.
    pub(super) fn weigh_schema(&mut self) {
        if self.state.path_unknown || self.state.paths.iter().any(SearchPath::names_temporary) {
            self.raise(StatementKind::Write, || "may make the session's temporary schema".to_owned());
        }
    }

    /// A call with nothing but constants: planning runs it where the function is declared immutable.
    fn constant_call(&mut self, names: &[&str]) {
        let Some((name, schema)) = names.split_last() else { return };
        let catalog = self.catalog;
        let folded = catalog
            .functions_named(truncate(name))
            .filter(|function| function.volatility == 'i' && schema.last().is_none_or(|schema| function.schema == *schema));
        self.constant_calls.extend(folded.map(|function| function.oid));
    }

    pub(super) fn window(&mut self, window: &WindowDef, scope: &Scope<'a, '_>) {
        self.sorts |= !window.partition_clause.is_empty() || !window.order_clause.is_empty();
        let partition = self.expressions(&window.partition_clause, scope);
        self.expose(&partition, "a protected column decides in PARTITION BY");
        for order in &window.order_clause {
            let lineage = self.sort(order, scope);
            self.expose(&lineage, "a protected column decides in ORDER BY");
        }
        self.condition(window.start_offset.as_deref(), scope, "a protected column decides a window's frame");
        self.condition(window.end_offset.as_deref(), scope, "a protected column decides a window's frame");
    }

    pub(super) fn sort(&mut self, node: &Node, scope: &Scope<'a, '_>) -> Lineage {
        self.sorts = true;
        match &node.node {
            Some(NodeEnum::SortBy(sort)) => {
                self.sort_operator(sort);
                self.optional(sort.node.as_deref(), scope)
            }
            _ => self.expression(node, scope),
        }
    }

    /// `ORDER BY … USING operator`: it stands for a whole operator class, of which each function may be another's.
    pub(super) fn sort_operator(&mut self, sort: &SortBy) {
        if sort.use_op.is_empty() {
            return;
        }
        self.operator(&sort.use_op);
        let names = strings(&sort.use_op).unwrap_or_default();
        let [schema @ .., name] = names.as_slice() else { return };
        let schema = schema.first().copied();
        let visible = |other: &str| schema.map_or_else(|| self.paths.iter().any(|path| path.contains(&other)), |schema| schema == other);
        if self.catalog.operators_named(name).iter().any(|operator| visible(&operator.schema)) {
            self.opaque = true;
            self.raise(StatementKind::Procedural, || format!("sorts by the operator {name}, which is one of users"));
        }
    }

    /// A call by name, with so many arguments of that lineage, and of these types as far as they are known.
    pub(super) fn call_named(&mut self, names: &[&str], count: usize, types: &[Option<u32>], arguments: &Lineage) -> Lineage {
        let (schema, name) = match names {
            [name] => (None, truncate(name)),
            [schema, name] => (Some(truncate(schema)), truncate(name)),
            [_, schema, name] => (Some(truncate(schema)), truncate(name)),
            _ => {
                self.unknown(|| "a function name with too many parts".to_owned());
                return Lineage::opaque();
            }
        };
        // The grammar of 16 and later says pg_catalog of what a server before takes for a name like any other.
        let schema = schema.filter(|schema| *schema != "pg_catalog" || name != "json_object");
        self.function_changed(name);
        if schema.is_none() {
            self.by_path("function ", name);
        }
        let mut result = arguments.clone().derived();
        result.row &= builtin::keeps_rows(name);
        if builtin::converts(name) {
            // Turning a value of a user's type into JSON runs that type's cast; so may putting it together with text.
            self.has_cast = true;
        }
        if builtin::takes_time(name) {
            self.expose(arguments, "a protected column decides how long a function takes");
        }
        if builtin::returns_set(name) {
            self.expose(arguments, "a protected column decides how many rows there are");
        }
        let in_builtin = schema.is_none_or(|schema| schema == "pg_catalog");
        let known_builtin = in_builtin && builtin::is_harmless(name);
        let harmful = if in_builtin { builtin::harm(name) } else { None };
        let visible: Vec<u32> = self
            .catalog
            .functions_named(name)
            .filter(|function| function.accepts(count))
            .filter(|function| match schema {
                Some(schema) => function.schema == schema,
                None => self.paths.iter().any(|path| path.contains(&function.schema.as_str())),
            })
            // An overload of a built-in function is chosen only for arguments of its own types.
            .filter(|function| !known_builtin || self.is_overload_possible(name, function, count, types))
            .map(|function| function.oid)
            .collect();
        let mut called_user = false;
        for oid in &visible {
            let Some(function) = self.catalog.function(*oid) else { continue };
            if function.returns_set {
                self.expose(arguments, "a protected column decides how many rows there are");
            }
            if function.oid < FIRST_USER_OID && function.schema == "information_schema" {
                self.expose_protected(arguments, super::made::FAILS);
                continue;
            }
            if function.reviewed {
                self.expose(arguments, "a protected column is handed to a function of an extension: whether it fails shows its value");
            }
            called_user = true;
            self.calls.insert(*oid);
            self.know_type(function.result, 0);
            let joins = !self.holds_arrays(function.result) && !matches!(function.result, super::array::JSONB);
            result.joins = joins && (result.joins || visible.len() == 1);
            result.row |= arguments.row || matches!(function.result, RECORD) || self.is_composite(function.result, 0);
        }
        if called_user && !self.trusts_all(&visible) {
            result.returned = true;
            result.opaque = true;
            self.opaque = true;
        }
        if let Some((kind, why)) = harmful {
            let full = name.to_owned();
            self.builtin_calls.insert(full.clone());
            self.raise(kind, || format!("{full} {why}"));
            self.expose(arguments, "a protected column is handed to a function with effects");
            result.opaque = true;
            self.opaque = true;
            return result;
        }
        if in_builtin && !known_builtin && schema.is_none() && builtin::is_listed(name) {
            self.opaque = true;
            self.unknown(|| format!("function {name} of the server is not on the list of harmless functions"));
        }
        if known_builtin || !visible.is_empty() {
            if known_builtin && builtin::is_count(name) {
                return Lineage::default();
            }
            return result;
        }
        // `type(value)` is a cast.
        if count == 1 && self.is_known_type(schema, name) {
            self.has_cast = true;
            if !builtin::takes_anything(name) {
                self.expose(arguments, "a protected column is cast: whether that fails shows its value");
            }
            return result;
        }
        if schema != Some("pg_catalog") && self.state.changes.is_function_uncertain(name) {
            result.returned = true;
            result.opaque = true;
            return result;
        }
        if schema == Some("pg_catalog") || (schema.is_none() && self.catalog.functions_named(name).next().is_none()) {
            // `column(whole row)` is a column.
            let is_column = schema.is_none() && count == 1 && !arguments.sources.is_empty();
            self.unresolved(|| format!("function {name} is neither on the list of harmless functions nor in the catalog"));
            if !is_column {
                result.opaque = true;
                self.opaque = true;
            }
            return result;
        }
        self.unresolved(|| format!("function {} does not resolve under the session's search path", names.join(".")));
        result.opaque = true;
        self.opaque = true;
        result
    }

    /// Whether a call by the name of a built-in function may mean this one of users. Where no value of a user's type is in play, a literal may
    /// become one, unless the server takes the call for one of its own functions.
    fn is_overload_possible(&self, name: &str, function: &crate::catalog::Function, count: usize, types: &[Option<u32>]) -> bool {
        let possible = |oid: u32| self.catalog.may_become(oid, &self.types);
        let arguments = function.arguments.get(..count).unwrap_or(&function.arguments);
        // The server takes the function that has most of the types it is given as they are: its own, when that has all of them and this one has not.
        let differs = arguments.iter().zip(types).any(|(argument, given)| given.is_some_and(|given| given != *argument));
        if differs && builtin::takes(name, count, types) {
            return false;
        }
        if arguments.iter().all(|argument| possible(*argument)) {
            return true;
        }
        if arguments.iter().any(|argument| *argument >= FIRST_USER_OID && possible(*argument)) {
            return true;
        }
        let given: Vec<Option<u32>> = arguments.iter().map(|argument| (*argument < FIRST_USER_OID).then_some(*argument)).collect();
        !builtin::takes(name, count, &given)
    }

    /// Whether the policy vouches for each of these functions, and none returns what it masks.
    pub(super) fn trusts_all(&self, functions: &[u32]) -> bool {
        functions.iter().filter(|oid| self.catalog.is_users(**oid)).all(|oid| match self.interest {
            Interest::All => false,
            Interest::Protected(protection) => self.catalog.function(*oid).is_some_and(|function| {
                let mut named = protection.policy().trusted_functions().iter();
                let trusted = named.find(|trusted| trusted.name.matches(&function.schema, &function.name));
                // A relation that is not there might have been any.
                let masked = |(schema, name): &(String, String)| {
                    self.catalog.relation_in(schema, name).is_none_or(|relation| protection.touches(relation.oid))
                };
                trusted.is_some_and(|trusted| trusted.clear || !protection.any() || !trusted.reads.iter().any(masked))
            }),
        })
    }

    /// `(value).name` is `name(value)`, where there is a function or a type of that name and not a field.
    pub(super) fn weigh_attribute(&mut self, name: &str, value: &Lineage) {
        let name = truncate(name);
        let total = if value.telling { builtin::lessens(name) } else { matches!(builtin::makes(name, 0, 1), Makes::Text) };
        let fails = if builtin::is_type(name) { !builtin::takes_anything(name) } else { builtin::is_function(name) && !total };
        let reviewed = self.catalog.functions_named(name).any(|function| function.reviewed);
        if fails || reviewed {
            self.expose_protected(value, super::made::FAILS);
        }
    }

    /// `(value).name` where the value's type is not followed: every function it could call is called.
    pub(super) fn attribute(&mut self, name: &str, lineage: &mut Lineage) {
        self.weigh_attribute(name, lineage);
        let name = truncate(name);
        self.computes = true;
        self.function_changed(name);
        self.by_path("function ", name);
        let callable: Vec<u32> = self
            .catalog
            .functions_named(name)
            .filter(|function| function.accepts(1))
            .filter(|function| self.paths.iter().any(|path| path.contains(&function.schema.as_str())))
            .map(|function| function.oid)
            .collect();
        if self.state.changes.is_function_uncertain(name) || (!callable.is_empty() && !self.trusts_all(&callable)) {
            lineage.returned = true;
            lineage.opaque = true;
        }
        self.calls.extend(callable);
        if let Some((kind, why)) = builtin::harm(name) {
            self.builtin_calls.insert(name.to_owned());
            self.opaque = true;
            self.raise(kind, || format!("{name} {why}"));
        } else if builtin::is_function(name) && !builtin::is_harmless(name) {
            self.opaque = true;
            self.unknown(|| format!("function {name} is not on the list of harmless functions"));
        } else if self.is_known_type(None, name) {
            // `(value).type` is a cast.
            self.has_cast = true;
        }
    }

    /// A function of that name is used: whether the session changed what the name means.
    pub(super) fn function_changed(&mut self, name: &str) {
        self.looked_up = true;
        if self.state.changes.is_function_uncertain(name) {
            // Whatever it is by now, it is a function of users.
            self.opaque = true;
            self.raise(StatementKind::Procedural, || {
                format!("what function {name} does was changed in this session and is not in the catalog yet")
            });
        }
        if matches!(self.interest, Interest::All) && self.called_names.len() < 256 {
            self.called_names.insert(name.to_owned());
        }
    }

    /// `set_config(name, value, local)` with constants is SET; says whether it was understood.
    fn set_config(&mut self, arguments: &[Node]) -> bool {
        let [name, value, _] = arguments else { return false };
        let named = match &name.node {
            Some(NodeEnum::ColumnRef(column)) if strings(&column.fields).as_deref() == Some(&["name"]) => self.setting.clone(),
            _ => constant(name),
        };
        // Whatever a parameter is bound to, it is the client's own.
        let bound = matches!(value.node, Some(NodeEnum::ParamRef(_)));
        let (Some(name), value) = (named, constant(value)) else {
            // Any setting may be meant.
            self.effects.push(path_effect(None, Lasts::Perhaps));
            return false;
        };
        self.role_set(&name, value.as_deref());
        self.effects.push(Effect::Setting(name.clone(), value.clone().unwrap_or_else(|| "a computed value".to_owned())));
        match (builtin::setting(&name), value) {
            (Setting::SearchPath, value) => {
                self.effects.push(path_effect(value.as_deref().and_then(parse_path), Lasts::Perhaps));
            }
            (Setting::Only(only), Some(value)) if value.eq_ignore_ascii_case(only) => {}
            (Setting::Harmless, Some(_)) => {}
            (Setting::Harmless, None) if bound => {}
            (Setting::ReadOnly, Some(value)) => {
                if !builtin::is_true(&value) {
                    self.raise(StatementKind::Write, || "makes transactions writable".to_owned());
                }
            }
            _ => return false,
        }
        self.raise(StatementKind::Session, || format!("sets {name}"));
        true
    }

    pub(super) fn type_name(&mut self, name: &TypeName) {
        let Some(names) = strings(&name.names) else {
            self.unknown(|| "a type without a name".to_owned());
            return;
        };
        if name.pct_type {
            self.unknown(|| "a type given by %TYPE".to_owned());
            return;
        }
        let (schema, base) = match names.as_slice() {
            [base] => (None, *base),
            [schema, base] => (Some(*schema), *base),
            [_, schema, base] => (Some(*schema), *base),
            _ => (None, ""),
        };
        if !self.is_known_type(schema.map(truncate), truncate(base)) {
            self.unresolved(|| format!("type {} is not in the catalog", names.join(".")));
        }
    }

    /// Whether a type is known; what using it runs is taken account of.
    fn is_known_type(&mut self, schema: Option<&str>, name: &str) -> bool {
        // That of 17 and later says it of `json`.
        let schema = schema.filter(|schema| *schema != "pg_catalog" || name != "json");
        self.looked_up = true;
        if schema.is_none() {
            self.by_path("type ", name);
        }
        let unseen = self.state.code_ran && schema.is_none() && self.catalog.has_temporary_type(name);
        if unseen || self.state.changes.is_type_uncertain(name) {
            self.changed(name);
        }
        match schema {
            Some("pg_catalog") => return builtin::is_type(name) || self.catalog.relation_in("pg_catalog", name).is_some(),
            None if builtin::is_type(name) && self.paths.iter().all(|path| path.first() == Some(&"pg_catalog")) => return true,
            _ => {}
        }
        let catalog = self.catalog;
        let mut found: Vec<u32> = Vec::new();
        match schema {
            Some(schema) => found.extend(catalog.type_in(schema, name)),
            None => {
                for path in &self.paths {
                    if let Some(oid) = path.iter().find_map(|schema| catalog.type_in(schema, name)) {
                        found.push(oid);
                    }
                }
            }
        }
        for oid in &found {
            self.use_type(*oid, 0);
        }
        !found.is_empty()
            || (schema.is_none() && builtin::is_type(name))
            || (schema.is_none() && catalog.relation_in("pg_catalog", name).is_some())
    }

    /// A user type is in play: its operators and casts come into question.
    pub(super) fn know_type(&mut self, oid: u32, level: usize) {
        if oid < FIRST_USER_OID || level > 16 || !self.types.insert(oid) {
            return;
        }
        for part in self.parts_of(oid) {
            self.know_type(part, level + 1);
        }
    }

    /// A value of a user type is made: its checks run, too.
    pub(super) fn use_type(&mut self, oid: u32, level: usize) {
        if oid < FIRST_USER_OID || level > 16 || !self.checked.insert(oid) {
            return;
        }
        self.types.insert(oid);
        let catalog = self.catalog;
        if let Some(found) = catalog.type_by_oid(oid)
            && found.class == 'd'
            && let Some(check) = &found.check
        {
            self.domain_check(check, &found.code);
        }
        for part in self.parts_of(oid) {
            self.use_type(part, level + 1);
        }
    }

    /// The types a type is made of.
    fn parts_of(&self, oid: u32) -> Vec<u32> {
        let catalog = self.catalog;
        let mut parts: Vec<u32> = Vec::new();
        let found = catalog.type_by_oid(oid);
        let relation = catalog.relation_of_row_type(oid).or_else(|| found.and_then(|found| catalog.relation(found.relation)));
        if let Some(relation) = relation {
            parts.extend(relation.columns.iter().map(|column| column.type_oid));
        }
        if let Some(found) = found {
            parts.extend([found.element, found.base, found.subtype]);
        }
        parts.retain(|part| *part >= FIRST_USER_OID);
        parts
    }

    /// The client declared a parameter of that type: its value is made by the type's input function and checks.
    pub(super) fn parameter(&mut self, oid: u32) {
        if oid < FIRST_USER_OID {
            return;
        }
        if self.catalog.type_by_oid(oid).is_none() && self.catalog.relation_of_row_type(oid).is_none() {
            self.unresolved(|| format!("a parameter is of type {oid}, which is not in the catalog"));
        }
        self.use_type(oid, 0);
    }
}

/// The text of a string constant, casts to text seen through.
pub(super) fn constant(node: &Node) -> Option<String> {
    match node.node.as_ref()? {
        NodeEnum::AConst(value) => match value.val.as_ref()? {
            pg_query::protobuf::a_const::Val::Sval(text) => Some(text.sval.clone()),
            pg_query::protobuf::a_const::Val::Ival(number) => Some(number.ival.to_string()),
            _ => None,
        },
        NodeEnum::TypeCast(cast) if cast.type_name.as_ref().is_some_and(keeps_text) => constant(cast.arg.as_deref()?),
        _ => None,
    }
}

/// A type that a text is cast to unchanged: without a length, and of the server.
fn keeps_text(name: &TypeName) -> bool {
    name.typmods.is_empty()
        && name.array_bounds.is_empty()
        && matches!(strings(&name.names).as_deref(), Some(["text"] | ["pg_catalog", "text" | "varchar"]))
}
