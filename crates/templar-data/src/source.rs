//! The sources of documents: files of every known format.
//!
//! Every reader gives one document at a time and holds little more than that, so an input of any size takes the same
//! memory. Rows and lines are counted from 1, as in an editor.
//!
//! [`InputFile::documents`] opens an input: [`input`] decompresses it, [`kind`] finds out its format, and a reader of
//! that format gives rows. Which rows become documents is decided in [`document`], for all formats alike.

mod array;
mod arrow;
mod batch;
mod document;
pub(crate) mod fault;
mod format;
mod gzip;
mod input;
mod json;
mod jsonl;
mod kind;
mod lines;
mod megatron;
mod mend;
mod options;
mod parquet;
mod records;
mod report;
mod table;
mod tar;
mod text;
mod tokens;
mod turns;
mod whole;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::error::ImportError;
use input::{Bytestream, Taken, Tap, Watch, decompressed, peek};
use kind::{ARROW_FILE, BYTE_ORDER_MARK, Compression, is_json, magic, refuse_utf16};
use parquet::pages::Pages;
use whole::Whole;

pub(crate) use document::{Content, Document, Documents, Vocabulary};
pub use fault::{FileFault, RowFault};
pub use format::Format;
pub use options::{LongDocuments, OnBadRow, ReadOptions};
pub use records::{Record, read_records};
pub use report::ReadReport;
pub(crate) use turns::plain;

/// Compressions one around the other.
const MAX_LAYERS: usize = 2;

/// The path that stands for standard input.
pub const STANDARD_INPUT: &str = "-";

/// One input of an import.
#[derive(Debug, Clone)]
pub(crate) enum InputFile {
    /// A file on disk. The path `-` is standard input.
    File(PathBuf),
    /// A file in memory. Its name has an extension, as the name of a file on disk has.
    Memory(PathBuf, Bytes),
}

/// An input before its format is known.
struct Opened {
    stream: Bytestream,
    /// The input itself, where it can be read at any place.
    whole: Option<Whole>,
    watch: Option<Watch>,
    taken: Taken,
}

/// An input of which the format is known.
struct Sniffed {
    format: Format,
    /// The first bytes, which are still in the stream.
    start: Vec<u8>,
    stream: Bytestream,
    /// The input itself, where it can be read at any place and is not compressed.
    whole: Option<Whole>,
    is_compressed: bool,
    watch: Option<Watch>,
    taken: Taken,
    notes: Vec<String>,
}

impl InputFile {
    /// The path by which errors call the file.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Memory(path, _) => path,
        }
    }

    /// Opens the file and starts reading its documents.
    pub(crate) fn documents(&self, options: &ReadOptions, vocabulary: Vocabulary) -> Result<Documents, ImportError> {
        self.open(options, vocabulary).map_err(|fault| ImportError::file(self.path(), fault))
    }

    /// Opens the file, decompresses it, and finds out its format.
    fn sniffed(&self, options: &ReadOptions) -> Result<Sniffed, FileFault> {
        let opened = self.opened()?;
        let (taken, path) = (opened.taken.clone(), self.path());
        let mut notes = Vec::new();
        let promised = Compression::of_name(path);
        let (mut start, mut stream) = peek(opened.stream)?;
        let mut layers = Vec::new();
        // Bare tokens may begin with any bytes.
        let is_bare = options.format.or(Format::of_name(path)).is_some_and(Format::is_tokens) && promised.is_none();
        let max_layers = if is_bare { 0 } else { MAX_LAYERS };
        while let Some(compression) = Compression::of_bytes(&start).filter(|_| layers.len() < max_layers) {
            layers.push(compression);
            (start, stream) = peek(decompressed(stream, compression, taken.clone())?)?;
        }
        match (promised, layers.first()) {
            (Some(compression), None) if start.is_empty() => {
                let reason = "it is empty".to_owned();
                return Err(FileFault::Damaged { format: compression.article(), reason });
            }
            (Some(_), None) => notes.push("is not compressed, in spite of its name".to_owned()),
            (None, Some(compression)) => notes.push(format!("is {}, in spite of its name", compression.article())),
            _ => {}
        }
        let format = format_of(path, &start, options, &mut notes)?;
        if format.is_text() {
            refuse_utf16(&start)?;
        }
        if format.is_text() && start.starts_with(BYTE_ORDER_MARK) {
            stream.read_exact(&mut [0; BYTE_ORDER_MARK.len()])?;
            start.drain(..BYTE_ORDER_MARK.len());
            notes.push("begins with a byte-order mark, which is not taken for text".to_owned());
        }
        let whole = opened.whole.filter(|_| layers.is_empty());
        let watch = opened.watch;
        Ok(Sniffed { format, start, stream, whole, is_compressed: !layers.is_empty(), watch, taken, notes })
    }

    fn open(&self, options: &ReadOptions, vocabulary: Vocabulary) -> Result<Documents, FileFault> {
        let path = self.path();
        let Sniffed { format, start, stream, whole, is_compressed, watch, taken, notes } = self.sniffed(options)?;
        let rows: Box<dyn document::ReadRows> = match format {
            Format::Text => Box::new(text::TextRows::new(stream, options)),
            Format::Jsonl if array::is_array(&start) => {
                Box::new(array::ArrayRows::new(stream, &options.column, options.max_row_bytes()))
            }
            Format::Jsonl => Box::new(jsonl::JsonlRows::new(stream, &options.column, options.max_row_bytes())),
            Format::Csv | Format::Tsv => {
                Box::new(table::TableRows::new(stream, format, &options.column, options.max_row_bytes())?)
            }
            Format::Tokens | Format::Tokens16 | Format::Tokens32 => match megatron::companion(path, "idx") {
                Some(index) if !is_compressed && watch.is_some() => {
                    Box::new(megatron::MegatronRows::new(path, &index, taken.clone())?)
                }
                _ => Box::new(tokens::TokenRows::new(stream, &start, format)?),
            },
            Format::Tar => Box::new(tar::TarRows::new(stream, &options.column, options.max_row_bytes())),
            Format::Arrow if start.starts_with(ARROW_FILE) => {
                let (whole, taken) = at_any_place(whole, stream, &taken)?;
                Box::new(arrow::file_rows(whole, taken, &options.column)?)
            }
            Format::Arrow => Box::new(arrow::stream_rows(stream, &options.column)?),
            Format::Parquet => {
                let (whole, taken) = at_any_place(whole, stream, &taken)?;
                Box::new(parquet::ParquetRows::new(Pages::new(whole, taken), &options.column)?)
            }
        };
        Ok(Documents::new(path.to_owned(), rows, options.clone(), vocabulary)
            .counted(taken)
            .watched(watch)
            .with_notes(notes))
    }

    fn opened(&self) -> Result<Opened, FileFault> {
        let taken = Taken::default();
        let (stream, whole, watch): (Bytestream, _, _) = match self {
            Self::Memory(_, bytes) => {
                let tap = Tap { inner: io::Cursor::new(bytes.clone()), taken: taken.clone() };
                (Box::new(BufReader::new(tap)), Some(Whole::Memory(bytes.clone())), None)
            }
            Self::File(path) if path.as_os_str() == STANDARD_INPUT => {
                (Box::new(BufReader::new(Tap { inner: io::stdin(), taken: taken.clone() })), None, None)
            }
            Self::File(path) => {
                let file = File::open(path)?;
                let watch = Watch::new(&file)?;
                let whole = watch.is_some().then(|| Whole::of_file(file.try_clone()?)).transpose()?;
                let reader = BufReader::with_capacity(1 << 16, Tap { inner: file, taken: taken.clone() });
                (Box::new(reader), whole, watch)
            }
        };
        Ok(Opened { stream, whole, watch, taken })
    }
}

/// The format of an input: the one that was chosen, the one that the first bytes show, or the one that the name
/// promises.
fn format_of(path: &Path, start: &[u8], options: &ReadOptions, notes: &mut Vec<String>) -> Result<Format, FileFault> {
    if let Some(format) = options.format {
        return Ok(format);
    }
    let promised = Format::of_name(path);
    let shown = magic(start, promised == Some(Format::Tokens))?;
    let is_json = || promised.is_some_and(|promised| is_json(start, promised, &options.column));
    match (shown.or_else(|| is_json().then_some(Format::Jsonl)), promised) {
        (Some(shown), Some(promised)) if shown != promised => {
            notes.push(format!("is {}, in spite of its name", shown.article()));
            Ok(shown)
        }
        (Some(format), _) | (None, Some(format)) => Ok(format),
        (None, None) => match start.trim_ascii_start().first() {
            // Without a name, a beginning that only JSON has is enough.
            Some(b'{' | b'[') => Ok(Format::Jsonl),
            _ => Err(FileFault::UnknownKind),
        },
    }
}

/// The input where it can be read at any place, or else a copy of its stream that can be, with the count of its bytes.
fn at_any_place(whole: Option<Whole>, stream: Bytestream, taken: &Taken) -> io::Result<(Whole, Taken)> {
    match whole {
        Some(whole) => Ok((whole, taken.clone())),
        // The bytes of the input are counted when the copy is made.
        None => Ok((Whole::spooled(stream)?, Taken::default())),
    }
}
