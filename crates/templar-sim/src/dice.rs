//! Chance: one generator for a whole simulation, so that seed and program replay it draw for draw.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

const SEED_CONTEXT: &str = "templar-sim 1 dice";

/// Parts per million of one.
pub(crate) const ONE_PPM: u64 = 1_000_000;

/// The seeded generator.
#[derive(Debug, Clone)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::from_seed(blake3::derive_key(SEED_CONTEXT, &seed.to_le_bytes())))
    }

    /// A number below `bound`, which is not zero. The bias is below `bound / 2^64`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `ppm` of a million cases.
    pub(crate) fn chance(&mut self, ppm: u64) -> bool {
        ppm > 0 && self.below(ONE_PPM) < ppm
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for place in (1..items.len()).rev() {
            items.swap(place, self.below(place as u64 + 1) as usize);
        }
    }
}
