//! The draw of evaluations: which validators try a contribution's delta on which pages.
//!
//! A loss on given pages is a fact, like the result of a replay. So all deltas of a window are tried on the same
//! unassigned pages, and each on pages of its miner that are the same for everybody who tries it. All pages
//! follow from the seed alone. A few validators measure each contribution, and the record repeats their integers.
//!
//! The validators are drawn by the seed in proportion to stake (`by_stake.rs`). All that measure a contribution are
//! faulty with probability below 3^-k, and never if fewer than k validators are faulty.

use std::collections::BTreeMap;

use templar_manifest::{Contribution, Genesis, Hash, PublicKey, Reveal, RunId};

use super::RunState;
use super::by_stake;
use super::draw::{DrawStream, PageDraw};
use super::evaluation_task::{EvaluatedPages, EvaluationTask};
use super::judging::Judging;

const UNASSIGNED_CONTEXT: &str = "templar/1 unassigned pages of a window";
const ASSIGNED_CONTEXT: &str = "templar/1 assigned pages of a contribution";
const EVALUATORS_CONTEXT: &str = "templar/1 evaluators of a contribution";

/// The validators that measure each contribution, in the order of their keys. `miners` are those of the cut.
pub(super) fn evaluators(
    genesis: &Genesis,
    run: &RunId,
    seed: &Hash,
    miners: &[PublicKey],
    reveals: &[Reveal],
) -> BTreeMap<PublicKey, Vec<PublicKey>> {
    let count = genesis.gauntlet.evaluators as usize;
    let run = run.hash();
    let of_miner = |miner: &PublicKey| {
        let parts = [run.as_bytes(), seed.as_bytes(), miner.as_bytes()].map(|part| &part[..]);
        let mut draw = DrawStream::new(EVALUATORS_CONTEXT, &parts);
        (*miner, by_stake::drawn(&genesis.validators, reveals, count, &mut draw))
    };
    miners.iter().filter(|_| count > 0).map(of_miner).collect()
}

impl RunState {
    /// The pages on which these contributions to the open window are tried, by miner.
    pub(super) fn evaluated_pages(
        &self,
        seed: &Hash,
        contributions: &BTreeMap<PublicKey, Contribution>,
    ) -> EvaluatedPages {
        let gauntlet = &self.genesis.gauntlet;
        if !gauntlet.measures() {
            return EvaluatedPages::default();
        }
        // Unassigned pages: ranks are drawn among the pages that nobody trains on, then mapped to page numbers.
        let assignment = self.assignment();
        let mut used: Vec<u64> = assignment.slots().iter().flatten().copied().collect();
        used.sort_unstable();
        let public = [self.run.hash(), *seed];
        let public = public.each_ref().map(|part| &part.as_bytes()[..]);
        let mut draw = DrawStream::new(UNASSIGNED_CONTEXT, &public);
        // The genesis check left at least as many pages over as are drawn here.
        let free = self.pages.pages() - used.len() as u64;
        let ranks = PageDraw::new(free).take(u64::from(gauntlet.unassigned_pages).min(free), &mut draw);
        let mut unassigned: Vec<u64> = ranks.into_iter().map(|rank| unused_page(&used, rank)).collect();
        unassigned.sort_unstable();
        let batch = self.genesis.context_at(self.window.0).batch_sequences;
        // Assigned pages: places are drawn among the pages that the miner's claimed steps have covered.
        let pages_of = |(miner, contribution): (&PublicKey, &Contribution)| {
            let slot = self.members.by_owner(miner).and_then(|member| assignment.slot(member.slot as usize))?;
            let trained = (u64::from(contribution.steps) * u64::from(batch)).min(slot.len() as u64);
            let mut draw = DrawStream::new(ASSIGNED_CONTEXT, &[public[0], public[1], miner.as_bytes()]);
            let places = PageDraw::new(trained).take(u64::from(gauntlet.assigned_pages).min(trained), &mut draw);
            let mut pages: Vec<u64> = places.into_iter().map(|place| slot[place as usize]).collect();
            pages.sort_unstable();
            Some((*miner, pages))
        };
        EvaluatedPages { unassigned, assigned: contributions.iter().filter_map(pages_of).collect() }
    }

    /// The task of measuring a contribution of the open window; `None` where nobody measures it.
    pub fn evaluation_task(&self, judging: &Judging, miner: &PublicKey) -> Option<EvaluationTask> {
        let keys = judging.evaluation_keys(miner);
        if keys.is_empty() {
            return None;
        }
        Some(EvaluationTask {
            window: self.window,
            checkpoint: self.checkpoint,
            contribution: judging.contributions.get(miner)?.clone(),
            id: judging.contribution(miner)?,
            unassigned: judging.pages.unassigned.clone(),
            assigned: judging.pages.assigned.get(miner)?.clone(),
            keys,
        })
    }

    /// The tasks of measuring that are drawn for a validator, in the order of the miners.
    pub(super) fn evaluation_tasks(&self, judging: &Judging, validator: &PublicKey) -> Vec<EvaluationTask> {
        let drawn = judging.evaluators.iter().filter(|(_, drawn)| drawn.binary_search(validator).is_ok());
        drawn.filter_map(|(miner, _)| self.evaluation_task(judging, miner)).collect()
    }
}

/// The page that is preceded by exactly `rank` pages that are not in `used`, which is sorted.
fn unused_page(used: &[u64], rank: u64) -> u64 {
    // Before the i-th used page lie used[i] − i unused ones, a number that never falls.
    let mut low = 0;
    let mut high = used.len();
    while low < high {
        let middle = low + (high - low) / 2;
        if used[middle] - middle as u64 <= rank {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    rank + low as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unused_page_is_found_by_its_rank() {
        let used = [0, 1, 4, 6, 9];
        let unused: Vec<u64> = (0..10).filter(|page| !used.contains(page)).collect();
        for (rank, &page) in unused.iter().enumerate() {
            assert_eq!(unused_page(&used, rank as u64), page);
        }
        assert_eq!(unused_page(&[], 5), 5);
    }
}
