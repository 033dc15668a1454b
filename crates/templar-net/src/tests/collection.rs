//! Collections travel between this crate and iroh-blobs' own code, as other programs use it.

use iroh::protocol::Router;
use iroh_blobs::format::collection::Collection;
use iroh_blobs::store::mem::MemStore;
use iroh_blobs::{BlobFormat, BlobsProtocol, HashAndFormat};
use templar_store::to_iroh;

use super::hostile::endpoint;
use super::{Allowed, Node, TestLog, bytes, run, soon};
use crate::{BlobTicket, FetchError, NetLimits, ProviderAnswer, collect};

const ANY: u64 = u64::MAX;

/// An empty file, small ones, and one of several ranges.
const LENGTHS: [usize; 4] = [0, 1, 20_000, 3_000_000];

#[tokio::test]
async fn what_another_program_sends_comes_with_its_names() {
    let theirs = MemStore::new();
    let mut sent = Vec::new();
    for (index, len) in LENGTHS.into_iter().enumerate() {
        let data = bytes(len, index as u8);
        let tag = theirs.add_bytes(data.clone()).await.unwrap();
        sent.push((format!("folder/file {index}"), tag.hash, data));
    }
    let collection: Collection = sent.iter().map(|(name, hash, _)| (name.clone(), *hash)).collect();
    let root = collection.store(&theirs).await.unwrap();
    let sender = endpoint(50).await;
    let addr =
        iroh::EndpointAddr::from_parts(sender.id(), sender.bound_sockets().into_iter().map(iroh::TransportAddr::Ip));
    let router = Router::builder(sender).accept(iroh_blobs::ALPN, BlobsProtocol::new(&theirs, None)).spawn();

    let b = Node::new(1).await;
    let ticket = BlobTicket::new(addr, root.hash(), BlobFormat::HashSeq);
    let fetched = soon(b.net.fetch_ticket(&ticket, ANY)).await.unwrap();
    assert_eq!(fetched.files.len(), LENGTHS.len());
    for ((name, id), (sent_name, hash, data)) in fetched.files.iter().zip(&sent) {
        assert_eq!((name, to_iroh(id)), (sent_name, *hash));
        assert_eq!(b.store.get(id, ANY).await.unwrap(), data);
    }
    assert_eq!(fetched.children.len(), LENGTHS.len() + 1, "and the names");
    soon(router.shutdown()).await.unwrap();
    b.end().await;
}

#[tokio::test]
async fn what_we_share_another_program_takes() {
    let a = Node::new(1).await;
    let mut files = Vec::new();
    for (index, len) in LENGTHS.into_iter().enumerate() {
        let id = a.store.put(bytes(len, index as u8)).await.unwrap();
        files.push((id.to_string(), id));
    }
    let ticket = a.net.collection_ticket(&collect(&a.store, &files).await.unwrap());
    assert_eq!(ticket.format(), BlobFormat::HashSeq);

    let (theirs, receiver) = (MemStore::new(), endpoint(50).await);
    let connection = soon(receiver.connect(ticket.addr().clone(), iroh_blobs::ALPN)).await.unwrap();
    let wanted = HashAndFormat::hash_seq(ticket.hash());
    soon(async { theirs.remote().fetch(connection, wanted).await }).await.unwrap();
    let collection = Collection::load(ticket.hash(), &*theirs).await.unwrap();
    assert_eq!(collection.len(), LENGTHS.len());
    for ((name, hash), (index, len)) in collection.iter().zip(LENGTHS.into_iter().enumerate()) {
        let data = theirs.get_bytes(*hash).await.unwrap();
        assert_eq!(data, bytes(len, index as u8));
        // The file's name is its hash, as `b3sum` prints it.
        assert_eq!(*name, templar_manifest::Hash::of(&data).to_string());
    }
    soon(receiver.close()).await;
    a.end().await;
}

#[tokio::test]
async fn a_collection_is_served_when_all_of_it_may_be() {
    let policy = std::sync::Arc::new(Allowed::default());
    let store = templar_store::Store::memory().await;
    let a = Node::with(1, NetLimits::default(), store, TestLog::new(run()), policy.clone()).await;
    let open = a.store.put(bytes(20_000, 1)).await.unwrap();
    let gated = a.store.put(bytes(20_000, 2)).await.unwrap();
    let list = collect(&a.store, &[("open".to_owned(), open), ("gated".to_owned(), gated)]).await.unwrap();
    let ids = a.store.get(&list, ANY).await.unwrap();
    policy.allow(list);
    policy.allow(open);
    policy.allow(templar_manifest::Hash::from_bytes(ids[..32].try_into().unwrap()));
    let ticket = a.net.collection_ticket(&list);

    let receiver = endpoint(50).await;
    let connection = soon(receiver.connect(ticket.addr().clone(), iroh_blobs::ALPN)).await.unwrap();
    let theirs = MemStore::new();
    let wanted = HashAndFormat::hash_seq(ticket.hash());
    assert!(soon(async { theirs.remote().fetch(connection.clone(), wanted).await }).await.is_err());
    assert!(!theirs.blobs().has(to_iroh(&open)).await.unwrap(), "one that is withheld withholds the list");
    let b = Node::new(2).await;
    let error = soon(b.net.fetch_ticket(&ticket, ANY)).await.unwrap_err();
    let FetchError::NoProvider { id, answers } = &error else { panic!("{error}") };
    assert!(*id == gated && matches!(answers[..], [(_, ProviderAnswer::Refused)]), "{error}");

    policy.allow(gated);
    soon(async { theirs.remote().fetch(connection, wanted).await }).await.unwrap();
    assert_eq!(theirs.get_bytes(to_iroh(&gated)).await.unwrap(), bytes(20_000, 2));
    soon(receiver.close()).await;
    a.end().await;
    b.end().await;
}
