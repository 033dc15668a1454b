//! A run that is open for manual work: its journal, its key, and the executor of work with tensors.
//!
//! The manual commands (`train`, `score`, `close`) share this. Nothing is signed before the blobs that it names
//! are on the disk.

use std::sync::Arc;

use templar_home::access::Access;
use templar_home::journal::Journal;
use templar_home::replica::Replica;
use templar_manifest::{Hash, PublicKey, WindowIndex};
use templar_node::executor::{Executor, KeepBlob};
use templar_protocol::{Node, RunState};
use templar_query::find::run_context;
use templar_query::participation::Participation;

use crate::error::{Code, CommandError};
use crate::invocation::Invocation;

/// A home with one of its runs, open to write.
pub(crate) struct RunSession {
    /// The journal of the run, and the protocol's node on top of it.
    pub replica: Replica,
    /// The executor of work with tensors: training, replays, measurements.
    pub executor: Executor,
    /// The home. The last field, so that the store is shut down after everything that uses it.
    pub access: Access,
}

impl RunSession {
    /// Opens the home to write, and the run in it.
    pub(crate) fn open(invocation: &Invocation, run: Option<&str>) -> Result<Self, CommandError> {
        let access = invocation.write()?;
        let context = run_context(&access, run)?;
        let key = access.home.key()?;
        let replica = Replica::open(&access.home, context.clone(), key)?;
        let executor = Executor::new(context, access.home.clone(), access.shared_blobs(), keep(&access)?)?;
        Ok(Self { replica, executor, access })
    }

    /// A copy of the protocol's node in its current state.
    pub(crate) fn node(&self) -> Node {
        self.replica.node().clone()
    }

    /// The state of the run before the open window.
    pub(crate) fn state(&self) -> RunState {
        self.replica.node().state().clone()
    }

    /// The node key of this home.
    pub(crate) fn me(&self) -> PublicKey {
        self.replica.me()
    }

    /// The owner for whom this home trains. Without a slot, that is the home's own key.
    pub(crate) fn miner(&self) -> PublicKey {
        self.replica.node().contributor().unwrap_or(self.me())
    }

    /// The acts of the members in the open window.
    pub(crate) fn participation(&self) -> Result<Participation, CommandError> {
        let records = Journal::read(&self.access.home.run_dir(&self.replica.context.run))?;
        Ok(Participation::of(self.replica.node(), &records))
    }

    /// Syncs blobs to disk, before anything that names them is signed.
    pub(crate) fn sync(&self, blobs: &[Hash]) -> Result<(), CommandError> {
        sync(&self.access, blobs)
    }

    /// Whether the window is open: true for the open one, false for a closed one, an error for a later one.
    pub(crate) fn is_open(&self, window: WindowIndex) -> Result<bool, CommandError> {
        let node = self.replica.node();
        let open = node.state().window();
        if window < open {
            return Ok(false);
        }
        if node.is_over() {
            return Err(CommandError::says(Code::NotFound, format_args!("the run is over after {open} windows")));
        }
        if window > open {
            let error = CommandError::says(Code::NotFound, format_args!("window {window} is not open yet"));
            return Err(error.hint(format!("window {open} is open; `templar status` says who is awaited")));
        }
        Ok(true)
    }
}

/// Returns once the blobs would survive a power cut.
pub(crate) fn sync(access: &Access, blobs: &[Hash]) -> Result<(), CommandError> {
    Ok(access.sync(blobs)?)
}

fn keep(access: &Access) -> Result<KeepBlob, CommandError> {
    let store = access.store().cloned();
    let store = store.ok_or_else(|| CommandError::says(Code::Failed, "the home is open for reading only"))?;
    let handle = access.runtime().handle().clone();
    Ok(Arc::new(move |bytes| handle.block_on(store.put(bytes))))
}
