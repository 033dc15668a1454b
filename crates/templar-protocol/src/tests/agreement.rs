//! Agreement on cut, reveal set and record: validators are silent, lie or restart, deadlines run out at any time, and
//! all nodes end with the same records.

use std::collections::BTreeMap;

use proptest::prelude::*;
use templar_manifest::*;

use super::fixture::*;
use crate::*;

fn forge<T: Payload>(payload: T, key: &SecretKey) -> Entry {
    Entry::Envelope(Signed::sign(payload, key).envelope())
}

/// Delivers and lets time run out until all honest nodes have closed so many windows.
fn close_windows(cluster: &mut Cluster, order: &mut Order, windows: usize) {
    for _ in 0..80 {
        cluster.run_tolerating_floods(order);
        if cluster.members.iter().all(|member| member.node.closed().len() >= windows) {
            return;
        }
        cluster.expire();
    }
    panic!("stalled: {:?}", cluster.members.iter().map(|member| member.node.closed().len()).collect::<Vec<_>>());
}

fn check_agreement(cluster: &Cluster, liars: &[PublicKey]) {
    for member in &cluster.members {
        for (closed, first) in member.node.closed().iter().zip(cluster.members[0].node.closed()) {
            assert_eq!((closed.record, &closed.cut), (first.record, &first.cut));
            closed.check_certificates(member.node.state().genesis()).unwrap();
        }
    }
    // No honest validator gives two votes in one step, even after a restart that forgot something.
    let mut said = BTreeMap::new();
    for entry in cluster.members.iter().flat_map(|member| &member.journal) {
        let Entry::Envelope(envelope) = entry else { continue };
        let Ok(signed) = envelope.open::<Vote>() else { continue };
        let vote = *signed.payload();
        if !liars.contains(&signed.signer()) {
            let step = (signed.signer(), vote.window, vote.on, vote.attempt, vote.step);
            assert_eq!(*said.entry(step).or_insert(vote.value), vote.value, "{step:?}");
        }
    }
}

#[test]
fn in_the_good_case_one_attempt_is_enough_and_its_number_is_nowhere_in_the_record() {
    let mut cluster = Cluster::started(&[1, 1, 1, 1], 3, 4);
    cluster.run(&mut Order(1), |_| false);
    for member in &cluster.members {
        assert_eq!(member.node.closed().len(), 4);
        for closed in member.node.closed() {
            assert_eq!((closed.cut_certificate.attempt, closed.record_certificate.attempt), (0, 0));
        }
    }
}

#[test]
fn whoever_is_silent_the_windows_close() {
    for silent in 0..4 {
        let mut cluster = Cluster::new(&[1, 1, 1, 1], 3, 4);
        let key = cluster.validators[silent].public();
        cluster.silent.insert(key);
        cluster.wake();
        close_windows(&mut cluster, &mut Order(silent as u64), 4);
        check_agreement(&cluster, &[]);
        for closed in cluster.members[0].node.closed() {
            assert!(closed.record_certificate.witnesses.iter().all(|witness| witness.signer != key));
            assert_eq!((closed.cut_certificate.attempt, closed.record_certificate.attempt), (0, 0));
        }
    }
}

/// A validator signs another inbox, other scores and other votes for every node, and no node knows which ones
/// the others keep. A proposal names some of them, and those can be fetched.
#[test]
fn a_flood_stops_nothing() {
    for seed in 0..3 {
        let mut cluster = Cluster::new(&[1, 1, 1, 1], 4, 2);
        let liar = cluster.validators[(seed % 4) as usize].clone();
        cluster.silent.insert(liar.public());
        cluster.wake();
        let mut order = Order(seed);
        for window in 0..2 {
            for round in 0..2u8 {
                cluster.run_tolerating_floods(&mut order);
                for to in 0..cluster.members.len() {
                    for entry in flood(&cluster, to, &liar, round) {
                        cluster.send(to, entry);
                    }
                }
                cluster.run_tolerating_floods(&mut order);
                cluster.expire();
            }
            close_windows(&mut cluster, &mut order, window + 1);
        }
        check_agreement(&cluster, &[liar.public()]);
        assert!(cluster.events.iter().any(|event| matches!(event, Output::Equivocation { kind: "inbox", .. })));
    }
}

/// The liar's entries for one node: inboxes that leave a miner out, votes for every value that there is, and
/// its hash-chain value.
fn flood(cluster: &Cluster, to: usize, liar: &SecretKey, round: u8) -> Vec<Entry> {
    let node = &cluster.members[to].node;
    if node.is_over() {
        return Vec::new();
    }
    let (run, window) = (node.state().run(), node.state().window());
    let all = node.contributions().map(|signed| CutEntry { miner: signed.signer(), contribution: signed.id().into() });
    let mut named: BTreeMap<PublicKey, CutEntry> = all.map(|entry| (entry.miner, entry)).collect();
    if let Some(left_out) = named.keys().nth((to + usize::from(round)) % 4).copied() {
        named.remove(&left_out);
    }
    let contributions = named.into_values().collect();
    let mut entries =
        vec![forge(Inbox { run, window, validator: liar.public(), contributions, registrations: vec![] }, liar)];
    for (number, step) in [VoteStep::Prevote, VoteStep::Precommit].into_iter().enumerate() {
        for on in [VoteOn::Cut, VoteOn::Reveals, VoteOn::Window] {
            let value = Some(Hash::of(&[to as u8, round, number as u8]));
            entries.push(forge(Vote { run, window, on, attempt: u32::from(round), step, value }, liar));
        }
    }
    if node.cut().is_some() {
        let value = chain_value(liar, window);
        entries.push(Entry::Reveal(RevealEntry { run, window, validator: liar.public(), value }));
    }
    entries
}

/// One validator of four says any vote to anybody at any time; nodes restart, deadlines run out early. Nothing
/// parts the others, and when entries arrive again the windows close.
fn a_liar_at_any_time(seed: u64) {
    let mut cluster = Cluster::new(&[1, 1, 1, 1], 3, 2);
    let liar = cluster.validators[3].clone();
    cluster.silent.insert(liar.public());
    cluster.wake();
    let mut order = Order(seed);
    for _ in 0..100 {
        match order.below(8) {
            0 => {
                let member = order.below(3);
                cluster.expire_one(member);
            }
            1 => {
                // Entries that it only held are gone, and come again.
                let member = order.below(3);
                cluster.restart(member);
                (0..cluster.members.len()).for_each(|from| cluster.sync(from, member));
            }
            2 | 3 => {
                let to = order.below(cluster.members.len());
                let from = &cluster.members[order.below(4)].node;
                let on = match (from.cut(), from.judging()) {
                    (None, _) => VoteOn::Cut,
                    (Some(_), None) => VoteOn::Reveals,
                    (Some(_), Some(_)) => VoteOn::Window,
                };
                let mut values: Vec<Option<Hash>> = vec![None, Some(Hash::of(b"nothing"))];
                values.extend(from.proposed(on).into_iter().map(Some));
                let vote = Vote {
                    run: from.state().run(),
                    window: from.state().window(),
                    on,
                    attempt: order.below(4) as u32,
                    step: if order.below(2) == 0 { VoteStep::Prevote } else { VoteStep::Precommit },
                    value: values[order.below(values.len())],
                };
                cluster.send(to, forge(vote, &liar));
            }
            _ => {
                let steps = order.below(30);
                cluster.run_some(&mut order, steps);
            }
        }
    }
    close_windows(&mut cluster, &mut order, 2);
    check_agreement(&cluster, &[liar.public()]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_liar_at_any_time_parts_nobody(seed in any::<u64>()) {
        a_liar_at_any_time(seed);
    }
}

/// A miner serves its delta to the one validator that replays it, and to the others when they have given up.
/// They all say withheld, it says match; the record says what most say, and nobody disputes.
#[test]
fn what_most_could_not_have_is_withheld_and_nobody_disputes_it() {
    for most in [true, false] {
        let mut cluster = Cluster::new(&[1, 1, 1, 1], 4, 1);
        cluster.cheat = nobody();
        cluster.late_to_serve = Some((cluster.miners[2].public(), if most { 3 } else { 1 }));
        cluster.wake();
        close_windows(&mut cluster, &mut Order(4), 1);
        check_agreement(&cluster, &[]);
        assert!(!cluster.events.iter().any(|event| matches!(event, Output::Dispute(_))));
        let closed = &cluster.members[0].node.closed()[0];
        assert_eq!(closed.scores.len(), 4);
        let miner = cluster.miners[2].public();
        let outcome = closed.window.body.outcomes.iter().find(|outcome| outcome.miner == miner).unwrap();
        assert_eq!(outcome.verdict == Verdict::Refused(Refusal::Withheld), most, "{:?}", outcome.verdict);
    }
}

/// A validator whose own outer step comes out differently says so, and holds nobody up.
#[test]
fn whose_outer_step_differs_follows_the_others() {
    let mut cluster = Cluster::new(&[1, 1, 1, 1], 3, 3);
    cluster.faulty_machine = Some(cluster.validators[1].public());
    cluster.wake();
    close_windows(&mut cluster, &mut Order(2), 3);
    check_agreement(&cluster, &[]);
    let honest = Hash::of(
        format!("{} {:?}", WindowIndex(0), cluster.members[0].node.closed()[0].window.body.outcomes).as_bytes(),
    );
    assert_eq!(cluster.members[1].node.closed()[0].window.header.checkpoint.hash(), honest);
}

#[test]
fn who_proposes_changes_with_window_and_attempt() {
    let cluster = Cluster::new(&[1, 1, 1], 1, 2);
    let state = cluster.members[0].node.state();
    for attempt in 0..7 {
        assert_eq!(state.proposer(attempt), cluster.validators[attempt as usize % 3].public());
    }
    assert_eq!(state.proposer(u32::MAX), cluster.validators[u32::MAX as usize % 3].public());
}
