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

impl StatementKind {
    /// As the policy writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Transaction => "transaction",
            Self::Read => "read",
            Self::Session => "session",
            Self::CopyOut => "copy-out",
            Self::Utility => "utility",
            Self::Write => "write",
            Self::CopyIn => "copy-in",
            Self::Procedural => "procedural",
            Self::Ddl => "ddl",
            Self::Dcl => "dcl",
            Self::Unknown => "unknown",
        }
    }

    /// What it is, in words for people who do not write SQL.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Empty => "does nothing",
            Self::Transaction => "begins or ends a transaction",
            Self::Read => "reads data and changes nothing",
            Self::Session => "changes or shows settings of its own session",
            Self::CopyOut => "sends rows in bulk to the client",
            Self::Utility => "maintains or locks tables",
            Self::Write => "changes data",
            Self::CopyIn => "loads rows in bulk from the client",
            Self::Procedural => "runs code whose effects cannot be told in advance",
            Self::Ddl => "changes the structure of the database",
            Self::Dcl => "changes privileges, roles or the server, or reads what is secret",
            Self::Unknown => "is not understood, which counts as the riskiest",
        }
    }
}

impl std::fmt::Display for RelationName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.schema.is_empty() { write!(f, "{} (not in the catalog)", self.name) } else { write!(f, "{}.{}", self.schema, self.name) }
    }
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
    /// EXECUTE and FETCH: the texts that the name may stand for, as they were prepared or declared. Not part of recordings' facts, where
    /// they have statements of their own.
    #[serde(skip)]
    pub executes: Vec<String>,
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
    /// `DECLARE name` or `CLOSE name`: a portal of that name is another one from here on.
    Cursor(String),
    /// DDL or anything else after which catalog facts may be stale.
    CatalogChange,
}
