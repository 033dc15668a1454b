//! The store against real directories: verified reads, damage on the disk, locks, reopening.

mod killed;
mod reading;

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use iroh_blobs::HashAndFormat;
use templar_blob::{BlobSource, MemoryBlobs, ReadError};
use templar_manifest::Hash;

use crate::{
    BlobExportError, BlockingStore, Existing, ListError, OpenError, PutError, RemoveError, Repaired, Store, SyncError,
    to_iroh,
};

const ANY: u64 = u64::MAX;

/// Bytes that differ everywhere, so that a swapped chunk is noticed.
fn bytes(len: usize, seed: u8) -> Bytes {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut out);
    out.into()
}

/// Flips one bit in the middle of a file that the store keeps for a large blob.
fn damage(dir: &Path, id: &Hash) {
    let path = dir.join("data").join(format!("{id}.data"));
    let mut data = std::fs::read(&path).unwrap();
    let middle = data.len() / 2;
    data[middle] ^= 1;
    std::fs::write(&path, data).unwrap();
}

#[tokio::test]
async fn what_goes_in_comes_out_under_its_b3sum_name() {
    let dir = tempfile::tempdir().unwrap();
    for store in [Store::memory().await, Store::open(dir.path()).await.unwrap()] {
        // Empty, inside one chunk, at and across the inline limit, several chunk groups.
        for len in [0, 1, 1024, 1025, 16 << 10, (16 << 10) + 1, 200_000] {
            let data = bytes(len, 1);
            let id = store.put(data.clone()).await.unwrap();
            assert_eq!(id, Hash::of(&data));
            assert!(store.has(&id).await.unwrap());
            assert_eq!(store.size(&id).await, Some(len as u64));
            assert_eq!(store.get(&id, len as u64).await.unwrap(), data);
            assert_eq!(store.put(data).await.unwrap(), id, "putting again is no change");
        }
        assert_eq!(store.scrub(|_| ()).await.unwrap().corrupt, []);
        store.shutdown().await;
    }
}

#[tokio::test]
async fn absent_and_too_large_are_told_apart() {
    let store = Store::memory().await;
    let absent = Hash::of(b"absent");
    assert!(!store.has(&absent).await.unwrap());
    assert_eq!(store.size(&absent).await, None);
    assert!(matches!(store.get(&absent, ANY).await, Err(ReadError::NotFound { id }) if id == absent));
    let id = store.put(bytes(1000, 2)).await.unwrap();
    let refused = store.get(&id, 999).await;
    assert!(matches!(refused, Err(ReadError::TooLarge { size: 1000, max_bytes: 999, .. })));
    assert!(matches!(store.sync(&[id, absent]).await, Err(SyncError::NotFound { id }) if id == absent));
    assert!(matches!(store.keep(&absent).await, Err(PutError::NotFound { .. })));
}

#[tokio::test]
async fn a_directory_has_one_user_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let second = Store::open(dir.path()).await;
    assert!(matches!(&second, Err(OpenError::Locked { path }) if path == dir.path()), "{second:?}");
    store.shutdown().await;
    Store::open(dir.path()).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"not a directory").unwrap();
    assert!(matches!(Store::open(&file).await, Err(OpenError::Io { .. })));
    std::fs::create_dir(dir.path().join("home")).unwrap();
    std::fs::write(dir.path().join("home/blobs.db"), b"not a database").unwrap();
    let opened = Store::open(&dir.path().join("home")).await;
    assert!(matches!(opened, Err(OpenError::Database { .. })), "{opened:?}");
}

#[tokio::test]
async fn a_synced_store_opens_again_with_everything() {
    let dir = tempfile::tempdir().unwrap();
    let data = [bytes(10, 3), bytes(100_000, 4), bytes(3 << 20, 5)];
    let store = Store::open(dir.path()).await.unwrap();
    let mut ids = Vec::new();
    for data in &data {
        ids.push(store.put(data.clone()).await.unwrap());
    }
    store.sync(&ids).await.unwrap();
    store.shutdown().await;
    assert!(matches!(store.put(data[0].clone()).await, Err(PutError::Closed)));
    assert!(matches!(store.get(&ids[0], ANY).await, Err(ReadError::Closed)));
    assert!(matches!(store.has(&ids[0]).await, Err(ListError::Closed)));
    assert!(matches!(store.sync(&ids).await, Err(SyncError::Closed)));
    assert!(matches!(store.list().await, Err(ListError::Closed)));
    assert!(matches!(store.scrub(|_| ()).await, Err(ListError::Closed)));

    // What a killed process left half-written goes away.
    let half = dir.path().join("temp").join("00112233445566778899aabbccddeeff.temp");
    std::fs::write(&half, b"half").unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    assert!(!half.exists());
    let mut listed: Vec<_> = ids.iter().copied().zip(data.iter().map(|data| data.len() as u64)).collect();
    listed.sort();
    assert_eq!(store.list().await.unwrap(), listed);
    for (id, data) in ids.iter().zip(&data) {
        assert_eq!(store.get(id, ANY).await.unwrap(), *data);
    }
    store.shutdown().await;
}

#[tokio::test]
async fn damage_on_the_disk_is_found_and_healed_by_the_right_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let data = bytes(300_000, 6);
    let good = store.put(bytes(300_000, 7)).await.unwrap();
    let id = store.put(data.clone()).await.unwrap();
    damage(dir.path(), &id);

    assert!(matches!(store.get(&id, ANY).await, Err(ReadError::Corrupt { id: found, .. }) if found == id));
    let target = dir.path().join("out/blob");
    assert!(matches!(
        store.export(&id, &target, Existing::Replace).await,
        Err(BlobExportError::Read(ReadError::Corrupt { .. }))
    ));
    assert_eq!(std::fs::read_dir(dir.path().join("out")).unwrap().count(), 0, "whole or nothing");
    let report = store.scrub(|_| ()).await.unwrap();
    assert_eq!((report.checked, report.corrupt), (2, vec![id]));

    store.put(data.clone()).await.unwrap();
    assert_eq!(store.get(&id, ANY).await.unwrap(), data);
    assert_eq!(store.scrub(|_| ()).await.unwrap().corrupt, []);
    assert!(store.get(&good, ANY).await.is_ok());
    store.shutdown().await;
}

/// Flips one bit in every place of a file at which `what` stands.
fn flip(path: &Path, what: &[u8]) {
    let mut bytes = std::fs::read(path).unwrap();
    let places: Vec<usize> = (0..=bytes.len() - what.len()).filter(|&at| bytes[at..].starts_with(what)).collect();
    assert!(!places.is_empty(), "it is not in {}", path.display());
    places.into_iter().for_each(|at| bytes[at + what.len() / 2] ^= 1);
    std::fs::write(path, bytes).unwrap();
}

/// Brings what is missing of a blob from another store, as a transfer does.
async fn transfer(from: &Store, to: &Store, id: &Hash) -> u64 {
    let local = to.blobs().remote().local(HashAndFormat::raw(to_iroh(id))).await.unwrap();
    let missing = local.missing().ranges.iter().next().unwrap().clone();
    let encoded = from.blobs().export_bao(to_iroh(id), missing.clone()).bao_to_vec().await.unwrap();
    to.blobs().import_bao_bytes(to_iroh(id), missing, encoded.clone()).await.unwrap();
    to.keep(id).await.unwrap();
    encoded.len() as u64
}

#[tokio::test]
async fn what_verifies_of_a_corrupt_blob_is_not_fetched_again() {
    const SIZE: usize = 9_000_001;
    let dir = tempfile::tempdir().unwrap();
    let (store, peer) = (Store::open(dir.path()).await.unwrap(), Store::memory().await);
    let data = bytes(SIZE, 13);
    let id = peer.put(data.clone()).await.unwrap();
    store.put(data.clone()).await.unwrap();
    let other = store.put(bytes(5_000_000, 14)).await.unwrap();
    assert_eq!(store.repair(&id).await.unwrap(), Repaired::Whole, "nothing is wrong with it");
    damage(dir.path(), &id);

    // All but the 16 KiB that hold the bit.
    assert_eq!(store.repair(&id).await.unwrap(), Repaired::Partial { kept: SIZE as u64 - (16 << 10) });
    assert!(!store.has(&id).await.unwrap(), "whoever needs it fetches it");
    assert!(matches!(store.get(&id, ANY).await, Err(ReadError::Torn { .. })), "it is not merely missing");
    assert_eq!(store.torn().await.unwrap(), [id]);
    assert_eq!(store.partial().await.unwrap().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id]);
    assert_eq!(std::fs::read_dir(dir.path().join("temp")).unwrap().count(), 0);
    store.shutdown().await;
    let store = Store::open(dir.path()).await.unwrap();
    let report = store.scrub(|_| ()).await.unwrap();
    assert_eq!((report.checked, report.corrupt, report.torn), (1, vec![], vec![id]), "the next process knows of it");
    assert!(store.get(&other, ANY).await.is_ok());

    assert!(transfer(&peer, &store, &id).await < 20_000);
    assert_eq!(store.get(&id, ANY).await.unwrap(), data);
    assert_eq!((store.torn().await.unwrap(), store.partial().await.unwrap()), (vec![], vec![]));
    store.shutdown().await;
}

#[tokio::test]
async fn damage_in_the_hash_tree_alone_is_repaired_without_a_peer() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let data = bytes(9_000_001, 15);
    let id = store.put(data.clone()).await.unwrap();
    store.shutdown().await;
    let tree = dir.path().join("data").join(format!("{id}.obao4"));
    let mut nodes = std::fs::read(&tree).unwrap();
    nodes[70] ^= 1;
    std::fs::write(&tree, nodes).unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let mut last = None;
    assert_eq!(store.scrub(|progress| last = Some(*progress)).await.unwrap().corrupt, [id]);
    let last = last.unwrap();
    assert_eq!((last.blobs, last.of_blobs, last.bytes, last.of_bytes, last.damaged), (1, 1, 9_000_001, 9_000_001, 1));
    assert_eq!(store.repair(&id).await.unwrap(), Repaired::Whole);
    assert_eq!(store.get(&id, ANY).await.unwrap(), data);
    assert_eq!(store.scrub(|_| ()).await.unwrap().corrupt, []);
    store.shutdown().await;
}

#[tokio::test]
async fn a_bit_inside_the_database_is_found_and_healed_too() {
    let dir = tempfile::tempdir().unwrap();
    let (small, middle) = (bytes(9_000, 16), bytes(300_000, 17));
    let store = Store::open(dir.path()).await.unwrap();
    let ids = [store.put(small.clone()).await.unwrap(), store.put(middle.clone()).await.unwrap()];
    store.shutdown().await;
    // A blob of at most 16 KiB lies in the database, and the hash tree of one of at most 4 MiB.
    flip(&dir.path().join("blobs.db"), &small[4000..4064]);
    let group = |index: usize| {
        blake3::hazmat::HasherExt::finalize_non_root(
            blake3::hazmat::HasherExt::set_input_offset(&mut blake3::Hasher::new(), index as u64 * (16 << 10))
                .update(&middle[index << 14..(index + 1) << 14]),
        )
    };
    flip(&dir.path().join("blobs.db"), &group(3));
    let store = Store::open(dir.path()).await.unwrap();
    for id in &ids {
        assert!(matches!(store.get(id, ANY).await, Err(ReadError::Corrupt { .. })));
    }
    let mut sorted = ids;
    sorted.sort();
    assert_eq!(store.scrub(|_| ()).await.unwrap().corrupt, sorted);
    assert_eq!(store.repair(&ids[0]).await.unwrap(), Repaired::Partial { kept: 0 });
    assert_eq!(store.repair(&ids[1]).await.unwrap(), Repaired::Whole, "only its tree was damaged");
    let peer = Store::memory().await;
    peer.put(small.clone()).await.unwrap();
    transfer(&peer, &store, &ids[0]).await;
    assert_eq!(store.get(&ids[0], ANY).await.unwrap(), small);
    assert_eq!(store.scrub(|_| ()).await.unwrap().corrupt, []);
    store.shutdown().await;
}

/// A number as the database has it beside the hash of a blob.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// The length of a blob in a file is in the database alone, and a limit that it exceeds is no fact about the blob
/// before it is verified.
#[tokio::test]
async fn a_length_that_the_database_states_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let data = bytes(9_000_001, 25);
    let id = store.put(data.clone()).await.unwrap();
    assert!(matches!(store.get(&id, 9_000_000).await, Err(ReadError::TooLarge { size: 9_000_001, .. })));
    store.shutdown().await;
    let length = varint(9_000_001);
    for wrong in [9_000_003_u64, 9_008_193, 16_777_216, 2_097_152, 2_097_153] {
        let wrong = varint(wrong);
        assert_eq!(wrong.len(), length.len());
        let path = dir.path().join("blobs.db");
        let whole = std::fs::read(&path).unwrap();
        let mut changed = whole.clone();
        let places: Vec<usize> =
            (0..whole.len() - length.len()).filter(|&at| whole[at..].starts_with(&length)).collect();
        assert!(!places.is_empty());
        places.into_iter().for_each(|at| changed[at..at + wrong.len()].copy_from_slice(&wrong));
        std::fs::write(&path, &changed).unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        for limit in [ANY, 9_000_000, 100] {
            let read = store.get(&id, limit).await;
            assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{wrong:?}, {limit}: {read:?}");
        }
        store.shutdown().await;
        std::fs::write(&path, whole).unwrap();
    }
    let store = Store::open(dir.path()).await.unwrap();
    assert_eq!(store.get(&id, ANY).await.unwrap(), data);
    store.shutdown().await;
}

#[tokio::test]
async fn what_is_removed_is_gone_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let mut ids = Vec::new();
    for (seed, len) in [(20, 100), (21, 100_000), (22, 6_000_000), (23, 100), (24, 100_000)] {
        ids.push(store.put(bytes(len, seed)).await.unwrap());
    }
    let goes: BTreeSet<Hash> = ids[..3].iter().copied().chain([Hash::of(b"absent")]).collect();
    {
        let _importing = store.importing().await;
        assert!(matches!(store.remove(&goes).await, Err(RemoveError::Busy)));
        assert_eq!(store.list().await.unwrap().len(), 5, "nothing was removed");
    }
    store.remove(&goes).await.unwrap();
    let mut left = ids[3..].to_vec();
    left.sort();
    let listed = |list: Vec<(Hash, u64)>| list.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(listed(store.list().await.unwrap()), left);
    assert_eq!(store.torn().await.unwrap(), [], "nobody misses them");
    for id in &ids[..3] {
        assert!(matches!(store.get(id, ANY).await, Err(ReadError::NotFound { .. })));
        assert!(!dir.path().join("data").join(format!("{id}.data")).exists());
    }
    // They can come back, at once.
    assert_eq!(store.put(bytes(100_000, 21)).await.unwrap(), ids[1]);
    assert_eq!(store.get(&ids[1], ANY).await.unwrap(), bytes(100_000, 21));
    store.remove(&BTreeSet::from([ids[1]])).await.unwrap();
    store.shutdown().await;
    assert!(matches!(store.remove(&goes).await, Err(RemoveError::Closed | RemoveError::Io(_))));
    let store = Store::open(dir.path()).await.unwrap();
    assert_eq!(listed(store.list().await.unwrap()), left);
    assert_eq!(store.scrub(|_| ()).await.unwrap().corrupt, []);
    store.shutdown().await;
    assert!(matches!(Store::memory().await.remove(&goes).await, Err(RemoveError::Memory)));
}

#[tokio::test]
async fn a_file_cut_short_or_gone_is_damage_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let cut = store.put(bytes(300_000, 8)).await.unwrap();
    let gone = store.put(bytes(300_000, 9)).await.unwrap();
    store.shutdown().await;
    let file = |id: &Hash| dir.path().join("data").join(format!("{id}.data"));
    std::fs::File::options().write(true).open(file(&cut)).unwrap().set_len(100_000).unwrap();
    std::fs::remove_file(file(&gone)).unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    for id in [cut, gone] {
        let read = store.get(&id, ANY).await;
        assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{read:?}");
    }
    assert_eq!(store.scrub(|_| ()).await.unwrap().corrupt.len(), 2);
    store.shutdown().await;
}

#[tokio::test]
async fn files_come_in_and_go_out_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).await.unwrap();
    let data = bytes(1_000_000, 10);
    let source = dir.path().join("source");
    std::fs::write(&source, &data).unwrap();
    let (id, size) = store.put_file(&source).await.unwrap();
    assert_eq!((id, size), (Hash::of(&data), 1_000_000));
    std::fs::remove_file(&source).unwrap();

    let target = dir.path().join("out/deep/blob");
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    std::fs::write(&target, b"kept").unwrap();
    let refused = store.export(&id, &target, Existing::Refuse).await;
    assert!(matches!(refused, Err(BlobExportError::Exists { .. })), "{refused:?}");
    assert_eq!(std::fs::read(&target).unwrap(), b"kept");
    assert_eq!(store.export(&id, &target, Existing::Replace).await.unwrap(), size);
    assert_eq!(std::fs::read(&target).unwrap(), data);

    assert!(matches!(store.put_file(&source).await, Err(PutError::Input { .. })), "it is gone");
    assert!(matches!(store.put_file(dir.path()).await, Err(PutError::Input { .. })), "a folder is no file");
    let missing = store.export(&Hash::of(b"missing"), &target, Existing::Replace).await;
    assert!(matches!(missing, Err(BlobExportError::Read(ReadError::NotFound { .. }))));
    assert_eq!(std::fs::read(&target).unwrap(), data, "untouched by the failure");
    assert!(
        matches!(store.export(&id, dir.path(), Existing::Replace).await, Err(BlobExportError::Write { .. })),
        "a folder is in the way"
    );
    store.shutdown().await;
}

#[tokio::test]
async fn many_small_blobs_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..64 {
        let store = store.clone();
        tasks.spawn(async move { store.put(bytes(40_000, seed)).await.unwrap() });
    }
    let mut ids = tasks.join_all().await;
    ids.sort();
    assert_eq!(store.list().await.unwrap().iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
    store.sync(&ids).await.unwrap();
    store.shutdown().await;
}

#[test]
fn an_audit_reads_the_same_from_store_and_memory() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (small, large) = (bytes(100, 11), bytes(100_000, 12));
    let (store, ids) = runtime.block_on(async {
        let store = Store::open(&dir.path().join("store")).await.unwrap();
        let ids = [store.put(small.clone()).await.unwrap(), store.put(large.clone()).await.unwrap()];
        (store, ids)
    });
    let mut memory = MemoryBlobs::new();
    assert_eq!([memory.insert(small.clone()), memory.insert(large.clone())], ids);
    let blocking = BlockingStore::new(store.clone(), runtime.handle().clone());
    let sources: [&dyn BlobSource; 2] = [&blocking, &memory];
    for source in sources {
        assert_eq!(source.read(&ids[0], 100).unwrap(), small);
        assert_eq!(source.read(&ids[1], ANY).unwrap(), large);
        assert!(source.contains(&ids[1]));
        assert!(matches!(source.read(&ids[0], 99), Err(ReadError::TooLarge { size: 100, .. })));
        let absent = Hash::of(b"absent");
        assert!(!source.contains(&absent));
        assert!(matches!(source.read(&absent, ANY), Err(ReadError::NotFound { .. })));
    }
    runtime.block_on(store.shutdown());
}
