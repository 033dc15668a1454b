//! Part files: the result of one of several machines that share a text.
//!
//! A part file is a parquet file, so any tool can look into it. It has a row for each document, in order:
//!
//! | column | type | content |
//! |---|---|---|
//! | `file` | unsigned, 32 bits | the number of the file in the listing, from 0 |
//! | `batch` | unsigned, 64 bits | the number of the batch, from 0 |
//! | `tokens` | bytes | the tokens with those that begin and end a document, little-endian, 2 or 4 bytes each |
//! | `check` | 8 bytes | the beginning of the BLAKE3 hash of the columns before it, numbers little-endian |
//!
//! Its metadata has, under the key `templar.part`, the [`PartPlan`] as JSON and the number of the part. Part 1 also has
//! the `tokenizer.json`, and the chat template if there is one. Parts can be joined only where their plans are equal.
//! Nothing in a part says where held-out blocks and shards begin: that is decided when all tokens are in order.

mod error;
mod read;
mod write;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use templar_manifest::{Dataset, Hash};

use crate::duplicates::OnDuplicate;
use crate::share::Part;
use crate::source::ReadOptions;

pub use error::PartError;
pub(crate) use read::{PartReader, RowPlace};
pub(crate) use write::PartWriter;

/// The version of the format, raised where an older program would misread it.
pub(crate) const FORMAT: u32 = 1;

/// The key of the plan in the metadata.
const PLAN_KEY: &str = "templar.part";

/// How the keys of the blobs begin. Each ends in the hash of its blob.
const BLOB_KEY: &str = "templar.blob.";

/// The plan that all parts of one import share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartPlan {
    /// The version of the format.
    pub(crate) format: u32,
    /// The manifest of the dataset, still without documents and shards.
    pub(crate) dataset: Dataset,
    /// How the files are read.
    pub(crate) read: ReadOptions,
    /// The way in which joining deals with documents that occurred before.
    pub(crate) on_duplicate: OnDuplicate,
    /// The files that all parts together read: for each its name below the folder that was named, and its bytes.
    pub(crate) files: Vec<(String, u64)>,
}

/// The metadata of a part file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartHeader {
    pub(crate) plan: PartPlan,
    pub(crate) part: Part,
}

impl PartPlan {
    /// The difference from another plan, in a few words; `None` where the plans are equal.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let tokenizers = [self, other].map(|plan| plan.dataset.tokenizer);
        if tokenizers[0] != tokenizers[1] {
            return Some(format!("the tokenizers are {} and {}", tokenizers[0].short(), tokenizers[1].short()));
        }
        let templates = [self, other].map(|plan| plan.dataset.chat_template);
        if templates[0] != templates[1] {
            let named = templates.map(|id| id.map_or("none".to_owned(), |id| id.short()));
            return Some(format!("the chat templates are {} and {}", named[0], named[1]));
        }
        if self.files.len() != other.files.len() {
            return Some(format!("one saw {} files and the other {}", self.files.len(), other.files.len()));
        }
        let file = self.files.iter().zip(&other.files).find(|(one, other)| one != other);
        if let Some(((name, bytes), (other_name, other_bytes))) = file {
            return Some(format!(
                "one saw {name} of {bytes} bytes where the other saw {other_name} of {other_bytes} bytes"
            ));
        }
        (self != other).then(|| "they have other options".to_owned())
    }
}

fn schema() -> SchemaRef {
    let columns = [
        ("file", DataType::UInt32),
        ("batch", DataType::UInt64),
        ("tokens", DataType::LargeBinary),
        ("check", DataType::FixedSizeBinary(CHECK_BYTES as i32)),
    ];
    let fields: Vec<Field> = columns.into_iter().map(|(name, kind)| Field::new(name, kind, false)).collect();
    Schema::new(fields).into()
}

/// The length of a check.
const CHECK_BYTES: usize = 8;

/// The check of a row. `tokens` are as in the file.
fn check(file: u32, batch: u64, tokens: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = Hash::of(&[&file.to_le_bytes()[..], &batch.to_le_bytes(), tokens].concat());
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hash.as_bytes()[..CHECK_BYTES]);
    check
}
