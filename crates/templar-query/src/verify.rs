//! A check of everything in a home: the hash of every blob, the signature of every entry, every link.

use serde::Serialize;
use templar_blob::ReadError;
use templar_home::access::Access;
use templar_home::context::{RunContext, RunError};
use templar_home::journal::{Journal, JournalError};
use templar_manifest::RunId;
use templar_train::tensors::LoadError;

use crate::error::{QueryError, error_line};
use crate::index::HomeIndex;
use crate::refold::refold;

/// The result of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HomeCheck {
    /// The number of blobs that were hashed.
    pub blobs: u64,
    /// Their length in bytes.
    pub bytes: u64,
    /// The number of journal entries that were checked.
    pub entries: usize,
    /// The number of objects that manifests name and that are not here. This is no fault: few homes keep everything.
    pub missing: u64,
    /// The faults, one sentence each.
    pub faults: Vec<String>,
}

impl HomeCheck {
    /// Checks a home. Beside a running node, only the blobs that manifests name are hashed.
    ///
    /// # Errors
    /// The home or its store cannot be read. Missing and damaged data are faults, not errors.
    pub fn run(access: &Access) -> Result<Self, QueryError> {
        let mut check = Self::default();
        for run in access.home.runs()? {
            match journal(access, run) {
                Ok((entries, None)) => check.entries += entries,
                Ok((_, Some(fault))) => check.faults.push(format!("run {}: {fault}", run.short())),
                Err(error) if is_about_data(&error) => {
                    check.faults.push(format!("run {}: {}", run.short(), error_line(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        // A damaged journal is among the faults already. Without it there is no index of the objects that it names.
        let index = match HomeIndex::build(access, None) {
            Ok(index) => index,
            Err(error) if is_damaged_journal(&error) => HomeIndex::default(),
            Err(error) => return Err(error),
        };
        check.faults.extend(index.faults.iter().map(|fault| format!("{}: {}", fault.id, fault.what)));
        check.blobs(access, &index)?;
        Ok(check)
    }

    /// Whether no fault was found.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// Hashes every blob, and counts the missing ones.
    fn blobs(&mut self, access: &Access, index: &HomeIndex) -> Result<(), QueryError> {
        for (id, object) in index.objects() {
            // Contributions, cuts, scores and records are in the journal, and zero states are kept nowhere.
            if object.payload.is_none() && !index.zero_states.contains(id) && !access.blobs().contains(id) {
                self.missing += 1;
            }
        }
        if let Some(store) = access.store_to_read() {
            let report = access.runtime().block_on(store.scrub(|_| ()))?;
            (self.blobs, self.bytes) = (report.checked, report.checked_bytes);
            let corrupt = report.corrupt.iter().map(|id| format!("{} is corrupt on the disk", index.describe(id)));
            self.faults.extend(corrupt);
            let torn = report.torn.iter();
            self.faults.extend(
                torn.map(|id| format!("{} was found corrupt before and is still incomplete", index.describe(id))),
            );
            return Ok(());
        }
        for id in index.objects().keys() {
            match access.blobs().read(id, u64::MAX) {
                Ok(read) => {
                    self.blobs += 1;
                    self.bytes += read.len() as u64;
                }
                Err(ReadError::NotFound { .. }) => {}
                Err(error) => self.faults.push(error_line(&error)),
            }
        }
        Ok(())
    }
}

/// Checks the entries of a run by the rules: signatures, links and certificates. Gives their number and the
/// first fault.
fn journal(access: &Access, run: RunId) -> Result<(usize, Option<String>), QueryError> {
    let records = Journal::read(&access.home.run_dir(&run))?;
    let context = RunContext::open(&access.home, access.blobs(), run)?;
    Ok((records.len(), refold(&context, &records)?.fault))
}

fn is_damaged_journal(error: &QueryError) -> bool {
    matches!(error, QueryError::Journal(JournalError::Damaged { .. }))
}

/// Whether an error says that data is missing or damaged. Other errors say that the machine failed.
fn is_about_data(error: &QueryError) -> bool {
    let read = |error: &ReadError| {
        matches!(
            error,
            ReadError::NotFound { .. }
                | ReadError::Corrupt { .. }
                | ReadError::Torn { .. }
                | ReadError::TooLarge { .. }
        )
    };
    match error {
        QueryError::Run(RunError::Read { source, .. } | RunError::Load(LoadError::Read { source, .. })) => read(source),
        QueryError::Run(
            RunError::Unknown(_)
            | RunError::None
            | RunError::Decode { .. }
            | RunError::Journal { .. }
            | RunError::Start { .. }
            | RunError::Load(_),
        ) => true,
        error => is_damaged_journal(error),
    }
}
