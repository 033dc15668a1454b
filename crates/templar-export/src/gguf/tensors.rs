//! The tensors of a model under llama.cpp's names, in its order of rows.

use std::borrow::Cow;
use std::io::{self, Write};

use half::f16;
use templar_manifest::{ModelSpec, RopeScaling, TensorSpec};

use super::error::GgufError;
use super::values::put_text;

/// The type of the matrices in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MatrixType {
    /// Every bit of the parameters.
    #[default]
    F32,
    /// The nearest half.
    F16,
}

impl MatrixType {
    /// The number of the type in the list of tensors.
    fn number(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
        }
    }

    /// What most of the file is, by its number.
    pub(super) fn file_type(self) -> u32 {
        self.number()
    }

    fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// A tensor as it is written.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    name: String,
    /// The outermost dimension first.
    shape: Vec<u64>,
    of: MatrixType,
    values: Cow<'a, [f32]>,
}

impl Entry<'_> {
    pub(super) fn bytes(&self) -> u64 {
        self.values.len() as u64 * self.of.bytes()
    }

    /// Its line in the list of tensors.
    pub(super) fn describe(&self, offset: u64, head: &mut Vec<u8>) {
        put_text(head, &self.name);
        head.extend((self.shape.len() as u32).to_le_bytes());
        self.shape.iter().rev().for_each(|size| head.extend(size.to_le_bytes()));
        head.extend(self.of.number().to_le_bytes());
        head.extend(offset.to_le_bytes());
    }

    pub(super) fn write(&self, file: &mut impl Write) -> io::Result<()> {
        for piece in self.values.chunks(1 << 16) {
            let bytes: Vec<u8> = match self.of {
                MatrixType::F32 => piece.iter().flat_map(|value| value.to_le_bytes()).collect(),
                MatrixType::F16 => piece.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
            };
            file.write_all(&bytes)?;
        }
        Ok(())
    }
}

/// All tensors of a model.
///
/// # Errors
/// The parameters are not the model's, or a weight is too large for the type.
pub(super) fn entries<'a>(
    spec: &ModelSpec,
    params: &'a [f32],
    matrices: MatrixType,
) -> Result<Vec<Entry<'a>>, GgufError> {
    let tensors = templar_model::tensors(spec)?;
    let expected = tensors.iter().map(TensorSpec::elements).sum();
    if params.len() != expected {
        return Err(GgufError::Length { expected, found: params.len() });
    }
    let mut entries: Vec<Entry<'a>> = divisors(spec).into_iter().collect();
    let mut rest = params;
    for tensor in &tensors {
        let (own, others) = rest.split_at(tensor.elements());
        rest = others;
        let of = if tensor.shape.len() == 1 { MatrixType::F32 } else { matrices };
        if of == MatrixType::F16 && !own.iter().all(|value| f16::from_f32(*value).is_finite()) {
            return Err(GgufError::TooLarge { tensor: tensor.name.clone() });
        }
        let values = match turned_heads(spec, &tensor.name) {
            Some(heads) => Cow::Owned(neighbours(own, heads, spec.head_width() as usize, spec.hidden_size as usize)),
            None => Cow::Borrowed(own),
        };
        entries.push(Entry { name: name(&tensor.name), shape: tensor.shape.to_vec(), of, values });
    }
    Ok(entries)
}

/// The name of a tensor in llama.cpp.
fn name(hugging_face: &str) -> String {
    let own = hugging_face.trim_end_matches(".weight");
    let own = match own.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) {
        None => match own {
            "model.embed_tokens" => "token_embd".to_owned(),
            "model.norm" => "output_norm".to_owned(),
            _ => "output".to_owned(),
        },
        Some((layer, part)) => {
            let part = match part {
                "self_attn.q_proj" => "attn_q",
                "self_attn.k_proj" => "attn_k",
                "self_attn.v_proj" => "attn_v",
                "self_attn.o_proj" => "attn_output",
                "mlp.gate_proj" => "ffn_gate",
                "mlp.up_proj" => "ffn_up",
                "mlp.down_proj" => "ffn_down",
                "input_layernorm" => "attn_norm",
                _ => "ffn_norm",
            };
            format!("blk.{layer}.{part}")
        }
    };
    format!("{own}.weight")
}

/// How many heads a projection gives that the rotary embedding turns.
fn turned_heads(spec: &ModelSpec, name: &str) -> Option<usize> {
    if name.ends_with("self_attn.q_proj.weight") {
        Some(spec.heads as usize)
    } else if name.ends_with("self_attn.k_proj.weight") {
        Some(spec.kv_heads as usize)
    } else {
        None
    }
}

/// The rows of each head `[heads · width, inputs]` in another order: row i of the first half and row i of the second
/// become neighbours.
fn neighbours(weight: &[f32], heads: usize, width: usize, inputs: usize) -> Vec<f32> {
    let mut turned = Vec::with_capacity(weight.len());
    for head in weight.chunks_exact(width * inputs).take(heads) {
        let (low, high) = head.split_at(width / 2 * inputs);
        for (low, high) in low.chunks_exact(inputs).zip(high.chunks_exact(inputs)) {
            turned.extend_from_slice(low);
            turned.extend_from_slice(high);
        }
    }
    turned
}

/// What llama.cpp divides each frequency by, for the scaling of Llama 3, `[width / 2]`.
fn divisors(spec: &ModelSpec) -> Option<Entry<'static>> {
    let Some(RopeScaling::Llama3 { factor_ppm, low_freq_factor_ppm, high_freq_factor_ppm, original_positions }) =
        spec.rope_scaling
    else {
        return None;
    };
    let [factor, low, high] = [factor_ppm, low_freq_factor_ppm, high_freq_factor_ppm].map(|ppm| f64::from(ppm) / 1e6);
    let (original, width) = (f64::from(original_positions), spec.head_width());
    let theta = f64::from(spec.rope_theta);
    let divisor = |index: u32| {
        let wavelength = std::f64::consts::TAU * libm::pow(theta, f64::from(2 * index) / f64::from(width));
        if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    let values: Vec<f32> = (0..width / 2).map(|index| divisor(index) as f32).collect();
    let shape = vec![u64::from(width / 2)];
    Some(Entry { name: "rope_freqs.weight".to_owned(), shape, of: MatrixType::F32, values: Cow::Owned(values) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_a_head_become_neighbours() {
        // Two heads of four rows of one input.
        let weight = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        assert_eq!(neighbours(&weight, 2, 4, 1), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        assert_eq!(neighbours(&weight, 1, 4, 2), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
    }
}
