//! Random pauses before the acts of a node, so that tests meet other orders of events.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use templar_manifest::Hash;
use templar_node::driver::Pacing;

/// Pauses of up to `longest`, each drawn from a seed and the number of the act.
#[derive(Debug)]
pub struct RandomPauses {
    longest: Duration,
    seed: u64,
    acts: AtomicU64,
}

impl RandomPauses {
    /// Pauses below `longest`. The same seed gives the same pauses in the same order.
    pub fn new(longest: Duration, seed: u64) -> Self {
        Self { longest, seed, acts: AtomicU64::new(0) }
    }
}

impl Pacing for RandomPauses {
    fn next_pause(&self) -> Duration {
        let act = self.acts.fetch_add(1, Ordering::Relaxed) + 1;
        let mut input = [0; 16];
        input[..8].copy_from_slice(&self.seed.to_le_bytes());
        input[8..].copy_from_slice(&act.to_le_bytes());
        let draw = u32::from(Hash::of(&input).as_bytes()[0]);
        self.longest.saturating_mul(draw) / 256
    }
}
