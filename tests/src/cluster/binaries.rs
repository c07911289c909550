//! Finds programs: the server's (`initdb`, `postgres`) and the clients' (`psql`, `pgbench`).

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The folder with `initdb` and `postgres`: `PG_BIN`, else the newest Debian or Red Hat package, else `PATH`.
///
/// # Errors
/// There is none; the error says what to install.
pub fn find_server() -> Result<PathBuf> {
    let complete = |dir: &Path| dir.join("initdb").is_file() && dir.join("postgres").is_file();
    if let Some(dir) = std::env::var_os("PG_BIN").map(PathBuf::from) {
        if complete(&dir) {
            return Ok(dir);
        }
        bail!("PG_BIN is {}, but there is no initdb and postgres in it", dir.display());
    }
    let mut packaged: Vec<(u32, PathBuf)> = Vec::new();
    if let Ok(entries) = std::fs::read_dir("/usr/lib/postgresql") {
        for entry in entries.flatten() {
            let version = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(version) = version {
                packaged.push((version, entry.path().join("bin")));
            }
        }
    }
    packaged.retain(|(_, dir)| complete(dir));
    if let Some((_, dir)) = packaged.into_iter().max() {
        return Ok(dir);
    }
    for dir in search_path() {
        if complete(&dir) {
            // `postgres` finds its own library beside the real file.
            return Ok(std::fs::canonicalize(dir.join("postgres")).ok().and_then(|file| file.parent().map(Path::to_owned)).unwrap_or(dir));
        }
    }
    bail!(
        "no PostgreSQL server programs found (initdb, postgres); install them (Debian: apt-get install postgresql) or set PG_BIN to their folder"
    )
}

/// A program from `PATH`, or beside the server's.
///
/// # Errors
/// It is nowhere; the error says what to install.
pub fn find_program(name: &str) -> Result<PathBuf> {
    if let Some(found) = search_path().map(|dir| dir.join(name)).find(|file| file.is_file()) {
        return Ok(found);
    }
    if let Some(found) = find_server().ok().map(|dir| dir.join(name)).filter(|file| file.is_file()) {
        return Ok(found);
    }
    let package = match name {
        "psql" => "postgresql-client",
        "pgbench" => "postgresql-contrib",
        "setpriv" => "util-linux",
        other => other,
    };
    bail!("`{name}` is not on this machine; install it (Debian: apt-get install {package})")
}

fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_how_to_get_it() {
        let error = find_program("no-such-program").map_err(|error| error.to_string());
        assert!(matches!(&error, Err(text) if text.contains("apt-get install no-such-program")), "{error:?}");
    }

    #[test]
    fn the_servers_folder_holds_a_server() -> Result<()> {
        assert!(find_server()?.join("postgres").is_file());
        Ok(())
    }
}
