//! Import: documents become tokens, tokens become shards, and a manifest names the shards.
//!
//! One thread reads batches of documents ([`reading`](crate::reading)), several turn them into tokens
//! ([`encode`](crate::encode)), and the calling thread puts them together in order ([`assembly`](crate::assembly)) or
//! writes them to a part file. Memory holds a few batches for each thread and an unfinished shard of either part,
//! however long the input is.

use std::io::Write;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use templar_manifest::{BlobId, Dataset, HeldOut, Payload};

use crate::assembly::{Assembled, Assembly, ImportedFile};
use crate::duplicates::{Duplicates, OnDuplicate};
use crate::encode::{EncodeFault, EncodedBatch, Encoder};
use crate::error::ImportError;
use crate::licence::checked_licence;
use crate::listing::Listing;
use crate::ordered::in_order;
use crate::part::{FORMAT, PartHeader, PartPlan, PartReader, PartWriter};
use crate::progress::Progress;
use crate::reading::FileReading;
use crate::shard::{MAX_SHARD_BYTES, ShardSink};
use crate::share::Part;
use crate::source::{Document, InputFile, OnBadRow, ReadOptions, ReadReport, Vocabulary};
use crate::tokenizer::{ChatTemplate, TokenNames, Tokenizer};

/// The options of an import. Together with the text and the tokenizer they decide the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportOptions {
    /// The short name of the dataset.
    pub name: String,
    /// The licence of the text, as an SPDX expression.
    pub licence: String,
    /// The origin of the text, in words for people.
    pub source: String,
    /// The token that ends a document. Without it, it is the first of [`END_TOKENS`](crate::END_TOKENS) that is a
    /// special token of the file.
    pub end_token: Option<String>,
    /// The token that stands before each document. Without it, none does.
    pub start_token: Option<String>,
    /// The chat template that joins the turns of conversations. The dataset names it, so that exports have it too.
    /// Without it, each turn becomes `role: content`, with a blank line between turns.
    pub chat_template: Option<ChatTemplate>,
    /// The number of tokens in a full shard.
    pub shard_tokens: u64,
    /// The rule that decides which tokens are held out.
    pub held_out: HeldOut,
    /// The way to deal with documents that occurred before.
    pub on_duplicate: OnDuplicate,
    /// How files are read.
    pub read: ReadOptions,
}

impl ImportOptions {
    /// The defaults: shards of 4 Mi tokens (8 or 16 MiB), every twentieth block of 2,048 tokens held out, duplicates
    /// counted, and files read as [`ReadOptions::default`] says.
    pub fn new(name: impl Into<String>, licence: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            licence: licence.into(),
            source: source.into(),
            end_token: None,
            start_token: None,
            chat_template: None,
            shard_tokens: 4 << 20,
            held_out: HeldOut { block_tokens: 2048, every: 20 },
            on_duplicate: OnDuplicate::default(),
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
            licence: checked_licence(&self.licence)?,
            source: self.source.clone(),
            tokenizer: tokenizer.id(),
            vocab_size: tokenizer.vocab_size(),
            end_token: tokenizer.end_token(),
            start_token: tokenizer.start_token(),
            chat_template: self.chat_template.as_ref().map(|template| BlobId::of(template.source().as_bytes())),
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

/// The result of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The manifest, neither signed nor stored yet.
    pub dataset: Dataset,
    /// The files that were read, in order.
    pub files: Vec<ImportedFile>,
    /// Documents that occurred before.
    pub duplicates: Duplicates,
    /// The way in which the import dealt with them.
    pub on_duplicate: OnDuplicate,
    /// The rows that reading left out, cut and repaired.
    pub report: ReadReport,
}

/// The result of one part of an import.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportedPart {
    /// The documents in the part.
    pub documents: u64,
    /// Their tokens, each document with its end token.
    pub tokens: u64,
    /// The rows that reading left out, cut and repaired. They may include documents of other parts.
    pub report: ReadReport,
}

impl Imported {
    pub(crate) fn new(assembled: Assembled, report: ReadReport) -> Self {
        let Assembled { dataset, files, duplicates, on_duplicate } = assembled;
        Self { dataset, files, duplicates, on_duplicate, report }
    }
}

/// An import whose options were checked.
///
/// The file of the tokenizer and every shard go to a sink. Work is done on as many threads as rayon has here. The
/// result depends on the text, the tokenizer and the options alone.
pub struct Import<'a> {
    encoder: Encoder,
    tokenizer_json: &'a [u8],
    options: &'a ImportOptions,
    /// The manifest, still without documents and shards.
    dataset: Dataset,
}

impl<'a> Import<'a> {
    /// Checks the options. `tokenizer_json` is a Hugging Face `tokenizer.json`.
    ///
    /// # Errors
    /// [`ImportError::Tokenizer`], [`ImportError::Licence`] or [`ImportError::Options`].
    pub fn new(tokenizer_json: &'a [u8], options: &'a ImportOptions) -> Result<Self, ImportError> {
        let names = TokenNames { end: options.end_token.as_deref(), start: options.start_token.as_deref() };
        let tokenizer = Tokenizer::new(tokenizer_json.to_vec(), names)?;
        let dataset = options.dataset(&tokenizer)?;
        let encoder = Encoder::new(tokenizer, options.chat_template.clone());
        Ok(Self { encoder, tokenizer_json, options, dataset })
    }

    /// The tokenizer of the dataset.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.encoder.tokenizer()
    }

    /// How the files are read.
    pub fn read_options(&self) -> &ReadOptions {
        &self.options.read
    }

    /// The chat template that joins the turns of conversations, as the dataset names it.
    pub fn chat_template(&self) -> Option<BlobId> {
        self.dataset.chat_template
    }

    /// Imports the files of a listing.
    ///
    /// # Errors
    /// [`ImportError`] names the file and the row or line at fault.
    pub fn run(
        &self,
        listing: &Listing,
        progress: &Progress,
        sink: &mut dyn ShardSink,
    ) -> Result<Imported, ImportError> {
        let files = inputs(listing);
        let names = listing.taken.iter().map(|file| file.path.clone()).collect();
        self.run_inputs(&files, names, progress, sink)
    }

    /// Makes one of the parts of an import, and writes it to `out`. [`merge`](crate::merge) joins them to what
    /// [`run`](Self::run) makes. Every part needs the same listing.
    ///
    /// # Errors
    /// [`ImportError`] names the file and the row or line at fault. The part is whole only where there is no error.
    pub fn run_part<W: Write + Send>(
        &self,
        listing: &Listing,
        part: Part,
        progress: &Progress,
        out: W,
    ) -> Result<(W, ImportedPart), ImportError> {
        let mut writer = PartWriter::new(out, &self.part_header(listing, part), &self.blobs())?;
        let files = inputs(listing);
        let reading = self.reading(&files, part, progress);
        let mut done = ImportedPart::default();
        done.report = self.encoded(reading, |batch| {
            let tokens = batch.documents.iter().map(|document| document.tokens.len() as u64).sum();
            progress.made(tokens);
            done.documents += batch.documents.len() as u64;
            done.tokens += tokens;
            Ok(writer.push(&batch)?)
        })?;
        Ok((writer.finish()?, done))
    }

    /// Whether a part file holds what [`run_part`](Self::run_part) would write, as far as its metadata tells.
    ///
    /// # Errors
    /// [`PartError`](crate::PartError) where the file is no part, or cannot be read.
    pub fn is_part(&self, listing: &Listing, part: Part, path: &Path) -> Result<bool, ImportError> {
        Ok(PartReader::open(path)?.header == self.part_header(listing, part))
    }

    fn part_header(&self, listing: &Listing, part: Part) -> PartHeader {
        let files = listing.taken.iter().map(|file| (file.name.clone(), file.bytes)).collect();
        let (dataset, read) = (self.dataset.clone(), self.options.read.clone());
        let plan = PartPlan { format: FORMAT, dataset, read, on_duplicate: self.options.on_duplicate, files };
        PartHeader { plan, part }
    }

    fn run_inputs(
        &self,
        files: &[InputFile],
        names: Vec<PathBuf>,
        progress: &Progress,
        sink: &mut dyn ShardSink,
    ) -> Result<Imported, ImportError> {
        for blob in self.blobs() {
            sink.put(blob.to_vec())?;
        }
        let mut assembly = Assembly::new(self.dataset.clone(), names, self.options.on_duplicate, sink, progress);
        let reading = self.reading(files, Part::WHOLE, progress);
        let report = self.encoded(reading, |batch| {
            batch.documents.iter().try_for_each(|document| assembly.push(batch.file, document))
        })?;
        Ok(Imported::new(assembly.finish()?, report))
    }

    /// The blobs that the dataset names beside its shards.
    fn blobs(&self) -> Vec<&[u8]> {
        let template = self.options.chat_template.as_ref().map(|template| template.source().as_bytes());
        std::iter::once(self.tokenizer_json).chain(template).collect()
    }

    fn reading<'b>(&'b self, files: &'b [InputFile], part: Part, progress: &'b Progress) -> FileReading<'b> {
        let vocabulary = self.vocabulary();
        FileReading { files, options: &self.options.read, vocabulary, part, progress }
    }

    fn vocabulary(&self) -> Vocabulary {
        Vocabulary { size: self.tokenizer().vocab_size(), end: self.tokenizer().end_token() }
    }

    /// The first documents of a file, each with its row and its tokens.
    pub(crate) fn first_documents(&self, path: &Path, count: usize) -> Result<Vec<(u64, Vec<u32>)>, ImportError> {
        let documents = InputFile::File(path.to_owned()).documents(&self.options.read, self.vocabulary())?;
        let encoded =
            documents.filter_map(|document| document.and_then(|one| self.encoded_document(path, one)).transpose());
        encoded.take(count).collect()
    }

    /// The row and the tokens of a document; none where it is a bad row that is left out.
    fn encoded_document(&self, path: &Path, document: Document) -> Result<Option<(u64, Vec<u32>)>, ImportError> {
        let (row, path) = (document.row, path.to_owned());
        match self.encoder.document(document.content) {
            Ok(tokens) => Ok(Some((row, tokens))),
            Err(EncodeFault::Turns(_)) if self.options.read.on_bad_row == OnBadRow::Skip => Ok(None),
            Err(EncodeFault::Turns(fault)) => Err(ImportError::Row { path, row, fault }),
            Err(EncodeFault::Tokenizer(source)) => Err(ImportError::Encode { path, row, source }),
            Err(EncodeFault::Template(error)) => Err(error.into()),
        }
    }

    /// Reads and tokenises, and gives the batches in order.
    fn encoded(
        &self,
        reading: FileReading<'_>,
        mut consume: impl FnMut(EncodedBatch) -> Result<(), ImportError>,
    ) -> Result<ReadReport, ImportError> {
        let threads = NonZero::new(rayon::current_num_threads()).unwrap_or(NonZero::<usize>::MIN);
        let mut bad = ReadReport::default();
        let mut report = in_order(
            threads,
            |feed| reading.run(feed),
            |batch| self.encoder.batch(batch, reading.files),
            |batch| {
                let mut batch = batch?;
                let path = reading.files.get(batch.file).map(InputFile::path).unwrap_or(Path::new(""));
                for (row, fault) in std::mem::take(&mut batch.bad) {
                    if self.options.read.on_bad_row == OnBadRow::Fail {
                        return Err(ImportError::Row { path: path.to_owned(), row, fault });
                    }
                    bad.bad(path, row, fault);
                }
                consume(batch)
            },
        )?;
        report.conversations -= bad.bad_row_count();
        report.add_bad(bad, |path| reading.files.iter().position(|file| file.path() == path));
        Ok(report)
    }
}

fn inputs(listing: &Listing) -> Vec<InputFile> {
    listing.taken.iter().map(|file| InputFile::File(file.path.clone())).collect()
}

/// Lists and imports files and folders.
///
/// # Errors
/// The errors of [`Listing::of`], [`Import::new`] and [`Import::run`].
pub fn import(
    sources: &[PathBuf],
    tokenizer_json: &[u8],
    options: &ImportOptions,
    sink: &mut dyn ShardSink,
) -> Result<Imported, ImportError> {
    let import = Import::new(tokenizer_json, options)?;
    import.run(&Listing::of(sources)?, &Progress::default(), sink)
}

/// [`import`] for one file in memory. The extension of `name` decides how it is read, and errors call the file so.
pub(crate) fn import_bytes(
    name: &str,
    bytes: Bytes,
    tokenizer_json: &[u8],
    options: &ImportOptions,
    sink: &mut dyn ShardSink,
) -> Result<Imported, ImportError> {
    let files = [InputFile::Memory(name.into(), bytes)];
    let import = Import::new(tokenizer_json, options)?;
    import.run_inputs(&files, vec![name.into()], &Progress::default(), sink)
}
