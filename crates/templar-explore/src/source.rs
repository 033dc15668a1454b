//! Where pages come from: the journal of a run, followed while it grows, and the blobs of the home.
//!
//! The journal is a file, so following it holds no lock, and a node can start and stop meanwhile. Blobs are read as the
//! other reading commands read them: through the store, or through the node that runs in the home.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use templar_home::Home;
use templar_home::access::Access;
use templar_home::context::{RunContext, RunError};
use templar_home::journal::Journal;
use templar_home::now::NodeNow;
use templar_home::socket::SocketBlobs;
use templar_manifest::WindowIndex;
use templar_protocol::{ClosedWindow, Entry, Input, Node, Output, RunState};
use templar_query::QueryError;
use templar_query::find::run_context;
use templar_query::index::HomeIndex;

use crate::facts::RunFacts;

/// Every so many windows the state of the run is kept, so that no page folds more windows than that.
const STATE_EVERY: u64 = 16;

/// The most states that are kept. Of longer runs, every second one goes, again and again.
const MAX_STATES: usize = 64;

/// A run of a home, to make pages of.
pub struct Source {
    home: Home,
    root: PathBuf,
    context: RunContext,
    folded: RwLock<Folded>,
    /// The home's blobs, while somebody reads them.
    access: Mutex<Weak<Access>>,
    /// The index of the run's objects, with the number of entries that it was made of.
    index: Mutex<Option<(usize, Arc<HomeIndex>)>>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("root", &self.root).field("run", &self.context.run).finish_non_exhaustive()
    }
}

/// The run as its journal tells it so far.
pub(crate) struct Folded {
    /// The node after the last entry. It has forgotten the closed windows.
    pub(crate) node: Node,
    /// The closed windows, oldest first.
    pub(crate) closed: Vec<ClosedWindow>,
    pub(crate) facts: RunFacts,
    /// The entries since the last window closed.
    pub(crate) recent: Vec<Vec<u8>>,
    /// The number of entries in all.
    pub(crate) entries: usize,
    /// The length of the journal in bytes when it was last read.
    journal_bytes: u64,
    /// States before some of the windows, oldest first.
    states: Vec<RunState>,
    /// The windows between two of them.
    state_every: u64,
}

impl Source {
    /// Opens a run of the home in `root`: the one that `named` stands for, by hash, prefix or name, or the current one.
    ///
    /// # Errors
    /// There is no home or no such run, or its journal does not fold.
    pub fn open(root: &Path, named: Option<&str>) -> Result<Self, Box<QueryError>> {
        let access = Access::read(root).map_err(large)?;
        let context = run_context(&access, named)?;
        let folded = RwLock::new(Folded::new(&context)?);
        let home = access.home.clone();
        drop(access);
        let (access, index) = (Mutex::default(), Mutex::default());
        let source = Self { home, root: root.to_owned(), context, folded, access, index };
        source.follow()?;
        Ok(source)
    }

    /// The run that this is about.
    pub fn context(&self) -> &RunContext {
        &self.context
    }

    /// Reads what has been added to the journal. Says how many entries there are.
    ///
    /// # Errors
    /// The journal cannot be read, is damaged, or does not fold.
    pub fn follow(&self) -> Result<usize, Box<QueryError>> {
        let dir = self.home.run_dir(&self.context.run);
        let length = std::fs::metadata(dir.join("journal")).map_or(0, |file| file.len());
        if length == self.folded.read().journal_bytes {
            return Ok(self.folded.read().entries);
        }
        let records = Journal::read(&dir).map_err(large)?;
        let mut folded = self.folded.write();
        if records.len() < folded.entries {
            // Somebody mended the journal.
            *folded = Folded::new(&self.context)?;
        }
        folded.take(&self.context, &records)?;
        folded.journal_bytes = length;
        Ok(folded.entries)
    }

    /// The number of entries when the journal was last read.
    pub(crate) fn entries(&self) -> usize {
        self.folded.read().entries
    }

    /// The run as the journal told it when it was last read.
    pub(crate) fn folded(&self) -> RwLockReadGuard<'_, Folded> {
        self.folded.read()
    }

    /// The home's blobs. Those who ask at the same time share them.
    ///
    /// # Errors
    /// The home does not open; for example, another command writes in it.
    pub fn access(&self) -> Result<Arc<Access>, Box<QueryError>> {
        let mut shared = self.access.lock();
        if let Some(access) = shared.upgrade() {
            return Ok(access);
        }
        let access = Arc::new(Access::read(&self.root).map_err(large)?);
        *shared = Arc::downgrade(&access);
        Ok(access)
    }

    /// The objects of the run, and the links between them.
    ///
    /// # Errors
    /// The journal or the store cannot be read.
    pub(crate) fn index(&self, access: &Access) -> Result<Arc<HomeIndex>, Box<QueryError>> {
        let entries = self.folded.read().entries;
        let mut kept = self.index.lock();
        if let Some((of, index)) = &*kept
            && *of == entries
        {
            return Ok(index.clone());
        }
        let index = Arc::new(HomeIndex::build(access, Some(self.context.run))?);
        *kept = Some((entries, index.clone()));
        Ok(index)
    }

    /// What the node of this home says about this moment; `None` if none runs here for this run.
    pub(crate) fn now(&self) -> Option<NodeNow> {
        let node = SocketBlobs::connect(&self.home.socket_path()).ok()?;
        node.now().ok().filter(|now| now.run == self.context.run)
    }
}

impl Folded {
    fn new(context: &RunContext) -> Result<Self, Box<QueryError>> {
        let first = context.first_state().map_err(large)?;
        Ok(Self {
            node: Node::new(first.clone(), None),
            closed: Vec::new(),
            facts: RunFacts::default(),
            recent: Vec::new(),
            entries: 0,
            journal_bytes: 0,
            states: vec![first],
            state_every: STATE_EVERY,
        })
    }

    /// Takes the entries of a journal that it has not taken yet.
    fn take(&mut self, context: &RunContext, records: &[Vec<u8>]) -> Result<(), Box<QueryError>> {
        for (index, record) in records.iter().enumerate().skip(self.entries) {
            let refused = |reason: String| large(RunError::Journal { run: context.run, index, reason });
            let entry = Entry::decode(record).map_err(|error| refused(error.to_string()))?;
            let before = self.node.shared_state();
            let outputs = self.node.step(Input::Entry(entry)).map_err(|error| refused(error.to_string()))?;
            self.entries += 1;
            self.recent.push(record.clone());
            if outputs.iter().any(|output| matches!(output, Output::Closed { .. })) {
                self.recent.clear();
                let parameters = context.recipe.parameter_count();
                for closed in self.node.closed().to_vec() {
                    let window = closed.window.header.window;
                    let state = (window != before.window()).then(|| self.state_at(window)).flatten();
                    self.facts.close(state.as_ref().unwrap_or(&before), &closed, parameters);
                    self.closed.push(closed);
                }
                // A node that remembers its past keeps the state before every window alive.
                self.node.forget_past();
                self.keep_state();
            }
        }
        Ok(())
    }

    fn keep_state(&mut self) {
        let state = self.node.state();
        if !state.window().0.is_multiple_of(self.state_every) {
            return;
        }
        self.states.push(state.clone());
        if self.states.len() > MAX_STATES {
            self.state_every *= 2;
            let every = self.state_every;
            self.states.retain(|state| state.window().0.is_multiple_of(every));
        }
    }

    /// The state before a window; `None` for a window that is not open yet.
    pub(crate) fn state_at(&self, window: WindowIndex) -> Option<RunState> {
        let closed = &self.closed;
        let until = usize::try_from(window.0).ok().filter(|until| *until <= closed.len())?;
        if window == self.node.state().window() {
            return Some(self.node.state().clone());
        }
        let mut state = self.states.iter().rfind(|state| state.window() <= window)?.clone();
        for closed in &closed[state.window().0 as usize..until] {
            state.advance(closed).ok()?;
        }
        Some(state)
    }
}

/// An error of a library as one of this module. It is boxed, since it is much larger than what is returned otherwise.
fn large(error: impl Into<QueryError>) -> Box<QueryError> {
    Box::new(error.into())
}
