//! Logs that accept an entry only in its window end the same at every node, even after delays and lost
//! connections.
//!
//! The log here is a small model of a run's journal. An entry of a window that is not open yet is refused and
//! lost, and an entry of a closed window is useless. At most two statements of a signer are kept, unless a vote
//! names others. A vote closes the window once everything that it names is here. The order of entries differs from
//! node to node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use templar_manifest::Hash;
use templar_store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{config, limits_with, run, soon};
use crate::{Log, Net, NetLimits, PeerId, Pulled, ServeAll, SyncLimits};

/// The number of statements of one signer in one window that are kept even if no vote names them.
const MAX_STATEMENTS: usize = 2;

#[derive(Debug, Default)]
struct State {
    entries: Vec<Bytes>,
    window: u64,
    /// The statements of the open window.
    said: BTreeSet<String>,
    /// The votes that wait for the statements that they name.
    held: BTreeSet<String>,
    /// The votes that closed windows, each with the number of the last entry at that moment.
    closed: Vec<(Hash, u64)>,
}

/// The fate of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    In,
    /// It was refused because it came too early, and may be accepted later.
    OutOfTime,
}

/// The small journal. Its entries are `WINDOW say SIGNER TEXT` and `WINDOW close STATEMENT,STATEMENT`.
#[derive(Debug)]
pub(super) struct Journal {
    state: Mutex<State>,
    last: watch::Sender<u64>,
    /// The number of the open window. The channel reports its changes.
    pub(super) window: watch::Sender<u64>,
}

impl Journal {
    pub(super) fn new(entries: &[Bytes]) -> Arc<Self> {
        let (last, window) = (watch::Sender::new(0), watch::Sender::new(0));
        let journal = Self { state: Mutex::default(), last, window };
        for entry in entries {
            assert_eq!(journal.take(entry), Taken::In);
        }
        Arc::new(journal)
    }

    fn entries(&self) -> Vec<Bytes> {
        self.state.lock().unwrap().entries.clone()
    }

    pub(super) fn votes(&self) -> Vec<Hash> {
        self.state.lock().unwrap().closed.iter().map(|(vote, _)| *vote).collect()
    }

    pub(super) fn take(&self, entry: &[u8]) -> Taken {
        let text = std::str::from_utf8(entry).unwrap();
        let (window, rest) = text.split_once(' ').unwrap();
        let window: u64 = window.parse().unwrap();
        let mut state = self.state.lock().unwrap();
        if window < state.window || state.said.contains(text) {
            return Taken::In;
        }
        if window > state.window {
            return Taken::OutOfTime;
        }
        if rest.starts_with("close ") {
            state.held.insert(text.to_owned());
        } else {
            let signer = rest.split(' ').nth(1).unwrap();
            let earlier = state.said.iter().filter(|said| said.split(' ').nth(2) == Some(signer)).count();
            let wanted = state.held.iter().any(|vote| names(vote).any(|named| named == text));
            if earlier >= MAX_STATEMENTS && !wanted {
                return Taken::OutOfTime;
            }
            state.said.insert(text.to_owned());
            state.entries.push(Bytes::copy_from_slice(entry));
        }
        let complete = |vote: &&String| names(vote).all(|named| state.said.contains(named));
        if let Some(vote) = state.held.iter().find(complete).cloned() {
            let entry = Bytes::from(vote);
            let vote = Hash::of(&entry);
            state.entries.push(entry);
            let last = state.entries.len() as u64;
            state.closed.push((vote, last));
            (state.said, state.held) = Default::default();
            state.window += 1;
            self.window.send_replace(state.window);
        }
        self.last.send_replace(state.entries.len() as u64);
        Taken::In
    }

    async fn reaches(&self, window: u64) {
        soon(self.window.subscribe().wait_for(|open| *open >= window)).await.unwrap();
    }
}

/// The statements that a vote names.
fn names(vote: &str) -> impl Iterator<Item = &str> {
    vote.split_once("close ").unwrap().1.split(',')
}

impl Log for Journal {
    fn run(&self) -> Hash {
        run()
    }

    fn after(&self, seq: u64, max_entries: usize, _max_bytes: usize) -> Vec<(u64, Bytes)> {
        let state = self.state.lock().unwrap();
        let numbered = state.entries.iter().zip(1..).map(|(entry, number)| (number, entry.clone()));
        numbered.skip_while(|(number, _)| *number <= seq).take(max_entries).collect()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    fn milestones(&self, max: usize) -> Vec<Hash> {
        self.votes().into_iter().rev().take(max).collect()
    }

    fn reached(&self, milestone: &Hash) -> Option<u64> {
        let state = self.state.lock().unwrap();
        state.closed.iter().find(|(vote, _)| vote == milestone).map(|(_, last)| *last)
    }
}

/// A node that accepts entries, and asks again for an entry that came too early.
struct Node {
    journal: Arc<Journal>,
    store: Store,
    net: Net,
    task: JoinHandle<usize>,
}

fn limits() -> NetLimits {
    let short = Duration::from_millis(20);
    limits_with(|limits| {
        limits.pauses.max_retry = short;
        limits.sync.read_again_pause = short;
    })
}

impl Node {
    async fn start(seed: u8, journal: Arc<Journal>, limits: NetLimits, knows: &[&Self]) -> Self {
        let store = Store::memory().await;
        let net = Net::bind(config(seed, limits), store.clone(), journal.clone(), Arc::new(ServeAll)).await.unwrap();
        for other in knows {
            net.add_peer(other.net.addr()).unwrap();
        }
        let (mut pulled, taking, asking) = (net.pull_entries(), journal.clone(), net.clone());
        let task = tokio::spawn(async move {
            let mut arrived = 0;
            while let Some(pulled) = pulled.recv().await {
                let Pulled::Entry { peer, bytes } = pulled else { continue };
                arrived += 1;
                if taking.take(&bytes) == Taken::OutOfTime {
                    asking.read_again(&peer);
                }
            }
            arrived
        });
        Self { journal, store, net, task }
    }

    async fn new(seed: u8, knows: &[&Self]) -> Self {
        Self::start(seed, Journal::new(&[]), limits(), knows).await
    }

    fn say(&self, entry: &str) {
        assert_eq!(self.journal.take(entry.as_bytes()), Taken::In, "{entry}");
    }

    fn cut_off(&self, others: &[PeerId]) {
        self.net.inner.connections.cut_off(others);
    }

    /// The number of entries that came over the network.
    async fn end(self) -> usize {
        soon(self.net.shutdown()).await;
        self.store.shutdown().await;
        soon(self.task).await.unwrap()
    }
}

pub(super) fn said(window: u64, signer: usize) -> String {
    format!("{window} say {signer} something")
}

pub(super) fn vote(window: u64, signers: impl Iterator<Item = usize>) -> String {
    let named: Vec<String> = signers.map(|signer| said(window, signer)).collect();
    format!("{window} close {}", named.join(","))
}

/// Every node makes a statement in the window, and the last node closes it once it has all statements.
async fn play_window(nodes: &[Node], window: u64) {
    for (signer, node) in nodes.iter().enumerate() {
        node.journal.reaches(window).await;
        node.say(&said(window, signer));
    }
    // The vote waits until everything that it names has come.
    let closer = nodes.last().unwrap();
    assert_eq!(closer.journal.take(vote(window, 0..nodes.len()).as_bytes()), Taken::In);
    closer.journal.reaches(window + 1).await;
}

async fn end_alike(nodes: Vec<Node>, windows: u64) {
    let mut votes = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        node.journal.reaches(windows).await;
        votes.insert(index, node.journal.votes());
    }
    assert!(votes.values().all(|found| *found == votes[&0]), "{votes:?}");
    for node in nodes {
        node.end().await;
    }
}

#[tokio::test]
async fn a_partition_of_two_windows_heals() {
    let first = Node::new(1, &[]).await;
    let mut nodes = vec![first];
    for seed in 2..=5 {
        let node = Node::new(seed, &[&nodes[0]]).await;
        nodes.push(node);
    }
    play_window(&nodes, 0).await;
    // Two nodes are cut off from the other three, which go on for two windows. The two hear nothing, and nobody
    // hears them.
    let ids: Vec<PeerId> = nodes.iter().map(|node| node.net.id()).collect();
    for node in &nodes[..3] {
        node.journal.reaches(1).await;
        node.cut_off(&ids[3..]);
    }
    for node in &nodes[3..] {
        node.journal.reaches(1).await;
        node.cut_off(&ids[..3]);
        node.say("1 say lonely something");
    }
    for window in 1..3 {
        for (signer, node) in nodes[..3].iter().enumerate() {
            node.journal.reaches(window).await;
            node.say(&said(window, signer));
        }
        assert_eq!(nodes[0].journal.take(vote(window, 0..3).as_bytes()), Taken::In);
        nodes[0].journal.reaches(window + 1).await;
    }
    for node in &nodes[3..] {
        assert_eq!(node.journal.votes().len(), 1, "the cut holds");
    }
    for node in &nodes {
        node.cut_off(&[]);
    }
    for node in &nodes {
        node.journal.reaches(3).await;
    }
    play_window(&nodes, 3).await;
    end_alike(nodes, 4).await;
}

/// Before every statement, each node loses its connections with a third of the others, drawn anew from the seed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_of_the_connections_lost_all_the_time() {
    const WINDOWS: u64 = 12;
    let mut nodes = vec![Node::new(1, &[]).await];
    for seed in 2..=6 {
        let node = Node::new(seed, &[&nodes[0]]).await;
        nodes.push(node);
    }
    let ids: Vec<PeerId> = nodes.iter().map(|node| node.net.id()).collect();
    let mut draw = 0_u64;
    let mut cuts = 0;
    for window in 0..WINDOWS {
        for (signer, node) in nodes.iter().enumerate() {
            for other in &nodes {
                let mut lost = ids.clone();
                lost.retain(|id| {
                    draw += 1;
                    *id != other.net.id() && Hash::of(&draw.to_le_bytes()).as_bytes()[0] < 77
                });
                cuts += lost.len();
                other.cut_off(&lost);
            }
            // The node states only what it knows so far. The others wait for their turn while connections come and
            // go.
            while *node.journal.window.borrow() < window {
                nodes.iter().for_each(|node| node.cut_off(&[]));
                node.journal.reaches(window).await;
            }
            node.say(&said(window, signer));
        }
        let closer = nodes.last().unwrap();
        assert_eq!(closer.journal.take(vote(window, 0..nodes.len()).as_bytes()), Taken::In);
        nodes.iter().for_each(|node| node.cut_off(&[]));
        closer.journal.reaches(window + 1).await;
    }
    assert!(cuts as u64 > WINDOWS * 30, "{cuts} cuts");
    end_alike(nodes, WINDOWS).await;
}

/// The journal of a run of `windows` windows with three signers.
fn history(windows: u64, reversed: bool) -> Vec<Bytes> {
    let mut entries = Vec::new();
    for window in 0..windows {
        let mut signers: Vec<usize> = (0..3).collect();
        if reversed {
            signers.reverse();
        }
        entries.extend(signers.into_iter().map(|signer| Bytes::from(said(window, signer))));
        entries.push(vote(window, 0..3).into());
    }
    entries
}

#[tokio::test]
async fn a_late_joiner_is_sent_what_it_lacks_once() {
    let whole = history(50, false);
    let mut nodes = vec![Node::start(1, Journal::new(&whole), limits(), &[]).await];
    for seed in 2..=5 {
        // The same windows, in another order.
        let node = Node::start(seed, Journal::new(&history(50, true)), limits(), &[&nodes[0]]).await;
        nodes.push(node);
    }
    // A new node starts with nothing and one address, and all other nodes could send it the same entries.
    let late = Node::start(6, Journal::new(&[]), limits(), &[&nodes[0]]).await;
    late.journal.reaches(50).await;
    // This node was away since window 45, and reads a log that it never read before and whose order differs.
    let back = Node::start(7, Journal::new(&whole[..45 * 4]), limits(), &[&nodes[1]]).await;
    back.journal.reaches(50).await;
    // One more window, so that both nodes have received every node's statement.
    for node in [&late, &back] {
        node.say(&format!("50 say {} hello", node.net.id()[0]));
    }
    let closing = format!("50 close 50 say {} hello,50 say {} hello", late.net.id()[0], back.net.id()[0]);
    assert_eq!(nodes[0].journal.take(closing.as_bytes()), Taken::In);
    for node in nodes.iter().chain([&late, &back]) {
        node.journal.reaches(51).await;
    }
    assert_eq!(late.journal.votes(), back.journal.votes());
    let (late, back) = (late.end().await, back.end().await);
    assert!((200..260).contains(&late), "{late} entries for a joiner of 200");
    assert!((20..80).contains(&back), "{back} entries for one that lacks 20");
    for node in nodes {
        node.end().await;
    }
}

#[tokio::test]
async fn what_was_refused_and_is_wanted_now_is_read_again() {
    // One signer makes three statements. Each node keeps the first two that arrive, and the vote names the third.
    let entries = ["0 say liar c", "0 close 0 say liar c", "1 say 2 next", "1 close 1 say 2 next"];
    let entries: Vec<Bytes> = entries.iter().map(|entry| Bytes::from_static(entry.as_bytes())).collect();
    let others = Node::start(1, Journal::new(&entries), limits(), &[]).await;
    let journal = Journal::new(&[Bytes::from_static(b"0 say liar a"), Bytes::from_static(b"0 say liar b")]);
    let node = Node::start(2, journal, limits(), &[&others]).await;
    node.journal.reaches(2).await;
    assert_eq!(node.journal.votes(), others.journal.votes());
    assert_eq!(node.journal.entries().len(), 6);
    others.end().await;
    node.end().await;
}

#[tokio::test]
async fn nobody_is_sent_what_it_sent_itself() {
    let a = Node::new(1, &[]).await;
    let b = Node::new(2, &[&a]).await;
    let has = async |node: &Node, count: u64| {
        soon(node.journal.last.subscribe().wait_for(|last| *last == count)).await.unwrap();
    };
    // From here on A reads B's log as well.
    b.say("0 say b first");
    has(&a, 1).await;
    for number in 0..20 {
        a.say(&format!("0 say signer-{number} text"));
    }
    has(&b, 21).await;
    b.say("0 say b last");
    has(&a, 22).await;
    a.end().await;
    let metrics = &b.net.inner.metrics;
    assert_eq!((metrics.entries_sent.get(), metrics.entries_spared.get()), (2, 20));
    b.end().await;
}

#[tokio::test]
async fn who_finds_no_room_learns_of_others() {
    let sync = SyncLimits { followers: 1, neighbours: 1, ..limits().sync };
    let full = NetLimits { sync, ..limits() };
    let hub = Node::start(1, Journal::new(&history(3, false)), full, &[]).await;
    let second = Node::new(2, &[&hub]).await;
    second.journal.reaches(3).await;
    // The hub reads the log of its one follower, and has no place for a third node.
    let third = Node::new(3, &[&hub]).await;
    third.journal.reaches(3).await;
    third.say("3 say third here");
    soon(hub.journal.last.subscribe().wait_for(|last| *last == 13)).await.unwrap();
    assert!(third.net.neighbours().contains(&second.net.id()));
    assert!(third.net.problems()[&hub.net.id()].contains("as many readers"));
    for node in [hub, second, third] {
        node.end().await;
    }
}
