//! Files that are damaged, cut off, hostile, or not what their name says.

use std::fs;
use std::io::Write;

use parquet::basic::Compression;
use templar_data::{FileFault, ImportError, OnBadRow, ReadOptions, ShardSink, SinkError, bundled, import};
use templar_manifest::BlobId;

use super::make::*;
use super::{Files, failure_of, options, reading, texts};

fn fault(error: ImportError) -> FileFault {
    match error {
        ImportError::File { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

/// Cut at ten places each. Where a cut can go unseen, as at a line end of plain text, the format is not here.
#[test]
fn a_file_that_was_cut_off_is_refused() {
    let files = Files::new();
    let texts = texts();
    let rows = lines(&texts);
    let batches = [batch(&texts[..70]), batch(&texts[70..])];
    let ids: Vec<u32> = (0..2000).collect();
    let whole = [
        ("a.jsonl.gz", gzip(&rows)),
        ("a.jsonl.zst", zstd(&rows)),
        ("a.jsonl.bz2", bzip2(&rows)),
        ("a.json", [b"[", &rows.join_lines()[..], b"]"].concat()),
        ("a.parquet", parquet_file(&batch(&texts), Compression::SNAPPY)),
        ("a.arrow", arrow_file(&batches, None)),
        ("a.arrows", arrow_stream(&batches)),
        ("a.tar", archive(&texts)),
        ("a.npy", npy("<u2", ids.len(), &two_bytes(&ids))),
    ];
    let skipping = reading(ReadOptions { on_bad_row: OnBadRow::Skip, ..Default::default() });
    for (name, bytes) in whole {
        for tenth in 0..10 {
            let path = files.write(name, &bytes[..bytes.len() * tenth / 10]);
            // Leaving rows out does not help: it is the file that is bad.
            let error = failure_of(&path, &skipping);
            let is_named = matches!(&error, ImportError::File { fault: FileFault::Damaged { .. }, .. });
            assert!(is_named || tenth == 0, "{name}, {tenth} tenths: {error}");
        }
    }
}

trait JoinLines {
    fn join_lines(&self) -> Vec<u8>;
}

impl JoinLines for Vec<u8> {
    /// The lines with commas between them.
    fn join_lines(&self) -> Vec<u8> {
        self.trim_ascii_end().split(|&byte| byte == b'\n').collect::<Vec<_>>().join(&b',')
    }
}

/// Two rows in one page without compression and with a checksum, as pyarrow 26 writes it.
const CHECKED_PAGE: &str = "504152311500155c155c15e3e8e5d00a1c15041500150615061c0000000200000004010c000000746f206265206f72206e6f\
    74140000007468617420697320746865207175657374696f6e1504192c35001806736368656d61150200150c250218047465787425004c1c\
    0000001604191c191c26001c150c192506001918047465787415001604168e01168e012608491c150015001502003c164019061926000400\
    0000168e0116042608168e01002820706172717565742d6370702d6172726f772076657273696f6e2032362e302e31191c1c0000008c0000\
    0050415231";

#[test]
fn a_page_that_differs_from_its_checksum_is_refused_by_its_row_group() {
    let files = Files::new();
    let digits: Vec<u8> = CHECKED_PAGE.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digits = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    let mut bytes: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    // The text is too short for a held-out part, which shows that it was read.
    assert!(matches!(failure_of(&files.write("good.parquet", &bytes), &options()), ImportError::TooShort { .. }));
    let at = bytes.windows(5).position(|window| window == b"to be").unwrap();
    bytes[at] = b'g';
    let path = files.write("flipped.parquet", &bytes);
    let error = failure_of(&path, &options()).to_string();
    let said =
        "is not a parquet file that can be read: row group 1 of 1: a page has another checksum than the file states";
    assert_eq!(error, format!("{} {said}", path.display()));
}

/// Some kilobytes that expand to hundreds of megabytes.
#[test]
fn a_file_that_expands_without_end_is_stopped() {
    let files = Files::new();
    let mib = [&[b' '; 1 << 16][..], b"\n"].concat().repeat(16);
    for (name, member) in [("bomb.jsonl.gz", gzip(&mib)), ("bomb.jsonl.zst", zstd(&mib))] {
        let path = files.write(name, member.repeat(400));
        let error = fault(failure_of(&path, &options()));
        assert!(matches!(error, FileFault::Expands { limit_bytes, .. } if limit_bytes < 1 << 30), "{name}: {error}");
    }
    // A page of parquet states its size before it is decompressed.
    let path = files.write("bomb.parquet", parquet_file(&batch(&[" ".repeat(300 << 20)]), Compression::SNAPPY));
    let error = failure_of(&path, &options()).to_string();
    assert!(error.contains("expands to more than 268435456"), "{error}");
}

#[test]
fn a_file_that_is_no_text_is_refused_by_what_it_is() {
    let files = Files::new();
    let utf16: Vec<u8> = "\u{feff}text".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let wrong: [(&str, &[u8], &str); 9] = [
        (
            "lfs.parquet",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
            "is a Git LFS pointer",
        ),
        ("utf16.csv", &utf16, "is text in UTF-16"),
        ("zip.jsonl", b"PK\x03\x04\x14\0", "is a zip archive"),
        ("model.bin", b"PK\x03\x04\x14\0", "is a zip archive"),
        ("a.lz4", b"\x04\x22\x4d\x18\x64", "is compressed with LZ4"),
        ("a.pkl", b"\x80\x04\x95\x10", "is a Python pickle"),
        ("a.idx", b"MMIDIDX\0\0\x01", "is the index of Megatron's tokens"),
        ("a.parquet", b"PARE1", "is an encrypted parquet file"),
        ("empty.jsonl.gz", b"", "is not a gzip file that can be read: it is empty"),
    ];
    for (name, bytes, said) in wrong {
        let error = failure_of(&files.write(name, bytes), &options()).to_string();
        assert!(error.contains(&format!("{name} {said}")), "{error}");
    }
    let unknown = fault(failure_of(&files.write("a.xyz", "some text"), &options()));
    assert!(matches!(unknown, FileFault::UnknownKind));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    /// Writes to the file when the first shard is full.
    struct Meddler(fs::File);
    impl ShardSink for Meddler {
        fn put(&mut self, bytes: Vec<u8>) -> Result<BlobId, SinkError> {
            self.0.write_all(b"{\"text\":\"late\"}\n").map_err(|error| SinkError(Box::new(error)))?;
            Ok(BlobId::of(&bytes))
        }
    }
    let files = Files::new();
    let rows = lines(&texts()).repeat(200);
    let batches = [batch(&vec![texts(); 200].concat())];
    for (name, bytes) in [("a.jsonl", rows.clone()), ("a.jsonl.gz", gzip(&rows)), ("a.arrows", arrow_stream(&batches))]
    {
        let path = files.write(name, bytes);
        let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        let error = import(&[path], bundled::shakespeare().1, &options(), &mut Meddler(file)).unwrap_err();
        assert!(matches!(fault(error), FileFault::Changed), "{name}");
    }
}
