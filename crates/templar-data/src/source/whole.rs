//! Inputs that can be read at any place: a file on disk, or one in memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use bytes::Bytes;

use super::input::Bytestream;

pub(super) enum Whole {
    /// A file and its length.
    File(File, u64),
    Memory(Bytes),
}

impl Whole {
    pub(super) fn of_file(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self::File(file, length))
    }

    /// The rest of a stream, in a temporary file. The file has no name, and is gone when it is closed.
    pub(super) fn spooled(mut stream: Bytestream) -> io::Result<Self> {
        let mut file = tempfile::tempfile()?;
        io::copy(&mut stream, &mut file)?;
        file.flush()?;
        Self::of_file(file)
    }

    pub(super) fn length(&self) -> u64 {
        match self {
            Self::File(_, length) => *length,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// The bytes from `start` on, `length` of them or fewer at the end of the file. Memory grows as they are read.
    pub(super) fn bytes(&self, start: u64, length: usize) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(start..bytes.len().min(start.saturating_add(length))))
            }
            Self::File(file, _) => {
                let mut file = file.try_clone()?;
                file.seek(SeekFrom::Start(start))?;
                let mut bytes = Vec::new();
                file.take(length as u64).read_to_end(&mut bytes)?;
                Ok(bytes.into())
            }
        }
    }
}
