//! The draw of replays: which validators replay which contributions, and why cheating loses money.
//!
//! Nobody knows before the cut who will replay a contribution. The draws follow from the validators' hash-chain values.
//! A validator committed to its values before the run, and releases each of them only after the cut. So a miner that
//! commits to a delta does not know which validators will replay it, and a validator cannot choose whom it replays. A
//! contribution is replayed by the validators that draw it, and by at least as many as genesis says.
//!
//! # Two draws
//!
//! **By chance.** Each validator draws each contribution with probability `fraction_ppm`. The draw follows from
//! the commitment of the cut and the validator's own value, and from nothing that others publish after the cut.
//! So a validator that releases its value late or never changes no other validator's draw. A miner that knows
//! one validator's value can compute whether that one draws a given delta. It gains nothing, since the others
//! draw all the same. Stake plays no part here: whoever splits its stake among many keys draws more often itself, and
//! takes no draw from anybody.
//!
//! **For places.** Some contributions would be drawn by too few validators, so `least_replays` places go to validators
//! that are drawn in proportion to stake (`by_stake.rs`). Here one validator's place is another's loss, so a miner must
//! not foresee it. Therefore this draw follows from the seed, and with it from all values: a miner that knows some of
//! them cannot tell before the cut to whom the places go. The price is that a validator that withholds its value
//! changes this draw for all. It pays with its income of that window and a part of its unvested pay, and loses its own
//! place.
//!
//! No rule has both properties, because a draw that nobody can foresee must follow from values that come last.
//!
//! # Why cheating loses money
//!
//! The claim: a miner that makes up its work instead of training loses money on average, if a slot costs
//! enough.
//!
//! * r: the most that a miner earns in a window, which is the whole of the miners' part.
//! * p: the least probability that an honest validator replays a given contribution; s = 1 − p.
//! * K: the number of windows of vesting. Pay of a window becomes free when the K-th window after it closes,
//!   all at once and before that record slashes.
//! * T: the most windows until a verdict counts, challenges included; 0 where verdicts come before the record.
//! * X: `expulsion_windows`.
//!
//! A proven mismatch slashes all unvested pay. An unanswered challenge does too, so withholding the bytes does
//! not help. Number the windows of a life of the slot from 0. Before the pay of window w becomes free, verdicts
//! on windows 0 to w + K − T − 1 have come. So the pay of window w is kept only if none of these w + K − T
//! contributions was replayed, which has probability s^(w + K − T). All windows of a life together pay on
//! average
//!
//! ```text
//! Σ_w r · s^(w + K − T)  =  r · s^(K − T) / p
//! ```
//!
//! A first mismatch may be a faulty machine. It costs the unvested pay and the standing, and the slot lives on.
//! A second one at most X windows later is expulsion. A miner that goes on cheating is caught again within X
//! windows with probability 1 − s^X. So a slot has a first life, and further lives until two sightings are
//! close together: 2 + s^X / (1 − s^X) lives on average. With F for the cost of a slot, cheating loses money if
//!
//! ```text
//! F  ≥  (2 + s^X / (1 − s^X)) · r · s^(K − T) / p
//! ```
//!
//! and a genesis with a lower F is refused
//! ([`least_registration_cost`](templar_manifest::ReplaySpec::least_registration_cost)). For example, if every
//! honest validator replays everything, p is 1 and F may be 0.
//!
//! **Burning.** The lowest price of a burn must be at least F, which genesis is checked for.
//!
//! **Work.** No rule can check what a hash costs, since that depends on hardware, electricity and the price of
//! ALPHA. The author of a genesis with F above 0 sets `registration.hashcash.least` so that so many hashes cost
//! F by their own reckoning. If every contribution is replayed by more validators than can be faulty, F may be
//! 0 and nothing depends on this.
//!
//! The bound ignores that a new standing also earns nothing for some windows.
//!
//! # How p is counted
//!
//! p assumes the worst set of faulty validators with less than a third of the stake, and that they replay nothing. Two
//! bounds hold, and genesis takes the better one. S is the whole stake, and f the largest number of validators that can
//! be faulty: as many of the smallest as hold less than S/3 together.
//!
//! * By chance, each honest validator draws by itself, independently of withheld values. At least n − f of n validators
//!   are honest. So s ≤ (1 − `fraction`)^(n − f), which is reached.
//! * For places, all k places would have to fall to faulty validators. A faulty set has at most f members, so its stake
//!   φ is at most the sum of the f largest stakes, and below S/3. After j places the taken stake is at least that of the j
//!   smallest validators, t_j. So s is 0 if k is above f, and otherwise at most the product over j < k of (φ − t_j)/(S −
//!   t_j), with the largest φ. That is below 3^-k. With equal stakes it is reached.
//!
//! Two effects are not counted:
//!
//! * Honest validators that are absent replay nothing.
//! * Faulty validators may withhold values until the places fall to them. With six faulty of twenty equal ones and three
//!   places they achieve it for 1.8 % of all contributions, and for 17 % if all six agree on which of them withhold.
//!
//! A miner that has worked honestly for K windows and then cheats for one loses all of its unvested pay with
//! probability p.

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::proof::{ProofDraw, prove};
use templar_manifest::{
    CheckpointId, Contribution, ContributionId, Hash, LateVerdict, PublicKey, Replay, ReplaySpec, Reveal, RunId,
    ValidatorSpec, WindowIndex,
};

use super::by_stake;
use super::draw::DrawStream;

const CHANCE_CONTEXT: &str = "templar/1 replay by chance";
const PLACES_CONTEXT: &str = "templar/1 replayers of a contribution";

/// The task of replaying one contribution, of the open window or of a closed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayTask {
    /// The window of the contribution.
    pub window: WindowIndex,
    /// The checkpoint that the window started from.
    pub checkpoint: CheckpointId,
    /// The contribution to replay.
    pub contribution: Contribution,
    /// The id of the contribution.
    pub id: ContributionId,
    /// The pages of the miner in that window, in training order.
    pub pages: Vec<u64>,
    /// The step and tensor with which each drawn validator proves its replay, in the order of their keys.
    pub draws: Vec<ProofDraw>,
    /// The last leaf of the trace to compare, 0 for the start and then one for each inner step, where a later one decides
    /// nothing. None of `draws` lies behind it. `None` for the whole window and its result.
    pub upto: Option<u32>,
}

impl ReplayTask {
    /// The same task as far as this leaf and no further. Proofs behind it are left out.
    pub(crate) fn up_to(mut self, leaf: u32) -> Self {
        let steps = self.contribution.steps;
        if leaf <= steps {
            self.draws.retain(|draw| draw.step(steps) <= leaf);
            self.upto = Some(leaf);
        }
        self
    }

    /// The verdict of a validator for a score of a later window. For a match, `claims` are the claims of all
    /// drawn validators in the order of `draws`.
    pub fn verdict(&self, validator: &PublicKey, replay: Replay, claims: &[Hash]) -> LateVerdict {
        let proof = (replay == Replay::Match).then(|| prove(&self.draws, claims, validator)).flatten();
        let (window, miner, contribution) = (self.window, self.contribution.miner, self.id);
        LateVerdict { window, miner, contribution, replay, proof }
    }
}

/// The public values from which the draws of a window follow, beside the validators' own values.
#[derive(Debug, Clone, Copy)]
pub struct Drawn<'a> {
    /// The id of the run.
    pub run: &'a RunId,
    /// The commitment of the cut ([`RunState::commitment_of`](crate::RunState::commitment_of)).
    pub commitment: &'a Hash,
    /// The seed of the window, which covers the commitment and all values.
    pub seed: &'a Hash,
}

impl Drawn<'_> {
    /// The numbers of a validator by chance, one for each miner of the cut.
    fn by_chance(&self, reveal: &Reveal) -> (PublicKey, DrawStream) {
        let (run, Reveal { validator, value }) = (self.run.hash(), reveal);
        let parts: [&[u8]; 4] = [run.as_bytes(), self.commitment.as_bytes(), validator.as_bytes(), value.as_bytes()];
        (*validator, DrawStream::new(CHANCE_CONTEXT, &parts))
    }

    /// The numbers by which the places of a miner's contribution are drawn.
    fn places(&self, miner: &PublicKey) -> DrawStream {
        let run = self.run.hash();
        DrawStream::new(PLACES_CONTEXT, &[run.as_bytes(), self.seed.as_bytes(), miner.as_bytes()])
    }
}

/// The validators that replay each contribution, in the order of their keys. `validators` are those of genesis, `miners`
/// those of the cut, and `reveals` the agreed values, all in the order of their keys.
///
/// By chance, validator v with value x has a stream of numbers that follows from (run, commitment, v, x), with one number
/// for each miner in order. It replays a contribution if its number is below `fraction` · 2^64. Besides, the first
/// `least_replays` in rank that have revealed replay it (`by_stake.rs`), by numbers from (run, seed, miner).
pub fn replayers(
    spec: &ReplaySpec,
    validators: &[ValidatorSpec],
    of: &Drawn<'_>,
    miners: &[PublicKey],
    reveals: &[Reveal],
) -> BTreeMap<PublicKey, Vec<PublicKey>> {
    let may_draw = reveals.iter().filter(|_| spec.fraction_ppm > 0);
    let mut by_chance: Vec<(PublicKey, DrawStream)> = may_draw.map(|reveal| of.by_chance(reveal)).collect();
    let draws = |number: u64| u128::from(number) * 1_000_000 < u128::from(spec.fraction_ppm) << 64;
    let of_miner = |miner: &PublicKey| {
        let places = by_stake::drawn(validators, reveals, spec.least_replays as usize, &mut of.places(miner));
        let mut drawn: BTreeSet<PublicKey> = places.into_iter().collect();
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
        replayers(&spec, &equal(validators), &of(&Hash::of(b"seed")), &miners, &reveals)
    }

    /// So many validators with the same stake.
    fn equal(count: usize) -> Vec<ValidatorSpec> {
        let spec = |number| ValidatorSpec { key: key(number), stake: 3, chain_anchor: Hash::default() };
        let mut validators: Vec<ValidatorSpec> = (0..count).map(spec).collect();
        validators.sort_unstable_by_key(|validator| validator.key);
        validators
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

    /// A validator that withholds its value takes no draw by chance from others for any seed, and gives
    /// them its places.
    #[test]
    fn a_value_that_is_withheld_takes_no_draw_from_others() {
        let mut miners: Vec<PublicKey> = (0..200).map(|number| key(1000 + number)).collect();
        miners.sort_unstable();
        let mut reveals: Vec<Reveal> =
            (0..7).map(|number| Reveal { validator: key(number), value: Hash::of(&number.to_le_bytes()) }).collect();
        reveals.sort_unstable_by_key(|reveal| reveal.validator);
        let drawn = |fraction_ppm, least_replays, seed: &[u8], reveals: &[Reveal]| {
            let spec = ReplaySpec { fraction_ppm, least_replays, ..ReplaySpec::whole() };
            replayers(&spec, &equal(7), &of(&Hash::of(seed)), &miners, reveals)
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

    /// The draw by chance depends on the validator's own value and not on the others that reveal.
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
