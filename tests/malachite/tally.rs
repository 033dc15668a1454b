//! A second count of votes, which shares no code with the ballot: what has a majority, and what can have one yet.

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::{Genesis, Hash, PublicKey, VoteStep};

/// Which votes of a validator count that gave two in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counting {
    /// All of them, as in the ballot and in the paper.
    All,
    /// The one that came first, as in Malachite.
    First,
}

/// The votes on one decision in the order in which a validator took them in.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    stakes: BTreeMap<PublicKey, u64>,
    total: u64,
    steps: BTreeMap<(u32, VoteStep), Vec<(PublicKey, Option<Hash>)>>,
}

impl Tally {
    pub(crate) fn new(genesis: &Genesis) -> Self {
        let stakes: BTreeMap<PublicKey, u64> =
            genesis.validators.iter().map(|validator| (validator.key, validator.stake)).collect();
        Self { total: stakes.values().sum(), stakes, steps: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, voter: PublicKey, attempt: u32, step: VoteStep, value: Option<Hash>) {
        self.steps.entry((attempt, step)).or_default().push((voter, value));
    }

    fn stake(&self, voters: &BTreeSet<PublicKey>) -> u64 {
        voters.iter().map(|voter| self.stakes[voter]).sum()
    }

    fn is_quorum(&self, voters: &BTreeSet<PublicKey>) -> bool {
        3 * self.stake(voters) > 2 * self.total
    }

    fn voters(&self, attempt: u32, step: VoteStep) -> BTreeSet<PublicKey> {
        self.steps.get(&(attempt, step)).into_iter().flatten().map(|(voter, _)| *voter).collect()
    }

    fn by_value(&self, attempt: u32, step: VoteStep, counting: Counting) -> BTreeMap<Hash, BTreeSet<PublicKey>> {
        let mut values = BTreeMap::<Hash, BTreeSet<PublicKey>>::new();
        let mut seen = BTreeSet::new();
        for (voter, value) in self.steps.get(&(attempt, step)).into_iter().flatten() {
            if (seen.insert(voter) || counting == Counting::All)
                && let Some(value) = value
            {
                values.entry(*value).or_default().insert(*voter);
            }
        }
        values
    }

    /// The value with a majority, and who voted for it.
    pub(crate) fn winner(
        &self,
        attempt: u32,
        step: VoteStep,
        counting: Counting,
    ) -> Option<(Hash, BTreeSet<PublicKey>)> {
        self.by_value(attempt, step, counting).into_iter().find(|(_, voters)| self.is_quorum(voters))
    }

    /// The value of an attempt's polka.
    pub(crate) fn polka(&self, attempt: u32) -> Option<Hash> {
        self.winner(attempt, VoteStep::Prevote, Counting::All).map(|(value, _)| value)
    }

    /// The newest polka before an attempt: its attempt and value.
    pub(crate) fn newest_polka(&self, before: u32) -> Option<(u32, Hash)> {
        (0..before).rev().find_map(|attempt| self.polka(attempt).map(|value| (attempt, value)))
    }

    /// The newest attempt before another one in which this value has a polka.
    pub(crate) fn polka_of(&self, value: &Hash, before: u32) -> Option<u32> {
        (0..before).rev().find(|attempt| self.polka(*attempt) == Some(*value))
    }

    /// The first attempt in which a value has enough precommits, and that value.
    pub(crate) fn decided(&self) -> Option<(u32, Hash)> {
        let attempts = self.steps.keys().filter(|(_, step)| *step == VoteStep::Precommit).map(|(attempt, _)| *attempt);
        attempts.into_iter().find_map(|attempt| {
            self.winner(attempt, VoteStep::Precommit, Counting::All).map(|(value, _)| (attempt, value))
        })
    }

    /// The majorities that are there only because the second vote of a validator counts as well.
    pub(crate) fn with_second_votes(&self, wanted: VoteStep) -> Vec<(u32, Hash, BTreeSet<PublicKey>)> {
        let attempts = self.steps.keys().filter(|(_, step)| *step == wanted).map(|(attempt, _)| *attempt);
        attempts
            .filter(|attempt| self.winner(*attempt, wanted, Counting::First).is_none())
            .filter_map(|attempt| {
                self.winner(attempt, wanted, Counting::All).map(|(value, voters)| (attempt, value, voters))
            })
            .collect()
    }

    /// Whether more than two thirds have taken a step.
    pub(crate) fn is_full(&self, attempt: u32, step: VoteStep) -> bool {
        self.is_quorum(&self.voters(attempt, step))
    }

    /// Whether no value can have a majority in a step any more, whatever the others say.
    pub(crate) fn is_split(&self, attempt: u32, step: VoteStep) -> bool {
        let voters = self.voters(attempt, step);
        let silent: BTreeSet<PublicKey> = self.stakes.keys().filter(|key| !voters.contains(key)).copied().collect();
        let mut values: Vec<BTreeSet<PublicKey>> = self.by_value(attempt, step, Counting::All).into_values().collect();
        values.push(BTreeSet::new());
        !voters.is_empty()
            && values.into_iter().all(|voters| !self.is_quorum(&voters.union(&silent).copied().collect()))
    }

    /// The latest attempt such that more than a third have voted in it or later.
    pub(crate) fn joined(&self) -> u32 {
        let attempts: BTreeSet<u32> = self.steps.keys().map(|(attempt, _)| *attempt).collect();
        let is_joined = |attempt: &&u32| {
            let later = self.steps.range((**attempt, VoteStep::Prevote)..);
            let voters: BTreeSet<PublicKey> = later.flat_map(|(_, said)| said).map(|(voter, _)| *voter).collect();
            3 * self.stake(&voters) > self.total
        };
        attempts.iter().rev().find(is_joined).copied().unwrap_or(0)
    }

    /// The values that a validator has prevoted in an attempt, ascending.
    pub(crate) fn prevoted(&self, voter: &PublicKey, attempt: u32) -> BTreeSet<Hash> {
        let said = self.steps.get(&(attempt, VoteStep::Prevote)).into_iter().flatten();
        said.filter(|(other, _)| other == voter).filter_map(|(_, value)| *value).collect()
    }
}
