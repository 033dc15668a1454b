//! A second implementation of a window's rules, slow and obvious, written from the text of
//! `manifests/README.md`.
//!
//! It shares types with the program but no rule. It computes again everything in the example record that needs
//! no tensors.

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::*;
use templar_protocol::replay::Drawn;

use super::example;
use super::folder::Folder;
use super::standings::{assess, weights};

/// The specification's `hash[context](x)`, before its output is read.
pub(super) fn hasher(context: &str, parts: &[&[u8]]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    hasher
}

pub(super) fn hash(context: &str, parts: &[&[u8]]) -> Hash {
    hasher(context, parts).finalize().into()
}

/// The specification's `draw[context](x)`: a stream of numbers.
struct Draw(blake3::OutputReader);

impl Draw {
    fn new(context: &str, parts: &[&[u8]]) -> Self {
        Self(hasher(context, parts).finalize_xof())
    }

    fn below(&mut self, bound: u64) -> u64 {
        loop {
            let mut bytes = [0; 8];
            self.0.fill(&mut bytes);
            let number = u64::from_le_bytes(bytes);
            let rest = (1u128 << 64) % u128::from(bound);
            if u128::from(number) < (1u128 << 64) - rest {
                return number % bound;
            }
        }
    }

    /// The first `count` places of a row of `pages` pages, shuffled.
    fn take(&mut self, pages: u64, count: u64) -> Vec<u64> {
        let mut row: Vec<u64> = (0..pages).collect();
        for place in 0..count {
            let other = place + self.below(pages - place);
            row.swap(place as usize, other as usize);
        }
        row.truncate(count as usize);
        row
    }
}

/// The example payloads, found through the links of the record.
pub(super) struct Examples {
    pub(super) genesis: Genesis,
    pub(super) dataset: Dataset,
    pub(super) pages: u64,
    pub(super) header: WindowHeader,
    pub(super) record: WindowBody,
    pub(super) contributions: Vec<Contribution>,
    pub(super) registrations: Vec<Registration>,
    pub(super) scores: Vec<Score>,
}

pub(super) fn examples() -> Examples {
    let folder = Folder::read();
    let (_, id) = folder.payloads().into_iter().find(|(kind, _)| *kind == Kind::Window).unwrap();
    let header: WindowHeader = folder.get(&id);
    let record: WindowBody = folder.get(&header.body_root.hash());
    let genesis: Genesis = folder.get(&record.run.hash());
    let dataset: Dataset = folder.get(&genesis.dataset.hash());
    let cut: Cut = folder.get(&record.cut.hash());
    Examples {
        pages: (dataset.training_tokens() - 1) / u64::from(genesis.model.sequence_length),
        contributions: cut.contributions.iter().map(|entry| folder.get(&entry.contribution.hash())).collect(),
        registrations: cut.registrations.iter().map(|entry| folder.get(&entry.registration.hash())).collect(),
        scores: record.scores.iter().map(|id| folder.get(&id.hash())).collect(),
        dataset,
        genesis,
        header,
        record,
    }
}

impl Examples {
    pub(super) fn run(&self) -> [u8; 32] {
        *self.record.run.hash().as_bytes()
    }

    fn slots(&self) -> Vec<Vec<u64>> {
        let before = hash("templar/1 seed before the first window", &[&self.run()]);
        let mut draw = Draw::new("templar/1 assignment", &[&self.run(), &0u64.to_le_bytes(), before.as_bytes()]);
        let per_slot = u64::from(self.genesis.inner.steps) * u64::from(self.genesis.inner.batch_sequences);
        let count = self.genesis.miners().len() as u64 * per_slot;
        draw.take(self.pages, count).chunks(per_slot as usize).map(<[u64]>::to_vec).collect()
    }
}

#[test]
fn the_seed_is_what_the_text_says() {
    let examples = examples();
    let record = &examples.record;
    let before = hash("templar/1 seed before the first window", &[&examples.run()]);
    let mut hasher = hasher("templar/1 window seed", &[&examples.run(), &0u64.to_le_bytes(), before.as_bytes()]);
    hasher.update(&(examples.contributions.len() as u64).to_le_bytes());
    for contribution in &examples.contributions {
        hasher.update(contribution.miner.as_bytes());
        hasher.update(contribution.delta.hash().as_bytes());
        hasher.update(contribution.state_out.hash().as_bytes());
    }
    hasher.update(&(record.reveals.len() as u64).to_le_bytes());
    for reveal in &record.reveals {
        hasher.update(reveal.validator.as_bytes());
        hasher.update(reveal.value.as_bytes());
        let anchor = examples.genesis.validator(&reveal.validator).unwrap().chain_anchor;
        assert_eq!(hash("templar/1 hash chain step", &[reveal.value.as_bytes()]), anchor);
    }
    assert_eq!(Hash::from(hasher.finalize()), record.seed);
}

#[test]
fn the_pages_are_what_the_text_says() {
    let examples = examples();
    let slots = examples.slots();
    assert_eq!(example().before.assignment().slots(), slots);
    let contributions = example().closed.contributions.iter().map(Signed::payload);
    let asked = super::window::asked(&example().before);
    let judging = example()
        .before
        .judging(&example().closed.cut, contributions, [&asked], examples.record.reveals.clone())
        .unwrap();
    let assigned: BTreeSet<u64> = slots.iter().flatten().copied().collect();
    let free: Vec<u64> = (0..examples.pages).filter(|page| !assigned.contains(page)).collect();
    let sorted = |mut pages: Vec<u64>| {
        pages.sort_unstable();
        pages
    };
    let (run, seed) = (examples.run(), examples.record.seed);
    let mut draw = Draw::new("templar/1 unassigned pages of a window", &[&run, seed.as_bytes()]);
    let count = u64::from(examples.genesis.gauntlet.unassigned_pages);
    let unassigned = sorted(draw.take(free.len() as u64, count).into_iter().map(|rank| free[rank as usize]).collect());
    for (slot, miner) in examples.genesis.miners().iter().enumerate() {
        let parts: [&[u8]; 3] = [&run, seed.as_bytes(), miner.as_bytes()];
        let mut draw = Draw::new("templar/1 assigned pages of a contribution", &parts);
        let count = u64::from(examples.genesis.gauntlet.assigned_pages);
        let places = draw.take(slots[slot].len() as u64, count);
        let assigned = sorted(places.into_iter().map(|place| slots[slot][place as usize]).collect());
        let task = example().before.evaluation_task(&judging, miner).unwrap();
        assert_eq!((task.unassigned, task.assigned), (unassigned.clone(), assigned));
    }
}

/// The first `count` validators in rank that revealed, for a miner of the example, in the order of keys.
fn evaluators(examples: &Examples, miner: &PublicKey, count: usize) -> Vec<PublicKey> {
    let parts: [&[u8]; 3] = [&examples.run(), examples.record.seed.as_bytes(), miner.as_bytes()];
    let mut draw = Draw::new("templar/1 evaluators of a contribution", &parts);
    let mut left: Vec<&ValidatorSpec> = examples.genesis.validators.iter().collect();
    let mut rank = Vec::new();
    while !left.is_empty() {
        let t = draw.below(left.iter().map(|validator| validator.stake).sum());
        let sum = |place: usize| left[..=place].iter().map(|validator| validator.stake).sum::<u64>();
        let next = (0..left.len()).find(|place| sum(*place) > t).unwrap();
        rank.push(left.remove(next).key);
    }
    rank.retain(|validator| examples.record.reveals.iter().any(|reveal| reveal.validator == *validator));
    rank.truncate(count);
    rank.sort();
    rank
}

#[test]
fn the_evaluators_are_drawn_and_prove_as_the_text_says() {
    let examples = examples();
    let judging = example().before.judging_of(&example().closed).unwrap();
    let mut measured = 0;
    for contribution in &examples.contributions {
        let miner = contribution.miner;
        let drawn = evaluators(&examples, &miner, examples.genesis.gauntlet.evaluators as usize);
        assert_eq!(judging.evaluators()[&miner], drawn);
        let entry = |score: &Score| score.entries.iter().find(|entry| entry.miner == miner).unwrap().clone();
        let mut witnesses = None;
        for score in &examples.scores {
            let evaluation = entry(score).evaluation;
            assert_eq!(evaluation != Evaluation::NotDrawn, drawn.contains(&score.validator));
            let Evaluation::Measured(found) = evaluation else { continue };
            measured += 1;
            let own = drawn.iter().position(|validator| *validator == score.validator).unwrap();
            let short = hash("templar/1 witness of a proof of replay", &[found.claim.as_bytes()]);
            assert_eq!(found.witnesses[own].to_le_bytes(), short.as_bytes()[..8]);
            // All pass through the same hidden states.
            assert_eq!(*witnesses.get_or_insert(found.witnesses.clone()), found.witnesses);
            let recorded = examples.record.outcomes.iter().find(|outcome| outcome.miner == miner).unwrap();
            assert_eq!(recorded.losses, Some(found.losses));
        }
    }
    assert!(measured >= 2, "{measured}");
}

#[test]
fn an_evaluation_is_claimed_as_the_text_says() {
    let examples = examples();
    let (run, seed) = (examples.record.run, examples.record.seed);
    let id = payload::id_of(&examples.contributions[0]);
    let passes = [b"1", b"2", b"3", b"4"].map(|pass| Hash::of(pass));
    let states = hash("templar/1 hidden states of an evaluation", &passes.each_ref().map(|pass| &pass.as_bytes()[..]));
    assert_eq!(proof::hidden_states(&passes), states);
    for score in &examples.scores {
        let parts: [&[u8]; 4] = [&examples.run(), seed.as_bytes(), score.validator.as_bytes(), id.as_bytes()];
        let key = hash("templar/1 proof of evaluation", &parts);
        let claim = Hash::from(blake3::keyed_hash(key.as_bytes(), states.as_bytes()));
        let program = proof::EvaluationKey::new(&run, &seed, &score.validator, &id.into());
        assert_eq!(program.claim(&states), claim);
    }
}

/// The validators that replay each contribution of the example, by miner, for given rules of replays.
fn replayers(examples: &Examples, spec: &ReplaySpec) -> BTreeMap<PublicKey, Vec<PublicKey>> {
    let (run, record) = (examples.run(), &examples.record);
    let before = hash("templar/1 seed before the first window", &[&run]);
    let mut commitment = hasher("templar/1 commitment of a cut", &[&run, &0u64.to_le_bytes(), before.as_bytes()]);
    commitment.update(&(examples.contributions.len() as u64).to_le_bytes());
    for contribution in &examples.contributions {
        for part in [contribution.miner.as_bytes(), contribution.delta.hash().as_bytes()] {
            commitment.update(part);
        }
        commitment.update(contribution.state_out.hash().as_bytes());
    }
    let commitment = Hash::from(commitment.finalize());
    let streams = |context: &str, of: &Hash| -> Vec<(PublicKey, Draw)> {
        let stream = |Reveal { validator, value }: &Reveal| {
            let parts: [&[u8]; 4] = [&run, of.as_bytes(), validator.as_bytes(), value.as_bytes()];
            (*validator, Draw::new(context, &parts))
        };
        record.reveals.iter().map(stream).collect()
    };
    let mut chances = streams("templar/1 replay by chance", &commitment);
    let mut places = streams("templar/1 replay draw", &record.seed);
    let next = |streams: &mut [(PublicKey, Draw)]| -> Vec<(u64, PublicKey)> {
        let number = |(validator, stream): &mut (PublicKey, Draw)| {
            let mut bytes = [0; 8];
            stream.0.fill(&mut bytes);
            (u64::from_le_bytes(bytes), *validator)
        };
        streams.iter_mut().map(number).collect()
    };
    let of = |contribution: &Contribution| {
        let by_chance = next(&mut chances);
        let mut lowest = next(&mut places);
        lowest.sort_unstable();
        lowest.truncate(spec.least_replays as usize);
        let is_below = |number: u64| u128::from(number) * 1_000_000 < u128::from(spec.fraction_ppm) << 64;
        let below = by_chance.into_iter().filter(|(number, _)| is_below(*number));
        let drawn: BTreeSet<PublicKey> = below.chain(lowest).map(|(_, validator)| validator).collect();
        (contribution.miner, drawn.into_iter().collect())
    };
    examples.contributions.iter().map(of).collect()
}

#[test]
fn the_replays_are_drawn_and_proven_as_the_text_says() {
    let examples = examples();
    let drawn = replayers(&examples, &examples.genesis.replay);
    for contribution in &examples.contributions {
        let drawn = &drawn[&contribution.miner];
        for score in &examples.scores {
            let entry = score.entries.iter().find(|entry| entry.miner == contribution.miner).unwrap();
            assert_eq!(entry.replay != Replay::NotDrawn, drawn.contains(&score.validator));
            let Some(proof) = &entry.proof else { continue };
            let short = hash("templar/1 witness of a proof of replay", &[proof.claim.as_bytes()]);
            let own = drawn.iter().position(|validator| *validator == score.validator).unwrap();
            assert_eq!(proof.witnesses[own].to_le_bytes(), short.as_bytes()[..8]);
            assert_eq!(proof.witnesses.len(), drawn.len());
        }
    }
    // The example draws no replay by chance. For other rules, the program's draws for this window are compared
    // here.
    let committed: Vec<_> =
        examples.contributions.iter().map(|claimed| (claimed.miner, claimed.delta, claimed.state_out)).collect();
    let miners: Vec<PublicKey> = committed.iter().map(|(miner, ..)| *miner).collect();
    let (run, commitment) = (examples.record.run, example().before.commitment_of(&committed));
    let of = Drawn { run: &run, commitment: &commitment, seed: &examples.record.seed };
    for (fraction_ppm, least_replays) in [(500_000, 0), (250_000, 1), (900_000, 1)] {
        let spec = ReplaySpec { fraction_ppm, least_replays, ..ReplaySpec::whole() };
        let found = templar_protocol::replay::replayers(&spec, &of, &miners, &examples.record.reveals);
        assert_eq!(found, replayers(&examples, &spec));
    }
}

#[test]
fn weights_mints_and_slashes_are_what_the_text_says() {
    let examples = examples();
    let (genesis, record) = (&examples.genesis, &examples.record);
    let (standings, scores) = assess(genesis, &examples.scores, record);
    let steps = |miner: &PublicKey| {
        let contribution = examples.contributions.iter().find(|contribution| contribution.miner == *miner).unwrap();
        u64::from(contribution.steps)
    };
    let accepted = record.outcomes.iter().filter(|outcome| !matches!(outcome.verdict, Verdict::Refused(_)));
    let payable: Vec<PublicKey> =
        accepted.map(|outcome| outcome.miner).filter(|miner| scores.contains_key(miner)).collect();
    let weights = weights(genesis, &payable, &standings, steps);
    let said: BTreeMap<PublicKey, u64> = record.weights.iter().map(|w| (w.miner, w.weight_ppm.into())).collect();
    assert_eq!(said, weights);
    assert!(!said.is_empty());

    let emission = &genesis.emission;
    let proven = payable.iter().map(steps).sum::<u64>().min(emission.target_steps);
    let whole = emission.per_window_micros * proven / emission.target_steps;
    assert!(whole < emission.per_window_micros, "the refused miner's steps mint nothing");
    let part = |ppm: u32| whole * u64::from(ppm) / 1_000_000;
    let mut mints = BTreeMap::new();
    for (miner, weight) in &weights {
        mints.insert((*miner, MintKind::Miner), part(emission.miners_ppm) * weight / 1_000_000);
    }
    let pot = part(emission.validators_ppm);
    let for_replays = pot * u64::from(emission.replays_ppm) / 1_000_000;
    // Every replay of the example is an accepted match or the recorded mismatch, and every measurement is recorded.
    let replays = |score: &Score| score.entries.iter().filter(|entry| entry.replay != Replay::NotDrawn).count() as u64;
    let measured = |score: &Score| {
        score.entries.iter().filter(|entry| matches!(entry.evaluation, Evaluation::Measured(_))).count() as u64
    };
    let all_replays: u64 = examples.scores.iter().map(replays).sum();
    let all_measured: u64 = examples.scores.iter().map(measured).sum();
    for score in &examples.scores {
        mints.insert((score.validator, MintKind::Replays), for_replays * replays(score) / all_replays);
        let amount = (pot - for_replays) * measured(score) / all_measured;
        mints.insert((score.validator, MintKind::Evaluations), amount);
    }
    let nobody = PublicKey::from_bytes([0; 32]);
    mints.insert((nobody, MintKind::Treasury), part(emission.treasury_ppm));
    mints.retain(|_, amount| *amount > 0);
    let said: BTreeMap<_, _> =
        record.mints.iter().map(|mint| ((mint.account, mint.kind), mint.amount_micros)).collect();
    assert_eq!(said, mints);

    // The cheat had no unvested pay, so 0 is slashed.
    let slashes: Vec<Slash> = record
        .outcomes
        .iter()
        .filter(|outcome| matches!(outcome.verdict, Verdict::Refused(Refusal::Mismatch { .. })))
        .map(|outcome| Slash {
            account: outcome.miner,
            cause: SlashCause::Mismatch,
            window: record.window,
            amount_micros: 0,
        })
        .collect();
    assert_eq!(record.slashes, slashes);
}
