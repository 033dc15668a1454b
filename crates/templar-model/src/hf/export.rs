//! Writing a folder that `from_pretrained` opens.
//!
//! Every file is written beside its place; when all are complete and on disk they are renamed, `config.json`
//! last: a folder with a config is a whole folder, and a failure leaves no file at all. Nothing that is there
//! is overwritten. The tensors' bytes are the parameter vector, little endian, in its own order; the header has
//! one metadata key, since the format's writers order several at random.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Serialize;
use serde_json::{Value, json};
use templar_manifest::ModelSpec;

use super::written::{SpecialIds, WrittenConfig};
use super::{CONFIG, WEIGHTS};
use crate::layout::{ConfigError, Layout};

/// Floats that are turned to bytes at a time.
const PIECE: usize = 1 << 16;

/// Why a folder could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The model's specification is refused.
    #[error("the model's specification is refused")]
    Config(#[from] ConfigError),
    /// A token around a text has no row in the embedding.
    #[error("token {token} is outside the model's vocabulary of {vocab_size}")]
    Token {
        /// The token.
        token: u32,
        /// Rows of the embedding.
        vocab_size: u32,
    },
    /// The parameter vector is not the model's.
    #[error("{found} parameters, the model has {expected}")]
    Length {
        /// Parameters of the model.
        expected: usize,
        /// Parameters that were passed.
        found: usize,
    },
    /// The folder already holds one of the files.
    #[error("{} is already there", path.display())]
    Exists {
        /// The file or folder that exists.
        path: PathBuf,
    },
    /// The header cannot be made.
    #[error("the header of {WEIGHTS} cannot be made: {reason}")]
    Header {
        /// The library's message.
        reason: String,
    },
    /// The file system fails.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

/// The contents of a folder.
#[derive(Debug, Clone, Copy)]
pub struct FolderContents<'a> {
    /// The model.
    pub spec: &'a ModelSpec,
    /// Its parameters, in the order of [`crate::Model::tensors`].
    pub params: &'a [f32],
    /// The ids of the tokens around a text.
    pub special: SpecialIds,
    /// The bytes of `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// The contents of `tokenizer_config.json`.
    pub tokenizer_config: &'a Value,
}

/// Writes `config.json`, `generation_config.json`, `model.safetensors`, `tokenizer.json` and
/// `tokenizer_config.json` into `dir`, which is created where it is missing.
///
/// # Errors
/// See [`ExportError`]. Files are there whole or not at all; without `config.json` the folder is not complete.
pub fn export(dir: &Path, contents: &FolderContents<'_>) -> Result<(), ExportError> {
    let FolderContents { spec, params, special, tokenizer, tokenizer_config } = *contents;
    let layout = Layout::new(spec)?;
    if params.len() != layout.parameters {
        return Err(ExportError::Length { expected: layout.parameters, found: params.len() });
    }
    if let Some(token) = [Some(special.end), special.start].into_iter().flatten().find(|&id| id >= spec.vocab_size) {
        return Err(ExportError::Token { token, vocab_size: spec.vocab_size });
    }
    let names = ["tokenizer.json", "tokenizer_config.json", "generation_config.json", WEIGHTS, CONFIG];
    for name in names {
        let path = dir.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(ExportError::Exists { path });
        }
    }
    let header = header(&layout)?;
    fs::create_dir_all(dir).map_err(|source| ExportError::Io { path: dir.into(), source })?;

    let mut folder = StagedFolder { dir, staged: Vec::new() };
    folder.stage(names[0], |file| file.write_all(tokenizer))?;
    folder.stage_json(names[1], tokenizer_config)?;
    let generation = json!({ "bos_token_id": special.start, "eos_token_id": special.end, "do_sample": false });
    folder.stage_json(names[2], &generation)?;
    folder.stage(WEIGHTS, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        write_floats(file, params)
    })?;
    folder.stage_json(CONFIG, &WrittenConfig::new(spec, special))?;
    folder.publish()
}

/// The safetensors header, padded to 8 bytes as the format asks.
fn header(layout: &Layout) -> Result<Vec<u8>, ExportError> {
    let infos = layout.tensors.iter().zip(&layout.ranges).map(|(tensor, range)| {
        let shape = tensor.shape.iter().map(|&size| size as usize).collect();
        let data_offsets = (range.start * 4, range.end * 4);
        (tensor.name.clone(), TensorInfo { dtype: Dtype::F32, shape, data_offsets })
    });
    let format = HashMap::from([("format".to_string(), "pt".to_string())]);
    let metadata = Metadata::new(Some(format), infos.collect())
        .map_err(|error| ExportError::Header { reason: error.to_string() })?;
    let mut header =
        serde_json::to_vec(&metadata).map_err(|error| ExportError::Header { reason: error.to_string() })?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

fn write_floats(file: &mut impl Write, floats: &[f32]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(4 * PIECE);
    for piece in floats.chunks(PIECE) {
        bytes.clear();
        bytes.extend(piece.iter().flat_map(|float| float.to_le_bytes()));
        file.write_all(&bytes)?;
    }
    Ok(())
}

/// Files written beside their places; dropped before [`StagedFolder::publish`], it takes them away again.
struct StagedFolder<'a> {
    dir: &'a Path,
    staged: Vec<&'static str>,
}

impl StagedFolder<'_> {
    fn partial(&self, name: &str) -> PathBuf {
        self.dir.join(format!(".{name}.partial"))
    }

    fn stage(
        &mut self,
        name: &'static str,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), ExportError> {
        let path = self.partial(name);
        let create = || {
            let file = File::create(&path)?;
            self.staged.push(name);
            let mut file = BufWriter::new(file);
            write(&mut file)?;
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
        };
        create().map_err(|source| ExportError::Io { path: path.clone(), source })
    }

    fn stage_json(&mut self, name: &'static str, value: &impl Serialize) -> Result<(), ExportError> {
        self.stage(name, |file| {
            serde_json::to_writer_pretty(&mut *file, value)?;
            file.write_all(b"\n")
        })
    }

    /// Gives the files their names, in the order in which they were staged.
    fn publish(mut self) -> Result<(), ExportError> {
        while let Some(&name) = self.staged.first() {
            let path = self.dir.join(name);
            fs::rename(self.partial(name), &path).map_err(|source| ExportError::Io { path, source })?;
            self.staged.remove(0);
        }
        Ok(())
    }
}

impl Drop for StagedFolder<'_> {
    fn drop(&mut self) {
        for name in &self.staged {
            // Best effort: the error that matters is the one that brought us here.
            let _ = fs::remove_file(self.partial(name));
        }
    }
}
