//! Statements that change the session: SET and its spellings, DISCARD, transaction modes.

use pg_query::protobuf::{DiscardMode, DiscardStmt, VariableSetKind, VariableSetStmt, a_const};
use pg_query::{Node, NodeEnum};

use super::{Interest, Walk, path_effect};
use crate::StatementKind;
use crate::builtin::{self, Setting};
use crate::decision::{Effect, Lasts};
use crate::facts::SessionAction;
use crate::state::settings::can_hold_text;
use crate::state::{SearchPath, truncate};

impl Walk<'_> {
    pub(super) fn variable_set(&mut self, set: &VariableSetStmt) {
        use VariableSetKind as K;
        let name = set.name.as_str();
        let kind = VariableSetKind::try_from(set.kind);
        if kind == Ok(K::VarResetAll) {
            // Limits that the operator set for the session go too.
            self.effects.push(path_effect(Some(SearchPath::Default), Lasts::Session));
            self.raise(StatementKind::Utility, || "resets every setting".to_owned());
            return;
        }
        if kind == Ok(K::VarSetMulti) {
            self.kind = self.kind.max(StatementKind::Session);
            match name {
                "TRANSACTION" | "SESSION CHARACTERISTICS" => self.transaction_modes(&set.args, StatementKind::Write),
                _ => self.raise(StatementKind::Unknown, || format!("SET {name} is not on the list of known ones")),
            }
            return;
        }
        let given = values(&set.args);
        self.role_set(name, if resets(&kind) { None } else { given.as_ref().and_then(|values| values.first()).map(String::as_str) });
        let lasts = if set.is_local { Lasts::Transaction } else { Lasts::Session };
        let resets = resets(&kind);
        if kind == Ok(K::VarSetValue)
            && let Some(values) = &given
        {
            self.by_literal = true;
            self.effects.push(Effect::Setting(name.to_owned(), values.join(", ")));
        } else if kind == Ok(K::VarSetValue) {
            self.effects.push(Effect::Setting(name.to_owned(), "a value of another kind".to_owned()));
        }
        match (builtin::setting(name), kind) {
            (Setting::SearchPath, Ok(K::VarSetValue)) => {
                let path = values(&set.args).map(|names| SearchPath::Schemas(names.iter().map(|name| truncate(name).to_owned()).collect()));
                self.effects.push(path_effect(path, lasts));
                self.raise(StatementKind::Session, || "sets search_path".to_owned());
            }
            (Setting::SearchPath, _) if resets => {
                self.effects.push(path_effect(Some(SearchPath::Default), lasts));
                self.raise(StatementKind::Session, || "resets search_path".to_owned());
            }
            (Setting::ReadOnly, Ok(K::VarSetValue)) if given.is_some_and(|values| values.iter().all(|value| builtin::is_true(value))) => {
                self.raise(StatementKind::Session, || format!("sets {name}"));
            }
            // The session's default is what it was logged in with; that of the transaction is the server's own, which is off.
            (Setting::ReadOnly, _) if resets && name != "transaction_read_only" => {
                self.raise(StatementKind::Session, || format!("resets {name}"))
            }
            (Setting::ReadOnly, _) => self.raise(StatementKind::Write, || "makes transactions writable".to_owned()),
            (Setting::Harmless, Ok(K::VarSetValue | K::VarSetDefault | K::VarReset)) => {
                self.raise(StatementKind::Session, || format!("sets {name}"))
            }
            (Setting::Only(only), Ok(K::VarSetValue))
                if values(&set.args).is_some_and(|values| matches!(values.as_slice(), [value] if means(value, only))) =>
            {
                self.raise(StatementKind::Session, || format!("sets {name}"));
            }
            (_, kind) => {
                if kind == Ok(K::VarSetValue) {
                    self.unpins = builtin::pinned(name);
                }
                self.raise(StatementKind::Dcl, || format!("{name} may not be changed freely"));
            }
        }
    }

    /// A setting is shown; `None`: which is not known. After code ran that can set anything, its value may be made of whatever that code read.
    pub(super) fn shows_setting(&mut self, name: Option<&str>) -> bool {
        let masked = matches!(self.interest, Interest::Protected(protection) if protection.any());
        let foreign = masked && self.state.settings.foreign && name.is_none_or(can_hold_text);
        self.opaque |= foreign;
        foreign
    }

    /// A role is taken or given back: `$user` may mean it from here on.
    pub(super) fn role_set(&mut self, name: &str, value: Option<&str>) {
        if name.eq_ignore_ascii_case("role") || name.eq_ignore_ascii_case("session_authorization") {
            match value {
                Some(value) if !value.eq_ignore_ascii_case("none") => self.effects.push(Effect::Role(truncate(value).to_owned())),
                _ => {}
            }
        }
    }

    pub(super) fn discard(&mut self, discard: &DiscardStmt) {
        self.raise(StatementKind::Session, || "discards session state".to_owned());
        match DiscardMode::try_from(discard.target) {
            Ok(DiscardMode::DiscardAll) => {
                self.effects.push(path_effect(Some(SearchPath::Default), Lasts::Session));
                self.action = SessionAction::DeallocateAll;
            }
            Ok(DiscardMode::DiscardPlans | DiscardMode::DiscardSequences | DiscardMode::DiscardTemp) => {}
            _ => self.unknown(|| "a DISCARD that is not on the list".to_owned()),
        }
    }

    /// Transaction modes; leaving read-only takes `writable`.
    pub(super) fn transaction_modes(&mut self, options: &[Node], writable: StatementKind) {
        for option in options {
            let Some(NodeEnum::DefElem(option)) = &option.node else {
                self.unknown(|| "a transaction mode that is none".to_owned());
                continue;
            };
            match option.defname.as_str() {
                "transaction_isolation" | "transaction_deferrable" => {}
                "transaction_read_only" => {
                    let read_only = option.arg.as_deref().and_then(value).is_some_and(|value| value == "1" || value == "true");
                    if !read_only {
                        self.raise(writable, || "makes the transaction writable".to_owned());
                    }
                }
                "transaction_snapshot" => self.raise(StatementKind::Utility, || "imports a snapshot".to_owned()),
                other => self.unknown(|| format!("transaction mode {other} is not on the list")),
            }
        }
    }
}

fn resets<E>(kind: &Result<VariableSetKind, E>) -> bool {
    matches!(kind, Ok(VariableSetKind::VarSetDefault | VariableSetKind::VarReset))
}

fn means(value: &str, only: &str) -> bool {
    let value = value.to_ascii_lowercase();
    match only {
        "on" => builtin::is_true(&value),
        "utf8" => value == "utf8" || value == "utf-8" || value == "unicode",
        _ => value == only,
    }
}

fn values(nodes: &[Node]) -> Option<Vec<String>> {
    nodes.iter().map(value).collect()
}

fn value(node: &Node) -> Option<String> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            a_const::Val::Sval(text) => Some(text.sval.clone()),
            a_const::Val::Ival(number) => Some(number.ival.to_string()),
            a_const::Val::Fval(number) => Some(number.fval.clone()),
            a_const::Val::Boolval(flag) => Some(flag.boolval.to_string()),
            a_const::Val::Bsval(_) => None,
        },
        NodeEnum::String(text) => Some(text.sval.clone()),
        NodeEnum::Integer(number) => Some(number.ival.to_string()),
        _ => None,
    }
}
