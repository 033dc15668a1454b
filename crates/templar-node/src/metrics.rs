//! The counters of a node, answered at `/metrics` in the OpenMetrics text format.
//!
//! One registry holds them all: the run's figures in this crate, the counters of `templar-net`, and those of
//! iroh. The server answers one request and hangs up. The length of a request, the time of a conversation and
//! the number of clients are bounded, so that whoever reaches it can see numbers and do nothing else. It
//! listens only where an address is named.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use iroh_metrics::{Gauge, MetricsGroup, MetricsSource as _, Registry};
use templar_home::replica::Position;
use templar_net::Net;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::compute::compute;
use crate::http::{self, HttpBounds, PATIENCE};

/// Enough for whoever reads numbers. A client may take as long to take the answer as to ask.
const BOUNDS: HttpBounds = HttpBounds { clients: 8, head_bytes: 8 << 10, longest: PATIENCE.saturating_mul(2) };

/// The media type of the answer.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The shortest time between two counts of the store's files.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// The figures that this crate knows.
#[derive(Debug, MetricsGroup)]
#[metrics(name = "node", default)]
pub struct NodeMetrics {
    /// The number of entries in the journal of the run.
    pub entries: Gauge,
    /// The number of closed windows.
    pub windows_closed: Gauge,
    /// The index of the open window.
    pub window: Gauge,
    /// The bytes of the files in which blobs are kept.
    pub store_bytes: Gauge,
}

/// The source of the numbers.
pub(crate) struct MetricsSource {
    registry: Registry,
    node: Arc<NodeMetrics>,
    net: Net,
    position: Box<dyn Fn() -> Position + Send + Sync>,
    store: PathBuf,
    counted: tokio::sync::Mutex<Option<Instant>>,
}

impl MetricsSource {
    pub(crate) fn new(net: Net, position: impl Fn() -> Position + Send + Sync + 'static, store: PathBuf) -> Self {
        let (mut registry, node) = (Registry::default(), Arc::new(NodeMetrics::default()));
        registry.sub_registry_with_prefix("templar").register(node.clone());
        net.register_metrics(&mut registry);
        Self { registry, node, net, position: Box::new(position), store, counted: Default::default() }
    }

    /// All numbers as they are now, as text.
    async fn text(&self) -> String {
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let Position { entries, window, closed } = (self.position)();
        self.node.entries.set(gauge(entries));
        self.node.window.set(gauge(window));
        self.node.windows_closed.set(gauge(closed));
        self.net.refresh_metrics();
        let mut counted = self.counted.lock().await;
        if counted.is_none_or(|counted| counted.elapsed() >= COUNT_EVERY) {
            let store = self.store.clone();
            self.node.store_bytes.set(gauge(compute(move || bytes_in(&store)).await));
            *counted = Some(Instant::now());
        }
        drop(counted);
        // Writing into a string cannot fail.
        self.registry.encode_openmetrics_to_string().unwrap_or_default()
    }
}

/// The bytes of all files below a directory. A file that vanishes meanwhile counts nothing.
pub(crate) fn bytes_in(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Binds the address for metrics.
pub(crate) async fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(addr).await
}

/// Answers until it is dropped.
pub(crate) async fn serve(listener: TcpListener, source: Arc<MetricsSource>) {
    let router =
        Router::new().route("/metrics", get(metrics).fallback(other_method)).fallback(other_path).with_state(source);
    http::serve(listener, router, BOUNDS).await;
}

async fn metrics(State(source): State<Arc<MetricsSource>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPEN_METRICS)], source.text().await)
}

async fn other_method() -> impl IntoResponse {
    (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET")], "there is only GET\n")
}

async fn other_path() -> impl IntoResponse {
    (StatusCode::NOT_FOUND, "there is only /metrics\n")
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;
    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use templar_net::{EmptyLog, NetConfig, ServeNone};
    use templar_store::Store;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn ask(addr: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        timeout(Duration::from_secs(30), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn numbers_are_answered_and_hostile_clients_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        std::fs::write(dir.path().join("data/blob"), [0; 1000]).unwrap();
        std::fs::write(dir.path().join("blobs.db"), [0; 234]).unwrap();
        let (log, none) = (Arc::new(EmptyLog::new(Default::default())), Arc::new(ServeNone));
        let net = Net::bind(NetConfig::loopback([3; 32]), Store::memory().await, log, none).await.unwrap();
        let position = || Position { entries: 12, window: 3, closed: 3 };
        let source = Arc::new(MetricsSource::new(net.clone(), position, dir.path().to_owned()));
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, source));

        let text = ask(addr, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
        for line in [
            "templar_node_entries 12",
            "templar_node_windows_closed 3",
            "templar_node_store_bytes 1234",
            "templar_net_connections_accepted_total 0",
            "templar_net_peers_blamed 0",
            "iroh_socket_send_ipv4_total 0",
        ] {
            assert!(body.lines().any(|found| found == line), "no {line} in {body}");
        }
        assert!(body.ends_with("# EOF\n"));
        assert!(ask(addr, b"GET /key HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        assert!(ask(addr, b"DELETE /metrics HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 405"));
        for (line, status) in [
            ("GET /metrics?x=1 HTTP/1.0", "HTTP/1.0 200"),
            ("GET / HTTP/1.1", "HTTP/1.1 404"),
            ("GET /metrics/../key HTTP/1.1", "HTTP/1.1 404"),
            ("POST /metrics HTTP/1.1", "HTTP/1.1 405"),
            ("GET /metrics HTTP/2", "HTTP/1.1 400"),
            ("GET  /metrics HTTP/1.1", "HTTP/1.1 400"),
            ("\0\u{ff}", "HTTP/1.1 400"),
        ] {
            let answer = ask(addr, format!("{line}\r\nhost: x\r\n\r\n").as_bytes()).await;
            assert!(answer.starts_with(status), "{line}: {answer}");
            assert!(answer.to_lowercase().contains("connection: close") || status.starts_with("HTTP/1.0"), "{answer}");
        }
        let other = ask(addr, b"POST /metrics HTTP/1.1\r\n\r\n").await;
        assert!(other.contains("allow: GET\r\n") && other.ends_with("there is only GET\n"), "{other}");
        assert!(ask(addr, b"GET /key HTTP/1.1\r\n\r\n").await.ends_with("there is only /metrics\n"));
        assert!(
            ask(addr, &[b'x'; BOUNDS.head_bytes + 1]).await.starts_with("HTTP/1.1 4"),
            "a head that never ends is refused"
        );

        // Silent clients hold all places, and the next client is sent away.
        let mut silent = Vec::new();
        for _ in 0..BOUNDS.clients {
            silent.push(TcpStream::connect(addr).await.unwrap());
        }
        let mut refused = TcpStream::connect(addr).await.unwrap();
        let mut nothing = [0; 1];
        let read = timeout(Duration::from_secs(30), refused.read(&mut nothing)).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        drop(silent);
        serving.shutdown().await;
        net.shutdown().await;
    }
}
