//! A run and a dataset as files for other programs: every number is the one that the other commands say, and nothing is
//! half written.

use std::fs::{self, File};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::home::Home;

/// The batches of a parquet file.
fn batches(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    reader.collect::<Result<_, _>>().unwrap()
}

/// The rows of a table as JSON objects.
fn rows(folder: &Path, table: &str) -> Vec<Value> {
    let of = |batch: &RecordBatch| -> Vec<Value> {
        let cell = |column: &dyn Array, row: usize| match column.data_type() {
            _ if column.is_null(row) => Value::Null,
            arrow_schema::DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
            arrow_schema::DataType::Boolean => json!(column.as_boolean().value(row)),
            _ => json!(column.as_string::<i32>().value(row)),
        };
        let (schema, columns) = (batch.schema(), batch.columns());
        let row = |row| {
            let pairs = schema.fields().iter().zip(columns);
            pairs.map(|(field, column)| (field.name().clone(), cell(column, row))).collect::<serde_json::Map<_, _>>()
        };
        (0..batch.num_rows()).map(|number| Value::Object(row(number))).collect()
    };
    batches(&folder.join(format!("{table}.parquet"))).iter().flat_map(of).collect()
}

fn sum(rows: &[Value], field: &str) -> u64 {
    rows.iter().map(|row| row[field].as_u64().unwrap()).sum()
}

#[test]
fn tables_say_what_the_records_say() {
    let home = Home::with_run("tables", &[]);
    home.window("0");
    home.window("1");
    let beside = |name: &str| home.path().with_file_name(name);
    let (folder, again) = (beside("tables"), beside("again"));
    let written = home.ok(["export", "tables", "--out", folder.to_str().unwrap()]);
    assert_eq!((&written["windows"], &written["format"]), (&json!(2), &json!("parquet")));
    let list: Value = serde_json::from_slice(&fs::read(folder.join("tables.json")).unwrap()).unwrap();
    assert_eq!(list, written);

    let log = home.ok(["log"]);
    let windows = rows(&folder, "windows");
    for (row, logged) in windows.iter().zip(log["windows"].as_array().unwrap()) {
        for field in ["window", "record", "checkpoint", "contributions", "minted_micros"] {
            assert_eq!(row[field], logged[field], "{field}");
        }
        let loss = row["held_out_loss_nanonats"].as_u64().unwrap() as f64 / 1e9;
        assert!((loss - logged["held_out_loss"].as_f64().unwrap()).abs() < 1e-12);
    }
    assert_eq!(windows.len(), 2);
    assert_eq!((&windows[1]["previous"], &windows[0]["previous"]), (&windows[0]["record"], &Value::Null));
    assert_eq!(list["record"], windows[1]["record"]);

    let contributions = rows(&folder, "contributions");
    assert_eq!(contributions.len(), 2);
    assert_eq!(contributions[1]["parent"], contributions[0]["contribution"]);
    let shown = home.ok(["show", contributions[1]["contribution"].as_str().unwrap()]);
    for field in ["miner", "delta", "delta_bytes", "state_in", "state_out", "steps", "tokens", "loss_nanonats", "trace"]
    {
        assert_eq!(contributions[1][field], shown["contents"][field], "{field}");
    }
    assert_eq!((&contributions[1]["verdict"], &contributions[1]["refusal"]), (&json!("aggregated"), &Value::Null));
    let scores = rows(&folder, "scores");
    assert_eq!((scores.len(), &scores[0]["is_counted"], &scores[0]["replay"]), (2, &json!(true), &json!("match")));
    assert_eq!(scores[1]["unassigned_after_nanonats"], contributions[1]["unassigned_after_nanonats"]);
    assert!(scores[1]["unassigned_after_nanonats"].is_u64(), "{}", scores[1]);

    let (mints, balances) = (rows(&folder, "mints"), rows(&folder, "balances"));
    assert_eq!(sum(&mints, "amount_micros"), sum(&windows, "minted_micros"));
    let last: Vec<Value> = balances.into_iter().filter(|row| row["window"] == 1).collect();
    assert_eq!(sum(&last, "free_micros") + sum(&last, "vesting_micros"), sum(&windows, "minted_micros"));
    let status = home.ok(["status"])["balances"].take();
    assert_eq!(last[0]["account"], "0".repeat(64));
    assert_eq!(last[0]["free_micros"], status["treasury_micros"]);
    for (row, account) in last[1..].iter().zip(status["accounts"].as_array().unwrap()) {
        assert_eq!(json!([row["account"], row["free_micros"], row["vesting_micros"]]), {
            json!([account["account"], account["free_micros"], account["vesting_micros"]])
        });
    }
    assert_eq!(rows(&folder, "weights").len(), 2);
    assert!(rows(&folder, "slashes").is_empty() && rows(&folder, "evaluations").is_empty());

    // Once more, and in text.
    home.ok(["export", "tables", "--out", again.to_str().unwrap()]);
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(fs::read(folder.join(&name)).unwrap() == fs::read(again.join(&name)).unwrap(), "{name:?}");
    }
    let csv = beside("csv");
    home.ok(["export", "tables", "--format", "csv", "--out", csv.to_str().unwrap()]);
    let text = fs::read_to_string(csv.join("mints.csv")).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("window,account,kind,amount_micros"));
    assert_eq!(lines.count(), mints.len());
}

#[test]
fn tables_are_whole_or_not_there() {
    let home = Home::with_run("no tables", &[]);
    let beside = |name: &str| home.path().with_file_name(name).to_str().unwrap().to_owned();
    // A run without a window has empty tables.
    home.ok(["export", "tables", "--format", "arrow", "--out", &beside("empty")]);
    let said = home.fails(1, ["export", "tables", "--out", &beside("empty")]);
    assert!(said.err.contains("already there") && said.err.contains("choose another folder"), "{said:?}");
    home.fails(1, ["export", "tables", "--out", "/proc/no/such"]);
    home.fails(3, ["export", "tables", "--out", &beside("x"), "--run", "nobody"]);
    home.fails(2, ["export", "tables"]);
    home.fails(2, ["export", "tables", "--format", "xlsx", "--out", &beside("x")]);
    home.fails(2, ["export"]);
    let left: Vec<_> =
        fs::read_dir(home.path().parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_dataset_leaves_with_every_token() {
    let home = Home::new("tokens out");
    let dataset = home.ok(["dataset", "import", "--bundled"]);
    let folder = home.path().with_file_name("tokens");
    let written = home.ok(["dataset", "export", "shakespeare", "--out", folder.to_str().unwrap(), "--length", "1000"]);
    assert_eq!(written["dataset"], dataset["dataset"]);
    let manifest = home.ok(["dataset", "show", "shakespeare"])["manifest"].take();
    let mut tokens = Vec::new();
    let shards = manifest["training"].as_array().unwrap();
    for number in 0..shards.len() {
        for batch in batches(&folder.join(format!("data/train-{number:05}-of-{:05}.parquet", shards.len()))) {
            let lists = batch.column(0).as_list::<i32>();
            assert_eq!(batch.schema().field(0).name(), "input_ids");
            for list in 0..batch.num_rows() {
                let list = lists.value(list);
                let list = list.as_primitive::<Int32Type>();
                assert!(list.len() == 1000 || list.len() < 1000 && tokens.len() % 1000 == 0);
                tokens.extend(list.values().iter().copied());
            }
        }
    }
    let mut stored = Vec::new();
    for shard in shards {
        let out = home.path().with_file_name("shard");
        home.ok(["fetch", shard["blob"].as_str().unwrap(), "--out", out.to_str().unwrap()]);
        stored.extend(fs::read(&out).unwrap());
        fs::remove_file(out).unwrap();
    }
    assert_eq!(manifest["token_bytes"], 2);
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| (*token as u16).to_le_bytes()).collect();
    assert!(bytes == stored && !bytes.is_empty());
    let card = fs::read_to_string(folder.join("README.md")).unwrap();
    for words in ["license: cc-by-2.5", "path: data/train-*.parquet", dataset["dataset"].as_str().unwrap()] {
        assert!(card.contains(words), "{words} in {card}");
    }
    assert!(folder.join("tokenizer.json").is_file());
    home.fails(2, ["dataset", "export", "shakespeare", "--out", "x", "--length", "0"]);
    home.fails(3, ["dataset", "export", "nobody", "--out", "x"]);
}
