//! The Gauntlet in the state machine: how scores and records change standings, and which contributions are
//! aggregated.

use std::collections::BTreeSet;

use templar_manifest::*;

use super::fixture::*;
use super::rules::{judging, scores, small};
use crate::*;

fn mismatch(step: u32) -> Refusal {
    Refusal::Mismatch { step, tensor: "t".to_owned() }
}

fn outcome(entry: &ScoreEntry, verdict: Verdict) -> Outcome {
    Outcome { miner: entry.miner, contribution: entry.contribution, verdict }
}

/// The changes of a miner's standing in an assessment, in words.
fn causes(found: &Assessment, miner: &PublicKey) -> Vec<String> {
    found.changes.iter().filter(|change| change.miner == *miner).map(|change| change.cause.to_string()).collect()
}

/// A validator that was away, and so did not replay what was drawn for it, costs the miner this window's
/// acceptance and nothing of its standing; and the standings of that validator stay as they were.
#[test]
fn an_outage_of_a_validator_punishes_nobody() {
    let (state, validators, miners) = small(&[1, 1, 1, 1], 3);
    let judging = judging(&state, &validators, &miners);
    let scores = scores(&state, &judging, &validators, &nobody());
    let away = judging.replayers()[&miners[0].public()][0];
    let counted: Vec<&Score> = scores.iter().filter(|score| score.validator != away).collect();
    let record = state.close(&judging, &counted, stepped(CheckpointId::default(), 1)).unwrap().body;
    let of =
        |miner: &SecretKey| &record.outcomes.iter().find(|outcome| outcome.miner == miner.public()).unwrap().verdict;
    assert_eq!(of(&miners[0]), &Verdict::Refused(Refusal::NotReplayed));
    for score in &counted {
        let found = state.assessment(&judging, &score.validator, &score.entries, Some(&record.outcomes));
        assert_eq!(found, state.assessment(&judging, &score.validator, &score.entries, None));
        assert!(found.changes.iter().all(|change| !matches!(change.cause, Cause::Penalty { .. })));
    }
    let mut cluster = Cluster::new(&[1, 1, 1, 1], 3, 1);
    cluster.members[3].online = false;
    cluster.wake();
    for _ in 0..20 {
        cluster.run(&mut Order(1), |_| false);
        cluster.expire();
    }
    let node = &cluster.members[0].node;
    assert_eq!(node.closed().len(), 1);
    let (away, here) = (cluster.validators[3].public(), cluster.validators[0].public());
    assert_eq!(node.state().standing(&away, &miners[2].public()), Standing::NEW);
    assert_ne!(node.state().standing(&here, &miners[2].public()), Standing::NEW);
}

/// The agreed weight while one of four validators is absent. It is nearly as much as with it, since its earlier
/// opinion counts. Once none of its pay could be slashed any more, the others agree without it. It is paid
/// nothing.
#[test]
fn an_absent_validator_is_taken_at_what_it_thought_before() {
    let mut cluster = super::late::cluster(4, 4, 12, None);
    cluster.wake();
    cluster.run(&mut Order(0), |cluster| cluster.members[0].node.state().window().0 == 5);
    let weights = |cluster: &Cluster, counted: usize| {
        let state = cluster.members[0].node.state();
        let (validators, miners) = (&cluster.validators[..counted], &cluster.miners);
        let judging = judging(state, validators, miners);
        let scores = scores(state, &judging, validators, &nobody());
        let counted: Vec<&Score> = scores.iter().collect();
        state.close(&judging, &counted, stepped(CheckpointId::default(), 1)).unwrap().body
    };
    let (all, without) = (weights(&cluster, 4), weights(&cluster, 3));
    // In the fixture all measure the same, so it ranks the miners as the others do, as far as they stay as they were.
    let sum = |record: &WindowBody| record.weights.iter().map(|weight| u64::from(weight.weight_ppm)).sum::<u64>();
    assert!(sum(&all) > 999_000, "{:?}", all.weights);
    assert!(sum(&without) > 900_000, "{:?}", without.weights);
    let away = cluster.validators[3].public();
    assert!(all.mints.iter().any(|mint| mint.account == away));
    assert!(without.mints.iter().all(|mint| mint.account != away));

    // Where it thought something else, that counts as if it had said so; and long after it was heard of, no more.
    let mut cluster = super::late::cluster(4, 4, 12, None);
    cluster.wake();
    cluster.run(&mut Order(0), |cluster| cluster.members[0].node.state().window().0 == 1);
    cluster.members[3].online = false;
    let vesting = cluster.members[0].node.state().genesis().emission.vesting_windows;
    let mut last = None;
    for window in 2..=vesting + 3 {
        for _ in 0..20 {
            cluster.run(&mut Order(1), |_| false);
            if cluster.members[0].node.state().window().0 >= window {
                break;
            }
            cluster.expire();
        }
        let node = &cluster.members[0].node;
        assert_eq!(node.state().window().0, window);
        last = node.closed().last().cloned();
    }
    assert!(sum(&last.unwrap().window.body) > 999_000);
}

/// A copy of the window's own or of an earlier window, under its own header: told by the body, punished where
/// it does not replay, and only there. Of two that are alike the one that replays is acquitted.
#[test]
fn a_copy_is_known_across_windows_and_a_replay_acquits() {
    let mut cluster = Cluster::new(&[1, 1], 4, 2);
    cluster.cheat = nobody();
    cluster.wake();
    cluster.run(&mut Order(0), |cluster| cluster.members[0].node.state().window().0 == 1);
    let state = cluster.members[0].node.state();
    let (validators, miners) = (&cluster.validators, &cluster.miners);
    let judging = judging(state, validators, miners);
    let score = scores(state, &judging, validators, &nobody()).remove(0);
    let (copier, stale, victim, other) = (0, 1, 2, 3);
    let mut entries = score.entries.clone();
    let first = &cluster.members[0].node.closed()[0].scores[0].payload().entries;
    let (earlier, original) = (first[victim].body, entries[victim].body);
    for (entry, body) in [(copier, original), (stale, earlier)] {
        entries[entry].body = body;
    }
    for (entry, nearest, overlap_ppm) in
        [(copier, victim, 1_000_000), (victim, copier, 1_000_000), (stale, other, 450_000)]
    {
        entries[entry].nearest = Some(miners[nearest].public());
        entries[entry].overlap_ppm = overlap_ppm;
    }
    let found = |refused: &[usize]| {
        let verdict = |index: usize| match refused.contains(&index) {
            true => Verdict::Refused(mismatch(2)),
            false => Verdict::Aggregated,
        };
        let outcomes: Vec<Outcome> =
            entries.iter().enumerate().map(|(index, entry)| outcome(entry, verdict(index))).collect();
        let found = state.assessment(&judging, &score.validator, &entries, Some(&outcomes));
        let copied = |index: usize| {
            found.changes.iter().find_map(|change| match change.cause {
                Cause::Penalty { copied: Some(copied), .. } if change.miner == miners[index].public() => Some(copied),
                _ => None,
            })
        };
        [copier, stale, victim, other].map(copied)
    };
    let victim_of =
        |window| Some(Copied { overlap_ppm: 1_000_000, of: miners[victim].public(), window: WindowIndex(window) });
    assert_eq!(found(&[]), [None; 4]);
    assert_eq!(found(&[copier, stale]), [victim_of(1), victim_of(0), None, None]);
    // Three of a kind of which one replays: the other two lose.
    assert_eq!(found(&[copier]), [victim_of(1), None, None, None]);
    // Alike to nobody beyond what honest deltas are: a mismatch and no copy.
    assert_eq!(found(&[other])[other], None);
    // Both of two that do not replay lose.
    let both = found(&[copier, victim]);
    assert!(both[copier].is_some() && both[victim].is_some());
}

#[test]
fn what_a_record_refuses_is_a_fault_in_every_standing() {
    let (state, validators, miners) = small(&[1, 1], 3);
    let judging = judging(&state, &validators, &miners);
    let score = scores(&state, &judging, &validators, &nobody()).remove(0);
    let miner = miners[0].public();
    let found = |refusal: Refusal| {
        let outcomes = [outcome(&score.entries[0], Verdict::Refused(refusal))];
        causes(&state.assessment(&judging, &score.validator, &score.entries, Some(&outcomes)), &miner)
    };
    assert_eq!(
        found(Refusal::Withheld),
        [
            "place 3 of 3 in the match",
            "committed to a delta and did not serve it",
            "penalty: withheld (1), proof x 0.750000"
        ]
    );
    assert_eq!(found(mismatch(0)), ["place 3 of 3 in the match", "penalty: out-of-sync (1), proof x 0.750000"]);
    assert_eq!(
        found(mismatch(1)),
        ["place 3 of 3 in the match", "penalty: mismatch (1), proof x 0.000000, certainty lost"]
    );
    let invalid = ["place 3 of 3 in the match", "penalty: invalid (1), proof x 0.000000"];
    assert_eq!(found(Refusal::Malformed { error: String::new() }), invalid);
    assert_eq!(found(Refusal::WrongClaim { field: String::new() }), invalid);
    assert!(found(Refusal::NotReplayed)[1].starts_with("gained "));
    // The cut without it.
    let entries = &score.entries[1..];
    assert_eq!(causes(&state.assessment(&judging, &score.validator, entries, None), &miner), ["no contribution"]);
}

/// The best by score, then some by the seed, then the reserve; and what half of the stake cannot use is kept out.
#[test]
fn the_best_some_that_are_drawn_and_nobody_that_is_excluded() {
    let (validators, miners) = (keys("validator", 2), keys("miner", 6));
    let mut spec = genesis(&[(&validators[0], 1), (&validators[1], 1)], &miners, 0);
    spec.outer.max_contributions = 4;
    spec.gauntlet.exploration_contributions = 2;
    let state = state(spec);
    let judging = judging(&state, &validators, &miners);
    let scores = scores(&state, &judging, &validators, &nobody());
    let chosen = |scores: &[Score], verdict: &Verdict| -> BTreeSet<PublicKey> {
        let outcomes = state.outcomes(&judging, &scores.iter().collect::<Vec<_>>());
        outcomes.iter().filter(|outcome| outcome.verdict == *verdict).map(|outcome| outcome.miner).collect()
    };
    let order = |miner: &PublicKey| -> Hash {
        let mut hasher = blake3::Hasher::new_derive_key("templar/1 selection order");
        hasher.update(judging.seed().as_bytes());
        hasher.update(miner.as_bytes());
        hasher.finalize().into()
    };
    // In the fixture a delta gains by its miner's key, and all proofs are equal.
    let mut rest: Vec<PublicKey> = miners[..4].iter().map(SecretKey::public).collect();
    rest.sort_by_key(order);
    let expected: BTreeSet<PublicKey> =
        miners[4..].iter().map(SecretKey::public).chain(rest[..2].iter().copied()).collect();
    assert_eq!(chosen(&scores, &Verdict::Aggregated), expected);
    assert_eq!(chosen(&scores, &Verdict::Reserve), rest[2..].iter().copied().collect());

    // The best one's trial step could not be taken by one of two equal validators: it is kept out, and paid by
    // nobody.
    let best = miners[5].public();
    let mut without = scores.clone();
    let entry = without[0].entries.iter_mut().find(|entry| entry.miner == best).unwrap();
    (entry.assigned_before_nanonats, entry.assigned_after_nanonats) = (0, 0);
    (entry.unassigned_before_nanonats, entry.unassigned_after_nanonats) = (0, 0);
    let (validator, entries) = (without[0].validator, without[0].entries.clone());
    without[0] = state.score(&judging, &validator, Judgement::of_the_window(entries)).unwrap();
    assert!(without[0].row.iter().all(|weight| weight.miner != best));
    assert_eq!(chosen(&without, &Verdict::Excluded), BTreeSet::from([best]));
    let counted: Vec<&Score> = without.iter().collect();
    let record = state.close(&judging, &counted, stepped(CheckpointId::default(), 1)).unwrap().body;
    assert!(record.mints.iter().all(|mint| mint.account != best));
}

/// Two validators' standings of one miner differ only by what they measured on their own pages.
#[test]
fn equal_measurements_make_equal_standings() {
    let mut cluster = Cluster::started(&[5, 3, 4], 4, 12);
    cluster.run(&mut Order(2), |cluster| cluster.members[0].node.is_over());
    let node = &cluster.members[0].node;
    let state = node.state();
    for miner in &cluster.miners {
        let of = |validator: &SecretKey| state.standing(&validator.public(), &miner.public());
        let first = of(&cluster.validators[0]);
        assert!(cluster.validators.iter().all(|validator| of(validator) == first));
        let cheat = miner.public() == cluster.cheat;
        assert_eq!(first.proof_nanos > 0, !cheat);
        assert_eq!(first.rating.sigma_picos >= Rating::NEW.sigma_picos, cheat);
    }
    // After the warm-up those with a proof above the threshold are still paid.
    assert!(!node.closed().last().unwrap().window.body.mints.is_empty());
}
