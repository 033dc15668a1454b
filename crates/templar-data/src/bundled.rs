//! The dataset inside the program: nine plays of Shakespeare, as in `datasets/shakespeare/`.
//!
//! A demo needs text before it has a network or files. These are the same bytes as the files in the repository,
//! whose data card names their origin. They are imported like any other file, so the manifest is the one that
//! `templar dataset import` makes of the files with [`options`].

use bytes::Bytes;
use templar_manifest::Dataset;

use crate::error::ImportError;
use crate::import::{ImportOptions, Imported, import_bytes};
use crate::shard::ShardSink;
use crate::tokenizer::{TokenNames, Tokenizer, TokenizerError};

const PARQUET: &[u8] = include_bytes!("../../../datasets/shakespeare/shakespeare.parquet");
const TOKENIZER: &[u8] = include_bytes!("../../../datasets/shakespeare/tokenizer.json");

/// The bytes of the documents (a parquet file with a column `text`) and of the tokenizer (a `tokenizer.json` with 2,048
/// tokens).
pub fn shakespeare() -> (&'static [u8], &'static [u8]) {
    (PARQUET, TOKENIZER)
}

/// The tokenizer of the bundled dataset.
///
/// # Errors
/// None: the file itself is sound.
pub fn tokenizer() -> Result<Tokenizer, TokenizerError> {
    Tokenizer::new(Bytes::from_static(TOKENIZER), TokenNames::default())
}

/// The options with which the bundled dataset is imported. Its manifest states them.
pub fn options() -> ImportOptions {
    ImportOptions::new(
        "shakespeare",
        "CC-BY-2.5",
        "nine plays of William Shakespeare, from the package shakespeare 0.6 of the Open Knowledge Foundation",
    )
}

/// Imports the bundled dataset. Its shards and its tokenizer go to `sink`, and its manifest is returned.
///
/// # Errors
/// Only [`ImportError::Sink`]: the files themselves are sound.
pub fn import_shakespeare(sink: &mut dyn ShardSink) -> Result<Dataset, ImportError> {
    Ok(import(sink)?.dataset)
}

/// [`import_shakespeare`], with the report of the import.
///
/// # Errors
/// Only [`ImportError::Sink`]: the files themselves are sound.
pub fn import(sink: &mut dyn ShardSink) -> Result<Imported, ImportError> {
    import_bytes("shakespeare.parquet", Bytes::from_static(PARQUET), TOKENIZER, &options(), sink)
}
