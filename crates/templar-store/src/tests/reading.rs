//! A store that is opened to read: it gives what is there, and nothing in its directory changes.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use templar_blob::ReadError;

use super::{ANY, bytes, damage};
use crate::{Existing, OpenError, PutError, RemoveError, Store};

/// The content of every file below a directory.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.append(&mut content(&path)),
            false => drop(files.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    files
}

#[tokio::test]
async fn a_store_that_is_only_read_stays_as_it_is() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(dir.path()).await.unwrap();
    let data = [bytes(100, 40), bytes(100_000, 41), bytes(5_000_000, 42)];
    let mut ids = Vec::new();
    for data in &data {
        ids.push(store.put(data.clone()).await.unwrap());
    }
    let torn = store.put(bytes(300_000, 43)).await.unwrap();
    store.shutdown().await;
    damage(dir.path(), &torn);
    let before = content(dir.path());

    let store = Store::open_to_read(dir.path()).await.unwrap();
    let beside = Store::open_to_read(dir.path()).await.unwrap();
    for (id, data) in ids.iter().zip(&data) {
        assert_eq!(store.get(id, ANY).await.unwrap(), *data);
        assert_eq!(beside.get(id, ANY).await.unwrap(), *data);
        let path = out.path().join(id.to_string());
        store.export(id, &path, Existing::Refuse).await.unwrap();
        assert_eq!(fs::read(path).unwrap(), *data);
    }
    assert!(matches!(store.get(&torn, ANY).await, Err(ReadError::Corrupt { .. })));
    let report = store.scrub(|_| ()).await.unwrap();
    assert_eq!((report.checked, report.corrupt), (4, vec![torn]));

    for refused in [store.put(bytes(9, 44)).await.map(drop), store.keep(&ids[0]).await] {
        assert!(matches!(refused, Err(PutError::Io(error)) if error.kind() == ErrorKind::ReadOnlyFilesystem));
    }
    assert!(matches!(store.remove(&[ids[0]].into()).await, Err(RemoveError::Io(_))));
    assert!(matches!(store.repair(&torn).await, Err(RemoveError::Io(_))));
    store.shutdown().await;
    beside.shutdown().await;
    assert_eq!(content(dir.path()), before);
}

#[tokio::test]
async fn a_store_that_was_never_used_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_path_buf(), dir.path().join("absent")] {
        let store = Store::open_to_read(&path).await.unwrap();
        assert_eq!(store.list().await.unwrap(), []);
        store.shutdown().await;
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    fs::write(dir.path().join("blobs.db"), b"no database").unwrap();
    let opened = Store::open_to_read(dir.path()).await;
    assert!(matches!(opened, Err(OpenError::Database { .. })), "{opened:?}");
}
