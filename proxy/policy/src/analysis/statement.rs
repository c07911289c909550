//! Whole statements: one arm per node kind, unknown by default.

use pg_query::protobuf::{ExplainStmt, LimitOption, PrepareStmt, TransactionStmt, TransactionStmtKind};
use pg_query::{Node, NodeEnum};

use super::{Items, Scope, Walk};
use crate::StatementKind;
use crate::decision::{Effect, Written};
use crate::facts::SessionAction;
use crate::state::Remembered;
use crate::state::changes::Change;

const CODE: &str = "a code block or procedure ran in this transaction, and may have changed what names mean";

impl<'a> Walk<'a> {
    pub(super) fn statement(&mut self, node: &Node) {
        let Some(inner) = &node.node else { return };
        match inner {
            NodeEnum::SelectStmt(select) => {
                // WITH TIES gives as many as are alike.
                let ties = LimitOption::try_from(select.limit_option) == Ok(LimitOption::WithTies);
                self.limit = literal_limit(select.limit_count.as_deref()).filter(|_| !ties);
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
                self.shows_setting(Some(show.name.as_str()).filter(|name| *name != "all"));
                self.raise(StatementKind::Session, || format!("shows {}", show.name));
            }
            NodeEnum::DiscardStmt(discard) => self.discard(discard),
            NodeEnum::DeallocateStmt(deallocate) => {
                self.raise(StatementKind::Session, || "forgets a prepared statement".to_owned());
                self.action =
                    if deallocate.isall { SessionAction::DeallocateAll } else { SessionAction::Deallocate(deallocate.name.clone()) };
            }
            NodeEnum::PrepareStmt(prepare) => {
                self.argument_types(prepare);
                self.held_back(prepare.query.as_deref(), Effect::Prepare(prepare.name.clone(), Written::default()));
            }
            NodeEnum::DeclareCursorStmt(declare) => {
                self.held_back(declare.query.as_deref(), Effect::Declare(declare.portalname.clone(), Written::default()));
                self.action = SessionAction::Cursor(declare.portalname.clone());
            }
            NodeEnum::ExecuteStmt(execute) => {
                let scope = Scope { ranges: Vec::new(), hidden: Vec::new(), parent: None, merged: false };
                let lineage = self.expressions(&execute.params, &scope);
                self.expose(&lineage, "a protected column is a parameter");
                self.remembered(self.state.prepared(&execute.name), &execute.name, "prepared statement", true);
            }
            NodeEnum::FetchStmt(fetch) => {
                self.remembered(self.state.cursor(&fetch.portalname), &fetch.portalname, "cursor", false);
                if fetch.ismove {
                    self.outputs = None;
                }
            }
            NodeEnum::ClosePortalStmt(close) => {
                if !close.portalname.is_empty() {
                    self.action = SessionAction::Cursor(close.portalname.clone());
                }
                self.raise(StatementKind::Session, || "closes a cursor".to_owned());
            }
            NodeEnum::ExplainStmt(explain) => self.explain(explain),
            NodeEnum::CopyStmt(copy) => self.copy(copy),
            NodeEnum::CreateTableAsStmt(create) => self.create_table_as(create),
            NodeEnum::ViewStmt(view) => {
                self.ddl("creates a view");
                if let Some(query) = view.query.as_deref() {
                    self.query(query, None);
                }
                if let Some(relation) = &view.view {
                    self.created(relation, false);
                }
                self.ddl("creates a view");
            }
            NodeEnum::ListenStmt(_) | NodeEnum::UnlistenStmt(_) => {
                self.raise(StatementKind::Session, || "listens for notifications".to_owned())
            }
            NodeEnum::NotifyStmt(_) => self.raise(StatementKind::Write, || "sends a notification".to_owned()),
            NodeEnum::ConstraintsSetStmt(_) => {
                self.raise(StatementKind::Session, || "sets when constraints are checked".to_owned());
                self.runs_deferred();
            }
            NodeEnum::DoStmt(_) => {
                self.raise(StatementKind::Procedural, || "runs a code block".to_owned());
                self.effects.push(Effect::Changed(Change::Everything(CODE)));
            }
            NodeEnum::CallStmt(call) => {
                self.raise(StatementKind::Procedural, || "calls a procedure".to_owned());
                self.effects.push(Effect::Changed(Change::Everything(CODE)));
                let scope = Scope { ranges: Vec::new(), hidden: Vec::new(), parent: None, merged: false };
                if let Some(call) = call.funccall.as_deref() {
                    let lineage = self.call(call, &scope);
                    self.expose(&lineage, "a protected column is handed to a procedure");
                }
                self.opaque = true;
            }
            other => self.utility(other),
        }
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
    fn held_back(&mut self, query: Option<&Node>, effect: Effect) {
        let Some(query) = query else {
            self.unknown(|| "nothing is prepared".to_owned());
            return;
        };
        self.raise(StatementKind::Read, || "judged as what it will run".to_owned());
        let _ = self.deeper(|walk| walk.statement(query));
        self.outputs = None;
        self.effects.push(effect);
    }

    /// EXECUTE and FETCH: judged as whatever the name may mean by now. What was prepared is read again under the search path of the
    /// day, a cursor's query was read for good when it was declared.
    fn remembered(&mut self, known: Option<&'a [Remembered]>, name: &str, what: &str, read_again: bool) {
        match known {
            Some(known) if !known.is_empty() => {
                for remembered in known {
                    self.executes.push(remembered.written.text.to_string());
                    let mut paths = super::resolved(self.catalog, self.state, &remembered.paths);
                    if read_again {
                        paths.extend(self.paths.iter().cloned());
                    }
                    let current = std::mem::replace(&mut self.paths, paths);
                    // INVARIANT: a text that went upstream was read once, so that it can be read again.
                    let statements = crate::grammar::parse(&remembered.written.text, usize::MAX).unwrap_or_default();
                    let mut meant = statements.iter().filter_map(|statement| meaning(statement.stmt.as_deref()?, name));
                    match (meant.next(), meant.next()) {
                        (Some((prepare, query)), None) => {
                            let _ = self.deeper(|walk| {
                                prepare.into_iter().for_each(|prepare| walk.argument_types(prepare));
                                walk.statement(query);
                            });
                        }
                        _ => self.unknown(|| format!("what {what} {name} runs is not to be told from other statements of its text")),
                    }
                    self.paths = current;
                }
                if known.len() > 1 {
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

    /// Values of these types are made when a prepared statement is executed.
    fn argument_types(&mut self, prepare: &PrepareStmt) {
        for argument in &prepare.argtypes {
            if let Some(NodeEnum::TypeName(name)) = &argument.node {
                self.type_name(name);
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
            if let Some(tells) = self.tells.take() {
                self.expose(&tells, "EXPLAIN ANALYZE shows how much memory what was made of a protected column takes");
            }
        } else {
            let mut inner = self.within(self.interest);
            inner.depth = self.depth + 1;
            inner.statement(query);
            self.only_planned(inner);
        }
        self.kind = self.kind.max(StatementKind::Read);
        // A plan shows constants folded from what functions returned.
        let lineage = super::Lineage { opaque: self.opaque, ..super::Lineage::default() };
        self.outputs = Some(Items { columns: vec![super::Item { name: "QUERY PLAN".to_owned(), lineage }], complete: true });
    }

    /// What was walked is planned and not run. Planning runs immutable functions, so what is called counts; what would be written does not.
    fn only_planned(&mut self, inner: Self) {
        // Every field is named, so that one more cannot be forgotten here.
        let Self {
            catalog: _,
            state: _,
            interest: _,
            paths: _,
            depth: _,
            nesting: _,
            queries: _,
            work: _,
            kind,
            notes,
            executes,
            reads,
            writes,
            unresolved,
            calls,
            builtin_calls,
            operators,
            types,
            checked,
            has_cast,
            computes,
            sorts,
            by_literal,
            columns_seen: _,
            seen,
            constant_calls,
            looked_up,
            shallow: _,
            level: _,
            refreshes: _,
            called_names,
            setting: _,
            exposed,
            operates,
            decides,
            copy_refused: _,
            copies: _,
            floor: _,
            stale,
            unpins,
            opaque,
            tells: _,
            replaced: _,
            ctes: _,
            effects,
            outputs: _,
            missing_where: _,
            limit: _,
            action: _,
        } = inner;
        let changes = matches!(
            kind,
            StatementKind::Write | StatementKind::Ddl | StatementKind::Session | StatementKind::Transaction | StatementKind::Empty
        );
        let harmful = builtin_calls.iter().any(|name| crate::builtin::harm(name).is_some());
        self.kind = self.kind.max(if changes && !harmful { StatementKind::Read } else { kind });
        self.reads.extend(reads);
        self.reads.extend(writes);
        self.unresolved.extend(unresolved);
        self.calls.extend(calls);
        self.builtin_calls.extend(builtin_calls);
        self.constant_calls.extend(constant_calls);
        self.called_names.extend(called_names);
        self.operators.extend(operators);
        self.types.extend(types);
        // Literals are made values of their types before anything is planned.
        self.checked.extend(checked);
        self.seen.extend(seen);
        self.notes.extend(notes);
        self.executes.extend(executes);
        self.has_cast |= has_cast;
        self.computes |= computes;
        self.sorts |= sorts;
        self.by_literal |= by_literal;
        self.looked_up |= looked_up;
        self.effects.extend(effects.into_iter().filter(|effect| matches!(effect, Effect::SearchPath { .. })));
        self.stale |= stale;
        self.opaque |= opaque;
        self.exposed = self.exposed.take().or(exposed);
        self.decides = self.decides.or(decides);
        self.operates |= operates;
        self.unpins = self.unpins.or(unpins);
    }

    fn create_table_as(&mut self, create: &pg_query::protobuf::CreateTableAsStmt) {
        self.ddl("creates a table from a query");
        if let Some(query) = create.query.as_deref() {
            let _ = self.deeper(|walk| walk.statement(query));
            let items = self.outputs.take().unwrap_or_default();
            let plain = pg_query::protobuf::ObjectType::try_from(create.objtype) == Ok(pg_query::protobuf::ObjectType::ObjectTable);
            self.into(create.into.as_deref(), &items, plain);
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
            Ok(K::TransStmtSavepoint | K::TransStmtRelease) => {}
            Ok(K::TransStmtRollbackTo) => self.runs_deferred(),
            Ok(K::TransStmtCommit) => {
                self.action = SessionAction::Commit;
                self.runs_deferred();
            }
            Ok(K::TransStmtRollback) => {
                self.action = SessionAction::Rollback;
                self.runs_deferred();
            }
            Ok(K::TransStmtPrepare | K::TransStmtCommitPrepared) => {
                self.raise(StatementKind::Write, || "a two-phase commit".to_owned());
                self.action = SessionAction::Commit;
                self.runs_deferred();
            }
            Ok(K::TransStmtRollbackPrepared) => self.raise(StatementKind::Write, || "a two-phase commit".to_owned()),
            Ok(K::Undefined) | Err(_) => self.unknown(|| "a transaction statement that is not on the list".to_owned()),
        }
    }

    /// What was deferred runs, triggers and the queries of cursors that stay open, or what code has set is taken back.
    fn runs_deferred(&mut self) {
        if self.state.code_ran {
            self.effects.push(Effect::SettingsUnseen);
        }
    }
}

/// What PREPARE and DECLARE give a name to.
fn meaning<'n>(node: &'n Node, name: &str) -> Option<(Option<&'n PrepareStmt>, &'n Node)> {
    match node.node.as_ref()? {
        NodeEnum::PrepareStmt(prepare) if prepare.name == name => Some((Some(prepare), prepare.query.as_deref()?)),
        NodeEnum::DeclareCursorStmt(declare) if declare.portalname == name => Some((None, declare.query.as_deref()?)),
        NodeEnum::ExplainStmt(explain) => meaning(explain.query.as_deref()?, name),
        _ => None,
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
