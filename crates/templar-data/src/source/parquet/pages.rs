//! The bytes of a parquet file, and the limit on what a page of it may expand to.
//!
//! The parquet crate decompresses a page into memory in one go: of gzip and brotli whatever comes out, of the others as
//! much as the header of the page states. So a page of some kilobytes could take all memory. [`Pages`] stands between
//! file and crate. It reads the header that passes by, refuses a page that states more than [`MAX_PAGE_BYTES`], and
//! tries a page that could lie about it before the crate gets it.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::parquet::basic::Compression as Codec;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::ColumnChunkMetaData;
use ::parquet::file::reader::{ChunkReader, Length};
use bytes::Bytes;

use super::header::page_sizes;
use crate::source::fault::FileFault;
use crate::source::format::Format;
use crate::source::input::Taken;
use crate::source::whole::Whole;

/// The longest page, in bytes after decompression. Writers make pages of about one MiB, and longer ones of long texts.
const MAX_PAGE_BYTES: u64 = 256 << 20;

/// The most bytes that one compressed byte can stand for: in gzip, and in LZ4.
const GZIP_FACTOR: u64 = 1032;
const LZ4_FACTOR: u64 = 255;

/// The bytes of a parquet file, on disk or in memory. Clones share them.
#[derive(Clone)]
pub(crate) struct Pages(Arc<Shared>);

struct Shared {
    whole: Whole,
    taken: Taken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where the column chunks lie that are read, and how their pages are compressed.
    chunks: Vec<(Range<u64>, Codec)>,
    /// The place and the bytes of the header that was read last.
    header: (u64, Vec<u8>),
    /// The fault of a page that the crate was not given.
    fault: Option<FileFault>,
}

impl Pages {
    /// The pages of an input, the bytes of which are counted as they are taken.
    pub(crate) fn new(whole: Whole, taken: Taken) -> Self {
        Self(Arc::new(Shared { whole, taken, state: Mutex::default() }))
    }

    /// Takes note of the column chunks that are read from now on.
    pub(super) fn expect<'a>(&self, chunks: impl Iterator<Item = &'a ColumnChunkMetaData>) {
        let chunks = chunks.map(|chunk| {
            let (start, length) = chunk.byte_range();
            (start..start.saturating_add(length), chunk.compression())
        });
        self.state().chunks = chunks.collect();
    }

    /// The reason why a page was refused, once.
    pub(super) fn take_fault(&self) -> Option<FileFault> {
        self.state().fault.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at a page before it is decompressed.
    fn check(&self, start: u64, page: &[u8]) -> Result<(), FileFault> {
        let state = self.state();
        let (at, header) = &state.header;
        if at + header.len() as u64 != start {
            return Ok(());
        }
        let Some(sizes) = page_sizes(header) else { return Ok(()) };
        let compressed = |(_, codec): &&(Range<u64>, Codec)| *codec != Codec::UNCOMPRESSED && !sizes.is_plain;
        // A hostile file may have chunks that overlap: none of their codecs may do harm.
        let mut codecs = state.chunks.iter().filter(|(range, _)| range.contains(&start)).filter(compressed);
        if codecs.any(|&(_, codec)| {
            sizes.uncompressed > MAX_PAGE_BYTES || expands_beyond(codec, page, sizes.levels, MAX_PAGE_BYTES)
        }) {
            let reason = format!("a page of {} bytes expands to more than {MAX_PAGE_BYTES}", page.len());
            return Err(FileFault::damaged(Format::Parquet, reason));
        }
        Ok(())
    }
}

/// Whether a page gives more than `limit` bytes, where its codec does not stop at what the header states. `levels`
/// bytes at its beginning are not compressed.
fn expands_beyond(codec: Codec, page: &[u8], levels: u64, limit: u64) -> bool {
    let levels = usize::try_from(levels).unwrap_or(usize::MAX).min(page.len());
    let compressed = &page[levels..];
    let most = |factor: u64| (compressed.len() as u64).saturating_mul(factor);
    let is_more = |decoder: &mut dyn Read| {
        let given = io::copy(&mut decoder.take(limit + 1), &mut io::sink());
        // The crate refuses a page that does not decompress.
        given.is_ok_and(|given| given > limit)
    };
    match codec {
        Codec::GZIP(_) => most(GZIP_FACTOR) > limit && is_more(&mut flate2::read::MultiGzDecoder::new(compressed)),
        Codec::BROTLI(_) => is_more(&mut brotli::Decompressor::new(compressed, 1 << 16)),
        // The frames of other programs than parquet's own, which the crate decompresses to their end.
        Codec::LZ4 => compressed.starts_with(b"\x04\x22\x4d\x18") && most(LZ4_FACTOR) > limit,
        _ => false,
    }
}

impl Length for Pages {
    fn len(&self) -> u64 {
        self.0.whole.length()
    }
}

impl ChunkReader for Pages {
    type T = HeaderReader;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(HeaderReader { pages: self.clone(), at: start, start: None, ahead: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.0.whole.bytes(start, length)?;
        if bytes.len() != length {
            return Err(ParquetError::EOF(format!("it has {} of {length} bytes from byte {start} on", bytes.len())));
        }
        self.0.taken.add(length as u64);
        if let Err(fault) = self.check(start, &bytes) {
            let said = fault.to_string();
            self.state().fault = Some(fault);
            return Err(ParquetError::General(said));
        }
        Ok(bytes)
    }
}

/// Bytes that the parquet crate reads one after another: the header of a page. They are kept for [`Pages::check`].
pub(crate) struct HeaderReader {
    pages: Pages,
    /// The place of the next byte that is not in `ahead`.
    at: u64,
    /// The place of the first byte that was read.
    start: Option<u64>,
    ahead: Bytes,
}

/// Bytes that are read ahead. A header has some dozens, and more where it has statistics.
const AHEAD_BYTES: usize = 1 << 10;

/// The longest header of a page.
const MAX_HEADER_BYTES: usize = 1 << 20;

impl Read for HeaderReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_empty() {
            self.ahead = self.pages.0.whole.bytes(self.at, AHEAD_BYTES)?;
            self.at += self.ahead.len() as u64;
        }
        let length = buffer.len().min(self.ahead.len());
        let read = self.ahead.split_to(length);
        buffer[..length].copy_from_slice(&read);
        let mut state = self.pages.state();
        if self.start.is_none() && length > 0 {
            let start = self.at - (self.ahead.len() + length) as u64;
            self.start = Some(start);
            state.header = (start, Vec::new());
        }
        if state.header.1.len() + length > MAX_HEADER_BYTES {
            return Err(io::Error::other(format!("the header of a page is longer than {MAX_HEADER_BYTES} bytes")));
        }
        state.header.1.extend_from_slice(&read);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_page_that_lies_about_its_size_is_found() {
        let zeros = vec![0; 1 << 20];
        let mut gzip = flate2::write::GzEncoder::new(b"levels".to_vec(), flate2::Compression::default());
        gzip.write_all(&zeros).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut brotli = Vec::new();
        brotli::CompressorWriter::new(&mut brotli, 4096, 5, 22).write_all(&zeros).unwrap();
        let limit = zeros.len() as u64;
        for limit in [1000, limit - 1] {
            assert!(expands_beyond(Codec::GZIP(Default::default()), &gzip, 6, limit), "{limit}");
            assert!(expands_beyond(Codec::BROTLI(Default::default()), &brotli, 0, limit), "{limit}");
        }
        assert!(!expands_beyond(Codec::GZIP(Default::default()), &gzip, 6, limit));
        assert!(!expands_beyond(Codec::BROTLI(Default::default()), &brotli, 0, limit));
        let frame = [&b"\x04\x22\x4d\x18"[..], &[0; 100]].concat();
        assert!(expands_beyond(Codec::LZ4, &frame, 0, 25_000));
        assert!(!expands_beyond(Codec::LZ4, &frame, 0, 27_000));
    }
}
