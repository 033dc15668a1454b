//! Every fast kernel against its twin, to the bit: on every instruction set of the machine, in pools of one, two and
//! three threads, on ordinary numbers and on wild ones. The frozen vectors then hold the twins themselves still.

mod frozen;
mod gradients;
mod products;
mod rows;

use std::sync::LazyLock;

use crate::isa::Isa;

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

/// SplitMix64 (Steele, Lea, Flood 2014): any well-mixed bits will do.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `len` numbers spread over [-4, 4), all 24 bits of the significand in use.
    fn ordinary(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.bits() >> 40) as f32 / 2_097_152.0 - 4.0).collect()
    }

    /// Ordinary numbers with zeros of both signs, subnormals, huge and tiny ones between them; all finite.
    fn wild(&mut self, len: usize) -> Vec<f32> {
        let mut x = self.ordinary(len);
        for v in &mut x {
            let bits = self.bits();
            match bits % 16 {
                0 => *v = 0.0,
                1 => *v = -0.0,
                2 => *v = f32::from_bits((bits >> 32) as u32 & 0x807f_ffff),
                3 => *v *= 1.0e30,
                4 => *v *= 1.0e-30,
                _ => {}
            }
        }
        x
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
