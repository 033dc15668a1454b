//! Times training steps and evaluation of a size: `cargo run --release -p templar-model --example step -- micro 2048 4`.
//!
//! Arguments: size, vocabulary, sequences per micro-batch, steps. Threads follow `RAYON_NUM_THREADS`.

use std::time::Instant;

use templar_model::{AdamWSettings, Model, sizes, step};

#[expect(clippy::disallowed_methods, reason = "a measurement of time")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: u32| arguments.get(index).map_or(default, |text| text.parse().unwrap());
    let name = arguments.first().map_or("micro", String::as_str);
    let (vocab, sequences, steps) = (number(1, 2048), number(2, 4), u64::from(number(3, 10)));
    let spec = sizes::preset(name, vocab).expect("a size of the table");
    let mut model = Model::new(&spec).unwrap();
    let start = Instant::now();
    let mut params = model.init(&[1; 32]);
    println!("{name}: {} parameters, drawn in {:.3} s", params.len(), start.elapsed().as_secs_f64());

    let tokens = sequences * (spec.sequence_length + 1);
    let batch: Vec<u32> = (0..tokens).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) % vocab).collect();
    let rows = (sequences * spec.sequence_length) as f32;
    let (mut m, mut v) = (vec![0.0f32; params.len()], vec![0.0f32; params.len()]);
    let mut grad = vec![0.0f32; params.len()];
    let (mut gradients, mut updates, mut evaluations) = (f64::MAX, f64::MAX, f64::MAX);
    for t in 1..=steps {
        grad.fill(0.0);
        let start = Instant::now();
        let loss = model.forward_backward(&params, &batch, 1.0 / rows, &mut grad).unwrap();
        gradients = gradients.min(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let settings = AdamWSettings::reference();
        let norm = step(&model, &settings, 1e-3, t, &mut params, &mut grad, &mut m, &mut v).unwrap();
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
