//! A proof that a tree has an entry, or that it does not have it.
//!
//! The proof is the way that the bits of the key lead, from the top to one leaf. If the leaf has the key, its
//! value is proven. If it has another key, the tree does not have the key, because a tree keeps each key where
//! its bits lead. That holds for every root that was computed from entries, so for every root in a certified
//! header.

use crate::id::Hash;

use super::bits::{MAX_BITS, bit_of, fork_hash, leaf_hash};

/// A fork on the way from the top of a tree to a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeFork {
    /// The bit of the key that decides the side.
    pub bit: u32,
    /// The root of the other side.
    pub sibling: Hash,
}

/// A proof for one key. Its size is 36 bytes for each fork, and the leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeProof {
    /// The forks from the top down.
    pub path: Vec<TreeFork>,
    /// Key and value of the leaf to which the way leads; `None` in a tree without entries.
    pub leaf: Option<(Vec<u8>, Vec<u8>)>,
}

/// The reasons for which a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The bits of the forks do not ascend, or one is behind the longest key.
    #[error("the forks of a proof are out of order")]
    Order,
    /// The proof is of another tree or of another key.
    #[error("a proof leads to the root {found} instead of {expected}")]
    Root {
        /// The root of the tree.
        expected: Hash,
        /// The root to which the proof leads.
        found: Hash,
    },
}

impl TreeProof {
    /// The value of `key` in the tree with this root; `None` where the tree does not have the key.
    ///
    /// # Errors
    /// [`TreeError`]: the proof proves nothing about this key and root.
    pub fn check(&self, root: &Hash, key: &[u8]) -> Result<Option<&[u8]>, TreeError> {
        let is_ascending = self.path.windows(2).all(|pair| pair[0].bit < pair[1].bit);
        if !is_ascending || self.path.last().is_some_and(|fork| fork.bit >= MAX_BITS) {
            return Err(TreeError::Order);
        }
        let leaf = self.leaf.as_ref();
        let mut found = leaf.map(|(key, value)| leaf_hash(key, value)).unwrap_or_default();
        for TreeFork { bit, sibling } in self.path.iter().rev() {
            let is_right = bit_of(key, *bit) == 1;
            found = if is_right { fork_hash(*bit, sibling, &found) } else { fork_hash(*bit, &found, sibling) };
        }
        if found != *root {
            return Err(TreeError::Root { expected: *root, found });
        }
        Ok(leaf.filter(|(other, _)| other == key).map(|(_, value)| &**value))
    }
}
