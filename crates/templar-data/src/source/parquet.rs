//! Parquet: the top-level `text` column, read as arrow record batches.
//!
//! The batches are read with a schema of this program's own making, in which the text column is one of plain
//! bytes and no other column has a logical type. There are two reasons:
//!
//! - The arrow reader believes a type that the file's metadata names (`ARROW:schema`). In parquet 60.1 a file
//!   can in this way have bytes taken for UTF-8 that nobody has checked. As bytes they are checked here, and an
//!   error names the row.
//! - A column that is not read cannot spoil the import by a type that arrow does not know.
//!
//! A batch has few rows, since each may be as long as a document may be, and an arrow column of bytes holds at
//! most 2 GiB; beside it, one page of one column is in memory. Statistics in the file are not believed, and the
//! number of rows that it states must be the number that is read. The parquet crate may panic on a damaged
//! file, hence [`guarded`].

use std::path::PathBuf;
use std::sync::Arc;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use ::parquet::basic::{Repetition, Type as Physical};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use ::parquet::file::reader::ChunkReader;
use ::parquet::schema::types::{SchemaDescriptor, Type};
use arrow_array::RecordBatch;

use super::batch::text_at;
use super::document::{DocumentLimits, Documents, TextDocument};
use crate::error::ImportError;
use crate::guard::guarded;

/// The column that holds the documents.
const COLUMN: &str = "text";

/// Rows of a batch.
const ROWS: usize = 8;

/// Opens a parquet file and finds its column.
pub(super) fn documents<R: ChunkReader + 'static>(
    input: R,
    path: PathBuf,
    limits: DocumentLimits,
) -> Result<Documents, ImportError> {
    let failed = |reason: String| ImportError::Parquet { path: path.clone(), reason };
    let metadata = call(|| ParquetMetaDataReader::new().parse_and_finish(&input)).map_err(failed)?;
    let schema = metadata.file_metadata().schema_descr();
    let column = schema.columns().iter().position(|column| {
        let plain = column.max_rep_level() == 0 && column.max_def_level() <= 1;
        plain && column.path().parts() == [COLUMN] && column.physical_type() == Physical::BYTE_ARRAY
    });
    let Some(column) = column else {
        let mut columns: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
        columns.truncate(32);
        return Err(ImportError::NoTextColumn { path, columns });
    };
    let rows = stated_rows(&metadata, column).map_err(failed)?;
    let batches = call(|| {
        let plain = Arc::new(without_logical_types(schema, column)?);
        let projection = ProjectionMask::leaves(&plain, [column]);
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_parquet_schema(plain);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(input, options)?;
        builder.with_projection(projection).with_batch_size(ROWS).build()
    });
    let batches = batches.map_err(failed)?;
    Ok(Box::new(ParquetDocuments { batches, path, limits, rows, batch: None, taken: 0, row: 0, ended: false }))
}

/// The number of rows that the file states, in three places. The arrow reader reads nothing where the first says so.
fn stated_rows(metadata: &ParquetMetaData, column: usize) -> Result<u64, String> {
    let sum = |rows: &mut dyn Iterator<Item = i64>| rows.fold(0i64, i64::saturating_add);
    let file = metadata.file_metadata().num_rows();
    let groups = sum(&mut metadata.row_groups().iter().map(|group| group.num_rows()));
    let values = sum(&mut metadata.row_groups().iter().map(|group| group.column(column).num_values()));
    if file != groups || file != values {
        return Err(format!("it states {file} rows, {groups} in its row groups and {values} in its column"));
    }
    u64::try_from(file).map_err(|_| format!("it states {file} rows"))
}

/// The same columns, each on the top level and of its physical type alone. Only what is read keeps its nulls.
fn without_logical_types(schema: &SchemaDescriptor, text: usize) -> Result<SchemaDescriptor, ParquetError> {
    let mut fields = Vec::with_capacity(schema.num_columns());
    for (index, column) in schema.columns().iter().enumerate() {
        let is_nullable = index == text && column.max_def_level() > 0;
        let field = Type::primitive_type_builder(&index.to_string(), column.physical_type())
            .with_repetition(if is_nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED })
            .with_length(column.type_length())
            .build()?;
        fields.push(Arc::new(field));
    }
    let root = Type::group_type_builder("schema").with_fields(fields).build()?;
    Ok(SchemaDescriptor::new(Arc::new(root)))
}

struct ParquetDocuments {
    batches: ParquetRecordBatchReader,
    path: PathBuf,
    limits: DocumentLimits,
    /// Rows that the file states.
    rows: u64,
    batch: Option<RecordBatch>,
    /// Rows of the batch that were given out.
    taken: usize,
    /// Rows of the file that were given out.
    row: u64,
    ended: bool,
}

impl ParquetDocuments {
    fn step(&mut self) -> Result<Option<TextDocument>, ImportError> {
        let failed = |path: &PathBuf, reason| ImportError::Parquet { path: path.clone(), reason };
        while self.batch.as_ref().is_none_or(|batch| batch.num_rows() == self.taken) {
            let next = call(|| self.batches.next().transpose().map_err(ParquetError::from));
            self.batch = next.map_err(|reason| failed(&self.path, reason))?;
            self.taken = 0;
            if self.batch.is_none() {
                let (rows, found) = (self.rows, self.row);
                let reason = || format!("it states {rows} rows and has {found}");
                return if rows == found { Ok(None) } else { Err(failed(&self.path, reason())) };
            }
        }
        let Some(batch) = &self.batch else { return Ok(None) };
        let (path, row) = (&self.path, self.row + 1);
        let bytes = text_at(batch.column(0), self.taken).map_err(|reason| failed(path, reason))?;
        let bytes = bytes.ok_or_else(|| ImportError::NoText { path: path.clone(), row })?;
        let max_bytes = self.limits.max_document_bytes;
        if bytes.len() > max_bytes {
            return Err(ImportError::TooLong { path: path.clone(), row, max_bytes });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ImportError::NotUtf8 { path: path.clone(), row })?.to_owned();
        (self.row, self.taken) = (row, self.taken + 1);
        Ok(Some(TextDocument { text, row }))
    }
}

impl Iterator for ParquetDocuments {
    type Item = Result<TextDocument, ImportError>;

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
