//! A home as a command uses it: its blobs, its runs, and the right to write where it has it.
//!
//! Reading works beside a running node: the journal is a file, and blobs come through the node's socket. Writing takes the
//! home's lock, so a second writer is told that the home is in use.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use templar_manifest::{Hash, RunId};
use templar_protocol::{EvidenceEntry, Node};
use templar_store::{BlobSource, BlockingStore, ListError, OpenError, PutError, ReadError, Store, SyncError};
use tokio::runtime::Runtime;

use crate::context::{RunContext, RunError};
use crate::home::{Home, HomeError, HomeLock};
use crate::inventory::Stock;
use crate::journal::{Journal, JournalError};
use crate::registration::Application;
use crate::socket::SocketBlobs;

/// How often a reader tries to get at a home that another command holds, and how long it waits in between: 5 seconds.
const READ_ATTEMPTS: u32 = 100;
const READ_PAUSE: Duration = Duration::from_millis(50);

/// Why a home cannot be accessed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its store.
    #[error("the home's store cannot be opened")]
    Store(#[from] OpenError),
    /// No threads to be had.
    #[error("the runtime does not start")]
    Runtime(#[source] std::io::Error),
    /// The run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Why what a command asks of the node here is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The node that runs here does not answer.
    #[error("the node of this home does not answer")]
    Socket(#[source] std::io::Error),
    /// It does not take it.
    #[error("the node of this home does not take it: {0}")]
    Refused(String),
}

/// An open home. Blobs are read on the thread that asks, which must not be one that runs async tasks.
pub struct Access {
    /// The home.
    pub home: Home,
    blobs: Arc<dyn BlobSource>,
    store: Option<Store>,
    socket: Option<Arc<SocketBlobs>>,
    lock: Option<HomeLock>,
    runtime: Arc<Runtime>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("home", &self.home).field("writes", &self.lock.is_some()).finish_non_exhaustive()
    }
}

impl Access {
    /// Opens the home in `root` to read and write.
    pub fn write(root: &Path) -> Result<Self, AccessError> {
        let home = Home::open(root)?;
        let lock = home.lock()?;
        let runtime = Arc::new(Runtime::new().map_err(AccessError::Runtime)?);
        let store = runtime.block_on(Store::open(&home.store_dir()))?;
        let blobs = Arc::new(BlockingStore::new(store.clone(), runtime.handle().clone()));
        Ok(Self { home, blobs, store: Some(store), socket: None, lock: Some(lock), runtime })
    }

    /// Opens the home in `root` to read, through the node that runs in it if there is one. Another command that holds the
    /// home is waited for a little: two readers may come at the same moment.
    pub fn read(root: &Path) -> Result<Self, AccessError> {
        for _ in 0..READ_ATTEMPTS {
            match Self::write(root) {
                Err(AccessError::Home(HomeError::Locked(_))) => {}
                access => return access,
            }
            let home = Home::open(root)?;
            if let Ok(blobs) = SocketBlobs::connect(&home.socket_path()) {
                let runtime = Arc::new(Runtime::new().map_err(AccessError::Runtime)?);
                let blobs = Arc::new(blobs);
                return Ok(Self { home, blobs: blobs.clone(), store: None, socket: Some(blobs), lock: None, runtime });
            }
            std::thread::sleep(READ_PAUSE);
        }
        Err(HomeError::Locked(root.to_owned()).into())
    }

    /// The home's blobs.
    pub fn blobs(&self) -> &dyn BlobSource {
        &*self.blobs
    }

    /// The home's blobs, shared.
    pub fn shared_blobs(&self) -> Arc<dyn BlobSource> {
        self.blobs.clone()
    }

    /// The store, which only who writes has.
    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// The runtime on which the store lives.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Gives up the home, its lock and its store to whoever runs a node in it, with the runtime on which the store lives.
    /// `None` where this access only reads.
    pub fn into_parts(mut self) -> Option<(Home, HomeLock, Store, Arc<Runtime>)> {
        let (store, lock) = (self.store.take()?, self.lock.take()?);
        Some((self.home.clone(), lock, store, self.runtime.clone()))
    }

    /// Keeps a blob.
    ///
    /// # Errors
    /// Also where this access only reads.
    pub fn put(&self, bytes: Vec<u8>) -> Result<Hash, PutError> {
        match &self.store {
            Some(store) => self.runtime.block_on(store.put(bytes)),
            None => Err(PutError::Io(std::io::Error::other("the home is open for reading only"))),
        }
    }

    /// Returns once these blobs would survive a power cut; an access that only reads has put none there.
    pub fn sync(&self, blobs: &[Hash]) -> Result<(), SyncError> {
        match &self.store {
            Some(store) => self.runtime.block_on(store.sync(blobs)),
            None => Ok(()),
        }
    }

    /// Keeps an application for a slot, or hands it to the node that runs here and will show it.
    ///
    /// # Errors
    /// The home or the socket; the node's reason, where it does not take it.
    pub fn apply(&self, application: &Application) -> Result<(), ApplyError> {
        match &self.socket {
            Some(node) => node.register(application).map_err(ApplyError::Socket)?.map_err(ApplyError::Refused),
            None => Ok(application.keep(&self.home)?),
        }
    }

    /// Hands evidence to the node that runs here, if one does; whether it does.
    ///
    /// # Errors
    /// The socket; the node's reason, where it does not take it.
    pub fn show(&self, evidence: EvidenceEntry) -> Result<bool, ApplyError> {
        let Some(node) = &self.socket else { return Ok(false) };
        node.show(evidence).map_err(ApplyError::Socket)?.map_err(ApplyError::Refused).map(|()| true)
    }

    /// Whether a node runs here, which holds the home.
    pub fn is_beside_a_node(&self) -> bool {
        self.socket.is_some()
    }

    /// What the store holds.
    pub fn stock(&self) -> Result<Stock, ListError> {
        match (&self.store, &self.socket) {
            (Some(store), _) => self.runtime.block_on(Stock::of(store)),
            (None, Some(node)) => node.stock().map_err(ListError::Io),
            (None, None) => Err(ListError::Closed),
        }
    }

    /// Reads a whole blob and hashes it.
    pub fn verify(&self, id: &Hash) -> Result<(), ReadError> {
        match (&self.store, &self.socket) {
            (Some(store), _) => self.runtime.block_on(store.verify(id)).map(|_| ()),
            (None, Some(node)) => node.verify(id),
            (None, None) => Err(ReadError::Closed),
        }
    }

    /// The run that a command means: the one it names, else the home's current one.
    pub fn run(&self, named: Option<RunId>) -> Result<RunContext, AccessError> {
        let run = match named {
            Some(run) => run,
            None => self.home.current_run()?.ok_or(RunError::None)?,
        };
        Ok(RunContext::open(&self.home, self.blobs(), run)?)
    }

    /// The state of a run, folded from its journal, without the right to act.
    pub fn fold(&self, context: &RunContext) -> Result<Node, AccessError> {
        let records = Journal::read(&self.home.run_dir(&context.run))?;
        Ok(context.fold(None, &records)?)
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            // Without it the last writes' metadata would be lost.
            self.runtime.block_on(store.shutdown());
        }
    }
}
