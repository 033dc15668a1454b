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

fn refs(scores: &[Score]) -> Vec<&Score> {
    scores.iter().collect()
}

/// The changes of a miner's standing in an assessment, in words.
fn causes(found: &Assessment, miner: &PublicKey) -> Vec<String> {
    found.changes.iter().filter(|change| change.miner == *miner).map(|change| change.cause.to_string()).collect()
}

/// A validator that was away, and so did not replay what was drawn for it, costs the miner this window's
/// acceptance and nothing of its standing.
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
    let found = state.assessment(&judging, &counted);
    assert!(found.changes.iter().all(|change| !matches!(change.cause, Cause::Penalty { .. })));
    let mut cluster = Cluster::new(&[1, 1, 1, 1], 3, 1);
    cluster.members[3].online = false;
    cluster.wake();
    for _ in 0..20 {
        cluster.run(&mut Order(1), |_| false);
        cluster.expire();
    }
    let node = &cluster.members[0].node;
    assert_eq!(node.closed().len(), 1);
    assert_ne!(node.state().standing(&miners[2].public()), Standing::NEW);
}

/// A contribution has the same losses whichever of its evaluators are there, so an absent validator changes no
/// weight. If all of its evaluators are away it is not measured, which costs the miner nothing. The absent validator
/// is paid nothing.
#[test]
fn an_absent_validator_costs_no_miner_anything() {
    let mut cluster = super::late::cluster(4, 4, 12, None);
    cluster.wake();
    cluster.run(&mut Order(0), |cluster| cluster.members[0].node.state().window().0 == 5);
    let state = cluster.members[0].node.state();
    let judging = judging(state, &cluster.validators, &cluster.miners);
    let all = scores(state, &judging, &cluster.validators, &nobody());
    let close = |counted: &[&Score]| state.close(&judging, counted, stepped(CheckpointId::default(), 1)).unwrap().body;
    let whole = close(&refs(&all));
    let sum = |record: &WindowBody| record.weights.iter().map(|weight| u64::from(weight.weight_ppm)).sum::<u64>();
    assert!(sum(&whole) > 999_000, "{:?}", whole.weights);
    for away in &cluster.validators {
        let counted: Vec<&Score> = all.iter().filter(|score| score.validator != away.public()).collect();
        let without = close(&counted);
        for (outcome, whole) in without.outcomes.iter().zip(&whole.outcomes) {
            assert!(outcome.losses.is_some(), "two evaluators each, of which one is there");
            assert_eq!(outcome, whole);
        }
        assert_eq!(without.weights, whole.weights);
        assert!(without.mints.iter().all(|mint| mint.account != away.public()));
        assert!(whole.mints.iter().any(|mint| mint.account == away.public()));
    }
    let miner = cluster.miners[0].public();
    let mut unmeasured = all.clone();
    for score in &mut unmeasured {
        score.entries.iter_mut().filter(|entry| entry.miner == miner).for_each(|entry| *entry = withheld(entry));
    }
    let found = state.assessment(&judging, &refs(&unmeasured));
    assert_eq!(found.scores.get(&miner), None, "all say that it is withheld");
    for score in &mut unmeasured {
        let entry = score.entries.iter_mut().find(|entry| entry.miner == miner).unwrap();
        let honest = all[0].entries.iter().find(|entry| entry.miner == miner).unwrap();
        *entry =
            ScoreEntry { evaluation: Evaluation::NotDrawn, replay: Replay::NotDrawn, proof: None, ..honest.clone() };
    }
    let found = state.assessment(&judging, &refs(&unmeasured));
    assert!(found.scores.contains_key(&miner));
    assert!(found.changes.iter().all(|change| change.miner != miner), "{:?}", causes(&found, &miner));
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
    let good = scores(state, &judging, validators, &nobody());
    let (copier, stale, victim, other) = (0, 1, 2, 3);
    let first = &cluster.members[0].node.closed()[0].scores[0].payload().entries;
    let (earlier, original) = (first[victim].body, good[0].entries[victim].body);
    let found = |refused: &[usize]| {
        let mut scores = good.clone();
        for entries in scores.iter_mut().map(|score| &mut score.entries) {
            for (entry, body) in [(copier, original), (stale, earlier)] {
                entries[entry].body = body;
            }
            for (entry, nearest, overlap_ppm) in
                [(copier, victim, 1_000_000), (victim, copier, 1_000_000), (stale, other, 450_000)]
            {
                entries[entry].nearest = Some(miners[nearest].public());
                entries[entry].overlap_ppm = overlap_ppm;
            }
            for index in refused {
                (entries[*index].replay, entries[*index].proof) = (Replay::Refused(mismatch(2)), None);
            }
        }
        let found = state.assessment(&judging, &refs(&scores));
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
fn what_a_record_refuses_is_a_fault_of_the_standing() {
    let (state, validators, miners) = small(&[1, 1], 3);
    let judging_of = |miners: &[SecretKey]| judging(&state, &validators, miners);
    let judging = judging_of(&miners);
    let good = scores(&state, &judging, &validators, &nobody());
    let miner = miners[0].public();
    let found = |replay: Replay| {
        let mut scores = good.clone();
        for score in &mut scores {
            (score.entries[0].replay, score.entries[0].proof) = (replay.clone(), None);
        }
        causes(&state.assessment(&judging, &refs(&scores)), &miner)
    };
    let refused = |refusal| found(Replay::Refused(refusal));
    assert_eq!(
        refused(Refusal::Withheld),
        ["place 3 of 3 in the match", "committed to a delta and did not serve it", "penalty: withheld (1), x 0.750000"]
    );
    assert_eq!(refused(mismatch(0)), ["place 3 of 3 in the match", "penalty: out-of-sync (1), x 0.750000"]);
    assert_eq!(
        refused(mismatch(1)),
        ["place 3 of 3 in the match", "penalty: mismatch (1), x 0.000000, certainty lost"]
    );
    let invalid = ["place 3 of 3 in the match", "penalty: invalid (1), x 0.000000"];
    assert_eq!(refused(Refusal::Malformed { error: String::new() }), invalid);
    assert_eq!(refused(Refusal::WrongClaim { field: String::new() }), invalid);
    // Nobody replayed it: that is no fault.
    assert!(found(Replay::NotDrawn)[1].starts_with("gained "));
    // The cut without it.
    let judging = judging_of(&miners[1..]);
    let scores = scores(&state, &judging, &validators, &nobody());
    assert_eq!(causes(&state.assessment(&judging, &refs(&scores)), &miner), ["no contribution"]);
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

    // The best one's trial step cannot be taken: it is kept out, and not paid.
    let best = miners[5].public();
    let mut without = scores.clone();
    for entry in without.iter_mut().flat_map(|score| &mut score.entries).filter(|entry| entry.miner == best) {
        assert_ne!(entry.evaluation, Evaluation::NotDrawn, "both measure everything");
        entry.evaluation = Evaluation::Untried;
    }
    assert!(without.iter().all(|score| state.check_score(&judging, score) == Ok(())));
    assert_eq!(chosen(&without, &Verdict::Excluded), BTreeSet::from([best]));
    let record = state.close(&judging, &refs(&without), stepped(CheckpointId::default(), 1)).unwrap().body;
    assert!(record.mints.iter().all(|mint| mint.account != best));
}

/// One standing of each miner follows from the records, on every node.
#[test]
fn standings_follow_from_what_was_measured() {
    let mut cluster = Cluster::started(&[5, 3, 4], 4, 12);
    cluster.run(&mut Order(2), |cluster| cluster.members[0].node.is_over());
    let node = &cluster.members[0].node;
    let state = node.state();
    for miner in &cluster.miners {
        let standing = state.standing(&miner.public());
        let cheat = miner.public() == cluster.cheat;
        assert_eq!(standing.proof_nanos > 0, !cheat);
        assert_eq!(standing.rating.sigma_picos >= Rating::NEW.sigma_picos, cheat);
    }
    // After the warm-up those with a proof above the threshold are still paid.
    assert!(!node.closed().last().unwrap().window.body.mints.is_empty());
}

/// A validator states other losses than it measured, or copies losses without measuring, and proposes records as
/// others do. Everybody measures what it measured, counts no score of it, and records the true losses.
#[test]
fn false_losses_are_found_by_all_and_cost_their_author_its_pay() {
    let doubled = |_: &JudgePlan, entries: &mut [ScoreEntry]| {
        for entry in entries {
            if let Evaluation::Measured(measured) = &mut entry.evaluation {
                measured.losses.unassigned_after_nanonats -= 1;
            }
        }
    };
    let copied = |plan: &JudgePlan, entries: &mut [ScoreEntry]| {
        for task in &plan.evaluations {
            let entry = entries.iter_mut().find(|entry| entry.miner == task.contribution.miner).unwrap();
            // The losses are right, and the hidden states are made up.
            let losses = entry.evaluation.losses().unwrap();
            entry.evaluation = task.evaluation(&plan.validator, Some((losses, Hash::of(b"made up"))));
        }
    };
    let untried = |_: &JudgePlan, entries: &mut [ScoreEntry]| {
        entries.iter_mut().filter(|entry| entry.evaluation.measurement().is_some()).for_each(|entry| {
            entry.evaluation = Evaluation::Untried;
        });
    };
    for lie in [doubled as fn(&JudgePlan, &mut [ScoreEntry]), copied, untried] {
        for liar in 0..4 {
            let mut cluster = Cluster::new(&[1, 1, 1, 1], 3, 3);
            cluster.cheat = nobody();
            let liar = cluster.validators[liar].public();
            cluster.false_losses = Some((vec![liar], lie));
            cluster.wake();
            let order = &mut Order(7);
            for _ in 0..40 {
                cluster.run(order, |_| false);
                if cluster.members.iter().all(|member| member.node.is_over()) {
                    break;
                }
                cluster.expire();
            }
            let node = &cluster.members[0].node;
            assert_eq!(node.closed().len(), 3, "stalled");
            let mut lied = 0;
            for closed in node.closed() {
                let before = node.state_at(closed.window.header.window).unwrap();
                let judging = before.judging_of(closed).unwrap();
                let is_drawn = judging.evaluators().values().any(|drawn| drawn.contains(&liar));
                lied += usize::from(is_drawn);
                let counted = closed.scores.iter().any(|score| score.signer() == liar);
                assert_eq!(counted, !is_drawn, "window {}", closed.window.header.window);
                let slashed = closed.window.body.slashes.iter().map(|slash| (slash.account, slash.cause));
                let expected = is_drawn.then_some((liar, SlashCause::Falsehood));
                assert!(slashed.eq(expected), "window {}", closed.window.header.window);
                for outcome in &closed.window.body.outcomes {
                    let expected = losses(gain(&outcome.miner, closed.window.header.window));
                    assert_eq!(outcome.losses, Some(expected));
                }
            }
            assert!(lied > 0);
            let disputes = cluster.events.iter().filter(
                |event| matches!(event, Output::Dispute(Dispute::Measurement { validator, .. }) if *validator == liar),
            );
            assert!(disputes.count() > 0);
        }
    }
}

/// A contribution that its drawn validators measured differently is counted with the losses behind which most stake
/// stands, whatever the order of the scores.
#[test]
fn any_scores_give_one_set_of_losses() {
    let (state, validators, miners) = small(&[1, 2], 3);
    let judging = judging(&state, &validators, &miners);
    let mut scores = scores(&state, &judging, &validators, &nobody());
    restate(&mut scores[0].entries[0], losses(1));
    restate(&mut scores[1].entries[0], losses(2));
    let losses_of = |scores: &[&Score]| state.outcomes(&judging, scores)[0].losses;
    assert_eq!(losses_of(&[&scores[0], &scores[1]]), Some(losses(2)));
    assert_eq!(losses_of(&[&scores[1], &scores[0]]), Some(losses(2)));
    assert_eq!(losses_of(&[&scores[0]]), Some(losses(1)));
}
