//! Tables for the programs in which people look at data: a folder with a parquet, Arrow or CSV file for each table.
//!
//! A [`Table`] names its columns once, each with a sentence about it and a function that takes its value out of a row. So
//! all formats have one schema, and the page that explains it can be compared with it. There are three types of values:
//!
//! | type | parquet and Arrow | CSV |
//! |---|---|---|
//! | `integer` | signed, 64 bits | digits |
//! | `flag` | boolean | `true`, `false` |
//! | `text` | UTF-8 | text, in quotes where it needs them |
//!
//! A value that is not there is null, and in CSV nothing between two commas. Ids and keys are texts of 64 lowercase
//! hexadecimal digits. No value is a float, so nothing is rounded on the way out, and the same rows give the same bytes.

mod error;
mod file;
mod folder;
pub(crate) mod sink;

use serde::Serialize;

pub use error::TablesError;
pub use file::TableFile;
pub use folder::TablesFolder;

/// A table whose rows are made of values of the type `R`.
pub struct Table<R> {
    /// The name of the table and of its file.
    pub name: &'static str,
    /// What a row is, in one sentence without an end.
    pub about: &'static str,
    /// The columns, in order.
    pub columns: Vec<Column<R>>,
}

/// A table that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrittenTable {
    /// The name.
    pub name: &'static str,
    /// The file in the folder.
    pub file: String,
    /// What a row is.
    pub about: &'static str,
    /// The number of rows.
    pub rows: u64,
    /// The columns.
    pub columns: Vec<ColumnSchema>,
}

/// A column of a table.
pub struct Column<R> {
    /// The name, with its unit last.
    pub name: &'static str,
    /// What a value is.
    pub about: &'static str,
    /// The type, and the way to the value.
    pub field: Field<R>,
}

/// The type of a column, and the function that takes its value out of a row.
pub enum Field<R> {
    /// A number.
    Integer(fn(&R) -> u64),
    /// A number, or null.
    OptionalInteger(fn(&R) -> Option<u64>),
    /// True or false.
    Flag(fn(&R) -> bool),
    /// An id or a key.
    Id(fn(&R) -> [u8; 32]),
    /// An id or a key, or null.
    OptionalId(fn(&R) -> Option<[u8; 32]>),
    /// A text.
    Text(fn(&R) -> String),
    /// A text, or null.
    OptionalText(fn(&R) -> Option<String>),
}

/// The type of a column in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// A signed integer of 64 bits that is not negative. What exceeds 2^63 - 1 is that.
    Integer,
    /// A boolean.
    Flag,
    /// UTF-8.
    Text,
}

/// A column as the list of tables describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ColumnSchema {
    /// The name.
    pub name: &'static str,
    /// The type of its values.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// Whether a value may be null.
    #[serde(rename = "nullable")]
    pub is_nullable: bool,
    /// What a value is.
    pub about: &'static str,
}

/// The format of the files of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TableFormat {
    /// Parquet, compressed with zstd.
    Parquet,
    /// An Arrow file (IPC, also called Feather 2), not compressed.
    Arrow,
    /// Text in UTF-8: a line of names, then a line for each row. Lines end with a line feed.
    Csv,
}

impl TableFormat {
    /// The name, with which files of the format end.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Csv => "csv",
        }
    }
}

impl<R> Column<R> {
    /// A column.
    pub fn new(name: &'static str, about: &'static str, field: Field<R>) -> Self {
        Self { name, about, field }
    }
}

impl<R> Table<R> {
    /// The columns without their functions.
    pub fn schema(&self) -> Vec<ColumnSchema> {
        let schema = |column: &Column<R>| {
            let (value_type, is_nullable) = column.field.value_type();
            ColumnSchema { name: column.name, value_type, is_nullable, about: column.about }
        };
        self.columns.iter().map(schema).collect()
    }
}

impl<R> Field<R> {
    fn value_type(&self) -> (ValueType, bool) {
        match self {
            Self::Integer(_) => (ValueType::Integer, false),
            Self::OptionalInteger(_) => (ValueType::Integer, true),
            Self::Flag(_) => (ValueType::Flag, false),
            Self::Id(_) | Self::Text(_) => (ValueType::Text, false),
            Self::OptionalId(_) | Self::OptionalText(_) => (ValueType::Text, true),
        }
    }
}
