//! What the demo prints: steps, facts, the output of programs. Colour only on a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Standard output.
pub(super) struct Console {
    colour: bool,
    running: Mutex<Option<Instant>>,
}

impl Console {
    pub(super) fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colour, running: Mutex::new(None) }
    }

    /// One line as it is. A reader that went away does not matter.
    pub(super) fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }

    pub(super) fn title(&self, text: &str) {
        self.finish();
        self.line(&format!("\n{}", self.paint("1", text)));
    }

    /// A step that takes its time; ends with the next one.
    pub(super) fn step(&self, text: &str) {
        self.finish();
        self.line(&format!("  {} {text}", self.paint("36", "▸")));
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(super) fn done(&self, text: &str) {
        self.finish();
        self.line(&format!("  {} {text}", self.paint("32", "✓")));
    }

    pub(super) fn bad(&self, text: &str) {
        self.finish();
        self.line(&format!("  {} {text}", self.paint("31", "✗")));
    }

    pub(super) fn fact(&self, name: &str, value: &str) {
        self.line(&format!("    {} {value}", self.paint("2", &format!("{name}:"))));
    }

    /// What somebody typed.
    pub(super) fn command(&self, text: &str) {
        self.line(&format!("\n    {}", self.paint("1", &format!("$ {text}"))));
    }

    /// What a program answered, indented.
    pub(super) fn output(&self, text: &str) {
        for line in text.trim_end().lines() {
            self.line(&format!("    {}", self.paint("2", line)));
        }
    }

    fn finish(&self) {
        let started = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(took) = started.map(|at| at.elapsed()).filter(|took| took.as_millis() >= 1000) {
            self.line(&self.paint("2", &format!("    took {:.1} s", took.as_secs_f64())));
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
