//! One document of an input, and the limits that every reader of documents keeps to.

use crate::error::ImportError;

/// One text, and the row or line where it starts, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextDocument {
    pub(crate) text: String,
    pub(crate) row: u64,
}

/// The documents of one file, in order. After an error nothing follows.
pub(crate) type Documents = Box<dyn Iterator<Item = Result<TextDocument, ImportError>>>;

/// Sizes that a reader keeps to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DocumentLimits {
    /// The longest document, in bytes of text.
    pub(crate) max_document_bytes: usize,
    /// The length from which plain text is cut at the next blank line, in bytes.
    pub(crate) text_document_bytes: usize,
}
