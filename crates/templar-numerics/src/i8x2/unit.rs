//! The parts of processors that multiply limbs, and which of them this machine has.

use std::fmt;
use std::str::FromStr;

use crate::isa::Isa;

/// What multiplies the limbs. The choice changes speed and never a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Plain integer multiplications, which every processor has.
    Scalar,
    /// `pmaddwd` of x86-64's baseline: products of 16-bit integers, added in pairs.
    Sse2,
    /// `vpmaddwd` on 256 bits.
    Avx2,
    /// `vpdpbusd` of AVX-512 VNNI: products of 8-bit integers, added in fours.
    Vnni,
    /// aarch64's baseline.
    Neon,
}

/// The unit asked for is not one that this machine has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this machine has no {0} to multiply limbs")]
pub struct UnsupportedUnit(pub Unit);

/// A name that is no unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown unit {0:?}: expected scalar, sse2, avx2, vnni or neon")]
pub struct UnknownUnit(pub String);

impl Unit {
    /// Every unit there is, slowest first.
    pub const ALL: [Unit; 5] = [Unit::Scalar, Unit::Sse2, Unit::Avx2, Unit::Vnni, Unit::Neon];

    /// The fastest unit of this machine.
    pub fn best() -> Unit {
        Unit::for_isa(Isa::best())
    }

    /// All units of this machine, slowest first; [`Unit::Scalar`] is always one.
    pub fn available() -> Vec<Unit> {
        Unit::ALL.into_iter().filter(|unit| unit.is_available()).collect()
    }

    /// The fastest unit that goes with an instruction set. A processor with AVX-512 but without VNNI has its
    /// [`Unit::Avx2`].
    pub(crate) fn for_isa(isa: Isa) -> Unit {
        match isa {
            Isa::Avx512 if Unit::Vnni.is_available() => Unit::Vnni,
            Isa::Avx512 | Isa::Avx2 => Unit::Avx2,
            Isa::Neon => Unit::Neon,
            Isa::Soft if Unit::Sse2.is_available() => Unit::Sse2,
            Isa::Soft => Unit::Scalar,
        }
    }

    /// Whether this machine has the unit.
    pub fn is_available(self) -> bool {
        match self {
            Unit::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Unit::Sse2 => true,
            #[cfg(target_arch = "x86_64")]
            Unit::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Unit::Vnni => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni"),
            #[cfg(target_arch = "aarch64")]
            Unit::Neon => true,
            _ => false,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Scalar => "scalar",
            Unit::Sse2 => "sse2",
            Unit::Avx2 => "avx2",
            Unit::Vnni => "vnni",
            Unit::Neon => "neon",
        })
    }
}

impl FromStr for Unit {
    type Err = UnknownUnit;

    fn from_str(name: &str) -> Result<Unit, UnknownUnit> {
        Unit::ALL.into_iter().find(|unit| unit.to_string() == name).ok_or_else(|| UnknownUnit(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_unknown_ones_are_named() {
        for unit in Unit::ALL {
            assert_eq!(unit.to_string().parse(), Ok(unit));
        }
        let unknown = "mmx".parse::<Unit>().unwrap_err().to_string();
        assert_eq!(unknown, "unknown unit \"mmx\": expected scalar, sse2, avx2, vnni or neon");
    }

    #[test]
    fn scalar_is_everywhere_and_each_instruction_set_has_a_unit() {
        assert_eq!(Unit::available()[0], Unit::Scalar);
        assert!(Isa::available().into_iter().all(|isa| Unit::for_isa(isa).is_available()));
        assert_eq!(Unit::available().last(), Some(&Unit::best()));
    }
}
