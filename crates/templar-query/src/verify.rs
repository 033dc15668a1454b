//! A check of everything in a home: the hash of every blob, the signature of every entry, every link.
//!
//! The answer has the words of an audit. Data that this home has lost is `unavailable: damaged here`. A `mismatch` is
//! data that is whole and breaks the rules, so it says something about its maker.

use std::collections::BTreeSet;

use serde::Serialize;
use templar_blob::ReadError;
use templar_home::access::Access;
use templar_home::context::RunContext;
use templar_home::journal::JournalError;
use templar_manifest::{AuditVerdict, Hash, RunId};

use crate::audit::findings::VerdictView;
use crate::error::{QueryError, error_line};
use crate::index::HomeIndex;
use crate::own::{self, DAMAGED, OwnJournal, damaged, mismatch};

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
    /// The faults, one sentence each. Those that begin with `damaged here` are this home's own.
    pub faults: Vec<String>,
    /// The blobs that are damaged here.
    pub damaged: BTreeSet<Hash>,
    /// The first fault that is not this home's own.
    #[serde(skip)]
    mismatch: Option<String>,
}

impl HomeCheck {
    /// Checks a home. Beside a running node, only the blobs that manifests name are hashed.
    ///
    /// # Errors
    /// The home or its store cannot be read. Missing and damaged data are faults, not errors.
    pub fn run(access: &Access) -> Result<Self, QueryError> {
        let mut check = Self::default();
        for run in access.home.runs()? {
            check.files(access, run)?;
        }
        // A damaged journal is among the faults already. Without it there is no index of the objects that it names.
        let index = match HomeIndex::build(access, None) {
            Ok(index) => index,
            Err(QueryError::Journal(JournalError::Damaged { .. })) => HomeIndex::default(),
            Err(error) => return Err(error),
        };
        check.blobs(access, &index)?;
        check.manifests(access, &index);
        Ok(check)
    }

    /// Whether no fault was found.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// The worst of all verdicts, with its first reason.
    pub fn answer(&self) -> VerdictView {
        match (self.mismatch.clone(), self.faults.first()) {
            (Some(what), _) => AuditVerdict::Mismatch { what },
            (None, Some(what)) => AuditVerdict::Unavailable { what: what.clone() },
            (None, None) => AuditVerdict::Match,
        }
        .into()
    }

    /// Notes a fault in `place`. A match is none.
    fn take(&mut self, place: impl std::fmt::Display, verdict: AuditVerdict) {
        match verdict {
            AuditVerdict::Match => {}
            AuditVerdict::Unavailable { what } => {
                let what = what.strip_prefix(DAMAGED).unwrap_or(&what);
                self.faults.push(format!("{DAMAGED}{place}: {what}"));
            }
            AuditVerdict::Mismatch { what } => {
                let fault = format!("{place}: {what}");
                self.mismatch.get_or_insert_with(|| fault.clone());
                self.faults.push(fault);
            }
        }
    }

    /// Checks the journal of a run by the rules: signatures, links and certificates. A run that does not open is a
    /// fault.
    fn files(&mut self, access: &Access, run: RunId) -> Result<(), QueryError> {
        let place = format!("run {}", run.short());
        let context = match RunContext::open(&access.home, access.blobs(), run) {
            Ok(context) => context,
            Err(error) => {
                let Some(verdict) = own::unopened(&error) else { return Err(error.into()) };
                self.take(place, verdict);
                return Ok(());
            }
        };
        let journal = OwnJournal::read(access, &context)?;
        self.entries += journal.entries;
        self.take(&place, journal.verdict);
        if let Some(verdict) = journal.node.and_then(|node| own::forgotten(access, run, &node)) {
            self.take(place, verdict);
        }
        Ok(())
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
            for id in &report.corrupt {
                self.lost(index, id, "corrupt on the disk");
            }
            for id in &report.torn {
                self.lost(index, id, "found corrupt before, and still incomplete");
            }
            return Ok(());
        }
        for id in index.objects().keys() {
            match access.blobs().read(id, u64::MAX) {
                Ok(read) => {
                    self.blobs += 1;
                    self.bytes += read.len() as u64;
                }
                Err(ReadError::NotFound { .. }) => {}
                Err(error) => self.lost(index, id, &error_line(&error)),
            }
        }
        Ok(())
    }

    /// Notes a blob that this home has lost.
    fn lost(&mut self, index: &HomeIndex, id: &Hash, why: &str) {
        self.damaged.insert(*id);
        self.take(index.describe(id), damaged(why));
    }

    /// Notes the manifests that do not decode, and those that are whole and yet cannot be read. Damaged ones are among
    /// the faults already.
    fn manifests(&mut self, access: &Access, index: &HomeIndex) {
        let known = self.damaged.clone();
        for fault in index.faults.iter().filter(|fault| !known.contains(&fault.id)) {
            let verdict = match access.verify(&fault.id) {
                Err(error) if error.is_damage() => damaged(&fault.what),
                _ => mismatch(&fault.what),
            };
            self.take(fault.id, verdict);
        }
    }
}
