//! The draw of evaluations: which validators try a contribution's delta on which pages.
//!
//! A loss on given pages is a fact, like the result of a replay. So all deltas of a window are tried on the same
//! unassigned pages, and each on pages of its miner that are the same for everybody who tries it. All pages
//! follow from the seed alone. A few validators measure each contribution, and the record repeats their integers.
//!
//! The validators are drawn one after the other, in proportion to stake, without putting anybody back. This
//! ranks all of them, and the first k that have revealed measure the contribution. So one that is absent is
//! replaced by the next in rank. If the faulty validators hold less than a third of the stake, the first place
//! falls to one of them with probability below 1/3, and every further one too, since each faulty one that is
//! drawn leaves less faulty stake behind. So all k are faulty with probability below 3^-k, and never if fewer
//! than k validators are faulty.

use std::collections::BTreeMap;

use templar_manifest::{Contribution, Genesis, Hash, PublicKey, Reveal, RunId};

use super::RunState;
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
    let has_revealed =
        |validator: &PublicKey| reveals.binary_search_by_key(validator, |reveal| reveal.validator).is_ok();
    let of_miner = |miner: &PublicKey| {
        let parts = [run.hash(), *seed];
        let mut draw =
            DrawStream::new(EVALUATORS_CONTEXT, &[parts[0].as_bytes(), parts[1].as_bytes(), miner.as_bytes()]);
        let mut left: Vec<(PublicKey, u64)> =
            genesis.validators.iter().map(|validator| (validator.key, validator.stake)).collect();
        let mut stake = genesis.total_stake();
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count && !left.is_empty() {
            let mut place = draw.below(stake);
            let index = left.iter().position(|(_, stake)| {
                let is_here = place < *stake;
                place = place.wrapping_sub(*stake);
                is_here
            });
            let Some(index) = index else { break };
            let (validator, taken) = left.remove(index);
            stake -= taken;
            if has_revealed(&validator) {
                drawn.push(validator);
            }
        }
        drawn.sort_unstable();
        (*miner, drawn)
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
    use templar_manifest::ValidatorSpec;
    use templar_manifest::testing::GenesisBuilder;

    #[test]
    fn an_unused_page_is_found_by_its_rank() {
        let used = [0, 1, 4, 6, 9];
        let unused: Vec<u64> = (0..10).filter(|page| !used.contains(page)).collect();
        for (rank, &page) in unused.iter().enumerate() {
            assert_eq!(unused_page(&used, rank as u64), page);
        }
        assert_eq!(unused_page(&[], 5), 5);
    }

    fn keys(domain: &str, count: usize) -> Vec<PublicKey> {
        let key = |number| PublicKey::from_bytes(*Hash::of(format!("{domain} {number}").as_bytes()).as_bytes());
        let mut keys: Vec<PublicKey> = (0..count).map(key).collect();
        keys.sort_unstable();
        keys
    }

    /// Draws for 3,000 contributions. The validators have these stakes, and those in `here` revealed.
    fn drawn(stakes: &[u64], count: u32, here: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
        let validators = keys("validator", stakes.len());
        let specs = validators.iter().zip(stakes).map(|(key, stake)| ValidatorSpec {
            key: *key,
            stake: *stake,
            chain_anchor: Hash::default(),
        });
        let genesis =
            GenesisBuilder::tiny("draws").validators(specs).with(|genesis| genesis.gauntlet.evaluators = count).build();
        let revealed = validators.iter().enumerate().filter(|(place, _)| here(*place));
        let reveals: Vec<Reveal> =
            revealed.map(|(_, key)| Reveal { validator: *key, value: Hash::default() }).collect();
        let found = evaluators(&genesis, &Hash::of(b"run").into(), &Hash::of(b"seed"), &keys("miner", 3_000), &reveals);
        let place = |key: &PublicKey| validators.iter().position(|validator| validator == key).unwrap();
        found.values().map(|drawn| drawn.iter().map(place).collect()).collect()
    }

    #[test]
    fn evaluators_are_drawn_by_stake_and_each_once() {
        let found = drawn(&[6, 1, 1, 1, 1], 1, |_| true);
        let often = |place| found.iter().filter(|drawn| drawn.contains(&place)).count();
        // 6 of 10 of 3,000, with a standard deviation of 27; and a tenth, with one of 16.
        assert!((1_690..1_910).contains(&often(0)), "{}", often(0));
        assert!((1..5).all(|place| (235..365).contains(&often(place))));
        for drawn in drawn(&[6, 1, 1, 1, 1], 3, |_| true) {
            assert!(drawn.len() == 3 && drawn.windows(2).all(|pair| pair[0] < pair[1]));
        }
        assert!(drawn(&[1, 1], 5, |_| true).iter().all(|drawn| *drawn == [0, 1]));
        assert!(drawn(&[1, 1], 0, |_| true).is_empty());
    }

    /// Whoever is present keeps its draws, and the places of the absent one go to others.
    #[test]
    fn the_next_in_rank_replaces_one_that_is_absent() {
        let (all, without) = (drawn(&[2, 1, 1, 1], 2, |_| true), drawn(&[2, 1, 1, 1], 2, |place| place != 0));
        let mut replaced = 0;
        for (all, without) in all.iter().zip(&without) {
            assert!(without.len() == 2 && !without.contains(&0));
            assert!(all.iter().all(|place| *place == 0 || without.contains(place)));
            replaced += usize::from(all.contains(&0));
        }
        assert!(replaced > 1_500, "{replaced}");
    }

    #[test]
    fn a_faulty_minority_is_alone_less_often_than_one_in_three_to_the_k() {
        // 3 of 10 are faulty, with 9 of 30 of the stake.
        let found = drawn(&[3; 10], 3, |_| true);
        let alone = found.iter().filter(|drawn| drawn.iter().all(|place| *place < 3)).count();
        // 3·2·1 of 10·9·8 of 3,000 are 25.
        assert!(alone * 27 < 3_000 && alone > 5, "{alone}");
        assert!(drawn(&[3; 10], 4, |_| true).iter().all(|drawn| drawn.iter().any(|place| *place >= 3)));
    }
}
