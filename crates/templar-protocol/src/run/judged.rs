//! The part of a judging that is needed after its window has closed, for verdicts that come later.

use std::collections::BTreeMap;

use templar_manifest::proof::ProofDraw;
use templar_manifest::{Contribution, ContributionId, CutId, Hash, PublicKey, Reveal, RunId, WindowIndex};

use super::judging::Judging;

/// A contribution of a closed window, as its cut names it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JudgedContribution {
    pub(super) id: ContributionId,
    pub(super) contribution: Contribution,
    /// The validators that were drawn to replay it, in the order of their keys.
    pub(super) replayers: Vec<PublicKey>,
}

/// A window that was judged.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Judged {
    pub(super) run: RunId,
    pub(super) window: WindowIndex,
    pub(super) cut_id: CutId,
    pub(super) seed: Hash,
    pub(super) reveals: Vec<Reveal>,
    pub(super) contributions: BTreeMap<PublicKey, JudgedContribution>,
}

impl Judged {
    /// The part of a judging that its window leaves.
    pub(super) fn of(judging: &Judging) -> Self {
        let contribution = |(miner, contribution): (&PublicKey, &Contribution)| {
            let id = judging.contribution(miner)?;
            let replayers = judging.replayers().get(miner).cloned().unwrap_or_default();
            Some((*miner, JudgedContribution { id, contribution: contribution.clone(), replayers }))
        };
        Self {
            run: judging.cut().run,
            window: judging.window(),
            cut_id: judging.cut_id(),
            seed: judging.seed(),
            reveals: judging.reveals().to_vec(),
            contributions: judging.contributions().iter().filter_map(contribution).collect(),
        }
    }

    /// The validators that were drawn to replay a miner's contribution, in the order of their keys.
    pub(super) fn replayers_of(&self, miner: &PublicKey) -> &[PublicKey] {
        self.contributions.get(miner).map_or(&[], |judged| &judged.replayers)
    }

    /// Whether a validator was drawn to replay a miner's contribution.
    pub(super) fn is_drawn(&self, miner: &PublicKey, validator: &PublicKey) -> bool {
        self.replayers_of(miner).binary_search(validator).is_ok()
    }

    /// The step and tensor with which each validator that was drawn for a contribution proves its replay, in the order
    /// of the validators' keys.
    pub(super) fn proof_draws(&self, judged: &JudgedContribution) -> Vec<ProofDraw> {
        let draw = |validator: &PublicKey| {
            let place = self.reveals.binary_search_by_key(validator, |reveal| reveal.validator).ok()?;
            Some(ProofDraw::new(&self.run, &self.seed, validator, &self.reveals[place].value, &judged.id))
        };
        judged.replayers.iter().filter_map(draw).collect()
    }
}
