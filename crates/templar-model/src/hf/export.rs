//! Writing a folder that `from_pretrained` opens.
//!
//! Weights are written as they are, in f32, or rounded to bf16. They lie in one file, or in several with an index.
//!
//! Every file is written beside its place; when all are complete and on disk they are renamed, `config.json`
//! last: a folder with a config is a whole folder, and a failure leaves no file at all. Nothing that is there
//! is overwritten. The tensors' bytes are the parameter vector, little endian, in its own order; the header has
//! one metadata key, since the format's writers order several at random.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};
use templar_manifest::ModelSpec;

use super::error::ExportError;
use super::weight_files::{WeightFiles, check_bf16, write_weights};
use super::written::{SpecialIds, WeightType, WrittenConfig};
use super::{CONFIG, INDEX};
use crate::layout::Layout;

/// File name of the model card.
const CARD: &str = "README.md";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION: &str = "generation_config.json";
/// All files beside weights.
const COMPANIONS: [&str; 5] = [TOKENIZER, TOKENIZER_CONFIG, GENERATION, CARD, CONFIG];

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

/// What of a folder can be chosen.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExportOptions<'a> {
    /// The type of the weights.
    pub weights: WeightType,
    /// The largest number of bytes of weights in one file. A larger tensor has a file of its own. Without a number
    /// there is one file.
    pub max_shard_bytes: Option<u64>,
    /// The text of `README.md`, the model card.
    pub card: Option<&'a str>,
}

/// Writes `config.json`, `generation_config.json`, `model.safetensors`, `tokenizer.json` and
/// `tokenizer_config.json` into `dir`, which is created where it is missing.
///
/// # Errors
/// See [`ExportError`]. Files are there whole or not at all; without `config.json` the folder is not complete.
pub fn export(dir: &Path, contents: &FolderContents<'_>) -> Result<(), ExportError> {
    export_with(dir, contents, &ExportOptions::default())
}

/// The same as [`export`], with weights and a card as the options say.
///
/// # Errors
/// As there; a weight that bf16 cannot hold.
pub fn export_with(dir: &Path, contents: &FolderContents<'_>, options: &ExportOptions<'_>) -> Result<(), ExportError> {
    let FolderContents { spec, params, special, .. } = *contents;
    let layout = Layout::new(spec)?;
    if params.len() != layout.parameters {
        return Err(ExportError::Length { expected: layout.parameters, found: params.len() });
    }
    if let Some(token) = [Some(special.end), special.start].into_iter().flatten().find(|&id| id >= spec.vocab_size) {
        return Err(ExportError::Token { token, vocab_size: spec.vocab_size });
    }
    if options.weights == WeightType::Bf16 {
        check_bf16(&layout, params)?;
    }
    let files = WeightFiles::new(&layout, options.weights, options.max_shard_bytes);
    let mut companions = companions(contents, options);
    let config = companions.pop();
    for name in COMPANIONS.into_iter().chain([INDEX]).chain(files.files.iter().map(|file| file.name.as_str())) {
        let path = dir.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(ExportError::Exists { path });
        }
    }
    let headers = files.files.iter().map(|file| file.header(&layout)).collect::<Result<Vec<_>, _>>()?;
    fs::create_dir_all(dir).map_err(|source| ExportError::Io { path: dir.into(), source })?;

    let mut folder = StagedFolder { dir, staged: Vec::new() };
    for (name, bytes) in &companions {
        folder.stage(name, |file| file.write_all(bytes))?;
    }
    for (file, header) in files.files.iter().zip(headers) {
        folder.stage(&file.name, |out| {
            out.write_all(&(header.len() as u64).to_le_bytes())?;
            out.write_all(&header)?;
            let places = &layout.ranges[file.tensors.clone()];
            let whole = places.first().map_or(0, |first| first.start)..places.last().map_or(0, |last| last.end);
            write_weights(out, &params[whole], options.weights)
        })?;
    }
    if let Some(index) = files.index(&layout) {
        folder.stage_json(INDEX, &index)?;
    }
    if let Some((name, bytes)) = config {
        folder.stage(name, |file| file.write_all(&bytes))?;
    }
    folder.publish()
}

/// The files of an export beside its weights, with their names: those that [`export_with`] would write. The last one is
/// `config.json`.
pub fn companions(contents: &FolderContents<'_>, options: &ExportOptions<'_>) -> Vec<(&'static str, Vec<u8>)> {
    let FolderContents { spec, special, tokenizer, tokenizer_config, .. } = *contents;
    let generation = json!({ "bos_token_id": special.start, "eos_token_id": special.end, "do_sample": false });
    let card = options.card.map(|card| (CARD, card.as_bytes().to_vec()));
    let mut files = vec![
        (TOKENIZER, tokenizer.to_vec()),
        (TOKENIZER_CONFIG, json_file(tokenizer_config)),
        (GENERATION, json_file(&generation)),
    ];
    files.extend(card);
    files.push((CONFIG, json_file(&WrittenConfig::new(spec, special, options.weights))));
    files
}

fn json_file(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("encoding into memory cannot fail");
    bytes.push(b'\n');
    bytes
}

/// Files written beside their places; dropped before [`StagedFolder::publish`], it takes them away again.
struct StagedFolder<'a> {
    dir: &'a Path,
    staged: Vec<String>,
}

impl StagedFolder<'_> {
    fn partial(&self, name: &str) -> PathBuf {
        self.dir.join(format!(".{name}.partial"))
    }

    fn stage(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), ExportError> {
        let path = self.partial(name);
        let create = || {
            let file = File::create(&path)?;
            self.staged.push(name.to_owned());
            let mut file = BufWriter::new(file);
            write(&mut file)?;
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
        };
        create().map_err(|source| ExportError::Io { path: path.clone(), source })
    }

    fn stage_json(&mut self, name: &str, value: &impl Serialize) -> Result<(), ExportError> {
        self.stage(name, |file| file.write_all(&json_file(value)))
    }

    /// Gives the files their names, in the order in which they were staged.
    fn publish(mut self) -> Result<(), ExportError> {
        while let Some(name) = self.staged.first() {
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
