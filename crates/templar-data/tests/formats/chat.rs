//! Conversations: joined by the chat template where there is one, or else in the plain form.

use parquet::basic::Compression;
use serde_json::json;
use templar_blob::MemoryBlobs;
use templar_data::{
    ChatTemplate, Import, ImportError, ImportOptions, Listing, OnBadRow, Part, Progress, ReadOptions, RowFault,
    bundled, import,
};
use templar_manifest::BlobId;

use super::make::*;
use super::{Files, dataset_of, failure_of, import_one, options, reading, texts};

/// A template that refuses a conversation which the assistant begins.
const TEMPLATE: &str = "{% for m in messages %}\
    {% if loop.first and m.role != 'user' %}{{ raise_exception('a user speaks first') }}{% endif %}\
    <{{ m.role }}>{{ m.content }}{% endfor %}";

fn named(column: &str) -> ReadOptions {
    ReadOptions { column: column.to_owned(), ..Default::default() }
}

fn joining(template: &str, read: ReadOptions) -> ImportOptions {
    ImportOptions { chat_template: Some(ChatTemplate::new(template)), ..reading(read) }
}

fn turns(text: &str) -> serde_json::Value {
    json!([{ "role": "user", "content": text }, { "role": "assistant", "content": format!("{text}!") }])
}

#[test]
fn without_a_template_turns_are_joined_alike_in_every_container() {
    let files = Files::new();
    let texts = texts();
    let joined: Vec<String> = texts.iter().map(|text| format!("user: {text}\n\nassistant: {text}!")).collect();
    let expected = dataset_of(&files.write("joined.jsonl", lines(&joined)), &options());
    let rows: String = texts.iter().map(|text| json!({ "messages": turns(text) }).to_string() + "\n").collect();
    let path = files.write("chat.jsonl", rows);
    let (dataset, report) = import_one(&path, &reading(named("messages"))).unwrap();
    assert_eq!((dataset, report.conversations), (expected.clone(), texts.len() as u64));

    let batch = conversations(&texts);
    let parquet = files.write("chat.parquet", parquet_file(&batch, Compression::SNAPPY));
    assert_eq!(dataset_of(&parquet, &reading(named("messages"))), expected);
    let arrow = files.write("chat.arrow", arrow_stream(std::slice::from_ref(&batch)));
    assert_eq!(dataset_of(&arrow, &reading(named("messages"))), expected);
    let error = failure_of(&parquet, &options()).to_string();
    assert!(error.ends_with("its columns: messages (list of role, content)"), "{error}");
}

#[test]
fn a_template_joins_the_turns_and_is_named_by_the_dataset() {
    let files = Files::new();
    let texts = texts();
    let joined: Vec<String> = texts.iter().map(|text| format!("<user>{text}<assistant>{text}!")).collect();
    // The names of special tokens in a turn are refused, so that nobody speaks for somebody else.
    let (plain, special): (Vec<_>, Vec<_>) = texts.iter().partition(|text| !text.contains("<|endoftext|>"));
    let joined: Vec<String> = joined.into_iter().filter(|text| !text.contains("<|endoftext|>")).collect();
    let expected = dataset_of(&files.write("joined.jsonl", lines(&joined)), &joining(TEMPLATE, named("text")));
    assert_eq!(expected.chat_template, Some(BlobId::of(TEMPLATE.as_bytes())));

    let rows: String = texts.iter().map(|text| json!({ "messages": turns(text) }).to_string() + "\n").collect();
    let skipping = || ReadOptions { on_bad_row: OnBadRow::Skip, ..named("messages") };
    let path = files.write("chat.jsonl", rows);
    let (dataset, report) = import_one(&path, &joining(TEMPLATE, skipping())).unwrap();
    assert_eq!(dataset, expected);
    assert_eq!((report.rows, report.conversations), (texts.len() as u64, plain.len() as u64));
    assert_eq!(report.bad_rows, [("not a conversation", special.len() as u64)].into());
    let batch = conversations(&texts);
    for (name, bytes) in [
        ("a.parquet", parquet_file(&batch, Compression::SNAPPY)),
        ("a.arrow", arrow_file(std::slice::from_ref(&batch), None)),
    ] {
        assert_eq!(dataset_of(&files.write(name, bytes), &joining(TEMPLATE, skipping())), expected, "{name}");
    }
}

#[test]
fn a_turn_that_the_template_refuses_is_a_bad_row() {
    let files = Files::new();
    let mut rows: Vec<String> =
        texts().iter().map(|_| json!({ "m": turns("to be, or not to be") }).to_string()).collect();
    rows[3] = r#"{"m":[{"role":"assistant","content":"first"}]}"#.to_owned();
    rows[5] = r#"{"m":[{"role":"user"}]}"#.to_owned();
    let path = files.write("chat.jsonl", rows.join("\n"));
    match failure_of(&path, &joining(TEMPLATE, named("m"))) {
        ImportError::Row { row: 4, fault: RowFault::BadTurns(reason), .. } => {
            assert!(reason.contains("a user speaks first"), "{reason}");
        }
        other => panic!("{other}"),
    }
    let skipping = ReadOptions { on_bad_row: OnBadRow::Skip, ..named("m") };
    let (_, report) = import_one(&path, &joining(TEMPLATE, skipping.clone())).unwrap();
    let shown: Vec<u64> = report.first_bad_rows.iter().map(|(_, row, _)| *row).collect();
    assert_eq!((shown, report.bad_row_count()), (vec![4, 6], 2));

    // A template that does not parse spoils no text, and no conversation is left out for it.
    let broken = joining("{% for %}", skipping);
    assert!(matches!(failure_of(&path, &broken), ImportError::ChatTemplate(_)));
    let text = files.write("text.jsonl", lines(&texts()));
    assert!(import_one(&text, &joining("{% for %}", named("text"))).is_ok());
}

#[test]
fn a_template_sees_the_fields_in_the_order_of_the_file() {
    let files = Files::new();
    let call = r#"{"z":1,"a":{"y":[true,null],"b":2.0}}"#;
    let row =
        format!(r#"{{"m":[{{"role":"user","content":"ask"}},{{"content":"","role":"assistant","call":{call}}}]}}"#);
    let path = files.write("chat.jsonl", (row + "\n").repeat(100));
    let expected: Vec<String> = vec![r#"{"z": 1, "a": {"y": [true, null], "b": 2.0}}"#.to_owned(); 100];
    let template = "{{ messages[1].call | tojson }}";
    let expected = dataset_of(&files.write("t.jsonl", lines(&expected)), &joining(template, named("text")));
    assert_eq!(dataset_of(&path, &joining(template, named("m"))), expected);
}

#[test]
fn parts_with_different_templates_are_not_joined() {
    let files = Files::new();
    let rows: String = (0..200).map(|_| json!({ "m": turns("to be, or not to be") }).to_string() + "\n").collect();
    let path = files.write("chat.jsonl", rows);
    let listing = Listing::of(std::slice::from_ref(&path)).unwrap();
    let part = |number: u32, options: &ImportOptions| {
        let import = Import::new(bundled::shakespeare().1, options).unwrap();
        let part: Part = format!("{number}/2").parse().unwrap();
        let (bytes, _) = import.run_part(&listing, part, &Progress::default(), Vec::new()).unwrap();
        files.write(&format!("{number}.part"), bytes)
    };
    let (with, without) = (joining(TEMPLATE, named("m")), reading(named("m")));
    let merged = |parts: &[_]| templar_data::merge(parts, &Progress::default(), &mut MemoryBlobs::new());
    let error = merged(&[part(1, &with), part(2, &without)]).unwrap_err().to_string();
    assert!(error.contains("the chat templates are") && error.ends_with("and none"), "{error}");
    let whole = import(std::slice::from_ref(&path), bundled::shakespeare().1, &with, &mut MemoryBlobs::new()).unwrap();
    assert_eq!(merged(&[part(1, &with), part(2, &with)]).unwrap().dataset, whole.dataset);
}
