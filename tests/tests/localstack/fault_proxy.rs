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
