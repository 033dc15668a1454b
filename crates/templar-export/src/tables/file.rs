//! The file of one table, which takes rows as they come.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema, SchemaRef};
use templar_manifest::Hash;

use super::error::TablesError;
use super::sink::Sink;
use super::{ColumnSchema, Field, Table, TableFormat, ValueType, WrittenTable};

/// Rows that are collected before they are written. A long run needs no more memory than this.
const BATCH_ROWS: usize = 1 << 16;

/// The values of a column that are not written yet.
enum Values {
    Integers(Int64Builder),
    Flags(BooleanBuilder),
    Texts(StringBuilder),
}

impl Values {
    fn new(value_type: ValueType) -> Self {
        match value_type {
            ValueType::Integer => Self::Integers(Int64Builder::new()),
            ValueType::Flag => Self::Flags(BooleanBuilder::new()),
            ValueType::Text => Self::Texts(StringBuilder::new()),
        }
    }

    fn push<R>(&mut self, field: &Field<R>, row: &R) {
        let hex = |bytes| Hash::from_bytes(bytes).to_string();
        match (self, field) {
            (Self::Integers(values), Field::Integer(of)) => values.append_value(signed(of(row))),
            (Self::Integers(values), Field::OptionalInteger(of)) => values.append_option(of(row).map(signed)),
            (Self::Flags(values), Field::Flag(of)) => values.append_value(of(row)),
            (Self::Texts(values), Field::Id(of)) => values.append_value(hex(of(row))),
            (Self::Texts(values), Field::OptionalId(of)) => values.append_option(of(row).map(hex)),
            (Self::Texts(values), Field::Text(of)) => values.append_value(of(row)),
            (Self::Texts(values), Field::OptionalText(of)) => values.append_option(of(row)),
            _ => unreachable!("the values were made for the table's own columns"),
        }
    }

    fn take(&mut self) -> ArrayRef {
        match self {
            Self::Integers(values) => Arc::new(values.finish()),
            Self::Flags(values) => Arc::new(values.finish()),
            Self::Texts(values) => Arc::new(values.finish()),
        }
    }
}

/// A number as tables have it. A difference of unsigned columns wraps silently in most programs, so columns are signed.
/// No amount, count or measured loss comes near the limit; a loss that somebody claims may.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The file of a table while it is written.
pub struct TableFile<R> {
    table: Table<R>,
    path: PathBuf,
    schema: SchemaRef,
    sink: Sink,
    values: Vec<Values>,
    waiting: usize,
    rows: u64,
}

impl<R> TableFile<R> {
    /// Begins the file of a table in the folder `dir`.
    pub(super) fn create(dir: &Path, table: Table<R>, format: TableFormat) -> Result<Self, TablesError> {
        let columns = table.schema();
        let path = dir.join(format!("{}.{}", table.name, format.name()));
        let schema = Arc::new(arrow_schema(&columns));
        let file = File::create(&path).map_err(|source| TablesError::io(&path, source))?;
        let sink = Sink::new(format, file, &schema).map_err(|error| error.of(table.name, &path))?;
        let values = columns.iter().map(|column| Values::new(column.value_type)).collect();
        Ok(Self { table, path, schema, sink, values, waiting: 0, rows: 0 })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// The disk takes nothing more.
    pub fn push(&mut self, row: &R) -> Result<(), TablesError> {
        for (values, column) in self.values.iter_mut().zip(&self.table.columns) {
            values.push(&column.field, row);
        }
        self.rows += 1;
        self.waiting += 1;
        if self.waiting == BATCH_ROWS { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), TablesError> {
        self.waiting = 0;
        let columns = self.values.iter_mut().map(Values::take).collect();
        let table = self.table.name;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        let batch = batch.map_err(|source| TablesError::Arrow { table, source })?;
        self.sink.write(&batch).map_err(|error| error.of(table, &self.path))
    }

    /// Ends the file.
    ///
    /// # Errors
    /// The disk takes nothing more.
    pub fn finish(mut self) -> Result<WrittenTable, TablesError> {
        if self.waiting > 0 {
            self.write()?;
        }
        let name = self.table.name;
        self.sink.finish().map_err(|error| error.of(name, &self.path))?;
        let file = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(WrittenTable { name, file, about: self.table.about, rows: self.rows, columns: self.table.schema() })
    }
}

fn arrow_schema(columns: &[ColumnSchema]) -> Schema {
    let field = |column: &ColumnSchema| {
        let data_type = match column.value_type {
            ValueType::Integer => DataType::Int64,
            ValueType::Flag => DataType::Boolean,
            ValueType::Text => DataType::Utf8,
        };
        arrow_schema::Field::new(column.name, data_type, column.is_nullable)
    };
    Schema::new(columns.iter().map(field).collect::<Vec<_>>())
}
