//! Logins against a real, throw-away server. Skipped with a printed word where there is none.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::*;
use crate::{
    catalog::{CatalogFailure, Catalogs},
    config::{Secret, TlsFiles, Upstream, UpstreamTls},
};

const PASSWORD: &str = "correct horse";

struct Server {
    process: Child,
    dir: tempfile::TempDir,
    port: u16,
    clients: Clients,
}

/// The authority the server trusts for clients' certificates.
struct Clients {
    dir: PathBuf,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Clients {
    fn new(dir: &Path) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "clients");
        std::fs::write(dir.join("clients.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir: dir.to_owned(), issuer: rcgen::Issuer::new(params, key) }
    }

    /// Puts a certificate for a role into the two files.
    fn issue(&self, role: &str) -> TlsFiles {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, role);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let files = TlsFiles { certificate: self.dir.join("client.pem"), key: self.dir.join("client.key") };
        std::fs::write(&files.certificate, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A fast shutdown; killed hard it would leave shared memory behind.
        let asked = Command::new("kill").arg("-INT").arg(self.process.id().to_string()).status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

fn programs() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}

/// The server refuses to run as root; then it runs as `postgres`.
fn command(program: &Path, root: bool) -> Command {
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

async fn start() -> Option<Server> {
    let Some(bin) = programs() else {
        println!("skipped: no PostgreSQL server programs in /usr/lib/postgresql");
        return None;
    };
    let root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    let dir = tempfile::tempdir().unwrap();
    let (ca, certificate, key) = (dir.path().join("ca.pem"), dir.path().join("server.crt"), dir.path().join("server.key"));
    let pair = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&pair).unwrap();
    std::fs::write(&ca, own.pem()).unwrap();
    std::fs::write(&certificate, own.pem()).unwrap();
    std::fs::write(&key, pair.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let other =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    std::fs::write(dir.path().join("other.pem"), other.pem()).unwrap();
    let clients = Clients::new(dir.path());
    clients.issue("cert_role");
    if root {
        assert!(Command::new("chown").args(["-R", "postgres:postgres"]).arg(dir.path()).status().unwrap().success());
    }
    let data = dir.path().join("data");
    let made = command(&bin.join("initdb"), root)
        .arg("-D")
        .arg(&data)
        .args(["-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "-A", "trust"])
        .current_dir("/")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let hba = "hostnossl all postgres 127.0.0.1/32 trust\n\
               hostssl all cert_role 127.0.0.1/32 cert\nhostssl all both_role 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n\
               hostssl all clear_role 127.0.0.1/32 password\nhostssl all md5_role 127.0.0.1/32 md5\nhostssl all all 127.0.0.1/32 scram-sha-256\n\
               hostnossl all clear_role 127.0.0.1/32 password\nhostnossl all all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(data.join("pg_hba.conf"), hba).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut run = command(&bin.join("postgres"), root);
    run.arg("-D").arg(&data).args([
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "unix_socket_directories=",
        "-c",
        "fsync=off",
        "-c",
        "ssl=on",
    ]);
    run.args([
        "-c",
        &format!("port={port}"),
        "-c",
        &format!("ssl_cert_file={}", certificate.display()),
        "-c",
        &format!("ssl_key_file={}", key.display()),
        "-c",
        &format!("ssl_ca_file={}", dir.path().join("clients.pem").display()),
    ]);
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let process = run.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let server = Server { process, dir, port, clients };
    server
        .sql(&format!(
            "CREATE ROLE scram_role LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE clear_role LOGIN PASSWORD '{PASSWORD}'; \
         CREATE ROLE cert_role LOGIN; CREATE ROLE both_role LOGIN PASSWORD '{PASSWORD}'; \
         SET password_encryption = 'md5'; CREATE ROLE md5_role LOGIN PASSWORD '{PASSWORD}'"
        ))
        .await;
    Some(server)
}

impl Server {
    /// Runs statements as superuser; waits for the server to be up.
    async fn sql(&self, sql: &str) {
        for _ in 0..200 {
            let target = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", self.port);
            if let Ok((client, connection)) = tokio_postgres::connect(&target, tokio_postgres::NoTls).await {
                let task = tokio::spawn(connection);
                client.batch_execute(sql).await.unwrap();
                drop(client);
                let _ = task.await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server did not come up: {}", std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default());
    }

    fn settings(&self, user: &str, tls: bool) -> Upstream {
        Upstream {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            user: user.to_owned(),
            credential: Credential::Password(Secret::Literal(SecretValue::new(PASSWORD.to_owned()))),
            client_certificate: None,
            database: None,
            tls: if tls { UpstreamTls::VerifyFull { ca: Some(self.dir.path().join("ca.pem")) } } else { UpstreamTls::Disable },
            connect_timeout: Duration::from_secs(10),
            catalog_refresh: Duration::from_secs(60),
            estimate_timeout: Duration::from_secs(2),
            roles: Vec::new(),
        }
    }
}

fn dialer(settings: &Upstream) -> Dialer {
    Dialer::new(settings, &Aws::default()).unwrap()
}

fn request() -> LoginRequest {
    LoginRequest {
        asks_search_path: true,
        database: "postgres".to_owned(),
        application_name: format!("countersign:{}", "é".repeat(60)),
        settings: vec![("timezone".to_owned(), "Asia/Tokyo".to_owned())],
        options: Vec::new(),
    }
}

async fn login(settings: &Upstream) -> Result<LoggedIn, UpstreamError> {
    dialer(settings).login(&request()).await
}

#[tokio::test]
async fn the_gateway_logs_in_to_a_real_server() {
    let Some(server) = start().await else { return };
    every_method_that_is_safe(&server).await;
    failures_are_precise_for_operators_and_generic_for_clients(&server).await;
    options_keep_their_values_whole(&server).await;
    a_rotated_password_needs_no_restart(&server).await;
    certificates_log_in_and_are_rotated(&server).await;
    cancel_reaches_the_statement(&server).await;
    catalogs_load_and_share_loads(&server).await;
}

async fn every_method_that_is_safe(server: &Server) {
    // SCRAM over TLS: the server offers PLUS and would refuse a client that says it was not offered, so this proves the channel binding.
    for (user, tls) in [("scram_role", true), ("md5_role", true), ("clear_role", true), ("scram_role", false)] {
        let login = login(&server.settings(user, tls)).await.unwrap_or_else(|error| panic!("{user}: {error}"));
        let value = |name: &str| login.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).unwrap();
        assert_eq!((value("client_encoding"), value("standard_conforming_strings"), value("TimeZone")), ("UTF8", "on", "Asia/Tokyo"));
        assert!(value("application_name").starts_with("countersign:"), "{user}");
        assert_eq!(login.tls, if tls { "TLSv1.3" } else { "" });
        assert!(login.cancel.process_id() > 0 && login.buffer.is_empty());
    }
}

async fn failures_are_precise_for_operators_and_generic_for_clients(server: &Server) {
    let mut wrong = server.settings("scram_role", true);
    wrong.credential = Credential::Password(Secret::Literal(SecretValue::new("wrong".to_owned())));
    let mut other_ca = server.settings("scram_role", true);
    other_ca.tls = UpstreamTls::VerifyFull { ca: Some(server.dir.path().join("other.pem")) };
    let mut other_name = server.settings("scram_role", true);
    other_name.host = "localhost".to_owned();
    let mut down = server.settings("scram_role", false);
    down.port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut missing = server.settings("scram_role", true);
    missing.credential = Credential::Password(Secret::File(server.dir.path().join("nowhere")));
    let table = [
        (wrong, "28P01", "upstream.password", "08004"),
        (other_ca, "TLS handshake failed", "upstream.ca", "08006"),
        (other_name, "TLS handshake failed", "upstream.host", "08006"),
        (down, "cannot connect", "upstream.port", "08006"),
        (missing, "nowhere", "secret file", "08004"),
        (server.settings("clear_role", false), "cleartext password without TLS", "scram", "08004"),
        (server.settings("nobody", true), "28P01", "upstream.user", "08004"),
    ];
    for (settings, said, hint, code) in table {
        let error = login(&settings).await.map(|_| ()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(said) && text.contains(hint), "{text}");
        let told = error.client("postgres");
        assert_eq!(told.code, code, "{text}");
        assert!(!told.message.contains("_role") && !told.message.contains("password"), "{told}");
    }
    let mut nowhere = request();
    nowhere.database = "nowhere".to_owned();
    let error = dialer(&server.settings("scram_role", true)).login(&nowhere).await.map(|_| ()).unwrap_err();
    assert_eq!(error.client("nowhere").code, "3D000");
    let mut odd = request();
    odd.settings = vec![("timezone".to_owned(), "Nowhere/Else".to_owned())];
    let error = dialer(&server.settings("scram_role", true)).login(&odd).await.map(|_| ()).unwrap_err();
    let told = error.client("postgres");
    assert!(told.code == "22023" && !told.message.contains("Nowhere"), "{error}");
    let told = error.client_of(&odd);
    assert!(told.code == "22023" && told.message == "invalid value for parameter \"TimeZone\": \"Nowhere/Else\"", "{told}");
    let mut odd = request();
    odd.options = vec![("no_such_setting".to_owned(), "1".to_owned())];
    let error = dialer(&server.settings("scram_role", true)).login(&odd).await.map(|_| ()).unwrap_err();
    let told = error.client_of(&odd);
    assert!(told.code == "42704" && told.message == "unrecognized configuration parameter \"no_such_setting\"", "{told}");
}

async fn options_keep_their_values_whole(server: &Server) {
    let value = r#"a b\c='d' -c role=nobody,"E	F""#;
    let mut asked = request();
    asked.options = vec![("countersign_test.x".to_owned(), value.to_owned()), ("search_path".to_owned(), r#""a b", "$user""#.to_owned())];
    let login = dialer(&server.settings("scram_role", true)).login(&asked).await.unwrap();
    assert_eq!(login.search_path.as_deref(), Some(r#""a b", "$user""#));
    let mut frames = Frames::with_buffer(login.io, login.buffer);
    let mut found = Vec::new();
    let take = |row: &frames::Row<'_>| {
        found.push(row.first().copied().flatten().map(str::to_owned));
        Ok(())
    };
    frames.query("SHOW countersign_test.x", take).await.unwrap();
    assert_eq!(found, [Some(value.to_owned())]);
}

async fn a_rotated_password_needs_no_restart(server: &Server) {
    let file = server.dir.path().join("service.password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let mut settings = server.settings("scram_role", true);
    settings.credential = Credential::Password(Secret::File(file.clone()));
    let dialer = dialer(&settings);
    dialer.login(&request()).await.unwrap();
    server.sql("ALTER ROLE scram_role PASSWORD 'battery staple'").await;
    assert!(matches!(dialer.login(&request()).await, Err(UpstreamError::Refused { code, .. }) if code == "28P01"));
    std::fs::write(&file, "battery staple\n").unwrap();
    dialer.login(&request()).await.unwrap();
    server.sql(&format!("ALTER ROLE scram_role PASSWORD '{PASSWORD}'")).await;
}

async fn certificates_log_in_and_are_rotated(server: &Server) {
    let mut settings = server.settings("cert_role", true);
    settings.credential = Credential::None;
    let error = login(&settings).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("28000") && error.to_string().contains("client_certificate"), "{error}");
    settings.client_certificate = Some(server.clients.issue("cert_role"));
    let certified = dialer(&settings);
    certified.login(&request()).await.unwrap();

    // The role's name is the certificate's: one for somebody else is refused, and a new one is found without a restart.
    server.clients.issue("somebody_else");
    let other = dialer(&settings);
    let error = other.login(&request()).await.map(|_| ()).unwrap_err();
    assert!(matches!(&error, UpstreamError::Refused { code, .. } if code == "28000"), "{error}");
    certified.login(&request()).await.unwrap();
    server.clients.issue("cert_role");
    other.login(&request()).await.unwrap();

    // A file that is half written changes nothing.
    std::fs::write(server.dir.path().join("client.key"), "-----BEGIN PRIVATE KEY-----\nMIG").unwrap();
    assert!(!certified.inner.tls.as_ref().unwrap().renew());
    certified.login(&request()).await.unwrap();
    assert!(matches!(Dialer::new(&settings, &Aws::default()), Err(UpstreamSetupError::File { key: "upstream.client_key", .. })));

    // Certificate and password together; a certificate alone does not answer a password request.
    let mut both = server.settings("both_role", true);
    assert!(login(&both).await.is_err());
    both.client_certificate = Some(server.clients.issue("anybody"));
    login(&both).await.unwrap();
    both.credential = Credential::None;
    let error = login(&both).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, UpstreamError::Method(_)) && error.to_string().contains("only a certificate"), "{error}");
}

async fn cancel_reaches_the_statement(server: &Server) {
    for tls in [true, false] {
        let login = login(&server.settings("scram_role", tls)).await.unwrap();
        let target = login.cancel;
        let mut frames = Frames::with_buffer(login.io, login.buffer);
        let canceller = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            cancel(&target).await.unwrap();
        });
        let error = frames.query("SELECT pg_sleep(60)", |_| Ok(())).await.unwrap_err();
        assert!(matches!(&error, UpstreamError::Refused { code, .. } if code == "57014"), "{error}");
        canceller.await.unwrap();
    }
}

async fn catalogs_load_and_share_loads(server: &Server) {
    server.sql("CREATE TABLE customers (id int PRIMARY KEY, ssn text)").await;
    let catalogs =
        Catalogs::new(dialer(&server.settings("scram_role", true)), tokio::runtime::Handle::current(), std::sync::Arc::default());
    let source = catalogs.of("postgres").await.unwrap();
    let first = source.snapshot();
    assert_eq!((first.generation, source.next_generation()), (1, 2));
    // Known already: no load.
    assert_eq!(source.refresh(1).await.unwrap().generation, 1);
    assert_eq!(catalogs.of("postgres").await.unwrap().snapshot().generation, 1);
    server.sql("CREATE TABLE accounts (id int)").await;
    let wanted = source.next_generation();
    let (a, b, c) = tokio::join!(source.refresh(wanted), source.refresh(wanted), source.refresh(wanted));
    assert_eq!([a, b, c].map(|snapshot| snapshot.unwrap().generation), [2, 2, 2]);
    let relations = source.snapshot().catalog.relation_count();
    assert_eq!(relations.checked_sub(first.catalog.relation_count()), Some(1));
    let error = catalogs.of("nowhere").await.map(|_| ()).unwrap_err();
    assert!(matches!(error, CatalogFailure::Upstream { .. }) && error.client("nowhere").code == "3D000", "{error}");
}
