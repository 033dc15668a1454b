//! Checks a run's own files, the journal and what lies beside it, and repairs them.
//!
//! A repair keeps the damaged journal under another name and puts one of the entries into its place that are whole and
//! that the rules accept. Peers send the others again. Entries of this home's own key may be among those that are lost,
//! so the repair also makes the home [silent](crate::memory::Silence) in all windows to which they may belong.

use std::path::{Path, PathBuf};

use serde::Serialize;
use templar_blob::BlobSource;
use templar_manifest::{PublicKey, RunId, WindowIndex};
use templar_protocol::{Entry, Input, Node, Output, Verified};

use crate::context::{RunContext, RunError, StartFault};
use crate::error::HomeError;
use crate::home::Home;
use crate::journal::{Journal, JournalError};
use crate::memory::{Head, Memory, Statement};

/// A fault of a run's own files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunFault {
    /// The run.
    pub run: RunId,
    /// The name of the file in the run's directory.
    pub file: &'static str,
    /// The fault, as a sentence.
    pub problem: String,
    /// Whether the file is whole and says what the rules do not give. Any other fault is damage of this home's own.
    pub differs: bool,
    /// The repair, as a sentence; `None` while it is not repaired.
    pub repaired: Option<String>,
}

/// A run's own files cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// The run's manifests cannot be read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Another file of the run cannot be read or written.
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// Finds the faults of a run's own files. With `repair`, for which the caller holds the home's lock, it repairs them as
/// far as this home can. `is_written`: a node appends to the journal meanwhile, so its last entry may be half there.
///
/// # Errors
/// The genesis of the run cannot be read, or the disk fails. Damaged files are faults, not errors.
pub fn check(
    home: &Home,
    blobs: &dyn BlobSource,
    run: RunId,
    is_written: bool,
    repair: bool,
) -> Result<Vec<RunFault>, MendError> {
    let (context, _) = RunContext::of_genesis(blobs, run)?;
    let dir = home.run_dir(&run);
    let mut check = Check { context, dir, key: home.key().ok().map(|key| key.public()), faults: Vec::new() };
    check.start(home, repair)?;
    let memory = check.memory()?;
    check.journal(memory, is_written, repair)?;
    Ok(check.faults)
}

struct Check {
    context: RunContext,
    dir: PathBuf,
    key: Option<PublicKey>,
    faults: Vec<RunFault>,
}

impl Check {
    fn fault(&mut self, file: &'static str, problem: String, differs: bool, repaired: Option<String>) {
        self.faults.push(RunFault { run: self.context.run, file, problem, differs, repaired });
    }

    /// The file that follows from genesis is made again.
    fn start(&mut self, home: &Home, repair: bool) -> Result<(), MendError> {
        let (problem, differs) = match self.context.start_fault(home)? {
            None => return Ok(()),
            Some(StartFault::Damaged(problem)) => (problem, false),
            Some(StartFault::Differs(problem)) => (problem, true),
        };
        if repair {
            self.context.write_start(home)?;
        }
        self.fault("start.json", problem, differs, repair.then(|| "made again from genesis".to_owned()));
        Ok(())
    }

    /// The memory, or `None` where it is damaged.
    fn memory(&mut self) -> Result<Option<Memory>, MendError> {
        match Memory::read(&self.dir) {
            Ok(memory) => Ok(Some(memory)),
            Err(error @ (HomeError::Damaged { .. } | HomeError::Parse { .. })) => {
                self.fault("memory.json", error.to_string(), false, None);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn journal(&mut self, memory: Option<Memory>, is_written: bool, repair: bool) -> Result<(), MendError> {
        let mut differs = false;
        let (problem, is_damaged, mut folded) = match Journal::look(&self.dir) {
            Ok(found) => {
                let folded = self.fold(&found.records)?;
                differs = folded.refused.is_some();
                let torn = found.torn_bytes;
                let torn = (torn > 0 && !is_written)
                    .then(|| format!("the last {torn} bytes of the journal are no whole entry"));
                (folded.refused.clone().or_else(|| folded.twice.clone()).or(torn), differs, folded)
            }
            Err(error @ JournalError::Damaged { .. }) => {
                let folded = self.fold(&Journal::salvage(&self.dir)?)?;
                (Some(error.to_string()), true, folded)
            }
            Err(error) => return Err(error.into()),
        };
        // An entry of this home's own may be lost. A torn end is no such loss where the memory names the last one.
        let forgets = is_damaged || memory.as_ref().is_none_or(|memory| problem.is_some() && memory.signed.is_none());
        if forgets {
            // A lost entry may belong to any window up to the one that is open now.
            folded.may_have_lost(folded.node.state().window());
        }
        let head = memory.as_ref().and_then(|memory| memory.head?.problem(&folded.node));
        if repair && (problem.is_some() || memory.is_none()) {
            // Before the journal, so that no crash leaves this home ready to say what it has said already.
            self.remember(memory.unwrap_or_default(), &folded)?;
        }
        if let Some(problem) = problem {
            let repaired = if repair { Some(self.replace(&folded.accepted)?) } else { None };
            self.fault("journal", problem, differs, repaired);
        }
        if let Some(problem) = head {
            // Only peers have what is missing.
            self.fault("journal", problem, false, None);
        }
        Ok(())
    }

    /// Writes the memory for a journal that is repaired.
    fn remember(&mut self, mut memory: Memory, folded: &Folded) -> Result<(), MendError> {
        if let Some(lost) = folded.lost {
            memory.forget_through(lost);
        }
        memory.head = memory.head.or_else(|| Head::of(&folded.node));
        memory.write(&self.dir)?;
        for fault in self.faults.iter_mut().filter(|fault| fault.file == "memory.json") {
            fault.repaired = Some("made again from the journal".to_owned());
        }
        Ok(())
    }

    /// Puts a journal of these entries into the place of the damaged one. Returns what was done, as a sentence.
    fn replace(&self, entries: &[Vec<u8>]) -> Result<String, MendError> {
        let kept = Journal::replace(&self.dir, entries)?;
        let name = kept.as_deref().and_then(Path::file_name).unwrap_or_default();
        Ok(format!("{} entries are kept; the damaged file is now {}", entries.len(), name.to_string_lossy()))
    }

    /// Hands records to the rules, one after the other, and keeps the entries that they accept.
    fn fold(&self, records: &[Vec<u8>]) -> Result<Folded, RunError> {
        let node = Node::new(self.context.first_state()?, None);
        let mut folded = Folded { node, accepted: Vec::new(), refused: None, twice: None, lost: None };
        for index in 0..records.len() {
            folded.take(records, index, self.key.as_ref());
        }
        Ok(folded)
    }
}

/// The entries of a journal that the rules accept.
struct Folded {
    node: Node,
    accepted: Vec<Vec<u8>>,
    /// The first entry that they refuse, as a sentence.
    refused: Option<String>,
    /// The first entry that is a copy of an earlier one, as a sentence. No entry is lost with it.
    twice: Option<String>,
    /// The last window in which the home may have said something that is not among the accepted entries.
    lost: Option<WindowIndex>,
}

impl Folded {
    fn may_have_lost(&mut self, window: WindowIndex) {
        self.lost = self.lost.max(Some(window));
    }

    fn take(&mut self, records: &[Vec<u8>], index: usize, key: Option<&PublicKey>) {
        let record = &records[index];
        let outputs = Entry::decode(record)
            .map_err(|error| error.to_string())
            .and_then(|entry| self.node.take(Input::Entry(entry)).map_err(|error| error.to_string()));
        let mut problem = outputs.as_ref().err().cloned();
        let before = self.accepted.len();
        for output in outputs.iter().flatten() {
            if let Output::Accepted { entry, .. } = output {
                self.accepted.push(entry.entry().encode());
            }
        }
        if problem.is_none() && self.accepted.len() == before {
            problem = Some("it does not follow from those before it".to_owned());
        }
        let Some(problem) = problem else { return };
        if records[..index].contains(record) {
            self.twice.get_or_insert_with(|| format!("entry {index} of the journal is a copy of an earlier one"));
            return;
        }
        self.refused.get_or_insert_with(|| format!("entry {index} of the journal is refused: {problem}"));
        let statement = Entry::decode(record).ok().and_then(|entry| Verified::open(entry).ok());
        if let Some(own) = statement.and_then(|entry| Statement::of(&entry, key?)) {
            self.may_have_lost(own.window);
        }
    }
}
