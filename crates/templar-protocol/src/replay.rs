//! Who replays what.
//!
//! Every validator draws with its own hash-chain value, which it committed to before the run and releases only after the
//! cut: so a miner that commits does not know who will look, and no validator can choose whom it looks at. Where too few draw
//! a contribution, the lowest numbers of those who did not draw it fill up.
//!
//! # Why cheating loses money
//!
//! Somebody who makes up what it should train earns at most r in a window, the whole of the miners' part. A contribution is
//! replayed by an honest validator with probability p or more, s = 1 − p. Pay of a window is free when the K-th window after
//! it closes, all at once and before that record burns; a proven mismatch burns everything that is not free, and so does a
//! challenge that nobody answers, as that of a cheat that withholds what a replay takes. A verdict takes up to T windows, those of
//! a challenge included (0 where it comes before the record), so before pay of window w is free, the verdicts on the cheat's windows w
//! to w + K − T − 1 have come.
//!
//! Window w of a life, which begins at 0, pays out if none of the w before, nor itself, nor the K − T − 1 behind it was seen: with
//! probability s^(w + K − T). All windows of a life together pay out
//!
//! ```text
//! Σ_w r · s^(w + K − T)  =  r · s^(K − T) / p
//! ```
//!
//! A first mismatch may be a faulty machine: it costs the unvested pay and the standing, and the slot lives on. A second one at
//! most X windows later is expulsion. A cheat that goes on cheating is seen again within X windows with probability 1 − s^X, so
//! it has a first life, and then lives until two sightings are near each other: 2 + s^X / (1 − s^X) in the mean. With F
//! for the slot, cheating loses money where
//!
//! ```text
//! F  ≥  (2 + s^X / (1 − s^X)) · r · s^(K − T) / p
//! ```
//!
//! and a genesis that says less is refused
//! ([`least_registration_cost`](templar_manifest::ReplaySpec::least_registration_cost)). Who burns for a slot burns F or more:
//! genesis' lowest price of a burn is checked against it. Who pays with work pays hashes, and no rule knows what a hash is worth: that
//! depends on hardware, electricity and the price of ALPHA, and changes. Whoever writes a genesis with F above 0 sets
//! `registration.hashcash.least` so that so many hashes cost F by its own reckoning; where every contribution is replayed by more
//! than can be faulty, F may be 0 and nothing depends on it. The bound takes no account of what
//! a new standing costs in windows without pay. Where p is 1 it is 0.
//!
//! p is counted against faulty validators, with less than a third of the stake and as many as that can be, who see nothing
//! that they should: each of the honest ones draws by itself, and of the least number of replays all would have to fall to the
//! faulty. An honest validator that is away sees nothing either; the bound does not count that. Who
//! has worked for K windows and then cheats for one loses what has not vested, all of their pay, with probability p.

use std::collections::BTreeMap;

use templar_manifest::proof::{ProofDraw, prove};
use templar_manifest::{
    CheckpointId, Contribution, ContributionId, Hash, LateVerdict, PublicKey, Replay, ReplaySpec, Reveal, RunId,
    WindowIndex,
};

use crate::draw::Draw;

const REPLAY_CONTEXT: &str = "templar/1 replay draw";

/// One contribution to replay, of the open window or of one that is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayTask {
    /// Its window.
    pub window: WindowIndex,
    /// The model that the window started from.
    pub checkpoint: CheckpointId,
    /// The contribution.
    pub contribution: Contribution,
    /// Its id.
    pub id: ContributionId,
    /// The pages of its miner's slot, in training order.
    pub pages: Vec<u64>,
    /// Where each validator that was drawn to replay it proves that it did, in the order of their keys.
    pub draws: Vec<ProofDraw>,
}

impl ReplayTask {
    /// What a validator says of it in a score of a later window. `claims` are those of the draws, in their order, of a match.
    pub fn verdict(&self, validator: &PublicKey, replay: Replay, claims: &[Hash]) -> LateVerdict {
        let proof = (replay == Replay::Match).then(|| prove(&self.draws, claims, validator)).flatten();
        let (window, miner, contribution) = (self.window, self.contribution.miner, self.id);
        LateVerdict { window, miner, contribution, replay, proof }
    }
}

/// Which validators replay each contribution, both in the order of their keys. `miners` are those of the cut, in order.
///
/// Validator v with value x has the numbers of the stream of (run, seed, v, x), one for each miner in order. It draws a
/// contribution where its number is below `fraction` of 2^64, or among the `least_replays` lowest, equal ones by key.
pub fn replayers(
    spec: &ReplaySpec,
    run: &RunId,
    seed: &Hash,
    miners: &[PublicKey],
    reveals: &[Reveal],
) -> BTreeMap<PublicKey, Vec<PublicKey>> {
    let mut streams: Vec<(PublicKey, Draw)> = reveals
        .iter()
        .map(|Reveal { validator, value }| {
            let run = run.hash();
            let parts: [&[u8]; 4] = [run.as_bytes(), seed.as_bytes(), validator.as_bytes(), value.as_bytes()];
            (*validator, Draw::new(REPLAY_CONTEXT, &parts))
        })
        .collect();
    let draws = |number: u64| u128::from(number) * 1_000_000 < u128::from(spec.fraction_ppm) << 64;
    let least = spec.least_replays as usize;
    let of = |miner: &PublicKey| {
        let mut numbers: Vec<(u64, PublicKey)> =
            streams.iter_mut().map(|(validator, stream)| (stream.next(), *validator)).collect();
        numbers.sort_unstable();
        let drawn = numbers.iter().enumerate().filter(|(place, (number, _))| *place < least || draws(*number));
        let mut drawn: Vec<PublicKey> = drawn.map(|(_, (_, validator))| *validator).collect();
        drawn.sort_unstable();
        (*miner, drawn)
    };
    miners.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> PublicKey {
        PublicKey::from_bytes(*Hash::of(&number.to_le_bytes()).as_bytes())
    }

    fn drawn(
        fraction_ppm: u32,
        least_replays: u32,
        validators: usize,
        salt: u8,
    ) -> BTreeMap<PublicKey, Vec<PublicKey>> {
        let spec = ReplaySpec { fraction_ppm, least_replays, ..ReplaySpec::whole() };
        let mut miners: Vec<PublicKey> = (0..200).map(|number| key(1000 + number)).collect();
        miners.sort_unstable();
        let reveal = |number| Reveal { validator: key(number), value: Hash::of(&[salt, number as u8]) };
        let mut reveals: Vec<Reveal> = (0..validators).map(reveal).collect();
        reveals.sort_unstable_by_key(|reveal| reveal.validator);
        replayers(&spec, &Hash::of(b"run").into(), &Hash::of(b"seed"), &miners, &reveals)
    }

    #[test]
    fn each_validator_draws_by_itself_and_the_least_is_filled_up() {
        assert!(drawn(1_000_000, 1, 7, 0).values().all(|drawn| drawn.len() == 7));
        assert!(drawn(0, 3, 7, 0).values().all(|drawn| drawn.len() == 3));
        assert!(drawn(0, 9, 7, 0).values().all(|drawn| drawn.len() == 7));
        assert!(drawn(0, 0, 7, 0).values().all(Vec::is_empty));
        // 1,400 draws of a tenth: 140, with a standard deviation of 11.
        let count: usize = drawn(100_000, 0, 7, 0).values().map(Vec::len).sum();
        assert!((95..185).contains(&count), "{count}");
        let filled = drawn(100_000, 2, 7, 0);
        for (miner, by_chance) in drawn(100_000, 0, 7, 0) {
            assert_eq!(filled[&miner].len(), by_chance.len().max(2));
            assert!(by_chance.iter().all(|validator| filled[&miner].contains(validator)));
        }
    }

    /// Who else reveals changes nothing of one's own draw, as far as it is by chance; another value changes it.
    #[test]
    fn a_draw_is_of_the_own_value() {
        let own = |all: &BTreeMap<PublicKey, Vec<PublicKey>>| -> Vec<PublicKey> {
            all.iter().filter(|(_, drawn)| drawn.contains(&key(0))).map(|(miner, _)| *miner).collect()
        };
        let few = own(&drawn(300_000, 0, 2, 0));
        assert!(!few.is_empty());
        assert_eq!(few, own(&drawn(300_000, 0, 7, 0)));
        assert_ne!(few, own(&drawn(300_000, 0, 2, 1)));
    }
}
