//! Import end to end: the bundled set's frozen hashes, formats and threads that agree, and inputs that must fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, DictionaryArray, LargeStringArray, ListArray, RecordBatch, StringArray,
    StringViewArray, TimestampNanosecondArray, types,
};
use arrow_schema::{DataType, Field, Schema as ArrowSchema};
use parquet::arrow::{ArrowWriter, encode_arrow_schema};
use parquet::basic::{Compression, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::file::metadata::{KeyValue, ParquetMetaDataBuilder, ParquetMetaDataReader, ParquetMetaDataWriter};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use proptest::prelude::*;
use templar_blob::MemoryBlobs;
use templar_data::{
    FileFault, ImportError, ImportOptions, ListingError, PageReader, ReadOptions, RowFault, SinkError, Split,
    Tokenizer, bundled, import, sample, verify,
};
use templar_manifest::{BlobId, Dataset, HeldOut};

/// Options that make many small blocks and shards of a little text.
fn options() -> ImportOptions {
    let mut options = ImportOptions::new("test", "CC0-1.0", "made by a test");
    options.held_out = HeldOut { block_tokens: 64, every: 5 };
    options.shard_tokens = 1000;
    options.read.text_document_bytes = 64;
    options
}

fn import_with(paths: &[PathBuf], options: &ImportOptions) -> Result<Dataset, ImportError> {
    import(paths, bundled::shakespeare().1, options, &mut MemoryBlobs::new()).map(|imported| imported.dataset)
}

fn failure(path: &Path) -> ImportError {
    import_with(&[path.to_owned()], &options()).unwrap_err()
}

/// Texts of all sorts: several scripts, line ends, the end token's name, and empty ones.
fn texts() -> Vec<String> {
    let seeds = ["To be, or not to be\n", "Größe — 漢字 🎭\r\n", "", "a<|endoftext|>b ", "\"quoted\"\t\\ \u{0}\u{1f}"];
    (0..200).map(|index| format!("{index} ").repeat(index % 7) + &seeds[index % 5].repeat(index % 11)).collect()
}

fn write_parquet(texts: &[Option<&[u8]>], compression: Compression, nullable: bool, rows_per_group: usize) -> Vec<u8> {
    let repetition = if nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    let text = Type::primitive_type_builder("text", Physical::BYTE_ARRAY).with_repetition(repetition).build().unwrap();
    let id = Type::primitive_type_builder("id", Physical::INT32).with_repetition(Repetition::REQUIRED).build().unwrap();
    let fields = vec![Arc::new(id), Arc::new(text)];
    let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build().unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    for rows in texts.chunks(rows_per_group) {
        let mut group = writer.next_row_group().unwrap();
        let mut ids = group.next_column().unwrap().unwrap();
        ids.typed::<Int32Type>().write_batch(&vec![7; rows.len()], None, None).unwrap();
        ids.close().unwrap();
        let values: Vec<ByteArray> = rows.iter().flatten().map(|&text| ByteArray::from(text)).collect();
        let levels: Vec<i16> = rows.iter().map(|row| row.is_some().into()).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, nullable.then_some(&levels[..]), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

fn rows(texts: &[String]) -> Vec<Option<&[u8]>> {
    texts.iter().map(|text| Some(text.as_bytes())).collect()
}

#[test]
fn the_bundled_dataset_has_its_frozen_hashes() {
    let mut blobs = MemoryBlobs::new();
    let dataset = bundled::import_shakespeare(&mut blobs).unwrap();
    assert_eq!((dataset.vocab_size, dataset.end_token, dataset.token_bytes), (2048, 0, 2));
    assert_eq!(dataset.documents, 520);
    // The data card's script computes the same two hashes with PyPI tokenizers, pyarrow and blake3.
    let shards = |split: Split| -> Vec<_> {
        split.shards(&dataset).iter().map(|shard| (shard.blob.to_string(), shard.tokens)).collect()
    };
    assert_eq!(
        shards(Split::Training),
        [("1651bb5238a47ba57d1f20c8a66acec3c6dcbb8426b8c30b5846f35cd6950c0b".to_owned(), 394_279)]
    );
    assert_eq!(
        shards(Split::Validation),
        [("76f35dc30bd094ab3dc6bfe47fdee7a60524b6e18248310a428a4f4baad84e17".to_owned(), 20_480)]
    );
    assert_eq!(dataset.tokenizer.to_string(), "607225f925e0ac4c6817d055e569a5a3702628712ca2a101dc91b3870a4c3e48");

    let card = include_str!("../../../datasets/shakespeare/README.md");
    let (parquet, tokenizer) = bundled::shakespeare();
    for hash in [BlobId::of(parquet), BlobId::of(tokenizer), dataset.training[0].blob, dataset.validation[0].blob] {
        assert!(card.contains(&hash.to_string()), "the data card does not state {hash}");
    }

    let checked = verify(&dataset, &blobs);
    assert!(checked.is_sound(), "{:?}", checked.faults);
    assert_eq!((checked.shards, checked.bytes), (2, 2 * checked.tokens));
    let tokenizer = Tokenizer::for_dataset(bundled::shakespeare().1, &dataset).unwrap();
    let pages = PageReader::new(&blobs, &dataset, Split::Training, 32).unwrap();
    let opening = sample(&pages, &tokenizer, 0).unwrap();
    assert!(opening.starts_with("HAMLET, PRINCE OF DENMARK\n\nby William Shakespeare"), "{opening}");
}

#[test]
fn formats_groupings_and_threads_agree() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let texts = texts();
    fs::write(at("zstd.parquet"), write_parquet(&rows(&texts), Compression::ZSTD(Default::default()), false, 1000))
        .unwrap();
    fs::write(at("snappy.parquet"), write_parquet(&rows(&texts), Compression::SNAPPY, true, 13)).unwrap();
    let lines: String =
        texts.iter().map(|text| serde_json::json!({ "id": 1, "text": text }).to_string() + "\n").collect();
    fs::write(at("all.jsonl"), lines).unwrap();
    // The same rows in files of a folder, whose names are not in the order of writing.
    let parts = at("parts");
    fs::create_dir_all(parts.join("a")).unwrap();
    fs::write(parts.join("b.PARQUET"), write_parquet(&rows(&texts[150..]), Compression::UNCOMPRESSED, false, 50))
        .unwrap();
    fs::write(parts.join("a/2.parquet"), write_parquet(&rows(&texts[100..150]), Compression::SNAPPY, false, 7))
        .unwrap();
    fs::write(parts.join("a/1.parquet"), write_parquet(&rows(&texts[..100]), Compression::SNAPPY, true, 9)).unwrap();
    fs::write(parts.join("README.md"), "not imported").unwrap();

    let expected = import_with(&[at("zstd.parquet")], &options()).unwrap();
    assert_eq!(expected.documents, texts.iter().filter(|text| !text.is_empty()).count() as u64);
    assert!(expected.training.len() > 2 && !expected.validation.is_empty());
    for path in ["snappy.parquet", "all.jsonl", "parts"] {
        assert_eq!(import_with(&[at(path)], &options()).unwrap(), expected, "{path}");
    }
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let found = pool.install(|| import_with(&[at("all.jsonl")], &options())).unwrap();
        assert_eq!(found, expected, "{threads} threads");
    }
    // The order of the files is part of the input.
    let (first, last) = (parts.join("a"), parts.join("b.PARQUET"));
    assert_eq!(import_with(&[first.clone(), last.clone()], &options()).unwrap(), expected);
    assert_ne!(import_with(&[last, first], &options()).unwrap().training, expected.training);
}

#[test]
fn only_the_end_of_a_document_is_an_end_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl");
    fs::write(&path, "{\"text\":\"<|endoftext|><|endoftext|>\"}\n".repeat(30)).unwrap();
    let mut blobs = MemoryBlobs::new();
    let dataset = import(&[path], bundled::shakespeare().1, &options(), &mut blobs).unwrap().dataset;
    let ends = dataset.training.iter().chain(&dataset.validation).flat_map(|shard| {
        let (_, bytes) = blobs.iter().find(|(id, _)| **id == shard.blob.hash()).unwrap();
        bytes.chunks_exact(2).filter(|token| *token == [0, 0]).collect::<Vec<_>>()
    });
    assert_eq!(ends.count(), 30);
}

#[test]
fn sources_that_hold_nothing_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(matches!(import_with(&[], &options()), Err(ImportError::List(ListingError::NoSources))));
    assert!(
        matches!(failure(&at("absent.txt")), ImportError::List(ListingError::Missing(path)) if path == at("absent.txt"))
    );
    fs::write(at("a.xyz"), "text\nx").unwrap();
    assert!(matches!(failure(&at("a.xyz")), ImportError::File { fault: FileFault::UnknownKind, .. }));
    assert!(matches!(failure(folder.path()), ImportError::List(ListingError::EmptyFolder { .. })));
    for (name, content) in [("0.txt", ""), ("0.jsonl", "\n\n"), ("1.jsonl", "{\"text\":\"\"}\n")] {
        fs::write(at(name), content).unwrap();
        assert!(matches!(failure(&at(name)), ImportError::Empty), "{name}");
    }
    fs::write(at("0.parquet"), write_parquet(&[], Compression::SNAPPY, false, 1)).unwrap();
    assert!(matches!(failure(&at("0.parquet")), ImportError::Empty));
    fs::write(at("short.txt"), "hello").unwrap();
    assert!(matches!(failure(&at("short.txt")), ImportError::TooShort { needed: 257, .. }));
}

#[cfg(unix)]
#[test]
fn a_folder_that_links_to_itself_ends() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
    assert!(matches!(failure(folder.path()), ImportError::List(ListingError::EmptyFolder { .. })));
}

/// Whatever type of arrow's a column of text was written with, alone or among columns of other types.
#[test]
fn columns_of_all_arrow_types_give_the_same_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let texts = texts();
    fs::write(folder.path().join("plain.parquet"), write_parquet(&rows(&texts), Compression::SNAPPY, false, 50))
        .unwrap();
    let expected = import_with(&[folder.path().join("plain.parquet")], &options()).unwrap();
    let strings = || texts.iter().map(String::as_str);
    let columns: [ArrayRef; 5] = [
        Arc::new(StringArray::from_iter_values(strings())),
        Arc::new(LargeStringArray::from_iter_values(strings())),
        Arc::new(StringViewArray::from_iter_values(strings())),
        Arc::new(BinaryArray::from_iter_values(strings())),
        Arc::new(strings().collect::<DictionaryArray<types::Int32Type>>()),
    ];
    for column in columns {
        let kind = column.data_type().clone();
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![Some(1); texts.len()]));
        let lists = texts.iter().map(|text| Some(text.bytes().map(|byte| Some(i32::from(byte)))));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<types::Int32Type, _, _>(lists));
        let batch = RecordBatch::try_from_iter([("time", times), ("text", column), ("bytes", lists)]).unwrap();
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let path = folder.path().join("arrow.parquet");
        fs::write(&path, file).unwrap();
        assert_eq!(import_with(&[path], &options()).unwrap(), expected, "{kind}");
    }
}

/// The file's metadata says that a column of any bytes is text, which the arrow reader would believe.
#[test]
fn a_type_that_the_metadata_claims_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("claimed.parquet");
    for claimed in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View] {
        let claim = encode_arrow_schema(&ArrowSchema::new(vec![Field::new("text", claimed, false)]));
        let claim = vec![KeyValue::new("ARROW:schema".to_owned(), claim)];
        let text = Type::primitive_type_builder("text", Physical::BYTE_ARRAY).with_repetition(Repetition::REQUIRED);
        let fields = vec![Arc::new(text.build().unwrap())];
        let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build().unwrap());
        let properties = Arc::new(WriterProperties::builder().set_key_value_metadata(Some(claim)).build());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values = [ByteArray::from("sound"), ByteArray::from(&b"not \xff sound"[..])];
        column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        fs::write(&path, writer.into_inner().unwrap()).unwrap();
        assert!(matches!(failure(&path), ImportError::Row { row: 2, fault: RowFault::NotUtf8, .. }));
    }
}

/// A file whose footer states fewer rows than it has is not cut short.
#[test]
fn rows_that_are_stated_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lies.parquet");
    let file = write_parquet(&rows(&texts()), Compression::SNAPPY, false, 50);
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes::Bytes::from(file.clone())).unwrap();
    for stated in [0, 1, 199, 201, i64::MAX, -1] {
        // The writer sums the rows of the row groups, so the lie is told there.
        let groups = metadata.row_groups().iter().enumerate().map(|(index, group)| {
            let rows = if index == 0 { stated } else { 0 };
            group.clone().into_builder().set_num_rows(rows).build().unwrap()
        });
        let lie = ParquetMetaDataBuilder::new(metadata.file_metadata().clone());
        let lie = lie.set_row_groups(groups.collect()).build();
        let mut changed = file.clone();
        ParquetMetaDataWriter::new(&mut changed, &lie).finish().unwrap();
        fs::write(&path, changed).unwrap();
        let error = failure(&path);
        assert!(error.to_string().contains(&format!("it states {stated} rows")), "{error}");
    }
}

#[test]
fn bad_parquet_is_refused_by_row_or_column() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let write = |bytes: &[u8]| fs::write(at("p.parquet"), bytes).unwrap();
    for bytes in [&b""[..], b"PAR1", b"PAR1\xff\xff\xff\xffPAR1", &[0; 4096]] {
        write(bytes);
        assert!(matches!(failure(&at("p.parquet")), ImportError::File { fault: FileFault::Damaged { .. }, .. }));
    }
    write(&write_parquet(&[Some(b"a"), Some(b"b\xff"), Some(b"c")], Compression::SNAPPY, false, 2));
    assert!(matches!(failure(&at("p.parquet")), ImportError::Row { row: 2, fault: RowFault::NotUtf8, .. }));

    let number = Type::primitive_type_builder("text", Physical::INT32).build().unwrap();
    let other = Type::primitive_type_builder("body", Physical::BYTE_ARRAY).build().unwrap();
    for field in [number, other] {
        let schema = Arc::new(Type::group_type_builder("s").with_fields(vec![Arc::new(field)]).build().unwrap());
        let writer = SerializedFileWriter::new(Vec::new(), schema, Default::default()).unwrap();
        write(&writer.into_inner().unwrap());
        assert!(
            matches!(failure(&at("p.parquet")), ImportError::File { fault: FileFault::NoColumn { columns, .. }, .. } if columns.len() == 1)
        );
    }
}

#[test]
fn bad_options_are_refused_before_anything_is_read() {
    let missing = [PathBuf::from("datasets")];
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.txt"), "x").unwrap();
    let path = [folder.path().join("t.txt")];
    let mut blobs = MemoryBlobs::new();
    let wrong = [
        ImportOptions { shard_tokens: 0, ..options() },
        ImportOptions { shard_tokens: u64::MAX, ..options() },
        ImportOptions { shard_tokens: 1 << 30, ..options() },
        ImportOptions { held_out: HeldOut { block_tokens: 0, every: 2 }, ..options() },
        ImportOptions { held_out: HeldOut { block_tokens: 1, every: 1 }, ..options() },
        ImportOptions { name: "x".repeat(1000), ..options() },
        ImportOptions { read: ReadOptions { max_document_bytes: 0, ..options().read }, ..options() },
        ImportOptions { read: ReadOptions { column: String::new(), ..options().read }, ..options() },
    ];
    for options in wrong {
        let refused = import(&path, bundled::shakespeare().1, &options, &mut blobs);
        assert!(matches!(refused, Err(ImportError::Options(_))), "{options:?}");
    }
    let end = ImportOptions { end_token: Some("<stop>".to_owned()), ..options() };
    assert!(matches!(import_with(&path, &end), Err(ImportError::Tokenizer(_))));
    assert!(matches!(import_with(&missing, &options()), Err(ImportError::List(ListingError::Missing(_)))));
    assert_eq!(blobs.iter().count(), 0);
}

#[test]
fn a_sink_that_fails_ends_the_import() {
    struct Full(u32);
    impl templar_data::ShardSink for Full {
        fn put(&mut self, bytes: Vec<u8>) -> Result<BlobId, SinkError> {
            self.0 = self.0.checked_sub(1).ok_or_else(|| SinkError("no space left".into()))?;
            Ok(BlobId::of(&bytes))
        }
    }
    let (_, tokenizer) = bundled::shakespeare();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.txt");
    fs::write(&path, "word ".repeat(400) + "\n").unwrap();
    for room in 0..2 {
        let error = import(std::slice::from_ref(&path), tokenizer, &options(), &mut Full(room)).unwrap_err();
        assert!(matches!(&error, ImportError::Sink(cause) if cause.to_string() == "no space left"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A damaged file is an import or an error, never a panic that gets out.
    #[test]
    fn damaged_parquet_never_panics(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(), truncate in any::<bool>(), zstd in any::<bool>(),
    ) {
        let texts = texts();
        let compression = if zstd { Compression::ZSTD(Default::default()) } else { Compression::SNAPPY };
        let mut bytes = write_parquet(&rows(&texts[..40]), compression, true, 20);
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if truncate {
            bytes.truncate(cut.index(bytes.len()));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.parquet");
        fs::write(&path, bytes).unwrap();
        if let Err(error) = import_with(&[path], &options()) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
