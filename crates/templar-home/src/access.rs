//! A home as a command uses it: its blobs, its runs, and the right to write if it has that right.
//!
//! Reading works beside a running node: the journal is a file, and blobs come through the node's socket. It also
//! works in a home that this process may not write, such as one on a read-only disk. Writing takes the home's lock,
//! so a second writer gets the error that the home is in use.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use templar_blob::{BlobSource, ReadError};
use templar_data::{ShardSink, SinkError};
use templar_manifest::{BlobId, Hash, RunId};
use templar_protocol::{EvidenceEntry, Node};
use templar_store::{BlobExportError, BlockingStore, Existing, ListError, OpenError, PutError, Store, SyncError};
use tokio::runtime::Runtime;

use crate::context::{RunContext, RunError};
use crate::error::HomeError;
use crate::home::{self, Home, HomeLock};
use crate::inventory::Stock;
use crate::journal::{Journal, JournalError};
use crate::memory::Memory;
use crate::now::NodeNow;
use crate::past::Past;
use crate::registration::Application;
use crate::socket::SocketBlobs;

/// How often a reader tries to open a home that another command holds. With the pause in between it gives up
/// after 5 s.
const READ_ATTEMPTS: u32 = 100;
const READ_PAUSE: Duration = Duration::from_millis(50);

/// A home cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The directory is no home, or cannot be read or locked.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The blob store does not open.
    #[error("the home's store cannot be opened")]
    Store(#[from] OpenError),
    /// The system gives no threads for the runtime.
    #[error("the runtime does not start")]
    Runtime(#[source] std::io::Error),
    /// The run is not in this home or cannot be used.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The run's journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A request to the node of this home failed.
#[derive(Debug, thiserror::Error)]
pub enum HandInError {
    /// The application cannot be written into the home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The running node does not answer.
    #[error("the node of this home does not answer")]
    Socket(#[source] std::io::Error),
    /// The running node refuses the request, for this reason.
    #[error("the node of this home refuses it: {0}")]
    Refused(String),
}

/// An open home. Blobs are read on the calling thread, which must not be one that runs async tasks.
pub struct Access {
    /// The home's directory and files.
    pub home: Home,
    blobs: Arc<dyn BlobSource>,
    by: By,
    runtime: Arc<Runtime>,
}

/// How an access reaches the blobs of its home, and what it may do with them.
enum By {
    /// It has locked the home, and reads and writes the store.
    Lock(HomeLock, Store),
    /// It may not write in the home. It reads the store, and keeps writers out if it can.
    Reading(#[expect(dead_code, reason = "held, not read")] Option<HomeLock>, Store),
    /// A node runs in the home, and gives blobs through its socket.
    Socket(Arc<SocketBlobs>),
    /// The lock and the store were given to somebody else.
    GivenUp,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let writes = matches!(self.by, By::Lock(..));
        f.debug_struct("Access").field("home", &self.home).field("writes", &writes).finish_non_exhaustive()
    }
}

impl Access {
    /// Opens the home in `root` to read and write.
    ///
    /// # Errors
    /// There is no home, another process holds its lock, this process may not write there, or its store does not
    /// open.
    pub fn write(root: &Path) -> Result<Self, AccessError> {
        let home = Home::open(root)?;
        let lock = home.lock()?;
        let runtime = runtime()?;
        let store = runtime.block_on(Store::open(&home.store_dir()))?;
        Ok(Self::on_store(home, store, runtime, |store| By::Lock(lock, store)))
    }

    /// Opens the home in `root` to read, through the node that runs in it if there is one. If another command
    /// holds the home, this waits for it for up to 5 seconds, since two readers may come at the same moment. If
    /// this process may not write in the home, nothing in it changes.
    ///
    /// # Errors
    /// There is no home, or another command still holds it after 5 seconds.
    pub fn read(root: &Path) -> Result<Self, AccessError> {
        for _ in 0..READ_ATTEMPTS {
            let is_read_only = match Self::write(root) {
                Err(AccessError::Home(HomeError::Locked(_))) => false,
                Err(error) if is_read_only(&error) => true,
                access => return access,
            };
            let home = Home::open(root)?;
            if let Ok(blobs) = SocketBlobs::connect(&home.socket_path()) {
                let blobs = Arc::new(blobs);
                return Ok(Self { home, blobs: blobs.clone(), by: By::Socket(blobs), runtime: runtime()? });
            }
            if is_read_only {
                match home.lock_shared() {
                    Err(HomeError::Locked(_)) => {}
                    lock => return Self::without_writing(home, lock?),
                }
            }
            std::thread::sleep(READ_PAUSE);
        }
        Err(HomeError::Locked(root.to_owned()).into())
    }

    /// Opens a home that this process may not write.
    fn without_writing(home: Home, lock: Option<HomeLock>) -> Result<Self, AccessError> {
        let runtime = runtime()?;
        let store = runtime.block_on(Store::open_to_read(&home.store_dir()))?;
        Ok(Self::on_store(home, store, runtime, |store| By::Reading(lock, store)))
    }

    fn on_store(home: Home, store: Store, runtime: Arc<Runtime>, by: impl FnOnce(Store) -> By) -> Self {
        let blobs = Arc::new(BlockingStore::new(store.clone(), runtime.handle().clone()));
        Self { home, blobs, by: by(store), runtime }
    }

    /// The blobs of the home, read through the store or the running node.
    pub fn blobs(&self) -> &dyn BlobSource {
        &*self.blobs
    }

    /// The same blobs, shared.
    pub fn shared_blobs(&self) -> Arc<dyn BlobSource> {
        self.blobs.clone()
    }

    /// The store, to write. `None` if this access only reads.
    pub fn store(&self) -> Option<&Store> {
        match &self.by {
            By::Lock(_, store) => Some(store),
            By::Reading(..) | By::Socket(_) | By::GivenUp => None,
        }
    }

    /// The store, to read only. `None` if this access reads through a running node.
    pub fn store_to_read(&self) -> Option<&Store> {
        match &self.by {
            By::Lock(_, store) | By::Reading(_, store) => Some(store),
            By::Socket(_) | By::GivenUp => None,
        }
    }

    /// The node that runs in the home, if this access goes through it.
    fn node(&self) -> Option<&SocketBlobs> {
        if let By::Socket(node) = &self.by { Some(node) } else { None }
    }

    /// The runtime on which the store runs.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Gives up the home, its lock, its store and the runtime on which the store runs, so that a node can run
    /// with them. `None` if this access only reads.
    pub fn into_parts(mut self) -> Option<(Home, HomeLock, Store, Arc<Runtime>)> {
        match std::mem::replace(&mut self.by, By::GivenUp) {
            By::Lock(lock, store) => Some((self.home.clone(), lock, store, self.runtime.clone())),
            by => {
                self.by = by;
                None
            }
        }
    }

    /// Keeps a blob and gives its hash.
    ///
    /// # Errors
    /// The disk takes nothing more, or this access only reads.
    pub fn put(&self, bytes: Vec<u8>) -> Result<Hash, PutError> {
        match self.store() {
            Some(store) => self.runtime.block_on(store.put(bytes)),
            None => Err(PutError::Io(std::io::Error::other("the home is open for reading only"))),
        }
    }

    /// Returns once these blobs would survive a power cut. An access that only reads has put none there.
    pub fn sync(&self, blobs: &[Hash]) -> Result<(), SyncError> {
        match self.store() {
            Some(store) => self.runtime.block_on(store.sync(blobs)),
            None => Ok(()),
        }
    }

    /// Keeps an application for a slot. If a node runs here, hands it to that node, which submits it to the run.
    ///
    /// # Errors
    /// The home cannot be written, the node does not answer, or it refuses the application.
    pub fn apply(&self, application: &Application) -> Result<(), HandInError> {
        match self.node() {
            Some(node) => node.register(application).map_err(HandInError::Socket)?.map_err(HandInError::Refused),
            None => Ok(application.keep(&self.home)?),
        }
    }

    /// Hands evidence of a contradiction to the node that runs here. `false` if none runs.
    ///
    /// # Errors
    /// The node does not answer, or it refuses the evidence.
    pub fn show(&self, evidence: EvidenceEntry) -> Result<bool, HandInError> {
        let Some(node) = self.node() else { return Ok(false) };
        node.show(evidence).map_err(HandInError::Socket)?.map_err(HandInError::Refused).map(|()| true)
    }

    /// The answer of the node that runs here about this moment; `None` if none runs, or it does not answer.
    pub fn now(&self) -> Option<NodeNow> {
        self.node().and_then(|node| node.now().ok())
    }

    /// Whether a node runs here and holds the home.
    pub fn is_beside_a_node(&self) -> bool {
        self.node().is_some()
    }

    /// Lists the blobs of the store.
    pub fn stock(&self) -> Result<Stock, ListError> {
        match &self.by {
            By::Lock(_, store) | By::Reading(_, store) => self.runtime.block_on(Stock::of(store)),
            By::Socket(node) => node.stock().map_err(ListError::Io),
            By::GivenUp => Err(ListError::Closed),
        }
    }

    /// Reads a whole blob and hashes it.
    ///
    /// # Errors
    /// The blob is missing, or its bytes do not have the hash `id`.
    pub fn verify(&self, id: &Hash) -> Result<(), ReadError> {
        match &self.by {
            By::Lock(_, store) | By::Reading(_, store) => self.runtime.block_on(store.verify(id)).map(|_| ()),
            By::Socket(node) => node.verify(id),
            By::GivenUp => Err(ReadError::Closed),
        }
    }

    /// Writes a blob that is here to a file, verified. Returns its length in bytes.
    ///
    /// # Errors
    /// See [`BlobExportError`]. On any error the file is as it was before.
    pub fn export(&self, id: &Hash, path: &Path, existing: Existing) -> Result<u64, BlobExportError> {
        match &self.by {
            By::Lock(_, store) | By::Reading(_, store) => self.runtime.block_on(store.export(id, path, existing)),
            By::Socket(node) => {
                // The store knows how to write a file whole or not at all, so the blob goes through one in memory.
                let bytes = node.read(id, u64::MAX)?;
                self.runtime.block_on(async {
                    let store = Store::memory().await;
                    let put = store.put(bytes).await;
                    put.map_err(|error| ReadError::Io { id: *id, source: std::io::Error::other(error) })?;
                    store.export(id, path, existing).await
                })
            }
            By::GivenUp => Err(ReadError::Closed.into()),
        }
    }

    /// Opens the run that a command means: the one it names, else the home's current one.
    pub fn run(&self, named: Option<RunId>) -> Result<RunContext, AccessError> {
        let run = match named {
            Some(run) => run,
            None => self.home.current_run()?.ok_or(RunError::None)?,
        };
        Ok(RunContext::open(&self.home, self.blobs(), run)?)
    }

    /// The protocol's node of a run, folded from the journal. It acts with no key.
    ///
    /// # Errors
    /// The journal cannot be read, does not fold, or has lost its end.
    pub fn fold(&self, context: &RunContext) -> Result<Node, AccessError> {
        self.fold_records(context).map(|(node, _)| node)
    }

    /// The protocol's node of a run as it is now, which remembers only the newest closed windows, and the entries that
    /// led to them and to the open one. It begins with the newest certified copy of the state, so this takes no longer
    /// after many windows than after few. Without a copy everything is folded.
    ///
    /// # Errors
    /// The journal cannot be read, does not fold, or has lost its end.
    pub fn recent(&self, context: &RunContext) -> Result<(Node, Vec<Vec<u8>>), AccessError> {
        let dir = self.home.run_dir(&context.run);
        // The memory is read first, as in `fold_records`.
        let known = Memory::read(&dir).ok().and_then(|memory| memory.head);
        let beginning = Past::new(&dir, &context.genesis, true).begin(&context.genesis)?;
        let tail =
            beginning.as_ref().map(|beginning| Journal::read_after(&dir, beginning.mark())).transpose()?.flatten();
        let (Some(beginning), Some(records)) = (beginning, tail) else { return self.fold_records(context) };
        let mut node = Node::new(beginning.copy.state().clone(), None);
        context.fold_into(&mut node, beginning.mark().records, &records, |_, _, _| {})?;
        match known.and_then(|head| head.problem(&node)) {
            Some(problem) => Err(RunError::Forgotten(problem).into()),
            None => Ok((node, records)),
        }
    }

    fn fold_records(&self, context: &RunContext) -> Result<(Node, Vec<Vec<u8>>), AccessError> {
        let dir = self.home.run_dir(&context.run);
        // A running node writes the journal first, so a journal that is read later has what the memory names. A
        // damaged memory says nothing here; `verify` names it.
        let known = Memory::read(&dir).ok().and_then(|memory| memory.head);
        let records = Journal::read(&dir)?;
        let node = context.fold(None, &records)?;
        match known.and_then(|head| head.problem(&node)) {
            Some(problem) => Err(RunError::Forgotten(problem).into()),
            None => Ok((node, records)),
        }
    }
}

/// Whether a home did not open because this process may not write in it.
fn is_read_only(error: &AccessError) -> bool {
    match error {
        AccessError::Home(HomeError::ReadOnly { .. }) => true,
        AccessError::Store(OpenError::Io { source, .. }) => home::is_read_only(source),
        _ => false,
    }
}

fn runtime() -> Result<Arc<Runtime>, AccessError> {
    Runtime::new().map(Arc::new).map_err(AccessError::Runtime)
}

impl Drop for Access {
    fn drop(&mut self) {
        if let By::Lock(_, store) | By::Reading(_, store) = &self.by {
            // Without this the metadata of the last writes would be lost.
            self.runtime.block_on(store.shutdown());
        }
    }
}

/// Keeps the shards of a dataset import in a home that is open for writing.
pub struct AccessSink<'a>(pub &'a Access);

impl ShardSink for AccessSink<'_> {
    fn put(&mut self, bytes: Vec<u8>) -> Result<BlobId, SinkError> {
        self.0.put(bytes).map(Into::into).map_err(|error| SinkError(error.into()))
    }
}
