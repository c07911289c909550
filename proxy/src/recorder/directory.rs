//! A directory as the store: for demos and tests. Its owner can delete what is in it; the chain shows that, nothing prevents it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use super::StartError;
use super::store::{PutError, Store};

/// Unfinished files, on the same file system.
const INCOMING: &str = ".incoming";

/// Objects as read-only files.
#[derive(Debug)]
pub struct DirectoryStore {
    root: PathBuf,
}

impl DirectoryStore {
    /// Opens one, made when it is not there.
    ///
    /// # Errors
    /// When it cannot be made or written to.
    pub fn open(root: &Path) -> Result<Self, StartError> {
        fs::create_dir_all(root.join(INCOMING)).map_err(|error| StartError::Store(format!("directory {}: {error}", root.display())))?;
        Ok(Self { root: root.to_owned() })
    }

    fn write(&self, key: &str, object: &[u8]) -> Result<(), PutError> {
        let path = self.root.join(key);
        let unavailable = |error: io::Error| PutError::Unavailable(format!("{}: {error}", path.display()));
        let directory = path.parent().unwrap_or(&self.root);
        self.make(directory).map_err(unavailable)?;
        let incoming = self.root.join(INCOMING).join(Uuid::new_v4().to_string());
        let placed = write_new(&incoming, object).and_then(|()| fs::hard_link(&incoming, &path));
        // Whether or not it was placed, the temporary name goes.
        let _left = fs::remove_file(&incoming);
        match placed {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read(&path).map_err(unavailable)? != object {
                    return Err(PutError::Conflict);
                }
            }
            Err(error) => return Err(unavailable(error)),
        }
        sync(directory).map_err(unavailable)
    }

    /// Makes a directory and every missing one above it, each durable in its parent.
    fn make(&self, directory: &Path) -> io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        let parent = directory.parent().unwrap_or(&self.root);
        if directory != self.root {
            self.make(parent)?;
        }
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => sync(parent),
        }
    }
}

fn write_new(path: &Path, object: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(object)?;
    let mut permissions = file.metadata()?.permissions();
    permissions.set_readonly(true);
    file.set_permissions(permissions)?;
    file.sync_all()
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[async_trait]
impl Store for DirectoryStore {
    async fn put(&self, key: &str, object: Bytes) -> Result<(), PutError> {
        let (store, key) = (Self { root: self.root.clone() }, key.to_owned());
        // Not cut short when the caller goes away: a write that began ends.
        tokio::task::spawn_blocking(move || store.write(&key, &object)).await.map_err(|error| PutError::Unavailable(error.to_string()))?
    }

    async fn check(&self) -> Result<(), PutError> {
        let incoming = self.root.join(INCOMING);
        match tokio::fs::metadata(&incoming).await {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(PutError::Unavailable(format!("{} is not a directory", incoming.display()))),
            Err(error) => Err(PutError::Unavailable(format!("{}: {error}", incoming.display()))),
        }
    }

    fn describe(&self) -> String {
        format!("directory {}", self.root.display())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn an_object_is_written_once() {
        let root = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(&root.path().join("a/b")).unwrap();
        store.put("x/y/0.rec", Bytes::from_static(b"one")).await.unwrap();
        store.put("x/y/0.rec", Bytes::from_static(b"one")).await.unwrap();
        assert_eq!(store.put("x/y/0.rec", Bytes::from_static(b"two")).await, Err(PutError::Conflict));
        let path = root.path().join("a/b/x/y/0.rec");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert!(fs::metadata(&path).unwrap().permissions().readonly());
        assert_eq!(fs::read_dir(root.path().join("a/b").join(INCOMING)).unwrap().count(), 0);
    }
}
