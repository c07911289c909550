//! `./run bench`: the gateway beside plain Postgres and PgBouncer, interleaved in one run; prints medians and ratios.
//!
//! These figures compare, they do not judge: no test depends on them.

#![expect(clippy::print_stdout, reason = "a command line program")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use countersign_e2e::cluster::{Server, find_program};
use countersign_e2e::process::Scratch;
use countersign_e2e::stack::{Stack, StackOptions};

#[path = "bench/wide.rs"]
mod wide;

/// Compares throughput and latency.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds; each measures every mode through every path once, in turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of one pgbench run.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Clients of one pgbench run.
    #[arg(long, default_value_t = 8)]
    clients: u32,
    /// Scale of pgbench's tables.
    #[arg(long, default_value_t = 10)]
    scale: u32,
    /// Only modes with this in their name.
    #[arg(long, default_value = "")]
    only: String,
}

/// A way to the server.
struct Route {
    name: &'static str,
    port: u16,
    user: String,
    password: String,
    /// The process in between.
    process: Option<u32>,
}

const MODES: [(&str, &[&str]); 4] = [
    ("select-only, simple", &["-S", "-M", "simple"]),
    ("select-only, prepared", &["-S", "-M", "prepared"]),
    ("TPC-B, extended", &["-M", "extended"]),
    ("TPC-B, simple", &["-M", "simple"]),
];

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/bench.toml");
    let options = StackOptions {
        policy: Some(policy),
        asynchronous: true,
        plaintext: true,
        upstream_plaintext: true,
        pgbench: Some(arguments.scale),
        show_build: true,
        ..StackOptions::default()
    };
    let mut stack = Stack::start(options, &|step| println!("{step}")).await?;
    let scratch = Scratch::new("bench")?;
    let pooler = Pooler::start(&stack.upstream, scratch.path()).await?;
    let gateway = stack.proxy.process().id();
    let dba = stack.principals.get("dba").context("no dba")?;
    let service =
        |name, port, process| Route { name, port, user: stack.upstream.user.clone(), password: stack.upstream.password.clone(), process };
    let mut routes = vec![service("direct", stack.upstream.port, None)];
    match &pooler {
        Some(pooler) => routes.push(service("pgbouncer", pooler.port, pooler.process.id())),
        None => println!("pgbouncer is not installed, so it is left out (apt-get install pgbouncer)"),
    }
    let (user, password) = (dba.user.clone(), dba.token.clone());
    routes.push(Route { name: "countersign", port: stack.gateway.port, user, password, process: Some(gateway) });

    let analyst = stack.principals.get("analyst").context("no analyst")?;
    let (user, password) = (analyst.user.clone(), analyst.token.clone());
    let masked = Route { name: "masked", port: stack.gateway.port, user, password, process: Some(gateway) };
    let reads_wide = "masked wide rows".contains(&arguments.only);
    if reads_wide {
        println!("filling a table with a million rows of ten columns");
        wide::fill(&stack.upstream).await?;
    }

    let mut figures = Figures::new();
    let mut costs = Figures::new();
    for round in 1..=arguments.rounds {
        for (mode, flags) in MODES.into_iter().filter(|(mode, _)| mode.contains(&arguments.only)) {
            for route in &routes {
                println!("round {round} of {}: {mode} through {}", arguments.rounds, route.name);
                let before = route.process.and_then(cpu_seconds);
                let (tps, transactions) = pgbench(&stack.upstream, route, flags, arguments.clients, arguments.seconds).await?;
                figures.entry((mode, route.name)).or_default().push(tps);
                if let (Some(before), Some(after)) = (before, route.process.and_then(cpu_seconds)) {
                    costs.entry((mode, route.name)).or_default().push((after - before) * 1e6 / transactions);
                }
            }
        }
        for route in routes.iter().filter(|_| "latency rows".contains(&arguments.only)) {
            println!("round {round} of {}: latency and a million rows through {}", arguments.rounds, route.name);
            let client = connect(&stack.upstream, route).await?;
            figures.entry(("one client, select 1, p50 µs", route.name)).or_default().push(latency(&client).await?);
            figures.entry(("a million rows, rows/s", route.name)).or_default().push(million(&client).await?);
        }
    }
    for round in (1..=arguments.rounds).filter(|_| reads_wide) {
        for route in routes.iter().chain([&masked]) {
            println!("round {round} of {}: a million wide rows through {}", arguments.rounds, route.name);
            let client = connect(&stack.upstream, route).await?;
            figures.entry(("a million wide rows, rows/s", route.name)).or_default().push(wide::read(&client).await?);
            if let Some(resident) = route.process.and_then(wide::resident) {
                println!("  resident memory of the process in between: {resident:.0} MiB");
            }
        }
    }
    routes.push(masked);
    println!("\nmedians of the rounds; in brackets the ratio to direct; `masked`: two columns masked, the detectors on the rest");
    report(&routes, &mut figures);
    println!("\nprocessor time of the process in between, microseconds a transaction");
    report(&routes, &mut costs);
    Ok(())
}

/// Measured values by mode and route.
type Figures = BTreeMap<(&'static str, &'static str), Vec<f64>>;

fn report(routes: &[Route], figures: &mut Figures) {
    print!("{:<30}", "");
    for route in routes {
        print!("{:>22}", route.name);
    }
    println!();
    let mut modes: Vec<&'static str> = figures.keys().map(|(mode, _)| *mode).collect();
    modes.dedup();
    for mode in modes {
        print!("{mode:<30}");
        let direct = figures.get_mut(&(mode, "direct")).map_or(0.0, |values| median(values));
        for route in routes {
            let value = figures.get_mut(&(mode, route.name)).map_or(0.0, |values| median(values));
            let text = if value == 0.0 {
                "-".to_owned()
            } else if direct == 0.0 {
                format!("{value:.1}")
            } else {
                format!("{value:.0} ({:.2})", value / direct)
            };
            print!("{text:>22}");
        }
        println!();
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

async fn pgbench(server: &Server, route: &Route, flags: &[&str], clients: u32, seconds: u32) -> Result<(f64, f64)> {
    let output = tokio::process::Command::new(find_program("pgbench")?)
        .args(flags)
        .args(["--no-vacuum", "--jobs=2", &format!("--client={clients}"), &format!("--time={seconds}")])
        .args(["--host=127.0.0.1", &format!("--port={}", route.port), &format!("--username={}", route.user), &server.database])
        .env("PGPASSWORD", &route.password)
        .env("PGSSLMODE", "disable")
        .stdin(Stdio::null())
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "pgbench through {} failed: {}{text}", route.name, String::from_utf8_lossy(&output.stderr));
    let number = |start: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(start)).with_context(|| format!("pgbench printed no `{start}`"))?;
        Ok::<f64, anyhow::Error>(rest.split([' ', '/']).next().unwrap_or_default().parse()?)
    };
    Ok((number("tps = ")?, number("number of transactions actually processed: ")?))
}

/// Processor time a process has used, user and system. Linux counts it in hundredths of a second for user space.
fn cpu_seconds(process: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / 100.0)
}

async fn connect(server: &Server, route: &Route) -> Result<tokio_postgres::Client> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(route.port).user(&route.user).password(&route.password).dbname(&server.database);
    config.ssl_mode(tokio_postgres::config::SslMode::Disable);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.with_context(|| format!("through {}", route.name))?;
    tokio::spawn(connection);
    Ok(client)
}

async fn latency(client: &tokio_postgres::Client) -> Result<f64> {
    let mut taken = Vec::new();
    for _ in 0..3000 {
        let start = Instant::now();
        client.simple_query("select 1").await?;
        taken.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(&mut taken))
}

async fn million(client: &tokio_postgres::Client) -> Result<f64> {
    use std::pin::pin;
    let start = Instant::now();
    let sql = "select aid, bid, abalance, filler from pgbench_accounts limit 1000000";
    let mut rows = pin!(client.query_raw(sql, std::iter::empty::<i32>()).await?);
    let mut count = 0_u32;
    while std::future::poll_fn(|cx| futures_next(rows.as_mut(), cx)).await.transpose()?.is_some() {
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

fn futures_next(
    stream: std::pin::Pin<&mut tokio_postgres::RowStream>,
    cx: &mut std::task::Context<'_>,
) -> std::task::Poll<Option<Result<tokio_postgres::Row, tokio_postgres::Error>>> {
    use futures_util::Stream as _;
    stream.poll_next(cx)
}

/// PgBouncer in session mode, on a port of its own.
struct Pooler {
    port: u16,
    process: tokio::process::Child,
}

impl Pooler {
    async fn start(server: &Server, dir: &Path) -> Result<Option<Self>> {
        let Some(program) = ["/usr/sbin/pgbouncer"].iter().map(PathBuf::from).find(|path| path.exists()) else { return Ok(None) };
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let users = dir.join("users.txt");
        std::fs::write(&users, format!("\"{}\" \"{}\"\n", server.user, server.password))?;
        let ini = dir.join("pgbouncer.ini");
        std::fs::write(
            &ini,
            format!(
                "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = plain\n\
                 auth_file = {}\npool_mode = session\ndefault_pool_size = 64\nmax_client_conn = 200\nignore_startup_parameters = extra_float_digits\n",
                server.host,
                server.port,
                users.display()
            ),
        )?;
        let mut command = tokio::process::Command::new(program);
        if is_root() {
            std::process::Command::new("chown").args(["-R", "postgres"]).arg(dir).status()?;
            command.args(["-u", "postgres"]);
        }
        let process =
            command.arg("-q").arg(&ini).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
        for _ in 0..100 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(Some(Self { port, process }));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("PgBouncer does not listen")
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
}
