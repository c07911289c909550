//! A snapshot of the catalog facts judgement needs, loaded by the proxy's side connection.
//!
//! Owns the queries, the rows' shapes and look-up by name and OID. Does not own what a fact means for a statement (`analysis`),
//! nor when a snapshot is loaded (the proxy).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::analysis::{CodeFacts, ViewFacts};
use crate::state::SearchPath;

mod load;
mod queries;

pub use queries::{QUERIES, ROLE_SETTINGS};

/// First OID of user objects; everything below comes with the server.
pub const FIRST_USER_OID: u32 = 16384;

/// One query of the load; run in order, in one REPEATABLE READ transaction, results in text format.
#[derive(Debug, Clone, Copy)]
pub struct CatalogQuery {
    /// What it loads, for logs.
    pub name: &'static str,
    /// The SQL.
    pub sql: &'static str,
}

/// Catalog facts of one database at one moment.
#[derive(Debug, Default)]
pub struct Catalog {
    default_path: Vec<String>,
    user: String,
    schemas: HashMap<String, bool>,
    relations: HashMap<u32, Relation>,
    relation_names: HashMap<String, HashMap<String, u32>>,
    functions: HashMap<u32, Function>,
    function_names: HashMap<String, Vec<u32>>,
    operators: HashMap<String, Vec<Operator>>,
    types: HashMap<u32, Type>,
    type_names: HashMap<String, HashMap<String, u32>>,
    row_types: HashMap<u32, u32>,
    casts: Vec<Cast>,
    /// Functions of users that order or hash values of a type: of its default operator classes, of ranges.
    support: Vec<(u32, u32)>,
    /// Names of temporary relations, of any session, that run code when they are read.
    temporary: HashSet<String>,
    /// The same when they are written.
    temporary_triggers: HashSet<String>,
    /// Names of temporary types, of any session.
    temporary_types: HashSet<String>,
}

/// `pg_type.oid` of `event_trigger`.
const EVENT_TRIGGER: u32 = 3838;

/// A table, view, sequence or composite type.
#[derive(Debug)]
pub(crate) struct Relation {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    /// `pg_class.relkind`.
    pub(crate) kind: char,
    pub(crate) row_type: u32,
    pub(crate) columns: Vec<Column>,
    pub(crate) children: Vec<u32>,
    pub(crate) parents: Vec<u32>,
    /// Definition of a view.
    pub(crate) definition: Option<String>,
    /// Relations that rewrite rules (a view's own included) lead to.
    pub(crate) rule_relations: Vec<u32>,
    /// User functions that rewrite rules call.
    pub(crate) rule_functions: Vec<u32>,
    /// Whether there are rules on INSERT, UPDATE or DELETE.
    pub(crate) write_rules: bool,
    /// Functions run by reading: row security policies.
    pub(crate) read_code: Vec<u32>,
    /// Functions run by writing: triggers, defaults, constraints, indexes.
    pub(crate) write_code: Vec<u32>,
    /// Those of indexes alone.
    pub(crate) index_code: Vec<u32>,
    /// Relations that foreign keys change along with this one.
    pub(crate) cascades: Vec<u32>,
    /// What reading the view amounts to, found out once.
    pub(crate) view: OnceLock<Option<ViewFacts>>,
    /// Expressions evaluated when rows are read: row security policies.
    pub(crate) read_expressions: Vec<String>,
    /// Expressions evaluated when rows are written: policies, defaults (those of domains, too), checks, indexes, partition keys.
    pub(crate) write_expressions: Vec<String>,
    /// Definitions of the triggers that have a condition.
    pub(crate) conditional_triggers: Vec<String>,
    /// Those of `write_expressions` that planning a statement over the relation looks at: checks, indexes, partition keys.
    pub(crate) planned_expressions: Vec<String>,
    /// What these amount to, found out once: on reading, on writing, on planning.
    pub(crate) code: [OnceLock<Option<CodeFacts>>; 3],
}

impl Relation {
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    pub(crate) fn is_system(&self) -> bool {
        // A view of the server's that was made anew over something of users has a definition.
        self.oid < FIRST_USER_OID && self.definition.is_none() && (self.schema == "pg_catalog" || self.schema == "information_schema")
    }
}

/// A column.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) number: i16,
    pub(crate) name: String,
    pub(crate) type_oid: u32,
    /// Tags in its comment: `pii` of the word `countersign:pii`.
    pub(crate) tags: Vec<String>,
    /// Numbers of the columns that a generated one is made of.
    pub(crate) generated_from: Vec<i16>,
}

/// A function that does not come with `pg_catalog`.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) volatility: char,
    pub(crate) security_definer: bool,
    pub(crate) language: String,
    pub(crate) returns_set: bool,
    pub(crate) arguments: Vec<u32>,
    pub(crate) defaults: usize,
    pub(crate) variadic: bool,
    pub(crate) result: u32,
    /// Whether it is known by its library and symbol to calculate with its arguments and do nothing else.
    pub(crate) reviewed: bool,
    /// The functions that an aggregate is made of.
    pub(crate) parts: Vec<u32>,
}

impl Function {
    pub(crate) fn accepts(&self, count: usize) -> bool {
        (self.variadic || count <= self.arguments.len()) && count + self.defaults + usize::from(self.variadic) >= self.arguments.len()
    }
}

/// An operator that does not come with `pg_catalog`.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) schema: String,
    pub(crate) left: u32,
    pub(crate) right: u32,
    pub(crate) function: u32,
}

/// A type that does not come with `pg_catalog`.
#[derive(Debug)]
pub(crate) struct Type {
    /// `pg_type.typtype`.
    pub(crate) class: char,
    pub(crate) base: u32,
    pub(crate) element: u32,
    pub(crate) relation: u32,
    /// The checks of a domain, as one expression over `value`.
    pub(crate) check: Option<String>,
    /// What a range is made of.
    pub(crate) subtype: u32,
    /// What the checks amount to, found out once.
    pub(crate) code: OnceLock<Option<CodeFacts>>,
}

/// A cast that does not come with the server.
#[derive(Debug)]
pub(crate) struct Cast {
    pub(crate) source: u32,
    pub(crate) target: u32,
    pub(crate) function: u32,
    /// Whether it applies without being written, anywhere.
    pub(crate) implicit: bool,
    /// Whether it applies without being written where a value is stored.
    pub(crate) assigns: bool,
}

/// A row that does not have the shape its query promises.
#[derive(Debug, thiserror::Error)]
#[error("catalog query {query}: {message}")]
pub struct CatalogError {
    query: &'static str,
    message: String,
}

/// The rows of a load, as JSON for offline use: query name to rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Snapshot {
    rows: BTreeMap<String, Vec<Vec<Option<String>>>>,
}

/// Builds a snapshot row by row.
#[derive(Debug, Default)]
pub struct CatalogBuilder {
    catalog: Catalog,
    recorded: Option<Snapshot>,
}

impl CatalogBuilder {
    /// A builder that also keeps the rows for [`Self::finish_with_snapshot`].
    #[must_use]
    pub fn recording() -> Self {
        Self { catalog: Catalog::default(), recorded: Some(Snapshot::default()) }
    }

    /// Takes one row of `QUERIES[query]`.
    ///
    /// # Errors
    /// When the row has another shape than expected.
    pub fn row(&mut self, query: usize, values: &[Option<&str>]) -> Result<(), CatalogError> {
        if let (Some(snapshot), Some(query)) = (&mut self.recorded, QUERIES.get(query)) {
            let row = values.iter().map(|value| value.map(str::to_owned)).collect();
            snapshot.rows.entry(query.name.to_owned()).or_default().push(row);
        }
        load::row(&mut self.catalog, query, values)
    }

    /// The finished catalog.
    ///
    /// # Errors
    /// When facts contradict each other.
    pub fn finish(self) -> Result<Catalog, CatalogError> {
        load::finish(self.catalog)
    }

    /// The finished catalog and its rows; these are empty unless the builder was made by [`Self::recording`].
    ///
    /// # Errors
    /// When facts contradict each other.
    pub fn finish_with_snapshot(self) -> Result<(Catalog, Snapshot), CatalogError> {
        Ok((load::finish(self.catalog)?, self.recorded.unwrap_or_default()))
    }
}

impl Snapshot {
    /// Parses the JSON form.
    ///
    /// # Errors
    /// When it is not JSON of that shape.
    pub fn from_json(text: &str) -> Result<Self, CatalogError> {
        serde_json::from_str(text).map_err(|error| CatalogError { query: "snapshot", message: error.to_string() })
    }

    /// The JSON form.
    ///
    /// # Errors
    /// Never in practice; serialisation is fallible by type.
    pub fn to_json(&self) -> Result<String, CatalogError> {
        serde_json::to_string(self).map_err(|error| CatalogError { query: "snapshot", message: error.to_string() })
    }

    /// Builds the catalog these rows describe.
    ///
    /// # Errors
    /// When a row has another shape than expected, or a query of [`QUERIES`] is missing.
    pub fn build(&self) -> Result<Catalog, CatalogError> {
        let mut builder = CatalogBuilder::default();
        for (index, query) in QUERIES.iter().enumerate() {
            let Some(rows) = self.rows.get(query.name) else {
                continue;
            };
            for row in rows {
                let values: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
                builder.row(index, &values)?;
            }
        }
        builder.finish()
    }
}

impl Catalog {
    /// How many relations the snapshot has.
    #[must_use]
    pub fn relation_count(&self) -> usize {
        self.relations.len()
    }

    pub(crate) fn relation(&self, oid: u32) -> Option<&Relation> {
        self.relations.get(&oid)
    }

    pub(crate) fn relation_in(&self, schema: &str, name: &str) -> Option<&Relation> {
        self.relations.get(self.relation_names.get(schema)?.get(name)?)
    }

    pub(crate) fn function(&self, oid: u32) -> Option<&Function> {
        self.functions.get(&oid)
    }

    /// Whether a function is one of users: neither the server's nor one of an extension that has been read.
    pub(crate) fn is_users(&self, oid: u32) -> bool {
        oid >= FIRST_USER_OID && !self.functions.get(&oid).is_some_and(|function| function.reviewed)
    }

    /// User functions of that name, in every schema.
    pub(crate) fn functions_named(&self, name: &str) -> impl Iterator<Item = &Function> {
        self.function_names.get(name).into_iter().flatten().filter_map(|oid| self.functions.get(oid))
    }

    /// Whether a statement that changes definitions may run code that its text does not name.
    pub(crate) fn has_event_triggers(&self) -> bool {
        self.functions.values().any(|function| function.result == EVENT_TRIGGER)
    }

    pub(crate) fn operators_named(&self, name: &str) -> &[Operator] {
        self.operators.get(name).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn type_by_oid(&self, oid: u32) -> Option<&Type> {
        self.types.get(&oid)
    }

    pub(crate) fn type_in(&self, schema: &str, name: &str) -> Option<u32> {
        self.type_names.get(schema)?.get(name).copied()
    }

    /// The relation whose row type this is.
    pub(crate) fn relation_of_row_type(&self, oid: u32) -> Option<&Relation> {
        self.relations.get(self.row_types.get(&oid)?)
    }

    /// Whether a value of a server's own type, or of one of `types`, may be taken for one of this type without a word in the text.
    pub(crate) fn may_become(&self, oid: u32, types: &std::collections::BTreeSet<u32>) -> bool {
        let mut oid = oid;
        for _ in 0..16 {
            if oid < FIRST_USER_OID || types.contains(&oid) || self.casts.iter().any(|cast| cast.implicit && cast.target == oid) {
                return true;
            }
            match self.types.get(&oid) {
                Some(domain) if domain.class == 'd' => oid = domain.base,
                _ => return false,
            }
        }
        true
    }

    pub(crate) fn casts(&self) -> &[Cast] {
        &self.casts
    }

    /// Functions of users that order or hash values, each with the type of the values.
    pub(crate) fn support(&self) -> &[(u32, u32)] {
        &self.support
    }

    /// Every relation.
    pub(crate) fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.relations.values()
    }

    /// Whether some session has a temporary relation of that name that runs code when it is written.
    pub(crate) fn has_temporary_triggers(&self, name: &str) -> bool {
        self.temporary_triggers.contains(name)
    }

    /// Whether some session has a temporary type of that name.
    pub(crate) fn has_temporary_type(&self, name: &str) -> bool {
        self.temporary_types.contains(name)
    }

    /// Whether some session has a temporary relation of that name that runs code when it is read.
    pub(crate) fn has_temporary_code(&self, name: &str) -> bool {
        self.temporary.contains(name)
    }

    /// Whether the default search path would look into a schema of that name, if it existed.
    pub(crate) fn path_names(&self, name: &str) -> bool {
        name == self.user || self.default_path.iter().any(|schema| schema == name)
    }

    /// The schemas a path searches, in order, with `pg_catalog` where the server puts it. `role` is what SET ROLE made of the user: what
    /// it may use is not known, so every schema that exists is searched.
    pub(crate) fn schemas_of<'a>(&'a self, path: &'a SearchPath, role: Option<&'a str>) -> Vec<&'a str> {
        let names = match path {
            SearchPath::Default => &self.default_path,
            SearchPath::Schemas(names) => names,
        };
        let mut schemas: Vec<&str> = Vec::with_capacity(names.len() + 1);
        for name in names {
            let name = if name == "$user" { role.unwrap_or(self.user.as_str()) } else { name.as_str() };
            if name == "pg_catalog" || self.schemas.get(name).is_some_and(|usable| *usable || role.is_some()) {
                schemas.push(name);
            }
        }
        if !schemas.contains(&"pg_catalog") {
            schemas.insert(0, "pg_catalog");
        }
        schemas
    }
}
