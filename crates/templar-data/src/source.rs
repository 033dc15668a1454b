//! The sources of documents: files and folders, read in an order that is the same on every machine.
//!
//! Files are read in the order given. A folder stands for the files below it that have a known extension,
//! sorted by the bytes of their names. Every reader gives one document at a time and holds little more than
//! that, so an input of any size takes the same memory. Rows and lines are counted from 1, as in an editor.

mod batch;
mod document;
mod jsonl;
mod lines;
mod parquet;
mod text;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::error::ImportError;

pub(crate) use document::{DocumentLimits, Documents, TextDocument};

/// The number of levels that a folder may nest. A link that leads back up ends here.
const MAX_DEPTH: usize = 32;

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
pub(crate) enum InputFile {
    /// A file on disk.
    File(PathBuf),
    /// A file in memory. Its name has an extension, as the name of a file on disk has.
    Memory(PathBuf, Bytes),
}

impl InputFile {
    /// The path by which errors call the file.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Memory(path, _) => path,
        }
    }

    /// Opens the file and starts reading its documents.
    pub(crate) fn documents(&self, limits: DocumentLimits) -> Result<Documents, ImportError> {
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

fn lines<R: BufRead + 'static>(format: Format, reader: R, path: PathBuf, limits: DocumentLimits) -> Documents {
    match format {
        Format::Text => Box::new(text::TextDocuments::new(reader, path, limits)),
        _ => Box::new(jsonl::JsonlDocuments::new(reader, path, limits)),
    }
}

/// Replaces each folder among `paths` by its files. The result is in the order in which the files are read.
pub(crate) fn expand(paths: &[PathBuf]) -> Result<Vec<InputFile>, ImportError> {
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
    Ok(files.into_iter().map(InputFile::File).collect())
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
