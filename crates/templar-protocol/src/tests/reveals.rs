//! Which hash-chain values count: the set is agreed once, and nothing that comes later changes it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::*;

use super::fixture::*;
use crate::*;

fn over(cluster: &Cluster) -> bool {
    cluster.members.iter().all(|member| member.node.is_over())
}

fn value_of(cluster: &Cluster, key: &SecretKey) -> Entry {
    let state = cluster.members[0].node.state();
    let (run, window) = (state.run(), state.window());
    Entry::Reveal(RevealEntry { run, window, validator: key.public(), value: chain_value(key, window) })
}

/// The seeds for which each validator has signed a score, as far as they were seen.
#[derive(Default)]
struct Judged(RefCell<BTreeMap<PublicKey, BTreeSet<Hash>>>);

impl Judged {
    fn note(&self, cluster: &Cluster) {
        for score in cluster.members.iter().flat_map(|member| member.node.scores()).map(Signed::payload) {
            self.0.borrow_mut().entry(score.validator).or_default().insert(score.seed);
        }
    }

    fn most(&self) -> usize {
        self.0.borrow().values().map(BTreeSet::len).max().unwrap_or_default()
    }
}

/// A cluster in which the last `f` validators are silent until the deadlines of commit and reveal have passed.
fn with_silent(stakes: &[u64], f: usize) -> Cluster {
    let total: u64 = stakes.iter().sum();
    assert!(stakes[stakes.len() - f..].iter().sum::<u64>() * 3 < total, "a third or more");
    let mut cluster = Cluster::new(stakes, 2, 1);
    cluster.cheat = nobody();
    cluster.silent.extend(cluster.validators[stakes.len() - f..].iter().map(SecretKey::public));
    cluster.wake();
    cluster
}

/// Lets the silent take part again, and drives the window to its end.
fn finish(cluster: &mut Cluster, order: &mut Order, judged: &Judged) {
    let silent = std::mem::take(&mut cluster.silent);
    for member in 0..cluster.validators.len() {
        if silent.contains(&cluster.validators[member].public()) {
            cluster.restart(member);
        }
    }
    for _ in 0..40 {
        cluster.run(order, |cluster| {
            judged.note(cluster);
            over(cluster)
        });
        if over(cluster) {
            return;
        }
        cluster.expire();
    }
    panic!("the window does not close");
}

/// The last `f` validators release their values one after the other, each when all but one honest score of the
/// seed so far is out. Returns the record's values, and in how many judgings a validator took part at most.
fn staggered(stakes: &[u64], f: usize) -> (usize, usize) {
    let mut cluster = with_silent(stakes, f);
    let mut order = Order(5);
    for _ in 0..2 {
        cluster.run(&mut order, |_| false);
        cluster.expire();
    }
    let (honest, judged) = (stakes.len() - f, Judged::default());
    let late: Vec<SecretKey> = cluster.validators[honest..].to_vec();
    for key in &late {
        cluster.run(&mut order, |cluster| {
            judged.note(cluster);
            let node = &cluster.members[0].node;
            let Some(seed) = node.seed() else { return false };
            node.scores().filter(|score| score.payload().seed == seed).count() >= honest - 1
        });
        assert_eq!(cluster.members[0].node.state().window(), WindowIndex(0), "closed before");
        let reveal = value_of(&cluster, key);
        (0..cluster.members.len()).for_each(|to| cluster.deliver(to, Input::Entry(reveal.clone())));
    }
    finish(&mut cluster, &mut order, &judged);
    (cluster.members[0].node.closed()[0].window.body.reveals.len(), judged.most())
}

#[test]
fn late_values_one_after_the_other_change_nothing() {
    let equal = |n: usize| vec![1; n];
    // Eight small validators stopped a run for good when each value changed the seed.
    let unequal = [vec![2; 12], vec![1; 8]].concat();
    for (stakes, f) in [(equal(4), 1), (equal(7), 2), (equal(10), 3), (equal(20), 6), (unequal, 8), (equal(25), 8)] {
        let found = staggered(&stakes, f);
        assert_eq!(found, (stakes.len() - f, 1), "{f} of {stakes:?}");
    }
}

/// Before the set is agreed, late values reach one half of the validators, each another one: the honest prevote
/// different sets. They agree in the next attempt, and judge once.
#[test]
fn values_in_two_halves_cost_one_attempt() {
    for (n, f) in [(4, 1), (7, 2), (10, 3)] {
        for seed in 0..6 {
            let mut cluster = with_silent(&vec![1; n], f);
            let mut order = Order(seed);
            cluster.run(&mut order, |_| false);
            cluster.expire();
            cluster.run(&mut order, |_| false);
            let (honest, judged) = (n - f, Judged::default());
            let late: Vec<SecretKey> = cluster.validators[honest..].to_vec();
            for (place, key) in late.iter().enumerate() {
                let reveal = value_of(&cluster, key);
                (0..honest).filter(|to| to % 2 == place % 2).for_each(|to| cluster.send(to, reveal.clone()));
            }
            // Some have a value before their deadline, others after it.
            cluster.run_some(&mut order, 2 * f);
            cluster.expire();
            finish(&mut cluster, &mut order, &judged);
            assert_eq!(judged.most(), 1);
            let records: BTreeSet<RecordId> =
                cluster.members.iter().map(|member| member.node.closed()[0].record).collect();
            assert_eq!(records.len(), 1);
            let closed = &cluster.members[0].node.closed()[0];
            // The first attempt, a second, and one for each validator that was away when it had to propose.
            assert!(closed.reveals_certificate.attempt as usize <= 1 + f, "{n} {f} {seed}");
            assert!(closed.window.body.reveals.len() >= honest);
        }
    }
}

/// A validator whose value comes after the set is agreed pays as one that did not reveal, and nobody waits for its
/// score.
#[test]
fn who_is_outside_the_set_pays_as_one_that_was_absent() {
    let mut cluster = Cluster::new(&[1, 1, 1, 1], 3, 4);
    cluster.cheat = nobody();
    cluster.wake();
    let mut order = Order(2);
    let at = |cluster: &Cluster, window| cluster.members.iter().all(|member| member.node.state().window().0 >= window);
    cluster.run(&mut order, |cluster| at(cluster, 2));
    let late = cluster.validators[3].clone();
    let before = cluster.members[0].node.state().ledger().accounts()[&late.public()].vesting_micros();
    assert!(before > 0);
    cluster.silent.insert(late.public());
    for _ in 0..2 {
        cluster.run(&mut order, |_| false);
        cluster.expire();
    }
    cluster.run(&mut order, |cluster| cluster.members[0].node.seed().is_some());
    let reveal = value_of(&cluster, &late);
    (0..cluster.members.len()).for_each(|to| cluster.deliver(to, Input::Entry(reveal.clone())));
    cluster.silent.clear();
    cluster.restart(3);
    for _ in 0..10 {
        cluster.run(&mut order, |cluster| at(cluster, 3));
        cluster.expire();
    }
    let closed = &cluster.members[0].node.closed()[2];
    assert!(closed.scores.iter().all(|score| score.signer() != late.public()));
    let absences: Vec<PublicKey> = closed.window.body.slashes.iter().map(|slash| slash.account).collect();
    assert_eq!(absences, [late.public()]);
    assert_eq!(closed.window.body.slashes[0].cause, SlashCause::Absence);
}

/// The value of a faulty validator counts, that of an honest one came too late, and the faulty one signs no score. The
/// honest of the set are too few for a record, so the one outside is counted as well.
#[test]
fn who_is_outside_the_set_scores_so_that_the_honest_are_enough() {
    for seed in 0..6 {
        let mut cluster = with_silent(&[1, 1, 1, 1], 1);
        let mut order = Order(seed);
        for _ in 0..2 {
            cluster.run(&mut order, |_| false);
            cluster.expire();
        }
        cluster.run(&mut order, |cluster| cluster.members.iter().any(|member| member.node.seed().is_some()));
        let keys: Vec<PublicKey> = cluster.validators.iter().map(SecretKey::public).collect();
        let (faulty, late) = (keys[2], keys[3]);
        cluster.silent.insert(faulty);
        cluster.run(&mut order, |_| false);
        let node = &cluster.members[0].node;
        assert_eq!(node.scores().count(), 2, "only two of the set score");
        let plan = node.state().judge_plan(node.judging().unwrap(), &late);
        cluster.silent.remove(&late);
        cluster.restart(3);
        for _ in 0..40 {
            cluster.run(&mut order, over);
            cluster.expire();
        }
        assert!(over(&cluster), "the window does not close");
        let closed = &cluster.members[0].node.closed()[0];
        let counted: Vec<PublicKey> = closed.window.body.reveals.iter().map(|reveal| reveal.validator).collect();
        assert_eq!(counted, keys[..3]);
        let scored: Vec<PublicKey> = closed.scores.iter().map(Signed::signer).collect();
        assert_eq!(scored, [keys[0], keys[1], late]);
        let plan = plan.expect("it is a validator");
        assert!(plan.replay.is_empty() && plan.evaluations.is_empty(), "nothing is drawn for it");
    }
}

/// A node of a validator that has all values but has not voted on them, and the id of the certified cut.
fn before_the_vote(cluster: &mut Cluster) -> (Node, CutId) {
    cluster.wake();
    cluster.run(&mut Order(1), |cluster| cluster.members[1].node.cut().is_some());
    let mut node = Node::new(cluster.members[1].node.state().clone(), cluster.members[1].node.me());
    for entry in cluster.members[1].journal.iter().filter(|entry| !matches!(entry, Entry::Reveal(_))) {
        node.step(Input::Entry(entry.clone())).unwrap();
    }
    let cut = node.cut().unwrap().0;
    (node, cut)
}

fn set_of(cluster: &Cluster, cut: CutId, keys: &[SecretKey]) -> RevealSet {
    let state = cluster.members[0].node.state();
    let value = |key: &SecretKey| Reveal { validator: key.public(), value: chain_value(key, state.window()) };
    RevealSet { run: state.run(), window: state.window(), cut, reveals: keys.iter().map(value).collect() }
}

fn forge<T: Payload>(payload: T, key: &SecretKey) -> Entry {
    Entry::Envelope(Signed::sign(payload, key).envelope())
}

fn prevotes(node: &Node) -> Vec<Option<Hash>> {
    let outputs = node.todo();
    let vote = |output: &Output| match output {
        Output::Sign(Unsigned::Vote(vote)) if vote.on == VoteOn::Reveals => Some(vote.value),
        _ => None,
    };
    outputs.iter().filter_map(vote).collect()
}

#[test]
fn a_proposer_cannot_leave_out_a_value_that_is_here() {
    let mut cluster = Cluster::new(&[1, 1, 1, 1], 2, 1);
    let (mut node, cut) = before_the_vote(&mut cluster);
    let (window, keys) = (node.state().window(), cluster.validators.clone());
    assert_eq!(node.state().proposer(0), keys[0].public());
    for key in &keys[..3] {
        node.step(Input::Entry(value_of(&cluster, key))).unwrap();
    }
    // The proposer leaves out the third, then nobody that is known here.
    let propose = |node: &mut Node, set: &RevealSet| {
        let (run, value) = (node.state().run(), Some(payload::id_of(set)));
        let (on, step) = (VoteOn::Reveals, VoteStep::Prevote);
        node.step(Input::Entry(forge(set.clone(), &keys[0]))).unwrap();
        node.step(Input::Entry(forge(Vote { run, window, on, attempt: 0, step, value }, &keys[0]))).unwrap();
        value
    };
    let without = set_of(&cluster, cut, &[keys[0].clone(), keys[1].clone(), keys[3].clone()]);
    let with = set_of(&cluster, cut, &keys[..3]);
    // Before its deadline it waits for the fourth.
    let mut unfair = node.clone();
    propose(&mut unfair, &without);
    assert_eq!(prevotes(&unfair), []);
    let mut fair = node.clone();
    let proposed = propose(&mut fair, &with);
    assert_eq!(prevotes(&fair), []);
    // After it, it prevotes what it has, or more.
    let deadline = Input::Deadline { window, phase: Phase::Reveal };
    unfair.step(deadline.clone()).unwrap();
    fair.step(deadline.clone()).unwrap();
    assert_eq!((prevotes(&unfair), prevotes(&fair)), (vec![proposed], vec![proposed]));
    let mut whole = node;
    let proposed = propose(&mut whole, &set_of(&cluster, cut, &keys));
    assert_eq!(prevotes(&whole), [proposed], "all values: nobody has to wait");
}

#[test]
fn sets_and_values_that_cannot_count_are_refused_by_name() {
    let mut cluster = Cluster::new(&[1, 1, 1, 1], 2, 2);
    let (mut node, cut) = before_the_vote(&mut cluster);
    let keys = cluster.validators.clone();
    let refused = |node: &Node, entry: Entry| {
        let mut after = node.clone();
        let reject = after.step(Input::Entry(entry)).unwrap_err();
        assert_eq!(&after, node, "{reject} changed the state");
        reject
    };
    let wrong = |reject| Reject::Wrong(Box::new(reject));
    let whole = set_of(&cluster, cut, &keys);
    // Twice, and out of order: no such payload decodes.
    let changes: [fn(&mut RevealSet); 2] = [|set| set.reveals.insert(0, set.reveals[0]), |set| set.reveals.swap(0, 1)];
    for change in changes {
        let mut set = whole.clone();
        change(&mut set);
        let signed = Signed::sign(set, &keys[0]).envelope();
        assert!(matches!(refused(&node, Entry::Envelope(signed)), Reject::Envelope(EnvelopeError::Decode(_))));
    }
    let mut foreign = whole.clone();
    foreign.reveals[2].value = chain_value(&keys[1], WindowIndex(0));
    let off_chain = JudgingError::OffChain(keys[2].public().short());
    assert_eq!(refused(&node, forge(foreign, &keys[0])), wrong(Reject::Judging(off_chain)));
    let few = set_of(&cluster, cut, &keys[..2]);
    let no_quorum = JudgingError::NoQuorum { stake: 2, total: 4 };
    assert_eq!(refused(&node, forge(few, &keys[0])), wrong(Reject::Judging(no_quorum)));
    let other = set_of(&cluster, CutId::default(), &keys);
    assert_eq!(refused(&node, forge(other, &keys[0])), wrong(Reject::OtherCut("reveals")));
    assert!(matches!(refused(&node, forge(whole, &cluster.miners[0])), Reject::NotAValidator(_)));
    // A value comes twice: nothing new. One after the set is fixed, which is outside: refused.
    let first = value_of(&cluster, &keys[0]);
    node.step(Input::Entry(first.clone())).unwrap();
    assert_eq!(node.step(Input::Entry(first)).unwrap(), []);
    let set = set_of(&cluster, cut, &keys[..3]);
    let (run, window, value) = (set.run, set.window, Some(payload::id_of(&set)));
    node.step(Input::Entry(forge(set, &keys[0]))).unwrap();
    for key in &keys[..3] {
        let vote = Vote { run, window, on: VoteOn::Reveals, attempt: 0, step: VoteStep::Precommit, value };
        node.step(Input::Entry(forge(vote, key))).unwrap();
    }
    let seed = node.seed().expect("the set is agreed");
    assert_eq!(refused(&node, value_of(&cluster, &keys[3])), Reject::AfterSet(keys[3].public().short()));
    // One of the set may still come, and changes nothing.
    node.step(Input::Entry(value_of(&cluster, &keys[2]))).unwrap();
    assert_eq!(node.seed(), Some(seed));
}
