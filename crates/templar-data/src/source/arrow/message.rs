//! The messages of Arrow IPC. Their stated lengths are checked before anything is decoded.

use arrow_array::RecordBatch;
use arrow_ipc::{Message, MessageHeader, root_as_message};
use arrow_schema::ArrowError;

use crate::guard::guarded;
use crate::source::fault::FileFault;
use crate::source::format::Format;
use crate::words;

/// The longest description of a message, and the longest table of contents, in bytes.
pub(super) const MAX_METADATA_BYTES: u64 = 64 << 20;

/// The longest record batch, in bytes, before and after decompression.
const MAX_BODY_BYTES: u64 = 2 << 30;

/// The size to which a compressed record batch may expand: so many bytes, and so many times its own.
const FREE_BYTES: u64 = 256 << 20;
const FACTOR: u64 = 200;

/// A message by its description.
///
/// # Errors
/// The description is no message.
pub(super) fn message(metadata: &[u8]) -> Result<Message<'_>, FileFault> {
    root_as_message(metadata).map_err(|error| damaged(words::arrow(&error)))
}

/// The length of the body that belongs to a message, in bytes.
///
/// # Errors
/// It is negative, or longer than a record batch may be.
pub(super) fn body_length(stated: i64) -> Result<u64, FileFault> {
    match u64::try_from(stated) {
        Ok(length @ 0..=MAX_BODY_BYTES) => Ok(length),
        _ => Err(damaged(format!(
            "a record batch has {stated} bytes, and {MAX_BODY_BYTES} is the limit: write smaller ones"
        ))),
    }
}

/// Checks what the compressed buffers of a message state that they expand to.
///
/// # Errors
/// They state too much.
pub(super) fn check_expansion(message: Message<'_>, body: &[u8]) -> Result<(), FileFault> {
    let batch = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|batch| batch.data()),
        _ => None,
    };
    let Some(batch) = batch.filter(|batch| batch.compression().is_some()) else { return Ok(()) };
    let stated = batch.buffers().into_iter().flatten().filter(|buffer| buffer.length() != 0).filter_map(|buffer| {
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

/// Calls into arrow; an error or a panic there comes back as a fault.
pub(super) fn call<T>(work: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, FileFault> {
    guarded(work).and_then(|done| done.map_err(|error| words::arrow(&error))).map_err(damaged)
}

/// A source of record batches that all have the same schema.
pub(super) trait ReadBatches: Send {
    /// The next batch; none at the end.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, FileFault>;
}

pub(super) fn damaged(reason: impl Into<String>) -> FileFault {
    FileFault::damaged(Format::Arrow, reason.into())
}
