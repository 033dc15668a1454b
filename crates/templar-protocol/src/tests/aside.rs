//! Floods of statements beyond the limits of their signers: an entry that was set aside is taken in when an accepted
//! entry names it. In tests, `OpenWindow::called_for` compares each answer of its index with a scan of everything that
//! is set aside.

use templar_manifest::*;

use super::fixture::*;
use crate::*;

/// More statements of every kind than are kept, most of which name others of them.
fn flood(cluster: &Cluster, order: &mut Order) -> Vec<Entry> {
    let node = &cluster.members[0].node;
    let (run, window) = (node.state().run(), node.state().window());
    let mut entries = Vec::new();
    let mut say = |entry: Entry| entries.push(entry);
    let mut claimed = Vec::new();
    for miner in &cluster.miners {
        for nonce in 0..5 {
            let contribution = contribution(node.state(), &miner.public(), nonce);
            claimed.push(CutEntry { miner: miner.public(), contribution: payload::id_of(&contribution).into() });
            say(Entry::Envelope(Signed::sign(contribution, miner).envelope()));
        }
    }
    let mut inboxes = Vec::new();
    for validator in &cluster.validators {
        for _ in 0..5 {
            let mut contributions: Vec<CutEntry> =
                cluster.miners.iter().enumerate().map(|(miner, _)| claimed[5 * miner + order.below(5)]).collect();
            contributions.sort_by_key(|entry| entry.miner);
            let inbox = Inbox { run, window, validator: validator.public(), contributions, registrations: vec![] };
            inboxes.push(InboxId::new(payload::id_of(&inbox)));
            say(Entry::Envelope(Signed::sign(inbox, validator).envelope()));
        }
    }
    let mut cuts = Vec::new();
    for validator in &cluster.validators {
        for _ in 0..5 {
            let mut named: Vec<InboxId> = (0..3).map(|_| inboxes[order.below(inboxes.len())]).collect();
            named.sort_unstable();
            named.dedup();
            let cut = Cut { run, window, inboxes: named, contributions: vec![], registrations: vec![] };
            cuts.push(payload::id_of(&cut));
            say(Entry::Envelope(Signed::sign(cut, validator).envelope()));
        }
    }
    for validator in &cluster.validators {
        for _ in 0..12 {
            let value = (order.below(5) > 0).then(|| cuts[order.below(4)]);
            let step = if order.below(2) == 0 { VoteStep::Prevote } else { VoteStep::Precommit };
            let vote = Vote { run, window, on: VoteOn::Cut, attempt: order.below(3) as u32, step, value };
            say(Entry::Envelope(Signed::sign(vote, validator).envelope()));
        }
    }
    entries
}

#[test]
fn what_is_set_aside_is_taken_in_as_a_scan_of_everything_finds_it() {
    let cluster = Cluster::new(&[1, 1, 1, 1], 3, 1);
    let mut taken_in_with_another = 0;
    for seed in 0..60 {
        let mut order = Order(seed);
        let mut entries = flood(&cluster, &mut order);
        let mut node = cluster.members[7].node.clone();
        for _ in 0..2 {
            for place in (1..entries.len()).rev() {
                entries.swap(place, order.below(place + 1));
            }
            for entry in &entries {
                // Many are refused: there is no room, or they are found wrong.
                let outputs = node.step(Input::Entry(entry.clone())).unwrap_or_default();
                let accepted = outputs.iter().filter(|output| matches!(output, Output::Accepted { .. })).count();
                taken_in_with_another += accepted.saturating_sub(1);
            }
        }
    }
    assert!(taken_in_with_another > 100, "{taken_in_with_another}");
}

/// A vote beyond the room of its signer is set aside, and it contradicts one that was taken in. The contradiction is
/// reported when others give the same vote and it is taken in.
#[test]
fn a_contradiction_that_was_set_aside_is_reported_when_it_is_taken_in() {
    let cluster = Cluster::new(&[1, 1, 1, 1], 1, 1);
    let mut node = cluster.members[5].node.clone();
    let (run, window) = (node.state().run(), node.state().window());
    let prevote = |attempt, value: &[u8]| Vote {
        run,
        window,
        on: VoteOn::Cut,
        attempt,
        step: VoteStep::Prevote,
        value: Some(Hash::of(value)),
    };
    let mut say = |who: usize, vote: Vote| {
        let entry = Entry::Envelope(Signed::sign(vote, &cluster.validators[who]).envelope());
        node.step(Input::Entry(entry)).unwrap()
    };
    let reports = |outputs: &[Output]| -> Vec<Output> {
        outputs.iter().filter(|output| matches!(output, Output::Equivocation { .. })).cloned().collect()
    };
    for attempt in 1..5 {
        assert_eq!(say(3, prevote(attempt, b"one")).len(), 1);
    }
    assert_eq!(say(3, prevote(1, b"two")), [], "there is no room for it");
    assert_eq!(reports(&say(0, prevote(1, b"two"))), []);
    let outputs = say(1, prevote(1, b"two"));
    assert_eq!(outputs.iter().filter(|output| matches!(output, Output::Accepted { .. })).count(), 2);
    let (first, second) = (payload::id_of(&prevote(1, b"one")), payload::id_of(&prevote(1, b"two")));
    let signer = cluster.validators[3].public();
    assert_eq!(reports(&outputs), [Output::Equivocation { kind: "vote", signer, first, second }]);
}
