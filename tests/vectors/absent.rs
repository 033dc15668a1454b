//! A validator can sign its judgement of a window, although a miner did not serve some blob or served an
//! unreadable one. It signs nothing about a miner while a blob is damaged here, or the dataset is missing here.

use templar_audit::{AuditInputs, AuditTask, InputError, JudgeTask, States, audit_window, judge, replay_contribution};
use templar_blob::{BlobSource, Damage, MemoryBlobs, Watched};
use templar_manifest::*;
use templar_protocol::Judgement;
use templar_train::Recipe;

use super::example;
use super::window::key;

/// The score of a validator for the example's window when some blobs are missing: they count as withheld. The
/// validator must be able to sign that score.
fn entries_without(blobs: &MemoryBlobs, validator: &PublicKey) -> Result<Vec<ScoreEntry>, InputError> {
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
            Err(InputError::Withheld { .. }) => Ok((Replay::Refused(Refusal::Withheld), Vec::new())),
            Err(error) => Err(error),
        }
    };
    let contributions = &example.closed.contributions;
    let task = JudgeTask { plan: &plan, contributions, parameters: &parameters };
    let entries = judge(&inputs, &task, replay, |_, missing| missing)?;
    let score = example.before.score(&judging, validator, Judgement::of_the_window(entries)).unwrap();
    Ok(payload::decode::<Score>(&payload::encode(&score)).unwrap().entries)
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
            let entries = entries_without(&without(&contribution.delta.hash()), &validator).unwrap();
            let absent = &entries[index];
            assert_eq!(absent.replay, Replay::Refused(Refusal::Withheld));
            assert_eq!((absent.body, absent.nearest, &absent.evaluation), (None, None, &Evaluation::Untried));
            assert_eq!(entries[1 - index].nearest, None);
            // Only the validator that replays needs the trace.
            let drawn = score.payload().entries[index].replay != Replay::NotDrawn;
            let entries = entries_without(&without(&contribution.trace.hash()), &validator).unwrap();
            assert_eq!(entries[index].replay == Replay::Refused(Refusal::Withheld), drawn);
            assert_eq!(entries[index].body.is_none(), drawn);
        }
    }
}

#[test]
fn what_is_damaged_here_is_no_miners_fault() {
    let example = example();
    let mut read_by_all = 0;
    for score in &example.closed.scores {
        let validator = score.payload().validator;
        let whole = entries_without(&example.blobs, &validator).unwrap();
        for (id, bytes) in example.blobs.iter() {
            for damaged in ways_to_damage(bytes) {
                let mut blobs = example.blobs.clone();
                blobs.damage(*id, damaged);
                // A validator does not read everything, such as the traces of miners that it does not replay.
                match entries_without(&blobs, &validator) {
                    Ok(entries) => assert_eq!(entries, whole, "{id}"),
                    Err(InputError::Damaged { blob, .. }) => assert_eq!(blob, *id),
                    Err(error) => panic!("{id}: {error}"),
                }
            }
        }
        for shard in example.dataset.payload().training.iter().map(|shard| shard.blob.hash()) {
            let found = entries_without(&without(&shard), &validator);
            assert!(matches!(&found, Err(InputError::Unavailable { .. })), "{found:?}");
            read_by_all += 1;
        }
    }
    assert!(read_by_all > 0);
}

/// A flipped bit, a blob that is cut short, and one that is empty.
fn ways_to_damage(bytes: &[u8]) -> [Vec<u8>; 3] {
    let mut flipped = bytes.to_vec();
    flipped[bytes.len() / 2] ^= 0x10;
    [flipped, bytes[..bytes.len() / 2].to_vec(), Vec::new()]
}

/// An audit says so, and accuses nobody.
#[test]
fn an_audit_of_damaged_blobs_is_unavailable_and_never_a_mismatch() {
    let example = example();
    let recipe = Recipe::new(example.genesis.id().into(), example.genesis.payload().clone()).unwrap();
    let parameters = recipe.initial_parameters(&example.blobs).unwrap();
    let auditor = key("auditor").public();
    let task = AuditTask { before: &example.before, parameters: &parameters, closed: &example.closed, auditor };
    let audit = |blobs: &dyn BlobSource| {
        let inputs = AuditInputs::new(&recipe, example.dataset.payload(), blobs).unwrap();
        audit_window(&inputs, &task, &mut States::default(), &mut |_| {})
    };
    let whole = audit(&example.blobs);
    assert_eq!((whole.verdict(), whole.replayed), (&AuditVerdict::Match, 2));
    let mut damaged_blobs = 0;
    for (id, bytes) in example.blobs.iter() {
        for damaged in ways_to_damage(bytes) {
            let mut blobs = example.blobs.clone();
            blobs.damage(*id, damaged);
            let watched = Watched { blobs: &blobs, damage: Damage::default() };
            let found = audit(&watched);
            let read = watched.damage.so_far().contains_key(id);
            damaged_blobs += u64::from(read);
            match found.verdict() {
                AuditVerdict::Unavailable { what } if read => assert!(what.starts_with("damaged here: "), "{what}"),
                AuditVerdict::Match if !read => {}
                verdict => panic!("{id}: {verdict:?}"),
            }
        }
        let mut blobs = example.blobs.clone();
        blobs.remove(id);
        assert!(!matches!(audit(&blobs).verdict(), AuditVerdict::Mismatch { .. }), "{id} is missing");
    }
    // Both deltas, the trace of the honest miner, and the shards of both parts of the text.
    assert!(damaged_blobs >= 3 * 5, "{damaged_blobs}");
}
