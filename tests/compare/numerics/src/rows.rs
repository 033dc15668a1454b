//! Compares everything except matrix products, on one thread: ours, plain Rust with the standard library's
//! functions, and candle's operators.
//!
//! "std" is the obvious loop with the platform's `exp` and `ln`, compiled as a release build. candle's
//! operators allocate their results, as they do in a model, so the allocation is part of their time.

use candle_core::{Device, Tensor, Var};
use candle_nn::Optimizer;
use candle_nn::optim::ParamsAdamW;
use templar_numerics as ours;

use crate::{numbers, pool, seconds};

const ROWS: usize = 256;
const WIDTH: usize = 512;
const LEN: usize = ROWS * WIDTH;
const ROUNDS: usize = 300;

type Contestant<'a> = Box<dyn FnMut() + 'a>;

/// Measures all rows and prints the table.
pub fn print() {
    println!("\nOne thread, {ROWS} rows of {WIDTH}, ns for an element, the best of {ROUNDS} rounds.\n");
    println!("| kernel | ours | std | candle | std / ours | candle / ours |");
    println!("|---|---:|---:|---:|---:|---:|");
    pool(1).install(|| {
        elementary();
        rows();
        swiglu();
        adamw();
    });
}

/// Times the three in turn and prints a line.
fn line(name: &str, mut contestants: [Contestant; 3]) {
    let mut best = [f64::INFINITY; 3];
    for _ in 0..ROUNDS {
        for (contestant, best) in contestants.iter_mut().zip(&mut best) {
            *best = best.min(seconds(contestant));
        }
    }
    let [ours, std, candle] = best.map(|seconds| seconds / LEN as f64 * 1e9);
    println!("| {name} | {ours:.2} | {std:.2} | {candle:.2} | {:.1} | {:.1} |", std / ours, candle / ours);
}

/// On the CPU, `[ROWS, WIDTH]`.
fn tensor(values: &[f32]) -> Tensor {
    Tensor::from_slice(values, (ROWS, WIDTH), &Device::Cpu).expect("as many elements as the shape has")
}

fn done(result: candle_core::Result<Tensor>) {
    std::hint::black_box(result.expect("shapes agree"));
}

fn elementary() {
    let x: Vec<f32> = numbers(LEN, 1).iter().map(|x| x * 8.0).collect();
    let positive: Vec<f32> = x.iter().map(|x| x.abs() + 0.01).collect();
    let (mut a, mut b) = (x.clone(), x.clone());
    let (t, p) = (tensor(&x), tensor(&positive));
    line(
        "exp",
        [
            Box::new(|| {
                a.copy_from_slice(&x);
                ours::Kernels::best().exp_in_place(&mut a);
            }),
            Box::new(|| b.iter_mut().zip(&x).for_each(|(b, x)| *b = x.exp())),
            Box::new(|| done(t.exp())),
        ],
    );
    line(
        "ln (baseline build)",
        [
            Box::new(|| a.iter_mut().zip(&positive).for_each(|(a, x)| *a = ours::ln(*x))),
            Box::new(|| b.iter_mut().zip(&positive).for_each(|(b, x)| *b = x.ln())),
            Box::new(|| done(p.log())),
        ],
    );
}

fn rows() {
    let (x, weight) = (numbers(LEN, 2), numbers(WIDTH, 3));
    let (mut a, mut b, mut inv) = (x.clone(), x.clone(), vec![0.0; ROWS]);
    let (t, w) = (tensor(&x), Tensor::from_slice(&weight, WIDTH, &Device::Cpu).expect("a row"));
    line(
        "softmax",
        [
            Box::new(|| {
                a.copy_from_slice(&x);
                a.chunks_exact_mut(WIDTH).for_each(|row| ours::Kernels::best().softmax(row));
            }),
            Box::new(|| {
                for (row, x) in b.chunks_exact_mut(WIDTH).zip(x.chunks_exact(WIDTH)) {
                    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    row.iter_mut().zip(x).for_each(|(b, x)| *b = (x - max).exp());
                    let sum: f32 = row.iter().sum();
                    row.iter_mut().for_each(|b| *b /= sum);
                }
            }),
            Box::new(|| done(candle_nn::ops::softmax_last_dim(&t))),
        ],
    );
    line(
        "RMSNorm",
        [
            Box::new(|| ours::Kernels::best().rms_norm(&x, &weight, 1e-5, &mut a, &mut inv)),
            Box::new(|| {
                for (row, x) in b.chunks_exact_mut(WIDTH).zip(x.chunks_exact(WIDTH)) {
                    let squares: f32 = x.iter().map(|x| x * x).sum();
                    let inv = 1.0 / (squares / WIDTH as f32 + 1e-5).sqrt();
                    row.iter_mut().zip(x).zip(&weight).for_each(|((b, x), w)| *b = x * inv * w);
                }
            }),
            Box::new(|| done(candle_nn::ops::rms_norm(&t, &w, 1e-5))),
        ],
    );
}

fn swiglu() {
    let gate: Vec<f32> = numbers(LEN, 4).iter().map(|x| x * 4.0).collect();
    let up = numbers(LEN, 5);
    let (mut a, mut b) = (gate.clone(), gate.clone());
    let (g, u) = (tensor(&gate), tensor(&up));
    line(
        "SwiGLU",
        [
            Box::new(|| ours::Kernels::best().swiglu(&gate, &up, &mut a)),
            Box::new(|| {
                for ((b, gate), up) in b.iter_mut().zip(&gate).zip(&up) {
                    *b = gate / (1.0 + (-gate).exp()) * up;
                }
            }),
            Box::new(|| done(g.silu().and_then(|s| s * &u))),
        ],
    );
}

fn adamw() {
    let (p, g) = (numbers(LEN, 6), numbers(LEN, 7));
    let state = || (p.clone(), vec![0.0f32; LEN], vec![0.01f32; LEN]);
    let (mut a, mut b) = (state(), state());
    let settings =
        ours::AdamW { lr: 1e-6, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, bias1: 0.1, bias2: 0.05 };
    let var = Var::from_tensor(&tensor(&p)).expect("a variable");
    let gradients = (var.as_tensor() * tensor(&g)).and_then(|t| t.sum_all()).and_then(|t| t.backward());
    let gradients = gradients.expect("a gradient");
    let theirs = ParamsAdamW { lr: 1e-6, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
    let mut candle = candle_nn::AdamW::new(vec![var], theirs).expect("an optimizer");
    line(
        "AdamW",
        [
            Box::new(|| ours::Kernels::best().adamw(&settings, &mut a.0, &g, &mut a.1, &mut a.2)),
            Box::new(|| {
                let s = &settings;
                for (((p, g), m), v) in b.0.iter_mut().zip(&g).zip(&mut b.1).zip(&mut b.2) {
                    *m = s.beta1 * *m + (1.0 - s.beta1) * g;
                    *v = s.beta2 * *v + (1.0 - s.beta2) * g * g;
                    let step = s.lr * (*m / s.bias1) / ((*v / s.bias2).sqrt() + s.eps);
                    *p = *p * (1.0 - s.lr * s.weight_decay) - step;
                }
            }),
            Box::new(|| candle.step(&gradients).expect("a step")),
        ],
    );
}
