//! The tensors of a folder: in one file, or in the several that an index names.
//!
//! Everything is settled before a tensor is read: the index is bounded and names plain files, each header is
//! bounded and lists the tensors that are to be in its file, in shapes and dtypes that are taken, and each file is
//! exactly as long as its header says. A tensor is read from its place, a piece at a time; no file
//! is mapped or read whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata};
use serde::Deserialize;
use templar_manifest::TensorSpec;

use super::error::ImportError;
use super::json::read_json;
use super::lfs::{LFS_POINTER_LENGTH, is_lfs_pointer};
use super::{INDEX, WEIGHTS};

/// Longest header of a weights file; 72B's has 70 KB.
const MAX_HEADER: u64 = 16 << 20;
/// Longest index; 72B's has 60 KB.
const MAX_INDEX: u64 = 16 << 20;
/// Floats read at a time.
const PIECE: usize = 1 << 16;

/// One weights file whose header was checked.
struct WeightsFile {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    /// Where the tensors' bytes start.
    body: u64,
}

/// The tensors that a folder is to have.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    /// Tensors that must be there.
    pub(super) tensors: &'a [TensorSpec],
    /// A tensor that may be there, because it says the same as another one.
    pub(super) copy: Option<&'a TensorSpec>,
}

/// The weights of a folder, checked and open.
pub(super) struct Weights {
    files: Vec<WeightsFile>,
    /// Of each tensor, which file has it.
    places: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Tables of the rotary embedding, which old checkpoints hold. They follow from the config, and transformers does
/// not read them either.
fn is_derived(name: &str) -> bool {
    [".rotary_emb.inv_freq", ".rotary_emb.cos_cached", ".rotary_emb.sin_cached"].iter().any(|end| name.ends_with(end))
}

impl Weights {
    /// Opens and checks the weights of a model.
    pub(super) fn open(dir: &Path, expected: &Expected<'_>) -> Result<Self, ImportError> {
        let all = || expected.tensors.iter().chain(expected.copy);
        let mut by_file: BTreeMap<String, Vec<&TensorSpec>> = BTreeMap::new();
        if dir.join(WEIGHTS).exists() {
            by_file.insert(WEIGHTS.to_owned(), all().collect());
        } else if dir.join(INDEX).exists() {
            let index: Index = read_json(&dir.join(INDEX), INDEX, MAX_INDEX)?;
            let mut names = index.weight_map;
            for tensor in all() {
                match names.remove(&tensor.name) {
                    Some(file) => by_file.entry(file).or_default().push(tensor),
                    None if expected.copy == Some(tensor) => {}
                    None => return Err(ImportError::Missing { name: tensor.name.clone() }),
                }
            }
            if let Some(name) = names.into_keys().find(|name| !is_derived(name)) {
                return Err(ImportError::Extra { name });
            }
        } else {
            return Err(absent(dir));
        }
        let (mut files, mut places) = (Vec::new(), BTreeMap::new());
        for (name, tensors) in by_file {
            let mut components = Path::new(&name).components();
            if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
                return Err(ImportError::FileName { name });
            }
            let file = WeightsFile::open(dir.join(name))?;
            for tensor in file.check(&tensors, expected.copy)? {
                places.insert(tensor, files.len());
            }
            files.push(file);
        }
        Ok(Self { files, places })
    }

    /// Whether the folder has this tensor.
    pub(super) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Reads a tensor of the model into `elements`, widening bf16 and f16 exactly.
    pub(super) fn read(&mut self, name: &str, elements: &mut [f32]) -> Result<(), ImportError> {
        self.visit(name, elements.len(), |index, element| elements[index] = element)
    }

    /// The first element of a tensor whose bits are not those of `elements`.
    pub(super) fn first_difference(&mut self, name: &str, elements: &[f32]) -> Result<Option<usize>, ImportError> {
        let mut found = None;
        self.visit(name, elements.len(), |index, element| {
            if found.is_none() && element.to_bits() != elements[index].to_bits() {
                found = Some(index);
            }
        })?;
        Ok(found)
    }

    /// Calls `visit` with each of the `count` elements of a tensor and its place.
    fn visit(&mut self, name: &str, count: usize, visit: impl FnMut(usize, f32)) -> Result<(), ImportError> {
        let missing = || ImportError::Missing { name: name.to_owned() };
        let file = &mut self.files[*self.places.get(name).ok_or_else(missing)?];
        let info = file.metadata.info(name).ok_or_else(missing)?;
        let start = file.body + info.data_offsets.0 as u64;
        let io = |source| ImportError::Io { path: file.path.clone(), source };
        file.file.seek(SeekFrom::Start(start)).map_err(io)?;
        match info.dtype {
            Dtype::F32 => visit_elements(&mut file.file, count, f32::from_le_bytes, visit),
            Dtype::F16 => visit_elements(&mut file.file, count, |bytes| from_f16(u16::from_le_bytes(bytes)), visit),
            Dtype::BF16 => visit_elements(&mut file.file, count, |bytes| from_bf16(u16::from_le_bytes(bytes)), visit),
            other => return Err(ImportError::Dtype { name: name.to_owned(), found: format!("{other:?}") }),
        }
        .map_err(io)
    }
}

/// The error for a folder without weights: it names a file with weights of another format, if there is one.
fn absent(dir: &Path) -> ImportError {
    let other = |name: &str| {
        let end = Path::new(name).extension().and_then(|end| end.to_str()).unwrap_or_default();
        name != WEIGHTS && matches!(end, "bin" | "pt" | "pth" | "gguf" | "safetensors" | "h5" | "msgpack")
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.filter(|entry| entry.file_name().to_str().is_some_and(other)).map(|entry| entry.path()).collect();
    found.sort();
    match found.into_iter().next() {
        Some(path) => ImportError::OtherFormat { path },
        None => ImportError::Io { path: dir.join(WEIGHTS), source: io::ErrorKind::NotFound.into() },
    }
}

impl WeightsFile {
    /// Reads the header; the file's length is as it says.
    fn open(path: PathBuf) -> Result<Self, ImportError> {
        let io = |source| ImportError::Io { path: path.clone(), source };
        let mut file = File::open(&path).map_err(io)?;
        let found = file.metadata().map_err(io)?.len();
        let truncated = |expected| ImportError::Truncated { path: path.clone(), expected, found };
        if found < LFS_POINTER_LENGTH && is_lfs_pointer(&path).map_err(io)? {
            return Err(ImportError::LfsPointer { path });
        }
        if found < 8 {
            return Err(truncated(8));
        }
        let mut prefix = [0u8; 8];
        file.read_exact(&mut prefix).map_err(io)?;
        let header_length = u64::from_le_bytes(prefix);
        if header_length > MAX_HEADER {
            let what = "the header of the weights";
            return Err(ImportError::TooLarge { what, found: header_length, limit: MAX_HEADER });
        }
        let body = 8 + header_length;
        if body > found {
            return Err(truncated(body));
        }
        let mut header = vec![0u8; header_length as usize];
        file.read_exact(&mut header).map_err(io)?;
        let malformed = |reason: String| ImportError::Header { path: path.clone(), reason };
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| malformed(error.to_string()))?;
        let expected = body
            .checked_add(metadata.data_len() as u64)
            .ok_or_else(|| malformed("its tensors end beyond any file".into()))?;
        if expected != found {
            return Err(truncated(expected));
        }
        Ok(Self { path, file, metadata, body })
    }

    /// Checks that the header lists these tensors and nothing else but derived ones, in their shapes, in a dtype
    /// whose every value is an f32. `copy` may be absent. Returns the names of those that are there.
    fn check(&self, tensors: &[&TensorSpec], copy: Option<&TensorSpec>) -> Result<Vec<String>, ImportError> {
        let mut present = Vec::new();
        for tensor in tensors {
            let name = tensor.name.clone();
            let Some(info) = self.metadata.info(&name) else {
                if copy == Some(*tensor) {
                    continue;
                }
                return Err(ImportError::Missing { name });
            };
            if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                return Err(ImportError::Dtype { name, found: format!("{:?}", info.dtype) });
            }
            let expected: Vec<usize> = tensor.shape.iter().map(|&size| size as usize).collect();
            if info.shape != expected {
                return Err(ImportError::Shape { name, expected, found: info.shape.clone() });
            }
            present.push(name);
        }
        let known: BTreeSet<&str> = present.iter().map(String::as_str).collect();
        let is_extra = |name: &String| !known.contains(name.as_str()) && !is_derived(name);
        match self.metadata.offset_keys().into_iter().find(is_extra) {
            Some(name) => Err(ImportError::Extra { name }),
            None => Ok(present),
        }
    }
}

fn visit_elements<const N: usize>(
    file: &mut File,
    count: usize,
    widen: impl Fn([u8; N]) -> f32,
    mut visit: impl FnMut(usize, f32),
) -> io::Result<()> {
    let mut bytes = vec![0u8; PIECE.min(count) * N];
    for start in (0..count).step_by(PIECE) {
        let bytes = &mut bytes[..PIECE.min(count - start) * N];
        file.read_exact(bytes)?;
        for (offset, bytes) in bytes.as_chunks().0.iter().enumerate() {
            visit(start + offset, widen(*bytes));
        }
    }
    Ok(())
}

fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Every f16 is an f32.
fn from_f16(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(bits >> 15) << 31, (bits >> 10) & 0x1f, bits & 0x3ff);
    let magnitude = match exponent {
        // A subnormal is a count of 2^-24.
        0 => (f32::from(fraction) / 16_777_216.0).to_bits(),
        0x1f => 0x7f80_0000 | u32::from(fraction) << 13,
        _ => (u32::from(exponent) + 112) << 23 | u32::from(fraction) << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the definition of the format, `±2^(e − 15) · (1 + f/1024)`.
    #[test]
    fn every_f16_and_bf16_is_widened_to_its_value() {
        for bits in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from((bits >> 10) & 0x1f), f64::from(bits & 0x3ff) / 1024.0);
            let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
            let widened = from_f16(bits);
            match exponent {
                31 => assert!(!widened.is_finite()),
                0 => assert_eq!(f64::from(widened), sign * libm::ldexp(fraction, -14)),
                _ => assert_eq!(f64::from(widened), sign * libm::ldexp(1.0 + fraction, exponent - 15)),
            }
            assert_eq!(widened.is_sign_negative(), bits >> 15 == 1);
            assert_eq!(from_bf16(bits).to_bits(), u32::from(bits) * 65_536);
        }
    }
}
