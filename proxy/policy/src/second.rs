//! The second opinion: `sqlparser`, which sees some texts worse than they are taken for.
//!
//! Where both parse and it sees something worse, the worse counts. Its failure is no verdict. It recurses without a bound when
//! it drops a tree, so only short texts are given to it.

use sqlparser::ast::{SetExpr, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::StatementKind;

const MOST_BYTES: usize = 4096;

/// The class of each statement as far as `sqlparser` sees it; `None` when it has no opinion.
pub(crate) fn opinion(sql: &str) -> Option<Vec<StatementKind>> {
    if sql.len() > MOST_BYTES {
        return None;
    }
    let statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).ok()?;
    Some(statements.iter().map(kind).collect())
}

/// Only what it is sure of: statements it takes for worse than a read.
fn kind(statement: &Statement) -> StatementKind {
    match statement {
        Statement::Query(query) => match query.body.as_ref() {
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => StatementKind::Write,
            _ => StatementKind::Empty,
        },
        Statement::Insert(_) | Statement::Update { .. } | Statement::Delete(_) | Statement::Merge { .. } => StatementKind::Write,
        Statement::Truncate { .. } | Statement::Drop { .. } | Statement::CreateTable(_) | Statement::AlterTable { .. } => {
            StatementKind::Ddl
        }
        Statement::Grant { .. } | Statement::Revoke { .. } => StatementKind::Dcl,
        Statement::Call(_) => StatementKind::Procedural,
        _ => StatementKind::Empty,
    }
}
