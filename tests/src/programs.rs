//! The real programs: built once per process in the profile the harness itself runs in.
//!
//! Owns: where the programs lie. Does not own: how they are configured.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::last_lines;

/// Paths of the three programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `countersign-proxy`
    pub proxy: PathBuf,
    /// `countersign-bot`
    pub bot: PathBuf,
    /// `countersign-audit`
    pub audit: PathBuf,
}

/// Whether cargo's own progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// On standard error, for people.
    Shown,
    /// Only when it fails.
    Quiet,
}

static BUILT: OnceLock<Result<Programs, String>> = OnceLock::new();

/// Builds the programs if they are not up to date and says where they are. `COUNTERSIGN_PROGRAMS` names a folder to take them from
/// instead.
///
/// # Errors
/// They do not build; the error carries the compiler's last lines.
pub fn ensure_built(progress: Progress) -> Result<Programs> {
    let built = BUILT.get_or_init(|| build(progress).map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn build(progress: Progress) -> Result<Programs> {
    if let Some(dir) = std::env::var_os("COUNTERSIGN_PROGRAMS").map(PathBuf::from) {
        return from_folder(&dir);
    }
    let ours = std::env::current_exe().context("cannot tell where this program lies")?;
    // target/<profile>/demo, or target/<profile>/deps/<test>-<hash>
    let mut folder = ours.parent().context("this program lies nowhere")?;
    if folder.ends_with("deps") {
        folder = folder.parent().context("this program lies nowhere")?;
    }
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["build", "--profile", profile, "--bins"]);
    // The harness itself is named too: the same set of features as `cargo demo` has, so that nothing is built twice.
    command.args(["-p", "countersign-proxy", "-p", "countersign-bot", "-p", "countersign-audit", "-p", "countersign-e2e"]);
    if let Some(target) = folder.parent() {
        command.arg("--target-dir").arg(target);
    }
    command.stdin(Stdio::null());
    match progress {
        Progress::Shown => {
            let status = command.stdout(Stdio::null()).status().context("cannot run cargo")?;
            ensure!(status.success(), "the programs do not build; see above");
        }
        Progress::Quiet => {
            let output = command.output().context("cannot run cargo")?;
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success(), "the programs do not build:\n{}", last_lines(&words, 40));
        }
    }
    from_folder(folder)
}

fn from_folder(folder: &Path) -> Result<Programs> {
    let program = |name: &str| {
        let path = folder.join(name);
        if path.is_file() { Ok(path) } else { bail!("{} is not there", path.display()) }
    };
    Ok(Programs { proxy: program("countersign-proxy")?, bot: program("countersign-bot")?, audit: program("countersign-audit")? })
}
