//! The weights of a folder as they lie in its files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;
use templar_data::words;

use super::error::PatchError;
use super::head::{Elements, PatchedTensor};

/// Weights in one file.
const WEIGHTS: &str = "model.safetensors";
/// The list of files, where there are several.
const INDEX: &str = "model.safetensors.index.json";
/// The longest header or list, in bytes.
const MAX_HEADER: u64 = 16 << 20;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// A file of weights, checked and open.
pub(super) struct OpenWeights {
    pub(super) name: String,
    path: PathBuf,
    file: File,
    /// Everything before the tensors.
    pub(super) head: Vec<u8>,
    /// The tensors in the order of their bytes, by their numbers in the patch.
    pub(super) tensors: Vec<(usize, TensorInfo)>,
}

/// Opens all files of a folder's weights, which hold exactly these tensors.
pub(super) fn open(dir: &Path, elements: Elements, tensors: &[PatchedTensor]) -> Result<Vec<OpenWeights>, PatchError> {
    let wrong = |what: String| PatchError::Folder { path: dir.to_owned(), what };
    let names: BTreeSet<String> = if dir.join(WEIGHTS).exists() {
        BTreeSet::from([WEIGHTS.to_owned()])
    } else {
        let path = dir.join(INDEX);
        let failed = PatchError::io(&path);
        let mut text = Vec::new();
        File::open(&path).and_then(|file| file.take(MAX_HEADER).read_to_end(&mut text)).map_err(failed)?;
        let index: Index =
            serde_json::from_slice(&text).map_err(|error| wrong(format!("{INDEX}: {}", words::json(&error))))?;
        index.weight_map.into_values().collect()
    };
    let mut known: BTreeMap<&str, usize> =
        (0..).zip(tensors).map(|(number, tensor)| (&tensor.name[..], number)).collect();
    let mut files = Vec::new();
    for name in names {
        let mut components = Path::new(&name).components();
        if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
            return Err(wrong(format!("{INDEX} names {name:?}")));
        }
        let mut file = OpenWeights::open(dir, name)?;
        let metadata = file.metadata()?;
        for name in metadata.offset_keys() {
            let info = metadata.info(&name).ok_or_else(|| file.wrong(format!("no place of {name}")))?;
            let Some(number) = known.remove(&name[..]) else {
                return Err(file.wrong(format!("the patch knows no tensor {name:?}, or it is there twice")));
            };
            let dtype = match elements {
                Elements::F32 => Dtype::F32,
                Elements::Bf16 => Dtype::BF16,
            };
            if info.dtype != dtype {
                return Err(file.wrong(format!("{name} is {:?}, and the patch is for {elements:?}", info.dtype)));
            }
            if !info.shape.iter().map(|&size| size as u64).eq(tensors[number].shape.iter().copied()) {
                return Err(file.wrong(format!("{name} has the shape {:?}", info.shape)));
            }
            file.tensors.push((number, info.clone()));
        }
        files.push(file);
    }
    match known.into_keys().next() {
        Some(name) => Err(wrong(format!("the tensor {name} is missing"))),
        None => Ok(files),
    }
}

impl OpenWeights {
    fn open(dir: &Path, name: String) -> Result<Self, PatchError> {
        let path = dir.join(&name);
        let file = File::open(&path).map_err(PatchError::io(&path))?;
        Ok(Self { name, path, file, head: Vec::new(), tensors: Vec::new() })
    }

    fn wrong(&self, what: String) -> PatchError {
        PatchError::Folder { path: self.path.clone(), what }
    }

    /// Reads the header; the file is as long as it says.
    fn metadata(&mut self) -> Result<Metadata, PatchError> {
        let failed = PatchError::io;
        let found = self.file.metadata().map_err(failed(&self.path))?.len();
        let mut length = [0; 8];
        if found < 8 {
            return Err(self.wrong(format!("it has {found} bytes")));
        }
        self.file.read_exact(&mut length).map_err(failed(&self.path))?;
        let header = u64::from_le_bytes(length);
        if header > MAX_HEADER || 8 + header > found {
            return Err(self.wrong(format!("its header says {header} bytes, and it has {found}")));
        }
        self.head = vec![0; 8 + header as usize];
        self.head[..8].copy_from_slice(&length);
        self.file.read_exact(&mut self.head[8..]).map_err(failed(&self.path))?;
        // The library checks that the tensors lie one after the other, each as long as its shape says.
        let metadata: Metadata =
            serde_json::from_slice(&self.head[8..]).map_err(|error| self.wrong(words::json(&error)))?;
        let expected = (8 + header).checked_add(metadata.data_len() as u64);
        if expected != Some(found) {
            return Err(self.wrong(format!("it has {found} bytes, and its header says {expected:?}")));
        }
        Ok(metadata)
    }

    /// The bytes of one of its tensors.
    pub(super) fn read(&mut self, info: &TensorInfo) -> Result<Vec<u8>, PatchError> {
        let failed = PatchError::io;
        let (start, end) = info.data_offsets;
        self.file.seek(SeekFrom::Start((self.head.len() + start) as u64)).map_err(failed(&self.path))?;
        let mut bytes = vec![0; end - start];
        self.file.read_exact(&mut bytes).map_err(failed(&self.path))?;
        Ok(bytes)
    }
}
