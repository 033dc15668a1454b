//! Documents that occur more than once.
//!
//! Two documents are duplicates where their tokens are equal, as those of equal texts are. A document is remembered by
//! the first 96 bits of the BLAKE3 hash of its tokens, so an import takes about 24 bytes of memory for each different
//! document of any length. With a billion documents, the chance that two different ones are taken for equal is one
//! in 10^11.
//!
//! A repeated document does harm in two ways. The model sees it more often than others. And where it lies both in the
//! training part and in the held-out part, the held-out loss measures memory. An import says so and goes on, since
//! almost every large corpus repeats itself, and a warning with a number is worth more than an import that ends after
//! hours. Where duplicates are removed, the first of the equal documents stays, and none can lie in both parts twice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use templar_manifest::Hash;

use crate::shard::Parts;

/// The way in which an import deals with documents that occurred before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDuplicate {
    /// They are imported, and counted.
    #[default]
    Count,
    /// They are left out, and counted.
    Remove,
}

/// The documents that an import found more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Duplicates {
    /// Documents that are equal to one before them.
    pub documents: u64,
    /// The tokens of these documents, each with its end token.
    pub tokens: u64,
    /// Different documents that have tokens in the training part in one place, and in the held-out part in another.
    pub in_both_parts: u64,
}

/// A document, as far as equality goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DocumentDigest([u8; 12]);

impl DocumentDigest {
    pub(crate) fn of(tokens: &[u32]) -> Self {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        let mut digest = [0; 12];
        digest.copy_from_slice(&Hash::of(&bytes).as_bytes()[..12]);
        Self(digest)
    }
}

/// The documents that were seen.
#[derive(Debug, Default)]
pub(crate) struct SeenDocuments {
    /// For each, the parts in which it has tokens, and perhaps [`COUNTED`]. A tree takes little more memory than its
    /// entries, and never twice as much for a moment, as a hash table that grows does.
    documents: BTreeMap<DocumentDigest, u8>,
    found: Duplicates,
}

/// A mark beside the parts: the document is known to lie in both.
const COUNTED: u8 = 1 << 7;

impl SeenDocuments {
    /// Whether an equal document was noted.
    pub(crate) fn has(&self, document: DocumentDigest) -> bool {
        self.documents.contains_key(&document)
    }

    /// Notes that a document of so many tokens was left out because it occurred before.
    pub(crate) fn removed(&mut self, tokens: u64) {
        self.found.documents += 1;
        self.found.tokens += tokens;
    }

    /// Notes a document of so many tokens, with some in each of `parts`.
    pub(crate) fn note(&mut self, document: DocumentDigest, tokens: u64, parts: Parts) {
        let seen = self.documents.entry(document).or_default();
        if *seen != 0 {
            self.found.documents += 1;
            self.found.tokens += tokens;
            let crosses = |one: Parts, other: Parts| *seen & one.bits() != 0 && parts.bits() & other.bits() != 0;
            let is_in_both = crosses(Parts::TRAINING, Parts::HELD_OUT) || crosses(Parts::HELD_OUT, Parts::TRAINING);
            if is_in_both && *seen & COUNTED == 0 {
                self.found.in_both_parts += 1;
                *seen |= COUNTED;
            }
        }
        *seen |= parts.bits();
    }

    /// The duplicates that were found so far.
    pub(crate) fn found(&self) -> Duplicates {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> Parts {
        Parts::TRAINING.with(Parts::HELD_OUT)
    }

    fn found(documents: &[(u32, Parts)]) -> (u64, u64, u64) {
        let mut seen = SeenDocuments::default();
        for (token, parts) in documents {
            seen.note(DocumentDigest::of(&[*token]), 10, *parts);
        }
        let found = seen.found();
        (found.documents, found.tokens, found.in_both_parts)
    }

    #[test]
    fn repeats_are_counted_and_each_document_in_both_parts_once() {
        let (training, held_out) = (Parts::TRAINING, Parts::HELD_OUT);
        assert_eq!(found(&[(1, training), (2, held_out), (3, both())]), (0, 0, 0));
        assert_eq!(found(&[(1, training), (1, training), (1, training)]), (2, 20, 0));
        assert_eq!(found(&[(1, training), (1, held_out), (1, held_out)]), (2, 20, 1));
        assert_eq!(found(&[(1, held_out), (1, held_out), (1, both())]), (2, 20, 1));
        assert_eq!(found(&[(1, both()), (1, both()), (2, held_out), (2, training)]), (2, 20, 2));
    }

    #[test]
    fn a_document_is_told_from_others() {
        let tokens: [&[u32]; 5] = [&[], &[0], &[0, 0], &[1], &[256]];
        let digests: Vec<_> = tokens.iter().map(|tokens| DocumentDigest::of(tokens)).collect();
        for (at, digest) in digests.iter().enumerate() {
            assert_eq!(digests.iter().position(|other| other == digest), Some(at));
        }
    }
}
