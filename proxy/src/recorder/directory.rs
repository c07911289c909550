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

fn listed<T>(found: Result<io::Result<T>, tokio::task::JoinError>) -> Result<T, PutError> {
    found.map_err(io::Error::other).flatten().map_err(|error| PutError::Unavailable(error.to_string()))
}

/// Names in a folder, and whether each is one; nothing when it is not there.
fn entries(folder: &Path) -> io::Result<Vec<(String, bool)>> {
    let found = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let mut names = Vec::new();
    for entry in found {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().filter(|name| !name.starts_with('.')) {
            names.push((name.to_owned(), entry.file_type()?.is_dir()));
        }
    }
    Ok(names)
}

fn walk(folder: &Path, key: &str, keys: &mut Vec<String>) -> io::Result<()> {
    for (name, is_folder) in entries(folder)? {
        let below = format!("{key}/{name}");
        if is_folder { walk(&folder.join(&name), &below, keys)? } else { keys.push(below) }
    }
    Ok(())
}

#[async_trait]
impl Store for DirectoryStore {
    async fn put(&self, key: &str, object: Bytes) -> Result<(), PutError> {
        let (store, key) = (Self { root: self.root.clone() }, key.to_owned());
        // Not cut short when the caller goes away: a write that began ends.
        tokio::task::spawn_blocking(move || store.write(&key, &object)).await.map_err(|error| PutError::Unavailable(error.to_string()))?
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, PutError> {
        match tokio::fs::read(self.root.join(key)).await {
            Ok(object) => Ok(Some(Bytes::from(object))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(PutError::Unavailable(format!("{}: {error}", self.root.join(key).display()))),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, PutError> {
        let (root, folder) = (self.root.clone(), prefix.trim_end_matches('/').to_owned());
        let found = tokio::task::spawn_blocking(move || {
            let mut keys = Vec::new();
            walk(&root.join(&folder), &folder, &mut keys)?;
            Ok::<_, io::Error>(keys)
        });
        let mut keys = listed(found.await)?;
        keys.retain(|key| after.is_none_or(|after| key.as_str() > after));
        keys.sort();
        Ok(keys)
    }

    async fn folders(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, PutError> {
        let folder = self.root.join(prefix);
        let found = tokio::task::spawn_blocking(move || entries(&folder));
        let folders = listed(found.await)?.into_iter().filter(|(_, folder)| *folder).map(|(name, _)| name);
        let mut folders: Vec<String> = folders.filter(|name| after.is_none_or(|after| name.as_str() > after)).collect();
        folders.sort();
        Ok(folders)
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
