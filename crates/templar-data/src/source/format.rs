//! The formats of files, and the names by which they go.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// The format of a file, after decompression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, as a file or as a stream.
    Arrow,
    /// JSON: one object on each line, or one array of objects.
    Jsonl,
    /// A table with commas between its fields.
    Csv,
    /// A table with tabs between its fields.
    Tsv,
    /// A tar archive of samples, as WebDataset has them.
    Tar,
    /// Tokens that were made elsewhere: `.npy`, or `.bin` of nanoGPT, llm.c and Megatron. Bare ones have two bytes.
    Tokens,
    /// The same, where bare tokens have two bytes whatever they look like.
    Tokens16,
    /// The same, where bare tokens have four bytes.
    Tokens32,
    /// Plain text in UTF-8, cut into passages at blank lines.
    Text,
}

impl Format {
    /// Every format with the name by which people choose it.
    pub const NAMES: [(&str, Self); 10] = [
        ("parquet", Self::Parquet),
        ("arrow", Self::Arrow),
        ("jsonl", Self::Jsonl),
        ("csv", Self::Csv),
        ("tsv", Self::Tsv),
        ("tar", Self::Tar),
        ("text", Self::Text),
        ("tokens", Self::Tokens),
        ("tokens-u16", Self::Tokens16),
        ("tokens-u32", Self::Tokens32),
    ];

    /// The format that the name of a file promises. An ending that names a compression is taken off first.
    pub fn of_name(path: &Path) -> Option<Self> {
        Self::of_extension(without_compression(&lower_case_name(path)?).0)
    }

    fn of_extension(name: &str) -> Option<Self> {
        Some(match name.rsplit_once('.')?.1 {
            "parquet" | "parq" | "pq" => Self::Parquet,
            "arrow" | "arrows" | "feather" | "ipc" => Self::Arrow,
            "jsonl" | "ndjson" | "json" | "jl" => Self::Jsonl,
            "csv" => Self::Csv,
            "tsv" | "tab" => Self::Tsv,
            "tar" | "tgz" | "tbz2" | "txz" | "tzst" => Self::Tar,
            "npy" | "bin" => Self::Tokens,
            "txt" | "text" => Self::Text,
            _ => return None,
        })
    }

    /// Whether the whole file is text, which may begin with a byte-order mark.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Jsonl | Self::Csv | Self::Tsv | Self::Text)
    }

    /// Whether the file is one of a published dataset's tables, beside which plain text is about the dataset.
    pub(crate) fn is_table(self) -> bool {
        matches!(self, Self::Parquet | Self::Arrow | Self::Tar)
    }

    /// Whether the file holds tokens instead of text.
    pub(super) fn is_tokens(self) -> bool {
        matches!(self, Self::Tokens | Self::Tokens16 | Self::Tokens32)
    }

    /// The format with its article, for sentences.
    pub(super) fn article(self) -> &'static str {
        match self {
            Self::Parquet => "a parquet file",
            Self::Arrow => "Arrow IPC",
            Self::Jsonl => "JSON",
            Self::Csv => "CSV",
            Self::Tsv => "TSV",
            Self::Tar => "a tar archive",
            Self::Tokens | Self::Tokens16 | Self::Tokens32 => "a file of tokens",
            Self::Text => "plain text",
        }
    }
}

/// Endings that name a compression, not a format.
const COMPRESSIONS: [&str; 6] = ["gz", "gzip", "zst", "zstd", "bz2", "xz"];

pub(super) fn lower_case_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().to_ascii_lowercase())
}

/// A name without the ending of its compression, and that ending.
pub(super) fn without_compression(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once('.') {
        Some((stem, ending)) if COMPRESSIONS.contains(&ending) => (stem, Some(ending)),
        Some((_, ending @ ("tgz" | "tbz2" | "txz" | "tzst"))) => (name, Some(&ending[1..])),
        _ => (name, None),
    }
}
