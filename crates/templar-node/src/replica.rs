//! A run as one node follows and writes it: the protocol's node, its journal, and the log that peers read.
//!
//! What the protocol accepts is in the journal before anybody else sees it, this node's own votes included.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use templar_audit::chain;
use templar_manifest::chain::Chain;
use templar_manifest::{Contradiction, Contribution, Hash, PublicKey, SecretKey, Signed};
use templar_net::{Log, PeerId, ServePolicy};
use templar_protocol::{Entry, EvidenceEntry, Input, Node, Output, RegistrationError, Reject, RevealEntry, Unsigned};
use tokio::sync::watch;

use crate::context::{RunContext, RunError};
use crate::home::Home;
use crate::journal::{Journal, JournalError};
use crate::registration::Application;

/// Why an input was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The rules refuse it; nothing changed.
    #[error("the rules refuse it")]
    Reject(#[from] Reject),
    /// It could not be kept, so nobody may hear of it. The node must stop.
    #[error("the journal cannot be written")]
    Journal(#[from] JournalError),
    /// The validator's hash chain has no value for this window.
    #[error("the hash chain of this key ends before window {0}")]
    ChainEnds(u64),
}

/// Why a replica cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// What an entry from a peer came to.
#[derive(Debug)]
pub enum Taken {
    /// It is valid, or was known already.
    In(Vec<Output>),
    /// An honest peer may have accepted it before it heard what this node knows. It is of no use any more.
    OutOfTime,
    /// It is of no use yet, and may be wanted when this node has heard more: the peer's log is to be read again.
    TooEarly,
    /// No honest peer accepts it, for this reason.
    Faulty(String),
}

/// The entries of a run in the order in which this node accepted them: what peers pull. Its milestones are the records of
/// closed windows.
#[derive(Debug)]
pub struct EntryLog {
    run: Hash,
    kept: Mutex<Kept>,
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: Vec<Bytes>,
    /// The records of closed windows, in order.
    records: Vec<Hash>,
    /// The number of the last entry when a window closed, by its record.
    closed_at: BTreeMap<Hash, u64>,
}

impl Kept {
    fn close(&mut self, record: Hash) {
        self.closed_at.insert(record, self.entries.len() as u64);
        self.records.push(record);
    }
}

/// Locks. Whoever panics while it holds one of this crate's locks leaves what it guards whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EntryLog {
    fn push(&self, entry: Bytes) {
        let mut kept = lock(&self.kept);
        kept.entries.push(entry);
        self.last.send_replace(kept.entries.len() as u64);
    }
}

impl Log for EntryLog {
    fn run(&self) -> Hash {
        self.run
    }

    fn after(&self, seq: u64, max_entries: usize, max_bytes: usize) -> Vec<(u64, Bytes)> {
        let entries = &lock(&self.kept).entries;
        let start = usize::try_from(seq).unwrap_or(usize::MAX).min(entries.len());
        let mut bytes = 0usize;
        let mut batch = Vec::new();
        for (index, entry) in entries.iter().enumerate().skip(start).take(max_entries) {
            bytes = bytes.saturating_add(entry.len());
            if bytes > max_bytes && !batch.is_empty() {
                break;
            }
            batch.push((index as u64 + 1, entry.clone()));
        }
        batch
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    fn milestones(&self, max: usize) -> Vec<Hash> {
        let kept = lock(&self.kept);
        sparser(kept.records.len()).take(max).map(|index| kept.records[index]).collect()
    }

    fn reached(&self, milestone: &Hash) -> Option<u64> {
        lock(&self.kept).closed_at.get(milestone).copied()
    }
}

/// Indices of the last of `count` things, and of earlier ones: eight one after the other, then at twice the distance each
/// time, so that two histories that differ are found to agree somewhere near where they part.
fn sparser(count: usize) -> impl Iterator<Item = usize> {
    let distances = (0..8).chain((3..usize::BITS - 1).map(|power| 1 << power));
    distances.map_while(move |distance: usize| count.checked_sub(distance + 1))
}

/// Serves what the protocol allows: not this node's own delta, trace and state before a certified cut names them.
#[derive(Debug, Clone)]
pub struct AfterTheCut(Arc<Mutex<Node>>);

impl AfterTheCut {
    /// Keeps these blobs of this node's own from being served until a certified cut names them.
    pub fn gate(&self, blobs: impl IntoIterator<Item = Hash>) {
        let mut node = lock(&self.0);
        blobs.into_iter().for_each(|blob| node.gate(blob));
    }
}

impl ServePolicy for AfterTheCut {
    fn may_serve(&self, blob: &Hash, _to: &PeerId) -> bool {
        lock(&self.0).may_serve(blob)
    }
}

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Entries of its journal.
    pub(crate) entries: u64,
    /// The open window.
    pub(crate) window: u64,
    /// Closed windows.
    pub(crate) closed: u64,
}

/// A run that this process follows and may write.
#[derive(Debug)]
pub struct Replica {
    /// What does not change.
    pub context: RunContext,
    key: SecretKey,
    chain: Chain,
    node: Arc<Mutex<Node>>,
    journal: Journal,
    log: Arc<EntryLog>,
}

impl Replica {
    /// Opens the run of `context` in `home`, whose lock the caller holds, acting with `key`.
    pub fn open(home: &Home, context: RunContext, key: SecretKey) -> Result<Self, ReplicaError> {
        let (journal, records) = Journal::open(&home.run_dir(&context.run))?;
        let mut kept = Kept::default();
        let node = context.fold_and_watch(Some(key.public()), &records, |index, outputs| {
            kept.entries.push(Bytes::copy_from_slice(&records[index]));
            for output in outputs {
                if let Output::Closed { record, .. } = output {
                    kept.close(record.hash());
                }
            }
        })?;
        let last = watch::Sender::new(records.len() as u64);
        let log = Arc::new(EntryLog { run: context.run.hash(), kept: Mutex::new(kept), last });
        let chain = Chain::new(&key, &context.genesis.name);
        Ok(Self { context, key, chain, node: Arc::new(Mutex::new(node)), journal, log })
    }

    /// This node's public key.
    pub fn me(&self) -> PublicKey {
        self.key.public()
    }

    /// Entries accepted so far.
    pub fn entries(&self) -> usize {
        lock(&self.log.kept).entries.len()
    }

    /// How far this node is, as often as it is asked.
    pub(crate) fn standing(&self) -> impl Fn() -> Standing + Send + Sync + use<> {
        let (node, log) = (self.node.clone(), self.log.clone());
        move || {
            let (window, closed) = {
                let node = lock(&node);
                (node.state().window().0, node.closed().len() as u64)
            };
            Standing { entries: *log.last.borrow(), window, closed }
        }
    }

    /// What peers pull.
    pub fn log(&self) -> Arc<EntryLog> {
        self.log.clone()
    }

    /// What peers may have.
    pub fn policy(&self) -> AfterTheCut {
        AfterTheCut(self.node.clone())
    }

    /// The protocol's node as it is now.
    pub fn node(&self) -> MutexGuard<'_, Node> {
        lock(&self.node)
    }

    /// Takes an input. Entries that it makes valid are in the journal when this returns.
    pub fn submit(&mut self, input: Input) -> Result<Vec<Output>, SubmitError> {
        let outputs = lock(&self.node).step(input)?;
        for output in &outputs {
            match output {
                Output::Accepted { entry, .. } => {
                    let bytes = entry.entry().encode();
                    self.journal.append(&bytes)?;
                    self.log.push(bytes.into());
                }
                Output::Closed { record, .. } => lock(&self.log.kept).close(record.hash()),
                _ => {}
            }
        }
        Ok(outputs)
    }

    /// Takes an entry from a peer, which passes on what it accepted itself.
    ///
    /// # Errors
    /// Only where the entry cannot be kept.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Taken, SubmitError> {
        let entry = match Entry::decode(bytes) {
            Ok(entry) => entry,
            Err(error) => return Ok(Taken::Faulty(error.to_string())),
        };
        match self.submit(Input::Entry(entry)) {
            Ok(outputs) => Ok(Taken::In(outputs)),
            // Which contribution came before the cut, and which of a cheat's statements came first, depends on the order of
            // arrival: whoever makes them must not set honest nodes against each other.
            Err(SubmitError::Reject(
                Reject::Over
                | Reject::NotInCut(_)
                | Reject::Wrong(_)
                | Reject::Shown(_)
                | Reject::Registration(RegistrationError::AfterCut(_)),
            )) => Ok(Taken::OutOfTime),
            // A third statement, or a second registration, counts once others build on it.
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
        self.submit(Input::Entry(entry))
    }

    /// Signs this node's contribution.
    pub fn contribute(&mut self, contribution: Contribution) -> Result<Vec<Output>, SubmitError> {
        let envelope = Signed::sign(contribution, &self.key).envelope();
        self.submit(Input::Entry(Entry::Envelope(envelope)))
    }

    /// Shows an application for a slot in the open window.
    pub fn register(&mut self, application: &Application) -> Result<Vec<Output>, SubmitError> {
        let registration = application.registration(self.node().state().window());
        let envelope = Signed::sign(registration, &self.key).envelope();
        self.submit(Input::Entry(Entry::Envelope(envelope)))
    }

    /// Hands in evidence, for the validators of the open window to show.
    pub fn show(&mut self, contradiction: Contradiction) -> Result<Vec<Output>, SubmitError> {
        let (run, window) = (self.context.run, self.node().state().window());
        self.submit(Input::Entry(Entry::Evidence(Box::new(EvidenceEntry { run, window, contradiction }))))
    }

    /// Releases this validator's hash-chain value of the open window.
    pub fn reveal(&mut self) -> Result<Vec<Output>, SubmitError> {
        let (run, window) = (self.context.run, self.node().state().window());
        let value = self.chain.value(window).ok_or(SubmitError::ChainEnds(window.0))?;
        self.submit(Input::Entry(Entry::Reveal(RevealEntry { run, window, validator: self.me(), value })))
    }
}

#[cfg(test)]
mod tests {
    use super::sparser;

    #[test]
    fn milestones_are_dense_at_the_end_and_reach_far() {
        assert_eq!(sparser(0).count(), 0);
        assert_eq!(sparser(3).collect::<Vec<_>>(), [2, 1, 0]);
        assert_eq!(sparser(100).collect::<Vec<_>>(), [99, 98, 97, 96, 95, 94, 93, 92, 91, 83, 67, 35]);
        assert!(sparser(1 << 24).count() <= 32);
    }
}
