//! **I4** No protected value leaves, in any form: every way of asking for it that we could think of, through the live gateway, against a
//! real Postgres. Every byte the client, the recording, the log, the metrics and Slack received is searched for the values, in all the forms
//! of `countersign_e2e::leaks`.
//!
//! Each way is also tried as somebody whom no mask is about, through a gateway of its own: there most of them must find the values, or the
//! search would prove nothing.

mod leak_cases;
mod leak_forms;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::leaks::{Canaries, Format, Received, Wire};
use countersign_e2e::scenario::{recordings_sealed, runtime};
use countersign_e2e::stack::{Stack, StackOptions};
use leak_cases::{CANARIES, COLUMNS, FOUND, MORE, ORACLES, PIECES, PIPELINES, POLICY, QUERIES, SCRIPTS, SEQUENCES, SETUP, TWIN};

#[test]
fn i4_no_protected_value_leaves_in_any_form() -> Result<()> {
    runtime()?.block_on(async {
        let folder = tempfile::tempdir()?;
        let stack = start(folder.path()).await?;
        let canaries = Canaries::new(&[CANARIES, FOUND].concat());
        let mut failures = BTreeSet::new();

        // Whom no mask is about, through a gateway with a log and a recording of its own.
        let mut config = stack.config.clone();
        config.set("recording", "path", folder.path().join("control").display().to_string());
        let (control, gateway) = stack.another_proxy("control", &config).await?;
        let queries = queries();
        let canaries = Arc::new(canaries);
        let mut workers = tokio::task::JoinSet::new();
        for part in queries.chunks(queries.len().div_ceil(WORKERS)) {
            let open = Client::new(&stack, "dba", gateway.port).await?;
            let masked = Client::new(&stack, "ci", stack.gateway.port).await?;
            workers.spawn(ask(part.to_vec(), open, masked, Arc::clone(&canaries)));
        }
        let (mut tried, mut leaks) = (0_usize, 0_usize);
        while let Some(done) = workers.join_next().await {
            let done = done??;
            tried = tried.saturating_add(done.tried);
            leaks = leaks.saturating_add(done.leaks);
            failures.extend(done.failures);
        }
        let all = std::env::var_os("LEAKS_ONLY").is_none();
        ensure!(!all || leaks > tried / 3 * 2, "only {leaks} of {tried} ways find anything where nothing is masked");
        let mut masked = Client::new(&stack, "ci", stack.gateway.port).await?;
        let mut trusted = Client::new(&stack, "analyst", stack.gateway.port).await?;
        let mut ops = Client::new(&stack, "ops", stack.gateway.port).await?;
        let only = std::env::var("LEAKS_ONLY").ok();
        let wanted = |script: &&&str| only.as_ref().is_none_or(|only| script.contains(only));
        for script in SCRIPTS.iter().filter(wanted) {
            for client in [&mut masked, &mut trusted] {
                failures.extend(found(&canaries, &client.play(script, Way::Simple).await?, script));
            }
        }
        for script in MORE.iter().filter(wanted) {
            for client in [&mut masked, &mut ops] {
                failures.extend(found(&canaries, &client.play(script, Way::Simple).await?, &format!("{script} of {}", client.user)));
            }
            if !script.contains(';') {
                failures.extend(found(&canaries, &ops.play(script, Way::Binary).await?, &format!("{script} in binary")));
            }
        }
        for client in [&mut masked, &mut ops] {
            failures.extend(in_steps(client, &canaries).await?);
        }
        failures.extend(notified(&stack, &canaries).await?);
        drop((masked, trusted, ops, control));
        failures.extend(elsewhere(&stack, &canaries).await?);
        ensure!(failures.is_empty(), "{} leaks:\n{}", failures.len(), failures.into_iter().collect::<Vec<_>>().join("\n"));
        Ok(())
    })
}

#[test]
fn masked_results_are_still_results() -> Result<()> {
    runtime()?.block_on(async {
        let folder = tempfile::tempdir()?;
        let stack = start(folder.path()).await?;
        let mut client = Client::new(&stack, "ci", stack.gateway.port).await?;
        for (sql, way) in [
            ("select * from hr.people", Way::Simple),
            ("select * from hr.people", Way::Binary),
            ("select note, note_json, note_tags from hr.people", Way::Binary),
        ] {
            let received = client.play(sql, way).await?;
            ensure!(received.errors.is_empty() && received.data_rows == 4, "{sql} as {way}: {:?}", received.messages);
        }
        for options in ["", "(format csv, header, force_quote (ssn, note))", "(format binary)", "(delimiter '|', header)"] {
            let received = client.play(&format!("copy hr.people to stdout {options}"), Way::Simple).await?;
            ensure!(received.errors.is_empty() && received.copy_data >= 4, "{options}: {:?}", received.messages);
        }
        numbers(&stack).await?;
        settings(&stack).await?;
        leak_forms::styles(&stack).await?;
        leak_forms::unsettled_styles(&stack).await?;
        leak_forms::texts_of_several(&stack).await?;
        // What is copied out masked can be read in again: each value is one of its type.
        let oracle = stack.upstream.oracle().await?;
        oracle.batch_execute("create table public.again (like hr.people)").await?;
        for (options, name) in [("", "text"), ("(format csv)", "csv"), ("(format binary)", "binary")] {
            let session = stack.connect("ci").await?;
            let out = session.copy_out(&format!("copy hr.people to stdout {options}")).await?;
            let data: Vec<_> = futures_util::TryStreamExt::try_collect(out).await?;
            let sink = oracle.copy_in(&format!("copy public.again from stdin {options}")).await?;
            let mut sink = std::pin::pin!(sink);
            for piece in data {
                futures_util::SinkExt::send(&mut sink, piece).await?;
            }
            let rows = sink.finish().await.with_context(|| format!("masked data in {name} cannot be read"))?;
            ensure!(rows == 4, "{rows} rows in {name}");
        }
        let shown: i64 = oracle
            .query_one("select count(*) from public.again where ssn like '*******____' and born = date_trunc('year', born) and salary % 1000 = 0 and secret ~ '^[0-9a-f]{64}$'", &[])
            .await?
            .try_get(0)?;
        ensure!(shown == 12, "only {shown} of 12 copied rows have the masks' form");
        Ok(())
    })
}

/// A statement over two databases that differ in nothing but protected values shows the same, whatever it asks of them.
#[test]
fn what_is_shown_does_not_hang_on_protected_values() -> Result<()> {
    runtime()?.block_on(async {
        let folder = tempfile::tempdir()?;
        let stack = start(folder.path()).await?;
        let oracle = stack.upstream.oracle().await?;
        let mut clients = Vec::new();
        for (database, first) in [("mirror_a", "100 + n * 37 % 9"), ("mirror_b", "999 - n * 37 % 9")] {
            oracle.batch_execute(&format!("create database {database}")).await?;
            let twin = stack.upstream.oracle_on(database).await?;
            twin.batch_execute(&TWIN.replace("FIRST", first)).await?;
            for who in ["ci", "ops"] {
                clients.push((who, Client::of(&stack, who, stack.gateway.port, database).await?));
            }
        }
        let (mut refused, mut failures) = (0_usize, Vec::new());
        for query in ORACLES {
            let ways = [
                (Way::Simple, (*query).to_owned()),
                (Way::Binary, (*query).to_owned()),
                (Way::Simple, format!("copy ({query}) to stdout")),
            ];
            for (way, script) in ways {
                let mut shown: HashMap<&str, Received> = HashMap::new();
                for (who, client) in &mut clients {
                    let received = client.play(&script, way).await?;
                    refused = refused.saturating_add(usize::from(!received.errors.is_empty()));
                    if let Some(other) = shown.get(who) {
                        if answers(other) != answers(&received) {
                            failures.push(format!("{who}, {way}: {script}: {:?} against {:?}", other.rows, received.rows));
                        }
                    } else {
                        shown.insert(who, received);
                    }
                }
            }
        }
        ensure!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
        // The suite asks for what may be shown masked as well as for what may not be asked.
        ensure!(refused > 0 && refused < ORACLES.len() * 3 * clients.len(), "{refused} refused");
        Ok(())
    })
}

#[test]
fn clear_text_takes_a_reviewer_and_leaves_no_trace_of_values() -> Result<()> {
    runtime()?.block_on(async {
        let folder = tempfile::tempdir()?;
        let stack = start(folder.path()).await?;
        let canaries = Canaries::new(CANARIES);
        let port = stack.gateway.port;
        let sql = "/* countersign:unmask INC-31 */ select ssn, secret from hr.people order by id";
        let mut before = None;
        for (action, clear) in [("deny", false), ("approve", true)] {
            let mut client = Client::new(&stack, "ci", port).await?;
            let call = tokio::spawn(async move { client.play(sql, Way::Simple).await });
            let wants = |card: &countersign_e2e::slack::Card| {
                // The card of the request before may keep its buttons a moment longer.
                let fresh = card.request.is_some() && card.request != before;
                fresh && card.plain.contains("INC-31") && card.buttons.iter().any(|button| button.action.as_deref() == Some("approve"))
            };
            let card = stack.slack.wait_for_card(std::time::Duration::from_secs(60), wants).await?;
            ensure!(
                card.plain.contains("asks to see in clear: hr.people.secret, hr.people.ssn"),
                "the card does not say what is asked for: {}",
                card.plain
            );
            let press = countersign_e2e::slack::Press {
                request: card.request.clone().context("no request")?,
                action: action.to_owned(),
                user: "U0DANA".to_owned(),
                reason: (!clear).then(|| "no reason given".to_owned()),
            };
            let pressed = stack.slack.press(&press).await;
            ensure!(pressed.ok, "the button does not work: {pressed:?}");
            let received = call.await??;
            ensure!(canaries.in_received(&received).is_empty() != clear, "after {action}: {:?}", received.messages);
            before = card.request;
        }
        // The same text again is another request; without the comment it is masked as ever.
        let mut client = Client::new(&stack, "ci", port).await?;
        let received = client.play("select ssn, secret from hr.people", Way::Simple).await?;
        ensure!(canaries.in_received(&received).is_empty() && received.data_rows == 4, "a grant outlived its statement");
        drop(client);
        let failures = elsewhere(&stack, &canaries).await?;
        ensure!(failures.is_empty(), "{failures:?}");
        Ok(())
    })
}

/// Numbers in columns of numbers are found by what their columns are called, and stay numbers.
async fn numbers(stack: &Stack) -> Result<()> {
    let canaries = Canaries::new(FOUND);
    let port = stack.gateway.port;
    let (mut open, mut masked) = (Client::new(stack, "dba", port).await?, Client::new(stack, "ci", port).await?);
    let columns = [
        "ssn_given",
        "\"spouseSsn\"",
        "social_security",
        "tax_id",
        "routing_number",
        "phone",
        "account_no",
        "est",
        "paid",
        "place",
        "spans",
        "place_of_many",
        "*",
    ];
    for column in columns {
        let query = format!("select {column} from hr.payees");
        let copies = ["", "(format csv)", "(format binary)"].map(|options| (Way::Simple, format!("copy ({query}) to stdout {options}")));
        for (way, script) in [Way::Simple, Way::Text, Way::Binary].map(|way| (way, query.clone())).into_iter().chain(copies) {
            let clear = open.play(&script, way).await?;
            // Four bytes of a number could be anything in COPY data.
            ensure!(script.contains("binary") || !canaries.in_received(&clear).is_empty(), "nothing to find by {way}: {script}");
            let received = masked.play(&script, way).await?;
            let failures = found(&canaries, &received, &format!("{way}: {script}"));
            ensure!(failures.is_empty() && received.errors.is_empty(), "{failures:?} {:?}", received.messages);
        }
    }
    let row =
        stack.connect("ci").await?.query_one("select ref, refs, ssn_given, est from hr.ledger join hr.payees using (id)", &[]).await?;
    let shown: (i64, Vec<i64>, i32, f64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    ensure!(shown == (1_000_000_000_001_111, vec![1_000_000_000_001_111, 7], 100_008_182, 1_000_000_000_001_111.0), "shown as {shown:?}");
    Ok(())
}

/// What code puts into a setting is not reported; what the client itself puts there is.
async fn settings(stack: &Stack) -> Result<()> {
    let mut ops = Client::new(stack, "ops", stack.gateway.port).await?;
    for (text, expected) in [
        ("set application_name = 'before'", "application_name\0before\0"),
        (
            "do $$ begin perform set_config('application_name', (select secret from hr.people where id = 1), false); end $$",
            "application_name\0****\0",
        ),
        ("set application_name = 'after'", "application_name\0after\0"),
        ("select set_config('application_name', 'constant', false)", "application_name\0constant\0"),
        ("show server_version_num", "server_version_num\0"),
    ] {
        let received = ops.play(text, Way::Simple).await?;
        let shown = String::from_utf8_lossy(&received.bytes).into_owned();
        ensure!(shown.contains(expected) && received.errors.is_empty(), "{text}: {shown:?}");
    }
    let hidden = ops.play("do $$ begin perform set_config('TimeZone', '<314>5', false); end $$", Way::Simple).await?;
    ensure!(
        hidden.errors.is_empty() && !String::from_utf8_lossy(&hidden.bytes).contains("TimeZone"),
        "a zone of code's making is reported"
    );
    let received = ops.play("show timezone", Way::Simple).await?;
    ensure!(received.rows == [[b"****".to_vec()]], "shown as {:?}", received.rows);
    Ok(())
}

/// Connections that ask at a time, of either principal.
const WORKERS: usize = 4;

/// What one of them found.
#[derive(Default)]
struct Asked {
    tried: usize,
    /// Ways that find something where nothing is masked.
    leaks: usize,
    failures: Vec<String>,
}

/// Asks queries in every way, as somebody whom no mask is about and as somebody whom they are about.
async fn ask(queries: Vec<String>, mut open: Client, mut masked: Client, canaries: Arc<Canaries>) -> Result<Asked> {
    let mut asked = Asked::default();
    for query in queries {
        for (way, script) in ways(&query) {
            let clear = canaries.in_received(&open.play(&script, way).await?);
            asked.tried = asked.tried.saturating_add(1);
            asked.leaks = asked.leaks.saturating_add(usize::from(!clear.is_empty()));
            let received = masked.play(&script, way).await?;
            asked.failures.extend(found(&canaries, &received, &format!("{way}: {script}")));
        }
    }
    Ok(asked)
}

/// Postgres, gateway and all the rest, with what is to be found in it.
async fn start(folder: &Path) -> Result<Stack> {
    let policy = folder.join("policy.toml");
    std::fs::write(&policy, POLICY)?;
    let options = StackOptions {
        policy: Some(policy),
        plaintext: true,
        asynchronous: true,
        principals: vec![("ops".to_owned(), vec!["ops".to_owned()])],
        setup: Some(SETUP.to_owned()),
        ..StackOptions::default()
    };
    Stack::start(options, &|_| ()).await
}

/// What a client may tell answers by: every message, but for the OIDs in descriptions and what errors say besides their code.
fn answers(received: &Received) -> Vec<(u8, &[u8])> {
    let mut messages = Vec::new();
    let mut rest = received.bytes.as_slice();
    while let Some((&[tag, a, b, c, d], after)) = rest.split_first_chunk::<5>() {
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or_default().saturating_sub(4);
        let (body, next) = after.split_at(length.min(after.len()));
        messages.push((tag, if matches!(tag, b'T' | b'E') { &[] } else { body }));
        rest = next;
    }
    messages.extend(received.errors.iter().map(|code| (b'E', code.as_bytes())));
    messages
}

fn found(canaries: &Canaries, received: &Received, how: &str) -> Vec<String> {
    canaries.in_received(received).into_iter().map(|what| format!("{what} by {how}")).collect()
}

/// All queries: each column and each thing that can be made of it, and the queries that stand by themselves.
fn queries() -> Vec<String> {
    let only = std::env::var("LEAKS_ONLY").ok();
    let columns = COLUMNS.iter().map(|column| format!("select {column} from hr.people"));
    let pieces = COLUMNS
        .iter()
        .take(2)
        .flat_map(|column| PIECES.iter().map(move |piece| format!("select {} from hr.people", piece.replace('$', column))));
    let own = QUERIES.iter().map(|query| (*query).to_owned());
    columns.chain(pieces).chain(own).filter(|query| only.as_ref().is_none_or(|only| query.contains(only))).collect()
}

/// How a text is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Simple,
    Text,
    Binary,
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Every way to ask a query.
fn ways(query: &str) -> Vec<(Way, String)> {
    let mut ways: Vec<(Way, String)> = [Way::Simple, Way::Text, Way::Binary].map(|way| (way, query.to_owned())).to_vec();
    let scripts = [
        format!("copy ({query}) to stdout"),
        format!("copy ({query}) to stdout (format csv, header, force_quote *)"),
        format!("copy ({query}) to stdout (format csv, delimiter '5', quote '1', escape '7')"),
        format!("copy ({query}) to stdout (format binary)"),
        format!("begin; declare c cursor for {query}; fetch 2 from c; fetch all from c; commit"),
        format!("prepare p as {query}; execute p; execute p; deallocate p"),
        format!("with q as materialized ({query}) select * from q"),
        format!("select q from ({query}) q"),
        format!("select row_to_json(q) from ({query}) q"),
        format!("select * from (select 1) one, lateral ({query}) q"),
        format!("{query} union all {query}"),
        format!("select array(select q::text from ({query}) q)"),
        format!("select string_agg(q::text, ',') from ({query}) q"),
    ];
    ways.extend(scripts.map(|script| (Way::Simple, script)));
    ways.push((Way::Binary, format!("select array(select q from ({query}) q)")));
    ways
}

/// A connection that is made anew when it ends.
struct Client {
    port: u16,
    user: String,
    token: String,
    database: String,
    wire: Wire,
}

impl Client {
    async fn new(stack: &Stack, who: &str, port: u16) -> Result<Self> {
        Self::of(stack, who, port, &stack.gateway.database).await
    }

    async fn of(stack: &Stack, who: &str, port: u16, database: &str) -> Result<Self> {
        let principal = stack.principal(who)?;
        let (user, token, database) = (principal.user.clone(), principal.token.clone(), database.to_owned());
        let wire = Wire::connect(port, &user, &token, &database).await?;
        Ok(Self { port, user, token, database, wire })
    }

    async fn play(&mut self, script: &str, way: Way) -> Result<Received> {
        let mut received = match way {
            Way::Simple => self.wire.simple(script).await,
            Way::Text => self.wire.extended(script, &[], Format::Text).await,
            Way::Binary => self.wire.extended(script, &[], Format::Binary).await,
        }
        .with_context(|| format!("{way}: {script}"))?;
        if received.closed {
            self.wire = Wire::connect(self.port, &self.user, &self.token, &self.database).await?;
        } else if !received.errors.is_empty() {
            // An error may have left a transaction or a prepared statement behind.
            for text in ["rollback", "deallocate all", "reset all"] {
                received.bytes.extend(self.wire.simple(text).await?.bytes);
            }
        }
        Ok(received)
    }
}

/// Cursors and prepared statements of SQL read by the protocol, and pipelines.
async fn in_steps(client: &mut Client, canaries: &Canaries) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    for sequence in SEQUENCES {
        for way in [Way::Text, Way::Binary] {
            for (index, text) in sequence.iter().enumerate() {
                let way = if index == 0 { Way::Simple } else { way };
                let received = client.play(text, way).await?;
                failures.extend(found(canaries, &received, &format!("{way} of {} in {sequence:?}", client.user)));
            }
            for text in ["rollback", "discard all"] {
                client.play(text, Way::Simple).await?;
            }
        }
    }
    for (first, second) in PIPELINES {
        for formats in [&[][..], &[1], &[1, 0], &[0, 1]] {
            let received = client.wire.pipelined(first, second, formats).await?;
            failures.extend(found(canaries, &received, &format!("pipeline of {} with {formats:?}: {first}; {second}", client.user)));
        }
    }
    Ok(failures)
}

/// What another session's trigger puts into a notification.
async fn notified(stack: &Stack, canaries: &Canaries) -> Result<Vec<String>> {
    let mut client = Client::new(stack, "ci", stack.gateway.port).await?;
    let listening = client.wire.simple("listen changes").await?;
    ensure!(listening.errors.is_empty(), "{:?}", listening.messages);
    stack.upstream.oracle().await?.batch_execute("update hr.people set name = name").await?;
    let mut failures = Vec::new();
    for _ in 0..20 {
        let received = client.wire.simple("select 1").await?;
        failures.extend(found(canaries, &received, "a notification"));
        if received.bytes.first() == Some(&b'A') {
            return Ok(failures);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("no notification came")
}

/// What is in the log, the metrics, Slack and the recordings.
async fn elsewhere(stack: &Stack, canaries: &Canaries) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    let mut look =
        |bytes: &[u8], place: &str| failures.extend(canaries.in_bytes(bytes).into_iter().map(|what| format!("{what} in {place}")));
    look(stack.proxy.log().as_bytes(), "the log");
    if let Some(bot) = &stack.bot {
        look(bot.log().as_bytes(), "the bot's log");
    }
    look(stack.proxy.probe("metrics").await?.1.as_bytes(), "the metrics");
    for card in stack.slack.cards() {
        look(format!("{card:?}").as_bytes(), "a card");
    }
    for call in stack.slack.calls() {
        look(call.as_bytes(), "a call to Slack");
    }
    recordings_sealed(stack).await?;
    let mut folders = vec![stack.recordings()?.to_owned(), stack.approvals()?.to_owned()];
    let mut read = 0_usize;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path)?;
            let plain = zstd::stream::decode_all(bytes.as_slice()).unwrap_or(bytes);
            read = read.saturating_add(plain.len());
            look(&plain, &path.display().to_string());
        }
    }
    ensure!(read > 2_000, "only {read} bytes were recorded");
    Ok(failures)
}
