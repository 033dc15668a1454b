//! The head of a patch, and a patch that is open.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use templar_data::words;
use templar_manifest::{CheckpointId, Hash, RunId};

use super::error::PatchError;
use super::{COMPANIONS, HASH_BYTES, MAGIC, MAX_HEAD};

/// The type of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Elements {
    F32,
    Bf16,
}

impl Elements {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) run: RunId,
    pub(super) from: CheckpointId,
    pub(super) to: CheckpointId,
    pub(super) weights: Elements,
    pub(super) tensors: Vec<PatchedTensor>,
    pub(super) files: Vec<PatchedFile>,
}

/// A tensor of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PatchedTensor {
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
    pub(super) before: Hash,
    pub(super) after: Hash,
    /// The length of its part; 0 where nothing changed.
    pub(super) bytes: u64,
}

/// A file beside the weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PatchedFile {
    pub(super) name: String,
    pub(super) hash: Hash,
    pub(super) bytes: u64,
}

/// A patch whose bytes are those that were written.
pub(super) struct OpenPatch {
    pub(super) head: Head,
    path: PathBuf,
    file: BufReader<File>,
    /// Where the files begin.
    body: u64,
}

impl OpenPatch {
    /// Opens a patch, and hashes all of it.
    pub(super) fn open(path: &Path) -> Result<Self, PatchError> {
        let failed = PatchError::io;
        let mut file = BufReader::new(File::open(path).map_err(failed(path))?);
        let length = file.get_ref().metadata().map_err(failed(path))?.len();
        let no_patch = |what: String| PatchError::NoPatch { path: path.to_owned(), what };
        let damaged = |what: String| PatchError::Damaged { path: path.to_owned(), what };
        let mut start = [0; MAGIC.len() + 4];
        if length < start.len() as u64 + HASH_BYTES {
            return Err(no_patch(format!("it has {length} bytes")));
        }
        file.read_exact(&mut start).map_err(failed(path))?;
        if start[..MAGIC.len()] != *MAGIC {
            return Err(no_patch("it begins with other bytes".to_owned()));
        }
        let head_bytes = u32::from_le_bytes([start[16], start[17], start[18], start[19]]);
        let body = start.len() as u64 + u64::from(head_bytes);
        if head_bytes > MAX_HEAD {
            return Err(no_patch(format!("its head has {head_bytes} bytes, at most {MAX_HEAD} are read")));
        }
        let checked = length - HASH_BYTES;
        if body > checked {
            return Err(damaged("it is cut off in its head".to_owned()));
        }
        let mut text = vec![0; head_bytes as usize];
        file.read_exact(&mut text).map_err(failed(path))?;
        // Whether it is cut off can be said from the head alone, and in better words.
        let head: Head =
            serde_json::from_slice(&text).map_err(|error| no_patch(format!("its head: {}", words::json(&error))))?;
        head.check().map_err(no_patch)?;
        let expected = head.body_bytes().and_then(|bytes| bytes.checked_add(body)?.checked_add(HASH_BYTES));
        if expected != Some(length) {
            let expected = expected.map_or_else(|| "more bytes than a file has".to_owned(), |bytes| format!("{bytes}"));
            return Err(damaged(format!("it has {length} bytes and says {expected}")));
        }
        file.seek(SeekFrom::Start(0)).map_err(failed(path))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader((&mut file).take(checked)).map_err(failed(path))?;
        let mut stated = [0; 32];
        file.read_exact(&mut stated).map_err(failed(path))?;
        if *hasher.finalize().as_bytes() != stated {
            return Err(damaged("its bytes do not have the hash at its end".to_owned()));
        }
        Ok(Self { head, path: path.to_owned(), file, body })
    }

    /// The bytes of the file with this number.
    pub(super) fn file(&mut self, number: usize) -> Result<Vec<u8>, PatchError> {
        let before: u64 = self.head.files[..number].iter().map(|file| file.bytes).sum();
        let bytes = self.read(before, self.head.files[number].bytes)?;
        let PatchedFile { name, hash, .. } = &self.head.files[number];
        if Hash::of(&bytes) != *hash {
            return Err(self.damaged(format!("{name} does not have its hash")));
        }
        Ok(bytes)
    }

    /// The bits that differ in the tensor with this number, element by element: `bytes` bytes.
    pub(super) fn difference(&mut self, number: usize, bytes: usize) -> Result<Vec<u8>, PatchError> {
        let files: u64 = self.head.files.iter().map(|file| file.bytes).sum();
        let before: u64 = self.head.tensors[..number].iter().map(|tensor| tensor.bytes).sum();
        let part = self.read(files + before, self.head.tensors[number].bytes)?;
        let name = &self.head.tensors[number].name;
        let wrong = || self.damaged(format!("the part of {name} does not unpack to {bytes} bytes"));
        // One byte more than there may be, so that a longer one is noticed and no more is unpacked.
        let mut unpacked = Vec::with_capacity(bytes + 1);
        let decoder = zstd::stream::read::Decoder::new(&part[..]).map_err(|_| wrong())?;
        decoder.take(bytes as u64 + 1).read_to_end(&mut unpacked).map_err(|_| wrong())?;
        if unpacked.len() != bytes {
            return Err(wrong());
        }
        Ok(super::rows(&unpacked, self.head.weights.bytes()))
    }

    fn read(&mut self, offset: u64, bytes: u64) -> Result<Vec<u8>, PatchError> {
        let failed = PatchError::io;
        self.file.seek(SeekFrom::Start(self.body + offset)).map_err(failed(&self.path))?;
        // The file is as long as its head says, so this is no more than it has.
        let mut read = vec![0; bytes as usize];
        self.file.read_exact(&mut read).map_err(failed(&self.path))?;
        Ok(read)
    }

    pub(super) fn damaged(&self, what: String) -> PatchError {
        PatchError::Damaged { path: self.path.clone(), what }
    }
}

impl Head {
    fn check(&self) -> Result<(), String> {
        for (number, tensor) in self.tensors.iter().enumerate() {
            if self.tensors[..number].iter().any(|other| other.name == tensor.name) {
                return Err(format!("it names the tensor {:?} twice", tensor.name));
            }
            if (tensor.bytes == 0) != (tensor.before == tensor.after) {
                return Err(format!("the part of {:?} does not belong to its hashes", tensor.name));
            }
        }
        for (number, file) in self.files.iter().enumerate() {
            if !COMPANIONS.contains(&file.name.as_str()) {
                return Err(format!("it replaces {:?}", file.name));
            }
            if self.files[..number].iter().any(|other| other.name == file.name) {
                return Err(format!("it replaces {:?} twice", file.name));
            }
        }
        Ok(())
    }

    /// The bytes of files and parts; `None` where they are too many to count.
    fn body_bytes(&self) -> Option<u64> {
        let files = self.files.iter().map(|file| file.bytes);
        files.chain(self.tensors.iter().map(|tensor| tensor.bytes)).try_fold(0, u64::checked_add)
    }
}
