//! Unbiased draws from a hash, and the pages of an epoch drawn without replacement.
//!
//! All randomness of a run comes from here. A stream is the BLAKE3 output for a context and public values, so
//! anyone draws the same numbers at any time. The stream is read as little-endian u64. A number that would bias
//! a bounded draw is thrown away and the next one is taken.

use std::collections::BTreeMap;

use templar_manifest::{Hash, WindowIndex};

/// A stream of random numbers that is a function of its inputs.
pub(crate) struct DrawStream {
    reader: blake3::OutputReader,
    block: [u8; 64],
    used: usize,
}

impl DrawStream {
    /// The stream of `context` and `parts`, whose lengths must be fixed by the context.
    pub(crate) fn new(context: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        for part in parts {
            hasher.update(part);
        }
        Self { reader: hasher.finalize_xof(), block: [0; 64], used: 64 }
    }

    /// The next number of the stream.
    pub(crate) fn next(&mut self) -> u64 {
        if self.used == self.block.len() {
            self.reader.fill(&mut self.block);
            self.used = 0;
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.block[self.used..self.used + 8]);
        self.used += 8;
        u64::from_le_bytes(bytes)
    }

    /// A number below `bound`, which is not zero. All of them are equally likely.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // 2^64 mod bound numbers at the top would favour the small results.
        let excess = (u64::MAX % bound + 1) % bound;
        loop {
            let number = self.next();
            if number <= u64::MAX - excess {
                return number % bound;
            }
        }
    }
}

/// The pages of the dataset in the order in which an epoch uses them up: a Fisher–Yates shuffle that goes on from
/// window to window, each window with its own randomness.
///
/// Only the places that differ from "page `i` is at place `i`" are stored, so that the memory follows the pages used
/// and not the size of the dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageDraw {
    pages: u64,
    epoch: u64,
    taken: u64,
    moved: BTreeMap<u64, u64>,
    drawn: Vec<PagesDrawn>,
}

/// The pages that one window has drawn. All draws of an epoch together give the order of its pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PagesDrawn {
    pub(super) window: WindowIndex,
    /// The seed of the window before, with which they were drawn.
    pub(super) seed: Hash,
    /// The number of pages.
    pub(super) pages: u64,
}

impl PageDraw {
    /// All of `pages` pages unused.
    pub(crate) fn new(pages: u64) -> Self {
        Self { pages, epoch: 0, taken: 0, moved: BTreeMap::new(), drawn: Vec::new() }
    }

    /// The draw of an epoch as these windows have left it, oldest first. `order` gives the numbers of a window. `None`
    /// if they draw more pages than there are.
    pub(super) fn restored(
        pages: u64,
        epoch: u64,
        drawn: Vec<PagesDrawn>,
        order: impl Fn(&PagesDrawn) -> DrawStream,
    ) -> Option<Self> {
        let mut draw = Self { epoch, ..Self::new(pages) };
        for window in &drawn {
            if pages - draw.taken < window.pages {
                return None;
            }
            let mut order = order(window);
            (0..window.pages).for_each(|_| _ = draw.take_one(&mut order));
        }
        Some(Self { drawn, ..draw })
    }

    /// The number of training pages of the dataset.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The number of times that all pages were begun anew.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The number of pages that this epoch has used.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The draws of this epoch, oldest first.
    pub(super) fn drawn(&self) -> &[PagesDrawn] {
        &self.drawn
    }

    /// Remembers that this epoch's newest pages were drawn so.
    pub(super) fn remember(&mut self, drawn: PagesDrawn) {
        self.drawn.push(drawn);
    }

    /// Takes the next `count` pages; `count` is at most the number of pages. Where fewer are left in the epoch,
    /// those stay unused and a new epoch begins with all pages.
    pub(crate) fn take(&mut self, count: u64, draw: &mut DrawStream) -> Vec<u64> {
        if self.pages - self.taken < count {
            self.begin(self.pages);
        }
        (0..count).map(|_| self.take_one(draw)).collect()
    }

    /// Begins a new epoch, of `pages` pages.
    pub(crate) fn begin(&mut self, pages: u64) {
        self.pages = pages;
        self.epoch += 1;
        self.taken = 0;
        self.moved.clear();
        self.drawn.clear();
    }

    fn take_one(&mut self, draw: &mut DrawStream) -> u64 {
        let place = self.taken + draw.below(self.pages - self.taken);
        let first = self.moved.remove(&self.taken).unwrap_or(self.taken);
        let page = if place == self.taken { first } else { self.moved.insert(place, first).unwrap_or(place) };
        self.taken += 1;
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounded_draws_are_even() {
        let mut draw = DrawStream::new("templar/1 test", &[b"even"]);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[draw.below(7) as usize] += 1;
        }
        // The standard deviation of each count is 93.
        assert!(counts.iter().all(|&count| (9_600..10_400).contains(&count)), "{counts:?}");
        assert_eq!(draw.below(1), 0);
    }

    #[test]
    fn every_order_of_three_pages_is_equally_likely() {
        let mut counts = BTreeMap::<Vec<u64>, u32>::new();
        for trial in 0..6_000u32 {
            let mut draw = DrawStream::new("templar/1 test", &[&trial.to_le_bytes()]);
            *counts.entry(PageDraw::new(3).take(3, &mut draw)).or_default() += 1;
        }
        assert_eq!(counts.len(), 6);
        // The standard deviation of each count is 29.
        assert!(counts.values().all(|count| (870..1_130).contains(count)), "{counts:?}");
    }

    proptest! {
        /// The sparse shuffle is the plain one.
        #[test]
        fn a_sparse_shuffle_is_a_shuffle(pages in 1u64..60, sizes in prop::collection::vec(1u64..20, 1..12)) {
            let mut sparse = PageDraw::new(pages);
            let mut plain: Vec<u64> = (0..pages).collect();
            let mut taken = 0;
            for (window, size) in sizes.into_iter().enumerate() {
                let size = size.min(pages);
                let seed = (window as u64).to_le_bytes();
                let found = sparse.take(size, &mut DrawStream::new("templar/1 test", &[&seed]));
                if pages - taken < size {
                    plain = (0..pages).collect();
                    taken = 0;
                }
                let mut draw = DrawStream::new("templar/1 test", &[&seed]);
                for place in taken..taken + size {
                    let other = place + draw.below(pages - place);
                    plain.swap(place as usize, other as usize);
                }
                prop_assert_eq!(&found[..], &plain[taken as usize..(taken + size) as usize]);
                taken += size;
                prop_assert!(sparse.moved.len() as u64 <= taken);
            }
        }
    }
}
