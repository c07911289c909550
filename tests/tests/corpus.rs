//! The corpus of attacks and controls, through the real gateway: an attack has no effect and shows nothing, a control works.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::cluster::Server;
use countersign_e2e::corpus::{Case, FIXTURE, Played, ROLES, Target, cases, play};
use countersign_e2e::scenario::runtime;
use countersign_e2e::stack::{Stack, StackOptions};
use regex_lite::Regex;
use tokio::sync::{Mutex, Semaphore};

const POLICY: &str = r#"
version = 1

[[rules]]
name = "plain-reads"
what = { kinds = ["read", "transaction", "session", "empty"] }
action = "allow"

[[masks]]
columns = ["public.customers.ssn", "public.customers.card", "public.payroll.ssn"]
mask = { kind = "last4" }

# Copies that set-ups make: they are plain tables of their own.
[[masks]]
columns = ["scratch.two.ssn", "public.aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggg.ssn"]
mask = { kind = "last4" }

[[masks]]
columns = ["public.customers.email"]
mask = { kind = "email" }

[[detect]]
kinds = ["ssn", "card"]
"#;

/// Values of protected columns; none is in a text of the corpus, so none may be in anything the gateway wrote.
const CANARIES: [&str; 9] = [
    "987-65-4321",
    "555-44-3333",
    "111-22-3333",
    "4111111111111111",
    "5500005555555559",
    "4000000000000002",
    "alice@example.com",
    "bob@example.com",
    "zed@example.com",
];

/// Attacks whose oracle holds all the same, and why that is right.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("MK-051", "the pattern is two digits, which the refusal's own SQLSTATE has; no row is shown"),
    ("MK-108", "a derived value is masked in full in place of being refused; the pattern is that of the command tag"),
    ("MK-112", "as MK-108"),
];

/// Cases run at a time.
const AT_A_TIME: usize = 4;

struct Bench {
    server: Server,
    token: String,
    /// Ports of the gateways that log in as `svc` and as `postgres`.
    service: u16,
    superuser: u16,
    scratch: String,
    /// Only one database is copied at a time: copies of one template wait for each other anyway.
    copying: Mutex<tokio_postgres::Client>,
}

#[test]
fn attacks_fail_and_controls_work() -> Result<()> {
    runtime()?.block_on(async {
        let folder = tempfile::tempdir()?;
        let policy = folder.path().join("policy.toml");
        std::fs::write(&policy, POLICY)?;
        let options = StackOptions { policy: Some(policy), plaintext: true, ..StackOptions::default() };
        let stack = Stack::start(options, &|_| ()).await?;
        let admin = stack.upstream.oracle_on("postgres").await?;
        admin.batch_execute(ROLES).await?;
        admin.batch_execute(&format!("alter role svc password '{}'", stack.upstream.password)).await?;
        admin.batch_execute("create database corpus").await?;
        stack.upstream.oracle_on("corpus").await?.batch_execute(FIXTURE).await.context("the fixture fails")?;

        let mut config = stack.config.clone();
        config.set("upstream", "user", "svc");
        let (service, _) = stack.another_proxy("as-svc", &config).await?;
        let secret = folder.path().join("superuser");
        countersign_e2e::pki::write_secret(&secret, &stack.upstream.superuser_password)?;
        let password = toml::Table::from_iter([("file".to_owned(), toml::Value::from(secret.display().to_string()))]);
        config.set("upstream", "user", "postgres").set("upstream", "password", password);
        let (superuser, _) = stack.another_proxy("as-postgres", &config).await?;

        let scratch = tempfile::tempdir()?;
        std::os::unix::fs::chown(scratch.path(), None, None)?;
        std::fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        let bench = Arc::new(Bench {
            server: stack.upstream.clone(),
            token: stack.principal("ci")?.token.clone(),
            service: service.port(),
            superuser: superuser.port(),
            scratch: scratch.path().display().to_string(),
            copying: Mutex::new(admin),
        });
        let mut failures = run(&bench).await?;

        for (name, text) in [("svc", service.log()), ("postgres", superuser.log())] {
            failures.extend(canaries(&text).map(|canary| format!("{canary} in the log of the gateway as {name}")));
        }
        for proxy in [&service, &superuser] {
            let (_, metrics) = proxy.probe("metrics").await?;
            failures.extend(canaries(&metrics).map(|canary| format!("{canary} in the metrics")));
        }
        drop((service, superuser));
        failures.extend(recordings(stack.recordings()?)?);
        ensure!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
        Ok(())
    })
}

/// Runs all cases: those that touch what databases share alone, the rest some at a time.
async fn run(bench: &Arc<Bench>) -> Result<Vec<String>> {
    let only = std::env::var("CORPUS_ONLY").ok();
    let chosen = cases()?.into_iter().filter(|case| only.as_ref().is_none_or(|only| only.split(',').any(|id| id == case.id)));
    let (alone, together): (Vec<Case>, Vec<Case>) = chosen.partition(shares);
    ensure!(only.is_some() || together.len() > 180, "only {} cases", together.len());
    let permits = Arc::new(Semaphore::new(AT_A_TIME));
    let mut tasks = tokio::task::JoinSet::new();
    for case in together {
        let (bench, permits) = (Arc::clone(bench), Arc::clone(&permits));
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await;
            judged(&bench, &case).await
        });
    }
    let mut failures = Vec::new();
    while let Some(done) = tasks.join_next().await {
        failures.extend(done?);
    }
    for case in &alone {
        failures.extend(judged(bench, case).await);
    }
    failures.sort();
    Ok(failures)
}

/// Whether a case changes what databases of a server share.
fn shares(case: &Case) -> bool {
    let setup = case.setup_sql.as_deref().unwrap_or_default();
    case.cleanup.is_some()
        || case.post.is_some()
        || ["alter role", "create role", "subscription", "checkpoint"].iter().any(|word| setup.contains(word))
}

async fn judged(bench: &Bench, case: &Case) -> Option<String> {
    let why = match tokio::time::timeout(Duration::from_secs(40), one(bench, case)).await {
        Ok(Ok(None)) => return None,
        Ok(Ok(Some(why))) => why,
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "takes longer than 40 s".to_owned(),
    };
    if EXCEPTIONS.iter().any(|(id, _)| *id == case.id) && why.starts_with("the leak is there") {
        return None;
    }
    Some(format!("{} ({}): {why}\n    {:.200}", case.id, case.expected_proxy, case.sql.as_deref().unwrap_or_default()))
}

/// Plays a case in a database of its own; what is wrong with the outcome.
async fn one(bench: &Bench, case: &Case) -> Result<Option<String>> {
    let database = format!("corpus_{}", case.id.to_lowercase().replace('-', "_"));
    bench.copying.lock().await.batch_execute(&format!("create database {database} template corpus")).await?;
    let oracle = bench.server.oracle_on(&database).await?;
    let fill =
        |sql: &str| sql.replace("$SCRATCH", &bench.scratch).replace("$PORT", &bench.server.port.to_string()).replace("$DB", &database);
    for part in Case::parts(case.setup_sql.as_deref()) {
        oracle.batch_execute(&fill(&part)).await.context("the set-up fails")?;
    }
    let effect = case.oracle.effect.as_deref().map(&fill);
    let before = holds(&oracle, effect.as_deref()).await;
    let target = Target {
        port: if case.run_as.as_deref() == Some("postgres") { bench.superuser } else { bench.service },
        user: "ci".to_owned(),
        password: bench.token.clone(),
        database: database.clone(),
        server_port: bench.server.port,
        scratch: bench.scratch.clone(),
    };
    let played = play(case, &target).await?;
    let after = holds(&oracle, effect.as_deref()).await;
    for part in Case::parts(case.cleanup.as_deref()).iter().chain(&Case::parts(case.post.as_deref())) {
        oracle.batch_execute(&fill(part)).await.context("the clean-up fails")?;
    }
    drop(oracle);
    bench.copying.lock().await.batch_execute(&format!("drop database if exists {database} with (force)")).await?;
    Ok(wrong(case, &played, before, after)?.map(|why| format!("{why}; errors: {:?}; closed: {:?}", played.errors, played.closed)))
}

/// Whether an effect is there; one that cannot be asked for is not.
async fn holds(oracle: &tokio_postgres::Client, effect: Option<&str>) -> bool {
    let Some(effect) = effect else { return false };
    oracle.query_one(effect, &[]).await.and_then(|row| row.try_get::<_, Option<bool>>(0)).ok().flatten().unwrap_or(false)
}

/// What is wrong with the outcome of a case.
fn wrong(case: &Case, played: &Played, before: bool, after: bool) -> Result<Option<String>> {
    let oracle = &case.oracle;
    let shown = |pattern: &Option<String>| -> Result<bool> {
        Ok(pattern.as_deref().map(Regex::new).transpose()?.is_some_and(|pattern| pattern.is_match(&played.text)))
    };
    let codes = oracle.codes();
    let seen = |code: &str| played.errors.iter().any(|(found, _)| found == code);
    let refused = || played.errors.iter().any(|(code, _)| code == "42501");
    if let Some(name) = &oracle.expect_close
        && !played.closed.contains(name)
    {
        return Ok(Some("the connection is not closed".to_owned()));
    }
    if canaries(&played.text).next().is_some() {
        return Ok(Some("a protected value is shown".to_owned()));
    }
    let allowed = case.expected_proxy.starts_with("allow");
    if case.control || allowed {
        let fails = (oracle.effect.is_some() && !after)
            || (oracle.leak.is_some() && !shown(&oracle.leak)?)
            || (oracle.noleak.is_some() && shown(&oracle.noleak)?)
            || (!case.expected_proxy.starts_with("block") && !codes.is_empty() && !codes.iter().any(|code| seen(code)))
            || (!case.expected_proxy.starts_with("block") && refused());
        return Ok(fails.then(|| "a control does not work".to_owned()));
    }
    if after && !before {
        return Ok(Some("the attack has its effect".to_owned()));
    }
    if after && !refused() && oracle.effect.as_deref() != Some("select true") {
        return Ok(Some("the effect was there before, and nothing was refused".to_owned()));
    }
    if shown(&oracle.leak)? {
        return Ok(Some("the leak is there".to_owned()));
    }
    if oracle.effect.is_none() && oracle.leak.is_none() && !codes.is_empty() {
        let blocks = case.expected_proxy.starts_with("block") && !case.expected_proxy.contains("track");
        let right = if blocks { refused() } else { !played.errors.is_empty() };
        return Ok((!right).then(|| "nothing was refused".to_owned()));
    }
    Ok(None)
}

fn canaries(text: &str) -> impl Iterator<Item = &'static str> {
    CANARIES.into_iter().filter(move |canary| text.contains(canary))
}

/// Protected values in what was recorded, unpacked.
fn recordings(folder: &Path) -> Result<Vec<String>> {
    let (mut found, mut read) = (Vec::new(), 0_usize);
    let mut folders = vec![folder.to_owned()];
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
            let text: String = plain.iter().map(|byte| char::from(*byte)).collect();
            found.extend(canaries(&text).map(|canary| format!("{canary} in {}", path.display())));
        }
    }
    ensure!(read > 20_000, "only {read} bytes were recorded");
    Ok(found)
}
