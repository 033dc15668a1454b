//! Opens the directory of a store: to write, as its only user, or to read where this process may not write.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bao_tree::BaoTree;
use iroh_blobs::store::IROH_BLOCK_SIZE;
use iroh_blobs::store::fs::FsStore;
use iroh_blobs::store::fs::options::{Options, PathOptions};
use tempfile::TempDir;
use tokio::sync::RwLock;
use tokio::task::spawn_blocking;

use crate::collect::collector;
use crate::store::{Disk, Hold, is_full};
use crate::{OpenError, Store};

/// The file of a store's database.
const DATABASE: &str = "blobs.db";

impl Store {
    /// Opens the store in `dir`, creating it if there is none.
    ///
    /// # Errors
    /// [`OpenError::Locked`] while another process has it open.
    pub async fn open(dir: &Path) -> Result<Self, OpenError> {
        let lock = blocking(dir, |root| {
            let lock = lock_dir(root)?;
            lengthen_outboards(&root.join("data"));
            Ok(lock)
        })
        .await?;
        let root = absolute(dir)?;
        let store = load(&root, root.join(DATABASE), PathOptions::new(&root), Hold::Locked(lock)).await?;
        if let Some(disk) = store.disk() {
            disk.sweep().map_err(io_at(&root.join("temp")))?;
        }
        Ok(store)
    }

    /// Opens the store in `dir` to read, and writes nothing there. The database, which cannot be opened without
    /// writing, is copied into a temporary directory of the system; the files of the blobs are read where they
    /// are. Nobody may write in the store meanwhile.
    ///
    /// # Errors
    /// The directory cannot be read, or the copy does not open.
    pub async fn open_to_read(dir: &Path) -> Result<Self, OpenError> {
        let (copy, has_database) = blocking(dir, copy_database).await?;
        let root = absolute(dir)?;
        let data_path = if has_database { root.join("data") } else { copy.path().join("data") };
        let paths = PathOptions { data_path, temp_path: copy.path().join("temp") };
        load(&root, copy.path().join(DATABASE), paths, Hold::Copied(copy)).await
    }
}

/// Loads the database in the file `database`, and the files at `paths`, of the store in `root`.
async fn load(root: &Path, database: PathBuf, paths: PathOptions, hold: Hold) -> Result<Store, OpenError> {
    let opened = Arc::default();
    let (collector, gc) = collector(Arc::clone(&opened));
    let options = Options { path: paths, gc: Some(gc), ..Options::new(root) };
    let blobs = FsStore::load_with_opts(database, options).await.map_err(|error| {
        let (path, reason) = (root.to_path_buf(), format!("{error:#}"));
        // The database has a lock of its own, which a process that just died may hold a moment longer than ours.
        if reason.contains("already open") {
            OpenError::Locked { path }
        } else if is_full(root) {
            OpenError::DiskFull { path }
        } else {
            OpenError::Database { path, reason }
        }
    })?;
    OnceLock::set(&opened, (*blobs).clone()).ok();
    let disk =
        Disk { root: root.to_path_buf(), hold, imports: RwLock::new(()), collector, stopped_full: OnceLock::new() };
    Ok(Store::opened((*blobs).clone(), disk))
}

/// Runs `work` on the directory, on a thread that may block.
async fn blocking<T: Send + 'static>(
    dir: &Path,
    work: impl FnOnce(&Path) -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let root = dir.to_path_buf();
    let done = spawn_blocking(move || work(&root)).await;
    done.map_err(|error| io_at(dir)(io::Error::other(error)))?
}

/// The absolute path: the database must stay where it is when the process changes its directory.
fn absolute(dir: &Path) -> Result<PathBuf, OpenError> {
    std::path::absolute(dir).map_err(io_at(dir))
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> OpenError + use<> {
    let path = path.to_path_buf();
    move |source| OpenError::Io { path, source }
}

/// Creates the directory and takes its lock.
fn lock_dir(root: &Path) -> Result<File, OpenError> {
    std::fs::create_dir_all(root).map_err(io_at(root))?;
    let path = root.join("lock");
    let lock = File::options().create(true).write(true).truncate(false).open(&path).map_err(io_at(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: root.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
    }
}

/// Copies the database of the store in `root` into a temporary directory. Returns whether there was one: a home that
/// was never used has none.
fn copy_database(root: &Path) -> Result<(TempDir, bool), OpenError> {
    let temporary = tempfile::Builder::new().prefix("templar-").tempdir();
    let copy = temporary.map_err(|source| OpenError::Copy { path: root.to_path_buf(), source })?;
    let from = root.join(DATABASE);
    let mut database = match File::open(&from) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((copy, false)),
        Err(error) => return Err(io_at(&from)(error)),
    };
    // Not `fs::copy`: the copy of a file that nobody may write could not be written either.
    let copied = File::create(copy.path().join(DATABASE)).and_then(|mut to| io::copy(&mut database, &mut to));
    copied.map_err(|source| OpenError::Copy { path: root.to_path_buf(), source })?;
    Ok((copy, true))
}

/// Lengthens the files of the inner hash nodes of blobs that are here in part, so that iroh-blobs finds every part.
///
/// After a kill, iroh-blobs (0.104) verifies such a blob from its first group to its last, and stops at the first node
/// that lies behind the end of the file. The file ends with the last node that came. So the groups behind that place
/// were not found, and without the last group even the length of the blob was unknown: all of it was fetched again.
/// A node that reads as zeros fits no hash, and is passed over.
fn lengthen_outboards(data: &Path) {
    for entry in std::fs::read_dir(data).into_iter().flatten().flatten() {
        let sizes = entry.path();
        if sizes.extension().is_some_and(|extension| extension == "sizes4")
            && let Err(error) = lengthen_outboard(&sizes)
        {
            // A part of this blob is fetched again. The store itself is sound.
            tracing::debug!(path = %sizes.display(), %error, "the inner nodes of a partial blob stay as they are");
        }
    }
}

/// Lengthens the file of inner nodes beside this file of lengths: one u64 for each group that came, the one of the
/// last group is proven.
fn lengthen_outboard(sizes: &Path) -> io::Result<()> {
    let Some(length) = last_u64(&File::open(sizes)?)? else { return Ok(()) };
    let outboard = File::options().write(true).open(sizes.with_extension("obao4"))?;
    let whole = BaoTree::new(length, IROH_BLOCK_SIZE).outboard_size();
    if outboard.metadata()?.len() < whole { outboard.set_len(whole) } else { Ok(()) }
}

/// The last number of a file of numbers, little-endian.
fn last_u64(mut file: &File) -> io::Result<Option<u64>> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let Some(at) = (file.metadata()?.len() / 8).checked_sub(1) else { return Ok(None) };
    let mut bytes = [0; 8];
    file.seek(SeekFrom::Start(at * 8))?;
    file.read_exact(&mut bytes)?;
    Ok(Some(u64::from_le_bytes(bytes)))
}
