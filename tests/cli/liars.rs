//! A single validator can certify any record, and an audit finds each of its lies from the blobs.
//!
//! The liar follows the protocol in every byte: its entries are signed, its record follows from its score, and
//! its own node accepts them. Only the facts about tensors are false.

use std::sync::Arc;

use templar_home::access::Access;
use templar_home::replica::Replica;
use templar_manifest::proof::witness;
use templar_manifest::{Evaluation, Hash, Refusal, Replay, ReplayProof, ScoreEntry, Signed};
use templar_node::executor::{Executor, TrainRequest, TrainWatch};
use templar_protocol::{Input, Measured, Output};
use templar_testkit::trainer::NoiseTrainer;
use templar_train::StepReport;

use super::home::{Home, Said};

/// The fact that a liar changes.
#[derive(Default)]
pub(crate) struct Lie {
    is_noise: bool,
    score: Option<fn(&mut ScoreEntry)>,
    checkpoint: bool,
    aggregate: bool,
    held_out_loss: bool,
}

struct Silent;

impl TrainWatch for Silent {
    fn step(&mut self, _report: &StepReport) {}
}

/// Plays window 0 as its miner and its only validator, with one lie.
pub(crate) fn window(home: &Home, lie: &Lie) {
    let access = Access::write(&home.path()).unwrap();
    let context = access.run(None).unwrap();
    let (store, handle) = (access.store().unwrap().clone(), access.runtime().handle().clone());
    let keep = Arc::new(move |bytes| handle.block_on(store.put(bytes)));
    let executor = Executor::new(context.clone(), access.home.clone(), access.shared_blobs(), keep).unwrap();
    let mut replica = Replica::open(&access.home, context, access.home.key().unwrap()).unwrap();
    for _ in 0..20 {
        let node = replica.node().clone();
        let state = node.state();
        let mut contributions: Vec<Signed<_>> = node.contributions().cloned().collect();
        contributions.sort_by_key(|signed| signed.payload().miner);
        let todo = node.todo().into_iter().find(|output| !matches!(output, Output::Timer { .. }));
        match todo.expect("something to do") {
            Output::Train { .. } => {
                let me = replica.me();
                let mut request = TrainRequest::honest(state, me, 4);
                if lie.is_noise {
                    request.trainer = &NoiseTrainer;
                }
                let trained = executor.train(request, &mut Silent, &|_| {}).unwrap();
                replica.contribute(trained).unwrap();
            }
            Output::Sign(document) => drop(replica.sign(document).unwrap()),
            Output::Reveal { .. } => drop(replica.reveal().unwrap()),
            Output::Judge(plan) => {
                let mut entries = executor.judge(state, &plan, &contributions, false).unwrap();
                if let Some(change) = lie.score {
                    entries.iter_mut().for_each(change);
                }
                let (window, seed, verdicts) = (plan.window, plan.seed, Vec::new());
                let measured = Measured::Judged { window, seed, entries, verdicts, contests: Vec::new() };
                replica.submit(Input::Measured(measured)).unwrap();
            }
            Output::Apply { window, outcomes, .. } => {
                let applied = executor.apply(state.checkpoint(), window, &outcomes, &contributions).unwrap();
                let mut stepped = applied.stepped;
                if lie.checkpoint {
                    stepped.checkpoint = Hash::of(b"a lie").into();
                }
                if lie.aggregate {
                    stepped.aggregate = Hash::of(b"a lie").into();
                }
                stepped.held_out_loss_nanonats -= u64::from(lie.held_out_loss);
                let measured = Measured::Applied { window, outcomes, stepped };
                replica.submit(Input::Measured(measured)).unwrap();
            }
            other => panic!("{other:?}"),
        }
        if !replica.node().closed().is_empty() {
            return;
        }
    }
    panic!("the window does not close");
}

/// The verdicts of the audit about one lie.
fn audited(lie: &Lie) -> Said {
    let home = Home::with_run("liar", &[]);
    window(&home, lie);
    home.fails(4, ["audit"])
}

/// The part of the first window that the audit cannot confirm, and the reason.
fn part(said: &Said, part: &str) -> String {
    let lines = said.lines();
    let window = lines.iter().find(|line| line["type"] == "window").unwrap();
    assert_eq!(window[part]["verdict"], "mismatch", "{window}");
    window[part]["what"].as_str().unwrap().to_owned()
}

fn contribution(said: &Said) -> String {
    let lines = said.lines();
    let line = lines.iter().find(|line| line["type"] == "contribution").unwrap();
    assert_eq!(line["verdict"], "mismatch", "{line}");
    line["what"].as_str().unwrap().to_owned()
}

#[test]
fn the_truth_passes() {
    let home = Home::with_run("liar", &[]);
    window(&home, &Lie::default());
    assert_eq!(home.ok(["audit"])["verdict"], "match");
}

#[test]
fn a_loss_that_was_not_measured() {
    let lie = |entry: &mut ScoreEntry| {
        let Evaluation::Measured(measured) = &mut entry.evaluation else { panic!("{entry:?}") };
        measured.losses.unassigned_after_nanonats -= 1;
    };
    let said = audited(&Lie { score: Some(lie), ..Lie::default() });
    assert!(part(&said, "record").contains("unassigned_after_nanonats is "), "{said:?}");
}

#[test]
fn a_refusal_of_honest_work() {
    let refuse = |entry: &mut ScoreEntry| {
        entry.replay = Replay::Refused(Refusal::Mismatch { step: 1, tensor: "model.norm.weight".to_owned() });
        entry.proof = None;
    };
    let said = audited(&Lie { score: Some(refuse), ..Lie::default() });
    assert!(contribution(&said).contains("it replays to its hash"), "{said:?}");
    part(&said, "record");
}

#[test]
fn an_accepted_delta_that_nobody_computed() {
    let accept = |entry: &mut ScoreEntry| {
        entry.replay = Replay::Match;
        entry.proof = Some(made_up());
    };
    let said = audited(&Lie { is_noise: true, score: Some(accept), ..Lie::default() });
    assert!(contribution(&said).contains("recorded as accepted; replay differs from step 1"), "{said:?}");
}

/// A proof that the only validator can check without a replay.
fn made_up() -> ReplayProof {
    let claim = Hash::of(b"no state");
    ReplayProof { claim, witnesses: vec![witness(&claim)] }
}

#[test]
fn a_replay_that_was_not_made() {
    let skip = |entry: &mut ScoreEntry| entry.proof = Some(made_up());
    let said = audited(&Lie { score: Some(skip), ..Lie::default() });
    assert!(part(&said, "record").contains("proof of replay is not the keyed hash of the state"), "{said:?}");
}

#[test]
fn a_checkpoint_that_is_not_the_outer_step() {
    let said = audited(&Lie { checkpoint: true, ..Lie::default() });
    assert!(part(&said, "checkpoint").contains("is recorded as"), "{said:?}");
}

#[test]
fn an_aggregate_that_the_deltas_do_not_give() {
    let said = audited(&Lie { aggregate: true, ..Lie::default() });
    assert!(part(&said, "checkpoint").contains("aggregate is recorded as"), "{said:?}");
}

#[test]
fn a_held_out_loss_that_is_too_good() {
    let said = audited(&Lie { held_out_loss: true, ..Lie::default() });
    assert!(part(&said, "checkpoint").contains("held_out_loss_nanonats is"), "{said:?}");
}
