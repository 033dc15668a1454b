//! How an import reads files: the options of the command line, and the report afterwards.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::{Value, json};
use templar_data::{Format, LongDocuments, OnBadRow, ReadOptions, ReadReport};
use templar_manifest::BlobId;

use crate::printer::{bytes, count, path_text};

/// The options that say how files are read.
#[derive(Debug, clap::Args)]
pub(super) struct ReadArgs {
    /// The column or field that holds the text; a dot leads into a struct, as in doc.text
    #[arg(long, default_value = "text", value_name = "NAME", conflicts_with = "bundled")]
    column: String,
    /// The format of all files [default: as the name and the first bytes of each file tell]
    #[arg(long, value_parser = format_names(), value_name = "FORMAT", conflicts_with = "bundled")]
    format: Option<Format>,
    /// The way to deal with a row that cannot be read
    #[arg(long, value_enum, default_value_t = BadRow::Fail, value_name = "WHAT", conflicts_with = "bundled")]
    on_bad_row: BadRow,
    /// The longest document, in bytes of text
    #[arg(long, default_value_t = 4 << 20, value_name = "N", conflicts_with = "bundled")]
    max_document_bytes: usize,
    /// The way to deal with a longer document
    #[arg(long, value_enum, default_value_t = Long::Split, value_name = "WHAT", conflicts_with = "bundled")]
    long_documents: Long,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum BadRow {
    /// Stop, and name the file and the row
    Fail,
    /// Leave the row out, and count it
    Skip,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Long {
    /// Make several documents of it
    Split,
    /// Keep its beginning
    Cut,
    /// Leave it out
    Skip,
}

fn format_names() -> impl TypedValueParser<Value = Format> {
    let names = PossibleValuesParser::new(Format::NAMES.map(|(name, _)| name));
    names.try_map(|name| {
        let format = Format::NAMES.iter().find(|(known, _)| *known == name).map(|(_, format)| *format);
        format.ok_or("no such format")
    })
}

impl ReadArgs {
    pub(super) fn options(&self) -> ReadOptions {
        ReadOptions {
            column: self.column.clone(),
            format: self.format,
            on_bad_row: match self.on_bad_row {
                BadRow::Fail => OnBadRow::Fail,
                BadRow::Skip => OnBadRow::Skip,
            },
            max_document_bytes: self.max_document_bytes,
            long_documents: match self.long_documents {
                Long::Split => LongDocuments::Split,
                Long::Cut => LongDocuments::Cut,
                Long::Skip => LongDocuments::Skip,
            },
            ..ReadOptions::default()
        }
    }
}

/// The report for people: one line with the counts, one for each bad row that is shown, one for each note.
pub(super) fn describe(
    documents: u64,
    report: &ReadReport,
    options: &ReadOptions,
    chat_template: Option<BlobId>,
) -> String {
    let mut line = count(documents, "document");
    if report.without_text > 0 {
        line.push_str(&format!(", {} without text skipped", report.without_text));
    }
    if report.conversations > 0 {
        let joined = match chat_template {
            Some(template) => format!("by the chat template {}", template.short()),
            None => "as role: content with a blank line between turns".to_owned(),
        };
        line.push_str(&format!(", {} of them conversations, joined {joined}", report.conversations));
    }
    if report.bad_row_count() > 0 {
        let reasons: Vec<String> = report.bad_rows.iter().map(|(reason, rows)| format!("{rows} {reason}")).collect();
        line.push_str(&format!(", {} skipped ({})", count(report.bad_row_count(), "bad row"), reasons.join(", ")));
    }
    if report.long_documents > 0 {
        let done = match options.long_documents {
            LongDocuments::Split => "split",
            LongDocuments::Cut => "cut",
            LongDocuments::Skip => "skipped",
        };
        let limit = bytes(options.max_document_bytes as u64);
        line.push_str(&format!(", {} longer than {limit} {done}", report.long_documents));
    }
    if report.mended_rows > 0 {
        let rows = count(report.mended_rows, "row");
        line.push_str(&format!(", half characters in {rows} replaced by U+FFFD"));
    }
    for (path, row, fault) in &report.first_bad_rows {
        line.push_str(&format!("\nskipped {}, row {row}: {fault}", path.display()));
    }
    for (path, note) in &report.notes {
        line.push_str(&format!("\nnote: {} {note}", path.display()));
    }
    line
}

/// The report as JSON.
pub(super) fn to_json(report: &ReadReport) -> Value {
    let shown = report.first_bad_rows.iter();
    let shown: Vec<Value> = shown
        .map(|(path, row, fault)| json!({"file": path_text(path), "row": row, "fault": fault.to_string()}))
        .collect();
    let notes: Vec<Value> =
        report.notes.iter().map(|(path, note)| json!({"file": path_text(path), "note": note})).collect();
    json!({
        "bytes": report.bytes, "rows": report.rows, "conversations": report.conversations, "without_text": report.without_text, "bad_rows": report.bad_rows, "first_bad_rows": shown,
        "long_documents": report.long_documents, "mended_rows": report.mended_rows, "notes": notes,
    })
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    #[test]
    fn names_that_are_not_utf8_are_written_with_replacements() {
        use std::ffi::OsString;
        use std::os::unix::ffi::OsStringExt as _;
        use std::path::PathBuf;

        use templar_data::{ReadReport, RowFault};

        let path = || PathBuf::from(OsString::from_vec(b"caf\xe9".to_vec()));
        let report = ReadReport {
            first_bad_rows: vec![(path(), 1, RowFault::NotUtf8)],
            notes: vec![(path(), "begins with a byte-order mark".to_owned())],
            ..ReadReport::default()
        };
        let json = super::to_json(&report);
        assert_eq!(json["first_bad_rows"][0]["file"], "caf\u{fffd}");
        assert_eq!(json["notes"][0]["file"], "caf\u{fffd}");
    }
}
