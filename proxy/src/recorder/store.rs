//! What the recorder needs of a store: objects written once, and found again to look after what other tasks left.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

/// Somewhere to keep objects.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Stores an object, durably, before it returns. An object of that name with the same bytes is success (an earlier attempt got through);
    /// with other bytes it is [`PutError::Conflict`], and stays as it is.
    async fn put(&self, key: &str, object: Bytes) -> Result<(), PutError>;

    /// An object; none when there is none of that name.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, PutError>;

    /// Keys that begin with `prefix`, sorted; only those after the key `after`.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, PutError>;

    /// The names right below `prefix` that have objects below them, without slash, sorted; only those after the name `after`.
    async fn folders(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, PutError>;

    /// Looks whether the store is there and as it must be. Writes nothing.
    async fn check(&self) -> Result<(), PutError>;

    /// Name for people.
    fn describe(&self) -> String;
}

/// Why an object is not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// There is another object of that name. Trying again is of no use.
    #[error("another object has that name")]
    Conflict,
    /// The store refused or failed: to be tried again.
    #[error("{0}")]
    Unavailable(String),
    /// The store was not reached, or did not answer: to be tried again.
    #[error("{0}")]
    Unreached(String),
}
