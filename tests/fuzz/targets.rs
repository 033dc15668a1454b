//! The fuzz targets: one for each decoder of bytes from strangers.
//!
//! A target decodes its input. It must not panic, and where the input is accepted it checks what holds for
//! every decoded value, such as that a value has one spelling. Used by the tests and by libFuzzer (`main.rs`).

mod delta;
mod entry;
mod folder;
mod import;
mod payload;
mod ticket;
mod tokenizer;
mod trace;

use std::path::{Path, PathBuf};

/// A decoder under test.
pub(crate) struct Target {
    /// The name, which `.ci/long fuzz` takes.
    pub(crate) name: &'static str,
    /// Decodes the input and checks what holds for every value; panics where something does not hold.
    pub(crate) run: fn(&[u8]),
    /// Whether the decoder accepts an input.
    pub(crate) accepts: fn(&[u8]) -> bool,
    /// Valid inputs to start from.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// How many times as long as the cheapest target an input takes, roughly.
    pub(crate) cost: u64,
}

macro_rules! targets {
    ($($name:literal $module:ident $decode:ident $seeds:ident $cost:literal;)*) => {
        /// Every target, in the order of the list below.
        pub(crate) const TARGETS: &[Target] = &[$(Target {
            name: $name,
            run: |bytes| {
                let _ = $module::$decode(bytes);
            },
            accepts: |bytes| $module::$decode(bytes),
            seeds: $module::$seeds,
            cost: $cost,
        }),*];
    };
}

// The name, the module, its function that decodes and checks, its seeds, and the cost.
targets! {
    "payload" payload decode seeds 1;
    "entry" entry decode seeds 1;
    "ticket" ticket decode seeds 1;
    "delta" delta decode_delta seeds 1;
    "aggregate" delta decode_aggregate aggregate_seeds 1;
    "trace" trace decode seeds 1;
    "safetensors" folder read_weights weights_seeds 2;
    "config" folder read_config config_seeds 2;
    "tokenizer" tokenizer decode seeds 2;
    "parquet" import read_parquet parquet_seeds 2;
    "jsonl" import read_jsonl jsonl_seeds 2;
    "array" import read_array array_seeds 2;
    "arrow" import read_arrow arrow_seeds 2;
    "conversations" import read_conversations conversation_seeds 2;
    "table" import read_table table_seeds 2;
    "tar" import read_tar tar_seeds 2;
    "tokens" import read_tokens token_seeds 2;
    "compressed" import read_compressed compressed_seeds 2;
    "text" import read_text text_seeds 2;
    "megatron" import read_megatron megatron_seeds 2;
    "template" import read_template template_seeds 2;
    "part" import read_part part_seeds 2;
    "records" import read_table_of_records record_seeds 2;
}

/// The root of the repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().find(|folder| folder.join("manifests").is_dir());
    root.expect("the tests run in the repository").to_owned()
}

/// The example files in `manifests/` whose names begin and end so, sorted by name.
fn examples(prefix: &str, suffix: &str) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(root().join("manifests")).expect("manifests/ is there");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("manifests/ is readable").path()).collect();
    paths.retain(|path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(prefix) && name.ends_with(suffix))
    });
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("an example is readable")).collect()
}
