//! Where documents come from: files and folders, in an order that everybody finds alike.
//!
//! Files are read in the order given; a folder stands for the files below it with a known extension, its entries sorted
//! by the bytes of their names. Every reader gives one document at a time and holds little more than that, so an input
//! of any size takes the same memory. Rows and lines are counted from 1, as editors do.

mod jsonl;
mod parquet;
mod text;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::import::ImportError;

/// How deep a folder may nest; a link that leads back up ends here.
const MAX_DEPTH: usize = 32;

/// One text, and the row or line where it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) text: String,
    pub(crate) row: u64,
}

/// The documents of one file, in order. After an error nothing follows.
pub(crate) type Documents = Box<dyn Iterator<Item = Result<Document, ImportError>>>;

/// Sizes that a reader respects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The longest document.
    pub(crate) max_document_bytes: usize,
    /// The length from which plain text is cut.
    pub(crate) text_document_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Parquet,
    Jsonl,
    Text,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_ascii_lowercase().to_str()? {
            "parquet" => Some(Self::Parquet),
            "jsonl" => Some(Self::Jsonl),
            "txt" => Some(Self::Text),
            _ => None,
        }
    }
}

/// One input of an import.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A file on disk.
    File(PathBuf),
    /// A file in memory, its name ending like that of a file on disk.
    Memory(PathBuf, Bytes),
}

impl Source {
    /// What errors call it.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Memory(path, _) => path,
        }
    }

    /// Starts reading.
    pub(crate) fn documents(&self, limits: Limits) -> Result<Documents, ImportError> {
        let path = self.path().to_owned();
        let format = Format::of(&path).ok_or_else(|| ImportError::Unsupported { path: path.clone() })?;
        match self {
            Self::File(_) => {
                let file = File::open(&path).map_err(|error| ImportError::io(&path, error))?;
                match format {
                    Format::Parquet => parquet::documents(file, path, limits),
                    _ => Ok(lines(format, BufReader::new(file), path, limits)),
                }
            }
            Self::Memory(_, bytes) => match format {
                Format::Parquet => parquet::documents(bytes.clone(), path, limits),
                _ => Ok(lines(format, io::Cursor::new(bytes.clone()), path, limits)),
            },
        }
    }
}

fn lines<R: BufRead + 'static>(format: Format, reader: R, path: PathBuf, limits: Limits) -> Documents {
    match format {
        Format::Text => Box::new(text::TextDocuments::new(reader, path, limits)),
        _ => Box::new(jsonl::JsonlDocuments::new(reader, path, limits)),
    }
}

/// The files that `paths` stand for, in the order in which they are read.
pub(crate) fn expand(paths: &[PathBuf]) -> Result<Vec<Source>, ImportError> {
    let mut files = Vec::new();
    for path in paths {
        let metadata = std::fs::metadata(path).map_err(|error| ImportError::io(path, error))?;
        if metadata.is_dir() {
            let before = files.len();
            walk(path, 0, &mut files)?;
            if files.len() == before {
                return Err(ImportError::EmptyFolder { path: path.clone() });
            }
        } else if Format::of(path).is_some() {
            files.push(path.clone());
        } else {
            return Err(ImportError::Unsupported { path: path.clone() });
        }
    }
    if files.is_empty() {
        return Err(ImportError::NoSources);
    }
    Ok(files.into_iter().map(Source::File).collect())
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), ImportError> {
    if depth == MAX_DEPTH {
        return Err(ImportError::TooDeep { path: folder.to_owned(), max_depth: MAX_DEPTH });
    }
    let entries: io::Result<Vec<_>> = std::fs::read_dir(folder).and_then(Iterator::collect);
    let mut names: Vec<_> =
        entries.map_err(|error| ImportError::io(folder, error))?.into_iter().map(|entry| entry.file_name()).collect();
    names.sort_by(|a, b| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
    for name in names {
        let path = folder.join(name);
        let metadata = std::fs::metadata(&path).map_err(|error| ImportError::io(&path, error))?;
        if metadata.is_dir() {
            walk(&path, depth + 1, files)?;
        } else if Format::of(&path).is_some() {
            files.push(path);
        }
    }
    Ok(())
}

/// What [`read_line`] found.
enum Line {
    /// The end of the file.
    End,
    /// A line, its end included, is in the buffer.
    Read,
    /// The line is longer than allowed.
    TooLong,
}

/// Reads one line with its line end into `line` (emptied first), and never more than `max_bytes` of it.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>, max_bytes: usize) -> io::Result<Line> {
    line.clear();
    let read = reader.by_ref().take(max_bytes as u64 + 1).read_until(b'\n', line)?;
    Ok(match read {
        0 => Line::End,
        _ if line.len() > max_bytes => Line::TooLong,
        _ => Line::Read,
    })
}
