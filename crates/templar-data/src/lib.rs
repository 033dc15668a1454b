//! Text into tokens: import, shards, and the pages that a window trains on.
//!
//! A **dataset** is a stream of tokens, cut by rule into a training and a held-out part and stored as content-addressed
//! shards that a [`Dataset`](templar_manifest::Dataset) manifest lists. Shards are only storage: what training sees are
//! **pages**, fixed-size sequences of the stream, found from the manifest and a page number alone.
//!
//! - [`import`] reads parquet, jsonl and plain text in bounded memory, tokenises and writes shards to a [`ShardSink`].
//! - [`Tokenizer`] wraps a Hugging Face `tokenizer.json`, with everything that is random or lossy switched off.
//! - [`PageReader`] gives page `p` of either part; [`batch`] says which pages a step of a window takes.
//! - [`verify`] checks a dataset's blobs against its manifest, [`sample`] shows a page as text.
//! - [`bundled`] is the dataset that travels inside the program.
//!
//! The invariant: the same documents, tokenizer and options give the same shards, and so the same manifest, on every
//! machine, in any number of threads and from any of the file formats.

pub mod bundled;
mod guard;
mod import;
mod page;
mod shard;
mod source;
mod tokenizer;
mod verify;

pub use import::{ImportError, ImportOptions, import};
pub use page::{PageError, PageReader, Split, batch, read_page};
pub use shard::{MAX_SHARD_BYTES, ShardSink, SinkError};
pub use tokenizer::{END_TOKENS, MAX_TOKENIZER_BYTES, MAX_VOCABULARY, Tokenizer, TokenizerError};
pub use verify::{Fault, SampleError, Verification, sample, verify};
