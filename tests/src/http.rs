//! A small HTTP server that ends on drop. Owns: the task it runs in.

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The running server.
#[derive(Debug)]
pub struct Server(JoinHandle<()>);

impl Server {
    /// Serves `router` on `listener` until dropped.
    #[must_use]
    pub fn spawn(listener: TcpListener, router: Router) -> Self {
        Self(tokio::spawn(async move {
            // Fails only when the listener does, and then every request of the test fails with it.
            let _ = axum::serve(listener, router).await;
        }))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}
