//! Spot checks: a lie on which all evaluators of a contribution agree is found by others in the next window.

use std::sync::Arc;

use templar_manifest::*;

use super::fixture::*;
use crate::*;

/// Windows enough for a validator to be drawn in several of them.
const WINDOWS: u64 = 8;

/// Four equal validators, one of which measures each contribution; everybody checks everything afterwards.
fn checked(spot_checks_ppm: u32) -> Cluster {
    let (validators, miners) = (keys("validator", 4), keys("miner", 3));
    let with_stakes: Vec<(&SecretKey, u64)> = validators.iter().map(|key| (key, 1)).collect();
    let mut genesis = genesis(&with_stakes, &miners, WINDOWS);
    (genesis.gauntlet.evaluators, genesis.gauntlet.spot_checks_ppm) = (1, spot_checks_ppm);
    let mut cluster = Cluster::of(genesis, validators, miners);
    cluster.cheat = nobody();
    cluster
}

fn play(cluster: &mut Cluster) {
    cluster.wake();
    let order = &mut Order(11);
    for _ in 0..60 {
        cluster.run(order, |_| false);
        if cluster.members.iter().all(|member| member.node.is_over()) {
            break;
        }
        cluster.expire();
    }
    for member in &cluster.members {
        assert_eq!(member.node.closed().len() as u64, WINDOWS, "stalled");
    }
}

/// The losses after the trial step are lower than they are.
fn flattered(_: &JudgePlan, entries: &mut [ScoreEntry]) {
    for entry in entries {
        if let Evaluation::Measured(measured) = &mut entry.evaluation {
            measured.losses.unassigned_after_nanonats -= 1;
        }
    }
}

/// The windows in which a validator was drawn to measure something and its score was counted, with the miners.
fn measured_by(node: &Node, validator: &PublicKey) -> Vec<(u64, Vec<PublicKey>)> {
    let of = |closed: &ClosedWindow| {
        let window = closed.window.header.window;
        let judging = node.state_at(window).unwrap().judging_of(closed).unwrap();
        let is_counted = closed.scores.iter().any(|score| score.signer() == *validator);
        let drawn = judging.evaluators().iter().filter(|(_, drawn)| is_counted && drawn.contains(validator));
        (window.0, drawn.map(|(miner, _)| *miner).collect())
    };
    node.closed().iter().map(of).filter(|(_, miners): &(u64, Vec<_>)| !miners.is_empty()).collect()
}

#[test]
fn who_lies_where_nobody_else_measures_pays_in_the_next_window() {
    let mut cluster = checked(1_000_000);
    let liar = cluster.validators[3].public();
    cluster.false_losses = Some((vec![liar], flattered));
    play(&mut cluster);
    let node = &cluster.members[0].node;
    let lies = measured_by(node, &liar);
    assert!(lies.len() > 1, "it was drawn in windows {lies:?}");
    for (window, miners) in &lies {
        let closed = &node.closed()[*window as usize];
        for outcome in closed.window.body.outcomes.iter().filter(|outcome| miners.contains(&outcome.miner)) {
            let truth = losses(gain(&outcome.miner, WindowIndex(*window)));
            assert_ne!(outcome.losses, Some(truth), "nobody else measured it, so the lie is in the record");
        }
        let Some(next) = node.closed().get(*window as usize + 1) else { continue };
        let body = &next.window.body;
        let refuted = body.refuted.iter().find(|refuted| refuted.window.0 == *window).expect("nobody contested it");
        assert_eq!((refuted.validator, refuted.statement), (liar, Statement::Evaluation));
        assert!(closed.window.body.scores.contains(&refuted.score) && miners.contains(&refuted.miner));
        let slashed = body.slashes.iter().find(|slash| slash.account == liar).unwrap();
        assert_eq!(
            (slash_of(node, *window + 1, &liar), slashed.cause),
            (Some(slashed.amount_micros), SlashCause::Falsehood)
        );
    }
    let others =
        node.closed().iter().flat_map(|closed| &closed.window.body.slashes).filter(|slash| slash.account != liar);
    assert_eq!(others.count(), 0, "an honest validator paid");
}

/// All unvested pay of an account before a window, without what vests in it.
fn slash_of(node: &Node, window: u64, account: &PublicKey) -> Option<u64> {
    let mut ledger = node.state_at(WindowIndex(window))?.ledger().clone();
    ledger.vest(WindowIndex(window));
    Some(ledger.accounts().get(account).map_or(0, Account::vesting_micros))
}

#[test]
fn a_false_contest_costs_its_author_and_nobody_else() {
    let mut cluster = checked(1_000_000);
    let liar = cluster.validators[2].public();
    cluster.contests_all = Some(liar);
    play(&mut cluster);
    let node = &cluster.members[0].node;
    for closed in &node.closed()[1..] {
        let body = &closed.window.body;
        let refuted: Vec<_> = body.refuted.iter().map(|refuted| (refuted.validator, refuted.statement)).collect();
        assert_eq!(refuted, [(liar, Statement::Contest)], "window {}", closed.window.header.window);
        assert!(closed.scores.iter().all(|score| score.signer() != liar));
        assert!(body.slashes.iter().all(|slash| (slash.account, slash.cause) == (liar, SlashCause::Falsehood)));
    }
}

#[test]
fn without_spot_checks_the_state_keeps_no_measurements() {
    for (ppm, keeps) in [(0, false), (1, true)] {
        let mut cluster = checked(ppm);
        play(&mut cluster);
        let node = &cluster.members[0].node;
        for window in 1..WINDOWS {
            let state = node.state_at(WindowIndex(window)).unwrap();
            assert_eq!(state.entry(&StateKey::Measurements).is_some(), keeps);
            let measured =
                cluster.miners.iter().filter(|miner| state.entry(&StateKey::Measured(miner.public())).is_some());
            assert_eq!(measured.count(), if keeps { 3 } else { 0 });
            assert_eq!(state.root(), state.root_from_nothing());
            assert_eq!(state.contestable_window(), keeps.then_some(WindowIndex(window - 1)));
            // A copy of the state has them as well.
            let closed = &node.closed()[window as usize - 1];
            let copy = CertifiedState::new(closed, Arc::new(state.clone())).unwrap().encode();
            let read = CertifiedState::decode(state.genesis(), &copy).unwrap();
            assert_eq!(**read.state(), state);
            let task = |state: &RunState, miner: &SecretKey| state.past_evaluation_task(&miner.public());
            assert!(cluster.miners.iter().all(|miner| task(read.state(), miner) == task(&state, miner)));
        }
    }
}

/// A record that counts a contest must refute what it contests, and can refute nothing else of the window before.
#[test]
fn a_record_recomputes_only_with_all_that_is_contested() {
    let mut cluster = checked(1_000_000);
    let liar = cluster.validators[3].public();
    cluster.false_losses = Some((vec![liar], flattered));
    play(&mut cluster);
    let node = &cluster.members[0].node;
    let refutes = |closed: &&ClosedWindow| !closed.window.body.refuted.is_empty();
    let closed = node.closed().iter().find(refutes).unwrap();
    let before = node.state_at(closed.window.header.window).unwrap();
    assert_eq!(before.clone().advance(closed), Ok(()));
    assert!(closed.refuted.is_empty(), "the score stands in the window before");
    let mut spared = closed.clone();
    spared.window.body.refuted.clear();
    named_again(&mut spared);
    assert_eq!(before.clone().advance(&spared), Err(AdvanceError::Unrefuted(liar.short())));
    let changes: [fn(&mut Refuted); 5] = [
        |refuted| refuted.miner = nobody(),
        |refuted| refuted.score = ScoreId::default(),
        |refuted| refuted.window.0 += 1,
        |refuted| refuted.statement = Statement::Contest,
        |refuted| refuted.statement = Statement::Replay,
    ];
    for change in changes {
        let mut changed = closed.clone();
        change(&mut changed.window.body.refuted[0]);
        named_again(&mut changed);
        assert_eq!(before.clone().advance(&changed), Err(AdvanceError::Unstated(liar.short())));
    }
}

#[test]
fn a_contest_that_may_not_be_made_is_refused_by_name() {
    let mut cluster = checked(500_000);
    play(&mut cluster);
    let node = &cluster.members[0].node;
    let (mut drawn, mut refused) = (0, 0);
    for closed in &node.closed()[1..] {
        let before = node.state_at(closed.window.header.window).unwrap();
        let judging = before.judging_of(closed).unwrap();
        for key in &cluster.validators {
            let plan = before.judge_plan(&judging, &key.public()).unwrap();
            let check = |contest: &Contest| before.check_contest(&judging, &key.public(), contest);
            for miner in &cluster.miners {
                let task = before.past_evaluation_task(&miner.public()).unwrap();
                let stated = before.past_measurement(&miner.public()).unwrap().losses();
                let contest = Contest { miner: miner.public(), contribution: task.id, found: Some(losses(1)) };
                let spot_check = plan.spot_checks.iter().find(|check| check.task.id == task.id);
                if spot_check.is_none() {
                    refused += 1;
                    assert_eq!(check(&contest), Err(ContestError::NotDrawn));
                    continue;
                }
                drawn += 1;
                assert!(task.keys.iter().all(|of| of.validator != key.public()), "nobody checks its own measurement");
                assert_eq!(check(&contest), Ok(()));
                assert_eq!(check(&Contest { found: None, ..contest }), Ok(()));
                assert_eq!(check(&Contest { found: stated, ..contest }), Err(ContestError::Agrees));
                let other = ContributionId::default();
                assert_eq!(check(&Contest { contribution: other, ..contest }), Err(ContestError::Unmeasured));
                assert_eq!(check(&Contest { miner: nobody(), ..contest }), Err(ContestError::Unmeasured));
            }
        }
    }
    // Half of seven windows by three miners by the three validators that did not measure it.
    assert!((20..44).contains(&drawn) && refused > 0, "{drawn} drawn, {refused} refused");
}
