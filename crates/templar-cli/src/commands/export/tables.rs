//! `templar export tables`: what a run's records say, for programs that read tables.

use std::path::PathBuf;

use clap::ValueEnum;
use templar_export::tables::TableFormat;
use templar_query::find::run_context;
use templar_query::tables::RunTables;

use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{count, shown, table};

/// Write what happened in a run as tables: windows, contributions, scores, pay, balances, evaluations
///
/// The folder has one file for each table, and `tables.json`, which describes every column. Amounts are whole
/// micro-ALPHA and losses whole 1e-9 nats, as the records have them; ids and keys are hexadecimal text. Two homes that
/// know the same windows write the same bytes; the table of evaluations is each home's own.
#[derive(Debug, clap::Args)]
pub(super) struct TablesArgs {
    /// The format of the files
    #[arg(long, value_enum, default_value = "parquet")]
    format: FormatName,
    /// The folder to write; it must be new or empty
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatName {
    /// For pandas, polars, DuckDB, Spark and most others
    Parquet,
    /// Arrow files, which are read without copying
    Arrow,
    /// Text, for spreadsheets
    Csv,
}

pub(super) fn run(invocation: &Invocation, args: &TablesArgs) -> CommandResult {
    let format = match args.format {
        FormatName::Parquet => TableFormat::Parquet,
        FormatName::Arrow => TableFormat::Arrow,
        FormatName::Csv => TableFormat::Csv,
    };
    let access = invocation.read()?;
    let context = run_context(&access, args.run.as_deref())?;
    let written = RunTables::write(&access, &context, &args.out, format)?;
    let mut rows = vec![vec!["table".to_owned(), "rows".to_owned(), "file".to_owned()]];
    rows.extend(
        written.tables.iter().map(|table| vec![table.name.to_owned(), table.rows.to_string(), table.file.clone()]),
    );
    invocation.printer.document(&written, table(&rows));
    let windows = count(written.windows, "window");
    invocation.printer.talk(format_args!("{} of {:?} in {}", windows, written.name, shown(&args.out)));
    Ok(Code::Ok)
}
