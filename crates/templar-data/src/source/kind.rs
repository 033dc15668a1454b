//! The kind of a file, told by its first bytes, and its compression.
//!
//! The name tells first what a file ought to be. The first bytes then decide where they are a sure sign, because a
//! download is often renamed or decompressed on the way. Some first bytes belong to files that hold no text at all,
//! such as the pointer that Git LFS leaves in the place of a file. Such a file is refused by what it is.

use std::path::Path;

use super::fault::FileFault;
use super::format::{Format, lower_case_name, without_compression};

/// The bytes at the beginning of a file that [`magic`] may look at.
pub(super) const MAGIC_BYTES: usize = 512;

/// The mark that some editors put before UTF-8.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The first bytes of an `.npy` file.
pub(super) const NPY: &[u8] = b"\x93NUMPY";

/// The first bytes of an Arrow file. The last ones are the same without the zeros.
pub(super) const ARROW_FILE: &[u8] = b"ARROW1\0\0";

/// Comes before the length of each message of an Arrow stream.
pub(super) const ARROW_CONTINUATION: [u8; 4] = [0xff; 4];

/// How a file is compressed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Compression {
    pub(super) fn article(self) -> &'static str {
        match self {
            Self::Gzip => "a gzip file",
            Self::Zstd => "a zstd file",
            Self::Bzip2 => "a bzip2 file",
            Self::Xz => "an xz file",
        }
    }

    /// The compression that the name of a file promises.
    pub(super) fn of_name(path: &Path) -> Option<Self> {
        Some(match without_compression(&lower_case_name(path)?).1? {
            "gz" | "gzip" => Self::Gzip,
            "zst" | "zstd" => Self::Zstd,
            "bz2" => Self::Bzip2,
            _ => Self::Xz,
        })
    }

    /// The compression that the first bytes show.
    pub(super) fn of_bytes(start: &[u8]) -> Option<Self> {
        match start {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            // A frame, or one of the sixteen kinds of frames that a reader skips.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, ..] => Some(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            _ => None,
        }
    }
}

/// The format that the first bytes of a decompressed file show, where they are a sure sign of one. Where the file
/// promises to be tokens, which may begin with any bytes, signs of less than four bytes are none.
///
/// # Errors
/// [`FileFault::NoText`] where they are a sure sign of something that cannot be imported.
pub(super) fn magic(start: &[u8], promises_tokens: bool) -> Result<Option<Format>, FileFault> {
    if start.starts_with(b"PAR1") {
        return Ok(Some(Format::Parquet));
    }
    if start.starts_with(ARROW_FILE) || start.starts_with(&ARROW_CONTINUATION) {
        return Ok(Some(Format::Arrow));
    }
    if start.starts_with(NPY) {
        return Ok(Some(Format::Tokens));
    }
    if start.get(257..262) == Some(b"ustar") {
        return Ok(Some(Format::Tar));
    }
    if start.starts_with(b"MMIDIDX\0\0") {
        let what = "the index of Megatron's tokens, not the tokens themselves";
        return Err(FileFault::NoText { what, hint: "import the .bin of the same name; its index is found beside it" });
    }
    let is_sign = |magic: &[u8]| start.starts_with(magic) && (magic.len() >= 4 || !promises_tokens);
    match NO_TEXT.iter().find(|(magic, ..)| is_sign(magic)) {
        Some(&(_, what, hint)) => Err(FileFault::NoText { what, hint }),
        None => Ok(None),
    }
}

/// Whether the first bytes are those of JSON under a name that promises another format. Plain text may begin so as
/// well, and counts as JSON where it has a field of the column's name.
pub(super) fn is_json(start: &[u8], promised: Format, column: &str) -> bool {
    let start = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(start).trim_ascii_start();
    let begins = match start.split_first() {
        Some((b'{', rest)) => rest.trim_ascii_start().starts_with(b"\""),
        Some((b'[', rest)) => rest.trim_ascii_start().starts_with(b"{"),
        _ => false,
    };
    let field = format!("\"{}", column.split('.').next().unwrap_or(column));
    let has_field = || start.windows(field.len()).any(|bytes| bytes == field.as_bytes());
    begins && !promised.is_tokens() && (promised != Format::Text || has_field())
}

/// Refuses what ought to be text in UTF-8, where its first bytes are text in UTF-16: by its byte-order mark, or because
/// each second byte is zero.
///
/// # Errors
/// [`FileFault::NoText`].
pub(super) fn refuse_utf16(start: &[u8]) -> Result<(), FileFault> {
    let is_zero = |odd: usize| start.len() >= 8 && start[..8].iter().skip(odd).step_by(2).all(|&byte| byte == 0);
    let is_marked = start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff");
    // All zeros are no text at all, and a reader says so.
    if is_marked || is_zero(0) != is_zero(1) {
        return Err(FileFault::NoText { what: "text in UTF-16, not in UTF-8", hint: RECODE });
    }
    Ok(())
}

const UNPACK: &str = "unpack it and import what is in it";
const PIPE: &str = "decompress it and pipe it in: `... | templar dataset import - --format jsonl`";
const CONVERT: &str = "convert it to parquet or jsonl, for example with pandas or duckdb";
const RECODE: &str = "recode it: `iconv -f UTF-16 -t UTF-8 OLD > NEW` (or `-f UTF-32`)";

/// The first bytes of files that hold no text, or text that is not read here, each with its kind and the advice.
const NO_TEXT: &[(&[u8], &str, &str)] = &[
    (
        b"version https://git-lfs.github.com/spec/v1",
        "a Git LFS pointer, not the file itself",
        "run `git lfs pull` where it was cloned",
    ),
    (b"/annex/objects/", "a git-annex pointer, not the file itself", "run `git annex get` where it was cloned"),
    (b"\xff\xfe", "text in UTF-16 or UTF-32, not in UTF-8", RECODE),
    (b"\xfe\xff", "text in UTF-16, not in UTF-8", RECODE),
    (b"\0\0\xfe\xff", "text in UTF-32, not in UTF-8", RECODE),
    (b"PARE", "an encrypted parquet file", "write it again without encryption"),
    (b"PK\x03\x04", "a zip archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"\x04\x22\x4d\x18", "compressed with LZ4", PIPE),
    (b"\x1f\x9d", "compressed with compress (.Z)", PIPE),
    (b"\x5d\0\0", "compressed with lzma", PIPE),
    (b"LZIP", "compressed with lzip", PIPE),
    (b"%PDF-", "a PDF document", "extract its text first, for example with pdftotext"),
    (b"SQLite format 3\0", "an SQLite database", CONVERT),
    (b"Obj\x01", "an Avro file", CONVERT),
    (b"ORC", "an ORC file", CONVERT),
    (
        b"FEA1",
        "a Feather file of version 1",
        "write it again with pyarrow.feather.write_feather, which writes version 2",
    ),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", CONVERT),
    (b"\x80\x02", "a Python pickle, which may run any code when it is loaded", CONVERT),
    (b"\x80\x03", "a Python pickle, which may run any code when it is loaded", CONVERT),
    (b"\x80\x04", "a Python pickle, which may run any code when it is loaded", CONVERT),
    (b"\x80\x05", "a Python pickle, which may run any code when it is loaded", CONVERT),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_format_and_compression() {
        let found = |name: &str| (Format::of_name(Path::new(name)), Compression::of_name(Path::new(name)));
        assert_eq!(found("a/B.PARQUET"), (Some(Format::Parquet), None));
        assert_eq!(found("x.ndjson"), (Some(Format::Jsonl), None));
        assert_eq!(found("x.json.GZ"), (Some(Format::Jsonl), Some(Compression::Gzip)));
        assert_eq!(found("x.txt.zst"), (Some(Format::Text), Some(Compression::Zstd)));
        assert_eq!(found("x.bz2"), (None, Some(Compression::Bzip2)));
        assert_eq!(found("x"), (None, None));
        assert_eq!(found(".."), (None, None));
    }

    #[test]
    fn json_is_known_under_other_names() {
        let line = b"{\"id\": 1, \"text\": \"a\"}\n";
        for promised in [Format::Parquet, Format::Csv, Format::Tar, Format::Text] {
            assert!(is_json(line, promised, "text") && is_json(b"\xef\xbb\xbf[\n {\"text\"", promised, "text.a"));
        }
        assert!(!is_json(line, Format::Text, "body") && is_json(line, Format::Csv, "body"));
        assert!(!is_json(line, Format::Tokens, "text"));
        for other in [&b"{curly} text"[..], b"[1] A text", b"", b"{", b"\"text\""] {
            assert!(!is_json(other, Format::Csv, "text"), "{other:?}");
        }
    }

    #[test]
    fn first_bytes_tell_what_is_no_text() {
        assert_eq!(magic(b"PAR1\x15", false).unwrap(), Some(Format::Parquet));
        assert_eq!(magic(b"Or not to be", false).unwrap(), None);
        assert_eq!(magic(b"", false).unwrap(), None);
        let refused = |start: &[u8]| magic(start, false).unwrap_err().to_string();
        assert_eq!(
            refused(b"version https://git-lfs.github.com/spec/v1\noid"),
            "is a Git LFS pointer, not the file itself"
        );
        assert_eq!(refused(b"\xff\xfet\0"), "is text in UTF-16 or UTF-32, not in UTF-8");
        assert_eq!(magic(b"\xff\xfet\0", true).unwrap(), None);
        assert!(magic(b"PK\x03\x04", true).is_err());
        for utf16 in [&b"{\0\"\0t\0e\0"[..], b"\0{\0\"\0t\0e", b"\xff\xfe{\0"] {
            assert!(refuse_utf16(utf16).is_err(), "{utf16:?}");
        }
        for other in [&b"{\"text\":"[..], b"a\0b\0cdef", b"\0\0\0\0\0\0\0\0", b"a\0", b""] {
            assert!(refuse_utf16(other).is_ok(), "{other:?}");
        }
        assert_eq!(refused(b"PK\x03\x04\x14"), "is a zip archive");
    }
}
