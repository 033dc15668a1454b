//! The server: connections, limits, and a stop that ends no answer in the middle.

mod body;
mod clock;
mod handlers;
mod limits;
mod patience;
mod shared;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::engine::{Batching, Worker};
use crate::keys::ApiKeys;
use crate::metrics::ServeMetrics;
use crate::served::Served;
pub use limits::Limits;
use patience::Patient;
use shared::Shared;

/// The pause after a connection that could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// The settings of a server.
#[derive(Debug, Default)]
pub struct ServerSettings {
    /// How much clients may ask for.
    pub limits: Limits,
    /// How much is computed together.
    pub batching: Batching,
    /// The keys that let requests in. Without them everybody may ask.
    pub keys: Option<ApiKeys>,
}

/// A server cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be used.
    #[error("cannot listen on {addr}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("the thread that computes does not start")]
    Thread(#[source] io::Error),
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    /// Listens on an address; port 0 chooses one. Connections are accepted from now on, and answered by
    /// [`Server::run`].
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn bind(addr: SocketAddr, settings: ServerSettings, served: Served) -> Result<Self, ServerError> {
        let bind = |source| ServerError::Bind { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(bind)?;
        let addr = listener.local_addr().map_err(bind)?;
        let metrics = Arc::new(ServeMetrics::default());
        let ServerSettings { limits, batching, keys } = settings;
        let worker = Worker::start(batching, limits.texts, metrics.clone()).map_err(ServerError::Thread)?;
        Ok(Self { listener, addr, shared: Arc::new(Shared::new(served, worker, keys, limits, metrics)) })
    }

    /// The address on which it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A function that lets another model take the place of the one that is served. Requests that have begun are
    /// answered by the old one.
    pub fn swapper(&self) -> impl Fn(Served) + Send + Sync + 'static {
        let shared = self.shared.clone();
        move |served| shared.swap(served)
    }

    /// Answers until `stop` is ready. Then no request is taken any more, and those that have come are answered, within
    /// a bounded time.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { listener, shared, .. } = self;
        let router = router(shared.clone());
        let (stopping, stopped) = watch::channel(());
        let mut clients = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stop => break,
            };
            while clients.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) if clients.len() < shared.limits.connections => {
                    clients.spawn(talk(stream, router.clone(), shared.limits, stopped.clone()));
                }
                Ok(_) => {}
                // The process may be out of file descriptors: that passes.
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
            }
            shared.metrics.connections.set(clients.len() as i64);
        }
        drop(listener);
        shared.stop();
        drop(stopping);
        let rest = async { while clients.join_next().await.is_some() {} };
        // Whoever takes longer is cut off, which a stream without its last event shows.
        let _ = tokio::time::timeout(shared.limits.stop_time, rest).await;
        clients.shutdown().await;
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/completions", post(handlers::completions).fallback(handlers::not_post))
        .route("/v1/chat/completions", post(handlers::chat).fallback(handlers::not_post))
        .route("/v1/models", get(handlers::models).fallback(handlers::not_get))
        .route("/v1/models/{*id}", get(handlers::model).fallback(handlers::not_get))
        .route("/health", get(handlers::health).fallback(handlers::not_get))
        .route("/metrics", get(handlers::metrics).fallback(handlers::not_get))
        .fallback(handlers::other_path)
        .with_state(shared)
}

/// Serves one connection until the client goes, or the server stops.
async fn talk(stream: TcpStream, router: Router, limits: Limits, mut stopped: watch::Receiver<()>) {
    // Events are small, and each is of use at once.
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(Patient::new(stream, limits.write_time));
    let connection = http1::Builder::new()
        .max_buf_size(limits.head_bytes.max(8 << 10))
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .serve_connection(stream, TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

#[cfg(test)]
mod tests;
