//! The same model in candle, so that its automatic differentiation confirms our gradients and its speed can be
//! compared.
//!
//! Written with candle's slow operators: the fused ones have no backward and would stop gradients silently.
//! Rows of all sequences are one matrix wherever a weight is applied, which is candle's fastest form.

use candle_core::{D, Device, Result, Tensor, Var};
use candle_nn::ops::{log_softmax, rms_norm_slow, softmax};
use candle_nn::rotary_emb::rope_slow;
use templar_manifest::ModelSpec;
use templar_model::Model;

/// The model as candle variables, in the order of the flat vector.
pub(crate) struct Reference {
    spec: ModelSpec,
    names: Vec<String>,
    /// One variable for each tensor of the model.
    pub(crate) vars: Vec<Var>,
    cos: Tensor,
    sin: Tensor,
    mask: Tensor,
}

impl Reference {
    /// `frequencies` are the angles that each pair of a head turns by from one position to the next.
    pub(crate) fn new(model: &Model, params: &[f32], frequencies: &[f64]) -> Result<Self> {
        let spec = model.spec().clone();
        let length = spec.sequence_length as usize;
        let table = |f: fn(f64) -> f64| {
            let angles = (0..length).flat_map(|position| frequencies.iter().map(move |&x| position as f64 * x));
            Tensor::from_vec(angles.map(|angle| f(angle) as f32).collect(), (length, frequencies.len()), &Device::Cpu)
        };
        let vars = model.tensors().iter().zip(model.ranges()).map(|(tensor, range)| {
            let shape: Vec<usize> = tensor.shape.iter().map(|&size| size as usize).collect();
            Var::from_slice(&params[range.clone()], shape, &Device::Cpu)
        });
        let mask: Vec<f32> =
            (0..length * length).map(|i| if i % length > i / length { f32::NEG_INFINITY } else { 0.0 }).collect();
        Ok(Self {
            spec,
            names: model.tensors().iter().map(|tensor| tensor.name.clone()).collect(),
            vars: vars.collect::<Result<_>>()?,
            cos: table(libm::cos)?,
            sin: table(libm::sin)?,
            mask: Tensor::from_vec(mask, (length, length), &Device::Cpu)?,
        })
    }

    fn var(&self, name: &str) -> &Tensor {
        let name = format!("{name}.weight");
        self.vars[self.names.iter().position(|other| *other == name).unwrap()].as_tensor()
    }

    /// `x [rows, inputs]` through a projection.
    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        x.matmul(&self.var(name).t()?)
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        rms_norm_slow(x, self.var(name), f32::from_bits(self.spec.norm_eps_bits))
    }

    /// `[rows, heads·width]` to `[batch, heads, length, width]`.
    fn heads(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let length = self.spec.sequence_length as usize;
        x.reshape(((), length, heads, x.dim(1)? / heads))?.transpose(1, 2)?.contiguous()
    }

    fn attention(&self, x: &Tensor, layer: usize) -> Result<Tensor> {
        let name = |part: &str| format!("model.layers.{layer}.self_attn.{part}_proj");
        let (heads, kv_heads) = (self.spec.heads as usize, self.spec.kv_heads as usize);
        let width = self.spec.head_width() as usize;
        let q = rope_slow(&self.heads(&self.linear(x, &name("q"))?, heads)?, &self.cos, &self.sin)?;
        let k = rope_slow(&self.heads(&self.linear(x, &name("k"))?, kv_heads)?, &self.cos, &self.sin)?;
        let v = self.heads(&self.linear(x, &name("v"))?, kv_heads)?;
        let repeat = |x: Tensor| {
            let (batch, _, length, _) = x.dims4()?;
            let group = heads / kv_heads;
            x.unsqueeze(2)?
                .broadcast_as((batch, kv_heads, group, length, width))?
                .contiguous()?
                .reshape((batch, heads, length, width))
        };
        let scores = (q.matmul(&repeat(k)?.t()?.contiguous()?)? / (width as f64).sqrt())?;
        let context = softmax(&scores.broadcast_add(&self.mask)?, D::Minus1)?.matmul(&repeat(v)?)?;
        self.linear(&context.transpose(1, 2)?.contiguous()?.reshape(((), heads * width))?, &name("o"))
    }

    /// The mean loss of `[batch, length + 1]` tokens: each sequence's first `length` are inputs, its last are
    /// targets.
    pub(crate) fn loss(&self, tokens: &Tensor) -> Result<Tensor> {
        let length = self.spec.sequence_length as usize;
        let inputs = tokens.narrow(1, 0, length)?.contiguous()?.flatten_all()?;
        let targets = tokens.narrow(1, 1, length)?.contiguous()?.flatten_all()?;
        let embedding = self.var("model.embed_tokens");
        let mut x = embedding.index_select(&inputs, 0)?;
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
        let logits = x.matmul(&head.t()?)?;
        let picked = log_softmax(&logits, D::Minus1)?.gather(&targets.unsqueeze(1)?, 1)?;
        picked.mean_all()?.neg()
    }
}
