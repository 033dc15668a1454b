//! Times training steps and evaluation of a size:
//! `cargo run --release -p templar-model --example step -- micro 2048 4`.
//!
//! Arguments: size, vocabulary, sequences per micro-batch, steps, device (`cpu`, or `opencl:0` with the feature of that
//! name). Threads of the CPU follow `RAYON_NUM_THREADS`.

use std::time::Instant;

use templar_device::{Buffer, DeviceChoice, OpenOptions, open};
use templar_model::{AdamWSettings, Model, Moments, OptimizerStep, sizes, step};

#[expect(clippy::disallowed_methods, reason = "a measurement of time")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: u32| arguments.get(index).map_or(default, |text| text.parse().unwrap());
    let name = arguments.first().map_or("micro", String::as_str);
    let (vocab, sequences, steps) = (number(1, 2048), number(2, 4), u64::from(number(3, 10)));
    let spec = sizes::preset(name, vocab).expect("a size of the table");
    let choice = arguments.get(4).map_or(DeviceChoice::Cpu, |name| name.parse().unwrap());
    let device = open(choice, &OpenOptions::default()).unwrap().device;
    // A GPU works on while the host goes on, until something comes back.
    let wait = |buffer: &Buffer| device.read(buffer.view(0..1), &mut [0.0]).unwrap();
    let mut model = Model::new(&spec, device.clone()).unwrap();
    let start = Instant::now();
    let mut params = device.upload(model.init(&[1; 32]).into()).unwrap();
    println!(
        "{name} on {}: {} parameters, drawn in {:.3} s",
        device.name(),
        params.len(),
        start.elapsed().as_secs_f64()
    );

    let tokens = sequences * (spec.sequence_length + 1);
    let batch: Vec<u32> = (0..tokens).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) % vocab).collect();
    let rows = (sequences * spec.sequence_length) as f32;
    let mut moments = Moments::zero(&*device, model.parameter_count()).unwrap();
    let mut grad = device.zeros(params.len()).unwrap();
    let (mut gradients, mut updates, mut evaluations) = (f64::MAX, f64::MAX, f64::MAX);
    for t in 1..=steps {
        let start = Instant::now();
        let loss = model.forward_backward(&params, &batch, 1.0 / rows, &mut grad).unwrap();
        wait(&grad);
        gradients = gradients.min(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let at = OptimizerStep { settings: &AdamWSettings::reference(), learning_rate: 1e-3, number: t };
        let norm = step(&model, at, &mut params, &mut grad, &mut moments).unwrap();
        wait(&params);
        updates = updates.min(start.elapsed().as_secs_f64());
        let start = Instant::now();
        model.loss(&params, &batch).unwrap();
        evaluations = evaluations.min(start.elapsed().as_secs_f64());
        if t == steps {
            println!("step {t} | loss {:.4} | norm {norm:.3}", loss / f64::from(rows));
        }
    }
    let rate = |seconds: f64| f64::from(rows) / seconds;
    println!(
        "best of {steps}: gradient {:.1} ms, update {:.1} ms: {:.0} tokens/s; evaluation {:.1} ms: {:.0} tokens/s",
        gradients * 1e3,
        updates * 1e3,
        rate(gradients + updates),
        evaluations * 1e3,
        rate(evaluations),
    );
}
