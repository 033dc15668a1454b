//! Reads part files. Nothing in one is believed before its check is computed.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{UInt32Type, UInt64Type};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use templar_manifest::Payload;

use super::error::PartError;
use super::{BLOB_KEY, FORMAT, PLAN_KEY, PartHeader, check, schema};
use crate::encode::EncodedDocument;
use crate::guard::guarded;
use crate::shard::decode_tokens;
use crate::words;

/// Rows that are in memory at a time.
const ROWS: usize = 64;

/// The place of a document in the whole text: its file and its batch.
pub(crate) type RowPlace = (u32, u64);

/// A part file that is being read.
pub(crate) struct PartReader {
    path: PathBuf,
    pub(crate) header: PartHeader,
    /// The texts that the dataset names beside its shards, in part 1.
    pub(crate) texts: Vec<Vec<u8>>,
    rows: ParquetRecordBatchReader,
    batch: RecordBatch,
    /// The row of the batch that comes next, and its number in the file, from 1.
    at: usize,
    row: u64,
}

impl PartReader {
    /// Opens a part file, and reads its metadata.
    pub(crate) fn open(path: &Path) -> Result<Self, PartError> {
        let file = File::open(path).map_err(|source| PartError::Io { path: path.to_owned(), source })?;
        let not_a_part = |reason: String| PartError::NotAPart { path: path.to_owned(), reason };
        let options = ArrowReaderOptions::new().with_schema(schema());
        let builder = call(|| ParquetRecordBatchReaderBuilder::try_new_with_options(file, options));
        let builder = builder.map_err(not_a_part)?;
        let metadata = builder.metadata().file_metadata().key_value_metadata().map(Vec::as_slice).unwrap_or_default();
        let plan = metadata.iter().find(|pair| pair.key == PLAN_KEY).and_then(|pair| pair.value.as_ref());
        let plan = plan.ok_or_else(|| not_a_part(format!("its metadata has no {PLAN_KEY}")))?;
        let header: PartHeader = serde_json::from_str(plan).map_err(|error| not_a_part(words::json(&error)))?;
        if header.plan.format != FORMAT {
            return Err(not_a_part(format!("its format is {}, and {FORMAT} is known", header.plan.format)));
        }
        header.plan.dataset.check().map_err(not_a_part)?;
        let texts = metadata.iter().filter(|pair| pair.key.starts_with(BLOB_KEY));
        let texts = texts.filter_map(|pair| pair.value.clone()).map(String::into_bytes).collect();
        let rows = call(|| builder.with_batch_size(ROWS).build()).map_err(not_a_part)?;
        let batch = RecordBatch::new_empty(schema());
        Ok(Self { path: path.to_owned(), header, texts, rows, batch, at: 0, row: 1 })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The place of the next document; none at the end.
    pub(crate) fn place(&mut self) -> Result<Option<RowPlace>, PartError> {
        while self.at == self.batch.num_rows() {
            let next = call(|| self.rows.next().transpose().map_err(ParquetError::from));
            let Some(batch) = next.map_err(|reason| self.damaged(reason))? else { return Ok(None) };
            (self.batch, self.at) = (batch, 0);
        }
        let file = self.batch.column(0).as_primitive::<UInt32Type>().value(self.at);
        let batch = self.batch.column(1).as_primitive::<UInt64Type>().value(self.at);
        Ok(Some((file, batch)))
    }

    /// The next document, after [`place`](Self::place) has told that there is one.
    pub(crate) fn document(&mut self) -> Result<EncodedDocument, PartError> {
        let Some((file, batch)) = self.place()? else { return Err(self.damaged("it ends too early".to_owned())) };
        let bytes = self.batch.column(2).as_binary::<i64>().value(self.at);
        let is_sound = self.batch.column(3).as_fixed_size_binary().value(self.at) == check(file, batch, bytes);
        let token_bytes = self.header.plan.dataset.token_bytes;
        if !is_sound || !bytes.len().is_multiple_of(token_bytes as usize) {
            return Err(self.damaged("its check does not fit".to_owned()));
        }
        let tokens: Vec<u32> = decode_tokens(bytes, token_bytes).collect();
        if tokens.iter().any(|&token| token >= self.header.plan.dataset.vocab_size) {
            return Err(self.damaged("it holds a token outside the vocabulary".to_owned()));
        }
        self.at += 1;
        self.row += 1;
        Ok(EncodedDocument::new(tokens))
    }

    pub(crate) fn damaged(&self, reason: String) -> PartError {
        PartError::Damaged { path: self.path.clone(), row: self.row, reason }
    }
}

/// Calls into the parquet crate; an error or a panic there comes back in words.
fn call<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    guarded(work).and_then(|done| done.map_err(|error| words::parquet(&error)))
}
