//! A file of Arrow IPC, read by the table of contents at its end.
//!
//! The table names the schema and the place of every message. Places that lie over each other are refused: a small file
//! could otherwise name one record batch a million times.

use std::vec;

use arrow_array::RecordBatch;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::{Block, root_as_footer};
use arrow_schema::Schema;
use bytes::Bytes;

use super::message::{MAX_METADATA_BYTES, ReadBatches, body_length, call, check_expansion, damaged, message};
use crate::source::fault::FileFault;
use crate::source::input::Taken;
use crate::source::kind::{ARROW_CONTINUATION, ARROW_FILE};
use crate::source::whole::Whole;
use crate::words;

/// The bytes after the table of contents: its length in four bytes, and the mark of a file.
const TAIL_BYTES: usize = 10;

pub(super) struct File {
    whole: Whole,
    taken: Taken,
    decoder: FileDecoder,
    dictionaries: vec::IntoIter<Block>,
    batches: vec::IntoIter<Block>,
}

impl File {
    /// Reads the table of contents.
    pub(super) fn open(whole: Whole, taken: Taken) -> Result<(Self, Schema), FileFault> {
        let footer = footer(&whole)?;
        taken.add(footer.len() as u64);
        let footer = root_as_footer(&footer).map_err(|error| damaged(words::arrow(&error)))?;
        let schema = footer.schema().ok_or_else(|| damaged("it has no schema"))?;
        let schema = call(|| try_fb_to_schema(schema))?;
        let decoder = FileDecoder::new(schema.clone().into(), footer.version());
        let dictionaries: Vec<Block> = footer.dictionaries().into_iter().flatten().copied().collect();
        let batches: Vec<Block> = footer.recordBatches().into_iter().flatten().copied().collect();
        check_places(dictionaries.iter().chain(&batches), whole.length())?;
        let (dictionaries, batches) = (dictionaries.into_iter(), batches.into_iter());
        Ok((Self { whole, taken, decoder, dictionaries, batches }, schema))
    }

    /// Decodes one field of the schema only.
    pub(super) fn with_field(mut self, field: usize) -> Self {
        self.decoder = self.decoder.with_projection(vec![field]);
        self
    }

    /// The message at a place, with what stands before it and its body.
    fn message(&self, block: &Block) -> Result<Bytes, FileFault> {
        let (metadata_length, body_length) = lengths(block)?;
        let length = metadata_length + body_length;
        let bytes = self.whole.bytes(block.offset().unsigned_abs(), length as usize)?;
        self.taken.add(bytes.len() as u64);
        if bytes.len() as u64 != length {
            return Err(damaged("it ends inside of a record batch"));
        }
        let (metadata, body) = bytes.split_at(metadata_length as usize);
        let before = if metadata.starts_with(&ARROW_CONTINUATION) { 8 } else { 4 };
        let described = message(metadata.get(before..).unwrap_or_default())?;
        if described.bodyLength() != block.bodyLength() {
            let (found, stated) = (described.bodyLength(), block.bodyLength());
            return Err(damaged(format!("a record batch has {found} bytes where the table of contents has {stated}")));
        }
        check_expansion(described, body)?;
        Ok(bytes)
    }
}

impl ReadBatches for File {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, FileFault> {
        while let Some(block) = self.dictionaries.next() {
            let bytes = self.message(&block)?;
            call(|| self.decoder.read_dictionary(&block, &bytes.into()))?;
        }
        let Some(block) = self.batches.next() else { return Ok(None) };
        let bytes = self.message(&block)?;
        let batch = call(|| self.decoder.read_record_batch(&block, &bytes.into()))?;
        batch.map(Some).ok_or_else(|| damaged("a record batch has no content"))
    }
}

/// The bytes of the table of contents.
fn footer(whole: &Whole) -> Result<Bytes, FileFault> {
    let cut_off = || damaged("it ends too early");
    let end = whole.length().checked_sub(TAIL_BYTES as u64).ok_or_else(cut_off)?;
    let tail: [u8; TAIL_BYTES] = whole.bytes(end, TAIL_BYTES)?.as_ref().try_into().map_err(|_| cut_off())?;
    let length = read_footer_length(tail).map_err(|_| cut_off())? as u64;
    let start = end.checked_sub(length).filter(|&start| start >= ARROW_FILE.len() as u64 && length > 0);
    match start {
        Some(start) if length <= MAX_METADATA_BYTES => Ok(whole.bytes(start, length as usize)?),
        _ => Err(damaged(format!("its table of contents has {length} bytes"))),
    }
}

/// The lengths of a message's description and of its body.
fn lengths(block: &Block) -> Result<(u64, u64), FileFault> {
    match u64::try_from(block.metaDataLength()) {
        Ok(metadata @ 4..=MAX_METADATA_BYTES) => Ok((metadata, body_length(block.bodyLength())?)),
        _ => Err(damaged(format!("the description of a message has {} bytes", block.metaDataLength()))),
    }
}

/// Checks that the messages lie inside of the file, and not one over the other.
fn check_places<'a>(blocks: impl Iterator<Item = &'a Block>, length: u64) -> Result<(), FileFault> {
    let mut places = Vec::new();
    for block in blocks {
        let start = u64::try_from(block.offset()).map_err(|_| damaged("a message lies before the file"))?;
        let (metadata, body) = lengths(block)?;
        places.push((start, start.saturating_add(metadata + body)));
    }
    places.sort_unstable();
    if places.last().is_some_and(|(_, end)| *end > length) {
        return Err(damaged("it ends too early"));
    }
    if places.windows(2).any(|pair| pair[0].1 > pair[1].0) {
        return Err(damaged("its messages lie one over the other"));
    }
    Ok(())
}
