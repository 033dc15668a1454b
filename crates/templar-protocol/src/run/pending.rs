//! Closed windows of which verdicts still count, and the challenges that are open on their contributions.

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::{CheckpointId, ContributionId, PublicKey, WindowIndex};

use super::judging::Judging;

/// A closed window of which verdicts still count.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pending {
    pub(super) judging: Judging,
    pub(super) checkpoint: CheckpointId,
    /// The pages of each miner's slot, in training order.
    pub(super) pages: BTreeMap<PublicKey, Vec<u64>>,
    /// Whose contributions were accepted.
    pub(super) accepted: BTreeSet<PublicKey>,
    /// The verdicts that records have counted, by miner and validator.
    pub(super) landed: BTreeSet<(PublicKey, PublicKey)>,
    /// Whose contribution is proven not to be what it says, or was not to be had.
    pub(super) refuted: BTreeSet<PublicKey>,
    /// The challenges that are open.
    pub(super) challenges: BTreeMap<PublicKey, OpenChallenge>,
    /// Whose contribution was ever challenged.
    pub(super) challenged: BTreeSet<PublicKey>,
}

impl Pending {
    /// The contribution of a miner that the cut names.
    pub(super) fn contribution(&self, miner: &PublicKey) -> Option<ContributionId> {
        let cut = &self.judging.cut().contributions;
        cut.binary_search_by_key(miner, |entry| entry.miner).ok().map(|index| cut[index].contribution)
    }
}

/// A challenge that is open: since which record, and who still looks in vain.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OpenChallenge {
    pub(super) since: WindowIndex,
    pub(super) unanswered: BTreeSet<PublicKey>,
}
