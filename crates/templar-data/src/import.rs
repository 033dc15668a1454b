//! Import: documents become tokens, tokens become shards, and a manifest names the shards.
//!
//! Documents come one at a time from [`source`](crate::source). They are tokenised in batches, in parallel, and
//! keep their order. Each gets the end token appended, and its tokens go to the shard writer. Memory holds one
//! batch, one shard of either part, and one document for each thread, however long the input is.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rayon::prelude::*;
use templar_manifest::{Dataset, HeldOut, Payload};

use crate::error::ImportError;
use crate::shard::{MAX_SHARD_BYTES, ShardSink, ShardWriter};
use crate::source::{Content, Document, InputFile, ReadOptions, ReadReport, Vocabulary, expand, plain};
use crate::tokenizer::{Tokenizer, TokenizerError};

/// A batch is tokenised when it has this many bytes or documents.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_DOCUMENTS: usize = 4096;

/// The options of an import. Together with the text and the tokenizer they decide the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportOptions {
    /// The short name of the dataset.
    pub name: String,
    /// The licence of the text, as an SPDX expression.
    pub licence: String,
    /// The origin of the text, in words for people.
    pub source: String,
    /// The token that ends a document. Without it, it is the first of [`END_TOKENS`](crate::END_TOKENS) that
    /// the vocabulary has.
    pub end_token: Option<String>,
    /// The number of tokens in a full shard.
    pub shard_tokens: u64,
    /// The rule that decides which tokens are held out.
    pub held_out: HeldOut,
    /// How files are read.
    pub read: ReadOptions,
}

impl ImportOptions {
    /// The defaults: shards of 4 Mi tokens (8 or 16 MiB), every twentieth block of 2,048 tokens held out, and files
    /// read as [`ReadOptions::default`] says.
    pub fn new(name: impl Into<String>, licence: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            licence: licence.into(),
            source: source.into(),
            end_token: None,
            shard_tokens: 4 << 20,
            held_out: HeldOut { block_tokens: 2048, every: 20 },
            read: ReadOptions::default(),
        }
    }

    /// Makes a manifest with no shards yet. It refuses bad options before any work is done.
    fn dataset(&self, tokenizer: &Tokenizer) -> Result<Dataset, ImportError> {
        let shard_bytes = self.shard_tokens.checked_mul(tokenizer.token_bytes().into());
        if shard_bytes.is_none_or(|bytes| bytes > MAX_SHARD_BYTES) {
            return Err(ImportError::Options(format!("shards are longer than {MAX_SHARD_BYTES} bytes")));
        }
        self.read.check().map_err(ImportError::Options)?;
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

/// An import that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The manifest, neither signed nor stored yet.
    pub dataset: Dataset,
    /// What was left out, cut and repaired on the way.
    pub report: ReadReport,
}

/// Imports files and folders. The name and the first bytes of a file decide how it is read.
///
/// `tokenizer_json` is a Hugging Face `tokenizer.json`. It and every shard go to `sink`.
///
/// # Errors
/// [`ImportError`] names the file and the row or line at fault.
pub fn import(
    sources: &[PathBuf],
    tokenizer_json: &[u8],
    options: &ImportOptions,
    sink: &mut dyn ShardSink,
) -> Result<Imported, ImportError> {
    import_sources(&expand(sources)?, tokenizer_json, options, sink)
}

/// [`import`] for one file in memory. The extension of `name` decides how it is read, and errors call the file so.
pub(crate) fn import_bytes(
    name: &str,
    bytes: Bytes,
    tokenizer_json: &[u8],
    options: &ImportOptions,
    sink: &mut dyn ShardSink,
) -> Result<Imported, ImportError> {
    import_sources(&[InputFile::Memory(name.into(), bytes)], tokenizer_json, options, sink)
}

fn import_sources(
    sources: &[InputFile],
    tokenizer_json: &[u8],
    options: &ImportOptions,
    sink: &mut dyn ShardSink,
) -> Result<Imported, ImportError> {
    let tokenizer = Tokenizer::from_bytes(tokenizer_json, options.end_token.as_deref())?;
    let mut dataset = options.dataset(&tokenizer)?;
    sink.put(tokenizer_json.to_vec())?;
    let mut writer = ShardWriter::new(sink, dataset.held_out, dataset.shard_tokens, dataset.token_bytes);
    let mut report = ReadReport::default();
    for source in sources {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let vocabulary = Vocabulary { size: tokenizer.vocab_size(), end: tokenizer.end_token() };
        let mut documents = source.documents(&options.read, vocabulary)?;
        for document in documents.by_ref() {
            let document = document?;
            dataset.documents += 1;
            bytes += document.content.bytes();
            batch.push(document);
            if bytes >= BATCH_BYTES || batch.len() >= BATCH_DOCUMENTS {
                tokenise(&std::mem::take(&mut batch), source.path(), &tokenizer, &mut writer)?;
                bytes = 0;
            }
        }
        tokenise(&batch, source.path(), &tokenizer, &mut writer)?;
        report.add(documents.report());
    }
    (dataset.training, dataset.validation) = writer.finish()?;
    Ok(Imported { dataset: finished(dataset)?, report })
}

/// Tokenises the documents of a batch in parallel, and appends their tokens in order.
fn tokenise(
    batch: &[Document],
    path: &Path,
    tokenizer: &Tokenizer,
    writer: &mut ShardWriter<'_>,
) -> Result<(), ImportError> {
    let encoded: Vec<_> = batch.par_iter().map(|document| encode(&document.content, tokenizer)).collect();
    for (document, tokens) in batch.iter().zip(encoded) {
        let tokens =
            tokens.map_err(|source| ImportError::Encode { path: path.to_owned(), row: document.row, source })?;
        writer.push(&tokens)?;
        writer.push(&[tokenizer.end_token()])?;
    }
    Ok(())
}

fn encode(content: &Content, tokenizer: &Tokenizer) -> Result<Vec<u32>, TokenizerError> {
    match content {
        Content::Text(text) => tokenizer.encode(text),
        Content::Tokens(ids) => Ok(ids.clone()),
        Content::Turns(turns) => {
            let text = plain(turns).map_err(|fault| TokenizerError::Encode(fault.to_string()))?;
            tokenizer.encode(&text)
        }
    }
}

/// Checks that a dataset has something to train on and something held out.
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
