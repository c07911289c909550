//! From the walk's findings to facts: user functions, operators, casts and protection are weighed at the end.

use super::{Analysis, Items, Reach, Walk};
use crate::StatementKind;
use crate::catalog::FIRST_USER_OID;
use crate::decision::Output;
use crate::facts::{RelationName, StatementFacts};
use crate::masks::Protection;

impl<'a> Walk<'a> {
    pub(super) fn finish(mut self, protection: &Protection<'_>) -> Analysis {
        if self.computes {
            // A literal handed to a function beside a value of a user type may become one.
            for oid in self.types.iter().copied().collect::<Vec<_>>() {
                self.use_type(oid, 0);
            }
        }
        self.hide_results();
        if self.exposed.is_none()
            && protection.any()
            && let Some(how) = self.decides
            && self.hides_deciding()
        {
            self.exposed = Some(super::returned(how));
        }
        let others = |oids: Vec<u32>| oids.into_iter().any(|oid| oid >= FIRST_USER_OID);
        if self.operates && self.exposed.is_none() && protection.any() && others(self.operator_functions()) {
            self.exposed = Some(
                "a protected column is an operand of another operator than the server's own: whether it fails shows its value".to_owned(),
            );
        }
        self.weigh_operators();
        self.weigh_support();
        self.weigh_casts();
        let functions = self.weigh_calls(protection);
        if let Some(why) = self.state.changes.everything()
            && self.looked_up
            && self.kind < StatementKind::Ddl
        {
            self.opaque = true;
            self.unknown(|| why.to_owned());
        }
        if self.kind >= StatementKind::Procedural {
            self.effects.push(crate::decision::Effect::CodeRan);
            if self.action == crate::facts::SessionAction::None {
                self.action = crate::facts::SessionAction::CatalogChange;
            }
        }
        if matches!(self.kind, StatementKind::Procedural | StatementKind::Unknown)
            || (self.kind > StatementKind::Procedural && !functions.is_empty())
        {
            self.effects.push(crate::decision::Effect::SettingsUnseen);
        } else if self.kind > StatementKind::Procedural {
            use crate::decision::Effect;
            self.effects.push(if self.catalog.has_event_triggers() { Effect::SettingsUnseen } else { Effect::CodePerhaps });
        }
        if let Some(poison) = self.state.poisoned
            && self.kind > StatementKind::Empty
        {
            self.unknown(|| poison.to_owned());
        }
        if matches!(self.kind, StatementKind::Procedural | StatementKind::Unknown)
            || !functions.is_empty()
            || self.builtin_calls.contains("set_config")
        {
            self.effects.push(crate::decision::Effect::SettingsForeign);
        }
        let named = self.named();
        let reads = self.names(&self.reads);
        let mut writes = self.names(&self.writes);
        let mut reads_all = reads;
        if self.kind >= StatementKind::Write {
            writes.extend(self.unresolved.iter().cloned());
        } else {
            reads_all.extend(self.unresolved.iter().cloned());
        }
        let masked = protection.any();
        let touches = self.reads.keys().chain(self.writes.keys()).any(|oid| protection.touches(*oid));
        let opaque = masked && (self.opaque || self.kind >= StatementKind::Procedural);
        let shows = self.shows();
        let outputs = self.outputs.take().map(|items| foreseen(items, masked));
        Analysis {
            facts: StatementFacts {
                kind: self.kind,
                reads: reads_all,
                writes,
                functions,
                missing_where: self.missing_where,
                limit: self.limit,
                notes: self.notes,
                executes: self.executes,
                action: self.action,
            },
            named,
            outputs: outputs.flatten(),
            effects: self.effects,
            stale: self.stale,
            protected: touches || opaque,
            exposed: self.exposed,
            copy_refused: self.copy_refused,
            copies: self.copies,
            shows,
            unmask: false,
            by_literal: self.by_literal,
            unpins: self.unpins,
        }
    }

    /// Names of the protected columns that contribute to the result.
    fn shows(&self) -> Vec<String> {
        let results = self.outputs.iter().flat_map(|items| &items.columns).flat_map(|item| &item.lineage.sources).copied();
        let copied = self.copies.iter().flat_map(|copy| &copy.columns).filter(|column| column.tainted).filter_map(|column| column.source);
        let mut names: Vec<String> = results
            .chain(copied)
            .filter_map(|(oid, number)| {
                let relation = self.catalog.relation(oid)?;
                let column = relation.columns.iter().find(|column| column.number == number)?;
                Some(format!("{}.{}.{}", relation.schema, relation.name, column.name))
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }

    fn names(&self, touched: &std::collections::BTreeMap<u32, Reach>) -> Vec<RelationName> {
        let mut names: Vec<RelationName> = touched
            .keys()
            .filter_map(|oid| self.catalog.relation(*oid))
            .map(|relation| RelationName { schema: relation.schema.clone(), name: relation.name.clone() })
            .collect();
        names.sort();
        names
    }

    /// What an allow rule must cover: everything named, but for harmless system relations.
    fn named(&self) -> Vec<RelationName> {
        let mut named: Vec<RelationName> = self
            .reads
            .iter()
            .chain(&self.writes)
            .filter(|(_, reach)| **reach == Reach::Named)
            .filter_map(|(oid, _)| self.catalog.relation(*oid))
            .filter(|relation| !relation.is_system() || self.kind >= StatementKind::Write)
            .map(|relation| RelationName { schema: relation.schema.clone(), name: relation.name.clone() })
            .collect();
        named.extend(self.unresolved.iter().cloned());
        named
    }

    fn weigh_operators(&mut self) {
        let functions = self.operator_functions();
        self.calls.extend(functions);
        let operators = std::mem::take(&mut self.operators);
        for (schema, name) in operators {
            if let Some(schema) = schema
                && schema != "pg_catalog"
                && !self.catalog.operators_named(&name).iter().any(|operator| operator.schema == schema)
            {
                self.unresolved(|| format!("operator {schema}.{name} is not in the catalog"));
            }
        }
    }

    /// Whether an operator of users may be what a name means. Where no value of an operand's type is in play, a literal may become one, unless
    /// the server takes the literal for an operand of an operator of its own.
    fn is_operator_possible(&self, name: &str, left: u32, right: u32) -> bool {
        let possible = |oid: u32| self.catalog.may_become(oid, &self.types);
        if possible(left) && possible(right) {
            return true;
        }
        let in_play = |oid: u32| oid >= FIRST_USER_OID && possible(oid);
        if left == 0 || in_play(left) || in_play(right) {
            return true;
        }
        let own = crate::builtin::operands(name);
        match (left < FIRST_USER_OID, right < FIRST_USER_OID) {
            (true, false) => !own.iter().any(|(known, other)| *known == left && *other != 0),
            (false, true) => !own.iter().any(|(other, known)| *known == right && *other != 0),
            _ => !own.iter().any(|(left, right)| *left != 0 && *right != 0),
        }
    }

    /// What compares, orders and hashes values of the types in play.
    fn weigh_support(&mut self) {
        for (subject, function) in self.catalog.support() {
            let in_play = *subject < FIRST_USER_OID || self.types.contains(subject);
            if in_play && (self.computes || self.sorts || self.checked.contains(subject)) {
                self.calls.insert(*function);
            }
        }
    }

    fn weigh_casts(&mut self) {
        let functions = self.cast_functions();
        self.calls.extend(functions);
    }

    /// The functions of users that the operators seen so far may run.
    fn operator_functions(&self) -> Vec<u32> {
        let mut functions = Vec::new();
        for (schema, name) in &self.operators {
            for operator in self.catalog.operators_named(name) {
                let visible = match schema {
                    Some(schema) => operator.schema == *schema,
                    None => self.paths.iter().any(|path| path.contains(&operator.schema.as_str())),
                };
                if visible && self.is_operator_possible(name, operator.left, operator.right) {
                    functions.push(operator.function);
                }
            }
        }
        functions
    }

    /// Whether such functions may stand behind an operator or cast that decides something. Those in C read no tables, as operators.
    fn hides_deciding(&self) -> bool {
        let mut functions = self.operator_functions();
        functions.extend(self.cast_functions());
        functions.retain(|oid| {
            self.catalog.is_users(*oid)
                && self.catalog.function(*oid).is_none_or(|function| !matches!(function.language.as_str(), "c" | "internal"))
        });
        !functions.is_empty() && !self.trusts_all(&functions)
    }

    /// Whether functions that nobody vouches for may stand behind operators and casts: what they return may be anything.
    pub(super) fn hides_results(&self) -> bool {
        let mut functions = self.operator_functions();
        functions.extend(self.cast_functions());
        functions.retain(|oid| self.catalog.is_users(*oid));
        !functions.is_empty() && !self.trusts_all(&functions)
    }

    fn hide_results(&mut self) {
        if !self.hides_results() {
            return;
        }
        for item in self.outputs.iter_mut().flat_map(|items| &mut items.columns) {
            item.lineage.opaque |= item.lineage.direct.is_none();
        }
        let columns = self.copies.iter_mut().flat_map(|copy| &mut copy.columns);
        columns.for_each(|column| column.tainted |= !column.direct);
    }

    /// The functions of users that casts written and not written may run.
    fn cast_functions(&self) -> Vec<u32> {
        let mut functions = Vec::new();
        for cast in self.catalog.casts() {
            let possible = |oid: u32| oid < FIRST_USER_OID || self.types.contains(&oid);
            // A cast between types of the server alone is in play only where one is written.
            let own = self.types.contains(&cast.source) || self.types.contains(&cast.target);
            let stores = cast.assigns && self.kind >= StatementKind::Write;
            let in_play = self.has_cast
                || (stores && own)
                || (cast.implicit && (own || self.computes))
                || (self.computes && self.types.contains(&cast.source));
            if cast.function != 0 && in_play && possible(cast.source) && possible(cast.target) {
                functions.push(cast.function);
            }
        }
        functions
    }

    fn weigh_calls(&mut self, protection: &Protection<'_>) -> Vec<String> {
        let mut functions: Vec<String> = self.builtin_calls.iter().map(|name| format!("pg_catalog.{name}")).collect();
        let calls = std::mem::take(&mut self.calls);
        for oid in calls {
            let catalog = self.catalog;
            let Some(function) = catalog.function(oid) else {
                if oid >= FIRST_USER_OID {
                    self.unresolved(|| format!("function {oid} is not in the catalog"));
                }
                continue;
            };
            if function.oid < FIRST_USER_OID {
                continue;
            }
            let full = format!("{}.{}", function.schema, function.name);
            self.function_changed(&function.name);
            if function.reviewed {
                continue;
            }
            match protection.policy().trusted_functions().iter().find(|trusted| trusted.name.matches(&function.schema, &function.name)) {
                Some(trusted) => {
                    self.raise(trusted.kind, || format!("calls {full}, which the policy vouches for"));
                    for (schema, name) in &trusted.reads {
                        match catalog.relation_in(schema, name) {
                            Some(relation) => {
                                self.opaque |= protection.touches(relation.oid);
                                self.read(relation);
                            }
                            None => self.unresolved(|| format!("relation {schema}.{name} of a trusted function is not in the catalog")),
                        }
                    }
                    for (schema, name) in &trusted.writes {
                        match catalog.relation_in(schema, name) {
                            Some(relation) => self.write(relation),
                            None => self.unresolved(|| format!("relation {schema}.{name} of a trusted function is not in the catalog")),
                        }
                    }
                }
                None => {
                    let language = function.language.clone();
                    let definer = if function.security_definer { ", security definer" } else { "" };
                    let volatility = function.volatility;
                    self.raise(StatementKind::Procedural, || {
                        format!("runs the user function {full} (language {language}, volatility {volatility}{definer})")
                    });
                    self.opaque = true;
                }
            }
            functions.push(full);
        }
        functions
    }
}

fn foreseen(items: Items, masked: bool) -> Option<Vec<Output>> {
    if !items.complete {
        return None;
    }
    let output = |item: super::Item| Output {
        tainted: !item.lineage.sources.is_empty() || (item.lineage.opaque && masked),
        direct: item.lineage.direct.is_some(),
        origin: item.lineage.direct,
        name: item.name,
    };
    Some(items.columns.into_iter().map(output).collect())
}
