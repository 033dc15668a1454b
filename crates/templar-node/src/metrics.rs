//! What a node counts, answered at `/metrics` in the OpenMetrics text format.
//!
//! One registry holds it all: what this crate knows of the run, what `templar-net` counts, and what iroh counts below. The
//! listener answers one question and hangs up: a request is bounded in length and time, and so is the number of clients,
//! so that whoever is let near it can see numbers and do nothing else. Nobody is let near it unless an address is named.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use iroh_metrics::{Gauge, MetricsGroup, MetricsSource as _, Registry};
use templar_net::Net;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::compute::compute;
use crate::replica::Standing;

/// The longest head of a request.
const MAX_HEAD: usize = 8 << 10;

/// How long a client may take to ask, and again to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Clients at the same time; more are sent away.
const MAX_CLIENTS: usize = 8;

/// How often the files of the store are counted at most.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// What this crate knows.
#[derive(Debug, MetricsGroup)]
#[metrics(name = "node", default)]
pub struct NodeMetrics {
    /// Entries in the journal of the run.
    pub entries: Gauge,
    /// Windows of the run that are closed.
    pub windows_closed: Gauge,
    /// The window that is open.
    pub window: Gauge,
    /// Bytes of the files in which blobs are kept.
    pub store_bytes: Gauge,
}

/// Where the numbers come from.
pub(crate) struct Source {
    registry: Registry,
    node: Arc<NodeMetrics>,
    net: Net,
    standing: Box<dyn Fn() -> Standing + Send + Sync>,
    store: PathBuf,
    counted: tokio::sync::Mutex<Option<Instant>>,
}

impl Source {
    pub(crate) fn new(net: Net, standing: impl Fn() -> Standing + Send + Sync + 'static, store: PathBuf) -> Self {
        let (mut registry, node) = (Registry::default(), Arc::new(NodeMetrics::default()));
        registry.sub_registry_with_prefix("templar").register(node.clone());
        net.register_metrics(&mut registry);
        Self { registry, node, net, standing: Box::new(standing), store, counted: Default::default() }
    }

    /// Everything as it is now.
    async fn text(&self) -> String {
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let Standing { entries, window, closed } = (self.standing)();
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

/// The bytes of all files below a directory; what goes away meanwhile counts nothing.
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

/// Listens for who asks.
pub(crate) async fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(addr).await
}

/// Answers until it is dropped.
pub(crate) async fn serve(listener: TcpListener, source: Arc<Source>) {
    let mut clients = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, say: that passes.
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        while clients.try_join_next().is_some() {}
        if clients.len() >= MAX_CLIENTS {
            continue;
        }
        let source = source.clone();
        clients.spawn(async move {
            // Who goes away ends its own conversation and nothing else.
            let _ = answer(stream, &source).await;
        });
    }
}

async fn answer(mut stream: TcpStream, source: &Source) -> io::Result<()> {
    let wanted = timeout(PATIENCE, read_head(&mut stream)).await.map_err(io::Error::from)??;
    let (status, body) = match wanted {
        Wanted::Metrics => ("200 OK", source.text().await),
        Wanted::Other => ("404 Not Found", "there is only /metrics\n".to_owned()),
        Wanted::Method => ("405 Method Not Allowed", "there is only GET\n".to_owned()),
        Wanted::Nonsense => ("400 Bad Request", "not a request\n".to_owned()),
    };
    let kind = match wanted {
        Wanted::Metrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nallow: GET\r\nconnection: close\r\n\r\n"
    );
    timeout(PATIENCE, async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.shutdown().await
    })
    .await?
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Metrics,
    Other,
    Method,
    Nonsense,
}

async fn read_head(stream: &mut TcpStream) -> io::Result<Wanted> {
    let mut head = Vec::with_capacity(1024);
    loop {
        if let Some(wanted) = wanted(&head) {
            return Ok(wanted);
        }
        let mut part = [0; 1024];
        match stream.read(&mut part).await? {
            0 => return Ok(Wanted::Nonsense),
            read => head.extend_from_slice(&part[..read]),
        }
    }
}

/// What a request asks for, once its head is whole or too long.
fn wanted(head: &[u8]) -> Option<Wanted> {
    if head.len() > MAX_HEAD {
        return Some(Wanted::Nonsense);
    }
    if !head.windows(4).any(|end| end == b"\r\n\r\n") {
        return None;
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    Some(match words[..] {
        [b"GET", path, version] if version.starts_with(b"HTTP/1.") => {
            let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
            if path == b"/metrics" { Wanted::Metrics } else { Wanted::Other }
        }
        [_, _, version] if version.starts_with(b"HTTP/1.") => Wanted::Method,
        _ => Wanted::Nonsense,
    })
}

#[cfg(test)]
mod tests {
    use templar_net::{EmptyLog, NetConfig, ServeNone};
    use templar_store::Store;

    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let ask = |line: &str| wanted(format!("{line}\r\nhost: x\r\n\r\n").as_bytes());
        assert_eq!(ask("GET /metrics HTTP/1.1"), Some(Wanted::Metrics));
        assert_eq!(ask("GET /metrics?x=1 HTTP/1.0"), Some(Wanted::Metrics));
        assert_eq!(ask("GET / HTTP/1.1"), Some(Wanted::Other));
        assert_eq!(ask("GET /metrics/../key HTTP/1.1"), Some(Wanted::Other));
        assert_eq!(ask("POST /metrics HTTP/1.1"), Some(Wanted::Method));
        assert_eq!(ask("GET /metrics HTTP/2"), Some(Wanted::Nonsense));
        assert_eq!(ask("GET  /metrics HTTP/1.1"), Some(Wanted::Nonsense));
        assert_eq!(ask("\0\u{ff}"), Some(Wanted::Nonsense));
        assert_eq!(wanted(b"GET /metrics HTTP/1.1\r\n"), None, "it goes on");
        assert_eq!(wanted(&[b'a'; MAX_HEAD + 1]), Some(Wanted::Nonsense));
    }

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
        let standing = || Standing { entries: 12, window: 3, closed: 3 };
        let source = Arc::new(Source::new(net.clone(), standing, dir.path().to_owned()));
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
        assert!(ask(addr, &[b'x'; MAX_HEAD + 1]).await.starts_with("HTTP/1.1 400"));

        // Clients that say nothing hold every place; the next one is sent away, and served when there is room again.
        let mut silent = Vec::new();
        for _ in 0..MAX_CLIENTS {
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
