//! Megatron's tokens: a `.bin` of bare integers, and beside it an `.idx` that says where documents begin.
//!
//! The index holds, one after the other: a mark, a version, the kind of integer, the numbers of sequences and of
//! document marks, the length of each sequence, its place in the `.bin`, and the sequences with which documents begin,
//! up to the number of sequences at the end. A document may have several sequences. The three lists are read side by
//! side, so memory does not grow with them, and each is checked against the others.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::document::{Found, ReadRows};
use super::fault::FileFault;
use super::format::Format;
use super::input::{Bytestream, Taken, Tap};
use super::tokens::Integer;

/// The first bytes of an index.
pub(super) const MARK: &[u8] = b"MMIDIDX\0\0";

/// The mark, a version of eight bytes, the kind of integer, and two numbers of eight bytes.
const HEADER_BYTES: u64 = 34;

/// Tokens that are given out at a time.
const CHUNK: u64 = 1 << 16;

/// The index that belongs to a `.bin`, where there is one, and the other way round.
pub(super) fn companion(path: &Path, extension: &str) -> Option<PathBuf> {
    let other = path.with_extension(extension);
    other.is_file().then_some(other)
}

pub(super) struct MegatronRows {
    tokens: Bytestream,
    integer: Integer,
    lengths: BufReader<File>,
    places: BufReader<File>,
    documents: BufReader<File>,
    /// The number of sequences, and of those that were begun.
    sequences: u64,
    begun: u64,
    /// Tokens of the sequence that are still to come.
    left: u64,
    /// The sequence with which the next document begins.
    next_document: u64,
    read: u64,
}

impl MegatronRows {
    /// Opens the two files. `taken` counts the bytes of tokens.
    pub(super) fn new(tokens: &Path, index: &Path, taken: Taken) -> Result<Self, FileFault> {
        let mut header = BufReader::new(File::open(index)?);
        let mut fixed = [0; HEADER_BYTES as usize];
        header.read_exact(&mut fixed).map_err(|_| damaged("its index ends inside of its header"))?;
        let number = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|byte| fixed[at + byte]));
        if !fixed.starts_with(MARK) || number(9) != 1 {
            return Err(damaged("its index is of no known version"));
        }
        let integer = match fixed[17] {
            1 => Integer::U8,
            3 => Integer::I16,
            4 => Integer::I32,
            5 => Integer::I64,
            8 => Integer::U16,
            other => return Err(damaged(&format!("its index names the type {other}, which is no integer for tokens"))),
        };
        let (sequences, marks) = (number(18), number(26));
        let after_lengths = sequences.checked_mul(4).and_then(|bytes| bytes.checked_add(HEADER_BYTES));
        let after_places = after_lengths.and_then(|at| sequences.checked_mul(8)?.checked_add(at));
        let length = after_places.and_then(|at| marks.checked_mul(8)?.checked_add(at));
        let (Some(after_lengths), Some(after_places), Some(length)) = (after_lengths, after_places, length) else {
            return Err(damaged("its index states impossible numbers"));
        };
        let found = std::fs::metadata(index)?.len();
        if found != length {
            return Err(damaged(&format!("its index has {found} bytes and states {length}")));
        }
        let section = |at| {
            let mut file = File::open(index)?;
            file.seek(SeekFrom::Start(at))?;
            Ok::<_, std::io::Error>(BufReader::new(file))
        };
        let (lengths, places) = (section(HEADER_BYTES)?, section(after_lengths)?);
        let mut documents = section(after_places)?;
        if marks == 0 || long(&mut documents)? != 0 {
            return Err(damaged("its index does not begin with a document"));
        }
        let next_document = if marks > 1 { long(&mut documents)? } else { sequences };
        let tokens = BufReader::with_capacity(1 << 16, Tap { inner: File::open(tokens)?, taken });
        let (tokens, begun, left, read) = (Box::new(tokens), 0, 0, 0);
        Ok(Self { tokens, integer, lengths, places, documents, sequences, begun, left, next_document, read })
    }

    /// Begins the next sequence. False after the last one.
    fn begin(&mut self) -> Result<bool, FileFault> {
        if self.begun == self.sequences {
            if self.tokens.fill_buf()?.is_empty() {
                return Ok(false);
            }
            return Err(damaged("it has more tokens than its index states"));
        }
        let mut length = [0; 4];
        self.lengths.read_exact(&mut length)?;
        self.left =
            u64::try_from(i32::from_le_bytes(length)).map_err(|_| damaged("a sequence has a negative length"))?;
        if long(&mut self.places)? != self.read * self.integer.bytes() as u64 {
            return Err(damaged("the sequences of its index do not lie one after the other"));
        }
        self.begun += 1;
        Ok(true)
    }

    /// Whether the sequence that just ended also ends a document.
    fn ends_document(&mut self) -> Result<bool, FileFault> {
        if self.begun != self.next_document {
            return Ok(false);
        }
        while self.begun < self.sequences && self.next_document <= self.begun {
            let next = long(&mut self.documents)?;
            if next < self.next_document || next > self.sequences {
                return Err(damaged("the documents of its index are out of order"));
            }
            self.next_document = next;
        }
        Ok(true)
    }
}

impl ReadRows for MegatronRows {
    fn next_row(&mut self) -> Result<Option<(u64, Found)>, FileFault> {
        if self.left == 0 && !self.begin()? {
            return Ok(None);
        }
        let count = self.left.min(CHUNK);
        let width = self.integer.bytes();
        let mut bytes = Vec::new();
        self.tokens.by_ref().take(count * width as u64).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != count * width as u64 {
            return Err(damaged("it has fewer tokens than its index states"));
        }
        self.left -= count;
        let first = self.read + 1;
        self.read += count;
        let ids = bytes.chunks_exact(width).map(|bytes| self.integer.token(bytes)).collect();
        let ends = self.left == 0 && self.ends_document()?;
        Ok(Some((first, Found::Tokens { ids, ends })))
    }
}

fn long(reader: &mut impl Read) -> Result<u64, FileFault> {
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes).map_err(|_| damaged("its index ends too early"))?;
    Ok(u64::from_le_bytes(bytes))
}

fn damaged(reason: &str) -> FileFault {
    FileFault::damaged(Format::Tokens, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An index as Megatron writes it.
    fn index(kind: u8, lengths: &[i32], documents: &[i64], width: i64) -> Vec<u8> {
        let mut bytes = [MARK, &1u64.to_le_bytes(), &[kind]].concat();
        bytes.extend((lengths.len() as u64).to_le_bytes());
        bytes.extend((documents.len() as u64).to_le_bytes());
        bytes.extend(lengths.iter().flat_map(|length| length.to_le_bytes()));
        let mut place = 0;
        for length in lengths {
            bytes.extend(i64::to_le_bytes(place));
            place += i64::from(*length) * width;
        }
        bytes.extend(documents.iter().flat_map(|document| document.to_le_bytes()));
        bytes
    }

    fn read(tokens: &[u16], index: &[u8]) -> Result<Vec<(u64, Found)>, FileFault> {
        let folder = tempfile::tempdir().unwrap();
        let (bin, idx) = (folder.path().join("a.bin"), folder.path().join("a.idx"));
        std::fs::write(&bin, tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
        std::fs::write(&idx, index).unwrap();
        assert_eq!(companion(&bin, "idx"), Some(idx.clone()));
        let mut rows = MegatronRows::new(&bin, &idx, Taken::default())?;
        std::iter::from_fn(|| rows.next_row().transpose()).collect()
    }

    fn tokens(ids: &[u32], ends: bool) -> Found {
        Found::Tokens { ids: ids.to_vec(), ends }
    }

    #[test]
    fn documents_end_where_the_index_says() {
        let found = read(&[1, 2, 3, 4, 5, 6], &index(8, &[2, 1, 3], &[0, 2, 3], 2)).unwrap();
        assert_eq!(found, [(1, tokens(&[1, 2], false)), (3, tokens(&[3], true)), (4, tokens(&[4, 5, 6], true))]);
        assert_eq!(read(&[], &index(8, &[], &[0], 2)).unwrap(), []);
    }

    #[test]
    fn an_index_that_contradicts_itself_or_the_tokens_is_refused() {
        let good = || index(8, &[2, 1], &[0, 1, 2], 2);
        assert_eq!(read(&[1, 2, 3], &good()).unwrap().len(), 2);
        let mut place = good();
        place[34 + 8 + 8] = 6;
        let wrong = [
            (&[1, 2][..], good()),
            (&[1, 2, 3, 4], good()),
            (&[1, 2, 3], index(6, &[2, 1], &[0, 1, 2], 2)),
            (&[1, 2, 3], index(8, &[2, -1], &[0, 1, 2], 2)),
            (&[1, 2, 3], index(8, &[2, 1], &[1, 2], 2)),
            (&[1, 2, 3], index(8, &[2, 1], &[0, 1, 7], 2)),
            (&[1, 2, 3], index(8, &[2, 1], &[], 2)),
            (&[1, 2, 3], place),
        ];
        for (at, (tokens, index)) in wrong.into_iter().enumerate() {
            assert!(matches!(read(tokens, &index), Err(FileFault::Damaged { .. })), "{at}");
        }
        for length in [0, 8, 20, 33, 40, good().len() - 1] {
            assert!(matches!(read(&[1, 2, 3], &good()[..length]), Err(FileFault::Damaged { .. })), "{length}");
        }
    }
}
