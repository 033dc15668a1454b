//! Real endpoints on the loopback interface, honest ones and hostile ones.

mod book;
mod clock;
mod collection;
mod converge;
mod fetch;
mod have;
mod hostile;
mod limits;
mod lossy;
mod lossy_line;
mod neighbours;
mod pacing;
mod probe;
mod pull;
mod swarm;
mod sync;
mod ticket;
mod wire;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use templar_manifest::Hash;
use templar_store::Store;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::{Log, Net, NetConfig, NetLimits, PeerId, Pulled, ServeAll, ServePolicy};

/// A time that no honest wait in these tests exceeds, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something that must happen, and fails the test if it does not.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it did not happen in time")
}

/// Pseudo-random bytes, so that all chunks differ.
fn bytes(len: usize, seed: u8) -> Bytes {
    // xorshift is enough for that.
    let mut state = u64::from(seed) * 2 + 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out.into()
}

fn run() -> Hash {
    Hash::of(b"a run")
}

/// A log in memory that accepts every new entry.
#[derive(Debug)]
struct TestLog {
    run: Hash,
    entries: Mutex<Vec<Bytes>>,
    last: watch::Sender<u64>,
}

impl TestLog {
    fn new(run: Hash) -> Arc<Self> {
        Arc::new(Self { run, entries: Mutex::default(), last: watch::Sender::new(0) })
    }

    fn push(&self, entry: impl Into<Bytes>) {
        let entry = entry.into();
        let mut entries = self.entries.lock().unwrap();
        if !entries.contains(&entry) {
            entries.push(entry);
            self.last.send_replace(entries.len() as u64);
        }
    }

    async fn has(&self, count: u64) {
        soon(self.last.subscribe().wait_for(|last| *last >= count)).await.unwrap();
    }

    fn sorted(&self) -> Vec<Bytes> {
        let mut entries = self.entries.lock().unwrap().clone();
        entries.sort();
        entries
    }
}

impl Log for TestLog {
    fn run(&self) -> Hash {
        self.run
    }

    fn after(&self, seq: u64, max_entries: usize, max_bytes: usize) -> Vec<(u64, Bytes)> {
        let entries = self.entries.lock().unwrap();
        let mut bytes = 0;
        let numbered = entries.iter().zip(1..).map(|(entry, number)| (number, entry.clone()));
        numbered
            .skip_while(|(number, _)| *number <= seq)
            .take(max_entries)
            .take_while(|(number, entry)| {
                bytes += entry.len();
                *number == seq + 1 || bytes <= max_bytes
            })
            .collect()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

/// A policy that serves only the blobs that the test has allowed.
#[derive(Debug, Default)]
struct Allowed(Mutex<BTreeSet<Hash>>);

impl Allowed {
    fn allow(&self, id: Hash) {
        self.0.lock().unwrap().insert(id);
    }
}

impl ServePolicy for Allowed {
    fn may_serve(&self, blob: &Hash, _to: &PeerId) -> bool {
        self.0.lock().unwrap().contains(blob)
    }
}

/// The default limits with some of them changed.
fn limits_with(change: impl FnOnce(&mut NetLimits)) -> NetLimits {
    let mut limits = NetLimits::default();
    change(&mut limits);
    limits
}

/// Short waits for peers that never answer.
fn impatient() -> NetLimits {
    limits_with(|limits| {
        limits.timeouts.connect = Duration::from_secs(1);
        limits.timeouts.stall = Duration::from_secs(1);
    })
}

fn config(seed: u8, limits: NetLimits) -> NetConfig {
    NetConfig { limits, ..NetConfig::loopback([seed; 32]) }
}

/// A node: a store in memory, a log, and connections.
struct Node {
    store: Store,
    log: Arc<TestLog>,
    net: Net,
}

impl Node {
    async fn new(seed: u8) -> Self {
        Self::with(seed, NetLimits::default(), Store::memory().await, TestLog::new(run()), Arc::new(ServeAll)).await
    }

    async fn with(seed: u8, limits: NetLimits, store: Store, log: Arc<TestLog>, policy: Arc<dyn ServePolicy>) -> Self {
        let net = Net::bind(config(seed, limits), store.clone(), log.clone(), policy).await.unwrap();
        Self { store, log, net }
    }

    fn knows(&self, other: &Net) {
        assert!(self.net.add_peer(other.addr()).unwrap());
    }

    /// Puts every entry from every peer into the log. The task ends with the network.
    fn follow(&self) -> tokio::task::JoinHandle<()> {
        let (mut pulled, log) = (self.net.pull_entries(), self.log.clone());
        tokio::spawn(async move {
            while let Some(pulled) = pulled.recv().await {
                if let Pulled::Entry { bytes, .. } = pulled {
                    log.push(bytes);
                }
            }
        })
    }

    async fn end(self) {
        soon(self.net.shutdown()).await;
        self.store.shutdown().await;
    }
}

/// The entries that arrive until some peer has sent all of its log.
async fn until_caught_up(pulled: &mut mpsc::Receiver<Pulled>) -> Vec<Bytes> {
    let mut entries = Vec::new();
    loop {
        match soon(pulled.recv()).await.expect("the network ended") {
            Pulled::Entry { bytes, .. } => entries.push(bytes),
            Pulled::CaughtUp { .. } => return entries,
        }
    }
}
