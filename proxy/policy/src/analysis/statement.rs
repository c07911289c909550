//! Whole statements: one arm per node kind, unknown by default.

use pg_query::protobuf::{ExplainStmt, ObjectType, TransactionStmt, TransactionStmtKind};
use pg_query::{Node, NodeEnum};

use super::expression::variant;
use super::{Items, Scope, Walk, arc, strings};
use crate::StatementKind;
use crate::decision::Effect;
use crate::facts::SessionAction;

impl<'a> Walk<'a> {
    pub(super) fn statement(&mut self, node: &Node) {
        let Some(inner) = &node.node else { return };
        match inner {
            NodeEnum::SelectStmt(select) => {
                self.limit = literal_limit(select.limit_count.as_deref());
                self.result(node);
            }
            NodeEnum::InsertStmt(insert) => {
                self.result_if(node, insert.returning_clause.is_some());
            }
            NodeEnum::UpdateStmt(update) => {
                self.result_if(node, update.returning_clause.is_some());
            }
            NodeEnum::DeleteStmt(delete) => {
                self.result_if(node, delete.returning_clause.is_some());
            }
            NodeEnum::MergeStmt(merge) => {
                self.result_if(node, merge.returning_clause.is_some());
            }
            NodeEnum::TransactionStmt(transaction) => self.transaction(transaction),
            NodeEnum::VariableSetStmt(set) => self.variable_set(set),
            NodeEnum::VariableShowStmt(show) => {
                self.raise(StatementKind::Session, || format!("shows {}", show.name));
            }
            NodeEnum::DiscardStmt(discard) => self.discard(discard),
            NodeEnum::DeallocateStmt(deallocate) => {
                self.raise(StatementKind::Session, || "forgets a prepared statement".to_owned());
                self.action =
                    if deallocate.isall { SessionAction::DeallocateAll } else { SessionAction::Deallocate(deallocate.name.clone()) };
            }
            NodeEnum::PrepareStmt(prepare) => {
                for argument in &prepare.argtypes {
                    if let Some(NodeEnum::TypeName(name)) = &argument.node {
                        self.type_name(name);
                    }
                }
                self.held_back(prepare.query.as_deref(), |node| Effect::Prepare(prepare.name.clone(), node));
            }
            NodeEnum::DeclareCursorStmt(declare) => {
                self.held_back(declare.query.as_deref(), |node| Effect::Declare(declare.portalname.clone(), node));
            }
            NodeEnum::ExecuteStmt(execute) => {
                let scope = Scope { ranges: Vec::new(), parent: None, merged: false };
                let lineage = self.expressions(&execute.params, &scope);
                self.expose(&lineage, "a protected column is a parameter");
                let nodes = self.state.prepared(&execute.name).map(<[_]>::to_vec);
                self.remembered(nodes, &execute.name, "prepared statement");
            }
            NodeEnum::FetchStmt(fetch) => {
                let nodes = self.state.cursor(&fetch.portalname).map(<[_]>::to_vec);
                self.remembered(nodes, &fetch.portalname, "cursor");
                if fetch.ismove {
                    self.outputs = None;
                }
            }
            NodeEnum::ClosePortalStmt(_) => self.raise(StatementKind::Session, || "closes a cursor".to_owned()),
            NodeEnum::ExplainStmt(explain) => self.explain(explain),
            NodeEnum::CopyStmt(copy) => self.copy(copy),
            NodeEnum::CreateTableAsStmt(create) => self.create_table_as(create),
            NodeEnum::ViewStmt(view) => {
                self.ddl("creates a view");
                if let Some(query) = view.query.as_deref() {
                    self.query(query, None);
                }
                if let Some(relation) = &view.view {
                    self.created(relation);
                }
                self.ddl("creates a view");
            }
            NodeEnum::ListenStmt(_) | NodeEnum::UnlistenStmt(_) => {
                self.raise(StatementKind::Session, || "listens for notifications".to_owned())
            }
            NodeEnum::NotifyStmt(_) => self.raise(StatementKind::Write, || "sends a notification".to_owned()),
            NodeEnum::ConstraintsSetStmt(_) => self.raise(StatementKind::Session, || "sets when constraints are checked".to_owned()),
            NodeEnum::DoStmt(_) => self.raise(StatementKind::Procedural, || "runs a code block".to_owned()),
            NodeEnum::CallStmt(call) => {
                self.raise(StatementKind::Procedural, || "calls a procedure".to_owned());
                let scope = Scope { ranges: Vec::new(), parent: None, merged: false };
                if let Some(call) = call.funccall.as_deref() {
                    let lineage = self.call(call, &scope);
                    self.expose(&lineage, "a protected column is handed to a procedure");
                }
                self.opaque = true;
            }
            other => self.utility(other),
        }
    }

    fn utility(&mut self, node: &NodeEnum) {
        use NodeEnum as N;
        match node {
            N::VacuumStmt(_) | N::ClusterStmt(_) | N::CheckPointStmt(_) | N::ReindexStmt(_) => {
                self.raise(StatementKind::Utility, || "maintains the database".to_owned())
            }
            N::LockStmt(lock) => {
                self.raise(StatementKind::Utility, || "locks a table".to_owned());
                for relation in &lock.relations {
                    self.touch(relation);
                }
                self.kind = self.kind.max(StatementKind::Utility);
            }
            N::RefreshMatViewStmt(refresh) => {
                self.raise(StatementKind::Write, || "refreshes a materialized view".to_owned());
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
            N::CreateStmt(create) => {
                self.ddl("creates a table");
                if let Some(relation) = &create.relation {
                    self.created(relation);
                }
                for element in &create.table_elts {
                    if let Some(N::TableLikeClause(like)) = &element.node
                        && let Some(range) = &like.relation
                    {
                        for relation in self.resolve(range) {
                            self.read(relation);
                        }
                    }
                }
            }
            N::CommentStmt(comment) => {
                self.ddl("comments on an object");
                let _ = comment;
            }
            N::AlterOwnerStmt(_) | N::DropOwnedStmt(_) | N::ReassignOwnedStmt(_) => self.dcl("changes ownership"),
            N::GrantStmt(_) | N::GrantRoleStmt(_) | N::AlterDefaultPrivilegesStmt(_) => self.dcl("changes privileges"),
            N::CreateRoleStmt(_) | N::AlterRoleStmt(_) | N::AlterRoleSetStmt(_) | N::DropRoleStmt(_) => self.dcl("changes roles"),
            N::CreatePolicyStmt(_) | N::AlterPolicyStmt(_) | N::SecLabelStmt(_) => self.dcl("changes row security or labels"),
            N::AlterSystemStmt(_) | N::AlterDatabaseSetStmt(_) | N::LoadStmt(_) => self.dcl("changes the server"),
            N::CreateUserMappingStmt(_) | N::AlterUserMappingStmt(_) | N::DropUserMappingStmt(_) => self.dcl("changes user mappings"),
            N::CreateSubscriptionStmt(_) | N::AlterSubscriptionStmt(_) | N::DropSubscriptionStmt(_) => self.dcl("changes subscriptions"),
            N::DropStmt(drop) => {
                if ObjectType::try_from(drop.remove_type) == Ok(ObjectType::ObjectPolicy) {
                    self.dcl("drops row security");
                } else {
                    self.ddl("drops objects");
                    self.dropped(drop);
                }
            }
            N::AlterTableStmt(alter) => {
                self.ddl("alters a table");
                if let Some(range) = &alter.relation
                    && matches!(
                        ObjectType::try_from(alter.objtype),
                        Ok(ObjectType::ObjectTable | ObjectType::ObjectView | ObjectType::ObjectMatview | ObjectType::ObjectForeignTable)
                    )
                    && !alter.missing_ok
                {
                    for relation in self.resolve(range) {
                        self.write(relation);
                    }
                    self.kind = self.kind.max(StatementKind::Ddl);
                }
            }
            N::CreateSchemaStmt(_)
            | N::CreateTableSpaceStmt(_)
            | N::DropTableSpaceStmt(_)
            | N::AlterTableSpaceOptionsStmt(_)
            | N::AlterTableMoveAllStmt(_)
            | N::CreateExtensionStmt(_)
            | N::AlterExtensionStmt(_)
            | N::AlterExtensionContentsStmt(_)
            | N::CreateFdwStmt(_)
            | N::AlterFdwStmt(_)
            | N::CreateForeignServerStmt(_)
            | N::AlterForeignServerStmt(_)
            | N::CreateForeignTableStmt(_)
            | N::ImportForeignSchemaStmt(_)
            | N::CreateAmStmt(_)
            | N::CreateTrigStmt(_)
            | N::CreateEventTrigStmt(_)
            | N::AlterEventTrigStmt(_)
            | N::CreatePlangStmt(_)
            | N::CreateSeqStmt(_)
            | N::AlterSeqStmt(_)
            | N::DefineStmt(_)
            | N::CreateDomainStmt(_)
            | N::AlterDomainStmt(_)
            | N::AlterCollationStmt(_)
            | N::CreateOpClassStmt(_)
            | N::CreateOpFamilyStmt(_)
            | N::AlterOpFamilyStmt(_)
            | N::IndexStmt(_)
            | N::CreateStatsStmt(_)
            | N::AlterStatsStmt(_)
            | N::CreateFunctionStmt(_)
            | N::AlterFunctionStmt(_)
            | N::RenameStmt(_)
            | N::AlterObjectDependsStmt(_)
            | N::AlterObjectSchemaStmt(_)
            | N::AlterOperatorStmt(_)
            | N::AlterTypeStmt(_)
            | N::RuleStmt(_)
            | N::CompositeTypeStmt(_)
            | N::CreateEnumStmt(_)
            | N::CreateRangeStmt(_)
            | N::AlterEnumStmt(_)
            | N::CreatedbStmt(_)
            | N::AlterDatabaseStmt(_)
            | N::AlterDatabaseRefreshCollStmt(_)
            | N::DropdbStmt(_)
            | N::CreateConversionStmt(_)
            | N::CreateCastStmt(_)
            | N::CreateTransformStmt(_)
            | N::AlterTsdictionaryStmt(_)
            | N::AlterTsconfigurationStmt(_)
            | N::CreatePublicationStmt(_)
            | N::AlterPublicationStmt(_)
            | N::ReplicaIdentityStmt(_) => self.ddl("changes the schema"),
            other => {
                let name = variant(other);
                self.unknown(|| format!("statement {name} is not on the list of known ones"));
            }
        }
    }

    fn dropped(&mut self, drop: &pg_query::protobuf::DropStmt) {
        if !matches!(
            ObjectType::try_from(drop.remove_type),
            Ok(ObjectType::ObjectTable | ObjectType::ObjectView | ObjectType::ObjectMatview | ObjectType::ObjectForeignTable)
        ) {
            return;
        }
        for object in &drop.objects {
            if let Some(NodeEnum::List(names)) = &object.node
                && let Some(names) = strings(&names.items)
            {
                let (schema, name) = match names.as_slice() {
                    [name] => ("", *name),
                    [.., schema, name] => (*schema, *name),
                    [] => continue,
                };
                let schema = if schema.is_empty() { self.creation_schema() } else { schema.to_owned() };
                self.unresolved.insert(crate::facts::RelationName { schema, name: name.to_owned() });
            }
        }
    }

    fn touch(&mut self, node: &Node) {
        if let Some(NodeEnum::RangeVar(range)) = &node.node {
            for relation in self.resolve(range) {
                self.read(relation);
            }
        }
    }

    fn ddl(&mut self, what: &str) {
        self.raise(StatementKind::Ddl, || what.to_owned());
        self.action = SessionAction::CatalogChange;
    }

    pub(super) fn dcl(&mut self, what: &str) {
        self.raise(StatementKind::Dcl, || what.to_owned());
        self.action = SessionAction::CatalogChange;
    }

    fn result(&mut self, node: &Node) {
        let items = self.query(node, None);
        self.outputs = Some(items);
    }

    fn result_if(&mut self, node: &Node, has_result: bool) {
        let items = self.query(node, None);
        self.outputs = has_result.then_some(items);
    }

    /// PREPARE and DECLARE CURSOR: judged as what they will run.
    fn held_back(&mut self, query: Option<&Node>, effect: impl FnOnce(std::sync::Arc<Node>) -> Effect) {
        let Some(query) = query else {
            self.unknown(|| "nothing is prepared".to_owned());
            return;
        };
        self.raise(StatementKind::Read, || "judged as what it will run".to_owned());
        let _ = self.deeper(|walk| walk.statement(query));
        self.outputs = None;
        self.effects.push(effect(arc(query)));
    }

    /// EXECUTE and FETCH: judged as whatever the name may mean by now.
    fn remembered(&mut self, nodes: Option<Vec<std::sync::Arc<Node>>>, name: &str, what: &str) {
        match nodes {
            Some(nodes) if !nodes.is_empty() => {
                let several = nodes.len() > 1;
                for node in nodes {
                    let _ = self.deeper(|walk| walk.statement(&node));
                }
                if several {
                    self.outputs = Some(Items::default());
                }
            }
            _ => {
                self.opaque = true;
                self.outputs = Some(Items::default());
                self.unknown(|| format!("{what} {name} is not known to the proxy"));
            }
        }
    }

    fn explain(&mut self, explain: &ExplainStmt) {
        let analyze = explain.options.iter().any(|option| matches!(&option.node, Some(NodeEnum::DefElem(option)) if option.defname == "analyze" && !is_false(option.arg.as_deref())));
        let Some(query) = explain.query.as_deref() else {
            self.unknown(|| "nothing is explained".to_owned());
            return;
        };
        if analyze {
            let _ = self.deeper(|walk| walk.statement(query));
        } else {
            // Planning runs immutable functions, so what is called counts; what would be written does not.
            let outer = self.kind;
            let action = self.action.clone();
            let mut inner = Walk::new(self.catalog, self.state, self.interest);
            inner.depth = self.depth + 1;
            inner.statement(query);
            self.reads.extend(inner.reads);
            self.reads.extend(inner.writes);
            self.unresolved.extend(inner.unresolved);
            self.calls.extend(inner.calls);
            self.operators.extend(inner.operators);
            self.types.extend(inner.types);
            self.notes.extend(inner.notes);
            self.has_cast |= inner.has_cast;
            self.stale |= inner.stale;
            self.opaque |= inner.opaque;
            self.exposed = self.exposed.take().or(inner.exposed);
            let plain = matches!(
                inner.kind,
                StatementKind::Write | StatementKind::Ddl | StatementKind::Session | StatementKind::Transaction | StatementKind::Empty
            );
            self.kind = outer.max(if plain && !inner.builtin_calls.iter().any(|name| crate::builtin::harm(name).is_some()) {
                StatementKind::Read
            } else {
                inner.kind
            });
            self.action = action;
        }
        self.kind = self.kind.max(StatementKind::Read);
        self.missing_where = false;
        // A plan shows constants folded from what functions returned.
        let lineage = super::Lineage { opaque: self.opaque, ..super::Lineage::default() };
        self.outputs = Some(Items { columns: vec![super::Item { name: "QUERY PLAN".to_owned(), lineage }], complete: true });
    }

    fn create_table_as(&mut self, create: &pg_query::protobuf::CreateTableAsStmt) {
        self.ddl("creates a table from a query");
        if let Some(query) = create.query.as_deref() {
            let _ = self.deeper(|walk| walk.statement(query));
            let items = self.outputs.take().unwrap_or_default();
            self.into(create.into.as_deref(), &items);
        }
        self.ddl("creates a table from a query");
    }

    fn transaction(&mut self, transaction: &TransactionStmt) {
        use TransactionStmtKind as K;
        self.kind = self.kind.max(StatementKind::Transaction);
        match TransactionStmtKind::try_from(transaction.kind) {
            Ok(K::TransStmtBegin | K::TransStmtStart) => {
                self.transaction_modes(&transaction.options, StatementKind::Write);
            }
            Ok(K::TransStmtSavepoint | K::TransStmtRelease | K::TransStmtRollbackTo) => {}
            Ok(K::TransStmtCommit) => self.action = SessionAction::Commit,
            Ok(K::TransStmtRollback) => self.action = SessionAction::Rollback,
            Ok(K::TransStmtPrepare | K::TransStmtCommitPrepared) => {
                self.raise(StatementKind::Utility, || "a two-phase commit".to_owned());
                self.action = SessionAction::Commit;
            }
            Ok(K::TransStmtRollbackPrepared) => self.raise(StatementKind::Utility, || "a two-phase commit".to_owned()),
            Ok(K::Undefined) | Err(_) => self.unknown(|| "a transaction statement that is not on the list".to_owned()),
        }
    }
}

fn is_false(argument: Option<&Node>) -> bool {
    match argument.and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::Boolean(value)) => !value.boolval,
        Some(NodeEnum::Integer(value)) => value.ival == 0,
        Some(NodeEnum::String(value)) => ["false", "off", "0"].contains(&value.sval.to_ascii_lowercase().as_str()),
        _ => false,
    }
}

fn literal_limit(node: Option<&Node>) -> Option<u64> {
    match node?.node.as_ref()? {
        NodeEnum::AConst(value) => match value.val.as_ref()? {
            pg_query::protobuf::a_const::Val::Ival(number) => u64::try_from(number.ival).ok(),
            _ => None,
        },
        _ => None,
    }
}
