//! Changes of relations that exist: which of them make reading or writing the relation something else until the catalog shows it.

use pg_query::protobuf::{AlterTableStmt, AlterTableType, DropBehavior, ObjectType, RangeVar};
use pg_query::{Node, NodeEnum};

use super::Walk;
use super::ddl::SHAPE;
use crate::decision::Effect;
use crate::state::changes::Change;
use crate::state::truncate;

impl Walk<'_> {
    pub(super) fn alter_table(&mut self, alter: &AlterTableStmt) {
        self.ddl("alters a table");
        let Some(range) = &alter.relation else { return };
        self.mention(range);
        if ObjectType::try_from(alter.objtype) == Ok(ObjectType::ObjectType) {
            self.change(Change::Everything(SHAPE));
        }
        for command in &alter.cmds {
            let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { continue };
            use AlterTableType as T;
            match AlterTableType::try_from(command.subtype) {
                Ok(T::AtChangeOwner) => self.dcl("changes ownership"),
                Ok(T::AtEnableRowSecurity | T::AtDisableRowSecurity | T::AtForceRowSecurity | T::AtNoForceRowSecurity) => {
                    self.dcl("changes row security");
                    self.alters(Some(range));
                }
                Ok(T::AtAddColumn) => match command.def.as_deref().and_then(|definition| definition.node.as_ref()) {
                    Some(NodeEnum::ColumnDef(column)) => {
                        self.adds_column(range, column);
                        if self.is_plain_column(column) {
                            self.change(Change::Extended(range.relname.clone()));
                        } else {
                            self.alters(Some(range));
                        }
                    }
                    _ => self.alters(Some(range)),
                },
                Ok(T::AtAddConstraint) => {
                    if let Some(constraint) = command.def.as_deref() {
                        self.checks_rows(range, constraint);
                    }
                    if !command.def.as_deref().is_some_and(|constraint| self.is_plain_constraint(constraint)) {
                        self.alters(Some(range));
                    }
                }
                Ok(
                    T::AtSetNotNull
                    | T::AtDropNotNull
                    | T::AtSetStatistics
                    | T::AtSetStorage
                    | T::AtSetRelOptions
                    | T::AtResetRelOptions
                    | T::AtDropConstraint
                    | T::AtClusterOn
                    | T::AtSetLogged
                    | T::AtSetUnLogged
                    | T::AtReplicaIdentity,
                ) => {}
                // What the constraint checks runs over every row.
                Ok(T::AtValidateConstraint) => self.effects.push(Effect::SettingsUnseen),
                Ok(T::AtSetExpression) => {
                    let expression: Vec<&Node> = command.def.as_deref().into_iter().collect();
                    self.stored(range, &[], &[], &expression);
                    self.alters(Some(range));
                }
                Ok(T::AtDropExpression) => {
                    // The values stay, and are a column's like any other from now on.
                    self.unmasks(range);
                    self.alters(Some(range));
                }
                Ok(T::AtDropColumn) if !range.inh => {
                    // The children keep theirs.
                    self.unmasks(range);
                    self.alters(Some(range));
                    self.change(Change::Everything(SHAPE));
                }
                // Where something else goes with it, names may mean other relations.
                Ok(T::AtDropColumn) if DropBehavior::try_from(command.behavior) != Ok(DropBehavior::DropCascade) => {
                    self.change(Change::Extended(range.relname.clone()));
                }
                Ok(
                    T::AtColumnDefault
                    | T::AtAddIdentity
                    | T::AtSetIdentity
                    | T::AtDropIdentity
                    | T::AtEnableTrig
                    | T::AtEnableAlwaysTrig
                    | T::AtEnableReplicaTrig
                    | T::AtDisableTrig
                    | T::AtEnableTrigAll
                    | T::AtDisableTrigAll
                    | T::AtEnableTrigUser
                    | T::AtDisableTrigUser,
                ) => self.alters_writing(Some(range)),
                Ok(T::AtAlterColumnType) => {
                    if let Some(NodeEnum::ColumnDef(column)) = command.def.as_deref().and_then(|definition| definition.node.as_ref()) {
                        self.converts(range, column.raw_default.as_deref());
                    }
                    self.alters(Some(range));
                }
                Ok(kind @ (T::AtAttachPartition | T::AtDetachPartition | T::AtAddInherit | T::AtDropInherit)) => {
                    if matches!(kind, T::AtDetachPartition | T::AtDropInherit) {
                        self.unmasks(range);
                        if let Some(child) = child_of(command) {
                            self.unmasks(&child);
                        }
                    }
                    self.alters(Some(range));
                    self.change(Change::Everything(SHAPE));
                }
                _ => self.alters(Some(range)),
            }
        }
    }

    /// What the values of a column are made of from now on.
    fn converts(&mut self, range: &RangeVar, using: Option<&Node>) {
        let ranges = self.range_var(range);
        let scope = super::Scope { ranges, hidden: Vec::new(), parent: None, merged: false };
        let kind = self.kind;
        self.condition(using, &scope, "a protected column feeds a write");
        self.kind = self.kind.max(kind);
    }

    /// A relation whose code, columns or rows change.
    pub(super) fn alters(&mut self, relation: Option<&RangeVar>) {
        let Some(range) = relation else { return };
        self.mention(range);
        let name = truncate(&range.relname).to_owned();
        if self.may_be_temporary(range) {
            self.change(Change::Temporary(name.clone()));
        }
        self.change(Change::Relation(name));
    }

    /// A relation whose writing runs something else from now on.
    pub(super) fn alters_writing(&mut self, relation: Option<&RangeVar>) {
        let Some(range) = relation else { return };
        self.mention(range);
        let name = truncate(&range.relname).to_owned();
        if self.may_be_temporary(range) {
            self.change(Change::TemporaryWrites(name.clone()));
        }
        self.change(Change::Writes(name));
    }

    /// Temporary relations hide others of their name, and the catalog never shows them.
    fn may_be_temporary(&self, range: &RangeVar) -> bool {
        self.state.temporary && (range.schemaname.is_empty() || range.schemaname == "pg_temp")
    }
}

/// The relation that a partition or child is taken from or taken away.
fn child_of(command: &pg_query::protobuf::AlterTableCmd) -> Option<RangeVar> {
    match command.def.as_deref().and_then(|definition| definition.node.as_ref())? {
        NodeEnum::PartitionCmd(partition) => partition.name.clone(),
        NodeEnum::RangeVar(parent) => Some(parent.clone()),
        _ => None,
    }
}
