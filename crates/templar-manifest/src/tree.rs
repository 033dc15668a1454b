//! A sorted Merkle tree: many entries under one hash, each provable by itself.
//!
//! An entry is a key and a value, both bytes. A proof shows the value of one key, or that the tree has no such
//! key, to anybody who knows the root. The root depends on the entries alone, and not on the order in which they
//! came.
//!
//! # The root
//!
//! The *bits* of a key are nine for each byte: a 1, then the byte with its highest bit first. Behind the last
//! byte all bits are 0. So the bits order keys as their bytes do, and no key is the beginning of another one.
//!
//! * The root of no entry is 32 zero bytes.
//! * The root of one entry is BLAKE3 (context `templar/1 tree leaf`) of the length of its key as u32, the key and
//!   the value.
//! * The root of several entries: let `bit` be the first bit in which the first and the last key differ, counted
//!   from 0. Those with a 0 there are on the left, the others on the right. The root is BLAKE3 (context
//!   `templar/1 tree fork`) of `bit` as u32, the root of the left and the root of the right ones.
//!
//! Integers are little-endian.
//!
//! # Cost
//!
//! A [`Tree`] shares its nodes with its clones, and hashes a node once. After a change, only the nodes from the
//! changed entries up to the root are hashed again.
//!
//! # Example
//!
//! ```
//! use templar_manifest::tree::Tree;
//!
//! let mut tree = Tree::new();
//! tree.insert(b"alice", b"3");
//! tree.insert(b"bob", b"5");
//! let root = tree.root();
//!
//! assert_eq!(tree.prove(b"bob").check(&root, b"bob"), Ok(Some(&b"5"[..])));
//! assert_eq!(tree.prove(b"carol").check(&root, b"carol"), Ok(None));
//! // A proof is of one key. This one leads to Alice, so it says nothing about Bob.
//! assert!(tree.prove(b"alice").check(&root, b"bob").is_err());
//! ```

mod bits;
mod proof;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};

pub use bits::MAX_KEY_BYTES;
use bits::{bit_of, first_difference, fork_hash, leaf_hash};
pub use proof::{TreeError, TreeFork, TreeProof};

use crate::id::Hash;

/// A sorted Merkle tree. Clones share their nodes.
#[derive(Clone, Default)]
pub struct Tree {
    top: Option<Arc<Node>>,
}

#[derive(Clone)]
enum Node {
    Leaf(Leaf),
    Fork(Fork),
}

#[derive(Clone)]
struct Leaf {
    key: Box<[u8]>,
    value: Box<[u8]>,
    hash: OnceLock<Hash>,
}

#[derive(Clone)]
struct Fork {
    bit: u32,
    /// The entries with a 0 at `bit`, then those with a 1.
    sides: [Arc<Node>; 2],
    hash: OnceLock<Hash>,
}

impl Node {
    fn hash(&self) -> Hash {
        match self {
            Self::Leaf(leaf) => *leaf.hash.get_or_init(|| leaf_hash(&leaf.key, &leaf.value)),
            Self::Fork(fork) => {
                *fork.hash.get_or_init(|| fork_hash(fork.bit, &fork.sides[0].hash(), &fork.sides[1].hash()))
            }
        }
    }

    /// The leaf to which the bits of a key lead. If the tree has the key, it is there.
    fn nearest(&self, key: &[u8]) -> &Leaf {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(leaf) => return leaf,
                Self::Fork(fork) => node = &fork.sides[bit_of(key, fork.bit)],
            }
        }
    }

    /// Puts a leaf in its place. `bit` is the first in which it differs from its nearest leaf; `None` where it
    /// replaces that leaf.
    fn insert(node: &mut Arc<Self>, bit: Option<u32>, leaf: Leaf) {
        let is_above = match &**node {
            Self::Leaf(_) => false,
            Self::Fork(fork) => bit.is_none_or(|bit| fork.bit < bit),
        };
        if is_above && let Self::Fork(fork) = Arc::make_mut(node) {
            fork.hash = OnceLock::new();
            return Self::insert(&mut fork.sides[bit_of(&leaf.key, fork.bit)], bit, leaf);
        }
        *node = match bit {
            None => Arc::new(Self::Leaf(leaf)),
            Some(bit) => {
                let is_right = bit_of(&leaf.key, bit) == 1;
                let (new, other) = (Arc::new(Self::Leaf(leaf)), node.clone());
                let sides = if is_right { [other, new] } else { [new, other] };
                Arc::new(Self::Fork(Fork { bit, sides, hash: OnceLock::new() }))
            }
        };
    }

    /// Takes the leaf out to which the bits of a key lead. The node itself must be a fork.
    fn remove(node: &mut Arc<Self>, key: &[u8]) {
        let Self::Fork(fork) = Arc::make_mut(node) else { return };
        let side = bit_of(key, fork.bit);
        if matches!(&*fork.sides[side], Self::Leaf(_)) {
            *node = fork.sides[1 - side].clone();
        } else {
            fork.hash = OnceLock::new();
            Self::remove(&mut fork.sides[side], key);
        }
    }
}

impl Tree {
    /// A tree without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// The root. It is 32 zero bytes for a tree without entries.
    pub fn root(&self) -> Hash {
        self.top.as_ref().map(|top| top.hash()).unwrap_or_default()
    }

    /// Whether the tree has no entry.
    pub fn is_empty(&self) -> bool {
        self.top.is_none()
    }

    /// The value of a key; `None` where the tree does not have the key.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let leaf = self.top.as_ref()?.nearest(key);
        (*leaf.key == *key).then_some(&*leaf.value)
    }

    /// Gives a key a value, in place of the one that it may have.
    ///
    /// # Panics
    /// If the key has more than [`MAX_KEY_BYTES`] bytes.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) {
        assert!(key.len() <= MAX_KEY_BYTES, "a key of {} bytes", key.len());
        let leaf = || Leaf { key: key.into(), value: value.into(), hash: OnceLock::new() };
        let Some(top) = &mut self.top else {
            self.top = Some(Arc::new(Node::Leaf(leaf())));
            return;
        };
        let nearest = top.nearest(key);
        let bit = first_difference(&nearest.key, key);
        if bit.is_some() || *nearest.value != *value {
            Node::insert(top, bit, leaf());
        }
    }

    /// Takes a key out. Nothing changes where the tree does not have it.
    pub fn remove(&mut self, key: &[u8]) {
        if self.get(key).is_none() {
            return;
        }
        match &mut self.top {
            Some(top) if matches!(&**top, Node::Fork(_)) => Node::remove(top, key),
            top => *top = None,
        }
    }

    /// The entries, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut left: Vec<&Node> = self.top.iter().map(|top| &**top).collect();
        std::iter::from_fn(move || {
            loop {
                match left.pop()? {
                    Node::Leaf(leaf) => return Some((&*leaf.key, &*leaf.value)),
                    Node::Fork(fork) => left.extend([&*fork.sides[1], &*fork.sides[0]]),
                }
            }
        })
    }

    /// Proves the value of a key, or that the tree does not have it.
    pub fn prove(&self, key: &[u8]) -> TreeProof {
        let (mut path, mut node) = (Vec::new(), self.top.as_deref());
        let leaf = loop {
            match node {
                None => break None,
                Some(Node::Leaf(leaf)) => break Some((leaf.key.to_vec(), leaf.value.to_vec())),
                Some(Node::Fork(fork)) => {
                    let side = bit_of(key, fork.bit);
                    path.push(TreeFork { bit: fork.bit, sibling: fork.sides[1 - side].hash() });
                    node = Some(&*fork.sides[side]);
                }
            }
        };
        TreeProof { path, leaf }
    }
}

impl PartialEq for Tree {
    /// Trees with the same root have the same entries.
    fn eq(&self, other: &Self) -> bool {
        self.root() == other.root()
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree({})", self.root().short())
    }
}
