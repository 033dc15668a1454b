//! Numbers and fields at the front of bytes, and the directory of lengths. Deltas and aggregates have these in common.
//!
//! The crate's documentation specifies them. Every count is compared with the bytes that are there before anything is
//! allocated for it.

use std::ops::Range;

/// Appends a number in base 128: seven bits in each byte, from the least significant, with the high bit set in
/// all bytes but the last.
pub(crate) fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes a number off the front. The error is `None` where the bytes end too early, and `Some` where the number
/// is not in its shortest spelling or has more than 64 bits.
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

/// A header or a directory cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// The bytes end before this length.
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

    /// The number of bytes read so far.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// Reads the next `N` bytes.
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let bytes = self.bytes[self.at..].first_chunk::<N>().ok_or(Unreadable::Truncated((self.at + N) as u64))?;
        self.at += N;
        Ok(*bytes)
    }

    /// Reads the next number.
    pub(crate) fn number(&mut self) -> Result<u64, Unreadable> {
        let mut rest = &self.bytes[self.at..];
        let number = take_number(&mut rest).map_err(|error| match error {
            None => Unreadable::Truncated(self.bytes.len() as u64 + 1),
            Some(()) => Unreadable::Number(self.at as u64),
        })?;
        self.at = self.bytes.len() - rest.len();
        Ok(number)
    }

    /// Reads a directory of `count` lengths. The bodies follow it without gaps, up to the end of the bytes.
    /// Returns the place of each body.
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
