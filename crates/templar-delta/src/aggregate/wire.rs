//! The bytes of an aggregate. The crate's documentation specifies them; bodies are those of a delta.

use std::ops::Range;

use templar_manifest::Hash;

use crate::AggregateError;
use crate::decode::{CheckedTensor, Delta};
use crate::fields::{Fields, Unreadable, put_number};
use crate::settings::{DeltaSettings, quantiser_byte, quantiser_of};

const MAGIC: [u8; 8] = *b"TPLAGGRE";
const VERSION: u8 = 0;
/// The most bytes of a header: ten bytes, the run, and five numbers, which are window, block side, top-k,
/// contributors and tensors.
pub(super) const MAX_HEADER_BYTES: usize = 42 + 10 + 2 + 3 + 3 + 3;

/// The most deltas that an aggregate can be made of.
pub const MAX_CONTRIBUTORS: usize = 1 << 16;

/// The run and the window of an aggregate, and the number of deltas that it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AggregateHeader {
    /// The id of the run.
    pub run: Hash,
    /// The window, counted from 0.
    pub window: u64,
    /// The number of deltas that it is made of.
    pub contributors: usize,
}

/// Writes the aggregate of deltas, which the caller has compared with each other. Returns its bytes and the
/// parts that lie in them.
pub(super) fn write(
    header: &AggregateHeader,
    settings: &DeltaSettings,
    tensors: usize,
    deltas: &[&Delta],
) -> (Vec<u8>, Vec<CheckedTensor>) {
    let places = || (0..tensors).flat_map(|index| deltas.iter().map(move |delta| (delta, delta.part(index))));
    let count = tensors * deltas.len();
    let bodies: usize = deltas.iter().map(|delta| delta.bytes().len()).sum();
    let mut bytes = Vec::with_capacity(MAX_HEADER_BYTES + bodies);
    bytes.extend_from_slice(&MAGIC);
    bytes.push(VERSION);
    bytes.push(quantiser_byte(settings.quantiser()));
    bytes.extend_from_slice(header.run.as_bytes());
    put_number(&mut bytes, header.window);
    put_number(&mut bytes, settings.block_side().into());
    put_number(&mut bytes, settings.top_k().into());
    put_number(&mut bytes, header.contributors as u64);
    put_number(&mut bytes, tensors as u64);
    for (_, part) in places() {
        put_number(&mut bytes, part.body.range().len() as u64);
    }
    let mut parts = Vec::with_capacity(count);
    for (delta, part) in places() {
        parts.push(CheckedTensor { body: part.body.moved(bytes.len()), ..*part });
        bytes.extend_from_slice(&delta.bytes()[part.body.range()]);
    }
    (bytes, parts)
}

/// Compares a value in the bytes with the value that is expected.
fn compare<T: PartialEq + ToString>(what: &'static str, found: T, expected: T) -> Result<(), AggregateError> {
    if found == expected {
        return Ok(());
    }
    Err(AggregateError::Other { what, found: found.to_string(), expected: expected.to_string() })
}

/// Parses the header and the directory, and checks that they are those expected and that the lengths add up.
pub(super) fn parse(
    bytes: &[u8],
    tensors: usize,
    settings: &DeltaSettings,
    expected: &AggregateHeader,
) -> Result<Vec<Range<usize>>, AggregateError> {
    let length = bytes.len() as u64;
    let error = |error| match error {
        Unreadable::Truncated(needed) => AggregateError::Truncated { length, needed },
        Unreadable::Number(offset) => AggregateError::Number { offset },
        Unreadable::Trailing(needed) => AggregateError::Trailing { length, needed },
    };
    let mut fields = Fields::new(bytes);
    if fields.take::<8>().map_err(error)? != MAGIC {
        return Err(AggregateError::NotAnAggregate);
    }
    let [version] = fields.take().map_err(error)?;
    if version != VERSION {
        return Err(AggregateError::Version { found: version });
    }
    let [quantiser] = fields.take().map_err(error)?;
    let name = |byte: u8| quantiser_of(byte).map_or_else(|| byte.to_string(), |known| known.to_string());
    compare("quantiser", name(quantiser), settings.quantiser().to_string())?;
    compare("run", Hash::from_bytes(fields.take().map_err(error)?), expected.run)?;
    compare("window", fields.number().map_err(error)?, expected.window)?;
    compare("block side", fields.number().map_err(error)?, settings.block_side().into())?;
    compare("top-k", fields.number().map_err(error)?, settings.top_k().into())?;
    compare("number of contributors", fields.number().map_err(error)?, expected.contributors as u64)?;
    compare("number of tensors", fields.number().map_err(error)?, tensors as u64)?;
    // At most 2^20 tensors of 2^16 contributors.
    fields.directory(tensors as u64 * expected.contributors as u64).map_err(error)
}
