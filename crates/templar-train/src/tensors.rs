//! Flat vectors as blobs, tensor by tensor, and back.

use std::ops::Range;

use rayon::prelude::*;
use templar_blob::{BlobSource, ReadError};
use templar_manifest::{BlobId, Checkpoint, Hash, RunId, TensorBlob, TensorSpec, WindowIndex};

/// Why a checkpoint or state cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It lists other tensors than the model has.
    #[error("tensor {index} is {found}, the model has {expected} there")]
    Tensors {
        /// The place in the list.
        index: usize,
        /// The model's tensor at that place.
        expected: String,
        /// The listed tensor at that place.
        found: String,
    },
    /// A tensor's blob has another length than its shape gives.
    #[error("tensor {name} has {found} bytes, its shape gives {expected}")]
    Length {
        /// The name of the tensor.
        name: String,
        /// Bytes that its shape gives.
        expected: u64,
        /// Bytes that the blob has.
        found: u64,
    },
    /// A tensor's blob cannot be read.
    #[error("tensor {name} cannot be read")]
    Read {
        /// The name of the tensor.
        name: String,
        /// The blob of the tensor.
        blob: BlobId,
        /// The error of the source.
        #[source]
        source: ReadError,
    },
}

/// Where each tensor lies in the flat vector.
pub fn ranges(specs: &[TensorSpec]) -> Vec<Range<usize>> {
    let mut start = 0;
    specs
        .iter()
        .map(|spec| {
            let range = start..start + spec.elements();
            start = range.end;
            range
        })
        .collect()
}

/// Gives the little-endian bytes of f32 values to `each`, in pieces and in order, without a copy where memory
/// holds them so.
fn each_bytes(parts: &[&[f32]], mut each: impl FnMut(&[u8])) {
    const PIECE: usize = 16 << 10;
    for part in parts {
        if cfg!(target_endian = "little") {
            each(bytemuck::cast_slice(part));
            continue;
        }
        for piece in part.chunks(PIECE) {
            let bytes: Vec<u8> = piece.iter().flat_map(|value| value.to_le_bytes()).collect();
            each(&bytes);
        }
    }
}

/// Little-endian bytes of f32 values.
pub fn to_bytes(parts: &[&[f32]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() * 4).sum());
    each_bytes(parts, |piece| bytes.extend_from_slice(piece));
    bytes
}

/// Appends the little-endian bytes of f32 values.
pub(crate) fn append_bytes(bytes: &mut Vec<u8>, values: &[f32]) {
    each_bytes(&[values], |piece| bytes.extend_from_slice(piece));
}

/// Hashes the bytes that [`to_bytes`] would make, without making them.
pub fn hash_of(parts: &[&[f32]]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    each_bytes(parts, |piece| {
        hasher.update(piece);
    });
    hasher.finalize().into()
}

/// For each tensor the hash of its part of every one of `vectors`, in their order: a leaf of the trace. The
/// threads of the current pool share the tensors.
pub fn hashes(ranges: &[Range<usize>], vectors: [&[f32]; 3]) -> Vec<Hash> {
    ranges.par_iter().map(|range| hash_of(&vectors.map(|vector| &vector[range.clone()]))).collect()
}

/// Appends the f32 values of little-endian bytes, whose length is a multiple of 4.
pub fn extend_from_bytes(values: &mut Vec<f32>, bytes: &[u8]) {
    values.extend(bytes.chunks_exact(4).map(|chunk| f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]])));
}

/// The checkpoint that `parameters` are, giving each tensor's bytes to `put`.
pub fn checkpoint<E>(
    run: RunId,
    window: WindowIndex,
    specs: &[TensorSpec],
    parameters: &[f32],
    mut put: impl FnMut(Vec<u8>) -> Result<(), E>,
) -> Result<Checkpoint, E> {
    let mut tensors = Vec::with_capacity(specs.len());
    for (spec, range) in specs.iter().zip(ranges(specs)) {
        let bytes = to_bytes(&[&parameters[range]]);
        tensors.push(TensorBlob { spec: spec.clone(), blob: BlobId::of(&bytes) });
        put(bytes)?;
    }
    Ok(Checkpoint { run, window, tensors })
}

/// The checkpoint that `parameters` are, with nothing kept.
pub fn checkpoint_of(run: RunId, window: WindowIndex, specs: &[TensorSpec], parameters: &[f32]) -> Checkpoint {
    let listed = |(spec, range): (&TensorSpec, Range<usize>)| TensorBlob {
        spec: spec.clone(),
        blob: hash_of(&[&parameters[range]]).into(),
    };
    Checkpoint { run, window, tensors: specs.iter().zip(ranges(specs)).map(listed).collect() }
}

/// Whether listed tensors are the model's.
///
/// # Errors
/// [`LoadError::Tensors`] with the first that is not.
pub fn check_tensors(specs: &[TensorSpec], listed: &[TensorBlob]) -> Result<(), LoadError> {
    for index in 0..specs.len().max(listed.len()) {
        let expected = specs.get(index);
        let found = listed.get(index).map(|tensor| &tensor.spec);
        if expected != found {
            let name = |spec: Option<&TensorSpec>| {
                spec.map_or_else(|| "nothing".to_owned(), |spec| format!("{} {:?}", spec.name, spec.shape))
            };
            return Err(LoadError::Tensors { index, expected: name(expected), found: name(found) });
        }
    }
    Ok(())
}

/// Reads the blob of each listed tensor, which must be the model's, and gives its bytes to `each`. `vectors` is
/// how many runs of elements a blob holds.
pub(crate) fn read_tensors(
    specs: &[TensorSpec],
    listed: &[TensorBlob],
    vectors: u64,
    source: &dyn BlobSource,
    mut each: impl FnMut(&TensorSpec, &[u8]),
) -> Result<(), LoadError> {
    check_tensors(specs, listed)?;
    for (spec, tensor) in specs.iter().zip(listed) {
        let expected = spec.elements() as u64 * 4 * vectors;
        let bytes = source.read(&tensor.blob.hash(), expected).map_err(|source| LoadError::Read {
            name: spec.name.clone(),
            blob: tensor.blob,
            source,
        })?;
        if bytes.len() as u64 != expected {
            return Err(LoadError::Length { name: spec.name.clone(), expected, found: bytes.len() as u64 });
        }
        each(spec, &bytes);
    }
    Ok(())
}

/// The flat parameter vector of a checkpoint.
pub fn read_parameters(
    specs: &[TensorSpec],
    checkpoint: &Checkpoint,
    source: &dyn BlobSource,
) -> Result<Vec<f32>, LoadError> {
    read_listed(specs, &checkpoint.tensors, source)
}

/// The flat parameter vector of listed tensors, which must be the model's.
pub(crate) fn read_listed(
    specs: &[TensorSpec],
    listed: &[TensorBlob],
    source: &dyn BlobSource,
) -> Result<Vec<f32>, LoadError> {
    let mut parameters = Vec::with_capacity(specs.iter().map(TensorSpec::elements).sum());
    read_tensors(specs, listed, 1, source, |_, bytes| extend_from_bytes(&mut parameters, bytes))?;
    Ok(parameters)
}
