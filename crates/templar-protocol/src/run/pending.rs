//! Closed windows for which verdicts still count, and the open challenges on their contributions.

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::{CheckpointId, ContributionId, PublicKey, WindowIndex};

use super::judged::Judged;

/// A closed window for which verdicts still count.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pending {
    pub(super) judged: Judged,
    pub(super) checkpoint: CheckpointId,
    /// The pages of each miner in that window, in training order.
    pub(super) pages: BTreeMap<PublicKey, Vec<u64>>,
    /// The miners whose contributions were accepted.
    pub(super) accepted: BTreeSet<PublicKey>,
    /// The miners and validators whose verdicts records have counted.
    pub(super) landed: BTreeSet<(PublicKey, PublicKey)>,
    /// The miners whose contribution is refuted by a replay, or who did not answer a challenge.
    pub(super) refuted: BTreeSet<PublicKey>,
    /// The open challenges, by miner.
    pub(super) challenges: BTreeMap<PublicKey, OpenChallenge>,
    /// The miners whose contribution was ever challenged.
    pub(super) challenged: BTreeSet<PublicKey>,
}

impl Pending {
    /// The id of a miner's contribution, if the cut names one.
    pub(super) fn contribution(&self, miner: &PublicKey) -> Option<ContributionId> {
        self.judged.contributions.get(miner).map(|judged| judged.id)
    }
}

/// An open challenge: the window whose record listed it first, and the validators that still cannot fetch the bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OpenChallenge {
    pub(super) since: WindowIndex,
    pub(super) unanswered: BTreeSet<PublicKey>,
}
