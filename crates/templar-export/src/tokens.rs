//! Tokenised text as other trainers take it: a folder that Hugging Face `datasets` loads.
//!
//! ```text
//! README.md                                  the data card: name, licence, source, and which file is of which split
//! tokenizer.json                             the tokenizer that made the tokens
//! data/train-00000-of-00003.parquet          the shards to train on, in order
//! data/validation-00000-of-00001.parquet     the held-out shards
//! ```
//!
//! A file is one shard of the dataset. Its one column, `input_ids`, has lists of 32-bit integers, the type that trainers
//! take. The lists of a split, one after the other, are its tokens in order: documents follow each other, and each ends
//! with the end token. A list has a fixed length; the last one of a file may be shorter.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use templar_blob::{BlobSource, ReadError};
use templar_data::{MAX_TOKENIZER_BYTES, PageError, Split, shard_tokens};
use templar_manifest::{Dataset, DatasetId, Shard};

use crate::card::{licence_lines, plain, stated};
use crate::new_folder::{NewFolder, NewFolderError};
use crate::tables::sink::Sink;
use crate::tables::{TableFormat, TablesError};

/// Tokens that are written at once. A parquet file has them as a row group.
const GROUP_TOKENS: usize = 1 << 20;

/// The column, for the library's errors.
const COLUMN: &str = "input_ids";

/// A dataset is not written. No folder is left where one was asked for.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// A shard cannot be read.
    #[error(transparent)]
    Shard(#[from] PageError),
    /// The tokenizer cannot be read.
    #[error("the tokenizer of the dataset cannot be read")]
    Tokenizer(#[source] ReadError),
    /// The folder cannot be written.
    #[error(transparent)]
    Folder(#[from] TablesError),
}

impl From<NewFolderError> for TokensError {
    fn from(error: NewFolderError) -> Self {
        Self::Folder(error.into())
    }
}

/// The format of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListFormat {
    /// Parquet, compressed with zstd.
    Parquet,
    /// Arrow files (IPC).
    Arrow,
}

impl ListFormat {
    fn of_table(self) -> TableFormat {
        match self {
            Self::Parquet => TableFormat::Parquet,
            Self::Arrow => TableFormat::Arrow,
        }
    }
}

/// A dataset with its blobs.
#[derive(Clone, Copy)]
pub struct TokensSource<'a> {
    /// The id of the dataset.
    pub id: DatasetId,
    /// Its manifest.
    pub dataset: &'a Dataset,
    /// The shards and the tokenizer.
    pub blobs: &'a dyn BlobSource,
}

/// Writes a dataset into a new folder, with lists of `length` tokens; a length of 0 counts as 1. Returns the number of
/// files of tokens.
///
/// # Errors
/// See [`TokensError`].
pub fn write(place: &Path, source: TokensSource<'_>, format: ListFormat, length: u32) -> Result<usize, TokensError> {
    let folder = NewFolder::create(place)?;
    let data = folder.path().join("data");
    fs::create_dir(&data).map_err(|error| TablesError::io(&data, error))?;
    let tokenizer = source.blobs.read(&source.dataset.tokenizer.hash(), MAX_TOKENIZER_BYTES as u64);
    folder.write("tokenizer.json", &tokenizer.map_err(TokensError::Tokenizer)?)?;
    let mut files = 0;
    for (split, name) in [(Split::Training, "train"), (Split::Validation, "validation")] {
        let shards = split.shards(source.dataset);
        for (number, shard) in shards.iter().enumerate() {
            let ending = format.of_table().name();
            let path = data.join(format!("{name}-{number:05}-of-{:05}.{ending}", shards.len()));
            write_shard(&path, source, shard, format, length.max(1) as usize)?;
            files += 1;
        }
    }
    File::open(&data).and_then(|data| data.sync_all()).map_err(|error| TablesError::io(&data, error))?;
    folder.write("README.md", card(source, format, length).as_bytes())?;
    folder.publish()?;
    Ok(files)
}

fn write_shard(
    path: &Path,
    source: TokensSource<'_>,
    shard: &Shard,
    format: ListFormat,
    length: usize,
) -> Result<(), TokensError> {
    let tokens = shard_tokens(source.blobs, source.dataset, shard)?;
    let schema = schema();
    let file = File::create(path).map_err(|error| TablesError::io(path, error))?;
    let failed = |error: crate::tables::sink::SinkError| error.of(COLUMN, path);
    let mut sink = Sink::new(format.of_table(), file, &schema).map_err(failed)?;
    let lists_at_once = (GROUP_TOKENS / length).max(1);
    for group in tokens.chunks(lists_at_once.saturating_mul(length)) {
        let mut lists = ListBuilder::new(Int32Builder::with_capacity(group.len())).with_field(item());
        for list in group.chunks(length) {
            // Every token is below the size of a vocabulary, which is below 2^31.
            lists.append_value(list.iter().map(|token| Some(*token as i32)));
        }
        let columns: Vec<ArrayRef> = vec![Arc::new(lists.finish())];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns);
        let batch = batch.map_err(|source| TablesError::Arrow { table: COLUMN, source })?;
        sink.write(&batch).map_err(failed)?;
    }
    Ok(sink.finish().map_err(failed)?)
}

fn item() -> Field {
    Field::new("item", DataType::Int32, false)
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(COLUMN, DataType::List(Arc::new(item())), false)]))
}

/// The data card. Its head tells Hugging Face which files are of which split.
fn card(source: TokensSource<'_>, format: ListFormat, length: u32) -> String {
    let TokensSource { id, dataset, .. } = source;
    let ending = format.of_table().name();
    let mut text = format!("---\n{}configs:\n- config_name: default\n  data_files:\n", licence_lines(&dataset.licence));
    for (split, name) in [(Split::Training, "train"), (Split::Validation, "validation")] {
        if !split.shards(dataset).is_empty() {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "  - split: {name}\n    path: data/{name}-*.{ending}");
        }
    }
    let _ = write!(
        text,
        "tags:\n- templar\n---\n\n# {}\n\n\
         Tokenised text of a templar dataset. Each row has a list of {length} tokens; the lists of a split, one after the \
         other, are its tokens in order. Documents follow each other, and each ends with token {}.\n\n\
         | | |\n|---|---|\n| dataset | `{id}` |\n| tokens to train on | {} |\n| tokens held out | {} |\n| documents | {} |\n\
         | vocabulary | {} tokens, `tokenizer.json` |\n| source of the text | {} |\n| licence of the text | {} |\n",
        plain(&dataset.name),
        dataset.end_token,
        dataset.training_tokens(),
        dataset.validation_tokens(),
        dataset.documents,
        dataset.vocab_size,
        stated(&dataset.source),
        plain(&dataset.licence),
    );
    text
}
