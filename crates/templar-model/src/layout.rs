//! Where each tensor lies in the flat parameter vector, and which model specifications are acceptable.
//!
//! Order and names are those of a Hugging Face `LlamaForCausalLM`. One neighbourhood is relied on elsewhere:
//! the query, key and value projections of a layer lie one after another, and so are one matrix. Every size is
//! checked here, before anything is allocated; the rest of the crate may multiply them freely.

use std::ops::Range;

use templar_manifest::{ModelSpec, RopeScaling, TensorSpec};
use templar_numerics::RotaryScaling;

/// The largest vocabulary that is taken.
pub(crate) const MAX_VOCAB: u32 = 1 << 22;
/// Largest width of the residual stream and of the feed-forward.
pub(crate) const MAX_WIDTH: u32 = 1 << 17;
/// The largest number of layers.
pub(crate) const MAX_LAYERS: u32 = 1024;
/// The largest width of an attention head.
pub(crate) const MAX_HEAD_WIDTH: usize = 512;
/// The longest training sequence, in positions.
pub(crate) const MAX_SEQUENCE: u32 = 1 << 17;

/// Why a model specification is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A size is zero.
    #[error("{field} is zero")]
    Zero {
        /// The field of the specification.
        field: &'static str,
    },
    /// A size is beyond what this implementation takes.
    #[error("{field} is {value}, more than {limit}")]
    TooLarge {
        /// The field of the specification.
        field: &'static str,
        /// The value in the specification.
        value: u64,
        /// The largest value taken.
        limit: u64,
    },
    /// The residual stream does not divide into heads.
    #[error("hidden_size {hidden_size} does not divide into {heads} heads")]
    Heads {
        /// Width of the residual stream.
        hidden_size: u32,
        /// Number of query heads.
        heads: u32,
    },
    /// The width of a head is stated although it is the customary one, so one model would have two specifications.
    #[error("head_size {width} is hidden_size over heads, which is left unsaid")]
    HeadSize {
        /// The width that is stated.
        width: u32,
    },
    /// The query heads do not divide among the key and value heads.
    #[error("{heads} heads do not divide among {kv_heads} key and value heads")]
    KvHeads {
        /// Number of query heads.
        heads: u32,
        /// Key and value heads.
        kv_heads: u32,
    },
    /// The rotary embedding turns pairs, so a head's width must be even.
    #[error("a head is {width} wide, which is odd")]
    OddHead {
        /// Width of one head.
        width: usize,
    },
    /// The epsilon of the norms is not a positive, normal number.
    #[error("norm_eps_bits {bits:#010x} is not a positive normal number")]
    NormEps {
        /// Raw bits of the f32.
        bits: u32,
    },
    /// The scaling of the rotary frequencies is not one: a factor below 1, or bands that are empty or out of order.
    #[error("rope_scaling {found:?} {rule}")]
    RopeScaling {
        /// The scaling in the specification.
        found: RopeScaling,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// The parameters cannot be addressed on this machine.
    #[error("the model has more parameters than this machine can address")]
    Overflow,
}

/// Names and shapes of a specification's tensors in the order of the flat vector, as [`crate::Model::tensors`]
/// gives them, without a model. A flat vector has the sum of their elements.
///
/// # Errors
/// A specification that is refused.
pub fn tensors(spec: &ModelSpec) -> Result<Vec<TensorSpec>, ConfigError> {
    Ok(Layout::new(spec)?.tensors)
}

/// Where one layer's tensors lie.
#[derive(Debug, Clone)]
pub(crate) struct LayerRanges {
    /// Query, key and value projections as one matrix `[qkv_width, hidden]`.
    pub(crate) qkv: Range<u64>,
    /// Output projection of attention `[hidden, query_width]`.
    pub(crate) attention_out: Range<u64>,
    /// The gate's projection, `[ffn, hidden]`.
    pub(crate) gate: Range<u64>,
    /// The projection that the gate multiplies, `[ffn, hidden]`.
    pub(crate) up: Range<u64>,
    /// The projection back into the residual stream, `[hidden, ffn]`.
    pub(crate) down: Range<u64>,
    /// Norm before attention, `[hidden]`.
    pub(crate) attention_norm: Range<u64>,
    /// Norm before the feed-forward, `[hidden]`.
    pub(crate) ffn_norm: Range<u64>,
}

/// The checked sizes of a model and the place of every tensor.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) vocab: usize,
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_width: usize,
    pub(crate) ffn: usize,
    pub(crate) sequence_length: usize,
    pub(crate) rotary_scaling: RotaryScaling,
    pub(crate) norm_eps: f32,
    pub(crate) embedding: Range<u64>,
    pub(crate) layers: Vec<LayerRanges>,
    pub(crate) final_norm: Range<u64>,
    /// The output head `[vocab, hidden]`; the embedding's range when the two are tied.
    pub(crate) output: Range<u64>,
    /// Names and shapes, in the order of the flat vector.
    pub(crate) tensors: Vec<TensorSpec>,
    /// The place of each of `tensors`, in memory of the host.
    pub(crate) ranges: Vec<Range<usize>>,
    /// The same places in a buffer of a device.
    pub(crate) places: Vec<Range<u64>>,
    /// Length of the flat vector.
    pub(crate) parameters: usize,
}

/// Lays tensors one after another.
#[derive(Default)]
struct Placement {
    tensors: Vec<TensorSpec>,
    ranges: Vec<Range<usize>>,
    end: usize,
}

impl Placement {
    fn place(&mut self, name: String, shape: &[usize]) -> Result<Range<u64>, ConfigError> {
        let tensor = TensorSpec::new(name, shape.iter().map(|&size| size as u64).collect::<Vec<_>>());
        let elements = tensor.checked_elements().ok_or(ConfigError::Overflow)?;
        let start = self.end;
        self.end = start.checked_add(elements).ok_or(ConfigError::Overflow)?;
        // Four bytes each: a vector longer than this could not be allocated, and offsets in bytes must not overflow.
        if self.end > isize::MAX as usize / 8 {
            return Err(ConfigError::Overflow);
        }
        self.tensors.push(tensor);
        self.ranges.push(start..self.end);
        Ok(start as u64..self.end as u64)
    }
}

impl Layout {
    /// Checks a specification and places its tensors; allocates nothing but their names.
    pub(crate) fn new(spec: &ModelSpec) -> Result<Self, ConfigError> {
        check(spec)?;
        let (vocab, hidden, ffn) = (spec.vocab_size as usize, spec.hidden_size as usize, spec.ffn_size as usize);
        let (heads, kv_heads) = (spec.heads as usize, spec.kv_heads as usize);
        let head_width = spec.head_width() as usize;
        let (query_width, kv_width) = (heads * head_width, kv_heads * head_width);

        let mut placement = Placement::default();
        let embedding = placement.place("model.embed_tokens.weight".into(), &[vocab, hidden])?;
        let mut layers = Vec::with_capacity(spec.layers as usize);
        for index in 0..spec.layers {
            let mut place =
                |name: &str, shape: &[usize]| placement.place(format!("model.layers.{index}.{name}.weight"), shape);
            let query = place("self_attn.q_proj", &[query_width, hidden])?;
            let _key = place("self_attn.k_proj", &[kv_width, hidden])?;
            let value = place("self_attn.v_proj", &[kv_width, hidden])?;
            layers.push(LayerRanges {
                qkv: query.start..value.end,
                attention_out: place("self_attn.o_proj", &[hidden, query_width])?,
                gate: place("mlp.gate_proj", &[ffn, hidden])?,
                up: place("mlp.up_proj", &[ffn, hidden])?,
                down: place("mlp.down_proj", &[hidden, ffn])?,
                attention_norm: place("input_layernorm", &[hidden])?,
                ffn_norm: place("post_attention_layernorm", &[hidden])?,
            });
        }
        let final_norm = placement.place("model.norm.weight".into(), &[hidden])?;
        let output = if spec.tied_embeddings {
            embedding.clone()
        } else {
            placement.place("lm_head.weight".into(), &[vocab, hidden])?
        };
        Ok(Self {
            vocab,
            hidden,
            heads,
            kv_heads,
            head_width,
            ffn,
            sequence_length: spec.sequence_length as usize,
            rotary_scaling: rotary_scaling(spec.rope_scaling)?,
            norm_eps: f32::from_bits(spec.norm_eps_bits),
            embedding,
            layers,
            final_norm,
            output,
            tensors: placement.tensors,
            places: placement.ranges.iter().map(|range| range.start as u64..range.end as u64).collect(),
            ranges: placement.ranges,
            parameters: placement.end,
        })
    }

    /// Width of the queries, and of the context that attention computes from them.
    pub(crate) fn query_width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Width of queries, keys and values side by side.
    pub(crate) fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_width
    }
}

/// The scaling as the tables take it: each factor the f64 nearest to its decimal.
fn rotary_scaling(scaling: Option<RopeScaling>) -> Result<RotaryScaling, ConfigError> {
    let Some(found) = scaling else { return Ok(RotaryScaling::None) };
    let from_ppm = |ppm: u32| f64::from(ppm) / 1e6;
    let refused = |rule| Err(ConfigError::RopeScaling { found, rule });
    match found {
        RopeScaling::Linear { factor_ppm: ..1_000_000 } | RopeScaling::Llama3 { factor_ppm: ..1_000_000, .. } => {
            refused("has a factor below 1")
        }
        RopeScaling::Llama3 { low_freq_factor_ppm: 0, .. } => refused("has a low_freq_factor of 0"),
        RopeScaling::Llama3 { original_positions: 0, .. } => refused("has original positions of 0"),
        RopeScaling::Llama3 { low_freq_factor_ppm: low, high_freq_factor_ppm: high, .. } if high <= low => {
            refused("has a high_freq_factor that is not above its low_freq_factor")
        }
        RopeScaling::Linear { factor_ppm } => Ok(RotaryScaling::Linear { factor: from_ppm(factor_ppm) }),
        RopeScaling::Llama3 { factor_ppm, low_freq_factor_ppm, high_freq_factor_ppm, original_positions } => {
            Ok(RotaryScaling::Llama3 {
                factor: from_ppm(factor_ppm),
                low_freq_factor: from_ppm(low_freq_factor_ppm),
                high_freq_factor: from_ppm(high_freq_factor_ppm),
                original_positions,
            })
        }
    }
}

/// The rules a specification must meet.
fn check(spec: &ModelSpec) -> Result<(), ConfigError> {
    let sizes = [
        ("vocab_size", spec.vocab_size, MAX_VOCAB),
        ("hidden_size", spec.hidden_size, MAX_WIDTH),
        ("layers", spec.layers, MAX_LAYERS),
        ("heads", spec.heads, MAX_WIDTH),
        ("kv_heads", spec.kv_heads, MAX_WIDTH),
        ("ffn_size", spec.ffn_size, MAX_WIDTH),
        ("rope_theta", spec.rope_theta, u32::MAX),
        ("sequence_length", spec.sequence_length, MAX_SEQUENCE),
    ];
    for (field, value, limit) in sizes {
        if value == 0 {
            return Err(ConfigError::Zero { field });
        }
        if value > limit {
            return Err(ConfigError::TooLarge { field, value: value.into(), limit: limit.into() });
        }
    }
    let customary = spec.hidden_size.is_multiple_of(spec.heads).then(|| spec.hidden_size / spec.heads);
    match (spec.head_size, customary) {
        (Some(0), _) => return Err(ConfigError::Zero { field: "head_size" }),
        (Some(width), Some(customary)) if width == customary => return Err(ConfigError::HeadSize { width }),
        (None, None) => return Err(ConfigError::Heads { hidden_size: spec.hidden_size, heads: spec.heads }),
        _ => {}
    }
    if !spec.heads.is_multiple_of(spec.kv_heads) {
        return Err(ConfigError::KvHeads { heads: spec.heads, kv_heads: spec.kv_heads });
    }
    let width = spec.head_width() as usize;
    if !width.is_multiple_of(2) {
        return Err(ConfigError::OddHead { width });
    }
    if width > MAX_HEAD_WIDTH {
        return Err(ConfigError::TooLarge { field: "head width", value: width as u64, limit: MAX_HEAD_WIDTH as u64 });
    }
    let eps = f32::from_bits(spec.norm_eps_bits);
    if !eps.is_normal() || eps < 0.0 {
        return Err(ConfigError::NormEps { bits: spec.norm_eps_bits });
    }
    Ok(())
}
