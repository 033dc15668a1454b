//! Tables as other programs read them: the three formats have the same rows, the same rows have the same bytes, and a
//! folder is there whole or not at all.

use std::fs::{self, File};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use arrow_ipc::reader::FileReader;
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use templar_export::new_folder::NewFolderError;
use templar_export::tables::Field::{Flag, Id, Integer, OptionalId, OptionalInteger, OptionalText, Text};
use templar_export::tables::{Column, Table, TableFormat, TablesError, TablesFolder, WrittenTable};

/// A row with every type of value.
struct Row {
    number: u64,
    text: &'static str,
}

const ROWS: [Row; 4] = [
    Row { number: u64::MAX, text: "" },
    Row { number: 1, text: "a, \"b\"\nc" },
    Row { number: 2, text: "Ὅμηρος" },
    Row { number: 9_007_199_254_740_993, text: "plain" },
];

fn table() -> Table<Row> {
    Table {
        name: "all",
        about: "A row",
        columns: vec![
            Column::new("number", "a number", Integer(|row: &Row| row.number)),
            Column::new("even", "whether it is", Flag(|row| row.number.is_multiple_of(2))),
            Column::new(
                "half",
                "its half",
                OptionalInteger(|row| row.number.is_multiple_of(2).then_some(row.number / 2)),
            ),
            Column::new("id", "an id", Id(|row| [row.number as u8; 32])),
            Column::new("other", "another", OptionalId(|row| (row.number == 1).then_some([0xab; 32]))),
            Column::new("text", "a text", Text(|row| row.text.to_owned())),
            Column::new("word", "a text, or none", OptionalText(|row| (row.number > 1).then(|| row.text.to_owned()))),
        ],
    }
}

fn write(place: &Path, format: TableFormat) -> Result<WrittenTable, TablesError> {
    let folder = TablesFolder::create(place, format)?;
    let mut file = folder.table(table())?;
    for row in &ROWS {
        file.push(row)?;
    }
    let written = file.finish()?;
    folder.publish(&json!({ "tables": [&written] }))?;
    Ok(written)
}

/// The rows of a batch as JSON, whatever the file was.
fn rows(batches: Vec<RecordBatch>) -> Vec<Vec<serde_json::Value>> {
    let cell = |column: &dyn Array, row: usize| match column.data_type() {
        _ if column.is_null(row) => json!(null),
        DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        other => panic!("{other}"),
    };
    let of = |batch: &RecordBatch| -> Vec<Vec<_>> {
        (0..batch.num_rows()).map(|row| batch.columns().iter().map(|column| cell(column, row)).collect()).collect()
    };
    batches.iter().flat_map(of).collect()
}

fn expected() -> Vec<Vec<serde_json::Value>> {
    let row = |row: &Row| {
        let half = row.number.is_multiple_of(2).then_some(row.number / 2);
        let id = format!("{:02x}", row.number as u8).repeat(32);
        let other = (row.number == 1).then(|| "ab".repeat(32));
        let word = (row.number > 1).then_some(row.text);
        vec![
            // The largest number that a column holds.
            json!(row.number.min(i64::MAX as u64)),
            json!(half.is_some()),
            json!(half),
            json!(id),
            json!(other),
            json!(row.text),
            json!(word),
        ]
    };
    ROWS.iter().map(row).collect()
}

#[test]
fn parquet_and_arrow_hold_every_value() {
    let dir = tempfile::tempdir().unwrap();
    let written = write(&dir.path().join("p"), TableFormat::Parquet).unwrap();
    assert_eq!((written.rows, written.file.as_str()), (4, "all.parquet"));
    let file = File::open(dir.path().join("p/all.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    assert_eq!(rows(reader.collect::<Result<_, _>>().unwrap()), expected());

    write(&dir.path().join("a"), TableFormat::Arrow).unwrap();
    let reader = FileReader::try_new(File::open(dir.path().join("a/all.arrow")).unwrap(), None).unwrap();
    assert_eq!(rows(reader.collect::<Result<_, _>>().unwrap()), expected());
}

#[test]
fn csv_tells_null_from_empty() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c"), TableFormat::Csv).unwrap();
    let text = fs::read_to_string(dir.path().join("c/all.csv")).unwrap();
    let id = |byte: &str| byte.repeat(32);
    let lines = [
        "number,even,half,id,other,text,word".to_owned(),
        format!("9223372036854775807,false,,{},,\"\",\"\"", id("ff")),
        format!("1,false,,{},{},\"a, \"\"b\"\"\nc\",", id("01"), id("ab")),
        format!("2,true,1,{},,Ὅμηρος,Ὅμηρος", id("02")),
        format!("9007199254740993,false,,{},,plain,plain", id("01")),
    ];
    assert_eq!(text, lines.join("\n") + "\n");
}

#[test]
fn the_same_rows_are_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    for format in [TableFormat::Parquet, TableFormat::Arrow, TableFormat::Csv] {
        let name = format.name();
        let places = ["one", "two"].map(|place| dir.path().join(format!("{place}-{name}")));
        for place in &places {
            write(place, format).unwrap();
        }
        for file in [format!("all.{name}"), "tables.json".to_owned()] {
            let [one, two] = places.each_ref().map(|place| fs::read(place.join(&file)).unwrap());
            assert!(one == two && !one.is_empty(), "{file}");
        }
    }
}

#[test]
fn a_folder_is_whole_or_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("new/tables");
    let folder = TablesFolder::create(&place, TableFormat::Csv).unwrap();
    let mut file = folder.table(table()).unwrap();
    file.push(&ROWS[0]).unwrap();
    drop((file, folder));
    assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 0, "nothing is left");

    // An empty folder is taken, and anything else is not.
    fs::create_dir(&place).unwrap();
    write(&place, TableFormat::Csv).unwrap();
    let before = fs::read(place.join("all.csv")).unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "mine").unwrap();
    for place in [&place, &file] {
        assert!(matches!(write(place, TableFormat::Parquet), Err(TablesError::Folder(NewFolderError::Exists { .. }))));
    }
    assert_eq!(fs::read(place.join("all.csv")).unwrap(), before);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}
