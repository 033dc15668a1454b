//! The last step of an import: documents in order become the shards of a dataset.
//!
//! An import on one machine and the joining of parts both end here, so they give the same manifest. Memory holds an
//! unfinished shard of either part, and about 24 bytes for each different document ([`duplicates`](crate::duplicates)).

use std::path::PathBuf;

use templar_manifest::{Dataset, Payload};

use crate::duplicates::{Duplicates, OnDuplicate, SeenDocuments};
use crate::encode::EncodedDocument;
use crate::error::ImportError;
use crate::progress::Progress;
use crate::shard::{MAX_SHARDS, ShardSink, ShardWriter, rule_for};

/// The share of one file in an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedFile {
    /// The path, or below a folder the path from there.
    pub name: PathBuf,
    /// The documents that were imported.
    pub documents: u64,
    /// Their tokens, each document with its end token.
    pub tokens: u64,
}

/// A dataset that is growing.
pub(crate) struct Assembly<'a> {
    /// The manifest, still without shards.
    dataset: Dataset,
    writer: ShardWriter<'a>,
    on_duplicate: OnDuplicate,
    seen: SeenDocuments,
    files: Vec<ImportedFile>,
    progress: &'a Progress,
}

/// The result of an [`Assembly`].
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) dataset: Dataset,
    pub(crate) files: Vec<ImportedFile>,
    pub(crate) duplicates: Duplicates,
    pub(crate) on_duplicate: OnDuplicate,
}

impl<'a> Assembly<'a> {
    /// The dataset that `dataset` describes, which has no shards yet, from files of these names.
    pub(crate) fn new(
        dataset: Dataset,
        names: Vec<PathBuf>,
        on_duplicate: OnDuplicate,
        sink: &'a mut dyn ShardSink,
        progress: &'a Progress,
    ) -> Self {
        let writer = ShardWriter::new(sink, dataset.held_out, dataset.shard_tokens, dataset.token_bytes);
        let files = names.into_iter().map(|name| ImportedFile { name, documents: 0, tokens: 0 }).collect();
        Self { dataset, writer, on_duplicate, seen: SeenDocuments::default(), files, progress }
    }

    /// Appends a document of file number `file`.
    ///
    /// # Errors
    /// [`ImportError::Sink`], [`ImportError::TooManyShards`].
    pub(crate) fn push(&mut self, file: usize, document: &EncodedDocument) -> Result<(), ImportError> {
        let tokens = document.tokens.len() as u64;
        self.progress.made(tokens);
        if self.on_duplicate == OnDuplicate::Remove && self.seen.has(document.digest) {
            self.seen.removed(tokens);
            return Ok(());
        }
        let parts = self.writer.push(&document.tokens)?;
        // Two more may be unfinished.
        if self.writer.shards() + 2 > MAX_SHARDS {
            return Err(ImportError::TooManyShards { shard_tokens: self.dataset.shard_tokens });
        }
        self.seen.note(document.digest, tokens, parts);
        self.dataset.documents += 1;
        if let Some(file) = self.files.get_mut(file) {
            file.documents += 1;
            file.tokens += tokens;
        }
        Ok(())
    }

    /// Writes the last shards, and checks that there is something to train on and something held out.
    ///
    /// # Errors
    /// [`ImportError::Empty`] or [`ImportError::TooShort`] where there is not, and [`ImportError::Sink`].
    pub(crate) fn finish(self) -> Result<Assembled, ImportError> {
        let mut dataset = self.dataset;
        (dataset.training, dataset.validation) = self.writer.finish()?;
        let tokens = dataset.training_tokens().saturating_add(dataset.validation_tokens());
        if tokens == 0 {
            return Err(ImportError::Empty);
        }
        if dataset.validation_tokens() < 2 {
            let needed = dataset.held_out.block_tokens.saturating_mul(dataset.held_out.every - 1).saturating_add(1);
            return Err(ImportError::TooShort { tokens, needed, fits: rule_for(tokens) });
        }
        dataset.check().map_err(ImportError::Options)?;
        Ok(Assembled { dataset, files: self.files, duplicates: self.seen.found(), on_duplicate: self.on_duplicate })
    }
}
