//! Tokens that were made elsewhere: `.npy` of the original templar, `.bin` of nanoGPT and llm.c.
//!
//! - `.npy` says in its header what it holds. One dimension of integers is taken.
//! - llm.c writes a header of 256 numbers of four bytes: a mark that tells the width of a token, a version, and the
//!   number of tokens.
//! - nanoGPT writes bare tokens of two bytes. Nothing tells them from tokens of four bytes but their values, so a bare
//!   file that looks like four bytes is refused until the person says what it is.
//!
//! A file is one long stream, in which the documents end with the tokenizer's end token. Whether every token is one of
//! the tokenizer's is checked where they are taken.

use std::io::{BufRead, Read};

use super::document::{Found, ReadRows};
use super::fault::FileFault;
use super::format::Format;
use super::kind::NPY;

/// Tokens that are given out at a time.
const CHUNK: usize = 1 << 16;

/// llm.c's marks for tokens of two and of four bytes.
const LLMC_TWO: u32 = 20_240_520;
const LLMC_FOUR: u32 = 20_240_801;
const LLMC_HEADER: usize = 1024;

/// The longest header of an `.npy` file, in bytes.
const MAX_NPY_HEADER: usize = 64 << 10;

/// The advice for an `.npy` file with other numbers.
const WRITE_INTEGERS: &str = "numpy's `astype('<u2')` writes tokens below 65,536, and `astype('<u4')` all others";

/// The integers of which tokens are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Integer {
    U8,
    U16,
    U32,
    U64,
    I16,
    I32,
    I64,
}

impl Integer {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 => 4,
            Self::U64 | Self::I64 => 8,
        }
    }

    /// The token in as many bytes as the integer has. What no token can be becomes the largest one, which no vocabulary
    /// holds.
    pub(super) fn token(self, bytes: &[u8]) -> u32 {
        let signed = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
        match (self, bytes) {
            (Self::U8, &[a]) => a.into(),
            (Self::U16, &[a, b]) => u16::from_le_bytes([a, b]).into(),
            (Self::U32, &[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
            (Self::U64, bytes) => {
                bytes.try_into().map_or(u32::MAX, |bytes| u32::try_from(u64::from_le_bytes(bytes)).unwrap_or(u32::MAX))
            }
            (Self::I16, &[a, b]) => signed(i16::from_le_bytes([a, b]).into()),
            (Self::I32, &[a, b, c, d]) => signed(i32::from_le_bytes([a, b, c, d]).into()),
            (Self::I64, bytes) => bytes.try_into().map_or(u32::MAX, |bytes| signed(i64::from_le_bytes(bytes))),
            _ => u32::MAX,
        }
    }
}

pub(super) struct TokenRows<R> {
    reader: R,
    integer: Integer,
    /// Tokens that the header promises and that were not read yet. A bare file ends where it ends.
    left: Option<u64>,
    /// Tokens that were read.
    read: u64,
}

impl<R: BufRead> TokenRows<R> {
    /// `start` are the first bytes of the reader.
    pub(super) fn new(mut reader: R, start: &[u8], format: Format) -> Result<Self, FileFault> {
        let first = start.first_chunk().map_or(0, |first| u32::from_le_bytes(*first));
        let (integer, left) = if start.starts_with(NPY) {
            let (integer, count) = npy_header(&mut reader)?;
            (integer, Some(count))
        } else if matches!(first, LLMC_TWO | LLMC_FOUR) {
            (if first == LLMC_TWO { Integer::U16 } else { Integer::U32 }, Some(llmc_header(&mut reader)?))
        } else {
            (bare(start, first, format)?, None)
        };
        Ok(Self { reader, integer, left, read: 0 })
    }
}

/// The integers of a file without a header.
fn bare(start: &[u8], first: u32, format: Format) -> Result<Integer, FileFault> {
    match format {
        Format::Tokens16 => return Ok(Integer::U16),
        Format::Tokens32 => return Ok(Integer::U32),
        _ => {}
    }
    // A header of llm.c's kind: a date, a few numbers, and zeros.
    let zeros = start.get(64..).is_some_and(|rest| !rest.is_empty() && rest.iter().all(|&byte| byte == 0));
    if (20_200_000..20_400_000).contains(&first) && zeros {
        return Err(damaged(format!(
            "its header begins with {first}, which is not known: {LLMC_TWO} and {LLMC_FOUR} are"
        )));
    }
    let high_halves = start.chunks_exact(4).map(|token| u16::from_le_bytes([token[2], token[3]]));
    if start.len() >= 64 && high_halves.into_iter().all(|half| half < 16) {
        return Err(other_form(
            "it has no header, and its tokens look as if they had four bytes: say --format tokens-u32 (or tokens-u16)",
            "`--format tokens-u32` reads tokens of four bytes, and `--format tokens-u16` tokens of two",
        ));
    }
    Ok(Integer::U16)
}

fn llmc_header(reader: &mut impl Read) -> Result<u64, FileFault> {
    let mut header = [0; LLMC_HEADER];
    reader.read_exact(&mut header).map_err(too_early)?;
    let number = |index: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| header[4 * index + byte]));
    match (number(0), number(1)) {
        (LLMC_TWO, 1) | (LLMC_FOUR, 7) => Ok(number(2).into()),
        (mark, version) => Err(damaged(format!("version {version} of its header ({mark}) is not known"))),
    }
}

/// Reads the header of an `.npy` file: the integers, and how many there are.
fn npy_header(reader: &mut impl Read) -> Result<(Integer, u64), FileFault> {
    let mut fixed = [0; 10];
    reader.read_exact(&mut fixed).map_err(too_early)?;
    let mut length = usize::from(u16::from_le_bytes([fixed[8], fixed[9]]));
    if fixed[6] > 1 {
        let mut more = [0; 2];
        reader.read_exact(&mut more).map_err(too_early)?;
        length |= usize::from(u16::from_le_bytes(more)) << 16;
    }
    if length > MAX_NPY_HEADER {
        return Err(damaged(format!("its header has {length} bytes")));
    }
    let mut header = vec![0; length];
    reader.read_exact(&mut header).map_err(too_early)?;
    let header = String::from_utf8_lossy(&header);
    let value = |key: &str| {
        let after = &header[header.find(&format!("'{key}'"))? + key.len() + 2..];
        Some(after.trim_start().strip_prefix(':')?.trim_start())
    };
    let kind = value("descr").and_then(|value| value.strip_prefix('\'')?.split('\'').next());
    let integer = match kind {
        Some("|u1") => Integer::U8,
        Some("<u2") => Integer::U16,
        Some("<u4") => Integer::U32,
        Some("<u8") => Integer::U64,
        Some("<i2") => Integer::I16,
        Some("<i4") => Integer::I32,
        Some("<i8") => Integer::I64,
        Some(">u2" | ">u4" | ">u8" | ">i2" | ">i4" | ">i8") => {
            return Err(other_form("its numbers are big-endian: write them with `astype('<u2')`", WRITE_INTEGERS));
        }
        _ => {
            let found = value("descr").map_or("nothing", |value| value.split(", '").next().unwrap_or(value));
            let reason = format!("it holds {found} where integers of two, four or eight bytes are expected");
            return Err(other_form(reason, WRITE_INTEGERS));
        }
    };
    let shape = value("shape").and_then(|value| value.strip_prefix('(')?.split(')').next()).unwrap_or_default();
    let sizes: Option<Vec<u64>> =
        shape.split(',').map(str::trim).filter(|size| !size.is_empty()).map(|size| size.parse().ok()).collect();
    match sizes.as_deref() {
        Some([count]) => Ok((integer, *count)),
        None => Err(damaged(format!("its shape is ({shape}), which is no number of tokens"))),
        Some(_) => Err(other_form(
            format!("its shape is ({shape}), where one dimension is expected: write it with `reshape(-1)`"),
            "`np.save(\"tokens.npy\", np.load(\"FILE.npy\").reshape(-1))` writes it in one dimension",
        )),
    }
}

impl<R: BufRead + Send> ReadRows for TokenRows<R> {
    fn next_row(&mut self) -> Result<Option<(u64, Found)>, FileFault> {
        let width = self.integer.bytes();
        let wanted = self.left.unwrap_or(u64::MAX).min(CHUNK as u64) as usize;
        let mut bytes = Vec::with_capacity(wanted * width);
        self.reader.by_ref().take((wanted * width) as u64).read_to_end(&mut bytes)?;
        let ids: Vec<u32> = bytes.chunks_exact(width).map(|bytes| self.integer.token(bytes)).collect();
        match &mut self.left {
            Some(left) => {
                if ids.len() < wanted {
                    return Err(damaged(format!("it ends too early: {left} more tokens were promised")));
                }
                *left -= ids.len() as u64;
                if *left == 0 && !self.reader.fill_buf()?.is_empty() {
                    return Err(damaged("more follows the tokens that its header promises"));
                }
            }
            None if bytes.len() % width != 0 => {
                return Err(damaged(format!("its length is no multiple of {width} bytes")));
            }
            None => {}
        }
        if ids.is_empty() {
            return Ok(None);
        }
        let first = self.read + 1;
        self.read += ids.len() as u64;
        Ok(Some((first, Found::Tokens { ids, ends: false })))
    }
}

fn too_early(error: std::io::Error) -> FileFault {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged("it ends inside of its header"),
        _ => error.into(),
    }
}

fn damaged(reason: impl Into<String>) -> FileFault {
    FileFault::damaged(Format::Tokens, reason)
}

fn other_form(reason: impl Into<String>, hint: &'static str) -> FileFault {
    FileFault::other_form(Format::Tokens, reason, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(bytes: &[u8], format: Format) -> Result<Vec<u32>, FileFault> {
        let mut rows = TokenRows::new(bytes, &bytes[..bytes.len().min(512)], format)?;
        let mut all = Vec::new();
        while let Some((first, found)) = rows.next_row()? {
            assert_eq!(first, all.len() as u64 + 1);
            match found {
                Found::Tokens { ids, ends: false } => all.extend(ids),
                other => panic!("{other:?}"),
            }
        }
        Ok(all)
    }

    fn reason(bytes: &[u8]) -> String {
        tokens(bytes, Format::Tokens).unwrap_err().to_string()
    }

    fn two(tokens: &[u16]) -> Vec<u8> {
        tokens.iter().flat_map(|token| token.to_le_bytes()).collect()
    }

    fn four(tokens: &[u32]) -> Vec<u8> {
        tokens.iter().flat_map(|token| token.to_le_bytes()).collect()
    }

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = [NPY, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
        bytes.extend(data);
        bytes
    }

    fn llmc(mark: u32, version: u32, count: u32, data: &[u8]) -> Vec<u8> {
        let mut header = vec![mark, version, count];
        header.resize(256, 0);
        [four(&header), data.to_vec()].concat()
    }

    #[test]
    fn bare_tokens_have_two_bytes_unless_they_look_like_four() {
        let long: Vec<u16> = (0..100_000).map(|token| (token * 7 % 50_000) as u16).collect();
        assert_eq!(tokens(&two(&long), Format::Tokens).unwrap(), long.iter().map(|&t| t.into()).collect::<Vec<u32>>());
        let wide: Vec<u32> = (0..100).map(|token| token * 1000).collect();
        assert!(reason(&four(&wide)).contains("--format tokens-u32"));
        assert!(matches!(tokens(&four(&wide), Format::Tokens), Err(FileFault::OtherForm { .. })));
        assert_eq!(tokens(&four(&wide), Format::Tokens32).unwrap(), wide);
        assert_eq!(tokens(&four(&wide), Format::Tokens16).unwrap().len(), 200);
        assert!(reason(b"abc").contains("no multiple of 2 bytes"));
        assert!(tokens(b"", Format::Tokens).unwrap().is_empty());
    }

    #[test]
    fn the_header_of_llmc_is_checked() {
        assert_eq!(tokens(&llmc(LLMC_TWO, 1, 3, &two(&[7, 8, 9])), Format::Tokens).unwrap(), [7, 8, 9]);
        assert_eq!(tokens(&llmc(LLMC_FOUR, 7, 2, &four(&[70_000, 8])), Format::Tokens).unwrap(), [70_000, 8]);
        assert!(reason(&llmc(LLMC_TWO, 1, 4, &two(&[7, 8, 9]))).contains("ends too early"));
        assert!(reason(&llmc(LLMC_TWO, 1, 2, &two(&[7, 8, 9]))).contains("more follows"));
        assert!(reason(&llmc(LLMC_TWO, 2, 3, &two(&[7, 8, 9]))).contains("version 2"));
        assert!(reason(&llmc(20_240_522, 1, 3, &[])).contains("20240522"));
        assert!(reason(&llmc(LLMC_TWO, 1, 3, &[])[..600]).contains("inside of its header"));
    }

    #[test]
    fn the_header_of_npy_is_checked() {
        let header = |kind: &str, order: &str, shape: &str| {
            format!("{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}   \n")
        };
        let data = two(&[7, 8, 9]);
        assert_eq!(tokens(&npy(&header("'<u2'", "False", "(3,)"), &data), Format::Tokens).unwrap(), [7, 8, 9]);
        let signed = [5i64, -1].map(i64::to_le_bytes).concat();
        let found = tokens(&npy(&header("'<i8'", "False", "(2,)"), &signed), Format::Tokens).unwrap();
        assert_eq!(found, [5, u32::MAX]);
        let unsigned = [7u64, 1 << 40].map(u64::to_le_bytes).concat();
        let found = tokens(&npy(&header("'<u8'", "False", "(2,)"), &unsigned), Format::Tokens).unwrap();
        assert_eq!(found, [7, u32::MAX]);
        let signed = [7i16, -1].map(i16::to_le_bytes).concat();
        let found = tokens(&npy(&header("'<i2'", "True", "(2,)"), &signed), Format::Tokens).unwrap();
        assert_eq!(found, [7, u32::MAX]);
        let refused = [
            ("'>u2'", "(3,)", "big-endian"),
            ("'<f4'", "(3,)", "it holds '<f4'"),
            ("'|O'", "(3,)", "it holds '|O'"),
            ("[('a', '<u2')]", "(3,)", "it holds [('a'"),
            ("'<u2'", "(3, 1)", "reshape(-1)"),
            ("'<u2'", "()", "reshape(-1)"),
            ("'<u2'", "(99999999999999999999,)", "no number of tokens"),
            ("'<u2'", "(4,)", "ends too early"),
            ("'<u2'", "(2,)", "more follows"),
        ];
        for (kind, shape, said) in refused {
            let found = reason(&npy(&header(kind, "False", shape), &data));
            assert!(found.contains(said), "{kind} {shape}: {found}");
        }
        assert!(reason(b"\x93NUMPY\x01\0\xff\xff").contains("inside of its header"));
        assert!(reason(b"\x93NUMPY\x02\0\xff\xff\xff\xff").contains("its header has"));
    }
}
