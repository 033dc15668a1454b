//! The files of a benchmark: their rows and their hashes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use templar_data::{ImportError, read_records};
use templar_manifest::{BlobId, MAX_BENCHMARK_BYTES};

use crate::benchmark::{BadRow, sources};
use crate::examples::Source;
use crate::task::Task;

/// The longest text that is measured, in bytes. It is tokenised as a whole.
pub const MAX_TEXT_BYTES: u64 = MAX_BENCHMARK_BYTES;

/// A file of a benchmark cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// It cannot be read as a table.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A row is no question of the task.
    #[error("{} is no file of {task}", path.display())]
    Row {
        /// The path of the file.
        path: PathBuf,
        /// The name of the task.
        task: Task,
        /// The row and the field.
        source: BadRow,
    },
    /// There is no question in it.
    #[error("{} has no rows", path.display())]
    Empty {
        /// The path of the file.
        path: PathBuf,
    },
    /// The operating system cannot read it.
    #[error("{} cannot be read", path.display())]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A text is too long.
    #[error("{} has {bytes} bytes; {MAX_TEXT_BYTES} is the limit for a text", path.display())]
    TooLong {
        /// The path of the file.
        path: PathBuf,
        /// Its bytes.
        bytes: u64,
    },
    /// A text is not UTF-8.
    #[error("{} is not UTF-8", path.display())]
    NotUtf8 {
        /// The path of the file.
        path: PathBuf,
    },
}

/// Files with the questions or examples of a task.
#[derive(Debug, Default)]
pub struct Table {
    /// The hash of each file, in order.
    pub files: Vec<BlobId>,
    /// The rows of all files, in order.
    pub sources: Vec<Source>,
}

impl Table {
    /// Reads files whole. At most the first `limit` questions of each subject are kept.
    ///
    /// # Errors
    /// [`FilesError`]
    pub fn read(task: Task, paths: &[PathBuf], limit: Option<u64>) -> Result<Self, FilesError> {
        let mut table = Self::default();
        for path in paths {
            table.files.push(file_id(path)?);
            let rows = sources(task, read_records(path)?);
            let rows = rows.map_err(|source| FilesError::Row { path: path.clone(), task, source })?;
            if rows.is_empty() {
                return Err(FilesError::Empty { path: path.clone() });
            }
            table.sources.extend(rows);
        }
        if let Some(limit) = limit {
            table.keep(limit);
        }
        Ok(table)
    }

    /// Keeps the first questions of each subject.
    fn keep(&mut self, limit: u64) {
        let mut seen = std::collections::BTreeMap::<Option<String>, u64>::new();
        self.sources.retain(|source| {
            let count = seen.entry(source.item.subject.clone()).or_default();
            *count += 1;
            *count <= limit
        });
    }
}

/// The hash of a file's bytes.
///
/// # Errors
/// The operating system cannot read it.
pub fn file_id(path: &Path) -> Result<BlobId, FilesError> {
    let failed = |source| FilesError::Io { path: path.to_owned(), source };
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path).map_err(failed)?).map_err(failed)?;
    Ok(BlobId::new(hasher.finalize().into()))
}

/// Reads a text whole.
///
/// # Errors
/// [`FilesError`]
pub fn read_text(path: &Path) -> Result<String, FilesError> {
    let failed = |source| FilesError::Io { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > MAX_TEXT_BYTES {
        return Err(FilesError::TooLong { path: path.to_owned(), bytes });
    }
    String::from_utf8(std::fs::read(path).map_err(failed)?).map_err(|_| FilesError::NotUtf8 { path: path.to_owned() })
}
