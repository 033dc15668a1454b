//! Writing a patch.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use templar_manifest::{CheckpointId, Hash, RunId, TensorSpec};
use templar_model::hf::{WeightType, to_bf16};

use super::error::PatchError;
use super::head::{Elements, Head, PatchedFile, PatchedTensor};
use super::{COMPANIONS, MAGIC, columns};

/// The contents of a patch.
#[derive(Debug)]
pub struct PatchContents<'a> {
    /// The run.
    pub run: RunId,
    /// The checkpoint of the folders that are to be patched.
    pub from: CheckpointId,
    /// The checkpoint that they become.
    pub to: CheckpointId,
    /// The tensors of the model, in the order of its parameters.
    pub tensors: &'a [TensorSpec],
    /// The parameters of `from`.
    pub before: &'a [f32],
    /// The parameters of `to`.
    pub after: &'a [f32],
    /// The type of the weights in the folders.
    pub weights: WeightType,
    /// Other files of an export of `to` that are not those of `from`, by their names.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

/// Writes a patch to a file that is not there yet. It is there whole or not at all. Returns its length in bytes.
///
/// # Errors
/// See [`PatchError`].
pub fn write(path: &Path, contents: &PatchContents<'_>) -> Result<u64, PatchError> {
    if path.symlink_metadata().is_ok() {
        return Err(PatchError::Exists { path: path.to_owned() });
    }
    let (head, parts) = parts(path, contents)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.partial"));
    let written = write_to(&partial, &head, contents, &parts).and_then(|bytes| {
        fs::rename(&partial, path)?;
        Ok(bytes)
    });
    written.map_err(|error| {
        // Best effort: the error that matters is the one that brought us here.
        let _ = fs::remove_file(&partial);
        PatchError::io(path)(error)
    })
}

/// The head, and the parts of all tensors.
fn parts(path: &Path, contents: &PatchContents<'_>) -> Result<(Head, Vec<Vec<u8>>), PatchError> {
    let elements = match contents.weights {
        WeightType::F32 => Elements::F32,
        WeightType::Bf16 => Elements::Bf16,
    };
    let (mut tensors, mut parts, mut start) = (Vec::new(), Vec::new(), 0);
    for spec in contents.tensors {
        let range = start..start + spec.elements();
        start = range.end;
        let (Some(before), Some(after)) = (contents.before.get(range.clone()), contents.after.get(range)) else {
            return Err(PatchError::OtherModel);
        };
        if elements == Elements::Bf16 && after.iter().any(|value| !to_bf16(*value).is_finite()) {
            return Err(PatchError::TooLarge { tensor: spec.name.clone() });
        }
        let (before, mut after) = (stored(before, elements), stored(after, elements));
        let hashes = (Hash::of(&before), Hash::of(&after));
        let part = if hashes.0 == hashes.1 {
            Vec::new()
        } else {
            after.iter_mut().zip(&before).for_each(|(after, before)| *after ^= before);
            zstd::bulk::compress(&columns(&after, elements.bytes()), 3).map_err(PatchError::io(path))?
        };
        tensors.push(PatchedTensor {
            name: spec.name.clone(),
            shape: spec.shape.clone(),
            before: hashes.0,
            after: hashes.1,
            bytes: part.len() as u64,
        });
        parts.push(part);
    }
    if start != contents.before.len() || start != contents.after.len() {
        return Err(PatchError::OtherModel);
    }
    let file = |(name, bytes): &(&'static str, Vec<u8>)| {
        debug_assert!(COMPANIONS.contains(name), "{name}");
        PatchedFile { name: (*name).to_owned(), hash: Hash::of(bytes), bytes: bytes.len() as u64 }
    };
    let PatchContents { run, from, to, .. } = *contents;
    let files = contents.files.iter().map(file).collect();
    Ok((Head { run, from, to, weights: elements, tensors, files }, parts))
}

/// The bytes of weights in a file.
fn stored(values: &[f32], elements: Elements) -> Vec<u8> {
    match elements {
        Elements::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Elements::Bf16 => {
            values.iter().flat_map(|value| ((to_bf16(*value).to_bits() >> 16) as u16).to_le_bytes()).collect()
        }
    }
}

fn write_to(path: &Path, head: &Head, contents: &PatchContents<'_>, parts: &[Vec<u8>]) -> io::Result<u64> {
    let text = serde_json::to_vec(head)?;
    let mut file = Hashed { file: BufWriter::new(File::create(path)?), hasher: blake3::Hasher::new() };
    file.write(MAGIC)?;
    file.write(&u32::try_from(text.len()).map_err(io::Error::other)?.to_le_bytes())?;
    file.write(&text)?;
    for bytes in contents.files.iter().map(|(_, bytes)| bytes).chain(parts) {
        file.write(bytes)?;
    }
    let Hashed { mut file, hasher } = file;
    file.write_all(hasher.finalize().as_bytes())?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// A file that is hashed while it is written.
struct Hashed {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
}

impl Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }
}
