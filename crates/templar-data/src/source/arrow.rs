//! Arrow IPC: files (`ARROW1`, also called Feather) and streams, such as `datasets` saves.
//!
//! A file is a stream between two marks with a table of contents behind it, so both are read from front to back. The
//! messages are cut out here, because a message states how long it is and what it expands to: both are checked before
//! any memory is taken. Decoding is arrow's work. Memory holds one record batch.
//!
//! A stream must have its end mark. Every writer puts one when it is closed, so a stream without it was cut off, or its
//! writer died.

use std::collections::VecDeque;
use std::io::{BufRead, Read};

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::{MessageHeader, root_as_footer, root_as_message};

use super::batch::Column;
use super::document::{Found, ReadRows};
use super::fault::FileFault;
use super::format::Format;
use super::kind::{ARROW_CONTINUATION, ARROW_FILE};
use crate::guard::guarded;

/// The longest description of a message, and the longest table of contents, in bytes.
const MAX_METADATA_BYTES: u64 = 64 << 20;

/// Zeros between the mark of a file and its first message.
const MAX_ZEROS: usize = 4096;

/// The longest record batch, in bytes, before and after decompression.
const MAX_BODY_BYTES: u64 = 2 << 30;

/// What a compressed record batch may expand to: so many bytes, and so many times its own.
const FREE_BYTES: u64 = 256 << 20;
const FACTOR: u64 = 200;

pub(super) struct ArrowRows<R> {
    reader: R,
    decoder: StreamDecoder,
    path: String,
    column: Option<Column>,
    is_file: bool,
    ended: bool,
    /// Batches that were decoded and not yet read, and the number of batches that were decoded.
    batches: VecDeque<RecordBatch>,
    decoded: u64,
    /// Rows of the first batch that were given out.
    taken: usize,
    row: u64,
}

impl<R: BufRead> ArrowRows<R> {
    /// `start` are the first bytes of the reader.
    pub(super) fn new(mut reader: R, start: &[u8], column: &str) -> Result<Self, FileFault> {
        let is_file = start.starts_with(ARROW_FILE);
        if is_file {
            bytes(&mut reader, ARROW_FILE.len() as u64)?;
            pass_zeros(&mut reader)?;
        }
        let (decoder, batches, path) = (StreamDecoder::new(), VecDeque::new(), column.to_owned());
        let (column, decoded, taken, row) = (None, 0, 0, 0);
        Ok(Self { reader, decoder, path, column, is_file, ended: false, batches, decoded, taken, row })
    }

    /// Reads one message. False after the last one.
    fn message(&mut self) -> Result<bool, FileFault> {
        let mut frame = bytes(&mut self.reader, 4)?;
        if frame == ARROW_CONTINUATION {
            frame.extend(bytes(&mut self.reader, 4)?);
        }
        let length = frame.last_chunk().map_or(0, |length| u32::from_le_bytes(*length));
        if length == 0 {
            self.feed(frame)?;
            self.end()?;
            return Ok(false);
        }
        if u64::from(length) > MAX_METADATA_BYTES {
            return Err(damaged(format!("the description of a message has {length} bytes")));
        }
        let metadata = bytes(&mut self.reader, length.into())?;
        let body_length = body_length(&metadata)?;
        let body = bytes(&mut self.reader, body_length)?;
        check_expansion(&metadata, &body)?;
        frame.extend(metadata);
        self.feed(frame)?;
        self.feed(body)?;
        Ok(true)
    }

    /// Gives bytes to the decoder and takes the batches that it has.
    fn feed(&mut self, bytes: Vec<u8>) -> Result<(), FileFault> {
        let mut buffer = bytes.into();
        let (decoder, batches) = (&mut self.decoder, &mut self.batches);
        let decoded = guarded(|| {
            let mut count = 0;
            while let Some(batch) = decoder.decode(&mut buffer)? {
                batches.push_back(batch);
                count += 1;
            }
            Ok::<u64, arrow_schema::ArrowError>(count)
        });
        self.decoded += decoded.and_then(|done| done.map_err(|error| error.to_string())).map_err(damaged)?;
        if self.column.is_none()
            && let Some(schema) = self.decoder.schema()
        {
            self.column = Some(Column::find(&schema, &self.path)?);
        }
        Ok(())
    }

    /// Reads what follows the last message: nothing, or the table of contents of a file.
    fn end(&mut self) -> Result<(), FileFault> {
        self.ended = true;
        if self.column.is_none() {
            return Err(damaged("it has no schema".to_owned()));
        }
        let mut rest = Vec::new();
        self.reader.by_ref().take(MAX_METADATA_BYTES).read_to_end(&mut rest)?;
        if !self.is_file {
            return if rest.is_empty() { Ok(()) } else { Err(damaged("something follows its end mark".to_owned())) };
        }
        let mark = &ARROW_FILE[..6];
        let footer = rest.strip_suffix(mark).and_then(|rest| {
            let (rest, length) = rest.split_last_chunk()?;
            let start = rest.len().checked_sub(u32::from_le_bytes(*length) as usize)?;
            root_as_footer(&rest[start..]).ok()
        });
        let Some(footer) = footer else { return Err(damaged("it ends too early".to_owned())) };
        let stated = footer.recordBatches().map_or(0, |blocks| blocks.len() as u64);
        if stated != self.decoded {
            return Err(damaged(format!("it states {stated} record batches and has {}", self.decoded)));
        }
        Ok(())
    }
}

impl<R: BufRead + Send> ReadRows for ArrowRows<R> {
    fn next_row(&mut self) -> Result<Option<(u64, Found)>, FileFault> {
        loop {
            match (self.batches.front(), &self.column) {
                (Some(batch), Some(column)) if self.taken < batch.num_rows() => {
                    let found = column.found(batch, self.taken).map_err(damaged)?;
                    (self.taken, self.row) = (self.taken + 1, self.row + 1);
                    return Ok(Some((self.row, found)));
                }
                (Some(_), _) => {
                    self.batches.pop_front();
                    self.taken = 0;
                }
                (None, _) if self.ended => return Ok(None),
                (None, _) => drop(self.message()?),
            }
        }
    }
}

/// Passes over the zeros between the mark and the first message, which some writers put there to begin at a multiple of 64
/// bytes. A message begins with another byte.
fn pass_zeros(reader: &mut impl BufRead) -> Result<(), FileFault> {
    for _ in 0..MAX_ZEROS {
        if reader.fill_buf()?.first() != Some(&0) {
            break;
        }
        reader.consume(1);
    }
    Ok(())
}

/// Exactly `length` bytes. Memory grows as they arrive, so a length that is stated wrongly costs none.
fn bytes(reader: &mut impl Read, length: u64) -> Result<Vec<u8>, FileFault> {
    let mut bytes = Vec::new();
    reader.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(damaged("it ends too early".to_owned())) }
}

fn body_length(metadata: &[u8]) -> Result<u64, FileFault> {
    let message = root_as_message(metadata).map_err(|error| damaged(error.to_string()))?;
    match u64::try_from(message.bodyLength()) {
        Ok(length @ 0..=MAX_BODY_BYTES) => Ok(length),
        _ => {
            let length = message.bodyLength();
            Err(damaged(format!(
                "a record batch has {length} bytes, and {MAX_BODY_BYTES} is the limit: write smaller ones"
            )))
        }
    }
}

/// Checks what the compressed buffers of a message state that they expand to.
fn check_expansion(metadata: &[u8], body: &[u8]) -> Result<(), FileFault> {
    let message = root_as_message(metadata).map_err(|error| damaged(error.to_string()))?;
    let batch = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|batch| batch.data()),
        _ => None,
    };
    let Some(batch) = batch.filter(|batch| batch.compression().is_some()) else { return Ok(()) };
    let stated = batch.buffers().into_iter().flatten().filter_map(|buffer| {
        let start = usize::try_from(buffer.offset()).ok()?;
        // Before each buffer stands what it expands to; -1 is for one that is not compressed.
        body.get(start..)?.first_chunk().map(|length| u64::try_from(i64::from_le_bytes(*length)).unwrap_or(0))
    });
    let stated = stated.fold(0, u64::saturating_add);
    let limit = (body.len() as u64).saturating_mul(FACTOR).saturating_add(FREE_BYTES).min(MAX_BODY_BYTES);
    if stated > limit {
        return Err(damaged(format!(
            "a record batch of {} bytes expands to {stated}; {limit} is the limit",
            body.len()
        )));
    }
    Ok(())
}

fn damaged(reason: impl Into<String>) -> FileFault {
    FileFault::damaged(Format::Arrow, reason.into())
}
