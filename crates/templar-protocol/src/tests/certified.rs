//! Copies of a state: each says everything that the next window follows from, and none that is changed is taken.

use std::sync::Arc;

use proptest::prelude::*;
use templar_manifest::*;

use super::fixture::*;
use crate::*;

/// Folds the closed windows of a node once more, and goes on after each window from a copy of the state. A window
/// recomputes only after the state that it follows from: its header names the root of the state after it.
pub(super) fn fold_through_copies(node: &Node) {
    let mut state = node.state_at(WindowIndex(0)).unwrap();
    let genesis = state.genesis().clone();
    for closed in node.closed() {
        state.advance(closed).unwrap();
        let copy = CertifiedState::new(closed, Arc::new(state.clone())).unwrap();
        let bytes = copy.encode();
        let found = CertifiedState::decode(&genesis, &bytes).unwrap();
        assert_eq!(found.header(), &closed.window.header);
        assert_eq!(found.encode(), bytes);
        assert_eq!(facts(found.state()), facts(&state));
        state = RunState::clone(found.state());
    }
    assert_eq!(facts(&state), facts(node.state()));
}

/// Everything that a state says to those who ask it.
fn facts(state: &RunState) -> impl PartialEq + std::fmt::Debug + use<> {
    let standings: Vec<_> =
        state.ledger().accounts().keys().map(|key| (state.standing(key), state.parent(key).copied())).collect();
    let known = (state.window(), state.record(), state.checkpoint(), state.seed(), state.root());
    let money = (state.ledger().clone(), state.pages().clone(), state.members().clone());
    (known, money, standings, state.challenges(), state.assignment(), state.proposer(0))
}

fn over(cluster: &Cluster) -> bool {
    cluster.members.iter().all(|member| member.node.is_over())
}

#[test]
fn a_run_with_longer_context_and_one_with_late_verdicts_go_through_copies() {
    let (validators, miners) = (keys("validator", 1), keys("miner", 3));
    let mut longer = genesis(&[(&validators[0], 1)], &miners, 6);
    longer.context = vec![context(32)];
    let mut longer = Cluster::of(longer, validators, miners);
    longer.cheat = nobody();
    for mut cluster in [longer, super::late::cluster(4, 4, 8, Some(1)), super::late::cluster(2, 3, 6, None)] {
        cluster.wake();
        cluster.run(&mut Order(3), over);
        assert!(over(&cluster), "stalled");
        fold_through_copies(&cluster.members[0].node);
    }
}

/// A copy after some windows with late verdicts, and the genesis.
fn copy() -> (Arc<Genesis>, CertifiedState, Node) {
    let mut cluster = super::late::cluster(4, 4, 5, Some(1));
    cluster.wake();
    cluster.run(&mut Order(3), over);
    let node = cluster.members[0].node.clone();
    let state = node.state_at(WindowIndex(4)).unwrap();
    let genesis = state.genesis().clone();
    (genesis, CertifiedState::new(&node.closed()[3], Arc::new(state)).unwrap(), node)
}

#[test]
fn a_node_that_begins_with_a_copy_follows_the_same_run() {
    let (genesis, copy, node) = copy();
    let copy = CertifiedState::decode(&genesis, &copy.encode()).unwrap();
    let mut follower = Node::new(copy.state().clone(), None);
    for entry in node.closed()[4].entries() {
        follower.step(Input::Entry(entry)).unwrap();
    }
    assert_eq!(follower.state().record(), node.state().record());
    assert_eq!(facts(follower.state()), facts(node.state()));
    // The copy is of one moment alone.
    assert_eq!(CertifiedState::new(&node.closed()[3], node.shared_state()), None);
    assert_eq!(CertifiedState::new(&node.closed()[4], copy.state().clone()), None);
}

#[test]
fn a_copy_that_is_cut_or_changed_anywhere_is_refused() {
    let (genesis, copy, _) = copy();
    let whole = copy.encode();
    assert_eq!(CertifiedState::decode(&genesis, &whole).unwrap().encode(), whole);
    for length in (0..whole.len()).step_by(31) {
        assert!(CertifiedState::decode(&genesis, &whole[..length]).is_err(), "{length} bytes");
    }
    for byte in (0..whole.len()).step_by(17) {
        let mut bytes = whole.clone();
        bytes[byte] ^= 1 << (byte % 8);
        assert!(CertifiedState::decode(&genesis, &bytes).is_err(), "byte {byte}");
    }
    let longer = [&whole[..], b"\0"].concat();
    assert_eq!(CertifiedState::decode(&genesis, &longer), Err(CertifiedStateError::Malformed));
}

#[test]
fn only_a_quorum_of_the_runs_own_validators_certifies_a_copy() {
    let (genesis, copy, node) = copy();
    let mut closed = node.closed()[3].clone();
    let decoded = |closed: &ClosedWindow| {
        let copy = CertifiedState::new(closed, copy.state().clone()).unwrap();
        CertifiedState::decode(&genesis, &copy.encode()).map(|_| ())
    };
    assert_eq!(decoded(&closed), Ok(()));
    // Three of four equal stakes are needed.
    closed.record_certificate.witnesses.truncate(2);
    assert_eq!(decoded(&closed), Err(CertifiedStateError::NotCertified));
    let mut other = Genesis::clone(&genesis);
    other.name.push('s');
    let run = copy.header().run;
    assert_eq!(CertifiedState::decode(&Arc::new(other), &copy.encode()), Err(CertifiedStateError::OtherRun(run)));
}

proptest! {
    /// Bytes of strangers are refused, and nothing else happens.
    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0usize..60) {
        let start = b"templar state 1\n";
        let (validators, miners) = (keys("validator", 1), keys("miner", 1));
        let genesis = Arc::new(genesis(&[(&validators[0], 1)], &miners, 1));
        let framed = [&start[..cut.min(start.len())], &bytes].concat();
        prop_assert!(CertifiedState::decode(&genesis, &framed).is_err());
    }
}
