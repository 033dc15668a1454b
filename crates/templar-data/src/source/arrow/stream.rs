//! A stream of messages, read from front to back.
//!
//! A stream must have its end mark. Every writer puts one when it is closed, so a stream without it was cut off, or its
//! writer died.

use std::collections::VecDeque;
use std::io::{BufRead, Read};

use arrow_array::RecordBatch;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::Schema;

use super::message::{MAX_METADATA_BYTES, ReadBatches, body_length, call, check_expansion, damaged, message};
use crate::source::fault::FileFault;
use crate::source::kind::ARROW_CONTINUATION;

pub(super) struct Stream<R> {
    reader: R,
    decoder: StreamDecoder,
    /// Batches that were decoded and not yet given out.
    batches: VecDeque<RecordBatch>,
    ended: bool,
}

impl<R: BufRead> Stream<R> {
    /// Reads the first message, which is the schema.
    pub(super) fn open(reader: R) -> Result<(Self, Schema), FileFault> {
        let mut stream = Self { reader, decoder: StreamDecoder::new(), batches: VecDeque::new(), ended: false };
        let metadata = stream.message()?;
        let schema = match &metadata {
            Some(metadata) => message(metadata)?.header_as_schema(),
            None => None,
        };
        let schema = schema.ok_or_else(|| damaged("it has no schema"))?;
        let schema = call(|| try_fb_to_schema(schema))?;
        Ok((stream, schema))
    }

    /// Reads one message and has it decoded. Its description comes back; none where the stream ends.
    fn message(&mut self) -> Result<Option<Vec<u8>>, FileFault> {
        let mut frame = bytes(&mut self.reader, 4)?;
        if frame == ARROW_CONTINUATION {
            frame.extend(bytes(&mut self.reader, 4)?);
        }
        let length = frame.last_chunk().map_or(0, |length| u32::from_le_bytes(*length));
        if length == 0 {
            self.feed(frame)?;
            return self.end().map(|()| None);
        }
        if u64::from(length) > MAX_METADATA_BYTES {
            return Err(damaged(format!("the description of a message has {length} bytes")));
        }
        let metadata = bytes(&mut self.reader, length.into())?;
        let described = message(&metadata)?;
        let body = bytes(&mut self.reader, body_length(described.bodyLength())?)?;
        check_expansion(described, &body)?;
        frame.extend_from_slice(&metadata);
        self.feed(frame)?;
        self.feed(body)?;
        Ok(Some(metadata))
    }

    /// Gives bytes to the decoder and takes the batches that it has.
    fn feed(&mut self, bytes: Vec<u8>) -> Result<(), FileFault> {
        let mut buffer = bytes.into();
        let (decoder, batches) = (&mut self.decoder, &mut self.batches);
        call(|| {
            while let Some(batch) = decoder.decode(&mut buffer)? {
                batches.push_back(batch);
            }
            Ok(())
        })
    }

    /// Reads that nothing follows the end mark.
    fn end(&mut self) -> Result<(), FileFault> {
        self.ended = true;
        if self.reader.fill_buf()?.is_empty() { Ok(()) } else { Err(damaged("something follows its end mark")) }
    }
}

impl<R: BufRead + Send> ReadBatches for Stream<R> {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, FileFault> {
        while self.batches.is_empty() && !self.ended {
            self.message()?;
        }
        Ok(self.batches.pop_front())
    }
}

/// Exactly `length` bytes. Memory grows as they arrive, so a length that is stated wrongly costs none.
fn bytes(reader: &mut impl Read, length: u64) -> Result<Vec<u8>, FileFault> {
    let mut bytes = Vec::new();
    reader.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(damaged("it ends too early")) }
}
