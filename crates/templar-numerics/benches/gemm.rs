//! Speed of the matrix product on the shapes that small models train with, by instruction set.
//!
//! `cargo bench -p templar -p templar-numerics --bench gemm`; RAYON_NUM_THREADS chooses the threads. An item is a
//! floating-point operation, so the column of Gitem/s is GFLOP/s.

use std::fmt;

use divan::Bencher;
use divan::counter::ItemsCount;
use templar_numerics::{Isa, Kernels, Mat, MatMut, Op};

fn main() {
    // The measuring thread is one of the threads that compute, so no call waits for another thread to wake up.
    rayon::ThreadPoolBuilder::new().use_current_thread().build_global().expect("the first pool");
    divan::main();
}

/// `C[m, n] = op(A)·op(B)` with `k` products in each sum.
#[derive(Clone, Copy)]
struct Case {
    isa: Isa,
    m: usize,
    n: usize,
    k: usize,
    op_a: Op,
    op_b: Op,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { isa, m, n, k, op_a, op_b } = self;
        write!(f, "{isa} {m}x{n}x{k} {op_a:?}{op_b:?}")
    }
}

/// The products of a training step of 128 channels, and three of one of 512.
fn cases() -> impl Iterator<Item = Case> {
    let shapes: [(usize, usize, usize, Op, Op); 12] = [
        (512, 128, 128, Op::N, Op::T),
        (512, 352, 128, Op::N, Op::T),
        (512, 128, 352, Op::N, Op::N),
        (512, 2048, 128, Op::N, Op::T),
        (512, 128, 2048, Op::N, Op::N),
        (352, 128, 512, Op::T, Op::N),
        (2048, 128, 512, Op::T, Op::N),
        (128, 128, 32, Op::N, Op::T),
        (128, 32, 128, Op::N, Op::N),
        (2048, 1376, 512, Op::N, Op::T),
        (2048, 512, 1376, Op::N, Op::N),
        (1376, 512, 2048, Op::T, Op::N),
    ];
    let of = move |isa| shapes.map(|(m, n, k, op_a, op_b)| Case { isa, m, n, k, op_a, op_b });
    // Without fused multiply-add a product takes a hundred times as long, so the large ones are left out.
    let is_short = |case: &Case| case.isa != Isa::Soft || case.m * case.n * case.k <= 1 << 24;
    Isa::available().into_iter().flat_map(of).filter(is_short)
}

type Product = fn(&Kernels, Mat<'_>, Op, Mat<'_>, Op, MatMut<'_>, bool);

fn measure(bencher: Bencher<'_, '_>, case: Case, product: Product) {
    let Case { isa, m, n, k, op_a, op_b } = case;
    let kernels = Kernels::with_isa(isa).expect("the machine has the instruction set");
    let fill = |length: usize| (0..length).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect::<Vec<f32>>();
    let (a, b, mut c) = (fill(m * k), fill(k * n), vec![0.0; m * n]);
    let a = if op_a == Op::N { Mat::new(&a, m, k) } else { Mat::new(&a, k, m) };
    let b = if op_b == Op::N { Mat::new(&b, k, n) } else { Mat::new(&b, n, k) };
    let bencher = bencher.counter(ItemsCount::new(2 * m * n * k));
    bencher.bench_local(|| product(&kernels, a, op_a, b, op_b, MatMut::new(&mut c, m, n), false));
}

/// On the calling thread alone.
#[divan::bench(args = cases())]
fn serial(bencher: Bencher<'_, '_>, case: Case) {
    measure(bencher, case, |kernels, a, op_a, b, op_b, c, adds| kernels.gemm_serial(a, op_a, b, op_b, c, adds));
}

/// On all threads of the pool.
#[divan::bench(args = cases())]
fn parallel(bencher: Bencher<'_, '_>, case: Case) {
    measure(bencher, case, |kernels, a, op_a, b, op_b, c, adds| kernels.gemm(a, op_a, b, op_b, c, adds));
}
