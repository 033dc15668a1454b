//! GGUF files of the architecture `llama`, as llama.cpp loads them.
//!
//! A file is a header, keys with values, the list of tensors, and their data, each at a multiple of 32 bytes; all
//! little endian. Three things differ from a Hugging Face folder:
//!
//! - The rows of the queries' and keys' projections are in another order, since llama.cpp turns neighbours where
//!   Hugging Face turns the halves of a head.
//! - Shapes are written with the innermost dimension first, and norms are always f32.
//! - The tokenizer is a list of tokens with merges or scores, and the name of a way to split text. Only tokenizers
//!   whose way has a name are written: [`vocabulary`] says which.

mod error;
mod tensors;
mod values;
pub mod vocabulary;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use templar_manifest::{ModelSpec, RopeScaling};

pub use error::GgufError;
pub use tensors::MatrixType;
use tensors::{Entry, entries};
use values::{Values, padding};
use vocabulary::Vocabulary;

/// The version of the format.
const VERSION: u32 = 3;

/// The contents of a file.
#[derive(Debug)]
pub struct GgufContents<'a> {
    /// The model.
    pub spec: &'a ModelSpec,
    /// Its parameters, in the order of [`templar_model::Model::tensors`].
    pub params: &'a [f32],
    /// The type of the matrices.
    pub matrices: MatrixType,
    /// The tokens.
    pub vocabulary: &'a Vocabulary,
    /// The token that stands before a text, if there is one.
    pub start: Option<u32>,
    /// The token that ends a text.
    pub end: u32,
    /// The template that joins conversations.
    pub chat_template: Option<&'a str>,
    /// The name of the model, for people.
    pub name: &'a str,
    /// The licence, an SPDX expression.
    pub licence: Option<&'a str>,
    /// Where the model comes from, for people.
    pub source: Option<&'a str>,
}

/// Writes a file that is not there yet. It is there whole or not at all.
///
/// # Errors
/// See [`GgufError`].
pub fn write(path: &Path, contents: &GgufContents<'_>) -> Result<(), GgufError> {
    let entries = entries(contents.spec, contents.params, contents.matrices)?;
    let tokens = contents.vocabulary.len() as u64;
    if tokens > u64::from(contents.spec.vocab_size) {
        return Err(GgufError::Rows { tokens, rows: contents.spec.vocab_size });
    }
    if path.symlink_metadata().is_ok() {
        return Err(GgufError::Exists { path: path.into() });
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.partial"));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| GgufError::Io { path, source }
    };
    let written = write_to(&partial, contents, &entries).and_then(|()| fs::rename(&partial, path));
    written.map_err(|error| {
        // Best effort: the error that matters is the one that brought us here.
        let _ = fs::remove_file(&partial);
        failed(path)(error)
    })
}

fn write_to(path: &Path, contents: &GgufContents<'_>, entries: &[Entry<'_>]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let values = values(contents);
    let mut head = Vec::new();
    head.extend(b"GGUF");
    head.extend(VERSION.to_le_bytes());
    head.extend((entries.len() as u64).to_le_bytes());
    head.extend(values.count().to_le_bytes());
    head.extend(values.bytes());
    let mut offset = 0;
    for entry in entries {
        entry.describe(offset, &mut head);
        offset += entry.bytes() + padding(entry.bytes());
    }
    head.resize(head.len() + padding(head.len() as u64) as usize, 0);
    file.write_all(&head)?;
    for entry in entries {
        entry.write(&mut file)?;
        file.write_all(&vec![0; padding(entry.bytes()) as usize])?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// All keys that readers look for. What may be left out by the format is written too, since readers have defaults of
/// their own.
fn values(contents: &GgufContents<'_>) -> Values {
    let GgufContents { spec, vocabulary, .. } = contents;
    let mut values = Values::default();
    values.text("general.architecture", "llama");
    values.text("general.name", contents.name);
    if let Some(licence) = contents.licence {
        values.text("general.license", licence);
    }
    if let Some(source) = contents.source {
        values.text("general.description", source);
    }
    values.u32("general.file_type", contents.matrices.file_type());
    values.u32("llama.context_length", spec.positions());
    values.u32("llama.embedding_length", spec.hidden_size);
    values.u32("llama.block_count", spec.layers);
    values.u32("llama.feed_forward_length", spec.ffn_size);
    values.u32("llama.attention.head_count", spec.heads);
    values.u32("llama.attention.head_count_kv", spec.kv_heads);
    values.u32("llama.attention.key_length", spec.head_width());
    values.u32("llama.attention.value_length", spec.head_width());
    values.f32("llama.attention.layer_norm_rms_epsilon", f32::from_bits(spec.norm_eps_bits));
    values.u32("llama.rope.dimension_count", spec.head_width());
    values.f32("llama.rope.freq_base", spec.rope_theta as f32);
    values.u32("llama.vocab_size", spec.vocab_size);
    // The other scaling is a tensor of divisors.
    if let Some(RopeScaling::Linear { factor_ppm }) = spec.rope_scaling {
        values.text("llama.rope.scaling.type", "linear");
        values.f32("llama.rope.scaling.factor", (f64::from(factor_ppm) / 1e6) as f32);
    }
    vocabulary.describe(spec.vocab_size, &mut values);
    values.u32("tokenizer.ggml.bos_token_id", contents.start.unwrap_or(contents.end));
    values.u32("tokenizer.ggml.eos_token_id", contents.end);
    values.flag("tokenizer.ggml.add_bos_token", contents.start.is_some());
    values.flag("tokenizer.ggml.add_eos_token", false);
    if let Some(template) = contents.chat_template {
        values.text("tokenizer.chat_template", template);
    }
    values
}
