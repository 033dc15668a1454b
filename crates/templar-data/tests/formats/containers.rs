//! The same rows in every container.

use arrow_ipc::CompressionType;
use parquet::basic::Compression;
use serde_json::json;
use templar_data::{ImportError, RowFault};

use super::make::*;
use super::{Files, dataset_of, failure_of, options, texts, tokenizer};

#[test]
fn every_container_of_the_same_rows_gives_the_same_dataset() {
    let files = Files::new();
    let texts = texts();
    let rows = lines(&texts);
    let expected = dataset_of(&files.write("base.jsonl", &rows), &options());
    let batches = [batch(&texts[..70]), batch(&texts[70..])];
    let elements: Vec<_> = texts.iter().map(|text| json!({ "text": text })).collect();
    let array = serde_json::to_vec_pretty(&elements).unwrap();
    let all = batch(&texts);
    let zstd_frames = [&twice(&rows, zstd)[..], b"\x5a\x2a\x4d\x18\x03\0\0\0abc"].concat();
    let containers = [
        ("lines.json", rows.clone()),
        ("x.ndjson", String::from_utf8(rows.clone()).unwrap().replace('\n', "\r\n").into_bytes()),
        ("bom.jsonl", [b"\xef\xbb\xbf", &rows[..]].concat()),
        ("a.jsonl.gz", twice(&rows, gzip)),
        ("a.jsonl.zst", zstd_frames),
        ("a.jsonl.bz2", twice(&rows, bzip2)),
        ("renamed.jsonl", gzip(&rows)),
        ("decompressed.jsonl.gz", rows.clone()),
        ("lines.txt", rows.clone()),
        ("lines.parquet", rows.clone()),
        ("array.json", array.clone()),
        ("array.json.gz", gzip(&array)),
        ("t.csv", table(&texts, b',')),
        ("t.tsv", table(&texts, b'\t')),
        ("bom.csv.gz", gzip(&[b"\xef\xbb\xbf", &table(&texts, b',')[..]].concat())),
        ("plain.arrow", arrow_file(&batches, None)),
        ("lz4.arrow", arrow_file(&batches, Some(CompressionType::LZ4_FRAME))),
        ("zstd.feather", arrow_file(&batches, Some(CompressionType::ZSTD))),
        ("polars.arrow", polars_file(&batches, None)),
        ("polars-lz4.ipc", polars_file(&batches, Some(CompressionType::LZ4_FRAME))),
        ("polars.arrow.gz", gzip(&polars_file(&batches, Some(CompressionType::ZSTD)))),
        ("stream.arrow", arrow_stream(&batches)),
        ("stream.arrows.gz", gzip(&arrow_stream(&batches))),
        ("gzip.parquet", parquet_file(&all, Compression::GZIP(Default::default()))),
        ("brotli.parquet", parquet_file(&all, Compression::BROTLI(Default::default()))),
        ("lz4.parquet", parquet_file(&all, Compression::LZ4)),
        ("lz4-raw.parquet", parquet_file(&all, Compression::LZ4_RAW)),
        ("packed.parquet.zst", zstd(&parquet_file(&all, Compression::SNAPPY))),
        ("set.tar", archive(&texts)),
        ("set.tgz", gzip(&archive(&texts))),
    ];
    for (name, bytes) in containers {
        assert_eq!(dataset_of(&files.write(name, bytes), &options()), expected, "{name}");
    }
}

#[test]
fn tokens_that_were_made_elsewhere_give_the_dataset_of_their_texts() {
    let files = Files::new();
    let texts = texts();
    let expected = dataset_of(&files.write("base.jsonl", lines(&texts)), &options());
    let (documents, end) = (documents(&texts), tokenizer().end_token());
    let after: Vec<u32> = documents.iter().flat_map(|tokens| tokens.iter().copied().chain([end])).collect();
    let before: Vec<u32> =
        documents.iter().flat_map(|tokens| [end].into_iter().chain(tokens.iter().copied())).collect();
    let mut header = [20_240_520u32, 1, before.len() as u32].map(u32::to_le_bytes).concat();
    header.resize(1024, 0);
    let wide: Vec<u8> = after.iter().flat_map(|&token| i64::from(token).to_le_bytes()).collect();
    let containers = [
        ("nanogpt.bin", two_bytes(&after)),
        ("nanogpt.bin.zst", zstd(&two_bytes(&after))),
        ("llmc.bin", [header, two_bytes(&before)].concat()),
        ("two.npy", npy("<u2", after.len(), &two_bytes(&after))),
        ("eight.npy", npy("<i8", after.len(), &wide)),
    ];
    for (name, bytes) in containers {
        assert_eq!(dataset_of(&files.write(name, bytes), &options()), expected, "{name}");
    }
    // Megatron, with and without end tokens among the tokens.
    let with_ends: Vec<Vec<u32>> = documents.iter().map(|tokens| [&tokens[..], &[end]].concat()).collect();
    for (name, documents) in [("meg", &documents), ("eod", &with_ends)] {
        files.write(&format!("{name}.idx"), megatron_index(documents));
        let path = files.write(&format!("{name}.bin"), two_bytes(&documents.concat()));
        assert_eq!(dataset_of(&path, &options()), expected, "{name}");
    }
    let strange = files.write("strange.npy", npy("<u2", 2, &two_bytes(&[1, 60_000])));
    assert!(matches!(
        failure_of(&strange, &options()),
        ImportError::Row { row: 2, fault: RowFault::NotInVocabulary { token: 60_000, .. }, .. }
    ));
}
