//! Small models, tokens and a tokenizer that the tests share.

use templar_manifest::{ModelSpec, RopeScaling};
use templar_model::Model;

/// Grouped queries, odd sizes, and sequences long enough to need a second block of attention rows.
pub(crate) fn small_spec(tied: bool) -> ModelSpec {
    ModelSpec {
        vocab_size: 53,
        hidden_size: 24,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        ffn_size: 40,
        rope_theta: 10_000,
        rope_scaling: None,
        norm_eps_bits: 1e-5f32.to_bits(),
        tied_embeddings: tied,
        sequence_length: 70,
    }
}

/// Llama 3's scaling so that of a [`small_spec`]'s three frequencies one is kept, one blended and one divided.
pub(crate) const LLAMA3: RopeScaling = RopeScaling::Llama3 {
    factor_ppm: 8_000_000,
    low_freq_factor_ppm: 1_000_000,
    high_freq_factor_ppm: 4_000_000,
    original_positions: 200,
};

/// All frequencies at half.
pub(crate) const LINEAR: RopeScaling = RopeScaling::Linear { factor_ppm: 2_000_000 };

/// Tokens that look arbitrary and never change.
pub(crate) fn tokens(spec: &ModelSpec, sequences: usize, salt: u32) -> Vec<u32> {
    let count = sequences * (spec.sequence_length as usize + 1);
    let mut state = salt.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % spec.vocab_size
    };
    (0..count).map(|_| next()).collect()
}

/// First parameters made six times larger and norms that are not all one, so that no gradient is negligible.
pub(crate) fn lively_params(model: &Model) -> Vec<f32> {
    let mut params = model.init(&[3; 32]);
    for (tensor, range) in model.tensors().iter().zip(model.ranges()) {
        for (index, value) in params[range.clone()].iter_mut().enumerate() {
            *value = if tensor.shape.len() == 2 { *value * 6.0 } else { 0.75 + (index % 7) as f32 * 0.1 };
        }
    }
    params
}

/// A word-level tokenizer of `words` after the end token, which is id 0.
pub(crate) fn word_tokenizer(words: &[&str]) -> Vec<u8> {
    let end = "<|endoftext|>";
    let mut vocab = serde_json::Map::new();
    for (id, word) in std::iter::once(&end).chain(words).enumerate() {
        vocab.insert((*word).to_string(), id.into());
    }
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [{ "id": 0, "content": end, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true }],
        "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": end },
    });
    serde_json::to_vec(&tokenizer).unwrap()
}
