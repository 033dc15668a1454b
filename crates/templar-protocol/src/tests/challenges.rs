//! Challenges: the right to open one, the form of an answer, and that a minority neither slashes nor shields.

use std::collections::BTreeSet;

use templar_manifest::*;

use super::fixture::*;
use super::late::{before_the_record, sampled};
use crate::*;

fn slashes(cluster: &Cluster) -> Vec<(u64, Slash)> {
    let closed = cluster.members[0].node.closed().iter();
    closed
        .flat_map(|closed| closed.window.body.slashes.iter().map(|slash| (closed.window.header.window.0, *slash)))
        .collect()
}

/// The challenges that records list, with their windows.
fn listed(cluster: &Cluster) -> Vec<(u64, Challenge)> {
    let closed = cluster.members[0].node.closed().iter();
    closed
        .flat_map(|closed| closed.window.body.challenges.iter().map(|listed| (closed.window.header.window.0, *listed)))
        .collect()
}

/// Four validators of whom each contribution is drawn by two or more, three miners, the second of whom keeps
/// its states to itself and `served` of the validators.
fn keeping(windows: u64, served: &[usize]) -> Cluster {
    let (validators, miners) = (keys("validator", 4), keys("miner", 3));
    let mut spec = sampled(&validators, &miners, windows);
    spec.replay.least_replays = 2;
    let mut cluster = Cluster::of(spec, validators, miners);
    cluster.cheat = nobody();
    let served = served.iter().map(|place| cluster.validators[*place].public()).collect();
    cluster.keeper = Some(Keeper { miner: cluster.miners[1].public(), served });
    cluster
}

fn run_to(cluster: &mut Cluster, order: u64, window: u64) {
    let at = |cluster: &Cluster| {
        cluster.members.iter().all(|member| member.node.is_over() || member.node.state().window().0 >= window)
    };
    cluster.run(&mut Order(order), at);
    assert!(at(cluster), "stalled");
}

/// Every change of the challenges and slashes of a record is found by whoever folds it.
fn recomputes(cluster: &Cluster, window: u64) {
    let node = &cluster.members[0].node;
    super::certified::fold_through_copies(node);
    let (state, closed) = (node.state_at(WindowIndex(window)).unwrap(), &node.closed()[window as usize]);
    let differs = |field, change: &dyn Fn(&mut WindowBody)| {
        let mut changed = closed.clone();
        change(&mut changed.window.body);
        named_again(&mut changed);
        assert_eq!(state.clone().advance(&changed), Err(AdvanceError::Differs(field)));
    };
    for index in 0..closed.window.body.challenges.len() {
        differs(RecordField::Challenges, &|record| record.challenges[index].since.0 ^= 1);
        differs(RecordField::Challenges, &|record| record.challenges[index].window.0 ^= 1);
        differs(RecordField::Challenges, &|record| record.challenges[index].miner = nobody());
        differs(RecordField::Challenges, &|record| record.challenges[index].contribution = ContributionId::default());
        differs(RecordField::Challenges, &|record| _ = record.challenges.remove(index));
    }
    for index in 0..closed.window.body.slashes.len() {
        differs(RecordField::Slashes, &|record| record.slashes[index].cause = SlashCause::Mismatch);
        differs(RecordField::Slashes, &|record| record.slashes[index].amount_micros ^= 1);
        differs(RecordField::Slashes, &|record| _ = record.slashes.remove(index));
    }
}

/// It is listed in the first record after its own, slashed in the one in which the answer was due, begins anew
/// from zero, which everybody can replay, and at the next time loses the slot.
#[test]
fn a_state_that_is_kept_costs_what_a_mismatch_does() {
    let mut cluster = keeping(12, &[]);
    let keeper = cluster.miners[1].public();
    cluster.wake();
    run_to(&mut cluster, 1, 12);
    let (slashes, listed) = (slashes(&cluster), listed(&cluster));
    // Window 0 begins with zero state, which everybody has.
    let (recorded, challenge) = listed[0];
    assert_eq!((recorded, challenge.window.0, challenge.miner, challenge.since.0), (2, 1, keeper, 2));
    let (first, slash) = slashes[0];
    assert_eq!((first, slash.account, slash.cause, slash.window.0), (3, keeper, SlashCause::Unanswered, 1));
    assert!(slash.amount_micros > 0);
    assert!(slashes.iter().all(|(_, slash)| slash.account == keeper));
    let node = &cluster.members[0].node;
    let committed =
        |window: u64| node.closed()[window as usize].contributions.iter().find(|signed| signed.signer() == keeper);
    assert_eq!(committed(first + 1).unwrap().payload().parent, None, "the slot stays, and it goes on from zero");
    let after = node.state_at(WindowIndex(first + 1)).unwrap();
    assert_eq!(after.strike(&keeper), Some(WindowIndex(first)));
    assert_eq!(after.ledger().accounts()[&keeper].vesting_micros(), 0);
    let standing = after.standing(&keeper);
    assert!(standing.proof_nanos <= 0 && standing.rating.sigma_picos >= Rating::NEW.sigma_picos);
    // Deeds from before the strike was recorded count as the same time. A later one costs the slot.
    for (_, slash) in &slashes {
        let expected = if slash.window.0 > first { SlashCause::Expulsion } else { SlashCause::Unanswered };
        assert_eq!(slash.cause, expected, "{slashes:?}");
    }
    assert!(node.state().is_expelled(&keeper), "{slashes:?}");
    // It is not paid by a record that slashes it, and challenges pay nobody.
    for (window, _) in &slashes {
        let mints = &node.closed()[*window as usize].window.body.mints;
        assert!(mints.iter().all(|mint| mint.account != keeper));
    }
    recomputes(&cluster, recorded);
    recomputes(&cluster, first);
}

/// A miner that serves some honest validators serves all, since these pass the bytes on. Here they do not, and
/// half of all stake is not more than half.
#[test]
fn it_takes_more_than_half_of_all_stake() {
    for (served, is_slashed) in [(&[0][..], true), (&[0, 1], false), (&[1, 3], false), (&[0, 1, 2], false)] {
        let mut cluster = keeping(7, served);
        cluster.wake();
        run_to(&mut cluster, 2, 7);
        assert!(!listed(&cluster).is_empty(), "{served:?}");
        let slashed = slashes(&cluster).iter().any(|(_, slash)| slash.cause == SlashCause::Unanswered);
        assert_eq!(slashed, is_slashed, "{served:?}: {:?}", slashes(&cluster));
        if !is_slashed {
            assert_eq!(slashes(&cluster), []);
        }
    }
}

/// A liar that challenges everything that it draws: everybody finds the states, each challenge is over when its
/// time is, and nobody loses anything but the liar, whose challenges are no replays.
#[test]
fn a_minority_that_challenges_slashes_nobody() {
    let mut cluster = keeping(7, &[]);
    (cluster.keeper, cluster.challenger) = (None, Some(cluster.validators[2].public()));
    cluster.wake();
    run_to(&mut cluster, 3, 7);
    let listed = listed(&cluster);
    assert!(listed.len() > 3, "{listed:?}");
    assert!(listed.iter().all(|(window, challenge)| *window == challenge.since.0), "over after one window: {listed:?}");
    assert_eq!(slashes(&cluster), []);
    let node = &cluster.members[0].node;
    for closed in node.closed() {
        assert_eq!(closed.scores.len(), 4, "a challenge is no reason not to count a score");
        let replays = |account: &PublicKey| {
            closed.window.body.mints.iter().any(|mint| mint.account == *account && mint.kind == MintKind::Replays)
        };
        assert!(!replays(&cluster.challenger.unwrap()));
    }
}

/// A liar that says match with a made-up proof ends no challenge: nobody else finds what it claims to have replayed.
#[test]
fn a_minority_that_says_match_shields_nobody() {
    for liar in 0..4 {
        let mut cluster = keeping(7, &[]);
        cluster.liar = Some((cluster.validators[liar].public(), false));
        cluster.wake();
        run_to(&mut cluster, 4, 7);
        let keeper = cluster.miners[1].public();
        let liar = cluster.validators[liar].public();
        // Its made-up proofs about others are refuted.
        let (lies, slashes): (Vec<_>, Vec<_>) =
            slashes(&cluster).into_iter().partition(|(_, slash)| slash.cause == SlashCause::Falsehood);
        assert!(lies.iter().all(|(_, slash)| slash.account == liar));
        assert_eq!((slashes[0].1.account, slashes[0].1.cause), (keeper, SlashCause::Unanswered), "{liar:?}");
        assert!(slashes.iter().all(|(_, slash)| slash.account == keeper));
    }
}

/// Served before the time is over, it loses nothing, and who was drawn replays it then.
#[test]
fn an_answer_in_time_ends_it() {
    let mut cluster = keeping(7, &[]);
    cluster.wake();
    run_to(&mut cluster, 5, 3);
    assert_eq!(listed(&cluster).iter().filter(|(window, _)| *window == 2).count(), 1);
    let (challenge, due) = cluster.members[0].node.state().challenges()[0];
    assert_eq!((challenge.since.0, due.0), (2, 3));
    cluster.keeper = None;
    run_to(&mut cluster, 5, 7);
    assert_eq!(slashes(&cluster), []);
    let node = &cluster.members[0].node;
    assert!(node.closed()[3..].iter().all(|closed| closed.window.body.challenges.is_empty()));
    let later = node.closed()[3..].iter().flat_map(|closed| &closed.scores);
    let of = |verdict: &LateVerdict| verdict.contribution == challenge.contribution && verdict.replay == Replay::Match;
    assert!(later.flat_map(|score| &score.payload().verdicts).any(of));
}

/// A plan, a score of it, and the node and key of a validator that was drawn for something of window 1, whose
/// miner keeps its state.
fn in_window_2() -> (Cluster, JudgePlan, Score) {
    let mut cluster = keeping(8, &[]);
    cluster.wake();
    let me = cluster.validators[2].public();
    let found = |cluster: &Cluster| {
        let node = &cluster.members[2].node;
        node.state().window().0 == 2 && node.scores().any(|score| score.signer() == me)
    };
    cluster.run(&mut Order(1), found);
    assert!(found(&cluster), "stalled");
    let node = &cluster.members[2].node;
    let plan = node.state().judge_plan(node.judging().unwrap(), &me).unwrap();
    let score = node.scores().find(|score| score.signer() == me).unwrap().payload().clone();
    (cluster, plan, score)
}

#[test]
fn nobody_challenges_at_will() {
    let (cluster, plan, good) = in_window_2();
    let (node, me) = (&cluster.members[2].node, cluster.validators[2].public());
    let (state, judging) = (node.state(), node.judging().unwrap());
    assert_eq!(state.check_score(judging, &good), Ok(()));
    let challenge = |window: u64, miner: &PublicKey| {
        let task = state.late_task(WindowIndex(window), miner).unwrap();
        task.verdict(&me, Replay::Refused(Refusal::Withheld), &[])
    };
    let error = |verdict: &LateVerdict| state.check_verdict(&me, verdict).unwrap_err();
    // Of what was drawn for others, as long as they have not challenged it.
    let mut undrawn = 0;
    for window in 0..2 {
        for miner in cluster.miners.iter().map(SecretKey::public) {
            if state.late_replayers(WindowIndex(window), &miner).binary_search(&me).is_err() {
                undrawn += 1;
                let verdict = challenge(window, &miner);
                assert_eq!(error(&verdict), VerdictError::NotDrawn(miner.short()));
                // It is not taken in, and nothing changes.
                let mut score = good.clone();
                score.verdicts = vec![verdict];
                let mut after = node.clone();
                let entry = Entry::Envelope(Signed::sign(score, &cluster.validators[2]).envelope());
                assert!(matches!(after.step(Input::Entry(entry)), Err(Reject::Score(ScoreError::Verdict(_)))));
                assert_eq!(&after, node);
            }
        }
    }
    assert!(undrawn > 0);
    // Of a contribution that nobody made, of an open window, and with a proof.
    let own = plan.late.first().expect("a half of all is drawn");
    let withheld = own.verdict(&me, Replay::Refused(Refusal::Withheld), &[]);
    assert_eq!(state.check_verdict(&me, &withheld), Ok(()));
    let strange = LateVerdict { contribution: ContributionId::default(), ..withheld.clone() };
    assert!(matches!(error(&strange), VerdictError::Contribution(_)));
    let open = LateVerdict { window: WindowIndex(2), ..withheld.clone() };
    assert_eq!(error(&open), VerdictError::NotClosed(WindowIndex(2)));
    let proof = Some(ReplayProof { claim: Hash::default(), witnesses: Vec::new() });
    assert!(matches!(error(&LateVerdict { proof, ..withheld }), VerdictError::Rule { .. }));
}

#[test]
fn a_challenge_has_its_time_and_its_end() {
    let mut cluster = keeping(8, &[]);
    let keeper = cluster.miners[1].public();
    cluster.wake();
    run_to(&mut cluster, 1, 3);
    let of = |state: &RunState, window: u64, validator: &PublicKey| {
        let task = state.late_task(WindowIndex(window), &keeper).expect("it is remembered");
        state.check_verdict(validator, &task.verdict(validator, Replay::Refused(Refusal::Withheld), &[]))
    };
    // Challenged: everybody may say that it is not to be had, and nobody twice in one score.
    let state = cluster.members[0].node.state().clone();
    for validator in &cluster.validators {
        assert_eq!(of(&state, 1, &validator.public()), Ok(()));
    }
    // Paid for: no more.
    run_to(&mut cluster, 1, 4);
    let state = cluster.members[0].node.state().clone();
    for validator in &cluster.validators {
        let expected = VerdictError::Deadline { window: WindowIndex(1), last: WindowIndex(3) };
        assert_eq!(of(&state, 1, &validator.public()), Err(expected));
    }
    // A drawn validator may still give its verdict on a challenged contribution, one window longer than on
    // others.
    let drawn = state.late_replayers(WindowIndex(1), &keeper)[0];
    let task = state.late_task(WindowIndex(1), &keeper).unwrap();
    let claims = claims(&task.draws, &task.id);
    assert_eq!(state.check_verdict(&drawn, &task.verdict(&drawn, Replay::Match, &claims)), Ok(()));
    let other = cluster.miners[0].public();
    let unlanded = cluster.validators.iter().map(SecretKey::public);
    for validator in unlanded {
        let task = state.late_task(WindowIndex(1), &other).unwrap();
        let said = state.check_verdict(&validator, &task.verdict(&validator, Replay::Match, &[]));
        assert_eq!(said, Err(VerdictError::Deadline { window: WindowIndex(1), last: WindowIndex(3) }));
    }
}

/// A refuted contribution is paid for, and cannot be challenged any more.
#[test]
fn what_is_refuted_is_not_challenged() {
    let (validators, miners) = (keys("validator", 2), keys("miner", 3));
    let mut spec = sampled(&validators, &miners, 5);
    spec.replay.fraction_ppm = 1_000_000;
    let mut cluster = Cluster::of(spec, validators, miners);
    let (cheat, challenger) = (cluster.cheat, cluster.validators[1].public());
    cluster.challenger = Some(challenger);
    cluster.wake();
    run_to(&mut cluster, 1, 2);
    let node = &cluster.members[0].node;
    let record = &node.closed()[1].window;
    assert_eq!((record.body.slashes.len(), record.body.slashes[0].cause), (1, SlashCause::Mismatch));
    assert!(record.body.challenges.len() == 2 && record.body.challenges.iter().all(|listed| listed.miner != cheat));
    let task = node.state().late_task(WindowIndex(0), &cheat).unwrap();
    let said = task.verdict(&challenger, Replay::Refused(Refusal::Withheld), &[]);
    assert_eq!(node.state().check_verdict(&challenger, &said), Err(VerdictError::Refuted(cheat.short())));
}

/// A score has room for so many new challenges. Open ones take none of it.
#[test]
fn a_score_opens_so_many_challenges_and_no_more() {
    let (validators, miners) = (keys("validator", 1), keys("miner", 12));
    let mut spec = sampled(&validators, &miners, 5);
    spec.replay.fraction_ppm = 1_000_000;
    let mut cluster = Cluster::of(spec, validators, miners);
    cluster.cheat = nobody();
    cluster.challenger = Some(cluster.validators[0].public());
    cluster.wake();
    let me = cluster.validators[0].public();
    let judged = |cluster: &Cluster| {
        let node = &cluster.members[0].node;
        node.state().window().0 == 1 && node.scores().next().is_some()
    };
    cluster.run(&mut Order(1), judged);
    let node = &cluster.members[0].node;
    let plan = node.state().judge_plan(node.judging().unwrap(), &me).unwrap();
    let mut score = node.scores().next().unwrap().payload().clone();
    assert_eq!((plan.late.len(), score.verdicts.len()), (12, MAX_CHALLENGES));
    let withheld = |task: &ReplayTask| task.verdict(&me, Replay::Refused(Refusal::Withheld), &[]);
    score.verdicts = plan.late.iter().map(withheld).collect();
    let found = node.state().check_score(node.judging().unwrap(), &score);
    assert_eq!(found, Err(ScoreError::Challenges(12)));
    // The rest follows in the next window, beside those that are open: and one validator of all is more than half.
    run_to(&mut cluster, 1, 5);
    let node = &cluster.members[0].node;
    let counts: Vec<usize> = node.closed().iter().map(|closed| closed.window.body.challenges.len()).collect();
    assert_eq!(counts[1], MAX_CHALLENGES);
    let said = node.closed()[2].scores[0].payload().verdicts.iter().filter(|said| said.window.0 == 0).count();
    assert_eq!(said, 12);
    assert_eq!(node.closed()[2].window.body.slashes.len(), MAX_CHALLENGES);
}

/// All answers of four validators of unequal stake, with all sets of scores that are enough. The slash depends
/// on the last counted answers and on nothing else.
#[test]
fn the_last_counted_words_decide() {
    let stakes = [2, 3, 4, 5];
    let (validators, miners) = (keys("validator", 4), keys("miner", 2));
    let with_stakes: Vec<(&SecretKey, u64)> = validators.iter().zip(stakes).collect();
    let mut spec = genesis(&with_stakes, &miners, 7);
    spec.replay = sampled(&validators, &miners, 7).replay;
    // Everybody is drawn, so that everybody may open it.
    (spec.replay.fraction_ppm, spec.state_retention_windows) = (1_000_000, 3);
    price(&mut spec);
    let mut cluster = Cluster::of(spec, validators, miners);
    let keeper = cluster.miners[1].public();
    cluster.cheat = nobody();
    cluster.wake();
    run_to(&mut cluster, 1, 2);
    let node = &cluster.members[0].node;
    let (first, closed) = (node.state_at(WindowIndex(1)).unwrap(), node.closed()[1].clone());
    let judging = first.judging_of(&closed).unwrap();
    let task = first.late_task(WindowIndex(0), &keeper).unwrap();
    // Scores of window 1 in which those of `words` challenge, and the state after the record that counts those
    // of `counted`.
    let all = 0..16usize;
    let score = |state: &RunState, judging: &Judging, place: usize, says: bool| {
        let me = cluster.validators[place].public();
        let plan = state.judge_plan(judging, &me).unwrap();
        let verdicts = if says { vec![task.verdict(&me, Replay::Refused(Refusal::Withheld), &[])] } else { Vec::new() };
        state
            .score(
                judging,
                &me,
                Judgement { entries: measured(judging, &plan, &nobody()), verdicts, ..Judgement::default() },
            )
            .unwrap()
    };
    let enough =
        |counted: usize| (0..4).filter(|place| counted >> place & 1 == 1).map(|place| stakes[place]).sum::<u64>() > 9;
    let mut closings = 0;
    for words in all.clone() {
        for counted in all.clone().filter(|counted| enough(*counted)) {
            let places = || (0..4).filter(move |place| counted >> place & 1 == 1);
            let scores: Vec<Score> =
                places().map(|place| score(&first, &judging, place, words >> place & 1 == 1)).collect();
            let record = first.close(&judging, &scores.iter().collect::<Vec<_>>(), stepped(CheckpointId::default(), 1));
            let record = record.unwrap();
            let opened = words & counted;
            assert_eq!(record.body.challenges.len(), usize::from(opened != 0));
            assert_eq!(record.body.slashes, []);
            closings += 1;
            if opened == 0 {
                continue;
            }
            // The next window: the same score from all, with other words.
            let mut next = first.clone();
            let sign = |score: &Score| {
                let place = cluster.validators.iter().position(|key| key.public() == score.validator).unwrap();
                Signed::sign(score.clone(), &cluster.validators[place])
            };
            let mut after = closed.clone();
            after.scores = scores.iter().map(sign).collect();
            after.window = record;
            named_again(&mut after);
            next.advance(&after).unwrap();
            let (last, counted_last) = (15 ^ words, 0b1110);
            let (cut, contributions, reveals) = window_after(&cluster, &next);
            let judging = next.judging(&cut, &contributions, [], reveals).unwrap();
            let scores: Vec<Score> =
                (1..4).map(|place| score(&next, &judging, place, last >> place & 1 == 1)).collect();
            let record = next.close(&judging, &scores.iter().collect::<Vec<_>>(), stepped(CheckpointId::default(), 1));
            let record = record.unwrap();
            let held = (opened & !counted_last) | (last & counted_last);
            let against: u64 = (0..4).filter(|place| held >> place & 1 == 1).map(|place| stakes[place]).sum();
            let slashed: BTreeSet<PublicKey> = record.body.slashes.iter().map(|slash| slash.account).collect();
            assert_eq!(slashed.contains(&keeper), against * 2 > 14, "{opened:04b} {held:04b}");
            assert_eq!(record.body.challenges, [], "its time is over");
        }
    }
    assert!(closings > 60, "{closings}");
}

/// A cut of every miner's contribution to the open window, and all values.
fn window_after(cluster: &Cluster, state: &RunState) -> (Cut, Vec<Contribution>, Vec<Reveal>) {
    let contributions: Vec<Contribution> =
        cluster.miners.iter().map(|miner| contribution(state, &miner.public(), 0)).collect();
    let entries = contributions
        .iter()
        .map(|claimed| CutEntry { miner: claimed.miner, contribution: payload::id_of(claimed).into() })
        .collect();
    let (run, window) = (state.run(), state.window());
    let cut = Cut { run, window, inboxes: vec![InboxId::default()], contributions: entries, registrations: Vec::new() };
    let reveal = |key: &SecretKey| Reveal { validator: key.public(), value: chain_value(key, window) };
    (cut, contributions, cluster.validators.iter().map(reveal).collect())
}

/// Where verdicts come before the record there are no challenges: a state that is kept keeps the contribution
/// out, also where a liar says that it has replayed it, and the honest are in.
#[test]
fn before_the_record_a_state_that_is_kept_keeps_the_contribution_out() {
    for liar in [None, Some(0), Some(3)] {
        let mut cluster = before_the_record(5, 2);
        let keeper = cluster.miners[1].public();
        cluster.keeper = Some(Keeper { miner: keeper, served: BTreeSet::new() });
        cluster.liar = liar.map(|liar: usize| (cluster.validators[liar].public(), false));
        cluster.wake();
        let over = |cluster: &Cluster| cluster.members.iter().all(|member| member.node.state().window().0 >= 4);
        for _ in 0..40 {
            cluster.run(&mut Order(3), over);
            if over(&cluster) {
                break;
            }
            cluster.expire();
        }
        assert!(over(&cluster), "stalled with {liar:?}");
        for closed in &cluster.members[0].node.closed()[..4] {
            for outcome in &closed.window.body.outcomes {
                let refused = matches!(outcome.verdict, Verdict::Refused(Refusal::NotReplayed | Refusal::Withheld));
                let kept = outcome.miner == keeper && closed.window.header.window.0 > 0;
                // A liar's score is not counted, and what only it had replayed of the honest's was not replayed.
                if liar.is_none() || kept {
                    assert_eq!(refused, kept, "{liar:?} {outcome:?} in window {}", closed.window.header.window);
                }
            }
            let paid = closed.window.body.mints.iter().any(|mint| mint.account == keeper);
            assert!(!paid || closed.window.header.window.0 == 0);
            assert_eq!(closed.window.body.challenges, []);
            // What it says about the others it has made up, and they are there to show it.
            let lies = |slash: &Slash| {
                slash.cause == SlashCause::Falsehood && Some(slash.account) == cluster.liar.map(|liar| liar.0)
            };
            assert!(closed.window.body.slashes.iter().all(lies));
            // Whether the kept contribution replays is no fact. That the liar has not tried its delta is one.
            let is_fact = |refuted: &Refuted| {
                refuted.miner != keeper || refuted.window.0 == 0 || refuted.statement == Statement::Evaluation
            };
            assert!(closed.window.body.refuted.iter().all(is_fact));
        }
    }
}
