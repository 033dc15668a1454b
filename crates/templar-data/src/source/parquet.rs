//! Parquet: one column, read as arrow record batches, row group by row group.
//!
//! The batches are read with a schema of this program's own making ([`schema`]), in which text is a column of plain
//! bytes and no other column has a logical type. There are two reasons:
//!
//! - The arrow reader believes a type that the file's metadata names (`ARROW:schema`). In parquet 60.1 a file
//!   can in this way have bytes taken for UTF-8 that nobody has checked. As bytes they are checked here, and an
//!   error names the row.
//! - A column that is not read cannot spoil the import by a type that arrow does not know.
//!
//! A batch has few rows, since each may be as long as a document may be, and an arrow column of bytes holds at
//! most 2 GiB; beside it, one page of one column is in memory, whose size [`pages`] bounds. The checksum of a page is
//! verified where it has one. Statistics in the file are not believed, and the number of rows that it states must be
//! the number that is read. The parquet crate may panic on a damaged file, hence [`guarded`].

mod header;
pub(super) mod pages;
mod schema;

use std::ops::Range;
use std::sync::Arc;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use arrow_array::RecordBatch;

use super::batch::Column;
use super::document::{Found, ReadRows};
use super::fault::FileFault;
use super::format::Format;
use crate::guard::guarded;
use crate::words;
use pages::Pages;

/// Rows of a batch.
const ROWS: usize = 8;

pub(super) struct ParquetRows {
    pages: Pages,
    metadata: ArrowReaderMetadata,
    projection: ProjectionMask,
    leaves: Range<usize>,
    column: Column,
    /// The row group that is read, counted from 0, its reader, and the rows of it that were given out.
    group: usize,
    reader: Option<ParquetRecordBatchReader>,
    group_rows: u64,
    batch: Option<RecordBatch>,
    /// Rows of the batch that were given out.
    taken: usize,
    /// Rows of the file that were given out.
    row: u64,
}

impl ParquetRows {
    /// Opens a parquet file and finds its column.
    pub(super) fn new(pages: Pages, column: &str) -> Result<Self, FileFault> {
        let found = call(|| ParquetMetaDataReader::new().parse_and_finish(&pages)).map_err(damaged)?;
        let wanted = schema::find(found.file_metadata().schema_descr(), column)?;
        stated_rows(&found, &wanted).map_err(damaged)?;
        let metadata = call(|| {
            let plain = Arc::new(wanted.plain()?);
            let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_parquet_schema(plain);
            ArrowReaderMetadata::load(&pages, options)
        });
        let metadata = metadata.map_err(damaged)?;
        let projection = ProjectionMask::leaves(metadata.parquet_schema(), wanted.leaves());
        let column = Column::inside(wanted.depth());
        let leaves = wanted.leaves();
        Ok(Self::over(pages, metadata, projection, leaves, column))
    }

    /// Opens a parquet file to read its rows whole.
    pub(super) fn records(pages: Pages) -> Result<Self, FileFault> {
        let options = || ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = call(|| ArrowReaderMetadata::load(&pages, options())).map_err(damaged)?;
        stated_rows_of_groups(metadata.metadata(), None).map_err(damaged)?;
        let leaves = 0..metadata.parquet_schema().num_columns();
        Ok(Self::over(pages, metadata, ProjectionMask::all(), leaves, Column::inside(0)))
    }

    fn over(
        pages: Pages,
        metadata: ArrowReaderMetadata,
        projection: ProjectionMask,
        leaves: Range<usize>,
        column: Column,
    ) -> Self {
        let (reader, batch) = (None, None);
        Self { pages, metadata, projection, leaves, column, group: 0, reader, group_rows: 0, batch, taken: 0, row: 0 }
    }

    /// Reads the next batch that has rows. False at the end of the file.
    fn read(&mut self) -> Result<bool, FileFault> {
        let groups = self.metadata.metadata().num_row_groups();
        while self.group < groups {
            let place = |reason| damaged(format!("row group {} of {groups}: {reason}", self.group + 1));
            if self.reader.is_none() {
                let group = self.metadata.metadata().row_group(self.group);
                let chunks = self.leaves.clone().map(|leaf| group.column(leaf));
                // The crate panics on a chunk with a negative place.
                guarded(|| self.pages.expect(chunks)).map_err(place)?;
                let builder =
                    ParquetRecordBatchReaderBuilder::new_with_metadata(self.pages.clone(), self.metadata.clone());
                let builder = builder.with_projection(self.projection.clone()).with_batch_size(ROWS);
                self.reader = Some(call(|| builder.with_row_groups(vec![self.group]).build()).map_err(place)?);
                self.group_rows = 0;
            }
            let Some(reader) = &mut self.reader else { continue };
            let next = call(|| reader.next().transpose().map_err(ParquetError::from));
            if let Some(fault) = self.pages.take_fault() {
                return Err(fault);
            }
            (self.batch, self.taken) = (next.map_err(place)?, 0);
            if let Some(batch) = &self.batch {
                self.group_rows += batch.num_rows() as u64;
                if batch.num_rows() > 0 {
                    return Ok(true);
                }
                continue;
            }
            let stated = self.metadata.metadata().row_group(self.group).num_rows();
            if u64::try_from(stated) != Ok(self.group_rows) {
                return Err(place(format!("it states {stated} rows and has {}", self.group_rows)));
            }
            (self.group, self.reader) = (self.group + 1, None);
        }
        Ok(false)
    }
}

impl ReadRows for ParquetRows {
    fn next_row(&mut self) -> Result<Option<(u64, Found)>, FileFault> {
        if self.batch.as_ref().is_none_or(|batch| batch.num_rows() == self.taken) && !self.read()? {
            return Ok(None);
        }
        let Some(batch) = &self.batch else { return Ok(None) };
        let found = self.column.found(batch, self.taken).map_err(damaged)?;
        (self.row, self.taken) = (self.row + 1, self.taken + 1);
        Ok(Some((self.row, found)))
    }
}

/// Checks the number of rows that the file states, in three places. The arrow reader reads nothing where the first says
/// so.
fn stated_rows(metadata: &ParquetMetaData, wanted: &schema::Wanted) -> Result<(), String> {
    stated_rows_of_groups(metadata, wanted.flat_leaf())
}

/// The same, where a leaf that has one value a row may be there or not.
fn stated_rows_of_groups(metadata: &ParquetMetaData, flat_leaf: Option<usize>) -> Result<(), String> {
    let sum = |rows: &mut dyn Iterator<Item = i64>| rows.fold(0i64, i64::saturating_add);
    let file = metadata.file_metadata().num_rows();
    let groups = sum(&mut metadata.row_groups().iter().map(|group| group.num_rows()));
    // A list has as many values as it has elements.
    let values = match flat_leaf {
        Some(leaf) => sum(&mut metadata.row_groups().iter().map(|group| group.column(leaf).num_values())),
        None => groups,
    };
    if file != groups || file != values {
        return Err(format!("it states {file} rows, {groups} in its row groups and {values} in its column"));
    }
    if file < 0 { Err(format!("it states {file} rows")) } else { Ok(()) }
}

fn damaged(reason: String) -> FileFault {
    FileFault::damaged(Format::Parquet, reason)
}

/// Calls into the parquet crate; an error or a panic there comes back in words.
fn call<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    guarded(work).and_then(|done| done.map_err(|error| words::parquet(&error)))
}
