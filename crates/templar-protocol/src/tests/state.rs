//! The state as a tree: its root is in every header, it does not depend on the way that led to it, and single
//! entries are proven.

use proptest::prelude::*;
use templar_manifest::*;

use super::fixture::*;
use crate::*;

fn closed_run(mut cluster: Cluster) -> Cluster {
    cluster.wake();
    cluster.run(&mut Order(3), |cluster| cluster.members[0].node.is_over());
    assert!(cluster.members[0].node.is_over(), "stalled");
    cluster
}

#[test]
fn every_header_holds_the_root_of_the_state_after_it() {
    let mut kept = super::late::cluster(4, 4, 8, Some(1));
    kept.keeper = Some(Keeper { miner: kept.miners[0].public(), served: Default::default() });
    for cluster in [Cluster::new(&[3, 2, 1, 1], 4, 6), super::late::cluster(4, 4, 8, Some(1)), kept] {
        let cluster = closed_run(cluster);
        let node = &cluster.members[0].node;
        let mut before = node.state_at(WindowIndex(0)).unwrap();
        assert_eq!(before.root(), before.root_from_nothing());
        for closed in node.closed() {
            let mut after = before.clone();
            after.advance(closed).unwrap();
            assert_ne!(after.root(), before.root());
            assert_eq!(after.root(), after.root_from_nothing(), "after window {}", before.window());
            assert_eq!(after.root(), closed.window.header.state_root);
            assert_eq!(after.checkpoint(), closed.window.header.checkpoint);
            assert_eq!(after.record(), Some(closed.record));
            before = after;
        }
        assert_eq!(before.root(), node.state().root());
    }
}

#[test]
fn a_balance_is_proven_by_a_header_and_a_path() {
    let cluster = closed_run(Cluster::new(&[1, 1], 3, 6));
    let node = &cluster.members[0].node;
    let (state, closed) = (node.state(), node.closed().last().unwrap());
    let header = &closed.window.header;
    // Six windows in, the pay of the first is free.
    let (owner, account) = state.ledger().accounts().iter().find(|(_, account)| account.free_micros() > 0).unwrap();
    let key = StateKey::Account(*owner);
    let proof = state.prove(&key);
    let shown = proof.check(&header.state_root, &key.bytes()).unwrap();
    assert_eq!(shown, Some(&account.free_micros().to_le_bytes()[..]));
    assert_eq!(shown, state.entry(&key));
    let bytes = payload::encode(header).len();
    assert!(bytes < 400, "a header of {bytes} bytes");
    for grant in account.grants() {
        let key = StateKey::Grant(*owner, grant.window);
        let proof = state.prove(&key);
        let shown = proof.check(&header.state_root, &key.bytes()).unwrap();
        assert_eq!(shown, Some(&grant.amount_micros.to_le_bytes()[..]));
    }
    // A stranger has no account, and a proof of another key or state proves nothing.
    let stranger = StateKey::Account(nobody());
    assert_eq!(state.prove(&stranger).check(&header.state_root, &stranger.bytes()), Ok(None));
    let before = node.closed()[0].window.header.state_root;
    assert!(proof.check(&before, &key.bytes()).is_err());
}

fn key() -> impl Strategy<Value = PublicKey> {
    prop::sample::select(vec![0u8, 1, 127, 255]).prop_map(|byte| PublicKey::from_bytes([byte; 32]))
}

fn window() -> impl Strategy<Value = WindowIndex> {
    prop::sample::select(vec![0u64, 1, 255, 256, 1 << 40]).prop_map(WindowIndex)
}

fn state_key() -> impl Strategy<Value = StateKey> {
    prop_oneof![
        key().prop_map(StateKey::Account),
        window().prop_map(StateKey::Anchor),
        key().prop_map(StateKey::Chain),
        (window(), key()).prop_map(|(window, key)| StateKey::Contribution(window, key)),
        (window(), key()).prop_map(|(window, key)| StateKey::Convicted(window, key)),
        key().prop_map(|key| StateKey::DeltaBody(Hash::from_bytes(*key.as_bytes()))),
        window().prop_map(StateKey::Draw),
        key().prop_map(StateKey::Expelled),
        key().prop_map(StateKey::FormerNode),
        (key(), window()).prop_map(|(key, window)| StateKey::Grant(key, window)),
        any::<u32>().prop_map(StateKey::Member),
        Just(StateKey::Pages),
        key().prop_map(StateKey::Parent),
        window().prop_map(StateKey::Pending),
        Just(StateKey::Prices),
        Just(StateKey::Run),
        Just(StateKey::Seed),
        key().prop_map(StateKey::Standing),
        key().prop_map(StateKey::Strike),
        Just(StateKey::Supply),
    ]
}

proptest! {
    /// The tree is brought up to date by walking two states in the order of keys.
    #[test]
    fn keys_are_ordered_as_their_bytes(a in state_key(), b in state_key()) {
        prop_assert_eq!(a.cmp(&b), a.bytes().cmp(&b.bytes()));
        prop_assert!(a.bytes().len() <= tree::MAX_KEY_BYTES);
    }
}
