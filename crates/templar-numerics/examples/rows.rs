//! Prints nanoseconds per element of everything outside matrix products, on one thread, by instruction set.
//!
//! `cargo run --release -p templar -p templar-numerics --example rows`: the best of 200 repetitions over 64 rows of 512.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock and no result depends on it")]

use std::time::Instant;

use templar_numerics::{AdamW, Isa, Kernels, RotaryScaling, RotaryTables};

const ROWS: usize = 64;
const WIDTH: usize = 512;
const LEN: usize = ROWS * WIDTH;

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread starts");
    pool.install(|| {
        for isa in Isa::available() {
            all(Kernels::with_isa(isa).expect("available"));
        }
    });
}

fn time(isa: Isa, name: &str, mut kernel: impl FnMut()) {
    let times = (0..200).map(|_| {
        let start = Instant::now();
        kernel();
        start.elapsed().as_secs_f64()
    });
    println!("{:<7} {name:<20} {:.3} ns", isa.to_string(), times.fold(f64::INFINITY, f64::min) / LEN as f64 * 1e9);
}

fn all(kernels: Kernels) {
    let isa = kernels.isa();
    let x: Vec<f32> = (0..LEN).map(|i| ((i * 37) % 1009) as f32 / 200.0 - 2.5).collect();
    let y: Vec<f32> = x.iter().rev().copied().collect();
    let (mut a, mut b, mut c) = (x.clone(), y.clone(), vec![0.5; LEN]);
    let (weight, mut dweight, mut inv, mut losses) =
        (vec![1.0; WIDTH], vec![0.0; WIDTH], vec![0.1; ROWS], vec![0.0; ROWS]);
    let targets = vec![7; ROWS];
    let tables = RotaryTables::new(ROWS, 32, 10_000.0, RotaryScaling::None);
    let settings = AdamW { lr: 1e-6, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, bias1: 0.1, bias2: 0.05 };
    time(isa, "exp (with a copy)", || {
        a.copy_from_slice(&x);
        kernels.exp_in_place(&mut a);
    });
    time(isa, "sum", || _ = std::hint::black_box(kernels.sum(&x)));
    time(isa, "dot", || _ = std::hint::black_box(kernels.dot(&x, &y)));
    time(isa, "squared_norm_f64", || _ = std::hint::black_box(kernels.squared_norm_f64(&x)));
    time(isa, "softmax", || a.chunks_mut(WIDTH).for_each(|row| kernels.softmax(row)));
    time(isa, "softmax_backward", || {
        for ((x, y), c) in x.chunks(WIDTH).zip(y.chunks(WIDTH)).zip(c.chunks_mut(WIDTH)) {
            kernels.softmax_backward(x, y, c);
        }
    });
    time(isa, "rms_norm", || kernels.rms_norm(&x, &weight, 1e-5, &mut a, &mut inv));
    time(isa, "rms_norm_backward", || kernels.rms_norm_backward(&x, &weight, &inv, &y, &mut c, &mut dweight));
    time(isa, "swiglu", || kernels.swiglu(&x, &y, &mut a));
    time(isa, "swiglu_backward", || kernels.swiglu_backward(&x, &y, &y, &mut a, &mut b));
    time(isa, "rotary", || kernels.rotary(&mut a, WIDTH / 32, 32, tables.angles(), 0, ROWS));
    time(isa, "cross_entropy", || kernels.cross_entropy(&mut b, &targets, 1.0, &mut losses));
    time(isa, "cross_entropy_loss", || kernels.cross_entropy_loss(&x, &targets, &mut losses));
    c.fill(0.5);
    time(isa, "adamw", || kernels.adamw(&settings, &mut a, &x, &mut b, &mut c));
    time(isa, "add_in_place", || kernels.add_in_place(&mut b, &y));
    time(isa, "first_non_finite", || _ = std::hint::black_box(kernels.first_non_finite(&x)));
}
