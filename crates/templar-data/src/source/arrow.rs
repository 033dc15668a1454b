//! Arrow IPC: files (`ARROW1`, also called Feather) and streams, such as `datasets` saves.
//!
//! A [stream](stream) is read from front to back. A [file](file) is read by the table of contents at its end, as its
//! specification asks: what lies before the first record batch differs from writer to writer. The messages are cut out
//! here, because a [message] states how long it is and what it expands to: both are checked before any memory is taken.
//! Decoding is arrow's work. Memory holds one record batch, and the dictionaries.

mod file;
mod message;
mod stream;

use std::io::BufRead;

use arrow_array::RecordBatch;

use self::message::{ReadBatches, damaged};
use super::batch::Column;
use super::document::{Found, ReadRows};
use super::fault::FileFault;
use super::input::Taken;
use super::whole::Whole;

/// The rows of one column of record batches.
pub(super) struct ArrowRows<B> {
    batches: B,
    column: Column,
    batch: Option<RecordBatch>,
    /// Rows of the batch that were given out, and rows of all batches.
    taken: usize,
    row: u64,
}

/// The rows of a stream.
pub(super) fn stream_rows<R: BufRead + Send>(reader: R, column: &str) -> Result<impl ReadRows + use<R>, FileFault> {
    let (batches, schema) = stream::Stream::open(reader)?;
    Ok(ArrowRows::new(batches, Column::find(&schema, column)?))
}

/// The rows of a file. Only the column is decoded, so that another one cannot spoil it.
pub(super) fn file_rows(whole: Whole, taken: Taken, column: &str) -> Result<impl ReadRows + use<>, FileFault> {
    let (batches, schema) = file::File::open(whole, taken)?;
    let mut column = Column::find(&schema, column)?;
    let field = column.alone();
    Ok(ArrowRows::new(batches.with_field(field), column))
}

/// The whole rows of a stream.
pub(super) fn stream_records<R: BufRead + Send>(reader: R) -> Result<impl ReadRows + use<R>, FileFault> {
    let (batches, _) = stream::Stream::open(reader)?;
    Ok(ArrowRows::new(batches, Column::inside(0)))
}

/// The whole rows of a file.
pub(super) fn file_records(whole: Whole, taken: Taken) -> Result<impl ReadRows, FileFault> {
    let (batches, _) = file::File::open(whole, taken)?;
    Ok(ArrowRows::new(batches, Column::inside(0)))
}

impl<B> ArrowRows<B> {
    fn new(batches: B, column: Column) -> Self {
        Self { batches, column, batch: None, taken: 0, row: 0 }
    }
}

impl<B: ReadBatches> ReadRows for ArrowRows<B> {
    fn next_row(&mut self) -> Result<Option<(u64, Found)>, FileFault> {
        loop {
            if let Some(batch) = self.batch.as_ref().filter(|batch| self.taken < batch.num_rows()) {
                let found = self.column.found(batch, self.taken).map_err(damaged)?;
                (self.taken, self.row) = (self.taken + 1, self.row + 1);
                return Ok(Some((self.row, found)));
            }
            (self.batch, self.taken) = (self.batches.next_batch()?, 0);
            if self.batch.is_none() {
                return Ok(None);
            }
        }
    }
}
