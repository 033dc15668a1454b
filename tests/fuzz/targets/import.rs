//! Datasets: files of every format that an import reads.

use std::sync::Arc;

use parquet::basic::{Compression, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use templar_data::{ImportOptions, ShardSink, SinkError, import};
use templar_manifest::{BlobId, HeldOut, Payload as _};

use super::tokenizer;

/// Hashes what it is given, and keeps nothing.
struct Discard;

impl ShardSink for Discard {
    fn put(&mut self, bytes: Vec<u8>) -> Result<BlobId, SinkError> {
        Ok(BlobId::of(&bytes))
    }
}

/// Whether a file of this name is imported. The column is the one that the seeds of the target have.
fn read(name: &str, column: &str, bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a temporary file");
    let mut options = ImportOptions::new("fuzz", "CC0-1.0", "made up");
    options.held_out = HeldOut { block_tokens: 2, every: 2 };
    options.read.max_document_bytes = 1 << 16;
    options.read.column = column.to_owned();
    match import(&[path], &tokenizer::small(), &options, &mut Discard) {
        Ok(imported) => {
            assert_eq!(imported.dataset.check(), Ok(()));
            true
        }
        Err(_) => false,
    }
}

pub(super) fn read_parquet(bytes: &[u8]) -> bool {
    read("input.parquet", "text", bytes)
}

pub(super) fn read_jsonl(bytes: &[u8]) -> bool {
    read("input.jsonl", "text", bytes)
}

pub(super) fn read_array(bytes: &[u8]) -> bool {
    read("input.json", "doc.text", bytes)
}

pub(super) fn read_arrow(bytes: &[u8]) -> bool {
    read("input.arrow", "text", bytes)
}

/// Conversations in any format: the first bytes tell which.
pub(super) fn read_conversations(bytes: &[u8]) -> bool {
    read("input.jsonl", "messages", bytes)
}

pub(super) fn read_table(bytes: &[u8]) -> bool {
    read("input.csv", "text", bytes)
}

pub(super) fn read_tar(bytes: &[u8]) -> bool {
    read("input.tar", "text", bytes)
}

pub(super) fn read_tokens(bytes: &[u8]) -> bool {
    read("input.bin", "text", bytes)
}

/// Compressed lines: the first bytes tell how.
pub(super) fn read_compressed(bytes: &[u8]) -> bool {
    read("input.jsonl", "text", bytes)
}

/// Files that other programs wrote: pyarrow 26, polars 2.1 and CPython 3.11.
macro_rules! seeds {
    ($($name:literal)*) => { [$(include_bytes!(concat!("../seeds/", $name)).as_slice()),*].map(<[u8]>::to_vec).to_vec() };
}

pub(super) fn array_seeds() -> Vec<Vec<u8>> {
    let nested = "[\n {\"doc\": {\"text\": \"ab a\"}},\n {\"doc.text\": \"b \\\"ab]\", \"x\": [{}, [1]]}\n]\n";
    let strange = "[{\"doc\":{\"text\":\"ab\\ud83d a\",\"n\":NaN}},{\"doc\":null},{\"doc\":{\"text\":\"abab\"}}]";
    [nested, strange].map(|text| text.as_bytes().to_vec()).to_vec()
}

pub(super) fn arrow_seeds() -> Vec<Vec<u8>> {
    seeds!("stream.arrow" "file-zstd.arrow" "dictionary.arrow" "view.arrow" "polars.arrow")
}

pub(super) fn conversation_seeds() -> Vec<Vec<u8>> {
    let turns =
        "{\"messages\":[{\"role\":\"a\",\"content\":\"ab ba\"},{\"role\":\"b\",\"content\":[{\"text\":\"a\"}]}]}\n";
    let others = "{\"messages\":[{\"from\":\"gpt\",\"value\":\"ab ba\"},{\"from\":\"b\",\"value\":null}]}\n";
    let lines = [turns, others].map(|line| line.as_bytes().repeat(2));
    [seeds!("conversations.arrow" "conversations.parquet"), lines.to_vec()].concat()
}

pub(super) fn table_seeds() -> Vec<Vec<u8>> {
    let tables = ["id,text\n1,\"ab \"\"a\"\"\nb\"\n2,a b\n\n3,abab\n", "\u{feff}text\r\nab\r\n\"a b a\"\r\n"];
    tables.map(|text| text.as_bytes().to_vec()).to_vec()
}

pub(super) fn tar_seeds() -> Vec<Vec<u8>> {
    seeds!("gnu.tar" "pax.tar")
}

pub(super) fn token_seeds() -> Vec<Vec<u8>> {
    let tokens = [1u16, 2, 3, 0, 4, 5, 1, 2, 0, 3].map(u16::to_le_bytes).concat();
    let header = "{'descr': '<u2', 'fortran_order': False, 'shape': (10,), }\n";
    let numpy = [&b"\x93NUMPY\x01\0"[..], &[header.len() as u8, 0], header.as_bytes(), &tokens].concat();
    let mut llmc = [20_240_520u32, 1, 10].map(u32::to_le_bytes).concat();
    llmc.resize(1024, 0);
    llmc.extend(&tokens);
    vec![tokens, numpy, llmc]
}

pub(super) fn compressed_seeds() -> Vec<Vec<u8>> {
    seeds!("lines.gz" "lines.bz2" "lines.xz" "lines.zst")
}

pub(super) fn parquet_seeds() -> Vec<Vec<u8>> {
    let compressions = [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(Default::default())];
    let write = |compression| {
        let text = Type::primitive_type_builder("text", Physical::BYTE_ARRAY).with_repetition(Repetition::OPTIONAL);
        let fields = vec![Arc::new(text.build().expect("a column"))];
        let schema = Type::group_type_builder("schema").with_fields(fields).build().expect("a schema");
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut writer = SerializedFileWriter::new(Vec::new(), schema.into(), properties.into()).expect("a file");
        for rows in [["ab ba", "a"], ["abab", "b ab a"]] {
            let mut group = writer.next_row_group().expect("a group of rows");
            let values = rows.map(ByteArray::from);
            let mut column = group.next_column().expect("a column").expect("there is one");
            column.typed::<ByteArrayType>().write_batch(&values, Some(&[1, 1]), None).expect("two rows");
            column.close().expect("a column");
            group.close().expect("a group of rows");
        }
        writer.into_inner().expect("a file")
    };
    let others = seeds!("gzip.parquet" "brotli.parquet" "lz4.parquet" "delta-v2.parquet");
    compressions.into_iter().map(write).chain(others).collect()
}

pub(super) fn jsonl_seeds() -> Vec<Vec<u8>> {
    let plain = "{\"text\": \"ab a\"}\n{\"text\": \"b\\n\\u00e9 \\\"ab\\\"\"}\n";
    let nested = "{\"id\": 1, \"meta\": {\"of\": [1, 2.5, null, true]}, \"text\": \"abab\"}\r\n\n{\"text\": \"a\", \"b\": \"a\"}";
    [plain, nested].map(|text| text.as_bytes().to_vec()).to_vec()
}
