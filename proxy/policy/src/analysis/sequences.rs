//! Sequences and large objects: what functions of the server change though no clause names it.

use pg_query::protobuf::RangeVar;
use pg_query::{Node, NodeEnum};

use super::call::constant;
use super::{Reach, Walk, strings};
use crate::builtin;
use crate::facts::RelationName;

impl Walk<'_> {
    /// What a function of the server changes though no clause names it: a sequence, or large objects.
    pub(super) fn weigh_targets(&mut self, name: &str, arguments: &[Node]) {
        if matches!(name, "nextval" | "setval") {
            if let Some(table) = arguments.first().and_then(owner) {
                // The sequence of a column belongs to its table.
                let found = self.candidates(&table);
                if !found.is_empty() {
                    self.writes.extend(found.iter().map(|relation| (relation.oid, Reach::Named)));
                    return;
                }
            }
            let Some(range) = arguments.first().and_then(sequence) else {
                self.unresolved.insert(RelationName { schema: String::new(), name: "a sequence given by a value".to_owned() });
                return;
            };
            let found = self.candidates(&range);
            if found.is_empty() {
                self.unresolved.insert(RelationName { schema: range.schemaname, name: range.relname });
            }
            self.writes.extend(found.iter().map(|relation| (relation.oid, Reach::Named)));
        } else if builtin::harm(name).is_some() && (name.starts_with("lo_") || name.starts_with("lowrite")) {
            self.unresolved.insert(RelationName { schema: "pg_catalog".to_owned(), name: "pg_largeobject".to_owned() });
        }
    }
}

/// The sequence of `nextval('schema.name')`.
fn sequence(argument: &Node) -> Option<RangeVar> {
    let text = match &argument.node {
        Some(NodeEnum::TypeCast(cast)) => constant(cast.arg.as_deref()?)?,
        _ => constant(argument)?,
    };
    // Names in quotes and OIDs are not followed.
    let plain = |part: &str| part.starts_with(|c: char| c.is_alphabetic() || c == '_') && !part.contains(['"', ' ']);
    let parts: Vec<String> = text.split('.').map(str::to_lowercase).collect();
    let (schemaname, relname) = match parts.as_slice() {
        [name] if plain(name) => (String::new(), name.clone()),
        [schema, name] if plain(schema) && plain(name) => (schema.clone(), name.clone()),
        _ => return None,
    };
    Some(RangeVar { schemaname, relname, ..RangeVar::default() })
}

/// The table of `pg_get_serial_sequence('table', 'column')`.
fn owner(argument: &Node) -> Option<RangeVar> {
    let call = match argument.node.as_ref()? {
        NodeEnum::FuncCall(call) => call,
        NodeEnum::TypeCast(cast) => return owner(cast.arg.as_deref()?),
        _ => return None,
    };
    if !matches!(strings(&call.funcname)?.as_slice(), ["pg_get_serial_sequence"] | ["pg_catalog", "pg_get_serial_sequence"]) {
        return None;
    }
    let text = constant(call.args.first()?)?;
    let mut parts = Vec::new();
    for part in text.split('.') {
        let plain = |part: &str| part.starts_with(|c: char| c.is_alphabetic() || c == '_') && !part.contains(['"', ' ']);
        match part.strip_prefix('"').and_then(|part| part.strip_suffix('"')) {
            Some(quoted) if !quoted.contains('"') => parts.push(quoted.to_owned()),
            None if plain(part) => parts.push(part.to_lowercase()),
            _ => return None,
        }
    }
    let (schemaname, relname) = match parts.as_slice() {
        [name] => (String::new(), name.clone()),
        [schema, name] => (schema.clone(), name.clone()),
        _ => return None,
    };
    Some(RangeVar { schemaname, relname, ..RangeVar::default() })
}
