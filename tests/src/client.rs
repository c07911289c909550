//! Clients as users have them: `psql` as a process, and `tokio-postgres` over rustls.
//!
//! Owns: connecting through a gateway with a token. Does not own: what is asked.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{AsyncMessage, Client};

use crate::cluster::find_program;

/// Where a gateway listens and how clients verify it.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Always 127.0.0.1; the certificate also names `localhost`.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Authority, PEM.
    pub ca: PathBuf,
    /// Database.
    pub database: String,
}

impl Gateway {
    /// libpq's connection string; the token goes into `PGPASSWORD`. `localhost`, because libpq before version 15 does not match
    /// addresses in certificates.
    #[must_use]
    pub fn conninfo(&self, user: &str) -> String {
        format!(
            "host=localhost port={} dbname={} user={user} sslmode=verify-full sslrootcert={}",
            self.port,
            self.database,
            self.ca.display()
        )
    }

    /// `psql`, ready to be given a script or commands.
    ///
    /// # Errors
    /// There is no `psql`.
    pub fn psql(&self, user: &str, token: &str) -> Result<tokio::process::Command> {
        let mut command = tokio::process::Command::new(find_program("psql")?);
        command
            .arg(self.conninfo(user))
            .arg("--no-psqlrc")
            .env("PGPASSWORD", token)
            .env("PGCONNECT_TIMEOUT", "20")
            .env("LC_ALL", "C")
            .env_remove("PGOPTIONS")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }

    /// Runs one SQL text in `psql` and waits for its end.
    ///
    /// # Errors
    /// `psql` cannot run or takes longer than two minutes.
    pub async fn run_psql(&self, user: &str, token: &str, sql: &str) -> Result<Output> {
        let mut command = self.psql(user, token)?;
        command.args(["--quiet", "--no-align", "--tuples-only", "--set=VERBOSITY=verbose", "--command", sql]);
        run(command, "psql").await
    }

    /// A `tokio-postgres` connection, with its notices.
    ///
    /// # Errors
    /// The gateway does not let it in; the Postgres error is the source.
    pub async fn connect(&self, user: &str, token: &str) -> Result<Session, tokio_postgres::Error> {
        self.connect_with(|config| {
            config.user(user).password(token);
        })
        .await
    }

    /// The same with settings of the caller's own.
    ///
    /// # Errors
    /// The gateway does not let it in.
    pub async fn connect_with(&self, settings: impl FnOnce(&mut tokio_postgres::Config)) -> Result<Session, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .dbname(&self.database)
            .application_name("countersign-e2e")
            .connect_timeout(Duration::from_secs(20))
            .ssl_mode(tokio_postgres::config::SslMode::Require);
        settings(&mut config);
        let tls = Rustls::trusting(&self.ca);
        let (client, mut connection) = config.connect(tls.clone()).await?;
        let (send, notices) = mpsc::unbounded_channel();
        let (send_notification, notifications) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    Ok(AsyncMessage::Notice(notice)) => {
                        let _ = send.send(notice);
                    }
                    Ok(AsyncMessage::Notification(notification)) => {
                        let _ = send_notification.send(notification);
                    }
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        });
        Ok(Session { client, notices, notifications, tls })
    }
}

/// What a finished program said.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit status, -1 when a signal ended it.
    pub status: i32,
    /// Standard output, trimmed at the end.
    pub stdout: String,
    /// Standard error, trimmed at the end.
    pub stderr: String,
}

/// Runs a command to its end, at most two minutes.
///
/// # Errors
/// It cannot run or takes longer.
pub async fn run(mut command: tokio::process::Command, name: &str) -> Result<Output> {
    command.kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(120), command.output())
        .await
        .with_context(|| format!("{name} still runs after two minutes"))?
        .with_context(|| format!("cannot run {name}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ok(Output { status: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// A live connection. Derefs to the client.
pub struct Session {
    client: Client,
    /// Notices as they come.
    pub notices: mpsc::UnboundedReceiver<tokio_postgres::error::DbError>,
    /// Notifications as they come.
    pub notifications: mpsc::UnboundedReceiver<tokio_postgres::Notification>,
    tls: Rustls,
}

impl std::ops::Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl std::ops::DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Session {
    /// Waits for a notice that contains `text`.
    ///
    /// # Errors
    /// None comes within `limit`.
    pub async fn wait_for_notice(&mut self, text: &str, limit: Duration) -> Result<String> {
        tokio::time::timeout(limit, async {
            while let Some(notice) = self.notices.recv().await {
                let whole = format!("{} {}", notice.message(), notice.detail().unwrap_or_default());
                if whole.contains(text) {
                    return Ok(whole);
                }
            }
            anyhow::bail!("the connection ended before a notice with `{text}`")
        })
        .await
        .with_context(|| format!("no notice with `{text}`"))?
    }

    /// Sends a CancelRequest for what runs now.
    ///
    /// # Errors
    /// The gateway is not reachable.
    pub async fn cancel(&self) -> Result<()> {
        Ok(self.client.cancel_token().cancel_query(self.tls.clone()).await?)
    }

    /// The token and connector for a CancelRequest while the client is borrowed.
    #[must_use]
    pub fn canceller(&self) -> (tokio_postgres::CancelToken, Rustls) {
        (self.client.cancel_token(), self.tls.clone())
    }
}

/// The SQLSTATE of a failed call, `none` when it is not the server's error.
#[must_use]
pub fn sqlstate(error: &tokio_postgres::Error) -> String {
    error.code().map_or_else(|| "none".to_owned(), |code| code.code().to_owned())
}

/// The message, detail and hint of a server's error.
#[must_use]
pub fn full_text(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(
        || error.to_string(),
        |db| format!("{}\n{}\n{}", db.message(), db.detail().unwrap_or_default(), db.hint().unwrap_or_default()),
    )
}

/// rustls as `tokio-postgres` wants it.
#[derive(Clone)]
pub struct Rustls(Arc<ClientConfig>);

impl Rustls {
    /// Trusts the authorities in a PEM file and nobody else; a file that cannot be read means: nobody.
    #[must_use]
    pub fn trusting(ca: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        if let Ok(certificates) = CertificateDer::pem_file_iter(ca) {
            roots.add_parsable_certificates(certificates.flatten());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = match versions {
            Ok(builder) => builder.with_root_certificates(roots).with_no_client_auth(),
            Err(_) => ClientConfig::builder().with_root_certificates(roots).with_no_client_auth(),
        };
        Self(Arc::new(config))
    }
}

impl<S> MakeTlsConnect<S> for Rustls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type TlsConnect = Connect;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Connect, Self::Error> {
        Ok(Connect { config: Arc::clone(&self.0), name: ServerName::try_from(domain.to_owned())? })
    }
}

/// One handshake to be.
pub struct Connect {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl<S> TlsConnect<S> for Connect
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let stream = tokio_rustls::TlsConnector::from(self.config).connect(self.name, stream).await?;
            Ok(Stream(Box::new(stream)))
        })
    }
}

/// A TLS stream.
pub struct Stream<S>(Box<tokio_rustls::client::TlsStream<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.0.as_mut()).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.0.as_mut()).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.0.as_mut()).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.0.as_mut()).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;
    use crate::pki::Authority;
    use crate::process::Scratch;

    /// Both clients speak to a server whose certificate our authority issued, and to no other.
    #[tokio::test]
    async fn both_clients_verify_the_server() -> Result<()> {
        let dir = Scratch::new("client-test")?;
        let authority = Authority::new(&dir.path().join("one"), "one")?;
        let stranger = Authority::new(&dir.path().join("two"), "two")?;
        let cluster = Cluster::start(&authority).await?;
        let server = cluster.server();
        let gateway =
            Gateway { host: server.host.clone(), port: server.port, ca: authority.ca_file().to_owned(), database: server.database.clone() };
        let session = gateway.connect(&server.user, &server.password).await?;
        let row = session.query_one("select ssl from pg_stat_ssl where pid = pg_backend_pid()", &[]).await?;
        assert!(row.try_get::<_, bool>(0)?);
        let output = gateway.run_psql(&server.user, &server.password, "select 40 + 2").await?;
        assert_eq!((output.status, output.stdout.as_str()), (0, "42"), "{output:?}");
        let failed = session.query("select 1/0", &[]).await.map_err(|error| sqlstate(&error));
        assert_eq!(failed.map(|_| ()), Err("22012".to_owned()));

        let wrong = Gateway { ca: stranger.ca_file().to_owned(), ..gateway };
        assert!(wrong.connect(&server.user, &server.password).await.is_err());
        assert_ne!(wrong.run_psql(&server.user, &server.password, "select 1").await?.status, 0);
        Ok(())
    }
}
