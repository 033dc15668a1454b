//! Measures the cost of a leaf of the trace, beside the inner step after which it is made. Run it with
//! `cargo run --release -p templar-train --example trace`.
//!
//! It prints one row of the table in `crates/templar-model/BENCH.md`. Steps and leaves take turns, and the best
//! time of each counts. The arguments are size, vocabulary, tokens per step and rounds. The number of threads
//! follows `RAYON_NUM_THREADS`.

use std::sync::Arc;
use std::time::Instant;

use templar_device::{Cpu, Device};
use templar_model::{AdamWSettings, Model, Moments, OptimizerStep, sizes, step};

#[expect(clippy::disallowed_methods, reason = "a measurement of time")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: u32| arguments.get(index).map_or(default, |text| text.parse().unwrap());
    let name = arguments.first().map_or("medium", String::as_str);
    let (vocab, tokens, rounds) = (number(1, 4096), number(2, 2048), u64::from(number(3, 20)));
    let spec = sizes::preset(name, vocab).expect("a size of the table");
    let device = Arc::new(Cpu::default());
    let mut model = Model::new(&spec, device.clone()).unwrap();
    let mut params = device.upload(model.init(&[1; 32]).into()).unwrap();
    let mut moments = Moments::zero(&*device, model.parameter_count()).unwrap();
    let mut grad = device.zeros(params.len()).unwrap();
    let count = tokens / spec.sequence_length * (spec.sequence_length + 1);
    let batch: Vec<u32> = (0..count).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) % vocab).collect();

    let (mut steps, mut leaves) = (f64::MAX, f64::MAX);
    for t in 1..=rounds {
        let start = Instant::now();
        model.forward_backward(&params, &batch, 1.0 / tokens as f32, &mut grad).unwrap();
        let at = OptimizerStep { settings: &AdamWSettings::reference(), learning_rate: 1e-3, number: t };
        step(&model, at, &mut params, &mut grad, &mut moments).unwrap();
        steps = steps.min(start.elapsed().as_secs_f64());
        let start = Instant::now();
        device.hash(&[&params, &moments.first, &moments.second], model.places(), None).unwrap();
        leaves = leaves.min(start.elapsed().as_secs_f64());
    }
    let gigabytes = params.len() as f64 * 12.0 / 1e9;
    println!("| model | threads | inner step, ms | leaf, ms | GB/s | leaf / step |");
    println!("|---|---|---|---|---|---|");
    println!(
        "| {name}, {} parameters, {tokens} tokens | {} | {:.0} | {:.1} | {:.1} | {:.1} % |",
        params.len(),
        rayon::current_num_threads(),
        steps * 1e3,
        leaves * 1e3,
        gigabytes / leaves,
        leaves / steps * 100.0,
    );
}
