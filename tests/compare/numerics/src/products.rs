//! Compares matrix products: ours, the `gemm` crate as candle ships it (AVX2), and that crate with its AVX-512
//! kernels, beside the peak of the machine.
//!
//! The crate is built once, with its feature `x86-v4`; `Peer::Avx2` calls the very function that it would choose
//! without that feature, so both forms run in one process.

use std::time::Instant;

use gemm::Parallelism;
use templar_numerics::{Kernels, Mat, MatMut, Op};

use crate::{numbers, peak, pool, seconds};

/// A product of a training step: 2048 tokens, width 512, feed-forward 1376, vocabulary 32000.
pub struct Shape {
    pub name: &'static str,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub ops: (Op, Op),
}

pub const SHAPES: [Shape; 7] = [
    Shape { name: "fwd", m: 2048, n: 1376, k: 512, ops: (Op::N, Op::T) },
    Shape { name: "dx", m: 2048, n: 512, k: 1376, ops: (Op::N, Op::N) },
    Shape { name: "dw", m: 1376, n: 512, k: 2048, ops: (Op::T, Op::N) },
    Shape { name: "proj", m: 2048, n: 512, k: 512, ops: (Op::N, Op::T) },
    Shape { name: "head", m: 2048, n: 32000, k: 512, ops: (Op::N, Op::T) },
    Shape { name: "hdx", m: 2048, n: 512, k: 32000, ops: (Op::N, Op::N) },
    Shape { name: "hdw", m: 32000, n: 512, k: 2048, ops: (Op::T, Op::N) },
];

/// The kernels of the `gemm` crate to use.
#[derive(Clone, Copy)]
pub enum Peer {
    Avx2,
    Chosen,
}

/// The best speed of one shape, in GFLOP/s.
struct Best {
    ours: f64,
    avx2: f64,
    chosen: f64,
    peak: f64,
}

/// Prints a table for one and one for two threads, giving each shape `budget` seconds.
pub fn print(budget: f64) {
    for threads in [1, 2] {
        let results: Vec<Best> = SHAPES.iter().map(|shape| measure(shape, threads, budget)).collect();
        let peak = results.iter().map(|best| best.peak).fold(0.0, f64::max);
        println!("\n{threads} thread{}, peak {peak:.1} GFLOP/s\n", if threads == 1 { "" } else { "s" });
        println!("| m x n x k | ours | `gemm` AVX2 | `gemm` x86-v4 | ours / AVX2 | ours / x86-v4 | of peak |");
        println!("|---|---:|---:|---:|---:|---:|---:|");
        for (shape, best) in SHAPES.iter().zip(&results) {
            let Shape { name, m, n, k, ops } = shape;
            let Best { ours, avx2, chosen, .. } = best;
            println!(
                "| {name} {m} x {n} x {k} {:?}{:?} | {ours:.1} | {avx2:.1} | {chosen:.1} | {:.2} | {:.2} | {:.2} |",
                ops.0,
                ops.1,
                ours / avx2,
                ours / chosen,
                ours / peak
            );
        }
        let mean = |ratio: fn(&Best) -> f64| {
            (results.iter().map(|best| ratio(best).ln()).sum::<f64>() / results.len() as f64).exp()
        };
        println!(
            "| geometric mean | | | | {:.2} | {:.2} | {:.2} |",
            mean(|best| best.ours / best.avx2),
            mean(|best| best.ours / best.chosen),
            mean(|best| best.ours) / peak
        );
    }
}

fn measure(shape: &Shape, threads: usize, budget: f64) -> Best {
    let Shape { m, n, k, ops, .. } = *shape;
    let (a, b, mut c) = (numbers(m * k, 1), numbers(k * n, 2), vec![0.0f32; m * n]);
    let (a_view, b_view) = operands(shape, &a, &b);
    let pool = pool(threads);
    let [mut ours, mut avx2, mut chosen, mut peak] = [f64::INFINITY; 4];
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < 3 || start.elapsed().as_secs_f64() < budget {
        ours = ours.min(seconds(|| {
            let c = MatMut::new(&mut c, m, n);
            pool.install(|| Kernels::best().gemm(a_view, ops.0, b_view, ops.1, c, false));
        }));
        for (peer, best) in [(Peer::Avx2, &mut avx2), (Peer::Chosen, &mut chosen)] {
            let before = probe(&c);
            *best = best.min(seconds(|| pool.install(|| theirs(peer, shape, threads, &a, &b, &mut c))));
            let close = before.iter().zip(probe(&c)).all(|(x, y)| (x - y).abs() <= 1e-3 * (1.0 + x.abs()));
            assert!(close, "{}: the products differ", shape.name);
        }
        peak = peak.min(seconds(|| drop(pool.broadcast(|_| peak::run()))));
        rounds += 1;
    }
    let flop = 2.0 * (m * n * k) as f64 / 1e9;
    let all = peak::operations() * threads as f64 / 1e9;
    Best { ours: flop / ours, avx2: flop / avx2, chosen: flop / chosen, peak: all / peak }
}

/// The operands of a shape as they are stored.
pub fn operands<'a>(&Shape { m, n, k, ops, .. }: &Shape, a: &'a [f32], b: &'a [f32]) -> (Mat<'a>, Mat<'a>) {
    let a = if ops.0 == Op::N { Mat::new(a, m, k) } else { Mat::new(a, k, m) };
    let b = if ops.1 == Op::N { Mat::new(b, k, n) } else { Mat::new(b, n, k) };
    (a, b)
}

/// A few elements of a result.
fn probe(c: &[f32]) -> Vec<f32> {
    c.iter().step_by(c.len() / 97).copied().collect()
}

/// `C = op(A)·op(B)` as candle's CPU backend calls it: row-major, no part of C read.
pub fn theirs(peer: Peer, shape: &Shape, threads: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    let Shape { m, n, k, ops, .. } = *shape;
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    // Column and row strides of each operand as the product sees it.
    let strides = |op, rows: usize, cols: usize| match op {
        Op::N => (1, cols as isize),
        Op::T => (rows as isize, 1),
    };
    let ((a_cs, a_rs), (b_cs, b_rs)) = (strides(ops.0, m, k), strides(ops.1, k, n));
    assert!(a.len() == m * k && b.len() == k * n && c.len() == m * n, "operands of the shape");
    let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    match peer {
        // SAFETY: lengths are checked above, and the strides stay inside them.
        Peer::Chosen => unsafe {
            gemm::gemm(
                m,
                n,
                k,
                c,
                1,
                n as isize,
                false,
                a,
                a_cs,
                a_rs,
                b,
                b_cs,
                b_rs,
                0.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        },
        // SAFETY: as above.
        Peer::Avx2 => unsafe { avx2(m, n, k, c, a, a_cs, a_rs, b, b_cs, b_rs, parallelism) },
    }
}

/// The function that `gemm::gemm`, built without `x86-v4`, calls on a machine with AVX2 for a row-major C. It
/// computes the transposed product with its `fma` kernels.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::too_many_arguments, reason = "three operands with their strides")]
#[inline(never)]
unsafe fn avx2(
    m: usize,
    n: usize,
    k: usize,
    c: *mut f32,
    a: *const f32,
    a_cs: isize,
    a_rs: isize,
    b: *const f32,
    b_cs: isize,
    b_rs: isize,
    parallelism: Parallelism,
) {
    use gemm_common::simd::{MixedSimd, V3};
    use gemm_f32::microkernel::fma::f32::{H_M, H_N, H_UKR, MR_DIV_N, NR, UKR};
    const N: usize = 8;
    let simd = <V3 as MixedSimd<f32, f32, f32, f32>>::try_new().expect("a machine with AVX2 and FMA");
    // SAFETY: the caller's.
    unsafe {
        gemm_common::gemm::gemm_basic_generic::<_, f32, N, { MR_DIV_N * N }, NR, MR_DIV_N, H_M, H_N>(
            simd,
            n,
            m,
            k,
            c,
            n as isize,
            1,
            false,
            b,
            b_rs,
            b_cs,
            a,
            a_rs,
            a_cs,
            0.0,
            1.0,
            false,
            false,
            false,
            |a, b, c| a * b + c,
            &UKR,
            &H_UKR,
            false,
            parallelism,
        );
    }
}

/// On other machines the crate has no second form.
#[cfg(not(target_arch = "x86_64"))]
#[allow(clippy::too_many_arguments, reason = "three operands with their strides")]
unsafe fn avx2(
    m: usize,
    n: usize,
    k: usize,
    c: *mut f32,
    a: *const f32,
    a_cs: isize,
    a_rs: isize,
    b: *const f32,
    b_cs: isize,
    b_rs: isize,
    parallelism: Parallelism,
) {
    // SAFETY: the caller's.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
            1,
            n as isize,
            false,
            a,
            a_cs,
            a_rs,
            b,
            b_cs,
            b_rs,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
