//! Which blobs a member has. The blobs themselves exist once in a simulation; a member that has not fetched one
//! acts as if it were not there.

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::{ContributionId, PublicKey, StateId, WindowIndex};

/// The blobs that a member has fetched.
#[derive(Debug, Default)]
pub(crate) struct HeldBlobs {
    /// Contributions whose delta and trace the member has, of the open window and of windows that can still get
    /// verdicts.
    pub(crate) contributions: BTreeSet<(WindowIndex, ContributionId)>,
    /// Miners' states that the member has, each with the last window in which it was needed.
    pub(crate) states: BTreeMap<StateId, WindowIndex>,
}

/// The blobs that a validator can use when it judges.
#[derive(Clone, Copy)]
pub(crate) struct Reachable<'a> {
    /// Contributions whose delta and trace it has, by window.
    pub(crate) contributions: &'a BTreeSet<(WindowIndex, ContributionId)>,
    /// Miners whose state before the window it was to replay and could not get.
    pub(crate) stateless: &'a BTreeSet<PublicKey>,
}

impl Reachable<'_> {
    /// Whether the validator has the delta and the trace of a contribution.
    pub(crate) fn has(&self, window: WindowIndex, id: &ContributionId) -> bool {
        self.contributions.contains(&(window, *id))
    }
}
