//! Prints GFLOP/s of the matrix product on the shapes that small models train with, by instruction set and threads.
//!
//! `cargo run --release -p templar -p templar-numerics --example gemm`: the best of several repetitions, one line a shape.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock and no result depends on it")]

use std::time::Instant;

use templar_numerics::{Isa, Kernels, Mat, MatMut, Op};

fn main() {
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
    let pools = [1, 2].map(|threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of one or two threads starts")
    });
    println!("{:>6} {:>6} {:>6} op  {:>7} {:>9} {:>9} {:>9}", "m", "n", "k", "isa", "serial", "1 thread", "2 threads");
    for isa in Isa::available() {
        let kernels = Kernels::with_isa(isa).expect("available");
        for (m, n, k, op_a, op_b) in shapes {
            let flop = 2.0 * (m * n * k) as f64;
            let reps = ((if isa == Isa::Soft { 2e8 } else { 2e10 } / flop) as usize).clamp(2, 400);
            let fill = |len: usize| (0..len).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect::<Vec<f32>>();
            let (a, b, mut c) = (fill(m * k), fill(k * n), vec![0.0; m * n]);
            let a = if op_a == Op::N { Mat::new(&a, m, k) } else { Mat::new(&a, k, m) };
            let b = if op_b == Op::N { Mat::new(&b, k, n) } else { Mat::new(&b, n, k) };
            let mut best = |run: &(dyn Fn(MatMut) + Sync)| {
                let times = (0..reps).map(|_| {
                    let start = Instant::now();
                    run(MatMut::new(&mut c, m, n));
                    start.elapsed().as_secs_f64()
                });
                flop / times.fold(f64::INFINITY, f64::min) / 1e9
            };
            let serial = best(&|c| kernels.gemm_serial(a, op_a, b, op_b, c, false));
            let [one, two] =
                [0, 1].map(|i: usize| pools[i].install(|| best(&|c| kernels.gemm(a, op_a, b, op_b, c, false))));
            println!(
                "{m:>6} {n:>6} {k:>6} {op_a:?}{op_b:?} {:>8} {serial:>9.1} {one:>9.1} {two:>9.1}",
                isa.to_string()
            );
        }
    }
}
