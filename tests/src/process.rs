//! Child processes that cannot outlive the harness: each is ended on drop, and by a small watchdog when the harness itself is killed.
//!
//! Owns: spawning with output to a file, orderly ends, the watchdog. Does not own: what the programs are or when they are ready.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Reads one command a line (`add SIGNAL PID`, `del PID`, `dir PATH`, `undir PATH`) and, once its input ends, which happens however the
/// harness ended, ends every process still listed and removes every directory still listed.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
list=; dirs=
without() { out=; for entry in $1; do case $entry in *":$2"|"$2") ;; *) out="$out $entry";; esac; done; echo "$out"; }
while read -r what one two; do
  case $what in
    add) list="$list $one:$two";;
    del) list=$(without "$list" "$one");;
    dir) dirs="$dirs $one";;
    undir) dirs=$(without "$dirs" "$one");;
  esac
done
for entry in $list; do kill -s "${entry%%:*}" "${entry##*:}" 2>/dev/null; done
round=0
while [ "$round" -lt 50 ]; do
  alive=
  for entry in $list; do kill -0 "${entry##*:}" 2>/dev/null && alive=1; done
  [ -z "$alive" ] && break
  sleep 0.1; round=$((round + 1))
done
for entry in $list; do kill -9 "${entry##*:}" 2>/dev/null; done
for entry in $dirs; do rm -rf "$entry"; done
"#;

static WATCHDOG_INPUT: OnceLock<Mutex<Option<ChildStdin>>> = OnceLock::new();

/// Tells the watchdog something. Without one (no `sh`) children still end on drop.
fn tell_watchdog(line: &str) {
    let input = WATCHDOG_INPUT.get_or_init(|| {
        let child = Command::new("sh")
            .args(["-c", WATCHDOG])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        Mutex::new(child.ok().and_then(|mut child| child.stdin.take()))
    });
    if let Ok(mut input) = input.lock()
        && let Some(pipe) = input.as_mut()
        && writeln!(pipe, "{line}").is_err()
    {
        *input = None;
    }
}

/// How a program is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `SIGTERM`.
    Term,
    /// `SIGINT`, which is Postgres's fast shutdown.
    Int,
    /// `SIGKILL`.
    Kill,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Kill => "KILL",
        }
    }
}

/// A running child; ended on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    stop: Signal,
}

impl Process {
    /// Starts `command` with both output streams going to `log`.
    ///
    /// # Errors
    /// The program cannot be started or the log file not created.
    pub fn spawn(name: &str, mut command: Command, log: &Path, stop: Signal) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("cannot create the log {}", log.display()))?;
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name} ({program})"))?;
        tell_watchdog(&format!("add {} {}", stop.name(), child.id()));
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), stop })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far, both streams.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its exit status if it has ended.
    ///
    /// # Errors
    /// The operating system cannot say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Fails, with the last lines of its log, if it has ended.
    ///
    /// # Errors
    /// It has ended.
    pub fn must_run(&mut self) -> Result<()> {
        if let Some(status) = self.ended()? {
            bail!("{} ended early ({status}); its last words:\n{}", self.name, last_lines(&self.output(), 15));
        }
        Ok(())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        send(signal, self.child.id());
    }

    /// Waits up to `limit` for it to end by itself.
    ///
    /// # Errors
    /// It still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!("{} still runs after {} s", self.name, limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    /// Asks it to end, waits, and kills it if it does not.
    pub fn stop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            send(self.stop, self.child.id());
            if self.wait(Duration::from_secs(8)).is_err() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
        tell_watchdog(&format!("del {}", self.child.id()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

fn send(signal: Signal, pid: u32) {
    // The shell's own kill: no libc call of ours, and no package needed for /bin/kill.
    let _ = Command::new("sh").args(["-c", &format!("kill -s {} {pid}", signal.name())]).stderr(Stdio::null()).status();
}

/// The last `count` lines of a text.
#[must_use]
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

/// A temporary directory that goes away with the harness, however it ends.
#[derive(Debug)]
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Creates one, readable by its owner only.
    ///
    /// # Errors
    /// No directory can be created where temporary files go.
    pub fn new(what: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("countersign-{what}-"))
            .tempdir()
            .context("cannot create a temporary directory; is TMPDIR writable?")?;
        tell_watchdog(&format!("dir {}", dir.path().display()));
        Ok(Self(dir))
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        tell_watchdog(&format!("undir {}", self.0.path().display()));
    }
}

/// A TCP port of the loopback interface nobody listens on at the moment.
///
/// # Errors
/// The operating system has none left.
pub fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("no free loopback port")?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(pid: u32) -> bool {
        Command::new("sh").args(["-c", &format!("kill -0 {pid}")]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    #[test]
    fn a_dropped_process_is_gone() -> Result<()> {
        let dir = Scratch::new("process")?;
        let mut command = Command::new("sleep");
        command.arg("600");
        let process = Process::spawn("sleep", command, &dir.path().join("log"), Signal::Term)?;
        let pid = process.id();
        assert!(alive(pid));
        drop(process);
        assert!(!alive(pid));
        Ok(())
    }

    #[test]
    fn an_early_end_says_why() -> Result<()> {
        let dir = Scratch::new("process")?;
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such bucket >&2; exit 3"]);
        let mut process = Process::spawn("thing", command, &dir.path().join("log"), Signal::Term)?;
        process.wait(Duration::from_secs(20))?;
        let error = process.must_run().map_err(|error| error.to_string());
        assert!(matches!(&error, Err(text) if text.contains("thing ended early") && text.contains("no such bucket")), "{error:?}");
        Ok(())
    }

    #[test]
    fn the_watchdog_ends_what_is_left_when_its_input_ends() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("countersign-watchdog-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let mut kept = Command::new("sleep").arg("600").spawn()?;
        let mut left = Command::new("sleep").arg("600").spawn()?;
        let mut watchdog = Command::new("sh").args(["-c", WATCHDOG]).stdin(Stdio::piped()).spawn()?;
        let mut input = watchdog.stdin.take().context("no input")?;
        writeln!(input, "add TERM {}\nadd TERM {}\ndel {}\ndir {}", kept.id(), left.id(), kept.id(), dir.display())?;
        drop(input);
        assert!(!left.wait()?.success());
        assert!(watchdog.wait()?.success());
        assert!(kept.try_wait()?.is_none());
        assert!(!dir.exists());
        kept.kill()?;
        kept.wait()?;
        Ok(())
    }
}
