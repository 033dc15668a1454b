//! Compares products of `i8x2/1` with those of `f32/1` and of the `gemm` crate, on every unit of the machine.
//!
//! The time is that of the processor, not the wall's, and on one thread: so other programs on the machine take nothing
//! from a contestant but its caches. The contestants take turns within a round, and the ratios are of best rounds.

use templar_numerics::i8x2::Unit;
use templar_numerics::{Isa, Kernels, Mat, MatMut, Op};

use crate::products::{Peer, SHAPES, operands, theirs};
use crate::{numbers, pool, processor_seconds};

/// Prints how many steps of a chain AVX2 takes for `i8x2/1`, of `f32/1`'s, in registers alone: the bound of any kernel
/// that multiplies words. Nothing is printed on other machines.
fn print_bound() {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        let best = |steps: unsafe fn()| {
            // SAFETY: the machine has both.
            (0..30).map(|_| processor_seconds(|| unsafe { steps() })).fold(f64::INFINITY, f64::min)
        };
        let bound = best(fused_steps) / best(word_steps);
        println!("vpmaddwd with vpaddd, in registers, makes {bound:.2} of the steps that vfmadd makes\n");
    }
}

/// Prints the speed of both arithmetics with what every x86-64 processor has. `f32/1` then makes each multiply-add of
/// several operations.
fn print_baseline() {
    if !Unit::Sse2.is_available() {
        return;
    }
    let (m, n, k) = (512, 352, 512);
    let (a, b, mut c) = (numbers(m * k, 1), numbers(k * n, 2), vec![0.0f32; m * n]);
    let mut speed = |kernels: Kernels| {
        let mut product = || {
            let (a, b, c) = (Mat::new(&a, m, k), Mat::new(&b, n, k), MatMut::new(&mut c, m, n));
            processor_seconds(|| kernels.gemm_serial(a, Op::N, b, Op::T, c, false))
        };
        2.0 * (m * n * k) as f64 / 1e9 / (0..5).map(|_| product()).fold(f64::INFINITY, f64::min)
    };
    let soft = Kernels::with_isa(Isa::Soft).expect("every machine has it");
    let (exact, limbs) = (speed(soft), speed(soft.i8x2_with(Unit::Sse2).expect("an available unit")));
    println!(
        "SSE2 alone, {m} x {n} x {k} NT: f32/1 {exact:.1}, i8x2/1 {limbs:.1}, {:.1} times as fast\n",
        limbs / exact
    );
}

/// A loop of twelve independent chains, each of whose steps is the given instructions.
#[cfg(target_arch = "x86_64")]
macro_rules! chains {
    ($name:ident, $($step:literal),+) => {
        #[target_feature(enable = "avx2,fma")]
        fn $name() {
            // SAFETY: registers alone are written, and named as such.
            unsafe {
                std::arch::asm!(
                    "2:",
                    ".irp chain, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
                    $($step,)+
                    ".endr",
                    "dec {count}",
                    "jnz 2b",
                    count = inout(reg) 200_000u64 => _,
                    out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
                    out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
                    out("ymm12") _, out("ymm13") _, out("ymm14") _,
                );
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
chains!(fused_steps, "vfmadd231ps ymm\\chain, ymm12, ymm13");
#[cfg(target_arch = "x86_64")]
chains!(word_steps, "vpmaddwd ymm14, ymm12, ymm13", "vpaddd ymm\\chain, ymm\\chain, ymm14");

/// Prints a table, giving each shape `budget` seconds of the processor.
pub fn print(budget: f64) {
    // Plain code is tens of times slower, and is there for machines that have nothing else.
    let units: Vec<Unit> = Unit::available().into_iter().filter(|unit| *unit != Unit::Scalar).collect();
    print_bound();
    print_baseline();
    print!("| m x n x k | f32/1 | `gemm` AVX2 |");
    units.iter().for_each(|unit| print!(" i8x2/1 {unit} | / f32/1 | / `gemm` |"));
    print!("\n|---|---:|---:|");
    units.iter().for_each(|_| print!("---:|---:|---:|"));
    println!();
    let mut logarithms = vec![[0.0; 2]; units.len()];
    for shape in &SHAPES {
        let flop = 2.0 * (shape.m * shape.n * shape.k) as f64 / 1e9;
        let (a, b) = (numbers(shape.m * shape.k, 1), numbers(shape.k * shape.n, 2));
        let mut c = vec![0.0f32; shape.m * shape.n];
        let (a_view, b_view) = operands(shape, &a, &b);
        let mut contestants = vec![Kernels::best()];
        contestants.extend(units.iter().map(|unit| Kernels::best().i8x2_with(*unit).expect("an available unit")));
        let mut best = vec![f64::INFINITY; contestants.len() + 1];
        let pool = pool(1);
        let (mut spent, mut rounds) = (0.0, 0);
        while rounds < 3 || spent < budget {
            for (kernels, best) in contestants.iter().zip(&mut best) {
                let (c, ops) = (MatMut::new(&mut c, shape.m, shape.n), shape.ops);
                let took = processor_seconds(|| kernels.gemm_serial(a_view, ops.0, b_view, ops.1, c, false));
                *best = best.min(took);
                spent += took;
            }
            let took = processor_seconds(|| pool.install(|| theirs(Peer::Avx2, shape, 1, &a, &b, &mut c)));
            best[contestants.len()] = best[contestants.len()].min(took);
            rounds += 1;
        }
        let (f32_1, gemm) = (best[0], best[contestants.len()]);
        let (m, n, k) = (shape.m, shape.n, shape.k);
        print!("| {} {m} x {n} x {k} {:?}{:?} |", shape.name, shape.ops.0, shape.ops.1);
        print!(" {:.1} | {:.1} |", flop / f32_1, flop / gemm);
        for (best, logarithms) in best[1..].iter().zip(&mut logarithms) {
            print!(" {:.1} | {:.2} | {:.2} |", flop / best, f32_1 / best, gemm / best);
            logarithms[0] += (f32_1 / best).ln();
            logarithms[1] += (gemm / best).ln();
        }
        println!();
    }
    print!("| geometric mean | | |");
    for sums in logarithms {
        let [ours, theirs] = sums.map(|sum: f64| (sum / SHAPES.len() as f64).exp());
        print!(" | {ours:.2} | {theirs:.2} |");
    }
    println!();
}
