//! What a statement is and touches, as far as grammar and catalog can tell.

use serde::{Deserialize, Serialize};

/// Statement class, from harmless to unknown. The order is the order of risk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StatementKind {
    /// Nothing but white space and comments.
    Empty,
    /// BEGIN, COMMIT, ROLLBACK, SAVEPOINT and kin.
    Transaction,
    /// Reads rows, changes nothing.
    Read,
    /// SHOW, SET, RESET, DISCARD, DEALLOCATE, LISTEN and other session state.
    Session,
    /// COPY … TO STDOUT.
    CopyOut,
    /// VACUUM, ANALYZE, CHECKPOINT, LOCK and kin.
    Utility,
    /// INSERT, UPDATE, DELETE, MERGE, a SELECT that writes or locks.
    Write,
    /// COPY … FROM STDIN.
    CopyIn,
    /// DO, CALL, a SELECT that calls a function not known to be harmless.
    Procedural,
    /// CREATE, ALTER, DROP, TRUNCATE, COMMENT …
    Ddl,
    /// GRANT, REVOKE, roles, ownership, policies, SECURITY LABEL.
    Dcl,
    /// Not understood.
    Unknown,
}

/// A relation with its schema, as the server would resolve it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RelationName {
    /// Schema, empty when it could not be resolved.
    pub schema: String,
    /// Relation name.
    pub name: String,
}

/// Facts of one statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementFacts {
    /// Class.
    pub kind: StatementKind,
    /// Relations read, through views and children too.
    pub reads: Vec<RelationName>,
    /// Relations written, through triggers, rules and children where the catalog shows them.
    pub writes: Vec<RelationName>,
    /// Functions called, as `schema.name`.
    pub functions: Vec<String>,
    /// UPDATE or DELETE without WHERE.
    pub missing_where: bool,
    /// A literal LIMIT on the outermost query.
    pub limit: Option<u64>,
    /// Why the class is what it is, for people.
    pub notes: Vec<String>,
    /// Protocol-relevant details the session machine must act on.
    pub action: SessionAction,
}

/// What a statement does to the session when it completes, as far as the proxy must know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SessionAction {
    /// Nothing of interest.
    None,
    /// COMMIT, END, PREPARE TRANSACTION, COMMIT PREPARED: effects become visible.
    Commit,
    /// ROLLBACK, ABORT (not ROLLBACK TO).
    Rollback,
    /// `DEALLOCATE name`.
    Deallocate(String),
    /// `DEALLOCATE ALL` or `DISCARD ALL`: every prepared statement is gone.
    DeallocateAll,
    /// DDL or anything else after which catalog facts may be stale.
    CatalogChange,
}
