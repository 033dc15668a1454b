//! Text from parameters, through candle-transformers' Llama and its cache of keys and values.
//!
//! This is the edge: the logits come from candle's arithmetic, which may differ in the last bits between machines, so
//! nothing that is signed may depend on generated text. Sampling itself is ours: greedy takes the lowest id among the
//! highest logits, and a temperature draws from a seeded BLAKE3 stream.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Config, Llama, Llama3RopeConfig, Llama3RopeType};
use templar_manifest::ModelSpec;
use templar_numerics::{Kernels, RotaryScaling};

use crate::layout::{ConfigError, Layout};
use crate::vocabulary::Vocabulary;
pub use crate::vocabulary::VocabularyError;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The most likely token.
    Greedy,
    /// A draw from the softmax of the logits divided by `temperature` (positive, finite).
    Temperature {
        /// 1 is the model's own distribution; below, sharper.
        temperature: f32,
        /// Seed of the draws.
        seed: [u8; 32],
    },
}

/// Why no text could be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The model's specification is refused.
    #[error("the model's specification is refused")]
    Config(#[from] ConfigError),
    /// The tokenizer cannot be used with the model.
    #[error("the tokenizer cannot be used")]
    Tokenizer(#[from] VocabularyError),
    /// The parameter vector has another length than the model's.
    #[error("{found} parameters, the model has {expected}")]
    Length {
        /// Parameters of the model.
        expected: usize,
        /// Parameters that were passed.
        found: usize,
    },
    /// The tokenizer refuses the prompt, or the tokens that were generated.
    #[error("the tokenizer fails on this text: {reason}")]
    Text {
        /// The tokenizer's message.
        reason: String,
    },
    /// Nothing to start from: an empty prompt, and the tokenizer has no start token.
    #[error("an empty prompt, and the tokenizer has no token that starts a text")]
    EmptyPrompt,
    /// The prompt leaves no room for a token.
    #[error("the prompt has {found} tokens, the model takes fewer than {positions}")]
    PromptTooLong {
        /// Tokens of the prompt.
        found: usize,
        /// The number of positions of the model.
        positions: usize,
    },
    /// A temperature that is not positive and finite.
    #[error("the temperature is not positive")]
    Temperature,
    /// The logits are not finite: the parameters are unusable.
    #[error("the model's logits are not finite")]
    NonFinite,
    /// The computation in candle failed.
    #[error("candle fails")]
    Candle(#[from] candle_core::Error),
}

/// A text to continue.
#[derive(Debug, Clone, Copy)]
pub struct Continuation<'a> {
    /// The beginning of the text.
    pub prompt: &'a str,
    /// The largest number of tokens to add.
    pub max_tokens: usize,
    /// How each token is chosen.
    pub sampling: Sampling,
}

/// Continues a prompt by at most `max_tokens` tokens, up to the end token or the model's last position, and
/// returns the continuation alone. The prompt stands at the start of a text: the tokenizer's start token, or
/// the end token that separates documents, comes before it.
///
/// # Errors
/// See [`GenerateError`]; all but candle's are found before any work.
pub fn generate(
    spec: &ModelSpec,
    params: &[f32],
    tokenizer_json: &[u8],
    request: Continuation<'_>,
) -> Result<String, GenerateError> {
    let Continuation { prompt, max_tokens, sampling } = request;
    let layout = Layout::new(spec)?;
    let vocabulary = Vocabulary::open(tokenizer_json, spec.vocab_size)?;
    if params.len() != layout.parameters {
        return Err(GenerateError::Length { expected: layout.parameters, found: params.len() });
    }
    let mut sampler = Sampler::new(sampling)?;
    let text = |error: tokenizers::Error| GenerateError::Text { reason: error.to_string() };
    let encoding = vocabulary.tokenizer.encode(prompt, true).map_err(text)?;
    let mut tokens = encoding.get_ids().to_vec();
    match vocabulary.start {
        Some(start) if tokens.first() != Some(&start) => tokens.insert(0, start),
        None if tokens.is_empty() => return Err(GenerateError::EmptyPrompt),
        _ => {}
    }
    let positions = layout.sequence_length;
    if tokens.len() >= positions {
        return Err(GenerateError::PromptTooLong { found: tokens.len(), positions });
    }

    let (llama, mut cache) = load(spec, &layout, params)?;
    let prompt_length = tokens.len();
    let mut computed = 0;
    // Every token but the last one chosen takes a position, so the last position's logits are still of use.
    while tokens.len() - prompt_length < max_tokens && tokens.len() <= positions {
        let input = Tensor::new(&tokens[computed..], &Device::Cpu)?.unsqueeze(0)?;
        let mut logits = llama.forward(&input, computed, &mut cache)?.flatten_all()?.to_vec1::<f32>()?;
        computed = tokens.len();
        let next = sampler.next(&mut logits)?;
        if Some(next) == vocabulary.end {
            break;
        }
        tokens.push(next);
    }
    continuation(&vocabulary, &tokens, prompt_length).map_err(text)
}

/// The text of the tokens after the prompt's. It is cut from the text of all, since some decoders drop the
/// space before a first word; where a character straddles the border, it is decoded alone.
fn continuation(vocabulary: &Vocabulary, tokens: &[u32], prompt_length: usize) -> tokenizers::Result<String> {
    let (prompt, continued) = tokens.split_at(prompt_length);
    let whole = vocabulary.tokenizer.decode(tokens, true)?;
    match whole.strip_prefix(vocabulary.tokenizer.decode(prompt, true)?.as_str()) {
        Some(rest) => Ok(rest.to_string()),
        None => vocabulary.tokenizer.decode(continued, true),
    }
}

/// candle's model over copies of our tensors.
fn load(spec: &ModelSpec, layout: &Layout, params: &[f32]) -> Result<(Llama, Cache), GenerateError> {
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
    let mut tensors = HashMap::new();
    for (tensor, range) in layout.tensors.iter().zip(&layout.ranges) {
        let shape: Vec<usize> = tensor.shape.iter().map(|&size| size as usize).collect();
        tensors.insert(tensor.name.clone(), Tensor::from_slice(&params[range.clone()], shape, &Device::Cpu)?);
    }
    let builder = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let cache = Cache::new(true, DType::F32, &config, &Device::Cpu)?;
    Ok((Llama::load(builder, &config)?, cache))
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

/// Chooses tokens; holds the stream of draws.
enum Sampler {
    Greedy,
    Temperature { inverse: f32, draws: blake3::OutputReader },
}

impl Sampler {
    fn new(sampling: Sampling) -> Result<Self, GenerateError> {
        match sampling {
            Sampling::Greedy => Ok(Self::Greedy),
            Sampling::Temperature { temperature, seed } => {
                let inverse = 1.0 / temperature;
                if !(inverse.is_finite() && inverse > 0.0) {
                    return Err(GenerateError::Temperature);
                }
                let mut hasher = blake3::Hasher::new_keyed(&seed);
                hasher.update(b"templar sample/1");
                Ok(Self::Temperature { inverse, draws: hasher.finalize_xof() })
            }
        }
    }

    /// The id chosen from the logits, which are used up.
    fn next(&mut self, logits: &mut [f32]) -> Result<u32, GenerateError> {
        if logits.is_empty() || logits.iter().any(|logit| !logit.is_finite()) {
            return Err(GenerateError::NonFinite);
        }
        let chosen = match self {
            Self::Greedy => {
                let mut best = 0;
                for (id, logit) in logits.iter().enumerate() {
                    if *logit > logits[best] {
                        best = id;
                    }
                }
                best
            }
            Self::Temperature { inverse, draws } => {
                let mut bytes = [0u8; 8];
                draws.fill(&mut bytes);
                let draw = (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64;
                // The highest logit is taken off first, so that a low temperature sharpens instead of overflowing.
                let highest = logits.iter().fold(f32::MIN, |high, &logit| if logit > high { logit } else { high });
                logits.iter_mut().for_each(|logit| *logit -= highest);
                let kernels = Kernels::best();
                kernels.scale_in_place(logits, *inverse);
                kernels.softmax(logits);
                pick(logits, draw)
            }
        };
        Ok(chosen as u32)
    }
}

/// The first id at which the running sum of probabilities exceeds `draw` times their total.
fn pick(probabilities: &[f32], draw: f64) -> usize {
    let total: f64 = probabilities.iter().map(|&p| f64::from(p)).sum();
    let mut sum = 0.0;
    let mut last = 0;
    for (id, &probability) in probabilities.iter().enumerate() {
        if probability > 0.0 {
            last = id;
            sum += f64::from(probability);
            if sum > draw * total {
                return id;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_lowest_id_of_equals() {
        let mut sampler = Sampler::new(Sampling::Greedy).unwrap();
        assert_eq!(sampler.next(&mut [0.5, 2.0, 2.0, -1.0]).unwrap(), 1);
        assert!(matches!(sampler.next(&mut [0.0, f32::NAN]), Err(GenerateError::NonFinite)));
    }

    #[test]
    fn a_temperature_draws_by_probability_and_seed() {
        let sampling = |temperature, seed| Sampling::Temperature { temperature, seed: [seed; 32] };
        let mut counts = [0u32; 3];
        let mut sampler = Sampler::new(sampling(1.0, 1)).unwrap();
        for _ in 0..4000 {
            // Probabilities 1/2, 1/4, 1/4.
            counts[sampler.next(&mut [std::f32::consts::LN_2, 0.0, 0.0]).unwrap() as usize] += 1;
        }
        assert!(counts[0].abs_diff(2000) < 150 && counts[1].abs_diff(1000) < 150, "{counts:?}");
        let draws = |seed| {
            let mut sampler = Sampler::new(sampling(2.0, seed)).unwrap();
            (0..20).map(|_| sampler.next(&mut [1.0; 50]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        let mut cold = Sampler::new(sampling(1e-30, 1)).unwrap();
        assert_eq!(cold.next(&mut [1e20, 3e20, -1e30]).unwrap(), 1);
        for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(matches!(Sampler::new(sampling(bad, 1)), Err(GenerateError::Temperature)), "{bad}");
        }
    }

    #[test]
    fn pick_never_leaves_the_support() {
        assert_eq!(pick(&[0.0, 1.0, 0.0], 0.0), 1);
        assert_eq!(pick(&[0.0, 1.0, 0.0], 1.0), 1);
        assert_eq!(pick(&[0.5, 0.5], 0.75), 1);
    }
}
