//! Whole runs: for every order of arrival, all nodes end with the same records.

use std::collections::BTreeSet;

use templar_manifest::*;

use super::fixture::*;
use crate::*;

fn over(cluster: &Cluster) -> bool {
    cluster.members.iter().all(|member| member.node.is_over())
}

fn records(cluster: &Cluster, member: usize) -> Vec<RecordId> {
    cluster.members[member].node.closed().iter().map(|closed| closed.record).collect()
}

/// committed ⊇ accepted ⊇ aggregated, nothing minted to the refused, certificates that verify.
fn check_run(cluster: &Cluster) {
    let node = &cluster.members[0].node;
    super::certified::fold_through_copies(node);
    let genesis = node.state().genesis();
    for closed in node.closed() {
        closed.check_certificates(genesis).unwrap();
        let committed: BTreeSet<ContributionId> =
            closed.contributions.iter().map(|signed| signed.id().into()).collect();
        let mut aggregated = 0;
        for outcome in &closed.window.body.outcomes {
            assert!(committed.contains(&outcome.contribution));
            let minted = closed.window.body.mints.iter().any(|mint| mint.account == outcome.miner);
            match &outcome.verdict {
                Verdict::Aggregated => aggregated += 1,
                Verdict::Reserve | Verdict::Excluded => {}
                Verdict::Refused(_) => assert!(!minted),
            }
            assert_eq!(matches!(outcome.verdict, Verdict::Refused(_)), outcome.miner == cluster.cheat);
        }
        assert!(aggregated <= genesis.outer.max_contributions);
        let sum: u64 = closed.window.body.mints.iter().map(|mint| mint.amount_micros).sum();
        assert!(sum > 0 && sum <= genesis.emission.per_window_micros);
    }
    let ledger = node.state().ledger();
    let held: u64 = ledger.accounts().values().map(|account| account.free_micros() + account.vesting_micros()).sum();
    assert_eq!(held + ledger.treasury_micros() + ledger.burnt_micros(), ledger.minted_micros());
    assert!(!ledger.accounts().contains_key(&cluster.cheat));
}

#[test]
fn every_order_ends_in_the_same_records() {
    for stakes in [&[1][..], &[1, 1], &[5, 3, 4]] {
        let mut expected = None;
        for seed in 0..3 {
            let mut cluster = Cluster::started(stakes, 4, 20);
            cluster.run(&mut Order(seed), over);
            assert!(over(&cluster), "stalled");
            assert!(cluster.events.is_empty(), "{:?}", cluster.events);
            let first = expected.get_or_insert_with(|| records(&cluster, 0)).clone();
            assert_eq!(first.len(), 20);
            for member in 0..cluster.members.len() {
                assert_eq!(records(&cluster, member), first, "member {member} of {stakes:?} with order {seed}");
            }
            check_run(&cluster);
        }
    }
}

/// Other sequences are other pages: each window's are a plain shuffle of those of its length, begun anew where
/// the length changes and nowhere else.
#[test]
fn a_longer_context_begins_a_new_epoch_of_its_own_pages() {
    let (validators, miners) = (keys("validator", 1), keys("miner", 3));
    let mut genesis = genesis(&[(&validators[0], 1)], &miners, 5);
    let longer = ContextSegment { batch_sequences: 1, ..context(32) };
    genesis.context = vec![longer, ContextSegment { from_window: 3, ..context(32) }];
    let mut cluster = Cluster::of(genesis, validators, miners);
    // Nobody cheats, so nobody loses its slot.
    cluster.cheat = nobody();
    cluster.wake();
    cluster.run(&mut Order(3), over);
    assert!(over(&cluster), "stalled");
    check_run(&cluster);
    let node = &cluster.members[0].node;
    let (mut row, mut taken) = (Vec::new(), 0);
    // Sequence length, sequences of a step, and the epoch.
    let windows = [(16, 2, 0), (16, 2, 0), (32, 1, 1), (32, 2, 1), (32, 2, 1)];
    for (window, (length, batch, epoch)) in windows.into_iter().enumerate() {
        let state = node.state_at(WindowIndex(window as u64)).unwrap();
        if [0, 2].contains(&window) {
            row = (0..1600 / length).collect();
            taken = 0;
        }
        assert_eq!((state.pages().pages(), state.pages().epoch()), (row.len() as u64, epoch));
        assert_eq!(state.pages().taken(), taken as u64);
        let public = [state.run().hash(), state.seed()];
        let parts: [&[u8]; 3] = [public[0].as_bytes(), &(window as u64).to_le_bytes(), public[1].as_bytes()];
        let mut draw = crate::run::draw::DrawStream::new("templar/1 assignment", &parts);
        let first = taken;
        for _ in 0..3 * 3 * batch {
            let other = taken + draw.below((row.len() - taken) as u64) as usize;
            row.swap(taken, other);
            taken += 1;
        }
        assert_eq!(state.assignment().slots().concat(), row[first..taken]);
        for signed in &node.closed()[window].contributions {
            assert_eq!(signed.payload().tokens, 3 * batch * length);
        }
    }
}

#[test]
fn a_node_that_restarts_goes_on_where_it_was() {
    let mut expected = Cluster::started(&[1, 1], 3, 6);
    expected.run(&mut Order(0), over);
    let mut cluster = Cluster::started(&[1, 1], 3, 6);
    let mut order = Order(7);
    for round in 0..60usize {
        let steps = std::cell::Cell::new(1 + order.below(40));
        cluster.run(&mut order, |_| {
            steps.set(steps.get() - 1);
            steps.get() == 0
        });
        cluster.restart(round % 6);
    }
    cluster.run(&mut order, over);
    assert!(over(&cluster));
    for member in 0..6 {
        assert_eq!(records(&cluster, member), records(&expected, 0));
    }
}

#[test]
fn any_earlier_state_can_be_folded_again() {
    let mut cluster = Cluster::started(&[1, 1], 3, 4);
    cluster.run(&mut Order(1), over);
    let node = &cluster.members[5].node;
    for (window, closed) in node.closed().iter().enumerate() {
        let state = node.state_at(WindowIndex(window as u64)).unwrap();
        assert_eq!(state.window(), closed.window.header.window);
        assert_eq!(state.record(), closed.window.header.previous);
        assert_eq!(state.checkpoint(), closed.window.body.checkpoint_before);
    }
    assert_eq!(&node.state_at(WindowIndex(4)).unwrap(), node.state());
    assert_eq!(node.state_at(WindowIndex(5)), None);
}

#[test]
fn a_closed_window_holds_what_closes_it_elsewhere() {
    let mut cluster = Cluster::started(&[1, 2, 2], 3, 3);
    cluster.run(&mut Order(8), over);
    let node = &cluster.members[0].node;
    let mut follower = Node::new(node.state_at(WindowIndex(0)).unwrap(), None);
    for closed in node.closed() {
        let mut outputs = Vec::new();
        for entry in closed.entries() {
            outputs = follower.step(Input::Entry(entry)).unwrap();
        }
        // The certificate may be larger than was needed: the last signatures come after the window has closed.
        let events = [vec![], vec![Output::Closed { record: closed.record, window: closed.window.header.window }]];
        assert!(
            events.contains(&outputs.into_iter().filter(|output| matches!(output, Output::Closed { .. })).collect())
        );
    }
    assert_eq!(follower.state(), node.state());
}

/// Less than a third of the stake and a miner are silent: deadlines close the windows without them. When the
/// validator comes back it catches up from another's journal, and its chain is checked across the gap.
#[test]
fn deadlines_close_windows_without_the_silent() {
    let mut cluster = Cluster::new(&[1, 1, 1, 1], 4, 5);
    cluster.members[3].online = false;
    let miner = cluster.miners[3].public();
    cluster.silent.insert(miner);
    cluster.wake();
    let mut order = Order(3);
    let at_three = |cluster: &Cluster| {
        cluster.members.iter().filter(|member| member.online).all(|member| member.node.state().window().0 == 3)
    };
    for _ in 0..20 {
        cluster.run(&mut order, at_three);
        if at_three(&cluster) {
            break;
        }
        cluster.expire();
    }
    assert!(at_three(&cluster), "stalled");
    for closed in cluster.members[0].node.closed() {
        assert_eq!(closed.window.body.reveals.len(), 3);
        assert!(closed.window.body.outcomes.iter().all(|outcome| outcome.miner != miner));
        // That one does not judge costs nobody anything: the others that were drawn have measured.
        assert!(closed.window.body.outcomes.iter().all(|outcome| outcome.losses.is_some()));
        let sum: u32 = closed.window.body.weights.iter().map(|weight| weight.weight_ppm).sum();
        assert!(sum > 999_000, "{sum}");
    }
    cluster.members[3].online = true;
    cluster.silent.clear();
    cluster.sync(0, 3);
    for _ in 0..20 {
        cluster.run(&mut order, over);
        if over(&cluster) {
            break;
        }
        for member in 1..cluster.members.len() {
            cluster.sync(0, member);
            cluster.sync(member, 0);
        }
        cluster.wake();
        cluster.expire();
    }
    assert!(over(&cluster), "stalled after the return");
    for member in 0..cluster.members.len() {
        assert_eq!(records(&cluster, member), records(&cluster, 0));
    }
    assert_eq!(cluster.members[3].node.closed()[3].window.body.reveals.len(), 4);
}

#[test]
fn an_own_delta_is_served_only_after_the_cut() {
    let mut cluster = Cluster::started(&[1, 1], 3, 2);
    let node = &mut cluster.members[2].node;
    let claimed = contribution(node.state(), &cluster.miners[0].public(), 0);
    let delta = claimed.delta.hash();
    // The list of what is withheld says the same.
    let serves = |node: &Node, blob: &Hash| {
        assert_eq!(node.withheld().contains(blob), !node.may_serve(blob));
        node.may_serve(blob)
    };
    assert!(serves(node, &delta));
    node.gate(delta);
    assert!(!serves(node, &delta));
    let mut order = Order(2);
    cluster.run(&mut order, |cluster| cluster.members[2].node.contributions().count() == 3);
    let node = &cluster.members[2].node;
    assert!(node.cut().is_none());
    for blob in [claimed.delta.hash(), claimed.trace.hash(), claimed.state_out.hash()] {
        assert!(!serves(node, &blob));
    }
    // Naming a blob does not stop others from serving it.
    assert!(serves(&cluster.members[3].node, &delta));
    cluster.run(&mut order, |cluster| cluster.members[2].node.cut().is_some());
    assert!(serves(&cluster.members[2].node, &delta));
    cluster.run(&mut order, over);
    assert!(serves(&cluster.members[2].node, &delta));
}

/// Where genesis says so, each member begins every third window from zero state, slot after slot, also who was
/// away when it was its turn; it can go on from nothing older, and loses no certainty.
#[test]
fn states_are_reset_slot_after_slot() {
    let (validators, miners) = (keys("validator", 2), keys("miner", 4));
    let with_stakes: Vec<(&SecretKey, u64)> = validators.iter().map(|key| (key, 1)).collect();
    let mut genesis = genesis(&with_stakes, &miners, 8);
    genesis.state_reset_every = 3;
    let mut cluster = Cluster::of(genesis, validators, miners);
    let away = cluster.miners[2].public();
    cluster.wake();
    let mut order = Order(4);
    let turn = |window: u64, slot: u32| (window + u64::from(slot)).is_multiple_of(3);
    let slot_of = |cluster: &Cluster, miner| cluster.members[0].node.state().members().by_owner(miner).unwrap().slot;
    let missed = (3..6).find(|window| turn(*window, slot_of(&cluster, &away))).unwrap();
    let drive = |cluster: &mut Cluster, order: &mut Order, done: &dyn Fn(&Cluster) -> bool| {
        while !done(cluster) {
            cluster.run(order, done);
            if !done(cluster) {
                cluster.expire();
            }
        }
    };
    let all_at = |cluster: &Cluster, window| cluster.members.iter().all(|one| one.node.state().window().0 >= window);
    drive(&mut cluster, &mut order, &|cluster| all_at(cluster, missed - 1));
    let has_sent = |cluster: &Cluster| {
        let node = &cluster.members[0].node;
        node.state().window().0 >= missed || node.contributions().any(|one| one.payload().miner == away)
    };
    drive(&mut cluster, &mut order, &has_sent);
    // It is silent in the window in which it would begin anew, and goes on after it.
    cluster.silent.insert(away);
    drive(&mut cluster, &mut order, &|cluster| all_at(cluster, missed + 1));
    cluster.silent.remove(&away);
    cluster.wake();
    drive(&mut cluster, &mut order, &over);
    let node = &cluster.members[0].node;
    let mut resets = 0;
    for closed in node.closed() {
        let window = closed.window.header.window;
        let before = node.state_at(window).unwrap();
        for signed in &closed.contributions {
            let claimed = signed.payload();
            let slot = before.members().by_owner(&claimed.miner).unwrap().slot;
            if claimed.miner == cluster.cheat {
                continue;
            }
            let last_turn = (0..=window.0).rev().find(|window| *window == 0 || turn(*window, slot)).unwrap();
            let said = |other: &&ClosedWindow| {
                other.window.header.window < window
                    && other.contributions.iter().any(|one| one.payload().miner == claimed.miner)
            };
            let last = node.closed().iter().rev().find(said);
            let goes_on = last.is_some_and(|last| last.window.header.window.0 >= last_turn);
            assert_eq!(claimed.parent.is_some(), goes_on, "window {window}, slot {slot}");
            let Some(last) = last.filter(|_| !goes_on) else { continue };
            resets += 1;
            let older = last.contributions.iter().find(|one| one.payload().miner == claimed.miner).unwrap();
            let (parent, state_in) = (Some(older.id().into()), older.payload().state_out);
            assert_eq!(before.check_claims(&Contribution { parent, state_in, ..claimed.clone() }), Err("parent"));
        }
        let judging = before.judging_of(closed).unwrap();
        let scores: Vec<&Score> = closed.scores.iter().map(Signed::payload).collect();
        let found = before.assessment(&judging, &scores);
        assert!(found.changes.iter().all(|change| change.cause != Cause::Restarted));
    }
    assert!(resets >= 6, "{resets}");
}
