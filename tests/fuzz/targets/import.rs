//! Datasets: parquet and jsonl files.

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

fn read(name: &str, bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a temporary file");
    let mut options = ImportOptions::new("fuzz", "CC0-1.0", "made up");
    options.held_out = HeldOut { block_tokens: 2, every: 2 };
    options.max_document_bytes = 1 << 16;
    match import(&[path], &tokenizer::small(), &options, &mut Discard) {
        Ok(dataset) => {
            assert_eq!(dataset.check(), Ok(()));
            true
        }
        Err(_) => false,
    }
}

pub(super) fn read_parquet(bytes: &[u8]) -> bool {
    read("input.parquet", bytes)
}

pub(super) fn read_jsonl(bytes: &[u8]) -> bool {
    read("input.jsonl", bytes)
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
    compressions.into_iter().map(write).collect()
}

pub(super) fn jsonl_seeds() -> Vec<Vec<u8>> {
    let plain = "{\"text\": \"ab a\"}\n{\"text\": \"b\\n\\u00e9 \\\"ab\\\"\"}\n";
    let nested = "{\"id\": 1, \"meta\": {\"of\": [1, 2.5, null, true]}, \"text\": \"abab\"}\r\n\n{\"text\": \"a\", \"b\": \"a\"}";
    [plain, nested].map(|text| text.as_bytes().to_vec()).to_vec()
}
