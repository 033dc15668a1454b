//! Rows with all their fields: the same from every container, and bad ones named.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field};
use parquet::basic::Compression;
use serde_json::{Value, json};
use templar_data::{ImportError, Record, read_records};

use super::Files;
use super::make::*;

const ROWS: usize = 120;

fn row(number: usize) -> Value {
    let texts: Vec<String> = (0..number % 4).map(|at| format!("größe {at}")).collect();
    json!({ "question": format!("What is {number}?"), "choices": { "text": texts, "label": number % 4 }, "answer": null })
}

fn table() -> RecordBatch {
    let mut texts = ListBuilder::new(StringBuilder::new());
    for number in 0..ROWS {
        (0..number % 4).for_each(|at| texts.values().append_value(format!("größe {at}")));
        texts.append(true);
    }
    let labels: ArrayRef = Arc::new(Int64Array::from_iter_values((0..ROWS).map(|number| (number % 4) as i64)));
    let texts: ArrayRef = Arc::new(texts.finish());
    let field = |name: &str, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
    let choices = StructArray::from(vec![(field("text", &texts), texts.clone()), (field("label", &labels), labels)]);
    let questions = StringArray::from_iter_values((0..ROWS).map(|number| format!("What is {number}?")));
    let answers = StringArray::from(vec![None::<&str>; ROWS]);
    let columns: [(&str, ArrayRef); 3] =
        [("question", Arc::new(questions)), ("choices", Arc::new(choices)), ("answer", Arc::new(answers))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

#[test]
fn every_container_gives_the_same_records() {
    let files = Files::new();
    let lines: String = (0..ROWS).map(|number| format!("{}\n", row(number))).collect();
    let array = Value::from((0..ROWS).map(row).collect::<Vec<_>>()).to_string();
    let paths = [
        files.write("a.jsonl", &lines),
        files.write("a.jsonl.gz", gzip(lines.as_bytes())),
        files.write("a.json", &array),
        files.write("a.parquet", parquet_file(&table(), Compression::SNAPPY)),
        files.write("b.parquet", parquet_file(&table(), Compression::UNCOMPRESSED)),
        files.write("a.arrow", arrow_file(&[table()], None)),
        files.write("b.arrow", arrow_stream(&[table()])),
    ];
    let expected: Vec<Record> = (0..ROWS).map(|at| Record { row: at as u64 + 1, fields: row(at) }).collect();
    for path in paths {
        assert_eq!(read_records(&path).unwrap(), expected, "{}", path.display());
    }
    assert_eq!(table().schema().field(0).data_type(), &DataType::Utf8);
}

#[test]
fn a_bad_row_ends_the_reading_and_is_named() {
    let files = Files::new();
    let said = |name: &str, bytes: &[u8]| read_records(&files.write(name, bytes)).unwrap_err().to_string();
    assert!(
        said("a.jsonl", b"{\"a\":1}\n\n{\"a\":}\n").contains("a.jsonl, row 3: not a JSON object: at byte 6 something")
    );
    assert!(said("b.jsonl", b"{\"a\":1}\n[2]\n").contains("row 2: not a JSON object: it is no object"));
    assert!(said("c.json", b"[{\"a\":1}, 5]").contains("row 2: not a JSON object"));
    assert!(said("d.json", b"[{\"a\":1}").contains("it ends too early"));
    assert!(said("e.csv", b"a,b\n1,2\n").ends_with("is no table of rows with named fields"));
    let parquet = parquet_file(&table(), Compression::SNAPPY);
    assert!(said("f.parquet", &parquet[..parquet.len() - 9]).contains("is not a parquet file"));
    let missing = read_records(std::path::Path::new("/no such file.jsonl")).unwrap_err();
    assert!(matches!(missing, ImportError::Missing { .. }), "{missing}");
    assert_eq!(read_records(&files.write("g.jsonl", b"")).unwrap(), []);
}
