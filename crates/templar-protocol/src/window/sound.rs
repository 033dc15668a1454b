//! Results of checks on an entry, shared by all nodes of a process that are at the same state.

use std::sync::OnceLock;

use templar_manifest::{CutId, Hash, RecordId, RunId};

use crate::run::{Judging, RunState};

/// The result of checking an entry, for other nodes of the process at the same place. Equal records make equal
/// states, so the result holds for them too.
#[derive(Debug, Default)]
pub(super) struct Sound {
    /// The state at which the signer and the size were found right.
    admissible: OnceLock<Before>,
    /// The state at which the rules were kept that need nothing else.
    valid: OnceLock<Before>,
    place: OnceLock<Place>,
}

/// The state before a window: the run, and the record that led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Before {
    run: RunId,
    record: Option<RecordId>,
}

impl Before {
    fn of(state: &RunState) -> Self {
        Self { run: state.run(), record: state.record() }
    }
}

/// Makes a check that follows from an entry and a state alone, unless it has passed at an equal state before. Only the
/// first state is kept, and failures are not.
fn once<E>(at: &OnceLock<Before>, state: &RunState, check: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    let before = Before::of(state);
    if at.get() != Some(&before) {
        check()?;
        let _ = at.set(before);
    }
    Ok(())
}

impl Sound {
    /// Makes the checks of the signer and the size, once for all nodes at this state.
    ///
    /// # Errors
    /// As `check`.
    pub(super) fn admissible<E>(&self, state: &RunState, check: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        once(&self.admissible, state, check)
    }

    /// Makes the checks that follow from the entry and the state before the window, once for all nodes at this state.
    ///
    /// # Errors
    /// As `check`.
    pub(super) fn valid<E>(&self, state: &RunState, check: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        once(&self.valid, state, check)
    }

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
