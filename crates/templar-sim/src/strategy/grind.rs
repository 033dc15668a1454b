//! Grinding of the seed: members compute which of the few seeds that they can bring about suits them best.
//!
//! A validator can withhold its hash-chain value, and a miner can send another true delta. Both compute with
//! the entries that they received, and with the values that friends tell each other.

use std::collections::BTreeMap;

use templar_manifest::{Contribution, Cut, Hash, PublicKey, Registration, Reveal};
use templar_protocol::{RunState, replay};

/// How many guesses a miner makes for the values that it does not know.
const GUESSES: u32 = 8;

/// The knowledge of validators that help a miner, when all others have released their values.
pub(crate) struct Grinding<'a> {
    pub(crate) state: &'a RunState,
    pub(crate) cut: &'a Cut,
    pub(crate) contributions: Vec<&'a Contribution>,
    pub(crate) registrations: Vec<&'a Registration>,
    /// The values that others have released.
    pub(crate) others: BTreeMap<PublicKey, Reveal>,
    /// Their own values, which they have told each other.
    pub(crate) own: Vec<Reveal>,
    /// The miner that they help.
    pub(crate) friend: PublicKey,
}

impl Grinding<'_> {
    /// The validators that release their values. All do, unless nobody else would replay their friend's
    /// contribution if some were withheld; then as few as possible are withheld.
    pub(crate) fn released(&self) -> Vec<PublicKey> {
        let count = self.own.len().min(usize::BITS as usize - 1);
        let mut best = None;
        for kept in 0..1usize << count {
            let is_released = |place: &usize| kept >> place & 1 == 0;
            let released: Vec<Reveal> = (0..count).filter(is_released).map(|place| self.own[place]).collect();
            let Some(is_seen) = self.is_seen(&released) else { continue };
            let withheld = count - released.len();
            if best.as_ref().is_none_or(|(known, _)| (is_seen, withheld) < *known) {
                best = Some(((is_seen, withheld), released));
            }
        }
        let released = best.map_or_else(|| self.own.clone(), |(_, released)| released);
        released.into_iter().map(|reveal| reveal.validator).collect()
    }

    /// Whether one of the others would replay their friend's contribution if these values are released; `None`
    /// where the values are too few for a seed.
    fn is_seen(&self, released: &[Reveal]) -> Option<bool> {
        let mut reveals = self.others.clone();
        reveals.extend(released.iter().map(|reveal| (reveal.validator, *reveal)));
        let (contributions, registrations) = (self.contributions.iter().copied(), self.registrations.iter().copied());
        let reveals = reveals.into_values().collect();
        let judging = self.state.judging(self.cut, contributions, registrations, reveals).ok()?;
        let drawn = judging.replayers().get(&self.friend).map_or(&[][..], Vec::as_slice);
        Some(drawn.iter().any(|validator| self.others.contains_key(validator)))
    }
}

/// The knowledge that a miner has of the seed before the cut.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Foresight<'a> {
    /// Contributions of others to the open window.
    pub(crate) heard: &'a [Contribution],
    /// Values that its friends told it, sorted by validator.
    pub(crate) values: &'a [Reveal],
}

impl Foresight<'_> {
    /// The index of that contribution in `own` which the fewest others would replay, estimated with several
    /// guesses of the values that it does not know. Of equally good ones it is the first, and without any known
    /// value always the first.
    pub(crate) fn best(&self, state: &RunState, own: &[Contribution]) -> usize {
        if self.values.is_empty() {
            return 0;
        }
        let seen = |contribution: &Contribution| -> usize {
            (0..GUESSES).map(|guess| self.seen(state, contribution, guess)).sum()
        };
        (0..own.len()).min_by_key(|&index| seen(&own[index])).unwrap_or_default()
    }

    /// How many others replay a contribution, if this guess of their values is right.
    fn seen(&self, state: &RunState, contribution: &Contribution, guess: u32) -> usize {
        let mut all: BTreeMap<PublicKey, &Contribution> = self.heard.iter().map(|heard| (heard.miner, heard)).collect();
        all.insert(contribution.miner, contribution);
        let committed: Vec<_> = all.values().map(|claimed| (claimed.miner, claimed.delta, claimed.state_out)).collect();
        let known = |validator: &PublicKey| self.values.iter().find(|reveal| reveal.validator == *validator).copied();
        let guessed =
            |validator: PublicKey| Reveal { validator, value: Hash::of(format!("{validator} {guess}").as_bytes()) };
        let validators = state.genesis().validators.iter().map(|validator| validator.key);
        let mut reveals: Vec<Reveal> =
            validators.map(|validator| known(&validator).unwrap_or_else(|| guessed(validator))).collect();
        reveals.sort_unstable_by_key(|reveal| reveal.validator);
        let (run, commitment) = (state.run(), state.commitment_of(&committed));
        let drawn = replay::Drawn { run: &run, commitment: &commitment, seed: &state.seed_of(&committed, &reveals) };
        let miners: Vec<PublicKey> = all.into_keys().collect();
        let genesis = state.genesis();
        let replayers = replay::replayers(&genesis.replay, &genesis.validators, &drawn, &miners, &reveals);
        let drawn = replayers.get(&contribution.miner).map_or(&[][..], Vec::as_slice);
        drawn.iter().filter(|validator| known(validator).is_none()).count()
    }
}
