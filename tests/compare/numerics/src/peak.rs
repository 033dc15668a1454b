//! The peak of the machine, measured by independent chains of fused multiply-adds in registers, without memory
//! access.

use std::hint::black_box;

/// Chains per thread. Two units with a latency of 4 cycles need 8 chains to be busy.
const CHAINS: usize = 16;
const STEPS: usize = 400_000;

/// Floating-point operations that [`run`] does on each thread.
pub fn operations() -> f64 {
    (2 * CHAINS * WIDTH * STEPS) as f64
}

#[cfg(target_arch = "x86_64")]
const WIDTH: usize = 16;
#[cfg(not(target_arch = "x86_64"))]
const WIDTH: usize = 4;

/// One measurement's work on the calling thread.
pub fn run() {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has it.
        unsafe { avx512() };
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the machine has it.
        unsafe { avx2() };
    }
    #[cfg(target_arch = "aarch64")]
    neon();
}

/// `STEPS` steps of all chains.
macro_rules! chains {
    ($splat:ident, $fused:ident) => {{
        let (factor, summand) = ($splat(black_box(0.999_9)), $splat(black_box(1.0e-4)));
        let mut all = [$splat(black_box(1.0)); CHAINS];
        for _ in 0..STEPS {
            for chain in &mut all {
                *chain = $fused(*chain, factor, summand);
            }
        }
        black_box(all);
    }};
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512() {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_set1_ps};
    chains!(_mm512_set1_ps, _mm512_fmadd_ps);
}

/// Runs twice the chains, because a vector is half as wide.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2() {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps};
    for _ in 0..2 {
        chains!(_mm256_set1_ps, _mm256_fmadd_ps);
    }
}

#[cfg(target_arch = "aarch64")]
fn neon() {
    use std::arch::aarch64::{float32x4_t, vdupq_n_f32, vfmaq_f32};
    let fused = |chain: float32x4_t, factor, summand| vfmaq_f32(summand, chain, factor);
    chains!(vdupq_n_f32, fused);
}
