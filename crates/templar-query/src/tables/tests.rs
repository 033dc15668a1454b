//! The page about the tables is true.

use std::fs;
use std::path::{Path, PathBuf};

use templar_export::tables::{Table, ValueType};

use super::{evaluations, money, windows, work};

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("TABLES.md")
}

fn section<R>(table: &Table<R>) -> String {
    let mut text = format!("## {}\n\n{}.\n\n| column | type | |\n|---|---|---|\n", table.name, table.about);
    for column in table.schema() {
        let kind = match column.value_type {
            ValueType::Integer => "integer",
            ValueType::Flag => "flag",
            ValueType::Text => "text",
        };
        let null = if column.is_nullable { ", or null" } else { "" };
        text.push_str(&format!("| `{}` | {kind}{null} | {} |\n", column.name, column.about));
    }
    text
}

/// The sections of the page about the tables, as the schema has them.
fn sections() -> String {
    [
        section(&windows::table()),
        section(&work::contributions()),
        section(&work::scores()),
        section(&money::weights()),
        section(&money::mints()),
        section(&money::slashes()),
        section(&money::balances()),
        section(&evaluations::table()),
    ]
    .join("\n")
}

#[test]
fn the_page_lists_the_columns_as_they_are() {
    let text = fs::read_to_string(page()).unwrap();
    let listed = &text[text.find("## windows").unwrap()..];
    assert!(listed == sections(), "run `write_the_page` and read the difference");
}

#[test]
#[ignore = "writes the sections of TABLES.md anew"]
fn write_the_page() {
    let text = fs::read_to_string(page()).unwrap();
    let head = &text[..text.find("## windows").unwrap_or(text.len())];
    fs::write(page(), format!("{head}{}", sections())).unwrap();
}
