//! Both connections of a session: reads when the session wants bytes, writes what it released, batched.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use countersign_session::Session;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};

use crate::established::{ClientIo, UpstreamIo};
use crate::metrics;

/// What one read asks for at least.
const CLIENT_READ: usize = 8 * 1024;
const UPSTREAM_READ: usize = 64 * 1024;
/// Bytes that wait to be written to one side above which the other is not read.
const FULL: usize = 1024 * 1024;
/// Chunks handed to one vectored write.
const SLICES: usize = 16;

/// What happened on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// Bytes came or went.
    Bytes,
    /// The client's side is closed.
    ClientGone,
    /// The server's side is closed.
    UpstreamGone,
}

/// The two connections with their buffers.
#[derive(Debug)]
pub(super) struct Wire {
    client: Side<ClientIo>,
    upstream: Side<UpstreamIo>,
    pub(super) client_in: BytesMut,
    pub(super) upstream_in: BytesMut,
    held_client: usize,
    /// Something was written since the driver last looked.
    pub(super) wrote: bool,
    carried: Carried,
}

/// Bytes carried since they were last added to the process's counters, which cost more than a session's own.
#[derive(Debug, Default)]
struct Carried {
    from_client: u64,
    to_client: u64,
    from_upstream: u64,
    to_upstream: u64,
}

/// How many bytes are carried between two updates of the process's counters.
const REPORT_AT: u64 = 1024 * 1024;

#[derive(Debug)]
struct Side<S> {
    stream: S,
    out: VecDeque<Bytes>,
    queued: usize,
    unflushed: bool,
    open: bool,
}

impl Wire {
    pub(super) fn new(client: ClientIo, client_in: BytesMut, upstream: UpstreamIo, upstream_in: BytesMut, held_client: usize) -> Self {
        Self {
            client: Side::new(client),
            upstream: Side::new(upstream),
            client_in,
            upstream_in,
            held_client,
            wrote: false,
            carried: Carried::default(),
        }
    }

    /// Takes what the session released.
    pub(super) fn take_output(&mut self, session: &mut Session) {
        while let Some(chunk) = session.client_output() {
            self.client.push(chunk);
        }
        while let Some(chunk) = session.server_output() {
            self.upstream.push(chunk);
        }
    }

    /// Whether nothing is left to write, or nobody to write it to.
    pub(super) fn is_settled(&self, session: &Session) -> bool {
        (!self.client.open || (self.client.is_settled() && !session.has_client_output()))
            && (!self.upstream.open || self.upstream.is_settled())
    }

    /// Resolves when bytes moved or a side closed. Without `room` for what they would bring, the sides are not read. Cancel-safe: nothing is
    /// read or written that is not in the buffers.
    pub(super) async fn moved(&mut self, session: &Session, room: bool) -> Moved {
        poll_fn(|cx| self.poll(session, room, cx)).await
    }

    /// The same, when it can be said at once.
    pub(super) async fn moved_already(&mut self, session: &Session, room: bool) -> Option<Moved> {
        poll_fn(|cx| match self.poll(session, room, cx) {
            Poll::Ready(moved) => Poll::Ready(Some(moved)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn poll(&mut self, session: &Session, room: bool, cx: &mut Context<'_>) -> Poll<Moved> {
        // What was written changes nothing for the session, unless it only waits for its last bytes to go, or has left client bytes lying
        // because of those that were to be written first.
        let (ending, left) = (session.is_closed(), !self.client_in.is_empty());
        let mut moved = false;
        match self.client.poll_write(cx) {
            Poll::Ready(Ok(n)) => {
                moved |= ending;
                self.wrote = true;
                self.carried.to_client += long(n);
            }
            Poll::Ready(Err(_)) => return Poll::Ready(Moved::ClientGone),
            Poll::Pending => {}
        }
        match self.upstream.poll_write(cx) {
            Poll::Ready(Ok(n)) => {
                moved |= ending || left;
                self.wrote = true;
                self.carried.to_upstream += long(n);
            }
            Poll::Ready(Err(_)) => return Poll::Ready(Moved::UpstreamGone),
            Poll::Pending => {}
        }
        // While a statement is held the client is read up to a bound, so that its going away is noticed.
        let client_wanted = (room && session.wants_client() && !self.upstream_is_full()) || self.client_in.len() < self.held_client;
        if client_wanted && self.client.open && !session.is_closed() {
            match poll_read(&mut self.client.stream, &mut self.client_in, CLIENT_READ, cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Moved::ClientGone),
                Poll::Ready(Ok(n)) => {
                    moved = true;
                    self.carried.from_client += long(n);
                }
                Poll::Pending => {}
            }
        }
        let upstream_wanted = room && session.wants_server() && self.client.queued < FULL;
        if upstream_wanted && self.upstream.open && !session.is_closed() {
            match poll_read(&mut self.upstream.stream, &mut self.upstream_in, UPSTREAM_READ, cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Moved::UpstreamGone),
                Poll::Ready(Ok(n)) => {
                    moved = true;
                    self.carried.from_upstream += long(n);
                }
                Poll::Pending => {}
            }
        }
        self.carried.report(REPORT_AT);
        if moved { Poll::Ready(Moved::Bytes) } else { Poll::Pending }
    }

    /// Whether a client of whom no more is read has gone. Its end lies behind bytes that are not taken, so only a look at the connection's state
    /// tells.
    pub(super) fn client_hung_up(&self, session: &Session) -> bool {
        let unread = self.client.open && !session.wants_client() && self.client_in.len() >= self.held_client;
        let stream = match &self.client.stream {
            ClientIo::Plain(stream) => stream,
            ClientIo::Tls(stream) => stream.get_ref().0,
        };
        let ready = pin!(stream.ready(Interest::READABLE)).poll(&mut Context::from_waker(Waker::noop()));
        unread && matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Whether so much waits to be written to the server that nothing should be added.
    pub(super) const fn upstream_is_full(&self) -> bool {
        self.upstream.queued >= FULL
    }

    /// The client no longer takes bytes.
    pub(super) fn client_lost(&mut self) {
        self.client.lost();
    }

    /// The server no longer takes bytes.
    pub(super) fn upstream_lost(&mut self) {
        self.upstream.lost();
    }

    /// Closes both sides.
    pub(super) async fn close(&mut self) {
        self.carried.report(0);
        let bound = std::time::Duration::from_secs(2);
        let both = async {
            let _ = tokio::join!(self.client.stream.shutdown(), self.upstream.stream.shutdown());
        };
        let _ = tokio::time::timeout(bound, both).await;
    }
}

impl Carried {
    fn report(&mut self, at: u64) {
        if self.to_client + self.from_client + self.from_upstream + self.to_upstream >= at {
            let Self { from_client, to_client, from_upstream, to_upstream } = std::mem::take(self);
            metrics::bytes("from_client", from_client);
            metrics::bytes("to_client", to_client);
            metrics::bytes("from_upstream", from_upstream);
            metrics::bytes("to_upstream", to_upstream);
        }
    }
}

fn long(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Side<S> {
    const fn new(stream: S) -> Self {
        Self { stream, out: VecDeque::new(), queued: 0, unflushed: false, open: true }
    }

    fn push(&mut self, chunk: Bytes) {
        if self.open {
            self.queued += chunk.len();
            self.out.push_back(chunk);
        }
    }

    fn is_settled(&self) -> bool {
        self.out.is_empty() && !self.unflushed
    }

    fn lost(&mut self) {
        self.open = false;
        self.out.clear();
        self.queued = 0;
        self.unflushed = false;
    }

    /// Writes and flushes as much as goes. Ready when something was written or flushed.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut written = 0;
        while !self.out.is_empty() {
            let polled = match (self.out.len(), self.out.front()) {
                // The usual case, and a cheaper call.
                (1, Some(only)) => pin!(self.stream.write(only)).poll(cx),
                _ => {
                    let mut slices = [IoSlice::new(&[]); SLICES];
                    let count = self.out.iter().zip(slices.iter_mut()).map(|(chunk, slice)| *slice = IoSlice::new(chunk)).count();
                    pin!(self.stream.write_vectored(slices.get(..count).unwrap_or_default())).poll(cx)
                }
            };
            match polled {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    written += n;
                    self.unflushed = true;
                    self.advance(n);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if self.unflushed {
            let polled = pin!(self.stream.flush()).poll(cx);
            match polled {
                Poll::Ready(Ok(())) => {
                    self.unflushed = false;
                    return Poll::Ready(Ok(written.max(1)));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        if written > 0 { Poll::Ready(Ok(written)) } else { Poll::Pending }
    }

    fn advance(&mut self, mut n: usize) {
        self.queued = self.queued.saturating_sub(n);
        while n > 0
            && let Some(front) = self.out.front_mut()
        {
            let step = n.min(front.len());
            front.advance(step);
            n -= step;
            if front.is_empty() {
                self.out.pop_front();
            }
        }
    }
}

fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    at_least: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if buffer.capacity().saturating_sub(buffer.len()) < at_least / 2 {
        buffer.reserve(at_least);
    }
    pin!(stream.read_buf(buffer)).poll(cx)
}
