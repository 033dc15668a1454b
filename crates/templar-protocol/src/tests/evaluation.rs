//! Who measures a contribution, and on which pages.

use std::collections::BTreeSet;

use templar_manifest::*;

use super::fixture::*;
use super::rules::{judging, scores, small};
use crate::*;

#[test]
fn evaluation_pages_are_the_same_for_all_and_what_they_are_said_to_be() {
    let (state, validators, miners) = small(&[1, 2, 3], 4);
    let judging = judging(&state, &validators, &miners);
    let assignment = state.assignment();
    let all: BTreeSet<u64> = assignment.slots().iter().flatten().copied().collect();
    let mut drawn = 0;
    for key in &validators {
        let plan = state.judge_plan(&judging, &key.public()).unwrap();
        for task in &plan.evaluations {
            let miner = task.contribution.miner;
            assert_eq!(task.unassigned.len(), 3);
            assert!(task.unassigned.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(task.unassigned.iter().all(|page| *page < 100 && !all.contains(page)));
            let slot = assignment.slot(state.members().by_owner(&miner).unwrap().slot as usize).unwrap();
            assert_eq!(task.assigned.len(), 2);
            assert!(task.assigned.iter().all(|page| slot.contains(page)));
            assert_eq!(state.evaluation_task(&judging, &miner).as_ref(), Some(task));
            let evaluators: Vec<PublicKey> = task.keys.iter().map(|key| key.validator).collect();
            assert_eq!(evaluators, judging.evaluators()[&miner]);
            assert!(evaluators.contains(&key.public()));
            drawn += 1;
        }
    }
    assert_eq!(drawn, 4 * 2, "two validators measure each");
    assert_eq!(state.judge_plan(&judging, &miners[0].public()), None);
    // Each contribution has as many replayers as genesis says at least, and each knows its own.
    assert_eq!(judging.replayers().len(), 4);
    assert!(judging.replayers().values().all(|drawn| drawn.len() == 1));
    for key in &validators {
        let plan = state.judge_plan(&judging, &key.public()).unwrap();
        let drawn = judging.replayers().iter().filter(|(_, drawn)| drawn.contains(&key.public()));
        assert!(drawn.map(|(miner, _)| *miner).eq(plan.replay.iter().copied()));
    }
}

#[test]
fn only_pages_that_were_trained_on_are_assigned() {
    let (state, validators, miners) = small(&[1], 1);
    let mut claimed = contribution(&state, &miners[0].public(), 0);
    (claimed.steps, claimed.tokens) = (1, 2 * 16);
    let entry = CutEntry { miner: claimed.miner, contribution: payload::id_of(&claimed).into() };
    let inboxes = vec![Hash::of(b"inbox").into()];
    let cut =
        Cut { run: state.run(), window: state.window(), inboxes, contributions: vec![entry], registrations: vec![] };
    let value = chain_value(&validators[0], state.window());
    let reveals = vec![Reveal { validator: validators[0].public(), value }];
    let judging = state.judging(&cut, [&claimed], [], reveals).unwrap();
    let plan = state.judge_plan(&judging, &validators[0].public()).unwrap();
    let mut first_step = state.assignment().slot(0).unwrap()[..2].to_vec();
    first_step.sort_unstable();
    assert_eq!(plan.evaluations[0].assigned, first_step);
}

/// A validator that was not drawn to measure a contribution may not say that it did.
#[test]
fn nobody_measures_what_was_not_drawn_for_it() {
    let (state, validators, miners) = small(&[1, 1, 1, 1], 3);
    let judging = judging(&state, &validators, &miners);
    let miner = miners[0].public();
    let all = scores(&state, &judging, &validators, &nobody());
    let evaluators = &judging.evaluators()[&miner];
    let (of, other): (Vec<&Score>, Vec<&Score>) = all.iter().partition(|score| evaluators.contains(&score.validator));
    for evaluation in [of[0].entries[0].evaluation.clone(), Evaluation::Untried] {
        let mut wrong = other[0].clone();
        wrong.entries[0].evaluation = evaluation;
        let found = state.check_score(&judging, &wrong);
        assert!(matches!(found, Err(ScoreError::Entry { rule: "a measurement that was not drawn", .. })), "{found:?}");
    }
}
