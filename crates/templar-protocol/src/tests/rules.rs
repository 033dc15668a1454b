//! The single rules: vectors by hand, frozen vectors, properties.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use templar_manifest::*;

use super::fixture::*;
use crate::*;

pub(super) fn small(stakes: &[u64], miners: usize) -> (RunState, Vec<SecretKey>, Vec<SecretKey>) {
    let (validators, miners) = (keys("validator", stakes.len()), keys("miner", miners));
    let with_stakes: Vec<(&SecretKey, u64)> = validators.iter().zip(stakes.iter().copied()).collect();
    (state(genesis(&with_stakes, &miners, 0)), validators, miners)
}

/// A window in which every miner contributed and every validator revealed.
pub(super) fn judging(state: &RunState, validators: &[SecretKey], miners: &[SecretKey]) -> Judging {
    let contributions: Vec<Contribution> = miners.iter().map(|miner| contribution(state, &miner.public(), 0)).collect();
    let entries = contributions
        .iter()
        .map(|claimed| CutEntry { miner: claimed.miner, contribution: payload::id_of(claimed).into() })
        .collect();
    let inboxes = vec![Hash::of(b"inbox").into()];
    let cut = Cut { run: state.run(), window: state.window(), inboxes, contributions: entries, registrations: vec![] };
    let reveals = validators
        .iter()
        .map(|key| Reveal { validator: key.public(), value: chain_value(key, state.window()) })
        .collect();
    state.judging(&cut, &contributions, [], reveals).unwrap()
}

pub(super) fn scores(state: &RunState, judging: &Judging, validators: &[SecretKey], cheat: &PublicKey) -> Vec<Score> {
    let score = |key: &SecretKey| {
        let plan = state.judge_plan(judging, &key.public()).unwrap();
        state
            .score(
                judging,
                &key.public(),
                Judgement {
                    verdicts: late(&plan, cheat, None),
                    ..Judgement::of_the_window(measured(judging, &plan, cheat))
                },
            )
            .unwrap()
    };
    validators.iter().map(score).collect()
}

#[test]
fn nothing_but_commitments_and_chain_values_enters_the_seed() {
    let (state, validators, miners) = small(&[1, 2], 3);
    let first = judging(&state, &validators, &miners);
    // Another cut id, claims about size and loss: the same seed. Another delta: another seed.
    let mut claimed: Vec<Contribution> = first.contributions().values().cloned().collect();
    for contribution in &mut claimed {
        contribution.delta_bytes += 1;
        contribution.loss_nanonats += 1;
    }
    let seed_of = |claimed: &[Contribution]| {
        let mut cut = first.cut().clone();
        cut.inboxes = vec![Hash::of(b"other").into()];
        for (entry, contribution) in cut.contributions.iter_mut().zip(claimed) {
            entry.contribution = payload::id_of(contribution).into();
        }
        state.judging(&cut, claimed, [], first.reveals().to_vec()).unwrap().seed()
    };
    assert_eq!(seed_of(&claimed), first.seed());
    claimed[0].delta = BlobId::of(b"other");
    assert_ne!(seed_of(&claimed), first.seed());
}

#[test]
fn pages_are_disjoint_until_an_epoch_ends() {
    // 4 slots of 6 pages out of 100: four windows, then four pages are left over.
    let mut cluster = Cluster::new(&[1], 4, 9);
    // Nobody cheats, so nobody loses its slot.
    cluster.cheat = nobody();
    cluster.wake();
    cluster.run(&mut Order(0), |cluster| cluster.members.iter().all(|member| member.node.is_over()));
    let node = &cluster.members[0].node;
    for epoch in 0..2 {
        let mut seen = BTreeSet::new();
        for window in epoch * 4..epoch * 4 + 4 {
            let state = node.state_at(WindowIndex(window)).unwrap();
            let assignment = state.assignment();
            assert_eq!(assignment.slots().len(), 4);
            for slot in assignment.slots() {
                assert_eq!(slot.len(), 6);
                assert!(slot.iter().all(|page| *page < 100 && seen.insert(*page)), "window {window}");
            }
            assert_eq!(assignment, state.clone().assignment());
        }
        assert_eq!(seen.len(), 96);
    }
    assert_eq!(node.state().pages().epoch(), 2);
    assert_eq!(node.state().pages().taken(), 24);
}

#[test]
fn every_claim_is_checked() {
    let (state, _, miners) = small(&[1], 2);
    let good = contribution(&state, &miners[0].public(), 0);
    assert_eq!(state.check_claims(&good), Ok(()));
    let wrong = |field: &'static str, change: &dyn Fn(&mut Contribution)| {
        let mut claimed = good.clone();
        change(&mut claimed);
        assert_eq!(state.check_claims(&claimed), Err(field));
    };
    wrong("run", &|claimed| claimed.run = RunId::default());
    wrong("window", &|claimed| claimed.window = WindowIndex(1));
    wrong("miner", &|claimed| claimed.miner = PublicKey::from_bytes([1; 32]));
    wrong("parent", &|claimed| claimed.parent = Some(Hash::of(b"x").into()));
    wrong("state_in", &|claimed| claimed.state_in = Hash::of(b"x").into());
    wrong("steps", &|claimed| claimed.steps = 0);
    wrong("steps", &|claimed| claimed.steps = 4);
    wrong("tokens", &|claimed| claimed.tokens += 1);
    wrong("tokens", &|claimed| claimed.steps = 2);
}

#[test]
fn a_genesis_that_cannot_run_is_refused() {
    let (validators, miners) = (keys("validator", 1), keys("miner", 2));
    let new = |change: &dyn Fn(&mut Genesis), pages| {
        let mut genesis = genesis(&[(&validators[0], 1)], &miners, 3);
        change(&mut genesis);
        let tokens = u64::saturating_add(pages * 16, 1);
        RunState::new(Arc::new(genesis), CheckpointId::default(), StateId::default(), tokens).map(|_| ())
    };
    // Two slots of six, and three pages that nobody is assigned.
    assert_eq!(new(&|_| {}, 15), Ok(()));
    assert!(matches!(new(&|_| {}, 14), Err(GenesisError::TooFewPages { needed: 15, .. })));
    let huge = |genesis: &mut Genesis| (genesis.inner.steps, genesis.inner.batch_sequences) = (u32::MAX, u32::MAX);
    assert!(matches!(new(&huge, u64::MAX / 16), Err(GenesisError::TooFewPages { .. })));
    assert!(matches!(new(&|genesis| genesis.windows = 1 << 20, 15), Err(GenesisError::TooManyWindows { .. })));
    // Half as many pages of twice the length.
    let longer = |batch_sequences| {
        let context = ContextSegment { batch_sequences, ..context(32) };
        move |genesis: &mut Genesis| genesis.context = vec![context]
    };
    assert_eq!(new(&longer(1), 18), Ok(()));
    let found = new(&longer(1), 17);
    assert!(matches!(found, Err(GenesisError::TooFewPages { window: 2, length: 32, pages: 8, needed: 9, .. })));
    assert!(matches!(new(&longer(2), 29), Err(GenesisError::TooFewPages { needed: 15, .. })));
    assert!(matches!(new(&longer(0), 99), Err(GenesisError::Rule(_))));
    let generous = |genesis: &mut Genesis| {
        genesis.emission.per_window_micros = 1 << 50;
        genesis.windows = 0;
    };
    assert!(matches!(new(&generous, 15), Err(GenesisError::Emission(_))));
    assert!(matches!(new(&|genesis| genesis.validators.clear(), 15), Err(GenesisError::Rule(_))));
}

#[test]
fn an_inbox_is_counted_by_stake() {
    let (state, validators, miners) = small(&[4, 3, 3], 3);
    let inbox = |validator: usize, contributions: &[(usize, u8)]| {
        let mut contributions: Vec<CutEntry> = contributions
            .iter()
            .map(|&(miner, nonce)| CutEntry { miner: miners[miner].public(), contribution: Hash::of(&[nonce]).into() })
            .collect();
        contributions.sort_unstable();
        let (run, window) = (state.run(), state.window());
        Inbox { run, window, validator: validators[validator].public(), contributions, registrations: vec![] }
    };
    let cut = |inboxes: &[Inbox]| {
        let inboxes: Vec<(InboxId, &Inbox)> =
            inboxes.iter().map(|inbox| (payload::id_of(inbox).into(), inbox)).collect();
        state.cut(&inboxes)
    };
    // 3 of 10 are not more than a third, 4 of 10 are; two ids of one miner that both pass: the lower one.
    let ids = |cut: Cut| cut.contributions.iter().map(|entry| entry.contribution.hash()).collect::<Vec<_>>();
    let three = cut(&[inbox(0, &[(0, 1)]), inbox(1, &[(1, 2)]), inbox(2, &[(2, 3)])]).unwrap();
    assert_eq!(ids(three), [Hash::of(&[1])]);
    let both = cut(&[inbox(0, &[(0, 1)]), inbox(1, &[(0, 2)]), inbox(2, &[(0, 2)])]).unwrap();
    assert_eq!(ids(both), [Hash::of(&[1]).min(Hash::of(&[2]))]);
    // 7 of 10 are more than two thirds, 6 are not.
    assert!(cut(&[inbox(0, &[]), inbox(2, &[])]).is_ok());
    assert_eq!(cut(&[inbox(1, &[]), inbox(2, &[])]), Err(CutError::NoQuorum { stake: 6, total: 10 }));
    assert!(matches!(cut(&[inbox(0, &[]), inbox(0, &[(0, 1)]), inbox(1, &[])]), Err(CutError::TwoInboxes(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// One of four equal validators lies. A contribution that the three others all had is in, one that none of
    /// them had is out, and the order of the inboxes does not matter.
    #[test]
    fn a_faulty_quarter_neither_adds_nor_drops(
        faulty in prop::collection::vec(prop::option::of(0u8..4), 5),
        honest in prop::collection::vec(prop::collection::vec(any::<bool>(), 5), 3),
        take_all in any::<bool>(),
        rotation in 0usize..4,
    ) {
        let (state, validators, miners) = small(&[1, 1, 1, 1], 5);
        let inbox = |validator: usize, nonce: &dyn Fn(usize) -> Option<u8>| {
            let named = |miner: usize| nonce(miner).map(|nonce| CutEntry {
                miner: miners[miner].public(),
                contribution: Hash::of(&[miner as u8, nonce]).into(),
            });
            let contributions = (0..5).filter_map(named).collect();
            Inbox { run: state.run(), window: state.window(), validator: validators[validator].public(), contributions, registrations: vec![] }
        };
        let mut inboxes: Vec<Inbox> =
            (0..3).map(|honest_one| inbox(honest_one, &|miner| honest[honest_one][miner].then_some(9))).collect();
        // Either all four inboxes, or the faulty one instead of an honest one.
        if !take_all {
            inboxes.remove(0);
        }
        inboxes.push(inbox(3, &|miner| faulty[miner]));
        inboxes.rotate_left(rotation % 3);
        let named: Vec<(InboxId, &Inbox)> = inboxes.iter().map(|inbox| (payload::id_of(inbox).into(), inbox)).collect();
        let cut = state.cut(&named).unwrap();
        for (miner, key) in miners.iter().enumerate() {
            let found = cut.contributions.iter().find(|entry| entry.miner == key.public());
            let had: Vec<bool> = honest.iter().map(|inbox| inbox[miner]).collect();
            if had == [true; 3] {
                prop_assert!(found.is_some());
            }
            if let Some(found) = found {
                prop_assert!(had.contains(&true));
                prop_assert_eq!(found.contribution.hash(), Hash::of(&[miner as u8, 9]));
            }
        }
        let mut reversed = named.clone();
        reversed.reverse();
        prop_assert_eq!(state.cut(&reversed).unwrap(), cut);
    }
}

#[test]
fn every_field_of_a_score_is_recomputed() {
    let (state, validators, miners) = small(&[1, 1], 6);
    let cheat = miners[1].public();
    let judging = judging(&state, &validators, &miners);
    let judging_scores = scores(&state, &judging, &validators, &cheat);
    let good = judging_scores[0].clone();
    assert_eq!(state.check_score(&judging, &good), Ok(()));
    let error = |change: &dyn Fn(&mut Score)| {
        let mut score = good.clone();
        change(&mut score);
        state.check_score(&judging, &score).unwrap_err()
    };
    assert_eq!(error(&|score| score.run = RunId::default()), ScoreError::Foreign("run"));
    assert_eq!(error(&|score| score.window = WindowIndex(1)), ScoreError::Foreign("window"));
    assert_eq!(error(&|score| score.cut = CutId::default()), ScoreError::Foreign("cut"));
    assert_eq!(error(&|score| score.seed = Hash::default()), ScoreError::Foreign("seed"));
    assert!(matches!(error(&|score| score.validator = miners[0].public()), ScoreError::NotAValidator(_)));
    assert_eq!(error(&|score| score.entries.truncate(2)), ScoreError::Entries);
    assert_eq!(error(&|score| score.entries[0].contribution = ContributionId::default()), ScoreError::Entries);
    let some_proof = ReplayProof { claim: Hash::default(), witnesses: vec![proof::witness(&Hash::default())] };
    let rule = |index: usize, replay: Replay| {
        let change = |score: &mut Score| {
            let entry = &mut score.entries[index];
            entry.proof = (replay == Replay::Match).then(|| some_proof.clone());
            entry.replay = replay.clone();
        };
        match error(&change) {
            ScoreError::Entry { rule, .. } => rule,
            other => panic!("{other}"),
        }
    };
    let drawn = good.entries.iter().position(|entry| entry.replay != Replay::NotDrawn).unwrap();
    let other = good.entries.iter().position(|entry| entry.replay == Replay::NotDrawn).unwrap();
    let mismatch = Replay::Refused(Refusal::Mismatch { step: 0, tensor: "t".to_owned() });
    assert_eq!(rule(drawn, Replay::NotDrawn), "a replay that was drawn is missing");
    assert_eq!(rule(other, Replay::Match), "a replay that was not drawn");
    assert_eq!(rule(other, mismatch), "a replay that was not drawn");
    assert_eq!(rule(drawn, Replay::Refused(Refusal::NotReplayed)), "not-replayed is for the record to say");
    assert_eq!(rule(other, Replay::Refused(Refusal::Withheld)), "the body of a delta that could not be read");
    // A match without a proof, a proof without a match, and proofs that contradict themselves.
    let matched = good.entries.iter().position(|entry| entry.replay == Replay::Match).unwrap();
    let proof_rule =
        |change: &dyn Fn(&mut Option<ReplayProof>)| match error(&|score| change(&mut score.entries[matched].proof)) {
            ScoreError::Entry { rule, .. } => rule,
            other => panic!("{other}"),
        };
    assert_eq!(proof_rule(&|proof| *proof = None), "a match without a proof, or a proof without a match");
    let own = "a proof whose claim is not its own witness";
    assert_eq!(proof_rule(&|proof| proof.as_mut().unwrap().claim = Hash::of(b"other")), own);
    assert_eq!(proof_rule(&|proof| proof.as_mut().unwrap().witnesses[0] ^= 1), own);
    let more = "a proof with more or fewer witnesses than validators are drawn";
    assert_eq!(proof_rule(&|proof| proof.as_mut().unwrap().witnesses.push(0)), more);
    let unmatched = |score: &mut Score| score.entries[other].proof = Some(some_proof.clone());
    assert!(matches!(
        error(&unmatched),
        ScoreError::Entry { rule: "a match without a proof, or a proof without a match", .. }
    ));
    // The same of measurements.
    let measured_rule = |change: &dyn Fn(&mut ScoreEntry)| match error(&|score| change(&mut score.entries[0])) {
        ScoreError::Entry { rule, .. } => rule,
        other => panic!("{other}"),
    };
    let in_measurement = |change: &dyn Fn(&mut Measurement)| {
        measured_rule(&|entry| match &mut entry.evaluation {
            Evaluation::Measured(measured) => change(measured),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(measured_rule(&|entry| entry.body = None), "losses of a delta that does not decode");
    let missing = "a measurement that was drawn is missing";
    assert_eq!(measured_rule(&|entry| entry.evaluation = Evaluation::NotDrawn), missing);
    assert_eq!(in_measurement(&|measured| measured.claim = Hash::of(b"other")), own);
    assert_eq!(in_measurement(&|measured| measured.witnesses[0] ^= 1), own);
    assert_eq!(in_measurement(&|measured| measured.witnesses.clear()), more);
    // The proof of the other validator, which measured the same.
    let others = judging_scores[1].entries[0].evaluation.clone();
    assert_eq!(measured_rule(&|entry| entry.evaluation = others.clone()), own);
}

/// The scores of all validators, with these gains on unassigned pages for the miners in order.
fn with_gains(state: &RunState, judging: &Judging, validators: &[SecretKey], gains: &[i64]) -> Vec<Score> {
    let mut found = scores(state, judging, validators, &nobody());
    for score in &mut found {
        for (entry, gain) in score.entries.iter_mut().zip(gains) {
            let unassigned_after_nanonats = 5_000_000_000u64.saturating_add_signed(-gain);
            restate(entry, Losses { unassigned_after_nanonats, ..losses(0) });
        }
    }
    found
}

fn closed_with(state: &RunState, judging: &Judging, scores: &[Score]) -> WindowBody {
    state.close(judging, &scores.iter().collect::<Vec<_>>(), stepped(Hash::of(b"after").into(), 1)).unwrap().body
}

fn weights_of(record: &WindowBody) -> Vec<(PublicKey, u32)> {
    record.weights.iter().map(|weight| (weight.miner, weight.weight_ppm)).collect()
}

#[test]
fn weights_follow_the_ranks_of_the_scores() {
    let (state, validators, miners) = small(&[1], 3);
    let judging = judging(&state, &validators, &miners);
    let record = closed_with(&state, &judging, &with_gains(&state, &judging, &validators, &[10, 20, -100]));
    // The third of three has a negative ordinal; two places of the ramp are as 2 to 1.
    assert_eq!(weights_of(&record), [(miners[0].public(), 333_333), (miners[1].public(), 666_666)]);
}

/// The default rule: proven steps times the factor, which moves by a sixteenth of a window's worth. A miner with fewer
/// steps has a factor of at most 1.
#[test]
fn weights_follow_steps_and_their_worth() {
    let (validators, miners) = (keys("validator", 2), keys("miner", 4));
    let with_stakes: Vec<(&SecretKey, u64)> = validators.iter().map(|key| (key, 1)).collect();
    let mut genesis = genesis(&with_stakes, &miners, 0);
    genesis.gauntlet.weights = WeightRule::measured_steps();
    genesis.emission.target_steps = 12;
    let state = state(genesis);
    let judging = judging(&state, &validators, &miners);
    let good = with_gains(&state, &judging, &validators, &[300, 300, 900, 30]);
    let record = closed_with(&state, &judging, &good);
    // The median gain of a step is 100, so the windows count 1, 1, 3/2 and 1/2.
    let expected = [1_000_000_000, 1_000_000_000, 1_031_250_000, 968_750_000];
    assert_eq!(factors(&state, &judging, &good, &miners), expected);
    let weights: Vec<u32> = record.weights.iter().map(|weight| weight.weight_ppm).collect();
    assert_eq!(weights, [250_000, 250_000, 257_812, 242_187]);
    // 12 steps of 12: all is minted, but for what rounding leaves.
    let sum: u64 = record.mints.iter().map(|mint| mint.amount_micros).sum();
    assert!((999_999_000..=1_000_000_000).contains(&sum), "{sum}");
    // The median does not exceed 0: nobody's factor moves.
    let bad = with_gains(&state, &judging, &validators, &[0, -300, 900, -30]);
    assert_eq!(factors(&state, &judging, &bad, &miners), [1_000_000_000; 4]);
}

/// The factors of pay of these miners after a window with these scores.
fn factors(state: &RunState, judging: &Judging, scores: &[Score], miners: &[SecretKey]) -> Vec<u64> {
    let found = state.assessment(judging, &scores.iter().collect::<Vec<_>>());
    miners.iter().map(|miner| found.standings[&miner.public()].factor_nanos).collect()
}

/// In a run that pays by steps nobody measures, and a measurement is refused.
#[test]
fn proven_steps_are_paid_without_measurements() {
    let (validators, miners) = (keys("validator", 2), keys("miner", 4));
    let with_stakes: Vec<(&SecretKey, u64)> = validators.iter().map(|key| (key, 1)).collect();
    let mut genesis = genesis(&with_stakes, &miners, 0);
    let gauntlet = &mut genesis.gauntlet;
    (gauntlet.weights, gauntlet.assigned_pages, gauntlet.unassigned_pages) = (WeightRule::ProvenSteps, 0, 0);
    gauntlet.evaluators = 0;
    genesis.outer.max_contributions = genesis.registration.slots;
    let measuring = small(&[1, 1], 4).0;
    let state = state(genesis);
    let judged = judging(&state, &validators, &miners);
    let cheat = miners[1].public();
    assert!(judged.evaluators().is_empty());
    let mut scores = scores(&state, &judged, &validators, &cheat);
    assert!(scores.iter().flat_map(|score| &score.entries).all(|entry| entry.evaluation == Evaluation::NotDrawn));
    let record = closed_with(&state, &judged, &scores);
    // A third of the pay each; one is refused.
    let honest = [0, 2, 3].map(|place: usize| (miners[place].public(), 333_333));
    assert_eq!(weights_of(&record), honest);
    assert_eq!(record.outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Aggregated).count(), 3);
    // Replays are the only work of validators, so they have the whole of their part.
    let of = |kind| -> Vec<u64> {
        record.mints.iter().filter(|mint| mint.kind == kind).map(|mint| mint.amount_micros).collect()
    };
    assert_eq!(of(MintKind::Replays).iter().sum::<u64>(), 410_000_000);
    assert!(of(MintKind::Evaluations).is_empty());
    let tried = judging(&measuring, &validators, &miners);
    let task = measuring.evaluation_task(&tried, &miners[0].public()).unwrap();
    scores[0].entries[0].evaluation = evaluation(&task, &scores[0].validator, losses(1));
    let error = state.check_score(&judged, &scores[0]).unwrap_err();
    assert!(matches!(error, ScoreError::Entry { rule: "a measurement that was not drawn", .. }), "{error}");
    // A delta that does not decode is no work.
    for score in &mut scores {
        let entry = &mut score.entries[0];
        (entry.body, entry.evaluation) = (None, Evaluation::NotDrawn);
    }
    assert!(weights_of(&closed_with(&state, &judged, &scores)).iter().all(|(miner, _)| *miner != miners[0].public()));
}

/// All mints of a window by hand, half of whose target steps were proven.
#[test]
fn outcomes_and_mints_by_hand() {
    let (validators, miners) = (keys("validator", 2), keys("miner", 4));
    let mut genesis = genesis(&[(&validators[0], 3), (&validators[1], 2)], &miners, 0);
    genesis.emission.target_steps = 18;
    let state = state(genesis);
    let judging = judging(&state, &validators, &miners);
    let cheat = miners[1].public();
    let mut scores = scores(&state, &judging, &validators, &cheat);
    for score in &mut scores {
        for (entry, gain) in score.entries.iter_mut().zip([30, 0, 20, 10]) {
            restate(entry, losses(gain));
        }
    }
    let record = closed_with(&state, &judging, &scores);
    let refused = record.outcomes.iter().find(|outcome| outcome.miner == cheat).unwrap();
    assert!(matches!(&refused.verdict, Verdict::Refused(Refusal::Mismatch { step: 2, .. })));
    let count = |verdict: &Verdict| record.outcomes.iter().filter(|outcome| outcome.verdict == *verdict).count();
    assert_eq!((count(&Verdict::Aggregated), count(&Verdict::Reserve)), (2, 1));
    // Nine steps of eighteen: half of 10^9. Miners have 0.41 of it, by rank.
    let expected = weights_of(&record);
    assert!(expected.len() >= 2);
    let amount = |account: &PublicKey| {
        record.mints.iter().find(|mint| mint.account == *account).map_or(0, |mint| mint.amount_micros)
    };
    for (miner, weight_ppm) in expected {
        assert_eq!(amount(&miner), 205 * u64::from(weight_ppm));
    }
    assert_eq!(amount(&PublicKey::from_bytes([0; 32])), 90_000_000);
    let paid = |score: &Score, kind: MintKind| {
        let of = |mint: &&Mint| mint.account == score.validator && mint.kind == kind;
        record.mints.iter().find(of).map_or(0, |mint| mint.amount_micros)
    };
    // Half of the validators' part is shared by four replays, and half by eight measurements, four of each.
    let replays = |score: &Score| score.entries.iter().filter(|entry| entry.replay != Replay::NotDrawn).count() as u64;
    assert_eq!(replays(&scores[0]) + replays(&scores[1]), 4);
    for score in &scores {
        assert_eq!(paid(score, MintKind::Evaluations), 51_250_000);
        assert_eq!(paid(score, MintKind::Replays), 102_500_000 * replays(score) / 4);
    }
}

#[test]
fn the_first_refusal_decides_and_without_a_replay_there_is_none() {
    let (state, validators, miners) = small(&[1, 1, 1, 1], 3);
    let judging = judging(&state, &validators, &miners);
    let mut scores = scores(&state, &judging, &validators, &nobody());
    let refuse = |error: &str| Replay::Refused(Refusal::Malformed { error: error.to_owned() });
    scores[2].entries[0].replay = refuse("later");
    scores[1].entries[0].replay = refuse("earlier");
    for score in &mut scores {
        score.entries[1].replay = Replay::NotDrawn;
    }
    // The order in which scores are given does not matter.
    let given: Vec<&Score> = scores.iter().rev().collect();
    let outcomes = state.outcomes(&judging, &given);
    let Verdict::Refused(Refusal::Malformed { error }) = &outcomes[0].verdict else { panic!("{outcomes:?}") };
    assert_eq!(error, "earlier");
    assert_eq!(outcomes[1].verdict, Verdict::Refused(Refusal::NotReplayed));
    assert_eq!(outcomes[2].verdict, Verdict::Aggregated);
}

#[test]
fn every_field_of_a_record_is_recomputed() {
    let mut cluster = Cluster::started(&[1, 1], 3, 2);
    cluster.run(&mut Order(0), |cluster| cluster.members[0].node.is_over());
    let node = &cluster.members[0].node;
    let good = &node.closed()[1];
    let state = node.state_at(WindowIndex(1)).unwrap();
    assert!(state.clone().advance(good).is_ok());
    let refusal = |closed: ClosedWindow| {
        let mut next = state.clone();
        let error = next.advance(&closed).unwrap_err();
        assert_eq!(next, state);
        error
    };
    let error = |change: &dyn Fn(&mut WindowBody)| {
        let mut closed = good.clone();
        change(&mut closed.window.body);
        named_again(&mut closed);
        refusal(closed)
    };
    let in_header = |change: &dyn Fn(&mut WindowHeader)| {
        let mut closed = good.clone();
        change(&mut closed.window.header);
        closed.record = closed.window.id();
        refusal(closed)
    };
    assert_eq!(error(&|record| record.run = RunId::default()), AdvanceError::Differs(RecordField::Run));
    assert_eq!(error(&|record| record.window = WindowIndex(9)), AdvanceError::Differs(RecordField::Window));
    assert_eq!(
        error(&|record| record.checkpoint_before = CheckpointId::default()),
        AdvanceError::Differs(RecordField::CheckpointBefore)
    );
    assert!(matches!(error(&|record| record.cut = CutId::default()), AdvanceError::OtherCut(_)));
    assert!(matches!(error(&|record| record.reveals.truncate(1)), AdvanceError::Judging(_)));
    assert!(matches!(error(&|record| record.reveals[0].value = Hash::default()), AdvanceError::Judging(_)));
    assert_eq!(error(&|record| record.seed = Hash::default()), AdvanceError::Differs(RecordField::Seed));
    assert_eq!(error(&|record| record.scores.truncate(1)), AdvanceError::Differs(RecordField::Scores));
    assert_eq!(
        error(&|record| record.outcomes[1].verdict = Verdict::Reserve),
        AdvanceError::Differs(RecordField::Outcomes)
    );
    assert_eq!(error(&|record| record.weights[0].weight_ppm -= 1), AdvanceError::Differs(RecordField::Weights));
    assert_eq!(error(&|record| record.mints[0].amount_micros += 1), AdvanceError::Differs(RecordField::Mints));
    assert_eq!(error(&|record| record.slashes[0].amount_micros += 1), AdvanceError::Differs(RecordField::Slashes));
    assert_eq!(error(&|record| record.slashes[0].window = WindowIndex(0)), AdvanceError::Differs(RecordField::Slashes));
    assert_eq!(
        error(&|record| record.slashes[0].cause = SlashCause::Mismatch),
        AdvanceError::Differs(RecordField::Slashes)
    );
    // The checkpoint is an outcome of tensors, so an audit finds another one.
    for (field, change) in [
        (RecordField::Run, (|header| header.run = RunId::default()) as fn(&mut WindowHeader)),
        (RecordField::Window, |header| header.window = WindowIndex(9)),
        (RecordField::Previous, |header| header.previous = None),
        (RecordField::BodyRoot, |header| header.body_root = BodyId::default()),
        (RecordField::StateRoot, |header| header.state_root = Hash::default()),
        (RecordField::ValidatorsRoot, |header| header.validators_root = Hash::default()),
    ] {
        assert_eq!(in_header(&change), AdvanceError::Differs(field));
    }
    // Certificates are of the exact payload, by distinct validators.
    assert_eq!(good.check_certificates(state.genesis()), Ok(()));
    let mut doubled = good.clone();
    doubled.record_certificate.witnesses[1] = doubled.record_certificate.witnesses[0];
    assert_eq!(doubled.check_certificates(state.genesis()), Err(AdvanceError::NotCertified(Kind::Window)));
    let mut swapped = good.clone();
    swapped.cut_certificate.witnesses[0].signature = swapped.record_certificate.witnesses[0].signature;
    assert_eq!(swapped.check_certificates(state.genesis()), Err(AdvanceError::NotCertified(Kind::Cut)));
}

#[test]
fn a_cheat_that_was_paid_before_loses_what_has_not_vested() {
    let mut cluster = Cluster::new(&[1, 1], 3, 3);
    let cheat = cluster.cheat;
    cluster.cheat = nobody();
    cluster.wake();
    let mut order = Order(4);
    cluster.run(&mut order, |cluster| cluster.members[0].node.state().window().0 == 1);
    let before = cluster.members[0].node.state().ledger().accounts()[&cheat].vesting_micros();
    // Everybody is in window 1 or about to be; from now on its work does not replay.
    cluster.cheat = cheat;
    cluster.run(&mut order, |cluster| cluster.members.iter().all(|member| member.node.is_over()));
    let ledger = cluster.members[0].node.state().ledger();
    assert!(before > 0);
    assert_eq!(ledger.accounts()[&cheat].vesting_micros(), 0);
    assert_eq!(ledger.accounts()[&cheat].free_micros(), 0);
    assert_eq!(ledger.burnt_micros(), before);
    // The second mismatch in a row costs the slot.
    let node = &cluster.members[0].node;
    let slashes = |window: usize| -> Vec<(SlashCause, u64)> {
        let slashes = node.closed()[window].window.body.slashes.iter().filter(|slash| slash.account == cheat);
        slashes.map(|slash| (slash.cause, slash.amount_micros)).collect()
    };
    assert_eq!(
        [slashes(0), slashes(1), slashes(2)],
        [vec![], vec![(SlashCause::Mismatch, before)], vec![(SlashCause::Expulsion, 0)]]
    );
    assert!(node.state().is_expelled(&cheat) && node.state().strike(&cheat) == Some(WindowIndex(1)));
}
