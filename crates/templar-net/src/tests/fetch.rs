//! Fetches are verified, resumed after a stop, refused by policy, continued with another provider, and bounded.

use std::path::Path;
use std::sync::Arc;

use iroh_blobs::protocol::GetRequest;
use templar_manifest::Hash;
use templar_store::{Store, to_iroh};

use super::{Allowed, Node, TestLog, bytes, impatient, run, soon};
use crate::{FetchError, Fetched, NetLimits, ProviderAnswer, ServeAll, ServeNone};

const ANY: u64 = u64::MAX;

async fn on_disk(seed: u8, dir: &Path) -> Node {
    let store = Store::open(dir).await.unwrap();
    Node::with(seed, NetLimits::default(), store, TestLog::new(run()), Arc::new(ServeAll)).await
}

#[tokio::test]
async fn a_blob_comes_whole_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (Node::new(1).await, on_disk(2, dir.path()).await);
    b.knows(&a.net);
    for (len, seed) in [(1, 1), (16 << 10, 2), (5_000_000, 3)] {
        let data = bytes(len, seed);
        let id = a.store.put(data.clone()).await.unwrap();
        let size = len as u64;
        let fetched = soon(b.net.fetch(&id, size, &[])).await.unwrap();
        assert_eq!(fetched, Fetched { size, received: size });
        assert_eq!(b.store.get(&id, size).await.unwrap(), data);
        b.store.sync(&[id]).await.unwrap();
        assert_eq!(soon(b.net.fetch(&id, size, &[])).await.unwrap(), Fetched { size, received: 0 });
    }
    // Every node has the empty blob.
    assert_eq!(soon(b.net.fetch(&Hash::of(b""), 0, &[])).await.unwrap(), Fetched::default());
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn two_callers_share_one_transfer() {
    let (a, b) = (Node::new(1).await, Node::new(2).await);
    b.knows(&a.net);
    let id = a.store.put(bytes(3_000_000, 1)).await.unwrap();
    let (one, two) = tokio::join!(b.net.fetch(&id, ANY, &[]), b.net.fetch(&id, ANY, &[]));
    assert_eq!(one.unwrap().received + two.unwrap().received, 3_000_000);
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn the_next_provider_is_asked() {
    let (lacking, having, b) = (Node::new(1).await, Node::new(2).await, Node::new(3).await);
    b.knows(&lacking.net);
    b.knows(&having.net);
    let id = having.store.put(bytes(100_000, 1)).await.unwrap();
    let fetched = soon(b.net.fetch(&id, ANY, &[lacking.net.id()])).await.unwrap();
    assert_eq!(fetched.received, 100_000);

    let absent = Hash::of(b"absent");
    let error = soon(b.net.fetch(&absent, ANY, &[having.net.id()])).await.unwrap_err();
    let FetchError::NoProvider { answers, .. } = &error else { panic!("{error}") };
    let expected = [(having.net.id(), ProviderAnswer::NotHere), (lacking.net.id(), ProviderAnswer::NotHere)];
    assert_eq!(answers[..], expected);
    assert!(error.to_string().contains("does not have it"), "{error}");
    for node in [lacking, having, b] {
        node.end().await;
    }
}

#[tokio::test]
async fn without_peers_the_error_says_so() {
    let b = Node::new(1).await;
    let error = b.net.fetch(&Hash::of(b"absent"), ANY, &[]).await.unwrap_err();
    assert!(matches!(error, FetchError::NoPeers { .. }), "{error}");
    b.end().await;
}

#[tokio::test]
async fn a_corrupt_copy_is_noticed_and_the_rest_comes_from_another() {
    let dir = tempfile::tempdir().unwrap();
    let (corrupt, good, b) = (on_disk(1, dir.path()).await, Node::new(2).await, Node::new(3).await);
    let data = bytes(4_000_000, 1);
    let id = corrupt.store.put(data.clone()).await.unwrap();
    good.store.put(data.clone()).await.unwrap();
    let path = dir.path().join("data").join(format!("{id}.data"));
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[3_000_000] ^= 1;
    std::fs::write(&path, damaged).unwrap();

    b.knows(&corrupt.net);
    let error = soon(b.net.fetch(&id, ANY, &[])).await.unwrap_err();
    let FetchError::NoProvider { answers, .. } = &error else { panic!("{error}") };
    let [(_, ProviderAnswer::Aborted { received })] = answers[..] else { panic!("{answers:?}") };
    assert!(received > 0, "the good part was sent");

    b.knows(&good.net);
    let fetched = soon(b.net.fetch(&id, ANY, &[good.net.id()])).await.unwrap();
    assert_eq!(fetched.received, 4_000_000 - received, "what verified is not fetched again");
    assert_eq!(b.store.get(&id, ANY).await.unwrap(), data);
    for node in [corrupt, good, b] {
        node.end().await;
    }
}

#[tokio::test]
async fn a_blob_larger_than_allowed_is_not_taken() {
    let (a, b) = (Node::new(1).await, Node::new(2).await);
    b.knows(&a.net);
    let id = a.store.put(bytes(200_000, 1)).await.unwrap();
    let error = soon(b.net.fetch(&id, 199_999, &[])).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { size: 200_000, max_bytes: 199_999, .. }), "{error}");
    assert!(!b.store.has(&id).await.unwrap());
    soon(b.net.fetch(&id, 200_000, &[])).await.unwrap();
    // The blob is here now, and a smaller limit still holds.
    assert!(matches!(b.net.fetch(&id, 199_999, &[]).await, Err(FetchError::TooLarge { .. })));
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn what_may_not_be_served_is_refused_until_it_may() {
    let policy = Arc::new(Allowed::default());
    let store = Store::memory().await;
    let a = Node::with(1, NetLimits::default(), store, TestLog::new(run()), policy.clone()).await;
    let b = Node::new(2).await;
    b.knows(&a.net);
    let delta = a.store.put(bytes(100_000, 1)).await.unwrap();
    let error = soon(b.net.fetch(&delta, ANY, &[])).await.unwrap_err();
    assert!(error.refused(), "{error}");

    // A list that names the delta does not help to get it, and neither does a request for several blobs.
    let list = a.store.put(delta.as_bytes().to_vec()).await.unwrap();
    policy.allow(list);
    let connection = b.net.inner.fetcher.swarm.pool.connection(iroh_blobs::ALPN, &a.net.id()).await.unwrap();
    let remote = b.store.blobs().remote();
    let through_list = soon(remote.execute_get(connection.clone(), GetRequest::all(to_iroh(&list))).complete()).await;
    assert!(through_list.is_err());
    let many = [to_iroh(&list), to_iroh(&delta)].into_iter().collect();
    assert!(soon(remote.execute_get_many(connection.clone(), many).complete()).await.is_err());
    assert!(!b.store.has(&delta).await.unwrap());

    policy.allow(delta);
    soon(remote.execute_get(connection, GetRequest::all(to_iroh(&list))).complete()).await.unwrap();
    assert!(b.store.has(&delta).await.unwrap() && b.store.has(&list).await.unwrap());
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn nobody_writes_into_our_store() {
    let (a, b) = (Node::new(1).await, Node::new(2).await);
    b.knows(&a.net);
    let id = b.store.put(bytes(1000, 1)).await.unwrap();
    let connection = b.net.inner.fetcher.swarm.pool.connection(iroh_blobs::ALPN, &a.net.id()).await.unwrap();
    let push = iroh_blobs::protocol::PushRequest::new(to_iroh(&id), iroh_blobs::protocol::ChunkRangesSeq::root());
    // Whether the sender notices depends on timing; the store must not change.
    soon(b.store.blobs().remote().execute_push(connection.clone(), push).complete()).await.ok();
    let other = a.store.put(bytes(1000, 2)).await.unwrap();
    soon(b.net.fetch(&other, ANY, &[])).await.unwrap();
    assert!(!a.store.has(&id).await.unwrap());
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn many_blobs_come_together_and_one_failure_does_not_stop_them() {
    let (a, c, b) = (Node::new(1).await, Node::new(2).await, Node::new(3).await);
    b.knows(&a.net);
    b.knows(&c.net);
    let mut ids = Vec::new();
    for seed in 0..20 {
        let data = bytes(50_000, seed);
        ids.push((a.store.put(data.clone()).await.unwrap(), 50_000));
        c.store.put(data).await.unwrap();
    }
    let absent = Hash::of(b"absent");
    ids.insert(3, (absent, ANY));
    let providers = [a.net.id(), c.net.id()];
    let error = soon(b.net.fetch_all(&ids, &providers)).await.unwrap_err();
    assert!(matches!(&error, FetchError::NoProvider { id, .. } if *id == absent), "{error}");
    ids.remove(3);
    let all = soon(b.net.fetch_all(&ids, &providers)).await.unwrap();
    assert_eq!(all, Fetched { size: 1_000_000, received: 0 }, "all others were here");
    for node in [a, c, b] {
        node.end().await;
    }
}

#[tokio::test]
async fn an_absent_peer_costs_one_timeout() {
    let gone = Node::new(1).await;
    let addr = gone.net.addr();
    gone.end().await;
    let b = Node::with(2, impatient(), Store::memory().await, TestLog::new(run()), Arc::new(ServeNone)).await;
    b.net.add_peer(addr.clone()).unwrap();
    let ids: Vec<_> = (0..8_u8).map(|seed| (Hash::of(&[seed]), ANY)).collect();
    let error = soon(b.net.fetch_all(&ids, &[])).await.unwrap_err();
    let FetchError::NoProvider { answers, .. } = &error else { panic!("{error}") };
    assert!(matches!(answers[..], [(peer, ProviderAnswer::Unreachable(_))] if peer == addr.id), "{error}");
    assert_eq!(b.net.inner.book.failures(&addr.id), 1, "eight fetches knocked once");
    assert!(b.net.problems().contains_key(&addr.id));
    b.end().await;
}

#[tokio::test]
async fn tickets_bring_blobs_and_lists() {
    let (a, b) = (Node::new(1).await, Node::new(2).await);
    let one = a.store.put(bytes(10_000, 1)).await.unwrap();
    let two = a.store.put(bytes(20_000, 2)).await.unwrap();
    let fetched = soon(b.net.fetch_ticket(&a.net.blob_ticket(&one), ANY)).await.unwrap();
    assert_eq!((fetched.root, fetched.fetched.size), (one, 10_000));

    let list = a.store.put([one.as_bytes().as_slice(), two.as_bytes()].concat()).await.unwrap();
    let (addr, hash, _) = a.net.blob_ticket(&list).into_parts();
    let ticket = crate::BlobTicket::new(addr.clone(), hash, iroh_blobs::BlobFormat::HashSeq);
    let too_much = soon(b.net.fetch_ticket(&ticket, 20_000)).await.unwrap_err();
    assert!(matches!(too_much, FetchError::TooLarge { .. }), "{too_much}");
    let fetched = soon(b.net.fetch_ticket(&ticket, 30_064)).await.unwrap();
    assert_eq!(fetched.children, [one, two]);
    assert_eq!(fetched.fetched.size, 30_064);

    let no_list = crate::BlobTicket::new(
        addr,
        to_iroh(&a.store.put(bytes(33, 3)).await.unwrap()),
        iroh_blobs::BlobFormat::HashSeq,
    );
    assert!(matches!(soon(b.net.fetch_ticket(&no_list, ANY)).await, Err(FetchError::NotAList { .. })));
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn after_shutdown_everything_is_closed() {
    let (a, b) = (Node::new(1).await, Node::new(2).await);
    b.knows(&a.net);
    let id = a.store.put(bytes(1000, 1)).await.unwrap();
    let mut pulled = b.net.pull_entries();
    soon(b.net.shutdown()).await;
    assert!(matches!(b.net.fetch(&id, ANY, &[]).await, Err(FetchError::Closed)));
    while soon(pulled.recv()).await.is_some() {}
    assert!(soon(b.net.pull_entries().recv()).await.is_none(), "no new streams");
    soon(b.net.shutdown()).await;
    // The store belongs to the node.
    assert!(b.store.put(bytes(10, 1)).await.is_ok());
    a.end().await;
}
