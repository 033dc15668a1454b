//! Import: documents into tokens into shards, and the manifest that names them.
//!
//! Documents come one at a time from [`source`](crate::source), are tokenised in batches (in parallel; the order stays),
//! get the end token appended and flow into the shard writer. What is in memory is a batch, a shard of either part and
//! one document for each thread, however long the input. An empty text is skipped: it would teach only the end token.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rayon::prelude::*;
use templar_manifest::{Dataset, HeldOut, Payload};

use crate::shard::{MAX_SHARD_BYTES, ShardSink, ShardWriter, SinkError};
use crate::source::{Document, Limits, Source, expand};
use crate::tokenizer::{Tokenizer, TokenizerError};

/// A batch is tokenised when it has this many bytes or documents.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_DOCUMENTS: usize = 4096;

/// Why an import failed. Rows and lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// No file was named.
    #[error("nothing to import: no source was named")]
    NoSources,
    /// A source is not there.
    #[error("{path} does not exist")]
    Missing {
        /// The source.
        path: PathBuf,
    },
    /// A source cannot be read.
    #[error("{path} cannot be read")]
    Io {
        /// The source.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A source is of no known kind.
    #[error("{path} is of no known kind: expected .parquet, .jsonl or .txt")]
    Unsupported {
        /// The source.
        path: PathBuf,
    },
    /// A folder holds nothing to import.
    #[error("folder {path} holds no .parquet, .jsonl or .txt file")]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A folder nests too deep, perhaps through a link to itself.
    #[error("folder {path} is nested more than {max_depth} deep")]
    TooDeep {
        /// The folder.
        path: PathBuf,
        /// The limit.
        max_depth: usize,
    },
    /// A file is no parquet, or damaged, or compressed in a way that is not read here (zstd and snappy are).
    #[error("{path} is not a parquet file that can be read: {reason}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        reason: String,
    },
    /// A parquet file has no top-level string column `text`.
    #[error("{path} has no column `text` of strings; its columns: {}", columns.join(", "))]
    NoTextColumn {
        /// The file.
        path: PathBuf,
        /// The first columns that it has.
        columns: Vec<String>,
    },
    /// A row or line is not UTF-8.
    #[error("{path}, row {row}: not UTF-8")]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The row or line.
        row: u64,
    },
    /// A row has no text: the field is absent or null.
    #[error("{path}, row {row}: no text")]
    NoText {
        /// The file.
        path: PathBuf,
        /// The row or line.
        row: u64,
    },
    /// A line is no JSON object with a string `text`.
    #[error("{path}, line {row}: {reason}")]
    BadJson {
        /// The file.
        path: PathBuf,
        /// The line.
        row: u64,
        /// What the parser says.
        reason: String,
    },
    /// A document is too long to be held in memory.
    #[error("{path}, row {row}: longer than the limit of {max_bytes} bytes for a document")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The row or line.
        row: u64,
        /// The limit.
        max_bytes: usize,
    },
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A document cannot be tokenised.
    #[error("{path}, row {row}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// The row or line.
        row: u64,
        /// The tokenizer's reason.
        source: TokenizerError,
    },
    /// The options contradict themselves or the manifest's rules.
    #[error("bad import option: {0}")]
    Options(String),
    /// The sources hold no text at all.
    #[error("the sources hold no text")]
    Empty,
    /// Too little text to hold some of it out.
    #[error("{tokens} tokens are too few: the held-out rule needs more than {needed}")]
    TooShort {
        /// Tokens found.
        tokens: u64,
        /// Tokens before the first held-out one.
        needed: u64,
    },
    /// A shard cannot be kept.
    #[error("a shard cannot be stored")]
    Sink(#[from] SinkError),
}

impl ImportError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path: path.to_owned() },
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}

/// What decides an import besides the text and the tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportOptions {
    /// The dataset's short name.
    pub name: String,
    /// SPDX expression of the text's licence.
    pub licence: String,
    /// Where the text comes from, for people.
    pub source: String,
    /// The token that ends a document; without it the first of [`END_TOKENS`](crate::END_TOKENS) that there is.
    pub end_token: Option<String>,
    /// Tokens of a full shard.
    pub shard_tokens: u64,
    /// Which tokens are held out.
    pub held_out: HeldOut,
    /// The longest document, in bytes of text.
    pub max_document_bytes: usize,
    /// The length from which plain text is cut at the next blank line.
    pub text_document_bytes: usize,
}

impl ImportOptions {
    /// The defaults: shards of 4 Mi tokens (8 or 16 MiB), every twentieth block of 2,048 tokens held out, documents of
    /// up to 16 MiB, plain text cut from 4 KiB on.
    pub fn new(name: impl Into<String>, licence: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            licence: licence.into(),
            source: source.into(),
            end_token: None,
            shard_tokens: 4 << 20,
            held_out: HeldOut { block_tokens: 2048, every: 20 },
            max_document_bytes: 16 << 20,
            text_document_bytes: 4096,
        }
    }

    /// A manifest with no shards yet; refuses options before any work is done.
    fn dataset(&self, tokenizer: &Tokenizer) -> Result<Dataset, ImportError> {
        let shard_bytes = self.shard_tokens.checked_mul(tokenizer.token_bytes().into());
        if shard_bytes.is_none_or(|bytes| bytes > MAX_SHARD_BYTES) {
            return Err(ImportError::Options(format!("shards are longer than {MAX_SHARD_BYTES} bytes")));
        }
        if self.max_document_bytes == 0 || self.text_document_bytes == 0 {
            return Err(ImportError::Options("documents of zero bytes".to_owned()));
        }
        let dataset = Dataset {
            name: self.name.clone(),
            licence: self.licence.clone(),
            source: self.source.clone(),
            tokenizer: tokenizer.id(),
            vocab_size: tokenizer.vocab_size(),
            end_token: tokenizer.end_token(),
            token_bytes: tokenizer.token_bytes(),
            documents: 0,
            shard_tokens: self.shard_tokens,
            held_out: self.held_out,
            training: Vec::new(),
            validation: Vec::new(),
        };
        dataset.check().map_err(ImportError::Options)?;
        Ok(dataset)
    }
}

/// Imports files and folders: parquet (column `text`), jsonl (field `text`) and plain text, by their extensions.
///
/// `tokenizer_json` is a Hugging Face `tokenizer.json`; it and every shard go to `sink`. The manifest that comes back is
/// neither signed nor stored.
pub fn import(
    sources: &[PathBuf],
    tokenizer_json: &[u8],
    options: &ImportOptions,
    sink: &mut dyn ShardSink,
) -> Result<Dataset, ImportError> {
    import_sources(&expand(sources)?, tokenizer_json, options, sink)
}

/// [`import`] for one file that is in memory; `name` decides how it is read and is used in errors.
pub(crate) fn import_bytes(
    name: &str,
    bytes: Bytes,
    tokenizer_json: &[u8],
    options: &ImportOptions,
    sink: &mut dyn ShardSink,
) -> Result<Dataset, ImportError> {
    import_sources(&[Source::Memory(name.into(), bytes)], tokenizer_json, options, sink)
}

fn import_sources(
    sources: &[Source],
    tokenizer_json: &[u8],
    options: &ImportOptions,
    sink: &mut dyn ShardSink,
) -> Result<Dataset, ImportError> {
    let tokenizer = Tokenizer::from_bytes(tokenizer_json, options.end_token.as_deref())?;
    let mut dataset = options.dataset(&tokenizer)?;
    sink.put(tokenizer_json.to_vec())?;
    let mut writer = ShardWriter::new(sink, dataset.held_out, dataset.shard_tokens, dataset.token_bytes);
    for source in sources {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for document in source.documents(options.limits())? {
            let document = document?;
            if document.text.is_empty() {
                continue;
            }
            dataset.documents += 1;
            bytes += document.text.len();
            batch.push(document);
            if bytes >= BATCH_BYTES || batch.len() >= BATCH_DOCUMENTS {
                tokenise(&std::mem::take(&mut batch), source.path(), &tokenizer, &mut writer)?;
                bytes = 0;
            }
        }
        tokenise(&batch, source.path(), &tokenizer, &mut writer)?;
    }
    (dataset.training, dataset.validation) = writer.finish()?;
    finished(dataset)
}

/// Tokenises a batch, documents side by side, and appends the tokens in order.
fn tokenise(
    batch: &[Document],
    path: &Path,
    tokenizer: &Tokenizer,
    writer: &mut ShardWriter<'_>,
) -> Result<(), ImportError> {
    let encoded: Vec<_> = batch.par_iter().map(|document| tokenizer.encode(&document.text)).collect();
    for (document, tokens) in batch.iter().zip(encoded) {
        let tokens =
            tokens.map_err(|source| ImportError::Encode { path: path.to_owned(), row: document.row, source })?;
        writer.push(&tokens)?;
        writer.push(&[tokenizer.end_token()])?;
    }
    Ok(())
}

/// A dataset must have something to train on and something held out.
fn finished(dataset: Dataset) -> Result<Dataset, ImportError> {
    let tokens = dataset.training_tokens().saturating_add(dataset.validation_tokens());
    if tokens == 0 {
        return Err(ImportError::Empty);
    }
    if dataset.validation_tokens() < 2 {
        let needed = dataset.held_out.block_tokens.saturating_mul(dataset.held_out.every - 1).saturating_add(1);
        return Err(ImportError::TooShort { tokens, needed });
    }
    dataset.check().map_err(ImportError::Options)?;
    Ok(dataset)
}

impl ImportOptions {
    fn limits(&self) -> Limits {
        Limits { max_document_bytes: self.max_document_bytes, text_document_bytes: self.text_document_bytes }
    }
}
