//! Peers that break the protocols are noticed and named, and they do not harm other peers.

use std::sync::Arc;

use iroh::endpoint::{Connection, ConnectionError, RecvStream, SendStream, VarInt, presets};
use iroh::protocol::{AcceptError, ProtocolHandler, Router};
use iroh::{Endpoint, RelayMode, SecretKey};
use templar_store::Store;
use tokio::sync::mpsc;

use super::{Node, TestLog, bytes, impatient, limits_with, run, soon, until_caught_up};
use crate::foreign::ForeignText;
use crate::frame::encode;
use crate::peers::close_code;
use crate::peers::peer::{Addr, PeerAddr};
use crate::sync::wire::{Ask, Cursor, MAX_MILESTONES, MAX_REPLY, MAX_REQUEST, SyncRefusal, SyncReply, SyncRequest};
use crate::{FetchError, NetLimits, PeerId, ProviderAnswer, Pulled, SYNC_ALPN, ServeAll};
use templar_manifest::Hash;

pub(super) async fn endpoint(seed: u8) -> Endpoint {
    Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&[seed; 32]))
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .unwrap()
        .bind()
        .await
        .unwrap()
}

/// Answers every stream with fixed bytes, and then either ends the stream or keeps it open.
#[derive(Debug, Clone)]
struct Script {
    answer: Vec<u8>,
    ends: bool,
    closed: mpsc::UnboundedSender<ConnectionError>,
}

impl ProtocolHandler for Script {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let mut open: Vec<(SendStream, RecvStream)> = Vec::new();
        while let Ok((mut send, recv)) = connection.accept_bi().await {
            send.write_all(&self.answer).await.ok();
            if self.ends {
                send.finish().ok();
            }
            open.push((send, recv));
        }
        self.closed.send(connection.closed().await).ok();
        Ok(())
    }
}

/// A peer that follows a script and reports how its connections end.
pub(super) struct Hostile {
    router: Router,
    pub(super) addr: PeerAddr,
    closed: mpsc::UnboundedReceiver<ConnectionError>,
}

impl Hostile {
    pub(super) async fn new(seed: u8, answer: Vec<u8>, ends: bool) -> Self {
        let endpoint = endpoint(seed).await;
        let addrs = endpoint.bound_sockets().into_iter().map(Addr::Ip).collect();
        let addr = PeerAddr { id: *endpoint.id().as_bytes(), addrs };
        let (sender, closed) = mpsc::unbounded_channel();
        let script = Script { answer, ends, closed: sender };
        let router =
            Router::builder(endpoint).accept(SYNC_ALPN, script.clone()).accept(iroh_blobs::ALPN, script).spawn();
        Self { router, addr, closed }
    }

    pub(super) async fn end(self) {
        soon(self.router.shutdown()).await.unwrap();
    }
}

async fn victim(limits: NetLimits) -> Node {
    Node::with(100, limits, Store::memory().await, TestLog::new(run()), Arc::new(ServeAll)).await
}

pub(super) fn hello(peers: Vec<PeerAddr>) -> SyncReply<'static> {
    SyncReply::Hello { unix_ms: 0, peers }
}

fn log_request(reached: Vec<Hash>, addrs: Vec<Addr>) -> Vec<u8> {
    encode(&SyncRequest { run: run(), ask: Ask::Log { after: None, reached, addrs } }, MAX_REQUEST).unwrap()
}

fn frames(replies: &[SyncReply<'_>]) -> Vec<u8> {
    replies.iter().flat_map(|reply| encode(reply, MAX_REPLY).unwrap()).collect()
}

/// Fetches from a provider that answers with `answer`, and then from an honest one, which must deliver.
///
/// Returns the answer of the first provider as the error names it, and the problem recorded for it.
async fn fetch_beside(answer: Vec<u8>, ends: bool) -> (ProviderAnswer, Option<String>) {
    let data = bytes(100_000, 1);
    let (hostile, good, b) = (Hostile::new(1, answer, ends).await, Node::new(2).await, victim(impatient()).await);
    let id = good.store.put(data.clone()).await.unwrap();
    b.net.add_peer(hostile.addr.clone()).unwrap();
    let error = soon(b.net.fetch(&id, 1_000_000, &[])).await.unwrap_err();
    let FetchError::NoProvider { answers, .. } = error else { panic!("{error}") };
    let problem = b.net.problems().remove(&hostile.addr.id);

    b.knows(&good.net);
    soon(b.net.fetch(&id, 1_000_000, &[hostile.addr.id])).await.unwrap();
    assert_eq!(b.store.get(&id, 1_000_000).await.unwrap(), data);
    hostile.end().await;
    good.end().await;
    b.end().await;
    (answers[0].1.clone(), problem.map(|problem| problem.to_string()))
}

#[tokio::test]
async fn a_provider_that_sends_wrong_bytes() {
    let mut answer = 100_000_u64.to_le_bytes().to_vec();
    answer.extend_from_slice(&bytes(100_000, 2));
    let (answer, problem) = fetch_beside(answer, true).await;
    assert!(matches!(answer, ProviderAnswer::BadData(_)), "{answer}");
    assert!(problem.unwrap().contains("wrong bytes"));
}

#[tokio::test]
async fn a_provider_that_lies_about_the_length() {
    for claimed in [0_u64, u64::MAX, u64::MAX / 2, 1_000_001] {
        let mut answer = claimed.to_le_bytes().to_vec();
        answer.extend_from_slice(&bytes(10_000, 2));
        let (answer, problem) = fetch_beside(answer, true).await;
        let expected = matches!(answer, ProviderAnswer::ClaimsTooLarge { size } if size == claimed)
            || claimed == 0 && matches!(answer, ProviderAnswer::BadData(_));
        assert!(expected, "{claimed}: {answer}");
        assert!(problem.is_some());
    }
}

#[tokio::test]
async fn a_provider_that_never_answers_or_stops() {
    let (answer, _) = fetch_beside(Vec::new(), false).await;
    assert_eq!(answer, ProviderAnswer::Stalled);
    let (answer, problem) = fetch_beside(100_000_u64.to_le_bytes().to_vec(), false).await;
    assert_eq!(answer, ProviderAnswer::Stalled);
    assert!(problem.unwrap().contains("no progress"));
    let (answer, _) = fetch_beside(Vec::new(), true).await;
    assert_eq!(answer, ProviderAnswer::NotHere);
}

/// Pulls from a peer whose log stream is `answer`. Returns how the connection was closed, the recorded problem,
/// and the entries that came through.
async fn pull_from(answer: Vec<u8>) -> (u32, String, Vec<Pulled>) {
    let (mut hostile, good, b) = (Hostile::new(1, answer, false).await, Node::new(2).await, victim(impatient()).await);
    let mut pulled = b.net.pull_entries();
    b.net.add_peer(hostile.addr.clone()).unwrap();
    let ConnectionError::ApplicationClosed(close) = soon(hostile.closed.recv()).await.unwrap() else {
        panic!("not closed by us")
    };
    let mut arrived = Vec::new();
    while let Ok(item) = pulled.try_recv() {
        arrived.push(item);
    }
    let problem = b.net.problems().remove(&hostile.addr.id).unwrap_or_default();
    // Other peers are not harmed.
    good.log.push("good");
    b.knows(&good.net);
    assert_eq!(until_caught_up(&mut pulled).await, ["good"]);
    hostile.end().await;
    good.end().await;
    b.end().await;
    (u32::try_from(close.error_code.into_inner()).unwrap(), problem.to_string(), arrived)
}

fn number(code: iroh::endpoint::VarInt) -> u32 {
    u32::try_from(code.into_inner()).unwrap()
}

#[tokio::test]
async fn a_log_that_breaks_the_protocol() {
    let peers = hello(Vec::new());
    let entry = |seq| SyncReply::Entry { seq, bytes: b"entry" };
    let long_frame = u32::try_from(MAX_REPLY + 1).unwrap().to_le_bytes().to_vec();
    let many = hello((0..65_u8).map(|i| PeerAddr { id: [i; 32], addrs: Vec::new() }).collect());
    let busy = SyncReply::Refused(SyncRefusal::Busy);
    let cases: [(Vec<u8>, &str, usize); 10] = [
        (long_frame, "more than", 0),
        (vec![0xff; 64], "more than", 0),
        ([4_u32.to_le_bytes(), [0xff; 4]].concat(), "does not parse", 0),
        (0_u32.to_le_bytes().to_vec(), "does not parse", 0),
        (frames(&[entry(1)]), "did not begin", 0),
        (frames(&[many]), "too many peers", 0),
        (frames(&[peers.clone(), entry(1), entry(1)]), "out of order", 1),
        (frames(&[peers.clone(), entry(0)]), "out of order", 0),
        (frames(&[peers.clone(), peers.clone()]), "wrong place", 0),
        (frames(&[peers.clone(), entry(1), busy]), "wrong place", 1),
    ];
    for (answer, expected, entries) in cases {
        let (code, problem, arrived) = pull_from(answer).await;
        assert_eq!(code, number(close_code::PROTOCOL), "{problem}");
        assert!(problem.contains(expected), "{problem:?} has no {expected:?}");
        assert_eq!(arrived.len(), entries);
    }
}

#[tokio::test]
async fn a_log_that_stalls() {
    // A peer that sends nothing, and one whose frame never ends.
    for answer in [Vec::new(), [frames(&[hello(Vec::new())]), vec![10, 0, 0, 0, 1]].concat()] {
        let (code, problem, arrived) = pull_from(answer).await;
        assert_eq!(code, number(close_code::STALLED));
        assert!(problem.contains("stalled"), "{problem}");
        assert!(arrived.is_empty());
    }
}

#[tokio::test]
async fn a_log_that_the_node_finds_invalid() {
    let replies = [hello(Vec::new()), SyncReply::Entry { seq: 1, bytes: b"nonsense" }, SyncReply::CaughtUp];
    let mut hostile = Hostile::new(1, frames(&replies), false).await;
    let b = victim(NetLimits::default()).await;
    let mut pulled = b.net.pull_entries();
    b.net.add_peer(hostile.addr.clone()).unwrap();
    assert_eq!(until_caught_up(&mut pulled).await, ["nonsense"]);
    b.net.blame(&hostile.addr.id, "an entry that does not decode");
    let closed = soon(hostile.closed.recv()).await.unwrap();
    assert!(
        matches!(&closed, ConnectionError::ApplicationClosed(close) if close.error_code == close_code::PROTOCOL),
        "{closed}"
    );
    assert_eq!(*b.net.problems()[&hostile.addr.id], *"an entry that does not decode");
    hostile.end().await;
    b.end().await;
}

#[tokio::test]
async fn invented_peers_do_not_fill_the_book_or_spread() {
    let peers = |from: u8| -> Vec<PeerAddr> {
        let id = |i: u8| -> PeerId { *SecretKey::from_bytes(&[i; 32]).public().as_bytes() };
        let invented =
            |i| PeerAddr { id: id(i), addrs: vec!["127.0.0.1:1".parse().unwrap(), "0.0.0.0:5".parse().unwrap()] };
        (from..from + 60).map(invented).collect()
    };
    let hostile = Hostile::new(1, frames(&[hello(peers(10)), SyncReply::CaughtUp]), false).await;
    let b = victim(NetLimits { max_peers: 20, ..impatient() }).await;
    let mut pulled = b.net.pull_entries();
    b.net.add_peer(hostile.addr.clone()).unwrap();
    assert!(until_caught_up(&mut pulled).await.is_empty());
    assert!(b.net.peers().len() <= 20);
    assert_eq!(b.net.inner.book.shareable(None, 64), std::slice::from_ref(&hostile.addr), "only whom we met");
    assert!(b.net.peers().iter().all(|peer| peer.addrs.iter().all(|addr| !addr.ip().unwrap().ip().is_unspecified())));
    assert_eq!(b.net.ticket(None).peers.len(), 2);
    // There is always room for a configured peer.
    let good = Node::new(2).await;
    b.knows(&good.net);
    hostile.end().await;
    good.end().await;
    b.end().await;
}

/// Sends `request` on the sync protocol and returns how the other side closes.
async fn ask(request: &[u8], a: &Node) -> ConnectionError {
    let endpoint = endpoint(50).await;
    let addr = a.net.addr().to_endpoint_addr().unwrap();
    let connection = soon(endpoint.connect(addr, SYNC_ALPN)).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(request).await.unwrap();
    let closed = soon(connection.closed()).await;
    soon(endpoint.close()).await;
    closed
}

#[tokio::test]
async fn requests_that_break_the_protocol_are_closed_and_others_served() {
    let a = victim(impatient()).await;
    a.log.push("entry");
    let too_many_addrs = log_request(Vec::new(), (1..=9).map(|port| ([127, 0, 0, 1], port).into()).collect());
    let too_many_milestones = log_request(vec![Hash::default(); MAX_MILESTONES + 1], Vec::new());
    let requests = [
        u32::MAX.to_le_bytes().to_vec(),
        u32::try_from(MAX_REQUEST + 1).unwrap().to_le_bytes().to_vec(),
        [2_u32.to_le_bytes().to_vec(), vec![7, 7]].concat(),
        too_many_addrs,
        too_many_milestones,
    ];
    for request in requests {
        let closed = ask(&request, &a).await;
        assert!(
            matches!(&closed, ConnectionError::ApplicationClosed(close) if close.error_code == close_code::PROTOCOL),
            "{closed}"
        );
    }
    let silent = ask(&[9], &a).await;
    assert!(
        matches!(&silent, ConnectionError::ApplicationClosed(close) if close.error_code == close_code::STALLED),
        "{silent}"
    );
    assert!(a.net.peers().is_empty());

    let b = Node::new(1).await;
    b.knows(&a.net);
    assert_eq!(until_caught_up(&mut b.net.pull_entries()).await, ["entry"]);
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn one_peer_gets_a_few_connections_only() {
    let a = victim(limits_with(|limits| limits.connections.max_inbound_per_peer = 2)).await;
    let endpoint = endpoint(50).await;
    let addr = a.net.addr().to_endpoint_addr().unwrap();
    let request = log_request(Vec::new(), Vec::new());
    let mut served = Vec::new();
    for _ in 0..2 {
        let connection = soon(endpoint.connect(addr.clone(), SYNC_ALPN)).await.unwrap();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&request).await.unwrap();
        let mut first = [0; 4];
        soon(recv.read_exact(&mut first)).await.unwrap();
        served.push((connection, send, recv));
    }
    let third = soon(endpoint.connect(addr.clone(), SYNC_ALPN)).await.unwrap();
    let closed = soon(third.closed()).await;
    assert!(
        matches!(&closed, ConnectionError::ApplicationClosed(close) if close.error_code == close_code::BUSY),
        "{closed}"
    );
    drop(served);
    soon(endpoint.close()).await;
    a.end().await;
}

#[test]
fn frames_of_this_version_do_not_change() {
    let hex = |frame: Vec<u8>| data_encoding::HEXLOWER.encode(&frame);
    let hash = Hash::from_bytes([0xaa; 32]);
    let aa = "aa".repeat(32);
    let request = SyncRequest {
        run: hash,
        ask: Ask::Log {
            after: Some(Cursor { seq: 300, entry: hash }),
            reached: vec![hash],
            addrs: vec!["127.0.0.1:4444".parse().unwrap(), "https://relay.example/".parse().unwrap()],
        },
    };
    let relay = data_encoding::HEXLOWER.encode(b"https://relay.example/");
    assert_eq!(
        hex(encode(&request, MAX_REQUEST).unwrap()),
        format!("8900000020{aa}0101ac0220{aa}0120{aa}0200007f000001dc220116{relay}")
    );
    let probe = SyncRequest { run: hash, ask: Ask::Hello };
    assert_eq!(hex(encode(&probe, MAX_REQUEST).unwrap()), format!("2200000020{aa}00"));
    let hello = SyncReply::Hello { unix_ms: 300, peers: Vec::new() };
    assert_eq!(hex(encode(&hello, MAX_REPLY).unwrap()), "0400000001ac0200");
    assert_eq!(
        hex(encode(&SyncReply::Entry { seq: 7, bytes: b"hi" }, MAX_REPLY).unwrap()),
        "0500000002070268".to_owned() + "69"
    );
    assert_eq!(hex(encode(&SyncReply::CaughtUp, MAX_REPLY).unwrap()), "0100000003");
    let refused = SyncReply::Refused(SyncRefusal::WrongRun { run: hash });
    assert_eq!(hex(encode(&refused, MAX_REPLY).unwrap()), format!("23000000000020{aa}"));
}

/// Closes every connection with a reason that would clear a terminal and set its title.
#[derive(Debug, Clone)]
struct Painter;

impl ProtocolHandler for Painter {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        connection.close(VarInt::from_u32(7), b"\x1b[2J\x1b[1;1H\x1b]0;owned\x07everything is fine");
        Ok(())
    }
}

#[tokio::test]
async fn a_peer_cannot_paint_on_the_terminal() {
    let painter = endpoint(1).await;
    let addr = iroh::EndpointAddr::new(painter.id()).with_ip_addr(painter.bound_sockets()[0]);
    let router = Router::builder(painter).accept(SYNC_ALPN, Painter).spawn();
    let guest = endpoint(2).await;
    let closed = match soon(guest.connect(addr, SYNC_ALPN)).await {
        Ok(connection) => soon(connection.closed()).await.to_string(),
        Err(error) => format!("{error:#}"),
    };
    assert!(closed.contains('\u{1b}'), "iroh gives the reason as it came: {closed:?}");
    let kept = ForeignText::of(closed);
    assert!(kept.contains(r"\u{1b}[2J") && kept.contains("everything is fine"), "{kept}");
    assert!(!kept.contains('\u{1b}') && !kept.contains('\u{7}'), "{kept:?}");
    soon(guest.close()).await;
    router.shutdown().await.ok();
}
