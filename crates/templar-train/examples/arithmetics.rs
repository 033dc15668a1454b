//! What the choice of the arithmetic costs, in quality and in time, on the bundled plays.
//!
//!     cargo run --release --locked -p templar -p templar-train --example arithmetics -- gradients [SIZE [STEPS]]
//!     cargo run --release --locked -p templar -p templar-train --example arithmetics -- losses [SIZE [STEPS [SEEDS]]]
//!     cargo run --release --locked -p templar -p templar-train --example arithmetics -- time [SIZE [SECONDS]]
//!
//! `gradients` trains with `f32/1`, and at some steps compares the gradient of `i8x2/1` at the same parameters.
//! `losses` trains each seed three times: with `f32/1`, with `f32/1` from first parameters changed by one unit in the
//! last place, and with `i8x2/1`. The second says how far apart runs drift by chance. `time` takes steps in turn on one
//! thread, and counts seconds of the processor. Everything but the times is the same on every machine.

use std::error::Error;
use std::sync::Arc;

use templar_blob::MemoryBlobs;
use templar_data::{PageReader, Split, bundled};
use templar_device::{Arithmetic, Buffer, Cpu};
use templar_manifest::ModelSpec;
use templar_model::{AdamWSettings, Model, Moments, OptimizerStep, sizes, step};

const LEARNING_RATE: f32 = 1e-3;
const STEP_TOKENS: u32 = 1024;
/// Held-out pages that a run is measured on at its end.
const HELD_OUT: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |index: usize, default: &str| arguments.get(index).map_or(default, String::as_str).to_owned();
    let number = |index: usize, default: u64| arguments.get(index).map_or(Ok(default), |text| text.parse());
    match text(0, "").as_str() {
        "gradients" => gradients(&Text::read(&text(1, "tiny"))?, number(2, 100)?),
        "losses" => losses(&Text::read(&text(1, "tiny"))?, number(2, 200)?, number(3, 5)?),
        "time" => time(&Text::read(&text(1, "medium"))?, number(2, 60)? as f64),
        _ => return Err("usage: arithmetics gradients|losses|time [SIZE [NUMBER [NUMBER]]]".into()),
    }
    Ok(())
}

/// The bundled plays in pages for a model.
struct Text {
    spec: ModelSpec,
    training: Vec<Vec<u32>>,
    held_out: Vec<Vec<u32>>,
}

impl Text {
    fn read(size: &str) -> Result<Self, Box<dyn Error>> {
        let mut blobs = MemoryBlobs::new();
        let dataset = bundled::import_shakespeare(&mut blobs)?;
        let spec = sizes::preset(size, dataset.vocab_size).ok_or("no such size")?;
        let pages = |split| -> Result<Vec<Vec<u32>>, Box<dyn Error>> {
            let reader = PageReader::new(&blobs, &dataset, split, spec.sequence_length)?;
            Ok((0..reader.page_count()).map(|page| reader.read(page)).collect::<Result<_, _>>()?)
        };
        let (training, held_out) = (pages(Split::Training)?, pages(Split::Validation)?);
        println!("{size}: {} training and {} held-out pages", training.len(), held_out.len());
        Ok(Self { spec, training, held_out })
    }

    /// The micro-batch of a step: pages that follow from the seed and the step.
    fn batch(&self, seed: u64, number: u64) -> Vec<u32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number;
        let mut page = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            &self.training[(state >> 33) as usize % self.training.len()]
        };
        (0..STEP_TOKENS / self.spec.sequence_length).flat_map(|_| page().iter().copied()).collect()
    }
}

/// A model that trains.
struct Run {
    model: Model,
    params: Buffer,
    grad: Buffer,
    moments: Moments,
    steps: u64,
}

impl Run {
    fn new(text: &Text, arithmetic: Arithmetic, params: Vec<f32>) -> Self {
        let device = Arc::new(Cpu::default().computing(arithmetic));
        let model = Model::new(&text.spec, device).expect("a size of the table");
        let device = Arc::clone(model.device());
        Self {
            moments: Moments::zero(&*device, params.len()).expect("memory"),
            grad: device.zeros(params.len() as u64).expect("memory"),
            params: device.upload(params.into()).expect("memory"),
            model,
            steps: 0,
        }
    }

    fn step(&mut self, batch: &[u32]) -> f64 {
        let Self { model, params, grad, moments, steps } = self;
        *steps += 1;
        let loss = model.forward_backward(params, batch, 1.0 / STEP_TOKENS as f32, grad).expect("a finite loss");
        let settings = AdamWSettings::reference();
        let at = OptimizerStep { settings: &settings, learning_rate: LEARNING_RATE, number: *steps };
        step(model, at, params, grad, moments).expect("a finite gradient");
        loss / f64::from(STEP_TOKENS)
    }

    fn read(&self, buffer: &Buffer) -> Vec<f32> {
        let mut values = vec![0.0; buffer.len() as usize];
        self.model.device().read(buffer.all(), &mut values).expect("the host's memory");
        values
    }

    /// The mean loss over held-out pages.
    fn held_out(&mut self, text: &Text) -> f64 {
        let pages = &text.held_out[..HELD_OUT.min(text.held_out.len())];
        let losses = pages.iter().map(|page| self.model.loss(&self.params, page).expect("a finite loss"));
        losses.sum::<f64>() / (pages.len() as f64 * f64::from(text.spec.sequence_length))
    }
}

/// The first parameters of a seed.
fn first(text: &Text, seed: u64) -> Vec<f32> {
    let model = Model::new(&text.spec, Arc::new(Cpu::default())).expect("a size of the table");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    model.init(&bytes)
}

/// Every parameter changed by one unit in the last place, away from zero.
fn changed(params: &[f32]) -> Vec<f32> {
    params.iter().map(|x| if *x == 0.0 { 0.0 } else { f32::from_bits(x.to_bits() + 1) }).collect()
}

/// The gradient of a batch at given parameters.
fn gradient(text: &Text, arithmetic: Arithmetic, params: &[f32], batch: &[u32]) -> Vec<f32> {
    let mut run = Run::new(text, arithmetic, params.to_vec());
    let Run { model, params, grad, .. } = &mut run;
    model.forward_backward(params, batch, 1.0 / STEP_TOKENS as f32, grad).expect("a finite loss");
    run.read(&run.grad)
}

/// `‖g - g0‖ / ‖g0‖`.
fn distance(g: &[f32], g0: &[f32]) -> f64 {
    let square = |difference: f64| difference * difference;
    let off: f64 = g.iter().zip(g0).map(|(g, g0)| square(f64::from(*g) - f64::from(*g0))).sum();
    (off / g0.iter().map(|g0| square(f64::from(*g0))).sum::<f64>()).sqrt()
}

fn gradients(text: &Text, steps: u64) {
    println!("| step | loss | i8x2/1 | f32/1, parameters one ulp off |\n|---:|---:|---:|---:|");
    let mut run = Run::new(text, Arithmetic::F32, first(text, 0));
    for number in 0..=steps {
        let batch = text.batch(0, number);
        let compared = number.is_multiple_of((steps / 4).max(1)) || number == 20;
        let params = run.read(&run.params);
        let loss = run.step(&batch);
        if compared {
            let exact = gradient(text, Arithmetic::F32, &params, &batch);
            let limbs = distance(&gradient(text, Arithmetic::I8x2, &params, &batch), &exact);
            let ulp = distance(&gradient(text, Arithmetic::F32, &changed(&params), &batch), &exact);
            println!("| {number} | {loss:.4} | {limbs:.2e} | {ulp:.2e} |");
        }
    }
}

fn losses(text: &Text, steps: u64, seeds: u64) {
    println!("| seed | f32/1 | one ulp off | i8x2/1 | ulp - f32/1 | i8x2/1 - f32/1 |\n|---:|---:|---:|---:|---:|---:|");
    let mut differences = [Vec::new(), Vec::new()];
    for seed in 0..seeds {
        let start = first(text, seed);
        let runs = [
            Run::new(text, Arithmetic::F32, start.clone()),
            Run::new(text, Arithmetic::F32, changed(&start)),
            Run::new(text, Arithmetic::I8x2, start),
        ];
        let [exact, ulp, limbs] = runs.map(|mut run| {
            (0..steps).for_each(|number| _ = run.step(&text.batch(seed, number)));
            run.held_out(text)
        });
        println!("| {seed} | {exact:.4} | {ulp:.4} | {limbs:.4} | {:+.4} | {:+.4} |", ulp - exact, limbs - exact);
        differences[0].push(ulp - exact);
        differences[1].push(limbs - exact);
    }
    let [ulp, limbs] = differences.map(|all| {
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let variance = all.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (all.len() as f64 - 1.0).max(1.0);
        format!("{mean:+.4} ± {:.4}", (variance / all.len() as f64).sqrt())
    });
    println!("| mean ± standard error | | | | {ulp} | {limbs} |");
}

fn time(text: &Text, seconds: f64) {
    // The main thread computes all, so its time is the time of a step.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global().expect("the first pool");
    let start = first(text, 0);
    let mut runs = [Arithmetic::F32, Arithmetic::I8x2].map(|arithmetic| Run::new(text, arithmetic, start.clone()));
    let mut times = [Vec::new(), Vec::new()];
    let begin = processor_seconds();
    let mut number = 0;
    while number < 4 || processor_seconds() - begin < seconds {
        let batch = text.batch(0, number);
        for (run, times) in runs.iter_mut().zip(&mut times) {
            let before = processor_seconds();
            run.step(&batch);
            times.push(processor_seconds() - before);
        }
        number += 1;
    }
    let [exact, limbs] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        (times[0], times[times.len() / 2])
    });
    let parameters = runs[0].params.len();
    println!("{parameters} parameters, {STEP_TOKENS} tokens a step, {number} steps of each in turn");
    println!("| | best | median |\n|---|---:|---:|");
    println!("| f32/1, processor seconds a step | {:.3} | {:.3} |", exact.0, exact.1);
    println!("| i8x2/1, processor seconds a step | {:.3} | {:.3} |", limbs.0, limbs.1);
    println!("| f32/1 over i8x2/1 | {:.2} | {:.2} |", exact.0 / limbs.0, exact.1 / limbs.1);
}

/// Seconds of the processor that the main thread has taken, on Linux.
fn processor_seconds() -> f64 {
    let nanoseconds = std::fs::read_to_string("/proc/self/schedstat").ok();
    let nanoseconds = nanoseconds.as_deref().and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    nanoseconds.expect("the times of Linux") as f64 / 1e9
}
