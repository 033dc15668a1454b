//! The sizes up to which tokenizers are read.

/// The longest `tokenizer.json` that is read, in bytes. The largest in common use has 33 MB.
pub const MAX_TOKENIZER_BYTES: usize = 64 << 20;

/// The largest vocabulary that is accepted, in tokens.
pub const MAX_VOCABULARY: u32 = 1 << 20;
