//! The names with which a genesis chooses its arithmetic, its quantiser and its aggregation rule.
//!
//! A manifest spells each choice as a text, such as `"f32/1"`. In the program it is a value of an enum, so that
//! code that dispatches on it covers every choice, and a genesis that asks for something that no code knows
//! does not decode.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// A text is none of the names that this version knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {found:?} is not known; this version has {known}")]
pub struct ParseNameError {
    what: &'static str,
    found: String,
    known: String,
}

/// Defines an enum whose values are spelled by name in a manifest.
macro_rules! named {
    (
        $(#[$doc:meta])*
        $name:ident, $what:literal, { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All values, in the order in which they are declared.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$variant),*];

            /// The name in manifests.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(ParseNameError {
                        what: $what,
                        found: text.to_owned(),
                        known: [$(concat!("\"", $text, "\"")),*].join(", "),
                    }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseNameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    };
}

named! {
    /// The arithmetic that defines every result of a run to the bit.
    Arithmetic, "arithmetic", {
        /// `f32/1`: single precision in a stated order of operations. The crate `templar-numerics` is its
        /// specification.
        F32 = "f32/1",
        /// `i8x2/1`: matrix products made of 8-bit integers, and all else as `f32/1`. The module `i8x2` of the crate
        /// `templar-numerics` is its specification.
        I8x2 = "i8x2/1",
    }
}

named! {
    /// How the kept values of a tensor become small codes, and what those decode to.
    Quantiser, "quantiser", {
        /// `templar4`: four bins of width 1.5 σ around the mean, each decoded as the mean of its members.
        /// Covenant-72B was trained with it. The bins are centred at −3σ, −1.5σ, 0 and +1.5σ, so they are
        /// lopsided.
        Templar4 = "templar4",
        /// `block-sign`: one bit for the sign of each value, and one scale for each block, the mean magnitude
        /// of its kept values. A value decodes as its sign times the scale.
        BlockSign = "block-sign",
        /// `block-levels`: the sign of each value, and which of two multiples of the block's mean magnitude it
        /// decodes to.
        BlockLevels = "block-levels",
    }
}

named! {
    /// How the deltas of a window become one pseudo-gradient.
    AggregationRule, "aggregation rule", {
        /// `mean-of-all`: a coordinate's sum over the number of contributors. Equation 2 of the SparseLoCo paper.
        MeanOfAll = "mean-of-all",
        /// `mean-of-senders`: a coordinate's sum over the number of contributors that sent it, as in Templar's
        /// code. At the same learning rate its steps are many times longer, since most coordinates have one
        /// sender.
        MeanOfSenders = "mean-of-senders",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_its_value() {
        assert!(Arithmetic::ALL.iter().all(|value| value.name().parse() == Ok(*value)));
        assert!(Quantiser::ALL.iter().all(|value| value.name().parse() == Ok(*value)));
        assert!(AggregationRule::ALL.iter().all(|value| value.name().parse() == Ok(*value)));
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_that_are_known() {
        let error = "uniform-2bit".parse::<Quantiser>().unwrap_err().to_string();
        let expected =
            r#"quantiser "uniform-2bit" is not known; this version has "templar4", "block-sign", "block-levels""#;
        assert_eq!(error, expected);
    }
}
