//! The shape of a run's model, as genesis records it.

use serde::{Deserialize, Serialize};

/// A Llama-style decoder: every number that its layout and arithmetic depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Rows of the embedding: the tokenizer's vocabulary.
    pub vocab_size: u32,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Decoder layers.
    pub layers: u32,
    /// Query heads; divides `hidden_size` into heads of an even width.
    pub heads: u32,
    /// Key and value heads; divides `heads` (grouped-query attention).
    pub kv_heads: u32,
    /// Inner width of the SwiGLU feed-forward.
    pub ffn_size: u32,
    /// Base of the rotary embedding's frequencies.
    pub rope_theta: u32,
    /// How those frequencies are changed for a longer context.
    pub rope_scaling: Option<RopeScaling>,
    /// Raw bits of the f32 that RMSNorm adds to the mean square.
    pub norm_eps_bits: u32,
    /// Whether the output head is the embedding.
    pub tied_embeddings: bool,
    /// Tokens that a training sequence predicts.
    pub sequence_length: u32,
}

/// Rotary frequencies for a context longer than the one that a model was first trained with, as Hugging Face names them.
/// Neither changes the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RopeScaling {
    /// Every frequency divided by the factor.
    Linear {
        /// At least 1.
        factor_ppm: u32,
    },
    /// Llama 3.1's: long wavelengths divided by the factor, short ones kept, those between blended.
    Llama3 {
        /// At least 1.
        factor_ppm: u32,
        /// Wavelengths above `original_positions` over this are divided; not 0.
        low_freq_factor_ppm: u32,
        /// Wavelengths below `original_positions` over this are kept; above `low_freq_factor_ppm`.
        high_freq_factor_ppm: u32,
        /// The context that the model was first trained with; not 0.
        original_positions: u32,
    },
}
