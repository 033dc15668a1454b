//! The gradients are gradients: each backward kernel against a difference quotient of its forward one.

use super::Generator;
use crate::twin;

/// Compares `gradient` with `(loss(x + h) - loss(x - h)) / 2h`, where the loss is the dot product of the forward
/// kernel's output with `dy`, summed in `f64`.
fn check(what: &str, x: &[f32], dy: &[f32], gradient: &[f32], forward: impl Fn(&[f32]) -> Vec<f32>) {
    let loss = |x: &[f32]| forward(x).iter().zip(dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum::<f64>();
    let step = 1.0 / 256.0;
    for i in 0..x.len() {
        let mut moved = x.to_vec();
        moved[i] = x[i] + step;
        let above = loss(&moved);
        moved[i] = x[i] - step;
        let quotient = (above - loss(&moved)) / (2.0 * f64::from(step));
        let found = f64::from(gradient[i]);
        assert!(
            (found - quotient).abs() < 2e-3 * (1.0 + quotient.abs()),
            "{what} {i}: {found}, by differences {quotient}"
        );
    }
}

#[test]
fn backward_kernels_are_the_gradients_of_the_forward_ones() {
    let mut numbers = Generator::new(10);
    let (x, y, dy) = (numbers.ordinary(40), numbers.ordinary(40), numbers.ordinary(40));

    let softmax = |x: &[f32]| {
        let mut p = x.to_vec();
        twin::softmax(&mut p);
        p
    };
    let mut ds = vec![0.0; 40];
    twin::softmax_backward(&softmax(&x), &dy, &mut ds);
    check("softmax", &x, &dy, &ds, softmax);

    let weight = numbers.ordinary(20);
    let norm = |x: &[f32], w: &[f32]| {
        let (mut out, mut inv) = (vec![0.0; 40], vec![0.0; 2]);
        twin::rms_norm(x, w, 1e-5, &mut out, &mut inv);
        (out, inv)
    };
    let (mut dx, mut dw) = (vec![0.0; 40], vec![0.0; 20]);
    twin::rms_norm_backward(&x, &weight, &norm(&x, &weight).1, &dy, &mut dx, &mut dw);
    check("rms_norm input", &x, &dy, &dx, |x| norm(x, &weight).0);
    check("rms_norm weight", &weight, &dy, &dw, |w| norm(&x, w).0);

    let swiglu = |gate: &[f32], up: &[f32]| {
        let mut out = vec![0.0; 40];
        twin::swiglu(gate, up, &mut out);
        out
    };
    let (mut dgate, mut dup) = (vec![0.0; 40], vec![0.0; 40]);
    twin::swiglu_backward(&x, &y, &dy, &mut dgate, &mut dup);
    check("gate", &x, &dy, &dgate, |gate| swiglu(gate, &y));
    check("up", &y, &dy, &dup, |up| swiglu(&x, up));

    let tables = crate::RotaryTables::new(9, 10, 100.0, crate::RotaryScaling::None);
    let rotary = |x: &[f32]| {
        let mut out = x.to_vec();
        twin::rotary(&mut out, 2, 10, tables.angles(), 7, 2);
        out
    };
    let mut dx = dy.clone();
    twin::rotary_backward(&mut dx, 2, 10, tables.angles(), 7, 2);
    check("rotary", &x, &dy, &dx, rotary);

    let losses = |x: &[f32]| {
        let mut losses = vec![0.0; 2];
        twin::cross_entropy_loss(x, &[3, 19], &mut losses);
        losses
    };
    let mut gradient = x.clone();
    twin::cross_entropy(&mut gradient, &[3, 19], 0.5, &mut [0.0; 2]);
    check("cross_entropy", &x, &[0.5, 0.5], &gradient, losses);
}

#[test]
fn adamw_follows_the_formula() {
    // Three steps on one parameter, followed in f64.
    let (mut p, mut m, mut v) = ([0.5f32], [0.0f32], [0.0f32]);
    let (mut p64, mut m64, mut v64) = (0.5f64, 0.0f64, 0.0f64);
    for (t, g) in [0.3f32, -0.1, 0.7].into_iter().enumerate() {
        let powers = |beta: f64| 1.0 - (0..=t).fold(1.0, |product, _| product * beta);
        let (bias1, bias2) = (powers(0.9), powers(0.95));
        let settings = crate::AdamW {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            bias1: bias1 as f32,
            bias2: bias2 as f32,
        };
        twin::adamw(&settings, &mut p, &[g], &mut m, &mut v);
        let g = f64::from(g);
        (m64, v64) = (0.9 * m64 + 0.1 * g, 0.95 * v64 + 0.05 * g * g);
        p64 = p64 * (1.0 - 0.01 * 0.1) - 0.01 * (m64 / bias1) / ((v64 / bias2).sqrt() + 1e-8);
        assert!((f64::from(p[0]) - p64).abs() < 1e-6, "step {t}: {} and {p64}", p[0]);
    }
}
