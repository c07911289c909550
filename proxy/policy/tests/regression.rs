//! PostgreSQL's regression scripts, each statement judged and then watched on the server: nothing that is judged a read may write.
//!
//! psql runs the scripts through a small proxy of this test. What is judged a read runs in a READ ONLY transaction, and must leave
//! no transaction id behind. `data/regress` fetches the scripts, starts a throw-away cluster and runs this test; by itself it is skipped.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::as_conversions, clippy::print_stdout, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use countersign_policy::catalog::{CatalogBuilder, QUERIES};
use countersign_policy::facts::SessionAction;
use countersign_policy::judge::STACK_BYTES;
use countersign_policy::state::TransactionStatus;
use countersign_policy::{Catalog, JudgeRequest, Judgement, Policy, Principal, SessionState, StatementKind as K, judge};

mod regression {
    pub(crate) mod wire;
}
use regression::wire;

const POLICY: &str = "version = 1\n[settings]\nmax_statements = 100\n[[rules]]\nname = \"all\"\naction = \"allow\"\n";
const USER: &str = "postgres";
const DATABASE: &str = "regression";

#[derive(Debug, Default)]
struct Tally {
    statements: usize,
    reads: usize,
    unknown_reads: usize,
    milder: Vec<String>,
    unknown: BTreeMap<String, (usize, String)>,
}

struct Watch {
    client: TcpStream,
    server: TcpStream,
    side: TcpStream,
    policy: Arc<Policy>,
    catalog: Catalog,
    state: SessionState,
    dirty: bool,
    pending: bool,
    status: u8,
    tally: Arc<Mutex<Tally>>,
}

fn load(side: &mut TcpStream) -> Catalog {
    let mut builder = CatalogBuilder::default();
    wire::query(side, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").unwrap().unwrap();
    for (index, query) in QUERIES.iter().enumerate() {
        for row in wire::query(side, query.sql).unwrap().unwrap() {
            let values: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
            builder.row(index, &values).unwrap();
        }
    }
    wire::query(side, "COMMIT").unwrap().unwrap();
    builder.finish().unwrap()
}

fn worst(judgement: &Judgement) -> K {
    judgement.statements.iter().map(|facts| facts.kind).max().unwrap()
}

/// The mildest class that a completed command may have been given.
fn least(tag: &str) -> K {
    let words: Vec<&str> = tag.split(' ').collect();
    match words[0] {
        "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "NOTIFY" | "REFRESH" => K::Write,
        "VACUUM" | "ANALYZE" | "LOCK" | "CLUSTER" | "REINDEX" | "CHECKPOINT" => K::Utility,
        "DO" | "CALL" => K::Procedural,
        "GRANT" | "REVOKE" => K::Dcl,
        "CREATE" | "ALTER" | "DROP" if words.get(1) == Some(&"ROLE") => K::Dcl,
        "CREATE" | "ALTER" | "DROP" | "COMMENT" | "TRUNCATE" => K::Ddl,
        "COPY" => K::CopyOut,
        "SELECT" => K::Read,
        _ => K::Empty,
    }
}

impl Watch {
    fn judge(&self, sql: &str) -> Judgement {
        let principal =
            Principal { issuer: "i".into(), subject: "s".into(), email: None, groups: BTreeSet::new(), claims: BTreeMap::new() };
        let request = JudgeRequest {
            policy: &self.policy,
            principal: &principal,
            database: DATABASE,
            catalog: &self.catalog,
            state: &self.state,
            parameter_types: &[],
            now: 0,
        };
        judge(sql, &request)
    }

    fn judge_fresh(&mut self, sql: &str) -> Judgement {
        let first = self.judge(sql);
        // What is no read by any facts needs no newer ones to be watched.
        let by_itself = !matches!(worst(&first), K::Read | K::CopyOut | K::Unknown);
        if (self.dirty || first.stale_catalog) && !by_itself {
            self.catalog = load(&mut self.side);
            self.dirty = false;
            if !self.pending && self.status == b'I' {
                self.state.catalog_loaded();
            }
            return self.judge(sql);
        }
        first
    }

    fn own(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        wire::query(&mut self.server, sql).unwrap()
    }

    fn has_id(&mut self) -> Option<String> {
        self.own("SELECT pg_catalog.pg_current_xact_id_if_assigned()").ok().and_then(|rows| rows[0][0].clone())
    }

    /// Passes the query on and the answers back; the SQLSTATE of an error, and the tags of what completed.
    fn relay(&mut self, body: &[u8], show: Option<u8>) -> std::io::Result<(Option<String>, Vec<String>)> {
        wire::write(&mut self.server, b'Q', body)?;
        let (mut failure, mut tags) = (None, Vec::new());
        loop {
            let (tag, mut body) = wire::read(&mut self.server)?;
            match tag {
                b'E' => failure = Some(wire::field(&body, b'C')),
                b'C' => tags.push(String::from_utf8_lossy(&body).trim_end_matches('\0').to_owned()),
                b'S' => {
                    let mut parts = body.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
                    let (name, value) = (parts.next().unwrap(), parts.next().unwrap());
                    self.state.parameter(&name, &value);
                }
                b'Z' => {
                    self.status = body[0];
                    body[0] = show.unwrap_or(body[0]);
                }
                _ => {}
            }
            wire::write(&mut self.client, tag, &body)?;
            match tag {
                b'Z' => return Ok((failure, tags)),
                b'G' => loop {
                    let (tag, body) = wire::read(&mut self.client)?;
                    wire::write(&mut self.server, tag, &body)?;
                    if matches!(tag, b'c' | b'f') {
                        break;
                    }
                },
                _ => {}
            }
        }
    }

    fn query(&mut self, body: &[u8]) -> std::io::Result<()> {
        let Ok(sql) = std::str::from_utf8(&body[..body.len() - 1]).map(str::to_owned) else {
            return self.relay(body, None).map(|_| ());
        };
        let judgement = self.judge_fresh(&sql);
        let kind = worst(&judgement);
        let selects = judgement.statements.len() == 1
            && ["select", "with", "values", "table", "("].iter().any(|word| without_comments(&sql).to_ascii_lowercase().starts_with(word));
        let watched = judgement.statements.len() == 1 && (matches!(kind, K::Read | K::CopyOut) || (kind == K::Unknown && selects));
        let wrapped = watched && self.status == b'I';
        let mut before = None;
        if wrapped {
            let begin = if kind == K::Unknown { "BEGIN" } else { "BEGIN READ ONLY" };
            self.own(begin).unwrap();
        } else if watched && self.status == b'T' {
            before = self.has_id();
        }
        let (failure, tags) = self.relay(body, wrapped.then_some(b'I'))?;
        let mut id = None;
        if watched && self.status == b'T' && failure.is_none() {
            id = if before.is_none() { self.has_id() } else { None };
        }
        if wrapped {
            let _ = self.own(if self.status == b'T' { "COMMIT" } else { "ROLLBACK" });
            self.status = b'I';
        }
        self.settle(&judgement, failure.is_none());
        self.count(&sql, kind, &judgement, failure.as_deref(), &tags, watched, id.is_some());
        Ok(())
    }

    fn settle(&mut self, judgement: &Judgement, worked: bool) {
        self.state.forwarded(judgement);
        let status = match self.status {
            b'I' => TransactionStatus::Idle,
            b'T' => TransactionStatus::InTransaction,
            _ => TransactionStatus::Failed,
        };
        self.pending |= judgement.statements.iter().any(|facts| facts.action == SessionAction::CatalogChange);
        self.state.ready(status);
        if status == TransactionStatus::Idle {
            if worked {
                self.state.completed(judgement);
            }
            self.dirty |= std::mem::take(&mut self.pending) || self.state.has_changes();
        }
    }

    #[expect(clippy::too_many_arguments, reason = "tests")]
    fn count(&self, sql: &str, kind: K, judgement: &Judgement, failure: Option<&str>, tags: &[String], watched: bool, id: bool) {
        let mut tally = self.tally.lock().unwrap();
        tally.statements += 1;
        let notes = || judgement.statements.iter().flat_map(|facts| facts.notes.clone()).collect::<Vec<_>>().join("; ");
        let asks_for_id = sql.contains("txid_current") || sql.contains("pg_current_xact_id");
        if failure == Some("25006") && watched {
            tally.milder.push(format!("{kind:?} refused as a write: {sql}"));
        }
        if watched && kind != K::Unknown && id && !asks_for_id {
            tally.milder.push(format!("{kind:?} got a transaction id: {sql}"));
        }
        if failure.is_none() {
            let explains = without_comments(sql).to_ascii_lowercase().starts_with("explain");
            if let Some(tag) = tags.iter().find(|tag| least(tag) > kind && !explains) {
                tally.milder.push(format!("{kind:?} completed as {tag}: {sql}"));
            }
            // The gateway ends a session that is in this state.
            let ended = notes().contains("standard_conforming_strings") || notes().contains("client_encoding");
            if watched && !id && !ended {
                tally.reads += 1;
                if kind == K::Unknown {
                    tally.unknown_reads += 1;
                    println!("unknown\t{}\t{}", notes(), sql.split_whitespace().collect::<Vec<_>>().join(" "));
                    let entry = tally.unknown.entry(notes()).or_default();
                    entry.0 += 1;
                    entry.1 = sql.chars().take(160).collect();
                }
            }
        }
    }

    fn run(&mut self) -> std::io::Result<()> {
        loop {
            let (tag, body) = wire::read(&mut self.client)?;
            match tag {
                b'Q' => self.query(&body)?,
                _ => wire::write(&mut self.server, tag, &body)?,
            }
            if tag == b'X' {
                return Ok(());
            }
        }
    }
}

fn without_comments(sql: &str) -> &str {
    let mut rest = sql.trim_start();
    loop {
        if rest.starts_with("--") {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
        } else if rest.starts_with("/*") {
            rest = rest.split_once("*/").map_or("", |(_, rest)| rest).trim_start();
        } else {
            return rest;
        }
    }
}

fn session(client: TcpStream, port: u16, policy: Arc<Policy>, tally: Arc<Mutex<Tally>>) -> std::io::Result<()> {
    let mut client = client;
    client.set_nodelay(true)?;
    let mut packet = wire::read_startup(&mut client)?;
    while matches!(packet[4..8], [0x04, 0xd2, 0x16, 0x2f | 0x30]) {
        std::io::Write::write_all(&mut client, b"N")?;
        packet = wire::read_startup(&mut client)?;
    }
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    server.set_nodelay(true)?;
    if matches!(packet[4..8], [0x04, 0xd2, 0x16, 0x2e]) {
        return std::io::Write::write_all(&mut server, &packet);
    }
    std::io::Write::write_all(&mut server, &packet)?;
    let mut state = SessionState::default();
    loop {
        let (tag, body) = wire::read(&mut server)?;
        if tag == b'S' {
            let mut parts = body.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
            let (name, value) = (parts.next().unwrap(), parts.next().unwrap());
            state.parameter(&name, &value);
        }
        wire::write(&mut client, tag, &body)?;
        if tag == b'Z' {
            break;
        }
        if tag == b'E' {
            return Ok(());
        }
    }
    let mut side = wire::connect(port, USER, DATABASE)?;
    let catalog = load(&mut side);
    Watch { client, server, side, policy, catalog, state, dirty: false, pending: false, status: b'I', tally }.run()
}

fn listen(port: u16, tally: Arc<Mutex<Tally>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let policy = Arc::new(Policy::parse(POLICY).unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (policy, tally) = (Arc::clone(&policy), Arc::clone(&tally));
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || session(client.unwrap(), port, policy, tally)).unwrap();
        }
    });
    own
}

/// The scripts in the order of the schedule.
fn scripts(folder: &std::path::Path) -> Vec<String> {
    let schedule = std::fs::read_to_string(folder.join("parallel_schedule")).unwrap();
    let lines = schedule.lines().filter_map(|line| line.strip_prefix("test:"));
    lines.flat_map(|line| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn what_is_judged_a_read_writes_nothing_in_the_regression_scripts() {
    let Some(folder) = std::env::var_os("COUNTERSIGN_REGRESS").map(PathBuf::from) else {
        println!("skipped: run data/regress, which sets COUNTERSIGN_REGRESS and COUNTERSIGN_REGRESS_PORT");
        return;
    };
    let port: u16 = std::env::var("COUNTERSIGN_REGRESS_PORT").unwrap().parse().unwrap();
    let only: Option<BTreeSet<String>> =
        std::env::var("COUNTERSIGN_REGRESS_ONLY").ok().map(|names| names.split(',').map(str::to_owned).collect());
    let tally = Arc::new(Mutex::new(Tally::default()));
    let own = listen(port, Arc::clone(&tally));
    let environment: HashMap<&str, String> = HashMap::from([
        ("PGHOST", "127.0.0.1".to_owned()),
        ("PGPORT", own.to_string()),
        ("PGUSER", USER.to_owned()),
        ("PGDATABASE", DATABASE.to_owned()),
        ("PGSSLMODE", "disable".to_owned()),
        ("PGGSSENCMODE", "disable".to_owned()),
        ("PGTZ", "PST8PDT".to_owned()),
        ("PGDATESTYLE", "Postgres, MDY".to_owned()),
        ("PG_ABS_SRCDIR", folder.display().to_string()),
        ("PG_ABS_BUILDDIR", folder.display().to_string()),
        ("PG_LIBDIR", "/nonexistent".to_owned()),
        ("PG_DLSUFFIX", ".so".to_owned()),
    ]);
    for script in scripts(&folder) {
        if only.as_ref().is_some_and(|only| !only.contains(&script)) {
            continue;
        }
        let mut psql = Command::new("timeout");
        psql.args(["300", "psql", "-X", "-a", "-q", "-f"]).arg(folder.join("sql").join(format!("{script}.sql")));
        psql.envs(&environment).current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = psql.status().unwrap();
        let tally = tally.lock().unwrap();
        println!(
            "{script}: {} so far, {} milder, {} of {} reads unknown",
            tally.statements,
            tally.milder.len(),
            tally.unknown_reads,
            tally.reads
        );
    }
    let tally = tally.lock().unwrap();
    let mut unknown: Vec<_> = tally.unknown.iter().collect();
    unknown.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    for (notes, (count, example)) in unknown.into_iter().take(60) {
        println!("{count} unknown: {notes}\n    {example}");
    }
    println!("{} statements, {} plain reads, {} of them unknown", tally.statements, tally.reads, tally.unknown_reads);
    assert!(tally.milder.is_empty(), "{} judged milder than they are:\n{}", tally.milder.len(), tally.milder.join("\n"));
    if only.is_none() {
        assert!(tally.statements > 10_000, "only {} statements ran", tally.statements);
        assert!(tally.unknown_reads * 50 < tally.reads, "2 % or more of the plain reads are unknown");
    }
}
