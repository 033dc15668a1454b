//! The frozen vector of draws: the seed, the assignment, the replays and the pages of a plan.

use templar_manifest::*;

use super::rules::{judging, small};

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
