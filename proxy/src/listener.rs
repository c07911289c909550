//! The front door: accepts, counts, and hands each connection to the worker thread with the fewest.
//!
//! Every worker is one OS thread with one single-threaded runtime, so a session never moves and needs no lock against its neighbours.
//! Its stack is large because judging a statement recurses over the statement.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use crate::{
    config::Limits,
    connection::{self, Gateway},
    error::{ClientError, sqlstate},
    metrics,
    shutdown::Drain,
};

/// Stack of a thread that judges statements.
pub const STACK_BYTES: usize = 64 * 1024 * 1024;
/// How long to wait when the system has no more file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// The worker threads.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    arrivals: mpsc::UnboundedSender<Arrival>,
    load: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
}

/// A connection on its way to a worker.
#[derive(Debug)]
struct Arrival {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    place: Place,
    refusal: Option<ClientError>,
}

impl Workers {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(threads: usize, gateway: &Arc<Gateway>) -> io::Result<Self> {
        let workers = (0..threads.max(1)).map(|number| Worker::start(number, Arc::clone(gateway))).collect::<io::Result<_>>()?;
        Ok(Self { workers })
    }

    fn least_loaded(&self) -> Option<&Worker> {
        self.workers.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed))
    }

    /// Takes no more connections and waits until the sessions there are have ended. Blocks.
    pub fn join(self) {
        let threads: Vec<_> = self.workers.into_iter().map(|worker| worker.thread).collect();
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

impl Worker {
    fn start(number: usize, gateway: Arc<Gateway>) -> io::Result<Self> {
        let (arrivals, mut inbox) = mpsc::unbounded_channel::<Arrival>();
        let load = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let counted = Arc::clone(&load);
        let body = move || {
            runtime.block_on(async {
                let mut sessions = JoinSet::new();
                loop {
                    tokio::select! {
                        arrival = inbox.recv() => {
                            // The door is closed; the sessions that are there go on to their end.
                            let Some(arrival) = arrival else { break };
                            sessions.spawn(attend(arrival, Arc::clone(&gateway), Counted(Arc::clone(&counted))));
                        }
                        Some(ended) = sessions.join_next(), if !sessions.is_empty() => report(ended),
                    }
                }
                while let Some(ended) = sessions.join_next().await {
                    report(ended);
                }
            });
        };
        let thread = thread::Builder::new().name(format!("worker-{number}")).stack_size(STACK_BYTES).spawn(body)?;
        Ok(Self { arrivals, load, thread })
    }
}

async fn attend(arrival: Arrival, gateway: Arc<Gateway>, counted: Counted) {
    let Arrival { stream, peer, place, refusal } = arrival;
    match TcpStream::from_std(stream) {
        Ok(stream) => connection::serve(stream, peer, gateway, refusal).await,
        Err(error) => tracing::error!("cannot serve a connection: {error}"),
    }
    drop((place, counted));
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!("a session broke off: {error}");
    }
}

/// Counts a worker's connection out when dropped. It was counted in when it was handed over.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts until draining begins, then closes the port.
pub async fn accept(listener: TcpListener, workers: &Workers, limits: &Limits, mut drain: Drain) {
    let seats = Seats::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = drain.begun() => return,
        };
        match accepted {
            Ok((stream, peer)) => hand_over(stream, peer, workers, limits, &seats),
            Err(error) => {
                // A connection that broke off while it waited is nothing; no descriptors left is.
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted) {
                    metrics::refused("accept failed");
                    tracing::error!("cannot accept: {error} (too many open files? raise the limit or lower limits.max_sessions)");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }
}

fn hand_over(stream: TcpStream, peer: SocketAddr, workers: &Workers, limits: &Limits, seats: &Seats) {
    let (place, taken) = seats.take(peer.ip());
    // Beyond a limit a client is told so, which costs a handshake; far beyond it, not even that.
    if taken.total > limits.max_sessions.saturating_mul(2) || taken.source > limits.max_sessions_per_source.saturating_mul(2) {
        metrics::refused("too many sessions");
        return;
    }
    let crowded = if taken.total > limits.max_sessions {
        Some("the gateway has no session to spare")
    } else if taken.source > limits.max_sessions_per_source {
        Some("too many sessions from your address")
    } else {
        None
    };
    let refusal = crowded.map(|message| ClientError::new(sqlstate::TOO_MANY_CONNECTIONS, message).hint("close sessions, then try again"));
    let stream = match stream.into_std() {
        Ok(stream) => stream,
        Err(error) => {
            tracing::error!("cannot hand a connection over: {error}");
            return;
        }
    };
    let Some(worker) = workers.least_loaded() else { return };
    worker.load.fetch_add(1, Ordering::Relaxed);
    if worker.arrivals.send(Arrival { stream, peer, place, refusal }).is_err() {
        worker.load.fetch_sub(1, Ordering::Relaxed);
        tracing::error!("a worker thread is gone");
    }
}

/// How many connections there are, in all and from each address.
#[derive(Debug, Clone, Default)]
struct Seats {
    sources: Arc<Mutex<HashMap<IpAddr, usize>>>,
    total: Arc<AtomicUsize>,
}

/// What is taken, the new one included.
struct Taken {
    total: usize,
    source: usize,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
struct Place {
    seats: Seats,
    source: IpAddr,
}

impl Seats {
    fn take(&self, source: IpAddr) -> (Place, Taken) {
        let total = self.total.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.entry(source).or_default();
        *count = count.saturating_add(1);
        let taken = Taken { total, source: *count };
        drop(sources);
        (Place { seats: self.clone(), source }, taken)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.seats.total.fetch_sub(1, Ordering::Relaxed);
        let mut sources = self.seats.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_source_and_given_back() {
        let seats = Seats::default();
        let (near, far) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([10, 0, 0, 1]));
        let (first, _) = seats.take(near);
        let (second, taken) = seats.take(near);
        let (_third, other) = seats.take(far);
        assert_eq!((taken.total, taken.source), (2, 2));
        assert_eq!((other.total, other.source), (3, 1));
        drop((first, second));
        assert_eq!(seats.sources.lock().unwrap_or_else(PoisonError::into_inner).len(), 1);
        assert_eq!(seats.take(near).1.total, 2);
    }
}
