//! Results of checks on an entry, shared by all nodes of a process that are at the same state.

use std::sync::OnceLock;

use templar_manifest::{CutId, Hash, RecordId, RunId};

use crate::run::{Judging, RunState};

/// The result of checking an entry, for other nodes of the process at the same place. Equal records make equal
/// states, so the result holds for them too.
#[derive(Debug, Default)]
pub(super) struct Sound {
    place: OnceLock<Place>,
}

impl Sound {
    pub(super) fn is_sound(&self, place: Place) -> bool {
        self.place.get() == Some(&place)
    }

    /// Remembers that the entry was found valid at this place. Only the first place is kept; at others the
    /// entry is checked each time.
    pub(super) fn found_sound(&self, place: Place) {
        let _ = self.place.set(place);
    }
}

/// The place where a score or record was found valid: the run, the record before, the seed, and the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    run: RunId,
    before: Option<RecordId>,
    seed: Hash,
    cut: CutId,
}

impl PartialEq for Sound {
    /// Remembered results are no part of an entry, so any two are equal.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

pub(super) fn place(state: &RunState, judging: &Judging) -> Place {
    Place { run: state.run(), before: state.record(), seed: judging.seed(), cut: judging.cut_id() }
}
