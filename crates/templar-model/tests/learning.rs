//! The optimizer against its formula in f64, and a model that learns what it is shown.

use templar_model::AdamWSettings;

use crate::support::{HostModel, small_spec, tokens};

#[test]
fn a_step_is_adamw_with_clipping() {
    let model = HostModel::new(&small_spec(true)).unwrap();
    let settings = AdamWSettings::reference();
    let mut params = model.init(&[2; 32]);
    let (mut m, mut v) = (vec![0.0f32; params.len()], vec![0.0f32; params.len()]);
    let mut expected: Vec<[f64; 3]> = params.iter().map(|&p| [f64::from(p), 0.0, 0.0]).collect();
    let lr = 3e-3f32;
    for t in 1..=4u32 {
        let gradient: Vec<f32> = (0..params.len()).map(|i| ((i * 31 + t as usize) % 61) as f32 / 61.0 - 0.3).collect();
        let norm = gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
        assert!(norm > 1.0);
        let mut grad = gradient.clone();
        let reported = model.step(&settings, lr, t.into(), [&mut params, &mut grad, &mut m, &mut v]).unwrap();
        assert!((reported - norm).abs() < 1e-9 * norm);
        for (tensor, range) in model.tensors().iter().zip(model.ranges()) {
            let decay = if tensor.shape.len() == 2 { 0.1 } else { 0.0 };
            for i in range.clone() {
                let [p, m, v] = &mut expected[i];
                let g = f64::from(gradient[i]) / norm;
                *m = 0.9 * *m + 0.1 * g;
                *v = 0.95 * *v + 0.05 * g * g;
                let (mhat, vhat) =
                    (*m / (1.0 - libm::pow(0.9, f64::from(t))), *v / (1.0 - libm::pow(0.95, f64::from(t))));
                *p = *p * (1.0 - f64::from(lr) * decay) - f64::from(lr) * mhat / (vhat.sqrt() + 1e-8);
            }
        }
    }
    for (i, [p, em, ev]) in expected.iter().enumerate() {
        assert!((f64::from(params[i]) - p).abs() < 2e-7, "parameter {i}: {} where f64 has {p}", params[i]);
        assert!((f64::from(m[i]) - em).abs() < 1e-8 && (f64::from(v[i]) - ev).abs() < 1e-10, "moments of {i}");
    }
}

#[test]
fn a_small_gradient_is_not_scaled_and_zero_turns_clipping_off() {
    let model = HostModel::new(&small_spec(true)).unwrap();
    let count = model.parameter_count();
    let clipped = |value: f32, clip_norm_ppm| {
        let mut params = model.init(&[2; 32]);
        let (mut m, mut v, mut grad) = (vec![0.0f32; count], vec![0.0f32; count], vec![value; count]);
        let settings = AdamWSettings { clip_norm_ppm, ..AdamWSettings::reference() };
        model.step(&settings, 1e-3, 1, [&mut params, &mut grad, &mut m, &mut v]).unwrap();
        grad[0] != value
    };
    assert!(clipped(1.0, 1_000_000));
    assert!(!clipped(1e-6, 1_000_000));
    assert!(!clipped(1.0, 0));
}

#[test]
fn a_model_learns_one_batch_by_heart() {
    let mut spec = small_spec(true);
    spec.sequence_length = 32;
    let mut model = HostModel::new(&spec).unwrap();
    let batch = tokens(&spec, 2, 3);
    let mut params = model.init(&[4; 32]);
    let (mut m, mut v) = (vec![0.0f32; params.len()], vec![0.0f32; params.len()]);
    let mut losses = Vec::new();
    for t in 1..=120 {
        let mut grad = vec![0.0f32; params.len()];
        losses.push(model.forward_backward(&params, &batch, 1.0 / 64.0, &mut grad).unwrap() / 64.0);
        model.step(&AdamWSettings::reference(), 1e-2, t, [&mut params, &mut grad, &mut m, &mut v]).unwrap();
    }
    assert!((losses[0] - libm::log(53.0)).abs() < 0.1, "random guessing is ln 53, not {}", losses[0]);
    assert!(losses[119] < 0.5, "after 120 steps {}", losses[119]);
}

#[test]
fn first_parameters_have_the_stated_deviations() {
    let mut spec = small_spec(false);
    (spec.vocab_size, spec.hidden_size, spec.ffn_size, spec.layers) = (1000, 128, 512, 8);
    let model = HostModel::new(&spec).unwrap();
    let params = model.init(&[5; 32]);
    for (tensor, range) in model.tensors().iter().zip(model.ranges()) {
        let values = &params[range.clone()];
        if tensor.shape.len() == 1 {
            assert!(values.iter().all(|&value| value == 1.0));
            continue;
        }
        let count = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let deviation = (values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / count).sqrt();
        let residual = tensor.name.contains("o_proj") || tensor.name.contains("down_proj");
        let expected = if residual { 0.02 / 4.0 } else { 0.02 };
        assert!(mean.abs() < 6.0 * expected / count.sqrt(), "{} has mean {mean}", tensor.name);
        assert!((deviation / expected - 1.0).abs() < 6.0 / (2.0 * count).sqrt(), "{}: {deviation}", tensor.name);
    }
    let first = |layer: usize| {
        let name = format!("model.layers.{layer}.mlp.up_proj.weight");
        let index = model.tensors().iter().position(|tensor| tensor.name == name).unwrap();
        params[model.ranges()[index].start]
    };
    assert_ne!(first(0), first(1), "layers must not start equal");
}
