//! `config.json` of a `LlamaForCausalLM`: written with every key that loaders look for, read with Hugging
//! Face's defaults.
//!
//! Where a key could change the arithmetic to something that this crate does not compute, reading refuses it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use templar_manifest::{ModelSpec, RopeScaling};

use super::error::ImportError;

/// The only architecture there is here.
const ARCHITECTURE: &str = "LlamaForCausalLM";

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
    pub(super) fn new(spec: &ModelSpec, bos_token_id: Option<u32>, eos_token_id: Option<u32>) -> Self {
        Self {
            architectures: [ARCHITECTURE],
            model_type: "llama",
            vocab_size: spec.vocab_size,
            hidden_size: spec.hidden_size,
            intermediate_size: spec.ffn_size,
            num_hidden_layers: spec.layers,
            num_attention_heads: spec.heads,
            num_key_value_heads: spec.kv_heads,
            head_dim: spec.hidden_size / spec.heads,
            max_position_embeddings: spec.sequence_length,
            hidden_act: "silu",
            rms_norm_eps: decimal(f32::from_bits(spec.norm_eps_bits)),
            rope_theta: spec.rope_theta.into(),
            rope_scaling: written_scaling(spec.rope_scaling),
            attention_bias: false,
            attention_dropout: 0.0,
            mlp_bias: false,
            initializer_range: 0.02,
            tie_word_embeddings: spec.tied_embeddings,
            bos_token_id,
            eos_token_id,
            torch_dtype: "float32",
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

/// The scaling that `value` of key `what` describes, or what of it is not supported.
fn read_scaling(what: &'static str, value: &Value) -> Result<Option<RopeScaling>, ImportError> {
    let refused = || ImportError::Unsupported { what, found: shortened(value) };
    let millionths = |key: &str| {
        let number = value.get(key).and_then(Value::as_f64).ok_or_else(refused)?;
        // `as` saturates, and what was rounded or cut is then not equal.
        let ppm = (number * 1e6).round() as u32;
        if f64::from(ppm) / 1e6 == number { Ok(ppm) } else { Err(refused()) }
    };
    let kind = value.get("rope_type").or_else(|| value.get("type"));
    match kind.map(|kind| kind.as_str().unwrap_or_default()) {
        Some("default") => Ok(None),
        // Newer writers keep the base here too, with or without a scaling.
        None if what == "rope_parameters" => Ok(None),
        Some("linear") => Ok(Some(RopeScaling::Linear { factor_ppm: millionths("factor")? })),
        Some("llama3") => {
            let original = value.get("original_max_position_embeddings").and_then(Value::as_u64);
            Ok(Some(RopeScaling::Llama3 {
                factor_ppm: millionths("factor")?,
                low_freq_factor_ppm: millionths("low_freq_factor")?,
                high_freq_factor_ppm: millionths("high_freq_factor")?,
                original_positions: original.and_then(|original| original.try_into().ok()).ok_or_else(refused)?,
            }))
        }
        _ => Err(refused()),
    }
}

/// The `config.json` that an import reads. Keys that are not named here do not change the computation of a Llama.
#[derive(Debug, Deserialize)]
pub(super) struct ReadConfig {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    vocab_size: u32,
    hidden_size: u32,
    intermediate_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    num_key_value_heads: Option<u32>,
    head_dim: Option<u32>,
    #[serde(default = "default_positions")]
    max_position_embeddings: u32,
    hidden_act: Option<String>,
    #[serde(default = "default_norm_eps")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    tie_word_embeddings: Option<bool>,
    quantization_config: Option<Value>,
}

fn default_positions() -> u32 {
    2048
}

fn default_norm_eps() -> f64 {
    1e-6
}

impl ReadConfig {
    /// The specification, or what is not supported. Its sizes are checked by the caller, as any specification's.
    pub(super) fn spec(&self) -> Result<ModelSpec, ImportError> {
        let unsupported = |what: &'static str, found: String| Err(ImportError::Unsupported { what, found });
        match &self.architectures {
            Some(names) if names.iter().any(|name| name == ARCHITECTURE) => {}
            Some(names) => return unsupported("architectures", names.join(", ")),
            None if self.model_type.as_deref() == Some("llama") => {}
            None => return unsupported("architectures", "none".into()),
        }
        if let Some(kind) = self.model_type.as_deref().filter(|&kind| kind != "llama") {
            return unsupported("model_type", kind.into());
        }
        if let Some(activation) = self.hidden_act.as_deref().filter(|&name| name != "silu") {
            return unsupported("hidden_act", activation.into());
        }
        for (what, bias) in [("attention_bias", self.attention_bias), ("mlp_bias", self.mlp_bias)] {
            if bias == Some(true) {
                return unsupported(what, "true".into());
            }
        }
        if let Some(quantization) = self.quantization_config.as_ref().filter(|value| !value.is_null()) {
            return unsupported("quantization_config", shortened(quantization));
        }
        if let Some(width) = self.head_dim
            && u64::from(width) * u64::from(self.num_attention_heads) != u64::from(self.hidden_size)
        {
            return unsupported("head_dim", width.to_string());
        }
        Ok(ModelSpec {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            ffn_size: self.intermediate_size,
            rope_theta: self.rope_base()?,
            rope_scaling: self.scaling()?,
            norm_eps_bits: (self.rms_norm_eps as f32).to_bits(),
            tied_embeddings: self.tie_word_embeddings.unwrap_or(false),
            sequence_length: self.max_position_embeddings,
        })
    }

    /// The scaling of the rotary frequencies, under its older key or inside `rope_parameters` as newer writers have it.
    fn scaling(&self) -> Result<Option<RopeScaling>, ImportError> {
        let read = |what, value: &Option<Value>| match value.as_ref().filter(|value| !value.is_null()) {
            Some(value) => read_scaling(what, value).map(Some),
            None => Ok(None),
        };
        match (read("rope_scaling", &self.rope_scaling)?, read("rope_parameters", &self.rope_parameters)?) {
            (Some(older), Some(newer)) if older != newer => {
                Err(ImportError::Unsupported { what: "rope_scaling", found: "another than in rope_parameters".into() })
            }
            (Some(scaling), _) | (None, Some(scaling)) => Ok(scaling),
            (None, None) => Ok(None),
        }
    }

    /// The rotary base: a top-level key, or inside `rope_parameters`.
    fn rope_base(&self) -> Result<u32, ImportError> {
        let newer = self.rope_parameters.as_ref().and_then(|value| value.get("rope_theta")).and_then(Value::as_f64);
        let theta = newer.or(self.rope_theta).unwrap_or(10_000.0);
        if theta.fract() != 0.0 || !(1.0..=f64::from(u32::MAX)).contains(&theta) {
            return Err(ImportError::Unsupported { what: "rope_theta", found: theta.to_string() });
        }
        Ok(theta as u32)
    }
}

/// A value for an error message.
fn shortened(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
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
