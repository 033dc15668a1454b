//! The shape of a run's model, as genesis records it.

use serde::{Deserialize, Serialize};

/// The sizes of a Llama-style decoder: every number that its layout and arithmetic depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Rows of the embedding: at least as many as the tokenizer has tokens. Models are often padded to a round number.
    pub vocab_size: u32,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// The number of decoder layers.
    pub layers: u32,
    /// The number of query heads.
    pub heads: u32,
    /// The width of one head, an even number. `None` means `hidden_size / heads`, and that width is never stated.
    pub head_size: Option<u32>,
    /// The number of key and value heads, which divides `heads` (grouped-query attention).
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
    /// The longest context that the model was made for before this run, in tokens, where it began as another's. It
    /// decides nothing in training. An export states it, so that servers do not cut the context short.
    pub position_limit: Option<u32>,
}

impl ModelSpec {
    /// The width of one attention head: `head_size`, or `hidden_size / heads` where it is not stated.
    pub fn head_width(&self) -> u32 {
        self.head_size.unwrap_or_else(|| self.hidden_size.checked_div(self.heads).unwrap_or(0))
    }

    /// The longest context that a reader of the model may use, in tokens.
    pub fn positions(&self) -> u32 {
        self.position_limit.unwrap_or(0).max(self.sequence_length)
    }
}

/// How rotary frequencies are changed for a longer context than the model was first trained with. The names are
/// those of Hugging Face. The parameters of the model stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RopeScaling {
    /// Every frequency is divided by the factor.
    Linear {
        /// The factor in ppm, at least 1,000,000.
        factor_ppm: u32,
    },
    /// The rule of Llama 3.1: the frequencies of long wavelengths are divided by the factor, those of short
    /// wavelengths stay, and those between are blended.
    Llama3 {
        /// The factor in ppm, at least 1,000,000.
        factor_ppm: u32,
        /// Wavelengths above `original_positions` over this are divided; not 0.
        low_freq_factor_ppm: u32,
        /// Wavelengths below `original_positions` over this are kept; above `low_freq_factor_ppm`.
        high_freq_factor_ppm: u32,
        /// The context that the model was first trained with; not 0.
        original_positions: u32,
    },
}
