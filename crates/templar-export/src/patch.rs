//! Patches: what changed between two checkpoints, so that a server need not fetch a whole model after each window.
//!
//! A patch belongs to Hugging Face folders of one checkpoint, with weights in f32 or bf16, in one file or in several. A
//! folder that is patched has the bytes of a new export of the later checkpoint. What an outer step left alone costs
//! nothing, and of what it changed mostly the low bits differ.
//!
//! ```text
//! "templar patch 0\n"                                   16 bytes
//! length of the head                                    u32, little endian
//! the head, JSON: run, both checkpoints, the type of the weights; of each tensor its name, its shape, BLAKE3 of its
//!   bytes before and after, and the length of its part; of each other file its name, BLAKE3 and length
//! the other files, in the order of the head
//! the part of each tensor, in the order of the head
//! BLAKE3 of everything before                           32 bytes
//! ```
//!
//! The part of a tensor that did not change is empty. Otherwise it is a zstd frame of the bits that differ (before XOR
//! after): first the first byte of every element, then all second bytes, and so on.

mod apply;
mod error;
mod folder;
mod head;
mod write;

pub use apply::{Patched, apply};
pub use error::PatchError;
pub use write::{PatchContents, write};

/// The first bytes of a patch.
const MAGIC: &[u8; 16] = b"templar patch 0\n";

/// The longest head, in bytes; that of a model of 72 billion parameters has 250 KB.
const MAX_HEAD: u32 = 16 << 20;

/// The bytes of a BLAKE3 hash.
const HASH_BYTES: u64 = 32;

/// The files beside weights that a patch may replace.
const COMPANIONS: [&str; 5] =
    ["README.md", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "config.json"];

/// Exchanges a matrix of bytes `[elements, width]` for its columns.
fn columns(bytes: &[u8], width: usize) -> Vec<u8> {
    (0..width).flat_map(|column| bytes.iter().skip(column).step_by(width)).copied().collect()
}

/// Undoes [`columns`].
fn rows(bytes: &[u8], width: usize) -> Vec<u8> {
    columns(bytes, bytes.len() / width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_undone() {
        let bytes: Vec<u8> = (0..24).collect();
        assert_eq!(columns(&bytes, 4)[..7], [0, 4, 8, 12, 16, 20, 1]);
        for width in [1, 2, 4] {
            assert_eq!(rows(&columns(&bytes, width), width), bytes);
        }
        assert!(columns(&[], 4).is_empty() && rows(&[], 4).is_empty());
    }
}
