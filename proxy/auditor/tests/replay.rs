//! `replay` in a real terminal: a pseudo-terminal that `script` (util-linux) makes, with keys pressed as a person would.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use support::{events, id, objects, recording_key, write};

struct Screen {
    child: Child,
    keys: ChildStdin,
    output: ChildStdout,
    seen: String,
}

impl Screen {
    /// Reads until the text is on the screen, and gives what came up to then.
    fn until(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let mut chunk = [0; 4096];
            let count = self.output.read(&mut chunk).unwrap();
            assert!(count > 0, "`{text}` never came: {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(chunk.get(..count).unwrap()));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }
}

#[test]
fn keys_pause_search_and_end_a_replay() {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: there is no `script` (util-linux) to make a terminal");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &objects(id(1), &events(id(1), ""), &recording_key()));
    let path = folder.path().display();
    // So slow that nothing goes on by itself while the test runs.
    let command = format!(
        "{} replay --store directory:{path}/store --keys {path}/keys --speed 0.00001 --longest 86400 {}; echo icanon=$(stty -a | grep -c ' icanon'); echo over",
        env!("CARGO_BIN_EXE_countersign-audit"),
        id(1)
    );
    let mut child = Command::new("script")
        .args(["-qfc", &command, "/dev/null"])
        .env("TERM", "dumb")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (keys, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut screen = Screen { child, keys, output, seen: String::new() };
    // Whoever waits for what never comes is woken by the end of the program.
    let (over, watch) = mpsc::channel::<()>();
    let process = screen.child.id().to_string();
    std::thread::spawn(move || {
        if watch.recv_timeout(Duration::from_secs(300)) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").arg(process).status();
        }
    });

    screen.until("q: quit");
    screen.until("connected to bank");
    screen.press(" ");
    screen.until("paused; space goes on");
    screen.press(" ");
    screen.until("going on");
    screen.press("f");
    screen.until("times its own speed");
    screen.press("/no such text\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08delete\n");
    let passed = screen.until("mallory");
    assert!(!passed.contains("DROP TABLE"), "what lies between is passed over: {passed}");
    screen.press("g");
    screen.until("client terminated");
    let rest = screen.until("over");
    assert!(rest.contains("icanon=1") && !rest.contains("DAMAGED"), "the terminal is as it was: {rest}");
    drop(over);
    drop(screen.keys);
    assert!(screen.child.wait().unwrap().success());
}
