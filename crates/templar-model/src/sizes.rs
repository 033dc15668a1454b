//! The table of model sizes: the original's, and small ones that train on a laptop.
//!
//! A size says everything but the vocabulary, which is the tokenizer's. Source of the large ones: the
//! original's configurations (Covenant-72B: 80 layers, width 8192, 64 query and 8 key heads, feed-forward
//! 28,672, RMSNorm 1e-5, rotary base 500,000, context 2048, untied; its published count of 72,747,327,488
//! parameters is that of a vocabulary of 262,144).

use templar_manifest::ModelSpec;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// The name that `--size` takes.
    pub name: &'static str,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Number of decoder layers.
    pub layers: u32,
    /// Number of query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Inner width of the feed-forward.
    pub ffn_size: u32,
    /// Tokens that a training sequence predicts.
    pub sequence_length: u32,
    /// Base of the rotary frequencies.
    pub rope_theta: u32,
    /// Whether the head is the embedding.
    pub tied_embeddings: bool,
}

const SMALL_THETA: u32 = 10_000;
const LARGE_THETA: u32 = 500_000;
/// 1e-5, as the original.
const NORM_EPS: f32 = 1e-5;

#[rustfmt::skip]
macro_rules! size {
    ($name:literal, $hidden:literal, $layers:literal, $heads:literal, $kv:literal, $ffn:literal, $length:literal, $theta:ident, $tied:literal) => {
        Size {
            name: $name, hidden_size: $hidden, layers: $layers, heads: $heads, kv_heads: $kv, ffn_size: $ffn,
            sequence_length: $length, rope_theta: $theta, tied_embeddings: $tied,
        }
    };
}

/// All sizes, smallest first.
#[rustfmt::skip]
pub const SIZES: &[Size] = &[
    //     name     hidden layers heads kv     ffn length  rotary base  tied
    size!("tiny",       32,     1,    4,  4,   128,   128, SMALL_THETA, true),
    size!("nano",       64,     4,    4,  2,   176,   128, SMALL_THETA, true),
    size!("micro",     128,     4,    4,  2,   352,   128, SMALL_THETA, true),
    size!("small",     256,     6,    8,  4,   688,   256, SMALL_THETA, true),
    size!("medium",    384,     6,    6,  2,  1024,   256, SMALL_THETA, false),
    size!("150M",     1024,    12,   16, 16,  2688,  2048, LARGE_THETA, false),
    size!("512M",     1536,    12,   12, 12,  5440,  2048, LARGE_THETA, false),
    size!("1B",       2048,    16,    8,  8,  8192,  2048, LARGE_THETA, false),
    size!("8B",       4096,    32,   32,  8, 14336,  2048, LARGE_THETA, false),
    size!("72B",      8192,    80,   64,  8, 28672,  2048, LARGE_THETA, false),
];

impl Size {
    /// The specification of this size with a vocabulary.
    pub fn spec(&self, vocab_size: u32) -> ModelSpec {
        ModelSpec {
            vocab_size,
            hidden_size: self.hidden_size,
            layers: self.layers,
            heads: self.heads,
            head_size: None,
            kv_heads: self.kv_heads,
            ffn_size: self.ffn_size,
            rope_theta: self.rope_theta,
            rope_scaling: None,
            norm_eps_bits: NORM_EPS.to_bits(),
            tied_embeddings: self.tied_embeddings,
            sequence_length: self.sequence_length,
            position_limit: None,
        }
    }
}

/// The specification of a named size with a vocabulary, or `None` where there is no such name.
pub fn preset(name: &str, vocab_size: u32) -> Option<ModelSpec> {
    SIZES.iter().find(|size| size.name == name).map(|size| size.spec(vocab_size))
}

/// The names, smallest first.
pub fn names() -> impl Iterator<Item = &'static str> {
    SIZES.iter().map(|size| size.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;

    fn parameters(name: &str, vocab: u32) -> usize {
        Layout::new(&preset(name, vocab).unwrap()).unwrap().parameters
    }

    #[test]
    fn every_size_is_a_model() {
        for name in names() {
            assert!(parameters(name, 4096) > 0, "{name}");
        }
        assert_eq!(preset("73B", 4096), None);
    }

    /// With the vocabulary that each is known with: the original's last 262,144 and, for its run of 1.2B, Llama
    /// 2's; Llama 3's for the 8B, whose count is also that of Llama 3 8B.
    #[test]
    fn published_and_computed_counts() {
        assert_eq!(parameters("tiny", 32_000), 1_040_480);
        assert_eq!(parameters("150M", 32_000), 214_983_680);
        assert_eq!(parameters("512M", 32_000), 512_398_848);
        assert_eq!(parameters("1B", 32_000), 1_204_881_408);
        assert_eq!(parameters("8B", 128_256), 8_030_261_248);
        assert_eq!(parameters("72B", 262_144), 72_747_327_488);
        let tied = ModelSpec { tied_embeddings: true, ..preset("72B", 262_144).unwrap() };
        assert_eq!(Layout::new(&tied).unwrap().parameters, 70_599_843_840);
        assert_eq!(parameters("nano", 4096), 447_040);
        assert_eq!(parameters("micro", 4096), 1_262_720);
        assert_eq!(parameters("small", 4096), 5_401_856);
        assert_eq!(parameters("medium", 4096), 12_587_904);
    }
}
