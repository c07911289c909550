//! A headless Chromium that opens files of this machine and nothing else.
//!
//! Owns: finding it, its flags. Does not own: what the pages are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::client::{Output, run};
use crate::process::Scratch;

/// The browser.
#[derive(Debug)]
pub struct Browser {
    program: PathBuf,
    profile: Scratch,
}

impl Browser {
    /// The machine's Chromium; none, with a word on standard error, when there is none.
    ///
    /// # Errors
    /// No folder for its profile can be made.
    pub fn find() -> Result<Option<Self>> {
        let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&paths).flat_map(|folder| names.map(|name| folder.join(name))).find(|path| path.is_file());
        match found {
            Some(program) => Ok(Some(Self { program, profile: Scratch::new("browser")? })),
            None => {
                eprintln!("skipped: there is no Chromium on this machine (`./run prepare` installs it; Debian: apt-get install chromium)");
                Ok(None)
            }
        }
    }

    /// The page as the browser understands it, after everything in it has run; and what it complained of.
    ///
    /// # Errors
    /// It does not open.
    pub async fn dom(&self, page: &Path) -> Result<Output> {
        let output = self.run(page, &["--dump-dom".to_owned()]).await?;
        ensure!(output.status == 0, "Chromium: {}", output.stderr);
        Ok(output)
    }

    /// A picture of the page, so many pixels wide and high.
    ///
    /// # Errors
    /// It does not open, or takes no picture.
    pub async fn picture(&self, page: &Path, size: (u32, u32), file: &Path) -> Result<()> {
        let flags =
            [format!("--screenshot={}", file.display()), format!("--window-size={},{}", size.0, size.1), "--hide-scrollbars".to_owned()];
        let output = self.run(page, &flags).await?;
        let picture = std::fs::read(file).with_context(|| format!("no picture; Chromium: {}", output.stderr))?;
        ensure!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000, "{} is no picture of a page", file.display());
        Ok(())
    }

    async fn run(&self, page: &Path, flags: &[String]) -> Result<Output> {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions"])
            // Nothing but files: every name is unknown.
            .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking", "--disable-sync"])
            .args(["--enable-logging=stderr", "--log-level=0", "--virtual-time-budget=3000"])
            .arg(format!("--user-data-dir={}", self.profile.path().display()))
            .args(flags)
            .arg(format!("file://{}", page.display()));
        run(command, "chromium").await
    }
}
