//! The computation behind generation: candle-transformers' models with their caches of keys and values, and this
//! crate's own forward pass for the one combination that none of them has.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candle_nn::{Activation, VarBuilder};
use candle_transformers::models::llama::{Cache, Config, Llama, Llama3RopeConfig, Llama3RopeType};
use candle_transformers::models::{mistral, qwen2, qwen3};
use templar_device::{Buffer, Cpu};
use templar_manifest::ModelSpec;
use templar_numerics::RotaryScaling;

use super::error::GenerateError;
use crate::Model;
use crate::layout::Layout;

/// The tensors of a model, by their Hugging Face names.
pub(crate) type Tensors = HashMap<String, Tensor>;

/// A model that computes the logits after a token.
pub(super) enum Backend {
    Llama {
        llama: Llama,
        config: Config,
        cache: Cache,
    },
    Mistral(mistral::Model),
    Qwen2(qwen2::ModelForCausalLM),
    Qwen3(qwen3::ModelForCausalLM),
    /// Heads of their own width with a scaled rotary embedding, and any model on a device. It computes every position
    /// anew for each token.
    Own {
        model: Box<Model>,
        params: Buffer,
    },
}

/// candle models that relatives of the Llama architecture need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relative {
    Mistral,
    Qwen2,
    Qwen3,
}

impl Backend {
    /// The model of a specification over the flat vector of its parameters.
    pub(super) fn trained(spec: &ModelSpec, layout: &Layout, params: &[f32]) -> Result<Self, GenerateError> {
        if spec.head_size.is_some() && spec.rope_scaling.is_some() {
            return Self::own(Arc::new(Cpu::best()), spec, params);
        }
        let mut tensors = Tensors::new();
        for (tensor, range) in layout.tensors.iter().zip(&layout.ranges) {
            let shape: Vec<usize> = tensor.shape.iter().map(|&size| size as usize).collect();
            tensors.insert(tensor.name.clone(), Tensor::from_slice(&params[range.clone()], shape, &Device::Cpu)?);
        }
        if spec.head_size.is_some() {
            return Self::relative(Relative::Mistral, spec, tensors);
        }
        let config = Config {
            hidden_size: layout.hidden,
            intermediate_size: layout.ffn,
            vocab_size: layout.vocab,
            num_hidden_layers: layout.layers.len(),
            num_attention_heads: layout.heads,
            num_key_value_heads: layout.kv_heads,
            use_flash_attn: false,
            rms_norm_eps: f64::from(layout.norm_eps),
            rope_theta: spec.rope_theta as f32,
            bos_token_id: None,
            eos_token_id: None,
            rope_scaling: rope_scaling(layout.rotary_scaling),
            max_position_embeddings: layout.sequence_length,
            tie_word_embeddings: spec.tied_embeddings,
        };
        let builder = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let cache = Cache::new(true, DType::F32, &config, &Device::Cpu)?;
        Ok(Self::Llama { llama: Llama::load(builder, &config)?, config, cache })
    }

    /// This crate's own forward pass on a device.
    pub(super) fn own(
        device: Arc<dyn templar_device::Device>,
        spec: &ModelSpec,
        params: &[f32],
    ) -> Result<Self, GenerateError> {
        let params = device.upload(params.into())?;
        Ok(Self::Own { model: Box::new(Model::new(spec, device)?), params })
    }

    /// A relative of the Llama architecture, which reads at most `spec.sequence_length` tokens.
    pub(super) fn relative(kind: Relative, spec: &ModelSpec, mut tensors: Tensors) -> Result<Self, GenerateError> {
        // candle's Mistral does not know tied heads.
        if let Some(embedding) = tensors.get("model.embed_tokens.weight").filter(|_| spec.tied_embeddings) {
            tensors.insert("lm_head.weight".to_owned(), embedding.clone());
        }
        let builder = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let (positions, rope_theta) = (spec.sequence_length as usize, f64::from(spec.rope_theta));
        let rms_norm_eps = f64::from(f32::from_bits(spec.norm_eps_bits));
        Ok(match kind {
            Relative::Mistral => {
                let config = mistral::Config {
                    vocab_size: spec.vocab_size as usize,
                    hidden_size: spec.hidden_size as usize,
                    intermediate_size: spec.ffn_size as usize,
                    num_hidden_layers: spec.layers as usize,
                    num_attention_heads: spec.heads as usize,
                    head_dim: Some(spec.head_width() as usize),
                    num_key_value_heads: spec.kv_heads as usize,
                    hidden_act: Activation::Silu,
                    max_position_embeddings: positions,
                    rms_norm_eps,
                    rope_theta,
                    sliding_window: None,
                    use_flash_attn: false,
                };
                Self::Mistral(mistral::Model::new(&config, builder)?)
            }
            Relative::Qwen2 => {
                let config = qwen2::Config {
                    vocab_size: spec.vocab_size as usize,
                    hidden_size: spec.hidden_size as usize,
                    intermediate_size: spec.ffn_size as usize,
                    num_hidden_layers: spec.layers as usize,
                    num_attention_heads: spec.heads as usize,
                    num_key_value_heads: spec.kv_heads as usize,
                    max_position_embeddings: positions,
                    sliding_window: positions,
                    max_window_layers: spec.layers as usize,
                    tie_word_embeddings: spec.tied_embeddings,
                    rope_theta,
                    rms_norm_eps,
                    use_sliding_window: false,
                    hidden_act: Activation::Silu,
                };
                Self::Qwen2(qwen2::ModelForCausalLM::new(&config, builder)?)
            }
            Relative::Qwen3 => {
                let config = qwen3::Config {
                    vocab_size: spec.vocab_size as usize,
                    hidden_size: spec.hidden_size as usize,
                    intermediate_size: spec.ffn_size as usize,
                    num_hidden_layers: spec.layers as usize,
                    num_attention_heads: spec.heads as usize,
                    head_dim: spec.head_width() as usize,
                    attention_bias: false,
                    num_key_value_heads: spec.kv_heads as usize,
                    max_position_embeddings: positions,
                    sliding_window: None,
                    max_window_layers: spec.layers as usize,
                    tie_word_embeddings: spec.tied_embeddings,
                    rope_theta,
                    rms_norm_eps,
                    use_sliding_window: false,
                    hidden_act: Activation::Silu,
                };
                Self::Qwen3(qwen3::ModelForCausalLM::new(&config, builder)?)
            }
        })
    }

    /// Forgets what was computed of a text.
    pub(super) fn forget(&mut self) -> Result<(), GenerateError> {
        match self {
            Self::Llama { config, cache, .. } => *cache = Cache::new(true, DType::F32, config, &Device::Cpu)?,
            Self::Mistral(model) => model.clear_kv_cache(),
            Self::Qwen2(model) => model.clear_kv_cache(),
            Self::Qwen3(model) => model.clear_kv_cache(),
            Self::Own { .. } => {}
        }
        Ok(())
    }

    /// The logits after the last of `tokens`, of which the first `computed` were given before, `[vocab]`.
    pub(super) fn logits(&mut self, tokens: &[u32], computed: usize) -> Result<Vec<f32>, GenerateError> {
        let input = || Tensor::new(&tokens[computed..], &Device::Cpu)?.unsqueeze(0);
        let logits = match self {
            Self::Llama { llama, cache, .. } => llama.forward(&input()?, computed, cache)?,
            Self::Mistral(model) => model.forward(&input()?, computed)?,
            Self::Qwen2(model) => model.forward(&input()?, computed)?,
            Self::Qwen3(model) => model.forward(&input()?, computed)?,
            Self::Own { model, params } => return Ok(model.next_logits(params, tokens)?),
        };
        Ok(logits.flatten_all()?.to_vec1::<f32>()?)
    }
}

/// The scaling as candle takes it. It knows Llama 3's alone, of which `linear` is the case of bands below every
/// wavelength: none is shorter than 2π, so all lie above 1/1 and are divided.
fn rope_scaling(scaling: RotaryScaling) -> Option<Llama3RopeConfig> {
    let (factor, low, high, original) = match scaling {
        RotaryScaling::None => return None,
        RotaryScaling::Linear { factor } => (factor, 1.0, 2.0, 1),
        RotaryScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => {
            (factor, low_freq_factor, high_freq_factor, original_positions)
        }
    };
    Some(Llama3RopeConfig {
        factor: factor as f32,
        low_freq_factor: low as f32,
        high_freq_factor: high as f32,
        original_max_position_embeddings: original as usize,
        rope_type: Llama3RopeType::Llama3,
    })
}
