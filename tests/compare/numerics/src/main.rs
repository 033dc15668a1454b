//! Measures `templar-numerics` beside other libraries in one process, and prints Markdown tables.
//!
//! `gemm` compares matrix products of `f32/1`, `limbs` those of `i8x2/1`, and `rows` everything else. The contestants
//! take turns within each round, and the best round counts, so a disturbance of the machine hits all of them or none.
//! This package is not part of the workspace; see `Cargo.toml`.

mod limbs;
mod peak;
mod products;
mod rows;

use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["gemm"] => products::print(8.0),
        // During development a quick look is enough.
        ["gemm", "quick"] => products::print(1.5),
        ["limbs"] => limbs::print(8.0),
        ["limbs", "quick"] => limbs::print(1.5),
        ["rows"] => rows::print(),
        _ => {
            eprintln!("usage: compare-numerics gemm [quick] | limbs [quick] | rows");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Seconds that a call takes.
fn seconds(call: impl FnOnce()) -> f64 {
    let start = Instant::now();
    call();
    start.elapsed().as_secs_f64()
}

/// Seconds of the processor that a call takes on the calling thread and all others of this process.
fn processor_seconds(call: impl FnOnce()) -> f64 {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let start = now();
    call();
    now() - start
}

/// A pool of so many threads.
fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of one or two threads starts")
}

/// `len` numbers spread over [-1, 1).
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}
