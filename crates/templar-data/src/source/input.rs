//! Bytes of an input: a file, standard input or memory, counted and decompressed.
//!
//! A [`Tap`] counts the bytes that are taken from the file itself, for the bar on the terminal and for the limit on
//! expansion. A small file may expand to any size, so [`Expanding`] stops where the bytes that came out are more than
//! [`FREE_BYTES`] and [`FACTOR`] times the bytes that went in.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::fault::FileFault;
use super::gzip::Gunzip;
use super::kind::{Compression, MAGIC_BYTES};
use crate::words;

/// The bytes that any input may expand to.
const FREE_BYTES: u64 = 256 << 20;

/// The factor by which an input may expand beyond that.
const FACTOR: u64 = 200;

/// The memory that the dictionary of an xz file may take, in KiB.
const XZ_MEMORY_KIB: u32 = 1 << 20;

/// The longest distance to which a zstd file may refer back, as a power of two. `zstd --long=31` writes such files.
const ZSTD_WINDOW_LOG: u32 = 31;

/// Bytes that may be read by a thread of its own.
pub(super) type Bytestream = Box<dyn BufRead + Send>;

/// The number of bytes that were taken from the file so far. Clones share the count.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken(Arc<AtomicU64>);

impl Taken {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Fails where `given` bytes are more than an input may give of which so much was taken.
    pub(super) fn check_expansion(&self, given: u64) -> Result<(), FileFault> {
        let taken_bytes = self.bytes();
        let limit_bytes = taken_bytes.saturating_mul(FACTOR).saturating_add(FREE_BYTES);
        if given > limit_bytes { Err(FileFault::Expands { taken_bytes, limit_bytes }) } else { Ok(()) }
    }
}

/// The bytes of a file as they are, counted.
pub(super) struct Tap<R> {
    pub(super) inner: R,
    pub(super) taken: Taken,
}

impl<R: Read> Read for Tap<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.taken.add(read as u64);
        Ok(read)
    }
}

/// The output of a decoder, up to the limit. Errors of the decoder become those of a damaged file.
struct Expanding<R> {
    inner: R,
    taken: Taken,
    given: u64,
    compression: Compression,
}

impl<R: Read> Read for Expanding<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer).map_err(|error| self.named(error))?;
        self.given += read as u64;
        self.taken.check_expansion(self.given)?;
        Ok(read)
    }
}

impl<R> Expanding<R> {
    fn named(&self, error: io::Error) -> io::Error {
        // Where the operating system failed, or a reader below, the error says enough.
        if error.raw_os_error().is_some() || error.get_ref().is_some_and(|inner| inner.is::<FileFault>()) {
            return error;
        }
        let format = self.compression.article();
        if words::is_of_memory(&error) {
            let reason = format!("decompressing it takes more memory than is given here ({error})");
            let hint = "decompress it first, as with `zstd -d --long=31`, and import what comes out of it";
            return FileFault::OtherForm { format, reason, hint }.into();
        }
        FileFault::Damaged { format, reason: words::compressed(&error) }.into()
    }
}

/// Decompresses `input`.
pub(super) fn decompressed(input: Bytestream, compression: Compression, taken: Taken) -> io::Result<Bytestream> {
    let decoder: Box<dyn Read + Send> = match compression {
        Compression::Gzip => Box::new(Gunzip::new(input)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, XZ_MEMORY_KIB)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    };
    let inner = Expanding { inner: decoder, taken, given: 0, compression };
    Ok(Box::new(BufReader::with_capacity(1 << 16, inner)))
}

/// The first bytes of a stream, which stay in it. Fewer than [`MAGIC_BYTES`] only where the stream ends.
pub(super) fn peek(input: Bytestream) -> io::Result<(Vec<u8>, Bytestream)> {
    let mut input = input;
    let mut start = Vec::with_capacity(MAGIC_BYTES);
    input.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut start)?;
    let rest = io::Cursor::new(Bytes::from(start.clone())).chain(input);
    Ok((start, Box::new(rest)))
}

/// A file as it was when it was opened. Reading an input twice must give the same bytes, so a file that changes under
/// the reader is refused.
pub(super) struct Watch {
    file: File,
    before: Metadata,
}

impl Watch {
    /// Watches a regular file; a pipe has nothing to watch.
    pub(super) fn new(file: &File) -> io::Result<Option<Self>> {
        let before = file.metadata()?;
        if !before.is_file() {
            return Ok(None);
        }
        Ok(Some(Self { file: file.try_clone()?, before }))
    }

    /// Whether the file has another length or another time of its last change by now.
    pub(super) fn has_changed(&self) -> bool {
        let Ok(now) = self.file.metadata() else { return true };
        now.len() != self.before.len() || now.modified().ok() != self.before.modified().ok()
    }
}
