//! Statements that change the schema, privileges or roles, or maintain the database: what they touch, and which names mean
//! something else afterwards.

use pg_query::protobuf::{CmdType, ColumnDef, ConstrType, CreateStmt, DropStmt, GrantStmt, IndexStmt, ObjectType, RangeVar, RenameStmt};
use pg_query::{Node, NodeEnum};

use super::expression::variant;
use super::{Interest, Range, Reach, Scope, Source, Walk, strings};
use crate::StatementKind;
use crate::decision::Effect;
use crate::facts::{RelationName, SessionAction};
use crate::state::changes::Change;
use crate::state::{SearchPath, truncate};

impl<'a> Walk<'a> {
    pub(super) fn utility(&mut self, node: &NodeEnum) {
        use NodeEnum as N;
        match node {
            N::CheckPointStmt(_) => self.maintains(None),
            N::VacuumStmt(vacuum) => {
                if vacuum.rels.is_empty() {
                    self.maintains_all();
                }
                for relation in &vacuum.rels {
                    if let Some(N::VacuumRelation(relation)) = &relation.node {
                        self.maintains(relation.relation.as_ref());
                    }
                }
            }
            N::ClusterStmt(cluster) if cluster.relation.is_none() => self.maintains_all(),
            N::ClusterStmt(cluster) => {
                self.maintains(cluster.relation.as_ref());
                if let Some(range) = &cluster.relation {
                    self.sorts_stored(range);
                }
            }
            N::ReindexStmt(reindex) if reindex.relation.is_none() => self.maintains_all(),
            N::ReindexStmt(reindex) => self.maintains(reindex.relation.as_ref()),
            // The lock that every SELECT takes, too.
            N::LockStmt(lock) if lock.mode == ACCESS_SHARE => {
                for relation in &lock.relations {
                    if let Some(N::RangeVar(range)) = &relation.node {
                        for relation in self.resolve(range) {
                            self.read(relation);
                        }
                    }
                }
                self.kind = self.kind.max(StatementKind::Read);
            }
            N::LockStmt(lock) => {
                self.raise(StatementKind::Utility, || "locks a table".to_owned());
                for relation in &lock.relations {
                    if let Some(N::RangeVar(range)) = &relation.node {
                        for relation in self.resolve(range) {
                            self.read(relation);
                        }
                    }
                }
                self.kind = self.kind.max(StatementKind::Utility);
            }
            N::RefreshMatViewStmt(refresh) => {
                self.raise(StatementKind::Write, || "refreshes a materialized view".to_owned());
                self.refreshes = true;
                if let Some(range) = &refresh.relation {
                    for relation in self.resolve(range) {
                        self.write(relation);
                        self.read(relation);
                    }
                }
                self.action = SessionAction::CatalogChange;
            }
            N::TruncateStmt(truncate) => {
                for relation in &truncate.relations {
                    if let Some(N::RangeVar(range)) = &relation.node {
                        for relation in self.resolve(range) {
                            self.write(relation);
                        }
                    }
                }
                self.ddl("empties tables");
            }
            N::CreateStmt(create) => self.create_table(create),
            N::CreateForeignTableStmt(create) => {
                self.ddl("creates a foreign table");
                if let Some(relation) = create.base_stmt.as_ref().and_then(|create| create.relation.as_ref()) {
                    self.created(relation, false);
                }
            }
            N::CommentStmt(comment) => {
                self.ddl("comments on an object");
                self.object(comment.object.as_deref());
            }
            N::IndexStmt(index) => self.index(index),
            N::AlterTableStmt(alter) => self.alter_table(alter),
            N::DropStmt(drop) => self.drop_objects(drop),
            N::RenameStmt(rename) => self.rename(rename),
            N::AlterObjectSchemaStmt(alter) => {
                self.ddl("moves an object to another schema");
                match &alter.relation {
                    Some(range) => {
                        self.mention(range);
                        self.unmasks(range);
                        self.change(Change::Relation(range.relname.clone()));
                    }
                    None => self.change_by_kind(alter.object_type, alter.object.as_deref()),
                }
            }
            N::CreateFunctionStmt(create) => {
                self.ddl("creates a function");
                self.change_named(&create.funcname, Change::Function);
            }
            N::AlterFunctionStmt(alter) => {
                self.ddl("alters a function");
                let names = alter.func.as_ref().map(|function| function.objname.as_slice());
                self.change_named(names.unwrap_or_default(), Change::Function);
            }
            N::CreateTrigStmt(trigger) => {
                self.ddl("creates a trigger");
                self.decides_rows(trigger.relation.as_ref(), &trigger.when_clause.as_deref().into_iter().collect::<Vec<_>>());
                self.alters_writing(trigger.relation.as_ref());
            }
            N::RuleStmt(rule) => {
                self.ddl("creates a rule");
                self.decides_rows(rule.relation.as_ref(), &rule.where_clause.as_deref().into_iter().collect::<Vec<_>>());
                if matches!(CmdType::try_from(rule.event), Ok(CmdType::CmdInsert | CmdType::CmdUpdate | CmdType::CmdDelete)) {
                    self.alters_writing(rule.relation.as_ref());
                } else {
                    self.alters(rule.relation.as_ref());
                }
            }
            N::CreatePolicyStmt(policy) => {
                self.dcl("changes row security");
                let conditions = [&policy.qual, &policy.with_check].into_iter().filter_map(|node| node.as_deref());
                self.decides_rows(policy.table.as_ref(), &conditions.collect::<Vec<_>>());
                self.alters(policy.table.as_ref());
            }
            N::AlterPolicyStmt(policy) => {
                self.dcl("changes row security");
                let conditions = [&policy.qual, &policy.with_check].into_iter().filter_map(|node| node.as_deref());
                self.decides_rows(policy.table.as_ref(), &conditions.collect::<Vec<_>>());
                self.alters(policy.table.as_ref());
            }
            N::CreateSeqStmt(create) => {
                self.ddl("creates a sequence");
                if let Some(relation) = &create.sequence {
                    self.created(relation, true);
                }
            }
            N::AlterSeqStmt(alter) => {
                self.ddl("alters a sequence");
                if let Some(range) = &alter.sequence {
                    self.mention(range);
                }
            }
            N::CreateSchemaStmt(create) => {
                self.ddl("creates a schema");
                let name = if create.schemaname.is_empty() {
                    create.authrole.as_ref().map_or("", |role| role.rolename.as_str())
                } else {
                    create.schemaname.as_str()
                };
                if !create.schema_elts.is_empty() || self.may_be_searched(name) {
                    self.change(Change::Everything("a schema on the search path was created in this session"));
                }
                for element in &create.schema_elts {
                    let _ = self.deeper(|walk| walk.statement(element));
                }
            }
            N::CreateStatsStmt(statistics) => {
                self.ddl("creates statistics");
                for relation in &statistics.relations {
                    if let Some(N::RangeVar(range)) = &relation.node {
                        self.mention(range);
                    }
                }
            }
            N::CreatePublicationStmt(publication) => {
                self.ddl("changes a publication");
                self.published(&publication.pubobjects);
            }
            N::AlterPublicationStmt(publication) => {
                self.ddl("changes a publication");
                self.published(&publication.pubobjects);
            }
            N::CreateEnumStmt(create) => {
                self.ddl("creates a type");
                self.change_type(&create.type_name);
            }
            N::AlterEnumStmt(_) => self.ddl("alters a type"),
            N::CompositeTypeStmt(create) => {
                self.ddl("creates a type");
                if let Some(range) = &create.typevar {
                    self.change(Change::Type(range.relname.clone()));
                    if self.makes_temporary(&range.schemaname) {
                        self.change(Change::TemporaryType(range.relname.clone()));
                    }
                }
            }
            N::CreateDomainStmt(create) => {
                self.ddl("creates a domain");
                self.change_type(&create.domainname);
            }
            N::DefineStmt(define) => {
                self.ddl("changes the schema");
                match ObjectType::try_from(define.kind) {
                    Ok(ObjectType::ObjectAggregate) => self.change_named(&define.defnames, Change::Function),
                    Ok(ObjectType::ObjectCollation) => {}
                    _ => self.change(Change::Everything(SHAPE)),
                }
            }
            N::GrantStmt(grant) => self.grant(grant),
            N::AlterOwnerStmt(alter) => {
                self.dcl("changes ownership");
                if let Some(range) = &alter.relation {
                    self.mention(range);
                }
                self.object(alter.object.as_deref());
            }
            N::SecLabelStmt(label) => {
                self.dcl("changes labels");
                self.object(label.object.as_deref());
            }
            N::DropOwnedStmt(_) | N::ReassignOwnedStmt(_) => {
                self.dcl("changes ownership");
                self.change(Change::Everything(SHAPE));
            }
            N::GrantRoleStmt(_) | N::AlterDefaultPrivilegesStmt(_) => self.dcl("changes privileges"),
            N::CreateRoleStmt(_) | N::AlterRoleStmt(_) | N::AlterRoleSetStmt(_) | N::DropRoleStmt(_) => self.dcl("changes roles"),
            N::AlterSystemStmt(_) | N::AlterDatabaseSetStmt(_) | N::LoadStmt(_) => self.dcl("changes the server"),
            N::CreateUserMappingStmt(_) | N::AlterUserMappingStmt(_) | N::DropUserMappingStmt(_) => self.dcl("changes user mappings"),
            N::CreateSubscriptionStmt(_) | N::AlterSubscriptionStmt(_) | N::DropSubscriptionStmt(_) => self.dcl("changes subscriptions"),
            N::CreateTableSpaceStmt(_)
            | N::DropTableSpaceStmt(_)
            | N::AlterTableSpaceOptionsStmt(_)
            | N::AlterTableMoveAllStmt(_)
            | N::CreateFdwStmt(_)
            | N::AlterFdwStmt(_)
            | N::CreateForeignServerStmt(_)
            | N::AlterForeignServerStmt(_)
            | N::AlterCollationStmt(_)
            | N::AlterStatsStmt(_)
            | N::AlterObjectDependsStmt(_)
            | N::CreatedbStmt(_)
            | N::AlterDatabaseStmt(_)
            | N::AlterDatabaseRefreshCollStmt(_)
            | N::DropdbStmt(_)
            | N::CreateConversionStmt(_)
            | N::AlterTsdictionaryStmt(_)
            | N::AlterTsconfigurationStmt(_)
            | N::ReplicaIdentityStmt(_) => self.ddl("changes the schema"),
            N::AlterDomainStmt(alter) => {
                self.ddl("changes the schema");
                self.checks_values(alter);
                self.change(Change::Everything(SHAPE));
            }
            N::CreateExtensionStmt(_)
            | N::AlterExtensionStmt(_)
            | N::AlterExtensionContentsStmt(_)
            | N::ImportForeignSchemaStmt(_)
            | N::CreateAmStmt(_)
            | N::CreateEventTrigStmt(_)
            | N::AlterEventTrigStmt(_)
            | N::CreatePlangStmt(_)
            | N::CreateOpClassStmt(_)
            | N::CreateOpFamilyStmt(_)
            | N::AlterOpFamilyStmt(_)
            | N::AlterOperatorStmt(_)
            | N::AlterTypeStmt(_)
            | N::CreateRangeStmt(_)
            | N::CreateCastStmt(_)
            | N::CreateTransformStmt(_) => {
                self.ddl("changes the schema");
                self.change(Change::Everything(SHAPE));
            }
            other => {
                let name = variant(other);
                self.unknown(|| format!("statement {name} is not on the list of known ones"));
            }
        }
    }

    /// VACUUM, ANALYZE, CLUSTER, REINDEX: they evaluate index expressions and sample values.
    fn maintains(&mut self, relation: Option<&RangeVar>) {
        self.raise(StatementKind::Utility, || "maintains the database".to_owned());
        let Some(range) = relation else { return };
        for relation in self.resolve(range) {
            self.reads.insert(relation.oid, Reach::Named);
            self.maintenance(relation);
        }
    }

    /// VACUUM and kin without a table: all there are.
    fn maintains_all(&mut self) {
        self.maintains(None);
        let catalog = self.catalog;
        for relation in catalog.relations() {
            self.maintenance(relation);
        }
    }

    fn create_table(&mut self, create: &CreateStmt) {
        self.ddl("creates a table");
        let mut plain = create.of_typename.is_none();
        for element in create.table_elts.iter().chain(&create.constraints) {
            match &element.node {
                Some(NodeEnum::TableLikeClause(like)) => {
                    plain &= like.options == 0;
                    if let Some(range) = &like.relation {
                        self.mention(range);
                    }
                }
                Some(NodeEnum::ColumnDef(column)) => plain &= self.is_plain_column(column),
                Some(NodeEnum::Constraint(_)) => plain &= self.is_plain_constraint(element),
                _ => plain = false,
            }
        }
        for parent in &create.inh_relations {
            if let Some(NodeEnum::RangeVar(range)) = &parent.node {
                self.mention(range);
                // Its rows are rows of the parent from now on; a plain one brings nothing with it that the parent does not have.
                if !plain || create.partspec.is_some() {
                    self.change(Change::Relation(truncate(&range.relname).to_owned()));
                }
            }
        }
        plain &= create.inh_relations.is_empty() && create.partbound.is_none();
        let Some(range) = &create.relation else { return };
        let exists = create.if_not_exists && !self.candidates(range).is_empty();
        if !exists {
            self.created(range, plain);
        }
    }

    /// A column that runs nothing but harmless functions of the server.
    pub(super) fn is_plain_column(&mut self, column: &ColumnDef) -> bool {
        let builtin = column.type_name.as_ref().and_then(|name| strings(&name.names)).is_some_and(|names| match names.as_slice() {
            [name] => crate::builtin::is_type(name) || matches!(*name, "serial" | "bigserial" | "smallserial" | "serial4" | "serial8"),
            ["pg_catalog", _] => true,
            _ => false,
        });
        builtin
            && column.raw_default.as_deref().is_none_or(|value| self.is_plain_value(value))
            && column.constraints.iter().all(|constraint| self.is_plain_constraint(constraint))
    }

    pub(super) fn is_plain_constraint(&mut self, node: &Node) -> bool {
        let Some(NodeEnum::Constraint(constraint)) = &node.node else { return false };
        if let Some(range) = &constraint.pktable {
            self.mention(range);
        }
        !matches!(ConstrType::try_from(constraint.contype), Ok(ConstrType::ConstrExclusion) | Err(_))
            && constraint.raw_expr.as_deref().is_none_or(|value| self.is_plain_value(value))
    }

    /// An expression that calls nothing but harmless functions of the server.
    fn is_plain_value(&self, value: &Node) -> bool {
        let mut inner = self.within(self.interest);
        let source = Source::Items(super::Items::default());
        let scope =
            Scope { ranges: vec![Range { alias: String::new(), schema: None, source }], hidden: Vec::new(), parent: None, merged: false };
        let _ = inner.expression(value, &scope);
        inner.kind <= StatementKind::Write && inner.calls.is_empty() && inner.operators.is_empty()
    }

    fn index(&mut self, index: &IndexStmt) {
        self.ddl("creates an index");
        let Some(range) = &index.relation else { return };
        self.mention(range);
        let computed =
            index.index_params.iter().any(|param| matches!(&param.node, Some(NodeEnum::IndexElem(element)) if element.expr.is_some()));
        if computed || index.where_clause.is_some() {
            self.indexes_rows(range, index);
            self.change(Change::Relation(range.relname.clone()));
        }
    }

    fn drop_objects(&mut self, drop: &DropStmt) {
        use ObjectType as O;
        let kind = ObjectType::try_from(drop.remove_type);
        if kind == Ok(O::ObjectPolicy) {
            self.dcl("drops row security");
        } else {
            self.ddl("drops objects");
        }
        for object in &drop.objects {
            match kind {
                Ok(O::ObjectTable | O::ObjectView | O::ObjectMatview | O::ObjectForeignTable | O::ObjectSequence) => {
                    if let Some(range) = list_range(object) {
                        self.mention(&range);
                        match self.candidates(&range).as_slice() {
                            [one] if one.kind == 'r' && one.children.is_empty() => {
                                self.change(Change::Dropped(RelationName { schema: one.schema.clone(), name: one.name.clone() }));
                            }
                            [] if drop.missing_ok && self.state.changes.created(&range.schemaname, &range.relname).next().is_none() => {}
                            _ => self.change(Change::Relation(range.relname)),
                        }
                    }
                }
                // The last name is that of the policy, rule or trigger, those before it name the relation.
                Ok(O::ObjectPolicy | O::ObjectRule | O::ObjectTrigger) => {
                    if let Some(NodeEnum::List(list)) = &object.node
                        && let Some((_, relation)) = list.items.split_last()
                        && let Some(range) = names_range(relation)
                    {
                        if kind == Ok(O::ObjectTrigger) {
                            self.alters_writing(Some(&range));
                        } else {
                            self.alters(Some(&range));
                        }
                    }
                }
                Ok(O::ObjectIndex | O::ObjectStatisticExt | O::ObjectPublication | O::ObjectCollation) => {}
                _ => self.change_by_kind(drop.remove_type, Some(object)),
            }
        }
    }

    fn rename(&mut self, rename: &RenameStmt) {
        use ObjectType as O;
        if ObjectType::try_from(rename.rename_type) == Ok(O::ObjectRole) {
            self.dcl("changes roles");
            return;
        }
        self.ddl("renames an object");
        match (&rename.relation, ObjectType::try_from(rename.rename_type)) {
            (_, Ok(O::ObjectIndex | O::ObjectTabconstraint)) => {}
            (Some(range), _) => {
                self.mention(range);
                self.unmasks(range);
                self.change(Change::Relation(range.relname.clone()));
                self.change(Change::Relation(rename.newname.clone()));
                self.change(Change::Type(range.relname.clone()));
                self.change(Change::Type(rename.newname.clone()));
                if self.state.temporary {
                    self.change(Change::TemporaryType(rename.newname.clone()));
                }
            }
            (None, Ok(O::ObjectSchema)) => {
                let catalog = self.catalog;
                if let Interest::Protected(protection) = self.interest
                    && catalog.relations().any(|relation| relation.schema == rename.subname && protection.touches(relation.oid))
                {
                    self.uncovers();
                }
                self.change_by_kind(rename.rename_type, rename.object.as_deref());
            }
            (None, Ok(O::ObjectFunction | O::ObjectProcedure | O::ObjectRoutine | O::ObjectAggregate)) => {
                self.change(Change::Function(rename.newname.clone()));
                self.change_by_kind(rename.rename_type, rename.object.as_deref());
            }
            _ => self.change(Change::Everything(SHAPE)),
        }
    }

    fn grant(&mut self, grant: &GrantStmt) {
        self.dcl("changes privileges");
        match ObjectType::try_from(grant.objtype) {
            Ok(ObjectType::ObjectTable | ObjectType::ObjectSequence | ObjectType::ObjectColumn) => {
                for object in &grant.objects {
                    if let Some(NodeEnum::RangeVar(range)) = &object.node {
                        self.mention(range);
                    }
                }
            }
            // Who may use a schema decides whether it is searched.
            Ok(ObjectType::ObjectSchema) => self.change(Change::Everything(SHAPE)),
            _ => {}
        }
    }

    fn published(&mut self, objects: &[Node]) {
        for object in objects {
            if let Some(NodeEnum::PublicationObjSpec(object)) = &object.node
                && let Some(table) = object.pubtable.as_deref()
                && let Some(range) = table.relation.as_ref()
            {
                self.mention(range);
                self.decides_rows(Some(range), &table.where_clause.as_deref().into_iter().collect::<Vec<_>>());
            }
        }
    }

    /// A relation that a change of the schema is about: for rules on relations. That it is not known makes nothing worse.
    pub(super) fn mention(&mut self, range: &RangeVar) {
        let found = self.candidates(range);
        if found.is_empty() {
            let schema = if range.schemaname.is_empty() { self.creation_schema() } else { range.schemaname.clone() };
            self.unresolved.insert(RelationName { schema, name: range.relname.clone() });
        }
        for relation in found {
            self.writes.insert(relation.oid, Reach::Named);
        }
    }

    /// A relation gets another name, or leaves what its masks come from: where they name it, they would no longer find it.
    pub(super) fn unmasks(&mut self, range: &RangeVar) {
        let Interest::Protected(protection) = self.interest else { return };
        if self.candidates(range).iter().any(|relation| protection.touches(relation.oid)) {
            self.uncovers();
        }
    }

    /// The rows of a table are put in the order of an index.
    fn sorts_stored(&mut self, range: &RangeVar) {
        let Interest::Protected(protection) = self.interest else { return };
        if self.candidates(range).iter().any(|relation| protection.touches(relation.oid)) {
            self.exposed.get_or_insert_with(|| "rows may be put in the order of a protected column".to_owned());
        }
    }

    fn uncovers(&mut self) {
        self.exposed.get_or_insert_with(|| "a mask would no longer find the columns that it names".to_owned());
    }

    /// An object named by a node of its own: a relation, or a list of names that may be one.
    fn object(&mut self, object: Option<&Node>) {
        let range = match object.and_then(|object| object.node.as_ref()) {
            Some(NodeEnum::RangeVar(range)) => Some(range.clone()),
            Some(NodeEnum::List(list)) => names_range(&list.items).filter(|range| !self.candidates(range).is_empty()).or_else(|| {
                // The last name may be that of a column, constraint or trigger.
                let (_, relation) = list.items.split_last()?;
                names_range(relation).filter(|range| !self.candidates(range).is_empty())
            }),
            _ => None,
        };
        if let Some(range) = range {
            self.mention(&range);
        }
    }

    pub(super) fn change(&mut self, change: Change) {
        self.effects.push(Effect::Changed(change));
    }

    fn change_named(&mut self, names: &[Node], change: impl FnOnce(String) -> Change) {
        match strings(names).and_then(|names| names.last().map(|name| truncate(name).to_owned())) {
            Some(name) => self.change(change(name)),
            None => self.change(Change::Everything(SHAPE)),
        }
    }

    /// A type is made or changed; where it may be a temporary one, for as long as the session lasts.
    fn change_type(&mut self, names: &[Node]) {
        self.change_named(names, Change::Type);
        let schema = match strings(names).as_deref() {
            Some([.., schema, _]) => (*schema).to_owned(),
            _ => String::new(),
        };
        if self.makes_temporary(&schema) {
            self.change_named(names, Change::TemporaryType);
        }
    }

    /// Whether what is made in a schema, or without one named, may be temporary.
    pub(super) fn makes_temporary(&self, schema: &str) -> bool {
        let looked_in = || self.state.path_unknown || self.state.paths.iter().any(SearchPath::names_temporary);
        schema.starts_with("pg_temp") || (schema.is_empty() && looked_in())
    }

    fn change_by_kind(&mut self, kind: i32, object: Option<&Node>) {
        use ObjectType as O;
        let names: &[Node] = match object.and_then(|object| object.node.as_ref()) {
            Some(NodeEnum::ObjectWithArgs(function)) => &function.objname,
            Some(NodeEnum::TypeName(name)) => &name.names,
            Some(NodeEnum::List(list)) => &list.items,
            _ => &[],
        };
        match ObjectType::try_from(kind) {
            Ok(O::ObjectFunction | O::ObjectProcedure | O::ObjectRoutine | O::ObjectAggregate) => {
                self.change_named(names, Change::Function)
            }
            Ok(O::ObjectType | O::ObjectDomain) => self.change_type(names),
            _ => self.change(Change::Everything(SHAPE)),
        }
    }

    /// Whether some search path would look into a schema of that name.
    fn may_be_searched(&self, name: &str) -> bool {
        self.state.path_unknown || self.catalog.path_names(name) || self.state.paths.iter().any(|path| path.names(name))
    }

    pub(super) fn ddl(&mut self, what: &str) {
        self.raise(StatementKind::Ddl, || what.to_owned());
        self.action = SessionAction::CatalogChange;
    }

    pub(super) fn dcl(&mut self, what: &str) {
        self.raise(StatementKind::Dcl, || what.to_owned());
        self.action = SessionAction::CatalogChange;
    }
}

/// `AccessShareLock` of the server's lock modes.
const ACCESS_SHARE: i32 = 1;

pub(super) const SHAPE: &str = "the session changed types, operators or schemas, and the catalog does not show it yet";

fn list_range(object: &Node) -> Option<RangeVar> {
    match &object.node {
        Some(NodeEnum::List(list)) => names_range(&list.items),
        _ => None,
    }
}

fn names_range(names: &[Node]) -> Option<RangeVar> {
    match strings(names)?.as_slice() {
        [name] => Some(RangeVar { relname: (*name).to_owned(), ..RangeVar::default() }),
        [.., schema, name] => Some(RangeVar { schemaname: (*schema).to_owned(), relname: (*name).to_owned(), ..RangeVar::default() }),
        [] => None,
    }
}
