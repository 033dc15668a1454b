//! Text into tokens: import, shards, and the pages that a window trains on.
//!
//! A **dataset** is a stream of tokens. A rule cuts it into a training part and a held-out part. Both are
//! stored as content-addressed shards, which a [`Dataset`](templar_manifest::Dataset) manifest lists. Shards
//! are only storage: training reads **pages**, sequences of the stream of a fixed length. The manifest and a
//! page number are enough to find a page.
//!
//! ```
//! use templar_blob::MemoryBlobs;
//! use templar_data::{PageReader, Split, Tokenizer, bundled, sample};
//!
//! // Nine plays of Shakespeare travel inside the program. Any blob store could take the shards.
//! let mut blobs = MemoryBlobs::new();
//! let dataset = bundled::import_shakespeare(&mut blobs)?;
//! assert_eq!((dataset.vocab_size, dataset.training_tokens()), (2048, 394_279));
//!
//! // Pages with 64 inputs and 64 targets, which is 65 tokens.
//! let pages = PageReader::new(&blobs, &dataset, Split::Training, 64)?;
//! assert_eq!(pages.page_count(), 6160);
//! assert_eq!(pages.read(0)?.len(), 65);
//!
//! let (_, tokenizer_json) = bundled::shakespeare();
//! let tokenizer = Tokenizer::for_dataset(tokenizer_json, &dataset)?;
//! assert!(sample(&pages, &tokenizer, 0)?.starts_with("HAMLET, PRINCE OF DENMARK"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - A [`Listing`] says which files of the named folders an import takes, and what it leaves out and why.
//! - An [`Import`] reads files of many formats in bounded memory, tokenises them, and writes shards to a [`ShardSink`];
//!   [`import`] does it in one call. [`ReadOptions`] say how files are read, and a [`ReadReport`] what was left out.
//! - A [`Part`] is the share of an import that one of several machines has, and [`merge`] joins them.
//! - [`Tokenizer`] is a Hugging Face `tokenizer.json` with everything switched off in it that is random or lossy.
//!   [`ChatTokenizer`] reads conversations by a chat template. Generation and export use the same types.
//! - [`PageReader`] gives the pages of either part. [`batch`] gives the numbers of the pages that a step of a
//!   window takes.
//! - [`verify`] checks the blobs of a dataset against its manifest. [`sample`] shows a page as text.
//! - [`read_records`] reads the rows of a table with all their fields, such as the questions of a benchmark.
//! - [`bundled`] is the dataset that travels inside the program.
//!
//! Invariant: the same documents, tokenizer and options give the same shards, and so the same manifest, on
//! every machine, with any number of threads, and from any of the file formats.

mod about;
mod assembly;
pub mod bundled;
mod duplicates;
mod encode;
mod error;
mod guard;
mod import;
mod licence;
mod listing;
mod merge;
mod ordered;
mod page;
mod part;
mod progress;
mod reading;
mod samples;
mod shard;
mod share;
mod source;
mod tokenizer;
mod verify;
pub mod words;

pub use assembly::ImportedFile;
pub use duplicates::{Duplicates, OnDuplicate};
pub use error::ImportError;
pub use import::{Import, ImportOptions, Imported, ImportedPart, import};
pub use licence::{LicenceError, checked_licence};
pub use listing::{LeftOut, Listing, ListingError, Reason, TakenFile};
pub use merge::merge;
pub use page::{PageError, PageReader, Split, batch, read_page, shard_tokens};
pub use part::PartError;
pub use progress::{Progress, ProgressNow};
pub use samples::DocumentSample;
pub use shard::{MAX_SHARD_BYTES, ShardSink, SinkError};
pub use share::{MAX_PARTS, Part, PartNameError};
pub use source::{
    FileFault, Format, LongDocuments, OnBadRow, ReadOptions, ReadReport, Record, RowFault, STANDARD_INPUT, read_records,
};
pub use tokenizer::{
    ChatError, ChatTemplate, ChatTemplateError, ChatTokenizer, END_TOKENS, HuggingFaceFiles, MAX_CHAT_TEMPLATE_BYTES,
    MAX_TOKENIZER_BYTES, MAX_VOCABULARY, SavedSettings, SpecialTokens, TokenNames, Tokenizer, TokenizerError,
    is_lfs_pointer, is_same_tokenizer,
};
pub use verify::{DatasetFault, SampleError, Verification, sample, verify};
