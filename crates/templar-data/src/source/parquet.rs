//! Parquet: the top-level `text` column, row by row.
//!
//! The column is read as bytes through parquet's column readers, a few rows at a time, and checked here, so that an
//! error names the row; one page of one column is in memory. Row counts and statistics in the file are not believed.
//! The parquet crate may panic on a damaged file, hence [`guarded`].

use std::collections::VecDeque;
use std::path::PathBuf;

use ::parquet::basic::Type as Physical;
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::{ByteArray, ByteArrayType};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};

use super::{Document, Documents, Limits};
use crate::guard::guarded;
use crate::import::ImportError;

/// The column that holds the documents.
const COLUMN: &str = "text";

/// Rows taken from a page at once: few, as each may be as long as a document may be.
const ROWS: usize = 8;

/// Opens a parquet file and finds its column.
pub(super) fn documents<R: ChunkReader + 'static>(
    input: R,
    path: PathBuf,
    limits: Limits,
) -> Result<Documents, ImportError> {
    let failed = |reason: String| ImportError::Parquet { path: path.clone(), reason };
    let file = call(|| SerializedFileReader::new(input)).map_err(failed)?;
    let schema = file.metadata().file_metadata().schema_descr();
    let column = schema.columns().iter().position(|column| {
        let plain = column.max_rep_level() == 0 && column.max_def_level() <= 1;
        plain && column.path().parts() == [COLUMN] && column.physical_type() == Physical::BYTE_ARRAY
    });
    let Some(column) = column else {
        let mut columns: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
        columns.truncate(32);
        return Err(ImportError::NoTextColumn { path, columns });
    };
    let nullable = schema.column(column).max_def_level() > 0;
    let (rows, row_group, row, ended) = Default::default();
    Ok(Box::new(ParquetDocuments { file, path, limits, column, nullable, pages: None, rows, row_group, row, ended }))
}

struct ParquetDocuments<R: ChunkReader> {
    file: SerializedFileReader<R>,
    path: PathBuf,
    limits: Limits,
    column: usize,
    nullable: bool,
    /// The column of the row group that is being read.
    pages: Option<ColumnReaderImpl<ByteArrayType>>,
    rows: VecDeque<Option<ByteArray>>,
    /// Row groups opened so far.
    row_group: usize,
    /// Rows given out so far.
    row: u64,
    ended: bool,
}

impl<R: ChunkReader + 'static> ParquetDocuments<R> {
    /// Opens the next row group; `false` after the last.
    fn open(&mut self) -> Result<bool, String> {
        if self.row_group == self.file.num_row_groups() {
            return Ok(false);
        }
        let reader = call(|| self.file.get_row_group(self.row_group)?.get_column_reader(self.column))?;
        let ColumnReader::ByteArrayColumnReader(pages) = reader else {
            return Err(format!("row group {} has another type for {COLUMN}", self.row_group));
        };
        self.pages = Some(pages);
        self.row_group += 1;
        Ok(true)
    }

    /// Takes a few rows; `false` at the end of the file.
    fn refill(&mut self) -> Result<bool, String> {
        loop {
            let Some(pages) = &mut self.pages else {
                if self.open()? {
                    continue;
                }
                return Ok(false);
            };
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            let definitions = self.nullable.then_some(&mut levels);
            let (read, _, _) = call(|| pages.read_records(ROWS, definitions, None, &mut values))?;
            if read == 0 {
                self.pages = None;
                continue;
            }
            let mut values = values.into_iter();
            if self.nullable {
                self.rows.extend(levels.iter().map(|&level| if level > 0 { values.next() } else { None }));
            } else {
                self.rows.extend(values.map(Some));
            }
            return Ok(true);
        }
    }

    fn step(&mut self) -> Result<Option<Document>, ImportError> {
        while self.rows.is_empty() {
            if !self.refill().map_err(|reason| ImportError::Parquet { path: self.path.clone(), reason })? {
                return Ok(None);
            }
        }
        let bytes = self.rows.pop_front().flatten();
        self.row += 1;
        let (path, row) = (&self.path, self.row);
        let bytes = bytes.ok_or_else(|| ImportError::NoText { path: path.clone(), row })?;
        let max_bytes = self.limits.max_document_bytes;
        if bytes.len() > max_bytes {
            return Err(ImportError::TooLong { path: path.clone(), row, max_bytes });
        }
        let text = std::str::from_utf8(bytes.data()).map_err(|_| ImportError::NotUtf8 { path: path.clone(), row })?;
        Ok(Some(Document { text: text.to_owned(), row }))
    }
}

impl<R: ChunkReader + 'static> Iterator for ParquetDocuments<R> {
    type Item = Result<Document, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step();
        self.ended = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

/// Calls into the parquet crate; an error or a panic there comes back as its text.
fn call<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    guarded(work).and_then(|done| done.map_err(|error| error.to_string()))
}
