//! The `config.json` that an export writes: a `LlamaForCausalLM` with every key that loaders look for.
//!
//! The base and the scaling of the rotary embedding are written under their older keys, which all versions of
//! transformers read.

use serde::Serialize;
use serde_json::{Value, json};
use templar_manifest::{ModelSpec, RopeScaling};

/// The ids of the tokens around a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialIds {
    /// The token that stands before a text, if there is one.
    pub start: Option<u32>,
    /// The token that ends a text.
    pub end: u32,
}

/// The type of the weights in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightType {
    /// Every bit of the parameters.
    #[default]
    F32,
    /// The nearest number with 8 bits of precision; of two, the even one.
    Bf16,
}

/// The `config.json` that an export writes.
#[derive(Debug, Serialize)]
pub(super) struct WrittenConfig {
    architectures: [&'static str; 1],
    model_type: &'static str,
    vocab_size: u32,
    hidden_size: u32,
    intermediate_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    num_key_value_heads: u32,
    head_dim: u32,
    max_position_embeddings: u32,
    hidden_act: &'static str,
    rms_norm_eps: f64,
    rope_theta: f64,
    rope_scaling: Value,
    attention_bias: bool,
    attention_dropout: f64,
    mlp_bias: bool,
    initializer_range: f64,
    tie_word_embeddings: bool,
    bos_token_id: Option<u32>,
    eos_token_id: Option<u32>,
    torch_dtype: &'static str,
    use_cache: bool,
}

impl WrittenConfig {
    pub(super) fn new(spec: &ModelSpec, special: SpecialIds, weights: WeightType) -> Self {
        Self {
            architectures: ["LlamaForCausalLM"],
            model_type: "llama",
            vocab_size: spec.vocab_size,
            hidden_size: spec.hidden_size,
            intermediate_size: spec.ffn_size,
            num_hidden_layers: spec.layers,
            num_attention_heads: spec.heads,
            num_key_value_heads: spec.kv_heads,
            head_dim: spec.head_width(),
            max_position_embeddings: spec.positions(),
            hidden_act: "silu",
            rms_norm_eps: decimal(f32::from_bits(spec.norm_eps_bits)),
            rope_theta: spec.rope_theta.into(),
            rope_scaling: written_scaling(spec.rope_scaling),
            attention_bias: false,
            attention_dropout: 0.0,
            mlp_bias: false,
            initializer_range: 0.02,
            tie_word_embeddings: spec.tied_embeddings,
            bos_token_id: special.start,
            eos_token_id: Some(special.end),
            torch_dtype: match weights {
                WeightType::F32 => "float32",
                WeightType::Bf16 => "bfloat16",
            },
            use_cache: true,
        }
    }
}

/// The f64 that people write for this f32 (1e-5, not 9.99999974737e-6), if reading it gives the f32 back.
fn decimal(value: f32) -> f64 {
    match value.to_string().parse::<f64>() {
        Ok(short) if (short as f32).to_bits() == value.to_bits() => short,
        _ => f64::from(value),
    }
}

/// The scaling in Hugging Face's words.
fn written_scaling(scaling: Option<RopeScaling>) -> Value {
    let from_ppm = |ppm: u32| f64::from(ppm) / 1e6;
    match scaling {
        None => Value::Null,
        Some(RopeScaling::Linear { factor_ppm }) => json!({ "rope_type": "linear", "factor": from_ppm(factor_ppm) }),
        Some(RopeScaling::Llama3 { factor_ppm, low_freq_factor_ppm, high_freq_factor_ppm, original_positions }) => {
            json!({
                "rope_type": "llama3",
                "factor": from_ppm(factor_ppm),
                "low_freq_factor": from_ppm(low_freq_factor_ppm),
                "high_freq_factor": from_ppm(high_freq_factor_ppm),
                "original_max_position_embeddings": original_positions,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epsilons_are_written_as_people_write_them_and_read_back_exactly() {
        assert_eq!(decimal(1e-5), 1e-5);
        assert_eq!(decimal(1e-6), 1e-6);
        for bits in (0x0080_0000..0x3f80_0000u32).step_by(99_991) {
            assert_eq!((decimal(f32::from_bits(bits)) as f32).to_bits(), bits);
        }
    }
}
