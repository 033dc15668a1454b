//! The settings of the compressor, which genesis fixes: the size of blocks, the number of values that are sent
//! of each, the quantiser, the decay of the error feedback, and the rule that combines the deltas of a window.
//!
//! The ranges of a [`DeltaSettings`] have been checked, so code that holds one need not check them again.

use templar_manifest::Quantiser;

/// The largest side of a block that a run may choose. Such a block has 2^20 elements.
pub const MAX_BLOCK_SIDE: u32 = 1024;

/// One, in parts per million.
pub const PPM: u32 = 1_000_000;

/// The byte that names a quantiser in a delta's header: its place in [`Quantiser::ALL`].
pub(crate) const fn quantiser_byte(quantiser: Quantiser) -> u8 {
    match quantiser {
        Quantiser::Templar4 => 0,
        Quantiser::BlockSign => 1,
        Quantiser::BlockLevels => 2,
    }
}

/// The quantiser that this byte of a header names, if any does.
pub(crate) fn quantiser_of(byte: u8) -> Option<Quantiser> {
    Quantiser::ALL.into_iter().find(|quantiser| quantiser_byte(*quantiser) == byte)
}

/// A setting is outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeltaSettingsError {
    /// The block side is zero or above [`MAX_BLOCK_SIDE`].
    #[error("block side {0} is not between 1 and {MAX_BLOCK_SIDE}")]
    BlockSide(u32),
    /// `top_k` is zero or more than a block of the full side holds.
    #[error("top-k {top_k} is not between 1 and {block}, the elements of a block")]
    TopK {
        /// The value that was asked for.
        top_k: u32,
        /// The square of the block side.
        block: u32,
    },
    /// The decay would make the error feedback grow.
    #[error("error decay {0} ppm is above 1000000 ppm")]
    ErrorDecay(u32),
}

/// The settings of the compressor of a run, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaSettings {
    block_side: u32,
    top_k: u32,
    quantiser: Quantiser,
    error_decay_ppm: u32,
}

impl DeltaSettings {
    /// Settings for blocks of at most `block_side` × `block_side` elements, of which `top_k` are sent.
    /// `error_decay_ppm` is β of the error feedback, in parts per million.
    ///
    /// # Errors
    /// [`DeltaSettingsError`] names the first setting that is outside its range.
    pub fn new(
        block_side: u32,
        top_k: u32,
        quantiser: Quantiser,
        error_decay_ppm: u32,
    ) -> Result<Self, DeltaSettingsError> {
        if block_side == 0 || block_side > MAX_BLOCK_SIDE {
            return Err(DeltaSettingsError::BlockSide(block_side));
        }
        let block = block_side * block_side;
        if top_k == 0 || top_k > block {
            return Err(DeltaSettingsError::TopK { top_k, block });
        }
        if error_decay_ppm > PPM {
            return Err(DeltaSettingsError::ErrorDecay(error_decay_ppm));
        }
        Ok(Self { block_side, top_k, quantiser, error_decay_ppm })
    }

    /// The largest side of a block, in elements.
    pub const fn block_side(&self) -> u32 {
        self.block_side
    }

    /// The number of values that are sent of a block of `block_side`² elements.
    pub const fn top_k(&self) -> u32 {
        self.top_k
    }

    /// The quantiser that turns values into codes.
    pub const fn quantiser(&self) -> Quantiser {
        self.quantiser
    }

    /// The decay β of the error feedback e ← βe + Δ, in parts per million.
    pub const fn error_decay_ppm(&self) -> u32 {
        self.error_decay_ppm
    }
}

#[cfg(test)]
mod tests {
    use templar_manifest::AggregationRule;

    use super::*;

    #[test]
    fn names_round_trip() {
        for quantiser in Quantiser::ALL {
            assert_eq!(quantiser.to_string().parse(), Ok(quantiser));
            assert_eq!(quantiser_of(quantiser_byte(quantiser)), Some(quantiser));
        }
        for rule in AggregationRule::ALL {
            assert_eq!(rule.to_string().parse(), Ok(rule));
        }
        assert!("Templar4".parse::<Quantiser>().unwrap_err().to_string().contains("block-levels"));
        assert!("mean".parse::<AggregationRule>().is_err());
        assert_eq!(quantiser_of(3), None);
    }

    #[test]
    fn settings_outside_their_range_are_refused() {
        let new = |side, k, decay| DeltaSettings::new(side, k, Quantiser::Templar4, decay);
        assert_eq!(new(0, 1, 0), Err(DeltaSettingsError::BlockSide(0)));
        assert_eq!(new(1025, 1, 0), Err(DeltaSettingsError::BlockSide(1025)));
        assert_eq!(new(64, 0, 0), Err(DeltaSettingsError::TopK { top_k: 0, block: 4096 }));
        assert_eq!(new(64, 4097, 0), Err(DeltaSettingsError::TopK { top_k: 4097, block: 4096 }));
        assert_eq!(new(64, 64, 1_000_001), Err(DeltaSettingsError::ErrorDecay(1_000_001)));
        assert!(new(1024, 1 << 20, 1_000_000).is_ok());
    }
}
