//! `config.json` as transformers 4 and 5 write it, read with their defaults.
//!
//! Where a key could change the arithmetic to something that is not computed here, reading refuses it by name.
//! The Llama architecture can be trained. Its relatives with biases, norms of queries and keys, or a sliding
//! window can only generate.

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::Value;
use templar_manifest::ModelSpec;

use super::error::ImportError;
use super::json::shortened;
use super::rope;

/// Architectures whose folders are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// The architecture that is trained.
    Llama,
    /// Llama with a sliding window, or without one, which makes it Llama's.
    Mistral,
    /// Llama with biases on queries, keys and values.
    Qwen2,
    /// Llama with a norm on each query and key.
    Qwen3,
}

/// The names in `architectures`, the `model_type`, and the family.
const FAMILIES: [(&str, &str, Family); 5] = [
    ("LlamaForCausalLM", "llama", Family::Llama),
    // As the first conversions of Llama spelled it.
    ("LLaMAForCausalLM", "llama", Family::Llama),
    ("MistralForCausalLM", "mistral", Family::Mistral),
    ("Qwen2ForCausalLM", "qwen2", Family::Qwen2),
    ("Qwen3ForCausalLM", "qwen3", Family::Qwen3),
];

/// The window of a Mistral whose config does not speak of it.
const MISTRAL_WINDOW: u32 = 4096;
/// The context of a config that does not state it.
const POSITIONS: u32 = 2048;

/// The sizes of a config. Keys that are read nowhere in this file do not change the computation.
#[derive(Debug, Deserialize)]
struct Sizes {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    vocab_size: u32,
    hidden_size: u32,
    intermediate_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    num_key_value_heads: Option<u32>,
    head_dim: Option<u32>,
    max_position_embeddings: Option<u32>,
    hidden_act: Option<String>,
    rms_norm_eps: Option<f64>,
    tie_word_embeddings: Option<bool>,
    sliding_window: Option<u32>,
    use_sliding_window: Option<bool>,
}

/// A config that was understood.
#[derive(Debug)]
pub(super) struct ReadConfig {
    pub(super) family: Family,
    /// The model. `sequence_length` is the whole context.
    pub(super) spec: ModelSpec,
    /// The number of tokens that attention looks back, where that is less than the context.
    pub(super) window: Option<u32>,
}

impl ReadConfig {
    /// Understands a config, or says what of it is not supported. Sizes are checked by the caller, as any
    /// specification's.
    pub(super) fn new(config: &Value, parse: impl Fn(serde_json::Error) -> ImportError) -> Result<Self, ImportError> {
        refuse_other_arithmetic(config)?;
        let sizes = Sizes::deserialize(config).map_err(|error| parse(named(config, error)))?;
        let family = sizes.family()?;
        if let Some(activation) = sizes.hidden_act.as_deref().filter(|&name| !matches!(name, "silu" | "swish")) {
            return unsupported("hidden_act", activation);
        }
        let positions = sizes.max_position_embeddings.unwrap_or(POSITIONS);
        Ok(Self {
            family,
            spec: ModelSpec {
                vocab_size: sizes.vocab_size,
                hidden_size: sizes.hidden_size,
                layers: sizes.num_hidden_layers,
                heads: sizes.num_attention_heads,
                head_size: sizes.head_size(family),
                kv_heads: sizes.num_key_value_heads.unwrap_or(sizes.num_attention_heads),
                ffn_size: sizes.intermediate_size,
                rope_theta: rope::base(config)?,
                rope_scaling: rope::scaling(config)?,
                norm_eps_bits: (sizes.rms_norm_eps.unwrap_or(1e-6) as f32).to_bits(),
                tied_embeddings: sizes.tie_word_embeddings.unwrap_or(false),
                sequence_length: positions,
                position_limit: None,
            },
            window: sizes.window(config, family).filter(|&window| window < positions),
        })
    }

    /// The specification, where the model can be trained.
    pub(super) fn trainable(&self) -> Result<&ModelSpec, ImportError> {
        let reason = match (self.family, self.window) {
            (Family::Qwen2, _) => "its queries, keys and values have biases".to_owned(),
            (Family::Qwen3, _) => "its queries and keys go through norms of their own".to_owned(),
            (_, Some(window)) => format!(
                "sliding_window is {window}, shorter than the context of {} (max_position_embeddings)",
                self.spec.sequence_length
            ),
            (Family::Llama | Family::Mistral, None) => return Ok(&self.spec),
        };
        Err(ImportError::GenerateOnly { architecture: self.family.architecture(), reason })
    }
}

impl Family {
    fn architecture(self) -> &'static str {
        FAMILIES.iter().find(|(.., family)| *family == self).map_or("", |(name, ..)| name)
    }
}

impl Sizes {
    fn family(&self) -> Result<Family, ImportError> {
        let known = |name: &str| FAMILIES.iter().find(|(known, ..)| *known == name);
        let (_, kind, family) = match &self.architectures {
            Some(names) => match names.iter().find_map(|name| known(name)) {
                Some(found) => *found,
                None => return unsupported("architectures", &names.join(", ")),
            },
            None => match FAMILIES.iter().find(|(_, kind, _)| self.model_type.as_deref() == Some(*kind)) {
                Some(found) => *found,
                None => return unsupported("architectures", "none"),
            },
        };
        match self.model_type.as_deref() {
            Some(other) if other != kind => unsupported("model_type", other),
            _ => Ok(family),
        }
    }

    /// The width of a head where it is not the customary one. Qwen 3 has a default of its own.
    fn head_size(&self, family: Family) -> Option<u32> {
        let stated = self.head_dim.or((family == Family::Qwen3).then_some(128))?;
        let is_customary = u64::from(stated) * u64::from(self.num_attention_heads) == u64::from(self.hidden_size);
        (!is_customary).then_some(stated)
    }

    /// The sliding window that the model's attention has.
    fn window(&self, config: &Value, family: Family) -> Option<u32> {
        match family {
            Family::Llama => None,
            Family::Mistral if config.get("sliding_window").is_none() => Some(MISTRAL_WINDOW),
            Family::Mistral => self.sliding_window,
            Family::Qwen2 | Family::Qwen3 => self.sliding_window.filter(|_| self.use_sliding_window == Some(true)),
        }
    }
}

/// The error with the key that it is about, which the parser does not name: without this key the error is another one or
/// none.
fn named(config: &Value, error: serde_json::Error) -> serde_json::Error {
    let said = error.to_string();
    let is_about = |key: &&String| {
        let mut without = config.clone();
        without.as_object_mut().map(|entries| entries.remove(*key));
        Sizes::deserialize(&without).err().is_none_or(|other| other.to_string() != said)
    };
    match config.as_object().and_then(|entries| entries.keys().find(is_about)) {
        Some(key) => {
            serde_json::Error::custom(format_args!("{key} is {}, which it cannot be", shortened(&config[key])))
        }
        None => error,
    }
}

/// Refuses keys that change the computation in every family.
fn refuse_other_arithmetic(config: &Value) -> Result<(), ImportError> {
    for key in ["attention_bias", "mlp_bias"] {
        if config[key] == true {
            return unsupported(key, "true");
        }
    }
    if !config["quantization_config"].is_null() {
        return unsupported("quantization_config", &shortened(&config["quantization_config"]));
    }
    Ok(())
}

fn unsupported<T>(what: &'static str, found: &str) -> Result<T, ImportError> {
    Err(ImportError::Unsupported { what, found: found.to_owned() })
}
