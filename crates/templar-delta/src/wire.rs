//! The front of a delta's bytes: the header and the directory of tensors. The crate's documentation specifies both.
//!
//! Parsing here needs nothing but the bytes: every count is compared with the bytes that are there before anything is
//! made of it. What the run expects is compared in [`crate::decode`].

use std::ops::Range;

use templar_manifest::{Hash, Quantiser};

use crate::body::Body;
use crate::decode::DecodeError;
use crate::layout::MAX_TENSORS;
use crate::settings::{Settings, quantiser_byte, quantiser_of};

pub(crate) const MAGIC: [u8; 8] = *b"TPLDELTA";
pub(crate) const VERSION: u8 = 0;
/// The fixed part of the header: up to the miner.
pub(crate) const FIXED_BYTES: usize = 74;
/// Four numbers follow: the window, the block side, top-k and the number of tensors.
pub(crate) const MAX_HEADER_BYTES: usize = FIXED_BYTES + 10 + 2 + 3 + 3;

/// Whose delta it is: the run, the window and the miner that it was made for. Since it is part of the bytes, the hash of
/// a delta is worth nothing to anybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The run's id.
    pub run: Hash,
    /// The window, counted from 0.
    pub window: u64,
    /// The miner's identity.
    pub miner: [u8; 32],
}

/// Appends a number in base 128, seven bits a byte from the least significant, the high bit on all but the last.
pub(crate) fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes a number off the front; the error is `None` where the bytes end too early, and `Some` where the number is not
/// in its shortest spelling or beyond 64 bits.
pub(crate) fn take_number(bytes: &mut &[u8]) -> Result<u64, Option<()>> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(None)?;
        *bytes = rest;
        let digit = u64::from(byte & 127);
        if digit << shift >> shift != digit || (byte == 0 && shift > 0) {
            return Err(Some(()));
        }
        number |= digit << shift;
        if byte < 128 {
            return Ok(number);
        }
    }
    Err(Some(()))
}

/// The header and the directory, parsed.
pub(crate) struct Front {
    pub(crate) header: Header,
    pub(crate) quantiser: Quantiser,
    pub(crate) block_side: u64,
    pub(crate) top_k: u64,
    /// Where the directory begins.
    pub(crate) header_bytes: usize,
    /// Where the body of each tensor lies.
    pub(crate) bodies: Vec<Range<usize>>,
}

/// Writes a whole delta: header, directory, and the body of each tensor, in order.
pub(crate) fn write(settings: &Settings, header: &Header, bodies: &[Vec<u8>]) -> Vec<u8> {
    let total: usize = bodies.iter().map(Vec::len).sum();
    let mut bytes = Vec::with_capacity(MAX_HEADER_BYTES + 4 * bodies.len() + total);
    bytes.extend_from_slice(&MAGIC);
    bytes.push(VERSION);
    bytes.push(quantiser_byte(settings.quantiser()));
    bytes.extend_from_slice(header.run.as_bytes());
    bytes.extend_from_slice(&header.miner);
    put_number(&mut bytes, header.window);
    put_number(&mut bytes, settings.block_side().into());
    put_number(&mut bytes, settings.top_k().into());
    put_number(&mut bytes, bodies.len() as u64);
    for body in bodies {
        put_number(&mut bytes, body.len() as u64);
    }
    for body in bodies {
        bytes.extend_from_slice(body);
    }
    bytes
}

/// Why a header or a directory cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// There are fewer bytes than this.
    Truncated(u64),
    /// A number that begins here is not in its shortest spelling.
    Number(u64),
    /// The last body ends here, before the bytes do.
    Trailing(u64),
}

/// Reads fields from the front of bytes.
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// The next `N` bytes.
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let bytes = self.bytes[self.at..].first_chunk::<N>().ok_or(Unreadable::Truncated((self.at + N) as u64))?;
        self.at += N;
        Ok(*bytes)
    }

    /// The next number.
    pub(crate) fn number(&mut self) -> Result<u64, Unreadable> {
        let mut rest = &self.bytes[self.at..];
        let number = take_number(&mut rest).map_err(|error| match error {
            None => Unreadable::Truncated(self.bytes.len() as u64 + 1),
            Some(()) => Unreadable::Number(self.at as u64),
        })?;
        self.at = self.bytes.len() - rest.len();
        Ok(number)
    }

    /// A directory of `count` lengths, and the bodies behind it to the end of the bytes: where each of them lies.
    pub(crate) fn directory(mut self, count: u64) -> Result<Vec<Range<usize>>, Unreadable> {
        // A length takes at least one byte, so no list longer than the bytes is made.
        let rest = self.bytes.len() - self.at;
        if count > rest as u64 {
            return Err(Unreadable::Truncated((self.at as u64).saturating_add(count)));
        }
        let mut lengths = Vec::with_capacity(count as usize);
        for _ in 0..count {
            lengths.push(self.number()?);
        }
        let length = self.bytes.len() as u64;
        let needed = lengths.iter().fold(self.at as u64, |sum, &length| sum.saturating_add(length));
        if length < needed {
            return Err(Unreadable::Truncated(needed));
        }
        if length > needed {
            return Err(Unreadable::Trailing(needed));
        }
        let mut end = self.at;
        let body = |length: u64| {
            let start = end;
            end += length as usize; // their sum is that of the bytes
            start..end
        };
        Ok(lengths.into_iter().map(body).collect())
    }
}

/// Parses the header and the directory, and checks that the lengths that it gives are those of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Result<Front, DecodeError> {
    let error = |error| DecodeError::unreadable(bytes.len() as u64, error);
    let mut fields = Fields::new(bytes);
    if fields.take::<8>().map_err(error)? != MAGIC {
        return Err(DecodeError::NotADelta);
    }
    let [version] = fields.take().map_err(error)?;
    if version != VERSION {
        return Err(DecodeError::Version { found: version });
    }
    let [quantiser] = fields.take().map_err(error)?;
    let quantiser = quantiser_of(quantiser).ok_or(DecodeError::Quantiser { found: quantiser })?;
    let run = Hash::from_bytes(fields.take().map_err(error)?);
    let miner = fields.take().map_err(error)?;
    let window = fields.number().map_err(error)?;
    let block_side = fields.number().map_err(error)?;
    let top_k = fields.number().map_err(error)?;
    let tensors = fields.number().map_err(error)?;
    if tensors > MAX_TENSORS as u64 {
        return Err(DecodeError::TensorCount { found: tensors, expected: MAX_TENSORS });
    }
    let header_bytes = fields.at();
    let bodies = fields.directory(tensors).map_err(error)?;
    Ok(Front { header: Header { run, window, miner }, quantiser, block_side, top_k, header_bytes, bodies })
}

/// What the bytes of a delta are spent on, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    /// The quantiser that the header names.
    pub quantiser: Quantiser,
    /// The block side that the header names.
    pub block_side: u64,
    /// How many values of a full block are sent, as the header names it.
    pub top_k: u64,
    /// Bytes of the header.
    pub header_bytes: u64,
    /// Bytes of the directory: the length of each tensor.
    pub directory_bytes: u64,
    /// The bytes of each tensor, in order.
    pub tensors: Vec<TensorParts>,
}

/// What the bytes of one tensor in a delta are spent on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TensorParts {
    /// Bytes of its front: lengths, parameters and levels.
    pub front_bytes: u64,
    /// Bytes of the positions; 0 where every value is sent.
    pub index_bytes: u64,
    /// Bytes of the scales of blocks; 0 where the quantiser has none.
    pub scale_bytes: u64,
    /// Bytes of the codes.
    pub code_bytes: u64,
}

impl TensorParts {
    /// The whole length.
    pub const fn bytes(&self) -> u64 {
        self.front_bytes + self.index_bytes + self.scale_bytes + self.code_bytes
    }
}

impl Parts {
    /// All tensors together.
    pub fn sum(&self) -> TensorParts {
        self.tensors.iter().fold(TensorParts::default(), |sum, tensor| TensorParts {
            front_bytes: sum.front_bytes + tensor.front_bytes,
            index_bytes: sum.index_bytes + tensor.index_bytes,
            scale_bytes: sum.scale_bytes + tensor.scale_bytes,
            code_bytes: sum.code_bytes + tensor.code_bytes,
        })
    }

    /// The whole length.
    pub fn bytes(&self) -> u64 {
        self.header_bytes + self.directory_bytes + self.sum().bytes()
    }
}

/// Whose delta the bytes say they are, and what they are spent on. It needs no run, so it can explain any delta to a
/// person, and vouches for nothing: only [`crate::decode`] tells whether the delta is valid.
///
/// # Errors
/// When the bytes are not a delta, or their lengths do not add up.
pub fn inspect(bytes: &[u8]) -> Result<(Header, Parts), DecodeError> {
    let front = parse(bytes)?;
    let mut tensors = Vec::with_capacity(front.bodies.len());
    for (index, range) in front.bodies.iter().enumerate() {
        let body = Body::parse(bytes, range.clone(), front.quantiser)
            .map_err(|(offset, fault)| DecodeError::tensor(format!("{index}"), offset, fault))?;
        tensors.push(TensorParts {
            front_bytes: (body.indices.start - body.start) as u64,
            index_bytes: body.indices.len() as u64,
            scale_bytes: body.scales.len() as u64,
            code_bytes: body.codes.len() as u64,
        });
    }
    let directory_end = front.bodies.first().map_or(bytes.len(), |body| body.start);
    let parts = Parts {
        quantiser: front.quantiser,
        block_side: front.block_side,
        top_k: front.top_k,
        header_bytes: front.header_bytes as u64,
        directory_bytes: (directory_end - front.header_bytes) as u64,
        tensors,
    };
    Ok((front.header, parts))
}
