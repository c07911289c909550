//! The front door: accepts, counts, and hands each connection to the worker thread with the fewest.
//!
//! Every worker is one OS thread with one single-threaded runtime, so a session never moves and needs no lock against its neighbours.
//! Its stack is large because judging a statement recurses over the statement.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
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
    door::{Door, Place},
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
        // No more drivers than sessions need: each is asked at every turn.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
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
    let Arrival { stream, peer, place } = arrival;
    match TcpStream::from_std(stream) {
        Ok(stream) => connection::serve(stream, peer, gateway, place).await,
        Err(error) => tracing::error!("cannot serve a connection: {error}"),
    }
    drop(counted);
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
    let door = Door::new(limits);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = drain.begun() => return,
        };
        match accepted {
            Ok((stream, peer)) => hand_over(stream, peer, workers, &door),
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

fn hand_over(stream: TcpStream, peer: SocketAddr, workers: &Workers, door: &Door) {
    let place = door.enter(peer.ip().to_canonical());
    let stream = match stream.into_std() {
        Ok(stream) => stream,
        Err(error) => {
            tracing::error!("cannot hand a connection over: {error}");
            return;
        }
    };
    let Some(worker) = workers.least_loaded() else { return };
    worker.load.fetch_add(1, Ordering::Relaxed);
    if worker.arrivals.send(Arrival { stream, peer, place }).is_err() {
        worker.load.fetch_sub(1, Ordering::Relaxed);
        tracing::error!("a worker thread is gone");
    }
}
