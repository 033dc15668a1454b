//! Every gradient against candle's automatic differentiation of the same model, written with candle's slow operators
//! (the fused ones have no backward and would stop gradients silently).
//!
//! Tolerance: relative error of each tensor's gradient at most 2e-5 in the 2-norm, losses 1e-6. Both sides are f32 sums
//! in different orders.

use candle_core::{D, Device, Result, Tensor, Var};
use candle_nn::ops::{log_softmax, rms_norm_slow, softmax};
use candle_nn::rotary_emb::rope_slow;
use templar_manifest::ModelSpec;
use templar_model::Model;

use crate::support::{LLAMA3, lively_params, small_spec, tokens};

/// The model as candle variables, in the order of the flat vector.
struct Reference<'a> {
    spec: &'a ModelSpec,
    names: Vec<String>,
    vars: Vec<Var>,
    cos: Tensor,
    sin: Tensor,
}

impl Reference<'_> {
    fn var(&self, name: &str) -> &Tensor {
        let name = format!("{name}.weight");
        self.vars[self.names.iter().position(|other| *other == name).unwrap()].as_tensor()
    }

    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        x.broadcast_matmul(&self.var(name).t()?)
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        rms_norm_slow(x, self.var(name), f32::from_bits(self.spec.norm_eps_bits))
    }

    /// `[batch, length, heads·width]` to `[batch, heads, length, width]`.
    fn heads(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let (batch, length, width) = x.dims3()?;
        x.reshape((batch, length, heads, width / heads))?.transpose(1, 2)?.contiguous()
    }

    fn attention(&self, x: &Tensor, layer: usize) -> Result<Tensor> {
        let name = |part: &str| format!("model.layers.{layer}.self_attn.{part}_proj");
        let (heads, kv_heads) = (self.spec.heads as usize, self.spec.kv_heads as usize);
        let (batch, length, hidden) = x.dims3()?;
        let width = hidden / heads;
        let q = rope_slow(&self.heads(&self.linear(x, &name("q"))?, heads)?, &self.cos, &self.sin)?;
        let k = rope_slow(&self.heads(&self.linear(x, &name("k"))?, kv_heads)?, &self.cos, &self.sin)?;
        let v = self.heads(&self.linear(x, &name("v"))?, kv_heads)?;
        let repeat = |x: Tensor| {
            let group = heads / kv_heads;
            x.unsqueeze(2)?
                .broadcast_as((batch, kv_heads, group, length, width))?
                .contiguous()?
                .reshape((batch, heads, length, width))
        };
        let scores = (q.matmul(&repeat(k)?.t()?.contiguous()?)? / (width as f64).sqrt())?;
        let mask: Vec<f32> =
            (0..length * length).map(|i| if i % length > i / length { f32::NEG_INFINITY } else { 0.0 }).collect();
        let scores = scores.broadcast_add(&Tensor::from_vec(mask, (length, length), &Device::Cpu)?)?;
        let context = softmax(&scores, D::Minus1)?.matmul(&repeat(v)?)?;
        self.linear(&context.transpose(1, 2)?.contiguous()?.reshape((batch, length, hidden))?, &name("o"))
    }

    /// The mean loss of `[batch, length]` inputs and targets.
    fn loss(&self, inputs: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let (batch, length) = inputs.dims2()?;
        let hidden = self.spec.hidden_size as usize;
        let embedding = self.var("model.embed_tokens");
        let mut x = embedding.index_select(&inputs.flatten_all()?, 0)?.reshape((batch, length, hidden))?;
        for layer in 0..self.spec.layers as usize {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            x = (&x + self.attention(&self.norm(&x, &name("input_layernorm"))?, layer)?)?;
            let y = self.norm(&x, &name("post_attention_layernorm"))?;
            let gate = self.linear(&y, &name("mlp.gate_proj"))?.silu()?;
            let gated = (gate * self.linear(&y, &name("mlp.up_proj"))?)?;
            x = (&x + self.linear(&gated, &name("mlp.down_proj"))?)?;
        }
        let x = self.norm(&x, "model.norm")?;
        let head = if self.spec.tied_embeddings { embedding } else { self.var("lm_head") };
        let logits = x.broadcast_matmul(&head.t()?)?.reshape((batch * length, ()))?;
        let picked = log_softmax(&logits, D::Minus1)?.gather(&targets.flatten_all()?.unsqueeze(1)?, 1)?;
        picked.mean_all()?.neg()
    }
}

/// Cosines and sines, `[length, width / 2]`; with a scaling, that of [`LLAMA3`].
fn tables(spec: &ModelSpec) -> Result<(Tensor, Tensor)> {
    let (length, width) = (spec.sequence_length as usize, (spec.hidden_size / spec.heads) as usize);
    let frequency = |i: usize| {
        let frequency = libm::pow(f64::from(spec.rope_theta), -2.0 * i as f64 / width as f64);
        let turns = 200.0 * frequency / std::f64::consts::TAU;
        let kept = if spec.rope_scaling.is_some() { ((turns - 1.0) / 3.0).clamp(0.0, 1.0) } else { 1.0 };
        frequency * (kept + (1.0 - kept) / 8.0)
    };
    let angles: Vec<f64> =
        (0..length).flat_map(|position| (0..width / 2).map(move |i| position as f64 * frequency(i))).collect();
    let table = |f: fn(f64) -> f64| {
        let values: Vec<f32> = angles.iter().map(|&angle| f(angle) as f32).collect();
        Tensor::from_vec(values, (length, width / 2), &Device::Cpu)
    };
    Ok((table(libm::cos)?, table(libm::sin)?))
}

fn check(spec: &ModelSpec) -> Result<()> {
    let sequences = 3;
    let mut model = Model::new(spec).unwrap();
    let params = lively_params(&model);
    let batch = tokens(spec, sequences, 77);
    let rows = sequences * spec.sequence_length as usize;
    let mut grad = vec![0.0f32; params.len()];
    let loss = model.forward_backward(&params, &batch, 1.0 / rows as f32, &mut grad).unwrap() / rows as f64;

    let (cos, sin) = tables(spec)?;
    let vars = model.tensors().iter().zip(model.ranges()).map(|(tensor, range)| {
        let shape: Vec<usize> = tensor.shape.iter().map(|&size| size as usize).collect();
        Var::from_slice(&params[range.clone()], shape, &Device::Cpu)
    });
    let names = model.tensors().iter().map(|tensor| tensor.name.clone()).collect();
    let reference = Reference { spec, names, vars: vars.collect::<Result<_>>()?, cos, sin };
    let width = spec.sequence_length as usize + 1;
    let all = Tensor::from_vec(batch, (sequences, width), &Device::Cpu)?;
    let inputs = all.narrow(1, 0, width - 1)?.contiguous()?;
    let targets = all.narrow(1, 1, width - 1)?.contiguous()?;
    let expected_loss = reference.loss(&inputs, &targets)?;
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

/// A key and value head for every query head, one for all of them, and scaled frequencies.
#[test]
fn gradients_are_those_of_automatic_differentiation_of_other_heads_and_frequencies() {
    check(&ModelSpec { kv_heads: 4, ..small_spec(false) }).unwrap();
    check(&ModelSpec { kv_heads: 1, ..small_spec(true) }).unwrap();
    check(&ModelSpec { rope_scaling: Some(LLAMA3), ..small_spec(true) }).unwrap();
}
