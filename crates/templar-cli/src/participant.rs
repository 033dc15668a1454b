//! A home that takes part in a run: its journal to write, its key to sign with, its workbench.
//!
//! What the manual commands share. Nothing is signed before the blobs that it names are on the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use templar_home::access::Access;
use templar_home::journal::Journal;
use templar_home::replica::Replica;
use templar_manifest::{Hash, PublicKey, WindowIndex};
use templar_node::executor::{Executor, KeepBlob};
use templar_protocol::{Node, RunState};

use crate::error::{Code, CommandError};
use crate::invocation::{Invocation, run_context};
use crate::progress::Progress;

/// The home, the run and the means to work on it.
pub(crate) struct Participant {
    /// The run's journal and node.
    pub replica: Replica,
    /// Work with tensors.
    pub executor: Executor,
    /// The home. Last, so that the store is shut down after everything that uses it is gone.
    pub access: Access,
}

impl Participant {
    /// Opens the home to write, and the run in it.
    pub(crate) fn open(invocation: &Invocation, run: Option<&str>) -> Result<Self, CommandError> {
        let access = invocation.write()?;
        let context = run_context(&access, run)?;
        let key = access.home.key()?;
        let replica = Replica::open(&access.home, context.clone(), key)?;
        let executor = Executor::new(context, access.home.clone(), access.shared_blobs(), keep(&access)?)?;
        Ok(Self { replica, executor, access })
    }

    /// The node as it is now.
    pub(crate) fn node(&self) -> Node {
        self.replica.node().clone()
    }

    /// The state before the open window.
    pub(crate) fn state(&self) -> RunState {
        self.replica.node().state().clone()
    }

    /// The key that this home acts with.
    pub(crate) fn me(&self) -> PublicKey {
        self.replica.me()
    }

    /// For whom this home's key trains: the owner of its slot, or itself where it has none.
    pub(crate) fn miner(&self) -> PublicKey {
        self.replica.node().contributor().unwrap_or(self.me())
    }

    /// Who has said what in the open window.
    pub(crate) fn progress(&self) -> Result<Progress, CommandError> {
        let records = Journal::read(&self.access.home.run_dir(&self.replica.context.run))?;
        Ok(Progress::of(&self.replica.node(), &records))
    }

    /// Puts blobs on the disk, before anything that names them is signed.
    pub(crate) fn sync(&self, blobs: &[Hash]) -> Result<(), CommandError> {
        sync(&self.access, blobs)
    }

    /// Refuses a window that is not the open one; `Ok(false)` for one that is closed.
    pub(crate) fn is_open(&self, window: WindowIndex) -> Result<bool, CommandError> {
        let node = self.replica.node();
        let open = node.state().window();
        if window < open {
            return Ok(false);
        }
        if node.is_over() {
            return Err(CommandError::says(Code::NotFound, format_args!("the run is over; it had {open} windows")));
        }
        if window > open {
            let error = CommandError::says(Code::NotFound, format_args!("window {window} is not open yet"));
            return Err(error.hint(format!("window {open} is open; `templar status` says what it waits for")));
        }
        Ok(true)
    }
}

/// Puts blobs on the disk.
pub(crate) fn sync(access: &Access, blobs: &[Hash]) -> Result<(), CommandError> {
    Ok(access.sync(blobs)?)
}

fn keep(access: &Access) -> Result<KeepBlob, CommandError> {
    let store = access.store().cloned();
    let store = store.ok_or_else(|| CommandError::says(Code::Failed, "the home is open for reading only"))?;
    let handle = access.runtime().handle().clone();
    Ok(Arc::new(move |bytes| handle.block_on(store.put(bytes))))
}

/// Becomes true when the user presses Ctrl-C; a second time ends the process at once.
pub(crate) fn interruption(access: &Access) -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    access.runtime().spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(Code::Interrupted as i32);
            }
        }
    });
    interrupted
}
