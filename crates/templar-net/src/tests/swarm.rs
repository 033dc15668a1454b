//! Blobs come from many peers at once, whole and only once, although some peers die, lie, stall or have only a
//! part.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::Connection;
use iroh::protocol::{AcceptError, ProtocolHandler, Router};
use iroh_blobs::protocol::{ChunkRanges, GetRequest, Request};
use templar_manifest::Hash;
use templar_store::{Store, to_iroh};

use super::hostile::{Hostile, endpoint};
use super::{Node, TestLog, bytes, limits_with, run, soon};
use crate::peers::peer::{Addr, PeerAddr};
use crate::{FetchError, Fetched, NetLimits, ProviderAnswer, ServeAll};

const ANY: u64 = u64::MAX;

/// Large enough for several ranges of 1 MiB.
const SIZE: usize = 6_000_000;

async fn node(seed: u8, limits: NetLimits) -> Node {
    Node::with(seed, limits, Store::memory().await, TestLog::new(run()), Arc::new(ServeAll)).await
}

/// Limits of a provider that takes about a second to send [`SIZE`] bytes, so that something can happen meanwhile.
fn unhurried() -> NetLimits {
    limits_with(|limits| limits.serving.bytes_per_second = Some(4_000_000))
}

async fn on_disk(seed: u8, dir: &Path, limits: NetLimits) -> Node {
    let store = Store::open(dir).await.unwrap();
    Node::with(seed, limits, store, TestLog::new(run()), Arc::new(ServeAll)).await
}

/// The number of bytes of whole groups in the store.
async fn here(store: &Store, id: &Hash) -> u64 {
    store.blobs().observe(to_iroh(id)).await.unwrap().total_bytes()
}

/// Waits until this number of bytes of all fetches is in the store.
async fn until_here(node: &Node, bytes: u64) {
    soon(node.net.progress().wait_for(|progress| progress.bytes_here >= bytes)).await.unwrap();
}

#[tokio::test]
async fn a_provider_that_is_gone_in_the_middle() {
    for percent in [10, 50, 90] {
        let (dying, living, b) = (node(1, unhurried()).await, node(2, unhurried()).await, Node::new(3).await);
        let data = bytes(SIZE, percent);
        let id = dying.store.put(data.clone()).await.unwrap();
        living.store.put(data.clone()).await.unwrap();
        b.knows(&dying.net);
        b.knows(&living.net);
        let blobs = [(id, SIZE as u64)];
        let kill = async {
            until_here(&b, SIZE as u64 * u64::from(percent) / 100).await;
            dying.net.shutdown().await;
        };
        let (fetched, ()) = tokio::join!(soon(b.net.fetch_all(&blobs, &[])), kill);
        assert_eq!(fetched.unwrap(), Fetched { size: SIZE as u64, received: SIZE as u64 }, "nothing came twice");
        assert_eq!(b.store.get(&id, ANY).await.unwrap(), data);
        for node in [dying, living, b] {
            node.end().await;
        }
    }
}

#[tokio::test]
async fn a_provider_that_sends_one_byte_a_second_holds_nothing_up() {
    let slow = node(1, limits_with(|limits| limits.serving.bytes_per_second = Some(1))).await;
    let quick = Node::new(2).await;
    // Only taking over its pieces helps, because it never exceeds the stall timeout.
    let b = node(3, limits_with(|limits| limits.timeouts.stall = Duration::from_secs(3600))).await;
    b.knows(&slow.net);
    let mut ids = Vec::new();
    for (len, seed) in [(SIZE, 1), (50_000, 2), (70_000, 3)] {
        let data = bytes(len, seed);
        ids.push((slow.store.put(data.clone()).await.unwrap(), len as u64));
        quick.store.put(data).await.unwrap();
    }
    // The slow provider is asked for everything before the other one is known.
    let named = [slow.net.id()];
    let fetch = b.net.fetch_all(&ids, &named);
    let join = async {
        soon(async {
            while slow.net.inner.served.requests.count() < 3 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        b.knows(&quick.net);
    };
    let (fetched, ()) = tokio::join!(soon(fetch), join);
    assert_eq!(fetched.unwrap().size, SIZE as u64 + 120_000);
    for node in [slow, quick, b] {
        node.end().await;
    }
}

/// Proves the length of its blob honestly, and sends other bytes for every range.
#[derive(Debug, Clone)]
struct TrueLengthFalseBytes(Store);

impl ProtocolHandler for TrueLengthFalseBytes {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            let Ok((Request::Get(GetRequest { hash, ranges }), _)) = Request::read_async(&mut recv).await else {
                break;
            };
            let wanted = ranges.iter().next().cloned().unwrap_or_else(ChunkRanges::empty);
            let proof = wanted.boundaries().len() == 1;
            let mut answer = self.0.blobs().export_bao(hash, wanted).bao_to_vec().await.unwrap();
            if !proof {
                answer[8..].fill(7);
            }
            send.write_all(&answer).await.ok();
            send.finish().ok();
        }
        Ok(())
    }
}

#[tokio::test]
async fn every_provider_but_one_lies() {
    let data = bytes(SIZE, 1);
    let honest = Node::new(9).await;
    let id = honest.store.put(data.clone()).await.unwrap();
    let size = SIZE as u64;

    let with_garbage = [&size.to_le_bytes()[..], &bytes(100_000, 2)].concat();
    let too_long = [&(size + 5).to_le_bytes()[..], &bytes(100_000, 2)].concat();
    let too_short = [&(size / 2).to_le_bytes()[..], &bytes(100_000, 2)].concat();
    let cut_off = honest.store.blobs().export_bao(to_iroh(&id), ChunkRanges::all()).bao_to_vec().await.unwrap();
    let mut liars = Vec::new();
    for (seed, answer) in [(1, with_garbage), (2, too_long), (3, too_short), (4, cut_off[..90_000].to_vec())] {
        liars.push(Hostile::new(seed, answer, true).await);
    }
    let subtle_endpoint = endpoint(5).await;
    let subtle = PeerAddr {
        id: *subtle_endpoint.id().as_bytes(),
        addrs: subtle_endpoint.bound_sockets().into_iter().map(Addr::Ip).collect(),
    };
    let handler = TrueLengthFalseBytes(honest.store.clone());
    let router = Router::builder(subtle_endpoint).accept(iroh_blobs::ALPN, handler).spawn();

    // Without an honest provider only the length comes, and each provider's misbehaviour is recorded.
    let b = Node::new(10).await;
    for addr in liars.iter().map(|liar| &liar.addr).chain([&subtle]) {
        b.net.add_peer(addr.clone()).unwrap();
    }
    let error = soon(b.net.fetch(&id, size, &[])).await.unwrap_err();
    let FetchError::NoProvider { answers, .. } = &error else { panic!("{error}") };
    assert_eq!(answers.len(), 5);
    let problems = b.net.problems();
    for (peer, answer) in answers {
        let is_cut_off = *peer == liars[3].addr.id;
        let lied = matches!(answer, ProviderAnswer::BadData(_) | ProviderAnswer::ClaimsTooLarge { .. });
        assert!(lied || is_cut_off, "{answer}");
        assert_eq!(lied, b.net.inner.book.is_blamed(peer), "{answer}");
        assert!(is_cut_off || problems[peer].contains("wrong bytes") || problems[peer].contains("claims a length"));
    }
    assert!(here(&b.store, &id).await <= 16 << 10, "the last group at most");

    // With one honest provider everything comes.
    b.knows(&honest.net);
    let fetched = soon(b.net.fetch(&id, size, &[liars[0].addr.id, subtle.id])).await.unwrap();
    assert_eq!(fetched.size, size);
    assert_eq!(b.store.get(&id, ANY).await.unwrap(), data);
    let c = Node::new(11).await;
    for addr in liars.iter().map(|liar| &liar.addr).chain([&subtle]) {
        c.net.add_peer(addr.clone()).unwrap();
    }
    c.knows(&honest.net);
    assert_eq!(soon(c.net.fetch(&id, size, &[])).await.unwrap().received, size);
    assert_eq!(c.store.get(&id, ANY).await.unwrap(), data);

    for liar in liars {
        liar.end().await;
    }
    soon(router.shutdown()).await.unwrap();
    for node in [honest, b, c] {
        node.end().await;
    }
}

#[tokio::test]
async fn damage_on_one_providers_disk_costs_that_provider_only() {
    let dir = tempfile::tempdir().unwrap();
    let corrupt = on_disk(1, dir.path(), NetLimits::default()).await;
    let (good, b) = (node(2, unhurried()).await, Node::new(3).await);
    let data = bytes(SIZE, 1);
    let id = corrupt.store.put(data.clone()).await.unwrap();
    good.store.put(data.clone()).await.unwrap();
    let path = dir.path().join("data").join(format!("{id}.data"));
    let mut damaged = std::fs::read(&path).unwrap();
    // The damage is in every range.
    for place in (10_000..SIZE).step_by(700_000) {
        damaged[place] ^= 1;
    }
    std::fs::write(&path, damaged).unwrap();
    b.knows(&corrupt.net);
    b.knows(&good.net);
    let fetched = soon(b.net.fetch(&id, ANY, &[corrupt.net.id()])).await.unwrap();
    assert_eq!(fetched, Fetched { size: SIZE as u64, received: SIZE as u64 });
    assert_eq!(b.store.get(&id, ANY).await.unwrap(), data);
    assert!(!b.net.inner.book.is_blamed(&corrupt.net.id()), "it noticed and said nothing wrong");
    for node in [corrupt, good, b] {
        node.end().await;
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_the_transfer_to_the_others() {
    let (a, b) = (node(1, unhurried()).await, Node::new(2).await);
    b.knows(&a.net);
    let id = a.store.put(bytes(SIZE, 1)).await.unwrap();
    let size = SIZE as u64;
    let staying = tokio::spawn({
        let net = b.net.clone();
        async move { net.fetch(&id, size, &[]).await }
    });
    {
        let leaving = b.net.fetch(&id, size, &[]);
        tokio::select! {
            biased;
            () = until_here(&b, size / 4) => {}
            fetched = leaving => panic!("too quick: {fetched:?}"),
        }
    }
    assert_eq!(soon(staying).await.unwrap().unwrap().received, size);
    // The transfer ends with its last caller, and the received bytes stay.
    let second = a.store.put(bytes(SIZE, 2)).await.unwrap();
    let before = b.net.progress().borrow().bytes_here;
    tokio::select! {
        biased;
        () = until_here(&b, before + size / 4) => {}
        fetched = b.net.fetch(&second, size, &[]) => panic!("too quick: {fetched:?}"),
    }
    soon(async {
        while a.net.inner.served.requests.count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let kept = here(&b.store, &second).await;
    assert!(kept >= size / 8 && kept < size, "{kept}");
    assert_eq!(soon(b.net.fetch(&second, size, &[])).await.unwrap(), Fetched { size, received: size - kept });
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn whoever_has_a_part_gives_it() {
    let (seeder, b, c) = (node(1, unhurried()).await, Node::new(2).await, Node::new(3).await);
    let data = bytes(SIZE, 1);
    let id = seeder.store.put(data.clone()).await.unwrap();
    let size = SIZE as u64;
    b.knows(&seeder.net);
    tokio::select! {
        biased;
        () = until_here(&b, size / 2) => {}
        fetched = b.net.fetch(&id, size, &[]) => panic!("too quick: {fetched:?}"),
    }
    soon(seeder.net.shutdown()).await;
    let half = here(&b.store, &id).await;

    c.knows(&b.net);
    let error = soon(c.net.fetch(&id, size, &[])).await.unwrap_err();
    let FetchError::NoProvider { answers, .. } = &error else { panic!("{error}") };
    let [(_, ProviderAnswer::OnlyPart { received })] = answers[..] else { panic!("{error}") };
    assert_eq!(received, half, "all that it has");
    assert_eq!(here(&c.store, &id).await, half);

    // Two nodes that have nothing more for each other do not wait for ever. With a third that has the whole blob,
    // both go on.
    b.knows(&c.net);
    assert!(soon(b.net.fetch(&id, size, &[])).await.is_err());
    let whole = Node::new(4).await;
    whole.store.put(data).await.unwrap();
    b.knows(&whole.net);
    c.knows(&whole.net);
    let (one, two) = tokio::join!(soon(b.net.fetch(&id, size, &[])), soon(c.net.fetch(&id, size, &[])));
    assert_eq!((one.unwrap().received, two.unwrap().received), (size - half, size - half));
    seeder.store.shutdown().await;
    for node in [b, c, whole] {
        node.end().await;
    }
}

#[tokio::test]
async fn many_small_blobs_and_large_ones_in_one_request() {
    let dir = tempfile::tempdir().unwrap();
    let (a, c) = (Node::new(1).await, Node::new(2).await);
    let b = on_disk(3, dir.path(), NetLimits::default()).await;
    b.knows(&a.net);
    b.knows(&c.net);
    let (mut blobs, mut size) = (Vec::new(), 0);
    for seed in 0..120_u8 {
        let len = if seed % 40 == 0 { 2_000_000 } else { 1 + usize::from(seed) * 300 };
        let data = bytes(len, seed);
        // Each has half of the groups, and some groups are at both.
        let store = if seed % 2 == 0 { &a.store } else { &c.store };
        blobs.push((store.put(data.clone()).await.unwrap(), len as u64));
        if seed % 5 == 0 {
            a.store.put(data.clone()).await.unwrap();
            c.store.put(data).await.unwrap();
        }
        size += len as u64;
    }
    let fetched = soon(b.net.fetch_all(&blobs, &[])).await.unwrap();
    assert_eq!(fetched, Fetched { size, received: size });
    let progress = *b.net.progress().borrow();
    assert_eq!((progress.blobs, progress.blobs_here), (120, 120));
    assert_eq!((progress.bytes, progress.bytes_here, progress.received), (size, size, size));
    b.store.sync(&blobs.iter().map(|(id, _)| *id).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(b.store.scrub(|_| {}).await.unwrap().corrupt, []);
    for node in [a, b, c] {
        node.end().await;
    }
}

/// Fetches the blob that standard input names, until this process is killed.
#[test]
#[ignore = "the process that `nothing_is_fetched_twice_after_a_kill` kills"]
fn fetches_until_it_is_killed() {
    let mut input = String::new();
    std::io::stdin().read_line(&mut input).unwrap();
    let parts: Vec<&str> = input.split_whitespace().collect();
    let [dir, id, provider] = parts[..] else { panic!("{input:?}") };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let b = on_disk(7, Path::new(dir), NetLimits::default()).await;
        b.net.add_peer(provider.parse().unwrap()).unwrap();
        let mut progress = b.net.progress();
        let net = b.net.clone();
        let id: Hash = id.parse().unwrap();
        tokio::spawn(async move { net.fetch(&id, SIZE as u64, &[]).await });
        while progress.changed().await.is_ok() {
            println!("received {}", progress.borrow_and_update().received);
        }
    });
}

#[tokio::test]
async fn nothing_is_fetched_twice_after_a_kill() {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let dir = tempfile::tempdir().unwrap();
    // The upload is so slow that the process is killed long before the end.
    let a = node(1, limits_with(|limits| limits.serving.bytes_per_second = Some(1_000_000))).await;
    let c = Node::new(2).await;
    let data: Bytes = bytes(SIZE, 1);
    let id = a.store.put(data.clone()).await.unwrap();
    c.store.put(data.clone()).await.unwrap();
    let (size, step) = (SIZE as u64, 1 << 20);
    let mut before = 0;
    for attempt in 1..=2 {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "tests::swarm::fetches_until_it_is_killed"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let line = format!("{} {id} {}\n", dir.path().display(), a.net.addr());
        child.stdin.take().unwrap().write_all(line.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        soon(async {
            while let Some(line) = lines.next_line().await.unwrap() {
                let received = line.strip_prefix("received ").map(|number| number.parse::<u64>().unwrap());
                if received.is_some_and(|received| received >= step) {
                    break;
                }
            }
        })
        .await;
        child.kill().await.unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let kept = here(&store, &id).await;
        // Bytes that were decoded and not yet written are lost, at most 2 MiB. Written bytes are found again.
        assert!(kept > 0 && kept >= before && kept < size, "attempt {attempt}: {kept} after {before}");
        before = kept;
        store.shutdown().await;
    }
    let b = on_disk(7, dir.path(), NetLimits::default()).await;
    b.knows(&c.net);
    let fetched = soon(b.net.fetch(&id, size, &[])).await.unwrap();
    assert_eq!(fetched, Fetched { size, received: size - before });
    assert_eq!(b.store.get(&id, ANY).await.unwrap(), data);
    for node in [a, b, c] {
        node.end().await;
    }
}
