//! The frozen vectors of draws: the seed, the assignment, the replays and the pages of a plan; and draws by stake, which
//! `tests/verifier` draws too.

use templar_manifest::*;

use super::rules::{judging, small};
use crate::replay::{Drawn, replayers};

#[test]
fn frozen_seed_assignment_and_plan() {
    let (state, validators, miners) = small(&[1, 2], 3);
    // The run's id is an input of the draws. It is that of the fixture's genesis when the vector was frozen.
    let run = "315b1fcdd256afe9822f78b4818a7dbb7f63a4afb67a03f4672cb50ab4326332";
    let state = state.of_run(run.parse().unwrap());
    let judging = judging(&state, &validators, &miners);
    let plan = state.judge_plan(&judging, &validators[0].public()).unwrap();
    let numbers = |pages: &[u64]| pages.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    let mut text = format!("run {}\nfirst-seed {}\nseed {}\n", state.run(), state.seed(), judging.seed());
    for (slot, pages) in state.assignment().slots().iter().enumerate() {
        text += &format!("slot {slot}: {}\n", numbers(pages));
    }
    for (miner, drawn) in judging.replayers() {
        for draw in judging.proof_draws(miner) {
            let claim = Hash::from(draw.hasher().update(b"state").finalize());
            let (validator, step, tensor) = (draw.validator.short(), draw.step(3), draw.tensor(7));
            text +=
                &format!("replay {} by {validator}: step {step} tensor {tensor} of {}\n", miner.short(), claim.short());
        }
        assert_eq!(drawn.len(), 1);
    }
    text += &format!("unassigned: {}\n", numbers(&plan.evaluations[0].unassigned));
    for task in &plan.evaluations {
        let miner = task.contribution.miner.short();
        text += &format!("assigned {miner}: {}\n", numbers(&task.assigned));
        for key in &task.keys {
            let claim = key.claim(&Hash::of(b"states"));
            text += &format!("evaluation {miner} by {}: {}\n", key.validator.short(), claim.short());
        }
    }
    assert_eq!(
        text,
        include_str!("../../vectors/draws.txt"),
        "these draws decide training: a change is a new run\n{text}"
    );
}

/// Lines of numbers: the stakes with the places that have not revealed, then who replays the contribution of each miner.
/// Every key, value and hash repeats one byte.
#[test]
fn frozen_draws_by_stake() {
    let hash = |byte| Hash::from(blake3::Hash::from_bytes([byte; 32]));
    let (run, commitment, seed) = (hash(1).into(), hash(2), hash(3));
    let miners: Vec<PublicKey> = (100..116).map(|byte| PublicKey::from_bytes([byte; 32])).collect();
    let mut text = String::new();
    for (stakes, absent, least_replays) in [
        (&[8, 1, 8, 1, 8, 1, 1][..], &[][..], 3),
        (&[8, 1, 8, 1, 8, 1, 1], &[2, 5], 2),
        (&[1; 5], &[0], 2),
        (&[1 << 48, 1, (1 << 48) - 1], &[], 1),
        (&[3, 2], &[1], 4),
    ] {
        let spec = |(place, &stake): (u8, &u64)| ValidatorSpec {
            key: PublicKey::from_bytes([place; 32]),
            stake,
            chain_anchor: hash(0),
        };
        let validators: Vec<ValidatorSpec> = (0..).zip(stakes).map(spec).collect();
        let here = (0..stakes.len() as u8).filter(|place| !absent.contains(place));
        let reveals: Vec<Reveal> =
            here.map(|place| Reveal { validator: PublicKey::from_bytes([place; 32]), value: hash(50) }).collect();
        let spec = ReplaySpec { fraction_ppm: 0, least_replays, ..ReplaySpec::whole() };
        let alone = ReplaySpec::alone(least_replays, &validators);
        text += &format!("stakes {stakes:?} absent {absent:?} places {least_replays} alone {alone}\n");
        let of = Drawn { run: &run, commitment: &commitment, seed: &seed };
        for (miner, drawn) in replayers(&spec, &validators, &of, &miners, &reveals) {
            let drawn: Vec<u8> = drawn.iter().map(|validator| validator.as_bytes()[0]).collect();
            text += &format!("miner {} by {drawn:?}\n", miner.as_bytes()[0]);
        }
    }
    assert_eq!(
        text,
        include_str!("../../vectors/draws-by-stake.txt"),
        "these draws decide who replays: a change is a new run\n{text}"
    );
}
