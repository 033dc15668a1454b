//! Verdicts after the record: those that count, those that are refused by name, and the consequences.

use templar_manifest::*;

use super::fixture::*;
use super::rules::small;
use crate::*;

/// A genesis in which half of all contributions is drawn by each validator, and a verdict counts for two windows.
pub(super) fn sampled(validators: &[SecretKey], miners: &[SecretKey], windows: u64) -> Genesis {
    let with_stakes: Vec<(&SecretKey, u64)> = validators.iter().map(|key| (key, 1)).collect();
    let mut genesis = genesis(&with_stakes, miners, windows);
    let (before_close, fraction_ppm, least_replays, verdict_windows) = (false, 500_000, 1, 2);
    let replay = ReplaySpec { before_close, fraction_ppm, least_replays, verdict_windows, ..ReplaySpec::whole() };
    genesis.replay = ReplaySpec { challenge_windows: 1, ..replay };
    genesis.state_retention_windows = 3;
    price(&mut genesis);
    genesis
}

pub(super) fn cluster(validators: usize, miners: usize, windows: u64, cheat: Option<usize>) -> Cluster {
    let (validators, miners) = (keys("validator", validators), keys("miner", miners));
    let mut cluster = Cluster::of(sampled(&validators, &miners, windows), validators, miners);
    cluster.cheat = cheat.map_or(nobody(), |cheat| cluster.miners[cheat].public());
    cluster
}

/// A run of four validators in which each contribution of three honest miners is replayed by so many before its
/// record.
pub(super) fn before_the_record(windows: u64, least_replays: u32) -> Cluster {
    let (validators, miners) = (keys("validator", 4), keys("miner", 3));
    let with_stakes: Vec<(&SecretKey, u64)> = validators.iter().map(|key| (key, 1)).collect();
    let mut spec = genesis(&with_stakes, &miners, windows);
    spec.replay = ReplaySpec { fraction_ppm: 0, least_replays, ..ReplaySpec::whole() };
    let mut cluster = Cluster::of(spec, validators, miners);
    cluster.cheat = nobody();
    cluster
}

/// A run in which verdicts come late, before the window that judges `window`: a validator's plan, and a score
/// that says all.
fn at(window: u64, order: u64) -> (Cluster, JudgePlan, Score) {
    let mut cluster = cluster(2, 4, 6, None);
    cluster.wake();
    let found = |cluster: &Cluster| {
        let node = &cluster.members[0].node;
        node.state().window().0 == window && node.scores().any(|score| score.signer() == cluster.validators[0].public())
    };
    cluster.run(&mut Order(order), found);
    assert!(found(&cluster), "stalled");
    let node = &cluster.members[0].node;
    let me = cluster.validators[0].public();
    let plan = node.state().judge_plan(node.judging().unwrap(), &me).unwrap();
    let score = node.scores().find(|score| score.signer() == me).unwrap().payload().clone();
    (cluster, plan, score)
}

#[test]
fn every_wrong_verdict_is_refused_by_its_name() {
    let (cluster, plan, good) = at(2, 1);
    let (node, me) = (&cluster.members[0].node, cluster.validators[0].public());
    let (state, judging) = (node.state(), node.judging().unwrap());
    assert_eq!(state.check_score(judging, &good), Ok(()));
    assert!(!good.verdicts.is_empty() && good.verdicts.len() == plan.late.len());
    let before = state.clone();
    let error = |change: &dyn Fn(&mut LateVerdict)| {
        let mut score = good.clone();
        change(&mut score.verdicts[0]);
        let error = match state.check_score(judging, &score) {
            Err(ScoreError::Verdict(error)) => error,
            other => panic!("{other:?}"),
        };
        // Nor is it taken in as an entry, and nothing changes.
        let entry = Entry::Envelope(Signed::sign(score, &cluster.validators[0]).envelope());
        let mut after = node.clone();
        assert!(after.step(Input::Entry(entry)).is_err());
        assert_eq!(&after, node);
        error
    };
    let miner = good.verdicts[0].miner.short();
    assert_eq!(error(&|v| v.window = WindowIndex(2)), VerdictError::NotClosed(WindowIndex(2)));
    assert_eq!(error(&|v| v.window = WindowIndex(9)), VerdictError::NotClosed(WindowIndex(9)));
    let other = good.verdicts[0].contribution.hash();
    assert_eq!(
        error(&|v| v.contribution = Hash::of(other.as_bytes()).into()),
        VerdictError::Contribution(miner.clone())
    );
    assert_eq!(error(&|v| v.miner = nobody()), VerdictError::Contribution(nobody().short()));
    // One that was not drawn for this validator.
    let window = good.verdicts[0].window;
    let undrawn = (0..4).map(|index| cluster.miners[index].public()).find_map(|miner| {
        let drawn = state.late_replayers(window, &miner);
        (drawn.binary_search(&me).is_err()).then(|| state.late_task(window, &miner).unwrap())
    });
    if let Some(task) = undrawn {
        let name = task.contribution.miner.short();
        let change = |v: &mut LateVerdict| (v.miner, v.contribution) = (task.contribution.miner, task.id);
        assert_eq!(error(&change), VerdictError::NotDrawn(name));
    }
    let rule = |change: &dyn Fn(&mut LateVerdict)| match error(change) {
        VerdictError::Rule { rule, .. } => rule,
        other => panic!("{other}"),
    };
    let kinds = "a verdict is a match with a proof, a refusal that blobs show, or withheld";
    assert_eq!(rule(&|v| (v.replay, v.proof) = (Replay::NotDrawn, None)), kinds);
    assert_eq!(rule(&|v| v.replay = Replay::Refused(Refusal::NotReplayed)), kinds);
    assert_eq!(rule(&|v| v.replay = Replay::Refused(Refusal::Withheld)), kinds);
    assert_eq!(rule(&|v| v.proof = None), kinds);
    let own = "a proof whose claim is not its own witness";
    assert_eq!(rule(&|v| v.proof.as_mut().unwrap().claim = Hash::default()), own);
    let more = "a proof with more or fewer witnesses than validators are drawn";
    assert_eq!(rule(&|v| v.proof.as_mut().unwrap().witnesses.push(1)), more);
    assert_eq!(state, &before);
    // Where verdicts come before the record there are none.
    let (early, validators, _) = small(&[1], 2);
    let found = early.check_verdict(&validators[0].public(), &good.verdicts[0]);
    assert_eq!(found, Err(VerdictError::BeforeClose));
}

#[test]
fn a_verdict_counts_once_and_until_its_deadline() {
    let (mut cluster, _, good) = at(1, 2);
    let verdict = good.verdicts[0].clone();
    assert_eq!(verdict.window, WindowIndex(0));
    let me = cluster.validators[0].public();
    let miner = verdict.miner.short();
    let at = |cluster: &mut Cluster, window: u64| {
        cluster.run(&mut Order(3), |cluster| cluster.members[0].node.state().window().0 == window);
        cluster.members[0].node.state().check_verdict(&me, &verdict)
    };
    assert_eq!(at(&mut cluster, 1), Ok(()));
    assert_eq!(at(&mut cluster, 2), Err(VerdictError::Twice(miner)));
    let last = WindowIndex(2);
    assert_eq!(at(&mut cluster, 3), Err(VerdictError::Deadline { window: WindowIndex(0), last }));
}

/// Found late, a cheat loses the pay of all its windows and its standing with everybody, begins anew from zero
/// state, and at its next mismatch loses the slot. The checkpoints stay.
#[test]
fn a_late_mismatch_slashes_and_the_next_one_expels() {
    let mut cluster = cluster(2, 4, 8, Some(1));
    cluster.wake();
    cluster.run(&mut Order(5), |cluster| cluster.members.iter().all(|member| member.node.is_over()));
    let node = &cluster.members[0].node;
    let cheat = cluster.cheat;
    let slashes: Vec<(u64, Slash)> = node
        .closed()
        .iter()
        .flat_map(|closed| closed.window.body.slashes.iter().map(|slash| (closed.window.header.window.0, *slash)))
        .collect();
    assert!(slashes.iter().all(|(_, slash)| slash.account == cheat), "{slashes:?}");
    let (first, slash) = slashes[0];
    assert_eq!((slash.cause, slash.window), (SlashCause::Mismatch, WindowIndex(0)));
    assert!((1..=2).contains(&first));
    // Deeds from before the first was recorded are the same machine; the first one after it costs the slot.
    let expelled = slashes.iter().find(|(_, slash)| slash.cause == SlashCause::Expulsion).expect("it goes on cheating");
    assert!(
        expelled.1.window.0 > first
            && slashes.iter().all(|(_, b)| b.cause == SlashCause::Mismatch || b.window.0 > first)
    );
    assert!(node.state().is_expelled(&cheat));
    assert_eq!(node.state().ledger().accounts().get(&cheat).map_or(0, Account::vesting_micros), 0);
    let committed =
        |window: u64| node.closed()[window as usize].contributions.iter().find(|signed| signed.signer() == cheat);
    assert!(committed(expelled.0).is_some() && committed(expelled.0 + 1).is_none());
    assert_eq!(committed(first + 1).unwrap().payload().parent, None);
    let record = |window: u64| &node.closed()[window as usize].window.body;
    assert!(record(0).outcomes.iter().all(|outcome| !matches!(outcome.verdict, Verdict::Refused(_))));
    let after = node.state_at(WindowIndex(first + 1)).unwrap();
    let standing = after.standing(&cheat);
    assert!(standing.proof_nanos <= 0 && standing.rating.sigma_picos >= Rating::NEW.sigma_picos);
    // Every integer of a late verdict and of a slash is recomputed by whoever folds the records.
    let closed = &node.closed()[first as usize];
    let state = node.state_at(WindowIndex(first)).unwrap();
    for (index, _) in closed.window.body.slashes.iter().enumerate() {
        let changes: [fn(&mut Slash); 2] = [|slash| slash.amount_micros ^= 1, |slash| slash.window.0 ^= 1];
        for change in changes {
            let mut changed = closed.clone();
            change(&mut changed.window.body.slashes[index]);
            named_again(&mut changed);
            assert_eq!(state.clone().advance(&changed), Err(AdvanceError::Differs(RecordField::Slashes)));
        }
    }
}

/// A verdict that is made up, or an accusation: contradicted by those who replayed, replayed by the others, and
/// not counted.
#[test]
fn a_made_up_late_verdict_is_not_counted() {
    for accuses in [false, true] {
        let (validators, miners) = (keys("validator", 4), keys("miner", 3));
        let mut spec = sampled(&validators, &miners, 4);
        spec.replay.least_replays = 3;
        let mut cluster = Cluster::of(spec, validators, miners);
        cluster.cheat = nobody();
        let liar = cluster.validators[3].clone();
        cluster.liar = Some((liar.public(), accuses));
        cluster.wake();
        cluster.run(&mut Order(7), |cluster| cluster.members[0].node.state().window().0 == 2);
        let node = &cluster.members[0].node;
        assert_eq!(node.state().window().0, 2, "stalled");
        let record = &node.closed()[1].window;
        let slashed = record.body.slashes.iter().map(|slash| (slash.account, slash.cause));
        assert_eq!(slashed.collect::<Vec<_>>(), [(liar.public(), SlashCause::Falsehood)], "accuses: {accuses}");
        let refuted = record.body.refuted.iter().map(|refuted| (refuted.window.0, refuted.validator));
        assert_eq!(refuted.collect::<Vec<_>>(), [(0, liar.public())]);
        assert_eq!(record.body.scores.len(), 3, "accuses: {accuses}");
        assert!(node.closed()[1].scores.iter().all(|score| score.signer() != liar.public()));
        assert!(record.body.mints.iter().all(|mint| mint.account != liar.public()));
        let disputed = cluster.events.iter().any(|event| match event {
            Output::Dispute(Dispute::Proof { validator, .. }) => !accuses && *validator == liar.public(),
            Output::Dispute(Dispute::Refusal { validator, .. }) => accuses && *validator == liar.public(),
            _ => false,
        });
        assert!(disputed, "{:?}", cluster.events.len());
    }
}

/// The same before the record: a copied match among three replays. The proposer of window 0 is honest.
#[test]
fn a_match_without_a_replay_is_contradicted_and_not_counted() {
    let mut cluster = before_the_record(3, 3);
    let liar = cluster.validators[3].public();
    cluster.liar = Some((liar, false));
    cluster.wake();
    cluster.run(&mut Order(4), |cluster| cluster.members[0].node.state().window().0 == 2);
    let node = &cluster.members[0].node;
    let mut lied = 0;
    for closed in node.closed() {
        let judging = node.state_at(closed.window.header.window).unwrap().judging_of(closed).unwrap();
        // Where nothing was drawn for it, it has nothing to lie about.
        let lies = judging.replayers().values().any(|drawn| drawn.contains(&liar));
        lied += usize::from(lies);
        assert_eq!(closed.scores.iter().any(|score| score.signer() == liar), !lies);
        assert!(closed.window.body.outcomes.iter().all(|outcome| !matches!(outcome.verdict, Verdict::Refused(_))));
        assert!(closed.window.body.mints.iter().all(|mint| mint.account != liar));
    }
    assert!(node.closed().len() == 2 && lied > 0);
    // Of three steps the first or the second is drawn for a proof, and nobody takes the third again.
    assert!(
        !cluster.uptos.is_empty() && cluster.uptos.iter().all(|upto| matches!(upto, Some(1 | 2))),
        "{:?}",
        cluster.uptos
    );
}

/// A validator that does not reveal loses a part of its unvested pay, and nobody else does.
#[test]
fn a_withheld_value_has_its_price() {
    let (validators, miners) = (keys("validator", 4), keys("miner", 3));
    let with_stakes: Vec<(&SecretKey, u64)> = validators.iter().map(|key| (key, 1)).collect();
    let mut spec = genesis(&with_stakes, &miners, 3);
    spec.replay = ReplaySpec::whole();
    let mut cluster = Cluster::of(spec, validators, miners);
    cluster.cheat = nobody();
    cluster.wake();
    let mut order = Order(1);
    cluster.run(&mut order, |cluster| cluster.members[0].node.state().window().0 == 1);
    let away = cluster.validators[3].public();
    cluster.silent.insert(away);
    let window = |cluster: &Cluster| cluster.members[0].node.state().window().0;
    for _ in 0..20 {
        cluster.run(&mut order, |cluster| window(cluster) == 3);
        if window(&cluster) == 3 {
            break;
        }
        cluster.expire();
    }
    let node = &cluster.members[0].node;
    assert_eq!(window(&cluster), 3, "stalled");
    let without = node.closed().iter().position(|closed| closed.window.body.reveals.len() == 3).expect("it was silent");
    let unvested = node.state_at(WindowIndex(without as u64)).unwrap().ledger().accounts()[&away].vesting_micros();
    assert!(unvested > 0);
    let slashes = &node.closed()[without].window.body.slashes;
    let (cause, window) = (SlashCause::Absence, WindowIndex(without as u64));
    assert_eq!(slashes, &[Slash { account: away, cause, window, amount_micros: unvested / 10 }]);
}
