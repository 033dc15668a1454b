//! The [`Store`] handle: put bytes in, get verified bytes out.
//!
//! Invariant: the bytes that a read returns hash to the name that was asked for. Every blob that is put or
//! fetched carries a tag of its own name, so a collection of garbage removes only blobs whose tag was deleted.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use iroh_blobs::api::RequestError;
use iroh_blobs::api::blobs::{AddPathOptions, AddProgress, BlobStatus, EncodedItem, ImportMode};
use iroh_blobs::protocol::{ChunkRanges, ChunkRangesExt as _};
use iroh_blobs::store::mem::MemStore;
use iroh_blobs::{BlobFormat, HashAndFormat};
use n0_future::StreamExt;
use tempfile::TempDir;
use templar_blob::ReadError;
use templar_manifest::Hash;
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::collect::Collector;
use crate::convert::{from_iroh, io_error, to_iroh};
use crate::{ListError, PutError};

/// Content-addressed bytes in one directory. It is cheap to clone: all clones are the same store.
///
/// Call [`shutdown`](Self::shutdown) before the process ends. Otherwise the last writes of metadata are lost,
/// and the blobs that they name are fetched or computed again.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<StoreInner>,
}

#[derive(Debug)]
struct StoreInner {
    blobs: iroh_blobs::api::Store,
    /// The directory; `None` for a store in memory.
    disk: Option<Disk>,
}

/// A guard that keeps blobs from being removed while something is imported. See [`Store::importing`].
#[derive(Debug)]
pub struct Importing<'a>(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'a, ()>);

/// The directory of a store, and how this process holds it.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) root: PathBuf,
    pub(crate) hold: Hold,
    /// Every import holds it for reading; the removal of blobs and of half-written files holds it for writing.
    pub(crate) imports: RwLock<()>,
    pub(crate) collector: Collector,
    /// Whether the disk was full when the database was found to have stopped.
    pub(crate) stopped_full: OnceLock<bool>,
}

/// How a process holds the directory of a store.
#[derive(Debug)]
pub(crate) enum Hold {
    /// It has locked the directory and is its only user.
    Locked(File),
    /// It only reads. Its copy of the database lies in this temporary directory.
    Copied(#[expect(dead_code, reason = "held, not read")] TempDir),
}

impl Disk {
    /// Refuses to write in a directory that was opened to read.
    fn writable(&self) -> io::Result<()> {
        match self.hold {
            Hold::Locked(_) => Ok(()),
            Hold::Copied(_) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    /// The folder in which the file store keeps the raw bytes of blobs above 16 KiB.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The file of a blob's bytes and that of its inner hash nodes. A blob in the database has neither.
    pub(crate) fn files_of(&self, id: &Hash) -> [PathBuf; 2] {
        let data = self.data_dir();
        [data.join(format!("{id}.data")), data.join(format!("{id}.obao4"))]
    }

    /// Removes the half-written files of an import that failed and of a process that was killed.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(self.root.join("temp"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "temp") {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

impl Store {
    /// A store on disk that is open.
    pub(crate) fn opened(blobs: iroh_blobs::api::Store, disk: Disk) -> Self {
        Self { inner: Arc::new(StoreInner { blobs, disk: Some(disk) }) }
    }

    /// Creates a store that lives in memory and ends with its last handle.
    pub async fn memory() -> Self {
        Self { inner: Arc::new(StoreInner { blobs: (*MemStore::new()).clone(), disk: None }) }
    }

    /// Adds bytes and keeps them. Returns their name.
    ///
    /// Bytes that are here already are read and verified instead of written. A corrupt copy is replaced:
    /// readers that open the blob from then on get the right bytes.
    ///
    /// # Errors
    /// [`PutError::DiskFull`] and the other variants of [`PutError`]. Nothing half-written remains.
    pub async fn put(&self, bytes: impl Into<Bytes>) -> Result<Hash, PutError> {
        let bytes = bytes.into();
        let id = Hash::of(&bytes);
        if self.size(&id).await.is_none() {
            return self.import(self.blobs().add_bytes(bytes)).await;
        }
        {
            // Nobody removes it between here and its tag.
            let _importing = self.importing().await;
            if self.verify(&id).await.is_ok() {
                return self.keep(&id).await.map(|()| id);
            }
        }
        // The import below opens the copy that it replaces, and whoever joins it while it is open sees that one.
        self.import(self.blobs().add_bytes(bytes)).await?;
        if let Err(error) = self.settled().await {
            tracing::debug!(blob = %id.short(), %error, "a healed blob is still open as it was");
        }
        Ok(id)
    }

    /// Adds a copy of a file and keeps it. Returns its name and its length in bytes.
    ///
    /// # Errors
    /// [`PutError::Input`] when the file cannot be read, and the errors of [`put`](Self::put).
    pub async fn put_file(&self, path: &Path) -> Result<(Hash, u64), PutError> {
        let input = |source| PutError::Input { path: path.to_path_buf(), source };
        let metadata = tokio::fs::metadata(path).await.map_err(input)?;
        if !metadata.is_file() {
            return Err(input(io::Error::other("not a regular file")));
        }
        tokio::fs::File::open(path).await.map_err(input)?;
        let path = std::path::absolute(path).map_err(input)?;
        let options = AddPathOptions { path, format: BlobFormat::Raw, mode: ImportMode::Copy };
        let id = self.import(self.blobs().add_path_with_opts(options)).await?;
        let size = self.size(&id).await.ok_or(PutError::NotFound { id })?;
        Ok((id, size))
    }

    async fn import(&self, progress: AddProgress<'_>) -> Result<Hash, PutError> {
        self.writable().map_err(PutError::Io)?;
        let outcome = {
            let _importing = self.importing().await;
            async {
                // Protects the blob until its own tag is set.
                let added = progress.temp_tag().await?;
                let id = from_iroh(&added.hash());
                self.blobs().tags().set(id.to_string(), added.hash_and_format()).await?;
                Ok(id)
            }
            .await
        };
        match outcome {
            Ok(id) => Ok(id),
            Err(error) => Err(self.import_failed(error).await),
        }
    }

    /// Keeps blobs from being removed until the guard is dropped. A caller that fills the store in another way than by
    /// [`put`](Self::put) holds a guard until [`keep`](Self::keep). Otherwise a removal could take a blob that has just
    /// arrived, since it has no tag yet.
    pub async fn importing(&self) -> Option<Importing<'_>> {
        match &self.inner.disk {
            Some(disk) => Some(Importing(disk.imports.read().await)),
            None => None,
        }
    }

    /// Checks that the store still takes and gives blobs. Its database stops at the first write that fails.
    ///
    /// # Errors
    /// [`PutError::DiskFull`] or [`PutError::Closed`]. The store must then be opened again.
    pub async fn check(&self) -> Result<(), PutError> {
        if self.has(&Hash::default()).await.is_ok() {
            return Ok(());
        }
        Err(if self.stopped_full() { PutError::DiskFull } else { PutError::Closed })
    }

    /// Whether a full disk has stopped the database of this store, which is closed. The first answer stays: room that
    /// is made later does not open the store again.
    pub(crate) fn stopped_full(&self) -> bool {
        self.disk().is_some_and(|disk| *disk.stopped_full.get_or_init(|| is_full(&disk.root)))
    }

    /// Finds the reason of a failed import, and removes the temporary files of that import.
    async fn import_failed(&self, error: RequestError) -> PutError {
        // The database may be closed, and then the error at hand says something else.
        let closed = self.has(&Hash::default()).await.is_err();
        let io_error = io_error(error);
        // The sweep makes room, so the reason is looked for before it.
        let full = is_disk_full(&io_error) || (closed && self.stopped_full());
        if let Some(disk) = &self.inner.disk
            && let Ok(_alone) = disk.imports.try_write()
            && let Err(error) = disk.sweep()
        {
            tracing::warn!(%error, "half-written files stay until the store is opened again");
        }
        match (full, closed) {
            (true, _) => PutError::DiskFull,
            (false, true) => PutError::Closed,
            (false, false) => PutError::Io(io_error),
        }
    }

    /// Keeps a blob that came in by another way than [`put`](Self::put), such as a transfer: it gets its tag.
    ///
    /// # Errors
    /// [`PutError::NotFound`] unless the blob is here whole.
    pub async fn keep(&self, id: &Hash) -> Result<(), PutError> {
        self.writable().map_err(PutError::Io)?;
        if self.size(id).await.is_none() {
            return Err(PutError::NotFound { id: *id });
        }
        let tagged = self.blobs().tags().set(id.to_string(), HashAndFormat::raw(to_iroh(id))).await;
        match tagged {
            Ok(()) => Ok(()),
            Err(error) => Err(self.import_failed(error).await),
        }
    }

    /// Whether the whole blob is here. Its bytes are verified when they are read, not now.
    ///
    /// # Errors
    /// [`ListError::Closed`] after [`shutdown`](Self::shutdown).
    pub async fn has(&self, id: &Hash) -> Result<bool, ListError> {
        let status = self.blobs().blobs().status(to_iroh(id)).await.map_err(|_| ListError::Closed)?;
        Ok(matches!(status, BlobStatus::Complete { .. }))
    }

    /// The length of a blob in bytes, or `None` unless the whole blob is here.
    pub async fn size(&self, id: &Hash) -> Option<u64> {
        match self.blobs().blobs().status(to_iroh(id)).await {
            Ok(BlobStatus::Complete { size }) => Some(size),
            _ => None,
        }
    }

    /// Reads a whole blob of at most `max_bytes` bytes, verifying every chunk on the way.
    ///
    /// # Errors
    /// [`ReadError::NotFound`], [`ReadError::TooLarge`], and the errors of [damage](ReadError::is_damage).
    pub async fn get(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        let size = self.size_within(id, max_bytes).await?;
        let capacity = usize::try_from(size).map_err(|_| ReadError::TooLarge { id: *id, size, max_bytes })?;
        let mut bytes = Vec::with_capacity(capacity);
        self.read_verified(id, size, |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })
        .await?;
        Ok(bytes.into())
    }

    /// The first bytes of a whole blob, verified: 1,024 of them, or all if it has fewer.
    ///
    /// # Errors
    /// Those of [`get`](Self::get), except `TooLarge`.
    pub async fn beginning(&self, id: &Hash) -> Result<Bytes, ReadError> {
        let size = self.size_within(id, u64::MAX).await?;
        let mut bytes = Vec::new();
        let read = self.verify_ranges(id, size, ChunkRanges::chunk(0), |_, found| {
            bytes.extend_from_slice(found);
            Ok(())
        });
        read.await?;
        Ok(bytes.into())
    }

    /// The length of a whole blob, which must be at most `max_bytes`. A length beyond that is verified first, because
    /// the database that states it may be damaged.
    pub(crate) async fn size_within(&self, id: &Hash, max_bytes: u64) -> Result<u64, ReadError> {
        let status = self.blobs().blobs().status(to_iroh(id)).await.map_err(|_| ReadError::Closed)?;
        match status {
            BlobStatus::Complete { size } if size > max_bytes => {
                self.verify_ranges(id, size, ChunkRanges::last_chunk(), |_, _| Ok(())).await?;
                Err(ReadError::TooLarge { id: *id, size, max_bytes })
            }
            BlobStatus::Complete { size } => Ok(size),
            _ => Err(self.why_absent(id).await),
        }
    }

    /// The error for a blob that is not here whole. Only a whole blob gets a tag, so a tag says that a part was lost.
    async fn why_absent(&self, id: &Hash) -> ReadError {
        match self.blobs().tags().get(id.to_string()).await {
            Ok(Some(_)) => ReadError::Torn { id: *id },
            Ok(None) => ReadError::NotFound { id: *id },
            Err(_) => ReadError::Closed,
        }
    }

    /// Gives all bytes of a blob of `size` bytes to `sink`, in order. Each chunk is verified against the blob's
    /// name first.
    ///
    /// An error of `sink` ends the reading as [`ReadError::Io`].
    pub(crate) async fn read_verified(
        &self,
        id: &Hash,
        size: u64,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ReadError> {
        let corrupt = |reason: String| ReadError::Corrupt { id: *id, reason };
        let (mut offset, mut gap) = (0_u64, false);
        let read = self.verify_ranges(id, size, ChunkRanges::all(), |at, bytes| {
            gap |= at != offset;
            if gap {
                return Ok(());
            }
            offset += bytes.len() as u64;
            sink(bytes)
        });
        read.await?;
        if gap {
            return Err(corrupt(format!("no bytes at offset {offset}")));
        }
        if offset == size { Ok(()) } else { Err(corrupt(format!("the bytes end at {offset} of {size}"))) }
    }

    /// Gives ranges of a blob of `size` bytes to `sink` in order, each with its offset, verified against the blob's
    /// name. The length is verified too if the ranges contain the last chunk.
    async fn verify_ranges(
        &self,
        id: &Hash,
        size: u64,
        ranges: ChunkRanges,
        mut sink: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<(), ReadError> {
        let mut items = std::pin::pin!(self.blobs().blobs().export_bao(to_iroh(id), ranges).stream());
        // A stream that ends too early ends in an error.
        while let Some(item) = items.next().await {
            match item {
                EncodedItem::Size(stored) if stored != size => {
                    let reason = format!("{stored} bytes are stored where the database says {size}");
                    return Err(ReadError::Corrupt { id: *id, reason });
                }
                EncodedItem::Leaf(leaf) => {
                    sink(leaf.offset, &leaf.data).map_err(|source| ReadError::Io { id: *id, source })?;
                }
                EncodedItem::Error(error) => {
                    return Err(self.read_failed(id, iroh_blobs::api::Error::from(error)).await);
                }
                EncodedItem::Size(_) | EncodedItem::Parent(_) | EncodedItem::Done => {}
            }
        }
        Ok(())
    }

    /// Classifies an error of reading: a damaged blob, a closed store, or a disk that does not answer.
    async fn read_failed(&self, id: &Hash, error: iroh_blobs::api::Error) -> ReadError {
        let iroh_blobs::api::Error::Io(source) = error;
        if self.size(id).await.is_none() {
            return ReadError::Closed;
        }
        match source.kind() {
            // A wrong hash, a file that is cut off, gone or does not open.
            io::ErrorKind::Other
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::NotFound
            | io::ErrorKind::InvalidData => ReadError::Corrupt { id: *id, reason: source.to_string() },
            _ => ReadError::Io { id: *id, source },
        }
    }

    /// Writes everything out and releases the directory. It must be called before the process ends. All other
    /// calls fail from then on.
    pub async fn shutdown(&self) {
        if let Err(error) = self.blobs().shutdown().await {
            tracing::debug!(%error, "the store was shut down before");
        }
        if let Some(Disk { hold: Hold::Locked(lock), .. }) = &self.inner.disk
            && let Err(error) = lock.unlock()
        {
            tracing::warn!(%error, "the lock of the store stays until the process ends");
        }
    }

    /// The store of iroh-blobs underneath, for the network that serves blobs from it and fetches blobs into it.
    pub fn blobs(&self) -> &iroh_blobs::api::Store {
        &self.inner.blobs
    }

    pub(crate) fn disk(&self) -> Option<&Disk> {
        self.inner.disk.as_ref()
    }

    /// Refuses to write in a store that was opened to read.
    pub(crate) fn writable(&self) -> io::Result<()> {
        self.disk().map_or(Ok(()), Disk::writable)
    }
}

/// Tells whether the disk is full, by writing a small file. A database that stops on a full disk does not name
/// the reason.
pub(crate) fn is_full(root: &Path) -> bool {
    let probe = tempfile::tempfile_in(root)
        .and_then(|mut file| io::Write::write_all(&mut file, &[0; 64 << 10]).and_then(|()| file.sync_data()));
    probe.is_err_and(|error| is_disk_full(&error))
}

pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
