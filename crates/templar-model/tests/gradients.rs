//! Every gradient against candle's automatic differentiation of the same model.
//!
//! Tolerance: relative error of each tensor's gradient at most 2e-5 in the 2-norm, losses 1e-6. Both sides are
//! f32 sums in different orders.

use candle_core::{Device, Result, Tensor};
use templar_manifest::ModelSpec;

use crate::reference::Reference;
use crate::support::{HostModel, LLAMA3, lively_params, small_spec, tokens};

/// What each pair of a head turns by from one position to the next; with a scaling, that of [`LLAMA3`].
fn frequencies(spec: &ModelSpec) -> Vec<f64> {
    let width = spec.head_width();
    let frequency = |i: u32| {
        let frequency = libm::pow(f64::from(spec.rope_theta), -2.0 * f64::from(i) / f64::from(width));
        let turns = 200.0 * frequency / std::f64::consts::TAU;
        let kept = if spec.rope_scaling.is_some() { ((turns - 1.0) / 3.0).clamp(0.0, 1.0) } else { 1.0 };
        frequency * (kept + (1.0 - kept) / 8.0)
    };
    (0..width / 2).map(frequency).collect()
}

fn check(spec: &ModelSpec) -> Result<()> {
    let sequences = 3;
    let mut model = HostModel::new(spec).unwrap();
    let params = lively_params(&model);
    let batch = tokens(spec, sequences, 77);
    let rows = sequences * spec.sequence_length as usize;
    let mut grad = vec![0.0f32; params.len()];
    let loss = model.forward_backward(&params, &batch, 1.0 / rows as f32, &mut grad).unwrap() / rows as f64;

    let reference = Reference::new(&model, &params, &frequencies(spec))?;
    let width = spec.sequence_length as usize + 1;
    let expected_loss = reference.loss(&Tensor::from_vec(batch, (sequences, width), &Device::Cpu)?)?;
    let expected = expected_loss.backward()?;

    let expected_loss = f64::from(expected_loss.to_scalar::<f32>()?);
    assert!((loss - expected_loss).abs() < 1e-6 * loss, "loss {loss} where candle has {expected_loss}");
    for ((tensor, range), var) in model.tensors().iter().zip(model.ranges()).zip(&reference.vars) {
        let expected = expected.get(var).unwrap().flatten_all()?.to_vec1::<f32>()?;
        let ours = &grad[range.clone()];
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let size = norm(&mut expected.iter().map(|&x| f64::from(x)));
        let error = norm(&mut ours.iter().zip(&expected).map(|(&a, &b)| f64::from(a) - f64::from(b)));
        assert!(size > 1e-4, "{} has a negligible gradient {size}, which proves nothing", tensor.name);
        assert!(error < 2e-5 * size, "{}: error {error:e} of {size:e}", tensor.name);
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_automatic_differentiation_tied() {
    check(&small_spec(true)).unwrap();
}

#[test]
fn gradients_are_those_of_automatic_differentiation_untied() {
    check(&small_spec(false)).unwrap();
}

/// A key and value head for every query head, one for all of them, scaled frequencies, and heads whose width is not
/// that of the residual stream divided among them.
#[test]
fn gradients_are_those_of_automatic_differentiation_of_other_heads_and_frequencies() {
    check(&ModelSpec { kv_heads: 4, ..small_spec(false) }).unwrap();
    check(&ModelSpec { kv_heads: 1, ..small_spec(true) }).unwrap();
    check(&ModelSpec { rope_scaling: Some(LLAMA3), ..small_spec(true) }).unwrap();
    check(&ModelSpec { head_size: Some(10), ..small_spec(false) }).unwrap();
    check(&ModelSpec { head_size: Some(4), kv_heads: 1, ..small_spec(true) }).unwrap();
}
