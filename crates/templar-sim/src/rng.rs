//! The random numbers of a simulation: one generator for everything, so that the same seed and the same program give
//! the same run, draw for draw.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// Context under which the seed is hashed into the generator's key. The text never changes: results follow from it.
const SEED_CONTEXT: &str = "templar-sim 1 dice";

/// Parts per million that make a whole.
pub(crate) const ONE_PPM: u64 = 1_000_000;

/// ChaCha8, keyed with the simulation's seed.
#[derive(Debug, Clone)]
pub(crate) struct SimRng(ChaCha8Rng);

impl SimRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::from_seed(blake3::derive_key(SEED_CONTEXT, &seed.to_le_bytes())))
    }

    /// Draws a number in `0..bound`; `bound` must not be 0. The bias is below `bound / 2^64`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Draws a number in `low..=high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Is true with probability `ppm / 1,000,000`. A probability of 0 draws nothing.
    pub(crate) fn chance(&mut self, ppm: u64) -> bool {
        ppm > 0 && self.below(ONE_PPM) < ppm
    }

    /// Brings the items into a uniformly drawn order (Fisher-Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for place in (1..items.len()).rev() {
            items.swap(place, self.below(place as u64 + 1) as usize);
        }
    }
}
