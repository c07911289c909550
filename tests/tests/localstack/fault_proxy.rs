//! A TCP proxy before LocalStack that fails in the ways a network and a service do.

use std::sync::Arc;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to connections. A change ends those that are open.
#[derive(Debug, Clone)]
pub(crate) enum Mode {
    /// They are carried.
    Pass,
    /// They are closed at once.
    Refuse,
    /// They are taken, and nothing is ever answered.
    Stall,
    /// They are carried, and cut off after some bytes in either direction.
    Reset,
    /// They are carried, and everything takes so long more in each direction.
    Slow(std::time::Duration),
    /// Requests with `when` in them are answered with this status and body, all others are carried.
    Answer { when: &'static str, status: &'static str, body: &'static str },
}

impl Mode {
    /// What S3 says when it cannot.
    pub(crate) const UNAVAILABLE: Self = Self::Answer {
        when: "HTTP/1.1",
        status: "503 Service Unavailable",
        body: "<Error><Code>ServiceUnavailable</Code><Message>Please reduce your request rate.</Message></Error>",
    };

    /// What S3 says to whoever asks too often.
    pub(crate) const SLOW_DOWN: Self = Self::Answer {
        when: "PUT ",
        status: "503 Slow Down",
        body: "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
    };

    /// A role that lost its right to write.
    pub(crate) const DENIED: Self = Self::Answer {
        when: "PUT ",
        status: "403 Forbidden",
        body: "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
    };

    /// A clock that is wrong.
    pub(crate) const SKEWED: Self = Self::Answer {
        when: "PUT ",
        status: "403 Forbidden",
        body: "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current time is too large.</Message></Error>",
    };
}

/// The running proxy; ends when dropped.
pub(crate) struct FaultProxy {
    port: u16,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FaultProxy {
    /// Listens on a free port before `target`, an address with a port.
    pub(crate) async fn start(target: String, mode: Mode) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (mode, seen) = watch::channel(mode);
        let target = Arc::new(target);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut seen, target) = (seen.clone(), Arc::clone(&target));
                tokio::spawn(async move {
                    let mode = seen.borrow_and_update().clone();
                    tokio::select! {
                        _ = seen.changed() => {}
                        _ = serve(client, mode, &target) => {}
                    }
                });
            }
        });
        Ok(Self { port, mode, task })
    }

    /// What goes into `[aws] endpoint`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Behaves differently from now on.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn serve(mut client: TcpStream, mode: Mode, target: &str) -> std::io::Result<()> {
    let (when, status, body) = match mode {
        Mode::Refuse => return Ok(()),
        Mode::Stall => return std::future::pending().await,
        Mode::Pass => {
            let mut server = TcpStream::connect(target).await?;
            return tokio::io::copy_bidirectional(&mut client, &mut server).await.map(|_| ());
        }
        Mode::Reset => {
            let server = TcpStream::connect(target).await?;
            let (mut up, mut down) = (vec![0; 700], vec![0; 700]);
            let (mut from_client, mut to_client) = client.split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::select! {
                // The head of a request, and perhaps a part of its body.
                read = from_client.read(&mut up) => to_server.write_all(up.get(..read?).unwrap_or_default()).await?,
                read = from_server.read(&mut down) => to_client.write_all(down.get(..read?).unwrap_or_default()).await?,
            }
            return client.set_zero_linger();
        }
        Mode::Slow(delay) => {
            let server = TcpStream::connect(target).await?;
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            return tokio::try_join!(slowly(from_client, to_server, delay), slowly(from_server, to_client, delay)).map(|_| ());
        }
        Mode::Answer { when, status, body } => (when, status, body),
    };
    let mut server = TcpStream::connect(target).await?;
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let bytes = up.get(..read?).unwrap_or_default();
                if bytes.is_empty() {
                    return Ok(());
                }
                if bytes.windows(when.len()).any(|window| window == when.as_bytes()) {
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                    client.write_all(answer.as_bytes()).await?;
                    // Whatever else comes is read, so that the answer is not lost to a reset.
                    while client.read(&mut up).await? > 0 {}
                    return Ok(());
                }
                server.write_all(bytes).await?;
            }
            read = server.read(&mut down) => {
                let bytes = down.get(..read?).unwrap_or_default();
                if bytes.is_empty() {
                    return Ok(());
                }
                client.write_all(bytes).await?;
            }
        }
    }
}

/// Carries one direction, each piece after a delay.
async fn slowly(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    delay: std::time::Duration,
) -> std::io::Result<()> {
    let mut piece = vec![0; 65_536];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        tokio::time::sleep(delay).await;
        to.write_all(piece.get(..read).unwrap_or_default()).await?;
    }
}
