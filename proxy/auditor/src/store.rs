//! Where recordings lie: a directory or a bucket. Everything reads; only `seal` and `hold` write, and neither ever over anything.

mod directory;
mod s3;

use std::path::PathBuf;
use std::str::FromStr;

use bytes::Bytes;
use countersign_recording::v1::recording::Object;
use futures_util::{StreamExt as _, TryStreamExt as _};

pub use directory::DirectoryStore;
pub use s3::{Attempt, S3Store};

/// How many objects are fetched side by side.
const PARALLEL: usize = 16;

/// A store's address: `directory:PATH` or `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// A folder.
    Directory(PathBuf),
    /// A bucket and a prefix, which is empty or ends with a slash.
    S3 {
        /// Bucket.
        bucket: String,
        /// Prefix.
        prefix: String,
    },
}

impl FromStr for StoreAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("directory:").filter(|path| !path.is_empty()) {
            return Ok(Self::Directory(path.into()));
        }
        let Some(rest) = text.strip_prefix("s3://") else {
            return Err("expected directory:PATH or s3://bucket/prefix".to_owned());
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err("expected a bucket after s3://".to_owned());
        }
        let prefix = prefix.trim_end_matches('/');
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") } })
    }
}

/// A store cannot be read. Says nothing about what is in it.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {why}")]
pub struct StoreError {
    /// What was tried.
    pub action: String,
    /// Why it failed.
    pub why: String,
}

/// What the store says about how long an object stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retention {
    /// The store has no such thing.
    NotApplicable,
    /// The object may be deleted at any time.
    None,
    /// It is kept.
    Until {
        /// `COMPLIANCE` or `GOVERNANCE`.
        mode: String,
        /// Seconds since the epoch.
        until: i64,
    },
}

/// Something done to an object after it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alteration {
    /// Key below the prefix.
    pub key: String,
    /// What, for people.
    pub what: String,
}

/// A store.
#[derive(Debug, Clone)]
pub enum Store {
    /// A folder.
    Directory(DirectoryStore),
    /// A bucket.
    S3(S3Store),
}

impl Store {
    /// Opens a store. Nothing is fetched yet.
    pub async fn open(address: &StoreAddress) -> Self {
        match address {
            StoreAddress::Directory(path) => Self::Directory(DirectoryStore::new(path.clone())),
            StoreAddress::S3 { bucket, prefix } => Self::S3(S3Store::new(bucket.clone(), prefix.clone()).await),
        }
    }

    /// Keys below a prefix, sorted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Directory(store) => store.keys(prefix),
            Self::S3(store) => store.keys(prefix).await,
        }
    }

    /// An object.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        match self {
            Self::Directory(store) => store.get(key),
            Self::S3(store) => store.get(key).await,
        }
    }

    /// An object; none when it is not there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn find(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::Directory(store) => store.find(key),
            Self::S3(store) => store.find(key).await,
        }
    }

    /// Objects, in the order of the keys.
    ///
    /// # Errors
    /// When one cannot be read.
    pub async fn get_all(&self, keys: Vec<String>) -> Result<Vec<Object>, StoreError> {
        futures_util::stream::iter(keys)
            .map(|key| async move {
                let bytes = self.get(&key).await?;
                Ok(Object { key, bytes })
            })
            .buffered(PARALLEL)
            .try_collect()
            .await
    }

    /// Keys below a prefix that come after the key `after`, sorted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn keys_after(&self, prefix: &str, after: &str) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Directory(store) => Ok(store.keys(prefix)?.into_iter().filter(|key| key.as_str() > after).collect()),
            Self::S3(store) => store.listed(prefix, Some(after), false).await,
        }
    }

    /// Names of the folders right below a prefix, sorted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Directory(store) => store.folders(prefix),
            Self::S3(store) => {
                let found = store.listed(prefix, None, true).await?;
                Ok(found.iter().filter_map(|key| key.strip_prefix(prefix)?.strip_suffix('/')).map(str::to_owned).collect())
            }
        }
    }

    /// Writes an object that must not be there yet; false when something is. It is kept as long as the object `like`.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn put_new(&self, key: &str, object: Bytes, like: &str) -> Result<bool, StoreError> {
        match self {
            Self::Directory(store) => store.put_new(key, &object),
            Self::S3(store) => {
                let like = match store.retention(like).await? {
                    Retention::Until { mode, until } => Some((mode, until)),
                    Retention::None | Retention::NotApplicable => None,
                };
                store.put_new(key, object, like).await
            }
        }
    }

    /// Sets or lifts the legal hold of every version of an object; gives how many.
    ///
    /// # Errors
    /// When the store has no such thing, or refuses.
    pub async fn hold(&self, key: &str, on: bool) -> Result<u64, StoreError> {
        match self {
            Self::Directory(_) => Err(StoreError {
                action: format!("set the legal hold of {key}"),
                why: "a directory has no legal hold; it takes a bucket with Object Lock".to_owned(),
            }),
            Self::S3(store) => store.hold(key, on).await,
        }
    }

    /// Tries what the store must refuse: to delete an object and to shorten its retention. Nothing where the store has no retention.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn try_to_break(&self, key: &str) -> Result<Vec<Attempt>, StoreError> {
        match self {
            Self::Directory(_) => Ok(Vec::new()),
            Self::S3(store) => store.try_to_break(key).await,
        }
    }

    /// What holds an object in place.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn retention(&self, key: &str) -> Result<Retention, StoreError> {
        match self {
            Self::Directory(_) => Ok(Retention::NotApplicable),
            Self::S3(store) => store.retention(key).await,
        }
    }

    /// Overwrites and deletions below a prefix that the store remembers.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn alterations(&self, prefix: &str) -> Result<Vec<Alteration>, StoreError> {
        match self {
            Self::Directory(_) => Ok(Vec::new()),
            Self::S3(store) => store.alterations(prefix).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let s3 = |bucket: &str, prefix: &str| Ok(StoreAddress::S3 { bucket: bucket.into(), prefix: prefix.into() });
        for (text, expected) in [
            ("directory:/var/recordings", Ok(StoreAddress::Directory("/var/recordings".into()))),
            ("s3://bucket", s3("bucket", "")),
            ("s3://bucket/", s3("bucket", "")),
            ("s3://bucket/a/b/", s3("bucket", "a/b/")),
            ("s3:///x", Err("expected a bucket after s3://".to_owned())),
            ("directory:", Err("expected directory:PATH or s3://bucket/prefix".to_owned())),
            ("/var/recordings", Err("expected directory:PATH or s3://bucket/prefix".to_owned())),
        ] {
            assert_eq!(text.parse::<StoreAddress>(), expected, "{text}");
        }
    }
}
