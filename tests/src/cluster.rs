//! A throw-away Postgres: found, initialised, started, filled with the bank, and gone on drop.
//!
//! Owns: the server's binaries, data directory, roles and example data. Does not own: anything between a client and the server.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::Rng as _;
use tokio_postgres::NoTls;

use crate::pki::Authority;
use crate::process::{Process, Scratch, Signal, free_port, last_lines};

mod binaries;

pub use binaries::{find_program, find_server};

/// Name of the example database.
pub const DATABASE: &str = "bank";
/// The role the gateway logs in as.
pub const SERVICE_ROLE: &str = "countersign_svc";

const BANK: &str = include_str!("cluster/bank.sql");

/// How to reach a Postgres server directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// The role the gateway uses.
    pub user: String,
    /// Its password.
    pub password: String,
    /// A role with all rights, for oracles; the same as `user` on a server that is not ours.
    pub superuser: String,
    /// Its password.
    pub superuser_password: String,
    /// Authority to verify the server with; `None`: plain TCP, loopback only.
    pub ca: Option<PathBuf>,
}

impl Server {
    /// Reads `postgres://user:password@host:port/database[?sslmode=disable|verify-full&sslrootcert=FILE]`.
    ///
    /// # Errors
    /// It is not such a URL, or asks for plain TCP to another machine.
    pub fn from_url(url: &str) -> Result<Self> {
        let parsed = reqwest::Url::parse(url).context("--upstream is not a URL")?;
        ensure!(
            matches!(parsed.scheme(), "postgres" | "postgresql"),
            "--upstream must look like postgres://user:password@host:port/database"
        );
        let decode = |text: &str| percent_decode(text).with_context(|| format!("bad escape in --upstream near `{text}`"));
        let host = parsed.host_str().context("--upstream names no host")?.to_owned();
        let user = decode(parsed.username())?;
        ensure!(!user.is_empty(), "--upstream names no user");
        let password = decode(parsed.password().unwrap_or_default())?;
        let database = match decode(parsed.path().trim_start_matches('/'))? {
            name if name.is_empty() => user.clone(),
            name => name,
        };
        let option = |name: &str| parsed.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let ca = match option("sslmode").as_deref() {
            Some("disable") | None if loopback => None,
            Some("disable") => bail!("plain TCP is for loopback only; give sslmode=verify-full and sslrootcert=FILE"),
            _ => Some(PathBuf::from(option("sslrootcert").context("--upstream with TLS needs sslrootcert=FILE")?)),
        };
        Ok(Self {
            host,
            port: parsed.port().unwrap_or(5432),
            database,
            superuser: user.clone(),
            superuser_password: password.clone(),
            user,
            password,
            ca,
        })
    }

    /// A connection of the superuser's, around the gateway, for setting up and for oracles.
    ///
    /// # Errors
    /// The server does not take it.
    pub async fn oracle(&self) -> Result<tokio_postgres::Client> {
        self.oracle_on(&self.database).await
    }

    /// The same, to another database of the server.
    ///
    /// # Errors
    /// The server does not take it.
    pub async fn oracle_on(&self, database: &str) -> Result<tokio_postgres::Client> {
        connect_plain(&self.host, self.port, &self.superuser, &self.superuser_password, database).await
    }
}

async fn connect_plain(host: &str, port: u16, user: &str, password: &str, database: &str) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::Config::new()
        .host(host)
        .port(port)
        .user(user)
        .password(password)
        .dbname(database)
        .application_name("countersign-e2e")
        .ssl_mode(tokio_postgres::config::SslMode::Disable)
        .connect(NoTls)
        .await
        .with_context(|| format!("cannot reach Postgres at {host}:{port} as {user}"))?;
    tokio::spawn(connection);
    Ok(client)
}

/// A running throw-away server.
#[derive(Debug)]
pub struct Cluster {
    process: Process,
    server: Server,
    version: String,
    bin: PathBuf,
    // Declared last: dropped after the server has ended.
    dir: Scratch,
}

impl Cluster {
    /// Initialises and starts a server with the bank in it. `authority` issues its certificate.
    ///
    /// # Errors
    /// No server binaries are found, or they refuse; the error says what to install or the server's own words.
    pub async fn start(authority: &Authority) -> Result<Self> {
        let mut cluster = Self::boot(authority, &find_server()?, &[]).await?;
        DATABASE.clone_into(&mut cluster.server.database);
        SERVICE_ROLE.clone_into(&mut cluster.server.user);
        cluster.server.password = random_password();
        fill(&cluster.server).await?;
        Ok(cluster)
    }

    /// Initialises and starts an empty server out of `bin`. `settings` are `name=value`, over the harness's own.
    ///
    /// # Errors
    /// The programs refuse; the error carries their own words.
    pub async fn boot(authority: &Authority, bin: &Path, settings: &[&str]) -> Result<Self> {
        let bin = bin.to_owned();
        let dir = Scratch::new("pg")?;
        let owner = Owner::choose()?;
        let superuser_password = random_password();
        let data = dir.path().join("data");

        let password_file = dir.path().join("pw");
        crate::pki::write_secret(&password_file, &superuser_password)?;
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700))?;
        let certificate = authority.server("postgres")?;
        let (crt, key) = (dir.path().join("server.crt"), dir.path().join("server.key"));
        std::fs::copy(&certificate.certificate, &crt)?;
        std::fs::copy(&certificate.key, &key)?;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
        owner.give(dir.path())?;

        let initdb = owner
            .command(&bin.join("initdb"))
            .args(["--username=postgres", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--no-sync"])
            .arg(format!("--pwfile={}", password_file.display()))
            .arg(format!("--pgdata={}", data.display()))
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .context("cannot run initdb")?;
        ensure!(initdb.status.success(), "initdb failed:\n{}", last_lines(&String::from_utf8_lossy(&initdb.stderr), 8));

        let mut last = anyhow::anyhow!("not tried");
        // A free port can be taken by someone else between asking and listening.
        for _ in 0..3 {
            let port = free_port()?;
            match start_server(&owner, &bin, &dir, &data, port, &superuser_password, settings).await {
                Ok((process, version)) => {
                    let server = Server {
                        host: "127.0.0.1".to_owned(),
                        port,
                        database: "postgres".to_owned(),
                        user: "postgres".to_owned(),
                        password: superuser_password.clone(),
                        superuser: "postgres".to_owned(),
                        superuser_password,
                        ca: Some(authority.ca_file().to_owned()),
                    };
                    return Ok(Self { process, server, version, bin, dir });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// How to reach it.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Its `server_version`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The folder its programs lie in.
    #[must_use]
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// What the server logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Gives a folder to the user the server runs as.
    ///
    /// # Errors
    /// The owner cannot be changed.
    pub fn give(&self, dir: &Path) -> Result<()> {
        Owner::choose()?.give(dir)
    }

    /// Where its files lie.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its log in the form that programs read.
    #[must_use]
    pub fn csvlog(&self) -> PathBuf {
        self.dir.path().join("log/server.csv")
    }

    /// Ends the server at once, as an outage would.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Starts it again on the same port with the same data.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_again(&mut self) -> Result<()> {
        self.stop();
        let (owner, data) = (Owner::choose()?, self.dir.path().join("data"));
        let started = start_server(&owner, &self.bin, &self.dir, &data, self.server.port, &self.server.superuser_password, &[]).await?;
        (self.process, self.version) = started;
        Ok(())
    }
}

async fn start_server(
    owner: &Owner,
    bin: &Path,
    dir: &Scratch,
    data: &Path,
    port: u16,
    superuser_password: &str,
    settings: &[&str],
) -> Result<(Process, String)> {
    let mut command = owner.command(&bin.join("postgres"));
    command.current_dir("/").arg("-D").arg(data);
    for setting in [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        "unix_socket_directories=".to_owned(),
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", dir.path().join("server.crt").display()),
        format!("ssl_key_file={}", dir.path().join("server.key").display()),
        "password_encryption=scram-sha-256".to_owned(),
        "max_connections=200".to_owned(),
        "shared_buffers=64MB".to_owned(),
        "fsync=off".to_owned(),
        "synchronous_commit=off".to_owned(),
        "full_page_writes=off".to_owned(),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
        // What an auditor compares recordings with.
        "logging_collector=on".to_owned(),
        "log_destination=stderr,csvlog".to_owned(),
        "log_filename=server".to_owned(),
        format!("log_directory={}", dir.path().join("log").display()),
    ] {
        command.arg("-c").arg(setting);
    }
    for setting in settings {
        command.args(["-c", setting]);
    }
    let mut process = Process::spawn("postgres", command, &dir.path().join("server.log"), Signal::Int)?;
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        process.must_run()?;
        if let Ok(client) = connect_plain("127.0.0.1", port, "postgres", superuser_password, "postgres").await {
            let version = client.query_one("show server_version", &[]).await?.try_get(0)?;
            return Ok((process, version));
        }
        ensure!(Instant::now() < end, "postgres did not answer within 60 s:\n{}", last_lines(&process.output(), 10));
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

/// Creates the service role and the bank it owns.
async fn fill(server: &Server) -> Result<()> {
    let admin = server.oracle_on("postgres").await?;
    admin
        .batch_execute(&format!("create role {SERVICE_ROLE} login password '{}'", server.password))
        .await
        .context("cannot create the service role")?;
    admin.batch_execute(&format!("create database {DATABASE} owner {SERVICE_ROLE}")).await?;
    let service = connect_plain(&server.host, server.port, &server.user, &server.password, DATABASE).await?;
    service.batch_execute(BANK).await.context("cannot fill the bank")?;
    Ok(())
}

/// Creates pgbench's tables, straight at the server and owned by the service role.
///
/// # Errors
/// `pgbench` is not there or fails.
pub async fn fill_pgbench(server: &Server, scale: u32) -> Result<()> {
    let output = tokio::process::Command::new(find_program("pgbench")?)
        .args(["--initialize", "--quiet", &format!("--scale={scale}"), "--host", &server.host])
        .args(["--port", &server.port.to_string(), "--username", &server.user, &server.database])
        .env("PGPASSWORD", &server.password)
        .stdin(Stdio::null())
        .output()
        .await?;
    ensure!(output.status.success(), "pgbench --initialize failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Who runs the server: Postgres refuses to run as root.
enum Owner {
    Ourselves,
    Other(String),
}

impl Owner {
    fn choose() -> Result<Self> {
        if !is_root() {
            return Ok(Self::Ourselves);
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let known = |name: &str| passwd.lines().any(|line| line.split(':').next() == Some(name));
        for name in ["postgres", "nobody"] {
            if known(name) {
                return Ok(Self::Other(name.to_owned()));
            }
        }
        bail!("Postgres does not run as root, and there is no user `postgres` to run it as; create one (useradd --system postgres)")
    }

    fn command(&self, program: &Path) -> Command {
        match self {
            Self::Ourselves => Command::new(program),
            Self::Other(name) => {
                if let Ok(setpriv) = find_program("setpriv") {
                    let mut command = Command::new(setpriv);
                    command.arg(format!("--reuid={name}")).arg(format!("--regid={}", group_of(name)));
                    command.args(["--init-groups", "--"]).arg(program);
                    command
                } else {
                    let mut command = Command::new("runuser");
                    command.args(["-u", name, "--"]).arg(program);
                    command
                }
            }
        }
    }

    fn give(&self, dir: &Path) -> Result<()> {
        let Self::Other(name) = self else { return Ok(()) };
        let status = Command::new("chown").args(["-R", name]).arg(dir).status().context("cannot run chown")?;
        ensure!(status.success(), "cannot give {} to {name}", dir.display());
        Ok(())
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn group_of(user: &str) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd.lines().find(|line| line.split(':').next() == Some(user)).and_then(|line| line.split(':').nth(3)).unwrap_or("nogroup").to_owned()
}

/// 32 random characters of `[A-Za-z0-9]`.
#[must_use]
pub fn random_password() -> String {
    rand::rng().sample_iter(rand::distr::Alphanumeric).take(32).map(char::from).collect()
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let (digits, tail) = tail.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

/// The loopback address everything listens on.
#[must_use]
pub const fn loopback() -> Ipv4Addr {
    Ipv4Addr::LOCALHOST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() -> Result<()> {
        let server = Server::from_url("postgres://svc:p%40ss@127.0.0.1:6000/shop")?;
        assert_eq!((server.port, server.database.as_str(), server.password.as_str()), (6000, "shop", "p@ss"));
        assert_eq!(server.ca, None);
        assert_eq!(Server::from_url("postgresql://svc@localhost")?.database, "svc");
        for bad in
            ["mysql://a@b/c", "nonsense", "postgres://10.0.0.1/x", "postgres://a@10.0.0.1/x?sslmode=disable", "postgres://a%4@localhost/x"]
        {
            assert!(Server::from_url(bad).is_err(), "{bad}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn the_bank_opens_and_closes() -> Result<()> {
        let dir = Scratch::new("cluster-test")?;
        let authority = Authority::new(dir.path(), "test authority")?;
        let mut cluster = Cluster::start(&authority).await?;
        let oracle = cluster.server().oracle().await?;
        let row = oracle
            .query_one(
                "select (select count(*) from customers), (select count(distinct ssn) from customers where ssn ~ '^\\d{3}-\\d{2}-\\d{4}$'), \
                 (select count(*) from transactions), (select tableowner::text from pg_tables where tablename = 'customers')",
                &[],
            )
            .await?;
        assert_eq!((row.try_get::<_, i64>(0)?, row.try_get::<_, i64>(1)?, row.try_get::<_, i64>(2)?), (240, 240, 6000));
        assert_eq!(row.try_get::<_, String>(3)?, SERVICE_ROLE);
        // The service role is a second fence: it is no superuser.
        let service = connect_plain("127.0.0.1", cluster.server().port, SERVICE_ROLE, &cluster.server().password, DATABASE).await?;
        assert!(service.batch_execute("create role intruder superuser").await.is_err());
        fill_pgbench(cluster.server(), 1).await?;
        cluster.stop();
        assert!(cluster.server().oracle().await.is_err());
        Ok(())
    }
}
