//! The tree against its definition, and hostile proofs.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::bits::MAX_BITS;
use super::*;

/// The root as the documentation defines it.
fn defined(entries: &[(&[u8], &[u8])]) -> Hash {
    match entries {
        [] => Hash::default(),
        [(key, value)] => leaf_hash(key, value),
        [(first, _), .., (last, _)] => {
            let bit = (0..MAX_BITS).find(|bit| bit_of(first, *bit) != bit_of(last, *bit)).unwrap();
            let right = entries.iter().position(|(key, _)| bit_of(key, bit) == 1).unwrap();
            fork_hash(bit, &defined(&entries[..right]), &defined(&entries[right..]))
        }
    }
}

fn entries(map: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<(&[u8], &[u8])> {
    map.iter().map(|(key, value)| (&key[..], &value[..])).collect()
}

fn tree_of(map: &BTreeMap<Vec<u8>, Vec<u8>>) -> Tree {
    let mut tree = Tree::new();
    map.iter().for_each(|(key, value)| tree.insert(key, value));
    tree
}

/// Short keys from few letters, so that many share a beginning and some are the beginning of others.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0u8, 1, 0x7f, 0x80, 0xff]), 0..4)
}

fn maps() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    prop::collection::btree_map(keys(), prop::collection::vec(any::<u8>(), 0..3), 0..24)
}

proptest! {
    #[test]
    fn bits_order_keys_as_bytes_do(a in keys(), b in keys()) {
        let bits = |key: &[u8]| (0..40).map(|bit| bit_of(key, bit)).collect::<Vec<_>>();
        prop_assert_eq!(bits(&a).cmp(&bits(&b)), a.cmp(&b));
        let first = (0..40).find(|bit| bit_of(&a, *bit) != bit_of(&b, *bit));
        prop_assert_eq!(first_difference(&a, &b), first);
    }

    #[test]
    fn the_root_follows_from_the_entries_and_from_nothing_else(
        map in maps(),
        changes in prop::collection::vec((keys(), prop::option::of(any::<u8>())), 0..40),
    ) {
        let (mut map, mut tree) = (map.clone(), tree_of(&map));
        prop_assert_eq!(tree.root(), defined(&entries(&map)));
        for (key, value) in changes {
            let (before, kept) = (tree.root(), tree.clone());
            match value {
                Some(value) => {
                    tree.insert(&key, &[value]);
                    map.insert(key, vec![value]);
                }
                None => {
                    tree.remove(&key);
                    map.remove(&key);
                }
            }
            prop_assert_eq!(tree.root(), defined(&entries(&map)));
            prop_assert_eq!(kept.root(), before, "a clone changed");
        }
        prop_assert_eq!(tree.iter().collect::<Vec<_>>(), entries(&map));
        prop_assert_eq!(tree.is_empty(), map.is_empty());
    }

    #[test]
    fn every_key_is_proven_there_or_absent(map in maps(), key in keys(), other in keys()) {
        let tree = tree_of(&map);
        let root = tree.root();
        let proof = tree.prove(&key);
        prop_assert_eq!(proof.check(&root, &key), Ok(map.get(&key).map(Vec::as_slice)));
        prop_assert_eq!(tree.get(&key), map.get(&key).map(Vec::as_slice));
        // For another key it proves the truth or nothing.
        if let Ok(found) = proof.check(&root, &other) {
            prop_assert_eq!(found, map.get(&other).map(Vec::as_slice));
        }
    }

    #[test]
    fn a_changed_proof_proves_nothing(map in maps(), key in keys(), place in any::<prop::sample::Index>()) {
        let tree = tree_of(&map);
        let (root, proof) = (tree.root(), tree.prove(&key));
        let mut forged = Vec::new();
        if let Some((other, value)) = &proof.leaf {
            let mut longer = value.clone();
            longer.push(0);
            forged.push(TreeProof { leaf: Some((other.clone(), longer)), ..proof.clone() });
            // A byte moves from the key to the value.
            if let Some((last, rest)) = other.split_last() {
                let moved = [&[*last], &value[..]].concat();
                forged.push(TreeProof { leaf: Some((rest.to_vec(), moved)), ..proof.clone() });
            }
            forged.push(TreeProof { leaf: None, ..proof.clone() });
        }
        if !proof.path.is_empty() {
            let place = place.index(proof.path.len());
            let mut shorter = proof.clone();
            shorter.path.remove(place);
            let mut another = proof.clone();
            another.path[place].bit += 1;
            let mut twice = proof.clone();
            twice.path.insert(place, proof.path[place]);
            forged.extend([shorter, another, twice]);
        }
        for proof in forged {
            prop_assert!(proof.check(&root, &key).is_err(), "{proof:?}");
        }
    }
}

#[test]
fn a_proof_among_thousands_is_short() {
    let mut tree = Tree::new();
    (0u32..20_000).for_each(|number| tree.insert(Hash::of(&number.to_le_bytes()).as_bytes(), &number.to_le_bytes()));
    let root = tree.root();
    let longest = (0u32..20_000).step_by(97).map(|number| {
        let key = Hash::of(&number.to_le_bytes());
        let proof = tree.prove(key.as_bytes());
        assert_eq!(proof.check(&root, key.as_bytes()), Ok(Some(&number.to_le_bytes()[..])));
        proof.path.len()
    });
    // A balanced tree would have 15.
    assert!(longest.max().unwrap() <= 30);
}

#[test]
fn a_fork_behind_the_longest_key_is_refused() {
    let proof = TreeProof { path: vec![TreeFork { bit: MAX_BITS, sibling: Hash::default() }], leaf: None };
    assert_eq!(proof.check(&Hash::default(), b""), Err(TreeError::Order));
}
