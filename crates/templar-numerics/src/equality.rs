//! Every fast kernel against its twin, to the bit: on every instruction set of the machine, in pools of one, two and
//! three threads, on ordinary numbers and on wild ones. The frozen vectors then hold the twins themselves still.

mod frozen;
mod gradients;
mod limbs;
mod products;
mod rows;

use std::sync::LazyLock;

use crate::i8x2::Unit;
use crate::isa::Isa;
use crate::vectors::Generator;

/// Pools of one, two and three threads.
static POOLS: LazyLock<Vec<rayon::ThreadPool>> =
    LazyLock::new(|| [1, 2, 3].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap()).into());

/// Runs `check` on every available instruction set in every pool.
fn everywhere(check: impl Fn(Isa) + Sync) {
    for isa in Isa::available() {
        for pool in POOLS.iter() {
            pool.install(|| check(isa));
        }
    }
}

/// Runs `check` on every unit that multiplies limbs, in every pool.
fn on_every_unit(check: impl Fn(Unit) + Sync) {
    for unit in Unit::available() {
        for pool in POOLS.iter() {
            pool.install(|| check(unit));
        }
    }
}

/// Asserts equal bits; any NaN equals any other.
#[track_caller]
fn same(fast: &[f32], twin: &[f32], what: &str) {
    assert_eq!(fast.len(), twin.len(), "{what}");
    for (i, (f, t)) in fast.iter().zip(twin).enumerate() {
        assert!(f.to_bits() == t.to_bits() || (f.is_nan() && t.is_nan()), "{what}: element {i} is {t:e}, not {f:e}");
    }
}
