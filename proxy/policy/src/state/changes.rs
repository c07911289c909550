//! What the session itself changed in the catalog and the facts at hand do not show yet.
//!
//! The side connection sees a change only after it committed and the facts were loaded anew. Until then names that a statement of
//! this session gave another meaning count as not known, and a plain new table as a table of which nothing more is known.

use std::collections::HashSet;

use crate::facts::RelationName;

/// Greatest number of changed names that are kept apart.
const MOST_NAMES: usize = 4096;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A plain new table or sequence: nothing runs when it is used.
    Created(RelationName),
    /// A table that is gone. The name may mean another now, unless one is created in its place.
    Dropped(RelationName),
    /// A relation that has further columns now.
    Extended(String),
    /// Whatever has this name may be another relation now, or run other code.
    Relation(String),
    /// The same, for as long as the session lasts: temporary relations never show in the facts.
    Temporary(String),
    /// What writing a relation runs: triggers, rules, defaults. Reading it is what it was.
    Writes(String),
    /// The same of a temporary relation.
    TemporaryWrites(String),
    /// Whatever function has this name.
    Function(String),
    /// Whatever type has this name.
    Type(String),
    /// The same of a temporary type, which never shows in the facts and comes before the server's own.
    TemporaryType(String),
    /// Any name may mean something else; says why.
    Everything(&'static str),
}

/// The changes of a session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    created: Vec<RelationName>,
    dropped: Vec<RelationName>,
    extended: HashSet<String>,
    relations: HashSet<String>,
    temporary: HashSet<String>,
    writes: HashSet<String>,
    temporary_writes: HashSet<String>,
    functions: HashSet<String>,
    types: HashSet<String>,
    temporary_types: HashSet<String>,
    everything: Option<&'static str>,
}

impl Changes {
    /// Takes a change in; says whether anything is new.
    pub(crate) fn add(&mut self, change: &Change) -> bool {
        let kept =
            self.created.len() + self.dropped.len() + self.extended.len() + self.relations.len() + self.functions.len() + self.types.len();
        let temporary = self.temporary.len() + self.temporary_writes.len() + self.temporary_types.len();
        if kept + self.writes.len() + temporary >= MOST_NAMES {
            return self.everything.replace("more names were changed in this transaction than are followed").is_none();
        }
        match change {
            Change::Created(relation) if self.created.contains(relation) => false,
            Change::Created(relation) => {
                self.created.push(relation.clone());
                true
            }
            Change::Dropped(relation) if self.dropped.contains(relation) && !self.created.contains(relation) => false,
            Change::Dropped(relation) => {
                // What was created before is gone with it.
                self.created.retain(|created| created != relation);
                if !self.dropped.contains(relation) {
                    self.dropped.push(relation.clone());
                }
                true
            }
            Change::Extended(name) => self.extended.insert(name.clone()),
            Change::Relation(name) => self.relations.insert(name.clone()),
            Change::Temporary(name) => self.temporary.insert(name.clone()),
            Change::Writes(name) => self.writes.insert(name.clone()),
            Change::TemporaryWrites(name) => self.temporary_writes.insert(name.clone()),
            Change::Function(name) => self.functions.insert(name.clone()),
            Change::Type(name) => self.types.insert(name.clone()),
            Change::TemporaryType(name) => self.temporary_types.insert(name.clone()),
            Change::Everything(why) => self.everything.replace(why).is_none(),
        }
    }

    /// Whether anything waits for facts to be loaded.
    pub(crate) fn pending(&self) -> bool {
        self.everything.is_some()
            || !(self.created.is_empty()
                && self.dropped.is_empty()
                && self.extended.is_empty()
                && self.relations.is_empty()
                && self.writes.is_empty()
                && self.functions.is_empty()
                && self.types.is_empty())
    }

    /// Facts were loaded that show every change but what is temporary.
    pub(crate) fn loaded(&mut self) {
        let (temporary, temporary_writes) = (std::mem::take(&mut self.temporary), std::mem::take(&mut self.temporary_writes));
        let temporary_types = std::mem::take(&mut self.temporary_types);
        *self = Self { temporary, temporary_writes, temporary_types, ..Self::default() };
    }

    /// The new table that a name means; the schema may be left out.
    pub(crate) fn created<'s>(&'s self, schema: &'s str, name: &'s str) -> impl Iterator<Item = &'s RelationName> {
        self.created.iter().filter(move |relation| relation.name == name && (schema.is_empty() || relation.schema == schema))
    }

    pub(crate) fn is_extended(&self, name: &str) -> bool {
        self.extended.contains(name)
    }

    pub(crate) fn is_relation_uncertain(&self, name: &str) -> bool {
        self.relations.contains(name)
            || self.temporary.contains(name)
            || self.dropped.iter().any(|dropped| dropped.name == name && !self.created.contains(dropped))
    }

    /// Whether writing a relation of this name may run something new.
    pub(crate) fn is_writing_uncertain(&self, name: &str) -> bool {
        self.writes.contains(name) || self.temporary_writes.contains(name)
    }

    /// Whether the relation that the facts at hand show under this name is gone.
    pub(crate) fn is_dropped(&self, schema: &str, name: &str) -> bool {
        self.dropped.iter().any(|dropped| dropped.name == name && dropped.schema == schema)
    }

    pub(crate) fn is_function_uncertain(&self, name: &str) -> bool {
        self.functions.contains(name)
    }

    pub(crate) fn is_type_uncertain(&self, name: &str) -> bool {
        self.types.contains(name) || self.temporary_types.contains(name)
    }

    pub(crate) const fn everything(&self) -> Option<&'static str> {
        self.everything
    }
}
