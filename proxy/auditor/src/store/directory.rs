//! Recordings in a folder.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::StoreError;

/// A folder of recordings.
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    root: PathBuf,
}

impl DirectoryStore {
    /// The store under a folder.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        if !self.root.is_dir() {
            return Err(StoreError { action: format!("read recordings in {}", self.root.display()), why: "no such folder".to_owned() });
        }
        let mut keys = Vec::new();
        // A prefix names a folder, or the beginning of names in one.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.walk(&self.root.join(folder), folder, &mut keys)?;
        keys.retain(|key| key.starts_with(prefix));
        keys.sort();
        Ok(keys)
    }

    pub(super) fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let folder = self.root.join(prefix);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Self::error("list", &folder, &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Self::error("list", &folder, &error))?;
            if entry.path().is_dir() {
                names.extend(entry.file_name().to_str().filter(|name| !name.starts_with('.')).map(str::to_owned));
            }
        }
        names.sort();
        Ok(names)
    }

    pub(super) fn put_new(&self, key: &str, object: &[u8]) -> Result<bool, StoreError> {
        let path = self.root.join(key);
        let folder = path.parent().unwrap_or(&self.root);
        std::fs::create_dir_all(folder).map_err(|error| Self::error("make", folder, &error))?;
        match std::fs::File::create_new(&path) {
            Ok(mut file) => {
                file.write_all(object).and_then(|()| file.sync_all()).map_err(|error| Self::error("write", &path, &error)).map(|()| true)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Self::error("write", &path, &error)),
        }
    }

    fn walk(&self, folder: &Path, key: &str, keys: &mut Vec<String>) -> Result<(), StoreError> {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Self::error("list", folder, &error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| Self::error("list", folder, &error))?;
            let kind = entry.file_type().map_err(|error| Self::error("list", folder, &error))?;
            // Names of the format are ASCII and never begin with a dot; writers' temporary files do.
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let below = if key.is_empty() { name } else { format!("{key}/{name}") };
            if kind.is_dir() {
                self.walk(&entry.path(), &below, keys)?;
            } else if kind.is_file() {
                keys.push(below);
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let path = self.root.join(key);
        std::fs::read(&path).map(Bytes::from).map_err(|error| Self::error("read", &path, &error))
    }

    pub(super) fn find(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let path = self.root.join(key);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Self::error("read", &path, &error)),
        }
    }

    fn error(action: &str, path: &Path, error: &std::io::Error) -> StoreError {
        StoreError { action: format!("{action} {}", path.display()), why: error.to_string() }
    }
}
