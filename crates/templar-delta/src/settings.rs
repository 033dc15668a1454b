//! What genesis fixes about a delta: the blocks, how many values of each are sent, how they are quantised, how fast the
//! error feedback forgets, and the rule that combines the deltas of a window.
//!
//! A [`Settings`] has been checked: code that holds one need not look at its ranges again.

use std::fmt;
use std::str::FromStr;

/// The largest block side that a run may choose; a block then has 2^20 elements.
pub const MAX_BLOCK_SIDE: u32 = 1024;

/// Parts per million in one.
pub const PPM: u32 = 1_000_000;

/// How the kept values of a tensor become small codes, and what those decode to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantiser {
    /// `templar4`: four bins of width 1.5 σ around the mean, each decoded as the mean of its members. What Templar
    /// trained Covenant-72B with. The bins are centred at −3σ, −1.5σ, 0 and +1.5σ, so they are lopsided.
    Templar4,
    /// `block-sign`: the sign, times the mean magnitude of the block: one bit for a value, and a scale for a block.
    BlockSign,
    /// `block-levels`: the sign, and one of two multiples of the mean magnitude of the block.
    BlockLevels,
}

impl Quantiser {
    /// All of them, in the order of their bytes.
    pub const ALL: [Self; 3] = [Self::Templar4, Self::BlockSign, Self::BlockLevels];

    /// The byte that names it in a delta's header.
    pub(crate) const fn to_byte(self) -> u8 {
        match self {
            Self::Templar4 => 0,
            Self::BlockSign => 1,
            Self::BlockLevels => 2,
        }
    }

    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Templar4),
            1 => Some(Self::BlockSign),
            2 => Some(Self::BlockLevels),
            _ => None,
        }
    }
}

/// A text names no quantiser or rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a {what}: expected {expected}")]
pub struct ParseNameError {
    what: &'static str,
    found: String,
    expected: &'static str,
}

impl fmt::Display for Quantiser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Templar4 => "templar4",
            Self::BlockSign => "block-sign",
            Self::BlockLevels => "block-levels",
        })
    }
}

impl FromStr for Quantiser {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "templar4" => Ok(Self::Templar4),
            "block-sign" => Ok(Self::BlockSign),
            "block-levels" => Ok(Self::BlockLevels),
            _ => Err(ParseNameError {
                what: "quantiser",
                found: text.to_owned(),
                expected: "templar4, block-sign or block-levels",
            }),
        }
    }
}

/// How the deltas of a window become one pseudo-gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// `mean-of-all`: a coordinate's sum over the number of contributors. The SparseLoCo paper's equation 2.
    MeanOfAll,
    /// `mean-of-senders`: a coordinate's sum over the number of contributors that sent it. What Templar's code does; at
    /// the same learning rate its steps are many times longer, since most coordinates have one sender.
    MeanOfSenders,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::MeanOfAll => "mean-of-all",
            Self::MeanOfSenders => "mean-of-senders",
        })
    }
}

impl FromStr for Rule {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "mean-of-all" => Ok(Self::MeanOfAll),
            "mean-of-senders" => Ok(Self::MeanOfSenders),
            _ => Err(ParseNameError {
                what: "aggregation rule",
                found: text.to_owned(),
                expected: "mean-of-all or mean-of-senders",
            }),
        }
    }
}

/// A setting is outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The block side is zero or above [`MAX_BLOCK_SIDE`].
    #[error("block side {0} is not between 1 and {MAX_BLOCK_SIDE}")]
    BlockSide(u32),
    /// `top_k` is zero or more than a block of the full side holds.
    #[error("top-k {top_k} is not between 1 and {block}, the elements of a block")]
    TopK {
        /// The value asked for.
        top_k: u32,
        /// The square of the block side.
        block: u32,
    },
    /// The decay would make the error feedback grow.
    #[error("error decay {0} ppm is above 1000000 ppm")]
    ErrorDecay(u32),
}

/// The compressor's settings of a run, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    block_side: u32,
    top_k: u32,
    quantiser: Quantiser,
    error_decay_ppm: u32,
}

impl Settings {
    /// Settings for blocks of at most `block_side` × `block_side` elements of which `top_k` are sent.
    ///
    /// # Errors
    /// The first setting that is outside its range.
    pub fn new(block_side: u32, top_k: u32, quantiser: Quantiser, error_decay_ppm: u32) -> Result<Self, SettingsError> {
        if block_side == 0 || block_side > MAX_BLOCK_SIDE {
            return Err(SettingsError::BlockSide(block_side));
        }
        let block = block_side * block_side;
        if top_k == 0 || top_k > block {
            return Err(SettingsError::TopK { top_k, block });
        }
        if error_decay_ppm > PPM {
            return Err(SettingsError::ErrorDecay(error_decay_ppm));
        }
        Ok(Self { block_side, top_k, quantiser, error_decay_ppm })
    }

    /// The largest side of a block.
    pub const fn block_side(&self) -> u32 {
        self.block_side
    }

    /// How many values of a block of `block_side`² elements are sent.
    pub const fn top_k(&self) -> u32 {
        self.top_k
    }

    /// How values become codes.
    pub const fn quantiser(&self) -> Quantiser {
        self.quantiser
    }

    /// β of the error feedback e ← βe + Δ, in parts per million.
    pub const fn error_decay_ppm(&self) -> u32 {
        self.error_decay_ppm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for quantiser in Quantiser::ALL {
            assert_eq!(quantiser.to_string().parse(), Ok(quantiser));
            assert_eq!(Quantiser::from_byte(quantiser.to_byte()), Some(quantiser));
        }
        for rule in [Rule::MeanOfAll, Rule::MeanOfSenders] {
            assert_eq!(rule.to_string().parse(), Ok(rule));
        }
        assert!("Templar4".parse::<Quantiser>().unwrap_err().to_string().contains("block-levels"));
        assert!("mean".parse::<Rule>().is_err());
        assert_eq!(Quantiser::from_byte(3), None);
    }

    #[test]
    fn settings_outside_their_range_are_refused() {
        let new = |side, k, decay| Settings::new(side, k, Quantiser::Templar4, decay);
        assert_eq!(new(0, 1, 0), Err(SettingsError::BlockSide(0)));
        assert_eq!(new(1025, 1, 0), Err(SettingsError::BlockSide(1025)));
        assert_eq!(new(64, 0, 0), Err(SettingsError::TopK { top_k: 0, block: 4096 }));
        assert_eq!(new(64, 4097, 0), Err(SettingsError::TopK { top_k: 4097, block: 4096 }));
        assert_eq!(new(64, 64, 1_000_001), Err(SettingsError::ErrorDecay(1_000_001)));
        assert!(new(1024, 1 << 20, 1_000_000).is_ok());
    }
}
