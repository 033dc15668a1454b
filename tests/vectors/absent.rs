//! A validator can sign its judgement of a window, although a miner did not serve some blob or served an
//! unreadable one.

use templar_audit::{AuditInputs, InputError, JudgeTask, judge, replay_contribution};
use templar_blob::MemoryBlobs;
use templar_manifest::*;
use templar_protocol::Judgement;
use templar_train::Recipe;

use super::example;

/// The score of a validator for the example's window when some blobs are missing: they count as withheld. The
/// validator must be able to sign that score.
fn entries_without(blobs: &MemoryBlobs, validator: &PublicKey) -> Vec<ScoreEntry> {
    let example = example();
    let recipe = Recipe::new(example.genesis.id().into(), example.genesis.payload().clone()).unwrap();
    let inputs = AuditInputs::new(&recipe, example.dataset.payload(), blobs).unwrap();
    let parameters = recipe.initial_parameters(blobs).unwrap();
    let judging = example.before.judging_of(&example.closed).unwrap();
    let plan = example.before.judge_plan(&judging, validator).unwrap();
    let replay = |contribution: &Contribution| {
        let task = example.before.replay_task(&judging, &contribution.miner).unwrap();
        match replay_contribution(&inputs, &task, &parameters, |id| inputs.state(id)) {
            Ok(replayed) => Ok((replayed.verdict, replayed.claims)),
            Err(InputError::Unavailable { .. }) => Ok((Replay::Refused(Refusal::Withheld), Vec::new())),
            Err(error) => Err(error),
        }
    };
    let contributions = &example.closed.contributions;
    let task = JudgeTask { plan: &plan, contributions, parameters: &parameters };
    let entries = judge(&inputs, &task, replay, |_, missing| missing).unwrap();
    let score = example.before.score(&judging, validator, Judgement::of_the_window(entries)).unwrap();
    payload::decode::<Score>(&payload::encode(&score)).unwrap().entries
}

/// All blobs of the example except one.
fn without(absent: &Hash) -> MemoryBlobs {
    let mut blobs = MemoryBlobs::new();
    for (_, bytes) in example().blobs.iter().filter(|(id, _)| *id != absent) {
        blobs.insert(bytes.clone());
    }
    blobs
}

#[test]
fn what_was_not_served_is_withheld_for_who_replays_it_and_who_does_not() {
    for score in &example().closed.scores {
        let validator = score.payload().validator;
        for (index, contribution) in example().closed.contributions.iter().map(Signed::payload).enumerate() {
            let entries = entries_without(&without(&contribution.delta.hash()), &validator);
            let absent = &entries[index];
            assert_eq!(absent.replay, Replay::Refused(Refusal::Withheld));
            assert_eq!((absent.body, absent.nearest, absent.unassigned_before_nanonats), (None, None, 0));
            assert_eq!(entries[1 - index].nearest, None);
            // Only the validator that replays needs the trace.
            let drawn = score.payload().entries[index].replay != Replay::NotDrawn;
            let entries = entries_without(&without(&contribution.trace.hash()), &validator);
            assert_eq!(entries[index].replay == Replay::Refused(Refusal::Withheld), drawn);
            assert_eq!(entries[index].body.is_none(), drawn);
        }
    }
}
