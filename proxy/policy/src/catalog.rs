//! A snapshot of the catalog facts judgement needs, loaded by the proxy's side connection.

/// One query of the load; run in order, in one REPEATABLE READ transaction, results in text format.
#[derive(Debug, Clone, Copy)]
pub struct CatalogQuery {
    /// What it loads, for logs.
    pub name: &'static str,
    /// The SQL.
    pub sql: &'static str,
}

/// The queries, in order.
pub const QUERIES: &[CatalogQuery] = &[];

/// Catalog facts of one database at one moment.
#[derive(Debug, Default)]
pub struct Catalog {}

/// Builds a snapshot row by row.
#[derive(Debug, Default)]
pub struct CatalogBuilder {}

/// A row that does not have the shape its query promises.
#[derive(Debug, thiserror::Error)]
#[error("catalog query {query}: {message}")]
pub struct CatalogError {
    query: &'static str,
    message: String,
}

impl CatalogBuilder {
    /// Takes one row of `QUERIES[query]`.
    ///
    /// # Errors
    /// When the row has another shape than expected.
    pub fn row(&mut self, query: usize, values: &[Option<&str>]) -> Result<(), CatalogError> {
        let _ = (query, values);
        Ok(())
    }

    /// The finished snapshot.
    ///
    /// # Errors
    /// When facts contradict each other.
    pub fn finish(self) -> Result<Catalog, CatalogError> {
        Ok(Catalog {})
    }
}
