//! A small HTTP server for whoever reaches an address: a connection answers one request, and everything about it is
//! bounded.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The pause after a connection that could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// How long a client may take to ask.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct HttpBounds {
    /// The greatest number of clients at the same time. Further connections are closed at once.
    pub clients: usize,
    /// The longest head of a request, in bytes.
    pub head_bytes: usize,
    /// How long a connection lasts at most.
    pub longest: Duration,
}

/// Answers by `router` until it is dropped.
pub async fn serve(listener: TcpListener, router: Router, bounds: HttpBounds) {
    let mut clients = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // The process may be out of file descriptors: that passes.
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        while clients.try_join_next().is_some() {}
        if clients.len() >= bounds.clients {
            continue;
        }
        clients.spawn(answer(stream, router.clone(), bounds));
    }
}

/// Answers one request and hangs up.
async fn answer(stream: TcpStream, router: Router, bounds: HttpBounds) {
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(bounds.head_bytes)
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A client that goes away, or takes too long, ends its own conversation and nothing else.
    let _ = timeout(bounds.longest, connection).await;
}
