//! A run as one node follows and writes it: the protocol's node, its journal, and the log that peers read.
//!
//! Each entry that the protocol accepts is in the journal before anybody else sees it. That includes this
//! node's own votes. An entry with this node's key that its journal does not have was signed elsewhere: from then on
//! the replica signs nothing, as [`Memory`] explains.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use templar_audit::chain;
use templar_manifest::chain::Chain;
use templar_manifest::{Contradiction, Contribution, Hash, PublicKey, SecretKey, Signed, WindowIndex};
use templar_protocol::{Entry, EvidenceEntry, Input, Node, Output, RegistrationError, Reject, RevealEntry, Unsigned};

use crate::context::{RunContext, RunError};
use crate::entry_log::EntryLog;
use crate::error::HomeError;
use crate::home::Home;
use crate::journal::{Journal, JournalError, JournalMark, JournalReader, JournalRecords, WindowRow, WindowRows};
use crate::memory::{Head, Heard, Memory, Silence, Statement};
use crate::past::Past;
use crate::registration::Application;

/// An input was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The rules refuse it, and nothing has changed.
    #[error("the rules refuse it")]
    Reject(#[from] Reject),
    /// The entry could not be kept, so nobody may hear of it. The node must stop.
    #[error("the journal cannot be written")]
    Journal(#[from] JournalError),
    /// The secret of the validator's hash chain is not in this home.
    #[error("the hash chain of this validator, with anchor {0}, is not in this home")]
    NoChain(Hash),
    /// The validator's hash chain has no value for this window.
    #[error("the hash chain of this key ends before window {0}")]
    ChainEnds(u64),
    /// This home must not sign anything now.
    #[error(transparent)]
    Silent(#[from] Silence),
}

impl From<HomeError> for SubmitError {
    fn from(error: HomeError) -> Self {
        Self::Journal(error.into())
    }
}

/// A replica cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// An entry of the journal is refused by the rules.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The memory about the run cannot be read or written.
    #[error(transparent)]
    Memory(#[from] HomeError),
}

/// The result of an entry from a peer.
#[derive(Debug)]
pub enum Taken {
    /// The entry is valid, or was known already.
    In(Vec<Output>),
    /// The entry is too late to be of use. An honest peer may have accepted it before it heard what this node knows.
    OutOfTime,
    /// The entry is too early to be judged. The peer's log must be read again when this node has heard more.
    TooEarly,
    /// The entry is invalid, for this reason: no honest peer accepts it.
    Faulty(String),
}

/// The rule on which blobs peers may fetch: all but this node's own delta, trace and state before a certified
/// cut names them.
#[derive(Debug, Clone)]
pub struct AfterTheCut(Arc<Mutex<Served>>);

impl AfterTheCut {
    /// Withholds these blobs of this node's own until a certified cut names them.
    pub fn gate(&self, blobs: impl IntoIterator<Item = Hash>) {
        let mut served = self.0.lock();
        for blob in blobs {
            served.withheld.insert(blob);
            served.gated.push(blob);
        }
    }

    /// Whether peers may have this blob now.
    pub fn may_serve(&self, blob: &Hash) -> bool {
        !self.0.lock().withheld.contains(blob)
    }
}

/// The parts of a replica that those read who serve peers and metrics while it takes an input. The replica holds the
/// lock only to write results down.
#[derive(Debug, Default)]
struct Served {
    /// This node's own blobs that peers may not have now.
    withheld: BTreeSet<Hash>,
    /// Those among them that the protocol's node does not know of yet.
    gated: Vec<Hash>,
    position: Position,
}

/// How far a node has followed its run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// Entries in its journal.
    pub entries: u64,
    /// The index of the open window.
    pub window: u64,
    /// The number of closed windows.
    pub closed: u64,
}

/// A run that this process follows and may write.
#[derive(Debug)]
pub struct Replica {
    /// The run's genesis, dataset and recipe.
    pub context: RunContext,
    key: SecretKey,
    /// The validator's hash chain for this run; `None` for others, and where its secret is lost.
    chain: Option<Chain>,
    node: Node,
    served: Arc<Mutex<Served>>,
    journal: Journal,
    log: Arc<EntryLog>,
    /// The directory of the run.
    dir: PathBuf,
    memory: Memory,
    /// The entries of this node's key that are in the journal, each with its window, as far back as the node remembers.
    own: BTreeMap<Hash, WindowIndex>,
    past: Past,
    /// The index of the journal.
    rows: WindowRows,
}

impl Replica {
    /// Opens the run of `context` in `home` and folds its whole journal. The caller holds the home's lock. The
    /// replica acts with `key`, and remembers all closed windows.
    pub fn open(home: &Home, context: RunContext, key: SecretKey) -> Result<Self, ReplicaError> {
        Self::opened(home, context, key, false)
    }

    /// Does the same, and begins with the newest certified copy of the state if there is one. The replica remembers
    /// only the newest closed windows, [`remembered_windows`](crate::past::remembered_windows) at least, so neither its
    /// start nor its memory grows with the run.
    pub fn resume(home: &Home, context: RunContext, key: SecretKey) -> Result<Self, ReplicaError> {
        Self::opened(home, context, key, true)
    }

    fn opened(home: &Home, context: RunContext, key: SecretKey, resumes: bool) -> Result<Self, ReplicaError> {
        let dir = home.run_dir(&context.run);
        let mut past = Past::new(&dir, &context.genesis, resumes);
        let beginning = if resumes { past.begin(&context.genesis)? } else { None };
        let tail = match &beginning {
            Some(beginning) => Journal::open_after(&dir, beginning.mark())?,
            None => None,
        };
        if tail.is_none() && beginning.is_some() {
            past.begin_from_genesis("the journal's index is of another journal");
        }
        let beginning = beginning.filter(|_| tail.is_some());
        let (journal, JournalRecords { records, torn_bytes }) = match tail {
            Some(tail) => tail,
            None => Journal::open(&dir)?,
        };
        let (start, rows, mut mark) = match beginning {
            Some(found) => (found.copy.state().clone(), found.rows.clone(), found.mark()),
            None => (Arc::new(context.first_state()?), Vec::new(), JournalMark::START),
        };
        let begins = start.window();
        let log = Arc::new(EntryLog::new(context.run.hash(), JournalReader::open(&dir)?, &rows));
        let mut memory = Memory::read(&dir)?;
        let before = memory.clone();
        // In a window that was closed long ago, nobody can contradict anything.
        let mut is_there = before.signed.as_ref().is_some_and(|signed| signed.window < begins);
        let remembered = before.signed.as_ref().map(|signed| signed.entry);
        let (me, mut own, mut last) = (key.public(), BTreeMap::new(), None);
        let mut node = Node::new(start, Some(me));
        context.fold_into(&mut node, mark.records, &records, |node, record, outputs| {
            mark = mark.after(record);
            log.push(Bytes::copy_from_slice(record));
            for output in outputs {
                match output {
                    Output::Closed { record, .. } => {
                        log.close(WindowRow { record: record.hash(), end: mark });
                        past.closed(node);
                    }
                    Output::Accepted { entry, .. } => {
                        is_there |= Some(entry.id()) == remembered;
                        if let Some(statement) = Statement::of(entry, &me) {
                            own.insert(statement.entry, statement.window);
                            last = Some(statement);
                        }
                    }
                    _ => {}
                }
            }
        })?;
        memory.compare(Head::of(&node), |_| is_there, last);
        if memory != before {
            memory.write(&dir)?;
        }
        if torn_bytes > 0 {
            past.notes.push(format!(
                "the last {torn_bytes} bytes of the journal were no whole entry, as after a crash, and were cut off"
            ));
        }
        if let Err(error) = past.write() {
            past.notes.push(format!("no copy of the state is written, so the next start takes longer: {error}"));
        }
        let rows = WindowRows::open(&dir, &log.windows())?;
        let spec = context.genesis.validator(&me);
        let chain = spec.map(|spec| home.chain(&spec.chain_anchor)).transpose()?.flatten();
        let served = Arc::default();
        let replica = Self { context, key, chain, node, served, journal, log, dir, memory, own, past, rows };
        replica.write_down();
        Ok(replica)
    }

    /// What this replica has noticed about its files when it was opened, as sentences: a torn entry that was cut off,
    /// and copies of the state that are of no use.
    pub fn notes(&self) -> &[String] {
        &self.past.notes
    }

    /// Writes down what is served.
    fn write_down(&self) {
        let withheld = self.node.withheld();
        let window = self.node.state().window().0;
        let position = Position { entries: self.log.count() as u64, window, closed: window };
        let mut served = self.served.lock();
        let gated = served.gated.clone();
        served.withheld = withheld;
        served.withheld.extend(gated);
        served.position = position;
    }

    /// The memory of this home about the run.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether this node may sign something in the open window.
    ///
    /// # Errors
    /// The reason why it may not.
    pub fn may_sign(&self) -> Result<(), Silence> {
        self.memory.may_sign(self.node().state().window())
    }

    /// Notes that a peer has given all its entries.
    ///
    /// # Errors
    /// The memory cannot be written.
    pub fn caught_up(&mut self) -> Result<(), HomeError> {
        let open = self.node().state().window();
        self.remember(|memory| memory.caught_up(open))
    }

    /// Lets this home sign again, on the word of the person who made sure that no other node uses the key. With
    /// `has_peers`, it first hears from one of them what the key has signed.
    ///
    /// # Errors
    /// The memory cannot be written.
    pub fn reclaim(&mut self, has_peers: bool) -> Result<(), HomeError> {
        let open = self.node().state().window();
        self.remember(|memory| memory.reclaim(open, has_peers))
    }

    /// Changes the memory, on the disk first.
    fn remember<T>(&mut self, change: impl FnOnce(&mut Memory) -> T) -> Result<T, HomeError> {
        let mut memory = self.memory.clone();
        let changed = change(&mut memory);
        if memory != self.memory {
            memory.write(&self.dir)?;
            self.memory = memory;
        }
        Ok(changed)
    }

    /// This node's public key.
    pub fn me(&self) -> PublicKey {
        self.key.public()
    }

    /// The number of entries accepted so far.
    pub fn entries(&self) -> usize {
        self.log.count()
    }

    /// A function that says how far this node is whenever it is called; it outlives this borrow.
    pub fn position(&self) -> impl Fn() -> Position + Send + Sync + use<> {
        let served = self.served.clone();
        move || served.lock().position
    }

    /// The log of entries that peers pull.
    pub fn log(&self) -> Arc<EntryLog> {
        self.log.clone()
    }

    /// The rule on which blobs peers may fetch.
    pub fn policy(&self) -> AfterTheCut {
        AfterTheCut(self.served.clone())
    }

    /// The protocol's node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Takes an input. Entries that become valid with it are in the journal when this returns.
    ///
    /// # Errors
    /// The rules refuse the input, or the journal cannot be written.
    pub fn submit(&mut self, input: Input) -> Result<Vec<Output>, SubmitError> {
        let gated = std::mem::take(&mut self.served.lock().gated);
        gated.into_iter().for_each(|blob| self.node.gate(blob));
        let outputs = self.node.step(input)?;
        let (mut accepted, mut own, mut head) = (Vec::new(), None, None);
        for output in &outputs {
            match output {
                Output::Accepted { entry, .. } => {
                    let bytes = entry.entry().encode();
                    self.journal.append(&bytes)?;
                    accepted.push(bytes);
                    match Statement::of(entry, &self.me()) {
                        // A peer sent it.
                        Some(statement) if self.own.insert(statement.entry, statement.window).is_none() => {
                            self.heard(statement)?;
                        }
                        Some(statement) => own = Some(statement),
                        None => {}
                    }
                }
                Output::Closed { record, window } => head = Some(Head { window: *window, record: *record }),
                _ => {}
            }
        }
        self.remember(|memory| {
            memory.signed = own.or(memory.signed.take());
            memory.head = head.or(memory.head);
        })?;
        // Peers see nothing that is not on the disk.
        accepted.into_iter().for_each(|bytes| self.log.push(bytes.into()));
        if let Some(head) = head {
            self.close(head.record.hash());
        }
        self.write_down();
        Ok(outputs)
    }

    /// Notes that the entries so far have closed a window with this record.
    fn close(&mut self, record: Hash) {
        let row = WindowRow { record, end: self.journal.mark() };
        self.log.close(row);
        self.past.closed(&mut self.node);
        let first = self.node.remembers_from();
        self.own.retain(|_, window| *window >= first);
        // Both follow from the journal. If they cannot be written, the next start takes longer.
        let _ = self.rows.push(&row);
        let _ = self.past.write();
    }

    /// Signs nothing more, or adopts it: a statement with this node's key that is not in the journal.
    fn heard(&mut self, statement: Statement) -> Result<Heard, HomeError> {
        self.remember(|memory| memory.hear(statement))
    }

    /// Takes an entry that this node has signed itself. Nobody hears of it if this node must not sign now.
    fn submit_own(&mut self, entry: Entry) -> Result<Vec<Output>, SubmitError> {
        let (id, open) = (entry.id(), self.node().state().window());
        self.memory.may_sign_entry(open, &id)?;
        let is_new = self.own.insert(id, open).is_none();
        self.submit(Input::Entry(entry)).inspect_err(|_| {
            if is_new {
                self.own.remove(&id);
            }
        })
    }

    /// Looks for a statement with this node's key that its journal does not have, in any entry of a peer. A hash-chain
    /// value shows only once the rules accept it that it is on this node's chain; [`Replica::submit`] looks at it then.
    fn listen(&mut self, entry: &Entry) -> Result<(), HomeError> {
        let me = self.me();
        let names_me = entry.payloads().iter().any(|(_, signer)| *signer == Some(me));
        // Peers send this node's own entries back again and again, so their signatures are not checked anew.
        if names_me
            && !self.own.contains_key(&entry.id())
            && let Some(statement) = Statement::signed_by(&me, &self.context.run, entry)
            // Of earlier windows this node does not know what it has signed.
            && statement.window >= self.node.remembers_from()
        {
            self.heard(statement)?;
        }
        Ok(())
    }

    /// Takes an entry from a peer. An honest peer passes on only entries that it has accepted itself.
    ///
    /// # Errors
    /// The journal cannot be written. An invalid entry is no error but a result.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Taken, SubmitError> {
        let entry = match Entry::decode(bytes) {
            Ok(entry) => entry,
            Err(error) => return Ok(Taken::Faulty(error.to_string())),
        };
        self.listen(&entry)?;
        match self.submit(Input::Entry(entry)) {
            Ok(outputs) => Ok(Taken::In(outputs)),
            // These reasons depend on the order of arrival, such as which of a cheat's two statements came
            // first. A cheat must not be able to make honest nodes blame each other.
            Err(SubmitError::Reject(
                Reject::Over
                | Reject::NotInCut(_)
                | Reject::AfterSet(_)
                | Reject::Wrong(_)
                | Reject::Shown(_)
                | Reject::Registration(RegistrationError::AfterCut(_)),
            )) => Ok(Taken::OutOfTime),
            // A third statement, or a second registration, counts once other entries refer to it.
            Err(SubmitError::Reject(
                Reject::Early { .. } | Reject::TooMany { .. } | Reject::Registration(RegistrationError::Second(_)),
            )) => Ok(Taken::TooEarly),
            Err(SubmitError::Reject(reject)) => Ok(Taken::Faulty(chain(&reject))),
            Err(error) => Err(error),
        }
    }

    /// Signs a document and takes it as this node's own entry.
    pub fn sign(&mut self, document: Unsigned) -> Result<Vec<Output>, SubmitError> {
        let entry = document.sign(&self.key);
        self.submit_own(entry)
    }

    /// Signs this node's contribution.
    pub fn contribute(&mut self, contribution: Contribution) -> Result<Vec<Output>, SubmitError> {
        let envelope = Signed::sign(contribution, &self.key).envelope();
        self.submit_own(Entry::Envelope(envelope))
    }

    /// Submits an application for a slot in the open window.
    pub fn register(&mut self, application: &Application) -> Result<Vec<Output>, SubmitError> {
        let registration = application.registration(self.node().state().window());
        let envelope = Signed::sign(registration, &self.key).envelope();
        self.submit_own(Entry::Envelope(envelope))
    }

    /// Hands in evidence of a contradiction, for the validators of the open window to show.
    pub fn show(&mut self, contradiction: Contradiction) -> Result<Vec<Output>, SubmitError> {
        let (run, window) = (self.context.run, self.node().state().window());
        self.submit(Input::Entry(Entry::Evidence(Box::new(EvidenceEntry { run, window, contradiction }))))
    }

    /// Reveals this validator's value of its hash chain for the open window.
    pub fn reveal(&mut self) -> Result<Vec<Output>, SubmitError> {
        let (run, window) = (self.context.run, self.node().state().window());
        let anchor = self.context.genesis.validator(&self.me()).map(|spec| spec.chain_anchor).unwrap_or_default();
        let chain = self.chain.as_ref().ok_or(SubmitError::NoChain(anchor))?;
        let value = chain.value(window).ok_or(SubmitError::ChainEnds(window.0))?;
        self.submit_own(Entry::Reveal(RevealEntry { run, window, validator: self.me(), value }))
    }
}
