//! Writes part files.

use std::io::{self, Write};
use std::sync::Arc;

use arrow_array::builder::{FixedSizeBinaryBuilder, LargeBinaryBuilder};
use arrow_array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use templar_manifest::BlobId;

use super::error::PartError;
use super::{BLOB_KEY, CHECK_BYTES, PLAN_KEY, PartHeader, check, schema};
use crate::encode::EncodedBatch;
use crate::words;

/// A row group ends where it has this many bytes, so that neither the writer nor the reader needs much memory.
const GROUP_BYTES: usize = 32 << 20;

/// A part file that is being written.
pub(crate) struct PartWriter<W: Write + Send> {
    writer: ArrowWriter<W>,
    token_bytes: usize,
}

impl<W: Write + Send> PartWriter<W> {
    /// Begins a part file. The texts that the dataset names beside its shards go into part 1.
    pub(crate) fn new(out: W, header: &PartHeader, texts: &[&[u8]]) -> Result<Self, PartError> {
        let plan = serde_json::to_string(header).map_err(unwritable)?;
        let mut metadata = vec![KeyValue::new(PLAN_KEY.to_owned(), plan)];
        for text in texts.iter().filter(|_| header.part.number() == 1) {
            let value = str::from_utf8(text).map_err(unwritable)?;
            metadata.push(KeyValue::new(format!("{BLOB_KEY}{}", BlobId::of(text)), value.to_owned()));
        }
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_created_by("templar".to_owned())
            .set_key_value_metadata(Some(metadata))
            .build();
        let writer = ArrowWriter::try_new(out, schema(), Some(properties)).map_err(failed)?;
        Ok(Self { writer, token_bytes: header.plan.dataset.token_bytes as usize })
    }

    /// Appends the documents of a batch.
    pub(crate) fn push(&mut self, batch: &EncodedBatch) -> Result<(), PartError> {
        let file = u32::try_from(batch.file).map_err(|_| unwritable("there are too many files"))?;
        let rows = batch.documents.len();
        let mut checks = FixedSizeBinaryBuilder::with_capacity(rows, CHECK_BYTES as i32);
        let mut column = LargeBinaryBuilder::new();
        let mut bytes = Vec::new();
        for document in &batch.documents {
            bytes.clear();
            document.tokens.iter().for_each(|token| bytes.extend_from_slice(&token.to_le_bytes()[..self.token_bytes]));
            checks.append_value(check(file, batch.number, &bytes)).map_err(unwritable)?;
            column.append_value(&bytes);
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(vec![file; rows])),
            Arc::new(UInt64Array::from(vec![batch.number; rows])),
            Arc::new(column.finish()),
            Arc::new(checks.finish()),
        ];
        let rows = RecordBatch::try_new(schema(), columns).map_err(unwritable)?;
        self.writer.write(&rows).map_err(failed)?;
        if self.writer.in_progress_size() >= GROUP_BYTES {
            self.writer.flush().map_err(failed)?;
        }
        Ok(())
    }

    /// Ends the file, and gives back what it was written to.
    pub(crate) fn finish(self) -> Result<W, PartError> {
        self.writer.into_inner().map_err(failed)
    }
}

fn failed(error: ParquetError) -> PartError {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => PartError::Write(*error),
            Err(error) => unwritable(error),
        },
        error => unwritable(words::parquet(&error)),
    }
}

fn unwritable(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> PartError {
    PartError::Write(io::Error::other(reason))
}
