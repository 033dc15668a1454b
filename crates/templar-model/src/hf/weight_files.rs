//! The files of an export's weights: which tensors lie in which, their headers, and the index of several.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::ops::Range;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::{Value, json};

use super::WEIGHTS;
use super::error::ExportError;
use super::written::WeightType;
use crate::layout::Layout;

/// Floats that are turned to bytes at a time.
const PIECE: usize = 1 << 16;

/// All files, in the order of the tensors.
#[derive(Debug)]
pub(super) struct WeightFiles {
    pub(super) files: Vec<WeightFile>,
    weights: WeightType,
}

/// One file.
#[derive(Debug)]
pub(super) struct WeightFile {
    pub(super) name: String,
    /// Its tensors among those of the model.
    pub(super) tensors: Range<usize>,
    weights: WeightType,
}

impl WeightType {
    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

impl WeightFiles {
    /// Fills one file after another with tensors in their order.
    pub(super) fn new(layout: &Layout, weights: WeightType, max_bytes: Option<u64>) -> Self {
        let most = max_bytes.unwrap_or(u64::MAX);
        let (mut parts, mut bytes): (Vec<Range<usize>>, u64) = (Vec::new(), 0);
        for (index, range) in layout.ranges.iter().enumerate() {
            let own = (range.len() * weights.bytes()) as u64;
            match parts.last_mut() {
                Some(part) if bytes.saturating_add(own) <= most => {
                    part.end = index + 1;
                    bytes += own;
                }
                _ => {
                    parts.push(index..index + 1);
                    bytes = own;
                }
            }
        }
        let count = parts.len();
        let name = |number: usize| match count {
            1 => WEIGHTS.to_owned(),
            _ => format!("model-{number:05}-of-{count:05}.safetensors"),
        };
        let file = |(index, tensors)| WeightFile { name: name(index + 1), tensors, weights };
        Self { files: parts.into_iter().enumerate().map(file).collect(), weights }
    }

    /// Where each tensor lies, if there are several files.
    pub(super) fn index(&self, layout: &Layout) -> Option<Value> {
        let names = |file: &WeightFile| {
            let tensors = layout.tensors[file.tensors.clone()].iter();
            tensors.map(|tensor| (tensor.name.clone(), file.name.clone())).collect::<Vec<_>>()
        };
        let map: BTreeMap<String, String> = self.files.iter().flat_map(names).collect();
        let total = layout.parameters * self.weights.bytes();
        (self.files.len() > 1).then(|| json!({ "metadata": { "total_size": total }, "weight_map": map }))
    }
}

impl WeightFile {
    /// The safetensors header, padded to 8 bytes as the format asks.
    pub(super) fn header(&self, layout: &Layout) -> Result<Vec<u8>, ExportError> {
        let (tensors, ranges) = (&layout.tensors[self.tensors.clone()], &layout.ranges[self.tensors.clone()]);
        let start = ranges.first().map_or(0, |first| first.start);
        let (dtype, bytes) = match self.weights {
            WeightType::F32 => (Dtype::F32, 4),
            WeightType::Bf16 => (Dtype::BF16, 2),
        };
        let infos = tensors.iter().zip(ranges).map(|(tensor, range)| {
            let shape = tensor.shape.iter().map(|&size| size as usize).collect();
            let data_offsets = ((range.start - start) * bytes, (range.end - start) * bytes);
            (tensor.name.clone(), TensorInfo { dtype, shape, data_offsets })
        });
        let format = HashMap::from([("format".to_string(), "pt".to_string())]);
        let failed = |reason: String| ExportError::Header { reason };
        let metadata = Metadata::new(Some(format), infos.collect()).map_err(|error| failed(error.to_string()))?;
        let mut header = serde_json::to_vec(&metadata).map_err(|error| failed(error.to_string()))?;
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok(header)
    }
}

/// The nearest number that bf16 holds; of two, the one with the even last digit. A finite number beyond all of them
/// becomes infinite.
pub fn to_bf16(value: f32) -> f32 {
    f32::from_bits(u32::from(bf16(value)) << 16)
}

/// The upper half of the nearest bf16.
fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits.wrapping_add(0x7fff + (bits >> 16 & 1))) >> 16) as u16
}

/// Refuses weights that round to infinity.
pub(super) fn check_bf16(layout: &Layout, params: &[f32]) -> Result<(), ExportError> {
    let is_held = |value: &f32| to_bf16(*value).is_finite();
    for (tensor, range) in layout.tensors.iter().zip(&layout.ranges) {
        if !params[range.clone()].iter().all(is_held) {
            return Err(ExportError::TooLarge { tensor: tensor.name.clone() });
        }
    }
    Ok(())
}

/// Writes weights, little endian.
pub(super) fn write_weights(file: &mut impl Write, params: &[f32], weights: WeightType) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(4 * PIECE);
    for piece in params.chunks(PIECE) {
        bytes.clear();
        match weights {
            WeightType::F32 => bytes.extend(piece.iter().flat_map(|float| float.to_le_bytes())),
            WeightType::Bf16 => bytes.extend(piece.iter().flat_map(|float| bf16(*float).to_le_bytes())),
        }
        file.write_all(&bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_taken_and_of_two_the_even_one() {
        // 1 + 2⁻⁸ lies between 1 and 1 + 2⁻⁷; 1 + 3 · 2⁻⁸ between 1 + 2⁻⁷ and 1 + 2⁻⁶.
        let step = 1.0 / 256.0;
        for (value, expected) in [(1.0, 1.0), (1.0 + step, 1.0), (1.0 + 1.01 * step, 1.0 + 2.0 * step)] {
            assert_eq!(to_bf16(value), expected);
        }
        assert_eq!(to_bf16(-1.0 - 3.0 * step), -1.0 - 4.0 * step);
        assert_eq!(bf16(-0.0), 0x8000);
        assert!(to_bf16(f32::MAX).is_infinite());
    }
}
