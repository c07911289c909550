//! The connection to the server behind the gateway: dial, verify, log in with the service credential.
//!
//! The client never sees that credential, nor the server's words about it: [`UpstreamError`] has a precise text for the operator's log
//! and a generic one for the client ([`UpstreamError::client`]).

mod error;
mod frames;
mod login;
mod rds;
mod tls;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    config::{self, Aws, Credential, SecretValue},
    established::{UpstreamIo, tls_version},
    metrics,
};

pub use error::UpstreamError;
pub use frames::Frames;
pub use tls::UpstreamSetupError;

/// How long a password or certificate read from its place is used before it is read again.
const CREDENTIAL_AGE: Duration = Duration::from_secs(30);
/// How long a CancelRequest may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes connections to one server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dialer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: config::Upstream,
    aws: Aws,
    tls: Option<tls::Source>,
    password: Mutex<Option<(Instant, SecretValue)>>,
}

/// What a session asks of the server at login.
#[derive(Debug, Clone, Default)]
pub struct LoginRequest {
    /// Database.
    pub database: String,
    /// `application_name`; cut to what the server keeps.
    pub application_name: String,
    /// Further settings, as parameters of their own: names that are known to be settings.
    pub settings: Vec<(String, String)>,
    /// Further settings that were judged. They go within `options`, where no name is anything but a setting's.
    pub options: Vec<(String, String)>,
    /// Whether the server is asked which search path the login has.
    pub asks_search_path: bool,
}

/// A connection that is logged in and idle.
#[derive(Debug)]
pub struct LoggedIn {
    /// The stream.
    pub io: UpstreamIo,
    /// Bytes after ReadyForQuery.
    pub buffer: BytesMut,
    /// ParameterStatus values, in order.
    pub parameters: Vec<(String, String)>,
    /// The search path of the login, where it was asked for or reported.
    pub search_path: Option<String>,
    /// The server's own key for cancelling.
    pub cancel: UpstreamCancel,
    /// TLS version, empty for plaintext.
    pub tls: String,
}

/// Cancels what one connection runs.
#[derive(Clone)]
pub struct UpstreamCancel {
    dialer: Dialer,
    process_id: i32,
    secret: Bytes,
}

impl std::fmt::Debug for UpstreamCancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamCancel").field("process_id", &self.process_id).finish_non_exhaustive()
    }
}

impl UpstreamCancel {
    /// The server's process id, for logs.
    #[must_use]
    pub const fn process_id(&self) -> i32 {
        self.process_id
    }
}

impl Dialer {
    /// Reads the authorities and checks the server's name.
    ///
    /// # Errors
    /// When an authority file is not usable.
    pub fn new(settings: &config::Upstream, aws: &Aws) -> Result<Self, UpstreamSetupError> {
        let tls = match &settings.tls {
            config::UpstreamTls::VerifyFull { ca } => {
                Some(tls::Source::new(&settings.host, ca.as_deref(), settings.client_certificate.as_ref())?)
            }
            config::UpstreamTls::Disable => None,
        };
        Ok(Self { inner: Arc::new(Inner { settings: settings.clone(), aws: aws.clone(), tls, password: Mutex::new(None) }) })
    }

    /// The settings it was made from.
    #[must_use]
    pub fn settings(&self) -> &config::Upstream {
        &self.inner.settings
    }

    /// Dials and logs in, within the configured time. Not cancel-safe: dropped halfway, the connection is closed.
    ///
    /// # Errors
    /// Each step has its kind.
    pub async fn login(&self, request: &LoginRequest) -> Result<LoggedIn, UpstreamError> {
        let limit = self.inner.settings.connect_timeout;
        let result = timeout(limit, self.login_with_fresh_credential(request)).await;
        let result =
            result.unwrap_or_else(|_| Err(UpstreamError::Timeout { address: self.inner.settings.address(), seconds: limit.as_secs() }));
        result.inspect_err(|error| metrics::upstream_error(error.kind()))
    }

    /// A credential that was rotated since it was read last fails once; then the new one is tried.
    async fn login_with_fresh_credential(&self, request: &LoginRequest) -> Result<LoggedIn, UpstreamError> {
        let password = self.password().await?;
        match self.login_with(request, password.as_ref()).await {
            Err(error) if error.may_be_certificate() => {
                // A server that is down is no reason to ask for the password again and again.
                if error.refuses_credential() {
                    *self.inner.password.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                let renewed = self.password().await?;
                let certificate = self.inner.tls.as_ref().is_some_and(tls::Source::renew);
                if renewed == password && !certificate { Err(error) } else { self.login_with(request, renewed.as_ref()).await }
            }
            other => other,
        }
    }

    async fn password(&self) -> Result<Option<SecretValue>, UpstreamError> {
        let Inner { settings, aws, password, .. } = &*self.inner;
        let cached = password.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, value)) = cached
            && at.elapsed() < CREDENTIAL_AGE
        {
            return Ok(Some(value));
        }
        let value = match &settings.credential {
            Credential::Password(secret) => secret.read(aws).await?,
            Credential::RdsIam => rds::token(settings, aws).await?,
            Credential::None => return Ok(None),
        };
        *password.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), value.clone()));
        Ok(Some(value))
    }

    async fn login_with(&self, request: &LoginRequest, password: Option<&SecretValue>) -> Result<LoggedIn, UpstreamError> {
        let io = self.connect().await?;
        let (tls, binding) = match &io {
            UpstreamIo::Plain(_) => (String::new(), None),
            UpstreamIo::Tls(stream) => {
                let (_, session) = stream.get_ref();
                (
                    tls_version(session.protocol_version()),
                    session.peer_certificates().and_then(<[_]>::first).and_then(|leaf| tls::server_end_point(leaf)),
                )
            }
        };
        let mut frames = Frames::new(io);
        let login = login::run(&mut frames, &self.inner.settings, request, password, binding).await?;
        let mut search_path = login.parameters.iter().rfind(|(name, _)| name == "search_path").map(|(_, value)| value.clone());
        if request.asks_search_path && search_path.is_none() {
            let take = |row: &frames::Row<'_>| {
                search_path = row.first().copied().flatten().map(str::to_owned);
                Ok(())
            };
            frames.query("SHOW search_path", take).await?;
        }
        let (io, buffer) = frames.into_parts();
        let cancel = UpstreamCancel { dialer: self.clone(), process_id: login.process_id, secret: login.secret };
        Ok(LoggedIn { io, buffer, parameters: login.parameters, search_path, cancel, tls })
    }

    /// Dials, with TLS where configured.
    async fn connect(&self) -> Result<UpstreamIo, UpstreamError> {
        let settings = &self.inner.settings;
        let dial = |error| UpstreamError::Dial { address: settings.address(), error };
        let mut stream = TcpStream::connect((settings.host.as_str(), settings.port)).await.map_err(dial)?;
        stream.set_nodelay(true).map_err(dial)?;
        let Some(tls) = &self.inner.tls else { return Ok(UpstreamIo::Plain(stream)) };
        stream.write_all(&login::SSL_REQUEST).await.map_err(dial)?;
        // One byte and not more: what came behind it would have been sent by whoever is on the wire, before any encryption.
        match stream.read_u8().await.map_err(dial)? {
            b'S' => {}
            b'N' => return Err(UpstreamError::TlsRefused { address: settings.address() }),
            other => return Err(UpstreamError::Protocol(format!("answer to SSLRequest is {other:#04x}"))),
        }
        let stream = tls.connector().connect(stream).await.map_err(|error| UpstreamError::Tls { address: settings.address(), error })?;
        Ok(UpstreamIo::Tls(Box::new(stream)))
    }
}

/// Sends a CancelRequest on a connection of its own and waits until the server closed it.
///
/// # Errors
/// When the server could not be reached; whether anything was cancelled is not known in any case.
pub async fn cancel(target: &UpstreamCancel) -> Result<(), UpstreamError> {
    let settings = target.dialer.settings();
    let send = async {
        let mut io = target.dialer.connect().await?;
        let mut packet = BytesMut::new();
        packet.put_u32(u32::try_from(target.secret.len()).unwrap_or(0).saturating_add(12));
        packet.put_slice(&login::CANCEL_REQUEST_CODE);
        packet.put_i32(target.process_id);
        packet.put_slice(&target.secret);
        let lost = |error| UpstreamError::Dial { address: settings.address(), error };
        io.write_all(&packet).await.map_err(lost)?;
        io.flush().await.map_err(lost)?;
        // The server closes once it has signalled the backend. How it closes does not matter.
        let _ = io.read_u8().await;
        Ok(())
    };
    timeout(CANCEL_TIMEOUT, send)
        .await
        .unwrap_or_else(|_| Err(UpstreamError::Timeout { address: settings.address(), seconds: CANCEL_TIMEOUT.as_secs() }))
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
