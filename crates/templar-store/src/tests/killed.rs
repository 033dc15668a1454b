//! A process that is killed in the middle of a transfer: the next one finds every group that came.

use std::fs;
use std::ops::Range;
use std::path::Path;

use iroh_blobs::HashAndFormat;
use iroh_blobs::protocol::{ChunkRanges, ChunkRangesExt as _};
use templar_manifest::Hash;

use super::bytes;
use crate::{Store, to_iroh};

/// The bytes of one group, the smallest part that is verified alone.
const GROUP: u64 = 16 << 10;

/// Copies a directory as it is now, as a killed process leaves it.
fn freeze(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            freeze(&path, &to.join(name));
        } else if path.extension().is_some_and(|extension| extension == "bitfield") {
            // It is written when a blob is closed, and emptied when it is opened again.
            fs::write(to.join(name), b"").unwrap();
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// Brings a range of bytes of a blob from another store, as a transfer does.
async fn bring(from: &Store, to: &Store, id: &Hash, range: Range<u64>) {
    let ranges = ChunkRanges::bytes(range);
    let encoded = from.blobs().export_bao(to_iroh(id), ranges.clone()).bao_to_vec().await.unwrap();
    to.blobs().import_bao_bytes(to_iroh(id), ranges, encoded).await.unwrap();
}

#[tokio::test]
async fn every_group_that_came_before_a_kill_is_found_again() {
    let peer = Store::memory().await;
    // Whole powers of two, and lengths with an odd number of groups: their last group is high up in the hash tree.
    for (size, seed) in [(64 * GROUP, 30), (64 * GROUP + 1000, 31), (65 * GROUP, 32), (77 * GROUP - 1, 33)] {
        let id = peer.put(bytes(size as usize, seed)).await.unwrap();
        let last = (size - 1) / GROUP * GROUP;
        // A node begins anywhere in a blob, after the last group, which proves the length.
        for part in [0..0, 0..GROUP, 0..last / 2 / GROUP * GROUP, 7 * GROUP..9 * GROUP, 50 * GROUP..last] {
            let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let store = Store::open(dir.path()).await.unwrap();
            bring(&peer, &store, &id, last..size).await;
            if !part.is_empty() {
                bring(&peer, &store, &id, part.clone()).await;
            }
            store.blobs().sync_db().await.unwrap();
            freeze(dir.path(), copy.path());
            store.shutdown().await;

            let store = Store::open(copy.path()).await.unwrap();
            let local = store.blobs().remote().local(HashAndFormat::raw(to_iroh(&id))).await.unwrap();
            let here = size - last + (part.end - part.start);
            assert_eq!(local.local_bytes(), here, "{size} bytes, of which {part:?} came");
            let seen = store.blobs().observe(to_iroh(&id)).await.unwrap();
            assert_eq!(seen.validated_size(), Some(size), "{size} bytes, of which {part:?} came");
            store.shutdown().await;
        }
    }
}

#[tokio::test]
async fn a_file_of_lengths_that_makes_no_sense_does_not_keep_the_store_shut() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).await.unwrap().shutdown().await;
    let data = dir.path().join("data");
    for (name, content) in [("a", &b""[..]), ("b", b"short"), ("c", &[0xff; 8]), ("d", &[0x7f; 24])] {
        fs::write(data.join(format!("{name}.sizes4")), content).unwrap();
        fs::write(data.join(format!("{name}.obao4")), b"").unwrap();
    }
    fs::write(data.join("alone.sizes4"), [1; 8]).unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    assert_eq!(store.put(bytes(100, 34)).await.unwrap(), Hash::of(&bytes(100, 34)));
    store.shutdown().await;
}
