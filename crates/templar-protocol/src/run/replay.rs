//! Who replays what.
//!
//! Every validator draws with its own hash-chain value, which it committed to before the run and releases only
//! after the cut: so a miner that commits does not know who will look, and no validator can choose whom it
//! looks at. A contribution is replayed by whoever draws it, and by as many as genesis says at least, whether
//! they have drawn it or not.
//!
//! # Two draws
//!
//! Whether a validator draws a contribution follows from what the cut commits to and from its own value, and
//! from nothing that others say after the cut: so whoever releases its value late or never draws nothing anew
//! for anybody else. A miner that knows a validator's value can work out whether that one draws what it would
//! send, and gains nothing, for the others draw all the same.
//!
//! The least number is another matter: who takes its places keeps others from them. So the places go to the
//! lowest numbers of a second draw, which follows from the seed, and with it from all values: a miner that
//! knows some of them cannot tell before the cut to whom they go. Who withholds its value draws these anew, for
//! the price of its pay in that window and a part of what has not vested, and takes a place less itself. No
//! rule can have both: what nobody can foresee follows from values that come last.
//!
//! # Why cheating loses money
//!
//! Somebody who makes up what it should train earns at most r in a window, the whole of the miners' part. A
//! contribution is replayed by an honest validator with probability p or more, s = 1 − p. Pay of a window is
//! free when the K-th window after it closes, all at once and before that record burns; a proven mismatch burns
//! everything that is not free, and so does a challenge that nobody answers, as that of a cheat that withholds
//! what a replay takes. A verdict takes up to T windows, those of a challenge included (0 where it comes before
//! the record), so before pay of window w is free, the verdicts on the cheat's windows w to w + K − T − 1 have
//! come.
//!
//! Window w of a life, which begins at 0, pays out if none of the w before, nor itself, nor the K − T − 1
//! behind it was seen: with probability s^(w + K − T). All windows of a life together pay out
//!
//! ```text
//! Σ_w r · s^(w + K − T)  =  r · s^(K − T) / p
//! ```
//!
//! A first mismatch may be a faulty machine: it costs the unvested pay and the standing, and the slot lives on.
//! A second one at most X windows later is expulsion. A cheat that goes on cheating is seen again within X
//! windows with probability 1 − s^X, so it has a first life, and then lives until two sightings are near each
//! other: 2 + s^X / (1 − s^X) in the mean. With F for the slot, cheating loses money where
//!
//! ```text
//! F  ≥  (2 + s^X / (1 − s^X)) · r · s^(K − T) / p
//! ```
//!
//! and a genesis that says less is refused
//! ([`least_registration_cost`](templar_manifest::ReplaySpec::least_registration_cost)). Who burns for a slot
//! burns F or more: genesis' lowest price of a burn is checked against it. Who pays with work pays hashes, and
//! no rule knows what a hash is worth: that depends on hardware, electricity and the price of ALPHA, and
//! changes. Whoever writes a genesis with F above 0 sets `registration.hashcash.least` so that so many hashes
//! cost F by its own reckoning; where every contribution is replayed by more than can be faulty, F may be 0 and
//! nothing depends on it. The bound takes no account of what a new standing costs in windows without pay. Where
//! p is 1 it is 0.
//!
//! p is counted against faulty validators, with less than a third of the stake and as many as that can be, who
//! see nothing that they should: each of the honest ones draws by itself, whatever is withheld, and of the
//! least number of replays all would have to fall to the faulty. An honest validator that is away sees nothing
//! either; the bound does not count that, nor that the faulty may withhold values until the places of the least
//! number fall to them: with six faulty of twenty and three places they do for 1.8 % of all contributions, and
//! for 17 % where all six agree which of them withhold. Who has worked for K windows and then cheats for one
//! loses what has not vested, all of their pay, with probability p.

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::proof::{ProofDraw, prove};
use templar_manifest::{
    CheckpointId, Contribution, ContributionId, Hash, LateVerdict, PublicKey, Replay, ReplaySpec, Reveal, RunId,
    WindowIndex,
};

use super::draw::DrawStream;

const CHANCE_CONTEXT: &str = "templar/1 replay by chance";
const PLACE_CONTEXT: &str = "templar/1 replay draw";

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
    /// What a validator says of it in a score of a later window. `claims` are those of the draws, in their
    /// order, of a match.
    pub fn verdict(&self, validator: &PublicKey, replay: Replay, claims: &[Hash]) -> LateVerdict {
        let proof = (replay == Replay::Match).then(|| prove(&self.draws, claims, validator)).flatten();
        let (window, miner, contribution) = (self.window, self.contribution.miner, self.id);
        LateVerdict { window, miner, contribution, replay, proof }
    }
}

/// What the draws of a window are of, beside the values of the validators.
#[derive(Debug, Clone, Copy)]
pub struct Drawn<'a> {
    /// The run.
    pub run: &'a RunId,
    /// What the cut commits to ([`RunState::commitment_of`](crate::RunState::commitment_of)).
    pub commitment: &'a Hash,
    /// The window's seed, which covers that and all values.
    pub seed: &'a Hash,
}

impl Drawn<'_> {
    /// The numbers of a validator that follow from `what`, and its value.
    fn stream(&self, context: &str, what: &Hash, reveal: &Reveal) -> (PublicKey, DrawStream) {
        let (run, Reveal { validator, value }) = (self.run.hash(), reveal);
        let parts: [&[u8]; 4] = [run.as_bytes(), what.as_bytes(), validator.as_bytes(), value.as_bytes()];
        (*validator, DrawStream::new(context, &parts))
    }
}

/// Which validators replay each contribution, both in the order of their keys. `miners` are those of the cut,
/// in order.
///
/// Validator v with value x has the numbers of two streams, one of each for each miner in order: that of (run,
/// commitment, v, x), and that of (run, seed, v, x). It replays a contribution where its number of the first is
/// below `fraction` of 2^64, or that of the second among the `least_replays` lowest, equal ones by key.
pub fn replayers(
    spec: &ReplaySpec,
    of: &Drawn<'_>,
    miners: &[PublicKey],
    reveals: &[Reveal],
) -> BTreeMap<PublicKey, Vec<PublicKey>> {
    let streams = |context, what| -> Vec<(PublicKey, DrawStream)> {
        reveals.iter().map(|reveal| of.stream(context, what, reveal)).collect()
    };
    let mut by_chance = streams(CHANCE_CONTEXT, of.commitment);
    let mut places = streams(PLACE_CONTEXT, of.seed);
    let draws = |number: u64| u128::from(number) * 1_000_000 < u128::from(spec.fraction_ppm) << 64;
    let of_miner = |miner: &PublicKey| {
        let mut numbers: Vec<(u64, PublicKey)> =
            places.iter_mut().map(|(validator, stream)| (stream.next(), *validator)).collect();
        numbers.sort_unstable();
        let least = numbers.into_iter().take(spec.least_replays as usize).map(|(_, validator)| validator);
        let mut drawn: BTreeSet<PublicKey> = least.collect();
        let chosen = by_chance.iter_mut().filter_map(|(validator, stream)| draws(stream.next()).then_some(*validator));
        drawn.extend(chosen);
        (*miner, drawn.into_iter().collect())
    };
    miners.iter().map(of_miner).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

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
        replayers(&spec, &of(&Hash::of(b"seed")), &miners, &reveals)
    }

    /// The draws of one cut, with this seed.
    fn of(seed: &Hash) -> Drawn<'_> {
        static OF: LazyLock<(RunId, Hash)> = LazyLock::new(|| (Hash::of(b"run").into(), Hash::of(b"commitment")));
        Drawn { run: &OF.0, commitment: &OF.1, seed }
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
            assert!((by_chance.len().max(2)..=by_chance.len() + 2).contains(&filled[&miner].len()));
            assert!(by_chance.iter().all(|validator| filled[&miner].contains(validator)));
        }
    }

    /// Who withholds its value hides nothing from anybody else: what others have drawn by chance they draw with
    /// any seed, and of the least number one place more falls to them, whatever the seed.
    #[test]
    fn a_value_that_is_withheld_takes_no_draw_from_others() {
        let mut miners: Vec<PublicKey> = (0..200).map(|number| key(1000 + number)).collect();
        miners.sort_unstable();
        let mut reveals: Vec<Reveal> =
            (0..7).map(|number| Reveal { validator: key(number), value: Hash::of(&number.to_le_bytes()) }).collect();
        reveals.sort_unstable_by_key(|reveal| reveal.validator);
        let drawn = |fraction_ppm, least_replays, seed: &[u8], reveals: &[Reveal]| {
            let spec = ReplaySpec { fraction_ppm, least_replays, ..ReplaySpec::whole() };
            replayers(&spec, &of(&Hash::of(seed)), &miners, reveals)
        };
        for withheld in 0..7 {
            let (who, mut others) = (reveals[withheld].validator, reveals.clone());
            others.remove(withheld);
            // Another set of values is another seed.
            let (with, without) = (drawn(200_000, 0, b"all", &reveals), drawn(200_000, 0, b"others", &others));
            for (miner, mut by_chance) in with {
                by_chance.retain(|validator| *validator != who);
                assert_eq!(without[&miner], by_chance);
            }
            assert!(drawn(0, 3, b"others", &others).values().all(|drawn| drawn.len() == 3 && !drawn.contains(&who)));
        }
        let is_foreseen = drawn(0, 3, b"all", &reveals) == drawn(0, 3, b"others", &reveals);
        assert!(!is_foreseen, "another seed gives the places to others");
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
