//! How files are read: the choices of the person who imports.

use serde::{Deserialize, Serialize};

use super::format::Format;

/// The way in which an import treats one bad row, such as a row without its text or a line that is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnBadRow {
    /// The import ends with an error that names file and row.
    #[default]
    Fail,
    /// The row is left out and counted by its reason.
    Skip,
}

/// The way in which an import treats a document longer than [`ReadOptions::max_document_bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LongDocuments {
    /// The text becomes several documents, cut after a line end or a blank where there is one.
    #[default]
    Split,
    /// The beginning is taken and the rest left out.
    Cut,
    /// The document is left out.
    Skip,
}

/// How files are read. All of it decides which tokens an import gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadOptions {
    /// The column or field that holds the text. A dot leads into a struct, as in `doc.text`.
    pub column: String,
    /// The format of every file. Without it, the name and the first bytes of a file tell.
    pub format: Option<Format>,
    /// The treatment of a row that cannot be used.
    pub on_bad_row: OnBadRow,
    /// The longest document, in bytes of text.
    pub max_document_bytes: usize,
    /// The treatment of a document that is longer.
    pub long_documents: LongDocuments,
    /// The length from which plain text is cut at the next blank line, in bytes.
    pub text_document_bytes: usize,
}

impl ReadOptions {
    /// The longest row that is read into memory, in bytes, whatever the limit for a document is. A row of JSON may be
    /// longer than its text by escapes, which take up to six bytes for one, and by other fields.
    pub(crate) fn max_row_bytes(&self) -> usize {
        const LEAST: usize = 256 << 20;
        self.max_document_bytes.saturating_mul(6).saturating_add(1 << 20).max(LEAST)
    }

    /// Whether the options make sense.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.max_document_bytes < MIN_DOCUMENT_BYTES || self.text_document_bytes == 0 {
            return Err(format!("documents of less than {MIN_DOCUMENT_BYTES} bytes"));
        }
        if self.column.is_empty() {
            return Err("a column without a name".to_owned());
        }
        Ok(())
    }
}

/// A piece of a document holds at least one character, which has up to four bytes.
const MIN_DOCUMENT_BYTES: usize = 4;

impl Default for ReadOptions {
    /// The column `text`, formats by name and content, an error at the first bad row, documents of at most 4 MiB,
    /// longer ones split, and plain text cut from 4 KiB on.
    fn default() -> Self {
        Self {
            column: "text".to_owned(),
            format: None,
            on_bad_row: OnBadRow::default(),
            max_document_bytes: 4 << 20,
            long_documents: LongDocuments::default(),
            text_document_bytes: 4096,
        }
    }
}
