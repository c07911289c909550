//! Replaying a session in a terminal: in its own time, with pause, speed and search.

use std::io::{IsTerminal as _, Read as _, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::frames::Reader;
use crate::load::Session;
use crate::show;

/// What is said of the keys.
const HELP: &str = "space: pause · f/s: faster, slower · /: search, n: next · g: to the end · q: quit";

/// Where keys come from.
pub trait Keys {
    /// The next key within the time; none when there is none.
    fn next(&mut self, within: Duration) -> Option<u8>;
}

/// No keys: output goes to a file or a pipe.
#[derive(Debug)]
pub struct NoKeys;

impl Keys for NoKeys {
    fn next(&mut self, within: Duration) -> Option<u8> {
        std::thread::sleep(within);
        None
    }
}

/// The keys of the terminal, which is as it was once this is dropped.
#[derive(Debug)]
pub struct Terminal {
    keys: Receiver<u8>,
    before: String,
}

impl Terminal {
    /// Takes the keys one by one, when input and output are a terminal.
    #[must_use]
    pub fn open() -> Option<Self> {
        if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
            return None;
        }
        let before = stty(&["-g"])?;
        stty(&["-icanon", "-echo", "min", "1"])?;
        let (send, keys) = channel();
        let quit = send.clone();
        tokio::spawn(async move {
            // Ctrl-C ends it as `q` does: the terminal must be as it was.
            while tokio::signal::ctrl_c().await.is_ok() && quit.send(b'q').is_ok() {}
        });
        std::thread::spawn(move || {
            let mut key = [0];
            while std::io::stdin().read_exact(&mut key).is_ok() && send.send(key[0]).is_ok() {}
        });
        Some(Self { keys, before })
    }
}

impl Keys for Terminal {
    fn next(&mut self, within: Duration) -> Option<u8> {
        match self.keys.recv_timeout(within) {
            Ok(key) => Some(key),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(within);
                None
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = stty(&[self.before.as_str()]);
    }
}

fn stty(arguments: &[&str]) -> Option<String> {
    let output = Command::new("stty").args(arguments).stdin(Stdio::inherit()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// How a replay is to go.
#[derive(Debug, Clone)]
pub struct Pace {
    /// How many times faster.
    pub speed: f64,
    /// Longest pause.
    pub longest: Duration,
    /// Without pauses at all.
    pub no_wait: bool,
    /// Begin where this text is first said or shown.
    pub from: Option<String>,
}

/// What there is to be done after a wait.
enum Next {
    Go,
    Quit,
}

struct Player<'a, K: Keys> {
    keys: &'a mut K,
    out: &'a mut dyn Write,
    pace: Pace,
    /// Passed over quickly until this is on the screen.
    wanted: Option<String>,
    last: Option<String>,
}

/// Prints the session as the client saw it.
///
/// # Errors
/// When the output cannot be written.
pub fn replay(session: &Session, pace: Pace, keys: &mut impl Keys, interactive: bool, out: &mut dyn Write) -> std::io::Result<()> {
    let mut reader = Reader::default();
    let mut before = None;
    let wanted = pace.from.clone();
    let mut player = Player { keys, out, pace, last: wanted.clone(), wanted };
    if interactive {
        writeln!(player.out, "-- {HELP}")?;
    }
    for (raw, event) in &session.events {
        let Some(event) = event else {
            writeln!(player.out, "-- event {} is not readable", raw.number)?;
            continue;
        };
        let shown = show::screen(raw, event, &mut reader);
        if shown.is_empty() {
            continue;
        }
        if let Some(wanted) = &player.wanted {
            if !shown.to_lowercase().contains(&wanted.to_lowercase()) {
                before = Some(raw.time_us);
                continue;
            }
            player.wanted = None;
        } else if let Some(before) = before {
            let pause = Duration::from_micros(u64::try_from(raw.time_us.saturating_sub(before)).unwrap_or(0));
            if matches!(player.wait(pause)?, Next::Quit) {
                return Ok(());
            }
            // A search that was begun while waiting may pass this over.
            if player.wanted.as_ref().is_some_and(|wanted| !shown.to_lowercase().contains(&wanted.to_lowercase())) {
                continue;
            }
            player.wanted = None;
        }
        before = Some(raw.time_us);
        player.out.write_all(shown.as_bytes())?;
        player.out.flush()?;
    }
    if let Some(wanted) = player.wanted {
        writeln!(player.out, "-- `{}` is not in the rest of the session", crate::text::visible(&wanted, false))?;
    }
    show::problems(session, out)
}

impl<K: Keys> Player<'_, K> {
    /// Waits as long as the session did, and does what keys say meanwhile.
    fn wait(&mut self, pause: Duration) -> std::io::Result<Next> {
        if self.pace.no_wait {
            return Ok(Next::Go);
        }
        let mut left = pause.div_f64(self.pace.speed).min(self.pace.longest);
        let mut paused = false;
        loop {
            let began = Instant::now();
            let key = self.keys.next(if paused { Duration::from_millis(200) } else { left });
            if !paused {
                left = left.saturating_sub(began.elapsed());
            }
            match key {
                None if paused => {}
                None => return Ok(Next::Go),
                Some(b' ') => {
                    paused = !paused;
                    self.say(if paused { "paused; space goes on" } else { "going on" })?;
                }
                Some(b'q') => return Ok(Next::Quit),
                Some(b'f') => self.faster(2.0)?,
                Some(b's') => self.faster(0.5)?,
                Some(b'g') => {
                    self.pace.no_wait = true;
                    return Ok(Next::Go);
                }
                Some(b'n') if self.last.is_some() => {
                    self.wanted.clone_from(&self.last);
                    return Ok(Next::Go);
                }
                Some(b'/') => {
                    let text = self.line()?;
                    if !text.is_empty() {
                        self.last = Some(text.clone());
                        self.wanted = Some(text);
                        return Ok(Next::Go);
                    }
                }
                Some(b'?' | b'h') => self.say(HELP)?,
                Some(_) => {}
            }
        }
    }

    fn faster(&mut self, factor: f64) -> std::io::Result<()> {
        self.pace.speed = (self.pace.speed * factor).clamp(1.0 / 64.0, 1024.0);
        self.say(&format!("{} times its own speed", self.pace.speed))
    }

    fn say(&mut self, text: &str) -> std::io::Result<()> {
        writeln!(self.out, "-- {text}")?;
        self.out.flush()
    }

    /// A line typed after `/`.
    fn line(&mut self) -> std::io::Result<String> {
        write!(self.out, "/")?;
        self.out.flush()?;
        let mut bytes: Vec<u8> = Vec::new();
        loop {
            match self.keys.next(Duration::from_secs(60)) {
                None | Some(b'\n' | b'\r') => break,
                Some(0x08 | 0x7f) => {
                    bytes.pop();
                }
                Some(key) => {
                    bytes.push(key);
                    if key.is_ascii_graphic() || key == b' ' {
                        self.out.write_all(&[key])?;
                        self.out.flush()?;
                    }
                }
            }
        }
        writeln!(self.out)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
