//! Damage on the disk: the store finds it, and makes room for the right bytes.
//!
//! Invariant: a blob that was whole here once and is not now keeps its tag. So the damage stays known until it
//! is healed, also to the next process.
//!
//! iroh-blobs goes on calling a corrupt blob complete, so nobody would fetch it again. [`Store::repair`] turns
//! such a blob into a partial one that holds every range that still verifies. A fetch then brings the rest, as
//! it does after a transfer that was interrupted.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bao_tree::io::outboard::PreOrderOutboard;
use bao_tree::io::sync::{encode_ranges_validated, valid_ranges};
use bao_tree::{BaoTree, ChunkRanges};
use iroh_blobs::HashAndFormat;
use iroh_blobs::api::blobs::BlobStatus;
use iroh_blobs::protocol::ChunkRangesExt;
use iroh_blobs::store::IROH_BLOCK_SIZE;
use n0_future::StreamExt;
use templar_blob::ReadError;
use templar_manifest::Hash;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::convert::{io_error, to_iroh};
use crate::store::Disk;
use crate::{ListError, RemoveError, Store};

/// Number of bytes that are salvaged at a time.
const PIECE_BYTES: u64 = 4 << 20;

/// The longest time for which a repair waits until no blob is held open.
const IDLE: Duration = Duration::from_secs(10);

/// The result of [`Store::scrub`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrubReport {
    /// How many whole blobs were read and hashed.
    pub checked: u64,
    /// How many bytes these blobs have together.
    pub checked_bytes: u64,
    /// The blobs whose bytes have another hash than their name, in order. Putting the right bytes again heals them.
    pub corrupt: Vec<Hash>,
    /// The blobs that were whole here once and of which a part is missing now, in order. An earlier repair found them
    /// corrupt, and no fetch has completed them since.
    pub torn: Vec<Hash>,
}

/// The progress of a scrub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrubProgress {
    /// Number of blobs checked so far.
    pub blobs: u64,
    /// Number of blobs to check in all.
    pub of_blobs: u64,
    /// Number of bytes checked so far.
    pub bytes: u64,
    /// Number of bytes to check in all.
    pub of_bytes: u64,
    /// Number of damaged blobs found so far.
    pub damaged: u64,
}

/// The part of a blob that [`Store::repair`] kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repaired {
    /// All of it. Its bytes were right; where the inner nodes of its hash tree were wrong, they were computed again.
    Whole,
    /// A part of it, verified. A fetch brings the rest.
    Partial {
        /// The number of bytes that were kept.
        kept: u64,
    },
}

impl Store {
    /// Reads and verifies every whole blob: its bytes and the inner nodes of its hash tree, in files and in the
    /// database. `seen` is called with the progress after every blob.
    ///
    /// # Errors
    /// Only when the store cannot be listed or read at all. Damaged blobs are no error but a part of the report.
    pub async fn scrub(&self, mut seen: impl FnMut(&ScrubProgress)) -> Result<ScrubReport, ListError> {
        let mut report = ScrubReport { torn: self.torn().await?, ..ScrubReport::default() };
        let blobs = self.list().await?;
        let mut progress = ScrubProgress {
            of_blobs: blobs.len() as u64,
            of_bytes: blobs.iter().fold(0u64, |sum, (_, size)| sum.saturating_add(*size)),
            damaged: report.torn.len() as u64,
            ..ScrubProgress::default()
        };
        for (id, size) in blobs {
            match self.read_verified(&id, size, |_| Ok(())).await {
                Ok(()) => {}
                // A sector that the disk does not give back is as lost as one with other bytes.
                Err(ReadError::Corrupt { .. } | ReadError::Io { .. }) => {
                    report.corrupt.push(id);
                    progress.damaged += 1;
                }
                Err(ReadError::Closed) => return Err(ListError::Closed),
                // It was there a moment ago: somebody removed it.
                Err(ReadError::NotFound { .. } | ReadError::TooLarge { .. } | ReadError::Torn { .. }) => continue,
            }
            report.checked += 1;
            report.checked_bytes = report.checked_bytes.saturating_add(size);
            (progress.blobs, progress.bytes) = (report.checked, report.checked_bytes);
            seen(&progress);
        }
        Ok(report)
    }

    /// The blobs that have a tag and are not whole, in order. Only a whole blob gets a tag, so a repair left these.
    ///
    /// # Errors
    /// See [`ListError`].
    pub async fn torn(&self) -> Result<Vec<Hash>, ListError> {
        let mut tags = self.blobs().tags().list().await.map_err(|_| ListError::Closed)?;
        let mut tagged = BTreeSet::new();
        while let Some(tag) = tags.next().await {
            let tag = tag.map_err(|iroh_blobs::api::Error::Io(error)| ListError::Io(error))?;
            // Others' tags have other names.
            tagged.extend(std::str::from_utf8(tag.name.as_ref()).ok().and_then(|name| name.parse::<Hash>().ok()));
        }
        let mut torn = Vec::new();
        for id in tagged {
            if !self.has(&id).await? {
                torn.push(id);
            }
        }
        Ok(torn)
    }

    /// The blobs of which only a part is here, each with the number of bytes that its files take, in order.
    /// Transfers that were interrupted or are under way leave such blobs, and so does a repair.
    ///
    /// # Errors
    /// See [`ListError`].
    pub async fn partial(&self) -> Result<Vec<(Hash, u64)>, ListError> {
        let mut partial = Vec::new();
        for id in self.all().await? {
            let status = self.blobs().blobs().status(to_iroh(&id)).await.map_err(|_| ListError::Closed)?;
            if matches!(status, BlobStatus::Partial { .. }) {
                let files = self.disk().map(|disk| disk.files_of(&id)).into_iter().flatten();
                let bytes = files.filter_map(|file| std::fs::metadata(file).ok()).map(|file| file.len()).sum();
                partial.push((id, bytes));
            }
        }
        Ok(partial)
    }

    /// Verifies a blob. Of a corrupt blob it keeps the ranges that verify, so that a fetch brings only the rest.
    ///
    /// # Errors
    /// [`RemoveError::Busy`] while anything is imported. Nothing was changed then.
    pub async fn repair(&self, id: &Hash) -> Result<Repaired, RemoveError> {
        let Some(disk) = self.disk() else { return Err(RemoveError::Memory) };
        if let Some(size) = self.size(id).await {
            match self.read_verified(id, size, |_| Ok(())).await {
                Ok(()) => return Ok(Repaired::Whole),
                Err(ReadError::Closed) => return Err(RemoveError::Closed),
                Err(_) => {}
            }
            self.writable().map_err(RemoveError::Io)?;
            let [data, _] = disk.files_of(id);
            self.settled().await.map_err(RemoveError::Io)?;
            if hashes_to(&data, id).await
                && self.put_file(&data).await.is_ok()
                && self.settled().await.is_ok()
                && self.verify(id).await.is_ok()
            {
                return Ok(Repaired::Whole);
            }
            let aside = Aside::of(disk, id).map_err(RemoveError::Io)?;
            self.remove(&BTreeSet::from([*id])).await?;
            if let Some(aside) = &aside
                && let Err(error) = self.salvage(id, size, aside).await
            {
                tracing::warn!(blob = %id.short(), %error, "what was left of a corrupt blob is not kept");
            }
            // The blob was whole here: its tag says that it is missed from now on.
            let tagged = self.blobs().tags().set(id.to_string(), HashAndFormat::raw(to_iroh(id))).await;
            tagged.map_err(|error| RemoveError::Io(io_error(error)))?;
        }
        let here = self.blobs().remote().local(HashAndFormat::raw(to_iroh(id))).await;
        let kept = here.map_err(|error| RemoveError::Io(io::Error::other(error)))?.local_bytes();
        Ok(Repaired::Partial { kept })
    }

    /// Waits until no blob is held open. The last reader of a blob holds it for a moment longer, and iroh-blobs imports
    /// no bytes into it during that time.
    pub(crate) async fn settled(&self) -> io::Result<()> {
        timeout(IDLE, self.blobs().wait_idle()).await?.map_err(io::Error::other)
    }

    /// Imports the ranges of a blob of `size` bytes that still verify.
    async fn salvage(&self, id: &Hash, size: u64, aside: &Aside) -> io::Result<()> {
        let _importing = self.importing().await;
        self.settled().await?;
        let valid = aside.valid(id, size).await?;
        for start in (0..size).step_by(PIECE_BYTES as usize) {
            let piece = ChunkRanges::bytes(start..size.min(start + PIECE_BYTES)) & &valid;
            if piece.is_empty() {
                continue;
            }
            let encoded = aside.encode(id, size, piece.clone()).await?;
            let imported = self.blobs().blobs().import_bao_bytes(to_iroh(id), piece, encoded).await;
            imported.map_err(io_error)?;
        }
        Ok(())
    }
}

/// The files of a corrupt blob under other names, so that they outlive the removal of the blob. Dropping this
/// deletes them.
struct Aside {
    data: PathBuf,
    outboard: PathBuf,
}

impl Aside {
    /// Gives `None` for a blob whose bytes or hash tree lie in the database. Such a blob is small and is fetched whole.
    fn of(disk: &Disk, id: &Hash) -> io::Result<Option<Self>> {
        let [data, outboard] = disk.files_of(id);
        if !data.exists() || !outboard.exists() {
            return Ok(None);
        }
        let at = |part: &str| disk.root.join("temp").join(format!("{id}-{part}.temp"));
        let aside = Self { data: at("data"), outboard: at("outboard") };
        for (from, to) in [(&data, &aside.data), (&outboard, &aside.outboard)] {
            // One that a killed process left may be in the way.
            let _ = std::fs::remove_file(to);
            std::fs::hard_link(from, to)?;
        }
        Ok(Some(aside))
    }

    /// Runs `work` on the data and the outboard, on a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        id: &Hash,
        size: u64,
        work: impl FnOnce(File, PreOrderOutboard<File>) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (data, outboard) = (self.data.clone(), self.outboard.clone());
        let (root, tree) = (blake3::Hash::from_bytes(*id.as_bytes()), BaoTree::new(size, IROH_BLOCK_SIZE));
        spawn_blocking(move || work(File::open(data)?, PreOrderOutboard { root, tree, data: File::open(outboard)? }))
            .await
            .map_err(io::Error::other)?
    }

    async fn valid(&self, id: &Hash, size: u64) -> io::Result<ChunkRanges> {
        self.with(id, size, |data, outboard| {
            let mut valid = ChunkRanges::empty();
            // A range that cannot be read is not valid.
            for range in valid_ranges(outboard, data, &ChunkRanges::all()).into_iter().flatten() {
                valid |= ChunkRanges::from(range);
            }
            Ok(valid)
        })
        .await
    }

    async fn encode(&self, id: &Hash, size: u64, ranges: ChunkRanges) -> io::Result<Vec<u8>> {
        self.with(id, size, move |data, outboard| {
            let mut encoded = size.to_le_bytes().to_vec();
            encode_ranges_validated(data, outboard, &ranges, &mut encoded).map_err(io::Error::other)?;
            Ok(encoded)
        })
        .await
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        for path in [&self.data, &self.outboard] {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::debug!(%error, "what was set aside of a corrupt blob goes when the store is opened again");
            }
        }
    }
}

async fn hashes_to(path: &Path, id: &Hash) -> bool {
    let (path, id) = (path.to_path_buf(), *id);
    let hash = spawn_blocking(move || {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?).map(|hasher| *hasher.finalize().as_bytes())
    });
    hash.await.is_ok_and(|hash: io::Result<_>| hash.is_ok_and(|hash| hash == *id.as_bytes()))
}
