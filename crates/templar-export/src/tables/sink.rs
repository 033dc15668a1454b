//! The three formats, each with a writer of record batches.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::TableFormat;
use super::error::TablesError;

/// A file of one of the formats.
pub(crate) enum Sink {
    Parquet(Box<ArrowWriter<File>>),
    Arrow(Box<FileWriter<BufWriter<File>>>),
    Csv(BufWriter<File>),
}

/// An error of one of the libraries, before it has the name of its table.
pub(crate) enum SinkError {
    Io(io::Error),
    Arrow(arrow_schema::ArrowError),
    Parquet(parquet::errors::ParquetError),
}

impl From<io::Error> for SinkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<arrow_schema::ArrowError> for SinkError {
    fn from(error: arrow_schema::ArrowError) -> Self {
        Self::Arrow(error)
    }
}

impl From<parquet::errors::ParquetError> for SinkError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self::Parquet(error)
    }
}

impl SinkError {
    pub(crate) fn of(self, table: &'static str, path: &Path) -> TablesError {
        match self {
            Self::Io(source) => TablesError::io(path, source),
            Self::Arrow(source) => TablesError::Arrow { table, source },
            Self::Parquet(source) => TablesError::Parquet { table, source },
        }
    }
}

impl Sink {
    /// Begins a file.
    pub(crate) fn new(format: TableFormat, file: File, schema: &SchemaRef) -> Result<Self, SinkError> {
        Ok(match format {
            TableFormat::Parquet => {
                // Who wrote a file, and with which version, would be other bytes for the same rows.
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_created_by("templar".to_owned())
                    .build();
                let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
                Self::Parquet(Box::new(ArrowWriter::try_new_with_options(file, Arc::clone(schema), options)?))
            }
            TableFormat::Arrow => Self::Arrow(Box::new(FileWriter::try_new_buffered(file, schema)?)),
            TableFormat::Csv => {
                let mut file = BufWriter::new(file);
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                writeln!(file, "{}", names.join(","))?;
                Self::Csv(file)
            }
        })
    }

    /// Appends rows. In a parquet file they are a row group of their own.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        match self {
            Self::Parquet(writer) => {
                writer.write(batch)?;
                Ok(writer.flush()?)
            }
            Self::Arrow(writer) => Ok(writer.write(batch)?),
            Self::Csv(file) => Ok(write_csv(file, batch)?),
        }
    }

    /// Ends the file, which is on the disk then.
    pub(crate) fn finish(self) -> Result<(), SinkError> {
        let file = match self {
            Self::Parquet(writer) => writer.into_inner()?,
            Self::Arrow(mut writer) => {
                writer.finish()?;
                writer.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?
            }
            Self::Csv(file) => file.into_inner().map_err(io::IntoInnerError::into_error)?,
        };
        Ok(file.sync_all()?)
    }
}

/// Writes rows as RFC 4180 has them, but with line feeds alone. An empty text is a pair of quotes, so that it is not
/// taken for null.
fn write_csv(file: &mut impl Write, batch: &RecordBatch) -> io::Result<()> {
    for row in 0..batch.num_rows() {
        for (place, column) in batch.columns().iter().enumerate() {
            if place > 0 {
                file.write_all(b",")?;
            }
            if column.is_null(row) {
                continue;
            }
            match column.data_type() {
                DataType::Int64 => write!(file, "{}", column.as_primitive::<Int64Type>().value(row))?,
                DataType::Boolean => write!(file, "{}", column.as_boolean().value(row))?,
                _ => write_text(file, column.as_string::<i32>().value(row))?,
            }
        }
        file.write_all(b"\n")?;
    }
    Ok(())
}

fn write_text(file: &mut impl Write, text: &str) -> io::Result<()> {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        write!(file, "\"{}\"", text.replace('"', "\"\""))
    } else {
        file.write_all(text.as_bytes())
    }
}
