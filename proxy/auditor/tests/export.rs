//! What is shown and exported: complete, and harmless whatever a session's owner put into it.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use clap::Parser as _;
use countersign_audit::cli::{Arguments, run};
use countersign_audit::export::{self, Format};
use countersign_audit::load::Session;
use countersign_audit::replay::{Keys, Pace, replay};
use countersign_audit::verify;
use support::{archive, events, id, objects, recording_key, running, write};
use tempfile::TempDir;

const HOSTILE: &str = "</pre><script>alert(1)</script>\"onload='x' \u{202e}\x1b]0;owned\x07 =1+1";

fn stored(hostile: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &objects(id(1), &events(id(1), hostile), &recording_key()));
    folder
}

async fn exported(folder: &TempDir, format: Format) -> String {
    let archive = archive(folder.path()).await;
    let (session, _) = archive.load(id(1), true).await.unwrap();
    let report = verify::sessions(&archive, &[id(1)]).await.unwrap();
    let mut out = Vec::new();
    export::write(&session, report.sessions.first(), format, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn the_page_holds_all_of_it_and_no_markup_of_others() {
    let page = exported(&stored(HOSTILE), Format::Html).await;
    for expected in [
        "Verified when this page was written",
        "signed decision: dana (",
        ") approved at ",
        "*******6789",
        "DROP TABLE customers",
        "ci-deletes",
        "DELETE 1",
        "<svg",
        "U+202E",
        "U+001B",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    let lower = page.to_lowercase();
    for forbidden in
        ["<script", "<img", "<iframe", "onload='", "onload=\"", "javascript:", "http-equiv=\"refresh", "@import", "url(", "src="]
    {
        assert!(!lower.contains(forbidden), "{forbidden}");
    }
    assert!(!page.chars().any(|c| c != '\n' && c != '\t' && c.is_control() || c == '\u{202e}'));
    // Every angle bracket belongs to an element this program writes.
    let known = [
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "code", "div", "p", "ul", "li", "table", "tr", "th", "td",
        "svg", "a", "rect", "span", "section", "pre", "details", "summary", "b", "i", "footer", "!doctype",
    ];
    for tag in page.split('<').skip(1) {
        let name: String = tag.trim_start_matches('/').chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '!').collect();
        assert!(known.contains(&name.as_str()), "<{name}");
    }
}

#[tokio::test]
async fn json_lines_have_every_event_and_exact_values() {
    let text = exported(&stored(HOSTILE), Format::Jsonl).await;
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 15);
    let rows = lines.get(3).unwrap();
    assert_eq!(rows.pointer("/pieces/2/row/0").unwrap(), HOSTILE);
    assert_eq!(rows.pointer("/kind").unwrap(), "rows");
    assert_eq!(lines.get(12).unwrap().pointer("/outcome").unwrap(), "granted");
}

#[tokio::test]
async fn csv_and_asciicast_are_well_formed_and_quiet() {
    let folder = stored(HOSTILE);
    let csv = exported(&folder, Format::Csv).await;
    assert!(csv.starts_with("event,time,kind,statement,what,detail,rows\r\n"));
    assert_eq!(csv.matches("\r\n").count(), 16);
    let cast = exported(&folder, Format::Asciicast).await;
    let mut lines = cast.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    assert_eq!(lines.next().unwrap().pointer("/version").unwrap(), 2);
    let mut last = 0.0;
    for line in lines {
        let at = line.pointer("/0").unwrap().as_f64().unwrap();
        assert!(at >= last);
        last = at;
        let shown = line.pointer("/2").unwrap().as_str().unwrap();
        assert!(!shown.contains('\x1b') && !shown.contains('\u{202e}'), "{shown}");
    }
    assert!(last > 3.0);
    assert!(!csv.contains('\x1b'));
}

#[tokio::test]
async fn replay_shows_what_the_client_saw_in_its_own_time() {
    let (session, _) = archive(stored(HOSTILE).path()).await.load(id(1), false).await.unwrap();
    let (text, waited) = replayed(&session, None, "");
    for expected in
        ["[1]=> SELECT ssn FROM customers", "*******6789", "SELECT 2 (1.500 ms)", "ERROR 42501: refused", "-- granted", "DELETE 1"]
    {
        assert!(text.contains(expected), "{text}");
    }
    assert!(!text.contains('\x1b'));
    assert_eq!(waited, Duration::from_millis(14 * 250));
    let (text, _) = replayed(&session, Some("error 42501"), "");
    assert!(!text.contains("SELECT ssn") && text.contains("ERROR 42501") && text.contains("DELETE 1"), "{text}");
}

#[tokio::test]
async fn keys_pause_search_and_end_a_replay() {
    let (session, _) = archive(stored("").path()).await.load(id(1), false).await.unwrap();
    let (text, _) = replayed(&session, None, "/delete 1\n");
    assert!(text.contains("connected to") && text.contains("DELETE 1") && !text.contains("ERROR 42501"), "{text}");
    let (text, _) = replayed(&session, None, "/not there\n");
    assert!(text.contains("`not there` is not in the rest"), "{text}");
    let (text, _) = replayed(&session, None, "q");
    assert!(!text.contains("SELECT ssn"), "{text}");
    let (text, waited) = replayed(&session, None, "ff g");
    assert!(text.contains("4 times its own speed") && text.contains("paused") && text.contains("DELETE 1"), "{text}");
    assert!(waited < Duration::from_millis(1200), "{waited:?}");
}

/// Keys as they were typed, and how long was waited for them.
struct Script {
    keys: std::vec::IntoIter<u8>,
    waited: Duration,
}

impl Keys for Script {
    fn next(&mut self, within: Duration) -> Option<u8> {
        let key = self.keys.next();
        if key.is_none() {
            self.waited += within;
        }
        key
    }
}

fn replayed(session: &Session, from: Option<&str>, keys: &str) -> (String, Duration) {
    let mut keys = Script { keys: keys.as_bytes().to_vec().into_iter(), waited: Duration::ZERO };
    let pace = Pace { speed: 1.0, longest: Duration::from_secs(3), no_wait: false, from: from.map(str::to_owned) };
    let mut out = Vec::new();
    replay(session, pace, &mut keys, false, &mut out).unwrap();
    (String::from_utf8(out).unwrap(), keys.waited)
}

async fn command(folder: &TempDir, arguments: &[&str]) -> (String, String) {
    let store = format!("directory:{}", folder.path().join("store").display());
    let keys = folder.path().join("keys").display().to_string();
    let source = ["countersign-audit", "--store", &store, "--keys", &keys];
    let parsed = Arguments::try_parse_from(source.iter().chain(arguments)).unwrap();
    let mut out = Vec::new();
    let status = match run(parsed, &mut out).await {
        Ok(status) => format!("{status:?}"),
        Err(error) => format!("{error:#}"),
    };
    (status, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn the_list_has_sealed_and_open_sessions_and_filters_them() {
    let folder = stored("");
    let other = tempfile::tempdir().unwrap();
    write(other.path(), &running(id(2), &events(id(2), ""), 5));
    let rows = |(status, text): (String, String)| -> Vec<serde_json::Value> {
        assert!(status.contains('0'), "{status}");
        serde_json::from_str(&text).unwrap()
    };
    let listed = rows(command(&folder, &["list", "--json"]).await);
    let row = listed.first().unwrap();
    for (field, expected) in [("state", "sealed"), ("database", "bank"), ("subject", "repo:bank/app"), ("principal", "repo:bank/app")] {
        assert_eq!(row.get(field).unwrap(), expected);
    }
    for (field, expected) in [("statements", 3), ("held", 1), ("denied", 1), ("granted", 1), ("masked", 2)] {
        assert_eq!(row.get(field).unwrap(), expected);
    }
    for (filter, count) in [
        (&["--database", "bank"][..], 1),
        (&["--database", "test"], 0),
        (&["--principal", "bank/app"], 1),
        (&["--principal", "dana"], 0),
        (&["--since", "2026-03-01", "--until", "2026-03-02"], 1),
        (&["--since", "2026-03-02"], 0),
        (&["--until", "2026-03-01"], 0),
    ] {
        let arguments: Vec<&str> = ["list", "--json"].iter().chain(filter).copied().collect();
        assert_eq!(rows(command(&folder, &arguments).await).len(), count, "{filter:?}");
    }
    let listed = rows(command(&other, &["list", "--json"]).await);
    assert_eq!(listed.first().unwrap().get("statements").unwrap(), 1);
    assert_ne!(listed.first().unwrap().get("state").unwrap(), "sealed");
    let (_, table) = command(&folder, &["list"]).await;
    assert!(table.contains("sealed") && table.contains(&id(1).to_string()), "{table}");
}

#[tokio::test]
async fn exports_never_overwrite_and_errors_say_what_to_do() {
    let folder = stored("");
    let file = folder.path().join("page.html").display().to_string();
    let session = id(1).to_string();
    let export = ["export", &session, "--format", "html", "--out", &file];
    assert!(command(&folder, &export).await.1.starts_with("wrote "));
    assert!(command(&folder, &export).await.0.contains("cannot write"));
    let missing = id(9).to_string();
    assert!(command(&folder, &["show", &missing]).await.0.contains("no recording of session"));
    std::fs::remove_file(folder.path().join("keys/recording.pub.pem")).unwrap();
    assert!(command(&folder, &["verify", "--all"]).await.0.contains("no public key of recordings"));
}
