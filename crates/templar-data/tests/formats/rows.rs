//! What is taken of a row, and what is done about a bad one.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field, Fields};
use parquet::basic::Compression;
use serde_json::json;
use templar_data::{ImportError, LongDocuments, OnBadRow, ReadOptions, RowFault};

use super::make::*;
use super::{Files, dataset_of, failure_of, import_one, options, reading, texts};

#[test]
fn a_column_is_named_by_its_path() {
    let files = Files::new();
    let texts = texts();
    let expected = dataset_of(&files.write("base.jsonl", lines(&texts)), &options());
    let named = |path: &str| reading(ReadOptions { column: path.to_owned(), ..Default::default() });
    let nested = |value: &dyn Fn(&String) -> serde_json::Value| -> Vec<u8> {
        texts.iter().map(|text| value(text).to_string() + "\n").collect::<String>().into_bytes()
    };
    let content = files.write("c.jsonl", nested(&|text| json!({ "content": text, "text": 5 })));
    assert_eq!(dataset_of(&content, &named("content")), expected);
    let deep = files.write("d.jsonl", nested(&|text| json!({ "doc": { "url": "u", "text": text }, "text": "no" })));
    assert_eq!(dataset_of(&deep, &named("doc.text")), expected);

    let urls: ArrayRef = Arc::new(StringArray::from(vec!["u"; texts.len()]));
    let field = |name: &str| Field::new(name, DataType::Utf8, false);
    let inner = Fields::from(vec![field("url"), field("text")]);
    let doc: ArrayRef = Arc::new(StructArray::new(inner, vec![urls.clone(), column(&texts)], None));
    let batch = RecordBatch::try_from_iter([("doc.url", urls.clone()), ("doc", doc), ("doc.text", urls)]).unwrap();
    let batch = batch.project(&[0, 1]).unwrap();
    let parquet = files.write("d.parquet", parquet_file(&batch, Compression::SNAPPY));
    assert_eq!(dataset_of(&parquet, &named("doc.text")), expected);
    let arrow = files.write("d.arrow", arrow_file(&[batch], None));
    assert_eq!(dataset_of(&arrow, &named("doc.text")), expected);
    let flat = RecordBatch::try_from_iter([("doc.text", column(&texts))]).unwrap();
    let flat = files.write("flat.parquet", parquet_file(&flat, Compression::SNAPPY));
    assert_eq!(dataset_of(&flat, &named("doc.text")), expected);

    for (path, columns) in
        [(&parquet, "doc.url (text), doc.url (text), doc.text (text)"), (&content, "content (text), text (number)")]
    {
        let error = failure_of(path, &named("body")).to_string();
        assert!(error.ends_with(&format!("has no column `body` of text; its columns: {columns}")), "{error}");
    }
}

#[test]
fn bad_rows_end_the_import_or_are_counted() {
    let files = Files::new();
    let good = lines(&texts());
    let bad = b"{\"text\":\n{\"text\":7}\n{\"text\":null}\n{\"id\":2}\n{\"text\":\"\xff\"}\n5\n";
    let half = b"{\"text\":\"half \\ud83d of it\",\"score\":NaN}\n";
    let path = files.write("rows.jsonl", [&good[..], bad, half].concat());
    let first_bad = texts().len() as u64 + 1;
    let error = failure_of(&path, &options());
    assert!(matches!(error, ImportError::Row { row, fault: RowFault::BadJson(_), .. } if row == first_bad), "{error}");

    let skipping = reading(ReadOptions { on_bad_row: OnBadRow::Skip, ..Default::default() });
    let (dataset, report) = import_one(&path, &skipping).unwrap();
    let clean = files.write("clean.jsonl", [&good[..], "{\"text\":\"half \u{fffd} of it\"}\n".as_bytes()].concat());
    assert_eq!(dataset, dataset_of(&clean, &options()));
    assert_eq!(report.bad_rows, [("not UTF-8", 1), ("not a JSON object", 2), ("not text", 1)].into());
    let shown: Vec<u64> = report.first_bad_rows.iter().map(|(_, row, _)| *row).collect();
    assert_eq!(shown, [first_bad, first_bad + 1, first_bad + 4]);
    let empty = texts().iter().filter(|text| text.is_empty()).count() as u64;
    assert_eq!((report.without_text, report.mended_rows), (empty + 2, 1));
}

#[test]
fn a_document_that_is_too_long_is_split_cut_or_left_out() {
    let files = Files::new();
    let long = "salt and copper ".repeat(500);
    let path = files.write("long.jsonl", [lines(&texts()), lines(std::slice::from_ref(&long))].concat());
    let with = |long_documents| {
        let read = ReadOptions { max_document_bytes: 3200, long_documents, ..Default::default() };
        import_one(&path, &reading(read)).unwrap()
    };
    let pieces = |texts: Vec<String>| dataset_of(&files.write("pieces.jsonl", lines(&texts)), &options());
    let and = |more: &[&str]| [texts(), more.iter().map(|text| (*text).to_owned()).collect()].concat();
    let (split, report) = with(LongDocuments::Split);
    assert_eq!((split, report.long_documents), (pieces(and(&[&long[..3200], &long[3200..6400], &long[6400..]])), 1));
    assert_eq!(with(LongDocuments::Cut).0, pieces(and(&[&long[..3200]])));
    assert_eq!(with(LongDocuments::Skip).0, pieces(texts()));
}
